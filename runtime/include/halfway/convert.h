// The scalar conversions: the one place where numbers change their format, for host loops and device kernels alike.
//
// Every castable dtype has an element type here (`Boolean`, `Integer<std::int16_t>`, `BFloat16`, ...). It decodes its
// bit patterns exactly into one of four wide types
//
//   float          float16, bfloat16, float32, fp8
//   double         float64
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
// Environment: formats of 16 bits and fewer are read and written by integer arithmetic on bit patterns, the same under
// any rounding, FTZ or DAZ mode. Conversions between float32, float64 and 64-bit integers, and of floats to integers,
// are the hardware's, and need the default mode (to nearest, subnormals kept), which cast() sets and restores.
#pragma once

#include <bit>
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
namespace convert {

// What a conversion met or lost, as a set of bits. The words are those of `Report` in cast.h.
using Flags = std::uint8_t;
inline constexpr Flags saw_nan = 1;    // the source is NaN
inline constexpr Flags overflow = 2;   // finite in, and its rounding with unbounded exponent exceeds the finite range
inline constexpr Flags underflow = 4;  // nonzero in, zero out; always together with `inexact`
inline constexpr Flags inexact = 8;    // a finite value changed without overflow; an infinity without an image
inline constexpr Flags nan_dropped =
    16;  // a NaN without an image: into an integer or bool, or an imaginary part dropped

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

// `flag` if `condition`. Flags are formed without a branch, so that loops that ignore them keep nothing of them, and
// loops that want them can be vectorised.
HALFWAY_HD constexpr int when(bool condition, int flag) noexcept { return -static_cast<int>(condition) & flag; }

HALFWAY_HD constexpr int leading_zeros(std::uint64_t value) noexcept {  // value != 0
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(value));
#else
  return std::countl_zero(value);
#endif
}

HALFWAY_HD constexpr int trailing_zeros(std::uint64_t value) noexcept {  // value != 0
#if defined(__CUDA_ARCH__)
  return __ffsll(static_cast<long long>(value)) - 1;
#else
  return std::countr_zero(value);
#endif
}

