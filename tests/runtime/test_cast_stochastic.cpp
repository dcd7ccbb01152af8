// Stochastic rounding: the generator, the rule against exact arithmetic, and the indices that elements have in layouts.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "cast/pass.h"
#include "halfway/cast.h"
#include "halfway/parallel.h"
#include "halfway/rounding.h"
#include "reference.h"
#include "reference_transform.h"
#include "rounds.h"
#include "under_test.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::Overflow;
using halfway::Report;
using halfway::Rounding;
using halfway::Tensor;
using halfway::detail::available_tiers;
using under_test::InTier;

namespace {

namespace convert = halfway::convert;

std::vector<DType> float_dtypes() {
  std::vector<DType> all;
  for (const reference::Format& format : reference::formats()) {
    if (format.is_float()) all.push_back(format.dtype);
  }
  return all;
}

// One element by chance, or by the ordinary rule where the target is no narrower. A component has a lane of its own.
reference::ElementImage convert_by_chance(const reference::Patterns& x, DType from, DType to, Overflow mode,
                                          std::uint64_t seed, std::uint64_t index) {
  if (from == to) return reference::convert_element(x, from, to, mode);
  reference::ElementImage result = reference::convert_element(x, from, to, mode);
  const reference::Format& in = reference::format(reference::component(from));
  const reference::Format& out = reference::format(reference::component(to));
  const std::uint64_t components = reference::is_complex(to) ? 2 : 1;
  const auto chance = [&](std::uint64_t pattern, std::uint64_t component) {
    return reference::to_float_by_chance(reference::decode(in, pattern), out, mode,
                                         reference::lane(seed, index * components + component));
  };
  const reference::Image real = chance(x.real, 0);
  result.patterns.real = real.pattern;
  result.lost = real;
  if (!reference::is_complex(from)) return result;
  const reference::Number imaginary = reference::decode(in, x.imaginary);
  if (reference::is_complex(to)) {
    const reference::Image other = chance(x.imaginary, 1);
    result.patterns.imaginary = other.pattern;
    result.lost.nan |= other.nan;
    result.lost.overflow |= other.overflow;
    result.lost.underflow |= other.underflow;
    result.lost.inexact |= other.inexact;
  } else {
    result.lost.nan |= imaginary.is_nan();
    result.lost.inexact |= !imaginary.is_nan() && !imaginary.is_zero();
  }
  return result;
}

struct Expected {
  std::vector<std::byte> memory;
  Report report;
};

Expected slow_cast(const Array& source, Array destination, const std::vector<std::int64_t>& axes, Overflow mode,
                   std::uint64_t seed) {
  Report report;
  for (std::int64_t i = 0; i < destination.count(); ++i) {
    std::vector<std::int64_t> index(axes.size());
    std::int64_t left = i;
    for (std::size_t d = axes.size(); d-- > 0;) {
      index[static_cast<std::size_t>(axes[d])] = left % destination.shape[d];
      left /= destination.shape[d];
    }
    std::int64_t position = 0;
    for (std::size_t d = 0; d < index.size(); ++d) position = position * source.shape[d] + index[d];
    const auto [image, lost] = convert_by_chance(source.patterns(position), source.dtype, destination.dtype, mode, seed,
                                                 static_cast<std::uint64_t>(i));
    destination.set_patterns(i, image);
    report += lost;
  }
  return {std::move(destination.memory), report};
}

void check_random(Random& random, DType from, DType to, const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> axes(shape.size());
  std::iota(axes.begin(), axes.end(), 0);
  const bool permutes = random() % 2 == 0;
  if (permutes) std::shuffle(axes.begin(), axes.end(), random);
  std::vector<std::int64_t> permuted;
  for (const std::int64_t axis : axes) permuted.push_back(shape[static_cast<std::size_t>(axis)]);
  Array source = arrays::random_layout(random, from, shape, true);
  arrays::fill_random(random, source);
  Array destination =
      random() % 2 == 0 ? arrays::random_layout(random, to, permuted, false) : arrays::contiguous(to, permuted);
  const std::uint64_t seed = random();
  const Overflow mode = random() % 2 == 0 ? Overflow::by_format : Overflow::saturate;
  const Expected expected = slow_cast(source, destination, axes, mode, seed);
  Report report;
  const bool counts = random() % 2 == 0;
  CastOptions options{.casting = Casting::unsafe,
                      .overflow = mode,
                      .rounding = Rounding::stochastic,
                      .seed = seed,
                      .report = counts ? &report : nullptr};
  if (permutes) options.permute = std::span<const std::int64_t>(axes);
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    Array made = destination;
    halfway::cast_into(source.view(), made.mutable_view(), options);
    BOOST_TEST((made.memory == expected.memory), tier << ": " << arrays::to_string(source) << " into "
                                                      << arrays::to_string(destination) << ", axes "
                                                      << arrays::to_string(axes));
    BOOST_TEST((!counts || report == expected.report),
               tier << ": " << arrays::to_string(source) << " to " << halfway::to_string(to));
  }
}

