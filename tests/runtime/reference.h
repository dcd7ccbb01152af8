// What a cast must give, computed with exact integers from the definitions of the formats, and shared with nothing of
// the library but the names of the dtypes: its own table of formats, and rounding by search instead of by shifting.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "halfway/cast.h"
#include "halfway/dtype.h"

namespace reference {

using halfway::DType;
using halfway::Overflow;

// (-1)^negative * significand * 2^exponent, or one of the two things that are no number.
struct Number {
  enum class Class { finite, infinite, nan } kind = Class::finite;
  bool negative = false;
  std::uint64_t significand = 0;
  int exponent = 0;

  [[nodiscard]] bool is_nan() const { return kind == Class::nan; }
  [[nodiscard]] bool is_infinite() const { return kind == Class::infinite; }
  [[nodiscard]] bool is_zero() const { return kind == Class::finite && significand == 0; }
};

// -1, 0, 1 as |a| is less than, equal to or greater than |b|; both finite.
inline int compare_magnitudes(const Number& a, const Number& b) {
  if (a.significand == 0 || b.significand == 0) {
    return static_cast<int>(a.significand != 0) - static_cast<int>(b.significand != 0);
  }
  const int zeros_a = std::countl_zero(a.significand);
  const int zeros_b = std::countl_zero(b.significand);
  const int leading_a = a.exponent + 63 - zeros_a;
  const int leading_b = b.exponent + 63 - zeros_b;
  if (leading_a != leading_b) return leading_a < leading_b ? -1 : 1;
  const std::uint64_t aligned_a = a.significand << zeros_a;
  const std::uint64_t aligned_b = b.significand << zeros_b;
  return aligned_a == aligned_b ? 0 : aligned_a < aligned_b ? -1 : 1;
}

inline bool same(const Number& a, const Number& b) {
  if (a.kind != b.kind) return false;
  if (a.is_nan()) return true;
  return a.negative == b.negative && (a.is_infinite() || compare_magnitudes(a, b) == 0);
}

enum class Style {
  integer,
  boolean,
  ieee,   // exponent all ones: infinity and NaN
  fn,     // no infinity, NaN is all ones
  uz,     // no infinity, no negative zero, NaN is where it would be
  power,  // e8m0
};

struct Format {
  std::string_view name;
  DType dtype;
  Style style;
  bool is_signed;
  int exponent_bits;
  int mantissa_bits;
  int bias;
  std::uint64_t nan;  // the pattern that casts write

