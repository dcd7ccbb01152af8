// The kernels that transpose.
#include "kernel.cuh"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

cudaError_t launch_transpose(const Launch& launch, cudaStream_t stream) noexcept {
  cudaError_t error = cudaErrorInvalidValue;
  use_transpose(launch, [&](auto body) { error = launch_body<decltype(body)>(launch, stream); });
  return error;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