// Every one of the 2^16 lanes, or a stride of them, against exact arithmetic; and how many round up.
template <class E, class W>
void check_value(W value, std::uint32_t step) {
  const reference::Format& to = reference::format(E::dtype);
  reference::Number number;
  if constexpr (std::is_same_v<W, float>) {
    number = reference::decode(reference::format(halfway::float32), std::bit_cast<std::uint32_t>(value));
  } else if constexpr (std::is_same_v<W, double>) {
    number = reference::number_of(value);
  } else {
    number = reference::decode(reference::format(convert::Integer<W>::dtype), static_cast<std::uint64_t>(value));
  }
  for (const bool saturate : {false, true}) {
    const Overflow mode = saturate ? Overflow::saturate : Overflow::by_format;
    for (std::uint32_t lane = 0; lane < 0x10000; lane += step) {
      const auto [bits, flags] = convert::encode_stochastic<E>(value, lane, saturate);
      const reference::Image image = reference::to_float_by_chance(number, to, mode, lane);
      const convert::Flags expected = (image.nan ? convert::saw_nan : 0) | (image.overflow ? convert::overflow : 0) |
                                      (image.underflow ? convert::underflow : 0) |
                                      (image.inexact ? convert::inexact : 0);
      if (bits != image.pattern || (flags & convert::counted) != expected) {
        BOOST_ERROR(reference::to_string(number) << " to " << to.name << ", lane " << lane << ": " << +bits << " not "
                                                 << image.pattern << ", flags " << flags << " not " << expected);
        return;
      }
    }
  }
}

// Random values near all that is special in a format, seen from a wide type.
template <class E, class W>
void check_format(Random& random, int values, std::uint32_t step) {
  const reference::Format& to = reference::format(E::dtype);
  for (int i = 0; i < values; ++i) {
    if constexpr (std::is_integral_v<W>) {
      check_value<E>(static_cast<W>(random() >> random() % 64), step);
    } else {
      const std::uint64_t code = i % 4 == 0   ? random() % 4
                                 : i % 4 == 1 ? to.largest() - random() % 3
                                              : random() % (to.largest() + 1);
      const double low = reference::to_double(reference::value_of(to, code));
      const double high = reference::to_double(reference::value_of(to, code + 1));
      // Somewhere between the neighbours, often where only a few bits say where.
      double part = static_cast<double>(random() >> 11) * 0x1p-53;
      if (random() % 2 == 0) part = std::ldexp(static_cast<double>(random() % 4), -static_cast<int>(1 + random() % 30));
      if (code == 0 && random() % 4 == 0) part = std::ldexp(part, -60);
      const double value = (low + (high - low) * part) * (random() % 2 == 0 ? 1 : -1);
      check_value<E>(static_cast<W>(value), step);
    }
  }
}

template <class... E>
void check_formats(Random& random, convert::List<E...> /*elements*/) {
  constexpr std::uint32_t step = rounds::are_watched ? 997 : 97;
  const auto check = [&]<class F>(F /*element*/) {
    if constexpr (convert::is_float<F>) {
      if constexpr (F::bits < 32) check_format<F, float>(random, 300, step);
      if constexpr (F::bits < 64) check_format<F, double>(random, 300, step);
      check_format<F, std::int64_t>(random, 200, step);
      check_format<F, std::uint64_t>(random, 200, step);
    }
  };
  (check(E{}), ...);
}

