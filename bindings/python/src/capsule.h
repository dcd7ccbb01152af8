// DLPack capsules and exchange tables as Python objects.
#pragma once

#include <dlpack/dlpack.h>

#include "halfway/tensor.h"
#include "py.h"

namespace halfway::python {

// Claims the capsule (renames it) and takes over what it holds; on failure what was claimed has been released once.
// A legacy capsule cannot say whether it is writable: it is taken as read-only if `legacy_is_readonly`.
// throws: Error (consumed, version, malformed, unsupported_dtype), PythonError (not a DLPack capsule: TypeError)
[[nodiscard]] Tensor tensor_from_capsule(PyObject* capsule, bool legacy_is_readonly = true);

// A tensor over what the capsule holds, which stays unconsumed: valid while the capsule is neither consumed nor freed.
// throws as tensor_from_capsule
[[nodiscard]] Tensor peek_capsule(PyObject* capsule);

// Whether the object is a capsule named as DLPack names them, consumed ones included.
[[nodiscard]] bool is_dlpack_capsule(PyObject* object) noexcept;

// A capsule that owns the tensor until a consumer renames it. throws Error(readonly) for a legacy one of read-only
// memory
[[nodiscard]] Ref capsule_of(Tensor&& tensor, bool versioned);

// The C exchange table that a type offers, in a version we understand, or nullptr. Never leaves a Python error.
[[nodiscard]] const DLPackExchangeAPI* exchange_table_of(PyTypeObject* type) noexcept;

}  // namespace halfway::python
