// Threads that cast are in whatever floating-point mode somebody left them in: workers inherit that of the thread that
// started them, an executor's threads are the host's. Large casts give the bits of one thread in the default mode, and
// leave each thread's mode as it was.
#include <boost/test/unit_test.hpp>

#include "floating_mode.h"

#if defined(__SSE__)
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "arrays.h"
#include "cast/pass.h"
#include "halfway/cast.h"
#include "halfway/parallel.h"
#include "parallel/pool.h"
#include "parallel_run.h"
#include "rounds.h"
#include "under_test.h"

using arrays::Array;
using arrays::Random;
using floating_mode::Mode;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::Report;
using halfway::detail::run_parallel;
using under_test::InTier;
using under_test::next_tier;

namespace {

constexpr int threads = 4;

// All flush, and neighbours round in different ways: to zero, up, down. Traps are masked: what is wrong shall be seen
// in the bits, not end the process.
unsigned hostile_mode(int index) {
  using namespace floating_mode;  // NOLINT(google-build-using-namespace)
  return standard | flush | rounding[static_cast<std::size_t>(3 - index % 3)];
}

// Threads of a host that has set modes of its own, one for each, with some exception flags raised.
class HostThreads final : public halfway::Executor {
 public:
  [[nodiscard]] int concurrency() const noexcept override { return threads; }
  void run(int tasks, Task task, void* context) noexcept override {
    ++runs;
    std::vector<std::thread> team;
    team.reserve(threads);
    for (int member = 0; member < threads; ++member) {
      team.emplace_back([this, tasks, task, context, member] {
        const unsigned mode = hostile_mode(member) | static_cast<unsigned>(member);
        const Mode set(mode);
        for (int index = member; index < tasks; index += threads) {
          task(context, index);
          changed += _mm_getcsr() == mode ? 0 : 1;
        }
      });
    }
    for (std::thread& member : team) member.join();
  }

  std::atomic<int> runs{0};
  std::atomic<int> changed{0};  // modes, after a task
};

// Sets an executor for as long as it lives.
class Installed {
 public:
  explicit Installed(halfway::Executor& executor) { halfway::set_executor(&executor); }
  ~Installed() { halfway::set_executor(nullptr); }
  Installed(const Installed&) = delete;
  Installed& operator=(const Installed&) = delete;
};

// So many threads of the built-in pool. Which of them take part in a cast is up to the scheduler; on machines with as
// many processors they look out for work for so long that all do.
class Pooled {
 public:
  Pooled() {
    halfway::set_num_threads(threads);
    halfway::detail::set_spin_time(20'000'000);
    run_parallel(threads, [](int) {});  // starts them
  }
  ~Pooled() {
    halfway::set_num_threads(0);
    halfway::detail::set_spin_time(-1);
  }
  Pooled(const Pooled&) = delete;
  Pooled& operator=(const Pooled&) = delete;

  // Whether the system let them start.
  [[nodiscard]] static bool are_there() { return halfway::detail::pool_workers() >= threads - 1; }

