// Scale and shift, and the ways to round that a cast has on request: the scalar functors beside those of convert.h, for
// host loops and device kernels alike.
//
//   multiply_add        round(x * scale + shift), once, on processors without that instruction too
//   encode_nearest      numbers to integers, to nearest even: what a cast with scale or shift stores
//   encode_stochastic   numbers to floats, up or down by chance
//   philox, lane_of     the chance: a number for each element, that depends on nothing but the seed and its index
//
// Stochastic rounding. Let x lie between two neighbours of the target format, the first nearer to zero, and let f be
// the part of their distance that x is beyond the first one. Element i of the result, counted in row-major order, has
// the lane r = lane_of(philox(i / 8, seed), i % 8), a number of 16 bits. The result is the neighbour away from zero iff
// floor(f * 2^16) + r >= 2^16. So
//
//   a value that is representable stays, and the probability to go away from zero is f, rounded down to 16 bits;
//   above the largest finite number the next neighbour is what an exponent without end would give: from there on, or
//     once rounded there, the value has overflowed, and becomes what `Overflow` says of it;
//   below the smallest number its neighbours are zero and that number; only e8m0, which has no zero, keeps the
//   smallest; signs, NaN, infinities, zero and what e8m0 makes of negative numbers: as when rounded to nearest.
//
// f is exact for every source: 64-bit integers and double are not narrowed before their fraction is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "halfway/convert.h"

