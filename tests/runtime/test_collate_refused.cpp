// What a batch refuses, and in which words: values that must not be lost, samples that do not fit, memory that is
// shared or not there. Nothing is written then.
#include <boost/test/unit_test.hpp>

#include <algorithm>
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
#include "batches.h"
#include "cast/pass.h"
#include "cast/tiers.h"
#include "collation.h"
#include "halfway/collate.h"
#include "halfway/parallel.h"
#include "reference.h"

using arrays::Array;
using arrays::Random;
using batches::batch_shape;
using batches::Row;
using batches::Shape;
using batches::stack;
using batches::Threads;
using batches::views_of;
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

BOOST_AUTO_TEST_SUITE(collate_refused)

// --- losses

BOOST_AUTO_TEST_CASE(the_first_loss_is_named_and_nothing_is_written, *boost::unit_test::label("threads")) {
  Random random(25);
  for (const int threads : {1, 2, 7}) {
    const Threads limit(threads);
    for (int round = 0; round < 40; ++round) {
      const bool large = round % 10 == 0;
      const Shape shape = large ? Shape{140, 1000} : Shape{1 + static_cast<std::int64_t>(random() % 5), 7};
      std::vector<Array> samples;
      std::size_t read = 0;  // nothing else, before it is known that nothing is lost
      for (std::size_t i = 0; i < 5; ++i) {
        const DType dtype = random() % 2 == 0 ? halfway::float64 : halfway::int32;
        samples.push_back(arrays::random_layout(random, dtype, shape, false));
        const double zero = 0;
        halfway::cast_into({.data = &zero,
                            .dtype = halfway::float64,
                            .shape = shape,
                            .strides = std::vector<std::int64_t>(shape.size(), 0)},
                           samples.back().mutable_view(), {.casting = Casting::unsafe});
        read += samples.back().size() * static_cast<std::size_t>(samples.back().count());
      }
      BOOST_TEST_REQUIRE((!large || halfway::detail::useful_threads(read) >= threads));
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
