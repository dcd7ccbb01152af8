// Threads, vectors and bytes ahead of the kernels of pairs, and the blocks of a launch: elements that are dense,
// scaled, or interleaved as channels.
#include <algorithm>

#include "bench.cuh"

namespace experiments {
namespace {

// --- dense pairs

template <class From, class To, bool scaled, class Cut>
void dense_variant(const Experiment& experiment, const Conversion& work, std::uint64_t blocks,
                   const std::string& remark = {}) {
  using Body = Fused<From, To, scaled, Cut>;
  Launch launch = choose(work);
  launch.job.steps = steps_of<Body>(work.count, 0);
  experiment.variant(
      words_of<Cut>() + remark, [&] { start<Body>(launch, blocks); }, work.destination);
}

template <class From, class To, bool scaled>
void dense(Bench& bench, const char* name) {
  if (!bench.wants(name)) return;
  constexpr std::size_t in = sizeof(typename From::Bits);
  constexpr std::size_t out = sizeof(typename To::Bits);
  const std::uint64_t count = wide_bytes / std::max(in, out);
  Conversion work = conversion<From, To>(count, bench.source, bench.destination);
  if (scaled) set_affine(work.affine, 3, 1);
  expect<From, To>(bench, work);
  const Experiment experiment(bench, name, count * in, count * out);
  dense_variant<From, To, scaled, tuning::Cut<256, 16, 16>>(experiment, work, tuning::most_blocks);
  dense_variant<From, To, scaled, tuning::Cut<256, 16, 32>>(experiment, work, tuning::most_blocks);
  dense_variant<From, To, scaled, tuning::Cut<256, 16, 64>>(experiment, work, tuning::most_blocks);
  dense_variant<From, To, scaled, tuning::Cut<256, 16, 128>>(experiment, work, tuning::most_blocks);
  if constexpr (!scaled) {
    dense_variant<From, To, scaled, tuning::Cut<128, 16, 32>>(experiment, work, tuning::most_blocks);
    dense_variant<From, To, scaled, tuning::Cut<512, 16, 32>>(experiment, work, tuning::most_blocks);
  }
  if constexpr (out < 8)
    dense_variant<From, To, scaled, tuning::Cut<256, 8, 32>>(experiment, work, tuning::most_blocks);
  // Several stores in a row by a thread.
  dense_variant<From, To, scaled, tuning::Cut<256, 32, 32>>(experiment, work, tuning::most_blocks);
  for (const std::uint64_t blocks : {4, 8, 16, 32, 64, 1 << 20}) {
    dense_variant<From, To, scaled, FusedCut<From, To>>(experiment, work, blocks * 132,
                                                        ", " + std::to_string(blocks) + " x 132 blocks");
  }
}

// --- channels

template <class From, class To, int channels, class Cut>
void channels_variant(const Experiment& experiment, const Conversion& work, std::uint64_t blocks,
                      const std::string& remark = {}) {
  using Body = Deinterleave<From, To, channels, Cut>;
  Launch launch = choose(work);
  Job& job = launch.job;
  job.tiles.tile[1] = Body::pixels;
  job.tiles.tiles[1] = job.tiles.plane[1] / Body::pixels;
  job.groups = work.count / channels / Body::pixels;
  job.groups_of_row = Divisor(static_cast<std::uint32_t>(job.tiles.tiles[1]));
  const std::uint64_t some = Body::groups_of_block(true);
  job.steps = (job.groups + some - 1) / some;
  experiment.variant(
      words_of<Cut>() + remark, [&] { start<Body>(launch, blocks); }, work.destination);
}

template <class From, class To, int channels>
void images(Bench& bench, const char* name, bool scaled, std::int64_t pixels) {
  if (!bench.wants(name)) return;
  constexpr std::size_t in = sizeof(typename From::Bits);
  constexpr std::size_t out = sizeof(typename To::Bits);
  const auto image = static_cast<std::uint64_t>(channels * pixels);
  const std::uint64_t count = wide_bytes / out / image * image;
  Conversion work = conversion<From, To>(count, bench.source, bench.destination);
  work.source_places = Places{.axes = 3,
                              .dims = {static_cast<std::int64_t>(count / image), channels, pixels},
                              .strides = {channels * pixels, 1, channels}};
  if (scaled) set_affine(work.affine, channels, static_cast<std::uint64_t>(pixels));
  expect<From, To>(bench, work);
  const Experiment experiment(bench, name, count * in, count * out);
  channels_variant<From, To, channels, tuning::Cut<256, 16, 16>>(experiment, work, tuning::most_blocks);
  channels_variant<From, To, channels, tuning::Cut<256, 16, 48>>(experiment, work, tuning::most_blocks);
  channels_variant<From, To, channels, tuning::Cut<256, 16, 96>>(experiment, work, tuning::most_blocks);
  channels_variant<From, To, channels, tuning::Cut<128, 16, 48>>(experiment, work, tuning::most_blocks);
  channels_variant<From, To, channels, tuning::Cut<512, 16, 48>>(experiment, work, tuning::most_blocks);
  channels_variant<From, To, channels, tuning::Cut<256, 8, 48>>(experiment, work, tuning::most_blocks);
  for (const std::uint64_t blocks : {4, 8, 16, 32, 64, 1 << 20}) {
    channels_variant<From, To, channels, tuning::Channels>(experiment, work, blocks * 132,
                                                           ", " + std::to_string(blocks) + " x 132 blocks");
  }
  // As they are chosen, in the middle of memory that is not aligned: one pixel at a time.
  Conversion shifted = work;
  shifted.source = bench.source + 1;
  shifted.count = count - image;
  shifted.source_places.dims[0] -= 1;
  const Launch launch = choose(shifted);
  expect<From, To>(bench, shifted);
  const Experiment other(bench, std::string(name) + ", misaligned", shifted.count * in, shifted.count * out);
  other.variant(
      "as chosen", [&] { REQUIRE(launch_body<Deinterleave<From, To, channels>>(launch, nullptr)); }, work.destination);
}

}  // namespace

void run_dense(Bench& bench) {
  constexpr std::int64_t imagenet = std::int64_t{224} * 224;
  images<UInt8, BFloat16, 3>(bench, "channels: uint8 -> bfloat16, 3", false, imagenet);
  images<UInt8, BFloat16, 3>(bench, "channels: uint8 -> bfloat16, 3, scaled", true, imagenet);
  images<UInt8, Float32, 3>(bench, "channels: uint8 -> float32, 3, scaled", true, imagenet);
  dense<UInt8, BFloat16, true>(bench, "scaled: uint8 -> bfloat16");
  dense<UInt8, Float32, true>(bench, "scaled: uint8 -> float32");
  dense<Float32, BFloat16, true>(bench, "scaled: float32 -> bfloat16");
  dense<UInt8, Float32, false>(bench, "dense: uint8 -> float32");
  dense<BFloat16, Float32, false>(bench, "dense: bfloat16 -> float32");
  dense<Float16, Float32, false>(bench, "dense: float16 -> float32");
  dense<UInt8, BFloat16, false>(bench, "dense: uint8 -> bfloat16");
  dense<Float32, BFloat16, false>(bench, "dense: float32 -> bfloat16");
  dense<Int64, BFloat16, false>(bench, "dense: int64 -> bfloat16");
  dense<Float16, BFloat16, false>(bench, "dense: float16 -> bfloat16");
}

}  // namespace experiments
