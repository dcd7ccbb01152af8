#include "recipe.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "cast/permutation.h"
#include "cast/transform.h"
#include "docs.h"
#include "numpy_api.h"
#include "text.h"
#include "torch_api.h"

namespace halfway::python {

void set_report_factory(PyObject* factory);  // errors.cpp

namespace {

namespace py = pybind11;

PyTypeObject* g_cast_type = nullptr;

constexpr std::array all_castings{Casting::no,        Casting::equiv,  Casting::safe,
                                  Casting::same_kind, Casting::unsafe, Casting::same_value};
constexpr std::array all_roundings{Rounding::nearest, Rounding::stochastic};
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

// What fits no source, whatever its shape and dtype. throws: Error (permute, unsupported_dtype), PythonError
void require_consistent(const Extras& extras, DType dtype) {
  CastOptions options;
  apply(extras, options);
  detail::require_transformable(dtype, options);
  if (!extras.permute) {
    return;
  }
  const auto ndim = static_cast<std::int64_t>(extras.permute->size());
  const detail::Permutation permutation(options, extras.permute->size());
  if (extras.axis && (*extras.axis < -ndim || *extras.axis >= ndim)) {
    throw_value_error("axis=" + std::to_string(*extras.axis) + " is none of the " + std::to_string(ndim) +
                      " axes that permute=" + detail::tuple_text(*extras.permute) + " names");
  }
}

// Python object -> Recipe fields, shared by Cast() and the pickle.
Recipe make_recipe(const py::object& dtype, const py::object& casting, const py::object& overflow,
                   const ExtraObjects& extras) {
  Recipe recipe{parse_dtype(dtype.ptr(), /*or_cast=*/false), parse_casting(casting.ptr()),
                parse_overflow(overflow.ptr()), parse_extras(extras)};
  if (recipe.extras != nullptr) {
    require_consistent(*recipe.extras, recipe.dtype);
  }
  return recipe;
}

// The fields that most recipes leave at their defaults.
const Extras& extras_of(const Recipe& recipe) {
  static const Extras none;
  return recipe.extras != nullptr ? *recipe.extras : none;
}

py::object python_of(const OwnCoefficients& coefficients) {
  if (coefficients.values.empty() && !coefficients.is_along_axis) return py::none();
  if (!coefficients.is_along_axis) return py::float_(coefficients.values.front());
  return py::tuple(py::cast(coefficients.values));
}

py::object python_of(const std::optional<std::vector<std::int64_t>>& axes) {
  return axes ? py::object(py::tuple(py::cast(*axes))) : py::none();
}

// Every field but the dtype, in the order of Cast(): name, value, default.
struct Field {
  const char* name;
  py::object value;
  py::object standard;
};
std::vector<Field> fields_of(const Recipe& recipe) {
  const Extras& extras = extras_of(recipe);
  return {{"casting", py::str(std::string(to_string(recipe.casting))), py::str("same_kind")},
          {"overflow", py::str(std::string(to_string(recipe.overflow))), py::str("default")},
          {"rounding", py::str(std::string(to_string(extras.rounding))), py::str("nearest")},
          {"seed", py::cast(extras.seed), py::none()},
          {"scale", python_of(extras.scale), py::none()},
          {"shift", python_of(extras.shift), py::none()},
          {"axis", py::cast(extras.axis), py::none()},
          {"permute", python_of(extras.permute), py::none()}};
}

py::object value_of(const Recipe& recipe, const char* name) {
  for (const Field& field : fields_of(recipe)) {
    if (std::string_view(field.name) == name) return field.value;
  }
  return py::none();
}

py::tuple state_of(const Recipe& recipe) {
  py::list state;
  state.append(to_string(recipe.dtype));
  for (const Field& field : fields_of(recipe)) state.append(field.value);
  return py::tuple(state);
}

Recipe recipe_of_state(const py::tuple& state) {
  // a recipe that was pickled before it had more than three fields
  const auto field = [&](std::size_t i) { return i < state.size() ? py::object(state[i]) : py::none(); };
  const std::array<py::object, 6> extras{field(3), field(4), field(5), field(6), field(7), field(8)};
  return make_recipe(
      state[0], state[1], state[2],
      {extras[0].ptr(), extras[1].ptr(), extras[2].ptr(), extras[3].ptr(), extras[4].ptr(), extras[5].ptr()});
}

std::string text(const Recipe& recipe) {
  std::string result = "Cast('" + to_string(recipe.dtype) + "'";
  for (const Field& field : fields_of(recipe)) {
    if (field.value.equal(field.standard)) continue;
    result += ", " + std::string(field.name) + "=" + std::string(py::repr(field.value));
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

std::int64_t parse_axis(PyObject* object, const char* what) {
  const Ref index = PyBool_Check(object) ? Ref{} : Ref::steal(PyNumber_Index(object));
  if (!index) {
    PyErr_Clear();
    throw_type_error(std::string(what) + " must be an int, not " + Py_TYPE(object)->tp_name);
  }
  int overflows = 0;
  const long long value = PyLong_AsLongLongAndOverflow(index.get(), &overflows);
  if (overflows != 0) {
    throw_value_error(std::string(what) + "=" + text_of(object) + " is no axis");
  }
  return value;
}

std::uint64_t parse_seed(PyObject* object) {
  const Ref index = PyBool_Check(object) ? Ref{} : Ref::steal(PyNumber_Index(object));
  if (!index) {
    PyErr_Clear();
    throw_type_error(std::string("seed must be an int, not ") + Py_TYPE(object)->tp_name);
  }
  const unsigned long long value = PyLong_AsUnsignedLongLong(index.get());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw_value_error("seed=" + text_of(object) + " is not within 0 and 2**64 - 1");
  }
  return value;
}

std::vector<std::int64_t> parse_permute(PyObject* object) {
  // not of any iterable: a set has no order
  const bool is_sequence = PySequence_Check(object) != 0 && !PyUnicode_Check(object) && !PyBytes_Check(object);
  const Ref axes = is_sequence ? Ref::steal(PySequence_Fast(object, "")) : Ref{};
  if (!axes) {
    PyErr_Clear();
    throw_type_error(std::string("permute must be a sequence of axes, not ") + Py_TYPE(object)->tp_name);
  }
  std::vector<std::int64_t> result;
  result.reserve(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(axes.get())));
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(axes.get()); ++i) {
    result.push_back(parse_axis(PySequence_Fast_GET_ITEM(axes.get(), i), "an axis of permute"));
  }
  return result;
}

// A dtype from any object, read anew.
DType read_dtype(PyObject* object, bool or_cast) {
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
  const auto* type = PyType_Check(object) ? reinterpret_cast<PyTypeObject*>(object) : Py_TYPE(object);
  throw_type_error(std::string("dtype must be a name, a NumPy, torch or ml_dtypes dtype") +
                   (or_cast ? ", a Python type or a halfway.Cast" : " or a Python type") + ", not " + type->tp_name);
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

DType parse_dtype(PyObject* object, bool or_cast) {
  if (const DType* known = known_dtype(object); known != nullptr) {
    return *known;
  }
  const DType dtype = read_dtype(object, or_cast);
  if (is_lasting(object, dtype)) {
    KnownDType& slot = slot_of(object);
    const Ref forgotten = Ref::steal(slot.object);  // let go of when the slot is whole again
    slot = {Ref::borrow(object).release(), dtype};
  }
  return dtype;
}

bool operator==(const Recipe& a, const Recipe& b) {
  return a.dtype == b.dtype && a.casting == b.casting && a.overflow == b.overflow && extras_of(a) == extras_of(b);
}

void apply(const Extras& extras, CastOptions& options) noexcept {
  options.rounding = extras.rounding;
  options.seed = extras.seed;
  options.scale = extras.scale.view();
  options.shift = extras.shift.view();
  options.axis = extras.axis;
  if (extras.permute) {
    options.permute = std::span<const std::int64_t>(*extras.permute);
  }
}

std::shared_ptr<const Extras> parse_extras(const ExtraObjects& objects) {
  const auto given = [](PyObject* object) { return object != nullptr && object != Py_None; };
  Extras extras;
  if (given(objects.rounding)) {
    extras.rounding = parse_choice(objects.rounding, "rounding", all_roundings);
  }
  if (given(objects.seed)) {
    extras.seed = parse_seed(objects.seed);
  }
  if (given(objects.scale)) {
    extras.scale = parse_coefficients(objects.scale, "scale");
  }
  if (given(objects.shift)) {
    extras.shift = parse_coefficients(objects.shift, "shift");
  }
  if (given(objects.axis)) {
    extras.axis = parse_axis(objects.axis, "axis");
  }
  if (given(objects.permute)) {
    extras.permute = parse_permute(objects.permute);
  }
  if (extras == Extras{}) {
    return nullptr;
  }
  CastOptions options;
  apply(extras, options);
  require_valid(options);
  return std::make_shared<const Extras>(std::move(extras));
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
  cast.def(py::init([](const py::object& dtype, const py::object& casting, const py::object& overflow,
                       const py::object& rounding, const py::object& seed, const py::object& scale,
                       const py::object& shift, const py::object& axis, const py::object& permute) {
             return translated([&] {
               return make_recipe(dtype, casting, overflow,
                                  {rounding.ptr(), seed.ptr(), scale.ptr(), shift.ptr(), axis.ptr(), permute.ptr()});
             });
           }),
           py::arg("dtype"), py::kw_only(), py::arg("casting") = "same_kind", py::arg("overflow") = "default",
           py::arg("rounding") = "nearest", py::arg("seed") = py::none(), py::arg("scale") = py::none(),
           py::arg("shift") = py::none(), py::arg("axis") = py::none(), py::arg("permute") = py::none(),
           docs::cast_init)
      .def_property_readonly(
          "dtype", [](const Recipe& r) { return to_string(r.dtype); }, "Name of the target dtype.")
      .def("__eq__", equals<Recipe>, py::is_operator())
      .def("__hash__", [](const Recipe& r) { return py::hash(py::str(text(r))); })
      .def("__repr__", [](const Recipe& r) { return text(r); })
      .def(py::pickle([](const Recipe& r) { return state_of(r); },
                      [](const py::tuple& state) { return translated([&] { return recipe_of_state(state); }); }));
  struct Property {
    const char* name;
    const char* doc;
  };
  constexpr std::array properties{
      Property{"casting", "The casting level."},
      Property{"overflow", "What values out of range become."},
      Property{"rounding", "How values between two of the target's are rounded."},
      Property{"seed", "The seed of stochastic rounding, or None."},
      Property{"scale", "The factor: None, a float, or a tuple of one for each index of the axis."},
      Property{"shift", "What is added: None, a float, or a tuple of one for each index of the axis."},
      Property{"axis", "The axis of the source that scale and shift go along, or None."},
      Property{"permute", "The axes of the result in terms of the source's, or None."},
  };
  for (const Property& property : properties) {
    cast.def_property_readonly(
        property.name, [name = property.name](const Recipe& r) { return value_of(r, name); }, property.doc);
  }
  g_cast_type = reinterpret_cast<PyTypeObject*>(cast.ptr());

  py::class_<Report> report(module, "Report", docs::report);
  report.def(py::init<>(), docs::no_arguments_init)
      .def_readonly("count", &Report::count, "Elements looked at.")
      .def_readonly("nan", &Report::nan, "NaN in the source; with scale or shift, in their result.")
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
