#include "simulated_kernels.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "../../kernels/dispatch.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

void add(Tally& total, const Sums& sums) noexcept {
  total.nan += sums.nan;
  total.overflow += sums.overflow;
  total.underflow += sums.underflow;
  total.inexact += sums.inexact;
  total.losses += sums.losses;
  total.first_loss = std::min(total.first_loss, sums.first_loss);
}

// The same steps as run_block() of grid.h. Shared memory is a block of the heap, exact in size and with nothing in it, so
// that what is beyond it, or read before it is written, shows.
template <class Body>
void run_blocks(const Launch& launch) {
  const Job& job = launch.job;
  for (std::uint64_t block = 0; block < launch.blocks; ++block) {
    std::vector<unsigned char> shared(launch.shared_bytes, 0xA5);
    std::vector<typename Body::Registers> registers(tuning::threads);
    const auto each = [&](auto phase) {
      for (unsigned thread = 0; thread < tuning::threads; ++thread) phase(Thread{thread, tuning::threads});
    };
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

}  // namespace

void run_conversion(const Conversion& work) {
  const auto launch = std::make_unique<Launch>(choose(work));  // too large for the stack of every thread
  if (launch->kind == KernelKind::copy) return run_blocks<CopyVectors>(*launch);
  if (launch->kind == KernelKind::general) {
    return use_general(*launch, [&](auto body) { run_blocks<decltype(body)>(*launch); });
  }
  use_fused(launch->from, launch->to, [&](auto body) { run_blocks<decltype(body)>(*launch); });
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
