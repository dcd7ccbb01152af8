// How elements are moved: the loops of every instruction set by themselves, and casts whose source lies in another
// order than the destination, or in the destination's own places. Against loops over the elements, from every
// instruction set and on any number of threads.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

#include "arrays.h"
#include "cast/pass.h"
#include "cast/tiers.h"
#include "halfway/cast.h"
#include "halfway/parallel.h"
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
using halfway::detail::active_kernels;
using halfway::detail::available_tiers;
using halfway::detail::Lines;
using halfway::detail::MoveKernels;
using under_test::InTier;

namespace {

constexpr int thread_counts[] = {1, 2, 7};

// Fails unless a test compared at least so many results, so that one whose loops do nothing is seen.
class Comparisons {
 public:
  explicit Comparisons(int least) : least_(least) { made = 0; }
  ~Comparisons() { BOOST_TEST(made >= least_); }
  Comparisons(const Comparisons&) = delete;
  Comparisons& operator=(const Comparisons&) = delete;

  inline static int made = 0;

 private:
  int least_;
};

struct DefaultThreads {
  ~DefaultThreads() { halfway::set_num_threads(0); }
};

// Calls `check(what)` in every tier and with every number of threads.
template <class Check>
void everywhere(const Check& check) {
  const DefaultThreads afterwards;
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (const int threads : thread_counts) {
      halfway::set_num_threads(threads);
      ++Comparisons::made;
      check(std::string(tier) + ", " + std::to_string(threads) + " threads");
    }
  }
}

void fill(Random& random, std::vector<std::byte>& memory) {
  std::size_t i = 0;
  for (; i + 8 <= memory.size(); i += 8) {
    const std::uint64_t bits = random();
    std::memcpy(memory.data() + i, &bits, 8);
  }
  for (; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(random());
}

BOOST_AUTO_TEST_SUITE(cast_moves)

// --- the loops. Sources end where their memory does: a sanitizer sees what is read beyond.

BOOST_AUTO_TEST_CASE(loops_gather_any_stride) {
  Random random(31);
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    BOOST_TEST_REQUIRE(active_kernels().moves.size() == 5);
    for (std::size_t which = 0; which < 5; ++which) {
      const std::size_t size = std::size_t{1} << which;
      const auto item = static_cast<std::int64_t>(size);
      std::vector<std::int64_t> strides{0, 1, 3, -5};
      for (const std::int64_t steps : {1, 2, 3, 4, 5, 8}) strides.insert(strides.end(), {steps * item, -steps * item});
      for (const std::int64_t stride : strides) {
        for (std::size_t n = 1; n < 150; n += n < 70 ? 1 : 13) {
          const std::int64_t reach = (stride < 0 ? -stride : stride) * static_cast<std::int64_t>(n - 1);
          const std::size_t misalignment = random() % 8;
          std::vector<std::byte> memory(misalignment + static_cast<std::size_t>(reach) + size);
          fill(random, memory);
          const std::byte* const source = memory.data() + misalignment + (stride < 0 ? reach : 0);
          std::vector<std::byte> run(misalignment + n * size + 40, std::byte{0xA5});
          std::vector<std::byte> expected = run;
          for (std::size_t i = 0; i < n; ++i) {
            std::memcpy(expected.data() + misalignment + i * size, source + static_cast<std::int64_t>(i) * stride,
                        size);
          }
          active_kernels().moves[which].gather(source, stride, run.data() + misalignment, n);
          if (run != expected) BOOST_ERROR(tier << ": " << n << " of " << size << " bytes, " << stride << " apart");
        }
      }
    }
  }
}

