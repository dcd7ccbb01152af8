// What a cast refuses, what it says then, and that it has written nothing.
#include <boost/test/unit_test.hpp>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "arrays.h"
#include "halfway/cast.h"
#include "reference.h"

using arrays::Array;
using arrays::Random;
using halfway::CastError;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::Error;
using halfway::MutableView;
using halfway::Overflow;
using halfway::Reason;
using halfway::Report;
using halfway::Tensor;

namespace {

template <class T>
Array array_of(DType dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  Array array = arrays::contiguous(dtype, std::move(shape));
  BOOST_TEST_REQUIRE(array.memory.size() == values.size() * sizeof(T));
  std::memcpy(array.memory.data(), values.data(), array.memory.size());
  return array;
}

template <class T>
Array vector_of(DType dtype, const std::vector<T>& values) {
  return array_of(dtype, {static_cast<std::int64_t>(values.size())}, values);
}

template <class Call>
CastError cast_error(Call call) {
  try {
    call();
  } catch (const CastError& error) {
    return error;
  }
  BOOST_FAIL("no CastError");
  return CastError("");
}

template <class Call>
Reason reason_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    BOOST_TEST(!error.message().empty());
    return error.reason();
  }
  BOOST_FAIL("no Error");
  return Reason::dtype;
}

bool is_watched(const reference::Image& lost, const CastOptions& options) {
  if (options.casting == Casting::same_value) return !lost.survives();
  return options.overflow == Overflow::raise && lost.overflow;
}

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

BOOST_AUTO_TEST_SUITE(cast_policy)

// ---- levels ----

