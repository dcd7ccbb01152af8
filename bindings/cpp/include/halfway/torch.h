// libtorch and halfway: tensors handed over without a copy, casts straight into and out of at::Tensor.
//
//   halfway::Tensor pixels = halfway::Tensor::allocate(std::array<std::int64_t, 2>{1, 64}, halfway::float32);
//   at::Tensor x = halfway::to_torch(std::move(pixels));                  // the same memory
//   at::Tensor narrow = halfway::cast(x, halfway::bfloat16);              // one pass, into memory of torch's allocator
//   halfway::Tensor back = halfway::from_torch(narrow);                   // the same memory, kept as long as `back`
//
// Link `halfway::torch` and a libtorch (2.6 or later) of your own: this header is compiled against it, so that nothing
// of halfway depends on one build of torch. Of libtorch only `torch_cpu` and `c10` are needed. Neither copy of dlpack.h
// is included here, and either may be, before or after.
//
// Memory. An exchange allocates what torch's own tensors allocate, and one block of metadata on halfway's side. The
// producer is released exactly once, when the last tensor over its memory goes, on that thread.
//
// Autograd. A `Tensor` knows nothing of it: exporting a tensor that requires grad is exporting its values, as detach()
// does. What is written through one is not seen by torch's version counters; casts into an at::Tensor are.
//
// Devices. The CPU's memory and that of CUDA devices are exchanged; casts here are the host's, and torch_cuda.h has
// those of a device. No stream is waited for: memory of a device is ready for the work of torch's current stream.
//
// Threads: any, as at::Tensor and halfway::Tensor allow. The libraries' own threads are not shared.
//
// throws: Error with a Reason, CastError and std::bad_alloc, as each function says. No c10::Error leaves these
// functions: a failure of libtorch itself is Error(unavailable) with its first words.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include "halfway/allocator.h"
#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

// --- dtypes

// Torch's name of a dtype. throws: Error(unsupported_dtype): the libtorch that this is compiled with has none
//
//   at::Tensor y = x.to(halfway::to_torch(halfway::float16));
[[nodiscard]] c10::ScalarType to_torch(DType dtype);

// halfway's name of torch's dtype. throws: Error (quantized: qint8 and its like; unsupported_dtype: int1 to int7,
// bits8 and its like, float4_e2m1fn_x2, which torch has in a form of its own)
[[nodiscard]] DType from_torch(c10::ScalarType type);

// --- tensors over the same memory

struct ToTorchOptions {
  // Torch has no read-only tensors. With this, read-only memory is handed over knowingly: whoever writes to the result
  // writes to what may not be written to (of a mapped file, say, which ends the process).
  bool allow_readonly = false;
};

// A torch tensor over the memory of `tensor`, any non-negative strides, whose reference it takes over. Its storage
// cannot be resized; in-place operations write to the shared memory. Host memory of any kind is torch's CPU.
// throws: Error (consumed: there is no tensor; unsupported_dtype; byte_order, negative_strides, misaligned, readonly:
// torch cannot
//         express them, and cast_to_torch() copies; device: neither host nor CUDA memory; unavailable: a tensor of a
//         CUDA device, and a libtorch without CUDA), std::bad_alloc; the reference is then kept
[[nodiscard]] at::Tensor to_torch(Tensor&& tensor, const ToTorchOptions& options = {});

// A tensor over the memory of torch's, of any strides. It keeps the storage alive, not the tensor: what autograd
// recorded is let go, and set_() and set_data() of the original do not disturb it. Resizing the storage in place does
// (`resize_` to more elements than it holds). Values that torch has only marked, conjugated or negated, are made by a
// copy. Requires-grad is dropped: the values are shared.
// throws: Error (no_storage: an undefined or meta tensor, or one without memory of its own; sparse: any layout but
//         strided; nested; quantized; subclass: a Python tensor with its own dispatch; unsupported_dtype; device:
//         neither the CPU nor CUDA), std::bad_alloc
[[nodiscard]] Tensor from_torch(const at::Tensor& tensor);

// As from_torch(tensor).to_dlpack(), in one step: the struct that any consumer of DLPack 1 takes, and releases.
[[nodiscard]] DLManagedTensorVersioned* to_dlpack(const at::Tensor& tensor);

// The same as views: nothing is owned or allocated, and they are valid as long as the tensor is neither destroyed nor
// resized. For whatever of halfway takes views: halfway::collate, halfway::save_npy, halfway::plan.
// throws: as from_torch(), and Error (conj, neg: the values are not in memory)
[[nodiscard]] TensorView view_of(const at::Tensor& tensor);

// For writing; torch's version counter of the tensor goes up, as with its own in-place operations.
// throws: as view_of(), and Error(requires_grad): autograd would not know of what is written
[[nodiscard]] MutableView mutable_view_of(const at::Tensor& tensor);

// --- casts, in one pass: halfway::cast with at::Tensor on either side or on both
//
// The result is row-major, in fresh memory of torch's CPU allocator where it is torch's. It never requires grad.
// throws, all of them: as cast() and view_of(); tensors that are conjugated or negated are resolved first

[[nodiscard]] at::Tensor cast(const at::Tensor& source, DType dtype, const CastOptions& options = {});
[[nodiscard]] at::Tensor cast_to_torch(const TensorView& source, DType dtype, const CastOptions& options = {});
[[nodiscard]] Tensor cast_from_torch(const at::Tensor& source, DType dtype, const CastOptions& options = {},
                                     Allocator& allocator = default_allocator());

// Into memory that is there, of any strides.
// throws: as cast_into(), and Error (requires_grad, conj, neg: `destination` is not plain memory); the destination is
//         then untouched, as is its version
void cast_into(const at::Tensor& source, const at::Tensor& destination, const CastOptions& options = {});
void cast_into(const TensorView& source, const at::Tensor& destination, const CastOptions& options = {});
void cast_into(const at::Tensor& source, const MutableView& destination, const CastOptions& options = {});

// --- memory

// Torch's CPU allocator as one of halfway's: what it counts and profiles, it counts and profiles of these, too.
//
//   halfway::Tensor t = halfway::cast(view, halfway::float16, {}, halfway::torch_allocator());
[[nodiscard]] Allocator& torch_allocator() noexcept;

}  // namespace v0
}  // namespace halfway

#include "halfway/detail/torch.h"
