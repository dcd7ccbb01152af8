// The host's side of the kernels: compiled by nvcc, called by the CUDA backend.
#pragma once

#include <cuda_runtime_api.h>

#include "dispatch.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Enqueue what was chosen on a stream of the current device: each the kernels of its source.
[[nodiscard]] cudaError_t launch_fused(const Launch& launch, cudaStream_t stream) noexcept;
[[nodiscard]] cudaError_t launch_channels(const Launch& launch, cudaStream_t stream) noexcept;
[[nodiscard]] cudaError_t launch_transpose(const Launch& launch, cudaStream_t stream) noexcept;
[[nodiscard]] cudaError_t launch_general(const Launch& launch, cudaStream_t stream) noexcept;

[[nodiscard]] inline cudaError_t launch(const Conversion& work, cudaStream_t stream) noexcept {
  const Launch chosen = choose(work);
  if (chosen.blocks == 0) return cudaSuccess;
  switch (chosen.kind) {
    case KernelKind::general:
      return launch_general(chosen, stream);
    case KernelKind::transpose:
      return launch_transpose(chosen, stream);
    case KernelKind::channels:
      return launch_channels(chosen, stream);
    default:
      return launch_fused(chosen, stream);
  }
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
