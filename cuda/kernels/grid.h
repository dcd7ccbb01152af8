// How the bodies of kernels run: by the threads of a block on a device, and one after the other on the host, where the
// simulated device runs them. A body is written as phases; between two of them all threads of a block have met (a
// barrier on a device, the end of a loop on the host), and what one wrote to shared memory the others see.
//
//   struct Body {
//     struct Registers {...};                                   // a thread's own, kept between phases
//     static void prepare(job, thread, shared);  // before all steps, of bodies that prepare
//     static void load(job, thread, step, shared);              // first phase of a step; only of jobs that are tiled
//     static void convert(job, thread, step, shared, registers);  // second phase
//   };
//
// Around the steps of a block its counts are gathered: each thread has its own, the block adds them up in shared
// memory, and one thread adds those to the launch's `Tally`.
#pragma once

#include <cstdint>

#include "job.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

struct Thread {
  unsigned index;
  unsigned count;  // of the block
};

// What a thread counted. 32 bits are enough: no memory holds 2^32 elements for each of a launch's threads.
struct Sums {
  std::uint32_t nan = 0;
  std::uint32_t overflow = 0;
  std::uint32_t underflow = 0;
  std::uint32_t inexact = 0;
  std::uint32_t losses = 0;
  std::uint64_t first_loss = Tally::none;

  HALFWAY_HD void add(convert::Flags flags, convert::Flags watched, std::uint64_t number) noexcept {
    nan += (flags & convert::saw_nan) != 0 ? 1 : 0;
    overflow += (flags & convert::overflow) != 0 ? 1 : 0;
    underflow += (flags & convert::underflow) != 0 ? 1 : 0;
    inexact += (flags & convert::inexact) != 0 ? 1 : 0;
    if ((flags & watched) == 0) return;
    ++losses;
    if (number < first_loss) first_loss = number;
  }
};

#if defined(__CUDACC__)

// Adds a warp's sums to `total`, by one of its threads. Requires: all 32 threads are here.
__device__ inline void add_warp(std::uint64_t& total, std::uint32_t mine) {
  // In halves, since the sum of 32 of them may have 37 bits.
  const std::uint64_t low = __reduce_add_sync(0xFFFFFFFFU, mine & 0xFFFF);
  const std::uint64_t high = __reduce_add_sync(0xFFFFFFFFU, mine >> 16);
  const std::uint64_t sum = low + (high << 16);
  if (threadIdx.x % 32 == 0 && sum != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(&total), static_cast<unsigned long long>(sum));
  }
}

__device__ inline void add_sums(Tally& total, const Sums& sums) {
  add_warp(total.nan, sums.nan);
  add_warp(total.overflow, sums.overflow);
  add_warp(total.underflow, sums.underflow);
  add_warp(total.inexact, sums.inexact);
  add_warp(total.losses, sums.losses);
  if (sums.first_loss != Tally::none) {
    atomicMin(reinterpret_cast<unsigned long long*>(&total.first_loss),
              static_cast<unsigned long long>(sums.first_loss));
  }
}

__device__ inline void add_block(Tally& total, const Tally& block) {
  const auto add = [](std::uint64_t& to, std::uint64_t value) {
    if (value != 0) atomicAdd(reinterpret_cast<unsigned long long*>(&to), static_cast<unsigned long long>(value));
  };
  add(total.nan, block.nan);
  add(total.overflow, block.overflow);
  add(total.underflow, block.underflow);
  add(total.inexact, block.inexact);
  add(total.losses, block.losses);
  if (block.first_loss != Tally::none) {
    atomicMin(reinterpret_cast<unsigned long long*>(&total.first_loss),
              static_cast<unsigned long long>(block.first_loss));
  }
}

// A block on a device.
template <class Body>
__device__ inline void run_block(const Job& job, unsigned char* shared) {
  const Thread thread{threadIdx.x, blockDim.x};
  typename Body::Registers registers;
  if constexpr (Body::prepares) {
    Body::prepare(job, thread, shared);
    __syncthreads();
  }
  for (std::uint64_t step = blockIdx.x; step < job.steps; step += gridDim.x) {
    if (Body::has_tiles && job.walk == Walk::tiled) {
      Body::load(job, thread, step, shared);
      __syncthreads();
    }
    Body::convert(job, thread, step, shared, registers);
    if (Body::has_tiles && job.walk == Walk::tiled) __syncthreads();
  }
  if constexpr (Body::counts) {
    __shared__ Tally block;
    if (threadIdx.x == 0) block = Tally{};
    __syncthreads();
    add_sums(block, registers.sums);
    __syncthreads();
    if (threadIdx.x == 0) add_block(*job.tally, block);
  }
}

#endif

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
