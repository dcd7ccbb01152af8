// Steps of fp8 in AVX2: what avx2.h says of itself goes for this as well. Included by loops.h alone, after it.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// --- fp8 of at most 3 mantissa bits, which bfloat16 holds exactly

template <class E>
concept SmallFloat = convert::is_float<E> && E::bits == 8 && E::has_sign&& E::mantissa_bits <= 3;

// bfloat16 patterns of the subnormal numbers, by mantissa.
template <class E>
struct Subnormals {
  std::uint16_t patterns[8] = {};
  constexpr Subnormals() noexcept {
    for (std::uint8_t i = 0; i < 1U << E::mantissa_bits; ++i) {
      patterns[i] = convert::BFloat16::encode(E::decode(i), false).bits;
    }
  }
};

// 16 elements, zero-extended to 16 bits each, to bfloat16.
template <class E>
inline __m256i widen_to_bfloat16(__m256i elements) noexcept {
  static_assert(E::bits == 8 && E::mantissa_bits <= 3);
  static constexpr Subnormals<E> subnormals;
  const __m256i table =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(subnormals.patterns)));
  const __m256i magnitude = _mm256_and_si256(elements, _mm256_set1_epi16(0x7F));
  // 1. Normal numbers: the mantissa to its place, and the difference of the biases.
  constexpr int mantissa_bits = convert::BFloat16::mantissa_bits;
  constexpr auto rebias = static_cast<short>((convert::BFloat16::bias - E::bias) << mantissa_bits);
  const __m256i normal =
      _mm256_add_epi16(_mm256_slli_epi16(magnitude, mantissa_bits - E::mantissa_bits), _mm256_set1_epi16(rebias));
  // 2. Subnormal numbers: looked up, two bytes each, at 2i and 2i + 1.
  const __m256i place =
      _mm256_add_epi16(_mm256_mullo_epi16(magnitude, _mm256_set1_epi16(0x0202)), _mm256_set1_epi16(0x0100));
  const __m256i is_subnormal = _mm256_cmpgt_epi16(_mm256_set1_epi16(1 << E::mantissa_bits), magnitude);
  __m256i number = _mm256_blendv_epi8(normal, _mm256_shuffle_epi8(table, place), is_subnormal);
  // 3. Infinity, sign, NaN.
  constexpr auto largest = static_cast<short>(E::max_finite + (E::has_infinity ? 1 : 0));
  if constexpr (E::has_infinity) {
    const __m256i is_infinite = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(largest));
    number = _mm256_blendv_epi8(number, _mm256_set1_epi16(0x7F80), is_infinite);
  }
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(elements, _mm256_set1_epi16(0x80)), 8);
  const __m256i is_nan = E::has_negative_zero ? _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(largest))
                                              : _mm256_cmpeq_epi16(elements, _mm256_set1_epi16(0x80));
  return _mm256_blendv_epi8(_mm256_or_si256(number, sign), _mm256_set1_epi16(0x7FFF), is_nan);
}

inline __m256i widen_bytes(const std::byte* from) noexcept {  // 16 bytes to 16 bits each
  return _mm256_cvtepu8_epi16(load_half(from));
}

template <SmallFloat E>
struct Step<convert::BFloat16, E> {
  static constexpr std::size_t width = 16;
  static OneVector of(const std::byte* from) noexcept { return one(widen_to_bfloat16<E>(widen_bytes(from))); }
};

template <SmallFloat E>
struct Step<convert::Float32, E> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept {
    const __m256i bfloats = in_order(widen_to_bfloat16<E>(widen_bytes(from)));
    return widened(bfloats, _mm256_cmpeq_epi16(bfloats, _mm256_set1_epi16(0x7FFF)));
  }
};

// --- float32 to fp8

