// What a device has to do, real or simulated: the bits of the host's casts, from and into any layout. Compiled once for
// each (site.h).
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "site.h"

namespace {

using namespace site;
using halfway::CastOptions;
using halfway::DType;
using halfway::Error;
using halfway::MutableView;
using halfway::Reason;
using halfway::Tensor;
using halfway::TensorView;
using halfway::TransferPlan;

CastOptions freely() { return {.casting = halfway::Casting::unsafe}; }

// The elements in row-major order and the machine's byte order.
std::vector<std::byte> elements_of(const arrays::Array& array) {
  return bytes_of(halfway::cast(array.view(), array.dtype, {.casting = halfway::Casting::equiv}).view());
}

// Bytes that are no element's.
std::vector<std::byte> gaps_of(arrays::Array array) {
  const std::vector<std::byte> zero(array.size());
  array.swapped = false;
  for (std::int64_t i = 0; i < array.count(); ++i) array.set(i, zero);
  return array.memory;
}

arrays::Array filled(arrays::Random& random, arrays::Array array) {
  arrays::fill_random(random, array);
  return array;
}

DType any_dtype(arrays::Random& random) {
  static const std::vector<DType> all = arrays::castable_dtypes();
  return all[random() % all.size()];
}

// What a call refuses to lose, in words; nothing if it returns.
template <class Call>
std::string refusal_of(const Call& call) {
  try {
    call();
    return {};
  } catch (const halfway::CastError& error) {
    return error.message();
  }
}

// Options that a kernel follows. What they borrow lies here.
struct Options {
  std::vector<std::int64_t> axes;
  std::vector<double> scales;
  std::vector<double> shifts;
  CastOptions cast = freely();

