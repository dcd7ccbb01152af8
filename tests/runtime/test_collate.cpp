// Batches against the stack of single casts: the same bits in every layout, for every number of threads, on every tier;
// padding.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arrays.h"
#include "batches.h"
#include "cast/batch_shares.h"
#include "cast/pass.h"
#include "cast/tiers.h"
#include "halfway/collate.h"
#include "halfway/parallel.h"
#include "reference.h"
#include "rounds.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using arrays::Array;
using arrays::Random;
using batches::batch_shape;
using batches::describe;
using batches::Drawn;
using batches::random_samples;
using batches::Row;
using batches::Shape;
using batches::stack;
using batches::Threads;
using batches::views_of;
using halfway::Casting;
using halfway::CastOptions;
using halfway::CollateOptions;
using halfway::DType;
using halfway::Overflow;
using halfway::Reason;
using halfway::Report;
using halfway::Tensor;
using halfway::TensorView;
using halfway::detail::BatchShares;

namespace {

void check_batch(Random& random, const std::vector<Array>& samples, DType to, bool affine = false) {
  const std::vector<TensorView> views = views_of(samples);
  const Overflow overflow = random() % 2 == 0 ? Overflow::by_format : Overflow::saturate;
  const bool counts = random() % 2 == 0;
  const Drawn drawn(random, samples[0].shape, affine);
  Report report;
  CastOptions cast = drawn.options;
  cast.overflow = overflow;
  cast.report = counts ? &report : nullptr;
  const Shape shape = batch_shape(samples.size(), halfway::result_shape(samples[0].shape, cast));

  Array destination = arrays::random_layout(random, to, shape, false);
  Array expected = destination;
  const Report expected_report = stack(samples, expected.mutable_view(), cast);
  halfway::collate_into(views, destination.mutable_view(), {.cast = cast});
  BOOST_TEST((destination.memory == expected.memory), describe(samples, to) << arrays::to_string(destination));
  BOOST_TEST((!counts || report == expected_report), describe(samples, to));

  Array row_major = arrays::contiguous(to, shape);
  stack(samples, row_major.mutable_view(), cast);
  const Tensor fresh = halfway::collate(views, to, {.cast = cast});
  BOOST_TEST(std::equal(shape.begin(), shape.end(), fresh.view().shape.begin(), fresh.view().shape.end()));
  BOOST_TEST(std::memcmp(fresh.view().data, row_major.memory.data(), row_major.memory.size()) == 0,
             describe(samples, to));
  BOOST_TEST((!counts || report == expected_report), describe(samples, to));
}

BOOST_AUTO_TEST_SUITE(collate)

BOOST_AUTO_TEST_CASE(a_batch_is_the_stack_of_single_casts) {
  Random random(21);
  const std::vector<DType> all = arrays::castable_dtypes();
  for (int i = 0; i < 3000; ++i) {
    const DType to = all[random() % all.size()];
    std::vector<DType> dtypes{all[random() % all.size()]};
    if (random() % 3 == 0) dtypes = all;
    if (random() % 5 == 0) dtypes.push_back(to);
    const Shape shape = arrays::random_shape(random, 1 + static_cast<std::int64_t>(random() % 200));
    check_batch(random, random_samples(random, 1 + random() % 9, shape, dtypes), to);
  }
  const std::vector<DType> real{halfway::float32, halfway::float64, halfway::uint8,    halfway::int64,
                                halfway::float16, halfway::boolean, halfway::bfloat16, halfway::int16};
  for (int i = 0; i < 2000; ++i) {
    const Shape shape = arrays::random_shape(random, 1 + static_cast<std::int64_t>(random() % 200));
    check_batch(random, random_samples(random, 1 + random() % 9, shape, real), real[random() % real.size()], true);
  }
}

// Stochastic rounding goes by the place in the batch. Samples that are filled up lie further apart: the pad is a number
// that needs no rounding.
void check_stochastic(Random& random, DType from, DType to, std::size_t n, const Shape& shape, bool ragged) {
  const Drawn drawn(random, shape, !ragged && random() % 2 == 0);
  CastOptions cast = drawn.options;
  cast.rounding = halfway::Rounding::stochastic;
  cast.seed = random();
  Report report;
  cast.report = random() % 2 == 0 ? &report : nullptr;
  const std::size_t last =
      shape.empty() ? 0 : static_cast<std::size_t>(cast.permute ? drawn.axes.back() : std::int64_t(shape.size()) - 1);

  const std::int64_t one = 1;
  const TensorView pad{.data = &one, .dtype = halfway::int64};
  Array whole = arrays::contiguous(from, batch_shape(n, shape));
  Array element = arrays::contiguous(from, {});
  halfway::cast_into(pad, element.mutable_view(), {.casting = Casting::unsafe});
  for (std::int64_t i = 0; i < whole.count(); ++i) whole.set(i, element.get(0));
  std::vector<Array> samples;
  for (std::size_t i = 0; i < n; ++i) {
    Shape own = shape;
    if (ragged && i > 0) own[last] = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(shape[last]));
    samples.push_back(random() % 2 == 0 ? arrays::random_layout(random, from, own, true)
                                        : arrays::contiguous(from, own));
    arrays::fill_random(random, samples.back());
    halfway::cast_into(samples.back().view(), Row(whole.mutable_view(), i, own).view);
  }
  CastOptions together = drawn.whole();
  together.rounding = cast.rounding;
  together.seed = cast.seed;
  const Tensor expected = halfway::cast(whole.view(), to, together);
  CollateOptions options{.cast = cast};
  if (ragged) options.pad = pad;
  const Tensor fresh = halfway::collate(views_of(samples), to, options);
  const std::size_t bytes = static_cast<std::size_t>(whole.count()) * fresh.view().element_size();
  BOOST_TEST(std::memcmp(fresh.view().data, expected.view().data, bytes) == 0, describe(samples, to));

