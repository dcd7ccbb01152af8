// fp8 in AVX2 and F16C: what avx2.h says of itself goes for this as well. Included by loops.h alone, after it.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// --- fp8 of at most 3 mantissa bits, which bfloat16 holds exactly

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

template <class E>
void fp8_to_bfloat16(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) store_vector(to + 2 * i, widen_to_bfloat16<E>(widen_bytes(from + i)));
  convert_rest<convert::BFloat16, E>(from, to, i, n);
}

template <class E>
void fp8_to_float(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i bfloats = in_order(widen_to_bfloat16<E>(widen_bytes(from + i)));
    store_widened(to + 4 * i, bfloats, _mm256_cmpeq_epi16(bfloats, _mm256_set1_epi16(0x7FFF)));
  }
  for (; i < n; ++i) store<float>(to + 4 * i, E::decode(load<std::uint8_t>(from + i)));
}

// Where they are the way to decode, and to fuse.
template <>
void decode_number<convert::Float8E4M3>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                        std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3>(elements, wide, n);
}
template <>
void decode_number<convert::Float8E4M3B11FNUZ>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                               std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3B11FNUZ>(elements, wide, n);
}
template <>
void decode_number<convert::Float8E4M3FN>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                          std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3FN>(elements, wide, n);
}
template <>
void decode_number<convert::Float8E4M3FNUZ>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                            std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3FNUZ>(elements, wide, n);
}
template <>
void decode_number<convert::Float8E5M2>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                        std::size_t n) noexcept {
  fp8_to_float<convert::Float8E5M2>(elements, wide, n);
}
template <>
void decode_number<convert::Float8E5M2FNUZ>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                            std::size_t n) noexcept {
  fp8_to_float<convert::Float8E5M2FNUZ>(elements, wide, n);
}
template <>
void convert_fused<convert::BFloat16, convert::Float8E4M3FN>(const std::byte* __restrict from, std::byte* __restrict to,
                                                             std::size_t n) noexcept {
  fp8_to_bfloat16<convert::Float8E4M3FN>(from, to, n);
}
template <>
void convert_fused<convert::BFloat16, convert::Float8E5M2>(const std::byte* __restrict from, std::byte* __restrict to,
                                                           std::size_t n) noexcept {
  fp8_to_bfloat16<convert::Float8E5M2>(from, to, n);
}

// --- float32 to fp8 by way of float16

// Multiplied by a power of two, the numbers of an fp8 format with at most 5 exponent bits are float16 with fewer
// digits, subnormals included: then rounding is the same for all of them, in integers. float16 has enough digits more
// for the rounding in between to be to odd: towards zero, with the last bit set if anything was lost.
inline __m256i to_odd_float16(__m256 low, __m256 high) noexcept {
  constexpr int to_zero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  const __m128i low_halves = _mm256_cvtps_ph(low, to_zero);
  const __m128i high_halves = _mm256_cvtps_ph(high, to_zero);
  const __m256 low_lost = _mm256_cmp_ps(_mm256_cvtph_ps(low_halves), low, _CMP_NEQ_UQ);
  const __m256 high_lost = _mm256_cmp_ps(_mm256_cvtph_ps(high_halves), high, _CMP_NEQ_UQ);
  const __m256i lost = in_order(_mm256_packs_epi32(_mm256_castps_si256(low_lost), _mm256_castps_si256(high_lost)));
  const __m256i halves = _mm256_inserti128_si256(_mm256_castsi128_si256(low_halves), high_halves, 1);
  return _mm256_or_si256(halves, _mm256_srli_epi16(lost, 15));
}

template <class E>
void float_to_fp8(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  using convert::Float16;
  constexpr int shift = Float16::mantissa_bits - E::mantissa_bits;
  const __m256 scale = _mm256_set1_ps(convert::detail::power_of_two(E::bias - Float16::bias));
  const __m256i just_under_half = _mm256_set1_epi16((1 << (shift - 1)) - 1);
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    // 1. Exact, but where float32 itself becomes subnormal: far below the smallest fp8.
    const __m256i halves = to_odd_float16(_mm256_mul_ps(load_floats(from + 4 * i), scale),
                                          _mm256_mul_ps(load_floats(from + 4 * i + 32), scale));
    // 2. To nearest even, as in convert.h. What float16 cannot hold is beyond the range of fp8 as well.
    const __m256i magnitude = _mm256_and_si256(halves, _mm256_set1_epi16(0x7FFF));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(magnitude, shift), _mm256_set1_epi16(1));
    __m256i code = _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(magnitude, just_under_half), odd), shift);
    // 3. Infinity or NaN beyond the range, the sign, NaN without one.
    const __m256i sign = _mm256_and_si256(_mm256_srli_epi16(halves, 8), _mm256_set1_epi16(0x80));
    code = _mm256_min_epu16(code, _mm256_set1_epi16(E::max_finite + 1));
    __m256i is_nan = _mm256_cmpgt_epi16(code, _mm256_set1_epi16(E::max_finite));
    if constexpr (E::has_infinity) is_nan = _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(0x7C00));
    code = _mm256_blendv_epi8(_mm256_or_si256(code, sign), _mm256_set1_epi16(E::canonical_nan), is_nan);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), bytes);
  }
  convert_rest<E, convert::Float32>(from, to, i, n);
}

template <>
void encode<convert::Float8E4M3FN, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                                 std::size_t n) noexcept {
  float_to_fp8<convert::Float8E4M3FN>(wide, elements, n);
}
template <>
void encode<convert::Float8E5M2, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                               std::size_t n) noexcept {
  float_to_fp8<convert::Float8E5M2>(wide, elements, n);
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
