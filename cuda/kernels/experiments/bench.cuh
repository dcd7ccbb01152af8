// What the experiments share: memory, the results that are expected of them, timing, and a line for each variant.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "../kernel.cuh"

namespace experiments {

using namespace halfway;
using namespace halfway::cuda::detail;
namespace tuning = halfway::cuda::detail::tuning;
using halfway::detail::Places;

void require(cudaError_t error, const char* what);
#define REQUIRE(...) ::experiments::require(__VA_ARGS__, #__VA_ARGS__)

constexpr std::size_t wide_bytes = std::size_t{256} << 20;  // of the wider side: beyond any cache
constexpr std::size_t host_bytes = std::size_t{64} << 20;

// The memory that they work in, whatever they are about, and which of them are wanted.
struct Bench {
  // Allocates it, and fills the source.
  explicit Bench(std::vector<std::string> wanted);

  // Whether an experiment's name has one of the words; all have where there is none.
  [[nodiscard]] bool wants(const std::string& experiment) const;

  std::vector<std::string> words;
  bool all_right = true;
  unsigned char* source = nullptr;
  unsigned char* destination = nullptr;
  unsigned char* expected = nullptr;
  unsigned char* pinned = nullptr;  // `host_bytes` of the host's memory
  unsigned long long* wrong = nullptr;
  Tally* tally = nullptr;
  Tally* expected_tally = nullptr;
};

// --- what is expected

template <class From, class To>
__device__ convert::Encoded<typename To::Bits> refer_one(const Conversion& work, std::uint64_t i,
                                                         typename From::Bits bits) {
  using Number = decltype(From::decode_number(bits));
  if constexpr (std::is_same_v<Number, float> && convert::is_float<To>) {
    float value = From::decode_number(bits);
    if (work.affine.count != 0) {
      const std::uint64_t index = i / work.affine.inner % work.affine.count;
      value = convert::multiply_add(value, static_cast<float>(work.affine.scales[index]),
                                    static_cast<float>(work.affine.shifts[index]));
      return To::encode(value, false);
    }
    if (work.stochastic) {
      constexpr std::uint64_t lanes = convert::lanes_of_counter;
      const std::uint32_t lane = convert::lane_of(convert::philox(i / lanes, work.seed), i % lanes);
      return convert::encode_stochastic<To>(value, lane, false);
    }
  }
  return convert::convert<To, From>(bits, false);
}

// Element by element, into dense ones; and what is lost, counted.
template <class From, class To>
__global__ void refer(const __grid_constant__ Conversion work, typename To::Bits* expected, Tally* tally) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  unsigned long long nan = 0;
  unsigned long long overflow = 0;
  unsigned long long underflow = 0;
  unsigned long long inexact = 0;
  unsigned long long losses = 0;
  unsigned long long first_loss = Tally::none;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < work.count; i += stride) {
    const unsigned char* const place = static_cast<const unsigned char*>(work.source) + work.source_places.offset(i);
    convert::Flags flags = 0;
    for (std::uint32_t scalar = 0; scalar < work.from_scalars; ++scalar) {
      const auto one = refer_one<From, To>(work, i, reinterpret_cast<const typename From::Bits*>(place)[scalar]);
      expected[i * work.from_scalars + scalar] = one.bits;
      flags |= one.flags;
    }
    nan += (flags & convert::saw_nan) != 0 ? 1 : 0;
    overflow += (flags & convert::overflow) != 0 ? 1 : 0;
    underflow += (flags & convert::underflow) != 0 ? 1 : 0;
    inexact += (flags & convert::inexact) != 0 ? 1 : 0;
    if ((flags & work.watched) == 0) continue;
    ++losses;
    if (i < first_loss) first_loss = i;
  }
  if (work.tally == nullptr) return;
  const auto number = [](std::uint64_t& of) { return reinterpret_cast<unsigned long long*>(&of); };
  atomicAdd(number(tally->nan), nan);
  atomicAdd(number(tally->overflow), overflow);
  atomicAdd(number(tally->underflow), underflow);
  atomicAdd(number(tally->inexact), inexact);
  atomicAdd(number(tally->losses), losses);
  atomicMin(number(tally->first_loss), first_loss);
}

// Makes `work`'s result the one that is expected, and its counts if it has a tally.
template <class From, class To>
void expect(const Bench& bench, const Conversion& work) {
  const Tally none;
  REQUIRE(cudaMemcpy(bench.expected_tally, &none, sizeof(none), cudaMemcpyHostToDevice));
  refer<From, To><<<1024, 256>>>(work, reinterpret_cast<typename To::Bits*>(bench.expected), bench.expected_tally);
  REQUIRE(cudaGetLastError());
}

// Whether one more call counts what is expected, into `bench.tally`.
[[nodiscard]] bool counts_as_expected(const Bench& bench, const std::function<void()>& call);

// --- measuring

// Seconds of one call.
[[nodiscard]] double median(const std::function<void()>& call);

// An experiment, and what all of its variants move.
class Experiment {
 public:
  // Within the device's memory, beside a copy of as many bytes.
  Experiment(Bench& bench, std::string name, std::size_t bytes_in, std::size_t bytes_out);

  // Over the wire, beside a copy engine: `bytes` are those of the host's side.
  static Experiment over_wire(Bench& bench, std::string name, bool reads, std::size_t bytes, std::size_t bytes_out);

  // `into`: where the result is. `check`: what else has to hold.
  void variant(const std::string& what, const std::function<void()>& call, void* into,
               const std::function<bool()>& check = {}) const;

 private:
  Experiment(Bench& bench, std::string name, std::size_t bytes, std::size_t bytes_out,
             const std::function<void()>& copy);
  void print(const std::string& what, double seconds, const char* remark) const;

  Bench& bench_;
  std::string name_;
  std::size_t bytes_;
  std::size_t bytes_out_;
  double floor_;
};

// --- launches

template <class Body>
void start(Launch& launch, std::uint64_t blocks) {
  launch.blocks = static_cast<std::uint32_t>(launch.job.steps < blocks ? launch.job.steps : blocks);
  REQUIRE(launch_body<Body>(launch, nullptr));
}

template <class Cut>
std::string words_of() {
  return std::to_string(Cut::threads) + " threads, vectors of " + std::to_string(Cut::vector) + ", " +
         std::to_string(Cut::bytes) + " bytes ahead";
}

// Dense on both sides, of `scalars` each.
template <class From, class To>
Conversion conversion(std::uint64_t count, const void* source, void* destination, std::uint32_t scalars = 1) {
  Conversion work;
  work.source = source;
  work.destination = destination;
  work.from = From::dtype;
  work.to = To::dtype;
  work.count = count;
  work.from_scalars = work.to_scalars = scalars;
  work.source_places = Places::dense(static_cast<std::int64_t>(sizeof(typename From::Bits) * scalars));
  work.destination_places = Places::dense(static_cast<std::int64_t>(sizeof(typename To::Bits) * scalars));
  return work;
}

void set_affine(Affine& affine, std::uint64_t count, std::uint64_t inner);

// --- by subject

void run_dense(Bench& bench);
void run_mapped(Bench& bench);
void run_general(Bench& bench);
void run_tiles(Bench& bench);

}  // namespace experiments
