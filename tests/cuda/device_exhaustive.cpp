// Casts on a device against the host's over all float32 patterns, and against the oracles of tests/exhaustive/ wherever
// the rounding of the other dtypes is decided. On the simulated device a few chunks of each.
//
// HALFWAY_GPU_SECONDS: after so many seconds nothing more is begun (200); what is left out is another part with every
// HALFWAY_SEED (0). A line on stdout for each sweep says how much of it was done. The test fails if that is not all of
// the float32 patterns to float16, bfloat16, float8_e4m3fn and float8_e5m2.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runner.h"
#include "site.h"
#include "sweep.h"

namespace {

using halfway::CastOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::Tensor;
using halfway::TensorView;
using site::backend;
using site::CopyKind;
using site::Engine;
using site::Status;
using Clock = std::chrono::steady_clock;

bool is_simulated() { return site::launches().has_value(); }

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here changes it
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::uint64_t seed() { return setting("HALFWAY_SEED", 0); }

// What part of the time has passed when no more of this is begun.
Clock::time_point deadline(double part) {
  static const Clock::time_point start = Clock::now();
  const auto seconds = static_cast<double>(setting("HALFWAY_GPU_SECONDS", 200));
  return start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(part * seconds));
}

// Boost's own checks are for one thread.
void must(Status status) {
  if (status == Status::ok) return;
  throw std::runtime_error("the device answers " + std::to_string(static_cast<int>(status)));
}

// Memory of the device with as much pinned memory, which grows.
class Memory {
 public:
  Memory() = default;
  ~Memory() { release(); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Whatever was in it is lost. Requires: no work uses it.
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    release();
    must(backend().allocate(bytes, there_));
    must(backend().allocate_pinned(bytes, here_));
    bytes_ = bytes;
  }
  [[nodiscard]] void* there() const { return there_; }
  [[nodiscard]] std::byte* here() const { return static_cast<std::byte*>(here_); }

 private:
  void release() noexcept {
    if (there_ != nullptr) static_cast<void>(backend().free(there_));
    if (here_ != nullptr) static_cast<void>(backend().free_pinned(here_));
    there_ = here_ = nullptr;
    bytes_ = 0;
  }

  std::size_t bytes_ = 0;
  void* there_ = nullptr;
  void* here_ = nullptr;
};

std::size_t bytes_of(const TensorView& view) {
  return static_cast<std::size_t>(halfway::element_count(view.shape).value()) * view.element_size();
}

// A cast of contiguous arrays by the device, on a stream of its own. One for each thread.
class DeviceCast {
 public:
  DeviceCast() : engine_(backend(), site::EngineSizes{}) { must(backend().create_stream(stream_)); }
  ~DeviceCast() {
    static_cast<void>(backend().synchronize_stream(stream_));
    static_cast<void>(backend().destroy_stream(stream_));
  }
  DeviceCast(const DeviceCast&) = delete;
  DeviceCast& operator=(const DeviceCast&) = delete;

  // Where the source is to be written, before send().
  std::byte* source(std::size_t bytes) {
    source_.reserve(bytes);
    return source_.here();
  }
  void send(std::size_t bytes) {
    must(backend().copy(source_.there(), source_.here(), bytes, CopyKind::to_device, stream_));
  }
  // The result of what was sent last, once finish() has returned. `in` and `out` are on the host, and lend their
  // shapes.
  const std::byte* begin(const TensorView& in, const MutableView& out, const CastOptions& cast) {
    constexpr halfway::Device device{halfway::DeviceType::cuda, 0};
    TensorView from = in;
    from.data = source_.there();
    from.device = device;
    const std::size_t bytes = bytes_of(out);
    result_.reserve(bytes);
    const halfway::cuda::TransferOptions options{.dtype = out.dtype, .stream = stream_, .cast = cast};
    MutableView to = out;
    to.data = result_.there();
    to.device = device;
    engine_.cast_on_device_into(from, Tensor(), to, options);
    must(backend().copy(result_.here(), result_.there(), bytes, CopyKind::to_host, stream_));
    return result_.here();
  }
  void finish() { must(backend().synchronize_stream(stream_)); }

 private:
  Engine engine_;
  void* stream_ = nullptr;
  Memory source_;
  Memory result_;
};

sweep::Subject cast_by_the_device() {
  const auto device = std::make_shared<DeviceCast>();
  const auto cast = [device](const TensorView& in, const MutableView& out, const CastOptions& options) {
    const std::size_t bytes = bytes_of(in);
    std::memcpy(device->source(bytes), in.data, bytes);
    device->send(bytes);
    const std::byte* const result = device->begin(in, out, options);
    device->finish();
    std::memcpy(out.data, result, bytes_of(out));
  };
  return {.cast = cast, .counts = false};
}

// tools/gpu_tests.py reads these lines. Incomplete: part of what should have been swept was not.
void report(const std::string& name, std::uint64_t done, std::uint64_t chunks, std::uint64_t checked,
            bool complete = true) {
  std::printf("swept %-38s %llu of %llu chunks, %llu compared%s\n", name.c_str(), static_cast<unsigned long long>(done),
              static_cast<unsigned long long>(chunks), static_cast<unsigned long long>(checked),
              complete ? "" : ", incomplete");
  std::fflush(stdout);
}

BOOST_AUTO_TEST_SUITE(device_exhaustive)

// Formats whose float32 patterns have to be compared completely, in this order; those that hardware has.
constexpr std::array<DType, 4> required{halfway::float16, halfway::bfloat16, halfway::float8_e4m3fn,
                                        halfway::float8_e5m2};

