// Kernels that write past the caches: the same bits and the same counts as those that do not.
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "arrays.h"
#include "cast/environment.h"
#include "cast/tiers.h"
#include "cast/tuning.h"
#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "under_test.h"

namespace {

using arrays::Random;
using halfway::DType;
using halfway::Report;
using halfway::detail::active_kernels;
using halfway::detail::available_tiers;
using halfway::detail::Counts;
using halfway::detail::DTypeKernels;
using halfway::detail::FusedLoop;
using halfway::detail::order_streamed_stores;
using under_test::Guarded;
using under_test::InTier;

// Numbers that floats of every width have, tiny, huge, infinite and not a number among them: floats whose exponent is
// any of a few, and patterns at random.
std::vector<std::byte> elements_of(Random& random, DType dtype, std::size_t n) {
  const std::size_t size = halfway::item_size(dtype);
  std::vector<std::byte> bytes(n * size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  if (dtype == halfway::boolean) {
    for (std::byte& b : bytes) b &= std::byte{1};
  }
  if (dtype == halfway::float32) {
    for (std::size_t i = 0; i < n; ++i) {
      if (random() % 4 == 0) continue;
      constexpr std::uint32_t exponents[] = {0, 1, 102, 113, 118, 121, 127, 130, 135, 142, 143, 254, 255};
      std::uint32_t pattern = static_cast<std::uint32_t>(random()) & 0x807F'FFFFU;
      if (random() % 3 == 0) pattern &= 0xFFFF'8000U;  // few digits: exact ones and midpoints
      if (random() % 9 == 0) pattern &= 0xFF80'0000U;
      pattern |= exponents[random() % std::size(exponents)] << 23U;
      std::memcpy(bytes.data() + i * size, &pattern, size);
    }
  }
  return bytes;
}

std::string describe(const FusedLoop& loop, std::string_view tier, std::size_t n, std::size_t misalignment) {
  return to_string(loop.from) + " -> " + to_string(loop.to) + ", " + std::string(tier) + ", " + std::to_string(n) +
         " elements, " + std::to_string(misalignment) + " bytes off";
}

bool is_in(const std::vector<std::byte>& expected, Guarded& actual) {
  return actual.is_intact() && std::equal(expected.begin(), expected.end(), actual.data());
}

// Calls `check(loop, n, misalignment, tier)` for what has streamed loops, around the widths of the vectors.
template <class Check>
void for_all_streamed(const Check& check) {
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (const FusedLoop& loop : active_kernels().fused) {
      if (loop.streamed == nullptr) continue;
      const std::size_t size = halfway::item_size(loop.to);
      for (std::size_t n = 0; n < 2200; n += n < 150 ? 1 : 389) {
        for (std::size_t misalignment = 0; misalignment < 32; misalignment += n % 3 == 0 ? size : 8) {
          check(loop, n, misalignment, tier);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE(cast_streams)

BOOST_AUTO_TEST_CASE(streams_copy_any_number_of_bytes) {
  std::vector<std::byte> source(5000);
  Random random(22);
  for (std::byte& b : source) b = static_cast<std::byte>(random());
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (std::size_t bytes = 0; bytes < 4500; bytes += bytes < 200 ? 1 : 379) {
      for (std::size_t misalignment = 0; misalignment < 40; misalignment += 3) {
        Guarded destination(bytes, misalignment);
        const std::byte* const from = source.data() + bytes % 7;
        active_kernels().stream(destination.data(), from, bytes, from, bytes);
        halfway::detail::order_streamed_stores();
        BOOST_TEST_REQUIRE(std::memcmp(destination.data(), from, bytes) == 0);
        BOOST_TEST_REQUIRE(destination.is_intact());
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_byte_order_changes_past_the_caches_as_through_them) {
  std::vector<std::byte> source(5000);
  Random random(23);
  for (std::byte& b : source) b = static_cast<std::byte>(random());
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    const halfway::detail::Kernels& kernels = active_kernels();
    BOOST_TEST(kernels.swaps_streamed.empty() == (kernels.fused[0].streamed == nullptr));
    for (std::size_t row = 0; row < kernels.swaps_streamed.size(); ++row) {
      const std::size_t unit = std::size_t{2} << row;
      for (std::size_t n = 0; n * unit < 4500; n += n < 200 ? 1 : 87) {
        for (std::size_t misalignment = 0; misalignment < 40; misalignment += unit) {
          Guarded destination(n * unit, misalignment);
          const std::byte* const from = source.data() + n % 7;
          std::vector<std::byte> expected(n * unit);
          for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = from[i / unit * unit + unit - 1 - i % unit];
          kernels.swaps_streamed[row](from, destination.data(), n);
          order_streamed_stores();
          BOOST_TEST_REQUIRE(is_in(expected, destination));
          // Where they are: back to what they were.
          kernels.swaps_streamed[row](destination.data(), destination.data(), n);
          order_streamed_stores();
          BOOST_TEST_REQUIRE(is_in({from, from + n * unit}, destination));
        }
      }
    }
  }
}

// --- from which size on

class CacheDirectory {
 public:
  CacheDirectory() : path_(std::filesystem::temp_directory_path() / ("halfway_caches_" + std::to_string(::getpid()))) {}
  ~CacheDirectory() { std::filesystem::remove_all(path_); }
  CacheDirectory(const CacheDirectory&) = delete;
  CacheDirectory& operator=(const CacheDirectory&) = delete;

  void add(int index, const std::string& level, const std::string& size) const {
    const std::filesystem::path cache = path_ / ("index" + std::to_string(index));
    std::filesystem::create_directories(cache);
    std::ofstream(cache / "level") << level << '\n';
    std::ofstream(cache / "size") << size << '\n';
  }
  [[nodiscard]] std::size_t last_level() const { return halfway::detail::last_level_cache(path_.c_str()); }

 private:
  std::filesystem::path path_;
};

BOOST_AUTO_TEST_CASE(the_last_level_cache_is_the_one_of_a_processor) {
  const CacheDirectory directory;
  BOOST_TEST(directory.last_level() == 0U);
  directory.add(0, "1", "32K");
  BOOST_TEST(directory.last_level() == 32U << 10U);
  directory.add(1, "1", "48K");
  directory.add(2, "2", "512K");
  BOOST_TEST(directory.last_level() == 512U << 10U);
  directory.add(3, "3", "32768K");
  BOOST_TEST(directory.last_level() == 32U << 20U);
  directory.add(4, "4", "64M");
  BOOST_TEST(directory.last_level() == 64U << 20U);
  directory.add(5, "5", "nonsense");
  BOOST_TEST(directory.last_level() == 64U << 20U);
  directory.add(5, "5", "0K");
  BOOST_TEST(directory.last_level() == 64U << 20U);
  directory.add(7, "7", "1M");  // after a gap
  BOOST_TEST(directory.last_level() == 64U << 20U);
}

// --- the loops

BOOST_AUTO_TEST_CASE(streamed_loops_give_the_same_bits) {
  Random random(31);
  bool any = false;
  for_all_streamed([&](const FusedLoop& loop, std::size_t n, std::size_t misalignment, std::string_view tier) {
    any = true;
    const std::vector<std::byte> source = elements_of(random, loop.from, n + 1);
    const std::byte* const from = source.data() + misalignment % halfway::item_size(loop.from);
    std::vector<std::byte> expected(n * halfway::item_size(loop.to));
    loop.loop(from, expected.data(), n);
    Guarded actual(expected.size(), misalignment);
    loop.streamed(from, actual.data(), n);
    order_streamed_stores();
    if (!is_in(expected, actual)) BOOST_FAIL(describe(loop, tier, n, misalignment));
  });
  const auto tiers = available_tiers();
  const bool has_avx2 = std::find(tiers.begin(), tiers.end(), "x86-64-v3") != tiers.end();
  BOOST_TEST(any == has_avx2);
}

BOOST_AUTO_TEST_CASE(loops_of_the_other_byte_order_give_the_same_bits) {
  Random random(33);
  bool any = false;
  for_all_streamed([&](const FusedLoop& loop, std::size_t n, std::size_t misalignment, std::string_view tier) {
    const std::size_t size = halfway::item_size(loop.from);
    BOOST_TEST_REQUIRE((loop.swapping != nullptr) == (size > 1));
    BOOST_TEST_REQUIRE((loop.swapping_streamed != nullptr) == (size > 1));
    if (size == 1) return;
    any = true;
    const std::vector<std::byte> native = elements_of(random, loop.from, n);
    std::vector<std::byte> source(misalignment + native.size());
    for (std::size_t i = 0; i < native.size(); ++i) {
      source[misalignment + i] = native[i / size * size + size - 1 - i % size];
    }
    const std::byte* const from = source.data() + misalignment;
    std::vector<std::byte> expected(n * halfway::item_size(loop.to));
    loop.loop(native.data(), expected.data(), n);
    Guarded actual(expected.size(), misalignment + 1);
    loop.swapping(from, actual.data(), n);
    if (!is_in(expected, actual)) BOOST_FAIL(describe(loop, tier, n, misalignment));
    Guarded streamed(expected.size(), misalignment);
    loop.swapping_streamed(from, streamed.data(), n);
    order_streamed_stores();
    if (!is_in(expected, streamed)) BOOST_FAIL(describe(loop, tier, n, misalignment) + ", streamed");
  });
  const auto tiers = available_tiers();
  BOOST_TEST(any == (std::find(tiers.begin(), tiers.end(), "x86-64-v3") != tiers.end()));
}

BOOST_AUTO_TEST_CASE(streamed_loops_count_the_same) {
  Random random(32);
  for_all_streamed([&](const FusedLoop& loop, std::size_t n, std::size_t misalignment, std::string_view tier) {
    if (loop.streamed_counted == nullptr) return;
    BOOST_TEST_REQUIRE((loop.from == halfway::float32));
    const std::vector<std::byte> source = elements_of(random, loop.from, n);
    const DTypeKernels& row = *active_kernels().find(loop.to);
    std::vector<std::byte> expected(n * halfway::item_size(loop.to));
    Counts counts{.nan = 5, .overflow = 6, .underflow = 7, .inexact = 8};  // added to
    Counts streamed_counts = counts;
    row.encode_counted[0](source.data(), expected.data(), n, false, counts);
    Guarded actual(expected.size(), misalignment);
    loop.streamed_counted(source.data(), actual.data(), n, false, streamed_counts);
    order_streamed_stores();
    if (!is_in(expected, actual)) BOOST_FAIL(describe(loop, tier, n, misalignment));
    BOOST_TEST(streamed_counts.nan == counts.nan);
    BOOST_TEST(streamed_counts.overflow == counts.overflow);
    BOOST_TEST(streamed_counts.underflow == counts.underflow);
    BOOST_TEST(streamed_counts.inexact == counts.inexact);
    Counts alone{.nan = 5, .overflow = 6, .underflow = 7, .inexact = 8};
    loop.streamed_counted(source.data(), nullptr, n, false, alone);
    BOOST_TEST(alone.nan == counts.nan);
    BOOST_TEST(alone.overflow == counts.overflow);
    BOOST_TEST(alone.underflow == counts.underflow);
    BOOST_TEST(alone.inexact == counts.inexact);
  });
}

BOOST_AUTO_TEST_CASE(streamed_affine_loops_give_the_same_bits) {
  Random random(36);
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    for (const halfway::detail::FusedAffine& loop : active_kernels().fused_affine) {
      const std::size_t size = halfway::item_size(loop.to);
      for (std::size_t n = 0; n < 1200; n += n < 100 ? 1 : 211) {
        const std::size_t misalignment = n % 2 == 0 ? size * (n / 2 % 16) : 32 - size;
        const std::vector<std::byte> source = elements_of(random, loop.from, n);
        const float coefficients[] = {n % 7 == 3 ? HUGE_VALF : 1.75F, n % 5 == 4 ? -3e38F : -0.3F};
        const auto* const scale = reinterpret_cast<const std::byte*>(coefficients);
        std::vector<std::byte> expected(n * size);
        loop.loop(source.data(), expected.data(), n, scale, scale + sizeof(float));
        Guarded actual(expected.size(), misalignment);
        loop.streamed(source.data(), actual.data(), n, scale, scale + sizeof(float));
        order_streamed_stores();
        if (!is_in(expected, actual)) {
          BOOST_FAIL(to_string(loop.from) << " -> " << to_string(loop.to) << ", " << tier << ", " << n << " elements, "
                                          << misalignment << " bytes off");
        }
      }
    }
  }
}

// Images that are scaled, shifted and permuted, all at once and each for itself.
BOOST_AUTO_TEST_CASE(large_batches_of_images_give_what_single_ones_do, *boost::unit_test::label("threads")) {
  Random random(37);
  const std::int64_t height = 117;
  const std::int64_t width = 131;
  const std::int64_t image = height * width * 3;
  const std::int64_t images = static_cast<std::int64_t>(halfway::detail::streaming_bytes()) / 3 / image + 2;
  const std::vector<std::byte> source = elements_of(random, halfway::uint8, static_cast<std::size_t>(images * image));
  const std::vector<double> scale{1.5, -0.25, 3.0};
  const std::vector<double> shift{0.1, 7.0, -2.0};
  for (const DType to : {halfway::bfloat16, halfway::float16, halfway::float32}) {
    const std::size_t size = halfway::item_size(to);
    for (const bool permutes : {true, false}) {
      halfway::CastOptions options;
      options.casting = halfway::Casting::unsafe;
      options.scale = scale;
      options.shift = shift;
      options.axis = 3;
      const std::vector<std::int64_t> axes{0, 3, 1, 2};
      if (permutes) options.permute = axes;
      const auto view = [&](std::int64_t first, std::int64_t count, std::vector<std::int64_t>& shape,
                            std::vector<std::int64_t>& strides) {
        shape = {count, height, width, 3};
        strides = {image, width * 3, 3, 1};
        return halfway::TensorView{
            .data = source.data() + first * image, .dtype = halfway::uint8, .shape = shape, .strides = strides};
      };
      std::vector<std::int64_t> shape;
      std::vector<std::int64_t> strides;
      const halfway::Tensor all = halfway::cast(view(0, images, shape, strides), to, options);
      const auto* const made = static_cast<const std::byte*>(all.view().data);
      for (std::int64_t i = 0; i < images; ++i) {
        const halfway::Tensor one = halfway::cast(view(i, 1, shape, strides), to, options);
        const auto bytes = static_cast<std::size_t>(image) * size;
        if (std::memcmp(one.view().data, made + static_cast<std::size_t>(i) * bytes, bytes) != 0) {
          BOOST_FAIL(to_string(to) << ", image " << i << (permutes ? ", permuted" : ""));
        }
      }
    }
  }
}

// Large enough to be streamed, by several threads, and with misaligned ends.
BOOST_AUTO_TEST_CASE(large_casts_give_what_small_ones_do, *boost::unit_test::label("threads")) {
  const auto elements = static_cast<std::int64_t>(halfway::detail::streaming_bytes()) + 12345;
  Random random(33);
  const std::vector<std::byte> block = elements_of(random, halfway::float32, std::size_t{1} << 16U);
  for (const DType to : {halfway::bfloat16, halfway::float16, halfway::float8_e4m3fn}) {
    const std::size_t size = halfway::item_size(to);
    const std::int64_t count = elements / static_cast<std::int64_t>(size);
    const std::int64_t shape[] = {count};
    halfway::Tensor source = halfway::Tensor::allocate(shape, halfway::float32);
    auto* const floats = static_cast<std::byte*>(source.mutable_view().data);
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
    for (std::size_t at = 0; at < bytes; at += block.size()) {
      std::memcpy(floats + at, block.data(), std::min(block.size(), bytes - at));
    }
    Report small;
    const std::int64_t unit[] = {1};
    const std::int64_t block_shape[] = {std::int64_t{1} << 16U};
    halfway::TensorView block_view;
    block_view.data = block.data();
    block_view.dtype = halfway::float32;
    block_view.shape = block_shape;
    block_view.strides = unit;
    const halfway::Tensor expected = halfway::cast(block_view, to, {.report = &small});
    const auto* const pattern = static_cast<const std::byte*>(expected.view().data);
    const std::size_t pattern_bytes = (std::size_t{1} << 16U) * size;
    for (const bool counts : {false, true}) {
      Report report;
      const halfway::Tensor result = halfway::cast(source.view(), to, {.report = counts ? &report : nullptr});
      const auto* const made = static_cast<const std::byte*>(result.view().data);
      const std::size_t made_bytes = static_cast<std::size_t>(count) * size;
      for (std::size_t at = 0; at < made_bytes; at += pattern_bytes) {
        const std::size_t some = std::min(pattern_bytes, made_bytes - at);
        if (std::memcmp(made + at, pattern, some) != 0)
          BOOST_FAIL(to_string(to) + " differs from byte " + std::to_string(at));
      }
      if (!counts) continue;
      BOOST_TEST(report.count == static_cast<std::uint64_t>(count));
      const auto whole = static_cast<std::uint64_t>(count) >> 16U;
      BOOST_TEST(report.nan >= small.nan * whole);
      BOOST_TEST(report.nan <= small.nan * (whole + 1));
      BOOST_TEST(report.inexact >= small.inexact * whole);
      BOOST_TEST(report.inexact <= small.inexact * (whole + 1));
      BOOST_TEST(report.overflow >= small.overflow * whole);
      BOOST_TEST(report.underflow >= small.underflow * whole);
    }
  }
}

// Turned round in registers, by blocks, or by a copy: what a cast of the native elements gives.
BOOST_AUTO_TEST_CASE(large_sources_of_the_other_byte_order, *boost::unit_test::label("threads")) {
  Random random(37);
  for (const auto& [from, to] : std::vector<std::pair<DType, DType>>{{halfway::float64, halfway::float32},
                                                                     {halfway::float64, halfway::bfloat16},
                                                                     {halfway::int32, halfway::float16},
                                                                     {halfway::float32, halfway::float32},
                                                                     {halfway::complex64, halfway::complex64}}) {
    const std::size_t size = halfway::item_size(from);
    const std::size_t unit = from == halfway::complex64 ? size / 2 : size;
    const auto count = static_cast<std::int64_t>(halfway::detail::streaming_bytes() / size) + 77;
    const std::vector<std::byte> block = elements_of(random, from, std::size_t{1} << 15U);
    std::vector<std::byte> native(static_cast<std::size_t>(count) * size);
    for (std::size_t at = 0; at < native.size(); at += block.size()) {
      std::memcpy(native.data() + at, block.data(), std::min(block.size(), native.size() - at));
    }
    std::vector<std::byte> reversed = native;
    for (std::size_t at = 0; at < reversed.size(); at += unit) {
      std::reverse(reversed.data() + at, reversed.data() + at + unit);
    }
    const std::int64_t shape[] = {count};
    const std::int64_t strides[] = {1};
    halfway::TensorView view{.data = native.data(), .dtype = from, .shape = shape, .strides = strides};
    const halfway::CastOptions unsafe{.casting = halfway::Casting::unsafe};
    const halfway::Tensor expected = halfway::cast(view, to, unsafe);
    view.data = reversed.data();
    const halfway::Tensor made = halfway::cast(view.byte_swapped(), to, unsafe);
    BOOST_TEST_CONTEXT(to_string(from) << " to " << to_string(to))
    BOOST_TEST(std::memcmp(expected.view().data, made.view().data,
                           static_cast<std::size_t>(count) * halfway::item_size(to)) == 0);
    if (from != to) continue;
    // To a place that is aligned to nothing, and where they are.
    std::vector<std::byte> elsewhere(native.size() + 1);
    halfway::cast_into(view.byte_swapped(),
                       {.data = elsewhere.data() + 1, .dtype = to, .shape = shape, .strides = strides});
    BOOST_TEST(std::memcmp(elsewhere.data() + 1, native.data(), native.size()) == 0, to_string(to) << " elsewhere");
    halfway::cast_into(view.byte_swapped(), {.data = reversed.data(), .dtype = to, .shape = shape, .strides = strides});
    BOOST_TEST((reversed == native), to_string(to) << " where they are");
  }
}

// Rows in reverse, with gaps between them, swapped, of every second element, in columns, and to misaligned places: each
// row is what a cast of it alone gives.
BOOST_AUTO_TEST_CASE(large_rows_give_what_single_ones_do, *boost::unit_test::label("threads")) {
  Random random(35);
  const auto cells = static_cast<std::int64_t>(halfway::detail::streaming_bytes() / 4) + 1;
  for (const std::int64_t row : {300, 2048, 5003}) {
    const std::int64_t rows = cells / row + 1;
    const std::int64_t gap = 5;
    // Two elements for each of the result, and a gap after each row.
    const std::int64_t step = 2 * row + gap;
    const std::vector<std::byte> block = elements_of(random, halfway::float32, std::size_t{1} << 16U);
    std::vector<std::byte> memory(static_cast<std::size_t>(rows * step) * 4);
    for (std::size_t at = 0; at < memory.size(); at += block.size()) {
      std::memcpy(memory.data() + at, block.data(), std::min(block.size(), memory.size() - at));
    }
    const std::int64_t shape[] = {rows, row};
    const std::int64_t row_shape[] = {row};
    const std::byte* const first = memory.data();
    const std::byte* const last = first + (rows - 1) * step * 4;
    const auto columns = std::vector<std::int64_t>{1, rows};
    struct Source {
      const std::byte* data;
      std::vector<std::int64_t> strides;
      bool swapped;
    };
    const std::vector<Source> sources{
        {first, {step, 1}, false}, {last, {-step, 1}, false}, {first, {step, 2}, false},     {first, {step, 1}, true},
        {first, columns, false},   {first, columns, true},    {first + 1, {step, 1}, false}, {first, {0, 1}, false}};
    for (const DType to : {halfway::bfloat16, halfway::float16, halfway::float8_e4m3fn}) {
      const std::size_t size = halfway::item_size(to);
      const std::int64_t out_step = row + static_cast<std::int64_t>(random() % 2);
      std::vector<std::byte> made(static_cast<std::size_t>(rows * out_step + 2) * size);
      std::vector<std::byte> expected(static_cast<std::size_t>(row) * size);
      for (const Source& source : sources) {
        halfway::TensorView view{
            .data = source.data, .dtype = halfway::float32, .shape = shape, .strides = source.strides};
        if (source.swapped) view = view.byte_swapped();
        const std::size_t misalignment = random() % 2;
        std::byte* const to_place = made.data() + misalignment;
        const std::int64_t out_strides[] = {out_step, 1};
        halfway::cast_into(view, {.data = to_place, .dtype = to, .shape = shape, .strides = out_strides});
        for (std::int64_t i = 0; i < rows; ++i) {
          halfway::TensorView one = view;
          one.data = source.data + i * source.strides[0] * 4;
          one.shape = row_shape;
          const std::int64_t stride[] = {source.strides[1]};
          one.strides = stride;
          const std::int64_t unit[] = {1};
          halfway::cast_into(one, {.data = expected.data(), .dtype = to, .shape = row_shape, .strides = unit});
          if (std::memcmp(expected.data(), to_place + static_cast<std::size_t>(i * out_step) * size, expected.size()) !=
              0) {
            BOOST_FAIL(to_string(to) << ", row " << i << " of " << rows << " with " << row << " elements, source "
                                     << &source - sources.data() << ", " << misalignment << " bytes off");
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_first_loss_of_a_large_cast_is_named, *boost::unit_test::label("threads")) {
  const std::int64_t count = static_cast<std::int64_t>(halfway::detail::streaming_bytes()) / 2 + 4321;
  const std::int64_t shape[] = {count};
  halfway::Tensor source = halfway::Tensor::allocate(shape, halfway::float32);
  auto* const floats = static_cast<float*>(source.mutable_view().data);
  std::fill(floats, floats + count, 1.0F);
  Random random(34);
  for (int trial = 0; trial < 6; ++trial) {
    std::vector<std::int64_t> places(1 + random() % 3);
    for (std::int64_t& place : places) place = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(count));
    if (trial == 0) places = {0};
    if (trial == 1) places = {count - 1};
    for (const std::int64_t place : places) floats[place] = 1.0001F;
    std::sort(places.begin(), places.end());
    const auto losses = static_cast<std::uint64_t>(std::unique(places.begin(), places.end()) - places.begin());
    BOOST_CHECK_EXCEPTION(
        (void)halfway::cast(source.view(), halfway::bfloat16, {.casting = halfway::Casting::same_value}),
        halfway::CastError, [&](const halfway::CastError& error) {
          return error.index() == std::vector<std::int64_t>{places[0]} && error.report()->inexact == losses;
        });
    for (const std::int64_t place : places) floats[place] = 1.0F;
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
