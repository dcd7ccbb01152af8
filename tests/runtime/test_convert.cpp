// The scalar functors, bits and flags, against exact integers: exhaustively from 8 and 16 bits, at every place where
// rounding turns, and at random.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "halfway/convert.h"
#include "reference.h"

namespace functors = halfway::convert;
using halfway::Overflow;
using reference::Format;
using reference::Image;
using reference::Number;

namespace {

// ---- the functors, called by dtype ----

struct Result {
  std::uint64_t pattern;
  functors::Flags flags;
};
using Function = Result (*)(std::uint64_t pattern, bool saturate);

template <class I>
std::uint64_t widened(I bits) {
  return static_cast<std::uint64_t>(static_cast<std::make_unsigned_t<I>>(bits));
}

template <class To, class From>
Result call(std::uint64_t pattern, bool saturate) {
  const auto [bits, flags] = functors::convert<To, From>(static_cast<typename From::Bits>(pattern), saturate);
  return {widened(bits), flags};
}

struct Source {
  halfway::DType dtype;
  std::vector<Function> to;  // in the order of the targets
};

template <class From, class... To>
Source source(functors::List<To...> /*targets*/) {
  return {From::dtype, {call<To, From>...}};
}
template <class... From>
std::vector<Source> sources(functors::List<From...> all) {
  return {source<From>(all)...};
}
template <class... E>
std::vector<const Format*> formats(functors::List<E...> /*all*/) {
  return {&reference::format(E::dtype)...};
}

const std::vector<Source>& all_sources() {
  static const std::vector<Source> all = sources(functors::Elements{});
  return all;
}
const std::vector<const Format*>& all_formats() {
  static const std::vector<const Format*> all = formats(functors::Elements{});
  return all;
}
std::size_t index_of(std::string_view name) {
  std::size_t i = 0;
  while (all_formats().at(i)->name != name) ++i;
  return i;
}

functors::Flags flags_of(const Image& image) {
  return static_cast<functors::Flags>((image.nan ? functors::saw_nan : 0) | (image.overflow ? functors::overflow : 0) |
                                      (image.underflow ? functors::underflow : 0) |
                                      (image.inexact ? functors::inexact : 0) |
                                      (image.nan_dropped ? functors::nan_dropped : 0));
}

// Compares and counts, so that a broken functor gives a few readable lines instead of millions.
class Checker {
 public:
  Checker() = default;
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;
  ~Checker() {
    BOOST_TEST(wrong_ == 0U, wrong_ << " of " << count_ << " wrong");
    BOOST_TEST(count_ > 0U);
  }

  void check(std::size_t from, std::size_t to, std::uint64_t pattern) {
    const Format& in = *all_formats()[from];
    const Format& out = *all_formats()[to];
    const Number x = reference::decode(in, pattern);
    for (const bool saturate : {false, true}) {
      const Image expected = reference::convert(x, in, out, saturate ? Overflow::saturate : Overflow::by_format);
      const Result result = all_sources()[from].to[to](pattern, saturate);
      ++count_;
      if (result.pattern == expected.pattern && result.flags == flags_of(expected)) continue;
      if (++wrong_ > 5) continue;
      BOOST_ERROR(in.name << " " << std::hex << pattern << " = " << reference::to_string(x) << " to " << out.name
                          << (saturate ? " saturating" : "") << ": " << result.pattern << " flags " << result.flags
                          << ", not " << expected.pattern << " flags " << flags_of(expected));
    }
  }

  void check(std::string_view from, std::size_t to, std::uint64_t pattern) { check(index_of(from), to, pattern); }

  // A double, and a float where it is one, of both signs.
  void check_double(std::size_t to, double x) {
    for (const double value : {x, -x}) {
      check("float64", to, std::bit_cast<std::uint64_t>(value));
      const auto single = static_cast<float>(value);
      if (static_cast<double>(single) == value) check("float32", to, std::bit_cast<std::uint32_t>(single));
    }
  }
  // With its neighbours in both widths.
  void check_around(std::size_t to, double x) {
    check_double(to, x);
    check_double(to, std::nextafter(x, std::numeric_limits<double>::infinity()));
    check_double(to, std::nextafter(x, -std::numeric_limits<double>::infinity()));
    const auto single = static_cast<float>(x);
    if (static_cast<double>(single) != x) return;
    check_double(to, std::nextafter(single, std::numeric_limits<float>::infinity()));
    check_double(to, std::nextafter(single, -std::numeric_limits<float>::infinity()));
  }

  void check_integers(std::size_t to, std::uint64_t value) {
    check("uint64", to, value);
    check("int64", to, value);
    check("int64", to, 0 - value);
  }

