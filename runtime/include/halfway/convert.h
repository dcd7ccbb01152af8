// The scalar conversions: the one place where numbers change their format, for host loops and device kernels alike.
//
// Every castable dtype has an element type here (`Boolean`, `Integer<std::int16_t>`, `BFloat16`, ...). It decodes its
// bit patterns exactly into one of four wide types
//
//   float          float16, bfloat16, float32, fp8; integers of up to 16 bits and bool, where the target is a float
//   double         float64; integers of 32 bits, where the target is a float
//   std::int64_t   signed integers
//   std::uint64_t  unsigned integers and bool
//
// and encodes a value of any wide type with one rounding, to nearest even. Since decoding loses nothing, encoding after
// decoding is one rounding from the source, for all pairs, without code for any pair:
//
//   namespace c = halfway::convert;
//   const auto [bits, flags] = c::convert<c::BFloat16, c::Float64>(source_bits, /*saturate=*/false);
//
// Encoding also says what was lost, as `Flags`; a caller that ignores them pays nothing for them once this is inlined.
// Complex numbers are pairs of elements; `dropped_imaginary` speaks of the part that a real target cannot hold.
//
// Form: no branches, no tables, no shifts by variable amounts, no conversion of 64-bit integers by the processor: what
// is written here is what a compiler can turn into vector code on every instruction set, the oldest included.
//
// Environment: the float arithmetic needs the default mode (to nearest, subnormals kept), which cast() sets and
// restores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "halfway/dtype.h"

#if defined(__CUDACC__)
#define HALFWAY_HD __host__ __device__
#else
#define HALFWAY_HD
#endif

