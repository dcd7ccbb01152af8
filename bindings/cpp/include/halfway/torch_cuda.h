// libtorch and halfway on CUDA devices: transfers and casts between tensors of torch's, on torch's current streams and
// in memory of torch's caching allocator.
//
//   at::Tensor batch = halfway::cuda::to_device(host, {.device = 0, .dtype = halfway::bfloat16, .non_blocking = true});
//   at::Tensor wide = halfway::cuda::cast_on_device(batch, {.dtype = halfway::float32});
//   at::Tensor back = halfway::cuda::to_host(wide);
//
// Link `halfway::cuda`, `halfway::torch` and a libtorch with CUDA (`c10_cuda`). What transfers do, what they wait for
// and what they refuse is said in halfway/cuda/transfer.h; here is what torch adds.
//
// Streams. `options.stream` is torch's business and not looked at: it is the current stream of the device at the time
// of the call (c10::cuda::getCurrentCUDAStream). So results can be used at once in whatever is enqueued on it
// afterwards, and sources are read after what was enqueued on it before. A result that is used on another stream needs
// record_stream(), as torch's own tensors do.
//
// Memory. `options.allocator` is not looked at either: results are tensors like any other of torch's. Sources are kept
// alive as long as the device reads them.
//
// Threads: any. The thread's current device and stream are as before when a call returns.
//
// throws, all of them: what transfer.h and view_of() (torch.h) say; Error(unavailable), with what was looked for, where
// there is no device. Requires-grad is dropped; values that torch has only marked (conj, neg) are made first.
#pragma once

#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "halfway/cuda/transfer.h"
#include "halfway/torch.h"