bool is_required(DType dtype) { return std::find(required.begin(), required.end(), dtype) != required.end(); }

// All floats of at most 16 bits, the required ones first.
std::vector<const oracle::Format*> narrow_floats() {
  std::vector<const oracle::Format*> found;
  for (const DType dtype : required) found.push_back(&oracle::format(dtype));
  for (const oracle::Format& to : oracle::formats) {
    if (to.is_float() && to.bits() <= 16 && !is_required(to.dtype)) found.push_back(&to);
  }
  return found;
}

// All 2^32 to every float of at most 16 bits, format by format, so that most are complete should the time not suffice
// for all; the host's cast is the judge, which `make exhaustive` judges.
BOOST_AUTO_TEST_CASE(float32_patterns_have_the_hosts_bits) {
  const std::uint64_t count = is_simulated() ? 1U << 12 : 1U << 24;
  const std::uint64_t chunks = (std::uint64_t{1} << 32) / count;
  const std::uint64_t wanted = is_simulated() ? 2 : chunks;
  const std::array<std::int64_t, 1> shape{static_cast<std::int64_t>(count)};
  const std::array<std::int64_t, 1> strides{1};
  DeviceCast device;
  // The host casts from the pinned memory that the device's source is copied from.
  auto* const patterns = reinterpret_cast<std::uint32_t*>(device.source(count * sizeof(std::uint32_t)));
  const TensorView in{.data = patterns, .dtype = halfway::float32, .shape = shape, .strides = strides};
  std::vector<std::byte> expected(count * 2);
  int wrong = 0;  // results of a chunk with any mismatch
  for (const oracle::Format* const format : narrow_floats()) {
    const oracle::Format& to = *format;
    const Clock::time_point end = deadline(is_required(to.dtype) ? 0.9 : 0.6);
    const MutableView out{.data = expected.data(), .dtype = to.dtype, .shape = shape, .strides = strides};
    std::uint64_t done = 0;
    std::uint64_t checked = 0;
    for (; done < wanted && Clock::now() < end; ++done) {
      // Each comes once: the factor is odd.
      const std::uint64_t chunk = (done * 0x9E3779B1U + sweep::mix(seed(), 0)) % chunks;
      std::iota(patterns, patterns + count, static_cast<std::uint32_t>(chunk * count));
      device.send(count * sizeof(std::uint32_t));
      for (const auto overflow : {halfway::Overflow::by_format, halfway::Overflow::saturate}) {
        const CastOptions options{.casting = halfway::Casting::unsafe, .overflow = overflow};
        const std::byte* const found = device.begin(in, out, options);
        halfway::cast_into(in, out, options);  // meanwhile
        device.finish();
        checked += count;
        BOOST_REQUIRE_MESSAGE(wrong < 32, "and so on");
        if (std::memcmp(found, expected.data(), count * to.bytes()) == 0) continue;
        ++wrong;
        std::uint64_t i = 0;
        while (std::memcmp(found + i * to.bytes(), expected.data() + i * to.bytes(), to.bytes()) == 0) ++i;
        BOOST_ERROR("float32 " + sweep::hexadecimal(patterns[i], 4) + " to " + std::string(to.name) + ", overflow " +
                    std::string(to_string(overflow)) + ": the device gives " +
                    sweep::hexadecimal(sweep::pattern_at(to.bytes(), found, i), to.bytes()) + ", the host " +
                    sweep::hexadecimal(sweep::pattern_at(to.bytes(), expected.data(), i), to.bytes()));
      }
    }
    const bool complete = done == wanted;
    report("float32-" + std::string(to.name) + "-by-the-host", done, chunks, checked, complete);
    BOOST_TEST((complete || !is_required(to.dtype)),
               "float32 to " << to.name << " is incomplete: " << done << " of " << wanted << " chunks");
  }
}

// The sweeps of the exhaustive tests with a device in the library's place; those of float32 come last, with what time
// is left.
BOOST_AUTO_TEST_CASE(sweeps_agree_with_the_oracles) {
  std::vector<sweep::Sweep> sweeps;
  sweep::add_narrow_sweeps(sweeps);
  sweep::add_integer_sweeps(sweeps);
  sweep::add_float64_sweeps(sweeps);
  sweep::add_float32_sweeps(sweeps);
  const unsigned threads = is_simulated() ? 1 : std::clamp(std::thread::hardware_concurrency(), 1U, 16U);
  const sweep::Share share{.seed = seed()};
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    sweep::Sweep& sweep = sweeps[i];
    if (is_simulated()) sweep.whole = false;  // one chunk of each
    const Clock::time_point now = Clock::now();
    const Clock::duration left = std::max(deadline(1) - now, Clock::duration(0));
    const Clock::time_point end = is_simulated() ? now : now + left / static_cast<long>(sweeps.size() - i);
    const sweep::Result result = sweep::run(sweep, share, threads, end, cast_by_the_device);
    BOOST_TEST_INFO_SCOPE(sweep.name);
    for (const std::string& line : result.findings.lines()) BOOST_TEST_MESSAGE(line);
    BOOST_TEST(result.findings.mismatches() == 0U,
               (result.findings.lines().empty() ? std::string("nothing said") : result.findings.lines().front()));
    BOOST_TEST(!result.vacuous(sweep));
    report(sweep.name, result.done, sweep.chunks, result.findings.checked());
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