  Options(arrays::Random& random, DType from, DType to, const std::vector<std::int64_t>& shape, bool affine) {
    const auto chance = [&](unsigned one_in) { return random() % one_in == 0; };
    if (chance(3)) cast.overflow = halfway::Overflow::saturate;
    axes.resize(shape.size());
    for (std::size_t axis = 0; axis < axes.size(); ++axis) axes[axis] = static_cast<std::int64_t>(axis);
    std::shuffle(axes.begin(), axes.end(), random);
    if (chance(2)) cast.permute = axes;
    if (halfway::find(to)->format != nullptr && chance(4)) {
      cast.rounding = halfway::Rounding::stochastic;
      cast.seed = random();
    }
    if (!affine || reference::is_complex(from) || reference::is_complex(to) || chance(2)) return;
    cast.scale = 0.37;
    if (chance(2)) cast.shift = -1.25;
    if (shape.empty() || chance(2)) return;
    const std::size_t axis = random() % shape.size();
    const auto count = static_cast<std::size_t>(shape[axis]);
    if (count > halfway::max_device_coefficients) return;
    for (std::size_t i = 0; i < count; ++i) {
      scales.push_back(0.1 * static_cast<double>(random() % 100) - 3);
      shifts.push_back(static_cast<double>(random() % 7) / 3);
    }
    cast.axis = static_cast<std::int64_t>(axis);
    if (chance(2)) cast.scale = scales;
    if (!cast.scale.is_along_axis() || chance(2)) cast.shift = shifts;
  }
};

BOOST_AUTO_TEST_SUITE(device_cases)

BOOST_AUTO_TEST_CASE(every_pair_of_dtypes_has_the_hosts_bits) {
  Bench bench(Bench::shipped());
  for (const DType from : arrays::castable_dtypes()) {
    arrays::Random random(from.bits);
    const arrays::Array source = rounds(0, 1) == 0 ? filled(random, arrays::contiguous(from, {301}))
                                                   : arrays::values_of(from, std::int64_t{1} << 20);
    There there(bench, source);
    for (const DType to : arrays::castable_dtypes()) {
      for (const auto overflow : {halfway::Overflow::by_format, halfway::Overflow::saturate}) {
        CastOptions cast = freely();
        cast.overflow = overflow;
        const std::vector<std::byte> expected = bytes_of(halfway::cast(source.view(), to, cast).view());
        BOOST_TEST_INFO_SCOPE(to_string(from) << " -> " << to_string(to) << ", overflow " << to_string(overflow));
        const auto options = bench.to(to, cast);
        const Tensor sent = bench.engine.to_device(source.view(), Tensor(), options);
        BOOST_CHECK(fetch(bench, sent.view()) == expected);
        BOOST_CHECK(bytes_of(bench.engine.to_host(there.view(), options).view()) == expected);
        const Tensor cast_there = bench.engine.cast_on_device(there.view(), Tensor(), options);
        BOOST_CHECK(fetch(bench, cast_there.view()) == expected);
      }
    }
  }
}

// A share of all float32 patterns, spread over all of them: every pattern comes once in 2^32 products with an odd
// number.
BOOST_AUTO_TEST_CASE(float32_patterns_to_half_and_byte_floats) {
  Bench bench(Bench::shipped());
  const std::int64_t count = rounds(4096, std::int64_t{1} << 22);
  arrays::Array source = arrays::contiguous(halfway::float32, {count});
  std::uint32_t next = 1;
  for (std::int64_t block = rounds(1, 32); block > 0; --block) {
    auto* const patterns = reinterpret_cast<std::uint32_t*>(source.memory.data());
    for (std::int64_t i = 0; i < count; ++i, ++next) patterns[i] = next * 2654435761U;
    There there(bench, source);
    for (const DType to : {halfway::bfloat16, halfway::float16, halfway::float8_e4m3fn, halfway::float8_e5m2}) {
      const std::vector<std::byte> expected = bytes_of(halfway::cast(source.view(), to, freely()).view());
      BOOST_TEST_INFO_SCOPE(to_string(to) << ", up to number " << next);
      const Tensor cast_there = bench.engine.cast_on_device(there.view(), Tensor(), bench.to(to, freely()));
      BOOST_CHECK(fetch(bench, cast_there.view()) == expected);
    }
  }
}

BOOST_AUTO_TEST_CASE(casts_on_the_device_from_and_into_any_layout) {
  Bench bench;
  arrays::Random random(11);
  const std::int64_t rounds = site::rounds(1000, 2000);
  for (std::int64_t i = 0; i < rounds; ++i) {
    const DType from = any_dtype(random);
    const DType to = random() % 4 == 0 ? from : any_dtype(random);
    const auto shape = arrays::random_shape(random, 700);
    const arrays::Array source = filled(random, arrays::random_layout(random, from, shape, true));
    Options options(random, from, to, shape, true);
    if (random() % 6 == 0) options.cast.overflow = halfway::Overflow::raise;
    if (random() % 8 == 0) options.cast.casting = halfway::Casting::same_value;
    halfway::Report counted;
    halfway::Report expected_counts;
    CastOptions reference = options.cast;
    if (random() % 2 == 0) {
      reference.report = &expected_counts;
      options.cast.report = &counted;
    }
    std::vector<std::byte> expected;
    const std::string refusal =
        refusal_of([&] { expected = bytes_of(halfway::cast(source.view(), to, reference).view()); });
    const arrays::Array target = arrays::random_layout(random, to, halfway::result_shape(shape, options.cast), false);
    BOOST_TEST_INFO_SCOPE("case " << i << ": " << arrays::to_string(source) << " -> " << arrays::to_string(target));
    There from_there(bench, source);
    There into_there(bench, target);
    const MutableView into = into_there.view();
    const TransferPlan plan = bench.engine.plan_on_device(from_there.view(), bench.to(to, options.cast), &into);
    BOOST_TEST(plan.launches >= 1U);
    BOOST_TEST(plan.bytes_wire == 0U);
    const auto before = launches();
    const auto cast_into = [&] {
      bench.engine.cast_on_device_into(from_there.view(), Tensor(), into, bench.to(to, options.cast));
    };
    BOOST_TEST(refusal_of(cast_into) == refusal);
    BOOST_TEST((counted == expected_counts));
    if (before) BOOST_TEST(*launches() - *before == (refusal.empty() ? plan.launches : 1));
    const arrays::Array found = into_there.now();
    if (refusal.empty()) {
      BOOST_CHECK(elements_of(found) == expected);
      BOOST_CHECK(gaps_of(found) == gaps_of(target));
    } else {
      BOOST_CHECK(found.memory == target.memory);
    }
    counted = {};
    const auto cast_fresh = [&] {
      const Tensor fresh = bench.engine.cast_on_device(from_there.view(), Tensor(), bench.to(to, options.cast));
      BOOST_CHECK(fetch(bench, fresh.view()) == expected);
    };
    BOOST_TEST(refusal_of(cast_fresh) == refusal);
    BOOST_TEST((counted == expected_counts));
    BOOST_CHECK(from_there.now().memory == source.memory);
  }
}

BOOST_AUTO_TEST_CASE(transfers_from_and_into_device_memory_of_any_layout) {
  Bench bench;
  arrays::Random random(12);
  const std::int64_t rounds = site::rounds(1000, 2000);
  for (std::int64_t i = 0; i < rounds; ++i) {
    const DType from = any_dtype(random);
    const DType to = random() % 3 == 0 ? from : any_dtype(random);
    const auto shape = arrays::random_shape(random, 700);
    const arrays::Array source = filled(random, arrays::random_layout(random, from, shape, true));
    Options options(random, from, to, shape, true);
    halfway::Report counted;
    halfway::Report expected_counts;
    CastOptions reference = options.cast;
    if (random() % 4 == 0) {
      reference.report = &expected_counts;
      options.cast.report = &counted;
    }
    const std::vector<std::byte> expected = bytes_of(halfway::cast(source.view(), to, reference).view());
    const arrays::Array target = arrays::random_layout(random, to, halfway::result_shape(shape, options.cast), false);
    BOOST_TEST_INFO_SCOPE("case " << i << ": " << arrays::to_string(source) << " -> " << arrays::to_string(target));

    There from_there(bench, source);
    const auto transfer = bench.to(to, options.cast);
    BOOST_CHECK(bytes_of(bench.engine.to_host(from_there.view(), transfer).view()) == expected);
    arrays::Array here = target;
    bench.engine.to_host_into(from_there.view(), here.mutable_view(), transfer);
    BOOST_CHECK(elements_of(here) == expected);
    BOOST_CHECK(gaps_of(here) == gaps_of(target));

    // Without waiting: what it borrows of the options lives until the result is asked for.
    if (!source.swapped && source.whole_strides.size() == shape.size()) {
      Tensor lent = Tensor::adopt(from_there.view(), nullptr, nullptr);
      BOOST_CHECK(bytes_of(bench.engine.to_host_later(std::move(lent), transfer)->result().view()) == expected);
    }

    // From pinned memory and from pageable.
    There into_there(bench, target);
    const Pinned pinned(source.memory.size());
    std::copy(source.memory.begin(), source.memory.end(), pinned.data());
    TensorView lent = source.view();
    if (random() % 2 == 0) lent.data = pinned.data() + source.first;
    bench.engine.to_device_into(lent, Tensor(), into_there.view(), transfer);
    const arrays::Array found = into_there.now();
    BOOST_CHECK(elements_of(found) == expected);
    BOOST_CHECK(gaps_of(found) == gaps_of(target));
    BOOST_TEST((counted == expected_counts));
  }
}

// Axes may change places on the device or, when the host casts all of it at the end, there: once in either case.
BOOST_AUTO_TEST_CASE(axes_change_places_once) {
  Bench bench;
  arrays::Random random(16);
  const std::array<std::int64_t, 3> axes{2, 0, 1};
  const std::array<std::int64_t, 3> back{1, 2, 0};
  // Row-major once permuted, in (5, 6, 7); and row-major, in (6, 7, 5).
  for (const bool turned : {false, true}) {
    arrays::Array memory = arrays::contiguous(halfway::float32, {5, 6, 7});
    for (std::int64_t i = 0; i < memory.count(); ++i) {
      memory.set_patterns(i, {0x3F800000U + (random() % 1000) * 0x1001U, 0});  // no overflow
    }
    There there(bench, memory);
    halfway::MutableView view = there.view();
    const std::array<std::int64_t, 3> shape{6, 7, 5};
    const std::array<std::int64_t, 3> strides{7, 1, 42};
    TensorView here = memory.view();
    if (turned) {
      here.shape = view.shape = shape;
      here.strides = view.strides = strides;
    }
    for (const DType to : {halfway::float32, halfway::bfloat16, halfway::float64}) {
      for (const auto& permute : {axes, back}) {
        for (const bool checked : {false, true}) {
          CastOptions cast = freely();
          cast.permute = permute;
          if (checked) cast.overflow = halfway::Overflow::raise;
          BOOST_TEST_INFO_SCOPE(to_string(to) << (turned ? " turned" : "") << (checked ? " checked" : ""));
          const auto transfer = bench.to(to, cast);
          const std::vector<std::byte> expected = bytes_of(halfway::cast(here, to, cast).view());
          BOOST_CHECK(bytes_of(bench.engine.to_host(view, transfer).view()) == expected);
          Tensor lent = Tensor::adopt(view, nullptr, nullptr);
          BOOST_CHECK(bytes_of(bench.engine.to_host_later(std::move(lent), transfer)->result().view()) == expected);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(elements_that_are_only_moved_may_be_strided_too) {
  Bench bench;
  arrays::Random random(13);
  // Vectors of three bytes, four floats, and numbers of 16 bytes.
  for (const DType dtype : {DType(std::uint8_t{1}, std::uint8_t{8}, std::uint16_t{3}),
                            DType(std::uint8_t{2}, std::uint8_t{32}, std::uint16_t{4}),
                            DType(std::uint8_t{2}, std::uint8_t{128}, std::uint16_t{1})}) {
    for (const bool swapped : {false, true}) {
      const auto size = static_cast<std::int64_t>(halfway::item_size(dtype));
      arrays::Array source = arrays::contiguous(halfway::uint8, {5, 7, 3 * size});
      for (std::byte& byte : source.memory) byte = static_cast<std::byte>(random());
      const std::array<std::int64_t, 2> shape{7, 5};
      const std::array<std::int64_t, 2> strides{3, 21};  // every third, transposed
      There there(bench, source);
      const auto seen = [&](const void* data, halfway::Device device) {
        return TensorView{
            .data = data, .dtype = dtype, .device = device, .shape = shape, .strides = strides, .swapped = swapped};
      };
      const Tensor expected = halfway::cast(seen(source.memory.data(), {}), dtype, {});
      const TensorView view = seen(there.view().data, there.view().device);
      BOOST_TEST_INFO_SCOPE(to_string(dtype) << (swapped ? " swapped" : ""));
      BOOST_CHECK(bytes_of(bench.engine.to_host(view, bench.to(dtype)).view()) == bytes_of(expected.view()));
      const Tensor copied = bench.engine.cast_on_device(view, Tensor(), bench.to(dtype));
      BOOST_CHECK(fetch(bench, copied.view()) == bytes_of(expected.view()));
    }
  }
}

BOOST_AUTO_TEST_CASE(casts_in_place_and_what_may_not_share_memory) {
  Bench bench;
  arrays::Random random(14);
  const arrays::Array source = filled(random, arrays::contiguous(halfway::float32, {30, 20}));
  There there(bench, source);
  MutableView bits = there.view();
  bits.dtype = halfway::int32;
  const std::vector<std::byte> expected = bytes_of(halfway::cast(source.view(), halfway::int32, freely()).view());
  bench.engine.cast_on_device_into(there.view(), Tensor(), bits, bench.to(halfway::int32, freely()));
  BOOST_CHECK(there.now().memory == expected);

  const auto reason = [](Reason wanted) { return [wanted](const Error& error) { return error.reason() == wanted; }; };
  const auto into = [&](const MutableView& destination, const CastOptions& cast = {}) {
    bench.engine.cast_on_device_into(there.view(), Tensor(), destination, bench.to(destination.dtype, cast));
  };
  MutableView narrow = there.view();
  narrow.dtype = halfway::float16;
  BOOST_CHECK_EXCEPTION(into(narrow), Error, reason(Reason::overlap));
  const std::array<std::int64_t, 2> turned{1, 0};
  const std::array<std::int64_t, 2> turned_shape{20, 30};
  const std::array<std::int64_t, 2> turned_strides{30, 1};
  MutableView square = there.view();
  square.shape = turned_shape;
  square.strides = turned_strides;
  BOOST_CHECK_EXCEPTION(into(square, {.permute = turned}), Error, reason(Reason::overlap));
  const std::array<std::int64_t, 2> same_place{0, 1};
  MutableView folded = there.view();
  folded.strides = same_place;
  BOOST_CHECK_EXCEPTION(into(folded), Error, reason(Reason::overlap));
  BOOST_CHECK_EXCEPTION(bench.engine.to_device_into(source.view(), Tensor(), folded, bench.to(halfway::float32)), Error,
                        reason(Reason::overlap));
  MutableView readonly = bits;
  readonly.readonly = true;
  BOOST_CHECK_EXCEPTION(into(readonly, freely()), Error, reason(Reason::readonly));
  MutableView elsewhere = bits;
  elsewhere.device.id = 1;
  BOOST_CHECK_EXCEPTION(into(elsewhere, freely()), Error, reason(Reason::device));
  MutableView other_shape = square;
  BOOST_CHECK_EXCEPTION(into(other_shape), Error, reason(Reason::out_mismatch));
  arrays::Array here = arrays::contiguous(halfway::float32, {30, 20});
  BOOST_CHECK_EXCEPTION(into(here.mutable_view()), Error, reason(Reason::device));
  BOOST_CHECK(there.now().memory == expected);  // and nothing was written
}

BOOST_AUTO_TEST_CASE(what_kernels_do_not_do_is_said) {
  Bench bench;
  arrays::Random random(15);
  There there(bench, filled(random, arrays::contiguous(halfway::float32, {40, 3})));
  const std::vector<double> many(40, 0.5);
  const auto refused = [&](const CastOptions& cast, const char* words, DType to = halfway::bfloat16) {
    BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.cast_on_device(there.view(), Tensor(), bench.to(to, cast))),
                          Error, [&](const Error& error) {
                            return error.reason() == Reason::unavailable && !error.hint().empty() &&
                                   error.message().find(words) != std::string::npos;
                          });
  };
  refused({.scale = many, .axis = 0}, "at most 32 numbers");
  BOOST_CHECK_THROW(static_cast<void>(bench.engine.cast_on_device(there.view(), Tensor(), bench.to(halfway::int32))),
                    halfway::CastError);
  // Where nothing can be lost there is nothing to check.
  const CastOptions strict{.casting = halfway::Casting::same_value};
  BOOST_CHECK_NO_THROW(
      static_cast<void>(bench.engine.cast_on_device(there.view(), Tensor(), bench.to(halfway::float64, strict))));
}

BOOST_AUTO_TEST_CASE(several_tensors_share_launches) {
  Bench bench;
  arrays::Random random(17);
  for (int round = 0; round < 30; ++round) {
    const std::size_t count = random() % 90;
    const DType to = random() % 2 == 0 ? halfway::bfloat16 : halfway::float32;
    std::vector<std::unique_ptr<There>> theirs;
    std::vector<TensorView> views;
    std::vector<std::vector<std::byte>> expected;
    halfway::Report wanted;
    CastOptions cast = freely();
    if (random() % 2 == 0) cast.scale = 0.5;
    for (std::size_t i = 0; i < count; ++i) {
      const DType from = random() % 3 == 0 ? halfway::uint8 : halfway::float32;
      const auto shape = arrays::random_shape(random, 200);
      arrays::Array source =
          random() % 4 == 0 ? arrays::random_layout(random, from, shape, true) : arrays::contiguous(from, shape);
      arrays::fill_random(random, source);
      halfway::Report part;
      CastOptions counting = cast;
      counting.report = &part;
      expected.push_back(bytes_of(halfway::cast(source.view(), to, counting).view()));
      wanted += part;
      theirs.push_back(std::make_unique<There>(bench, std::move(source)));
      views.push_back(theirs.back()->view());
    }
    BOOST_TEST_INFO_SCOPE("round " << round << ", " << count << " tensors to " << to_string(to));
    halfway::Report counted;
    if (round % 3 == 0) cast.report = &counted;
    const auto before = launches();
    const std::vector<Tensor> cast_there = bench.engine.cast_many_on_device(views, bench.to(to, cast));
    BOOST_REQUIRE(cast_there.size() == count);
    for (std::size_t i = 0; i < count; ++i) BOOST_CHECK(fetch(bench, cast_there[i].view()) == expected[i]);
    if (cast.report != nullptr) {
      BOOST_TEST((counted == wanted));
    } else if (before && count > 60) {
      BOOST_TEST(*launches() - *before < count / 2);
    }
  }
  // What is refused is refused before anything is written, and named.
  arrays::Array fine = filled(random, arrays::contiguous(halfway::uint8, {9}));
  arrays::Array wrong = arrays::contiguous(halfway::float32, {5});
  const float large = 1e30F;
  std::memcpy(wrong.memory.data() + 8, &large, sizeof(large));
  There first(bench, fine);
  There second(bench, wrong);
  There first_out(bench, arrays::contiguous(halfway::float16, {9}));
  There second_out(bench, arrays::contiguous(halfway::float16, {5}));
  const std::vector<std::byte> before = first_out.now().memory;
  const std::array<TensorView, 2> sources{first.view(), second.view()};
  const std::array<MutableView, 2> destinations{first_out.view(), second_out.view()};
  CastOptions strict = freely();
  strict.overflow = halfway::Overflow::raise;
  const std::string refusal = refusal_of(
      [&] { bench.engine.cast_many_on_device_into(sources, destinations, bench.to(halfway::float16, strict)); });
  BOOST_TEST(refusal.find("samples[1]") != std::string::npos, refusal);
  BOOST_CHECK(first_out.now().memory == before);
  BOOST_CHECK_EXCEPTION(
      bench.engine.cast_many_on_device_into(sources, std::span(destinations).first(1), bench.to(halfway::float16)),
      Error, [](const Error& error) { return error.reason() == Reason::out_mismatch; });
}

BOOST_AUTO_TEST_CASE(nothing_is_nothing) {
  Bench bench;
  There there(bench, arrays::contiguous(halfway::float32, {4, 0, 3}));
  const auto before = launches();
  const Tensor empty = bench.engine.cast_on_device(there.view(), Tensor(), bench.to(halfway::float16));
  BOOST_TEST(empty.view().shape[1] == 0);
  BOOST_TEST(bench.engine.to_host(there.view(), bench.to(halfway::float16)).view().shape[2] == 3);
  BOOST_TEST((launches() == before));
  // A single element, and many dimensions of one index.
  There scalar(bench, arrays::contiguous(halfway::int64, {}));
  BOOST_TEST(
      fetch(bench, bench.engine.cast_on_device(scalar.view(), Tensor(), bench.to(halfway::float64)).view()).size() ==
      8U);
  const std::vector<std::int64_t> ones(64, 1);
  There flat(bench, arrays::contiguous(halfway::int64, ones));
  BOOST_TEST(bench.engine.to_host(flat.view(), bench.to(halfway::int64)).view().ndim() == 64);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
