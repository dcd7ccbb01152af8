// The kernels of the hot pairs and of plain copies.
#include "kernel.cuh"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

cudaError_t launch_fused(const Launch& launch, cudaStream_t stream) noexcept {
  if (launch.kind == KernelKind::copy) return launch_body<CopyVectors>(launch, stream);
  cudaError_t error = cudaErrorInvalidValue;
  use_fused(launch.from, launch.to, [&](auto body) { error = launch_body<decltype(body)>(launch, stream); });
  return error;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
