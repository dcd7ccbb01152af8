#include "recipe.h"

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>

#include "docs.h"
#include "numpy_api.h"
#include "torch_api.h"

namespace halfway::python {

void set_report_factory(PyObject* factory);  // errors.cpp

namespace {

namespace py = pybind11;

PyTypeObject* g_cast_type = nullptr;

constexpr std::array all_castings{Casting::no,        Casting::equiv,  Casting::safe,
                                  Casting::same_kind, Casting::unsafe, Casting::same_value};
constexpr std::array all_overflows{Overflow::by_format, Overflow::saturate, Overflow::raise};

template <class Choices>
typename Choices::value_type parse_choice(PyObject* object, const char* what, const Choices& choices) {
  if (!PyUnicode_Check(object)) {
    throw_type_error(std::string(what) + " must be a string, not " + Py_TYPE(object)->tp_name);
  }
  Py_ssize_t length = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(object, &length);
  if (utf8 == nullptr) {
    throw PythonError{};
  }
  const std::string_view text(utf8, static_cast<std::size_t>(length));
  std::string names;
  for (const auto choice : choices) {
    if (to_string(choice) == text) {
      return choice;
    }
    names += (names.empty() ? "'" : ", '") + std::string(to_string(choice)) + "'";
  }
  throw_value_error(std::string(what) + "='" + std::string(text) + "' is not one of " + names);
}

DType parse_descr(PyArray_Descr* descr) {
  const std::optional<DType> dtype = dtype_of(descr);
  if (!dtype) {
    throw_unsupported(descr);
  }
  if (!PyArray_ISNBO(descr->byteorder)) {
    throw Error(Reason::byte_order,
                "results are in the machine's byte order, not " + text_of(reinterpret_cast<PyObject*>(descr)),
                "pass the native dtype; for a big-endian array write into out=");
  }
  return *dtype;
}

DType parse_name(PyObject* name) {
  Py_ssize_t length = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(name, &length);
  if (utf8 == nullptr) {
    throw PythonError{};
  }
  if (const DTypeInfo* row = find(std::string_view(utf8, static_cast<std::size_t>(length))); row != nullptr) {
    return row->dtype;
  }
  // NumPy's other spellings ("f4", "<i2", "intp")
  PyArray_Descr* descr = nullptr;
  if (PyArray_DescrConverter(name, &descr) == NPY_FAIL) {
    PyErr_Clear();
    throw_value_error("unknown dtype name '" + std::string(utf8) + "'; halfway.dtypes() lists the names");
  }
  const Ref owned = Ref::steal(reinterpret_cast<PyObject*>(descr));
  return parse_descr(reinterpret_cast<PyArray_Descr*>(owned.get()));
}

// Python object -> Recipe fields, shared by Cast() and the pickle.
Recipe make_recipe(const py::object& dtype, const py::object& casting, const py::object& overflow) {
  return {parse_dtype(dtype.ptr()), parse_casting(casting.ptr()), parse_overflow(overflow.ptr())};
}

std::string text(const Recipe& recipe) {
  std::string result = "Cast('" + to_string(recipe.dtype) + "'";
  if (recipe.casting != Casting::same_kind) {
    result += ", casting='" + std::string(to_string(recipe.casting)) + "'";
  }
  if (recipe.overflow != Overflow::by_format) {
    result += ", overflow='" + std::string(to_string(recipe.overflow)) + "'";
  }
  return result + ")";
}

std::string text(const Report& report) {
  return "Report(count=" + std::to_string(report.count) + ", nan=" + std::to_string(report.nan) +
         ", overflow=" + std::to_string(report.overflow) + ", underflow=" + std::to_string(report.underflow) +
         ", inexact=" + std::to_string(report.inexact) + ")";
}

// An instance made by __new__ alone has no value, and pybind11 would make up one of what the memory holds.
void require_initialised(PyObject* object) {
  auto* instance = reinterpret_cast<py::detail::instance*>(object);
  if (!instance->get_value_and_holder().holder_constructed()) {
    throw_type_error(std::string(Py_TYPE(object)->tp_name) + ".__init__() was not called");
  }
}

// For `py::is_operator`: other types compare as NotImplemented.
template <class T>
bool equals(const T& a, const T& b) {
  return a == b;
}

// pybind11 lets C++ exceptions through its own translators: ours come first.
template <class Body>
auto translated(Body&& body) {
  std::exception_ptr thrown;
  try {
    return std::forward<Body>(body)();
  } catch (const py::error_already_set&) {
    throw;
  } catch (...) {
    thrown = std::current_exception();
  }
  translate(thrown);
  throw py::error_already_set();
}

}  // namespace

namespace {

// A dtype from any object, read anew.
DType read_dtype(PyObject* object) {
  if (PyUnicode_Check(object)) {
    return parse_name(object);
  }
  if (PyArray_DescrCheck(object)) {
    return parse_descr(reinterpret_cast<PyArray_Descr*>(object));
  }
  if (const TorchApi* api = torch_if_loaded(); api != nullptr && Py_IS_TYPE(object, api->dtype_type)) {
    const std::optional<DType> dtype = dtype_of_torch(*api, object);
    if (!dtype) {
      throw Error(Reason::unsupported_dtype, text_of(object) + " is no dtype that values can be cast to",
                  "halfway.dtypes() lists those that are");
    }
    return *dtype;
  }
  if (PyType_Check(object)) {
    PyArray_Descr* descr = nullptr;
    if (PyArray_DescrConverter(object, &descr) != NPY_FAIL) {
      const Ref owned = Ref::steal(reinterpret_cast<PyObject*>(descr));
      // NumPy reads every class that it does not know as `object`
      if (descr->type_num != NPY_OBJECT || object == reinterpret_cast<PyObject*>(&PyBaseObject_Type)) {
        return parse_descr(descr);
      }
    }
    PyErr_Clear();
  }
  throw_type_error(
      "dtype must be a name, a NumPy, torch or ml_dtypes dtype, a Python type or a halfway.Cast, not " +
      std::string(PyType_Check(object) ? reinterpret_cast<PyTypeObject*>(object)->tp_name : Py_TYPE(object)->tp_name));
}

// Objects that were read before, by address: each slot owns a reference, so that an address stays the object's.
struct KnownDType {
  PyObject* object;
  DType dtype;
};
std::array<KnownDType, 64> g_known;

KnownDType& slot_of(PyObject* object) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(object) >> 4U;
  return g_known[(address ^ (address >> 6U) ^ (address >> 12U)) % g_known.size()];
}

// Whether the object will always mean `dtype`, as far as anybody can tell: a class of the user's need not.
bool is_lasting(PyObject* object, DType dtype) noexcept {
  if (PyUnicode_CheckExact(object) || PyArray_DescrCheck(object)) {
    return true;
  }
  if (!PyType_Check(object)) {
    const TorchApi* api = torch_if_loaded();
    return api != nullptr && Py_IS_TYPE(object, api->dtype_type);
  }
  const PyArray_Descr* descr = known_descr(dtype);
  const auto* type = reinterpret_cast<PyTypeObject*>(object);
  return (descr != nullptr && descr->typeobj == type) || type == &PyFloat_Type || type == &PyLong_Type ||
         type == &PyBool_Type || type == &PyComplex_Type;
}

}  // namespace