  const Shape batch(fresh.view().shape.begin(), fresh.view().shape.end());
  Array destination = arrays::random_layout(random, to, batch, false);
  Array filled = destination;
  halfway::cast_into(expected.view(), filled.mutable_view());
  halfway::collate_into(views_of(samples), destination.mutable_view(), options);
  BOOST_TEST((destination.memory == filled.memory), describe(samples, to) << arrays::to_string(destination));
}

BOOST_AUTO_TEST_CASE(stochastic_batches_are_one_cast_of_the_stack) {
  Random random(28);
  const std::vector<DType> from{halfway::float32, halfway::float64, halfway::float16, halfway::int32};
  const std::vector<DType> to{halfway::bfloat16, halfway::float16, halfway::float8_e4m3fn, halfway::float32};
  for (const std::string_view tier : halfway::detail::available_tiers()) {
    BOOST_REQUIRE(halfway::detail::set_active_tier(tier));
    for (int i = 0; i < rounds::of(500); ++i) {
      const Shape shape = arrays::random_shape(random, 1 + static_cast<std::int64_t>(random() % 300));
      check_stochastic(random, from[random() % from.size()], to[random() % to.size()], 1 + random() % 6, shape,
                       !shape.empty() && random() % 2 == 0);
    }
    for (const int threads : {1, 2, 7}) {
      if (rounds::are_watched && threads != 7) continue;
      const Threads limit(threads);
      for (const bool ragged : {false, true}) {
        check_stochastic(random, halfway::float32, halfway::bfloat16, 3, {3, 100, 700}, ragged);
        check_stochastic(random, halfway::float64, halfway::float16, 500, {7, 41}, ragged);
      }
    }
  }
  halfway::detail::set_active_tier({});
}

BOOST_AUTO_TEST_CASE(transformed_batches_for_every_tier_and_thread_count) {
  for (const std::string_view tier : halfway::detail::available_tiers()) {
    BOOST_REQUIRE(halfway::detail::set_active_tier(tier));
    for (const int threads : {1, 2, 7}) {
      const Threads limit(threads);
      Random random(29);
      // images, channels last; a few large samples, and transposed ones that are walked in tiles; many small ones
      check_batch(random, random_samples(random, 15, {64, 65, 3}, {halfway::uint8}), halfway::bfloat16, true);
      check_batch(random, random_samples(random, 2, {300, 401}, {halfway::float32, halfway::float64}),
                  halfway::bfloat16, true);
      check_batch(random, random_samples(random, 2, {513, 257}, {halfway::float32}), halfway::float32, false);
      check_batch(random, random_samples(random, 1500, {5, 13}, {halfway::float64, halfway::int16}), halfway::float16,
                  true);
    }
  }
  halfway::detail::set_active_tier({});
}