  // If they are there: calls `body(is_worker)` once on each of the threads: none is done before all have begun.
  template <class Body>
  static void on_each(const Body& body) {
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<int> here{0};
    run_parallel(threads, [&](int) {
      ++here;
      while (here < threads) std::this_thread::yield();
      body(std::this_thread::get_id() != caller);
    });
  }
};

// One cast of many elements, of which some are changed by flushing, some by each way to round.
struct Cast {
  std::string name;
  DType from;
  DType to;
  std::vector<std::int64_t> shape{1201, 401};
  bool transposes = false;
  bool counts = false;
  CastOptions options{};
};

const std::vector<double>& scales() {
  static const std::vector<double> values = [] {
    std::vector<double> all(401);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = 0x1p-3 / (1.0 + static_cast<double>(i));
    return all;
  }();
  return values;
}

std::vector<Cast> casts() {
  namespace h = halfway;
  std::vector<Cast> all{{.name = "float64 to bfloat16", .from = h::float64, .to = h::bfloat16},
                        {.name = "float64 to float32", .from = h::float64, .to = h::float32},
                        {.name = "float64 to float16, transposed", .from = h::float64, .to = h::float16},
                        {.name = "float32 to float16", .from = h::float32, .to = h::float16},
                        {.name = "float32 to float64", .from = h::float32, .to = h::float64},
                        {.name = "float32 to int32", .from = h::float32, .to = h::int32},
                        {.name = "int64 to float32", .from = h::int64, .to = h::float32},
                        {.name = "scaled", .from = h::float32, .to = h::float32},
                        {.name = "scaled along an axis", .from = h::float64, .to = h::bfloat16},
                        {.name = "scaled in double", .from = h::int32, .to = h::float32},
                        {.name = "stochastic", .from = h::float64, .to = h::bfloat16},
                        {.name = "stochastic and scaled", .from = h::float32, .to = h::float16},
                        {.name = "copied", .from = h::float64, .to = h::float64},
                        {.name = "copied, transposed", .from = h::float32, .to = h::float32}};
  for (Cast& one : all) {
    one.options.casting = Casting::unsafe;
    one.transposes = one.name.ends_with("transposed");
    if (one.name.find("scaled") != std::string::npos) one.options.scale = 1.0 / 3;
    if (one.name.find("along") != std::string::npos) one.options.scale = scales();
    if (one.name.find("along") != std::string::npos) one.options.axis = 1;
    if (one.name.find("stochastic") == std::string::npos) continue;
    one.options.rounding = halfway::Rounding::stochastic;
    one.options.seed = 5;
  }
  const std::size_t n = all.size();
  for (std::size_t i = 0; i < n; ++i) {
    all.push_back(all[i]);
    all.back().name += ", counted";
    all.back().counts = true;
  }
  return all;
}

Array source_of(Random& random, const Cast& cast) {
  Array source = arrays::contiguous(cast.from, cast.shape);
  // A prime number of random elements, repeated: filling one by one is slow.
  Array some = arrays::contiguous(cast.from, {4093});
  arrays::fill_random(random, some);
  for (std::size_t at = 0; at < source.memory.size(); at += some.memory.size()) {
    std::memcpy(source.memory.data() + at, some.memory.data(), std::min(some.memory.size(), source.memory.size() - at));
  }
  if (cast.transposes) {
    for (auto* const field : {&source.shape, &source.strides, &source.whole_strides}) {
      std::reverse(field->begin(), field->end());
    }
  }
  return source;
}

struct Result {
  std::vector<std::byte> fresh;
  std::vector<std::byte> written;
  Report report;
  Report report_of_written;
  bool operator==(const Result&) const = default;
};

Result run(const Array& source, const Cast& cast) {
  Result result;
  CastOptions options = cast.options;
  if (cast.counts) options.report = &result.report;
  const halfway::Tensor made = halfway::cast(source.view(), cast.to, options);
  Array out = arrays::contiguous(cast.to, source.shape);
  const auto* const data = static_cast<const std::byte*>(made.view().data);
  result.fresh.assign(data, data + out.memory.size());
  if (cast.counts) options.report = &result.report_of_written;
  halfway::cast_into(source.view(), out.mutable_view(), options);
  result.written = std::move(out.memory);
  return result;
}

Result alone(const Array& source, const Cast& cast) {
  halfway::set_num_threads(1);
  Result result = run(source, cast);
  halfway::set_num_threads(0);
  return result;
}

BOOST_AUTO_TEST_SUITE(cast_environment)

BOOST_AUTO_TEST_CASE(threads_of_an_executor_keep_their_modes, *boost::unit_test::label("threads")) {
  Random random(61);
  for (const Cast& cast : casts()) {
    const InTier in(next_tier());
    const Array source = source_of(random, cast);
    const Result expected = alone(source, cast);
    HostThreads host;
    const Installed installed(host);
    const Mode callers(hostile_mode(1));
    const Result result = run(source, cast);
    BOOST_TEST(_mm_getcsr() == hostile_mode(1), cast.name);
    BOOST_TEST((result == expected), cast.name);
    BOOST_TEST(host.changed == 0, cast.name);
    BOOST_TEST(host.runs >= 2, cast.name);
  }
}

BOOST_AUTO_TEST_CASE(workers_keep_their_modes, *boost::unit_test::label("threads")) {
  Random random(62);
  const Mode callers_first(hostile_mode(0));  // each worker has it from the beginning
  const Pooled pooled;
  _mm_setcsr(floating_mode::standard);
  if (!Pooled::are_there()) {
    std::puts("skipped: no more threads can be started here");
    return;
  }
  std::atomic<int> inherited{0};
  Pooled::on_each(
      [&](bool is_worker) { inherited += is_worker && (_mm_getcsr() & floating_mode::flush) != 0 ? 1 : 0; });
  BOOST_TEST_MESSAGE(inherited << " workers have the mode of the thread that started them");

  for (const Cast& cast : casts()) {
    const InTier in(next_tier());
    const Array source = source_of(random, cast);
    const Result expected = alone(source, cast);
    halfway::set_num_threads(threads);
    for (int round = 0; round < rounds::of(3); ++round) {
      const unsigned mode = hostile_mode(round) | 0x20U;  // the flag of inexact results raised
      Pooled::on_each([mode](bool is_worker) {
        if (is_worker) _mm_setcsr(mode);
      });
      const Result result = run(source, cast);
      std::atomic<int> kept{0};
      Pooled::on_each([&kept, mode](bool is_worker) { kept += is_worker && _mm_getcsr() == mode ? 1 : 0; });
      BOOST_TEST((result == expected), cast.name << ", workers in mode " << mode);
      BOOST_TEST(kept == threads - 1, cast.name << ", workers in mode " << mode);
    }
  }
  Pooled::on_each([](bool is_worker) {
    if (is_worker) _mm_setcsr(floating_mode::standard);
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
#else
#include <cstdio>

BOOST_AUTO_TEST_CASE(cast_environment) { std::puts("skipped: the modes are set in registers of x86"); }
#endif
