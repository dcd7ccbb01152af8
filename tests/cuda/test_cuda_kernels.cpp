// The kernels by themselves, on the host: which one is chosen for what, every head and tail of the vector kernels,
// tiles of every plane, parts of tensors, several tensors at once, and that these tests see a kernel that is wrong.
// What all policies do to all dtypes in random layouts is tested through the engine (device_cases.cpp), on real devices
// too.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/simulated_kernels.h"
#include "conversions.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "places_of.h"
#include "runtime/arrays.h"
#include "runtime/rounds.h"

namespace {

using namespace halfway;
using conversions::between;
using conversions::dense;
using conversions::expected_of;
using conversions::fill;
using conversions::Memory;
using conversions::Permuted;
using conversions::permuted;
using cuda::detail::choose;
using cuda::detail::Conversion;
using cuda::detail::KernelKind;
using cuda::detail::Launch;
using cuda::detail::run_launch;
using cuda::detail::Segment;
using cuda::detail::Walk;
using halfway::detail::Places;
namespace tuning = cuda::detail::tuning;

BOOST_AUTO_TEST_SUITE(cuda_kernels)

BOOST_AUTO_TEST_CASE(every_kind_of_launch_gets_its_kernel) {
  const Memory memory(0, 1 << 16);
  unsigned char* const base = memory.data();
  const auto kind = [&](DType from, DType to, std::size_t source, std::size_t destination,
                        const std::function<void(Conversion&)>& change = {}) {
    Conversion work = dense(from, to, base + source, base + destination, 1000);
    if (change) change(work);
    const Launch launch = choose(work);
    constexpr std::array kinds{"copy", "fused", "scaled", "channels", "transpose", "general"};
    constexpr std::array walks{"dense", "strided", "tiled", "several"};
    return std::string(kinds[static_cast<std::size_t>(launch.kind)]) + " " +
           walks[static_cast<std::size_t>(launch.job.walk)] + ", head " + std::to_string(launch.job.head);
  };
  BOOST_TEST(kind(float32, bfloat16, 0, 0) == "fused dense, head 0");
  // 4 elements of 4 bytes further the source is aligned again, 8 of 2 bytes the destination: both from 4 + 16k and
  // 4 + 16k on when they begin 16 - 4 * 4 = 0 and 16 - 2 * 4 = 8 bytes behind a multiple of 16.
  BOOST_TEST(kind(float32, bfloat16, 0, 8) == "fused dense, head 4");
  BOOST_TEST(kind(float32, bfloat16, 4, 2) == "fused dense, head 7");
  BOOST_TEST(kind(float32, bfloat16, 4, 0) == "general dense, head 0");  // never both
  BOOST_TEST(kind(uint8, float32, 3, 12) == "fused dense, head 1");      // vectors of 4 bytes there, of 16 here
  BOOST_TEST(kind(uint8, uint8, 5, 5) == "copy dense, head 11");
  BOOST_TEST(kind(float32, float32, 4, 8) == "general dense, head 0");
  BOOST_TEST(kind(int32, float16, 0, 0) == "general dense, head 0");  // not hot
  BOOST_TEST(kind(float32, bfloat16, 0, 0, [](Conversion& w) { w.saturate = true; }) == "fused dense, head 0");
  BOOST_TEST(kind(float32, bfloat16, 0, 0, [](Conversion& w) { w.stochastic = true; }) == "general dense, head 0");
  const auto scaled = [](Conversion& w) { w.affine.count = 3; };
  BOOST_TEST(kind(float32, bfloat16, 0, 8, scaled) == "scaled dense, head 4");
  BOOST_TEST(kind(uint8, float32, 3, 12, scaled) == "scaled dense, head 1");
  BOOST_TEST(kind(float16, float32, 0, 0, scaled) == "general dense, head 0");
  BOOST_TEST(kind(uint8, int8, 0, 0, scaled) == "general dense, head 0");
  const auto along_everything = [](Conversion& w) {
    w.affine.count = 32;
    w.affine.inner = std::uint64_t{1} << 27;
  };
  BOOST_TEST(kind(uint8, float32, 0, 0, along_everything) == "general dense, head 0");
  BOOST_TEST(kind(float32, bfloat16, 0, 0, [](Conversion& w) { w.source_swapped = true; }) == "general dense, head 0");
  cuda::detail::Tally tally;
  BOOST_TEST(kind(float32, bfloat16, 0, 0, [&](Conversion& w) { w.tally = &tally; }) == "general dense, head 0");
  const auto transposed = [](std::int64_t rows, std::int64_t columns) {
    return [rows, columns](Conversion& w) {
      w.source_places = Places{.axes = 2, .dims = {rows, columns}, .strides = {4, rows * 4}};
    };
  };
  BOOST_TEST(kind(float32, bfloat16, 0, 0, transposed(25, 40)) == "transpose tiled, head 0");
  const auto every_other = [](Conversion& w) { w.source_places.strides[0] = 8; };
  BOOST_TEST(kind(float32, bfloat16, 0, 0, every_other) == "general strided, head 0");
  BOOST_TEST(choose(dense(float32, bfloat16, base, base, 0)).blocks == 0U);

  // Channels, of which 1000 elements are as many pixels as there are times them, with this many images.
  const auto interleaved = [](std::int64_t images, std::int64_t channels, const std::function<void(Conversion&)>& ask) {
    return [=](Conversion& w) {
      const std::int64_t pixels = 1000 / images / channels;
      w.count = static_cast<std::uint64_t>(images * channels * pixels);
      w.source_places =
          Places{.axes = 3, .dims = {images, channels, pixels}, .strides = {channels * pixels, 1, channels}};
      if (images == 1) w.source_places = Places{.axes = 2, .dims = {channels, pixels}, .strides = {1, channels}};
      if (ask) ask(w);
    };
  };
  const auto along_channels = [](std::int64_t channels, std::int64_t pixels) {
    return [=](Conversion& w) {
      w.affine.count = static_cast<std::uint64_t>(channels);
      w.affine.inner = static_cast<std::uint64_t>(pixels);
    };
  };
  for (const DType to : {uint8, float16, bfloat16, float32}) {
    BOOST_TEST(kind(uint8, to, 0, 0, interleaved(1, 2, {})) == "channels tiled, head 0");
    BOOST_TEST(kind(uint8, to, 1, 4, interleaved(5, 4, {})) == "channels tiled, head 0");
    BOOST_TEST(kind(uint8, to, 0, 0, interleaved(1, 5, {})) ==
               (to == uint8 ? "transpose tiled, head 0" : "general tiled, head 0"));
  }
  BOOST_TEST(kind(uint8, bfloat16, 0, 0, interleaved(2, 4, along_channels(4, 125))) == "channels tiled, head 0");
  BOOST_TEST(kind(uint8, bfloat16, 0, 0, interleaved(2, 4, along_channels(4, 124))) == "general tiled, head 0");
  BOOST_TEST(kind(uint8, bfloat16, 0, 0, interleaved(2, 4, along_channels(2, 500))) == "general tiled, head 0");
  BOOST_TEST(kind(uint8, uint8, 0, 0, interleaved(2, 4, along_channels(4, 125))) == "general tiled, head 0");
  BOOST_TEST(kind(uint8, bfloat16, 0, 1, interleaved(2, 4, {})) == "general tiled, head 0");  // never aligned
  BOOST_TEST(kind(uint8, bfloat16, 0, 0, interleaved(2, 4, [&](Conversion& w) { w.tally = &tally; })) ==
             "general tiled, head 0");
}

// Where the wire is what is waited for, few blocks do, and where blocks add up what they count; else a launch has a
// block for each piece of work, and no more.
BOOST_AUTO_TEST_CASE(blocks_follow_the_work_and_the_wire) {
  const Memory memory(0, 16);
  Conversion work = dense(float32, bfloat16, memory.data(), memory.data(), std::uint64_t{1} << 30);
  BOOST_TEST(choose(work).blocks == (std::uint64_t{1} << 30) / (256 * 8));
  work.count = std::uint64_t{1} << 45;
  BOOST_TEST(choose(work).blocks == tuning::most_blocks);
  cuda::detail::Tally tally;
  work.tally = &tally;
  BOOST_TEST(choose(work).blocks == tuning::most_blocks_counting);
  work.tally = nullptr;
  work.reach = cuda::detail::Reach::reads_host;
  BOOST_TEST(choose(work).blocks == tuning::most_blocks_reading_host);
  work.reach = cuda::detail::Reach::writes_host;
  BOOST_TEST(choose(work).blocks == tuning::most_blocks_writing_host);
  work.count = 3 * 256 * 8;
  BOOST_TEST(choose(work).blocks == 3U);
  work.count += 1;
  BOOST_TEST(choose(work).blocks == 4U);
  // Threads of the general kernel ask for less at a time, so that as many bytes are under way by more of them.
  Conversion bytes = dense(int8, bfloat16, memory.data(), memory.data(), std::uint64_t{1} << 30);
  bytes.affine.count = 1;
  bytes.reach = cuda::detail::Reach::reads_host;
  BOOST_TEST(choose(bytes).blocks == tuning::most_blocks_reading_host * 8);
  bytes.reach = cuda::detail::Reach::writes_host;
  BOOST_TEST(choose(bytes).blocks == tuning::most_blocks_writing_host * 4);
  // So are there more that write 8 bytes at a time, and no more that read for these.
  Conversion quarter = dense(float64, bfloat16, memory.data(), memory.data(), std::uint64_t{1} << 30);
  quarter.reach = cuda::detail::Reach::reads_host;
  BOOST_TEST(choose(quarter).blocks == tuning::most_blocks_reading_host);
  quarter.reach = cuda::detail::Reach::writes_host;
  BOOST_TEST(choose(quarter).blocks == tuning::most_blocks_writing_host * 2);
}

// What is scaled into integers goes to the nearest; of floats it asks for nothing that would keep them from the packed
// conversions.
BOOST_AUTO_TEST_CASE(scaled_elements_and_their_rounding) {
  const Memory memory(0, 16);
  for (const DType to : {float16, bfloat16, float32, float8_e4m3fn, int8, uint16, int64}) {
    Conversion work = dense(uint8, to, memory.data(), memory.data(), 100);
    const bool is_integer = to.code <= static_cast<std::uint8_t>(halfway::TypeCode::uint);
    BOOST_TEST(!choose(work).job.policy.nearest);
    work.affine.count = 3;
    BOOST_TEST(choose(work).job.policy.nearest == is_integer);
  }
}

// All alignments of both sides with tails of every length, around what a block takes at a time.
BOOST_AUTO_TEST_CASE(heads_and_tails_of_the_hot_pairs) {
  std::mt19937_64 random(1);
  for (const auto& [from, to] : std::vector<std::pair<DType, DType>>{{float32, bfloat16},
                                                                     {float32, float8_e4m3fn},
                                                                     {float64, float16},
                                                                     {uint8, float32},
                                                                     {bfloat16, float16},
                                                                     {int64, int32},
                                                                     {float8_e5m2, bfloat16},
                                                                     {float32, float32}}) {
    for (std::size_t a = 0; a < 16; ++a) {
      for (std::size_t b = 0; b < 16; b += 1 + random() % 3) {
        const bool small = random() % 4 != 0;
        const auto count = static_cast<std::int64_t>(small ? random() % 70 : 2000 + random() % 100);
        const auto elements = static_cast<std::size_t>(count);
        const Memory source(a, elements * item_size(from));
        const Memory destination(b, elements * item_size(to));
        fill(random, source, elements * item_size(from));
        const CastOptions options{.overflow = random() % 2 == 0 ? Overflow::saturate : Overflow::by_format};
        Conversion work = dense(from, to, source.data(), destination.data(), elements);
        work.saturate = options.overflow == Overflow::saturate;
        run_launch(choose(work));
        BOOST_TEST_INFO_SCOPE(to_string(from) << " -> " << to_string(to) << ", " << a << " and " << b << " bytes off, "
                                              << count << " elements");
        BOOST_CHECK(destination.bytes() == expected_of(source.data(), from, to, count, options));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(tiles_of_any_plane_and_part) {
  std::mt19937_64 random(2);
  const std::array<DType, 6> dtypes{uint8, float16, float32, int64, bfloat16, boolean};
  int tiled = 0;
  int parts_tiled = 0;
  for (int i = 0; i < rounds::of(300); ++i) {
    const DType from = dtypes[random() % dtypes.size()];
    const DType to = random() % 3 == 0 ? from : dtypes[random() % dtypes.size()];
    const Permuted tensors = permuted(random, from, to);
    arrays::Array expected = tensors.target;
    cast_into(tensors.source.view(), expected.mutable_view(), {.casting = Casting::unsafe});
    BOOST_TEST_INFO_SCOPE("case " << i << ": " << arrays::to_string(tensors.source) << " -> "
                                  << arrays::to_string(tensors.target));
    arrays::Array whole = tensors.target;
    const Conversion work = between(tensors, whole);
    const Launch launch = choose(work);
    tiled += launch.job.walk == Walk::tiled ? 1 : 0;
    run_launch(launch);
    BOOST_CHECK(whole.memory == expected.memory);

    // In parts, as transfers do: whole rows of the first axis, and whatever comes.
    arrays::Array parted = tensors.target;
    Conversion part = between(tensors, parted);
    const std::uint64_t all = work.count;
    const std::uint64_t rows = std::max<std::uint64_t>(static_cast<std::uint64_t>(tensors.shape[0]), 1);
    for (std::uint64_t first = 0; first < all;) {
      const bool by_rows = random() % 4 != 0;
      const std::uint64_t wanted = by_rows ? (1 + random() % 3) * (all / rows) : 1 + random() % 500;
      part.count = std::min(all - first, wanted);
      part.first = part.source_places.first = part.destination_places.first = first;
      const Launch chosen = choose(part);
      parts_tiled += chosen.job.walk == Walk::tiled ? 1 : 0;
      run_launch(chosen);
      first += part.count;
    }
    BOOST_CHECK(parted.memory == expected.memory);
  }
  BOOST_TEST(tiled > rounds::of(300) / 10);
  BOOST_TEST(parts_tiled > rounds::of(300) / 10);
}

// Channels become planes in parts of a tensor, too: some of its images, as transfers bring them.
BOOST_AUTO_TEST_CASE(channels_of_some_images) {
  std::mt19937_64 random(7);
  for (const std::int64_t channels : {2, 3, 4}) {
    for (const std::int64_t pixels : {64, 65, 4096}) {
      const std::int64_t images = 7;
      const std::array<std::int64_t, 3> shape{images, channels, pixels};
      const std::array<std::int64_t, 3> strides{channels * pixels, 1, channels};
      const auto count = static_cast<std::size_t>(images * channels * pixels);
      const Memory source(0, count);
      fill(random, source, count);
      const TensorView view{.data = source.data(), .dtype = uint8, .shape = shape, .strides = strides};
      const Tensor cast = halfway::cast(view, bfloat16, {.casting = Casting::unsafe});
      const auto* const first = static_cast<const unsigned char*>(cast.view().data);
      const std::vector<unsigned char> expected(first, first + count * 2);
      const Memory destination(0, count * 2);
      Conversion work = dense(uint8, bfloat16, source.data(), destination.data(), 0);
      work.source_places = halfway::detail::places_of(view).value();
      const auto image = static_cast<std::uint64_t>(channels * pixels);
      for (std::uint64_t number = 0; number < 7; number += 1 + number % 2) {
        work.count = (1 + number % 2) * image;
        work.first = work.source_places.first = work.destination_places.first = number * image;
        const Launch launch = choose(work);
        BOOST_TEST((launch.kind == KernelKind::channels));
        run_launch(launch);
      }
      BOOST_TEST_INFO_SCOPE(channels << " channels of " << pixels << " pixels");
      BOOST_CHECK(destination.bytes() == expected);
    }
  }
}

BOOST_AUTO_TEST_CASE(several_tensors_in_one_launch) {
  std::mt19937_64 random(3);
  for (int i = 0; i < rounds::of(60); ++i) {
    const std::array<std::pair<DType, DType>, 5> pairs{
        {{float32, bfloat16}, {uint8, float16}, {int32, float32}, {float64, float64}, {complex64, complex64}}};
    const auto [from, to] = pairs[random() % pairs.size()];
    const bool aligned = random() % 2 == 0;
    const std::size_t tensors = 1 + random() % Conversion::most_segments;
    std::vector<Memory> sources;
    std::vector<Memory> destinations;
    std::vector<Segment> segments;
    for (std::size_t k = 0; k < tensors; ++k) {
      const std::size_t count = random() % 5 == 0 ? 0 : random() % (k % 7 == 0 ? 5000 : 300);
      sources.emplace_back(aligned ? 0 : random() % 16, count * item_size(from));
      destinations.emplace_back(aligned ? 0 : random() % 16, count * item_size(to));
      fill(random, sources.back(), count * item_size(from));
      segments.push_back({sources.back().data(), destinations.back().data(), count});
    }
    const bool is_complex = from == complex64;
    Conversion work = dense(is_complex ? float32 : from, is_complex ? float32 : to, nullptr, nullptr, 0);
    if (is_complex) work.from_scalars = work.to_scalars = 2;
    work.segments = segments.data();
    work.segment_count = static_cast<std::uint32_t>(segments.size());
    // Elements are numbered in each tensor by itself.
    CastOptions options;
    if (from == float32 && random() % 2 == 0) {
      options.rounding = Rounding::stochastic;
      options.seed = work.seed = random();
      work.stochastic = true;
    }
    run_launch(choose(work));
    for (std::size_t k = 0; k < tensors; ++k) {
      BOOST_TEST_INFO_SCOPE("case " << i << ", tensor " << k << " of " << tensors << ", " << to_string(from));
      const auto count = static_cast<std::int64_t>(segments[k].count);
      BOOST_CHECK(destinations[k].bytes() == expected_of(sources[k].data(), from, to, count, options));
    }
  }
}

// Numbers of elements beyond 32 bits: in memory that is one row, again and again.
BOOST_AUTO_TEST_CASE(numbers_of_more_than_32_bits) {
  std::mt19937_64 random(4);
  const std::int64_t row = 24;
  const std::array<std::int64_t, 3> shape{std::int64_t{1} << 31, 4, row};
  const std::array<std::int64_t, 3> strides{0, 0, 1};
  std::vector<float> values(static_cast<std::size_t>(row));
  for (float& value : values) value = static_cast<float>(static_cast<double>(random() % 1000) / 7);
  const TensorView view{.data = values.data(), .dtype = float32, .shape = shape, .strides = strides};
  const std::uint64_t first = (std::uint64_t{1} << 33) + 5 * static_cast<std::uint64_t>(row) * 4;
  const std::uint64_t count = 4 * static_cast<std::uint64_t>(row);
  std::vector<std::uint16_t> found(count);
  Conversion work = dense(float32, bfloat16, values.data(), found.data(), count);
  work.source_places = halfway::detail::places_of(view).value();
  work.first = work.source_places.first = first;
  work.stochastic = true;
  work.seed = 11;
  run_launch(choose(work));
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t number = first + i;
    const auto lane = convert::lane_of(convert::philox(number / 8, 11), number % 8);
    const float value = values[number % static_cast<std::uint64_t>(row)];
    BOOST_TEST(found[i] == convert::encode_stochastic<convert::BFloat16>(value, lane, false).bits);
  }
}

// A launch that is changed in one of its numbers is a kernel with a fault: it must not pass for a right one.
BOOST_AUTO_TEST_CASE(faults_in_kernels_are_seen) {
  std::mt19937_64 random(5);
  const std::int64_t count = 5000;
  const Memory source(4, static_cast<std::size_t>(count) * 4);
  fill(random, source, static_cast<std::size_t>(count) * 4);
  const auto differs = [&](DType from, DType to, const std::function<void(Conversion&)>& ask,
                           const std::function<void(Launch&)>& change, CastOptions options = {}) {
    const auto elements = static_cast<std::int64_t>(static_cast<std::size_t>(count) * 4 / item_size(from));
    const Memory destination(2, static_cast<std::size_t>(elements) * item_size(to));
    Conversion work = dense(from, to, source.data(), destination.data(), static_cast<std::uint64_t>(elements));
    if (ask) ask(work);
    Launch launch = choose(work);
    change(launch);
    run_launch(launch);
    return destination.bytes() != expected_of(source.data(), from, to, elements, options);
  };
  const auto nothing = [](Launch& /*launch*/) {};
  BOOST_TEST(!differs(float32, bfloat16, {}, nothing));
  BOOST_TEST(differs(float32, bfloat16, {}, [](Launch& l) { --l.job.count; }));
  BOOST_TEST(differs(float32, bfloat16, {}, [](Launch& l) { --l.job.steps; }));
  BOOST_TEST(differs(float32, float16, {}, [](Launch& l) { l.job.policy.saturate = true; }));
  const auto by_chance = [](Conversion& w) {
    w.stochastic = true;
    w.seed = 3;
  };
  const CastOptions chance{.rounding = Rounding::stochastic, .seed = 3};
  BOOST_TEST(!differs(float32, bfloat16, by_chance, nothing, chance));
  BOOST_TEST(differs(
      float32, bfloat16, by_chance, [](Launch& l) { ++l.job.first; }, chance));
  BOOST_TEST(differs(
      float32, bfloat16, by_chance, [](Launch& l) { ++l.job.seed; }, chance));
  const auto swapped = [](Conversion& w) { w.source_swapped = true; };
  BOOST_TEST(differs(float32, bfloat16, swapped, nothing));
  const auto odd = [](Launch& l) { l.job.odd = false; };
  std::vector<std::int64_t> ties;  // that rounding twice, by way of double, gets wrong
  for (std::int64_t i = 0; i < 100; ++i)
    ties.push_back((std::int64_t{1} << 60) + (i << 37) + (std::int64_t{1} << 36) + 1);
  const auto into_float = [&](const std::function<void(Launch&)>& change) {
    std::vector<float> found(ties.size());
    Conversion work = dense(int64, float32, ties.data(), found.data(), ties.size());
    work.destination_places.strides[0] = 4;
    work.source_places = Places{.axes = 2, .dims = {10, 10}, .strides = {80, 8}};  // not dense, so not the fused kernel
    Launch launch = choose(work);
    change(launch);
    run_launch(launch);
    std::vector<unsigned char> bytes(found.size() * 4);
    std::memcpy(bytes.data(), found.data(), bytes.size());
    return bytes != expected_of(reinterpret_cast<const unsigned char*>(ties.data()), int64, float32, 100);
  };
  BOOST_TEST(!into_float(nothing));
  BOOST_TEST(into_float(odd));

  // Tiles.
  std::mt19937_64 layouts(6);
  const auto tile_differs = [&](DType to, const std::function<void(Launch&)>& change) {
    for (int i = 0; i < 60; ++i) {
      const Permuted tensors = permuted(layouts, float16, to);
      arrays::Array expected = tensors.target;
      cast_into(tensors.source.view(), expected.mutable_view(), {.casting = Casting::unsafe});
      arrays::Array found = tensors.target;
      Launch launch = choose(between(tensors, found));
      if (launch.job.walk != Walk::tiled) continue;
      change(launch);
      run_launch(launch);
      if (found.memory != expected.memory) return true;
    }
    return false;
  };
  for (const DType to : {float32, float64}) {  // the kernel that transposes, and the general one
    BOOST_TEST_INFO_SCOPE(to_string(to));
    BOOST_TEST(!tile_differs(to, nothing));
    BOOST_TEST(tile_differs(to, [](Launch& l) { l.job.tiles.pitch = l.job.tiles.pitch / 8 * 4; }));
    BOOST_TEST(tile_differs(to, [](Launch& l) { l.job.tiles.tile[1] -= 1; }));
    BOOST_TEST(tile_differs(to, [](Launch& l) { l.job.steps -= 1; }));
  }
  for (const std::size_t side : {0U, 1U}) {
    BOOST_TEST(tile_differs(float32, [side](Launch& l) {
      auto& rows = l.job.tile_rows[side];
      if (rows.value > 1) rows = cuda::detail::Divisor(rows.value - 1);
    }));
  }
  const auto swapped_back = [](Launch& l) { l.job.to_side.swapped = !l.job.to_side.swapped; };
  BOOST_TEST(tile_differs(float16, swapped_back));
}

// Tiles of any shape fit the shared memory that kernels have without asking for more, beside what the counting ones
// have of their own; and no element of a plane is in none of them.
BOOST_AUTO_TEST_CASE(tiles_fit_shared_memory) {
  const Memory memory(0, 16);
  cuda::detail::Tally tally;
  for (const DType dtype : {uint8, float16, float32, float64, complex64, complex128}) {
    for (const DType to : {dtype, float32}) {
      for (std::int64_t rows = 1; rows < 200; ++rows) {
        for (const std::int64_t columns : {2, 3, 4, 31, 63, 64, 65, 1000, 5000}) {
          for (const bool counts : {false, true}) {
            const auto item = static_cast<std::int64_t>(item_size(dtype));
            Conversion work = dense(dtype, to, memory.data(), memory.data(), 0);
            work.count = static_cast<std::uint64_t>(rows * columns);
            work.from_scalars = dtype == complex64 || dtype == complex128 ? 2 : 1;
            work.to_scalars = dtype == to ? work.from_scalars : 1;
            for (DType* const scalars : {&work.from, &work.to}) {
              if (*scalars == complex64) *scalars = float32;
              if (*scalars == complex128) *scalars = float64;
            }
            work.tally = counts ? &tally : nullptr;
            work.source_places = Places{.axes = 2, .dims = {rows, columns}, .strides = {item, rows * item}};
            const Launch launch = choose(work);
            if (launch.job.walk != Walk::tiled || launch.kind == KernelKind::channels) continue;
            const auto& tiles = launch.job.tiles;
            BOOST_TEST_INFO_SCOPE(to_string(dtype) << " -> " << to_string(to) << ", " << rows << " x " << columns);
            BOOST_TEST(launch.shared_bytes + sizeof(tally) <= 48U * 1024);
            for (int side = 0; side < 2; ++side) {
              BOOST_TEST(tiles.tile[side] > 0U);
              BOOST_TEST(tiles.tiles[side] * tiles.tile[side] >= tiles.plane[side]);
              BOOST_TEST((tiles.tiles[side] - 1) * tiles.tile[side] < tiles.plane[side]);
            }
            BOOST_TEST(launch.job.steps == tiles.tiles[0] * tiles.tiles[1]);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
