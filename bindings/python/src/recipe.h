// What a caller can ask of a cast, read from Python: dtypes in any library's spelling, `Cast` recipes, `Report`s.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coefficients.h"
#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "py.h"

namespace halfway::python {

// The fields of a Python `Cast` besides its dtype, casting and overflow: most have none.
struct Extras {
  Rounding rounding = Rounding::nearest;
  std::optional<std::uint64_t> seed;
  OwnCoefficients scale;
  OwnCoefficients shift;
  std::optional<std::int64_t> axis;
  std::optional<std::vector<std::int64_t>> permute;

  friend bool operator==(const Extras&, const Extras&) = default;
};

// The same as Python objects; nullptr where they are not given.
struct ExtraObjects {
  PyObject* rounding = nullptr;
  PyObject* seed = nullptr;
  PyObject* scale = nullptr;
  PyObject* shift = nullptr;
  PyObject* axis = nullptr;
  PyObject* permute = nullptr;
};

// The value of a Python `Cast`.
struct Recipe {
  DType dtype{};
  Casting casting = Casting::same_kind;
  Overflow overflow = Overflow::by_format;
  std::shared_ptr<const Extras> extras;  // nullptr: none

  friend bool operator==(const Recipe& a, const Recipe& b);
};

// Reads and checks them; nullptr when all are at their defaults.
// throws PythonError (TypeError; ValueError: see require_valid())
[[nodiscard]] std::shared_ptr<const Extras> parse_extras(const ExtraObjects& objects);

// Puts them into options, which borrow from `extras`.
void apply(const Extras& extras, CastOptions& options) noexcept;

// A dtype from a name, a NumPy, torch or ml_dtypes dtype, or a Python type as NumPy reads it. `or_cast`: where this is
// asked a Cast could stand, too, which messages then say.
// throws: Error(unsupported_dtype) for what cannot be exchanged, (byte_order) for a dtype in the other byte order;
//         PythonError (TypeError: no dtype at all; ValueError: unknown name)
[[nodiscard]] DType parse_dtype(PyObject* object, bool or_cast);

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
