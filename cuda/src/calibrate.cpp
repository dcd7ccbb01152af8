// The measurements behind calibrate().
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <limits>

#include "engine.h"
#include "halfway/cast.h"
#include "halfway/parallel.h"
#include "host_pass.h"
#include "pipeline.h"
#include "plan_words.h"
#include "views.h"

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

// Rates are source bytes a second of float32 -> bfloat16, the commonest cast that narrows.
Tensor numbers(std::int64_t elements) {
  Tensor made = Tensor::allocate(std::array<std::int64_t, 1>{elements}, float32);
  auto* const values = static_cast<float*>(made.mutable_view().data);
  for (std::int64_t i = 0; i < elements; ++i) values[i] = static_cast<float>(i);
  return made;
}

// Of one core, in its caches.
double core_rate() {
  constexpr std::int64_t elements = std::int64_t{8} << 10;  // too few for several threads
  constexpr int repetitions = 1000;
  const Tensor source = numbers(elements);
  Tensor destination = Tensor::allocate(source.view().shape, bfloat16);
  const TensorView from = source.view();
  const MutableView to = destination.mutable_view();
  return best_rate(std::uint64_t{elements} * sizeof(float) * repetitions, [&] {
    for (int i = 0; i < repetitions; ++i) cast_into(from, to);
  });
}

// The host's part of a staged transfer alone: nothing crosses.
class Filling final : public PipelineSteps {
 public:
  Filling(const TransferPlan& plan, const TensorView& source, const CastOptions& options, std::byte* slots,
          std::uint64_t slot_bytes, const StagingSizes& staging)
      : shape_{.chunks = plan.chunks, .slots = static_cast<std::uint64_t>(staging.slots), .threads = num_threads()},
        pass_(plan, halfway::detail::writable(source), options, staging.piece),
        slots_(slots),
        slot_bytes_(slot_bytes) {
    shape_.pieces = pass_.pieces();
  }

  void run() { run_pipeline(*this, shape_); }

  void open(std::uint64_t /*chunk*/) override {}
  void process(std::uint64_t chunk, std::uint64_t piece) override {
    static_cast<void>(pass_.fill(chunk, piece, slots_ + chunk % shape_.slots * slot_bytes_));
  }
  void close(std::uint64_t /*chunk*/) override {}

 private:
  PipelineShape shape_;
  const HostPass pass_;
  std::byte* const slots_;
  const std::uint64_t slot_bytes_;
};

// Of all cores, as a staged transfer has them cast `bytes` of pageable memory into slots, which are in `pinned`.
double staged_rate(Machine machine, std::uint64_t bytes, void* pinned, std::uint64_t pinned_bytes) {
  constexpr StagingSizes staging;
  constexpr std::uint64_t line = 64;
  const Tensor source = numbers(static_cast<std::int64_t>(bytes / sizeof(float)));
  machine.chunk = std::min(machine.chunk, pinned_bytes / static_cast<std::uint64_t>(staging.slots) / line * line);
  machine.first_chunk = machine.chunk;
  const CastOptions options;
  const TransferPlan plan =
      halfway::detail::plan_transfer(source.view(), {.to = bfloat16}, machine, halfway::detail::Words::none);
  Filling filling(plan, source.view(), options, static_cast<std::byte*>(pinned), machine.chunk, staging);
  return best_rate(bytes, [&] { filling.run(); });
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
    // Four times as much as crosses: beyond the last caches of all but the largest processors, of which blocks of the
    // wire's size, cast again and again, would tell the rate instead of the memory's.
    machine.host_memory = staged_rate(machine, 4 * bytes, host, bytes);
  }
  machine.host_cast = core_rate();
  machine.cores = 0;
  machine.assumed = false;
  machine.measured = today();
  return machine;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