namespace halfway {
inline namespace v0 {
// Sources that are compiled for one instruction set define this, so that nothing here is shared with the others: the
// linker would keep one copy of an inline function for the whole program, whatever instructions it is made of.
#if defined(HALFWAY_CONVERT_INTERNAL)
namespace {  // NOLINT(google-build-namespaces,cert-dcl59-cpp)
#endif
namespace convert {

// What a conversion met or lost, as a set of bits. The words are those of `Report` in cast.h. Each has a byte of its
// own, so that the sum of up to 127 sets holds the four counts side by side.
using Flags = std::uint32_t;
inline constexpr Flags saw_nan = 1U << 0;   // the source is NaN
inline constexpr Flags overflow = 1U << 8;  // finite in, its rounding with unbounded exponent exceeds the finite range
inline constexpr Flags underflow = 1U << 16;    // nonzero in, zero out; always together with `inexact`
inline constexpr Flags inexact = 1U << 24;      // a finite value changed without overflow; an infinity without an image
inline constexpr Flags nan_dropped = 1U << 31;  // a NaN without an image: into an integer or bool, or an imaginary part
                                                // dropped; always together with `saw_nan`
inline constexpr Flags counted = saw_nan | overflow | underflow | inexact;

template <class Bits>
struct Encoded {
  Bits bits;
  Flags flags;
};

namespace detail {

template <class To, class From>
HALFWAY_HD constexpr To bit_cast(const From& from) noexcept {
  return __builtin_bit_cast(To, from);
}

// All ones if `condition`: for choices that a compiler would rather make by a branch.
HALFWAY_HD constexpr std::uint64_t mask(bool condition) noexcept { return 0 - static_cast<std::uint64_t>(condition); }

// `flag` if `condition`. Flags are formed without a branch, so that loops that ignore them keep nothing of them, and
// loops that want them can be vectorised.
HALFWAY_HD constexpr Flags when(bool condition, Flags flag) noexcept { return condition ? flag : Flags{0}; }

// a > b, for patterns without their top bit: as signed integers, which is the comparison that all vector units have.
HALFWAY_HD constexpr bool is_greater(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::int32_t>(a) > static_cast<std::int32_t>(b);
}
HALFWAY_HD constexpr bool is_greater(std::uint64_t a, std::uint64_t b) noexcept {
  return static_cast<std::int64_t>(a) > static_cast<std::int64_t>(b);
}

// The fields of the two wide float types.
template <class W>
struct WideFields;
template <>
struct WideFields<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa_bits = 23;
  static constexpr int bias = 127;
};
template <>
struct WideFields<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa_bits = 52;
  static constexpr int bias = 1023;
};

template <class W>
struct Wide : WideFields<W> {
  using typename WideFields<W>::Bits;
  using WideFields<W>::mantissa_bits;
  using WideFields<W>::bias;
  static constexpr Bits hidden = Bits{1} << mantissa_bits;  // also the smallest normal value
  static constexpr Bits fraction = hidden - 1;
  static constexpr Bits sign = Bits{1} << (sizeof(Bits) * 8 - 1);
  static constexpr Bits infinity = (2 * static_cast<Bits>(bias) + 1) << mantissa_bits;
  static constexpr Bits one = static_cast<Bits>(bias) << mantissa_bits;
};

template <class W>
HALFWAY_HD constexpr typename Wide<W>::Bits bits_of(W value) noexcept {
  return bit_cast<typename Wide<W>::Bits>(value);
}

template <class W>
HALFWAY_HD constexpr typename Wide<W>::Bits magnitude_bits(W value) noexcept {
  return bits_of(value) & ~Wide<W>::sign;
}

// 2^exponent, a normal number.
HALFWAY_HD constexpr float power_of_two(int exponent) noexcept {
  return bit_cast<float>(static_cast<std::uint32_t>(exponent + Wide<float>::bias) << Wide<float>::mantissa_bits);
}

// 64-bit integers to double, in halves: below 2^52, an integer written into the mantissa of 2^52 is that number plus
// 2^52, and the same goes for the upper half and 2^84. Both halves are exact, so that their sum is the one rounding.
struct Halves {
  double high;
  double low;
};

template <class I>
HALFWAY_HD constexpr Halves halves(I value) noexcept {
  constexpr std::uint64_t two_52 = 0x4330000000000000;
  constexpr std::uint64_t two_84 = 0x4530000000000000;
  constexpr std::uint64_t top = std::is_signed_v<I> ? 0x80000000 : 0;  // signed: counted from the lowest
  constexpr double offset = 19342813113834066795298816.0 + (std::is_signed_v<I> ? 9223372036854775808.0 : 0.0);  // 2^84
  const auto pattern = static_cast<std::uint64_t>(value);
  return {bit_cast<double>(((pattern >> 32) ^ top) | two_84) - offset,
          bit_cast<double>((pattern & 0xFFFFFFFF) | two_52) - 4503599627370496.0};
}

// Rounding to odd: a value that is not representable becomes the neighbour whose last bit is 1. A second rounding, to
// a format with at least two bits less, then gives what one rounding of the value would have given, since the last
// bit remembers on which side of every midpoint the value was (Boldo and Melquiond, "Emulation of FMA and correctly
// rounded sums: proved algorithms using rounding to odd", 2008). Nothing overflows or becomes zero by it. NaN stays
// NaN.
HALFWAY_HD constexpr float to_odd(double value) noexcept {
  const auto nearest = static_cast<float>(value);
  const auto back = static_cast<double>(nearest);
  const auto pattern = bits_of(nearest);
  const std::uint64_t step = mask(is_greater(magnitude_bits(back), magnitude_bits(value))) | 1;  // -1 or 1
  const std::uint64_t lost = mask(bits_of(back) != bits_of(value)) & step;
  const std::uint32_t even = (pattern & 1) - 1;  // all ones if the last bit is 0
  return bit_cast<float>(pattern + (static_cast<std::uint32_t>(lost) & even));
}

// To odd at the 12th bit: exact below 2^53, and of 42 bits or more above, so that the double is exact as well.
template <class I>
requires std::is_integral_v<I> HALFWAY_HD constexpr double to_odd_double(I value) noexcept {
  constexpr std::uint64_t two_53 = std::uint64_t{1} << 53;
  constexpr std::uint64_t unit = std::uint64_t{1} << 11;
  const auto pattern = static_cast<std::uint64_t>(value);
  const bool is_small = (std::is_signed_v<I> ? (pattern + two_53) >> 54 : pattern >> 53) == 0;
  const std::uint64_t sticky = (pattern & (unit - 1)) != 0 ? unit : 0;
  const std::uint64_t kept = is_small ? pattern : (pattern & ~(unit - 1)) | sticky;
  const Halves parts = halves(static_cast<I>(kept));
  return parts.high + parts.low;
}

HALFWAY_HD constexpr float to_odd(std::int64_t value) noexcept { return to_odd(to_odd_double(value)); }
HALFWAY_HD constexpr float to_odd(std::uint64_t value) noexcept { return to_odd(to_odd_double(value)); }

template <int bits>
using UnsignedOf = std::conditional_t<
    (bits <= 8), std::uint8_t,
    std::conditional_t<(bits <= 16), std::uint16_t, std::conditional_t<(bits <= 32), std::uint32_t, std::uint64_t>>>;

}  // namespace detail

// bool: one byte, any value but 0 is true when read; 0 or 1 is written. NaN is true.
struct Boolean {
  using Bits = std::uint8_t;
  using Wide = std::uint64_t;
  static constexpr DType dtype = boolean;

  HALFWAY_HD static constexpr Wide decode(Bits bits) noexcept { return bits != 0 ? 1 : 0; }
  HALFWAY_HD static constexpr float decode_number(Bits bits) noexcept { return bits != 0 ? 1.0F : 0.0F; }

  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode(W value, bool /*saturate*/) noexcept {
    if constexpr (std::is_floating_point_v<W>) {
      const auto magnitude = detail::magnitude_bits(value);
      const bool kept = magnitude == 0 || detail::bits_of(value) == detail::Wide<W>::one;
      const bool is_nan = magnitude > detail::Wide<W>::infinity;
      const Flags flags = detail::when(is_nan, saw_nan | nan_dropped) | detail::when(!is_nan & !kept, inexact);
      return {static_cast<Bits>(magnitude != 0), flags};
    } else {
      return {static_cast<Bits>(value != 0), value != 0 && value != 1 ? inexact : Flags{0}};
    }
  }
};

// Integers of 8 to 64 bits. Integers wrap or, when asked to, saturate; floats are truncated and always saturate (NaN:
// 0).
template <class I>
struct Integer {
  using Bits = I;
  using Wide = std::conditional_t<std::is_signed_v<I>, std::int64_t, std::uint64_t>;
  static constexpr DType dtype{std::is_signed_v<I> ? TypeCode::int_ : TypeCode::uint, static_cast<int>(sizeof(I) * 8)};
  static constexpr I lowest = std::numeric_limits<I>::min();
  static constexpr I highest = std::numeric_limits<I>::max();

  HALFWAY_HD static constexpr Wide decode(Bits bits) noexcept { return bits; }
  HALFWAY_HD static constexpr auto decode_number(Bits bits) noexcept {
    if constexpr (sizeof(I) < 4) {
      return static_cast<float>(static_cast<std::int32_t>(bits));
    } else if constexpr (sizeof(I) == 4) {
      return static_cast<double>(bits);
    } else {
      return Wide{bits};
    }
  }

  HALFWAY_HD static constexpr Encoded<Bits> encode(std::int64_t value, bool saturate) noexcept {
    bool fits = value >= 0;
    if constexpr (std::is_signed_v<I>) {
      fits = value >= lowest && value <= highest;
    } else {
      fits = value >= 0 && static_cast<std::uint64_t>(value) <= highest;
    }
    return from_integer(static_cast<I>(value), fits, value < 0, saturate);
  }

  HALFWAY_HD static constexpr Encoded<Bits> encode(std::uint64_t value, bool saturate) noexcept {
    return from_integer(static_cast<I>(value), value <= static_cast<std::uint64_t>(highest), false, saturate);
  }

  template <class W>
  requires std::is_floating_point_v<W> HALFWAY_HD static constexpr Encoded<Bits> encode(W value,
                                                                                        bool /*saturate*/) noexcept {
    // 1. Truncate into a wider integer, where the value is known to fit: the comparisons are with powers of two (and
    //    -1), which every wide type holds. NaN fails them all. 32 bits are wide enough for targets of 8 and 16, and
    //    vector units have that conversion.
    using Truncated = std::conditional_t<(sizeof(I) < 4 || std::is_same_v<I, std::int32_t>), std::int32_t,
                                         std::conditional_t<sizeof(I) < 8, std::int64_t, I>>;
    constexpr W half_range = static_cast<W>(std::uint64_t{1} << (sizeof(Truncated) * 8 - 1));
    bool fits = false;
    if constexpr (std::is_signed_v<Truncated>) {
      fits = (value >= -half_range) & (value < half_range);
      if constexpr (sizeof(W) == 8 && sizeof(Truncated) == 4) fits = (value > -half_range - 1) & (value < half_range);
    } else {
      fits = (value > W{-1}) & (value < 2 * half_range);
    }
    const auto truncated = static_cast<Truncated>(fits ? value : W{0});
    // 2. The target's own range, in integers.
    if constexpr (sizeof(I) < sizeof(Truncated)) fits = fits & (truncated >= lowest) & (truncated <= highest);
    // 3. What does not fit saturates; NaN becomes 0. `truncated` is exact in W: it has no more digits than the value.
    const auto magnitude = detail::magnitude_bits(value);
    const bool is_nan = magnitude > detail::Wide<W>::infinity;
    const bool is_infinite = magnitude == detail::Wide<W>::infinity;
    const I clamped = is_nan ? I{0} : value < 0 ? lowest : highest;
    const bool changed = static_cast<W>(truncated) != value;
    const Flags flags = detail::when(fits & changed, inexact) |
                        detail::when(fits & changed & (truncated == 0), underflow) |
                        detail::when(is_nan, saw_nan | nan_dropped) | detail::when(is_infinite, inexact) |
                        detail::when(!fits & !is_nan & !is_infinite, overflow);
    return {fits ? static_cast<I>(truncated) : clamped, flags};
  }

 private:
  HALFWAY_HD static constexpr Encoded<Bits> from_integer(I wrapped, bool fits, bool negative, bool saturate) noexcept {
    const I clamped = negative ? lowest : highest;
    return {fits || !saturate ? wrapped : clamped, fits ? Flags{0} : overflow};
  }
};

// Binary floats, from the format's row in dtype.h.
template <const FloatFormat& format, TypeCode code>
struct Float {
  static constexpr int bits = format.bits();
  static constexpr int mantissa_bits = format.mantissa_bits;
  static constexpr int bias = format.bias;
  static constexpr bool has_sign = format.has_sign;
  static constexpr bool has_infinity = format.has_infinity;
  static constexpr bool has_negative_zero = format.has_negative_zero;

  using Bits = detail::UnsignedOf<bits>;
  using Wide = std::conditional_t<bits == 64, double, float>;
  static constexpr DType dtype{code, bits};

  static constexpr Bits max_finite = static_cast<Bits>(format.max_finite);
  static constexpr Bits canonical_nan = static_cast<Bits>(format.canonical_nan);

  // NaN becomes a NaN of the wide type; out of 16 bits or fewer its canonical one, so that decoding alone is the cast
  // to float32.
  HALFWAY_HD static constexpr Wide decode(Bits pattern) noexcept {
    if constexpr (bits >= 32) {
      return detail::bit_cast<Wide>(pattern);
    } else if constexpr (!format_has_zero) {
      return decode_power(pattern);
    } else {
      return decode_narrow(pattern);
    }
  }

  HALFWAY_HD static constexpr Wide decode_number(Bits pattern) noexcept { return decode(pattern); }

  // Whether a finite number within the range is not representable: what `inexact` of encode() says of those, alone.
  template <class W>
  requires std::is_floating_point_v<W> HALFWAY_HD static constexpr bool changes(W value) noexcept {
    if constexpr (bits >= 32) {
      return static_cast<W>(static_cast<Wide>(value)) != value;
    } else if constexpr (format_has_zero) {
      return round_narrow(detail::magnitude_bits(value)).changed;
    } else {
      return (encode_power(value, false).flags & inexact) != 0;
    }
  }

  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode(W value, bool saturate) noexcept {
    if constexpr (bits >= 32) {
      return encode_hardware(value, saturate);
    } else if constexpr (!std::is_same_v<W, float>) {
      // The narrow formats have less than float's 24 bits by two and more, at every exponent that they have: to odd
      // in between is one rounding. What was lost on the way is still lost: odd is never exact.
      return encode(detail::to_odd(value), saturate);
    } else if constexpr (!format_has_zero) {
      return encode_power(value, saturate);
    } else {
      return encode_narrow(value, saturate);
    }
  }

 private:
  using Single = detail::Wide<float>;
  static constexpr auto float_nan = static_cast<std::uint32_t>(formats::float32.canonical_nan);
  static constexpr bool format_has_zero = format.has_zero();
  static constexpr int min_exponent = format.min_exponent();
  static constexpr Bits sign = format.has_sign ? static_cast<Bits>(std::uint64_t{1} << (bits - 1)) : Bits{0};
  static constexpr Bits largest_number = has_infinity ? static_cast<Bits>(max_finite + 1) : max_finite;
  static constexpr std::uint32_t hidden = std::uint32_t{1}
                                          << (mantissa_bits < 24 ? mantissa_bits : 0);  // narrow formats

  // 16 bits or fewer, into float.
  HALFWAY_HD static constexpr float decode_narrow(Bits pattern) noexcept {
    const auto magnitude = static_cast<std::uint32_t>(pattern & static_cast<Bits>(~sign));
    constexpr int shift = Single::mantissa_bits - mantissa_bits;
    bool is_nan = detail::is_greater(magnitude, largest_number);
    if constexpr (!has_negative_zero) is_nan = pattern == sign;  // the "uz" formats: NaN is where -0 would be
    // 1. With float's own bias (bfloat16) a number is float's with fewer digits.
    if constexpr (bias == Single::bias) {
      const std::uint32_t number = static_cast<std::uint32_t>(pattern) << shift;
      return detail::bit_cast<float>(is_nan ? std::uint32_t{float_nan} : number);
    } else {
      // 2. Normal numbers: shift the mantissa to its place (the exponent goes with it) and correct the exponent by the
      //    difference of the biases.
      constexpr auto rebias = static_cast<std::uint32_t>(Single::bias - bias) << Single::mantissa_bits;
      const std::uint32_t normal = (magnitude << shift) + rebias;
      // 3. Subnormal numbers: mantissa * 2^min_subnormal. Both factors and the product are normal floats or zero, and
      //    the product is exact.
      constexpr float unit = detail::power_of_two(min_exponent - mantissa_bits);
      const std::uint32_t subnormal = detail::bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * unit);
      const std::uint32_t finite = detail::is_greater(hidden, magnitude) ? subnormal : normal;
      // 4. Infinity and NaN are the patterns above the finite ones.
      const bool is_infinite = has_infinity & (magnitude == largest_number);
      const std::uint32_t sign_out = (static_cast<std::uint32_t>(pattern) & sign) << (32 - bits);
      const std::uint32_t number = (is_infinite ? Single::infinity : finite) | sign_out;
      return detail::bit_cast<float>(is_nan ? std::uint32_t{float_nan} : number);
    }
  }

  // e8m0: the pattern e is 2^(e - 127). It is float's exponent field alone; only 2^-127 is subnormal there.
  HALFWAY_HD static constexpr float decode_power(Bits pattern) noexcept {
    const std::uint32_t power =
        pattern == 0 ? Single::hidden >> 1 : static_cast<std::uint32_t>(pattern) << Single::mantissa_bits;
    return detail::bit_cast<float>(pattern == canonical_nan ? std::uint32_t{float_nan} : power);
  }

  struct Rounded {
    std::uint32_t pattern;  // counted on from the finite ones as if the exponent had no end
    bool changed;
  };

  // The magnitude of a float, rounded to 16 bits or fewer. Infinity and NaN come out beyond the finite patterns.
  HALFWAY_HD static constexpr Rounded round_narrow(std::uint32_t magnitude) noexcept {
    // 1. Normal numbers of the target: correct the exponent by the difference of the biases, then drop the mantissa's
    //    lower bits, to nearest even: adding just under half a unit carries into the kept bits when the dropped ones
    //    are more than half; adding the lowest kept bit as well makes exactly half carry when that bit is odd. A
    //    carry out of the mantissa raises the exponent, as it should.
    constexpr int shift = Single::mantissa_bits - mantissa_bits;
    constexpr std::uint32_t unit = std::uint32_t{1} << shift;
    constexpr auto rebias = static_cast<std::uint32_t>(Single::bias - bias) << Single::mantissa_bits;
    const std::uint32_t odd = (magnitude >> shift) & 1;
    const std::uint32_t normal = (magnitude - rebias + (unit / 2 - 1) + odd) >> shift;
    const bool normal_changed = (magnitude & (unit - 1)) != 0;
    if constexpr (bias == Single::bias) {
      return {normal, normal_changed};  // bfloat16: the fields already stand for the same number, subnormals too
    } else {
      // 2. Subnormal numbers of the target: added to a number whose last bit has the weight of the target's last bit,
      //    the value is rounded there by the addition itself. The largest of them may round up to the smallest normal
      //    number, whose pattern is the next one.
      constexpr float anchor = detail::power_of_two(min_exponent - mantissa_bits + Single::mantissa_bits);
      constexpr std::uint32_t smallest_normal = detail::bits_of(detail::power_of_two(min_exponent));
      const auto absolute = detail::bit_cast<float>(magnitude);
      const float sum = absolute + anchor;
      const bool is_subnormal = detail::is_greater(smallest_normal, magnitude);
      return {is_subnormal ? detail::bits_of(sum) - detail::bits_of(anchor) : normal,
              ((is_subnormal & (sum - anchor != absolute)) | (!is_subnormal & normal_changed)) != 0};
    }
  }

  // float into 16 bits or fewer.
  HALFWAY_HD static constexpr Encoded<Bits> encode_narrow(float value, bool saturate) noexcept {
    const std::uint32_t pattern = detail::bits_of(value);
    const std::uint32_t magnitude = pattern & ~Single::sign;
    const auto [code_out, changed] = round_narrow(magnitude);
    // 1. Patterns grow with the magnitude, so that "beyond the finite range" is one comparison, for infinity as well,
    //    and clamping is a minimum.
    const bool is_nan = detail::is_greater(magnitude, Single::infinity);
    const bool is_infinite = magnitude == Single::infinity;
    const bool beyond = detail::is_greater(code_out, max_finite);
    const std::uint32_t limit = saturate ? std::uint32_t{max_finite} : std::uint32_t{largest_number};
    const std::uint32_t number = code_out < limit ? code_out : limit;
    std::uint32_t sign_out = (pattern >> (32 - bits)) & sign;
    if constexpr (!has_negative_zero) sign_out = number == 0 ? 0 : sign_out;
    const bool becomes_nan = (is_nan | (!has_infinity & beyond & !saturate)) != 0;
    // 2. What was lost.
    const bool is_finite = detail::is_greater(Single::infinity, magnitude);
    const bool lost_infinity = is_infinite & (saturate | !has_infinity);
    const Flags flags = detail::when(is_nan, saw_nan) | detail::when(is_finite & beyond, overflow) |
                        detail::when((is_finite & changed & !beyond) | lost_infinity, inexact) |
                        detail::when(changed & (code_out == 0), underflow);
    return {static_cast<Bits>(becomes_nan ? std::uint32_t{canonical_nan} : number | sign_out), flags};
  }

  // Into float32 and float64: the hardware rounds once, to nearest even, in the default mode.
  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode_hardware(W value, bool saturate) noexcept {
    using To = detail::Wide<Wide>;
    if constexpr (std::is_floating_point_v<W>) {
      using From = detail::Wide<W>;
      const auto converted = static_cast<Wide>(value);
      const Bits pattern = detail::bits_of(converted);
      const auto magnitude = detail::magnitude_bits(value);
      const bool is_nan = detail::is_greater(magnitude, From::infinity);
      const bool is_infinite = magnitude == From::infinity;
      const bool beyond = (pattern & ~To::sign) == To::infinity;
      const Bits clamped = static_cast<Bits>(max_finite | (pattern & sign));
      const bool is_number = value == value;  // NOLINT(misc-redundant-expression): false for NaN
      const Bits number = (beyond & saturate) ? clamped : pattern;
      Flags flags = detail::when(is_nan, saw_nan) | detail::when(is_infinite & saturate, inexact);
      if constexpr (sizeof(W) > sizeof(Wide)) {
        const bool is_finite = detail::is_greater(From::infinity, magnitude);
        const bool changed = detail::bits_of(static_cast<W>(converted)) != detail::bits_of(value);
        const bool is_zero = (pattern & ~To::sign) == 0;
        flags |= detail::when(is_finite & beyond, overflow) | detail::when(is_finite & changed & !beyond, inexact) |
                 detail::when(changed & is_zero, underflow);
      }
      return {is_number ? number : canonical_nan, flags};
    } else if constexpr (bits == 32) {
      const double exact = detail::to_odd_double(value);
      const auto converted = static_cast<float>(exact);
      const bool changed = static_cast<double>(converted) != exact;
      return {detail::bits_of(converted), detail::when(changed, inexact)};
    } else {
      // The sum's error is itself a double (Dekker's Fast2Sum: the upper half is larger, or zero).
      const detail::Halves parts = detail::halves(value);
      const double sum = parts.high + parts.low;
      const bool changed = parts.low - (sum - parts.high) != 0;
      return {detail::bits_of(sum), detail::when(changed, inexact)};
    }
  }

  // float into e8m0, which holds powers of two alone: zero and negative values become NaN, ties go up (there is no
  // even mantissa to go to), and what is below its smallest power becomes that.
  HALFWAY_HD static constexpr Encoded<Bits> encode_power(float value, bool saturate) noexcept {
    static_assert(format_has_zero || bias == Single::bias);
    const std::uint32_t pattern = detail::bits_of(value);
    const std::uint32_t magnitude = pattern & ~Single::sign;
    // 1. Adding half of the hidden bit carries into the exponent field from 1.5 on, which is the midpoint. This holds
    //    from 1.5 * 2^-127 on, which in float is subnormal; all below it is 2^-127.
    constexpr std::uint32_t smallest = Single::hidden >> 1;
    constexpr std::uint32_t midpoint = smallest + (smallest >> 1);
    const std::uint32_t exponent = (magnitude + (Single::hidden >> 1)) >> Single::mantissa_bits;
    const std::uint32_t code_out = detail::is_greater(midpoint, magnitude) ? 0 : exponent;
    // 2. Exact is what the pattern found stands for.
    const std::uint32_t power = code_out == 0 ? smallest : code_out << Single::mantissa_bits;
    const bool is_nan = detail::is_greater(magnitude, Single::infinity);
    const bool is_infinite = magnitude == Single::infinity;
    const bool has_image = (pattern == magnitude) & (magnitude != 0);  // positive
    const bool beyond = detail::is_greater(code_out, max_finite);
    const std::uint32_t limit = saturate ? std::uint32_t{max_finite} : std::uint32_t{canonical_nan};
    const std::uint32_t image = beyond ? limit : code_out;
    const bool overflows = has_image & beyond & !is_infinite;
    const bool changed = !has_image | is_infinite | (power != magnitude);
    const Flags flags = detail::when(is_nan, saw_nan) | detail::when(!is_nan & overflows, overflow) |
                        detail::when(!is_nan & !overflows & changed, inexact);
    return {static_cast<Bits>((is_nan | !has_image) ? std::uint32_t{canonical_nan} : image), flags};
  }
};

using Float16 = Float<formats::float16, TypeCode::float_>;
using BFloat16 = Float<formats::bfloat16, TypeCode::bfloat>;
using Float32 = Float<formats::float32, TypeCode::float_>;
using Float64 = Float<formats::float64, TypeCode::float_>;
using Float8E3M4 = Float<formats::float8_e3m4, TypeCode::float8_e3m4>;
using Float8E4M3 = Float<formats::float8_e4m3, TypeCode::float8_e4m3>;
using Float8E4M3B11FNUZ = Float<formats::float8_e4m3b11fnuz, TypeCode::float8_e4m3b11fnuz>;
using Float8E4M3FN = Float<formats::float8_e4m3fn, TypeCode::float8_e4m3fn>;
using Float8E4M3FNUZ = Float<formats::float8_e4m3fnuz, TypeCode::float8_e4m3fnuz>;
using Float8E5M2 = Float<formats::float8_e5m2, TypeCode::float8_e5m2>;
using Float8E5M2FNUZ = Float<formats::float8_e5m2fnuz, TypeCode::float8_e5m2fnuz>;
using Float8E8M0FNU = Float<formats::float8_e8m0fnu, TypeCode::float8_e8m0fnu>;

// Every element type. Tables of loops are made from this list.
template <class... E>
struct List {
  static constexpr std::size_t size = sizeof...(E);
};
using Elements = List<Boolean, Integer<std::int8_t>, Integer<std::int16_t>, Integer<std::int32_t>,
                      Integer<std::int64_t>, Integer<std::uint8_t>, Integer<std::uint16_t>, Integer<std::uint32_t>,
                      Integer<std::uint64_t>, Float16, BFloat16, Float32, Float64, Float8E3M4, Float8E4M3,
                      Float8E4M3B11FNUZ, Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0FNU>;

// Whether an element type is a float: its sources are then decoded as numbers, by `decode_number`.
template <class E>
inline constexpr bool is_float = std::is_floating_point_v<typename E::Wide>;

// One element of type From to type To, rounded once.
template <class To, class From>
HALFWAY_HD constexpr Encoded<typename To::Bits> convert(typename From::Bits bits, bool saturate) noexcept {
  if constexpr (is_float<To>) {
    return To::encode(From::decode_number(bits), saturate);
  } else {
    return To::encode(From::decode(bits), saturate);
  }
}

// What is lost with an imaginary part that is dropped (real targets), or only asked whether it is zero (bool).
template <class W>
HALFWAY_HD constexpr Flags dropped_imaginary(W imaginary) noexcept {
  const auto magnitude = detail::magnitude_bits(imaginary);
  const bool is_nan = magnitude > detail::Wide<W>::infinity;
  return (detail::when(is_nan, saw_nan | nan_dropped) | detail::when(!is_nan & (magnitude != 0), inexact));
}

}  // namespace convert
#if defined(HALFWAY_CONVERT_INTERNAL)
}  // namespace
#endif
}  // namespace v0
}  // namespace halfway
