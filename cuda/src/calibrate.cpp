// The measurements behind calibrate().
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <limits>

#include "engine.h"
#include "halfway/cast.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The best of several: whatever disturbs a run makes it slower.
template <class Run>
double best_rate(std::uint64_t bytes, const Run& run) {
  constexpr int runs = 5;
  run();  // pages, caches, clocks
  double best = std::numeric_limits<double>::min();
  for (int i = 0; i < runs; ++i) {
    const Clock::time_point start = Clock::now();
    run();
    best = std::max(best, static_cast<double>(bytes) / std::max(seconds_since(start), 1e-9));
  }
  return best;
}

class StreamOfOwn {
 public:
  explicit StreamOfOwn(Backend& backend) : backend_(backend) {
    require(backend, backend.create_stream(stream_), "making a stream");
  }
  // What was enqueued is done before the memory goes, in whatever state the device is.
  ~StreamOfOwn() {
    if (backend_.synchronize_stream(stream_) != Status::ok) static_cast<void>(backend_.synchronize_device());
    static_cast<void>(backend_.destroy_stream(stream_));
  }
  StreamOfOwn(const StreamOfOwn&) = delete;
  StreamOfOwn& operator=(const StreamOfOwn&) = delete;

  [[nodiscard]] Stream get() const noexcept { return stream_; }

 private:
  Backend& backend_;
  Stream stream_ = nullptr;
};

// Source bytes a second of float32 -> bfloat16, the commonest cast that narrows.
double cast_rate(std::int64_t elements, int repetitions) {
  const std::array<std::int64_t, 1> shape{elements};
  Tensor source = Tensor::allocate(shape, float32);
  Tensor destination = Tensor::allocate(shape, bfloat16);
  auto* const values = static_cast<float*>(source.mutable_view().data);
  for (std::int64_t i = 0; i < elements; ++i) values[i] = static_cast<float>(i);
  const TensorView from = source.view();
  const MutableView to = destination.mutable_view();
  const auto bytes = static_cast<std::uint64_t>(elements) * sizeof(float) * static_cast<std::uint64_t>(repetitions);
  return best_rate(bytes, [&] {
    for (int i = 0; i < repetitions; ++i) cast_into(from, to);
  });
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::array<char, 16> text{};
  if (::gmtime_r(&now, &parts) == nullptr) return "at an unknown time";
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d", &parts)};
}

}  // namespace

Machine calibrate(Engine& engine, int device, std::uint64_t bytes) {
  engine.require_at_home();
  Backend& backend = engine.backend();
  Machine machine = engine.machine();
  {
    const DeviceScope scope(backend, device);
    const std::array<std::int64_t, 1> shape{static_cast<std::int64_t>(bytes)};
    Tensor pinned = allocate_pinned(engine, shape, uint8);
    PlainAllocator allocator(engine);
    Tensor there = allocator.allocate(shape, uint8, {DeviceType::cuda, device}, nullptr);
    void* const host = pinned.mutable_view().data;
    void* const memory = there.mutable_view().data;
    PointerTraits traits;
    require(backend, backend.pointer_traits(host, traits), "asking for a mapped address");
    const StreamOfOwn stream(backend);
    const auto rate_of = [&](const auto& enqueue) {
      return best_rate(bytes, [&] {
        require(backend, enqueue(), "measuring the wire");
        require(backend, backend.synchronize_stream(stream.get()), "measuring the wire");
      });
    };
    machine.wire_to_device =
        rate_of([&] { return backend.copy(memory, host, bytes, CopyKind::to_device, stream.get()); });
    machine.wire_to_host = rate_of([&] { return backend.copy(host, memory, bytes, CopyKind::to_host, stream.get()); });
    // With as many blocks as transfers use.
    const auto mapped_rate = [&](const void* source, void* destination, Reach reach) {
      Conversion work = Conversion::copy(source, destination, bytes);
      work.reach = reach;
      return rate_of([&] { return backend.launch(work, stream.get()); });
    };
    const double read = mapped_rate(traits.device_address, memory, Reach::reads_host);
    const double written = mapped_rate(memory, traits.device_address, Reach::writes_host);
    machine.mapped_read = std::min(read / machine.wire_to_device, 1.0);
    machine.mapped_write = std::min(written / machine.wire_to_host, 1.0);
  }
  // In a core's caches, too little for several threads; and beyond all caches, on all of them.
  machine.host_cast = cast_rate(std::int64_t{8} << 10, 1000);
  machine.host_memory = std::max(cast_rate(static_cast<std::int64_t>(bytes / sizeof(float)), 1), machine.host_cast);
  machine.cores = 0;
  machine.assumed = false;
  machine.measured = today();
  return machine;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
