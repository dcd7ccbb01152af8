// The ring of pinned slots between pageable memory and one device, and the few chunks of device memory in which a
// kernel finds what was shipped before it is cast.
//
// A slot goes around like this: next() hands it out, when the device is done with what it held before; the host (or, on
// the way back, the device) fills it; whoever enqueues the last work that touches it says so by used(), which records
// the slot's event behind that work. Nothing else keeps a slot from being written anew.
// Slots are used on streams of the caller's, several perhaps at a time. Whoever waits for a slot's event without the
// lock borrows it: a slot that is handed out meanwhile gets another event, so that the borrowed one keeps its meaning.
//
// Memory: a slot gets its bytes, exactly, when it is first handed out, so that a program of small transfers has one; it
// keeps them until release(). The bound is slots x bytes, pinned, and as much for the chunks on the device.
//
// Threads: none of its own; the channel's lock is held. In a forked child nothing here may be called.
#pragma once

#include <cstddef>
#include <vector>

#include "device.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Assumed, not measured on a GPU; `Machine::chunk` in plan.h is the third of these numbers.
//   chunk 1 MiB   A copy of 1 MiB takes 20 us at 50 GB/s, several times the cost of enqueuing it, and four of them stay
//                 within a core's share of the last-level cache, so that the wire's reads find what the host just
//                 wrote.
//   slots 4       One that is written, one that crosses, and two for the jitter of either side: with fewer, the wire
//                 stands still whenever the thread does. More would only take more of the cache.
//   scratch 2     One that is filled, one that is cast. Kernels are presumed to be faster than the wire.
// The experiments that will replace them (`make gpu-tune`, bench/transfer_tune.py): to_device of 256 MiB float32 as
// bfloat16, from pageable memory over chunk = 256 KiB .. 8 MiB and slots = 2 .. 8, from pinned memory that is cast on
// the device over scratch = 1 .. 4; the smallest that is within 2% of the best. Result: not measured.
struct StagingSizes {
  std::size_t slot_bytes = std::size_t{1} << 20;
  int slots = 4;
  int scratch = 2;
};

struct Slot {
  void* memory = nullptr;
  void* mapped = nullptr;  // the same memory, as kernels address it
  Event touched = nullptr;
  bool in_use = false;  // the event has been recorded, and not been waited for
  bool lent = false;    // somebody waits for the event without the lock
};

struct Scratch {
  void* memory = nullptr;
  Event filled = nullptr;
  Event read = nullptr;
  bool in_use = false;
};

class Ring {
 public:
  Ring(Backend& backend, StagingSizes sizes);
  ~Ring() = default;  // release() before
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  [[nodiscard]] std::size_t slots() const noexcept { return slots_.size(); }

  // The next slot in turn, when the device no longer touches it. throws: Error, std::bad_alloc
  [[nodiscard]] Slot& next();
  // The work that was just enqueued on `stream` is the last that touches the slot. throws: Error
  void used(Slot& slot, Stream stream);
  // Returns when the device is done with the slot. throws: Error
  void await(Slot& slot);

  // The event of the slot that next() handed out last, for one waiter, who takes it back with the lock held.
  // Requires: used() was called for that slot.
  [[nodiscard]] Event lend() noexcept;
  void take_back(Event event, bool passed) noexcept;

  // The next chunk of device memory; `copies` waits until kernels have read it. throws: Error, std::bad_alloc
  [[nodiscard]] Scratch& next_scratch(Stream copies);
  // It was filled on `copies`: `kernels` waits for that, if it is another stream. throws: Error
  void filled(Scratch& scratch, Stream copies, Stream kernels);
  // The work that was just enqueued on `kernels` is the last that reads it. throws: Error
  void read(Scratch& scratch, Stream kernels);

  // Nothing is enqueued any more: everything is free to use.
  void reset() noexcept;
  // Waits for all of it, after which nothing is in use. False: the device does not say so of something.
  [[nodiscard]] bool settle() noexcept;
  // Frees everything. Requires: nothing is enqueued any more.
  void release() noexcept;

 private:
  Event make_event();

  Backend& backend_;
  StagingSizes sizes_;
  std::vector<Slot> slots_;
  std::vector<Scratch> scratch_;
  std::size_t slot_ = 0;  // next in turn
  std::size_t chunk_ = 0;
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
