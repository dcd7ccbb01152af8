#include "pipeline.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <vector>

#include "parallel/futex.h"
#include "parallel/spin.h"
#include "parallel_run.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

using halfway::detail::futex_wait;
using halfway::detail::futex_wake;

// How long a thread looks out for its chunk before it blocks, in nanoseconds: about what a chunk takes to cross. A
// thread that blocks is woken by one that has a piece to process itself, at several microseconds each.
constexpr int spin_time = 100'000;

// Counts of what has happened to a slot, as words that can be blocked on: the count modulo 2^16, and above it a number
// that changes with every failure, so that whoever is blocked looks again. Nobody waits for a count that others may
// overtake by more than one.
class Count {
 public:
  using Word = std::uint32_t;

  [[nodiscard]] Word word() const noexcept { return word_.load(std::memory_order_acquire); }
  [[nodiscard]] static bool has_reached(Word word, std::uint64_t count) noexcept {
    return static_cast<std::uint16_t>(word) == static_cast<std::uint16_t>(count);
  }
  void wait(Word seen) noexcept { futex_wait(word_, seen); }
  void advance(int waiting) noexcept { change(1, waiting); }
  void disturb(int waiting) noexcept { change(Word{1} << 16, waiting); }

 private:
  // `waiting`: the threads that may wait for it.
  void change(Word by, int waiting) noexcept {
    word_.fetch_add(by, std::memory_order_release);
    if (waiting > 0) futex_wake(word_, waiting);
  }

  std::atomic<Word> word_{0};
};

class Pipeline {
 public:
  Pipeline(PipelineSteps& steps, const PipelineShape& shape)
      : steps_(steps),
        shape_(shape),
        end_(shape.ramp.begin(shape.chunks) * shape.pieces),
        others_(shape.threads - 1),
        spins_(shape.threads > 1 && halfway::detail::may_spin(shape.threads)),
        slots_(static_cast<std::size_t>(std::min(shape.slots, std::max<std::uint64_t>(shape.chunks, 1)))) {}

  // One thread's part.
  void work() noexcept {
    for (;;) {
      const std::uint64_t number = next_.fetch_add(1, std::memory_order_relaxed);
      if (number >= end_ || is_behind_failure(number)) return;
      if (!take(number)) return;
    }
  }

  // Requires: nobody works any more. throws: what a step threw
  void finish() const {
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 private:
  static constexpr std::size_t cache_line = 64;

  // What becomes of a slot: chunk after chunk, each of them a turn.
  struct alignas(cache_line) Slot {
    Count opened;                              // turns whose pieces may be processed
    Count closed;                              // turns that are over
    std::atomic<std::uint64_t> unfinished{0};  // pieces of this turn
  };

  [[nodiscard]] bool is_behind_failure(std::uint64_t number) const noexcept {
    return failed_.load(std::memory_order_relaxed) < number;
  }

  // Processes a piece. False: something has failed, and this thread is to stop.
  bool take(std::uint64_t number) noexcept {
    const std::uint64_t chunk = shape_.ramp.chunk_of(number / shape_.pieces);
    const std::uint64_t begin = shape_.ramp.begin(chunk) * shape_.pieces;
    const std::uint64_t pieces = shape_.ramp.parts(chunk) * shape_.pieces;
    const std::uint64_t piece = number - begin;
    const std::uint64_t turn = chunk / slots_.size();
    Slot& slot = slots_[chunk % slots_.size()];
    std::uint64_t place = number;
    try {
      if (piece == 0) {
        if (!await(slot.closed, turn, number)) return false;
        steps_.open(chunk);
        slot.unfinished.store(pieces, std::memory_order_relaxed);
        slot.opened.advance(others_);
      } else if (!await(slot.opened, turn + 1, number)) {
        return false;
      }
      steps_.process(chunk, piece);
      if (slot.unfinished.fetch_sub(1, std::memory_order_acq_rel) != 1) return true;
      place = begin + pieces - 1;
      if (is_behind_failure(place)) return false;
      steps_.close(chunk);
      slot.closed.advance(others_);
      return true;
    } catch (...) {
      fail(place, std::current_exception());
      return false;
    }
  }

  // False: something below the piece has failed, so that the count may never be reached.
  bool await(Count& count, std::uint64_t wanted, std::uint64_t number) noexcept {
    Count::Word seen = 0;
    const auto decided = [&] {
      seen = count.word();
      return Count::has_reached(seen, wanted) || is_behind_failure(number);
    };
    if (!decided() && !(spins_ && halfway::detail::spin_until(spin_time, decided))) {
      while (!decided()) count.wait(seen);
    }
    return Count::has_reached(seen, wanted);
  }

  void fail(std::uint64_t place, std::exception_ptr error) noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (failed_.load(std::memory_order_relaxed) < place) return;
      failed_.store(place, std::memory_order_relaxed);
      error_.swap(error);
    }
    for (Slot& slot : slots_) {
      slot.opened.disturb(others_);
      slot.closed.disturb(others_);
    }
  }

  PipelineSteps& steps_;
  const PipelineShape shape_;
  const std::uint64_t end_;
  const int others_;
  const bool spins_;
  std::vector<Slot> slots_;
  std::mutex mutex_;  // guards `error_`, and who changes `failed_`
  std::exception_ptr error_;
  std::atomic<std::uint64_t> failed_{std::numeric_limits<std::uint64_t>::max()};  // the lowest piece that has
  alignas(cache_line) std::atomic<std::uint64_t> next_{0};
};

}  // namespace

void run_pipeline(PipelineSteps& steps, const PipelineShape& shape) {
  Pipeline pipeline(steps, shape);
  // A task is a thread's part, and not a piece: an executor may run tasks in any order, and one after the other.
  halfway::detail::run_parallel(shape.threads, [&pipeline](int /*thread*/) noexcept { pipeline.work(); });
  pipeline.finish();
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
