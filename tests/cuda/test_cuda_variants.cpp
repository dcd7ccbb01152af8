// The kernels with other numbers than those that ship, as the experiments behind tuning.h run them: groups of 2 and 8,
// transposes that take 4 and 16 elements at a time, and tiles of any side, have the bits and the counts of the host's
// casts.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/simulated_kernels.h"
#include "conversions.h"
#include "halfway/cast.h"
#include "places_of.h"
#include "runtime/arrays.h"
#include "runtime/reference.h"
#include "runtime/rounds.h"

namespace {

using namespace halfway;
using conversions::between;
using conversions::dense;
using conversions::fill;
using conversions::Memory;
using conversions::Permuted;
using conversions::permuted;
using cuda::detail::choose;
using cuda::detail::Conversion;
using cuda::detail::KernelKind;
using cuda::detail::Launch;
using cuda::detail::run_blocks;
using cuda::detail::Segment;
using cuda::detail::Tally;
using cuda::detail::Walk;
using halfway::detail::Places;
namespace tuning = cuda::detail::tuning;

// By the kernels of other groups, and of other numbers of elements that are transposed at a time.
template <int group, int transposed>
void run_variant(const Launch& launch) {
  const auto run = [&](auto body) { run_blocks<decltype(body)>(launch); };
  if (launch.kind == KernelKind::general) return cuda::detail::use_general<group>(launch, run);
  if (launch.kind == KernelKind::transpose) return cuda::detail::use_transpose<transposed>(launch, run);
  cuda::detail::run_launch(launch);
}
void run_variant(const Launch& launch, int group) {
  if (group == 2) {
    run_variant<2, 4>(launch);
  } else {
    run_variant<8, 16>(launch);
  }
}
constexpr std::array groups{2, 8};

DType any_dtype(std::mt19937_64& random) {
  static const std::vector<DType> all = arrays::castable_dtypes();
  return all[random() % all.size()];
}

bool is_float(DType dtype) { return find(dtype)->format != nullptr; }

Report report_of(const Tally& tally, std::uint64_t count) {
  return {.count = count,
          .nan = tally.nan,
          .overflow = tally.overflow,
          .underflow = tally.underflow,
          .inexact = tally.inexact};
}

BOOST_AUTO_TEST_SUITE(cuda_variants)

// Row-major, at all alignments: scaled along an axis, by chance, and counted.
BOOST_AUTO_TEST_CASE(groups_that_are_dense) {
  std::mt19937_64 random(1);
  int general = 0;
  for (int i = 0; i < rounds::of(600); ++i) {
    const int group = groups[random() % groups.size()];
    const DType from = reference::component(any_dtype(random));
    const DType to = reference::component(any_dtype(random));
    // (rows, channels, pixels), which few groups fit into.
    const std::array<std::int64_t, 3> shape{1 + static_cast<std::int64_t>(random() % (i % 8 == 0 ? 60 : 4)),
                                            1 + static_cast<std::int64_t>(random() % 9),
                                            1 + static_cast<std::int64_t>(random() % 11)};
    const auto count = static_cast<std::uint64_t>(shape[0] * shape[1] * shape[2]);
    const bool aligned = random() % 2 == 0;
    const Memory source(aligned ? 0 : random() % 16, count * item_size(from));
    const Memory destination(aligned ? 0 : random() % 16, count * item_size(to));
    fill(random, source, count * item_size(from));
    if (from == boolean) {
      for (std::size_t k = 0; k < count; ++k) source.data()[k] %= 2;
    }

    CastOptions options{.casting = Casting::unsafe};
    Conversion work = dense(from, to, source.data(), destination.data(), count);
    if (random() % 3 == 0) options.overflow = Overflow::saturate;
    work.saturate = options.overflow == Overflow::saturate;
    if (is_float(to) && random() % 2 == 0) {
      options.rounding = Rounding::stochastic;
      options.seed = work.seed = random();
      work.stochastic = true;
    }
    std::vector<double> scales;
    if (random() % 2 == 0) {
      for (std::int64_t k = 0; k < shape[1]; ++k) scales.push_back(0.25 * static_cast<double>(random() % 100) - 3);
      options.axis = 1;
      options.scale = scales;
      work.affine.count = scales.size();
      work.affine.inner = static_cast<std::uint64_t>(shape[2]);
      for (std::size_t k = 0; k < scales.size(); ++k) {
        work.affine.scales[k] = scales[k];
        work.affine.shifts[k] = -0.0;  // which changes nothing, where 0.0 would change the sign of -0.0
      }
    }
    Report expected_counts;
    Tally tally;
    const bool counts = random() % 2 == 0;
    if (counts) {
      options.report = &expected_counts;
      work.tally = &tally;
    }
    const std::array<std::int64_t, 3> strides{shape[1] * shape[2], shape[2], 1};
    const Tensor cast =
        halfway::cast({.data = source.data(), .dtype = from, .shape = shape, .strides = strides}, to, options);

    const Launch launch = choose(work, {.group = group});
    general += launch.kind == KernelKind::general ? 1 : 0;
    run_variant(launch, group);
    BOOST_TEST_INFO_SCOPE("case " << i << ", groups of " << group << ": " << to_string(from) << " -> " << to_string(to)
                                  << ", " << count << " elements" << (counts ? ", counted" : "")
                                  << (work.stochastic ? ", by chance" : "") << (scales.empty() ? "" : ", scaled"));
    const auto* const first = static_cast<const unsigned char*>(cast.view().data);
    BOOST_CHECK(destination.bytes() == std::vector<unsigned char>(first, first + count * item_size(to)));
    if (counts) BOOST_CHECK(report_of(tally, count) == expected_counts);
  }
  BOOST_TEST(general > rounds::of(600) / 2);
}

BOOST_AUTO_TEST_CASE(groups_of_several_tensors) {
  std::mt19937_64 random(2);
  for (int i = 0; i < rounds::of(40); ++i) {
    const int group = groups[random() % groups.size()];
    const std::size_t tensors = 1 + random() % Conversion::most_segments;
    std::vector<Memory> sources;
    std::vector<Memory> destinations;
    std::vector<Segment> segments;
    for (std::size_t k = 0; k < tensors; ++k) {
      const std::size_t count = random() % (k % 7 == 0 ? 5000 : 300);
      sources.emplace_back(random() % 2 * 4, count * 4);
      destinations.emplace_back(random() % 2 * 2, count * 2);
      fill(random, sources.back(), count * 4);
      segments.push_back({sources.back().data(), destinations.back().data(), count});
    }
    Conversion work = dense(int32, float16, nullptr, nullptr, 0);
    work.segments = segments.data();
    work.segment_count = static_cast<std::uint32_t>(segments.size());
    run_variant(choose(work, {.group = group}), group);
    for (std::size_t k = 0; k < tensors; ++k) {
      BOOST_TEST_INFO_SCOPE("case " << i << ", groups of " << group << ", tensor " << k << " of " << tensors);
      const auto count = static_cast<std::int64_t>(segments[k].count);
      BOOST_CHECK(destinations[k].bytes() == conversions::expected_of(sources[k].data(), int32, float16, count));
    }
  }
}

// By strides and in tiles, of any side, in no more shared memory than is asked for.
BOOST_AUTO_TEST_CASE(layouts_and_tiles) {
  std::mt19937_64 random(3);
  int transposed = 0;
  int tiled = 0;
  int strided = 0;
  for (int i = 0; i < rounds::of(600); ++i) {
    const int group = groups[random() % groups.size()];
    constexpr std::array<std::uint32_t, 6> sides{16, 32, 48, 64, 96, 128};
    constexpr std::array<std::uint32_t, 4> bytes{16 << 10, 24 << 10, tuning::most_bytes_of_tile, 48 << 10};
    constexpr std::array<std::uint64_t, 3> planes{1, tuning::smallest_plane, std::numeric_limits<std::uint64_t>::max()};
    tuning::Numbers numbers{.group = group};
    numbers.tile_side = numbers.tile_side_of_pairs = sides[random() % sides.size()];
    numbers.most_bytes_of_tile = bytes[random() % bytes.size()];
    numbers.smallest_plane = planes[random() % planes.size()];
    const std::array<std::pair<DType, DType>, 4> transposes{
        {{float32, bfloat16}, {float16, float32}, {float64, float64}, {uint8, uint8}}};
    auto [from, to] = transposes[random() % transposes.size()];
    if (random() % 2 == 0) {
      from = any_dtype(random);
      to = random() % 4 == 0 ? from : any_dtype(random);
    }
    const Permuted tensors = permuted(random, from, to);
    arrays::Array expected = tensors.target;
    cast_into(tensors.source.view(), expected.mutable_view(), {.casting = Casting::unsafe});
    arrays::Array found = tensors.target;
    const Launch launch = choose(between(tensors, found), numbers);
    transposed += launch.kind == KernelKind::transpose ? 1 : 0;
    tiled += launch.kind == KernelKind::general && launch.job.walk == Walk::tiled ? 1 : 0;
    strided += launch.kind == KernelKind::general && launch.job.walk == Walk::strided ? 1 : 0;
    BOOST_TEST_INFO_SCOPE("case " << i << ", groups of " << group << ", tiles of " << numbers.tile_side << " in "
                                  << numbers.most_bytes_of_tile << " bytes: " << arrays::to_string(tensors.source)
                                  << " -> " << arrays::to_string(tensors.target));
    BOOST_TEST(launch.shared_bytes <= numbers.most_bytes_of_tile);
    run_variant(launch, group);
    BOOST_CHECK(found.memory == expected.memory);
  }
  BOOST_TEST(transposed > rounds::of(600) / 20);
  BOOST_TEST(tiled > rounds::of(600) / 20);
  BOOST_TEST(strided > rounds::of(600) / 20);
}

// Each number decides what it says it does, and nothing is different where none is given.
BOOST_AUTO_TEST_CASE(numbers_decide) {
  const Memory memory(0, 16);
  Conversion work = dense(int32, float16, memory.data(), memory.data(), 1 << 20);
  BOOST_TEST(choose(work).job.steps == (1U << 20) / (tuning::threads * tuning::group));
  BOOST_TEST(choose(work, {.group = 8}).job.steps == (1U << 20) / (tuning::threads * 8));
  BOOST_TEST(choose(work, {.most_blocks = 7}).blocks == 7U);
  Tally tally;
  work.tally = &tally;
  BOOST_TEST(choose(work, {.most_blocks = 7, .most_blocks_counting = 9}).blocks == 9U);
  work.tally = nullptr;
  work.count = 500 * 4 * 15;
  work.source_places = Places{.axes = 3, .dims = {500, 15, 4}, .strides = {240, 4, 60}};
  BOOST_TEST((choose(work).job.walk == Walk::strided));
  BOOST_TEST((choose(work, {.smallest_plane = 60}).job.walk == Walk::tiled));
  work.source_places = Places{.axes = 2, .dims = {250, 120}, .strides = {4, 1000}};
  for (const std::uint32_t side : {16U, 32U, tuning::tile_side}) {
    const Launch launch = choose(work, {.tile_side = side});
    for (const std::uint32_t length : launch.job.tiles.tile) BOOST_TEST(length == side);
  }
  const Launch flat = choose(work, {.most_bytes_of_tile = 65 * 4 * 10});
  BOOST_TEST(flat.job.tiles.tile[1] == 10U);
  BOOST_TEST(flat.job.steps == 4U * 12);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
