// Batches against the stack of single casts: the same bits in every layout, for every number of threads, on every tier;
// padding; what is lost and where; what is refused.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "cast/tiers.h"
#include "collation.h"
#include "halfway/collate.h"
#include "halfway/parallel.h"
#include "reference.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::CollateOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::Overflow;
using halfway::Reason;
using halfway::Report;
using halfway::Tensor;
using halfway::TensorView;

namespace {

using Shape = std::vector<std::int64_t>;

class Threads {
 public:
  explicit Threads(int n) { halfway::set_num_threads(n); }
  ~Threads() { halfway::set_num_threads(0); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
};

Report operator+(const Report& a, const Report& b) {
  return {a.count + b.count, a.nan + b.nan, a.overflow + b.overflow, a.underflow + b.underflow, a.inexact + b.inexact};
}

std::vector<TensorView> views_of(const std::vector<Array>& samples) {
  std::vector<TensorView> views;
  for (const Array& sample : samples) views.push_back(sample.view());
  return views;
}

// The part of a batch that belongs to a sample, cut to the sample's extent of the last axis.
struct Row {
  Shape shape;
  Shape strides;
  MutableView view;

  Row(const MutableView& batch, std::size_t index, const Shape& sample) : shape(sample) {
    for (std::size_t axis = 1; axis < batch.shape.size(); ++axis) strides.push_back(batch.byte_stride(axis));
    view = batch;
    view.data = static_cast<std::byte*>(batch.data) + static_cast<std::int64_t>(index) * batch.byte_stride(0);
    view.shape = shape;
    view.strides = strides;
    view.strides_in_bytes = true;
  }
};

// What a batch should be: each sample cast on its own, in place of what `destination` holds.
Report stack(const std::vector<Array>& samples, const MutableView& destination, CastOptions options) {
  Report total;
  Report one;
  options.report = &one;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Row row(destination, i, halfway::result_shape(samples[i].shape, options));
    halfway::cast_into(samples[i].view(), row.view, options);
    total = total + one;
  }
  return total;
}

Shape batch_shape(std::size_t samples, const Shape& sample) {
  Shape shape{static_cast<std::int64_t>(samples)};
  shape.insert(shape.end(), sample.begin(), sample.end());
  return shape;
}

std::vector<Array> random_samples(Random& random, std::size_t n, const Shape& shape, const std::vector<DType>& dtypes) {
  std::vector<Array> samples;
  for (std::size_t i = 0; i < n; ++i) {
    const DType dtype = dtypes[random() % dtypes.size()];
    samples.push_back(random() % 2 == 0 ? arrays::random_layout(random, dtype, shape, true)
                                        : arrays::contiguous(dtype, shape));
    arrays::fill_random(random, samples.back());
  }
  return samples;
}

std::string describe(const std::vector<Array>& samples, DType to) {
  std::string text = std::to_string(samples.size()) + " samples to " + halfway::to_string(to) + ":";
  for (std::size_t i = 0; i < std::min<std::size_t>(samples.size(), 4); ++i) {
    text += " " + arrays::to_string(samples[i]);
  }
  return text;
}

// Options that fit samples of one shape, drawn at random, with what they borrow.
struct Drawn {
  std::vector<double> numbers;
  Shape axes;
  Shape whole_axes;  // the same of the stacked samples
  CastOptions options{.casting = Casting::unsafe};

  Drawn(Random& random, const Shape& shape, bool affine) {
    const auto ndim = static_cast<std::int64_t>(shape.size());
    if (affine && ndim > 0 && random() % 2 == 0) {
      options.axis = static_cast<std::int64_t>(random() % shape.size());
      const std::int64_t extent = shape[static_cast<std::size_t>(*options.axis)];
      for (std::int64_t i = 0; i < extent; ++i) numbers.push_back(static_cast<double>(random() % 64) / 16 - 2);
      options.scale = numbers;
      if (random() % 2 == 0) *options.axis -= ndim;
    } else if (affine) {
      options.scale = 0.75;
    }
    if (affine && random() % 2 == 0) options.shift = -0.3;
    if (random() % 2 == 0) {
      for (std::int64_t i = 0; i < ndim; ++i) axes.push_back(i);
      std::shuffle(axes.begin(), axes.end(), random);
      whole_axes.push_back(0);
      for (const std::int64_t axis : axes) whole_axes.push_back(axis + 1);
      options.permute = axes;
    }
  }
  Drawn(const Drawn&) = delete;
  Drawn& operator=(const Drawn&) = delete;
  ~Drawn() = default;