  [[nodiscard]] int bits() const { return dtype.bits; }
  [[nodiscard]] bool is_float() const { return style != Style::integer && style != Style::boolean; }
  [[nodiscard]] bool has_infinity() const { return style == Style::ieee; }
  [[nodiscard]] std::uint64_t sign() const { return is_signed ? std::uint64_t{1} << (bits() - 1) : 0; }
  // The largest pattern of a finite value: patterns of magnitudes grow with them.
  [[nodiscard]] std::uint64_t largest() const {
    const std::uint64_t all_ones = (std::uint64_t{1} << (exponent_bits + mantissa_bits)) - 1;
    switch (style) {
      case Style::ieee:
        return (((std::uint64_t{1} << exponent_bits) - 1) << mantissa_bits) - 1;
      case Style::fn:
      case Style::power:
        return all_ones - 1;
      default:
        return all_ones;
    }
  }
};

// Every dtype that is cast, complex ones apart.
inline const std::vector<Format>& formats() {
  using halfway::TypeCode;
  const auto integer = [](std::string_view name, int bits, bool is_signed) {
    return Format{name, DType(is_signed ? TypeCode::int_ : TypeCode::uint, bits), Style::integer, is_signed, 0, 0, 0,
                  0};
  };
  const auto fp8 = [](std::string_view name, TypeCode code, Style style, int exponent, int mantissa, int bias,
                      int nan) {
    return Format{name,     DType(code, 8), style, style != Style::power,
                  exponent, mantissa,       bias,  static_cast<std::uint64_t>(nan)};
  };
  static const std::vector<Format> all{
      {"bool", DType(TypeCode::boolean, 8), Style::boolean, false, 0, 0, 0, 0},
      integer("int8", 8, true),
      integer("int16", 16, true),
      integer("int32", 32, true),
      integer("int64", 64, true),
      integer("uint8", 8, false),
      integer("uint16", 16, false),
      integer("uint32", 32, false),
      integer("uint64", 64, false),
      {"float16", DType(TypeCode::float_, 16), Style::ieee, true, 5, 10, 15, 0x7FFF},
      {"bfloat16", DType(TypeCode::bfloat, 16), Style::ieee, true, 8, 7, 127, 0x7FFF},
      {"float32", DType(TypeCode::float_, 32), Style::ieee, true, 8, 23, 127, 0x7FFFFFFF},
      {"float64", DType(TypeCode::float_, 64), Style::ieee, true, 11, 52, 1023, 0x7FFFFFFFFFFFFFFF},
      fp8("float8_e3m4", TypeCode::float8_e3m4, Style::ieee, 3, 4, 3, 0x7F),
      fp8("float8_e4m3", TypeCode::float8_e4m3, Style::ieee, 4, 3, 7, 0x7F),
      fp8("float8_e4m3b11fnuz", TypeCode::float8_e4m3b11fnuz, Style::uz, 4, 3, 11, 0x80),
      fp8("float8_e4m3fn", TypeCode::float8_e4m3fn, Style::fn, 4, 3, 7, 0x7F),
      fp8("float8_e4m3fnuz", TypeCode::float8_e4m3fnuz, Style::uz, 4, 3, 8, 0x80),
      fp8("float8_e5m2", TypeCode::float8_e5m2, Style::ieee, 5, 2, 15, 0x7F),
      fp8("float8_e5m2fnuz", TypeCode::float8_e5m2fnuz, Style::uz, 5, 2, 16, 0x80),
      fp8("float8_e8m0fnu", TypeCode::float8_e8m0fnu, Style::power, 8, 0, 127, 0xFF),
  };
  return all;
}

inline const Format& format(DType dtype) {
  for (const Format& f : formats()) {
    if (f.dtype == dtype) return f;
  }
  throw std::out_of_range("no such format: " + halfway::to_string(dtype));
}

// The value of a magnitude's pattern as if all patterns were finite: also one past the largest.
inline Number value_of(const Format& f, std::uint64_t code) {
  const std::uint64_t unit = std::uint64_t{1} << f.mantissa_bits;
  const std::uint64_t mantissa = code & (unit - 1);
  const auto exponent = static_cast<int>(code >> f.mantissa_bits);
  Number number;
  if (exponent == 0 && f.style != Style::power) {
    number.significand = mantissa;
    number.exponent = 1 - f.bias - f.mantissa_bits;
  } else {
    number.significand = unit + mantissa;
    number.exponent = exponent - f.bias - f.mantissa_bits;
  }
  return number;
}

inline Number decode(const Format& f, std::uint64_t pattern) {
  Number number;
  if (f.style == Style::boolean) {
    number.significand = pattern != 0 ? 1 : 0;
    return number;
  }
  if (f.style == Style::integer) {
    number.negative = (pattern & f.sign()) != 0;
    const int unused = 64 - f.bits();
    number.significand = number.negative ? (~pattern << unused >> unused) + 1 : pattern;
    return number;
  }
  const std::uint64_t code = pattern & ~f.sign();
  const bool negative = (pattern & f.sign()) != 0;
  const bool is_nan = f.style == Style::uz ? pattern == f.sign() : code > f.largest() + (f.has_infinity() ? 1 : 0);
  if (is_nan) {
    number.kind = Number::Class::nan;
  } else if (f.has_infinity() && code == f.largest() + 1) {
    number.kind = Number::Class::infinite;
  } else {
    number = value_of(f, code);
  }
  number.negative = negative;
  return number;
}

// The number halfway between the values of `code` and `code + 1`.
inline Number midpoint(const Format& f, std::uint64_t code) {
  Number low = value_of(f, code);
  Number high = value_of(f, code + 1);
  const int exponent = low.exponent < high.exponent ? low.exponent : high.exponent;
  low.significand <<= low.exponent - exponent;
  high.significand <<= high.exponent - exponent;
  return {Number::Class::finite, false, low.significand + high.significand, exponent - 1};
}

// What becomes of a number.
struct Image {
  std::uint64_t pattern = 0;
  bool nan = false;
  bool overflow = false;
  bool underflow = false;
  bool inexact = false;
  bool nan_dropped = false;

