// The ring of pinned slots between pageable memory and one device, and the few chunks of device memory in which a
// kernel finds what was shipped before it is cast.
//
// A slot goes around like this: take() hands it out, when the device is done with what it held before; the host (or, on
// the way back, the device) fills it; whoever enqueues the last work that touches it says so by used(), which records
// the slot's event behind that work. Nothing else keeps a slot from being written anew.
// Slots are used on streams of the caller's and of the channel, several perhaps at a time. Whoever waits for a slot's
// event without the lock borrows it: a slot that is handed out meanwhile gets another event, so that the borrowed one
// keeps its meaning.
//
// Memory: a slot gets its bytes, exactly, when it is first handed out, and keeps them until release(). Pinning a
// slot of 8 MiB takes about two milliseconds (an estimate), once: the first transfers of a program, one for each slot,
// are that much slower. The bound is slots x bytes, pinned, and scratch x bytes on the device.
//
// Threads: none of its own; the channel's lock is held by the thread that transfers. Those that help it may use
// different slots at a time, and scratch one after the other. In a forked child nothing here may be called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// `Machine::chunk` in plan.h is the third of these numbers; all are to be had by `make gpu-tune`
// (bench/transfer_tune.py): to_device of 256 MiB float32 as bfloat16, from pageable memory over chunks, slots and
// threads, from pinned memory that is cast on the device over scratch; the smallest that is within 2% of the best.
//   chunk 8 MiB, slots 4   What is written, what crosses, and room for threads that are late.
//   scratch 2              One that is filled, one that is cast: kernels are faster than the wire.
//   piece 96 KiB           What a thread reads and writes at a time: less than a pass that would itself be parallel,
//                          and many times what taking a piece costs. A thread is asked for only for so much.
// Measured on an H100 (PCIe 5 x16, virtual machine of 16 cores, CUDA 13.0, 2026-11-26), medians in ms of 16 MiB, 256
// MiB and 1 GiB of float32 from pageable memory as bfloat16, whose bytes alone take 0.15, 2.4 and 9.8:
//   4 slots of 8 MiB, pieces of 96 KiB     0.35, 4.2, 17.1; of 192 KiB 0.70, 5.0, 17.7
//   3 slots of 4 MiB, pieces of 192 KiB    0.48, 6.2, 25.3; 3 of 16 MiB 0.47, 4.7, 17.0
//   6 slots of 2 MiB, pieces of 96 KiB     0.47, 10.4, 22.4
// What takes the time is the threads' casting: about 32 ms of all threads for 256 MiB where the result is memory
// that no device reads, 62 to 68 into 4 slots of 8 MiB, 84 to 88 into 3 of 4 MiB, 103 to 108 into 4 of 1 MiB.
// Presumably the lines of a slot come from the caches of those who wrote it last. Stores past the caches changed
// nothing.
struct StagingSizes {
  std::size_t slot_bytes = std::size_t{1} << 23;
  int slots = 4;
  int scratch = 2;
  std::size_t piece = std::size_t{96} << 10;
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

  // The slot of a transfer's chunk, when the device no longer touches it: slots take turns, from the first that the
  // transfers before left. throws: Error, std::bad_alloc
  [[nodiscard]] Slot& take(std::uint64_t chunk);
  // Before take(0) of a transfer of one chunk: begins with a slot that the device is done with, if there is one, since
  // the one whose turn it is may be behind whatever another stream was given.
  void prefer_free() noexcept;
  // A transfer has used the slots of so many chunks.
  void advance(std::uint64_t chunks) noexcept { slot_ = (slot_ + chunks) % slots_.size(); }
  // The work that was just enqueued on `stream` is the last that touches the slot. throws: Error
  void used(Slot& slot, Stream stream);
  // Returns when the device is done with the slot. throws: Error
  void await(Slot& slot);

  // The event of the slot that the last transfer used last, for one waiter, who takes it back with the lock held.
  // Requires: advance() and, for that slot, used() were called.
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
  std::uint64_t slot_ = 0;  // next in turn
  std::size_t chunk_ = 0;
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