  // The same about all samples, stacked.
  [[nodiscard]] CastOptions whole() const {
    CastOptions result = options;
    if (result.axis && *result.axis >= 0) ++*result.axis;
    if (result.permute) result.permute = whole_axes;
    return result;
  }
};

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
    for (int i = 0; i < 500; ++i) {
      const Shape shape = arrays::random_shape(random, 1 + static_cast<std::int64_t>(random() % 300));
      check_stochastic(random, from[random() % from.size()], to[random() % to.size()], 1 + random() % 6, shape,
                       !shape.empty() && random() % 2 == 0);
    }
    for (const int threads : {1, 2, 7}) {
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
      check_batch(random, random_samples(random, 9, {64, 65, 3}, {halfway::uint8}), halfway::bfloat16, true);
      check_batch(random, random_samples(random, 2, {300, 401}, {halfway::float32, halfway::float64}),
                  halfway::bfloat16, true);
      check_batch(random, random_samples(random, 2, {513, 257}, {halfway::float32}), halfway::float32, false);
      check_batch(random, random_samples(random, 900, {5, 13}, {halfway::float64, halfway::int16}), halfway::float16,
                  true);
    }
  }
  halfway::detail::set_active_tier({});
}

// Sizes at which threads share the work, in ways that cut samples and in ways that deal them out.
BOOST_AUTO_TEST_CASE(threads_and_tiers_change_nothing) {
  struct Case {
    std::size_t samples;
    Shape shape;
    std::vector<DType> from;
    DType to;
  };
  const std::vector<Case> cases{
      {1, {300, 1001}, {halfway::float32}, halfway::bfloat16},
      {3, {70001}, {halfway::float64, halfway::uint8, halfway::float16}, halfway::float16},
      {2000, {65}, {halfway::float64, halfway::float32}, halfway::bfloat16},
      {40, {5, 33, 61}, {halfway::float32}, halfway::float32},
      {17, {9, 1021}, {halfway::complex64, halfway::int16}, halfway::complex64},
      {30000, {}, {halfway::int64}, halfway::float32},
  };
  Random random(22);
  for (const Case& c : cases) {
    const std::vector<Array> samples = random_samples(random, c.samples, c.shape, c.from);
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
}

BOOST_AUTO_TEST_CASE(results_past_the_caches) {
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
  for (int i = 0; i < 2000; ++i) {
    check_padding(random, all[random() % all.size()], all[random() % all.size()],
                  1 + static_cast<std::int64_t>(random() % 300));
  }
  for (const int threads : {1, 2, 7}) {
    const Threads limit(threads);
    for (int i = 0; i < 10; ++i) check_padding(random, halfway::float64, halfway::bfloat16, 300'000);
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

// --- losses

BOOST_AUTO_TEST_CASE(the_first_loss_is_named_and_nothing_is_written) {
  Random random(25);
  for (const int threads : {1, 2, 7}) {
    const Threads limit(threads);
    for (int round = 0; round < 40; ++round) {
      const bool large = round % 8 == 0;
      const Shape shape = large ? Shape{40, 1000} : Shape{1 + static_cast<std::int64_t>(random() % 5), 7};
      std::vector<Array> samples;
      for (std::size_t i = 0; i < 5; ++i) {
        const DType dtype = random() % 2 == 0 ? halfway::float64 : halfway::int32;
        samples.push_back(arrays::random_layout(random, dtype, shape, false));
        const double zero = 0;
        halfway::cast_into({.data = &zero,
                            .dtype = halfway::float64,
                            .shape = shape,
                            .strides = std::vector<std::int64_t>(shape.size(), 0)},
                           samples.back().mutable_view(), {.casting = Casting::unsafe});
      }
      // Losses at random places of random samples; the first one counts.
      std::vector<std::pair<std::size_t, std::int64_t>> places;
      for (int i = 0; i < 3; ++i) {
        const std::size_t sample = random() % samples.size();
        const auto place = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(samples[sample].count()));
        if (std::find(places.begin(), places.end(), std::pair(sample, place)) != places.end()) continue;
        places.emplace_back(sample, place);
        Array value = arrays::contiguous(samples[sample].dtype, {});
        const std::int64_t wide = 1'000'003;
        halfway::cast_into({.data = &wide, .dtype = halfway::int64}, value.mutable_view(),
                           {.casting = Casting::unsafe});
        samples[sample].set(place, value.get(0));
      }
      std::sort(places.begin(), places.end());
      Shape index{static_cast<std::int64_t>(places[0].first)};
      index.push_back(places[0].second / shape[1]);
      index.push_back(places[0].second % shape[1]);

      const Shape whole = batch_shape(samples.size(), shape);
      Array destination = arrays::random_layout(random, halfway::float16, whole, false);
      const Array before = destination;
      for (const bool same_value : {false, true}) {
        Report report;
        CollateOptions options{.cast = {.casting = Casting::unsafe, .overflow = Overflow::raise, .report = &report}};
        if (same_value) options.cast = {.casting = Casting::same_value, .report = &report};
        const auto names_it = [&](const halfway::CastError& error) {
          return error.index() == index && error.value() == "1000003" && error.report() == report &&
                 report.overflow == places.size() && report.count == static_cast<std::uint64_t>(destination.count()) &&
                 std::string(error.what()).find("samples[" + std::to_string(places[0].first) + "]") !=
                     std::string::npos;
        };
        BOOST_CHECK_EXCEPTION(halfway::collate_into(views_of(samples), destination.mutable_view(), options),
                              halfway::CastError, names_it);
        BOOST_TEST((destination.memory == before.memory));
        BOOST_CHECK_EXCEPTION((void)halfway::collate(views_of(samples), halfway::float16, options), halfway::CastError,
                              names_it);
      }
      for (const auto& [sample, place] : places)
        samples[sample].set(place, std::vector<std::byte>(samples[sample].size()));
      Report report;
      halfway::collate_into(views_of(samples), destination.mutable_view(),
                            {.cast = {.casting = Casting::same_value, .report = &report}});
      BOOST_TEST((report == Report{.count = static_cast<std::uint64_t>(destination.count())}));
      Array expected = before;
      stack(samples, expected.mutable_view(), {.casting = Casting::unsafe});
      BOOST_TEST((destination.memory == expected.memory));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_loss_in_a_short_sample_is_at_its_own_place) {
  Array first = arrays::contiguous(halfway::int32, {2, 2});
  Array second = arrays::contiguous(halfway::int32, {2, 5});
  Array third = arrays::contiguous(halfway::int32, {2, 3});
  const std::int32_t large = 70000;
  std::vector<std::byte> bytes(4);
  std::memcpy(bytes.data(), &large, 4);
  third.set(4, bytes);
  const CollateOptions options{.cast = {.casting = Casting::same_value},
                               .pad = TensorView{.data = &large, .dtype = halfway::int32}};
  const std::vector<TensorView> views{first.view(), second.view(), third.view()};
  Array destination = arrays::contiguous(halfway::int16, {3, 2, 6});
  const auto names_it = [](const halfway::CastError& error) { return error.index() == Shape{2, 1, 1}; };
  BOOST_CHECK_THROW((void)halfway::collate(views, halfway::int16, options),
                    halfway::CastError);  // the pad is too large
  CollateOptions padded = options;
  const std::int8_t small = 3;
  padded.pad = TensorView{.data = &small, .dtype = halfway::int8};
  BOOST_CHECK_EXCEPTION((void)halfway::collate(views, halfway::int16, padded), halfway::CastError, names_it);
  BOOST_CHECK_EXCEPTION(halfway::collate_into(views, destination.mutable_view(), padded), halfway::CastError, names_it);
  BOOST_TEST(std::count(destination.memory.begin(), destination.memory.end(), std::byte{0}) == 72);
}

BOOST_AUTO_TEST_CASE(a_loss_in_a_permuted_sample_is_named_in_its_own_axes) {
  Array first = arrays::contiguous(halfway::int32, {2, 3, 4});
  Array second = arrays::contiguous(halfway::int32, {2, 3, 4});
  const std::int32_t large = 70000;
  std::vector<std::byte> bytes(4);
  std::memcpy(bytes.data(), &large, 4);
  second.set(1 * 12 + 0 * 4 + 2, bytes);
  second.set(0 * 12 + 2 * 4 + 3, bytes);  // the first one in the source's order, not in the result's
  const Shape axes{2, 0, 1};
  const std::vector<TensorView> views{first.view(), second.view()};
  Array destination = arrays::contiguous(halfway::int16, {2, 4, 2, 3});
  const CollateOptions options{.cast = {.casting = Casting::same_value, .permute = axes}};
  const auto names_it = [](const halfway::CastError& error) {
    return error.index() == Shape{1, 1, 0, 2} && error.report()->overflow == 2;
  };
  BOOST_CHECK_EXCEPTION((void)halfway::collate(views, halfway::int16, options), halfway::CastError, names_it);
  BOOST_CHECK_EXCEPTION(halfway::collate_into(views, destination.mutable_view(), options), halfway::CastError,
                        names_it);
  BOOST_TEST(std::count(destination.memory.begin(), destination.memory.end(), std::byte{0}) == 96);
}

// --- what is refused

void refuses(Reason reason, const std::function<void()>& call, const std::vector<std::string>& words) {
  BOOST_CHECK_EXCEPTION(call(), halfway::Error, [&](const halfway::Error& error) {
    const std::string text = error.what();
    for (const std::string& word : words) BOOST_TEST(text.find(word) != std::string::npos, text << " without " << word);
    return error.reason() == reason;
  });
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_named) {
  const Array a = arrays::contiguous(halfway::float32, {2, 3});
  const Array wide = arrays::contiguous(halfway::float32, {2, 4});
  const Array tall = arrays::contiguous(halfway::float32, {3, 3});
  const Array flat = arrays::contiguous(halfway::float32, {6});
  const Array wrong = arrays::contiguous(halfway::complex64, {2, 3});
  const float zero = 0;
  const CollateOptions pads{.pad = TensorView{.data = &zero, .dtype = halfway::float32}};
  const auto collated = [&](std::vector<TensorView> samples, const CollateOptions& options = {}) {
    return [samples = std::move(samples), options] { (void)halfway::collate(samples, halfway::float16, options); };
  };
  BOOST_CHECK_THROW(collated({})(), std::invalid_argument);
  refuses(Reason::nested, collated({a.view(), a.view(), wide.view()}), {"samples[2]", "(2, 4)", "(2, 3)", "pad="});
  refuses(Reason::nested, collated({a.view(), tall.view()}, pads), {"samples[1]", "(3, 3)", "last axis alone"});
  refuses(Reason::nested, collated({a.view(), flat.view()}, pads), {"samples[1]", "(6,)"});
  refuses(Reason::dtype, collated({a.view(), wrong.view()}), {"samples[1]: ", "complex64"});
  TensorView elsewhere = a.view();
  elsewhere.device = {halfway::DeviceType::cuda, 0};
  refuses(Reason::device, collated({a.view(), elsewhere}), {"samples[1]: "});
  TensorView nothing = a.view();
  nothing.data = nullptr;
  refuses(Reason::no_storage, collated({a.view(), a.view(), nothing}), {"samples[2]: "});
  TensorView odd = a.view();
  odd.strides = odd.strides.first(1);
  refuses(Reason::malformed, collated({a.view(), odd}), {"samples[1]: "});
  const Array deep = arrays::contiguous(halfway::float32, Shape(64, 1));
  refuses(Reason::malformed, collated({deep.view()}), {"64"});
  TensorView nibbles = a.view();
  nibbles.dtype = DType(halfway::TypeCode::int_, 4);
  refuses(Reason::unsupported_dtype, [&] { (void)halfway::collate({&nibbles, 1}, nibbles.dtype); }, {"int4"});

  const Shape pair{1, 0};
  const Shape triple{2, 0, 1};
  const Shape twice{0, 0};
  const std::vector<double> numbers{1, 2, 3};
  refuses(Reason::permute, collated({a.view()}, {.cast = {.permute = triple}}), {"samples[0]: ", "3 axes", "has 2"});
  refuses(Reason::permute, collated({a.view()}, {.cast = {.permute = twice}}), {"samples[0]: ", "twice"});
  refuses(Reason::nested, collated({a.view(), flat.view()}, {.cast = {.permute = pair}}), {"samples[1]", "(6,)"});
  refuses(Reason::affine, collated({wide.view()}, {.cast = {.scale = numbers, .axis = -1}}),
          {"samples[0]: ", "3 numbers", "4 indices"});
  refuses(Reason::affine, collated({a.view()}, {.cast = {.scale = numbers, .axis = 2}}), {"samples[0]: ", "axis=2"});
  CollateOptions along = pads;
  along.cast.scale = numbers;
  along.cast.axis = 1;
  refuses(Reason::affine, collated({a.view(), wide.view()}, along), {"samples[1]: ", "4 indices"});
  BOOST_CHECK_THROW(collated({a.view()}, {.cast = {.scale = numbers}})(), std::invalid_argument);
  BOOST_CHECK_THROW(collated({a.view()}, {.cast = {.rounding = halfway::Rounding::stochastic}})(),
                    std::invalid_argument);
  const Array complex = arrays::contiguous(halfway::complex64, {2, 3});
  refuses(Reason::unsupported_dtype,
          collated({a.view(), complex.view()}, {.cast = {.casting = Casting::unsafe, .scale = 2.0}}),
          {"samples[1]: ", "complex64"});

  const std::vector<TensorView> two{a.view(), a.view()};
  const auto into = [&](const MutableView& destination, const CollateOptions& options = {}) {
    return [&two, destination, options] { halfway::collate_into(two, destination, options); };
  };
  Array small = arrays::contiguous(halfway::float16, {2, 2, 3});
  Array three = arrays::contiguous(halfway::float16, {3, 2, 3});
  Array narrow = arrays::contiguous(halfway::float16, {2, 2, 2});
  refuses(Reason::out_mismatch, into(three.mutable_view()), {"(3, 2, 3)", "(2, 2, 3)"});
  refuses(Reason::out_mismatch, into(narrow.mutable_view(), pads), {"(2, 2, 2)", "(2, 2, 3)"});
  MutableView fixed = small.mutable_view();
  fixed.readonly = true;
  refuses(Reason::readonly, into(fixed), {"read-only"});
  MutableView away = small.mutable_view();
  away.device = {halfway::DeviceType::cuda, 0};
  refuses(Reason::device, into(away), {"destination"});
  MutableView folded = small.mutable_view();
  const Shape steps{0, 3, 1};
  folded.strides = steps;
  refuses(Reason::overlap, into(folded), {"share"});
}

BOOST_AUTO_TEST_CASE(a_sample_may_be_its_own_row) {
  Random random(26);
  Array batch = arrays::contiguous(halfway::float32, {4, 50});
  arrays::fill_random(random, batch);
  const Array before = batch;
  std::vector<Row> rows;
  for (std::size_t i = 0; i < 4; ++i) rows.emplace_back(batch.mutable_view(), i, Shape{50});
  const Array apart = arrays::values_of(halfway::float32, 50);
  std::vector<TensorView> views{rows[0].view, apart.view(), rows[2].view, rows[3].view};
  Report report;
  halfway::collate_into(views, batch.mutable_view(), {.cast = {.report = &report}});
  BOOST_TEST(report.count == 200U);
  Array expected = before;
  halfway::cast_into(apart.view(), Row(expected.mutable_view(), 1, Shape{50}).view);
  BOOST_TEST((batch.memory == expected.memory));
  halfway::collate_into(views, batch.mutable_view());
  BOOST_TEST((batch.memory == expected.memory));
  // In their own places numbers are scaled, and one dtype becomes another.
  const CastOptions doubled{.scale = 2.0};
  const TensorView before_row = views[1];
  Array twice = arrays::contiguous(halfway::float32, {4, 50});
  halfway::cast_into(batch.view(), twice.mutable_view(), doubled);
  views[1] = rows[1].view;
  halfway::collate_into(views, batch.mutable_view(), {.cast = doubled});
  BOOST_TEST((batch.memory == twice.memory));
  MutableView integers = batch.mutable_view();
  integers.dtype = halfway::int32;
  Array truncated = arrays::contiguous(halfway::int32, {4, 50});
  halfway::cast_into(batch.view(), truncated.mutable_view(), {.casting = Casting::unsafe});
  halfway::collate_into(views, integers, {.cast = {.casting = Casting::unsafe}});
  BOOST_TEST((batch.memory == truncated.memory));
  views[1] = before_row;
  expected = batch;
  // Any other row is not its own.
  std::swap(views[2], views[3]);
  refuses(Reason::overlap, [&] { halfway::collate_into(views, batch.mutable_view()); }, {"samples[2]"});
  BOOST_TEST((batch.memory == expected.memory));
}

BOOST_AUTO_TEST_CASE(batches_without_elements) {
  const Array empty = arrays::contiguous(halfway::float32, {2, 0});
  TensorView view = empty.view();
  view.data = nullptr;
  const Tensor fresh = halfway::collate(std::vector<TensorView>{view, view}, halfway::float16);
  BOOST_TEST(fresh.view().shape.size() == 3U);
  const float zero = 0;
  const Tensor padded = halfway::collate(std::vector<TensorView>{view, view}, halfway::float16,
                                         {.pad = TensorView{.data = &zero, .dtype = halfway::float32}});
  BOOST_TEST(padded.view().shape[2] == 0);
}

class NoMemory final : public halfway::Allocator {
 public:
  void* allocate(std::size_t /*bytes*/, std::size_t /*alignment*/) override { throw std::bad_alloc(); }
  void deallocate(void* /*memory*/, std::size_t /*bytes*/, std::size_t /*alignment*/) noexcept override {
    BOOST_TEST(false);
  }
};

BOOST_AUTO_TEST_CASE(out_of_memory) {
  NoMemory none;
  const Array a = arrays::contiguous(halfway::float32, {2, 3});
  const std::vector<TensorView> views{a.view(), a.view()};
  BOOST_CHECK_THROW((void)halfway::collate(views, halfway::float16, {}, none), std::bad_alloc);
}

// Several batches of which one is refused leave all untouched: what the bindings do with trees.
BOOST_AUTO_TEST_CASE(nothing_is_written_before_all_are_checked) {
  Array good = arrays::values_of(halfway::float64, 4);
  std::vector<double> numbers{1.0, 2.0, 0.1, 4.0};
  const TensorView bad{
      .data = numbers.data(), .dtype = halfway::float64, .shape = good.shape, .strides = good.whole_strides};
  Array first = arrays::contiguous(halfway::float64, {1, 4});
  Array second = arrays::contiguous(halfway::float32, {1, 4});
  const Array before = first;
  const std::vector<TensorView> goods{good.view()};
  const std::vector<TensorView> bads{bad};
  const CollateOptions options{.cast = {.casting = Casting::same_value}};
  halfway::detail::Collation one(goods, first.mutable_view(), options);
  halfway::detail::Collation two(bads, second.mutable_view(), options, {"['x']"});
  one.check();
  BOOST_CHECK_EXCEPTION(two.check(), halfway::CastError, [](const halfway::CastError& error) {
    return std::string(error.what()).find("samples[0]['x']") != std::string::npos;
  });
  BOOST_TEST((first.memory == before.memory));
  one.write();
  BOOST_TEST((first.memory == good.memory));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