BOOST_AUTO_TEST_SUITE(cast_stochastic)

BOOST_AUTO_TEST_CASE(known_answers_of_the_generator) {
  const convert::Words zero = convert::philox(0, 0);
  BOOST_TEST(zero.word[0] == 0x6627e8d5U);
  BOOST_TEST(zero.word[1] == 0xe169c58dU);
  BOOST_TEST(zero.word[2] == 0xbc57ac4cU);
  BOOST_TEST(zero.word[3] == 0x9b00dbd8U);
  BOOST_TEST(convert::lane_of(zero, 0) == 0xe8d5U);
  BOOST_TEST(convert::lane_of(zero, 1) == 0x6627U);
  BOOST_TEST(convert::lane_of(zero, 7) == 0x9b00U);
  // The answers of the authors' own test (Random123, kat_vectors) that check the reference: all ones, digits of pi.
  const std::array<std::uint32_t, 4> ones =
      reference::philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff});
  BOOST_TEST((ones == std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  const std::array<std::uint32_t, 4> pi =
      reference::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0});
  BOOST_TEST((pi == std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

BOOST_AUTO_TEST_CASE(lanes_of_every_tier) {
  Random random(41);
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    const halfway::detail::Kernels& kernels = halfway::detail::active_kernels();
    for (int i = 0; i < 300; ++i) {
      const std::uint64_t seed = random();
      // Also where the lower word of the counter overflows.
      const std::uint64_t first = i % 3 == 0 ? (std::uint64_t{1} << 35) - random() % 200 : random() >> random() % 64;
      std::vector<std::uint16_t> lanes(random() % 300 + 1, 0xABCD);
      kernels.lanes(seed, first, lanes.data(), lanes.size() - 1);
      bool same = lanes.back() == 0xABCD;
      for (std::size_t k = 0; k + 1 < lanes.size(); ++k) same = same && lanes[k] == reference::lane(seed, first + k);
      BOOST_TEST(same, tier << ", seed " << seed << " from " << first);
    }
  }
}

BOOST_AUTO_TEST_CASE(functors_against_exact_arithmetic) {
  Random random(42);
  check_formats(random, convert::Elements{});
}

// All lanes: floor(f * 2^16) of them round away from zero, neither more nor less.
BOOST_AUTO_TEST_CASE(as_many_lanes_round_up_as_the_fraction_says) {
  const auto up = [](auto element, auto value) {
    using E = decltype(element);
    const auto down = convert::encode_stochastic<E>(value, 0, false).bits;
    int count = 0;
    for (std::uint32_t lane = 0; lane < 0x10000; ++lane) {
      const auto bits = convert::encode_stochastic<E>(value, lane, false).bits;
      BOOST_REQUIRE((bits == down || bits == down + 1));
      count += bits != down ? 1 : 0;
    }
    return count;
  };
  BOOST_TEST(up(convert::BFloat16{}, 1.0F) == 0);
  BOOST_TEST(up(convert::BFloat16{}, 1.0F + 0x1p-8F) == 0x8000);
  BOOST_TEST(up(convert::BFloat16{}, 1.0F + 0x1p-23F) == 1);
  BOOST_TEST(up(convert::BFloat16{}, 1.0 + 0x1p-24) == 0);  // less than a lane can tell
  BOOST_TEST(up(convert::BFloat16{}, 1.0 + 0x1p-8 + 0x1p-24) == 0x8000);
  BOOST_TEST(up(convert::BFloat16{}, -(1.0F + 0x1p-7F * 0.75F)) == 0xC000);
  BOOST_TEST(up(convert::Float16{}, 1.0F + 0x1p-23F) == 8);
  BOOST_TEST(up(convert::Float16{}, 1.0 + 0x1p-26) == 1);  // needs 27 digits: more than float has
  BOOST_TEST(up(convert::Float16{}, 0x1p-25F) == 0x8000);  // half of the smallest number
  BOOST_TEST(up(convert::Float16{}, -0x1p-40F) == 1);
  BOOST_TEST(up(convert::Float16{}, 0x1p-41F) == 0);
  BOOST_TEST(up(convert::Float32{}, 1.0 + 0x1p-24) == 0x8000);
  BOOST_TEST(up(convert::Float32{}, 0x1p-150) == 0x8000);
  BOOST_TEST(up(convert::Float64{}, (std::int64_t{1} << 60) + 1) == 0x10000 >> 8);
  BOOST_TEST(up(convert::Float64{}, ~std::uint64_t{0}) == 0x10000 * 2047 / 2048);
  BOOST_TEST(up(convert::Float16{}, std::int64_t{2049}) == 0x8000);
  BOOST_TEST(up(convert::Float8E4M3FN{}, 17.0F) == 0x8000);
  BOOST_TEST(up(convert::Float8E8M0FNU{}, 1.25F) == 0x4000);
  BOOST_TEST(up(convert::Float8E8M0FNU{}, 0x1.8p-127F) == 0x8000);
  BOOST_TEST(up(convert::Float16{}, 65504.0F + 16.0F) == 0x8000);  // to infinity, counted as overflow
  BOOST_TEST((convert::encode_stochastic<convert::Float16>(65520.0F, 0x8000, false).flags == convert::overflow));
  BOOST_TEST((convert::encode_stochastic<convert::Float16>(65520.0F, 0x7FFF, false).flags == convert::inexact));
  BOOST_TEST((convert::encode_stochastic<convert::Float16>(65520.0F, 0xFFFF, true).bits == 0x7BFF));
}

BOOST_AUTO_TEST_CASE(every_pair_in_random_layouts) {
  Random random(43);
  std::vector<DType> targets = float_dtypes();
  for (const DType dtype : arrays::castable_dtypes()) {
    if (reference::is_complex(dtype)) targets.push_back(dtype);
  }
  for (const DType from : arrays::castable_dtypes()) {
    for (const DType to : targets) {
      for (int i = 0; i < 3; ++i) check_random(random, from, to, arrays::random_shape(random, i == 0 ? 1500 : 100));
    }
  }
}

BOOST_AUTO_TEST_CASE(with_scale_and_shift) {
  Random random(44);
  for (const auto& [from, to] :
       {std::pair{halfway::uint8, halfway::bfloat16}, std::pair{halfway::int32, halfway::float16},
        std::pair{halfway::float64, halfway::float32}, std::pair{halfway::float32, halfway::float32}}) {
    Array source = arrays::contiguous(from, {700, 3});
    arrays::fill_random(random, source);
    const std::vector<double> scale{0.1, 3.0, -1e-3};
    Array expected = arrays::contiguous(to, {700, 3});
    const reference::Format& in = reference::format(from);
    for (std::int64_t i = 0; i < expected.count(); ++i) {
      const double y =
          reference::affine(reference::decode(in, source.patterns(i).real), in, scale.data() + i % 3, nullptr);
      const reference::Image image =
          reference::to_float_by_chance(reference::number_of(y), reference::format(to), Overflow::by_format,
                                        reference::lane(99, static_cast<std::uint64_t>(i)));
      expected.set_patterns(i, {image.pattern, 0});
    }
    for (const std::string_view tier : available_tiers()) {
      const InTier in_tier(tier);
      Array made = arrays::contiguous(to, {700, 3});
      halfway::cast_into(
          source.view(), made.mutable_view(),
          {.casting = Casting::unsafe, .rounding = Rounding::stochastic, .seed = 99, .scale = scale, .axis = 1});
      BOOST_TEST((made.memory == expected.memory), tier << ": " << halfway::to_string(from));
    }
  }
}

BOOST_AUTO_TEST_CASE(threads_and_modes_give_the_same_bits, *boost::unit_test::label("threads")) {
  Random random(45);
  const std::vector<std::int64_t> shape{383, 1201};
  Array source = arrays::contiguous(halfway::float32, shape);
  for (std::byte& b : source.memory) b = static_cast<std::byte>(random());
  const CastOptions options{.rounding = Rounding::stochastic, .seed = 7};
  Array first = arrays::contiguous(halfway::bfloat16, shape);
  for (std::int64_t i = 0; i < first.count(); ++i) {
    const reference::Number number = reference::decode(reference::format(halfway::float32), source.patterns(i).real);
    const reference::Image image =
        reference::to_float_by_chance(number, reference::format(halfway::bfloat16), Overflow::by_format,
                                      reference::lane(7, static_cast<std::uint64_t>(i)));
    first.set_patterns(i, {image.pattern, 0});
  }
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (const int threads : {1, 2, 7}) {
      halfway::set_num_threads(threads);
      BOOST_TEST_REQUIRE(halfway::detail::useful_threads(source.memory.size() + first.memory.size()) >= threads);
      Array made = arrays::contiguous(halfway::bfloat16, shape);
#if defined(__SSE__)
      const unsigned before = _mm_getcsr();
      _mm_setcsr(before | 0x8040U);  // FTZ, DAZ
#endif
      halfway::cast_into(source.view(), made.mutable_view(), options);
#if defined(__SSE__)
      _mm_setcsr(before);
#endif
      BOOST_TEST((made.memory == first.memory), tier << " with " << threads << " threads");
    }
  }
  halfway::set_num_threads(0);
}