void check_transpose(Random& random, std::size_t which, std::size_t lines, std::size_t width, std::int64_t line_step,
                     std::int64_t element_step, std::int64_t row_step) {
  const std::size_t size = std::size_t{1} << which;
  const auto reach = [](std::int64_t step, std::size_t n) { return step * static_cast<std::int64_t>(n - 1); };
  const std::int64_t a = reach(line_step, lines);
  const std::int64_t b = reach(element_step, width);
  const std::int64_t low = std::min<std::int64_t>(a, 0) + std::min<std::int64_t>(b, 0);
  const std::int64_t high = std::max<std::int64_t>(a, 0) + std::max<std::int64_t>(b, 0);
  std::vector<std::byte> memory(static_cast<std::size_t>(high - low) + size);
  fill(random, memory);
  const std::byte* const source = memory.data() - low;

  const std::int64_t rows_reach = reach(row_step, width);
  const std::int64_t first = std::max<std::int64_t>(-rows_reach, 0) + 64;
  std::vector<std::byte> rows(
      static_cast<std::size_t>(first + std::max<std::int64_t>(rows_reach, 0)) + lines * size + 64, std::byte{0xA5});
  std::vector<std::byte> expected = rows;
  for (std::size_t j = 0; j < width; ++j) {
    for (std::size_t i = 0; i < lines; ++i) {
      std::memcpy(expected.data() + first + static_cast<std::int64_t>(j) * row_step + i * size,
                  source + static_cast<std::int64_t>(i) * line_step + static_cast<std::int64_t>(j) * element_step,
                  size);
    }
  }
  const Lines in{.source = source,
                 .line_step = line_step,
                 .element_step = element_step,
                 .lines = lines,
                 .width = width,
                 .next = random() % 2 == 0 ? source : nullptr};
  active_kernels().moves[which].transpose(in, rows.data() + first, row_step);
  ++Comparisons::made;
  if (rows != expected) {
    BOOST_ERROR(active_kernels().name << ": " << lines << " lines of " << width << " times " << size << " bytes, steps "
                                      << line_step << ", " << element_step << ", " << row_step);
  }
}

