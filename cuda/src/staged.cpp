// What transfers enqueue, and what the host does about it, chunk by chunk.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "engine.h"
#include "halfway/parallel.h"
#include "host_pass.h"
#include "launches.h"
#include "pipeline.h"
#include "planted.h"
#include "views.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

std::byte* at(void* memory, std::uint64_t offset) noexcept { return static_cast<std::byte*>(memory) + offset; }
const std::byte* at(const void* memory, std::uint64_t offset) noexcept {
  return static_cast<const std::byte*>(memory) + offset;
}

// Bytes of an element, and 1 for those that cross as bytes.
std::uint64_t unit_of(DType dtype) noexcept { return std::max<std::size_t>(item_size(dtype), 1); }

// How many threads the host's pass gets: one for each piece's worth of what it reads and writes. More of them would be
// woken for less work than their waking takes.
int threads_of(const TransferPlan& plan, DType host, std::size_t piece) noexcept {
  const std::uint64_t bytes = plan.elements * (unit_of(host) + unit_of(plan.wire));
  const auto limit = static_cast<std::uint64_t>(std::max(num_threads(), 1));
  return static_cast<int>(std::clamp<std::uint64_t>(bytes / piece, 1, limit));
}

// What both directions have in common: the slots, the host's pass, and calls of the device by whoever comes to them.
class Staged : public PipelineSteps {
 public:
  Staged(Backend& backend, Channel& channel, const TransferPlan& plan, const Lanes& lanes, const MutableView& host,
         const CastOptions& options, std::size_t piece)
      : backend_(backend),
        channel_(channel),
        lanes_(lanes),
        ring_(channel.ring()),
        plan_(plan),
        unit_(unit_of(plan.wire)),
        threads_(plan.staged ? threads_of(plan, host.dtype, piece) : 1),
        pass_(plan, host, options, threads_ > 1 ? piece : 0),
        ramp_(plan.parts),
        slots_(std::max<std::size_t>(ring_.slots(), 1)) {
    if (plan.staged && plan.chunks == 1) ring_.prefer_free();
  }

  // All chunks. A lone one is handed on by the calling thread, on whose stream it goes: cudaStreamPerThread is another
  // one on each of those that help. throws: Error, what cast_into() throws, std::bad_alloc
  void run(Report* report) {
    if (threads_ == 1 && plan_.chunks == 1) {  // what a pipeline sets up takes longer than a small chunk
      open(0);
      process(0, 0);
    } else {
      run_pipeline(*this, {.chunks = plan_.chunks,
                           .ramp = ramp_,
                           .pieces = pass_.pieces(),
                           .slots = slots_.size(),
                           .threads = threads_});
    }
    if (plan_.chunks == 1) hand_on(0);
    ring_.advance(plan_.chunks);
    if (pass_.counts()) *report = report_;
  }

  void process(std::uint64_t chunk, std::uint64_t piece) final {
    const std::uint64_t begin = ramp_.begin(chunk);
    const std::uint64_t part = begin + piece / pass_.pieces();
    const std::uint64_t before = pass_.first(part) - pass_.first(begin);
    count(cast(part, piece % pass_.pieces(), at(slot_of(chunk)->memory, before * unit_)));
  }

  void close(std::uint64_t chunk) final {
    if (plan_.chunks == 1) return;
    const OnDevice scope(*this);
    const std::lock_guard<std::mutex> lock(calls_);
    // Where handing on has failed half-way, the device may use memory of the ring that no event speaks of. The transfer
    // fails: chunks below the failure, which other threads still come with, are not handed on.
    if (broken_) return;
    broken_ = true;
    hand_on(chunk);
    broken_ = false;
  }

 protected:
  // A piece of a part, which begins at `dense` in its slot. throws: what cast_into() throws
  virtual Report cast(std::uint64_t part, std::uint64_t piece, void* dense) = 0;
  // What becomes of a chunk that the host is done with. throws: Error, std::bad_alloc
  virtual void hand_on(std::uint64_t chunk) = 0;