// Sizes at which threads share the work, in ways that cut samples and in ways that deal them out.
BOOST_AUTO_TEST_CASE(threads_and_tiers_change_nothing, *boost::unit_test::label("threads")) {
  struct Case {
    std::size_t samples;
    Shape shape;
    std::vector<DType> from;
    DType to;
  };
  const std::vector<Case> cases{
      {1, {480, 1001}, {halfway::float32}, halfway::bfloat16},
      {3, {70001}, {halfway::float64, halfway::uint8, halfway::float16}, halfway::float16},
      {2000, {65}, {halfway::float64, halfway::float32}, halfway::bfloat16},
      {40, {5, 33, 61}, {halfway::float32}, halfway::float32},
      {17, {9, 1021}, {halfway::complex64, halfway::int16}, halfway::complex64},
      {50000, {}, {halfway::int64}, halfway::float32},
  };
  Random random(22);
  int for_seven = 0;  // cases: one is cut, one dealt out
  for (const Case& c : cases) {
    const std::vector<Array> samples = random_samples(random, c.samples, c.shape, c.from);
    std::size_t bytes = 0;
    for (const Array& sample : samples) {
      bytes += static_cast<std::size_t>(sample.count()) * (sample.size() + halfway::item_size(c.to));
    }
    for_seven += halfway::detail::useful_threads(bytes) >= 7 ? 1 : 0;
    const std::vector<TensorView> views = views_of(samples);
    Array expected = arrays::contiguous(c.to, batch_shape(c.samples, c.shape));
    const Report expected_report = stack(samples, expected.mutable_view(), {.casting = Casting::unsafe});
    for (const std::string_view tier : halfway::detail::available_tiers()) {
      BOOST_REQUIRE(halfway::detail::set_active_tier(tier));
      for (const int threads : {1, 2, 7}) {
        const Threads limit(threads);
        for (const bool counts : {false, true}) {
          Report report;
          const CastOptions cast{.casting = Casting::unsafe, .report = counts ? &report : nullptr};
          const Tensor fresh = halfway::collate(views, c.to, {.cast = cast});
          BOOST_TEST(std::memcmp(fresh.view().data, expected.memory.data(), expected.memory.size()) == 0,
                     c.samples << " samples, " << threads << " threads, " << tier);
          BOOST_TEST((!counts || report == expected_report), c.samples << " samples, " << threads << " threads");
        }
      }
    }
    halfway::detail::set_active_tier({});
  }
  BOOST_TEST(for_seven >= 2);
}

BOOST_AUTO_TEST_CASE(results_past_the_caches, *boost::unit_test::label("threads")) {
  // More than any last-level cache has, with rows that are streamed and rows that are not.
  Random random(23);
  for (const std::int64_t extent : {std::int64_t{40000}, std::int64_t{1000}}) {
    std::vector<Array> samples = random_samples(random, 3, {extent}, {halfway::float32});
    for (Array& sample : samples) {
      if (sample.swapped || sample.strides[0] != 4) sample = arrays::contiguous(halfway::float32, {extent});
      arrays::fill_random(random, sample);
    }
    std::vector<TensorView> views = views_of(samples);
    const auto rows = static_cast<std::size_t>((std::int64_t{160} << 20) / (extent * 2));
    for (std::size_t i = 3; i < rows; ++i) views.push_back(views[i % 3]);
    const Tensor fresh = halfway::collate(views, halfway::bfloat16);
    Array expected = arrays::contiguous(halfway::bfloat16, {3, extent});
    stack(samples, expected.mutable_view(), {});
    const auto* data = static_cast<const std::byte*>(fresh.view().data);
    const std::size_t bytes = static_cast<std::size_t>(extent) * 2;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      wrong += std::memcmp(data + i * bytes, expected.memory.data() + i % 3 * bytes, bytes) == 0 ? 0U : 1U;
    }
    BOOST_TEST(wrong == 0U, extent);
  }
}

#if defined(__SSE__)
BOOST_AUTO_TEST_CASE(the_callers_modes_change_nothing) {
  // Subnormal numbers of float32, which the processor widens to 0 in this mode; in the plain loop and in the general
  // one.
  Random random(27);
  std::vector<Array> samples;
  for (int i = 0; i < 40; ++i) {
    samples.push_back(i % 4 == 0 ? arrays::random_layout(random, halfway::float32, {4000}, false)
                                 : arrays::contiguous(halfway::float32, {4000}));
    for (std::int64_t k = 0; k < 4000; ++k) samples.back().set_patterns(k, {random() % 0x800000U, 0});
  }
  const std::vector<TensorView> views = views_of(samples);
  Array expected = arrays::contiguous(halfway::float64, {40, 4000});
  stack(samples, expected.mutable_view(), {});
  const unsigned before = _mm_getcsr();
  for (const int threads : {1, 2, 7}) {
    const Threads limit(threads);
    _mm_setcsr(before | 0x8040U | 0x2000U);  // FTZ, DAZ, rounding down
    const Tensor fresh = halfway::collate(views, halfway::float64);
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    BOOST_TEST((after & 0xFFC0U) == ((before | 0x8040U | 0x2000U) & 0xFFC0U));
    BOOST_TEST(std::memcmp(fresh.view().data, expected.memory.data(), expected.memory.size()) == 0, threads);
  }
}
#endif

