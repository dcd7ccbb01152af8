// The one allocation behind a `Tensor`: the DLPack struct handed to consumers, the reference count, how to release what
// is held, and shape and strides behind it.
//
// Private to the runtime and its bindings: this header needs the definition of the DLPack structs.
#pragma once

#include <dlpack/dlpack.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "halfway/tensor.h"
#include "halfway/validate.h"

namespace halfway {
inline namespace v0 {
namespace detail {

struct Box {
  // First: a pointer to the struct is a pointer to the box.
  DLManagedTensorVersioned managed;
  std::atomic<std::int64_t> references;
  // Lets go of what is held and ends by calling `Box::free(box)`, now or later, on this or another thread.
  void (*release)(Box* box) noexcept;
  void* context;     // what is held: for `release` alone
  void* context2;    // likewise
  std::size_t size;  // likewise
  Box* next;         // for lists of boxes whose release has to wait
  bool swapped;      // the elements are in the other byte order, which no DLPack struct can say: never exported

  // A box for `ndim` dimensions with one reference, `managed` filled but for data, dtype, shape and stride values
  // (shape and strides point to uninitialised room behind the box). throws std::bad_alloc
  [[nodiscard]] static Box* make(int ndim, void (*release)(Box*) noexcept, void* context, void* context2 = nullptr);

  static void free(Box* box) noexcept;

  // Drops a reference; releases with the last one.
  void drop() noexcept;

  [[nodiscard]] static Box* of(const Tensor& tensor) noexcept { return tensor.box_; }
  [[nodiscard]] static Tensor wrap(Box* box) noexcept { return Tensor(box); }

  [[nodiscard]] DLTensor& tensor() noexcept { return managed.dl_tensor; }
};

// The deleter of the struct in a box. Of no C linkage: a C name is one name for the whole program, whatever version's.
void drop_struct(DLManagedTensorVersioned* self) noexcept;

// Inline, since most of an exchange is what happens to its box.
inline Box* Box::make(int ndim, void (*release)(Box*) noexcept, void* context, void* context2) {
  const auto dims = static_cast<std::size_t>(ndim);
  void* const memory = ::operator new(sizeof(Box) + 2 * dims * sizeof(std::int64_t));
  auto* const shape = reinterpret_cast<std::int64_t*>(static_cast<std::byte*>(memory) + sizeof(Box));
  // Field by field: an initializer list makes the compiler clear all of the box first, which takes longer than the
  // rest.
  Box* const box = new (memory) Box;
  box->managed.version = {1, 3};
  box->managed.manager_ctx = memory;
  box->managed.deleter = drop_struct;
  box->managed.flags = 0;
  DLTensor& tensor = box->tensor();
  tensor.data = nullptr;
  tensor.device = {kDLCPU, 0};
  tensor.ndim = ndim;
  tensor.dtype = {};
  tensor.shape = shape;
  tensor.strides = shape + dims;
  tensor.byte_offset = 0;
  box->references.store(1, std::memory_order_relaxed);
  box->release = release;
  box->context = context;
  box->context2 = context2;
  box->size = 0;
  box->next = nullptr;
  box->swapped = false;
  return box;
}

inline void Box::free(Box* box) noexcept { ::operator delete(box); }

inline void Box::drop() noexcept {
  // The only reference cannot be shared by anyone else meanwhile, so seeing 1 saves the locked instruction.
  if (references.load(std::memory_order_acquire) == 1 || references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    release(this);
  }
}

// Whether the data pointer of such a device is an address that offsets can be added to. On other devices it may be a
// handle (OpenCL, Vulkan, Metal, WebGPU), or we cannot know.
[[nodiscard]] constexpr bool is_addressable(DeviceType device) noexcept {
  return is_host({device, 0}) || device == DeviceType::cuda;
}

// The flags that survive an import and a re-export: READ_ONLY, and PADDED where the dtype is narrower than a byte.
[[nodiscard]] std::uint64_t kept_flags(std::uint64_t flags, const DLDataType& dtype) noexcept;

// Fills `box` from a valid DLTensor of the same ndim: byte_offset folded in (where `is_addressable`, else kept), NULL
// strides and those of empty tensors made row-major, the device id of host memory made 0. A stride of a dimension of
// size 1 is kept unless it is negative or its bytes do not fit int64; it is then 1.
void describe(Box& box, const DLTensor& source, std::uint64_t flags) noexcept;

// Defects of the tensor itself, the version apart. `flags` are those of the struct around it, 0 in a legacy one.
[[nodiscard]] Defect validate_tensor(const DLTensor& tensor, std::uint64_t flags) noexcept;

// Throws the Error that says what is wrong with `tensor`, with values. `defect` is what `validate_tensor` found.
[[noreturn]] void refuse(Defect defect, const DLTensor& tensor);

// from_dlpack with a release of the caller's choice: on success the box owns `managed` in `context`; on failure
// (throws) nothing has been released and the caller still owns it.
[[nodiscard]] Tensor import_tensor(DLManagedTensorVersioned* managed, void (*release)(Box*) noexcept);
[[nodiscard]] Tensor import_tensor(DLManagedTensor* managed, void (*release)(Box*) noexcept);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
