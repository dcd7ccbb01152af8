// The experiments behind tuning.h: the numbers of which results stand there, and the tiles of the kernels that
// transpose, in several variants, timed on the device that is found, beside a copy of as many bytes. Each variant's
// result is compared with one that a thread an element computes, and a variant that differs is said to. Built on
// demand, by itself:
//
//   cmake --build BUILD --target halfway_kernel_experiments
//   halfway_kernel_experiments [word ...]    # experiments whose names have one of these words; all without
//
// Prints a line for each variant: its experiment, what varies, microseconds (the median of 20 samples of 4 launches),
// GB/s read and written, and the share of the copy's rate. The exit status is 77 where there is no device, 1 where a
// result was wrong.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "kernel.cuh"
#include "tiles.h"

namespace {

using namespace halfway;
using namespace halfway::cuda::detail;
namespace tuning = halfway::cuda::detail::tuning;
using halfway::detail::Places;

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ? 77 : 1);
}
#define REQUIRE(...) require(__VA_ARGS__, #__VA_ARGS__)

// --- memory and its contents

constexpr std::size_t wide_bytes = std::size_t{256} << 20;  // of the wider side: beyond any cache
constexpr std::size_t host_bytes = std::size_t{64} << 20;

struct Buffers {
  unsigned char* source = nullptr;
  unsigned char* destination = nullptr;
  unsigned char* expected = nullptr;
  unsigned char* pinned = nullptr;
  unsigned long long* wrong = nullptr;
};

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

// Element by element. `channels` != 0: from interleaved channels to planes of `pixels` each.
template <class From, class To>
__global__ void refer(const typename From::Bits* source, typename To::Bits* destination, std::uint64_t count,
                      const __grid_constant__ Affine affine, std::uint64_t channels, std::uint64_t pixels) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    std::uint64_t from = i;
    if (channels != 0) {
      const std::uint64_t image = i / (channels * pixels);
      from = image * channels * pixels + i % pixels * channels + i / pixels % channels;
    }
    if (affine.count == 0) {
      destination[i] = convert::convert<To, From>(source[from], false).bits;
    } else if constexpr (std::is_same_v<decltype(From::decode_number(source[0])), float> && convert::is_float<To>) {
      const std::uint64_t index = i / affine.inner % affine.count;
      const float value =
          convert::multiply_add(From::decode_number(source[from]), static_cast<float>(affine.scales[index]),
                                static_cast<float>(affine.shifts[index]));
      destination[i] = To::encode(value, false).bits;
    }
  }
}

// --- measuring

bool all_right = true;
std::vector<std::string> words;

bool is_wanted(const std::string& experiment) {
  return words.empty() || std::any_of(words.begin(), words.end(), [&](const std::string& word) {
           return experiment.find(word) != std::string::npos;
         });
}

// Seconds of one call.
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

// An experiment: its buffers and the bytes that each of its variants reads and writes.
class Experiment {
 public:
  Experiment(std::string name, const Buffers& buffers, std::size_t bytes_in, std::size_t bytes_out)
      : name_(std::move(name)), buffers_(buffers), bytes_(bytes_in + bytes_out), bytes_out_(bytes_out) {
    const std::size_t half = bytes_ / 2;
    floor_ = median([&] {
      REQUIRE(cudaMemcpyAsync(buffers_.destination, buffers_.source, half, cudaMemcpyDeviceToDevice, nullptr));
    });
    print("copy", floor_, "");
  }

  // `into`: where the result is.
  void variant(const std::string& what, const std::function<void()>& call, const void* into) const {
    REQUIRE(cudaMemset(const_cast<void*>(into), 0x5A, bytes_out_));
    REQUIRE(cudaMemset(buffers_.wrong, 0, sizeof(unsigned long long)));
    const double seconds = median(call);
    count_wrong<<<1024, 256>>>(static_cast<const std::uint32_t*>(into),
                               reinterpret_cast<const std::uint32_t*>(buffers_.expected), bytes_out_ / 4,
                               buffers_.wrong);
    unsigned long long wrong = 0;
    REQUIRE(cudaMemcpy(&wrong, buffers_.wrong, sizeof(wrong), cudaMemcpyDeviceToHost));
    if (wrong != 0) all_right = false;
    print(what, seconds, wrong == 0 ? "" : "WRONG");
  }