 private:
  std::uint64_t count_ = 0;
  std::uint64_t wrong_ = 0;
};

// Exact: double holds every value and midpoint of formats of up to 32 bits.
double to_double(const Number& x) {
  const double value = std::ldexp(static_cast<double>(x.significand), x.exponent);
  return x.negative ? -value : value;
}

std::mt19937_64 generator(std::uint64_t seed) { return std::mt19937_64(seed); }

// ---- the reference itself ----

BOOST_AUTO_TEST_SUITE(convert)

BOOST_AUTO_TEST_CASE(reference_reads_hardware_floats) {
  auto random = generator(1);
  const Format& f32 = reference::format(halfway::float32);
  const Format& f64 = reference::format(halfway::float64);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t bits = random();
    const auto single = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const auto value = std::bit_cast<double>(bits);
    const Number from_single = reference::decode(f32, static_cast<std::uint32_t>(bits));
    const Number from_double = reference::decode(f64, bits);
    BOOST_TEST_REQUIRE(from_single.is_nan() == std::isnan(single));
    BOOST_TEST_REQUIRE(from_double.is_nan() == std::isnan(value));
    if (std::isfinite(single)) BOOST_TEST_REQUIRE(to_double(from_single) == static_cast<double>(single));
    if (std::isfinite(value)) BOOST_TEST_REQUIRE(to_double(from_double) == value);
  }
}

BOOST_AUTO_TEST_CASE(reference_rounds_as_hardware_does) {
  // In the default mode the processor rounds doubles to floats as IEEE 754 says, and so must the reference.
  auto random = generator(2);
  const Format& f32 = reference::format(halfway::float32);
  const Format& f64 = reference::format(halfway::float64);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t exponent = 870 + random() % 285;  // from below float's subnormals to above its range
    const double value = std::bit_cast<double>((random() & 0x800FFFFFFFFFFFFF) | exponent << 52);
    const Image image =
        reference::convert(reference::decode(f64, std::bit_cast<std::uint64_t>(value)), f64, f32, Overflow::by_format);
    BOOST_TEST_REQUIRE(image.pattern == std::bit_cast<std::uint32_t>(static_cast<float>(value)));
  }
}

// ---- decoding ----

BOOST_AUTO_TEST_CASE(every_narrow_pattern_decodes_exactly) {
  // Into float32 or float64 by way of the functor of the same wide type, which keeps every number.
  const std::size_t to = index_of("float64");
  const Format& out = *all_formats()[to];
  int count = 0;
  for (std::size_t from = 0; from < all_formats().size(); ++from) {
    const Format& in = *all_formats()[from];
    if (in.bits() > 16) continue;
    for (std::uint64_t pattern = 0; pattern < std::uint64_t{1} << in.bits(); ++pattern) {
      const Number expected = reference::decode(in, pattern);
      const Result result = all_sources()[from].to[to](pattern, false);
      ++count;
      const Number found = reference::decode(out, result.pattern);
      if (expected.is_nan() ? !found.is_nan() : !reference::same(found, expected)) {
        BOOST_ERROR(in.name << " " << std::hex << pattern << " decodes to " << reference::to_string(found) << ", not "
                            << reference::to_string(expected));
      }
    }
  }
  BOOST_TEST(count == 11 * 256 + 4 * 65536);
}

// ---- encoding ----

