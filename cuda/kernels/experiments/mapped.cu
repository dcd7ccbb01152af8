// Memory of the host, mapped: how many blocks the wire needs, and how they read what is much wider than the result.
#include <initializer_list>

#include "bench.cuh"

namespace experiments {
namespace {

template <class From, class To, class Cut>
void mapped_variants(const Experiment& experiment, const Conversion& work,
                     std::initializer_list<std::uint64_t> blocks) {
  using Body = Fused<From, To, false, Cut>;
  Launch launch = choose(work);
  launch.job.steps = steps_of<Body>(work.count, 0);
  for (const std::uint64_t some : blocks) {
    experiment.variant(
        words_of<Cut>() + ", " + std::to_string(some) + " blocks", [&] { start<Body>(launch, some); },
        work.destination);
  }
}

// The variants of `vary(experiment, work)`, of a launch that reads the host's memory or writes it.
template <class From, class To, class Vary>
void mapped(Bench& bench, const char* name, bool reads, std::size_t bytes, Vary vary) {
  if (!bench.wants(name)) return;
  constexpr std::size_t in = sizeof(typename From::Bits);
  constexpr std::size_t out = sizeof(typename To::Bits);
  const std::uint64_t count = bytes / (reads ? in : out);
  Conversion work = conversion<From, To>(count, bench.source, bench.destination);
  expect<From, To>(bench, work);
  if (reads) {
    work.source = bench.pinned;
    REQUIRE(cudaMemcpy(bench.pinned, bench.source, bytes, cudaMemcpyDeviceToHost));
  } else {
    work.destination = bench.pinned;
  }
  vary(Experiment::over_wire(bench, name, reads, bytes, count * out), work);
}

// A vector of 16 bytes takes several of a source that is much wider: a warp's loads then lie as far apart as what a
// thread takes. A vector of the result that takes 16 bytes of the source leaves no gaps.
template <class From, class To>
void wide(Bench& bench, const char* name, bool reads = true) {
  constexpr std::size_t bytes = std::size_t{16} << 20;  // the most that is read so
  mapped<From, To>(bench, name, reads, bytes, [&](const Experiment& experiment, const Conversion& work) {
    const std::uint64_t shipped = reads ? tuning::most_blocks_reading_host : tuning::most_blocks_writing_host;
    const std::initializer_list<std::uint64_t> blocks = {shipped / 2, shipped, shipped * 2};
    mapped_variants<From, To, tuning::Fused>(experiment, work, blocks);
    mapped_variants<From, To, tuning::Cut<256, 8, 32>>(experiment, work, blocks);
    mapped_variants<From, To, tuning::Cut<256, 8, 64>>(experiment, work, blocks);
    if constexpr (sizeof(typename From::Bits) == 8) {
      mapped_variants<From, To, tuning::Cut<256, 4, 32>>(experiment, work, blocks);
      mapped_variants<From, To, tuning::Cut<256, 4, 64>>(experiment, work, blocks);
    }
  });
}

}  // namespace

void run_mapped(Bench& bench) {
  const std::initializer_list<std::uint64_t> blocks = {4, 8, 16, 32, 64, 128, 264};
  mapped<Float32, BFloat16>(bench, "mapped: read", true, host_bytes, [&](const auto& experiment, const auto& work) {
    mapped_variants<Float32, BFloat16, tuning::Cut<256, 16, 32>>(experiment, work, blocks);
    mapped_variants<Float32, BFloat16, tuning::Cut<256, 16, 64>>(experiment, work, blocks);
    mapped_variants<Float32, BFloat16, tuning::Cut<256, 16, 128>>(experiment, work, blocks);
  });
  mapped<Float32, BFloat16>(bench, "mapped: write", false, host_bytes, [&](const auto& experiment, const auto& work) {
    mapped_variants<Float32, BFloat16, tuning::Cut<256, 16, 32>>(experiment, work, blocks);
  });
  wide<Float64, BFloat16>(bench, "mapped: float64 -> bfloat16, 16 MiB");
  wide<Float64, BFloat16>(bench, "mapped: writes float64 -> bfloat16, 16 MiB", false);
  wide<Int64, Float16>(bench, "mapped: int64 -> float16, 16 MiB");
  wide<Float32, BFloat16>(bench, "mapped: float32 -> bfloat16, 16 MiB");
}

}  // namespace experiments
