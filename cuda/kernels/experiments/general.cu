// The general kernel: the elements of a group, and the blocks of a launch that counts.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "bench.cuh"

namespace experiments {
namespace {

[[nodiscard]] Launch choose_general(const Conversion& work, const tuning::Numbers& numbers) {
  const Launch launch = choose(work, numbers);
  if (launch.kind == KernelKind::general) return launch;
  std::fputs("this experiment is about the general kernel, and another one is chosen\n", stderr);
  std::exit(1);
}

// --- groups

template <class W, bool counting, int group>
void group_variant(const Bench& bench, const Experiment& experiment, const Conversion& work) {
  const Launch launch = choose_general(work, {.group = group});
  const auto call = [&] {
    if constexpr (group == tuning::group) {
      REQUIRE(launch_general(launch, nullptr));
    } else {
      REQUIRE(launch_body<General<W, counting, group>>(launch, nullptr));
    }
  };
  const auto check = [&] { return !counting || counts_as_expected(bench, call); };
  experiment.variant("groups of " + std::to_string(group), call, work.destination, check);
}

// `W`: the wide type of the pair, see elements.h.
template <class W, class From, class To, bool counting = false>
void groups(Bench& bench, const char* name, const Conversion& work) {
  if (!bench.wants(name)) return;
  expect<From, To>(bench, work);
  const Experiment experiment(bench, name, work.count * work.source_size(), work.count * work.destination_size());
  group_variant<W, counting, 2>(bench, experiment, work);
  group_variant<W, counting, 4>(bench, experiment, work);
  group_variant<W, counting, 8>(bench, experiment, work);
}

template <class From, class To>
Conversion row_major(const Bench& bench) {
  constexpr std::size_t widest = std::max(sizeof(typename From::Bits), sizeof(typename To::Bits));
  return conversion<From, To>(wide_bytes / widest, bench.source, bench.destination);
}

void run_groups(Bench& bench) {
  groups<float, Int32, Float16>(bench, "group: int32 -> float16", row_major<Int32, Float16>(bench));
  using Int8 = convert::Integer<std::int8_t>;
  groups<std::int64_t, Int8, Int64>(bench, "group: int8 -> int64", row_major<Int8, Int64>(bench));

  Conversion work = row_major<Float32, BFloat16>(bench);
  work.stochastic = true;
  work.seed = 11;
  groups<float, Float32, BFloat16>(bench, "group: float32 -> bfloat16, by chance", work);

  work = row_major<Float32, BFloat16>(bench);
  work.tally = bench.tally;
  work.watched = convert::overflow;
  groups<float, Float32, BFloat16, true>(bench, "group: float32 -> bfloat16, counting", work);

  work = row_major<Float32, BFloat16>(bench);
  work.count /= 2;
  work.source_places.strides[0] = 8;
  groups<float, Float32, BFloat16>(bench, "group: float32 -> bfloat16, every other", work);

  // 1000 columns of a matrix of 1024.
  work = row_major<Float32, BFloat16>(bench);
  const std::uint64_t rows = work.count / 1024;
  work.count = rows * 1000;
  work.source_places = Places{.axes = 2, .dims = {static_cast<std::int64_t>(rows), 1000}, .strides = {4096, 4}};
  groups<float, Float32, BFloat16>(bench, "group: float32 -> bfloat16, of columns", work);

  Conversion turned = row_major<Int32, Float16>(bench);
  turned.source_places = Places{.axes = 2, .dims = {8192, 8192}, .strides = {4, 8192 * 4}};
  groups<float, Int32, Float16>(bench, "group: int32 -> float16, in tiles", turned);
}

// --- counting

template <class From, class To>
void counting(Bench& bench, const char* name) {
  if (!bench.wants(name)) return;
  Conversion work = row_major<From, To>(bench);
  work.tally = bench.tally;
  work.watched = convert::overflow;
  expect<From, To>(bench, work);
  const Experiment experiment(bench, name, work.count * work.source_size(), work.count * work.destination_size());
  for (const std::uint64_t blocks : {2, 4, 8, 16, 32, 64, 0}) {
    const std::uint64_t most = blocks == 0 ? tuning::most_blocks : blocks * 132;
    const Launch launch = choose_general(work, {.most_blocks_counting = most});
    const auto call = [&] { REQUIRE(launch_general(launch, nullptr)); };
    experiment.variant(blocks == 0 ? "a block for each piece" : std::to_string(blocks) + " x 132 blocks", call,
                       work.destination, [&] { return counts_as_expected(bench, call); });
  }
}

}  // namespace

void run_general(Bench& bench) {
  run_groups(bench);
  counting<Float32, BFloat16>(bench, "counting: float32 -> bfloat16");
  counting<Float64, Float32>(bench, "counting: float64 -> float32");
}

}  // namespace experiments
