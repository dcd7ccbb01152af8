// NumPy on one side of the exchange: dtype mapping, arrays as views, views as arrays.
//
// Every source file that touches NumPy's C API includes this header; `numpy_api.cpp` alone imports the API table.
#pragma once

#include "py.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL halfway_numpy_api
#ifndef HALFWAY_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <optional>
#include <span>
#include <string>

#include "halfway/dtype.h"
#include "halfway/tensor.h"

namespace halfway::python {

// throws PythonError when NumPy cannot be imported
void init_numpy();

// The dtype of a descriptor, byte order aside. Loads the ml_dtypes map when an unknown user dtype is met.
// nullopt: not exchangeable; `throw_unsupported` says why.
[[nodiscard]] std::optional<DType> dtype_of(PyArray_Descr* descr);

// Error(unsupported_dtype) with the way out for a descriptor that `dtype_of` refuses.
[[noreturn]] void throw_unsupported(PyArray_Descr* descr);

// ml_dtypes' sub-byte dtypes store one element a byte, which DLPack calls padded.
[[nodiscard]] constexpr bool is_padded_in_numpy(DType dtype) noexcept { return dtype.lanes == 1 && dtype.bits < 8; }

// Whether NumPy (with ml_dtypes) has the dtype.
[[nodiscard]] bool numpy_has_dtype(DType dtype) noexcept;

// The native descriptor if it has been met already, borrowed; else nullptr. A table look-up.
[[nodiscard]] PyArray_Descr* known_descr(DType dtype) noexcept;

// What NumPy calls it ("float32", "ml_dtypes.bfloat16"), or an empty string.
[[nodiscard]] std::string numpy_name(DType dtype);

// A new reference to the native descriptor. throws Error(unsupported_dtype), PythonError
[[nodiscard]] PyArray_Descr* descr_for(DType dtype);

// Error(masked) for a numpy.ma.MaskedArray or a subclass.
void require_unmasked(PyObject* array);

// Error(unsupported_dtype) for packed sub-byte elements, which NumPy cannot address.
void require_whole_bytes(const TensorView& view);

// A view of the array's memory; shape and strides are the array's own (strides in bytes).
// throws: Error(unsupported_dtype, masked)
[[nodiscard]] TensorView view_of_array(PyArrayObject* array);

// As view_of_array() for an exact ndarray of a dtype of whole bytes, or false: the slow path has to decide. Sets no
// error.
[[nodiscard]] bool view_of_plain_array(PyObject* object, TensorView& view) noexcept;

// A new C-contiguous array over uninitialised memory of NumPy's, or nullptr without an error when this NumPy has no
// such array. throws: Error (unsupported_dtype, unavailable: as descr_for()), PythonError (MemoryError)
[[nodiscard]] PyObject* new_array(std::span<const std::int64_t> shape, DType dtype);

// An array over `view`'s memory that keeps `base` alive (reference stolen, also on failure).
// `view.strides` count elements unless `strides_in_bytes`.
[[nodiscard]] PyObject* array_over(const TensorView& view, bool writable, PyObject* base);

// Registers bfloat16 and fp8 with numpy.from_dlpack (NumPy >= 2.5). Returns how many dtypes are registered; 0 where
// NumPy is older. Idempotent.
int register_with_numpy();

// register_with_numpy() once, unless HALFWAY_REGISTER=0.
void register_on_first_use();

}  // namespace halfway::python
