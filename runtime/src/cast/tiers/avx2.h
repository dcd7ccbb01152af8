// Loops in AVX2 and F16C that are worth writing by hand: GCC 12 makes 2 to 5 times as many instructions of the functors
// (it has no float16 conversions, works in 32 bits where 16 are enough, and forms what is rarely needed for every
// element). Same bits: the exhaustive tests compare every tier. Included by loops.h alone, after the loops it
// specialises.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

inline __m256i load_vector(const std::byte* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
inline __m256 load_floats(const std::byte* from) noexcept {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
}
inline __m256d load_doubles(const std::byte* from) noexcept {
  return _mm256_loadu_pd(reinterpret_cast<const double*>(from));
}
inline __m128i load_half(const std::byte* from) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
inline void store_vector(std::byte* to, __m256i value) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
}
inline void store_vector(std::byte* to, __m256 value) noexcept { store_vector(to, _mm256_castps_si256(value)); }
inline void store_vector(std::byte* to, __m256d value) noexcept { store_vector(to, _mm256_castpd_si256(value)); }

// Instructions that pack and unpack do so in each half of a vector for itself: this puts the quarters in the order that
// makes the result one sequence, before unpacking and after packing.
inline __m256i in_order(__m256i value) noexcept { return _mm256_permute4x64_epi64(value, 0xD8); }

// Two vectors of 32-bit elements below 2^16 to one of 16-bit elements.
inline __m256i narrow(__m256i low, __m256i high) noexcept { return in_order(_mm256_packus_epi32(low, high)); }

// NaN is rare: whether there is any is asked for many elements at once, and what it takes is done only then.
inline bool has_nan(__m256 a, __m256 b) noexcept { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)) != 0; }
inline bool has_nan(__m256d a, __m256d b) noexcept {
  return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_UNORD_Q)) != 0;
}

// The elements that are left over at the end of a loop.
template <class To, class From>
inline void convert_rest(const std::byte* from, std::byte* to, std::size_t begin, std::size_t n) noexcept {
  using Bits = typename From::Bits;
  using Out = typename To::Bits;
  for (std::size_t i = begin; i < n; ++i) {
    store<Out>(to + i * sizeof(Out), convert::convert<To, From>(load<Bits>(from + i * sizeof(Bits)), false).bits);
  }
}

// 16 elements at a time by `step(from, to)`, and what is left over.
template <class To, class From, class Step>
inline void in_sixteens(const std::byte* from, std::byte* to, std::size_t n, Step step) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) step(from + i * sizeof(typename From::Bits), to + i * sizeof(typename To::Bits));
  convert_rest<To, From>(from, to, i, n);
}

// --- float32 and float64

inline __m256 canonical_nan(__m256 floats) noexcept {
  const __m256 is_nan = _mm256_cmp_ps(floats, floats, _CMP_UNORD_Q);
  return _mm256_blendv_ps(floats, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)), is_nan);
}
inline __m256d canonical_nan(__m256d doubles) noexcept {
  const __m256d is_nan = _mm256_cmp_pd(doubles, doubles, _CMP_UNORD_Q);
  return _mm256_blendv_pd(doubles, _mm256_castsi256_pd(_mm256_set1_epi64x(0x7FFFFFFFFFFFFFFF)), is_nan);
}

inline __m256 join(__m128 low, __m128 high) noexcept {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

template <>
void encode<convert::Float32, double, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                             std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256d low = load_doubles(wide + 8 * i);
    const __m256d high = load_doubles(wide + 8 * i + 32);
    __m256 floats = join(_mm256_cvtpd_ps(low), _mm256_cvtpd_ps(high));
    if (has_nan(low, high)) floats = canonical_nan(floats);
    store_vector(elements + 4 * i, floats);
  }
  convert_rest<convert::Float32, convert::Float64>(wide, elements, i, n);
}

template <>
void encode<convert::Float64, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                            std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 floats = load_floats(wide + 4 * i);
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(floats));
    __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(floats, 1));
    if (has_nan(floats, floats)) {
      low = canonical_nan(low);
      high = canonical_nan(high);
    }
    store_vector(elements + 8 * i, low);
    store_vector(elements + 8 * i + 32, high);
  }
  convert_rest<convert::Float64, convert::Float32>(wide, elements, i, n);
}

