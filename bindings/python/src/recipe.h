// What a caller can ask of a cast, read from Python: dtypes in any library's spelling, `Cast` recipes, `Report`s.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "py.h"

namespace halfway::python {

// The value of a Python `Cast`.
struct Recipe {
  DType dtype{};
  Casting casting = Casting::same_kind;
  Overflow overflow = Overflow::by_format;

  friend bool operator==(const Recipe&, const Recipe&) = default;
};

// A dtype from a name, a NumPy, torch or ml_dtypes dtype, or a Python type as NumPy reads it.
// throws: Error(unsupported_dtype) for what cannot be exchanged, (byte_order) for a dtype in the other byte order;
//         PythonError (TypeError: no dtype at all; ValueError: unknown name)
[[nodiscard]] DType parse_dtype(PyObject* object);

// The dtype of an object that parse_dtype() has read before and that cannot come to mean another one (a name, a dtype,
// a scalar type), or nullptr. A look-up by identity; the last few dozen such objects are kept alive for it.
[[nodiscard]] const DType* known_dtype(PyObject* object) noexcept;

// throws PythonError (TypeError, ValueError naming the choices)
[[nodiscard]] Casting parse_casting(PyObject* object);
[[nodiscard]] Overflow parse_overflow(PyObject* object);

// The recipe behind a `halfway.Cast`, or nullptr for any other object.
[[nodiscard]] const Recipe* recipe_of(PyObject* object);

// The counters behind a `halfway.Report`. throws PythonError (TypeError)
[[nodiscard]] Report& report_of(PyObject* object);

// Adds Cast and Report to the module.
void init_recipe(PyObject* module);

}  // namespace halfway::python
