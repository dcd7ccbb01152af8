// What a cast must give, by integer arithmetic on bit patterns that is fast enough for all of them.
//
// Shares nothing with the library but the names of the dtypes, and nothing with tests/runtime/reference.h, which finds
// the same answers by search; the sweep `oracles` compares the two.
//
//   convert          one pattern of any real dtype to any other
//   convert_run      float32 patterns that differ in their 16 lowest bits alone. Such a run has one sign and one
//                    exponent, so that everything but a shift by a constant is done once, and the loop is a vector
//                    loop.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "halfway/dtype.h"

namespace oracle {

using halfway::DType;

// What happened to a value, as a set of bits.
using Lost = unsigned;
inline constexpr Lost saw_nan = 1;
inline constexpr Lost overflow = 2;
inline constexpr Lost underflow = 4;
inline constexpr Lost inexact = 8;

struct Image {
  std::uint64_t pattern = 0;
  Lost lost = 0;
};

struct Counts {
  std::uint64_t nan = 0;
  std::uint64_t overflow = 0;
  std::uint64_t underflow = 0;
  std::uint64_t inexact = 0;

  void add(Lost lost) {
    nan += lost & 1U;
    overflow += lost >> 1 & 1U;
    underflow += lost >> 2 & 1U;
    inexact += lost >> 3 & 1U;
  }
};

enum class Class { boolean, integer, floating, power };  // power: e8m0, which holds powers of two alone

struct Format {
  std::string_view name;
  DType dtype;
  Class kind = Class::floating;
  bool is_signed = true;
  int mantissa_bits = 0;
  int bias = 0;
  std::uint64_t largest = 0;   // the largest finite pattern
  std::uint64_t infinity = 0;  // 0: there is none
  std::uint64_t nan = 0;       // what is written; 10..0 in formats without a negative zero

