// A stream of the simulated device: its queue, its thread, and what may run. See simulated.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "simulated.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

class SimulatedStream;

// A place in a stream. Lives as long as the stream.
struct Mark {
  SimulatedStream* stream;
  std::uint64_t index;  // pieces of work before it, itself included
  std::atomic<std::uint32_t> passed{0};
};

struct SimulatedEvent {
  std::atomic<Mark*> latest{nullptr};
  bool destroyed = false;
};

enum class EngineKind : std::uint8_t { copies_in, copies_out, kernels, none };

// A piece of work. Made by a thread of the host, read by the stream's.
struct Work {
  enum class Kind : std::uint8_t { stub, copy, convert, fill, pass, wait, stop };
  struct Touched {
    std::atomic<std::uint32_t>* generation = nullptr;  // nullptr: memory that nobody frees
    std::uint32_t expected = 0;
  };

  Kind kind = Kind::stub;
  EngineKind engine = EngineKind::none;
  Mark* mark = nullptr;  // pass, wait
  std::byte* destination = nullptr;
  const std::byte* source = nullptr;
  std::size_t bytes = 0;
  Conversion conversion{};
  unsigned char value = 0;
  std::vector<std::byte> payload;  // of the caller's own writes
  std::vector<Touched> touched;
  std::vector<Segment> segments;  // of the conversion
  bool late = false;              // the device is lost when this runs
  std::atomic<Work*> next{nullptr};
};

class SimulatedStream {
  struct Outline {
    EngineKind engine;
    Mark* waits_for;
  };

 public:
  SimulatedStream(Simulated& owner, int device, bool threaded);
  ~SimulatedStream();  // all work runs first
  SimulatedStream(const SimulatedStream&) = delete;
  SimulatedStream& operator=(const SimulatedStream&) = delete;

  [[nodiscard]] int device() const noexcept { return device_; }
  std::atomic<bool> capturing{false};
  std::atomic<bool> destroyed{false};

  void enqueue(std::unique_ptr<Work> work) noexcept;
  // A new place behind everything that was enqueued.
  Mark& mark() noexcept;

  // Lets pieces go as long as `chance` says so of the engine that the next one needs (`none` for events), and it waits
  // for nothing in another stream.
  template <class Chance>
  void let_some_go(Chance chance) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::uint64_t count = 0;
    while (count < waiting_.size() && may_go(waiting_[count]) && chance(waiting_[count].engine)) ++count;
    if (count > 0) let_go(count);
  }
  // Lets everything up to a place go, and what that waits for in other streams, one piece after the other.
  void run_to(std::uint64_t index) noexcept;
  [[nodiscard]] std::uint64_t enqueued() noexcept;

 private:
  [[nodiscard]] static bool may_go(const Outline& outline) noexcept {
    return outline.waits_for == nullptr || outline.waits_for->passed.load(std::memory_order_relaxed) != 0;
  }
  void work() noexcept;
  void run_next() noexcept;
  void execute(Work& work) noexcept;
  void let_go(std::uint64_t count) noexcept;  // and waits until so many have run

  Simulated& owner_;
  const int device_;
  const bool threaded_;

  std::mutex mutex_;             // between threads of the host
  std::deque<Outline> waiting_;  // not let go
  std::deque<Mark> marks_;       // all there have been
  Work* last_;                   // of the queue
  std::uint64_t enqueued_ = 0;
  std::uint64_t let_go_ = 0;

  // Both sides; relaxed, so that they order nothing. Counts modulo 2^32, blocked on.
  std::atomic<std::uint32_t> permitted_{0};
  std::atomic<std::uint32_t> completed_{0};

  Work* first_;           // the thread's own
  bool stopped_ = false;  // likewise
  std::thread thread_;
};

// Makes a place pass, and what was written before it visible here.
inline void await(const Mark& mark) noexcept {
  mark.stream->run_to(mark.index);
  while (mark.passed.load(std::memory_order_acquire) == 0) std::this_thread::yield();
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