namespace halfway {
inline namespace v0 {
namespace cuda {

// A copy of a tensor of the CPU's on the device `options.device`, row-major, cast.
[[nodiscard]] at::Tensor to_device(const at::Tensor& source, const TransferOptions& options = {});
// The same of memory that is not torch's: a mapped file, an array. The reference is taken over.
[[nodiscard]] at::Tensor to_torch_device(Tensor source, const TransferOptions& options = {});

// Into a tensor on a device, any layout in which elements share no memory.
// throws: also as mutable_view_of()
void to_device_into(const at::Tensor& source, const at::Tensor& destination, const TransferOptions& options = {});

// A copy of a device's tensor on the CPU, row-major, cast. Returns when it is done.
[[nodiscard]] at::Tensor to_host(const at::Tensor& source, const TransferOptions& options = {});
void to_host_into(const at::Tensor& source, const at::Tensor& destination, const TransferOptions& options = {});

// A copy in the memory of the same device, row-major, cast, in one launch.
[[nodiscard]] at::Tensor cast_on_device(const at::Tensor& source, const TransferOptions& options = {});
void cast_on_device_into(const at::Tensor& source, const at::Tensor& destination, const TransferOptions& options = {});

// --- for calls of transfer.h itself
//
//   halfway::Tensor held = halfway::cuda::to_device(
//       view, {.device = 0, .stream = halfway::cuda::torch_stream(0), .allocator = &halfway::cuda::torch_memory()});

// Torch's current stream of a device, for `TransferOptions::stream`. throws: Error (unavailable; device: none of that
// number)
[[nodiscard]] void* torch_stream(int device);

// Torch's caching allocator, for any stream. One that torch did not make (c10::cuda::getStreamFromExternal) has to
// exist as long as the memory is in use: freed memory is given out again in that stream's order.
// allocate() throws: Error (unavailable; device: none of that number), std::bad_alloc
[[nodiscard]] DeviceAllocator& torch_memory() noexcept;

// --- implementation

namespace detail::torch_cuda {

namespace libtorch = halfway::detail::libtorch;

inline void require_device(int device) {
  const int count = device_count();
  if (count == 0) throw Error(Reason::unavailable, unavailable_because(), "halfway::cast works on the CPU");
  if (device < 0 || device >= count) {
    throw Error(Reason::device,
                "there is no device " + std::to_string(device) + " (there are " + std::to_string(count) + ")");
  }
}

inline void require_on_device(const at::Tensor& tensor, const char* what) {
  libtorch::require_memory(tensor);
  if (!tensor.is_cuda()) {
    throw Error(Reason::device, std::string(what) + " is on the CPU, not on a CUDA device",
                "halfway::cast casts on the CPU, to_device() brings it to a device");
  }
  require_device(tensor.device().index());
}

inline void require_on_host(const at::Tensor& tensor, const char* what) {
  libtorch::require_memory(tensor);
  if (!tensor.is_cpu()) {
    throw Error(Reason::device, std::string(what) + " is on " + tensor.device().str() + ", not on the CPU",
                "cast_on_device() casts on the device, to_host() brings it to the host");
  }
}

// `options` with what torch decides.
inline TransferOptions on_torch(const TransferOptions& options, int device) {
  TransferOptions ours = options;
  ours.device = device;
  ours.stream = torch_stream(device);
  ours.allocator = nullptr;
  return ours;
}

// Torch prepares its allocator when it makes a tensor on a device itself, which may be yet to come.
template <class Context = at::Context>
void prepare_allocator(Context& context = at::globalContext()) {
  if (!context.hasCUDA()) {  // torch's kernels are not linked, c10_cuda alone
    static const bool once = (c10::cuda::CUDACachingAllocator::init(c10::cuda::device_count()), true);
    static_cast<void>(once);
  } else if constexpr (requires { context.lazyInitDevice(at::kCUDA); }) {
    context.lazyInitDevice(at::kCUDA);
  } else {
    context.lazyInitCUDA();
  }
}

// As at::empty on the device, row-major, ready for the device's current stream.
inline at::Tensor empty(std::span<const std::int64_t> shape, DType dtype, int device) {
  return libtorch::translated([&] {
    prepare_allocator();
    const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    c10::Allocator* const allocator = c10::cuda::CUDACachingAllocator::get();
    return libtorch::empty(shape, dtype, c10::DispatchKey::CUDA, allocator,
                           [&](std::size_t bytes) { return allocator->allocate(bytes); });
  });
}

// The result of what `options.cast` makes of a source of this shape, `allocate` being one of the two `empty` ones.
template <class Allocate>
at::Tensor result_of(const TensorView& source, const TransferOptions& options, Allocate&& allocate) {
  require_valid(options.cast);
  return std::forward<Allocate>(allocate)(result_shape(source.shape, options.cast),
                                          options.dtype.value_or(source.dtype));
}

class TorchMemory final : public DeviceAllocator {
 public:
  [[nodiscard]] Tensor allocate(std::span<const std::int64_t> shape, DType dtype, Device device,
                                void* stream) override {
    require_device(device.id);
    return from_torch(libtorch::translated([&] {
      const auto index = static_cast<c10::DeviceIndex>(device.id);
      const auto current = c10::cuda::getCurrentCUDAStream(index);
      const auto wanted = static_cast<cudaStream_t>(stream);
      // The allocator gives memory to the stream that is current.
      const c10::cuda::CUDAStreamGuard guard(
          wanted == current.stream() ? current : c10::cuda::getStreamFromExternal(wanted, index));
      return empty(shape, dtype, device.id);
    }));
  }
};

}  // namespace detail::torch_cuda

inline void* torch_stream(int device) {
  detail::torch_cuda::require_device(device);
  return halfway::detail::libtorch::translated([&] {
    return static_cast<void*>(c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream());
  });
}

inline DeviceAllocator& torch_memory() noexcept {
  // Never destroyed: tensors may be freed while the process exits.
  using Memory = detail::torch_cuda::TorchMemory;
  alignas(Memory) static std::byte room[sizeof(Memory)];
  static Memory* const memory = new (room) Memory;
  return *memory;
}

inline at::Tensor to_torch_device(Tensor source, const TransferOptions& options) {
  namespace torch_cuda = detail::torch_cuda;
  if (!source) throw Error(Reason::consumed, "the tensor is empty: moved from, exported or never filled");
  const TransferOptions ours = torch_cuda::on_torch(options, options.device);
  at::Tensor result = torch_cuda::result_of(source.view(), ours, [&](std::span<const std::int64_t> shape, DType dtype) {
    return torch_cuda::empty(shape, dtype, ours.device);
  });
  to_device_into(std::move(source), mutable_view_of(result), ours);
  return result;
}

inline at::Tensor to_device(const at::Tensor& source, const TransferOptions& options) {
  detail::torch_cuda::require_on_host(source, "the source");
  return to_torch_device(from_torch(source), options);
}

inline void to_device_into(const at::Tensor& source, const at::Tensor& destination, const TransferOptions& options) {
  namespace torch_cuda = detail::torch_cuda;
  torch_cuda::require_on_host(source, "the source");
  torch_cuda::require_on_device(destination, "the destination");
  const halfway::detail::libtorch::Destination target(destination);
  to_device_into(from_torch(source), target.view(), torch_cuda::on_torch(options, destination.device().index()));
  target.written();
}

inline at::Tensor to_host(const at::Tensor& source, const TransferOptions& options) {
  namespace torch_cuda = detail::torch_cuda;
  torch_cuda::require_on_device(source, "the source");
  const Tensor held = from_torch(source);
  at::Tensor result = torch_cuda::result_of(held.view(), options, halfway::detail::libtorch::empty_on_host);
  to_host_into(held.view(), mutable_view_of(result), torch_cuda::on_torch(options, source.device().index()));
  return result;
}

inline void to_host_into(const at::Tensor& source, const at::Tensor& destination, const TransferOptions& options) {
  namespace torch_cuda = detail::torch_cuda;
  torch_cuda::require_on_device(source, "the source");
  torch_cuda::require_on_host(destination, "the destination");
  const halfway::detail::libtorch::Destination target(destination);
  to_host_into(from_torch(source).view(), target.view(), torch_cuda::on_torch(options, source.device().index()));
  target.written();
}

inline at::Tensor cast_on_device(const at::Tensor& source, const TransferOptions& options) {
  namespace torch_cuda = detail::torch_cuda;
  torch_cuda::require_on_device(source, "the source");
  const TransferOptions ours = torch_cuda::on_torch(options, source.device().index());
  Tensor held = from_torch(source);
  at::Tensor result = torch_cuda::result_of(held.view(), ours, [&](std::span<const std::int64_t> shape, DType dtype) {
    return torch_cuda::empty(shape, dtype, ours.device);
  });
  cast_on_device_into(std::move(held), mutable_view_of(result), ours);
  return result;
}

inline void cast_on_device_into(const at::Tensor& source, const at::Tensor& destination,
                                const TransferOptions& options) {
  namespace torch_cuda = detail::torch_cuda;
  torch_cuda::require_on_device(source, "the source");
  torch_cuda::require_on_device(destination, "the destination");
  const halfway::detail::libtorch::Destination target(destination);
  cast_on_device_into(from_torch(source), target.view(), torch_cuda::on_torch(options, source.device().index()));
  target.written();
}

}  // namespace cuda
}  // namespace v0
}  // namespace halfway