HALFWAY_HD constexpr std::uint64_t magnitude(std::int64_t value) noexcept {
  return value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
}
HALFWAY_HD constexpr std::uint64_t magnitude(std::uint64_t value) noexcept { return value; }

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

  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode(W value, bool /*saturate*/) noexcept {
    if constexpr (std::is_floating_point_v<W>) {
      const auto magnitude = detail::magnitude_bits(value);
      const bool kept = magnitude == 0 || detail::bits_of(value) == detail::Wide<W>::one;
      const bool is_nan = magnitude > detail::Wide<W>::infinity;
      const int flags = detail::when(is_nan, saw_nan | nan_dropped) | detail::when(!is_nan & !kept, inexact);
      return {static_cast<Bits>(magnitude != 0), static_cast<Flags>(flags)};
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
    // 1. Truncate into the 64-bit integer of the target's signedness, where the value is known to fit: the comparisons
    //    are with powers of two (and -1), which every wide type holds. NaN fails them all.
    constexpr W two_63 = static_cast<W>(9223372036854775808.0);
    constexpr bool is_u64 = std::is_same_v<I, std::uint64_t>;
    using Integer64 = std::conditional_t<is_u64, std::uint64_t, std::int64_t>;
    bool fits = false;
    if constexpr (is_u64) {
      fits = value > W{-1} && value < 2 * two_63;
    } else {
      fits = value >= -two_63 && value < two_63;
    }
    const auto truncated = fits ? static_cast<Integer64>(value) : Integer64{0};
    // 2. The target's own range, in integers.
    if constexpr (sizeof(I) < 8) fits = fits && truncated >= lowest && truncated <= highest;
    // 3. What does not fit saturates; NaN becomes 0. `truncated` is exact in W: it has no more digits than the value.
    const auto magnitude = detail::magnitude_bits(value);
    const bool is_nan = magnitude > detail::Wide<W>::infinity;
    const bool is_infinite = magnitude == detail::Wide<W>::infinity;
    const I clamped = is_nan ? I{0} : value < 0 ? lowest : highest;
    const bool changed = static_cast<W>(truncated) != value;
    const int flags = detail::when(fits & changed, inexact) |
                      detail::when(fits & changed & (truncated == 0), underflow) |
                      detail::when(is_nan, saw_nan | nan_dropped) | detail::when(is_infinite, inexact) |
                      detail::when(!fits & !is_nan & !is_infinite, overflow);
    return {fits ? static_cast<I>(truncated) : clamped, static_cast<Flags>(flags)};
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
  static constexpr bool has_infinity = format.has_infinity;
  static constexpr bool has_negative_zero = format.has_negative_zero;

  using Bits = detail::UnsignedOf<bits>;
  using Wide = std::conditional_t<bits == 64, double, float>;
  static constexpr DType dtype{code, bits};

  static constexpr Bits max_finite = static_cast<Bits>(format.max_finite);
  static constexpr Bits canonical_nan = static_cast<Bits>(format.canonical_nan);

  HALFWAY_HD static constexpr Wide decode(Bits pattern) noexcept {
    if constexpr (bits >= 32) {
      return detail::bit_cast<Wide>(pattern);
    } else if constexpr (!format_has_zero) {
      return decode_power(pattern);
    } else {
      return decode_narrow(pattern);
    }
  }

  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode(W value, bool saturate) noexcept {
    if constexpr (!format_has_zero) {
      return encode_power(value, saturate);
    } else if constexpr (bits >= 32) {
      return encode_hardware(value, saturate);
    } else if constexpr (std::is_floating_point_v<W>) {
      return encode_narrow(value, saturate);
    } else {
      return encode_integer(value, saturate);
    }
  }

 private:
  using Single = detail::Wide<float>;
  static constexpr bool format_has_zero = format.has_zero();
  static constexpr int min_exponent = format.min_exponent();
  static constexpr Bits sign = format.has_sign ? static_cast<Bits>(std::uint64_t{1} << (bits - 1)) : Bits{0};
  static constexpr Bits largest_number = has_infinity ? static_cast<Bits>(max_finite + 1) : max_finite;
  static constexpr std::uint64_t hidden = std::uint64_t{1} << mantissa_bits;

  // 16 bits or fewer, into float.
  HALFWAY_HD static constexpr float decode_narrow(Bits pattern) noexcept {
    const auto magnitude = static_cast<std::uint32_t>(pattern & static_cast<Bits>(~sign));
    const std::uint32_t sign_out = (pattern & sign) != 0 ? Single::sign : 0;
    // 1. Normal numbers: float has the same fields, only wider. Shift the mantissa to its place (the exponent goes with
    //    it) and correct the exponent by the difference of the biases.
    constexpr int shift = Single::mantissa_bits - mantissa_bits;
    const std::uint32_t normal =
        (magnitude << shift) + (static_cast<std::uint32_t>(Single::bias - bias) << Single::mantissa_bits);
    // 2. Subnormal numbers: mantissa * 2^min_subnormal. Both factors and the product are normal floats or zero, and the
    //    product is exact, so that no mode of the processor can touch it. With float's own bias (bfloat16) the fields
    //    already stand for the same number: step 1 covers these.
    std::uint32_t finite = normal;
    if constexpr (bias != Single::bias) {
      constexpr float unit = detail::power_of_two(min_exponent - mantissa_bits);
      const std::uint32_t subnormal = detail::bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * unit);
      finite = magnitude < hidden ? subnormal : normal;
    }
    // 3. Infinity and NaN are the patterns above the finite ones; in the "uz" formats NaN is where -0 would be.
    bool is_nan = magnitude > largest_number;
    if constexpr (!has_negative_zero) is_nan = pattern == sign;
    const bool is_infinite = has_infinity && magnitude == largest_number;
    const std::uint32_t special = is_nan ? Single::infinity | (Single::hidden >> 1) : Single::infinity;
    return detail::bit_cast<float>((is_nan || is_infinite ? special : finite) | sign_out);
  }

  // e8m0: the pattern e is 2^(e - 127). It is float's exponent field alone; only 2^-127 is subnormal there.
  HALFWAY_HD static constexpr float decode_power(Bits pattern) noexcept {
    const std::uint32_t power =
        pattern == 0 ? Single::hidden >> 1 : static_cast<std::uint32_t>(pattern) << Single::mantissa_bits;
    const std::uint32_t nan = Single::infinity | (Single::hidden >> 1);
    return detail::bit_cast<float>(pattern == canonical_nan ? nan : power);
  }

  // The pattern for a finite value whose magnitude rounded to `code`, counted on from the finite patterns as if the
  // exponent had no end; also for infinity, whose `code` is beyond `max_finite` too. In the source's own width, so that
  // loops have one width until they store.
  template <class U>
  HALFWAY_HD static constexpr Bits finish(U code_beyond_range, bool is_nan, bool negative, bool saturate) noexcept {
    const bool beyond = code_beyond_range > max_finite;
    const bool becomes_nan = is_nan | (beyond & !saturate & !has_infinity);
    const U limit = saturate ? max_finite : largest_number;
    const U magnitude = beyond ? limit : code_beyond_range;
    const bool keeps_sign = negative & (has_negative_zero | (magnitude != 0));
    const U number = magnitude | (keeps_sign ? U{sign} : U{0});
    return static_cast<Bits>(becomes_nan ? U{canonical_nan} : number);
  }

  // Floats into 16 bits or fewer.
  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode_narrow(W value, bool saturate) noexcept {
    using From = detail::Wide<W>;
    using U = typename From::Bits;
    const U pattern = detail::bits_of(value);
    const U magnitude = pattern & ~From::sign;
    const bool negative = (pattern & From::sign) != 0;
    // 1. Take the value apart: significand * 2^(exponent - bias - mantissa bits). A subnormal source has the smallest
    //    normal number's exponent and no hidden bit; nothing needs to be normalised.
    const bool is_normal = magnitude >= From::hidden;
    const int exponent = is_normal ? static_cast<int>(magnitude >> From::mantissa_bits) : 1;
    const U significand = (magnitude & From::fraction) | (is_normal ? From::hidden : U{0});
    // 2. How many of its bits the target has no room for: the difference of the mantissas, and one more for every power
    //    of two below the target's normal numbers. Two bits more than there are drops all of them and rounds to zero.
    constexpr int lowest = From::bias + min_exponent;  // the target's smallest normal number, in the source's exponents
    static_assert(lowest >= 1, "every subnormal source is subnormal, or zero, in the target");
    const int below = exponent < lowest ? lowest - exponent : 0;
    const int above = exponent > lowest ? exponent - lowest : 0;
    constexpr int least = From::mantissa_bits - mantissa_bits;
    constexpr int most = From::mantissa_bits + 2;
    const int shift = least + below < most ? least + below : most;
    // 3. Round to nearest even: adding just under half a unit carries into the kept bits when the dropped ones are more
    //    than half; adding the lowest kept bit as well makes exactly half carry when that bit is odd.
    const U unit = U{1} << shift;
    const U odd = (significand >> shift) & 1;
    const U rounded = (significand + (unit / 2 - 1) + odd) >> shift;
    // 4. Put it together by adding. The hidden bit, if it is there, adds one to the exponent field, which therefore
    //    counts from the smallest normal number; so does a carry out of the mantissa, from the subnormal numbers into
    //    the normal ones as well.
    const U code_out = rounded + (static_cast<U>(above) << mantissa_bits);
    // 5. Patterns grow with the magnitude, so that "beyond the finite range" is one comparison, for infinity as well.
    const bool is_nan = magnitude > From::infinity;
    const bool is_infinite = magnitude == From::infinity;
    const bool beyond = code_out > max_finite;
    const bool changed = (significand & (unit - 1)) != 0;
    const bool is_finite = magnitude < From::infinity;
    const bool lost_infinity = is_infinite & (saturate || !has_infinity);
    const int flags = detail::when(is_nan, saw_nan) | detail::when(is_finite & beyond, overflow) |
                      detail::when((is_finite & changed & !beyond) | lost_infinity, inexact) |
                      detail::when(changed & (code_out == 0), underflow);
    return {finish(code_out, is_nan, negative, saturate), static_cast<Flags>(flags)};
  }

  // Integers into 16 bits or fewer. An integer that is not 0 is at least 1, which is normal in every format.
  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode_integer(W value, bool saturate) noexcept {
    static_assert(min_exponent <= 0);
    // 1. Normalise: the leading bit to bit 63. It stands for 2^exponent.
    const std::uint64_t magnitude = detail::magnitude(value);
    const int zeros = detail::leading_zeros(magnitude | 1);
    const std::uint64_t significand = magnitude << zeros;
    const int exponent = 63 - zeros;
    // 2. Round to nearest even as above; the carry is formed from the dropped bits alone, since there is no room above
    //    bit 63.
    constexpr int shift = 63 - mantissa_bits;
    constexpr std::uint64_t unit = std::uint64_t{1} << shift;
    const std::uint64_t kept = significand >> shift;
    const std::uint64_t dropped = significand & (unit - 1);
    const std::uint64_t rounded = kept + ((dropped + (unit / 2 - 1) + (kept & 1)) >> shift);
    // 3. Put it together; the hidden bit adds one to the exponent field.
    const std::uint64_t positive = rounded + (static_cast<std::uint64_t>(exponent - min_exponent) << mantissa_bits);
    const std::uint64_t code_out = magnitude == 0 ? 0 : positive;
    const bool beyond = code_out > max_finite;
    const int flags = detail::when(beyond, overflow) | detail::when(!beyond & (dropped != 0), inexact);
    return {finish(code_out, false, value < 0, saturate), static_cast<Flags>(flags)};
  }

  // Into float32 and float64: the hardware rounds once, to nearest even, in the default mode.
  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode_hardware(W value, bool saturate) noexcept {
    using To = detail::Wide<Wide>;
    const auto converted = static_cast<Wide>(value);
    const Bits pattern = detail::bits_of(converted);
    if constexpr (std::is_floating_point_v<W>) {
      using From = detail::Wide<W>;
      const auto magnitude = detail::magnitude_bits(value);
      const bool is_nan = magnitude > From::infinity;
      const bool is_infinite = magnitude == From::infinity;
      const bool beyond = (pattern & ~To::sign) == To::infinity;
      const Bits clamped = static_cast<Bits>(max_finite | (pattern & sign));
      int flags = detail::when(is_nan, saw_nan) | detail::when(is_infinite & saturate, inexact);
      if constexpr (sizeof(W) > sizeof(Wide)) {
        const bool is_finite = magnitude < From::infinity;
        const bool changed = detail::bits_of(static_cast<W>(converted)) != detail::bits_of(value);
        const bool is_zero = (pattern & ~To::sign) == 0;
        flags |= detail::when(is_finite & beyond, overflow) | detail::when(is_finite & changed & !beyond, inexact) |
                 detail::when(changed & is_zero, underflow);
      }
      return {is_nan ? canonical_nan : (beyond && saturate ? clamped : pattern), static_cast<Flags>(flags)};
    } else {
      // An integer is exact when the bits from its first to its last 1 fit the mantissa and the hidden bit.
      const std::uint64_t magnitude = detail::magnitude(value) | (std::uint64_t{value == 0} << 63);
      const int digits = 64 - detail::leading_zeros(magnitude) - detail::trailing_zeros(magnitude);
      return {pattern, digits > mantissa_bits + 1 ? inexact : Flags{0}};
    }
  }

  // e8m0 holds powers of two alone: zero and negative values become NaN, ties go up (there is no even mantissa to go
  // to), and what is below its smallest power becomes that.
  template <class W>
  HALFWAY_HD static constexpr Encoded<Bits> encode_power(W value, bool saturate) noexcept {
    if constexpr (std::is_floating_point_v<W>) {
      using From = detail::Wide<W>;
      using U = typename From::Bits;
      const U pattern = detail::bits_of(value);
      const U magnitude = pattern & ~From::sign;
      // 1. Adding half of the hidden bit carries into the exponent field from 1.5 on, which is the midpoint. This holds
      //    from 1.5 * 2^-127 on, which in float is subnormal; all below it is 2^-127.
      constexpr int offset = From::bias - bias;
      constexpr U smallest = offset == 0 ? From::hidden >> 1 : static_cast<U>(offset) << From::mantissa_bits;
      constexpr U midpoint = offset == 0 ? smallest + (smallest >> 1) : smallest + (From::hidden >> 1);
      const U exponent = (magnitude + (From::hidden >> 1)) >> From::mantissa_bits;
      const U code_out = magnitude < midpoint ? U{0} : exponent - static_cast<U>(offset);
      // 2. Exact is what the pattern found stands for.
      const U power = code_out == 0 ? smallest : (code_out + static_cast<U>(offset)) << From::mantissa_bits;
      const bool is_nan = magnitude > From::infinity;
      const bool is_infinite = magnitude == From::infinity;
      const bool has_image = pattern == magnitude && magnitude != 0;  // positive
      const bool beyond = code_out > max_finite;
      const Bits image = beyond ? (saturate ? max_finite : canonical_nan) : static_cast<Bits>(code_out);
      const bool overflows = has_image & beyond & !is_infinite;
      const bool changed = !has_image | is_infinite | (power != magnitude);
      const int flags = detail::when(is_nan, saw_nan) | detail::when(!is_nan & overflows, overflow) |
                        detail::when(!is_nan & !overflows & changed, inexact);
      return {is_nan || !has_image ? canonical_nan : image, static_cast<Flags>(flags)};
    } else {
      // The leading bit is the exponent, the one after it is the half; 2^64 is far within range.
      const bool has_image = value > 0;
      const std::uint64_t magnitude = detail::magnitude(value) | static_cast<std::uint64_t>(!has_image);
      const int zeros = detail::leading_zeros(magnitude);
      const std::uint64_t fraction = (magnitude << zeros) << 1;
      const int code_out = bias + 63 - zeros + static_cast<int>(fraction >> 63);
      return {has_image ? static_cast<Bits>(code_out) : canonical_nan, has_image && fraction == 0 ? Flags{0} : inexact};
    }
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

// One element of type From to type To, rounded once.
template <class To, class From>
HALFWAY_HD constexpr Encoded<typename To::Bits> convert(typename From::Bits bits, bool saturate) noexcept {
  return To::encode(From::decode(bits), saturate);
}

// What is lost with an imaginary part that is dropped (real targets), or only asked whether it is zero (bool).
template <class W>
HALFWAY_HD constexpr Flags dropped_imaginary(W imaginary) noexcept {
  const auto magnitude = detail::magnitude_bits(imaginary);
  const bool is_nan = magnitude > detail::Wide<W>::infinity;
  return static_cast<Flags>(detail::when(is_nan, saw_nan | nan_dropped) |
                            detail::when(!is_nan & (magnitude != 0), inexact));
}

}  // namespace convert
}  // namespace v0
}  // namespace halfway