namespace halfway {
inline namespace v0 {
#if defined(HALFWAY_CONVERT_INTERNAL)
namespace {  // NOLINT(google-build-namespaces,cert-dcl59-cpp)
#endif
namespace convert {

// --- scale and shift

// The shift that changes no number: x + -0.0 is x, -0.0 included.
inline constexpr double no_shift = -0.0;

// Without the instruction, through double: the product of two floats is exact there, and the sum is rounded to odd (see
// `to_odd` in convert.h), for which its error is needed (Knuth's TwoSum).
HALFWAY_HD constexpr float multiply_add_in_double(float x, float scale, float shift) noexcept {
  using Fields = detail::Wide<double>;
  const double product = static_cast<double>(x) * static_cast<double>(scale);
  const auto addend = static_cast<double>(shift);
  const double sum = product + addend;
  const double of_sum = sum - product;
  const double error = (product - (sum - of_sum)) + (addend - of_sum);
  const std::uint64_t pattern = detail::bits_of(sum);
  const bool is_finite = detail::is_greater(Fields::infinity, pattern & ~Fields::sign);
  // Away from zero if the error has the sum's sign, else towards zero.
  const bool differs = ((detail::bits_of(error) ^ pattern) & Fields::sign) != 0;
  const std::uint64_t step = detail::mask(differs) | 1;
  const std::uint64_t wanted = detail::mask(is_finite & (error != 0)) & ((pattern & 1) - 1);
  return static_cast<float>(detail::bit_cast<double>(pattern + (step & wanted)));
}

HALFWAY_HD inline float multiply_add(float x, float scale, float shift) noexcept {
#if defined(__FMA__) || defined(__aarch64__) || defined(__CUDA_ARCH__)
  return __builtin_fmaf(x, scale, shift);
#else
  return multiply_add_in_double(x, scale, shift);
#endif
}

// Without the instruction this is a call of the C library, which is exact, and slow where the processor lacks it too.
HALFWAY_HD inline double multiply_add(double x, double scale, double shift) noexcept {
  return __builtin_fma(x, scale, shift);
}

// --- to nearest, into integers

namespace detail {

// The nearest integer, the even one of two. From 2^mantissa_bits on all numbers are integers; below, the sum with that
// power has no room for a fraction. NaN stays.
template <class W>
HALFWAY_HD constexpr W nearest_integer(W value) noexcept {
  using Fields = Wide<W>;
  using Bits = typename Fields::Bits;
  constexpr W power = static_cast<W>(Fields::hidden);
  constexpr Bits power_bits = bits_of(power);
  const Bits magnitude = magnitude_bits(value);
  const Bits sign = bits_of(value) ^ magnitude;
  const Bits rounded = bits_of((bit_cast<W>(magnitude) + power) - power);
  return bit_cast<W>((is_greater(power_bits, magnitude) ? rounded : magnitude) | sign);
}

}  // namespace detail

// A float or double into an integer element. What it loses is judged by the value as it was.
template <class E, class W>
HALFWAY_HD constexpr Encoded<typename E::Bits> encode_nearest(W value, bool saturate) noexcept {
  const W rounded = detail::nearest_integer(value);
  const Encoded<typename E::Bits> encoded = E::encode(rounded, saturate);
  const bool changed = (rounded != value) & (value == value);  // NOLINT(misc-redundant-expression): NaN is counted
  const bool stored = (encoded.flags & (overflow | saw_nan)) == 0;
  const Flags lost = detail::when(changed & stored, inexact) | detail::when(changed & (rounded == 0), underflow);
  return {encoded.bits, encoded.flags | lost};
}

// --- chance

// Four words for one counter: the generator Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
// as easy as 1, 2, 3" (2011). Here the counter's upper half is zero and the key is the seed, low words first.
struct Words {
  std::uint32_t word[4];
};

struct Philox {
  static constexpr std::uint32_t multiplier_0 = 0xD2511F53;
  static constexpr std::uint32_t multiplier_2 = 0xCD9E8D57;
  static constexpr std::uint32_t weyl_0 = 0x9E3779B9;  // the golden ratio
  static constexpr std::uint32_t weyl_1 = 0xBB67AE85;  // the square root of 3, less 1
  static constexpr int rounds = 10;
};

HALFWAY_HD constexpr Words philox(std::uint64_t counter, std::uint64_t seed) noexcept {
  auto x0 = static_cast<std::uint32_t>(counter);
  auto x1 = static_cast<std::uint32_t>(counter >> 32);
  std::uint32_t x2 = 0;
  std::uint32_t x3 = 0;
  auto key_0 = static_cast<std::uint32_t>(seed);
  auto key_1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < Philox::rounds; ++round) {
    const std::uint64_t product_0 = std::uint64_t{Philox::multiplier_0} * x0;
    const std::uint64_t product_2 = std::uint64_t{Philox::multiplier_2} * x2;
    x0 = static_cast<std::uint32_t>(product_2 >> 32) ^ x1 ^ key_0;
    x1 = static_cast<std::uint32_t>(product_2);
    x2 = static_cast<std::uint32_t>(product_0 >> 32) ^ x3 ^ key_1;
    x3 = static_cast<std::uint32_t>(product_0);
    key_0 += Philox::weyl_0;
    key_1 += Philox::weyl_1;
  }
  return {{x0, x1, x2, x3}};
}

// One of the eight lanes of 16 bits, the lower half of each word first.
HALFWAY_HD constexpr std::uint16_t lane_of(const Words& words, std::size_t lane) noexcept {
  return static_cast<std::uint16_t>(words.word[lane / 2] >> (lane % 2 * 16));
}

inline constexpr std::size_t lanes_of_counter = 8;

// --- stochastic

namespace detail {

// A magnitude of a wide float, rounded to E with the lane r. `pattern` counts on from the finite ones as if the
// exponent had no end; infinity and NaN come out beyond them.
template <class Bits>
struct RoundedUp {
  Bits pattern;
  bool changed;
};

// floor(value) for 0 <= value < 2^51 (double) or 2^31 (float), as an integer.
HALFWAY_HD constexpr std::uint32_t whole_part(float value) noexcept {
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(value));
}
HALFWAY_HD constexpr std::uint64_t whole_part(double value) noexcept {
  constexpr double power = static_cast<double>(Wide<double>::hidden);
  const double sum = value + power;
  return bits_of(sum) - bits_of(power) - static_cast<std::uint64_t>(sum - power > value);
}

template <class W>
HALFWAY_HD constexpr W wide_power_of_two(int exponent) noexcept {
  using Fields = Wide<W>;
  return bit_cast<W>(static_cast<typename Fields::Bits>(exponent + Fields::bias) << Fields::mantissa_bits);
}

// The lane, such that adding it to a fraction of `shift` bits carries out of it as the rule says.
template <int shift, class Bits>
HALFWAY_HD constexpr Bits aligned_lane(std::uint32_t lane) noexcept {
  if constexpr (shift >= 16) {
    return static_cast<Bits>(lane) << (shift - 16);
  } else {
    return static_cast<Bits>(lane >> (16 - shift));
  }
}

template <class E, class W>
HALFWAY_HD constexpr RoundedUp<typename Wide<W>::Bits> round_up_by_chance(typename Wide<W>::Bits magnitude,
                                                                          std::uint32_t lane) noexcept {
  using Fields = Wide<W>;
  using Bits = typename Fields::Bits;
  // 1. Normal numbers of the target: correct the exponent by the difference of the biases, and drop the mantissa's
  //    lower bits, which with the lane added carry into the kept ones.
  constexpr int shift = Fields::mantissa_bits - E::mantissa_bits;
  constexpr Bits fraction = (Bits{1} << shift) - 1;
  constexpr Bits rebias = static_cast<Bits>(Fields::bias - E::bias) << Fields::mantissa_bits;
  const Bits normal = (magnitude - rebias + aligned_lane<shift, Bits>(lane)) >> shift;
  const bool normal_changed = (magnitude & fraction) != 0;
  if constexpr (E::bias == Fields::bias) {
    return {normal, normal_changed};  // bfloat16 from float: subnormals too
  } else {
    // 2. Subnormal numbers: in units of 2^-16 of the target's last bit the rule is a sum of integers. The factor is a
    //    power of two and the product at most 2^(16 + mantissa_bits): it is exact, what it drops included.
    constexpr int min_exponent = 1 - E::bias;
    constexpr W units = wide_power_of_two<W>(16 + E::mantissa_bits - min_exponent);
    constexpr Bits smallest_normal = bits_of(wide_power_of_two<W>(min_exponent));
    const bool is_subnormal = is_greater(smallest_normal, magnitude);
    const W scaled = bit_cast<W>(is_subnormal ? magnitude : Bits{0}) * units;
    const Bits whole = whole_part(scaled);
    const Bits subnormal = (whole + lane) >> 16;
    const bool subnormal_changed =
        ((whole & 0xFFFF) != 0) | (static_cast<W>(static_cast<std::make_signed_t<Bits>>(whole)) != scaled);
    return {is_subnormal ? subnormal : normal, is_subnormal ? subnormal_changed : normal_changed};
  }
}

// A wide float into a float of fewer bits.
template <class E, class W>
HALFWAY_HD constexpr Encoded<typename E::Bits> encode_stochastic_float(W value, std::uint32_t lane,
                                                                       bool saturate) noexcept {
  using Fields = Wide<W>;
  using Bits = typename Fields::Bits;
  constexpr Bits max_finite{E::max_finite};
  constexpr Bits largest_number = max_finite + (E::has_infinity ? 1 : 0);
  constexpr Bits sign_bit = Bits{1} << (E::bits - 1);
  const Bits pattern = bits_of(value);
  const Bits magnitude = pattern & ~Fields::sign;
  const auto [code_out, changed] = round_up_by_chance<E, W>(magnitude, lane);
  const bool is_nan = is_greater(magnitude, Fields::infinity);
  const bool is_infinite = magnitude == Fields::infinity;
  const bool is_finite = is_greater(Fields::infinity, magnitude);
  const bool beyond = is_greater(code_out, max_finite);
  const Bits limit = saturate ? max_finite : largest_number;
  const Bits number = beyond ? limit : code_out;
  Bits sign_out = pattern != magnitude ? sign_bit : Bits{0};
  if constexpr (!E::has_negative_zero) sign_out = number == 0 ? Bits{0} : sign_out;
  const bool becomes_nan = is_nan | (!E::has_infinity & beyond & !saturate);
  const bool lost_infinity = is_infinite & (saturate | !E::has_infinity);
  const Flags flags = when(is_nan, saw_nan) | when(is_finite & beyond, overflow) |
                      when((is_finite & changed & !beyond) | lost_infinity, inexact) |
                      when(is_finite & changed & (code_out == 0), underflow);
  return {static_cast<typename E::Bits>(becomes_nan ? Bits{E::canonical_nan} : number | sign_out), flags};
}

// A wide float into e8m0, between two powers of two.
template <class E, class W>
HALFWAY_HD constexpr Encoded<typename E::Bits> encode_stochastic_power(W value, std::uint32_t lane,
                                                                       bool saturate) noexcept {
  using Fields = Wide<W>;
  using Bits = typename Fields::Bits;
  const Bits pattern = bits_of(value);
  const Bits magnitude = pattern & ~Fields::sign;
  constexpr Bits rebias = static_cast<Bits>(Fields::bias - E::bias) << Fields::mantissa_bits;
  // The smallest power, 2^-127, is subnormal in float: from it to the next there is one digit less.
  constexpr int lost = E::bias == Fields::bias ? 1 : 0;
  constexpr Bits smallest = lost != 0 ? Fields::hidden >> 1 : rebias;
  const bool is_below = is_greater(smallest, magnitude);
  Bits code_out = (magnitude - rebias + aligned_lane<Fields::mantissa_bits, Bits>(lane)) >> Fields::mantissa_bits;
  Bits fraction = magnitude & Fields::fraction;
  if constexpr (lost != 0) {
    const bool is_first = is_greater(Fields::hidden, magnitude);
    const Bits beyond_first = magnitude - smallest;
    const Bits first =
        (beyond_first + aligned_lane<Fields::mantissa_bits - 1, Bits>(lane)) >> (Fields::mantissa_bits - 1);
    code_out = is_first ? first : code_out;
    fraction = is_first ? beyond_first : fraction;
  }
  code_out = is_below ? Bits{0} : code_out;
  const bool is_nan = is_greater(magnitude, Fields::infinity);
  const bool is_infinite = magnitude == Fields::infinity;
  const bool has_image = (pattern == magnitude) & (magnitude != 0);  // positive
  const bool beyond = is_greater(code_out, Bits{E::max_finite});
  const Bits limit = saturate ? Bits{E::max_finite} : Bits{E::canonical_nan};
  const Bits image = beyond ? limit : code_out;
  const bool overflows = has_image & beyond & !is_infinite;
  const bool changed = !has_image | is_infinite | is_below | (fraction != 0);
  const Flags flags =
      when(is_nan, saw_nan) | when(!is_nan & overflows, overflow) | when(!is_nan & !overflows & changed, inexact);
  return {static_cast<typename E::Bits>((is_nan | !has_image) ? Bits{E::canonical_nan} : image), flags};
}

// 64-bit integers into double: up to 11 bits are dropped, as many as the number has beyond 53.
template <class E, class I>
HALFWAY_HD constexpr Encoded<typename E::Bits> encode_stochastic_integer(I value, std::uint32_t lane) noexcept {
  bool negative = false;
  if constexpr (std::is_signed_v<I>) negative = value < 0;
  std::uint64_t magnitude = static_cast<std::uint64_t>(value);
  if (negative) magnitude = 0 - magnitude;
  int shift = 0;
  while (shift < 11 && (magnitude >> (53 + shift)) != 0) ++shift;
  const std::uint64_t dropped = magnitude & ((std::uint64_t{1} << shift) - 1);
  const bool up = ((dropped << 16) >> shift) + lane >= 0x10000;
  // Both of at most 53 bits but for 2^53 itself, and then a power of two: exact.
  const auto kept = static_cast<std::int64_t>((magnitude >> shift) + (up ? 1 : 0));
  const double number = static_cast<double>(kept) * static_cast<double>(std::int64_t{1} << shift);
  return {bits_of(negative ? -number : number), when(dropped != 0, inexact)};
}

}  // namespace detail

// A value of any wide type into a float element.
template <class E, class W>
HALFWAY_HD constexpr Encoded<typename E::Bits> encode_stochastic(W value, std::uint32_t lane, bool saturate) noexcept {
  static_assert(is_float<E>);
  if constexpr (std::is_floating_point_v<W>) {
    if constexpr (sizeof(typename E::Bits) >= sizeof(W)) {
      return E::encode(value, saturate);  // every value is representable
    } else if constexpr (E::mantissa_bits == 0) {
      return detail::encode_stochastic_power<E>(value, lane, saturate);
    } else {
      return detail::encode_stochastic_float<E>(value, lane, saturate);
    }
  } else if constexpr (E::bits == 64) {
    return detail::encode_stochastic_integer<E>(value, lane);
  } else {
    // To odd at the 12th bit of a number of 54 and more (see to_odd_double) leaves the 40 that decide as they are, and
    // remembers whether there was anything below them.
    return encode_stochastic<E>(detail::to_odd_double(value), lane, saturate);
  }
}

}  // namespace convert
#if defined(HALFWAY_CONVERT_INTERNAL)
}  // namespace
#endif
}  // namespace v0
}  // namespace halfway
