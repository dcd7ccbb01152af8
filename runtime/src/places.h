// Where the elements of a tensor lie, in few numbers: what a kernel is launched with, and so compiled for devices too.
// Private to the runtime and to what runs kernels.
#pragma once

#include <cstdint>

#include "halfway/convert.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Axes that continue one another in memory are one here, and axes of one index are none, so that few are left of most
// layouts. Broadcast axes (strides of 0) and negative strides are as any.
struct Places {
  static constexpr int most_axes = 8;

  int axes = 1;
  std::uint64_t first = 0;  // the element that is number 0 of a launch, by its number in row-major order
  std::int64_t dims[most_axes] = {1};
  std::int64_t strides[most_axes] = {};  // bytes

  // One behind the other.
  [[nodiscard]] static constexpr Places dense(std::int64_t item_size) noexcept {
    Places places;
    places.strides[0] = item_size;
    return places;
  }

  // Bytes from the tensor's data pointer to element `first + index`.
  [[nodiscard]] HALFWAY_HD constexpr std::int64_t offset(std::uint64_t index) const noexcept {
    std::uint64_t rest = first + index;
    std::int64_t bytes = 0;
    for (int axis = axes - 1; axis > 0; --axis) {
      const auto dim = static_cast<std::uint64_t>(dims[axis]);
      bytes += static_cast<std::int64_t>(rest % dim) * strides[axis];
      rest /= dim;
    }
    return bytes + static_cast<std::int64_t>(rest) * strides[0];
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
