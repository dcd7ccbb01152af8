// What scale and shift, permuted axes and stochastic rounding must give: from the definitions, element by element.
// Shares nothing with the library but names.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "reference.h"

namespace reference {

inline double to_double(const Number& x) {
  const double sign = x.negative ? -1.0 : 1.0;
  if (x.is_nan()) return std::nan("");
  if (x.is_infinite()) return sign * HUGE_VAL;
  return sign * std::ldexp(static_cast<double>(x.significand), x.exponent);
}

inline Number number_of(double x) { return decode(format(halfway::float64), std::bit_cast<std::uint64_t>(x)); }

// Whether affine casts from this dtype are computed in double.
inline bool computes_in_double(const Format& from) {
  return from.bits() == 64 || (from.style == Style::integer && from.bits() == 32);
}

// x * scale + shift as the contract has it. std::fma and std::fmaf round once. A float is a double, exactly.
inline double affine(const Number& x, const Format& from, const double* scale, const double* shift) {
  if (computes_in_double(from)) {
    return std::fma(to_double(x), scale != nullptr ? *scale : 1.0, shift != nullptr ? *shift : -0.0);
  }
  const auto narrow = [](const double* value, float otherwise) {
    return value != nullptr ? static_cast<float>(*value) : otherwise;
  };
  return static_cast<double>(std::fmaf(static_cast<float>(to_double(x)), narrow(scale, 1.0F), narrow(shift, -0.0F)));
}

// A number into an integer, to nearest even.
inline Image to_nearest_integer(double y, const Format& to, Overflow mode) {
  const double rounded = std::nearbyint(y);
  const Format& wide = format(halfway::float64);
  Image image = to_integer(number_of(rounded), wide, to, mode);
  if (std::isfinite(y) && !image.overflow && rounded != y) {
    image.inexact = true;
    image.underflow = rounded == 0;
  }
  return image;
}

// Philox4x32-10, from figure 2 and section 3.3 of the paper, with counter and key as arrays.
inline std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      key[0] += 0x9E3779B9U;
      key[1] += 0xBB67AE85U;
    }
    const std::uint64_t left = 0xD2511F53ULL * counter[0];
    const std::uint64_t right = 0xCD9E8D57ULL * counter[2];
    counter = {static_cast<std::uint32_t>(right >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(right),
               static_cast<std::uint32_t>(left >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(left)};
  }
  return counter;
}

inline std::uint32_t lane(std::uint64_t seed, std::uint64_t index) {
  const std::uint64_t block = index / 8;
  const auto words = philox({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0},
                            {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  const std::uint32_t word = words[index % 8 / 2];
  return index % 2 == 0 ? word & 0xFFFF : word >> 16;
}

// floor(f * 2^16): how far |x| is beyond the value of `code`, in parts of the way to the next code's.
inline std::uint64_t fraction(const Number& x, const Format& to, std::uint64_t code) {
  const Number low = value_of(to, code);
  const int digits = low.exponent - x.exponent;  // of x below the last one of the code
  if (digits <= 0) return 0;                     // x is the value itself
  const std::uint64_t base = low.significand == 0 ? 0 : low.significand << digits;
  const std::uint64_t beyond = x.significand - base;
  if (digits <= 16) return beyond << (16 - digits);
  return digits - 16 > 63 ? 0 : beyond >> (digits - 16);
}

// A number into a float by chance.
inline Image to_float_by_chance(const Number& x, const Format& to, Overflow mode, std::uint32_t r) {
  const bool is_ordinary = !x.is_nan() && !x.is_infinite() && !x.is_zero() && !(to.style == Style::power && x.negative);
  if (!is_ordinary || compare_magnitudes(x, value_of(to, 0)) < 0) return to_float(x, to, mode);
  const std::uint64_t past = to.largest() + 1;
  std::uint64_t low = 0;
  std::uint64_t high = past + 1;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (compare_magnitudes(value_of(to, middle), x) <= 0 ? low : high) = middle;
  }
  const bool is_exact = compare_magnitudes(x, value_of(to, low)) == 0;
  if (is_exact || low == past) return to_float(x, to, mode);
  const bool up = fraction(x, to, low) + r >= 0x10000;
  Number rounded = value_of(to, low + (up ? 1 : 0));
  rounded.negative = x.negative;
  Image image = to_float(rounded, to, mode);  // a value of the format, or the first one past it
  image.inexact = !image.overflow;
  image.underflow = rounded.is_zero();
  return image;
}

}  // namespace reference
