// Casts of whole tensors: every value of every narrow dtype, whatever mode the calling thread's floating point is in.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "arrays.h"
#include "floating_mode.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "reference.h"
#include "rounds.h"

using arrays::Array;
using arrays::Patterns;
using arrays::Random;
using arrays::values_of;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::Overflow;
using halfway::Report;
using halfway::Tensor;

namespace {

constexpr Overflow every_overflow[] = {Overflow::by_format, Overflow::saturate};

BOOST_AUTO_TEST_SUITE(cast)

BOOST_AUTO_TEST_CASE(every_narrow_value_and_many_wide_ones_to_every_dtype) {
  int pairs = 0;
  for (const DType from : arrays::castable_dtypes()) {
    const Array source = values_of(from, rounds::of(3000));
    for (const DType to : arrays::castable_dtypes()) {
      for (const Overflow overflow : every_overflow) {
        Report report{.count = 7, .nan = 7, .overflow = 7, .underflow = 7, .inexact = 7};
        const Tensor plain = halfway::cast(source.view(), to, {.casting = Casting::unsafe, .overflow = overflow});
        const Tensor counted =
            halfway::cast(source.view(), to, {.casting = Casting::unsafe, .overflow = overflow, .report = &report});
        const auto* bytes = static_cast<const std::byte*>(plain.view().data);
        const std::size_t size = halfway::item_size(to);
        Report expected;
        int wrong = 0;
        for (std::int64_t i = 0; i < source.count(); ++i) {
          const Patterns x = source.patterns(i);
          const auto [image, lost] = reference::convert_element(x, from, to, overflow);
          expected += lost;
          const Patterns found = reference::load(to, bytes + static_cast<std::size_t>(i) * size);
          if ((found.real != image.real || found.imaginary != image.imaginary) && ++wrong < 4) {
            BOOST_ERROR(to_string(from) << " " << std::hex << x.real << "," << x.imaginary << " to " << to_string(to)
                                        << ": " << found.real << "," << found.imaginary << ", not " << image.real << ","
                                        << image.imaginary);
          }
        }
        BOOST_TEST(wrong == 0);
        BOOST_TEST((report == expected), to_string(from) << " to " << to_string(to) << ": " << report.count << " "
                                                         << report.nan << " " << report.overflow << " "
                                                         << report.underflow << " " << report.inexact);
        // Counting does not change what is written.
        BOOST_TEST(std::memcmp(bytes, counted.view().data, static_cast<std::size_t>(source.count()) * size) == 0);
        ++pairs;
      }
    }
  }
  BOOST_TEST(pairs == 24 * 24 * 2);
}

BOOST_AUTO_TEST_CASE(same_dtype_copies_bits) {
  for (const DType dtype : arrays::castable_dtypes()) {
    // NaN with all payloads, signalling ones included, and booleans that are neither 0 nor 1.
    const Array source = values_of(dtype, 5000);
    Report report;
    for (const CastOptions& options : {CastOptions{}, CastOptions{.overflow = Overflow::saturate, .report = &report},
                                       CastOptions{.casting = Casting::no, .overflow = Overflow::raise},
                                       CastOptions{.casting = Casting::same_value}}) {
      const Tensor copy = halfway::cast(source.view(), dtype, options);
      BOOST_TEST(copy.view().data != source.view().data);
      BOOST_TEST(std::memcmp(copy.view().data, source.memory.data(), source.memory.size()) == 0, to_string(dtype));
    }
    BOOST_TEST(report.count == static_cast<std::uint64_t>(source.count()));
    BOOST_TEST(report.overflow + report.underflow + report.inexact == 0U);
  }
}

BOOST_AUTO_TEST_CASE(counts_around_the_size_of_a_block) {
  for (const std::int64_t n : {1, 2, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 5000}) {
    Array source = arrays::contiguous(halfway::float64, {n});
    Random random(static_cast<std::uint64_t>(n));
    arrays::fill_random(random, source);
    Report report;
    const Tensor result = halfway::cast(source.view(), halfway::bfloat16, {.report = &report});
    Report expected;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto [image, lost] =
          reference::convert_element(source.patterns(i), source.dtype, halfway::bfloat16, Overflow::by_format);
      expected += lost;
      std::uint16_t found = 0;
      std::memcpy(&found, static_cast<const std::byte*>(result.view().data) + 2 * i, 2);
      BOOST_TEST_REQUIRE(found == image.real);
    }
    BOOST_TEST((report == expected));
  }
}

BOOST_AUTO_TEST_CASE(a_fresh_result) {
  Random random(1);
  const Array source = arrays::random_layout(random, halfway::float32, {3, 1, 5}, false);
  const Tensor result = halfway::cast(source.view(), halfway::float16);
  const halfway::TensorView view = result.view();
  BOOST_TEST((view.dtype == halfway::float16));
  BOOST_TEST((view.device == halfway::Device{}));
  BOOST_TEST(std::vector<std::int64_t>(view.shape.begin(), view.shape.end()) == source.shape,
             boost::test_tools::per_element());
  BOOST_TEST(halfway::is_contiguous(view));
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(view.data) % halfway::tensor_alignment == 0U);
  BOOST_TEST(!view.readonly);
  BOOST_TEST(!view.swapped);
}