  [[nodiscard]] constexpr int bits() const { return dtype.bits; }
  [[nodiscard]] constexpr std::size_t bytes() const { return dtype.bits / 8U; }
  [[nodiscard]] constexpr bool is_float() const { return kind == Class::floating || kind == Class::power; }
  [[nodiscard]] constexpr std::uint64_t ones() const { return ~std::uint64_t{0} >> (64 - bits()); }
  [[nodiscard]] constexpr std::uint64_t sign() const { return is_signed ? std::uint64_t{1} << (bits() - 1) : 0; }
  [[nodiscard]] constexpr bool nan_at_sign() const { return kind == Class::floating && nan == sign(); }
  // The exponent of the smallest normal value.
  [[nodiscard]] constexpr int lowest_exponent() const { return kind == Class::power ? -bias : 1 - bias; }
  // What overflow and infinity become.
  [[nodiscard]] constexpr std::uint64_t beyond(bool negative, bool saturate) const {
    if (!saturate && infinity == 0) return nan;
    return (saturate ? largest : infinity) | (negative ? sign() : 0);
  }
};

inline constexpr std::array<Format, 21> formats = [] {
  using halfway::TypeCode;
  const auto integer = [](std::string_view name, DType dtype) {
    const bool is_signed = dtype.code == static_cast<std::uint8_t>(TypeCode::int_);
    return Format{name, dtype, Class::integer, is_signed};
  };
  const auto real = [](std::string_view name, DType dtype, int mantissa_bits, int bias, std::uint64_t largest,
                       std::uint64_t infinity, std::uint64_t nan) {
    return Format{name, dtype, Class::floating, true, mantissa_bits, bias, largest, infinity, nan};
  };
  return std::array<Format, 21>{
      Format{"bool", halfway::boolean, Class::boolean, false},
      integer("int8", halfway::int8),
      integer("int16", halfway::int16),
      integer("int32", halfway::int32),
      integer("int64", halfway::int64),
      integer("uint8", halfway::uint8),
      integer("uint16", halfway::uint16),
      integer("uint32", halfway::uint32),
      integer("uint64", halfway::uint64),
      real("float16", halfway::float16, 10, 15, 0x7BFF, 0x7C00, 0x7FFF),
      real("bfloat16", halfway::bfloat16, 7, 127, 0x7F7F, 0x7F80, 0x7FFF),
      real("float32", halfway::float32, 23, 127, 0x7F7FFFFF, 0x7F800000, 0x7FFFFFFF),
      real("float64", halfway::float64, 52, 1023, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FFFFFFFFFFFFFFF),
      real("float8_e3m4", halfway::float8_e3m4, 4, 3, 0x6F, 0x70, 0x7F),
      real("float8_e4m3", halfway::float8_e4m3, 3, 7, 0x77, 0x78, 0x7F),
      real("float8_e4m3b11fnuz", halfway::float8_e4m3b11fnuz, 3, 11, 0x7F, 0, 0x80),
      real("float8_e4m3fn", halfway::float8_e4m3fn, 3, 7, 0x7E, 0, 0x7F),
      real("float8_e4m3fnuz", halfway::float8_e4m3fnuz, 3, 8, 0x7F, 0, 0x80),
      real("float8_e5m2", halfway::float8_e5m2, 2, 15, 0x7B, 0x7C, 0x7F),
      real("float8_e5m2fnuz", halfway::float8_e5m2fnuz, 2, 16, 0x7F, 0, 0x80),
      Format{"float8_e8m0fnu", halfway::float8_e8m0fnu, Class::power, false, 0, 127, 0xFE, 0, 0xFF},
  };
}();

inline const Format& format(DType dtype) {
  for (const Format& f : formats) {
    if (f.dtype == dtype) return f;
  }
  throw std::out_of_range("no format of " + halfway::to_string(dtype));
}

// (-1)^negative * significand * 2^(exponent - 63). The significand's top bit is set, except in zero.
struct Number {
  enum class Kind : std::uint8_t { finite, infinite, nan } kind = Kind::finite;
  bool negative = false;
  std::uint64_t significand = 0;
  int exponent = 0;
};

inline Number normalised(bool negative, std::uint64_t integer, int exponent_of_one) {
  if (integer == 0) return {Number::Kind::finite, negative, 0, 0};
  const int zeros = std::countl_zero(integer);
  return {Number::Kind::finite, negative, integer << zeros, exponent_of_one + 63 - zeros};
}

inline Number unpack(const Format& f, std::uint64_t pattern) {
  const bool negative = (pattern & f.sign()) != 0;
  if (f.kind == Class::boolean) return normalised(false, pattern != 0 ? 1 : 0, 0);
  if (f.kind == Class::integer) return normalised(negative, negative ? (0 - pattern) & f.ones() : pattern, 0);
  const std::uint64_t code = pattern & ~f.sign();
  if (f.nan_at_sign()) {
    if (pattern == f.nan) return {Number::Kind::nan, true, 0, 0};
  } else if (code > f.largest) {
    const bool infinite = f.infinity != 0 && code == f.infinity;
    return {infinite ? Number::Kind::infinite : Number::Kind::nan, negative, 0, 0};
  }
  const std::uint64_t hidden = std::uint64_t{1} << f.mantissa_bits;
  const std::uint64_t fraction = code & (hidden - 1);
  const int field = static_cast<int>(code >> f.mantissa_bits);
  if (f.kind == Class::power) return normalised(false, 1, field - f.bias);
  if (field == 0) return normalised(negative, fraction, 1 - f.bias - f.mantissa_bits);
  return normalised(negative, hidden | fraction, field - f.bias - f.mantissa_bits);
}

inline Image to_boolean(const Number& x) {
  if (x.kind == Number::Kind::nan) return {1, saw_nan};
  if (x.kind == Number::Kind::infinite) return {1, inexact};
  if (x.significand == 0) return {0, 0};
  const bool is_one = !x.negative && x.exponent == 0 && x.significand << 1 == 0;
  return {1, is_one ? 0 : inexact};
}

inline Image to_integer(const Number& x, const Format& to, bool clamps) {
  const std::uint64_t highest = to.is_signed ? to.ones() >> 1 : to.ones();
  const std::uint64_t lowest = to.is_signed ? highest + 1 : 0;
  const std::uint64_t border = x.negative ? lowest : highest;
  if (x.kind == Number::Kind::nan) return {0, saw_nan};
  if (x.kind == Number::Kind::infinite) return {border, inexact};
  if (x.exponent > 63) return {border, overflow};  // no integer is as large, so nothing wraps
  const std::uint64_t whole = x.exponent < 0 ? 0 : x.significand >> (63 - x.exponent);
  const std::uint64_t rest = x.exponent < 0 ? x.significand : x.exponent < 63 ? x.significand << (x.exponent + 1) : 0;
  const std::uint64_t image = (x.negative ? 0 - whole : whole) & to.ones();
  if (whole > border) return {clamps ? border : image, overflow};
  return {image, rest == 0 ? 0 : whole == 0 ? inexact | underflow : inexact};
}

inline Image to_float(const Number& x, const Format& to, bool saturate) {
  if (x.kind == Number::Kind::nan) return {to.nan, saw_nan};
  const bool is_power = to.kind == Class::power;
  if (is_power && (x.negative || (x.kind == Number::Kind::finite && x.significand == 0))) return {to.nan, inexact};
  if (x.kind == Number::Kind::infinite) {
    return {to.beyond(x.negative, saturate), saturate || to.infinity == 0 ? inexact : 0};
  }
  const std::uint64_t sign = x.negative ? to.sign() : 0;
  const std::uint64_t zero = to.nan_at_sign() ? 0 : sign;
  if (x.significand == 0) return {zero, 0};
  // 1. The bits below the last kept one. Subnormal results keep fewer.
  const int below = to.lowest_exponent() - x.exponent;
  if (is_power && below > 0) return {0, inexact};
  const int shift = 63 - to.mantissa_bits + (below > 0 ? below : 0);
  if (shift > 64) return {zero, inexact | underflow};
  const std::uint64_t kept = shift == 64 ? 0 : x.significand >> shift;
  const std::uint64_t rest = shift == 64 ? x.significand : x.significand << (64 - shift);  // against half = 2^63
  constexpr std::uint64_t half = std::uint64_t{1} << 63;
  // 2. To nearest; of two equally near, the even one, or for powers of two the larger one.
  const bool up = rest > half || (rest == half && (is_power || kept % 2 == 1));
  // 3. The hidden bit adds one to the exponent's field, and so does a carry.
  std::uint64_t code = kept + (up ? 1 : 0);
  if (below < 0) code += static_cast<std::uint64_t>(-below) << to.mantissa_bits;
  if (is_power) --code;
  if (code > to.largest) return {to.beyond(x.negative, saturate), overflow};
  if (code == 0 && !is_power) return {zero, inexact | underflow};
  return {code | sign, rest == 0 ? 0 : inexact};
}

// What becomes of a number that was of the dtype `from`.
inline Image encode(const Number& x, const Format& from, const Format& to, bool saturate) {
  if (to.kind == Class::boolean) return to_boolean(x);
  if (to.kind == Class::integer) return to_integer(x, to, saturate || from.is_float());
  return to_float(x, to, saturate);
}

inline Image convert(const Format& from, std::uint64_t pattern, const Format& to, bool saturate) {
  const Number x = unpack(from, pattern);
  if (from.dtype == to.dtype) return {pattern, x.kind == Number::Kind::nan ? saw_nan : 0};
  return encode(x, from, to, saturate);
}

inline constexpr std::size_t run_length = std::size_t{1} << 16;

namespace detail {

template <class Out>
void run_by_one(std::uint32_t first, const Format& to, bool saturate, Out* out, Counts& counts) {
  static const Format& float32 = format(halfway::float32);
  for (std::uint32_t i = 0; i < run_length; ++i) {
    const Image image = convert(float32, first + i, to, saturate);
    out[i] = static_cast<Out>(image.pattern);
    counts.add(image.lost);
  }
}

// To a float format of 16 bits or fewer, from finite values.
template <class Out>
void run_to_float(std::uint32_t first, const Format& to, bool saturate, Out* out, Counts& counts) {
  const bool is_power = to.kind == Class::power;
  const auto field = static_cast<int>(first >> 23 & 0xFF);
  const std::uint32_t lowest = (first & 0x7FFFFF) | (field == 0 ? 0 : 0x800000);  // significand of the first
  // Subnormal sources are at most subnormal in the target.
  const int leading = (field == 0 ? 1 : field) - 127;
  const int below = to.lowest_exponent() - leading;
  const int wanted_shift = 23 - to.mantissa_bits + (below > 0 ? below : 0);
  const int shift = wanted_shift < 31 ? wanted_shift : 31;  // a significand has 24 bits
  const std::uint32_t half = std::uint32_t{1} << (shift - 1);
  const std::uint32_t mask = 2 * half - 1;
  const std::uint32_t base =
      (below < 0 ? static_cast<std::uint32_t>(-below) << to.mantissa_bits : 0) - (is_power ? 1 : 0);
  const auto largest = static_cast<std::uint32_t>(to.largest);
  const bool negative = first >> 31 != 0;
  const auto sign = static_cast<std::uint32_t>(negative ? to.sign() : 0);
  const std::uint32_t zero = to.nan_at_sign() ? 0 : sign;
  const auto beyond = static_cast<std::uint32_t>(to.beyond(negative, saturate));
  std::uint32_t overflows = 0;
  std::uint32_t underflows = 0;
  std::uint32_t inexacts = 0;
  for (std::uint32_t i = 0; i < run_length; ++i) {
    const std::uint32_t significand = lowest + i;
    const std::uint32_t kept = significand >> shift;
    const std::uint32_t rest = significand & mask;
    const std::uint32_t odd = is_power ? 1 : kept & 1;
    const std::uint32_t code = base + kept + (rest + odd > half ? 1U : 0U);
    const std::uint32_t overflowed = code > largest ? 1U : 0U;
    const std::uint32_t is_zero = code == 0 && !is_power ? 1U : 0U;
    overflows += overflowed;
    underflows += is_zero & (rest != 0 ? 1U : 0U);
    inexacts += ~overflowed & (rest != 0 ? 1U : 0U);
    out[i] = static_cast<Out>(overflowed != 0 ? beyond : is_zero != 0 ? zero : code | sign);
  }
  counts.overflow += overflows;
  counts.underflow += underflows;
  counts.inexact += inexacts;
}

// From finite values of normal exponent.
template <class Out>
void run_to_integer(std::uint32_t first, const Format& to, Out* out, Counts& counts) {
  const auto field = static_cast<int>(first >> 23 & 0xFF);
  const std::uint32_t lowest = (first & 0x7FFFFF) | 0x800000;
  const bool negative = first >> 31 != 0;
  const std::uint64_t highest = to.is_signed ? to.ones() >> 1 : to.ones();
  const std::uint64_t border = negative ? (to.is_signed ? highest + 1 : 0) : highest;
  const int exponent = field - 127;
  if (exponent > 63) {
    for (std::size_t i = 0; i < run_length; ++i) out[i] = static_cast<Out>(border);
    counts.overflow += run_length;
    return;
  }
  const int right = exponent < -1 ? 31 : exponent < 23 ? 23 - exponent : 0;
  const int left = exponent > 23 ? exponent - 23 : 0;
  const std::uint32_t mask = (std::uint32_t{1} << right) - 1;
  std::uint64_t overflows = 0;
  std::uint64_t underflows = 0;
  std::uint64_t inexacts = 0;
  for (std::uint32_t i = 0; i < run_length; ++i) {
    const std::uint32_t significand = lowest + i;
    const std::uint64_t whole = static_cast<std::uint64_t>(significand >> right) << left;
    const std::uint64_t has_rest = (significand & mask) != 0 ? 1 : 0;
    const std::uint64_t overflowed = whole > border ? 1 : 0;
    overflows += overflowed;
    underflows += has_rest & (whole == 0 ? 1U : 0U);
    inexacts += has_rest & ~overflowed;
    out[i] = static_cast<Out>(overflowed != 0 ? border : negative ? 0 - whole : whole);
  }
  counts.overflow += overflows;
  counts.underflow += underflows;
  counts.inexact += inexacts;
}

}  // namespace detail

// The images of `run_length` float32 patterns from `first` on, which is a multiple of `run_length`. `Out` has the
// target's size.
template <class Out>
void convert_run(std::uint32_t first, const Format& to, bool saturate, Out* out, Counts& counts) {
  const std::uint32_t field = first >> 23 & 0xFF;
  const bool negative = first >> 31 != 0;
  const bool by_one = field == 0xFF && (first & 0x7FFFFF) == 0;  // infinity is among them
  if (field == 0xFF && !by_one) {
    const Image nan = to.kind == Class::boolean ? Image{1, saw_nan} : Image{to.nan, saw_nan};
    for (std::size_t i = 0; i < run_length; ++i) out[i] = static_cast<Out>(nan.pattern);
    counts.nan += run_length;
  } else if (to.kind == Class::power && negative && !by_one) {
    for (std::size_t i = 0; i < run_length; ++i) out[i] = static_cast<Out>(to.nan);
    counts.inexact += run_length;
  } else if (to.kind == Class::boolean && !by_one && field != 0 && (first & 0x7FFFFF) != 0) {
    for (std::size_t i = 0; i < run_length; ++i) out[i] = 1;
    counts.inexact += run_length;
  } else if (by_one || to.kind == Class::boolean || (field == 0 && to.kind != Class::floating)) {
    detail::run_by_one(first, to, saturate, out, counts);
  } else if (to.kind == Class::integer) {
    detail::run_to_integer(first, to, out, counts);
  } else if (to.bits() > 16) {
    if (field == 0 || to.dtype != halfway::float64) {
      detail::run_by_one(first, to, saturate, out, counts);
    } else if constexpr (sizeof(Out) == 8) {
      const std::uint64_t top = std::uint64_t{first >> 31} << 63 | std::uint64_t{field + 1023 - 127} << 52;
      for (std::uint64_t i = 0; i < run_length; ++i) out[i] = top | ((first & 0x7FFFFF) + i) << 29;
    }
  } else {
    detail::run_to_float(first, to, saturate, out, counts);
  }
}

}  // namespace oracle