const DType* known_dtype(PyObject* object) noexcept {
  const KnownDType& known = slot_of(object);
  return known.object == object ? &known.dtype : nullptr;
}

DType parse_dtype(PyObject* object) {
  if (const DType* known = known_dtype(object); known != nullptr) {
    return *known;
  }
  const DType dtype = read_dtype(object);
  if (is_lasting(object, dtype)) {
    KnownDType& slot = slot_of(object);
    const Ref forgotten = Ref::steal(slot.object);  // let go of when the slot is whole again
    slot = {Ref::borrow(object).release(), dtype};
  }
  return dtype;
}

Casting parse_casting(PyObject* object) { return parse_choice(object, "casting", all_castings); }
Overflow parse_overflow(PyObject* object) { return parse_choice(object, "overflow", all_overflows); }

const Recipe* recipe_of(PyObject* object) {
  if (!Py_IS_TYPE(object, g_cast_type)) {
    return nullptr;
  }
  require_initialised(object);
  return py::handle(object).cast<const Recipe*>();
}

Report& report_of(PyObject* object) {
  if (!py::isinstance<Report>(object)) {
    throw_type_error(std::string("report must be a halfway.Report, not ") + Py_TYPE(object)->tp_name);
  }
  require_initialised(object);
  return py::handle(object).cast<Report&>();
}

