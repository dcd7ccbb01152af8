// Conversions for which GPUs have instructions that give convert.h's bits, two elements at a time. Elsewhere, and in
// host code, they are convert.h's functors; on a GPU both ways are compared over many patterns
// (tests/cuda/device_cases.cpp).
//
//   sm_80   float32 -> float16, bfloat16     cvt.rn.{f16x2,bf16x2}.f32: rounds once, keeps subnormals, overflows to
//                                            infinity, NaN becomes 7FFF
//           float16 -> float32               cvt.f32.f16: exact; what it makes of NaN is left open, and is no matter
//                                            where the target's encoding follows
//   sm_89   float32 -> float8 e4m3fn, e5m2   cvt.rn.satfinite.{e4m3x2,e5m2x2}.f32: overflow saturates, always, so that
//                                            `Overflow::by_format` is put in by magnitude, and so is NaN
//           float8 e4m3fn, e5m2 -> float16   cvt.rn.f16x2.{e4m3x2,e5m2x2}: exact
#pragma once

#include <cstdint>
#include <type_traits>

#include "halfway/convert.h"

// Loops over elements in registers are of two kinds. Those that are unrolled keep them there; those that are not,
// because their body is long, reach one by selection, since registers have no index.
#if defined(__CUDA_ARCH__)
#define HALFWAY_UNROLLED _Pragma("unroll")
#define HALFWAY_ROLLED _Pragma("unroll 1")
#else
#define HALFWAY_UNROLLED
#define HALFWAY_ROLLED
#endif

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

using convert::BFloat16;
using convert::Float16;
using convert::Float8E4M3FN;
using convert::Float8E5M2;

// The smallest float32 magnitude that E overflows.
template <class E>
[[nodiscard]] constexpr std::uint32_t find_first_overflow() noexcept {
  std::uint32_t low = 0;
  std::uint32_t high = convert::detail::Wide<float>::infinity;
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if ((E::encode(convert::detail::bit_cast<float>(middle), false).flags & convert::overflow) != 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}
template <class E>
inline constexpr std::uint32_t first_overflow = find_first_overflow<E>();

template <class E>
inline constexpr bool is_byte_float = std::is_same_v<E, Float8E4M3FN> || std::is_same_v<E, Float8E5M2>;

// Whether this architecture packs float32 into E.
template <class E>
inline constexpr bool has_packed_encoding =
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    std::is_same_v<E, Float16> || std::is_same_v<E, BFloat16> || is_byte_float<E>;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    std::is_same_v<E, Float16> || std::is_same_v<E, BFloat16>;
#else
    false;
#endif

// Whether it decodes E.
template <class E>
inline constexpr bool has_decoding =
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    std::is_same_v<E, Float16> || is_byte_float<E>;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    std::is_same_v<E, Float16>;
#else
    false;
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// Two elements side by side, the first one below.
template <class E>
__device__ inline std::uint32_t encode_packed(float first, float second, bool saturate) noexcept {
  std::uint32_t both = 0;
  if constexpr (std::is_same_v<E, Float16>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else if constexpr (std::is_same_v<E, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    std::uint16_t bytes = 0;
#if __CUDA_ARCH__ >= 890
    if constexpr (std::is_same_v<E, Float8E4M3FN>) {
      asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bytes) : "f"(second), "f"(first));
    } else {
      asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bytes) : "f"(second), "f"(first));
    }
#endif
    both = bytes;
  }
  constexpr int width = E::bits;
  constexpr std::uint32_t element = (std::uint32_t{1} << width) - 1;
  constexpr std::uint32_t magnitude = element >> 1;
  if (!saturate && !is_byte_float<E>) return both;
  // What the instruction does not do: the other overflow than its own, for infinities too. What it makes of NaN is
  // documented for the 16-bit floats alone.
  constexpr std::uint32_t threshold = first_overflow<E>;
  constexpr std::uint32_t limit = std::uint32_t{E::max_finite} + (E::has_infinity ? 1 : 0);
  const auto corrected = [&](float value, std::uint32_t bits) {
    const std::uint32_t size = convert::detail::magnitude_bits(value);
    const bool is_nan = size > convert::detail::Wide<float>::infinity;
    const std::uint32_t sign = bits & (element ^ magnitude);
    const std::uint32_t clamped = std::uint32_t{E::max_finite} | sign;
    const std::uint32_t by_format = E::has_infinity ? limit | sign : std::uint32_t{E::canonical_nan};
    const std::uint32_t number = size >= threshold ? (saturate ? clamped : by_format) : bits;
    return is_nan ? std::uint32_t{E::canonical_nan} : number;
  };
  return corrected(first, both & element) | corrected(second, (both >> width) & element) << width;
}
#endif

// `n` floats into elements.
template <class E, int n>
HALFWAY_HD inline void encode_floats(const float (&values)[n], typename E::Bits (&elements)[n],
                                     bool saturate) noexcept {
  if constexpr (has_packed_encoding<E> && n % 2 == 0) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    HALFWAY_UNROLLED
    for (int i = 0; i < n; i += 2) {
      const std::uint32_t both = encode_packed<E>(values[i], values[i + 1], saturate);
      elements[i] = static_cast<typename E::Bits>(both);
      elements[i + 1] = static_cast<typename E::Bits>(both >> E::bits);
    }
#endif
  } else {
    HALFWAY_UNROLLED
    for (int i = 0; i < n; ++i) elements[i] = E::encode(values[i], saturate).bits;
  }
}

// Two elements into floats, exactly; of NaN only that it is one.
template <class E>
HALFWAY_HD inline void decode_pair(typename E::Bits first, typename E::Bits second, float& low, float& high) noexcept {
  if constexpr (has_decoding<E>) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if constexpr (std::is_same_v<E, Float16>) {
      asm("cvt.f32.f16 %0, %1;" : "=f"(low) : "h"(first));
      asm("cvt.f32.f16 %0, %1;" : "=f"(high) : "h"(second));
    } else {
      std::uint32_t halves = 0;
#if __CUDA_ARCH__ >= 890
      const auto bytes = static_cast<std::uint16_t>(first | second << 8);
      if constexpr (std::is_same_v<E, Float8E4M3FN>) {
        asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(bytes));
      } else {
        asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"(bytes));
      }
#endif
      decode_pair<Float16>(static_cast<std::uint16_t>(halves), static_cast<std::uint16_t>(halves >> 16), low, high);
    }
#endif
  } else {
    low = E::decode_number(first);
    high = E::decode_number(second);
  }
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
