// Scale, shift, axis and permute, against a loop over the elements in the arithmetic that the contract names.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "arrays.h"
#include "cast/pass.h"
#include "cast/transform.h"
#include "floating_mode.h"
#include "halfway/cast.h"
#include "halfway/collate.h"
#include "halfway/parallel.h"
#include "halfway/rounding.h"
#include "reference.h"
#include "reference_transform.h"
#include "rounds.h"
#include "under_test.h"

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::Coefficients;
using halfway::DType;
using halfway::Overflow;
using halfway::Reason;
using halfway::Report;
using halfway::Tensor;
using halfway::TensorView;
using halfway::detail::available_tiers;
using under_test::InTier;
using under_test::next_tier;
#if defined(__SSE__)
using floating_mode::Mode;
#endif

namespace {

// What a test asks of a cast.
struct Wanted {
  std::optional<std::vector<double>> scale;
  std::optional<std::vector<double>> shift;
  bool scale_varies = false;
  bool shift_varies = false;
  std::optional<std::int64_t> axis;
  std::optional<std::vector<std::int64_t>> permute;
  Overflow overflow = Overflow::by_format;

  [[nodiscard]] bool is_affine() const { return scale || shift; }
  [[nodiscard]] CastOptions options(Report* report = nullptr) const {
    const auto coefficients = [](const std::optional<std::vector<double>>& values, bool varies) {
      return !values ? Coefficients() : varies ? Coefficients(*values) : Coefficients(values->front());
    };
    CastOptions options{.casting = Casting::unsafe,
                        .overflow = overflow,
                        .scale = coefficients(scale, scale_varies),
                        .shift = coefficients(shift, shift_varies),
                        .axis = axis,
                        .report = report};
    if (permute) options.permute = std::span<const std::int64_t>(*permute);
    return options;
  }
  [[nodiscard]] std::vector<std::int64_t> axes(std::size_t ndim) const {
    std::vector<std::int64_t> all(ndim);
    std::iota(all.begin(), all.end(), 0);
    for (std::size_t i = 0; permute && i < ndim; ++i) {
      all[i] = (*permute)[i] + ((*permute)[i] < 0 ? static_cast<std::int64_t>(ndim) : 0);
    }
    return all;
  }
};

reference::ElementImage convert(const reference::Patterns& x, DType from, DType to, const Wanted& wanted,
                                const double* scale, const double* shift) {
  if (!wanted.is_affine()) return reference::convert_element(x, from, to, wanted.overflow);
  const reference::Format& in = reference::format(from);
  const reference::Format& out = reference::format(to);
  const double y = reference::affine(reference::decode(in, x.real), in, scale, shift);
  const reference::Format& wide = reference::format(halfway::float64);
  reference::ElementImage result;
  result.lost = out.style == reference::Style::integer
                    ? reference::to_nearest_integer(y, out, wanted.overflow)
                    : reference::convert(reference::number_of(y), wide, out, wanted.overflow);
  result.patterns.real = result.lost.pattern;
  return result;
}

std::vector<std::int64_t> permuted_shape(const Array& source, const Wanted& wanted) {
  std::vector<std::int64_t> shape;
  for (const std::int64_t axis : wanted.axes(source.shape.size())) {
    shape.push_back(source.shape[static_cast<std::size_t>(axis)]);
  }
  return shape;
}

struct Expected {
  std::vector<std::byte> memory;
  Report report;
};

Expected slow_cast(const Array& source, Array destination, const Wanted& wanted) {
  Report report;
  const std::vector<std::int64_t> axes = wanted.axes(source.shape.size());
  const auto ndim = static_cast<std::int64_t>(source.shape.size());
  for (std::int64_t i = 0; i < destination.count(); ++i) {
    // The element's place in the source.
    std::vector<std::int64_t> index(source.shape.size());
    std::int64_t left = i;
    for (std::size_t d = axes.size(); d-- > 0;) {
      index[static_cast<std::size_t>(axes[d])] = left % destination.shape[d];
      left /= destination.shape[d];
    }
    std::int64_t position = 0;
    for (std::size_t d = 0; d < index.size(); ++d) position = position * source.shape[d] + index[d];
    const auto coefficient = [&](const std::optional<std::vector<double>>& values, bool varies) -> const double* {
      if (!values) return nullptr;
      if (!varies) return values->data();
      const std::int64_t axis = *wanted.axis < 0 ? *wanted.axis + ndim : *wanted.axis;
      return values->data() + index[static_cast<std::size_t>(axis)];
    };
    const auto [image, lost] =
        convert(source.patterns(position), source.dtype, destination.dtype, wanted,
                coefficient(wanted.scale, wanted.scale_varies), coefficient(wanted.shift, wanted.shift_varies));
    destination.set_patterns(i, image);
    report += lost;
  }
  return {std::move(destination.memory), report};
}

double random_coefficient(Random& random) {
  switch (random() % 8) {
    case 0:
      return 0.0;
    case 1:
      return -1.0;
    case 2:
      return std::ldexp(1.0, static_cast<int>(random() % 278) - 150);
    default:
      return (static_cast<double>(random() >> 11) * 0x1p-52 - 1.0) * std::ldexp(1.0, static_cast<int>(random() % 16));
  }
}

Wanted random_wish(Random& random, const std::vector<std::int64_t>& shape, bool affine) {
  Wanted wanted;
  if (random() % 2 == 0) {
    wanted.permute.emplace(shape.size());
    std::iota(wanted.permute->begin(), wanted.permute->end(), 0);
    std::shuffle(wanted.permute->begin(), wanted.permute->end(), random);
    for (std::int64_t& axis : *wanted.permute) axis -= random() % 4 == 0 ? static_cast<std::int64_t>(shape.size()) : 0;
  }
  wanted.overflow = random() % 2 == 0 ? Overflow::by_format : Overflow::saturate;
  if (!affine) return wanted;
  const std::uint64_t which = random() % 4;
  const bool along = !shape.empty() && random() % 4 != 0;
  if (along) {
    const auto axis = static_cast<std::int64_t>(random() % shape.size());
    wanted.axis = random() % 4 == 0 ? axis - static_cast<std::int64_t>(shape.size()) : axis;
  }
  const auto make = [&](bool varies) {
    const std::int64_t axis = !varies ? 0 : *wanted.axis < 0 ? *wanted.axis + std::ssize(shape) : *wanted.axis;
    std::vector<double> values(varies ? static_cast<std::size_t>(shape[static_cast<std::size_t>(axis)]) : 1);
    for (double& value : values) value = random_coefficient(random);
    return values;
  };
  // One of them, or both, at least one along the axis if there is one.
  if (which != 0) {
    wanted.scale_varies = along && (which == 1 || random() % 2 == 0);
    wanted.scale = make(wanted.scale_varies);
  }
  if (which != 1) {
    wanted.shift_varies = along && (which == 0 || !wanted.scale_varies || random() % 2 == 0);
    wanted.shift = make(wanted.shift_varies);
  }
  return wanted;
}

std::string describe(const Array& source, DType to, const Wanted& wanted) {
  std::string text = arrays::to_string(source) + " to " + halfway::to_string(to);
  if (wanted.scale) text += wanted.scale_varies ? ", scales" : ", scale " + std::to_string(wanted.scale->front());
  if (wanted.shift) text += wanted.shift_varies ? ", shifts" : ", shift " + std::to_string(wanted.shift->front());
  if (wanted.axis) text += ", axis " + std::to_string(*wanted.axis);
  if (wanted.permute) text += ", permute " + arrays::to_string(*wanted.permute);
  return text;
}

void check(const Array& source, Array destination, const Wanted& wanted, bool counts) {
  const Expected expected = slow_cast(source, destination, wanted);
  Report report;
  const std::string_view tier = next_tier();
  const InTier in(tier);
  halfway::cast_into(source.view(), destination.mutable_view(), wanted.options(counts ? &report : nullptr));
  BOOST_TEST((destination.memory == expected.memory),
             tier << ": " << describe(source, destination.dtype, wanted) << " into " << arrays::to_string(destination));
  BOOST_TEST((!counts || report == expected.report), tier << ": " << describe(source, destination.dtype, wanted));

  const Array row_major = arrays::contiguous(destination.dtype, destination.shape);
  const Expected expected_fresh = slow_cast(source, row_major, wanted);
  const Tensor fresh = halfway::cast(source.view(), destination.dtype, wanted.options(counts ? &report : nullptr));
  const bool same_shape = std::equal(fresh.view().shape.begin(), fresh.view().shape.end(), destination.shape.begin(),
                                     destination.shape.end());
  BOOST_TEST(same_shape);
  BOOST_TEST(std::memcmp(fresh.view().data, expected_fresh.memory.data(), expected_fresh.memory.size()) == 0,
             tier << ": fresh, " << describe(source, destination.dtype, wanted));
  BOOST_TEST((!counts || report == expected.report));
}

void check_random(Random& random, DType from, DType to, const std::vector<std::int64_t>& shape) {
  const bool is_real = !reference::is_complex(from) && !reference::is_complex(to);
  const Wanted wanted = random_wish(random, shape, is_real && random() % 8 != 0);
  Array source = arrays::random_layout(random, from, shape, true);
  arrays::fill_random(random, source);
  check(source, arrays::random_layout(random, to, permuted_shape(source, wanted), false), wanted, random() % 2 == 0);
}

std::int64_t index_below(Random& random, std::int64_t n) {
  return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
}

template <class Exception>
std::string message_of(const halfway::TensorView& source, DType to, const CastOptions& options) {
  try {
    (void)halfway::cast(source, to, options);
  } catch (const Exception& error) {
    return error.what();
  }
  BOOST_ERROR("nothing was thrown");
  return {};
}

BOOST_AUTO_TEST_SUITE(cast_affine)

BOOST_AUTO_TEST_CASE(every_pair_in_random_layouts) {
  Random random(31);
  for (const DType from : arrays::castable_dtypes()) {
    for (const DType to : arrays::castable_dtypes()) {
      for (int i = 0; i < 4; ++i) check_random(random, from, to, arrays::random_shape(random, i == 0 ? 2000 : 120));
    }
  }
}

BOOST_AUTO_TEST_CASE(hot_pairs_in_many_layouts) {
  Random random(32);
  const std::vector<std::pair<DType, DType>> pairs{
      {halfway::uint8, halfway::bfloat16},  {halfway::uint8, halfway::float16},
      {halfway::uint8, halfway::float32},   {halfway::float32, halfway::bfloat16},
      {halfway::float32, halfway::float32}, {halfway::float64, halfway::bfloat16},
      {halfway::int64, halfway::float16},   {halfway::float32, halfway::uint8},
      {halfway::float64, halfway::float64}};
  for (int i = 0; i < rounds::of(4000); ++i) {
    const auto& [from, to] = pairs[static_cast<std::size_t>(i) % pairs.size()];
    check_random(random, from, to, arrays::random_shape(random, 1 + index_below(random, 3000)));
  }
}

// Axes of all lengths, innermost and not, around the sizes at which their coefficients are looked up in another way.
BOOST_AUTO_TEST_CASE(axes_of_all_lengths) {
  Random random(33);
  for (const std::int64_t extent : {1, 2, 3, 31, 32, 33, 500, 1023, 1024, 1025, 3000}) {
    for (const std::int64_t below : {1, 2, 3, 31, 32, 33, 700}) {
      const std::vector<std::int64_t> shape{3, extent, below};
      for (const bool reversed : {false, true}) {
        Wanted wanted;
        wanted.axis = 1;
        wanted.scale.emplace(static_cast<std::size_t>(extent));
        wanted.shift.emplace(static_cast<std::size_t>(extent));
        for (double& value : *wanted.scale) value = random_coefficient(random);
        for (double& value : *wanted.shift) value = random_coefficient(random);
        wanted.scale_varies = wanted.shift_varies = true;
        if (extent * below > (rounds::are_watched ? 20'000 : 100'000)) continue;
        const bool in_double = random() % 2 == 0;
        Array source = arrays::contiguous(in_double ? halfway::int32 : halfway::uint8, shape);
        arrays::fill_random(random, source);
        Array destination = arrays::contiguous(random() % 2 == 0 ? halfway::bfloat16 : halfway::float32, shape);
        if (reversed) {  // the destination's axis backwards
          destination.first = static_cast<std::ptrdiff_t>(destination.strides[1] * (extent - 1));
          destination.strides[1] = -destination.strides[1];
          destination.whole_strides[1] = -destination.whole_strides[1];
        }
        check(source, destination, wanted, random() % 2 == 0);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(threads_and_tiers_give_the_same_bits, *boost::unit_test::label("threads")) {
  Random random(34);
  // So many images that all threads have something to do, however few bytes their elements have.
  struct Case {
    DType from;
    DType to;
    std::int64_t images;
  };
  for (const auto& [from, to, images] :
       {Case{halfway::uint8, halfway::bfloat16, 16}, Case{halfway::float32, halfway::float16, 8},
        Case{halfway::float64, halfway::float8_e4m3fn, 5}}) {
    for (const bool permutes : {false, true}) {
      Wanted wanted;
      wanted.axis = 3;
      wanted.scale = {0.017, 1.5, -3.25};
      wanted.shift = {0.0, 2.1, -1e-3};
      wanted.scale_varies = wanted.shift_varies = true;
      if (permutes) wanted.permute = {0, 3, 1, 2};
      Array source = arrays::contiguous(from, {images, 97, 211, 3});
      const std::size_t moved = source.memory.size() / source.size() * (source.size() + halfway::item_size(to));
      for (std::byte& b : source.memory) b = static_cast<std::byte>(random());
      std::optional<std::vector<std::byte>> first;
      for (const std::string_view tier : available_tiers()) {
        const InTier in(tier);
        for (const int threads : {1, 2, 7}) {
          halfway::set_num_threads(threads);
          BOOST_TEST_REQUIRE(halfway::detail::useful_threads(moved) >= threads);
          Report report;
          const Tensor made = halfway::cast(source.view(), to, wanted.options(threads == 2 ? &report : nullptr));
          const auto* const data = static_cast<const std::byte*>(made.view().data);
          const std::vector<std::byte> bytes(data,
                                             data + static_cast<std::size_t>(source.count()) * halfway::item_size(to));
          if (!first) first = bytes;
          BOOST_TEST((bytes == *first), tier << " with " << threads << " threads");
        }
        halfway::set_num_threads(0);
      }
    }
  }
}

#if defined(__SSE__)
BOOST_AUTO_TEST_CASE(flushing_modes_change_nothing) {
  Random random(35);
  for (int i = 0; i < 200; ++i) {
    Wanted wanted;
    wanted.scale = {std::ldexp(1.0, -static_cast<int>(random() % 40))};
    Array source = arrays::contiguous(i % 2 == 0 ? halfway::float32 : halfway::float64, {40});
    arrays::fill_random(random, source);
    const Array destination = arrays::contiguous(i % 3 == 0 ? halfway::float32 : halfway::float16, {40});
    const Expected expected = slow_cast(source, destination, wanted);
    Array made = destination;
    const InTier in(next_tier());
    {
      const Mode set(floating_mode::standard | floating_mode::flush);
      halfway::cast_into(source.view(), made.mutable_view(), wanted.options());
    }
    BOOST_TEST((made.memory == expected.memory), describe(source, destination.dtype, wanted));
  }
}

// Of float32 they are rounded themselves: subnormal ones, and those between two numbers.
BOOST_AUTO_TEST_CASE(coefficients_are_rounded_alike_in_every_mode) {
  Array source = arrays::contiguous(halfway::float32, {2, 4});
  const std::array<float, 8> values{1.0F, -3.0F, 0x1p100F, 0x1.8p120F, 0x1p-120F, -0.0F, 0.1F, 0x1p127F};
  std::memcpy(source.memory.data(), values.data(), sizeof(values));
  const std::array<TensorView, 2> samples{source.view(), source.view()};
  const std::vector<double> scales{0x1p-140, 0x1.23456789p-145, 1.0 / 3, -1.0 / 3};
  const std::vector<double> shifts{0.1, -0x1p-149, 0x1.8p-149, -0.1};
  const std::vector<CastOptions> calls{
      {.scale = scales, .shift = shifts, .axis = 1},
      {.scale = 0x1p-140},
      {.scale = 1.0 / 3, .shift = -0x1.8p-149},
      {.shift = -0x1p-140},
  };
  for (const DType to : {halfway::float32, halfway::bfloat16, halfway::float64}) {
    for (const CastOptions& options : calls) {
      Array expected = arrays::contiguous(to, source.shape);
      Array batch = arrays::contiguous(to, {2, 2, 4});
      halfway::cast_into(source.view(), expected.mutable_view(), options);
      BOOST_TEST(expected.patterns(2).real != 0U);  // 2^100 times what a flushed coefficient would make zero
      for (const unsigned mode : floating_mode::modes()) {
        Array made = arrays::contiguous(to, source.shape);
        unsigned after_cast = 0;
        unsigned after_collate = 0;
        {
          const Mode set(mode);
          halfway::cast_into(source.view(), made.mutable_view(), options);
          after_cast = _mm_getcsr();
          halfway::collate_into(samples, batch.mutable_view(), {.cast = options});
          after_collate = _mm_getcsr();
        }
        BOOST_TEST((made.memory == expected.memory), to_string(to) << " in mode " << mode);
        const auto middle = batch.memory.begin() + static_cast<std::ptrdiff_t>(expected.memory.size());
        BOOST_TEST(std::equal(batch.memory.begin(), middle, expected.memory.begin()));
        BOOST_TEST(std::equal(middle, batch.memory.end(), expected.memory.begin()));
        BOOST_TEST(after_cast == mode);
        BOOST_TEST(after_collate == mode);
      }
    }
  }
}
#endif

// The float fma that does without the instruction, against the C library's: numbers whose products are near midpoints.
BOOST_AUTO_TEST_CASE(multiply_add_in_double_rounds_once) {
  Random random(36);
  const auto number = [&random] {
    const std::uint32_t few = 0x7FFFFFU & ~(0x7FFFFFU >> random() % 24);
    const auto exponent = static_cast<std::uint32_t>(random() % 3 == 0 ? random() % 255 : 117 + random() % 20);
    const auto mantissa = static_cast<std::uint32_t>(random()) & (random() % 2 == 0 ? few : 0x7FFFFFU);
    return std::bit_cast<float>(static_cast<std::uint32_t>(random() % 2) << 31 | exponent << 23 | mantissa);
  };
  int wrong = 0;
  for (int i = 0; i < 4'000'000; ++i) {
    const float x = number();
    const float scale = number();
    // Mostly close to the product's last places.
    float shift = number();
    if (i % 2 == 0 && std::isfinite(x * scale) && std::isfinite(shift) && shift != 0)
      shift = std::ldexp(shift, std::ilogb(x * scale + 1e-37F) - std::ilogb(shift) - 20 + i / 2 % 50);
    const float expected = std::fmaf(x, scale, shift);
    const float made = halfway::convert::multiply_add_in_double(x, scale, shift);
    wrong += std::bit_cast<std::uint32_t>(made) != std::bit_cast<std::uint32_t>(expected) ? 1 : 0;
  }
  BOOST_TEST(wrong == 0);
  const float infinity = std::numeric_limits<float>::infinity();
  const float largest = std::numeric_limits<float>::max();
  BOOST_TEST(halfway::convert::multiply_add_in_double(largest, 2.0F, -largest) == largest);
  BOOST_TEST(halfway::convert::multiply_add_in_double(largest, largest, 1.0F) == infinity);
  BOOST_TEST(halfway::convert::multiply_add_in_double(1.0F, 1.0F, -infinity) == -infinity);
  BOOST_TEST(std::isnan(halfway::convert::multiply_add_in_double(infinity, 0.0F, 1.0F)));
  BOOST_TEST(std::signbit(halfway::convert::multiply_add_in_double(-0.0F, 2.0F, -0.0F)));
}

// Numbers along an axis are borrowed: a temporary would be gone before they are read.
static_assert(std::is_convertible_v<std::vector<double>&, Coefficients>);
static_assert(std::is_convertible_v<const std::vector<double>&, Coefficients>);
static_assert(!std::is_constructible_v<Coefficients, std::vector<double>>);
static_assert(!std::is_constructible_v<Coefficients, const std::vector<double>>);

BOOST_AUTO_TEST_CASE(a_missing_part_changes_nothing) {
  const std::vector<float> values{-0.0F, 0.0F, 1.0F, -2.5F};
  std::array<float, 4> made{};
  const std::array<std::int64_t, 1> shape{4};
  const std::array<std::int64_t, 1> strides{1};
  const halfway::TensorView source{
      .data = values.data(), .dtype = halfway::float32, .shape = shape, .strides = strides};
  const halfway::MutableView destination{
      .data = made.data(), .dtype = halfway::float32, .shape = shape, .strides = strides};
  halfway::cast_into(source, destination, {.scale = 2.0});
  BOOST_TEST(std::signbit(made[0]));  // -0.0 * 2
  BOOST_TEST(made[3] == -5.0F);
  halfway::cast_into(source, destination, {.shift = 0.0});
  BOOST_TEST(!std::signbit(made[0]));  // -0.0 + 0.0
  BOOST_TEST(made[2] == 1.0F);
}

BOOST_AUTO_TEST_CASE(integer_targets_round_to_nearest_even) {
  const std::array<std::int64_t, 1> shape{6};
  const std::array<std::int64_t, 1> strides{1};
  const std::array<float, 6> values{0.5F, 1.5F, 2.5F, 254.5F, 255.5F, -0.5F};
  const halfway::TensorView source{
      .data = values.data(), .dtype = halfway::float32, .shape = shape, .strides = strides};
  Report report;
  const Tensor made =
      halfway::cast(source, halfway::uint8, {.casting = Casting::unsafe, .scale = 1.0, .report = &report});
  const auto* const bytes = static_cast<const std::uint8_t*>(made.view().data);
  const std::vector<int> found(bytes, bytes + 6);
  const std::vector<int> expected{0, 2, 2, 254, 255, 0};
  BOOST_TEST(found == expected, boost::test_tools::per_element());
  BOOST_TEST((report == Report{.count = 6, .overflow = 1, .underflow = 2, .inexact = 5}));
}

BOOST_AUTO_TEST_CASE(losses_are_named_in_the_source_s_axes) {
  Array source = arrays::contiguous(halfway::float32, {2, 3, 4});
  const auto set = [&](std::int64_t position, float value) {
    source.set_patterns(position, {std::bit_cast<std::uint32_t>(value), 0});
  };
  for (std::int64_t i = 0; i < 24; ++i) set(i, 1.0F);
  set(1 * 12 + 2 * 4 + 3, 40000.0F);
  const std::array<std::int64_t, 3> permute{2, 0, 1};
  const CastOptions options{
      .overflow = Overflow::raise, .scale = 2.0, .permute = std::span<const std::int64_t>(permute)};
  const std::vector<std::int64_t> where{1, 2, 3};
  BOOST_CHECK_EXCEPTION((void)halfway::cast(source.view(), halfway::float16, options), halfway::CastError,
                        [&](const halfway::CastError& error) {
                          return error.index() == where && error.value() == "40000" && error.report()->overflow == 1;
                        });
  // Into memory that is there: untouched.
  Array destination = arrays::contiguous(halfway::float16, {4, 2, 3});
  const std::vector<std::byte> before = destination.memory;
  BOOST_CHECK_THROW(halfway::cast_into(source.view(), destination.mutable_view(), options), halfway::CastError);
  BOOST_TEST((destination.memory == before));
}

BOOST_AUTO_TEST_CASE(misuse_is_refused) {
  const Array source = arrays::contiguous(halfway::float32, {2, 3});
  const std::vector<double> two{1, 2};
  const std::vector<double> three{1, 2, 3};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto invalid = [&](const CastOptions& options) {
    return message_of<std::invalid_argument>(source.view(), halfway::float16, options);
  };
  const auto refused = [&](const CastOptions& options, Reason reason) {
    try {
      (void)halfway::cast(source.view(), halfway::float16, options);
    } catch (const halfway::Error& error) {
      BOOST_TEST((error.reason() == reason));
      return std::string(error.what());
    }
    BOOST_ERROR("nothing was thrown");
    return std::string();
  };
  BOOST_TEST(invalid({.scale = two}).find("axis= has to say") != std::string::npos);
  BOOST_TEST(invalid({.scale = 2.0, .axis = 0}).find("axis= is for") != std::string::npos);
  BOOST_TEST(invalid({.scale = nan}).find("scale is not finite") != std::string::npos);
  BOOST_TEST(invalid({.scale = two, .shift = three, .axis = 0}).find("2 numbers") != std::string::npos);
  BOOST_TEST(refused({.scale = two, .axis = 1}, Reason::affine).find("has 2 numbers, but axis 1") != std::string::npos);
  BOOST_TEST(refused({.scale = two, .axis = 2}, Reason::affine).find("no axis") != std::string::npos);
  BOOST_TEST(refused({.scale = 1e39}, Reason::affine)
                 .find("scale=1e+39 exceeds float32, in which float32 sources are computed") != std::string::npos);
  const auto permute = [&](const std::vector<std::int64_t>& axes) {
    return refused({.permute = std::span<const std::int64_t>(axes)}, Reason::permute);
  };
  BOOST_TEST(permute({0}).find("names 1 axes") != std::string::npos);
  BOOST_TEST(permute({0, 0}).find("twice") != std::string::npos);
  BOOST_TEST(permute({0, 2}).find("axis 2") != std::string::npos);
  BOOST_TEST(permute({-2, 0}).find("twice") != std::string::npos);
  const Array pairs = arrays::contiguous(halfway::complex64, {2});
  BOOST_CHECK_EXCEPTION((void)halfway::cast(pairs.view(), halfway::complex128, {.scale = 2.0}), halfway::Error,
                        [](const halfway::Error& error) { return error.reason() == Reason::unsupported_dtype; });
  Array wrong = arrays::contiguous(halfway::float16, {2, 3});
  const std::array<std::int64_t, 2> turned{1, 0};
  BOOST_CHECK_EXCEPTION(
      halfway::cast_into(source.view(), wrong.mutable_view(), {.permute = std::span<const std::int64_t>(turned)}),
      halfway::Error, [](const halfway::Error& error) { return error.reason() == Reason::out_mismatch; });
}

// What rounds to infinity is refused before anything is written; what rounds to the largest float32 is not.
BOOST_AUTO_TEST_CASE(coefficients_that_float32_cannot_hold_are_refused) {
  const double largest = 0x1.fffffefffffffp127;
  const double beyond = 0x1.ffffffp127;
  const std::vector<double> shifts{0, -beyond, 0};
  for (const DType from : arrays::castable_dtypes()) {
    if (reference::is_complex(from)) continue;
    const Array source = arrays::contiguous(from, {2, 3});
    Array made = arrays::contiguous(halfway::float64, {2, 3});
    std::fill(made.memory.begin(), made.memory.end(), std::byte{7});
    const std::vector<std::byte> before = made.memory;
    const bool in_float32 =
        halfway::detail::active_kernels().find(from)->number.wide == halfway::detail::WideType::float32;
    BOOST_TEST((halfway::detail::compute_type(from) == halfway::detail::WideType::float32) == in_float32);
    const auto refused = [&](const CastOptions& options, const std::string& words) {
      const auto says = [&](const halfway::Error& error) {
        const std::string text = words + " exceeds float32, in which " + to_string(from) + " sources are computed";
        return error.reason() == Reason::affine && std::string(error.what()).find(text) != std::string::npos;
      };
      if (!in_float32) {
        halfway::cast_into(source.view(), made.mutable_view(), options);
        made.memory = before;
        return;
      }
      BOOST_CHECK_EXCEPTION(halfway::cast_into(source.view(), made.mutable_view(), options), halfway::Error, says);
      BOOST_CHECK_EXCEPTION((void)halfway::cast(source.view(), halfway::float64, options), halfway::Error, says);
      const std::array<TensorView, 1> samples{source.view()};
      BOOST_CHECK_EXCEPTION((void)halfway::collate(samples, halfway::float64, {.cast = options}), halfway::Error, says);
      BOOST_TEST((made.memory == before));
    };
    refused({.casting = Casting::unsafe, .scale = beyond}, "scale=3.4028235677973366e+38");
    refused({.casting = Casting::unsafe, .shift = -1e300}, "shift=-1e+300");
    refused({.casting = Casting::unsafe, .shift = shifts, .axis = 1}, "shift[1]=-3.4028235677973366e+38");
    halfway::cast_into(source.view(), made.mutable_view(), {.casting = Casting::unsafe, .scale = largest});
    halfway::cast_into(source.view(), made.mutable_view(), {.casting = Casting::unsafe, .shift = -largest});
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
