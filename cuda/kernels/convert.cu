// The conversions as grid-stride kernels: right for every pair and layout, not tuned for any. Byte copies, which are
// what small transfers are made of, move 16 bytes a thread.
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

__global__ void convert_kernel(const __grid_constant__ Conversion work, bool as_number) {
  const std::uint64_t count = work.count * work.scalars;
  const std::uint64_t stride = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    convert_scalar(work, as_number, i);
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

bool is_dense(const halfway::detail::Places& places, std::uint64_t item_size) noexcept {
  return places.axes == 1 && places.strides[0] == static_cast<std::int64_t>(item_size);
}

// One block of bytes on either side.
bool is_plain_copy(const Conversion& work) noexcept {
  return is_dtype(work.from, work.to) && work.affine.count == 0 && work.source_swapped == work.destination_swapped &&
         is_dense(work.source_places, work.source_size()) && is_dense(work.destination_places, work.destination_size());
}

}  // namespace

// Launched by call and not by <<<>>>: what that returns is about this launch, while cudaGetLastError() may tell of what
// other code left behind.
cudaError_t launch(const Conversion& work, cudaStream_t stream) noexcept {
  if (work.count == 0) return cudaSuccess;
  const std::uint64_t bytes = work.count * work.source_size();
  const auto* const from = static_cast<const char*>(work.source) + work.source_places.offset(0);
  auto* const to = static_cast<char*>(work.destination) + work.destination_places.offset(0);
  if (is_plain_copy(work) && bytes % 16 == 0 && is_aligned(from) && is_aligned(to)) {
    const auto* source = reinterpret_cast<const uint4*>(from);
    auto* destination = reinterpret_cast<uint4*>(to);
    std::uint64_t count = bytes / 16;
    void* arguments[] = {&source, &destination, &count};
    return cudaLaunchKernel(copy_kernel, dim3(blocks_for(count)), dim3(threads_per_block), arguments, 0, stream);
  }
  Conversion conversion = work;
  bool as_number = of_numbers(work);
  void* arguments[] = {&conversion, &as_number};
  const dim3 blocks(blocks_for(work.count * work.scalars));
  return cudaLaunchKernel(convert_kernel, blocks, dim3(threads_per_block), arguments, 0, stream);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
