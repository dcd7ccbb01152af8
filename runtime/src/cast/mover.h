// Moving the elements of one side between memory, where they have any step and either byte order, and runs in the
// machine's byte order. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// How many of `most` elements to write to a run at once past the caches, so that what comes next begins a cache line: a
// line that is written in two goes, with other work in between, is written to memory twice, and read before.
[[nodiscard]] inline std::int64_t streamed_at_once(const std::byte* run, std::int64_t most, std::size_t size) noexcept {
  constexpr std::uintptr_t line = 64;
  const auto end = reinterpret_cast<std::uintptr_t>(run) + static_cast<std::uintptr_t>(most) * size;
  const auto beyond = static_cast<std::int64_t>(end % line / size);
  return beyond < most ? most - beyond : most;
}

class Mover {
 public:
  // Elements of `size` bytes, in which the bytes of each `swap_unit` are reversed in memory (1: none are).
  Mover(const Kernels& kernels, std::size_t size, std::size_t swap_unit) noexcept;

  [[nodiscard]] bool swaps() const noexcept { return unit_ > 1; }

  // `n` elements, `stride` bytes apart, to a run. The run may be the elements' own place if they are one, but overlaps
  // them in no other way.
  void gather(const std::byte* source, std::int64_t stride, std::byte* run, std::size_t n) const noexcept;

  // A run to places that are `stride` bytes apart; the same holds for these.
  void scatter(const std::byte* run, std::byte* destination, std::int64_t stride, std::size_t n) const noexcept;

  // Lines to columns, still in the byte order of the memory: element j of line i becomes element i of row j.
  void transpose(const Lines& in, std::byte* rows, std::int64_t row_step) const noexcept;

  // The byte order of `n` elements that follow each other, from one place to another, or where they are.
  void swap(const std::byte* source, std::byte* destination, std::size_t n) const noexcept;

  // The same past the caches, if a loop does that: whether one did. `order_streamed_stores` has to follow.
  [[nodiscard]] bool swap_streamed(const std::byte* source, std::byte* destination, std::size_t n) const noexcept;

 private:
  std::size_t size_;
  std::size_t unit_;
  const MoveKernels* loops_ = nullptr;  // nullptr for sizes that have none
  SwapLoop swap_ = nullptr;             // likewise
  SwapLoop swap_streamed_ = nullptr;    // likewise
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
