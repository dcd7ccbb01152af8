// Pure functions over shapes and strides, with overflow-checked arithmetic. Nothing here touches memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

// The number of elements: 1 for ndim 0, 0 when any dimension is 0. nullopt when a dimension is negative or the product
// (of the non-zero dimensions, so that the answer does not depend on their order) exceeds int64.
[[nodiscard]] std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) noexcept;

// Row-major strides, in elements. `strides.size()` must equal `shape.size()`; dimensions of size 0 count as 1.
void row_major_strides(std::span<const std::int64_t> shape, std::span<std::int64_t> strides) noexcept;

// Row-major without gaps. Strides of dimensions of size 1 and of empty tensors do not matter.
[[nodiscard]] bool is_contiguous(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) noexcept;
[[nodiscard]] bool is_contiguous(const TensorView& view) noexcept;

// The half-open byte interval [low, high) that the elements occupy, relative to the data pointer; low <= 0 when there
// are negative strides. {0, 0} for empty tensors. nullopt when it, or its length, does not fit int64.
struct Extent {
  std::int64_t low = 0;
  std::int64_t high = 0;
  friend bool operator==(const Extent&, const Extent&) = default;
};
[[nodiscard]] std::optional<Extent> extent(std::span<const std::int64_t> shape,
                                           std::span<const std::int64_t> byte_strides, std::size_t item_size) noexcept;
[[nodiscard]] std::optional<Extent> extent(const TensorView& view) noexcept;

// Any stride below zero in a dimension of more than one element. The strides of empty tensors do not matter.
[[nodiscard]] bool has_negative_strides(const TensorView& view) noexcept;

// The data pointer or a stride that matters is no multiple of the dtype's alignment. Empty tensors are aligned.
[[nodiscard]] bool is_misaligned(const TensorView& view) noexcept;

// Two elements of one view at the same address (a zero or folding stride): fine to read, not to write.
// Conservative: true when disjointness could not be shown by sorting the strides.
[[nodiscard]] bool may_self_overlap(const TensorView& view) noexcept;

// Whether two views may share a byte. Never false when they do. Exact for disjoint intervals and for interleaved views
// that a common divisor of their larger strides keeps apart (a[::2] and a[1::2], x[:, 0] and x[:, 1], x[:, :2] and
// x[:, 2:]); otherwise answers true.
[[nodiscard]] bool may_overlap(const TensorView& a, const TensorView& b) noexcept;

}  // namespace v0
}  // namespace halfway