  // Makes the device current on a thread that helps the calling one. What was current there before comes back only
  // where that device is in use: it is device 0 on a thread that never chose, and to make that current takes memory of
  // a device that this process may have nothing to do with.
  class OnDevice {
   public:
    explicit OnDevice(const Staged& transfer) : backend_(transfer.backend_) {
      if (std::this_thread::get_id() == transfer.caller_) return;
      const int device = transfer.channel_.device();
      require(backend_, backend_.current_device(previous_), "asking for the current device");
      changes_ = previous_ != device;
      if (changes_) require(backend_, backend_.set_device(device), "making a device current");
    }
    ~OnDevice() {
      if (changes_ && backend_.has_context(previous_)) static_cast<void>(backend_.set_device(previous_));
    }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

   private:
    Backend& backend_;
    int previous_ = 0;
    bool changes_ = false;
  };

  // Elements of a chunk, one behind the other in the order in which they cross.
  struct Range {
    std::uint64_t first;
    std::uint64_t count;
  };
  [[nodiscard]] Range range_of(std::uint64_t chunk) const noexcept {
    const std::uint64_t first = pass_.first(ramp_.begin(chunk));
    return {first, pass_.first(ramp_.begin(chunk + 1)) - first};
  }

  [[nodiscard]] Slot*& slot_of(std::uint64_t chunk) noexcept { return slots_[chunk % slots_.size()]; }

  void count(const Report& report) {
    if (!pass_.counts()) return;
    const std::lock_guard<std::mutex> lock(counting_);
    report_ += report;
  }

  Backend& backend_;
  Channel& channel_;
  const Lanes lanes_;
  Ring& ring_;
  const TransferPlan& plan_;
  const std::uint64_t unit_;
  const int threads_;
  const HostPass pass_;
  std::mutex calls_;     // what enqueues on the channel's streams: an order, and one thread at a time for a stream
  bool broken_ = false;  // a chunk was not handed on as a whole; guarded by `calls_`

 private:
  const std::thread::id caller_ = std::this_thread::get_id();
  const halfway::detail::Ramp ramp_;
  std::vector<Slot*> slots_;  // of the chunks under way
  std::mutex counting_;
  Report report_;
};

class ToDevice final : public Staged {
 public:
  // `mapped`: where kernels see the source, if they read it themselves.
  ToDevice(Backend& backend, Channel& channel, const TransferPlan& plan, const Lanes& lanes, const TensorView& source,
           const CastOptions& options, const MutableView& destination, Tally* tally, const void* mapped,
           std::size_t piece)
      : Staged(backend, channel, plan, lanes, halfway::detail::writable(source), options, piece),
        source_(source.data),
        mapped_(mapped),
        destination_(destination.data),
        launches_(plan, destination, options) {
    launches_.count(tally);
  }

  void open(std::uint64_t chunk) override {
    const OnDevice scope(*this);
    slot_of(chunk) = &ring_.take(chunk);
  }

  Report cast(std::uint64_t part, std::uint64_t piece, void* dense) override { return pass_.fill(part, piece, dense); }

  void hand_on(std::uint64_t chunk) override { ship(chunk, slot_of(chunk)); }

  // Without slots: the device reads the source itself.
  void ship_all() {
    for (std::uint64_t chunk = 0; chunk < plan_.chunks; ++chunk) ship(chunk, nullptr);
  }

 private:
  void ship(std::uint64_t chunk, Slot* slot) {
    const auto [first, count] = range_of(chunk);
    // The slot's event belongs behind the work that reads it.
    const auto used = [&](Stream stream, bool before) {
      if (slot != nullptr && before == has_bug(Bug::reuse_slot_early)) ring_.used(*slot, stream);
    };
    if (!plan_.copy_engine) {
      const void* const seen = slot != nullptr ? slot->mapped : at(mapped_, first * unit_);
      used(lanes_.kernels, true);
      launch(seen, first, count);
      used(lanes_.kernels, false);
      return;
    }
    const void* const shipped = slot != nullptr ? slot->memory : at(source_, first * unit_);
    Scratch* const scratch = plan_.kernel ? &ring_.next_scratch(lanes_.copies) : nullptr;
    used(lanes_.copies, true);
    void* const target = scratch != nullptr ? scratch->memory : at(destination_, first * unit_);
    require(backend_, backend_.copy(target, shipped, count * unit_, CopyKind::to_device, lanes_.copies),
            "copying to the device");
    used(lanes_.copies, false);
    if (scratch == nullptr) return;
    ring_.filled(*scratch, lanes_.copies, lanes_.kernels);
    launch(scratch->memory, first, count);
    ring_.read(*scratch, lanes_.kernels);
  }