  // Whether the number is still the same one, as `same_value` understands it.
  [[nodiscard]] bool survives() const { return !overflow && !inexact && !nan_dropped; }
};

inline Image to_boolean(const Number& x) {
  Image image;
  image.pattern = x.is_zero() ? 0 : 1;
  image.nan = image.nan_dropped = x.is_nan();
  const Number one{Number::Class::finite, false, 1, 0};
  image.inexact = !x.is_nan() && !x.is_zero() && !same(x, one);
  return image;
}

inline Image to_integer(const Number& x, const Format& from, const Format& to, Overflow mode) {
  Image image;
  const std::uint64_t ones = to.bits() == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << to.bits()) - 1;
  const std::uint64_t highest = to.is_signed ? ones >> 1 : ones;
  const std::uint64_t lowest = to.is_signed ? (ones >> 1) + 1 : 0;
  if (x.is_nan()) {
    image.nan = image.nan_dropped = true;
    return image;
  }
  if (x.is_infinite()) {
    image.inexact = true;
    image.pattern = x.negative ? lowest : highest;
    return image;
  }
  // 1. The integer part of the magnitude. Beyond 64 bits nothing fits, and no integer source gets there.
  std::uint64_t whole = 0;
  bool huge = false;
  bool has_fraction = false;
  if (x.exponent >= 0) {
    huge = x.significand != 0 && x.exponent > std::countl_zero(x.significand);
    whole = huge ? 0 : x.exponent > 63 ? 0 : x.significand << x.exponent;
  } else if (x.exponent <= -64) {
    has_fraction = x.significand != 0;
  } else {
    whole = x.significand >> -x.exponent;
    has_fraction = (whole << -x.exponent) != x.significand;
  }
  // 2. The largest magnitude on either side of zero.
  const std::uint64_t limit = !x.negative ? highest : to.is_signed ? highest + 1 : 0;
  if (huge || whole > limit) {
    image.overflow = true;
    const bool wraps = !from.is_float() && mode != Overflow::saturate;
    image.pattern = wraps ? (x.negative ? 0 - whole : whole) & ones : x.negative ? lowest : highest;
    return image;
  }
  image.pattern = (x.negative ? 0 - whole : whole) & ones;
  image.inexact = has_fraction;
  image.underflow = has_fraction && whole == 0;
  return image;
}

inline Image to_float(const Number& x, const Format& to, Overflow mode) {
  Image image;
  const bool saturate = mode == Overflow::saturate;
  const auto with_sign = [&](std::uint64_t code) {
    const bool keeps_sign = x.negative && !(to.style == Style::uz && code == 0);
    return code | (keeps_sign ? to.sign() : 0);
  };
  const std::uint64_t beyond = saturate            ? with_sign(to.largest())
                               : to.has_infinity() ? with_sign(to.largest() + 1)
                                                   : to.nan;
  if (x.is_nan()) {
    image.nan = true;
    image.pattern = to.nan;
    return image;
  }
  if (to.style == Style::power && (x.negative || x.is_zero())) {
    image.inexact = true;
    image.pattern = to.nan;
    return image;
  }
  if (x.is_infinite()) {
    image.inexact = saturate || !to.has_infinity();
    image.pattern = beyond;
    return image;
  }
  // 1. The last code whose value is not above |x|, among the finite ones and one more.
  const std::uint64_t past = to.largest() + 1;
  std::uint64_t low = 0;
  std::uint64_t high = past + 1;  // beyond |x|, or beyond the codes
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (compare_magnitudes(value_of(to, middle), x) <= 0 ? low : high) = middle;
  }
  // 2. This one or the next. Only e8m0 has numbers below its first code, and they stay there.
  std::uint64_t code = low;
  const int to_low = compare_magnitudes(x, value_of(to, low));
  if (code < past && to_low > 0) {
    const int side = compare_magnitudes(x, midpoint(to, low));
    const bool up = side > 0 || (side == 0 && (to.style == Style::power || low % 2 == 1));
    if (up) code = low + 1;
  }
  if (code == past) {
    image.overflow = true;
    image.pattern = beyond;
    return image;
  }
  image.pattern = with_sign(code);
  image.inexact = compare_magnitudes(x, value_of(to, code)) != 0;
  image.underflow = to.style != Style::power && code == 0 && !x.is_zero();
  return image;
}

