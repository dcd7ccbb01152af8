// The host's side of the kernels: compiled by nvcc, called by the CUDA backend.
#pragma once

#include <cuda_runtime_api.h>

#include "convert.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Enqueues it on a stream of the current device.
[[nodiscard]] cudaError_t launch(const Conversion& work, cudaStream_t stream) noexcept;

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
