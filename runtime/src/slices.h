// A tensor cut into parts that lie one behind the other in row-major order, each a view of its own: what is staged
// chunk by chunk. Private to the runtime and to what stages.
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

// One part: rows [begin, begin + rows) of an axis, at one index of the axes before it, with all of the axes behind it.
struct Slice {
  std::int64_t first = 0;  // elements before it, in row-major order
  std::int64_t count = 0;
  std::size_t axis = 0;
  std::int64_t begin = 0;
  std::int64_t rows = 0;
  std::int64_t outer = 0;  // the index of the axes before, as a number in row-major order
};

class Slices {
 public:
  // Parts of at most `most` elements (at least 1) of a tensor of this shape. `shape` is borrowed, its product fits
  // int64.
  Slices(std::span<const std::int64_t> shape, std::int64_t most) noexcept : shape_(shape) {
    for (const std::int64_t dim : shape) total_ *= dim;
    if (total_ == 0) return;
    if (shape.empty()) {
      per_outer_ = 1;
      return;
    }
    // The outermost axis of which a row still fits: the parts are as large as they can be.
    axis_ = shape.size() - 1;
    while (axis_ > 0 && inner_ * shape[axis_] <= most) inner_ *= shape[axis_--];
    rows_ = std::clamp<std::int64_t>(most / inner_, 1, shape[axis_]);
    per_outer_ = (shape[axis_] + rows_ - 1) / rows_;
    for (std::size_t i = 0; i < axis_; ++i) outer_ *= shape[i];
  }

  [[nodiscard]] std::int64_t size() const noexcept { return total_ == 0 ? 0 : outer_ * per_outer_; }
  [[nodiscard]] std::int64_t elements() const noexcept { return total_; }

  // Requires: 0 <= index < size().
  [[nodiscard]] Slice operator[](std::int64_t index) const noexcept {
    if (shape_.empty()) return {.count = 1, .rows = 1};
    Slice slice;
    slice.axis = axis_;
    slice.outer = index / per_outer_;
    slice.begin = index % per_outer_ * rows_;
    slice.rows = std::min(rows_, shape_[axis_] - slice.begin);
    slice.first = (slice.outer * shape_[axis_] + slice.begin) * inner_;
    slice.count = slice.rows * inner_;
    return slice;
  }

 private:
  std::span<const std::int64_t> shape_;
  std::int64_t total_ = 1;
  std::size_t axis_ = 0;
  std::int64_t inner_ = 1;  // elements of a row
  std::int64_t rows_ = 1;   // of a part
  std::int64_t per_outer_ = 0;
  std::int64_t outer_ = 1;
};

// The index of an axis before the slice's own.
[[nodiscard]] inline std::int64_t outer_index(std::span<const std::int64_t> shape, const Slice& slice,
                                              std::size_t axis) noexcept {
  std::int64_t rest = slice.outer;
  for (std::size_t i = slice.axis; i-- > axis + 1;) rest /= shape[i];
  return rest % shape[axis];
}

// The shape of a part, kept in `dims`.
[[nodiscard]] inline std::span<const std::int64_t> shape_of(std::span<const std::int64_t> shape, const Slice& slice,
                                                            std::array<std::int64_t, max_ndim>& dims) noexcept {
  if (shape.empty()) return {};
  const std::size_t ndim = shape.size() - slice.axis;
  dims[0] = slice.rows;
  for (std::size_t i = 1; i < ndim; ++i) dims[i] = shape[slice.axis + i];
  return {dims.data(), ndim};
}

// A part of a part, as one of the whole: `inner` is one of `Slices` over the shape of `outer`.
[[nodiscard]] inline Slice within(std::span<const std::int64_t> shape, const Slice& outer,
                                  const Slice& inner) noexcept {
  if (shape.empty()) return outer;
  Slice slice = inner;
  slice.axis = outer.axis + inner.axis;
  slice.first = outer.first + inner.first;
  if (inner.axis == 0) {
    slice.begin = outer.begin + inner.begin;
    slice.outer = outer.outer;
    return slice;
  }
  std::int64_t before = outer.outer * shape[outer.axis] + outer.begin;
  for (std::size_t i = outer.axis + 1; i < slice.axis; ++i) before *= shape[i];
  slice.outer = before + inner.outer;
  return slice;
}

// A part of a view, whose elements are whole bytes; its shape is kept in `shape`, its strides are the view's own.
template <class View>
[[nodiscard]] View slice_of(const View& view, const Slice& slice, std::array<std::int64_t, max_ndim>& shape) noexcept {
  View part = view;
  if (view.shape.empty()) return part;
  std::int64_t offset = slice.begin * view.byte_stride(slice.axis);
  std::int64_t rest = slice.outer;
  for (std::size_t i = slice.axis; i-- > 0;) {
    offset += rest % view.shape[i] * view.byte_stride(i);
    rest /= view.shape[i];
  }
  using Byte =
      std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(view.data)>>, const std::byte, std::byte>;
  part.data = static_cast<Byte*>(view.data) + offset;
  part.shape = shape_of(view.shape, slice, shape);
  part.strides = view.strides.subspan(slice.axis);
  return part;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
