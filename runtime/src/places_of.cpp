#include "places_of.h"

#include <cstddef>

namespace halfway {
inline namespace v0 {
namespace detail {

std::optional<Places> places_of(const TensorView& view) noexcept {
  Places places = Places::dense(static_cast<std::int64_t>(view.element_size()));
  bool any = false;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    const std::int64_t dim = view.shape[i];
    if (dim == 1) continue;  // its stride may be anything
    const std::int64_t stride = view.byte_stride(i);
    const int last = places.axes - 1;
    std::int64_t reach = 0;
    if (!any) {
      places.dims[0] = dim;
      places.strides[0] = stride;
      any = true;
    } else if (!__builtin_mul_overflow(dim, stride, &reach) && places.strides[last] == reach) {
      places.dims[last] *= dim;
      places.strides[last] = stride;
    } else if (places.axes == Places::most_axes) {
      return std::nullopt;
    } else {
      places.dims[places.axes] = dim;
      places.strides[places.axes] = stride;
      ++places.axes;
    }
  }
  return places;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