BOOST_AUTO_TEST_CASE(every_8_and_16_bit_pattern_to_every_dtype) {
  Checker checker;
  for (std::size_t from = 0; from < all_formats().size(); ++from) {
    if (all_formats()[from]->bits() > 16) continue;
    for (std::size_t to = 0; to < all_formats().size(); ++to) {
      for (std::uint64_t pattern = 0; pattern < std::uint64_t{1} << all_formats()[from]->bits(); ++pattern) {
        checker.check(from, to, pattern);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_value_and_midpoint_of_narrow_floats_and_their_neighbours) {
  Checker checker;
  for (std::size_t to = 0; to < all_formats().size(); ++to) {
    const Format& out = *all_formats()[to];
    if (!out.is_float() || out.bits() > 16) continue;
    // The last midpoint is the one where overflow begins.
    for (std::uint64_t code = 0; code <= out.largest(); ++code) {
      checker.check_around(to, to_double(reference::value_of(out, code)));
      checker.check_around(to, to_double(reference::midpoint(out, code)));
    }
    // Below the first value: half of it, a quarter, and the smallest numbers there are.
    const double first = to_double(reference::value_of(out, out.style == reference::Style::power ? 0 : 1));
    for (const double x : {first / 2, first / 4, first * 3 / 4, std::numeric_limits<double>::min(),
                           std::numeric_limits<double>::denorm_min(), double{std::numeric_limits<float>::min()},
                           double{std::numeric_limits<float>::denorm_min()}, std::numeric_limits<double>::max(),
                           double{std::numeric_limits<float>::max()}}) {
      checker.check_around(to, x);
    }
  }
}

BOOST_AUTO_TEST_CASE(float64_to_float32_where_rounding_turns) {
  Checker checker;
  const std::size_t to = index_of("float32");
  const Format& out = *all_formats()[to];
  auto random = generator(3);
  std::vector<std::uint64_t> codes{0, 1, 2, 3, out.largest(), out.largest() - 1, out.largest() - 2};
  for (const std::uint64_t smallest_normal = 0x800000; const int step : {-2, -1, 0, 1}) {
    codes.push_back(smallest_normal + static_cast<std::uint64_t>(step));
  }
  for (std::uint64_t exponent = 1; exponent < 255; ++exponent) {
    codes.insert(codes.end(), {exponent << 23, (exponent << 23) + 1, ((exponent + 1) << 23) - 1});
  }
  while (codes.size() < 40000) codes.push_back(random() % (out.largest() + 1));
  for (int i = 0; i < 5000; ++i) codes.push_back(random() % 0x800000);  // subnormal
  for (const std::uint64_t code : codes) {
    if (code > out.largest()) continue;
    checker.check_around(to, to_double(reference::value_of(out, code)));
    checker.check_around(to, to_double(reference::midpoint(out, code)));
  }
}

BOOST_AUTO_TEST_CASE(integers_at_powers_of_two_and_midpoints) {
  Checker checker;
  auto random = generator(4);
  for (std::size_t to = 0; to < all_formats().size(); ++to) {
    for (int power = 0; power < 64; ++power) {
      for (std::uint64_t step = 0; step <= 8; ++step) {
        checker.check_integers(to, (std::uint64_t{1} << power) + step - 4);
      }
    }
    const Format& out = *all_formats()[to];
    if (!out.is_float()) continue;
    std::vector<std::uint64_t> codes;
    if (out.bits() <= 16) {
      for (std::uint64_t code = 0; code <= out.largest(); ++code) codes.push_back(code);
    } else {
      // Exponents from where the unit is 2 up to 2^64.
      const auto lowest = static_cast<std::uint64_t>(out.bias + out.mantissa_bits + 1);
      const auto highest = static_cast<std::uint64_t>(out.bias + 63);
      for (std::uint64_t exponent = lowest; exponent <= highest; ++exponent) {
        const std::uint64_t first = exponent << out.mantissa_bits;
        const std::uint64_t mantissas = std::uint64_t{1} << out.mantissa_bits;
        codes.insert(codes.end(), {first, first + 1, first + mantissas - 2, first + mantissas - 1});
        for (int i = 0; i < 300; ++i) codes.push_back(first + random() % mantissas);
      }
    }
    for (const std::uint64_t code : codes) {
      for (Number x : {reference::value_of(out, code), reference::midpoint(out, code)}) {
        while (x.exponent < 0 && x.significand % 2 == 0 && x.significand != 0) {
          x.significand /= 2;
          ++x.exponent;
        }
        if (x.exponent < 0 || x.exponent > std::countl_zero(x.significand | 1)) continue;
        const std::uint64_t value = x.exponent > 63 ? 0 : x.significand << x.exponent;
        for (std::uint64_t step = 0; step <= 4; ++step) checker.check_integers(to, value + step - 2);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(floats_at_the_ends_of_every_integer_type) {
  Checker checker;
  for (std::size_t to = 0; to < all_formats().size(); ++to) {
    const Format& out = *all_formats()[to];
    if (out.is_float()) continue;
    // 2^k and 2^k - 1 for every k cover each type's ends; the fractions are where truncation turns.
    for (int power = 0; power <= 66; ++power) {
      for (const double offset : {-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0}) {
        checker.check_around(to, std::ldexp(1.0, power) + offset);
      }
    }
    for (const double x : {0.0, 0.3, 1e-300, 1e300, std::numeric_limits<double>::denorm_min(),
                           double{std::numeric_limits<float>::denorm_min()}, 1e38}) {
      checker.check_around(to, x);
    }
  }
}

BOOST_AUTO_TEST_CASE(special_values_of_wide_floats) {
  Checker checker;
  for (std::size_t to = 0; to < all_formats().size(); ++to) {
    for (const std::uint64_t sign : {std::uint64_t{0}, std::uint64_t{1}}) {
      for (const std::uint64_t payload :
           {0x7F800000U, 0x7F800001U, 0x7FBFFFFFU, 0x7FC00000U, 0x7FC12345U, 0x7FFFFFFFU, 0U, 1U, 0x7FFFFFU}) {
        checker.check("float32", to, payload | sign << 31);
      }
      for (const std::uint64_t payload :
           {0x7FF0000000000000U, 0x7FF0000000000001U, 0x7FF7FFFFFFFFFFFFU, 0x7FF8000000000000U, 0x7FF8123456789ABCU,
            0x7FFFFFFFFFFFFFFFU, 0x7FF0000020000000U, 0x0UL, 0x1UL, 0xFFFFFFFFFFFFFUL}) {
        checker.check("float64", to, payload | sign << 63);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(random_patterns_of_wide_dtypes) {
  Checker checker;
  auto random = generator(5);
  for (std::size_t from = 0; from < all_formats().size(); ++from) {
    const Format& in = *all_formats()[from];
    if (in.bits() <= 16) continue;
    const std::uint64_t ones = in.bits() == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << in.bits()) - 1;
    for (std::size_t to = 0; to < all_formats().size(); ++to) {
      const Format& out = *all_formats()[to];
      for (int i = 0; i < 3000; ++i) {
        std::uint64_t pattern = random() & ones;
        if (in.is_float() && i % 2 == 0) {
          // Near the target's range, with few mantissa bits: ties and exact values become likely.
          const int reach = out.is_float() ? out.bias + out.mantissa_bits + 4 : 70;
          const int exponent = static_cast<int>(random() % static_cast<std::uint64_t>(2 * reach)) - reach;
          const std::uint64_t field =
              static_cast<std::uint64_t>(std::min(std::max(exponent + in.bias, 0), (1 << in.exponent_bits) - 1));
          const std::uint64_t mantissa =
              (random() & random() & random()) & ((std::uint64_t{1} << in.mantissa_bits) - 1);
          pattern = (random() % 2 == 0 ? in.sign() : 0) | field << in.mantissa_bits |
                    (mantissa >> random() % 40 << random() % 40 & ((std::uint64_t{1} << in.mantissa_bits) - 1));
        } else if (!in.is_float()) {
          pattern = (pattern >> random() % static_cast<std::uint64_t>(in.bits())) & ones;
          if (random() % 2 == 0) pattern = (0 - pattern) & ones;
        }
        checker.check(from, to, pattern);
      }
    }
  }
}

// ---- complex numbers, and use at compile time ----

BOOST_AUTO_TEST_CASE(dropped_imaginary_parts) {
  const auto check = [](auto zero) {
    using W = decltype(zero);
    using limits = std::numeric_limits<W>;
    BOOST_TEST(functors::dropped_imaginary(W{0}) == 0);
    BOOST_TEST(functors::dropped_imaginary(-W{0}) == 0);
    for (const W x : {W{1}, W{-1}, limits::denorm_min(), -limits::denorm_min(), limits::max(), limits::infinity(),
                      -limits::infinity()}) {
      BOOST_TEST(functors::dropped_imaginary(x) == functors::inexact);
    }
    for (const W x : {limits::quiet_NaN(), -limits::quiet_NaN(), limits::signaling_NaN()}) {
      BOOST_TEST(functors::dropped_imaginary(x) == (functors::saw_nan | functors::nan_dropped));
    }
  };
  check(0.0F);
  check(0.0);
}

// The compiler evaluates the same functors.
static_assert(functors::convert<functors::BFloat16, functors::Float32>(0x3F808000, false).bits == 0x3F80);
static_assert(functors::convert<functors::BFloat16, functors::Float64>(0x3FF0100000000001, false).bits == 0x3F81);
static_assert(functors::convert<functors::Float16, functors::Integer<std::int64_t>>(65519, false).bits == 0x7BFF);
static_assert(functors::convert<functors::Float16, functors::Integer<std::int64_t>>(65520, false).bits == 0x7C00);
static_assert(functors::convert<functors::Float8E4M3FN, functors::Float32>(0x43E80000, false).bits == 0x7E);  // 464
static_assert(functors::Float8E4M3FN::encode(464.5F, false).bits == 0x7F);
static_assert(functors::Float8E4M3FN::encode(464.5F, false).flags == functors::overflow);
static_assert(functors::Float8E8M0FNU::encode(3.0, false).bits == 129);  // the tie between 2 and 4 goes up
static_assert(functors::Integer<std::uint8_t>::encode(-0.5, false).flags == (functors::inexact | functors::underflow));
static_assert(functors::Boolean::encode(std::uint64_t{2}, false).flags == functors::inexact);
static_assert(functors::Elements::size == 21);

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
