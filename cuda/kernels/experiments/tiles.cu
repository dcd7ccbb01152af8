// Tiles, of the kernels that transpose and of the general one: their sides, their bytes, the elements of a thread, and
// the planes that they pay for.
#include <algorithm>
#include <limits>

#include "../tiles.h"
#include "bench.cuh"

namespace experiments {
namespace {

using Bytes2 = convert::Integer<std::uint16_t>;
using Bytes4 = convert::Integer<std::uint32_t>;
using Bytes8 = convert::Integer<std::uint64_t>;

// What a kernel has without asking for more.
constexpr std::uint32_t most_shared_bytes = 48 << 10;

void run_chosen(const Launch& launch) {
  REQUIRE(launch.kind == KernelKind::general ? launch_general(launch, nullptr) : launch_transpose(launch, nullptr));
}

// A matrix of `columns` as it lies closest along these, into one that lies closest along its rows.
template <class From, class To>
Conversion transposition(const Bench& bench, std::int64_t rows, std::int64_t columns, std::uint32_t scalars = 1) {
  const auto count = static_cast<std::uint64_t>(rows * columns);
  Conversion work = conversion<From, To>(count, bench.source, bench.destination, scalars);
  const auto size = static_cast<std::int64_t>(work.source_size());
  work.source_places = Places{.axes = 2, .dims = {columns, rows}, .strides = {size, columns * size}};
  return work;
}

template <class From, class To>
Conversion square(const Bench& bench, std::uint32_t scalars = 1) {
  constexpr std::size_t widest = std::max(sizeof(typename From::Bits), sizeof(typename To::Bits));
  const std::int64_t side = widest * scalars >= 8 ? 4096 : 8192;
  return transposition<From, To>(bench, side, side, scalars);
}

[[nodiscard]] Experiment experiment_of(Bench& bench, const std::string& name, const Conversion& work) {
  return {bench, name, work.count * work.source_size(), work.count * work.destination_size()};
}

// --- sides

template <class From, class To>
void sides(Bench& bench, const char* name, std::uint32_t scalars = 1) {
  if (!bench.wants(name)) return;
  const Conversion work = square<From, To>(bench, scalars);
  expect<From, To>(bench, work);
  const Experiment experiment = experiment_of(bench, name, work);
  for (const bool general : {false, true}) {
    for (const std::uint32_t length : {16U, 32U, 48U, 64U, 96U, 128U}) {
      Launch launch =
          choose(work, {.tile_side = length, .tile_side_of_pairs = length, .most_bytes_of_tile = most_shared_bytes});
      if (!general && launch.kind == KernelKind::general) continue;  // none transposes these
      Tiles& tiles = launch.job.tiles;
      if (general) {
        launch.kind = KernelKind::general;
        pad(tiles, static_cast<std::uint32_t>(work.source_size()), sizeof(typename From::Bits), most_shared_bytes);
        launch.shared_bytes = tiles.pitch * tiles.tile[1];
      }
      if (tiles.tile[1] != length) continue;  // too large
      experiment.variant(
          std::to_string(length) + " elements" + (general ? ", general" : ""), [&] { run_chosen(launch); },
          work.destination);
    }
  }
}

// Of an axis that is short, padding is a larger part.
void short_axis(Bench& bench, std::int64_t columns) {
  const std::string name = "tiles: 8 bytes, " + std::to_string(columns) + " columns";
  if (!bench.wants(name)) return;
  const auto rows = static_cast<std::int64_t>(wide_bytes / 8) / columns;
  const Conversion work = transposition<Bytes8, Bytes8>(bench, rows, columns);
  expect<Bytes8, Bytes8>(bench, work);
  const Experiment experiment = experiment_of(bench, name, work);
  for (const std::uint32_t bytes : {16U << 10, 24U << 10, tuning::most_bytes_of_tile, most_shared_bytes}) {
    const Launch launch = choose(work, {.most_bytes_of_tile = bytes});
    experiment.variant(
        "at most " + std::to_string(bytes) + " bytes, " + std::to_string(launch.job.tiles.tile[1]) + " rows",
        [&] { run_chosen(launch); }, work.destination);
  }
}

// --- elements of a thread

template <class From, class To, int some>
void elements_variant(const Experiment& experiment, const Conversion& work) {
  const Launch launch = choose(work);
  const auto call = [&] {
    if constexpr (some == tuning::transposed) {
      REQUIRE(launch_transpose(launch, nullptr));
    } else {
      REQUIRE(launch_body<Transpose<From, To, some>>(launch, nullptr));
    }
  };
  experiment.variant(std::to_string(some) + " elements of a thread", call, work.destination);
}

template <class From, class To>
void elements(Bench& bench, const char* name) {
  if (!bench.wants(name)) return;
  const Conversion work = square<From, To>(bench);
  expect<From, To>(bench, work);
  const Experiment experiment = experiment_of(bench, name, work);
  elements_variant<From, To, 4>(experiment, work);
  elements_variant<From, To, 8>(experiment, work);
  elements_variant<From, To, 16>(experiment, work);
}

// --- planes

// (n, 4, k) as (n, k, 4).
template <class From, class To>
void planes(Bench& bench, const char* name) {
  if (!bench.wants(name)) return;
  constexpr auto in = static_cast<std::int64_t>(sizeof(typename From::Bits));
  constexpr std::uint64_t count = wide_bytes / in;
  Conversion work = conversion<From, To>(count, bench.source, bench.destination);
  const Experiment experiment = experiment_of(bench, name, work);
  for (const std::int64_t k : {4, 8, 16, 32, 64}) {
    work.source_places = Places{
        .axes = 3, .dims = {static_cast<std::int64_t>(count) / (4 * k), k, 4}, .strides = {4 * k * in, in, k * in}};
    expect<From, To>(bench, work);
    for (const bool tiled : {true, false}) {
      const Launch launch = choose(work, {.smallest_plane = tiled ? 1 : std::numeric_limits<std::uint64_t>::max()});
      const bool general = launch.kind == KernelKind::general;
      experiment.variant(
          "4 x " + std::to_string(k) + (tiled ? ", tiled" : ", one by one") +
              (tiled && general ? " by the general kernel" : ""),
          [&] { run_chosen(launch); }, work.destination);
    }
  }
}

}  // namespace

void run_tiles(Bench& bench) {
  sides<UInt8, UInt8>(bench, "tiles: 1 byte");
  sides<Bytes2, Bytes2>(bench, "tiles: 2 bytes");
  sides<Bytes4, Bytes4>(bench, "tiles: 4 bytes");
  sides<Bytes8, Bytes8>(bench, "tiles: 8 bytes");
  sides<Bytes8, Bytes8>(bench, "tiles: 16 bytes", 2);
  sides<Float32, BFloat16>(bench, "tiles: float32 -> bfloat16");
  sides<BFloat16, Float32>(bench, "tiles: bfloat16 -> float32");
  sides<Float64, Float32>(bench, "tiles: complex128 -> complex64", 2);
  for (const std::int64_t columns : {4, 8, 16}) short_axis(bench, columns);

  elements<UInt8, UInt8>(bench, "transposed: 1 byte");
  elements<Bytes2, Bytes2>(bench, "transposed: 2 bytes");
  elements<Bytes4, Bytes4>(bench, "transposed: 4 bytes");
  elements<Bytes8, Bytes8>(bench, "transposed: 8 bytes");
  elements<Float32, BFloat16>(bench, "transposed: float32 -> bfloat16");
  elements<BFloat16, Float32>(bench, "transposed: bfloat16 -> float32");

  planes<Bytes2, Bytes2>(bench, "planes: 2 bytes");
  planes<Bytes4, Bytes4>(bench, "planes: 4 bytes");
  planes<Int32, Float16>(bench, "planes: int32 -> float16");
}

}  // namespace experiments