  void launch(const void* memory, std::uint64_t first, std::uint64_t count) {
    require(backend_, backend_.launch(launches_.from(memory, first, count), lanes_.kernels), "launching a kernel");
  }

  const void* const source_;
  const void* const mapped_;
  void* const destination_;
  Launches launches_;
};

// As many chunks are under way as there are slots: one is emptied before the next takes its slot.
class ToHost final : public Staged {
 public:
  ToHost(Backend& backend, Channel& channel, const TransferPlan& plan, const Lanes& lanes, const TensorView& source,
         const CastOptions& options, const MutableView& destination, Tally* tally, std::size_t piece)
      : Staged(backend, channel, plan, lanes, destination, options, piece),
        stream_(plan.kernel ? lanes.kernels : lanes.copies),
        source_(source.data),
        launches_(plan, source, options) {
    launches_.count(tally);
  }

  void enqueue_first() {
    const std::uint64_t depth = std::min<std::uint64_t>(ring_.slots(), plan_.chunks);
    for (std::uint64_t chunk = 0; chunk < depth; ++chunk) enqueue(chunk);
  }

  void open(std::uint64_t chunk) override {
    if (has_bug(Bug::drop_drain_wait)) return;
    const OnDevice scope(*this);
    ring_.await(*slot_of(chunk));
  }

  Report cast(std::uint64_t part, std::uint64_t piece, void* dense) override { return pass_.drain(part, piece, dense); }

  void hand_on(std::uint64_t chunk) override {
    const std::uint64_t next = chunk + ring_.slots();
    if (next < plan_.chunks) enqueue(next);
  }

 private:
  void enqueue(std::uint64_t chunk) {
    const auto [first, count] = range_of(chunk);
    Slot& slot = ring_.take(chunk);
    slot_of(chunk) = &slot;
    if (plan_.copy_engine) {
      const void* const from = at(source_, first * unit_);
      require(backend_, backend_.copy(slot.memory, from, count * unit_, CopyKind::to_host, stream_),
              "copying to the host");
    } else {
      require(backend_, backend_.launch(launches_.into(slot.mapped, first, count), stream_), "launching a kernel");
    }
    ring_.used(slot, stream_);
  }

  Stream stream_;
  const void* const source_;
  Launches launches_;
};

}  // namespace

void Engine::enqueue_to_device(Channel& channel, const TransferPlan& plan, const Lanes& lanes, const TensorView& source,
                               const CastOptions& options, const MutableView& destination, Tally* tally) {
  const void* const mapped = plan.staged || plan.copy_engine ? nullptr : mapped_address(source.data);
  ToDevice transfer(backend_, channel, plan, lanes, source, options, destination, tally, mapped, sizes_.piece);
  if (!plan.staged) return transfer.ship_all();
  transfer.run(options.report);
}

void Engine::drain_to_host(Channel& channel, const TransferPlan& plan, const Lanes& lanes, const TensorView& source,
                           const MutableView& destination, const CastOptions& options, Tally* tally) {
  ToHost transfer(backend_, channel, plan, lanes, source, options, destination, tally, sizes_.piece);
  transfer.enqueue_first();
  transfer.run(options.report);
}

// Everything at once, into memory that the device reaches.
void Engine::enqueue_to_host(const TransferPlan& plan, const CastOptions& options, const TensorView& source,
                             void* memory, Stream stream, Tally* tally) {
  if (plan.copy_engine) {
    require(backend_, backend_.copy(memory, source.data, plan.bytes_wire, CopyKind::to_host, stream),
            "copying to the host");
    return;
  }
  Launches launches(plan, source, options);
  launches.count(tally);
  require(backend_, backend_.launch(launches.into(memory, 0, plan.elements), stream), "launching a kernel");
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
