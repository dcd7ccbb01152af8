// Casts between any two layouts, against a loop over the elements; what lies between the elements stays as it was. With
// each instruction set and several numbers of threads in turn.
#include <boost/test/unit_test.hpp>

#include <cstring>
#include <vector>

#include "arrays.h"
#include "cast/pass.h"
#include "cast/tuning.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "reference.h"
#include "rounds.h"
#include "under_test.h"

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::Overflow;
using halfway::Report;
using halfway::Tensor;
using halfway::TypeCode;
using under_test::NextSetting;

namespace {

struct Expected {
  std::vector<std::byte> memory;  // of the destination, gaps included
  Report report;
};

Expected slow_cast(const Array& source, Array destination, Overflow overflow) {
  Report report;
  for (std::int64_t i = 0; i < source.count(); ++i) {
    const auto [image, lost] =
        reference::convert_element(source.patterns(i), source.dtype, destination.dtype, overflow);
    destination.set_patterns(i, image);
    ++report.count;
    report.nan += lost.nan ? 1U : 0U;
    report.overflow += lost.overflow ? 1U : 0U;
    report.underflow += lost.underflow ? 1U : 0U;
    report.inexact += lost.inexact ? 1U : 0U;
  }
  return {std::move(destination.memory), report};
}

void check_pair(Random& random, DType from, DType to, const std::vector<std::int64_t>& shape) {
  Array source = arrays::random_layout(random, from, shape, true);
  arrays::fill_random(random, source);
  Array destination = arrays::random_layout(random, to, shape, false);
  const Overflow overflow = random() % 2 == 0 ? Overflow::by_format : Overflow::saturate;
  const std::vector<std::byte> source_before = source.memory;
  const Expected expected = slow_cast(source, destination, overflow);

  Report report;
  const bool counts = random() % 2 == 0;
  const CastOptions options{.casting = Casting::unsafe, .overflow = overflow, .report = counts ? &report : nullptr};
  const NextSetting setting;
  const std::string where = std::string(setting.tier()) + ", " + std::to_string(setting.threads()) + " threads: ";
  halfway::cast_into(source.view(), destination.mutable_view(), options);
  BOOST_TEST((destination.memory == expected.memory),
             where << arrays::to_string(source) << " into " << arrays::to_string(destination));
  BOOST_TEST((!counts || report == expected.report), where << arrays::to_string(source) << " to " << to_string(to));

  const Tensor fresh = halfway::cast(source.view(), to, options);
  Array row_major = arrays::contiguous(to, shape);
  const Expected expected_fresh = slow_cast(source, row_major, overflow);
  BOOST_TEST(std::memcmp(fresh.view().data, expected_fresh.memory.data(), expected_fresh.memory.size()) == 0,
             where << arrays::to_string(source) << " to " << to_string(to));
  BOOST_TEST((!counts || report == expected.report));
  BOOST_TEST((source.memory == source_before));
}

// Elements as bytes, whatever they mean: for dtypes that are only carried.
void check_copy(Random& random, DType dtype, const std::vector<std::int64_t>& shape) {
  Array source = arrays::random_layout(random, dtype, shape, true);
  Array destination = arrays::random_layout(random, dtype, shape, false);
  if (halfway::find(DType(dtype.code, dtype.bits, 1)) == nullptr) source.swapped = destination.swapped = false;
  Array expected = destination;
  for (std::int64_t i = 0; i < source.count(); ++i) expected.set(i, source.get(i));
  const NextSetting setting;
  halfway::cast_into(source.view(), destination.mutable_view());
  BOOST_TEST((destination.memory == expected.memory), arrays::to_string(source)
                                                          << " into " << arrays::to_string(destination));
}

BOOST_AUTO_TEST_SUITE(cast_layout)

BOOST_AUTO_TEST_CASE(every_pair_in_random_layouts) {
  Random random(11);
  int pairs = 0;
  for (const DType from : arrays::castable_dtypes()) {
    for (const DType to : arrays::castable_dtypes()) {
      // Large by chance, not every fourth: of four instruction sets it would always be the same one's.
      for (int i = 0; i < 4; ++i) {
        check_pair(random, from, to, arrays::random_shape(random, random() % 4 == 0 ? 2000 : 150));
      }
      ++pairs;
    }
  }
  BOOST_TEST(pairs == 24 * 24);
}

BOOST_AUTO_TEST_CASE(some_pairs_in_many_layouts) {
  Random random(12);
  const std::vector<std::pair<DType, DType>> pairs{
      {halfway::float64, halfway::bfloat16},     {halfway::uint8, halfway::float32},
      {halfway::complex64, halfway::complex128}, {halfway::complex128, halfway::float16},
      {halfway::float32, halfway::complex32},    {halfway::complex64, halfway::boolean},
      {halfway::float32, halfway::float32},      {halfway::complex128, halfway::complex128}};
  for (int i = 0; i < rounds::of(8000); ++i) {
    const auto& [from, to] = pairs[static_cast<std::size_t>(i) % pairs.size()];
    check_pair(random, from, to, arrays::random_shape(random, 1 + static_cast<std::int64_t>(random() % 400)));
  }
}

// Enough for seven threads to take part in each, wherever the tasks are cut. Wide elements, since few are enough then.
BOOST_AUTO_TEST_CASE(shapes_that_threads_share) {
  Random random(19);
  const std::vector<std::pair<DType, DType>> pairs{{halfway::complex128, halfway::complex128},
                                                   {halfway::float64, halfway::complex128},
                                                   {halfway::complex64, halfway::complex128},
                                                   {halfway::float64, halfway::int64},
                                                   {halfway::complex128, halfway::float32}};
  for (int i = 0; i < rounds::of(12); ++i) {
    const auto& [from, to] = pairs[static_cast<std::size_t>(i) % pairs.size()];
    const std::size_t moved = halfway::item_size(from) + halfway::item_size(to);
    const auto least = static_cast<std::int64_t>(7 * halfway::detail::thread_bytes / moved + 1);
    std::vector<std::int64_t> shape;
    while (arrays::element_count(shape) < least) shape = arrays::random_shape(random, least * 5 / 4);
    const auto bytes = static_cast<std::size_t>(arrays::element_count(shape)) * moved;
    BOOST_TEST_REQUIRE(halfway::detail::useful_threads(bytes) >= 7);
    check_pair(random, from, to, shape);
  }
}

BOOST_AUTO_TEST_CASE(rows_around_the_size_of_a_block) {
  // Rows that are gathered together, and rows that are blocks, ending anywhere in one.
  Random random(13);
  for (const std::int64_t row : {1, 2, 3, 7, 63, 64, 65, 127, 511, 512, 513, 700, 1025}) {
    for (const std::int64_t rows : {1, 2, 3, 9}) {
      check_pair(random, halfway::float32, halfway::float16, {rows, row});
      check_pair(random, halfway::complex64, halfway::float32, {rows, row});
      check_pair(random, halfway::uint16, halfway::complex128, {row, rows});
      check_pair(random, halfway::float16, halfway::float16, {rows, row});
    }
  }
}

BOOST_AUTO_TEST_CASE(sixty_four_dimensions) {
  Random random(14);
  std::vector<std::int64_t> shape(64, 1);
  for (const std::size_t axis : {0U, 9U, 30U, 31U, 63U}) shape[axis] = 2 + static_cast<std::int64_t>(axis % 3);
  for (int i = 0; i < 20; ++i) check_pair(random, halfway::float64, halfway::float8_e5m2, shape);
  // All of them count.
  std::fill(shape.begin(), shape.end(), 1);
  std::fill(shape.begin(), shape.begin() + 10, 2);
  for (int i = 0; i < 20; ++i) check_pair(random, halfway::int16, halfway::bfloat16, shape);
  shape.push_back(1);
  const Array wide = arrays::contiguous(halfway::int16, shape);
  BOOST_CHECK_EXCEPTION((void)halfway::cast(wide.view(), halfway::int32), halfway::Error,
                        [](const halfway::Error& error) { return error.reason() == halfway::Reason::malformed; });
}

BOOST_AUTO_TEST_CASE(steps_of_single_elements_may_be_anything) {
  Array source = arrays::contiguous(halfway::float32, {1, 3, 1});
  Random random(15);
  arrays::fill_random(random, source);
  Array odd = source;
  odd.whole_strides = {std::numeric_limits<std::int64_t>::max(), 1, std::numeric_limits<std::int64_t>::min()};
  const Tensor a = halfway::cast(source.view(), halfway::bfloat16);
  const Tensor b = halfway::cast(odd.view(), halfway::bfloat16);
  BOOST_TEST(std::memcmp(a.view().data, b.view().data, 6) == 0);
}

BOOST_AUTO_TEST_CASE(elements_that_are_only_carried) {
  Random random(16);
  const std::vector<DType> carried{DType(TypeCode::float_, 32, 4),
                                   DType(TypeCode::float_, 32, 3),
                                   DType(TypeCode::complex, 64, 5),
                                   DType(TypeCode::float_, 128),
                                   DType(TypeCode::int_, 128),
                                   DType(TypeCode::opaque_handle, 64),
                                   DType(TypeCode::float4_e2m1fn, 4, 2),
                                   DType(std::uint8_t{99}, std::uint8_t{24}, std::uint16_t{1}),
                                   DType(std::uint8_t{99}, std::uint8_t{200}, std::uint16_t{16})};
  for (const DType dtype : carried) {
    for (int i = 0; i < 30; ++i) check_copy(random, dtype, arrays::random_shape(random, 200));
    Array source = arrays::random_layout(random, dtype, {5, 7}, false);
    source.swapped = false;
    Report report;
    const Tensor copy = halfway::cast(source.view(), dtype, {.report = &report});
    BOOST_TEST((report == Report{.count = 35}));
    for (std::int64_t i = 0; i < 35; ++i) {
      const std::vector<std::byte> element = source.get(i);
      const auto* found = static_cast<const std::byte*>(copy.view().data) + static_cast<std::size_t>(i) * source.size();
      BOOST_TEST(std::memcmp(found, element.data(), element.size()) == 0, to_string(dtype));
    }
  }
}

BOOST_AUTO_TEST_CASE(the_bytes_of_unknown_scalars_cannot_be_swapped) {
  Array source = arrays::contiguous(DType(std::uint8_t{99}, std::uint8_t{32}, std::uint16_t{1}), {4});
  source.swapped = true;
  const auto is_unsupported = [](const halfway::Error& error) {
    return error.reason() == halfway::Reason::unsupported_dtype;
  };
  BOOST_CHECK_EXCEPTION((void)halfway::cast(source.view(), source.dtype), halfway::Error, is_unsupported);
  // Copied as they are, they can.
  Array destination = arrays::contiguous(source.dtype, {4});
  destination.swapped = true;
  for (std::size_t i = 0; i < source.memory.size(); ++i) source.memory[i] = static_cast<std::byte>(i);
  halfway::cast_into(source.view(), destination.mutable_view());
  BOOST_TEST((destination.memory == source.memory));
  // 128-bit floats have no row, but are known to be one scalar.
  Array wide = arrays::contiguous(DType(TypeCode::float_, 128), {1});
  for (std::size_t i = 0; i < 16; ++i) wide.memory[i] = static_cast<std::byte>(i);
  const Tensor swapped = halfway::cast(wide.view().byte_swapped(), wide.dtype);
  for (int i = 0; i < 16; ++i) BOOST_TEST(static_cast<const std::uint8_t*>(swapped.view().data)[i] == 15 - i);
}

// ---- elements of less than a byte ----

struct Nibbles {
  DType dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::vector<std::byte> memory;
  bool padded = false;

