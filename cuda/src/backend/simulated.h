// A device made of threads, for tests of what the engine orders, keeps and releases. It runs the kernels' own code, and
// proves nothing about speed. Never shipped.
//
// Memory. A device's memory is one memfd mapped twice. The addresses that are handed out are PROT_NONE, so that a stray
// access of the host faults; the device itself uses the other mapping. Freed memory is overwritten, and work that meets
// memory which was freed since it was enqueued leaves it alone and counts as a violation.
//
// Time. Each stream has a thread and a queue of its own. Work runs when the schedule lets it: a piece of work is held
// back until a call forces it (somebody waits for it, directly or through events), or until the schedule's own chance
// lets it go during some other call. Chances are drawn from the seed for each engine (copies to the device, copies to
// the host, kernels), zero among them: seed 0 leaves everything to its last legal moment. One piece runs at a time, and
// the call that let it go waits for it, so that a seed always gives the same run (as long as one thread calls).
//
// Order, as ThreadSanitizer sees it. That waiting is made of relaxed atomics and system calls, which order nothing.
// What orders is what orders on a device: enqueuing (the host's writes before it are seen by the work), places in one
// stream, and events. So an access that happens to come in time, but that no event orders, is reported as the race that
// it is. No lock is shared between a stream's thread and anybody else.
//
// Where nobody looks at order in this way, streams need no threads (`threads`): the same work runs in the same order,
// several times as fast.
//
// Faults. The k-th call that can fail does: once and without effect, or with the device lost from there on, or with the
// device lost when the work that the call enqueues runs.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "device.h"
#include "halfway/layout.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

enum class Fault : std::uint8_t {
  refused,  // this call alone fails, and has no effect (releasing calls have theirs)
  lost,     // the call fails as above, and so does every call after it; what is enqueued does not run any more
  late,     // the call succeeds; when what it enqueued runs, the device is lost
};

struct SimulatedOptions {
  int devices = 1;
  std::size_t memory = std::size_t{1} << 20;  // bytes, of each device
  bool coherent = false;
  std::uint64_t seed = 0;
  bool threads = true;          // false: work runs on the thread that lets it go
  std::uint64_t fail_call = 0;  // counted from 1; 0: none
  Fault fault = Fault::refused;
};

// What went over the wire, and how.
struct Counters {
  std::uint64_t copies_to_device = 0;
  std::uint64_t copies_to_host = 0;
  std::uint64_t launches = 0;
  std::uint64_t bytes_to_device = 0;    // by copy engines
  std::uint64_t bytes_to_host = 0;      // likewise
  std::uint64_t bytes_read_mapped = 0;  // by kernels, from the host's memory
  std::uint64_t bytes_written_mapped = 0;

  [[nodiscard]] std::uint64_t bytes_wire() const noexcept {
    return bytes_to_device + bytes_to_host + bytes_read_mapped + bytes_written_mapped;
  }
};

class SimulatedStream;
struct SimulatedEvent;
struct Work;

class Simulated final : public Backend {
 public:
  explicit Simulated(const SimulatedOptions& options = {});
  ~Simulated() override;
  Simulated(const Simulated&) = delete;
  Simulated& operator=(const Simulated&) = delete;

  [[nodiscard]] std::string missing() const override;
  [[nodiscard]] std::string error_text(Status status) const override;
  Status device_count(int& count) noexcept override;
  Status traits(int device, DeviceTraits& traits) override;
  Status current_device(int& device) noexcept override;
  Status set_device(int device) noexcept override;
  Status allocate(std::size_t bytes, void*& memory) noexcept override;
  Status free(void* memory) noexcept override;
  Status allocate_pinned(std::size_t bytes, void*& memory) noexcept override;
  Status free_pinned(void* memory) noexcept override;
  Status register_pinned(void* memory, std::size_t bytes) noexcept override;
  Status unregister_pinned(void* memory) noexcept override;
  Status pointer_traits(const void* memory, PointerTraits& traits) noexcept override;
  Status create_stream(Stream& stream) noexcept override;
  Status destroy_stream(Stream stream) noexcept override;
  Status is_capturing(Stream stream, bool& capturing) noexcept override;
  Status create_event(Event& event) noexcept override;
  Status destroy_event(Event event) noexcept override;
  Status record(Event event, Stream stream) noexcept override;
  Status wait(Stream stream, Event event) noexcept override;
  Status query(Event event) noexcept override;
  Status synchronize(Event event) noexcept override;
  Status synchronize_stream(Stream stream) noexcept override;
  Status synchronize_device() noexcept override;
  Status copy(void* destination, const void* source, std::size_t bytes, CopyKind kind, Stream stream) noexcept override;
  Status launch(const Conversion& conversion, Stream stream) noexcept override;
  void recycled(void* memory, std::size_t bytes) noexcept override;