// --- padding

void check_padding(Random& random, DType from, DType to, std::int64_t most_elements) {
  Shape longest = arrays::random_shape(random, most_elements);
  if (longest.empty()) longest.push_back(5);
  std::vector<Array> samples;
  std::int64_t last = 0;
  const std::size_t n = 1 + random() % 7;
  for (std::size_t i = 0; i < n; ++i) {
    Shape shape = longest;
    shape.back() = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(longest.back() + 1));
    last = std::max(last, shape.back());
    samples.push_back(shape.back() == 0 ? arrays::contiguous(from, shape)
                                        : arrays::random_layout(random, from, shape, true));
    samples.back().shape = shape;
    if (shape.back() > 0) arrays::fill_random(random, samples.back());
  }
  const std::int64_t one = 1;
  CollateOptions options{.cast = {.casting = Casting::unsafe},
                         .pad = TensorView{.data = &one, .dtype = halfway::int64}};
  Report report;
  options.cast.report = &report;
  Array element = arrays::contiguous(to, {});
  halfway::cast_into(*options.pad, element.mutable_view(), {.casting = Casting::unsafe});

  for (const std::int64_t more : {0, 3}) {
    Shape shape = batch_shape(n, longest);
    shape.back() = last + more;
    if (shape.back() == 0) continue;
    Array destination = arrays::random_layout(random, to, shape, false);
    Array expected = destination;
    for (std::int64_t i = 0; i < expected.count(); ++i) expected.set(i, element.get(0));
    const Report expected_report = stack(samples, expected.mutable_view(), {.casting = Casting::unsafe});
    halfway::collate_into(views_of(samples), destination.mutable_view(), options);
    BOOST_TEST((destination.memory == expected.memory), describe(samples, to) << arrays::to_string(destination));
    BOOST_TEST((report == expected_report), describe(samples, to));
    if (more > 0) continue;
    Array row_major = arrays::contiguous(to, shape);
    for (std::int64_t i = 0; i < row_major.count(); ++i) row_major.set(i, element.get(0));
    stack(samples, row_major.mutable_view(), {.casting = Casting::unsafe});
    const Tensor fresh = halfway::collate(views_of(samples), to, options);
    BOOST_TEST(std::equal(shape.begin(), shape.end(), fresh.view().shape.begin(), fresh.view().shape.end()));
    BOOST_TEST(std::memcmp(fresh.view().data, row_major.memory.data(), row_major.memory.size()) == 0);
  }
}