  [[nodiscard]] halfway::MutableView view() {
    return {.data = memory.data(), .dtype = dtype, .shape = shape, .strides = strides, .padded = padded};
  }
};

BOOST_AUTO_TEST_CASE(packed_elements_are_copied_whole) {
  Random random(17);
  for (const DType dtype : {DType(TypeCode::int_, 4), DType(TypeCode::uint, 1), DType(TypeCode::uint, 3),
                            halfway::float6_e2m3fn, halfway::float4_e2m1fn}) {
    for (const std::int64_t n : {1, 2, 3, 7, 8, 9, 100}) {
      const auto bytes = static_cast<std::size_t>((n * 3 * halfway::total_bits(dtype) + 7) / 8);
      Nibbles source{dtype, {n, 3}, {3, 1}, std::vector<std::byte>(bytes)};
      for (std::byte& b : source.memory) b = static_cast<std::byte>(random());
      Nibbles destination{dtype, {n, 3}, {3, 1}, std::vector<std::byte>(bytes + 1, std::byte{0x5A})};
      Report report;
      halfway::cast_into(source.view(), destination.view(), {.casting = Casting::no, .report = &report});
      BOOST_TEST(std::memcmp(destination.memory.data(), source.memory.data(), bytes) == 0, to_string(dtype));
      BOOST_TEST((destination.memory[bytes] == std::byte{0x5A}));
      BOOST_TEST((report == Report{.count = static_cast<std::uint64_t>(3 * n)}));

      const Tensor fresh = halfway::cast(source.view(), dtype);
      BOOST_TEST(!fresh.view().padded);
      BOOST_TEST(halfway::is_contiguous(fresh.view()));
      BOOST_TEST(std::memcmp(fresh.view().data, source.memory.data(), bytes) == 0, to_string(dtype));
    }
  }
}

BOOST_AUTO_TEST_CASE(padded_elements_have_any_strides) {
  const DType int4(TypeCode::int_, 4);
  Nibbles source{int4, {2, 3}, {1, 2}, std::vector<std::byte>(6), true};
  for (std::size_t i = 0; i < 6; ++i) source.memory[i] = static_cast<std::byte>(i);
  const Tensor fresh = halfway::cast(source.view(), int4);
  BOOST_TEST(fresh.view().padded);
  const std::uint8_t expected[] = {0, 2, 4, 1, 3, 5};
  BOOST_TEST(std::memcmp(fresh.view().data, expected, 6) == 0);
}

BOOST_AUTO_TEST_CASE(packed_elements_elsewhere_are_refused) {
  const DType int4(TypeCode::int_, 4);
  const auto refused = [](halfway::Reason reason) {
    return [reason](const halfway::Error& error) { return error.reason() == reason; };
  };
  Nibbles source{int4, {2, 4}, {4, 1}, std::vector<std::byte>(4)};
  Nibbles columns{int4, {2, 4}, {1, 2}, std::vector<std::byte>(4, std::byte{7})};
  BOOST_CHECK_EXCEPTION(halfway::cast_into(source.view(), columns.view()), halfway::Error,
                        refused(halfway::Reason::malformed));
  BOOST_CHECK_EXCEPTION(halfway::cast_into(columns.view(), source.view()), halfway::Error,
                        refused(halfway::Reason::malformed));
  Nibbles padded{int4, {2, 4}, {4, 1}, std::vector<std::byte>(8, std::byte{7}), true};
  BOOST_CHECK_EXCEPTION(halfway::cast_into(source.view(), padded.view()), halfway::Error,
                        refused(halfway::Reason::out_mismatch));
  BOOST_CHECK_EXCEPTION((void)halfway::cast(source.view(), halfway::float32), halfway::Error,
                        refused(halfway::Reason::unsupported_dtype));
  BOOST_TEST((columns.memory == std::vector<std::byte>(4, std::byte{7})));
}

BOOST_AUTO_TEST_CASE(the_padded_flag_says_nothing_of_whole_bytes) {
  Array source = arrays::contiguous(halfway::float32, {2, 3});
  Random random(18);
  arrays::fill_random(random, source);
  halfway::TensorView view = source.view();
  view.padded = true;
  const Tensor expected = halfway::cast(source.view(), halfway::bfloat16);
  const Tensor found = halfway::cast(view, halfway::bfloat16);
  BOOST_TEST(std::memcmp(expected.view().data, found.view().data, 12) == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