BOOST_AUTO_TEST_CASE(equal_dtypes_have_nothing_to_round) {
  Random random(46);
  Array source = arrays::contiguous(halfway::bfloat16, {1000});
  for (std::byte& b : source.memory) b = static_cast<std::byte>(random());  // NaN of all kinds
  const Tensor made = halfway::cast(source.view(), halfway::bfloat16, {.rounding = Rounding::stochastic, .seed = 1});
  BOOST_TEST(std::memcmp(made.view().data, source.memory.data(), source.memory.size()) == 0);
}

BOOST_AUTO_TEST_CASE(misuse_is_refused) {
  const Array source = arrays::contiguous(halfway::float32, {2});
  BOOST_CHECK_THROW((void)halfway::cast(source.view(), halfway::float16, {.rounding = Rounding::stochastic}),
                    std::invalid_argument);
  BOOST_CHECK_THROW((void)halfway::cast(source.view(), halfway::float16, {.seed = 1}), std::invalid_argument);
  for (const DType to : {halfway::int32, halfway::boolean}) {
    BOOST_CHECK_EXCEPTION(
        (void)halfway::cast(source.view(), to,
                            {.casting = Casting::unsafe, .rounding = Rounding::stochastic, .seed = 1}),
        halfway::Error,
        [](const halfway::Error& error) { return error.reason() == halfway::Reason::unsupported_dtype; });
  }
}

// `overflow="raise"` asks the same question as the store: a value that this chance rounds past the end.
BOOST_AUTO_TEST_CASE(losses_are_those_of_the_store) {
  Array source = arrays::contiguous(halfway::float32, {4096});
  for (std::int64_t i = 0; i < 4096; ++i) source.set_patterns(i, {std::bit_cast<std::uint32_t>(65520.0F), 0});
  Report report;
  (void)halfway::cast(source.view(), halfway::float16,
                      {.rounding = Rounding::stochastic, .seed = 3, .report = &report});
  BOOST_TEST(report.overflow > 1800U);
  BOOST_TEST(report.overflow < 2300U);
  BOOST_TEST(report.overflow + report.inexact == 4096U);
  std::int64_t first = 0;
  while (reference::lane(3, static_cast<std::uint64_t>(first)) < 0x8000) ++first;
  BOOST_CHECK_EXCEPTION((void)halfway::cast(source.view(), halfway::float16,
                                            {.overflow = Overflow::raise, .rounding = Rounding::stochastic, .seed = 3}),
                        halfway::CastError, [&](const halfway::CastError& error) {
                          return error.index().front() == first && error.report()->overflow == report.overflow;
                        });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
