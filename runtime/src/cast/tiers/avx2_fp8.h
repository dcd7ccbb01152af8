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

// 32 elements as bfloat16: upper and lower bytes.
struct BFloat16Bytes {
  __m256i upper;
  __m256i lower;
  __m256i is_nan;
};

// Bytes of bfloat16 patterns by the last four bits of a magnitude, as a shuffle looks them up.
template <class E>
struct Fp8Tables {
  alignas(16) std::uint8_t lower[16] = {};            // of any normal number: its exponent's last bits and mantissa
  alignas(16) std::uint8_t subnormal_upper[16] = {};  // of subnormal numbers
  alignas(16) std::uint8_t subnormal_lower[16] = {};
  constexpr Fp8Tables() noexcept {
    constexpr unsigned subnormals = 1U << E::mantissa_bits;
    for (unsigned i = 0; i < 16; ++i) {
      // Exponents that end in the same bit: any normal number will do.
      lower[i] = static_cast<std::uint8_t>(pattern(16 + i));
      if (i < subnormals) {
        subnormal_upper[i] = static_cast<std::uint8_t>(pattern(i) >> 8U);
        subnormal_lower[i] = static_cast<std::uint8_t>(pattern(i));
      }
    }
  }
  static constexpr unsigned pattern(unsigned code) noexcept {
    return convert::BFloat16::encode(E::decode(static_cast<std::uint8_t>(code)), false).bits;
  }
};

inline __m256i look_up(const std::uint8_t (&table)[16], __m256i places) noexcept {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table))),
                             places);
}

template <class E>
inline BFloat16Bytes widen_to_bfloat16(__m256i elements) noexcept {
  static constexpr Fp8Tables<E> tables;
  const __m256i magnitude = _mm256_and_si256(elements, _mm256_set1_epi8(0x7F));
  // 1. Normal numbers: the mantissa moves up by the difference of its widths, and the difference of the biases is
  // added. Of that sum the lower byte is looked up, and what it carries comes from the last bit of the exponent.
  constexpr int up = convert::BFloat16::mantissa_bits - E::mantissa_bits;
  constexpr unsigned more = static_cast<unsigned>(convert::BFloat16::bias - E::bias)
                            << static_cast<unsigned>(convert::BFloat16::mantissa_bits);
  constexpr auto carry = static_cast<char>((more & 0xFFU) >> static_cast<unsigned>(up));
  constexpr auto kept = static_cast<char>(0xFFU >> static_cast<unsigned>(8 - up));
  const __m256i moved = _mm256_and_si256(_mm256_srli_epi16(_mm256_add_epi8(magnitude, _mm256_set1_epi8(carry)), 8 - up),
                                         _mm256_set1_epi8(kept));
  __m256i upper = _mm256_add_epi8(moved, _mm256_set1_epi8(static_cast<char>(more >> 8U)));
  __m256i lower = look_up(tables.lower, magnitude);
  // 2. Subnormal numbers.
  const __m256i is_subnormal = _mm256_cmpgt_epi8(_mm256_set1_epi8(1 << E::mantissa_bits), magnitude);
  upper = _mm256_blendv_epi8(upper, look_up(tables.subnormal_upper, magnitude), is_subnormal);
  lower = _mm256_blendv_epi8(lower, look_up(tables.subnormal_lower, magnitude), is_subnormal);
  upper = _mm256_or_si256(upper, _mm256_andnot_si256(magnitude, elements));
  // 3. What is rare: infinity and NaN.
  constexpr auto largest = static_cast<char>(E::max_finite);
  const __m256i is_special = E::has_negative_zero ? _mm256_cmpgt_epi8(magnitude, _mm256_set1_epi8(largest))
                                                  : _mm256_cmpeq_epi8(elements, _mm256_set1_epi8(-128));
  __m256i is_nan = _mm256_setzero_si256();
  if (_mm256_movemask_epi8(is_special) != 0) {
    is_nan = is_special;
    if constexpr (E::has_infinity) {
      const __m256i is_infinite = _mm256_cmpeq_epi8(magnitude, _mm256_set1_epi8(largest + 1));
      is_nan = _mm256_andnot_si256(is_infinite, is_special);
      const __m256i infinity = _mm256_or_si256(_mm256_set1_epi8(0x7F), elements);
      upper = _mm256_blendv_epi8(upper, infinity, is_infinite);
      lower = _mm256_blendv_epi8(lower, _mm256_set1_epi8(-128), is_infinite);
    }
    upper = _mm256_blendv_epi8(upper, _mm256_set1_epi8(0x7F), is_nan);
    lower = _mm256_or_si256(lower, is_nan);
  }
  return {upper, lower, is_nan};
}

template <SmallFloat E>
struct Step<convert::BFloat16, E> {
  static constexpr std::size_t width = 32;
  static TwoVectors of(const std::byte* from) noexcept {
    const BFloat16Bytes made = widen_to_bfloat16<E>(in_order(load_vector(from)));
    return {{_mm256_unpacklo_epi8(made.lower, made.upper), _mm256_unpackhi_epi8(made.lower, made.upper)}};
  }
};

template <SmallFloat E>
struct Step<convert::Float32, E> {
  static constexpr std::size_t width = 32;
  static Vectors<4> of(const std::byte* from) noexcept {
    // In the order that two unpackings make one sequence.
    const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const BFloat16Bytes made = widen_to_bfloat16<E>(_mm256_permutevar8x32_epi32(load_vector(from), order));
    const TwoVectors low =
        widened(_mm256_unpacklo_epi8(made.lower, made.upper), _mm256_unpacklo_epi8(made.is_nan, made.is_nan));
    const TwoVectors high =
        widened(_mm256_unpackhi_epi8(made.lower, made.upper), _mm256_unpackhi_epi8(made.is_nan, made.is_nan));
    return {{low.parts[0], low.parts[1], high.parts[0], high.parts[1]}};
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