// What convert::detail::to_odd does, for 8 doubles whose nearest floats are known.
inline __m256 step_to_odd(__m256d low, __m256d high, __m256 nearest) noexcept {
  const __m256d sign = _mm256_set1_pd(-0.0);
  const auto steps = [&](__m256d value, __m128 rounded) {
    const __m256d back = _mm256_cvtps_pd(rounded);
    const __m256d beyond = _mm256_cmp_pd(_mm256_andnot_pd(sign, back), _mm256_andnot_pd(sign, value), _CMP_GT_OQ);
    const __m256i step = _mm256_or_si256(_mm256_castpd_si256(beyond), _mm256_set1_epi64x(1));
    const __m256i lost = _mm256_castpd_si256(_mm256_cmp_pd(back, value, _CMP_NEQ_OQ));
    return _mm256_castsi256_ps(_mm256_and_si256(step, lost));
  };
  const __m256 low_steps = steps(low, _mm256_castps256_ps128(nearest));
  const __m256 high_steps = steps(high, _mm256_extractf128_ps(nearest, 1));
  constexpr int lower_halves = 0x88;
  const __m256i all = in_order(_mm256_castps_si256(_mm256_shuffle_ps(low_steps, high_steps, lower_halves)));
  const __m256i pattern = _mm256_castps_si256(nearest);
  const __m256i even = _mm256_sub_epi32(_mm256_and_si256(pattern, _mm256_set1_epi32(1)), _mm256_set1_epi32(1));
  return _mm256_castsi256_ps(_mm256_add_epi32(pattern, _mm256_and_si256(all, even)));
}

// 8 doubles as floats that round to 16 bits and fewer as the doubles do. The nearest float does that, unless it is a
// midpoint of the target, or one of its values: those have at most 11 of float's 23 digits. Only where the other 12 are
// all zero it has to be seen whether the double was on one side of it.
inline __m256 floats_for_narrow(const std::byte* from) noexcept {
  const __m256d low = load_doubles(from);
  const __m256d high = load_doubles(from + 32);
  const __m256 nearest = join(_mm256_cvtpd_ps(low), _mm256_cvtpd_ps(high));
  const __m256i digits = _mm256_and_si256(_mm256_castps_si256(nearest), _mm256_set1_epi32(0xFFF));
  const __m256i may_be_midpoint = _mm256_cmpeq_epi32(digits, _mm256_setzero_si256());
  return _mm256_movemask_epi8(may_be_midpoint) == 0 ? nearest : step_to_odd(low, high, nearest);
}

template <>
void decode_odd<convert::Float64>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                  std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) store_vector(wide + 4 * i, floats_for_narrow(elements + 8 * i));
  for (; i < n; ++i) store<float>(wide + 4 * i, convert::detail::to_odd(load<double>(elements + 8 * i)));
}

// --- int64, which AVX2 cannot convert: small ones as 32-bit integers, 16 at a time

struct Integers {
  __m256i parts[4];
};

inline Integers load_integers(const std::byte* from) noexcept {
  return {{load_vector(from), load_vector(from + 32), load_vector(from + 64), load_vector(from + 96)}};
}

// Whether all are in [-2^digits, 2^digits).
template <int digits>
inline bool are_small(const Integers& integers) noexcept {
  const __m256i lowest = _mm256_set1_epi64x(std::int64_t{1} << digits);
  __m256i beyond = _mm256_setzero_si256();
  for (const __m256i part : integers.parts) {
    beyond = _mm256_or_si256(beyond, _mm256_srli_epi64(_mm256_add_epi64(part, lowest), digits + 1));
  }
  return _mm256_testz_si256(beyond, beyond) != 0;
}

// The lower halves of 8, as float32: one rounding, if they are the values.
inline __m256 lower_halves_to_float(__m256i low, __m256i high) noexcept {
  constexpr int lower_halves = 0x88;
  const __m256 halves = _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), lower_halves);
  return _mm256_cvtepi32_ps(in_order(_mm256_castps_si256(halves)));
}

template <>
void encode<convert::Float32, std::int64_t, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                                   std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Integers integers = load_integers(wide + 8 * i);
    if (are_small<31>(integers)) {
      store_vector(elements + 4 * i, lower_halves_to_float(integers.parts[0], integers.parts[1]));
      store_vector(elements + 4 * i + 32, lower_halves_to_float(integers.parts[2], integers.parts[3]));
    } else {
      convert_rest<convert::Float32, Int64>(wide, elements, i, i + 16);
    }
  }
  convert_rest<convert::Float32, Int64>(wide, elements, i, n);
}

// 16 as floats that round to 16 bits and fewer as they do.
inline void floats_for_narrow(const std::byte* from, __m256& low, __m256& high) noexcept {
  const Integers integers = load_integers(from);
  if (are_small<24>(integers)) {  // exact
    low = lower_halves_to_float(integers.parts[0], integers.parts[1]);
    high = lower_halves_to_float(integers.parts[2], integers.parts[3]);
  } else {
    std::byte floats[16 * sizeof(float)];
    decode_odd<Int64>(from, floats, 16);
    low = load_floats(floats);
    high = load_floats(floats + 32);
  }
}

// 16 unsigned bytes, exactly. Both halves of a vector hold all of them, so that a shuffle within the halves spreads any
// of them out: half the instructions of widening them in order.
inline __m256i spread(__m256i bytes, const char (&first)[8]) noexcept {
  const auto at = [&](int i) { return static_cast<std::int32_t>(0x80808000U | static_cast<unsigned>(first[i])); };
  return _mm256_shuffle_epi8(bytes, _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
}
inline void bytes_to_float(const std::byte* from, __m256& low, __m256& high) noexcept {
  const __m256i bytes = _mm256_broadcastsi128_si256(load_half(from));
  low = _mm256_cvtepi32_ps(spread(bytes, {0, 1, 2, 3, 4, 5, 6, 7}));
  high = _mm256_cvtepi32_ps(spread(bytes, {8, 9, 10, 11, 12, 13, 14, 15}));
}

// --- float16: the processor's conversions differ from ours in NaN alone

inline __m256i to_float16(__m256 low, __m256 high) noexcept {
  constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  const __m256i halves =
      _mm256_inserti128_si256(_mm256_castsi128_si256(_mm256_cvtps_ph(low, nearest)), _mm256_cvtps_ph(high, nearest), 1);
  const __m256i magnitude = _mm256_set1_epi16(0x7FFF);  // also the canonical NaN
  const __m256i is_nan = _mm256_cmpgt_epi16(_mm256_and_si256(halves, magnitude), _mm256_set1_epi16(0x7C00));
  return _mm256_blendv_epi8(halves, magnitude, is_nan);
}

template <>
void decode_number<convert::Float16>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                     std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) store_vector(wide + 4 * i, canonical_nan(_mm256_cvtph_ps(load_half(elements + 2 * i))));
  for (; i < n; ++i) store<float>(wide + 4 * i, convert::Float16::decode(load<std::uint16_t>(elements + 2 * i)));
}

template <>
void encode<convert::Float16, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                            std::size_t n) noexcept {
  in_sixteens<convert::Float16, convert::Float32>(wide, elements, n, [](const std::byte* source, std::byte* target) {
    store_vector(target, to_float16(load_floats(source), load_floats(source + 32)));
  });
}

template <>
void convert_fused<convert::Float16, convert::Float64>(const std::byte* __restrict from, std::byte* __restrict to,
                                                       std::size_t n) noexcept {
  in_sixteens<convert::Float16, convert::Float64>(from, to, n, [](const std::byte* source, std::byte* target) {
    store_vector(target, to_float16(floats_for_narrow(source), floats_for_narrow(source + 64)));
  });
}

template <>
void convert_fused<convert::Float16, Int64>(const std::byte* __restrict from, std::byte* __restrict to,
                                            std::size_t n) noexcept {
  in_sixteens<convert::Float16, Int64>(from, to, n, [](const std::byte* source, std::byte* target) {
    __m256 low;
    __m256 high;
    floats_for_narrow(source, low, high);
    store_vector(target, to_float16(low, high));
  });
}

template <>
void convert_fused<convert::Float16, UInt8>(const std::byte* __restrict from, std::byte* __restrict to,
                                            std::size_t n) noexcept {
  in_sixteens<convert::Float16, UInt8>(from, to, n, [](const std::byte* source, std::byte* target) {
    __m256 low;
    __m256 high;
    bytes_to_float(source, low, high);
    constexpr int exact = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    store_vector(target, _mm256_inserti128_si256(_mm256_castsi128_si256(_mm256_cvtps_ph(low, exact)),
                                                 _mm256_cvtps_ph(high, exact), 1));
  });
}

// --- bfloat16

