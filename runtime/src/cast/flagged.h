// What each element of a block loses, one set of flags an element: slow, for the places where counts are not enough
// (the first loss, its value, complex numbers). Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "halfway/convert.h"
#include "kernels.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// How `encode_flagged` rounds where that is not as in a plain cast.
struct FlaggedRounding {
  bool nearest = false;                  // into integers
  const std::uint16_t* lanes = nullptr;  // stochastic: one for each component
};

// Encodes `n` elements (components where the dtype is complex) from a wide type and writes what each lost. Narrow
// floats are encoded from float32 alone, as in `Kernels`.
void encode_flagged(DType to, WideType wide, const std::byte* values, std::byte* elements, convert::Flags* flags,
                    std::size_t n, bool saturate, FlaggedRounding rounding = {}) noexcept;

// Adds to each of `n` flags what dropping the imaginary part in `imaginary` loses. Float types only.
void flag_dropped_imaginary(WideType wide, const std::byte* imaginary, convert::Flags* flags, std::size_t n) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
