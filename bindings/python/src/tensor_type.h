// The Python type halfway.Tensor: an owning DLPack tensor that every library can read.
#pragma once

#include <vector>

#include "halfway/tensor.h"
#include "py.h"

namespace halfway::python {

struct TensorObject {
  PyObject_HEAD Tensor tensor;
  std::vector<Reason> reasons;  // why it does not share its source's memory; empty when it does
  PyObject* weak_references;
};

// Makes the type and adds it to the module as `Tensor`.
void init_tensor_type(PyObject* module);

[[nodiscard]] PyTypeObject* tensor_type() noexcept;
[[nodiscard]] inline bool is_tensor(PyObject* object) noexcept { return Py_IS_TYPE(object, tensor_type()); }
[[nodiscard]] inline TensorObject& tensor_object(PyObject* object) noexcept {
  return *reinterpret_cast<TensorObject*>(object);
}

// A new halfway.Tensor. throws PythonError
[[nodiscard]] PyObject* wrap_tensor(Tensor&& tensor, std::vector<Reason> reasons = {});

// The exchange table of halfway.Tensor (static for the life of the process), as a capsule.
[[nodiscard]] Ref own_exchange_table();

// A row-major copy with the same dtype. The GIL is released for large ones. throws as cast().
[[nodiscard]] Tensor copy_of(const TensorView& view);

}  // namespace halfway::python