BOOST_AUTO_TEST_CASE(no_dimension_and_no_element) {
  Array scalar = arrays::contiguous(halfway::float64, {});
  const double third = 1.0 / 3;
  std::memcpy(scalar.memory.data(), &third, 8);
  Report report;
  const Tensor single = halfway::cast(scalar.view(), halfway::float32, {.report = &report});
  float found = 0;
  std::memcpy(&found, single.view().data, 4);
  BOOST_TEST(found == static_cast<float>(third));
  BOOST_TEST(single.view().shape.empty());
  BOOST_TEST(report.count == 1U);
  BOOST_TEST(report.inexact == 1U);

  const std::vector<std::int64_t> shape{4, 0, 3};
  const std::vector<std::int64_t> strides{1, -99999, 77};
  const halfway::TensorView nothing{.dtype = halfway::float64, .shape = shape, .strides = strides};
  const Tensor empty = halfway::cast(nothing, halfway::int8, {.casting = Casting::same_value, .report = &report});
  BOOST_TEST(empty.view().shape[1] == 0);
  BOOST_TEST((report == Report{}));
  // The level is asked of the dtypes, not of the elements.
  BOOST_CHECK_THROW((void)halfway::cast(nothing, halfway::int8), halfway::CastError);
  halfway::cast_into(nothing, {.dtype = halfway::float32, .shape = shape, .strides = strides});
}

class CountingAllocator : public halfway::Allocator {
 public:
  void* allocate(std::size_t bytes, std::size_t alignment) override {
    if (fails) throw std::bad_alloc();
    ++live;
    return ::operator new(bytes, std::align_val_t(alignment));
  }
  void deallocate(void* memory, std::size_t /*bytes*/, std::size_t alignment) noexcept override {
    --live;
    ::operator delete(memory, std::align_val_t(alignment));
  }
  int live = 0;
  bool fails = false;
};

BOOST_AUTO_TEST_CASE(results_come_from_the_allocator) {
  CountingAllocator allocator;
  Array source = arrays::contiguous(halfway::float64, {100});
  const double huge = 1e300;
  std::memcpy(source.memory.data() + 8 * 40, &huge, 8);
  {
    const Tensor result = halfway::cast(source.view(), halfway::float32, {}, allocator);
    BOOST_TEST(allocator.live == 1);
  }
  BOOST_TEST(allocator.live == 0);
  // A result that may not be delivered is given back.
  BOOST_CHECK_THROW((void)halfway::cast(source.view(), halfway::float32, {.overflow = Overflow::raise}, allocator),
                    halfway::CastError);
  BOOST_TEST(allocator.live == 0);
  allocator.fails = true;
  BOOST_CHECK_THROW((void)halfway::cast(source.view(), halfway::float32, {}, allocator), std::bad_alloc);
  // Elements of less than a byte take another way to their memory.
  const std::vector<std::int64_t> shape{5};
  const std::vector<std::int64_t> strides{1};
  const halfway::TensorView nibbles{
      .data = source.memory.data(), .dtype = DType(halfway::TypeCode::int_, 4), .shape = shape, .strides = strides};
  BOOST_CHECK_THROW((void)halfway::cast(nibbles, nibbles.dtype, {}, allocator), std::bad_alloc);
  allocator.fails = false;
  {
    const Tensor result = halfway::cast(nibbles, nibbles.dtype, {}, allocator);
    BOOST_TEST(allocator.live == 1);
  }
  BOOST_TEST(allocator.live == 0);
}

#if defined(__SSE__)
using floating_mode::Mode;

BOOST_AUTO_TEST_CASE(any_floating_point_mode_gives_the_same_bits_and_is_left_as_it_was) {
  const std::vector<unsigned> modes = floating_mode::modes();
  for (const DType from : arrays::castable_dtypes()) {
    const Array source = values_of(from, 4000);
    for (const DType to : arrays::castable_dtypes()) {
      const CastOptions counting{.casting = Casting::unsafe};
      Report expected_report;
      CastOptions options = counting;
      options.report = &expected_report;
      const Tensor expected = halfway::cast(source.view(), to, options);
      const std::size_t bytes = static_cast<std::size_t>(source.count()) * halfway::item_size(to);
      for (const unsigned mode : modes) {
        Report report;
        options.report = &report;
        Tensor result;
        unsigned after = 0;
        {
          const Mode set(mode);
          result = halfway::cast(source.view(), to, options);
          after = _mm_getcsr();
        }
        if (after != mode || !(report == expected_report) ||
            std::memcmp(result.view().data, expected.view().data, bytes) != 0) {
          BOOST_ERROR(to_string(from) << " to " << to_string(to) << " in mode " << std::hex << mode << ", after it "
                                      << after);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_mode_is_restored_when_a_cast_throws) {
  Array source = arrays::contiguous(halfway::float64, {3});
  const double huge = 1e300;
  std::memcpy(source.memory.data(), &huge, 8);
  constexpr unsigned mode = floating_mode::standard | floating_mode::flush | floating_mode::rounding[3];
  const Mode set(mode);
  BOOST_CHECK_THROW((void)halfway::cast(source.view(), halfway::float32, {.overflow = Overflow::raise}),
                    halfway::CastError);
  BOOST_TEST((_mm_getcsr() & 0xFFC0U) == mode);
}
#endif

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
