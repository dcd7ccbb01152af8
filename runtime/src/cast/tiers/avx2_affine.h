// Scale and shift with decoding and encoding in one loop, for the pairs that images and activations are. In the
// first-level cache uint8 -> bfloat16 takes 0.11 ns an element this way and 0.23 in three loops, float32 -> bfloat16
// 0.10 and 0.17 (2-core AMD EPYC Milan virtual machine, 2026-11-25). Included by loops.h alone, after avx2.h.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

template <class To, class Stores>
inline void put_sixteen(std::byte* to, Floats floats) noexcept {
  if constexpr (std::is_same_v<To, convert::BFloat16>) {
    Stores::put(to, to_bfloat16(floats));
  } else if constexpr (std::is_same_v<To, convert::Float16>) {
    Stores::put(to, to_float16(floats));
  } else {
    static_assert(std::is_same_v<To, convert::Float32>);
    if (has_nan(floats.low, floats.high)) floats = canonical_nan(floats);
    const TwoVectors made = two(floats);
    Stores::put(to, made.parts[0]);
    Stores::put(to + 32, made.parts[1]);
  }
}

template <class To, class From>
inline void affine_rest(const std::byte* values, std::byte* results, std::size_t begin, std::size_t n, float factor,
                        float addend) noexcept {
  using Bits = typename From::Bits;
  using Out = typename To::Bits;
  for (std::size_t i = begin; i < n; ++i) {
    const float value = From::decode_number(load<Bits>(values + i * sizeof(Bits)));
    store<Out>(results + i * sizeof(Out), To::encode(convert::multiply_add(value, factor, addend), false).bits);
  }
}

template <class To, class From, class Stores>
void affine_fused(const std::byte* __restrict values, std::byte* __restrict results, std::size_t n,
                  const std::byte* __restrict scale, const std::byte* __restrict shift) noexcept {
  constexpr std::size_t from_size = sizeof(typename From::Bits);
  constexpr std::size_t to_size = sizeof(typename To::Bits);
  const auto factor = load<float>(scale);
  const auto addend = load<float>(shift);
  const __m256 factors = _mm256_set1_ps(factor);
  const __m256 addends = _mm256_set1_ps(addend);
  std::size_t i = elements_to_align<sizeof(typename To::Bits), Stores>(results, n);
  affine_rest<To, From>(values, results, 0, i, factor, addend);
  if constexpr (std::is_same_v<From, UInt8> && std::is_same_v<To, convert::BFloat16>) {
    // Bytes to bfloat16, for images: even and odd elements apart, so that the rounded halves meet without being packed,
    // and without a look for NaN, which finite coefficients do not make of bytes: 0.11 ns an element instead of 0.17.
    const auto image = [&](__m256i bytes) {
      return round_upper_halves(_mm256_fmadd_ps(_mm256_cvtepi32_ps(bytes), factors, addends));
    };
    // Infinity less itself is not zero. (No function of the standard library: objects of tiers share none.)
    const bool are_finite = factor - factor == 0 && addend - addend == 0;  // NOLINT(misc-redundant-expression)
    for (; are_finite && i + 16 <= n; i += 16) {
      const __m256i bytes = _mm256_broadcastsi128_si256(load_half(values + i));
      const __m256i even = image(spread(bytes, {0, 2, 4, 6, 8, 10, 12, 14}));
      const __m256i odd = image(spread(bytes, {1, 3, 5, 7, 9, 11, 13, 15}));
      constexpr int odd_halves = 0xAA;
      Stores::put(results + 2 * i, _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, odd_halves));
    }
  } else {
    for (; i + 16 <= n; i += 16) {
      const Floats floats = floats_of<From>(values + i * from_size);
      put_sixteen<To, Stores>(results + i * to_size, {_mm256_fmadd_ps(floats.low, factors, addends),
                                                      _mm256_fmadd_ps(floats.high, factors, addends)});
    }
  }
  affine_rest<To, From>(values, results, i, n, factor, addend);
}

template <class To, class From>
constexpr FusedAffine fused_affine_of{From::dtype, To::dtype, affine_fused<To, From, Cached>,
                                      affine_fused<To, From, Streamed>};

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
