// Walking two tensors of one shape together: the loop nest, normalised, and cursors in it. Private to the runtime.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// How far apart a stride puts its elements, whichever way it goes.
constexpr std::int64_t distance(std::int64_t stride) noexcept { return stride < 0 ? -stride : stride; }

// What a position in a nest says about an element: its place along one axis, and its index in the result, in row-major
// order of all axes. The shape that is walked, but before dimensions were joined.
struct Positions {
  static constexpr std::size_t no_axis = max_ndim;
  // Asked for: the place along this axis; indices in a result whose last axis has `last_extent` indices (0: as many as
  // are walked), and where the first element has the index `origin`.
  std::size_t axis = no_axis;
  std::int64_t last_extent = 0;
  std::int64_t origin = 0;

  std::int64_t extent = 1;   // of that axis
  std::int64_t below = 1;    // elements from one index along it to the next, in the nest's order
  bool is_reversed = false;  // the nest walks it from its end

  bool in_order = true;          // positions are indices, but for the origin
  std::int64_t first_index = 0;  // of the nest's first element
  std::size_t ndim = 0;
  std::array<std::int64_t, max_ndim> shape;
  std::array<std::int64_t, max_ndim> index_strides;

  Positions() noexcept {}  // NOLINT(modernize-use-equals-default): leaves the arrays uninitialised

  [[nodiscard]] std::int64_t place(std::int64_t position) const noexcept {
    const std::int64_t at = position / below % extent;
    return is_reversed ? extent - 1 - at : at;
  }
  [[nodiscard]] std::int64_t index(std::int64_t position) const noexcept {
    if (in_order) return origin + position;
    std::int64_t index = first_index;
    for (std::size_t i = ndim; i-- > 0;) {
      index += position % shape[i] * index_strides[i];
      position /= shape[i];
    }
    return index;
  }
};

// The dimensions of a source and a destination, strides in bytes. Dimensions of one element are left out, those that
// are one step apart in both are joined, and the order is that of the destination's memory: a contiguous pair is a
// single dimension, whatever the order of its axes. There is always at least one dimension.
struct Nest {
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;  // nullptr: nothing is written
  std::int64_t count = 1;            // elements; never 0
  std::size_t ndim = 0;
  std::array<std::int64_t, max_ndim> shape;
  std::array<std::int64_t, max_ndim> source_strides;
  std::array<std::int64_t, max_ndim> destination_strides;

  // Neither is empty, both have the same shape of at most `max_ndim` dimensions, and elements are whole bytes. Fills
  // `positions`, if any.
  static Nest between(const TensorView& source, const MutableView& destination,
                      Positions* positions = nullptr) noexcept;

  // The source alone, in C order of its axes.
  static Nest of(const TensorView& source, Positions* positions = nullptr) noexcept;

 private:
  Nest() noexcept {}  // NOLINT(modernize-use-equals-default): leaves the arrays uninitialised
  void add(std::size_t axis, std::int64_t dim, std::int64_t source_stride, std::int64_t destination_stride) noexcept;
  // `axes`: the shape of all axes.
  void normalise(std::span<const std::int64_t> axes, Positions* positions) noexcept;
  void describe(std::span<const std::int64_t> axes, Positions& positions) const noexcept;

  // Of each dimension until they are joined: the axis, and the axes that are walked from their end, as bits.
  std::array<std::uint8_t, max_ndim> axes_;
  std::uint64_t reversed_ = 0;
};

// A position in one of the two tensors of a nest. Moves in the nest's order.
template <class Byte>
class Cursor {
 public:
  // At the element that is `position` steps from the first one, in the nest's order.
  Cursor(const Nest& nest, std::span<const std::int64_t> strides, Byte* data, std::int64_t position) noexcept
      : nest_(nest), strides_(strides), last_(nest.ndim - 1), at_(position % nest.shape[last_]), row_(data) {
    position /= nest.shape[last_];
    for (std::size_t i = last_; i-- > 0;) {
      index_[i] = position % nest.shape[i];
      position /= nest.shape[i];
      row_ += index_[i] * strides_[i];
    }
  }

  [[nodiscard]] Byte* get() const noexcept { return row_ + at_ * strides_[last_]; }
  [[nodiscard]] std::int64_t stride() const noexcept { return strides_[last_]; }

  // Elements from here to the end of the innermost dimension, which `stride()` separates.
  [[nodiscard]] std::int64_t run() const noexcept { return nest_.shape[last_] - at_; }

  // Where the innermost dimension mostly starts again once it is passed: a place to fetch from, which may not be one.
  [[nodiscard]] Byte* following_row() const noexcept { return last_ > 0 ? row_ + strides_[last_ - 1] : row_; }

  // Moves by at most `run()` elements.
  void advance(std::int64_t n) noexcept {
    at_ += n;
    if (at_ == nest_.shape[last_]) carry();
  }

 private:
  void carry() noexcept {
    at_ = 0;
    for (std::size_t i = last_; i-- > 0;) {
      row_ += strides_[i];
      if (++index_[i] < nest_.shape[i]) return;
      row_ -= strides_[i] * nest_.shape[i];
      index_[i] = 0;
    }
  }

  const Nest& nest_;
  std::span<const std::int64_t> strides_;
  std::size_t last_;
  std::int64_t at_;  // in the innermost dimension
  Byte* row_;        // where that dimension starts
  std::array<std::int64_t, max_ndim> index_;
};

// `n` elements of `item` bytes from one place to another. The ranges do not overlap.
void copy_run(const std::byte* source, std::int64_t source_stride, std::byte* destination,
              std::int64_t destination_stride, std::int64_t n, std::size_t item) noexcept;

// Reverses the bytes of each `unit` bytes in `n` elements of `item` bytes, which is a multiple of `unit`.
void swap_run(std::byte* data, std::int64_t stride, std::int64_t n, std::size_t item, std::size_t unit) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
