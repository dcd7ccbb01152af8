// torch on the other side: found when it is first needed, never linked.
//
// With torch >= 2.9's C exchange table an exchange is one C call; without it the capsule protocol is used.
#pragma once

#include <dlpack/dlpack.h>

#include <bit>
#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "halfway/plan.h"
#include "halfway/tensor.h"
#include "py.h"

namespace halfway::python {

struct TorchApi {
  PyObject* module = nullptr;
  PyTypeObject* tensor_type = nullptr;
  PyTypeObject* dtype_type = nullptr;
  const DLPackExchangeAPI* table = nullptr;  // nullptr: capsules only
  bool versioned_capsules = false;           // torch._C._from_dlpack understands "dltensor_versioned"

  struct DTypeRow {
    DType dtype;
    PyObject* object;  // torch.float32, ...; owned for the life of the process
  };
  std::vector<DTypeRow> dtypes;
  std::bitset<144> takes;  // by slot: for torch_takes, a look-up on the path where it counts

  // One slot for each type code and power-of-two number of bits.
  [[nodiscard]] static constexpr unsigned slot(std::uint8_t code, std::uint8_t bits) noexcept {
    return code * 8U + static_cast<unsigned>(std::countr_zero(bits));
  }

  // Getters of Tensor, as C functions where torch implements them in C.
  PyGetSetDef* requires_grad = nullptr;
  PyGetSetDef* dtype = nullptr;
  PyCFunction is_neg = nullptr;
  PyCFunction is_conj = nullptr;
  PyObject* increment_version = nullptr;  // torch._C._increment_version, or nullptr
  PyObject* native = nullptr;             // torch._C
  PyObject* strided = nullptr;            // torch.strided
  PyObject* without_functions = nullptr;  // torch._C.DisableTorchFunction
};

// torch, imported if need be. throws Error(unavailable) when it is not installed.
[[nodiscard]] const TorchApi& torch();

// torch if it has been imported by anybody, else nullptr. Cheap.
[[nodiscard]] const TorchApi* torch_if_loaded() noexcept;

// torch.Tensor or a subclass; false while torch is not loaded.
[[nodiscard]] bool is_torch_tensor(PyObject* object) noexcept;

// Whether torch, as such, has the dtype and takes it through DLPack; needs no torch.
[[nodiscard]] bool torch_has_dtype(DType dtype) noexcept;

// Whether this torch takes the dtype (of whole power-of-two bits) through DLPack.
[[nodiscard]] inline bool torch_takes(const TorchApi& api, const DLDataType& dtype) noexcept {
  const unsigned slot = TorchApi::slot(dtype.code, dtype.bits);
  return dtype.lanes == 1 && slot < api.takes.size() && api.takes[slot];
}

// The dtype of a torch.dtype object. nullopt: quantized, bits, sub-byte shell dtypes.
[[nodiscard]] std::optional<DType> dtype_of_torch(const TorchApi& api, PyObject* dtype) noexcept;

// What a tensor's memory is, on the host or a CUDA device, found without touching it. The view borrows shape and
// strides from the tensor.
struct TorchSource {
  TensorView view;
  SourceTraits traits;
  Ref object;   // the tensor, or one of its own on the same storage; what an exchange hands on
  Tensor held;  // backs the view where the exchange table is missing
};

// throws: Error (sparse, nested, quantized, subclass, no_storage, device, unsupported_dtype)
[[nodiscard]] TorchSource open_torch(const TorchApi& api, PyObject* tensor);

// Whether the tensor says that it is on devices of that type ("cpu", "cuda"); fake tensors say it, too.
[[nodiscard]] bool is_torch_on(PyObject* tensor, const char* type);

// A torch.Tensor (exact type) for the fast path, and what the exchange table says about it.
struct PlainTorch {
  PyObject* tensor = nullptr;
  bool may_require_grad = false;  // its values are read, and nothing of its memory is handed on or written
  DLTensor described{};
};

// The fast path, for all tensors of a call at once: host memory, plain tensors whose bytes are their values. False:
// take the slow path, no Python error is set. Other threads and torch function modes may run before the tensors are
// described, not after: what `described` points to is valid until the GIL is let go of.
[[nodiscard]] bool open_torch_fast(const TorchApi& api, std::span<PlainTorch> tensors) noexcept;

// The same for one tensor.
[[nodiscard]] bool open_torch_fast(const TorchApi& api, PyObject* tensor, DLTensor& out) noexcept;

// A described tensor of whole-byte elements as a view.
[[nodiscard]] TensorView view_of_described(const DLTensor& described) noexcept;

// A tensor over `box`'s memory, consuming one reference to the box whether or not this succeeds.
// throws: Error, PythonError
[[nodiscard]] PyObject* torch_from_box(const TorchApi& api, detail::Box* box);

// A DLPack struct over the tensor's memory. It keeps torch's tensor alive, and follows it to another storage.
// throws: Error (malformed) when torch refuses
[[nodiscard]] DLManagedTensorVersioned* managed_from_torch(const TorchApi& api, PyObject* tensor);

// tensor.detach().resolve_conj().resolve_neg(): a new tensor whose bytes are the values.
// throws: Error (subclass) when torch refuses
[[nodiscard]] Ref resolve_torch(const TorchApi& api, PyObject* tensor);

// Tells torch's automatic differentiation that the memory of `tensor` was written.
void mark_written(const TorchApi& api, PyObject* tensor);

// For tests: use capsules even where the table is there.
void set_torch_table_enabled(bool enabled);

}  // namespace halfway::python