BOOST_AUTO_TEST_CASE(short_samples_are_filled_up) {
  Random random(24);
  const std::vector<DType> all = arrays::castable_dtypes();
  for (int i = 0; i < rounds::of(2000); ++i) {
    check_padding(random, all[random() % all.size()], all[random() % all.size()],
                  1 + static_cast<std::int64_t>(random() % 300));
  }
  for (const int threads : {1, 2, 7}) {
    const Threads limit(threads);
    for (int i = 0; i < rounds::of(10); ++i) check_padding(random, halfway::float64, halfway::bfloat16, 300'000);
  }
}

BOOST_AUTO_TEST_CASE(a_pad_is_an_element_of_the_result) {
  const std::vector<Array> samples{arrays::contiguous(halfway::uint8, {3}), arrays::contiguous(halfway::uint8, {2})};
  const std::vector<TensorView> views = views_of(samples);
  const auto collated = [&](double value, DType to) {
    return halfway::collate(
        views, to,
        {.cast = {.casting = Casting::unsafe}, .pad = TensorView{.data = &value, .dtype = halfway::float64}});
  };
  const Tensor rounded = collated(0.1, halfway::bfloat16);
  BOOST_TEST(static_cast<const std::uint16_t*>(rounded.view().data)[5] == 0x3DCDU);
  const Tensor infinite = collated(-HUGE_VAL, halfway::float16);
  BOOST_TEST(static_cast<const std::uint16_t*>(infinite.view().data)[5] == 0xFC00U);
  const Tensor minus = collated(-100, halfway::int32);
  BOOST_TEST(static_cast<const std::int32_t*>(minus.view().data)[5] == -100);
  for (const auto& [value, to] : std::vector<std::pair<double, DType>>{
           {0.5, halfway::int32}, {-1.0, halfway::uint8}, {1e30, halfway::float16}, {NAN, halfway::int64}}) {
    BOOST_CHECK_THROW((void)collated(value, to), halfway::CastError);
  }
  const Array two = arrays::contiguous(halfway::uint8, {2});
  BOOST_CHECK_EXCEPTION((void)halfway::collate(views, halfway::uint8, {.pad = two.view()}), halfway::Error,
                        [](const halfway::Error& error) { return error.reason() == Reason::malformed; });
}

// Tasks take turns in order, leave nothing out, and have about equal bytes, whatever the samples' lengths and dtypes.
BOOST_AUTO_TEST_CASE(tasks_have_equal_bytes) {
  Random random(61);
  for (int trial = 0; trial < 300; ++trial) {
    const bool even = trial % 4 == 0;
    const std::size_t count = 1 + random() % (trial % 3 == 0 ? 5 : 200);
    const auto worth = static_cast<std::int64_t>(1 + random() % (trial % 5 == 0 ? 500 : 40));
    const std::size_t row_bytes = random() % 3 == 0 ? 0 : random() % 5000;
    std::vector<std::int64_t> lengths(count, 1 + static_cast<std::int64_t>(random() % 100'000));
    std::vector<TensorView> samples(count);
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) {
      samples[i].dtype = halfway::uint8;
      if (!even) {
        samples[i].dtype = random() % 2 == 0 ? halfway::uint8 : halfway::float64;
        lengths[i] = static_cast<std::int64_t>(random() % (random() % 8 == 0 ? 1'000'000 : 300));
      }
      samples[i].shape = std::span(&lengths[i], 1);
      bytes += static_cast<std::size_t>(lengths[i]) * samples[i].element_size() + row_bytes;
    }
    const BatchShares shares(samples, row_bytes, bytes, even, worth);
    BOOST_TEST_REQUIRE(shares.tasks() >= 1);
    BOOST_TEST_REQUIRE((even || shares.tasks() <= worth));
    const double equal = static_cast<double>(bytes) / static_cast<double>(shares.tasks());
    BatchShares::Place at = shares.begin(0);
    BOOST_TEST_REQUIRE((at == BatchShares::Place{0, 0}));
    for (std::int64_t task = 0; task < shares.tasks(); ++task) {
      const BatchShares::Place end = shares.begin(task + 1);
      double share = 0;
      double largest = 0;
      while (at != end) {
        BOOST_TEST_REQUIRE(at.sample < static_cast<std::int64_t>(count));
        const TensorView& sample = samples[static_cast<std::size_t>(at.sample)];
        const std::int64_t pieces = shares.pieces(at.sample);
        const double piece =
            static_cast<double>(static_cast<std::size_t>(sample.shape[0]) * sample.element_size() + row_bytes) /
            static_cast<double>(pieces);
        share += piece;
        largest = std::max(largest, piece);
        if (++at.piece == pieces) at = {at.sample + 1, 0};
      }
      // Borders are rounded down to whole bytes.
      BOOST_TEST_REQUIRE(share <= equal + largest + static_cast<double>(worth));
      if (!even && worth > 1) BOOST_TEST_REQUIRE(largest <= equal / 4 + 1);
    }
    BOOST_TEST_REQUIRE((at == BatchShares::Place{static_cast<std::int64_t>(count), 0}));
  }
}

// Elements of any size, of dtypes that only travel too.
BOOST_AUTO_TEST_CASE(a_pad_is_as_large_as_an_element) {
  for (const std::uint16_t lanes : std::initializer_list<std::uint16_t>{3, 4, 8, 64, 512, 5000}) {
    const DType dtype(halfway::float32.code, halfway::float32.bits, lanes);
    const std::size_t size = std::size_t{4} * lanes;
    Random random(lanes);
    std::vector<Array> samples{arrays::contiguous(dtype, {3}), arrays::contiguous(dtype, {1})};
    std::vector<std::byte> pad(size);
    std::vector<std::byte> expected(6 * size);
    const auto fill = [&](std::vector<std::byte>& bytes) {
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    };
    fill(samples[0].memory);
    fill(samples[1].memory);
    fill(pad);
    std::memcpy(expected.data(), samples[0].memory.data(), 3 * size);
    std::memcpy(expected.data() + 3 * size, samples[1].memory.data(), size);
    std::memcpy(expected.data() + 4 * size, pad.data(), size);
    std::memcpy(expected.data() + 5 * size, pad.data(), size);
    const Tensor made =
        halfway::collate(views_of(samples), dtype, {.pad = TensorView{.data = pad.data(), .dtype = dtype}});
    BOOST_TEST_CONTEXT(lanes << " lanes")
    BOOST_TEST(std::memcmp(made.view().data, expected.data(), expected.size()) == 0);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