 private:
  void print(const std::string& what, double seconds, const char* remark) const {
    std::printf("%-36s %-44s %9.1f us %8.1f GB/s %6.3f %s\n", name_.c_str(), what.c_str(), seconds * 1e6,
                static_cast<double>(bytes_) / seconds / 1e9, floor_ / seconds, remark);
    std::fflush(stdout);
  }

  std::string name_;
  const Buffers& buffers_;
  std::size_t bytes_;
  std::size_t bytes_out_;
  double floor_ = 0;
};

template <class Body>
void start(Launch& launch, std::uint64_t blocks) {
  launch.blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(launch.job.steps, blocks));
  REQUIRE(launch_body<Body>(launch, nullptr));
}

template <class Cut>
std::string words_of() {
  return std::to_string(Cut::threads) + " threads, vectors of " + std::to_string(Cut::vector) + ", " +
         std::to_string(Cut::bytes) + " bytes ahead";
}

template <class Element>
Conversion conversion(std::uint64_t count, const void* source, void* destination, DType to, std::size_t to_size) {
  Conversion work;
  work.source = source;
  work.destination = destination;
  work.from = Element::dtype;
  work.to = to;
  work.count = count;
  work.source_places = Places::dense(sizeof(typename Element::Bits));
  work.destination_places = Places::dense(static_cast<std::int64_t>(to_size));
  return work;
}

