// The places of a tensor's elements, for those who launch kernels. Private to the runtime and to what runs kernels.
#pragma once

#include <optional>

#include "halfway/tensor.h"
#include "places.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Of a tensor of whole bytes an element that has elements; none where more than `Places::most_axes` are left.
// Requires: its extent fits int64.
[[nodiscard]] std::optional<Places> places_of(const TensorView& view) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
