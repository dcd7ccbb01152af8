// The conversions as grid-stride kernels: right for every pair, not tuned for any. Byte copies, which are what small
// transfers are made of, move 16 bytes a thread.
#include "launch.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

// Assumed, not measured: 256 threads are a multiple of every scheduler's width and leave 255 registers to each; blocks
// beyond 32 for each of the 132 multiprocessors of an H100 would only wait for one another.
constexpr unsigned threads_per_block = 256;
constexpr std::uint64_t most_blocks = 132 * 32;

__global__ void convert_kernel(Conversion work, bool to_float) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < work.count; i += stride) {
    convert_element(work, to_float, i);
  }
}

__global__ void copy_kernel(const uint4* source, uint4* destination, std::uint64_t count) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    destination[i] = source[i];
  }
}

unsigned blocks_for(std::uint64_t count) noexcept {
  const std::uint64_t wanted = (count + threads_per_block - 1) / threads_per_block;
  return static_cast<unsigned>(wanted < most_blocks ? wanted : most_blocks);
}

bool is_aligned(const void* address) noexcept { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

}  // namespace

// Launched by call and not by <<<>>>: what that returns is about this launch, while cudaGetLastError() may tell of what
// other code left behind.
cudaError_t launch(const Conversion& work, cudaStream_t stream) noexcept {
  if (work.count == 0) return cudaSuccess;
  const std::uint64_t bytes = work.count * (work.from.bits / 8);
  if (is_dtype(work.from, work.to) && bytes % 16 == 0 && is_aligned(work.source) && is_aligned(work.destination)) {
    const auto* source = static_cast<const uint4*>(work.source);
    auto* destination = static_cast<uint4*>(work.destination);
    std::uint64_t count = bytes / 16;
    void* arguments[] = {&source, &destination, &count};
    return cudaLaunchKernel(copy_kernel, dim3(blocks_for(count)), dim3(threads_per_block), arguments, 0, stream);
  }
  Conversion conversion = work;
  bool to_float = is_float(work.to);
  void* arguments[] = {&conversion, &to_float};
  return cudaLaunchKernel(convert_kernel, dim3(blocks_for(work.count)), dim3(threads_per_block), arguments, 0, stream);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