BOOST_AUTO_TEST_CASE(loops_transpose_any_lines) {
  const Comparisons comparisons(10000);
  Random random(32);
  const std::vector<std::size_t> extents{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 50, 64, 67};
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (std::size_t which = 0; which < 5; ++which) {
      const auto size = static_cast<std::int64_t>(1) << which;
      for (const std::size_t lines : extents) {
        for (const std::size_t width : extents) {
          const auto l = static_cast<std::int64_t>(lines);
          const auto w = static_cast<std::int64_t>(width);
          const std::int64_t gap = static_cast<std::int64_t>(random() % 2000);
          check_transpose(random, which, lines, width, w * size, size, l * size);  // pixels, planes
          check_transpose(random, which, lines, width, w * size + gap, size, l * size + gap % 65);
          check_transpose(random, which, lines, width, -w * size - gap, size, -l * size);
          check_transpose(random, which, lines, width, 3 * size * w, -3 * size, l * size + 1);
          check_transpose(random, which, lines, width, size, size * l, l * size);  // no turning at all
          check_transpose(random, which, lines, width, 0, size, l * size);
          check_transpose(random, which, lines, width, size, 0, l * size);
        }
      }
      for (const std::size_t channels : {2U, 3U, 4U}) {
        for (std::size_t n = 1; n < 150; ++n) {
          const auto c = static_cast<std::int64_t>(channels);
          check_transpose(random, which, n, channels, c * size, size, static_cast<std::int64_t>(n) * size + 64);
          check_transpose(random, which, channels, n, static_cast<std::int64_t>(n) * size + 5, size, c * size);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(loops_swap_bytes_where_they_are_and_elsewhere) {
  Random random(33);
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (std::size_t which = 0; which < 3; ++which) {
      const std::size_t unit = std::size_t{2} << which;
      for (std::size_t n = 0; n < 100; ++n) {
        const std::size_t at = random() % 9;
        std::vector<std::byte> memory(at + n * unit);
        fill(random, memory);
        std::vector<std::byte> elsewhere(at + n * unit + 40, std::byte{0xA5});
        std::vector<std::byte> expected = elsewhere;
        for (std::size_t i = 0; i < n * unit; ++i) {
          expected[at + i] = memory[at + i / unit * unit + unit - 1 - i % unit];
        }
        active_kernels().swaps[which](memory.data() + at, elsewhere.data() + at, n);
        BOOST_TEST_REQUIRE((elsewhere == expected));
        active_kernels().swaps[which](memory.data() + at, memory.data() + at, n);
        BOOST_TEST_REQUIRE(std::equal(memory.begin() + static_cast<std::ptrdiff_t>(at), memory.end(),
                                      expected.begin() + static_cast<std::ptrdiff_t>(at)));
      }
    }
  }
}

// --- whole casts

struct Expected {
  std::vector<std::byte> memory;  // of the destination, gaps included
  Report report;
};

// The elements one by one into row-major memory, the cast of that, and its elements one by one to their places.
Expected stepwise(const Array& source, Array destination, Overflow overflow) {
  Array packed = arrays::contiguous(source.dtype, source.shape);
  for (std::int64_t i = 0; i < source.count(); ++i) packed.set(i, source.get(i));
  Expected expected;
  const Tensor image = halfway::cast(packed.view(), destination.dtype,
                                     {.casting = Casting::unsafe, .overflow = overflow, .report = &expected.report});
  const auto* elements = static_cast<const std::byte*>(image.view().data);
  for (std::int64_t i = 0; i < destination.count(); ++i) {
    const std::byte* const element = elements + static_cast<std::size_t>(i) * destination.size();
    destination.set(i, {element, element + destination.size()});
  }
  expected.memory = std::move(destination.memory);
  return expected;
}

void check(Random& random, const Array& source, const Array& destination) {
  const Overflow overflow = random() % 3 == 0 ? Overflow::saturate : Overflow::by_format;
  const Expected expected = stepwise(source, destination, overflow);
  everywhere([&](const std::string& where) {
    for (const bool counts : {false, true}) {
      Array result = destination;
      Report report;
      halfway::cast_into(source.view(), result.mutable_view(),
                         {.casting = Casting::unsafe, .overflow = overflow, .report = counts ? &report : nullptr});
      if (result.memory != expected.memory || (counts && !(report == expected.report))) {
        BOOST_ERROR(where << ": " << arrays::to_string(source) << " into " << arrays::to_string(result));
      }
    }
  });
}

// Row-major memory with gaps, seen with its axes in another order, some of them backwards.
Array permuted(Random& random, DType dtype, const std::vector<std::int64_t>& shape, std::vector<std::size_t> order) {
  Array array;
  array.dtype = dtype;
  array.shape = shape;
  array.strides.resize(shape.size());
  array.swapped = random() % 4 == 0;
  const auto size = static_cast<std::int64_t>(array.size());
  std::int64_t extent = size;
  std::int64_t low = 0;
  for (const std::size_t axis : order) {
    const std::int64_t step = extent + (random() % 4 == 0 ? size : 0) + (random() % 9 == 0 ? 1 : 0);
    extent += step * (shape[axis] - 1);
    const bool backwards = random() % 4 == 0;
    if (backwards) low += step * (shape[axis] - 1);
    array.strides[axis] = backwards ? -step : step;
  }
  array.first = low + static_cast<std::ptrdiff_t>(random() % 8);
  array.memory.resize(static_cast<std::size_t>(extent) + 16);
  fill(random, array.memory);
  return array;
}

const std::vector<std::pair<DType, DType>>& pairs() {
  static const std::vector<std::pair<DType, DType>> all{
      {halfway::float32, halfway::bfloat16},     {halfway::float64, halfway::bfloat16},
      {halfway::uint8, halfway::bfloat16},       {halfway::uint8, halfway::uint8},
      {halfway::float16, halfway::float16},      {halfway::float32, halfway::float32},
      {halfway::complex64, halfway::complex64},  {halfway::complex128, halfway::complex128},
      {halfway::complex64, halfway::complex128}, {halfway::complex128, halfway::float16},
      {halfway::int64, halfway::float16},        {halfway::bfloat16, halfway::float32},
      {halfway::float32, halfway::complex64},    {halfway::int16, halfway::float64}};
  return all;
}

BOOST_AUTO_TEST_CASE(transposed_around_the_size_of_a_tile) {
  const Comparisons comparisons(500);
  Random random(34);
  const std::vector<std::int64_t> extents{2, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 200, 257, 520, 1030};
  for (const auto& [from, to] : pairs()) {
    for (int trial = 0; trial < 24; ++trial) {
      const std::int64_t a = extents[random() % extents.size()];
      const std::int64_t b = extents[random() % extents.size()];
      if (a * b > 40000) continue;
      const Array source = permuted(random, from, {a, b}, {0, 1});
      const Array destination = permuted(random, to, {a, b}, {1, 0});
      check(random, source, destination);
    }
  }
}

BOOST_AUTO_TEST_CASE(pixels_to_planes_and_back) {
  const Comparisons comparisons(500);
  Random random(35);
  for (const auto& [from, to] : pairs()) {
    for (const std::int64_t channels : {1, 2, 3, 4, 5}) {
      const std::int64_t n = 1 + static_cast<std::int64_t>(random() % 3);
      const std::int64_t h = 1 + static_cast<std::int64_t>(random() % 40);
      const std::int64_t w = 1 + static_cast<std::int64_t>(random() % 60);
      // Axes (n, c, h, w) over memory (n, h, w, c), and the reverse.
      const std::vector<std::size_t> pixels{1, 3, 2, 0};
      const std::vector<std::size_t> planes{3, 2, 1, 0};
      const std::vector<std::int64_t> shape{n, channels, h, w};
      check(random, permuted(random, from, shape, pixels), permuted(random, to, shape, planes));
      check(random, permuted(random, from, shape, planes), permuted(random, to, shape, pixels));
      const Array plain = arrays::contiguous(to, shape);
      check(random, permuted(random, from, shape, pixels), plain);
    }
  }
}

BOOST_AUTO_TEST_CASE(any_order_of_any_axes) {
  const Comparisons comparisons(400);
  Random random(36);
  for (int trial = 0; trial < 400; ++trial) {
    const auto& [from, to] = pairs()[random() % pairs().size()];
    std::vector<std::int64_t> shape(random() % 9);
    std::int64_t left = 6000;
    for (std::int64_t& dim : shape) {
      const std::uint64_t most = static_cast<std::uint64_t>(random() % 3 == 0 ? std::min<std::int64_t>(left, 400)
                                                                              : std::min<std::int64_t>(left, 5));
      dim = 1 + static_cast<std::int64_t>(random() % most);
      left = std::max<std::int64_t>(left / dim, 1);
    }
    std::shuffle(shape.begin(), shape.end(), random);
    check(random, arrays::random_layout(random, from, shape, true), arrays::random_layout(random, to, shape, false));
  }
}

// Enough for several threads, in whole blocks and whole tiles and not.
BOOST_AUTO_TEST_CASE(shares_of_threads, *boost::unit_test::label("threads")) {
  const Comparisons comparisons(80);
  Random random(37);
  for (const auto& [from, to] : pairs()) {
    const std::int64_t a = 520 + static_cast<std::int64_t>(random() % 100);
    const std::int64_t b = 520 + static_cast<std::int64_t>(random() % 100);
    const std::vector<std::size_t> outer_first{0, 1};
    const std::vector<std::size_t> inner_first{1, 0};
    check(random, permuted(random, from, {a, b}, outer_first), permuted(random, to, {a, b}, inner_first));
    check(random, permuted(random, from, {a, b}, inner_first), permuted(random, to, {a, b}, inner_first));
  }
}

// --- the first loss of all, whatever the order in which blocks are converted

BOOST_AUTO_TEST_CASE(the_first_loss_is_the_first_in_the_order_of_the_source) {
  Random random(38);
  for (int trial = 0; trial < 60; ++trial) {
    const std::int64_t a = 1 + static_cast<std::int64_t>(random() % 500);
    const std::int64_t b = 1 + static_cast<std::int64_t>(random() % 500);
    const bool transposed = trial % 4 != 0;
    Array source = permuted(random, halfway::float32, {a, b},
                            transposed ? std::vector<std::size_t>{0, 1} : std::vector<std::size_t>{1, 0});
    for (std::int64_t i = 0; i < a * b; ++i) source.set_patterns(i, {0x3F800000, 0});  // 1
    std::int64_t first = a * b;
    const std::uint64_t losses = 1 + random() % 5;
    for (std::uint64_t i = 0; i < losses; ++i) {
      const std::int64_t at = static_cast<std::int64_t>(random()) & INT64_MAX;
      first = std::min(first, at % (a * b));
      source.set_patterns(at % (a * b), {0x7F000000, 0});  // 2^127, beyond float16
    }
    Array destination = arrays::contiguous(halfway::float16, {a, b});
    const std::vector<std::byte> before = destination.memory;
    everywhere([&](const std::string& where) {
      for (const bool fresh : {false, true}) {
        try {
          const CastOptions options{.overflow = Overflow::raise};
          if (fresh) {
            (void)halfway::cast(source.view(), halfway::float16, options);
          } else {
            halfway::cast_into(source.view(), destination.mutable_view(), options);
          }
          BOOST_ERROR(where << ": nothing was lost");
        } catch (const halfway::CastError& error) {
          const std::vector<std::int64_t> expected{first / b, first % b};
          if (error.index() != expected) BOOST_ERROR(where << ": " << arrays::to_string(error.index()));
        }
      }
      BOOST_TEST((destination.memory == before));
    });
  }
}

// --- in place

BOOST_AUTO_TEST_CASE(elements_become_their_images_where_they_are) {
  const Comparisons comparisons(400);
  Random random(39);
  const std::vector<std::pair<DType, DType>> same_size{
      {halfway::float32, halfway::int32},     {halfway::int32, halfway::float32},
      {halfway::float32, halfway::float32},   {halfway::float16, halfway::bfloat16},
      {halfway::bfloat16, halfway::int16},    {halfway::uint8, halfway::float8_e4m3fn},
      {halfway::float64, halfway::int64},     {halfway::int64, halfway::complex64},
      {halfway::complex64, halfway::float64}, {halfway::complex128, halfway::complex128},
      {halfway::float32, halfway::complex32}, {halfway::uint64, halfway::float64}};
  for (const auto& [from, to] : same_size) {
    for (int trial = 0; trial < (rounds::are_watched ? 10 : 30); ++trial) {
      const bool large = trial % 10 == 0;
      Array source = arrays::random_layout(
          random, from, large ? std::vector<std::int64_t>{271, 251} : arrays::random_shape(random, 700), false);
      arrays::fill_random(random, source);
      source.whole_strides.clear();
      Array destination = source;  // the same memory, as the elements that come out
      destination.dtype = to;
      destination.swapped = random() % 2 == 0;
      const Expected expected = stepwise(source, destination, Overflow::by_format);
      // The same places with their axes in any order, which `permute` turns back.
      std::vector<std::int64_t> permute(source.shape.size());
      std::iota(permute.begin(), permute.end(), 0);
      std::shuffle(permute.begin(), permute.end(), random);
      Array turned = source;
      for (std::size_t i = 0; i < permute.size(); ++i) {
        turned.shape[static_cast<std::size_t>(permute[i])] = source.shape[i];
        turned.strides[static_cast<std::size_t>(permute[i])] = source.strides[i];
      }
      everywhere([&](const std::string& where) {
        for (const bool permutes : {false, true}) {
          for (const bool counts : {false, true}) {
            Array memory = permutes ? turned : source;
            halfway::MutableView out = destination.mutable_view();
            out.data = memory.memory.data() + memory.first;
            Report report;
            CastOptions options{.casting = Casting::unsafe, .report = counts ? &report : nullptr};
            if (permutes) options.permute = permute;
            halfway::cast_into(memory.view(), out, options);
            if (memory.memory != expected.memory || (counts && !(report == expected.report))) {
              BOOST_ERROR(where << ": in place, " << arrays::to_string(memory) << " to "
                                << arrays::to_string(destination));
            }
          }
        }
      });
    }
  }
}

// Start, strides and item size are the same as long as nobody permutes.
BOOST_AUTO_TEST_CASE(permuted_elements_are_refused_where_they_are) {
  const std::vector<std::vector<std::int64_t>> shapes{{2, 2}, {5, 5}, {700, 700}, {3, 3, 3}, {90, 90, 90}, {4, 1, 4}};
  Random random(41);
  for (const std::vector<std::int64_t>& shape : shapes) {
    std::vector<std::int64_t> permute(shape.size());
    std::iota(permute.begin(), permute.end(), 0);
    std::reverse(permute.begin(), permute.end());
    for (const DType to : {halfway::float32, halfway::int32, halfway::bfloat16}) {
      Array memory = arrays::contiguous(halfway::float32, shape);
      fill(random, memory.memory);
      Array as_target = arrays::contiguous(to, shape);
      halfway::MutableView out = as_target.mutable_view();
      out.data = memory.memory.data();
      const std::vector<std::byte> before = memory.memory;
      for (const int threads : {1, 4}) {
        halfway::set_num_threads(threads);
        for (const bool scales : {false, true}) {
          CastOptions options{.casting = Casting::unsafe, .permute = std::span<const std::int64_t>(permute)};
          if (scales) options.scale = 2.0;
          BOOST_CHECK_EXCEPTION(halfway::cast_into(memory.view(), out, options), halfway::Error,
                                [](const halfway::Error& error) { return error.reason() == halfway::Reason::overlap; });
        }
        BOOST_TEST((memory.memory == before));
      }
    }
  }
  halfway::set_num_threads(0);
}

// Large enough for several threads and, in the last, more than one tile a thread.
BOOST_AUTO_TEST_CASE(permuted_elements_become_their_images_where_that_is_their_place) {
  Random random(42);
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{513, 513}, {400, 700}, {70, 80, 90}}) {
    Array source = arrays::contiguous(halfway::float32, shape);
    arrays::fill_random(random, source);
    Array destination = source;
    destination.dtype = halfway::int32;
    const Expected expected = stepwise(source, destination, Overflow::by_format);
    std::vector<std::int64_t> permute(shape.size());
    std::iota(permute.begin(), permute.end(), 0);
    std::reverse(permute.begin(), permute.end());
    for (const int threads : {1, 4}) {
      halfway::set_num_threads(threads);
      Array memory = source;
      std::reverse(memory.shape.begin(), memory.shape.end());
      std::reverse(memory.whole_strides.begin(), memory.whole_strides.end());
      halfway::MutableView out = destination.mutable_view();
      out.data = memory.memory.data();
      const CastOptions options{.casting = Casting::unsafe, .permute = std::span<const std::int64_t>(permute)};
      halfway::cast_into(memory.view(), out, options);
      BOOST_TEST((memory.memory == expected.memory));
    }
    // Equal dtypes: scaled in place, and without a scale left as they are.
    Array memory = source;
    const std::vector<std::byte> before = memory.memory;
    halfway::MutableView out = source.mutable_view();
    out.data = memory.memory.data();
    std::reverse(memory.shape.begin(), memory.shape.end());
    std::reverse(memory.whole_strides.begin(), memory.whole_strides.end());
    halfway::cast_into(memory.view(), out, {.permute = std::span<const std::int64_t>(permute)});
    BOOST_TEST((memory.memory == before));
    Array scaled = source;
    halfway::cast_into(source.view(), scaled.mutable_view(), {.scale = 3.0});
    halfway::cast_into(memory.view(), out, {.scale = 3.0, .permute = std::span<const std::int64_t>(permute)});
    BOOST_TEST((memory.memory == scaled.memory));
  }
  halfway::set_num_threads(0);
}

BOOST_AUTO_TEST_CASE(what_is_refused_in_place_stays_as_it_was) {
  Array memory = arrays::contiguous(halfway::float32, {1000});
  for (std::int64_t i = 0; i < 1000; ++i) memory.set_patterns(i, {0x40000000, 0});  // 2
  memory.set_patterns(700, {0x40200000, 0});                                        // 2.5
  const std::vector<std::byte> before = memory.memory;
  halfway::MutableView out = memory.mutable_view();
  out.dtype = halfway::int32;
  BOOST_CHECK_EXCEPTION(
      halfway::cast_into(memory.view(), out, {.casting = Casting::same_value}), halfway::CastError,
      [](const halfway::CastError& error) { return error.index() == std::vector<std::int64_t>{700}; });
  BOOST_TEST((memory.memory == before));
  memory.set_patterns(700, {0x40400000, 0});  // 3
  halfway::cast_into(memory.view(), out, {.casting = Casting::same_value});
  for (std::int64_t i = 0; i < 1000; ++i) BOOST_TEST(memory.patterns(i).real == (i == 700 ? 3U : 2U));
}

// --- large enough to be written past the caches

BOOST_AUTO_TEST_CASE(large_results, *boost::unit_test::label("threads")) {
  constexpr std::int64_t rows = 2210;
  constexpr std::int64_t columns = 2051;
  constexpr auto count = static_cast<std::size_t>(rows * columns);
  std::vector<std::uint32_t> memory(count + 1);
  for (std::size_t i = 0; i < count; ++i) memory[i] = static_cast<std::uint32_t>(i * 2654435761U);
  const std::vector<std::int64_t> shape{columns, rows};
  const auto view = [&](std::int64_t a, std::int64_t b, std::size_t first, std::vector<std::int64_t>& strides) {
    strides = {a, b};
    return halfway::TensorView{
        .data = memory.data() + first, .dtype = halfway::uint32, .shape = shape, .strides = strides};
  };
  const auto compare = [&](const halfway::TensorView& source, const std::string& what) {
    const Tensor same = halfway::cast(source, halfway::uint32);
    const Tensor wide = halfway::cast(source, halfway::int64);
    const auto* copied = static_cast<const std::uint32_t*>(same.view().data);
    const auto* cast = static_cast<const std::int64_t*>(wide.view().data);
    const auto* first = static_cast<const std::uint32_t*>(source.data);
    std::size_t wrong = 0;
    std::size_t at = 0;
    for (std::int64_t i = 0; i < source.shape[0]; ++i) {
      for (std::int64_t j = 0; j < source.shape[1]; ++j, ++at) {
        std::uint32_t expected = first[i * source.strides[0] + j * source.strides[1]];
        if (source.swapped) expected = __builtin_bswap32(expected);
        wrong += copied[at] != expected || cast[at] != expected ? 1U : 0U;
      }
    }
    BOOST_TEST(wrong == 0U, what);
  };
  for (const int threads : {1, 2, 7}) {
    halfway::set_num_threads(threads);
    BOOST_TEST_REQUIRE(halfway::detail::useful_threads(count * 2 * sizeof(std::uint32_t)) >= threads);
    std::vector<std::int64_t> strides;
    compare(view(1, columns, 0, strides), "transposed");
    compare(view(1, columns, 0, strides).byte_swapped(), "transposed and swapped");
    compare(view(-1, columns, columns - 1, strides), "transposed and reversed");
    compare(view(rows, 1, 0, strides).byte_swapped(), "swapped");
    compare(view(rows, -1, rows - 1, strides), "reversed");
    compare(view(-rows, 1, count - rows, strides), "upside down");
  }
  halfway::set_num_threads(2);
  const std::vector<std::int64_t> flat{rows * columns};
  const std::vector<std::int64_t> one{1};
  const halfway::MutableView in{.data = memory.data(), .dtype = halfway::uint32, .shape = flat, .strides = one};
  halfway::MutableView out = in;
  out.dtype = halfway::float32;
  halfway::cast_into(in, out, {.casting = Casting::unsafe});
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i) {
    float found = 0;
    std::memcpy(&found, &memory[i], sizeof(found));
    wrong += found != static_cast<float>(static_cast<std::uint32_t>(i * 2654435761U)) ? 1U : 0U;
  }
  BOOST_TEST(wrong == 0U);
  halfway::set_num_threads(0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
