// How the elements of one pair of dtypes are converted: the stages, chosen once a pass. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "halfway/convert.h"
#include "halfway/dtype.h"
#include "kernels.h"

namespace halfway {
inline namespace v0 {
namespace detail {

[[nodiscard]] constexpr bool is_complex(DType dtype) noexcept {
  return dtype.code == static_cast<std::uint8_t>(TypeCode::complex);
}

// Sizes and loops speak of components: one an element, or two where the dtype is complex.
struct Route {
  DType from;
  DType to;
  bool saturate;
  WideType wide;        // what is between the stages
  DecodeLoop decode;    // nullptr: the source is of the wide type
  EncodeLoop encode;    // nullptr: the destination is of the wide type, and nothing is left to do
  EncodeLoop single;    // the whole way in one loop, or nullptr
  CountedLoop counted;  // as `encode`, never nullptr
  std::size_t from_size;
  std::size_t to_size;
  // Flags that can occur at all. Nothing else needs to be looked for.
  convert::Flags possible;

  // Both dtypes are castable.
  static Route between(const Kernels& kernels, DType from, DType to, bool saturate) noexcept;
};

// Converts `n` contiguous components in the machine's byte order, without counting. The route is of two different
// dtypes, both complex or both not. Needs the default floating-point environment.
void convert(const Route& route, const std::byte* source, std::byte* destination, std::size_t n) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