void init_recipe(PyObject* module_object) {
  auto module = py::reinterpret_borrow<py::module_>(module_object);

  py::class_<Recipe> cast(module, "Cast", docs::cast_recipe, py::is_final());
  cast.def(py::init([](const py::object& dtype, const py::object& casting, const py::object& overflow) {
             return translated([&] { return make_recipe(dtype, casting, overflow); });
           }),
           py::arg("dtype"), py::kw_only(), py::arg("casting") = "same_kind", py::arg("overflow") = "default",
           docs::cast_init)
      .def_property_readonly(
          "dtype", [](const Recipe& r) { return to_string(r.dtype); }, "Name of the target dtype.")
      .def_property_readonly(
          "casting", [](const Recipe& r) { return std::string(to_string(r.casting)); }, "The casting level.")
      .def_property_readonly(
          "overflow", [](const Recipe& r) { return std::string(to_string(r.overflow)); },
          "What values out of range become.")
      .def("__eq__", equals<Recipe>, py::is_operator())
      .def("__hash__",
           [](const Recipe& r) {
             return py::hash(py::make_tuple(r.dtype.code, r.dtype.bits, r.dtype.lanes, static_cast<int>(r.casting),
                                            static_cast<int>(r.overflow)));
           })
      .def("__repr__", [](const Recipe& r) { return text(r); })
      .def(py::pickle(
          [](const Recipe& r) {
            return py::make_tuple(to_string(r.dtype), std::string(to_string(r.casting)),
                                  std::string(to_string(r.overflow)));
          },
          [](const py::tuple& state) {
            return translated([&] { return make_recipe(state[0], state[1], state[2]); });
          }));
  g_cast_type = reinterpret_cast<PyTypeObject*>(cast.ptr());

  py::class_<Report> report(module, "Report", docs::report);
  report.def(py::init<>(), docs::no_arguments_init)
      .def_readonly("count", &Report::count, "Elements looked at.")
      .def_readonly("nan", &Report::nan, "NaN in the source.")
      .def_readonly("overflow", &Report::overflow, "Finite values out of the target's range.")
      .def_readonly("underflow", &Report::underflow, "Nonzero values that became zero.")
      .def_readonly("inexact", &Report::inexact,
                    "Values that changed and are not counted as overflow; underflow counts here too.")
      .def(
          "to_dict",
          [](const Report& r) {
            return py::dict(py::arg("count") = r.count, py::arg("nan") = r.nan, py::arg("overflow") = r.overflow,
                            py::arg("underflow") = r.underflow, py::arg("inexact") = r.inexact);
          },
          "The counters as a dict.")
      .def("__eq__", equals<Report>, py::is_operator())
      .def("__repr__", [](const Report& r) { return text(r); })
      // a CastError carries one, and travels between processes
      .def(
          py::pickle([](const Report& r) { return py::make_tuple(r.count, r.nan, r.overflow, r.underflow, r.inexact); },
                     [](const py::tuple& state) {
                       return Report{state[0].cast<std::uint64_t>(), state[1].cast<std::uint64_t>(),
                                     state[2].cast<std::uint64_t>(), state[3].cast<std::uint64_t>(),
                                     state[4].cast<std::uint64_t>()};
                     }));
  set_public_name(cast.ptr(), "halfway.Cast");
  set_public_name(report.ptr(), "halfway.Report");
  const auto factory = py::cpp_function([](std::uint64_t count, std::uint64_t nan, std::uint64_t overflow,
                                           std::uint64_t underflow, std::uint64_t inexact) {
    return Report{count, nan, overflow, underflow, inexact};
  });
  set_report_factory(factory.ptr());
}

}  // namespace halfway::python
