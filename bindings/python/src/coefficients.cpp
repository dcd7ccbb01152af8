#include "coefficients.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "libraries.h"
#include "numpy_api.h"
#include "torch_api.h"

namespace halfway::python {
namespace {

[[noreturn]] void refuse(PyObject* object, const char* name) {
  throw_type_error(std::string(name) + " must be a number or one number for each index of an axis, not " +
                   Py_TYPE(object)->tp_name);
}

[[noreturn]] void refuse_dimensions(std::size_t ndim, const char* name) {
  throw_value_error(std::string(name) + " has " + std::to_string(ndim) +
                    " dimensions: a number, or one number for each index of an axis");
}

double parse_int(PyObject* object, const char* name) {
  const double value = PyLong_AsDouble(object);
  if (value == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw_value_error(std::string(name) + " is too large: it exceeds float64");
  }
  return value;
}

bool is_real_number(DType dtype) noexcept {
  const DTypeInfo* const row = find(dtype);
  return row != nullptr && row->castable && row->kind != Kind::boolean && row->kind != Kind::complex;
}

// The numbers of an array, or nothing if they are none. By a cast of our own: NumPy's runs in the floating-point mode
// of whoever calls, which may flush small ones.
OwnCoefficients read_source(Source& source, PyObject* given, const char* name) {
  if (source.traits.conj || source.traits.neg) {
    const Ref plain = resolve_torch(torch(), source.object.get());
    source = torch_library().open(plain.get());
  }
  const TensorView& view = source.view;
  if (!is_real_number(view.dtype)) {
    refuse(given, name);
  }
  if (view.ndim() > 1) {
    refuse_dimensions(view.shape.size(), name);
  }
  OwnCoefficients result{view.ndim() == 1, std::vector<double>(view.ndim() == 1 ? view.shape[0] : 1)};
  const std::array<std::int64_t, 1> stride{1};
  const MutableView doubles{.data = result.values.data(),
                            .dtype = float64,
                            .shape = view.shape,
                            .strides = std::span(stride).first(view.shape.size())};
  cast_into(view, doubles, {.casting = Casting::unsafe});
  return result;
}

// Opens what is an array; says which argument is wrong if it is none that can be read.
std::optional<Source> open(PyObject* object, const char* name) {
  try {
    return open_if_source(object);
  } catch (const Error& error) {
    if (error.reason() != Reason::unsupported_dtype) {
      throw Error({error.reasons().begin(), error.reasons().end()}, std::string(name) + ": " + error.message(),
                  error.hint());
    }
  }
  refuse(object, name);
}

OwnCoefficients parse_sequence(PyObject* sequence, const char* name) {
  const Ref items = checked(PySequence_Tuple(sequence));
  OwnCoefficients result{true, {}};
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items.get()); ++i) {
    const OwnCoefficients item = parse_coefficients(PyTuple_GET_ITEM(items.get(), i), name);
    if (item.is_along_axis) {
      refuse_dimensions(2, name);
    }
    result.values.push_back(item.values.front());
  }
  return result;
}

}  // namespace

Coefficients OwnCoefficients::view() const noexcept {
  if (is_along_axis) return std::span<const double>(values);
  return values.empty() ? Coefficients() : Coefficients(values.front());
}

bool operator==(const OwnCoefficients& a, const OwnCoefficients& b) noexcept {
  return a.is_along_axis == b.is_along_axis &&
         std::equal(a.values.begin(), a.values.end(), b.values.begin(), b.values.end(), [](double x, double y) {
           return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
         });
}

OwnCoefficients parse_coefficients(PyObject* object, const char* name) {
  if (PyBool_Check(object)) {
    refuse(object, name);
  }
  if (PyFloat_Check(object)) {
    return {false, {PyFloat_AS_DOUBLE(object)}};
  }
  if (PyLong_Check(object)) {
    return {false, {parse_int(object, name)}};
  }
  if (PyList_Check(object) || PyTuple_Check(object)) {
    return parse_sequence(object, name);
  }
  if (std::optional<Source> source = open(object, name)) {
    return read_source(*source, object, name);
  }
  // Whatever else is a number (fractions, decimals) or NumPy makes arrays of (ranges, columns of tables).
  const PyNumberMethods* const methods = Py_TYPE(object)->tp_as_number;
  if (methods != nullptr && methods->nb_float != nullptr && PySequence_Check(object) == 0) {
    const Ref number = checked(PyNumber_Float(object));
    return {false, {PyFloat_AS_DOUBLE(number.get())}};
  }
  const Ref array = Ref::steal(PyUnicode_Check(object) ? nullptr : PyArray_FROM_O(object));
  if (!array) {
    PyErr_Clear();
    refuse(object, name);
  }
  std::optional<Source> source = open(array.get(), name);
  return read_source(*source, object, name);
}

}  // namespace halfway::python
