// A body as a kernel, and its launch. Included by the sources of the kernels alone.
#pragma once

#include "launch.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

template <class Body>
__global__ void __launch_bounds__(Body::threads) run_kernel(const __grid_constant__ Job job) {
  extern __shared__ __align__(16) unsigned char shared[];
  run_block<Body>(job, shared);
}

// Launched by call and not by <<<>>>: what that returns is about this launch, while cudaGetLastError() may tell of what
// other code left behind.
template <class Body>
cudaError_t launch_body(const Launch& launch, cudaStream_t stream) noexcept {
  Job job = launch.job;
  void* arguments[] = {&job};
  return cudaLaunchKernel(run_kernel<Body>, dim3(launch.blocks), dim3(Body::threads), arguments, launch.shared_bytes,
                          stream);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
