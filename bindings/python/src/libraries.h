// The libraries that arrays come from and go to, one table row each, and sources opened for reading.
#pragma once

#include <optional>
#include <string>

#include "cast/permutation.h"
#include "halfway/plan.h"
#include "halfway/tensor.h"
#include "py.h"

namespace halfway::python {

struct Library;

// An array opened for an exchange: a view of its memory and what keeps it alive. The view is valid while this lives.
struct Source {
  const Library* library = nullptr;  // nullptr: a foreign producer, a capsule
  TensorView view;
  SourceTraits traits;
  Ref object;              // the array itself; keeps the memory alive where `tensor` is empty
  Tensor tensor;           // the memory, for halfway and foreign sources
  void* stream = nullptr;  // device memory: the stream on which it is ready
};

// How a source is opened.
struct Opening {
  bool devices = false;  // memory of CUDA devices is welcome; else it is refused (Error: device)
  // Only to be looked at: a capsule is not consumed, and no stream is made to wait.
  bool peek = false;
  const Library* consumer = nullptr;  // on whose stream device memory is to be ready; nullptr: halfway's
};

struct Library {
  Target target;
  // Whether an object is this library's array.
  bool (*owns)(PyObject* object) noexcept;
  // Opens such an object. throws Error, PythonError
  Source (*open)(PyObject* object);
  // An array of this library over the source's memory, as the plan allowed.
  PyObject* (*alias)(Source& source, const Plan& plan);
  // An array of this library over fresh memory.
  PyObject* (*adopt)(Tensor&& fresh, const Plan& plan);
};

[[nodiscard]] const Library& numpy_library() noexcept;
[[nodiscard]] const Library& torch_library() noexcept;
[[nodiscard]] const Library& halfway_library() noexcept;

// The row whose array `object` is, or nullptr.
[[nodiscard]] const Library* library_of(PyObject* object) noexcept;

// The row of that name. throws PythonError (ValueError naming the choices, TypeError)
[[nodiscard]] const Library& library_named(PyObject* name);

// Opens any object: the libraries' arrays, NumPy scalars, DLPack capsules, exchange tables and __dlpack__ producers.
// A capsule is consumed. throws Error, PythonError (TypeError for anything else)
[[nodiscard]] Source open_source(PyObject* object, const Opening& opening = {});

// The same; nothing for anything else.
[[nodiscard]] std::optional<Source> open_if_source(PyObject* object, const Opening& opening = {});

// The stream on which this library wants device memory: torch's current one, or the legacy default stream.
// throws: Error (unavailable)
[[nodiscard]] void* consumer_stream(const Library* consumer, int device);

// A share of what keeps the source's memory alive, in whatever thread it ends. throws: Error
[[nodiscard]] Tensor owner_of(Source& source);

// Opens an array to write into; `name` is what messages call it.
// throws: Error (requires_grad, conj, neg, readonly; as `open` of the library), PythonError (TypeError: not its array)
[[nodiscard]] Source open_out(const Library& target, PyObject* object, const std::string& name = "out");

// The source's memory with its axes in another order, which `alias` turns into an array. throws Error, PythonError
[[nodiscard]] Source permuted(Source& source, const detail::Permutation& permutation);

// A view of an ndarray with its axes in another order. throws PythonError
[[nodiscard]] Ref permuted_array(PyObject* array, const detail::Permutation& permutation);

// A box for NumPy's memory that owns a reference to the array, in DLPack's terms: whole-element strides, those of
// dimensions of size one and of empty arrays made row-major. Requires: strides are whole elements.
[[nodiscard]] detail::Box* box_of_array(PyObject* array, const TensorView& view);

// A box for an ndarray that every DLPack library understands as it stands (native byte order, aligned, writable, whole
// non-negative strides, whole-byte elements), or nullptr when the slow path has to decide. Never sets a Python error.
[[nodiscard]] detail::Box* box_of_plain_array(PyObject* object);

}  // namespace halfway::python
