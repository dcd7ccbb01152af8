// The two sides of a cast: how their elements lie in memory, and what is refused before any is looked at. Defined in
// cast.cpp, for cast.cpp and collate.cpp. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elements.h"
#include "halfway/cast.h"
#include "halfway/convert.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The bytes that a byte order is about: a scalar, or one component of a complex number. 0 when the dtype does not say.
[[nodiscard]] std::size_t scalar_size(DType dtype) noexcept;

// Elements of whole bytes; packed ones have size 0.
template <class View>
[[nodiscard]] Elements elements_of(const View& view) noexcept {
  return {view.dtype, view.element_size(), view.swapped ? scalar_size(view.dtype) : 1};
}

// The dtypes and the byte order may be changed like this. throws: CastError; Error (unsupported_dtype)
void require_permitted(const TensorView& source, DType to, bool to_swapped, Casting casting);

// The number of elements of a well-formed view of host memory. throws: Error (malformed, device, no_storage)
[[nodiscard]] std::int64_t require_readable(const TensorView& source);

// Every element has its place in common with its image, and the places are whole bytes: start, steps and item size are
// the same. Requires: one shape.
[[nodiscard]] bool has_same_places(const TensorView& source, const MutableView& destination) noexcept;

// The same elements in the same order at the same addresses: copying them onto themselves changes nothing.
[[nodiscard]] bool is_identical(const TensorView& source, const MutableView& destination) noexcept;

// Whether anything is counted about elements whose bits are copied: only floats have NaN.
[[nodiscard]] bool has_nan(DType dtype) noexcept;

// Whether elements are more than copied. If not, nothing but NaN is to be counted.
[[nodiscard]] bool converts(DType from, DType to, const CastOptions& options) noexcept;

// The flags that must not occur; none when they cannot.
[[nodiscard]] convert::Flags watched_flags(DType from, DType to, const CastOptions& options) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
