// Loops in AVX2 and F16C that are worth writing by hand: GCC 12 makes 2 to 4 times as many instructions of the functors
// (it has no float16 conversions, and works in 32 bits where 16 are enough). Same bits: the exhaustive tests compare
// every tier. Included by loops.h alone, after the loops it specialises.
#pragma once

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

inline __m256i load_vector(const std::byte* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
inline void store_vector(std::byte* to, __m256i value) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
}
inline __m256i widen_bytes(const std::byte* from) noexcept {  // 16 bytes to 16 bits each
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Two vectors of 32-bit elements below 2^16 to one of 16-bit elements, in order.
inline __m256i narrow(__m256i low, __m256i high) noexcept {
  constexpr int in_order = 0xD8;  // the instruction packs each half for itself
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), in_order);
}

// --- float16: the processor's conversions differ from ours in NaN alone

template <>
void decode_number<convert::Float16>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                     std::size_t n) noexcept {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 floats = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(elements + 2 * i)));
    const __m256 is_nan = _mm256_cmp_ps(floats, floats, _CMP_UNORD_Q);
    store_vector(wide + 4 * i, _mm256_castps_si256(_mm256_blendv_ps(floats, nan, is_nan)));
  }
  for (; i < n; ++i) store<float>(wide + 4 * i, convert::Float16::decode(load<std::uint16_t>(elements + 2 * i)));
}

template <>
void encode<convert::Float16, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                            std::size_t n) noexcept {
  constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const __m256i magnitude = _mm256_set1_epi16(0x7FFF);  // also the canonical NaN
  const __m256i infinity = _mm256_set1_epi16(0x7C00);
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const auto* const from = reinterpret_cast<const float*>(wide + 4 * i);
    const __m128i low = _mm256_cvtps_ph(_mm256_loadu_ps(from), nearest);
    const __m128i high = _mm256_cvtps_ph(_mm256_loadu_ps(from + 8), nearest);
    const __m256i halves = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    const __m256i is_nan = _mm256_cmpgt_epi16(_mm256_and_si256(halves, magnitude), infinity);
    store_vector(elements + 2 * i, _mm256_blendv_epi8(halves, magnitude, is_nan));
  }
  for (; i < n; ++i) {
    store<std::uint16_t>(elements + 2 * i, convert::Float16::encode(load<float>(wide + 4 * i), false).bits);
  }
}

// --- bfloat16

// The rounded upper halves, in 32 bits. Rounding works on the pattern with its sign: a carry never reaches it but from
// NaN, which is replaced.
inline __m256i round_to_bfloat16(__m256i floats) noexcept {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(floats, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(floats, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256i magnitude = _mm256_and_si256(floats, _mm256_set1_epi32(0x7FFFFFFF));
  const __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7F800000));
  return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), _mm256_set1_epi32(0x7FFF), is_nan);
}

template <>
void encode<convert::BFloat16, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                             std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i low = round_to_bfloat16(load_vector(wide + 4 * i));
    const __m256i high = round_to_bfloat16(load_vector(wide + 4 * i + 32));
    store_vector(elements + 2 * i, narrow(low, high));
  }
  for (; i < n; ++i) {
    store<std::uint16_t>(elements + 2 * i, convert::BFloat16::encode(load<float>(wide + 4 * i), false).bits);
  }
}

// 8-bit integers are exact in bfloat16's 8 digits.
template <>
void convert_fused<convert::BFloat16, convert::Integer<std::uint8_t>>(const std::byte* __restrict from,
                                                                      std::byte* __restrict to,
                                                                      std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    const __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    const __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)));
    store_vector(to + 2 * i, narrow(_mm256_srli_epi32(_mm256_castps_si256(low), 16),
                                    _mm256_srli_epi32(_mm256_castps_si256(high), 16)));
  }
  for (; i < n; ++i) {
    const auto number = convert::Integer<std::uint8_t>::decode_number(load<std::uint8_t>(from + i));
    store<std::uint16_t>(to + 2 * i, convert::BFloat16::encode(number, false).bits);
  }
}

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

template <class E>
void fp8_to_bfloat16(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) store_vector(to + 2 * i, widen_to_bfloat16<E>(widen_bytes(from + i)));
  for (; i < n; ++i) {
    store<std::uint16_t>(to + 2 * i, convert::BFloat16::encode(E::decode(load<std::uint8_t>(from + i)), false).bits);
  }
}

// The upper half of a float32 is a bfloat16; only NaN has digits in the lower half.
inline __m256i widen_to_float(__m128i bfloats) noexcept {
  const __m256i upper = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bfloats), 16);
  const __m256i is_nan = _mm256_cmpeq_epi32(upper, _mm256_set1_epi32(0x7FFF0000));
  return _mm256_or_si256(upper, _mm256_srli_epi32(is_nan, 16));
}

template <class E>
void fp8_to_float(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i bfloats = widen_to_bfloat16<E>(widen_bytes(from + i));
    store_vector(to + 4 * i, widen_to_float(_mm256_castsi256_si128(bfloats)));
    store_vector(to + 4 * i + 32, widen_to_float(_mm256_extracti128_si256(bfloats, 1)));
  }
  for (; i < n; ++i) store<float>(to + 4 * i, E::decode(load<std::uint8_t>(from + i)));
}

// Where they are the way to decode, and to fuse.
template <>
void decode_number<convert::Float8E4M3>(const std::byte* __restrict from, std::byte* __restrict to,
                                        std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3>(from, to, n);
}
template <>
void decode_number<convert::Float8E4M3B11FNUZ>(const std::byte* __restrict from, std::byte* __restrict to,
                                               std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3B11FNUZ>(from, to, n);
}
template <>
void decode_number<convert::Float8E4M3FN>(const std::byte* __restrict from, std::byte* __restrict to,
                                          std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3FN>(from, to, n);
}
template <>
void decode_number<convert::Float8E4M3FNUZ>(const std::byte* __restrict from, std::byte* __restrict to,
                                            std::size_t n) noexcept {
  fp8_to_float<convert::Float8E4M3FNUZ>(from, to, n);
}
template <>
void decode_number<convert::Float8E5M2>(const std::byte* __restrict from, std::byte* __restrict to,
                                        std::size_t n) noexcept {
  fp8_to_float<convert::Float8E5M2>(from, to, n);
}
template <>
void decode_number<convert::Float8E5M2FNUZ>(const std::byte* __restrict from, std::byte* __restrict to,
                                            std::size_t n) noexcept {
  fp8_to_float<convert::Float8E5M2FNUZ>(from, to, n);
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

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway
