// Steps from 64-bit elements in AVX2, where float32 on the way is one rounding too many: what avx2.h says of itself
// goes for this as well. Included by loops.h alone, after it.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// --- float64

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

// The digits that float does not have.
inline __m256i cut_digits() noexcept {
  return _mm256_set1_epi64x((1LL << (convert::Float64::mantissa_bits - convert::Float32::mantissa_bits)) - 1);
}
// Patterns without their last digits, the ones in `cut`, and the last one that is kept set where any of these was.
inline __m256i odd_without(__m256i patterns, __m256i cut) noexcept {
  const __m256i carried = _mm256_add_epi64(_mm256_and_si256(patterns, cut), cut);  // to the last digit that is kept
  return _mm256_andnot_si256(cut, _mm256_or_si256(patterns, carried));
}
// Doubles with the digits of float, rounded to odd. Their floats are exact, unless they are beyond its normal numbers.
// NaN stays NaN.
inline __m256d cut_to_odd(__m256d doubles) noexcept {
  return _mm256_castsi256_pd(odd_without(_mm256_castpd_si256(doubles), cut_digits()));
}
inline Floats cut_sixteen_to_odd(const std::byte* from) noexcept {
  const auto either = [](__m256d a, __m256d b) { return _mm256_castpd_si256(_mm256_or_pd(a, b)); };
  const __m256i any = _mm256_or_si256(either(load_doubles(from), load_doubles(from + 32)),
                                      either(load_doubles(from + 64), load_doubles(from + 96)));
  // Whole numbers and what was float32 before have nothing to cut.
  if (_mm256_testz_si256(any, cut_digits()) != 0) return sixteen_to_float(from, as_they_are);
  return sixteen_to_float(from, cut_to_odd);
}

// Whether the magnitude of any pattern, less `least`, is below `count`, as unsigned numbers.
inline bool has_magnitude(Floats floats, std::uint32_t least, std::uint32_t count) noexcept {
  const auto found = [&](__m256 some) {
    const __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(some), _mm256_set1_epi32(0x7FFFFFFF));
    const __m256i above = _mm256_sub_epi32(magnitude, _mm256_set1_epi32(static_cast<int>(least)));
    return _mm256_cmpeq_epi32(_mm256_min_epu32(above, _mm256_set1_epi32(static_cast<int>(count - 1))), above);
  };
  return _mm256_movemask_epi8(_mm256_or_si256(found(floats.low), found(floats.high))) != 0;
}
inline bool has_subnormal(Floats floats) noexcept { return has_magnitude(floats, 1, 0x7FFFFF); }
inline bool has_infinity(Floats floats) noexcept { return has_magnitude(floats, 0x7F800000, 1); }

// Whether any of 16 doubles, whose floats these are, is not zero and below the normal numbers of float: it may be zero
// as a float, or the smallest normal number.
inline bool has_tiny(const std::byte* from, Floats floats) noexcept {
  if (!has_magnitude(floats, 0, 0x00800001)) return false;
  const auto found = [](const std::byte* doubles) {
    const __m256d magnitude = _mm256_andnot_pd(_mm256_set1_pd(-0.0), load_doubles(doubles));
    return _mm256_and_pd(_mm256_cmp_pd(magnitude, _mm256_set1_pd(0x1p-126), _CMP_LT_OQ),
                         _mm256_cmp_pd(magnitude, _mm256_setzero_pd(), _CMP_NEQ_OQ));
  };
  return _mm256_movemask_pd(_mm256_or_pd(_mm256_or_pd(found(from), found(from + 32)),
                                         _mm256_or_pd(found(from + 64), found(from + 96)))) != 0;
}

// 16 doubles as the nearest floats, and whether those round to 16 bits and fewer as the doubles do. They do, unless one
// is a midpoint of the target, or one of its values: these have at most 11 of float's 23 digits. Only where the other
// 12 are all zero it has to be seen whether the double was on one side of it. NaN is left to the careful way as well.
struct Nearest {
  Floats floats;
  bool plain;  // neither a midpoint nor NaN among them

  explicit Nearest(const std::byte* from) noexcept : floats(sixteen_to_float(from, as_they_are)) {
    const __m256i digits = _mm256_set1_epi32(0xFFF);
    const __m256i least = _mm256_min_epu32(_mm256_and_si256(_mm256_castps_si256(floats.low), digits),
                                           _mm256_and_si256(_mm256_castps_si256(floats.high), digits));
    const __m256i may_be_midpoint = _mm256_cmpeq_epi32(least, _mm256_setzero_si256());
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(floats.low, floats.high, _CMP_UNORD_Q));
    plain = _mm256_movemask_epi8(_mm256_or_si256(may_be_midpoint, is_nan)) == 0;
  }

  // The floats rounded to odd where they are not exact, whatever the doubles are.
  [[nodiscard]] Floats to_odd(const std::byte* from) const noexcept {
    return {step_to_odd(load_doubles(from), load_doubles(from + 32), floats.low),
            step_to_odd(load_doubles(from + 64), load_doubles(from + 96), floats.high)};
  }
};

// Data are rarely mixed: where the fast way has failed for some elements, it is not tried for the next ones. 1 Mi whole
// numbers to float16 and bfloat16 took 3.4 and 3.0 times torch's time when each step tried it and then
// step_to_odd(), 1.2 and 1.5 times this way (2-core AMD EPYC Milan virtual machine, 2026-11-26).
class Caution {
 public:
  [[nodiscard]] bool holds() noexcept {
    if (steps_ == 0) return false;
    --steps_;
    return true;
  }
  void rise() noexcept { steps_ = 16; }

 private:
  unsigned steps_ = 0;
};

// 64-bit elements as floats that round to 16 bits and fewer as they do: `near(from)` makes them of 16.
template <class Element, class Near>
inline void decode_sixteens(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n,
                            const Near& near) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Floats floats = near(elements + 8 * i);
    store_vector(wide + 4 * i, floats.low);
    store_vector(wide + 4 * i + 32, floats.high);
  }
  for (; i < n; ++i) store<float>(wide + 4 * i, convert::detail::to_odd(load<Element>(elements + 8 * i)));
}

template <>
void decode_odd<convert::Float64>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                  std::size_t n) noexcept {
  Caution caution;
  const auto careful = [](const std::byte* from) {
    const Floats odd = cut_sixteen_to_odd(from);
    return has_tiny(from, odd) || has_infinity(odd) ? Nearest(from).to_odd(from) : odd;
  };
  const auto near = [&](const std::byte* from) {
    if (caution.holds()) return careful(from);
    const Nearest nearest(from);
    if (nearest.plain) return nearest.floats;
    caution.rise();
    return careful(from);
  };
  decode_sixteens<double>(elements, wide, n, near);
}

template <>
struct Step<convert::Float16, convert::Float64> {
  static constexpr std::size_t width = 16;
  OneVector of(const std::byte* from) noexcept {
    if (!caution.holds()) {
      const Nearest nearest(from);
      if (nearest.plain) return one(numbers_to_float16(nearest.floats));
      caution.rise();
    }
    // What is beyond float's normal numbers is beyond float16's as well.
    return one(to_float16(cut_sixteen_to_odd(from)));
  }
  Caution caution;
};

template <>
struct Step<convert::BFloat16, convert::Float64> {
  static constexpr std::size_t width = 16;
  OneVector of(const std::byte* from) noexcept {
    if (!caution.holds()) {
      const Nearest nearest(from);
      if (nearest.plain) {
        return one(narrow(round_to_bfloat16_off_midpoints(nearest.floats.low),
                          round_to_bfloat16_off_midpoints(nearest.floats.high)));
      }
      caution.rise();
    }
    // Below the subnormal floats, bfloat16 is zero as they are; just below the normal ones, it is normal.
    const Floats odd = cut_sixteen_to_odd(from);
    return one(numbers_or_nan_to_bfloat16(has_subnormal(odd) ? Nearest(from).to_odd(from) : odd));
  }
  Caution caution;
};

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

// The lower halves, as float32: one rounding, if they are the values.
inline Floats lower_halves_to_float(const Integers& integers) noexcept {
  const auto eight = [](__m256i low, __m256i high) {
    constexpr int lower_halves = 0x88;
    const __m256 halves = _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), lower_halves);
    return _mm256_cvtepi32_ps(in_order(_mm256_castps_si256(halves)));
  };
  return {eight(integers.parts[0], integers.parts[1]), eight(integers.parts[2], integers.parts[3])};
}

// Of any size, as convert::detail::to_odd_double makes doubles of them.
inline __m256d integers_to_odd(__m256i integers) noexcept {
  // 1. Large ones to odd at the 12th bit: both halves of what follows are then exact, and their sum is.
  const __m256i two_53 = _mm256_set1_epi64x(1LL << 53);
  const __m256i cut = _mm256_set1_epi64x((1LL << 11) - 1);
  const __m256i is_small =
      _mm256_cmpeq_epi64(_mm256_srli_epi64(_mm256_add_epi64(integers, two_53), 54), _mm256_setzero_si256());
  const __m256i kept = _mm256_blendv_epi8(odd_without(integers, cut), integers, is_small);
  // 2. Halves as digits of powers of two, which are then taken away. To the upper one, whose sign is turned round to be
  // a digit, that of the lower half is added beforehand.
  constexpr double upper_power = 0x1p84 + 0x1p63;
  constexpr double lower_power = 0x1p52;
  constexpr int lower_halves = 0x55;
  const __m256i upper = _mm256_xor_si256(_mm256_srli_epi64(kept, 32), _mm256_castpd_si256(_mm256_set1_pd(upper_power)));
  const __m256i lower = _mm256_blend_epi32(_mm256_castpd_si256(_mm256_set1_pd(lower_power)), kept, lower_halves);
  const __m256d rest = _mm256_sub_pd(_mm256_castsi256_pd(upper), _mm256_set1_pd(upper_power + lower_power));
  return _mm256_add_pd(rest, _mm256_castsi256_pd(lower));
}
// Their floats, rounded on the way by `rounded`.
template <class Rounded>
inline Floats integers_to_float(const Integers& integers, const Rounded& rounded) noexcept {
  const auto four = [&](std::size_t i) { return _mm256_cvtpd_ps(rounded(integers_to_odd(integers.parts[i]))); };
  return {join(four(0), four(1)), join(four(2), four(3))};
}

template <>
struct Step<convert::Float32, Int64> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept {
    const Integers integers = load_integers(from);
    if (are_small<31>(integers)) return two(lower_halves_to_float(integers));
    // To odd with more digits than float and one to spare, then to nearest: one rounding.
    return two(integers_to_float(integers, as_they_are));
  }
};

template <>
inline Floats floats_of<Int64>(const std::byte* from) noexcept {
  const Integers integers = load_integers(from);
  if (are_small<24>(integers)) return lower_halves_to_float(integers);  // exact
  return integers_to_float(integers, cut_to_odd);
}

template <>
void decode_odd<Int64>(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n) noexcept {
  decode_sixteens<std::int64_t>(elements, wide, n, floats_of<Int64>);
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
