// Kernels on the simulated device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../../kernels/dispatch.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// What a device would do: the kernel that is chosen for it, block by block, and in each block phase by phase, one
// thread after the other. Addresses are those that the host can use.
void run_conversion(const Conversion& work);

// The same of a choice that was made before.
void run_launch(const Launch& launch);

inline void add(Tally& total, const Sums& sums) noexcept {
  total.nan += sums.nan;
  total.overflow += sums.overflow;
  total.underflow += sums.underflow;
  total.inexact += sums.inexact;
  total.losses += sums.losses;
  total.first_loss = std::min(total.first_loss, sums.first_loss);
}

// A launch by a body of the caller's choice, in the steps of run_block() of grid.h. Shared memory is a block of the
// heap, exact in size and with nothing in it, so that what is beyond it, or read before it is written, shows.
template <class Body>
void run_blocks(const Launch& launch) {
  const Job& job = launch.job;
  for (std::uint64_t block = 0; block < launch.blocks; ++block) {
    std::vector<unsigned char> shared(launch.shared_bytes, 0xA5);
    std::vector<typename Body::Registers> registers(Body::threads);
    const auto each = [&](auto phase) {
      for (unsigned thread = 0; thread < Body::threads; ++thread) phase(Thread{thread, Body::threads});
    };
    if constexpr (Body::prepares) {
      each([&](const Thread& thread) { Body::prepare(job, thread, shared.data()); });
    }
    for (std::uint64_t step = block; step < job.steps; step += launch.blocks) {
      if (Body::has_tiles && job.walk == Walk::tiled) {
        each([&](const Thread& thread) { Body::load(job, thread, step, shared.data()); });
      }
      each([&](const Thread& thread) { Body::convert(job, thread, step, shared.data(), registers[thread.index]); });
    }
    if constexpr (Body::counts) {
      for (const typename Body::Registers& thread : registers) add(*job.tally, thread.sums);
    }
  }
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