// bfloat16 in the upper halves of 32 bits. Rounding works on the pattern with its sign: a carry never reaches it but
// from NaN.
inline __m256i round_upper_halves(__m256 floats) noexcept {
  const __m256i pattern = _mm256_castps_si256(floats);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(pattern, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(_mm256_add_epi32(pattern, _mm256_set1_epi32(0x7FFF)), odd);
}
inline __m256i round_to_bfloat16(__m256 floats) noexcept { return _mm256_srli_epi32(round_upper_halves(floats), 16); }

inline __m256i to_bfloat16(__m256 low, __m256 high) noexcept {
  __m256i low_rounded = round_to_bfloat16(low);
  __m256i high_rounded = round_to_bfloat16(high);
  if (has_nan(low, high)) {
    const auto replaced = [](__m256i rounded, __m256 floats) {
      const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(floats, floats, _CMP_UNORD_Q));
      return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FFF), is_nan);
    };
    low_rounded = replaced(low_rounded, low);
    high_rounded = replaced(high_rounded, high);
  }
  return narrow(low_rounded, high_rounded);
}

// 16 bfloat16, already in the order for unpacking, to float32: 16 digits more, which only NaN has.
inline void store_widened(std::byte* to, __m256i bfloats, __m256i is_nan) noexcept {
  store_vector(to, _mm256_unpacklo_epi16(is_nan, bfloats));
  store_vector(to + 32, _mm256_unpackhi_epi16(is_nan, bfloats));
}

template <>
void decode_number<convert::BFloat16>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                      std::size_t n) noexcept {
  const __m256i magnitude = _mm256_set1_epi16(0x7FFF);
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i bfloats = in_order(load_vector(elements + 2 * i));
    const __m256i is_nan = _mm256_cmpgt_epi16(_mm256_and_si256(bfloats, magnitude), _mm256_set1_epi16(0x7F80));
    store_widened(wide + 4 * i, _mm256_blendv_epi8(bfloats, magnitude, is_nan), is_nan);
  }
  for (; i < n; ++i) store<float>(wide + 4 * i, convert::BFloat16::decode(load<std::uint16_t>(elements + 2 * i)));
}

template <>
void encode<convert::BFloat16, float, false>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                             std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    store_vector(elements + 2 * i, to_bfloat16(load_floats(wide + 4 * i), load_floats(wide + 4 * i + 32)));
  }
  convert_rest<convert::BFloat16, convert::Float32>(wide, elements, i, n);
}

template <>
void convert_fused<convert::BFloat16, convert::Float64>(const std::byte* __restrict from, std::byte* __restrict to,
                                                        std::size_t n) noexcept {
  in_sixteens<convert::BFloat16, convert::Float64>(from, to, n, [](const std::byte* source, std::byte* target) {
    store_vector(target, to_bfloat16(floats_for_narrow(source), floats_for_narrow(source + 64)));
  });
}

template <>
void convert_fused<convert::BFloat16, convert::Float16>(const std::byte* __restrict from, std::byte* __restrict to,
                                                        std::size_t n) noexcept {
  in_sixteens<convert::BFloat16, convert::Float16>(from, to, n, [](const std::byte* source, std::byte* target) {
    store_vector(target, to_bfloat16(_mm256_cvtph_ps(load_half(source)), _mm256_cvtph_ps(load_half(source + 16))));
  });
}

template <>
void convert_fused<convert::Float16, convert::BFloat16>(const std::byte* __restrict from, std::byte* __restrict to,
                                                        std::size_t n) noexcept {
  in_sixteens<convert::Float16, convert::BFloat16>(from, to, n, [](const std::byte* source, std::byte* target) {
    const __m256i bfloats = in_order(load_vector(source));
    const __m256i low = _mm256_unpacklo_epi16(_mm256_setzero_si256(), bfloats);
    const __m256i high = _mm256_unpackhi_epi16(_mm256_setzero_si256(), bfloats);
    store_vector(target, to_float16(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)));
  });
}

template <>
void convert_fused<convert::BFloat16, Int64>(const std::byte* __restrict from, std::byte* __restrict to,
                                             std::size_t n) noexcept {
  in_sixteens<convert::BFloat16, Int64>(from, to, n, [](const std::byte* source, std::byte* target) {
    __m256 low;
    __m256 high;
    floats_for_narrow(source, low, high);
    store_vector(target, to_bfloat16(low, high));
  });
}

// 8-bit integers are exact in bfloat16's 8 digits.
template <>
void convert_fused<convert::BFloat16, UInt8>(const std::byte* __restrict from, std::byte* __restrict to,
                                             std::size_t n) noexcept {
  in_sixteens<convert::BFloat16, UInt8>(from, to, n, [](const std::byte* source, std::byte* target) {
    __m256 low;
    __m256 high;
    bytes_to_float(source, low, high);
    store_vector(target, narrow(_mm256_srli_epi32(_mm256_castps_si256(low), 16),
                                _mm256_srli_epi32(_mm256_castps_si256(high), 16)));
  });
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