  // --- for tests: none of these calls is counted, fails, or lets work go on its own

  [[nodiscard]] Stream make_stream(int device = 0);  // a caller's
  [[nodiscard]] void* make_memory(std::size_t bytes, int device = 0);
  void free_memory(void* memory);  // without waiting for anybody: to be called when it is known to be done
  void set_capturing(Stream stream, bool capturing);
  // Memory of the host that somebody else has pinned.
  void pin(void* memory, std::size_t bytes);
  void unpin(void* memory);
  // Work of the caller's own on a stream: device memory is filled with a byte, or from the host's memory (copied when
  // this is called), or is read into the host's memory.
  void fill(void* memory, std::size_t bytes, unsigned char value, Stream stream);
  void write(void* memory, const void* bytes, std::size_t size, Stream stream);
  void read(void* bytes, const void* memory, std::size_t size, Stream stream);
  void order(Stream first, Stream then);  // what `then` is given from now on begins behind what `first` was given
  void finish(Stream stream);             // waits for all of a stream, as synchronize_stream() does

  [[nodiscard]] std::uint64_t calls() const noexcept { return calls_.load(std::memory_order_relaxed); }
  [[nodiscard]] Counters counters() const noexcept;
  // Made by the engine's calls and not released: blocks of memory, streams, events.
  [[nodiscard]] int live_blocks() const noexcept { return live_blocks_; }
  [[nodiscard]] int live_registrations() const noexcept { return live_registrations_; }
  [[nodiscard]] std::size_t pinned_bytes() const noexcept;
  [[nodiscard]] int live_streams() const noexcept { return live_streams_; }
  [[nodiscard]] int live_events() const noexcept { return live_events_; }
  // What no correct engine does, and the first of it in words; nullptr if there was nothing.
  [[nodiscard]] const char* violation() const noexcept { return violation_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool is_lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

 private:
  friend class SimulatedStream;

  enum class Owner : std::uint8_t { nobody, device, pinned, foreign };
  // A block of memory. Its generation is odd while it lives. Threads of streams look at that alone.
  struct Block {
    std::atomic<std::byte*> begin{nullptr};
    std::atomic<std::size_t> size{0};
    std::atomic<std::uint32_t> generation{0};
    std::atomic<Owner> owner{Owner::nobody};
    std::atomic<int> device{0};
  };
  struct Place {
    std::byte* memory = nullptr;  // as the device uses it
    Block* block = nullptr;       // nullptr: pageable
    std::uint32_t generation = 0;
  };
  struct Memory {
    std::byte* handed_out = nullptr;
    std::byte* alias = nullptr;
    std::size_t used = 0;
  };

  enum class Call : std::uint8_t { any, enqueues, releases };
  Status enter(Call call, bool* late = nullptr) noexcept;
  void violate(const char* words) noexcept;
  [[nodiscard]] Block* find(const void* memory) noexcept;
  [[nodiscard]] bool resolve(const void* memory, std::size_t bytes, Place& place) noexcept;
  // Bytes around an address: the place is that of the address.
  [[nodiscard]] bool resolve_reach(const void* memory, Extent reach, Place& place) noexcept;
  Block* add_block(void* memory, std::size_t bytes, Owner owner, int device) noexcept;
  [[nodiscard]] void* take_memory(std::size_t bytes, int device) noexcept;
  void remove_memory(Block& block) noexcept;
  SimulatedStream* stream_of(Stream stream, bool current_only, Status& status) noexcept;
  SimulatedStream* add_stream(int device) noexcept;
  void progress() noexcept;
  void run_device(int device) noexcept;
  Status enqueue_conversion(const Conversion& conversion, SimulatedStream& stream, bool late) noexcept;

  const SimulatedOptions options_;
  std::array<unsigned, 3> chances_{};  // of 256, for each engine
  std::vector<Memory> memories_;
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> draws_{0};
  std::atomic<bool> lost_{false};
  std::atomic<const char*> violation_{nullptr};
  std::mutex mutex_;  // between threads of the host: what is made and freed
  std::array<Block, 512> blocks_;
  std::array<std::atomic<SimulatedStream*>, 64> streams_{};
  std::atomic<std::size_t> stream_count_{0};
  std::array<std::atomic<SimulatedStream*>, 8> default_streams_{};
  std::vector<std::unique_ptr<SimulatedEvent>> events_;
  // In the order of Counters. Atomics, and not under the lock: threads of the host are not to be ordered by them.
  std::array<std::atomic<std::uint64_t>, 7> counters_{};
  int live_blocks_ = 0;
  int live_registrations_ = 0;
  int live_streams_ = 0;
  int live_events_ = 0;
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