// The addition of floats rounds, at the weight of the last bit of the sum: added to a power of two that is as many
// times larger as float has digits more, a number is rounded where the fp8 format ends, once and to nearest even. The
// digits of the sum, counted from the power, are the number of units in the last place of the fp8; the exponent field
// adds those below them. Powers stop at the smallest normal number, so that subnormal ones need nothing of their own.
template <class E, bool saturate>
struct Fp8Rounding {
  static constexpr int shift = convert::Float32::mantissa_bits - E::mantissa_bits;
  static constexpr float smallest_normal = convert::detail::power_of_two(1 - E::bias);
  // Beyond the finite numbers: infinity, or NaN where there is none, is the next pattern.
  static constexpr float largest = convert::detail::bit_cast<float>(convert::detail::bits_of(E::decode(E::max_finite)) +
                                                                    (saturate ? 0U : 1U << shift));
  static constexpr bool nan_is_beyond = !saturate && !E::has_infinity;
  // What the exponent field of float, moved to the place of that of fp8, has too much.
  static constexpr int excess = static_cast<int>(convert::detail::bits_of(smallest_normal) >> shift);

  // 8 magnitudes in units of the smallest subnormal number: patterns, but for `excess`.
  static __m256i of(__m256 floats) noexcept {
    // The second operand is the result where one is NaN.
    const __m256 magnitude = _mm256_min_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0F), floats), _mm256_set1_ps(largest));
    const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(magnitude), _mm256_set1_epi32(0x7F800000));
    const __m256i power =
        _mm256_max_epi32(exponent, _mm256_set1_epi32(static_cast<int>(convert::detail::bits_of(smallest_normal))));
    const __m256i anchor = _mm256_add_epi32(power, _mm256_set1_epi32(shift << convert::Float32::mantissa_bits));
    const __m256i sum = _mm256_castps_si256(_mm256_add_ps(magnitude, _mm256_castsi256_ps(anchor)));
    return _mm256_add_epi32(_mm256_sub_epi32(sum, anchor), _mm256_srli_epi32(power, shift));
  }
};

// Four vectors of 32-bit integers to bytes, saturated: the sign survives.
inline __m256i narrow_to_bytes(__m256i a, __m256i b, __m256i c, __m256i d) noexcept {
  return _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}

template <class E, bool saturate>
requires(E::dtype == convert::Float8E4M3FN::dtype ||
         E::dtype == convert::Float8E5M2::dtype) struct Step<E, convert::Float32, saturate> {
  static constexpr std::size_t width = 32;
  static OneVector of(const std::byte* from) noexcept {
    using Rounding = Fp8Rounding<E, saturate>;
    const __m256 a = load_floats(from);
    const __m256 b = load_floats(from + 32);
    const __m256 c = load_floats(from + 64);
    const __m256 d = load_floats(from + 96);
    const __m256i excess = _mm256_set1_epi16(Rounding::excess);
    __m256i codes = _mm256_packs_epi16(_mm256_sub_epi16(_mm256_packs_epi32(Rounding::of(a), Rounding::of(b)), excess),
                                       _mm256_sub_epi16(_mm256_packs_epi32(Rounding::of(c), Rounding::of(d)), excess));
    const __m256i nan = _mm256_set1_epi8(E::canonical_nan);
    __m256i sign = _mm256_and_si256(
        narrow_to_bytes(_mm256_castps_si256(a), _mm256_castps_si256(b), _mm256_castps_si256(c), _mm256_castps_si256(d)),
        _mm256_set1_epi8(-128));
    if constexpr (Rounding::nan_is_beyond) {  // which has no sign
      sign = _mm256_andnot_si256(_mm256_cmpeq_epi8(codes, nan), sign);
    }
    codes = _mm256_or_si256(codes, sign);
    if constexpr (!Rounding::nan_is_beyond) {
      const __m256 any = _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q), _mm256_cmp_ps(c, d, _CMP_UNORD_Q));
      if (_mm256_movemask_ps(any) != 0) {
        const auto is_nan = [](__m256 floats) {
          return _mm256_castps_si256(_mm256_cmp_ps(floats, floats, _CMP_UNORD_Q));
        };
        codes = _mm256_blendv_epi8(codes, nan, narrow_to_bytes(is_nan(a), is_nan(b), is_nan(c), is_nan(d)));
      }
    }
    // Each half has four of a, of b, of c and of d.
    return one(_mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
};

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
