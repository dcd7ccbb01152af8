#include "bench.cuh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace experiments {
namespace {

__global__ void fill(std::uint32_t* words, std::uint64_t count) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    words[i] = convert::philox(i, 1).word[0];
  }
}

__global__ void count_wrong(const std::uint32_t* found, const std::uint32_t* expected, std::uint64_t count,
                            unsigned long long* wrong) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    if (found[i] != expected[i]) atomicAdd(wrong, 1ULL);
  }
}

}  // namespace

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  const bool cannot_run = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ||
                          error == cudaErrorUnsupportedPtxVersion || error == cudaErrorNoKernelImageForDevice;
  std::exit(cannot_run ? 77 : 1);
}

Bench::Bench(std::vector<std::string> wanted) : words(std::move(wanted)) {
  REQUIRE(cudaMalloc(&source, wide_bytes + 256));
  REQUIRE(cudaMalloc(&destination, wide_bytes + 256));
  REQUIRE(cudaMalloc(&expected, wide_bytes + 256));
  REQUIRE(cudaMalloc(&wrong, sizeof(unsigned long long)));
  REQUIRE(cudaMalloc(&tally, sizeof(Tally)));
  REQUIRE(cudaMalloc(&expected_tally, sizeof(Tally)));
  REQUIRE(cudaHostAlloc(&pinned, host_bytes, cudaHostAllocDefault));
  fill<<<1024, 256>>>(reinterpret_cast<std::uint32_t*>(source), (wide_bytes + 256) / 4);
  REQUIRE(cudaGetLastError());  // of the first launch: an older driver may not know this PTX
  REQUIRE(cudaDeviceSynchronize());
}

bool Bench::wants(const std::string& experiment) const {
  return words.empty() || std::any_of(words.begin(), words.end(), [&](const std::string& word) {
           return experiment.find(word) != std::string::npos;
         });
}

bool counts_as_expected(const Bench& bench, const std::function<void()>& call) {
  Tally found;
  Tally expected;
  REQUIRE(cudaMemcpy(bench.tally, &found, sizeof(found), cudaMemcpyHostToDevice));
  call();
  REQUIRE(cudaMemcpy(&found, bench.tally, sizeof(found), cudaMemcpyDeviceToHost));
  REQUIRE(cudaMemcpy(&expected, bench.expected_tally, sizeof(expected), cudaMemcpyDeviceToHost));
  return std::memcmp(&found, &expected, sizeof(found)) == 0;
}

double median(const std::function<void()>& call) {
  constexpr int samples = 20;
  constexpr int calls = 4;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  REQUIRE(cudaEventCreate(&begin));
  REQUIRE(cudaEventCreate(&end));
  call();
  std::vector<float> times;
  for (int sample = 0; sample < samples; ++sample) {
    REQUIRE(cudaEventRecord(begin));
    for (int i = 0; i < calls; ++i) call();
    REQUIRE(cudaEventRecord(end));
    REQUIRE(cudaEventSynchronize(end));
    float milliseconds = 0;
    REQUIRE(cudaEventElapsedTime(&milliseconds, begin, end));
    times.push_back(milliseconds / calls / 1000);
  }
  REQUIRE(cudaEventDestroy(begin));
  REQUIRE(cudaEventDestroy(end));
  std::nth_element(times.begin(), times.begin() + samples / 2, times.end());
  return times[samples / 2];
}

Experiment::Experiment(Bench& bench, std::string name, std::size_t bytes, std::size_t bytes_out,
                       const std::function<void()>& copy)
    : bench_(bench), name_(std::move(name)), bytes_(bytes), bytes_out_(bytes_out), floor_(median(copy)) {
  print("copy", floor_, "");
}

Experiment::Experiment(Bench& bench, std::string name, std::size_t bytes_in, std::size_t bytes_out)
    : Experiment(bench, std::move(name), bytes_in + bytes_out, bytes_out, [&] {
        REQUIRE(cudaMemcpyAsync(bench.destination, bench.source, (bytes_in + bytes_out) / 2, cudaMemcpyDeviceToDevice,
                                nullptr));
      }) {}

Experiment Experiment::over_wire(Bench& bench, std::string name, bool reads, std::size_t bytes, std::size_t bytes_out) {
  return {bench, std::move(name), bytes, bytes_out, [&] {
            if (reads) {
              REQUIRE(cudaMemcpyAsync(bench.destination, bench.pinned, bytes, cudaMemcpyHostToDevice, nullptr));
            } else {
              REQUIRE(cudaMemcpyAsync(bench.pinned, bench.source, bytes, cudaMemcpyDeviceToHost, nullptr));
            }
          }};
}

void Experiment::variant(const std::string& what, const std::function<void()>& call, void* into,
                         const std::function<bool()>& check) const {
  REQUIRE(cudaMemset(into, 0x5A, bytes_out_));
  REQUIRE(cudaMemset(bench_.wrong, 0, sizeof(unsigned long long)));
  const double seconds = median(call);
  count_wrong<<<1024, 256>>>(static_cast<const std::uint32_t*>(into),
                             reinterpret_cast<const std::uint32_t*>(bench_.expected), bytes_out_ / 4, bench_.wrong);
  unsigned long long wrong = 0;
  REQUIRE(cudaMemcpy(&wrong, bench_.wrong, sizeof(wrong), cudaMemcpyDeviceToHost));
  const char* remark = wrong == 0 ? "" : "WRONG";
  if (check && !check()) remark = "WRONG counts";
  if (*remark != '\0') bench_.all_right = false;
  print(what, seconds, remark);
}

void Experiment::print(const std::string& what, double seconds, const char* remark) const {
  std::printf("%-40s %-52s %9.1f us %8.1f GB/s %6.3f %s\n", name_.c_str(), what.c_str(), seconds * 1e6,
              static_cast<double>(bytes_) / seconds / 1e9, floor_ / seconds, remark);
  std::fflush(stdout);
}

void set_affine(Affine& affine, std::uint64_t count, std::uint64_t inner) {
  affine.count = count;
  affine.inner = inner;
  for (std::uint64_t i = 0; i < count; ++i) {
    affine.scales[i] = static_cast<float>(1 / (255 * (0.224 + 0.001 * static_cast<double>(i))));
    affine.shifts[i] = static_cast<float>(-2.1 + 0.1 * static_cast<double>(i));
  }
}

}  // namespace experiments