BOOST_AUTO_TEST_CASE(levels_are_asked_first) {
  for (const DType from : arrays::castable_dtypes()) {
    Array source = arrays::contiguous(from, {2});
    for (const DType to : arrays::castable_dtypes()) {
      Array destination = arrays::contiguous(to, {2});
      const std::vector<std::byte> before(destination.memory.size(), std::byte{0xA5});
      for (const Casting casting : {Casting::no, Casting::equiv, Casting::safe, Casting::same_kind, Casting::unsafe}) {
        destination.memory = before;
        Report report{.count = 9};
        const CastOptions options{.casting = casting, .report = &report};
        bool fresh = true;
        bool into = true;
        try {
          (void)halfway::cast(source.view(), to, options);
        } catch (const CastError& error) {
          fresh = false;
          BOOST_TEST(!error.report().has_value());
          BOOST_TEST(error.index().empty());
          BOOST_TEST((report == Report{}));
        }
        try {
          halfway::cast_into(source.view(), destination.mutable_view(), options);
        } catch (const CastError&) {
          into = false;
        }
        BOOST_TEST(fresh == halfway::can_cast(from, to, casting));
        BOOST_TEST(into == fresh);
        BOOST_TEST((into || destination.memory == before));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_a_level_says) {
  const Array source = arrays::contiguous(halfway::float64, {2});
  const CastError kind = cast_error([&] { (void)halfway::cast(source.view(), halfway::int32); });
  BOOST_TEST(kind.message() == "casting='same_kind' forbids float64 to int32");
  BOOST_TEST(kind.hint() == "casting='unsafe' allows it, casting='same_value' if no value changes");
  BOOST_TEST((kind.reason() == Reason::dtype));
  const CastError safe =
      cast_error([&] { (void)halfway::cast(source.view(), halfway::bfloat16, {.casting = Casting::safe}); });
  BOOST_TEST(safe.hint() == "casting='same_kind' allows it");
  const Array narrow = arrays::contiguous(halfway::float8_e4m3fn, {2});
  const CastError no =
      cast_error([&] { (void)halfway::cast(narrow.view(), halfway::bfloat16, {.casting = Casting::no}); });
  BOOST_TEST(no.hint() == "casting='safe' allows it");
}

BOOST_AUTO_TEST_CASE(no_keeps_the_byte_order) {
  Array source = arrays::contiguous(halfway::float32, {2});
  source.swapped = true;
  const CastError error =
      cast_error([&] { (void)halfway::cast(source.view(), source.dtype, {.casting = Casting::no}); });
  BOOST_TEST(error.message() == "casting='no' forbids a change of the byte order of float32");
  BOOST_TEST(error.hint() == "casting='equiv' allows it");
  (void)halfway::cast(source.view(), source.dtype, {.casting = Casting::equiv});
  Array destination = arrays::contiguous(halfway::float32, {2});
  destination.swapped = true;
  halfway::cast_into(source.view(), destination.mutable_view(), {.casting = Casting::no});
  // Single bytes have no order.
  Array bytes = arrays::contiguous(halfway::float8_e5m2, {2});
  bytes.swapped = true;
  (void)halfway::cast(bytes.view(), bytes.dtype, {.casting = Casting::no});
}

// ---- same_value and raise ----

BOOST_AUTO_TEST_CASE(the_first_loss_is_named_and_nothing_is_written) {
  Random random(21);
  const std::vector<DType> dtypes = arrays::castable_dtypes();
  int losses = 0;
  for (int round = 0; round < 6000; ++round) {
    const DType from = dtypes[random() % dtypes.size()];
    const DType to = dtypes[random() % dtypes.size()];
    const std::vector<std::int64_t> shape = arrays::random_shape(random, round % 50 == 0 ? 2000 : 60);
    Array source = arrays::random_layout(random, from, shape, true);
    // Mostly harmless values, so that the first loss is anywhere.
    const reference::Format& format = reference::format(reference::component(from));
    const std::uint64_t one = format.is_float() ? static_cast<std::uint64_t>(format.bias) << format.mantissa_bits : 1;
    for (std::int64_t i = 0; i < source.count(); ++i) source.set_patterns(i, {one, 0});
    const auto lossy = static_cast<std::int64_t>(random() % 4);
    for (std::int64_t i = 0; i < lossy; ++i) {
      const bool complex = reference::is_complex(from);
      source.set_patterns(
          static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(source.count())),
          {arrays::random_pattern(random, format), complex ? arrays::random_pattern(random, format) : 0});
    }
    Report report;
    CastOptions options{.casting = random() % 2 == 0 ? Casting::same_value : Casting::unsafe,
                        .overflow = static_cast<Overflow>(random() % 3)};
    if (random() % 2 == 0) options.report = &report;

    Report expected;
    std::int64_t first = -1;
    for (std::int64_t i = 0; i < source.count(); ++i) {
      const auto [image, lost] = reference::convert_element(source.patterns(i), from, to, options.overflow);
      ++expected.count;
      expected.nan += lost.nan ? 1U : 0U;
      expected.overflow += lost.overflow ? 1U : 0U;
      expected.underflow += lost.underflow ? 1U : 0U;
      expected.inexact += lost.inexact ? 1U : 0U;
      if (first < 0 && is_watched(lost, options)) first = i;
    }

    Array destination = arrays::random_layout(random, to, shape, false);
    const std::vector<std::byte> before = destination.memory;
    for (const bool fresh : {true, false}) {
      std::int64_t found = -1;
      try {
        if (fresh) {
          (void)halfway::cast(source.view(), to, options);
        } else {
          halfway::cast_into(source.view(), destination.mutable_view(), options);
        }
      } catch (const CastError& error) {
        found = 0;
        BOOST_TEST_REQUIRE(error.index().size() == shape.size());
        for (std::size_t axis = 0; axis < shape.size(); ++axis) found = found * shape[axis] + error.index()[axis];
        BOOST_TEST((error.report() == expected));
        BOOST_TEST(!error.value().empty());
        BOOST_TEST((destination.memory == before));
        ++losses;
      }
      BOOST_TEST(found == first, arrays::to_string(source) << " to " << to_string(to));
      if (options.report != nullptr) BOOST_TEST((report == expected));
    }
    if (first >= 0) continue;
    Array by_hand = destination;
    by_hand.memory = before;
    for (std::int64_t i = 0; i < source.count(); ++i) {
      by_hand.set_patterns(i, reference::convert_element(source.patterns(i), from, to, options.overflow).patterns);
    }
    BOOST_TEST((destination.memory == by_hand.memory));
  }
  BOOST_TEST(losses > 1000);
}

BOOST_AUTO_TEST_CASE(what_a_loss_says) {
  const Array source = array_of<double>(halfway::float64, {2, 3}, {1, 2, 3, 300.5, 4, -1e300});
  const CastError same =
      cast_error([&] { (void)halfway::cast(source.view(), halfway::int8, {.casting = Casting::same_value}); });
  BOOST_TEST(same.message() ==
             "casting='same_value' forbids this cast of float64 to int8: 2 of 6 elements would change, the first is "
             "300.5 at index (1, 0)");
  BOOST_TEST(same.value() == "300.5");
  BOOST_TEST(same.index() == (std::vector<std::int64_t>{1, 0}), boost::test_tools::per_element());
  BOOST_TEST((same.report() == Report{.count = 6, .overflow = 2}));
  BOOST_TEST(!same.hint().empty());

  const CastError raise =
      cast_error([&] { (void)halfway::cast(source.view(), halfway::float32, {.overflow = Overflow::raise}); });
  BOOST_TEST(raise.message() ==
             "overflow='raise' forbids this cast of float64 to float32: 1 of 6 elements would overflow, the first is "
             "-1e+300 at index (1, 2)");

  const Array single = vector_of<float>(halfway::float32, {0.1F});
  const CastError one =
      cast_error([&] { (void)halfway::cast(single.view(), halfway::float16, {.casting = Casting::same_value}); });
  BOOST_TEST(one.message() ==
             "casting='same_value' forbids this cast of float32 to float16: 1 of 1 element would change, the first is "
             "0.1 at index (0,)");
}

std::string lost_value(const Array& source, DType to) {
  return cast_error([&] { (void)halfway::cast(source.view(), to, {.casting = Casting::same_value}); }).value();
}

BOOST_AUTO_TEST_CASE(the_text_of_a_value) {
  BOOST_TEST(lost_value(vector_of<double>(halfway::float64, {0.1}), halfway::float32) == "0.1");
  BOOST_TEST(lost_value(vector_of<double>(halfway::float64, {0.1 + 0.2}), halfway::int8) == "0.30000000000000004");
  BOOST_TEST(lost_value(vector_of<double>(halfway::float64, {-nan_value}), halfway::int8) == "nan");
  BOOST_TEST(lost_value(vector_of<double>(halfway::float64, {-inf}), halfway::float8_e4m3fn) == "-inf");
  BOOST_TEST(lost_value(vector_of<std::int64_t>(halfway::int64, {INT64_MIN}), halfway::int8) == "-9223372036854775808");
  BOOST_TEST(lost_value(vector_of<std::uint64_t>(halfway::uint64, {UINT64_MAX}), halfway::float32) ==
             "18446744073709551615");
  BOOST_TEST(lost_value(array_of<double>(halfway::complex128, {1}, {1, -2}), halfway::float64) == "(1-2j)");
  BOOST_TEST(lost_value(array_of<float>(halfway::complex64, {1}, {0.5F, -0.0F}), halfway::int8) == "(0.5-0j)");
  BOOST_TEST(lost_value(array_of<float>(halfway::complex64, {1}, {1, std::numeric_limits<float>::quiet_NaN()}),
                        halfway::float64) == "(1+nanj)");
  BOOST_TEST(lost_value(vector_of<std::uint8_t>(halfway::boolean, {0}), halfway::float8_e8m0fnu) == "False");
  BOOST_TEST(lost_value(vector_of<std::uint16_t>(halfway::bfloat16, {0x3FC0}), halfway::int32) == "1.5");
  Array swapped = vector_of<double>(halfway::float64, {0});
  swapped.swapped = true;
  swapped.set_patterns(0, {0x3FF8000000000000, 0});
  BOOST_TEST(lost_value(swapped, halfway::int8) == "1.5");
}

BOOST_AUTO_TEST_CASE(values_that_survive_same_value) {
  const auto survives = [](const Array& source, DType to) {
    try {
      (void)halfway::cast(source.view(), to, {.casting = Casting::same_value});
      return true;
    } catch (const CastError&) {
      return false;
    }
  };
  const auto doubles = [](std::vector<double> values) { return vector_of(halfway::float64, values); };
  BOOST_TEST(survives(doubles({1, -0.0, 127, -128}), halfway::int8));
  BOOST_TEST(!survives(doubles({128}), halfway::int8));
  BOOST_TEST(survives(doubles({nan_value, inf, -inf, -0.0, 0x1p-24}), halfway::float16));
  BOOST_TEST(!survives(doubles({0x1p-25}), halfway::float16));
  BOOST_TEST(survives(doubles({nan_value, -0.0}), halfway::float8_e4m3fnuz));
  BOOST_TEST(!survives(doubles({inf}), halfway::float8_e4m3fnuz));
  BOOST_TEST(survives(doubles({nan_value, 0x1p-127}), halfway::float8_e8m0fnu));
  BOOST_TEST(!survives(doubles({0}), halfway::float8_e8m0fnu));
  BOOST_TEST(!survives(doubles({-0.0}), halfway::float8_e8m0fnu));
  BOOST_TEST(!survives(doubles({-1}), halfway::float8_e8m0fnu));
  BOOST_TEST(survives(doubles({0, 1, -0.0}), halfway::boolean));
  BOOST_TEST(!survives(doubles({2}), halfway::boolean));
  BOOST_TEST(!survives(doubles({nan_value}), halfway::boolean));
  BOOST_TEST(!survives(doubles({nan_value}), halfway::uint64));
  BOOST_TEST(!survives(doubles({inf}), halfway::int64));
  const auto pairs = [](std::vector<double> values) {
    return array_of(halfway::complex128, {static_cast<std::int64_t>(values.size() / 2)}, values);
  };
  BOOST_TEST(survives(pairs({1, 0, nan_value, -0.0}), halfway::float32));
  BOOST_TEST(!survives(pairs({1, 0x1p-1074}), halfway::float32));
  BOOST_TEST(!survives(pairs({nan_value, nan_value}), halfway::float32));
  BOOST_TEST(!survives(pairs({0, 1}), halfway::boolean));
  BOOST_TEST(survives(pairs({1, 0}), halfway::boolean));
  BOOST_TEST(survives(vector_of<std::int64_t>(halfway::int64, {std::int64_t{1} << 62}), halfway::float32));
  BOOST_TEST(!survives(vector_of<std::int64_t>(halfway::int64, {(std::int64_t{1} << 53) + 1}), halfway::float64));
}

BOOST_AUTO_TEST_CASE(raise_is_about_finite_values) {
  const auto raises = [](double value, DType to) {
    try {
      (void)halfway::cast(vector_of<double>(halfway::float64, {value}).view(), to,
                          {.casting = Casting::unsafe, .overflow = Overflow::raise});
      return false;
    } catch (const CastError&) {
      return true;
    }
  };
  for (const DType to : {halfway::float16, halfway::float8_e4m3fn, halfway::int32, halfway::float8_e8m0fnu,
                         halfway::boolean, halfway::float32}) {
    BOOST_TEST(!raises(inf, to));
    BOOST_TEST(!raises(-inf, to));
    BOOST_TEST(!raises(nan_value, to));
  }
  BOOST_TEST(!raises(464, halfway::float8_e4m3fn));  // rounds to 448, the even neighbour
  BOOST_TEST(raises(464.0000001, halfway::float8_e4m3fn));
  BOOST_TEST(!raises(65519.99, halfway::float16));
  BOOST_TEST(raises(65520, halfway::float16));
  BOOST_TEST(!raises(-128.99, halfway::int8));
  BOOST_TEST(raises(-129, halfway::int8));
  BOOST_TEST(!raises(-5, halfway::float8_e8m0fnu));
  BOOST_TEST(raises(0x1.8p127, halfway::float8_e8m0fnu));
  BOOST_TEST(!raises(1e300, halfway::boolean));
}

BOOST_AUTO_TEST_CASE(a_report_starts_from_zero) {
  Report report{.count = 1, .nan = 2, .overflow = 3, .underflow = 4, .inexact = 5};
  const Array source = vector_of<double>(halfway::float64, {nan_value, 1e300, 1e-300, 0.1, 1});
  (void)halfway::cast(source.view(), halfway::float32, {.report = &report});
  BOOST_TEST((report == Report{.count = 5, .nan = 1, .overflow = 1, .underflow = 1, .inexact = 2}));
  (void)halfway::cast(source.view(), halfway::float64, {.report = &report});
  BOOST_TEST((report == Report{.count = 5, .nan = 1}));
  const Array integers = vector_of<std::int64_t>(halfway::int64, {1, 300});
  (void)halfway::cast(integers.view(), halfway::int8, {.report = &report});
  BOOST_TEST((report == Report{.count = 2, .overflow = 1}));
}

// ---- where a cast may write ----

BOOST_AUTO_TEST_CASE(destinations_that_are_refused) {
  Array source = arrays::contiguous(halfway::float32, {2, 3});
  Array good = arrays::contiguous(halfway::float16, {2, 3});
  good.memory.assign(good.memory.size(), std::byte{0x77});
  const std::vector<std::byte> before = good.memory;
  const auto into = [&](const MutableView& destination) {
    return reason_of([&] { halfway::cast_into(source.view(), destination); });
  };
  MutableView readonly = good.mutable_view();
  readonly.readonly = true;
  BOOST_TEST((into(readonly) == Reason::readonly));

  const std::vector<std::int64_t> other_shape{3, 2};
  MutableView reshaped = good.mutable_view();
  reshaped.shape = other_shape;
  BOOST_TEST((into(reshaped) == Reason::out_mismatch));

  const std::vector<std::int64_t> flat_shape{6};
  const std::vector<std::int64_t> flat_strides{1};
  MutableView flat = good.mutable_view();
  flat.shape = flat_shape;
  flat.strides = flat_strides;
  BOOST_TEST((into(flat) == Reason::out_mismatch));

  MutableView remote = good.mutable_view();
  remote.device = {halfway::DeviceType::cuda, 0};
  BOOST_TEST((into(remote) == Reason::device));

  MutableView nowhere = good.mutable_view();
  nowhere.data = nullptr;
  BOOST_TEST((into(nowhere) == Reason::no_storage));

  const std::vector<std::int64_t> folded{0, 1};
  MutableView self = good.mutable_view();
  self.strides = folded;
  BOOST_TEST((into(self) == Reason::overlap));
  BOOST_TEST((good.memory == before));
}

BOOST_AUTO_TEST_CASE(sources_that_are_refused) {
  Array source = arrays::contiguous(halfway::float32, {2, 3});
  halfway::TensorView view = source.view();
  const auto refused = [&](DType to) { return reason_of([&] { (void)halfway::cast(view, to); }); };
  view.device = {halfway::DeviceType::cuda, 1};
  BOOST_TEST((refused(halfway::float16) == Reason::device));
  BOOST_TEST((refused(halfway::float32) == Reason::device));
  view.device = {halfway::DeviceType::cuda_host, 0};
  (void)halfway::cast(view, halfway::float16);
  view.device = {};
  view.readonly = true;
  (void)halfway::cast(view, halfway::float16);
  view.data = nullptr;
  BOOST_TEST((refused(halfway::float16) == Reason::no_storage));
  const std::vector<std::int64_t> negative{2, -3};
  view = source.view();
  view.shape = negative;
  BOOST_TEST((refused(halfway::float16) == Reason::malformed));
  view = source.view();
  view.strides = view.strides.first(1);
  BOOST_TEST((refused(halfway::float16) == Reason::malformed));
  view = source.view();
  for (const DType carried : {halfway::float4_e2m1fn, DType(halfway::TypeCode::int_, 4),
                              DType(halfway::TypeCode::float_, 32, 2), DType(halfway::TypeCode::float_, 128)}) {
    BOOST_TEST((refused(carried) == Reason::unsupported_dtype));
  }
  view.dtype = DType(halfway::TypeCode::float_, 32, 2);
  BOOST_TEST((refused(halfway::float32) == Reason::unsupported_dtype));
}

BOOST_AUTO_TEST_CASE(shared_memory_is_refused_or_harmless) {
  std::vector<float> memory(24);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i) + 0.5F;
  const std::vector<float> before = memory;
  const std::vector<std::int64_t> shape{6};
  const std::vector<std::int64_t> ones{1};
  const std::vector<std::int64_t> twos{2};
  const std::vector<std::int64_t> back{-1};
  const auto view = [&](std::size_t at, const std::vector<std::int64_t>& strides, DType dtype = halfway::float32) {
    return MutableView{.data = memory.data() + at, .dtype = dtype, .shape = shape, .strides = strides};
  };
  const auto reason = [&](const MutableView& from, const MutableView& to) {
    return reason_of([&] { halfway::cast_into(from, to, {.casting = Casting::unsafe}); });
  };
  BOOST_TEST((reason(view(0, ones), view(3, ones)) == Reason::overlap));
  BOOST_TEST((reason(view(0, ones), view(5, back)) == Reason::overlap));
  BOOST_TEST((reason(view(0, ones), view(0, ones, halfway::int16)) == Reason::overlap));
  BOOST_TEST((reason(view(0, ones, halfway::float64), view(0, ones)) == Reason::overlap));
  BOOST_TEST((reason(view(0, ones), view(0, twos)) == Reason::overlap));
  BOOST_TEST((memory == before));

  // Onto itself nothing changes, and the counts are still those of a copy.
  memory[2] = std::numeric_limits<float>::quiet_NaN();
  Report report;
  halfway::cast_into(view(0, ones), view(0, ones), {.report = &report});
  BOOST_TEST((report == Report{.count = 6, .nan = 1}));
  halfway::cast_into(view(5, back), view(5, back));
  memory[2] = before[2];
  BOOST_TEST((memory == before));

  // Every other element is not the ones between.
  halfway::cast_into(view(0, twos), view(1, twos));
  for (std::size_t i = 0; i < 6; ++i) BOOST_TEST(memory[2 * i + 1] == before[2 * i]);
}

BOOST_AUTO_TEST_CASE(names_of_overflow_modes) {
  BOOST_TEST(to_string(Overflow::by_format) == "default");
  BOOST_TEST(to_string(Overflow::saturate) == "saturate");
  BOOST_TEST(to_string(Overflow::raise) == "raise");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
