// The reach of strides, shared by the layout functions and the validator. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "halfway/layout.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The interval that elements of `item_size` bytes occupy when a step in a dimension moves `stride * unit` bytes, for a
// tensor whose dimensions are all positive. False when the interval or its length does not fit int64.
[[nodiscard]] inline bool reach(const std::int64_t* shape, const std::int64_t* strides, std::size_t ndim,
                                std::int64_t unit, std::int64_t item_size, Extent& interval) noexcept {
  bool overflow = false;
  std::int64_t low = 0;
  std::int64_t high = item_size;
  for (std::size_t i = 0; i < ndim; ++i) {
    if (shape[i] == 1) continue;  // its stride is never followed, and may be anything
    if (shape[i] < 1) return false;
    std::int64_t span = 0;
    overflow |= __builtin_mul_overflow(strides[i], unit, &span);
    overflow |= __builtin_mul_overflow(span, shape[i] - 1, &span);
    std::int64_t& end = span < 0 ? low : high;
    overflow |= __builtin_add_overflow(end, span, &end);
  }
  std::int64_t length = 0;
  overflow |= __builtin_sub_overflow(high, low, &length);
  interval = {low, high};
  return !overflow;
}

// Bytes of `count` elements of `bits` < 8 bits that are stored without gaps. Cannot overflow.
[[nodiscard]] constexpr std::int64_t packed_bytes(std::int64_t count, int bits) noexcept {
  return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