inline Image convert(const Number& x, const Format& from, const Format& to, Overflow mode) {
  switch (to.style) {
    case Style::boolean:
      return to_boolean(x);
    case Style::integer:
      return to_integer(x, from, to, mode);
    default:
      return to_float(x, to, mode);
  }
}

inline std::string to_string(const Number& x) {
  const std::string sign = x.negative ? "-" : "";
  if (x.is_nan()) return sign + "nan";
  if (x.is_infinite()) return sign + "inf";
  return sign + std::to_string(x.significand) + "*2^" + std::to_string(x.exponent);
}

// ---- complex dtypes, as pairs ----

inline bool is_complex(DType dtype) { return dtype.code == static_cast<std::uint8_t>(halfway::TypeCode::complex); }

inline DType component(DType dtype) {
  return is_complex(dtype) ? DType(halfway::TypeCode::float_, dtype.bits / 2) : dtype;
}

// The patterns of an element's one or two components, in the machine's byte order.
struct Patterns {
  std::uint64_t real = 0;
  std::uint64_t imaginary = 0;
};

inline Patterns load(DType dtype, const std::byte* element) {
  const std::size_t size = component(dtype).bits / 8;
  Patterns patterns;
  std::memcpy(&patterns.real, element, size);  // little-endian machines
  if (is_complex(dtype)) std::memcpy(&patterns.imaginary, element + size, size);
  return patterns;
}

inline void store(DType dtype, const Patterns& patterns, std::byte* element) {
  const std::size_t size = component(dtype).bits / 8;
  std::memcpy(element, &patterns.real, size);
  if (is_complex(dtype)) std::memcpy(element + size, &patterns.imaginary, size);
}
static_assert(std::endian::native == std::endian::little, "patterns are read from their first bytes");

struct ElementImage {
  Patterns patterns;
  Image lost;  // `pattern` unused
};

// What becomes of one element of any castable dtype.
inline ElementImage convert_element(const Patterns& x, DType from, DType to, Overflow mode) {
  const Format& in = format(component(from));
  const Format& out = format(component(to));
  ElementImage result;
  const Number real = decode(in, x.real);
  if (from == to) {
    result.patterns = x;
    result.lost.nan = real.is_nan() || (is_complex(from) && decode(in, x.imaginary).is_nan());
    return result;
  }
  result.lost = convert(real, in, out, mode);
  result.patterns.real = result.lost.pattern;
  if (!is_complex(from)) return result;
  const Number imaginary = decode(in, x.imaginary);
  if (is_complex(to)) {
    const Image other = convert(imaginary, in, out, mode);
    result.patterns.imaginary = other.pattern;
    result.lost.nan |= other.nan;
    result.lost.overflow |= other.overflow;
    result.lost.underflow |= other.underflow;
    result.lost.inexact |= other.inexact;
    return result;
  }
  // The imaginary part is dropped; bool asks whether it is zero.
  if (out.style == Style::boolean && !imaginary.is_zero()) result.patterns.real = 1;
  result.lost.nan |= imaginary.is_nan();
  result.lost.nan_dropped |= imaginary.is_nan();
  result.lost.inexact |= !imaginary.is_nan() && !imaginary.is_zero();
  return result;
}

// What a report says after one more element.
inline halfway::Report& operator+=(halfway::Report& report, const Image& lost) {
  ++report.count;
  report.nan += lost.nan ? 1U : 0U;
  report.overflow += lost.overflow ? 1U : 0U;
  report.underflow += lost.underflow ? 1U : 0U;
  report.inexact += lost.inexact ? 1U : 0U;
  return report;
}

}  // namespace reference
