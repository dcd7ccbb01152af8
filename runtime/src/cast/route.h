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

// What is done to the values of a route between its stages.
struct Extras {
  bool affine = false;      // scale and shift
  bool stochastic = false;  // rounding
};

// Sizes and loops speak of components: one an element, or two where the dtype is complex.
struct Route {
  DType from;
  DType to;
  bool saturate;
  bool copies;          // equal dtypes: bits are copied, and decoded is only what is counted
  WideType wide;        // what is encoded
  DecodeLoop decode;    // nullptr: the source is of the wide type
  EncodeLoop encode;    // nullptr: the destination is of the wide type, and nothing is left to do
  EncodeLoop single;    // the whole way in one loop, or nullptr
  CountedLoop counted;  // as `encode`, never nullptr
  std::size_t from_size;
  std::size_t to_size;
  // Flags that can occur at all. Nothing else needs to be looked for.
  convert::Flags possible;

  // Scale and shift between the stages; nullptr: none. `decode` gives the compute type then.
  const AffineLoops* affine = nullptr;
  DecodeLoop odd = nullptr;              // from float64 as compute type to `wide`, or nullptr: it is that already
  AffineLoop fused_affine = nullptr;     // the whole way for one pair of coefficients, uncounted, or nullptr
  AffineLoop streamed_affine = nullptr;  // and past the caches
  bool nearest = false;                  // `encode` and `counted` round floats to the nearest integer
  StochasticLoop stochastic = nullptr;   // instead of `encode`, or nullptr
  StochasticCountedLoop stochastic_counted = nullptr;

  // Both dtypes are castable.
  static Route between(const Kernels& kernels, DType from, DType to, bool saturate) noexcept;

  // With more than conversion. Affine: both dtypes are real. Stochastic: the target's components are floats; where they
  // hold every value of the source there is nothing to round, and the route is that of between().
  static Route between(const Kernels& kernels, DType from, DType to, bool saturate, Extras extras) noexcept;
};

// Converts `n` contiguous components in the machine's byte order, without counting. The route is of two different
// dtypes, both complex or both not. Needs the default floating-point environment.
void convert(const Route& route, const std::byte* source, std::byte* destination, std::size_t n) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
