// The experiments behind tuning.h: its numbers in several variants, timed on the device that is found, beside a copy of
// as many bytes. Each variant's result is compared with one that a thread an element computes, and a variant that
// differs is said to. Built on demand, by itself:
//
//   cmake --build BUILD --target halfway_kernel_experiments
//   halfway_kernel_experiments [word ...]        # experiments whose names have one of these words; all without
//   halfway_kernel_experiments --list_content    # nothing, of no device: whether it loads here, as tests are asked
//
// Prints a line for each variant: its experiment, what varies, microseconds (the median of 20 samples of 4 launches),
// GB/s read and written (over the wire: of the host's side), and the share of the copy's rate. The exit status is 77
// where there is no device, 1 where a result was wrong.
#include <cstdio>
#include <string_view>

#include "bench.cuh"

int main(int argc, char** argv) {
  using namespace experiments;
  if (argc > 1 && std::string_view(argv[1]) == "--list_content") return 0;
  int devices = 0;
  require(cudaGetDeviceCount(&devices), "no GPU to run on");
  cudaDeviceProp properties{};
  REQUIRE(cudaGetDeviceProperties(&properties, 0));
  std::printf("%s, %d multiprocessors, compute capability %d.%d\n", properties.name, properties.multiProcessorCount,
              properties.major, properties.minor);

  Bench bench({argv + 1, argv + argc});
  run_dense(bench);
  run_mapped(bench);
  run_general(bench);
  run_tiles(bench);

  REQUIRE(cudaDeviceSynchronize());
  std::puts(bench.all_right ? "every result was right" : "some results were WRONG");
  return bench.all_right ? 0 : 1;
}