void set_affine(Affine& affine, std::uint64_t count, std::uint64_t inner) {
  affine.count = count;
  affine.inner = inner;
  for (std::uint64_t i = 0; i < count; ++i) {
    affine.scales[i] = static_cast<float>(1 / (255 * (0.224 + 0.001 * static_cast<double>(i))));
    affine.shifts[i] = static_cast<float>(-2.1 + 0.1 * static_cast<double>(i));
  }
}

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
void dense(const char* name, const Buffers& buffers) {
  if (!is_wanted(name)) return;
  constexpr std::size_t in = sizeof(typename From::Bits);
  constexpr std::size_t out = sizeof(typename To::Bits);
  const std::uint64_t count = wide_bytes / std::max(in, out);
  Conversion work = conversion<From>(count, buffers.source, buffers.destination, To::dtype, out);
  if (scaled) set_affine(work.affine, 3, 1);
  refer<From, To><<<1024, 256>>>(reinterpret_cast<const typename From::Bits*>(buffers.source),
                                 reinterpret_cast<typename To::Bits*>(buffers.expected), count, work.affine, 0, 0);
  const Experiment experiment(name, buffers, count * in, count * out);
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
    dense_variant<From, To, scaled, tuning::Fused>(experiment, work, blocks * 132,
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
void images(const char* name, const Buffers& buffers, bool scaled, std::int64_t pixels) {
  if (!is_wanted(name)) return;
  constexpr std::size_t in = sizeof(typename From::Bits);
  constexpr std::size_t out = sizeof(typename To::Bits);
  const auto image = static_cast<std::uint64_t>(channels * pixels);
  const std::uint64_t count = wide_bytes / out / image * image;
  Conversion work = conversion<From>(count, buffers.source, buffers.destination, To::dtype, out);
  work.source_places = Places{.axes = 3,
                              .dims = {static_cast<std::int64_t>(count / image), channels, pixels},
                              .strides = {channels * pixels, 1, channels}};
  if (scaled) set_affine(work.affine, channels, static_cast<std::uint64_t>(pixels));
  refer<From, To><<<1024, 256>>>(reinterpret_cast<const typename From::Bits*>(buffers.source),
                                 reinterpret_cast<typename To::Bits*>(buffers.expected), count, work.affine, channels,
                                 static_cast<std::uint64_t>(pixels));
  const Experiment experiment(name, buffers, count * in, count * out);
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
  shifted.source = buffers.source + 1;
  shifted.count = count - image;
  shifted.source_places.dims[0] -= 1;
  const Launch launch = choose(shifted);
  refer<From, To><<<1024, 256>>>(reinterpret_cast<const typename From::Bits*>(buffers.source + 1),
                                 reinterpret_cast<typename To::Bits*>(buffers.expected), shifted.count, work.affine,
                                 channels, static_cast<std::uint64_t>(pixels));
  const Experiment other(std::string(name) + ", misaligned", buffers, shifted.count * in, shifted.count * out);
  other.variant(
      "as chosen", [&] { REQUIRE(launch_body<Deinterleave<From, To, channels>>(launch, nullptr)); }, work.destination);
}

// --- memory of the host, mapped

template <class Cut>
void mapped(const char* name, const Buffers& buffers, bool reads) {
  if (!is_wanted(name)) return;
  using From = convert::Float32;
  using To = convert::BFloat16;
  const std::uint64_t count = host_bytes / (reads ? 4 : 2);
  unsigned char* const source = reads ? buffers.pinned : buffers.source;
  unsigned char* const destination = reads ? buffers.destination : buffers.pinned;
  if (reads) REQUIRE(cudaMemcpy(buffers.pinned, buffers.source, host_bytes, cudaMemcpyDeviceToHost));
  const Conversion work = conversion<From>(count, source, destination, To::dtype, 2);
  refer<From, To><<<1024, 256>>>(reinterpret_cast<const std::uint32_t*>(buffers.source),
                                 reinterpret_cast<std::uint16_t*>(buffers.expected), count, work.affine, 0, 0);
  const double engine = median([&] {
    REQUIRE(cudaMemcpyAsync(reads ? buffers.destination : buffers.pinned, reads ? buffers.pinned : buffers.source,
                            host_bytes, reads ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, nullptr));
  });
  std::printf("%-36s copy engine: %.1f GB/s over the wire\n", name, static_cast<double>(host_bytes) / engine / 1e9);
  if (reads) REQUIRE(cudaMemcpy(buffers.pinned, buffers.source, host_bytes, cudaMemcpyDeviceToHost));
  for (const std::uint64_t blocks : {4, 8, 16, 32, 64, 128, 264}) {
    using Body = Fused<From, To, false, Cut>;
    Launch launch = choose(work);
    launch.job.steps = steps_of<Body>(work.count, 0);
    const double seconds = median([&] { start<Body>(launch, blocks); });
    REQUIRE(cudaMemset(buffers.wrong, 0, sizeof(unsigned long long)));
    count_wrong<<<256, 256>>>(reinterpret_cast<const std::uint32_t*>(destination),
                              reinterpret_cast<const std::uint32_t*>(buffers.expected), count / 2, buffers.wrong);
    unsigned long long wrong = 0;
    REQUIRE(cudaMemcpy(&wrong, buffers.wrong, sizeof(wrong), cudaMemcpyDeviceToHost));
    if (wrong != 0) all_right = false;
    std::printf("%-36s %-44s %9.1f us %8.1f GB/s %6.3f %s\n", name,
                (words_of<Cut>() + ", " + std::to_string(blocks) + " blocks").c_str(), seconds * 1e6,
                static_cast<double>(host_bytes) / seconds / 1e9, engine / seconds, wrong == 0 ? "" : "WRONG");
    std::fflush(stdout);
  }
}

// --- tiles: of the kernels that transpose, and of the general one

template <class From, class To>
void transposed(const char* name, const Buffers& buffers) {
  if (!is_wanted(name)) return;
  constexpr std::int64_t in = sizeof(typename From::Bits);
  constexpr std::int64_t out = sizeof(typename To::Bits);
  constexpr std::int64_t side = std::max(in, out) == 8 ? 4096 : 8192;
  const auto count = static_cast<std::uint64_t>(side * side);
  Conversion work = conversion<From>(count, buffers.source, buffers.destination, To::dtype, out);
  work.source_places = Places{.axes = 2, .dims = {side, side}, .strides = {in, side * in}};
  // A matrix is one image of as many channels as it has columns.
  refer<From, To><<<1024, 256>>>(reinterpret_cast<const typename From::Bits*>(buffers.source),
                                 reinterpret_cast<typename To::Bits*>(buffers.expected), count, work.affine, side,
                                 side);
  const Experiment experiment(name, buffers, count * in, count * out);
  for (const bool general : {false, true}) {
    for (const std::uint32_t length : {16U, 32U, 64U, 96U}) {
      Launch launch = choose(work);
      if (general) launch.kind = KernelKind::general;
      Tiles& tiles = launch.job.tiles;
      for (int axis = 0; axis < 2; ++axis) {
        tiles.tile[axis] = length;
        launch.job.tile_rows[axis] = Divisor(length);
      }
      const auto size = static_cast<std::uint32_t>(general ? in : out);
      pad(tiles, size, size, tuning::most_bytes_of_tile);
      if (tiles.tile[1] != length) continue;  // too large
      launch.shared_bytes = tiles.pitch * length;
      launch.job.steps = tiles.tiles[0] * tiles.tiles[1];
      launch.blocks = static_cast<std::uint32_t>(std::min(launch.job.steps, tuning::most_blocks));
      experiment.variant(
          std::to_string(length) + " elements" + (general ? ", general" : ""),
          [&] { REQUIRE(general ? launch_general(launch, nullptr) : launch_transpose(launch, nullptr)); },
          work.destination);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  words.assign(argv + 1, argv + argc);
  int devices = 0;
  require(cudaGetDeviceCount(&devices), "no GPU to run on");
  cudaDeviceProp properties{};
  REQUIRE(cudaGetDeviceProperties(&properties, 0));
  std::printf("%s, %d multiprocessors, compute capability %d.%d\n", properties.name, properties.multiProcessorCount,
              properties.major, properties.minor);

  Buffers buffers;
  REQUIRE(cudaMalloc(&buffers.source, wide_bytes + 256));
  REQUIRE(cudaMalloc(&buffers.destination, wide_bytes + 256));
  REQUIRE(cudaMalloc(&buffers.expected, wide_bytes + 256));
  REQUIRE(cudaMalloc(&buffers.wrong, sizeof(unsigned long long)));
  REQUIRE(cudaHostAlloc(&buffers.pinned, host_bytes, cudaHostAllocDefault));
  fill<<<1024, 256>>>(reinterpret_cast<std::uint32_t*>(buffers.source), (wide_bytes + 256) / 4);
  REQUIRE(cudaDeviceSynchronize());

  using convert::BFloat16;
  using convert::Float16;
  constexpr std::int64_t imagenet = std::int64_t{224} * 224;
  images<UInt8, BFloat16, 3>("channels: uint8 -> bfloat16, 3", buffers, false, imagenet);
  images<UInt8, BFloat16, 3>("channels: uint8 -> bfloat16, 3, scaled", buffers, true, imagenet);
  images<UInt8, Float32, 3>("channels: uint8 -> float32, 3, scaled", buffers, true, imagenet);
  dense<UInt8, BFloat16, true>("scaled: uint8 -> bfloat16", buffers);
  dense<UInt8, Float32, true>("scaled: uint8 -> float32", buffers);
  dense<Float32, BFloat16, true>("scaled: float32 -> bfloat16", buffers);
  dense<UInt8, Float32, false>("dense: uint8 -> float32", buffers);
  dense<BFloat16, Float32, false>("dense: bfloat16 -> float32", buffers);
  dense<Float16, Float32, false>("dense: float16 -> float32", buffers);
  dense<UInt8, BFloat16, false>("dense: uint8 -> bfloat16", buffers);
  dense<Float32, BFloat16, false>("dense: float32 -> bfloat16", buffers);
  dense<Int64, BFloat16, false>("dense: int64 -> bfloat16", buffers);
  dense<Float16, BFloat16, false>("dense: float16 -> bfloat16", buffers);
  mapped<tuning::Cut<256, 16, 32>>("mapped: read", buffers, true);
  mapped<tuning::Cut<256, 16, 64>>("mapped: read", buffers, true);
  mapped<tuning::Cut<256, 16, 128>>("mapped: read", buffers, true);
  mapped<tuning::Cut<256, 16, 32>>("mapped: write", buffers, false);
  transposed<UInt8, UInt8>("tiles: 1 byte", buffers);
  transposed<convert::Integer<std::uint16_t>, convert::Integer<std::uint16_t>>("tiles: 2 bytes", buffers);
  transposed<convert::Integer<std::uint32_t>, convert::Integer<std::uint32_t>>("tiles: 4 bytes", buffers);
  transposed<Int64, Int64>("tiles: 8 bytes", buffers);
  transposed<convert::Float32, BFloat16>("tiles: float32 -> bfloat16", buffers);
  transposed<BFloat16, convert::Float32>("tiles: bfloat16 -> float32", buffers);

  REQUIRE(cudaDeviceSynchronize());
  std::puts(all_right ? "every result was right" : "some results were WRONG");
  return all_right ? 0 : 1;
}
