// C++ exceptions -> ExchangeError, CastError and Python's own.
#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <variant>
#include <vector>

#include "py.h"

namespace halfway::python {
namespace {

PyObject* g_exchange_error = nullptr;
PyObject* g_cast_error = nullptr;
PyObject* g_report_type_factory = nullptr;  // halfway._core._report(count, nan, overflow, underflow, inexact)

Ref text(std::string_view value) {
  return checked(PyUnicode_DecodeUTF8(value.data(), static_cast<Py_ssize_t>(value.size()), "replace"));
}

void set_exchange_error(const Error& error) {
  const Ref message = text(error.message());
  const Ref reasons = reasons_tuple(error.reasons());
  const Ref hint = text(error.hint());
  const Ref instance = checked(staying_at_exit([&] {
    return PyObject_CallFunctionObjArgs(g_exchange_error, message.get(), reasons.get(), hint.get(), nullptr);
  }));
  PyErr_SetObject(g_exchange_error, instance.get());
}

Ref report_of(const CastError& error) {
  if (!error.report()) {
    return Ref::borrow(Py_None);
  }
  const Report& r = *error.report();
  return checked(
      PyObject_CallFunction(g_report_type_factory, "KKKKK", static_cast<unsigned long long>(r.count),
                            static_cast<unsigned long long>(r.nan), static_cast<unsigned long long>(r.overflow),
                            static_cast<unsigned long long>(r.underflow), static_cast<unsigned long long>(r.inexact)));
}

void set_cast_error(const CastError& error) {
  const Ref message = text(error.message());
  const Ref hint = text(error.hint());
  const Ref report = report_of(error);
  const std::vector<std::int64_t>& places = error.index();
  Ref index = checked(PyTuple_New(static_cast<Py_ssize_t>(places.size())));
  for (std::size_t i = 0; i < places.size(); ++i) {
    PyTuple_SET_ITEM(index.get(), static_cast<Py_ssize_t>(i), checked(PyLong_FromLongLong(places[i])).release());
  }
  if (!error.report()) {
    index = Ref::borrow(Py_None);
  }
  const Ref value = error.value().empty() ? Ref::borrow(Py_None) : text(error.value());
  const Ref instance = checked(staying_at_exit([&] {
    return PyObject_CallFunctionObjArgs(g_cast_error, message.get(), hint.get(), report.get(), index.get(), value.get(),
                                        nullptr);
  }));
  PyErr_SetObject(g_cast_error, instance.get());
}

}  // namespace

Ref reasons_tuple(std::span<const Reason> reasons) {
  Ref tuple = checked(PyTuple_New(static_cast<Py_ssize_t>(reasons.size())));
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(i), text(to_string(reasons[i])).release());
  }
  return tuple;
}

void throw_type_error(const std::string& message) {
  PyErr_SetString(PyExc_TypeError, message.c_str());
  throw PythonError{};
}

void throw_value_error(const std::string& message) {
  PyErr_SetString(PyExc_ValueError, message.c_str());
  throw PythonError{};
}

PyObject* exchange_error_type() noexcept { return g_exchange_error; }

namespace {

// What a C++ exception says, taken out of it.
using Said = std::variant<std::monostate, CastError, Error>;

// Sets the Python error of an exception that has no class of its own in Python; of those that have, what they say.
Said read(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const PythonError&) {
    // already set
  } catch (const CastError& error) {
    return error;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception");
  }
  return {};
}

}  // namespace

void translate(const std::exception_ptr& thrown) noexcept {
  try {
    const Said said = read(thrown);
    if (const auto* cast_error = std::get_if<CastError>(&said)) {
      set_cast_error(*cast_error);
    } else if (const auto* error = std::get_if<Error>(&said)) {
      set_exchange_error(*error);
    }
  } catch (...) {
    // building the Python error failed: the error that this set (MemoryError, usually) stands
    if (PyErr_Occurred() == nullptr) {
      PyErr_NoMemory();
    }
  }
}

void translate_current_exception() noexcept { translate(std::current_exception()); }

void init_errors() {
  const Ref module = checked(PyImport_ImportModule("halfway._errors"));
  g_exchange_error = checked(PyObject_GetAttrString(module.get(), "ExchangeError")).release();
  g_cast_error = checked(PyObject_GetAttrString(module.get(), "CastError")).release();
}

void set_report_factory(PyObject* factory) {
  Py_XINCREF(factory);
  Py_XSETREF(g_report_type_factory, factory);
}

#if PY_VERSION_HEX >= 0x030C0000
SavedException::SavedException() noexcept : exception_(PyErr_GetRaisedException()) {}
SavedException::~SavedException() { PyErr_SetRaisedException(exception_); }
#else
SavedException::SavedException() noexcept { PyErr_Fetch(&type_, &value_, &traceback_); }
SavedException::~SavedException() { PyErr_Restore(type_, value_, traceback_); }
#endif

bool is_initializing(PyObject* module) noexcept {
  const Ref spec = Ref::steal(PyObject_GetAttrString(module, "__spec__"));
  const Ref flag = spec ? Ref::steal(PyObject_GetAttrString(spec.get(), "_initializing")) : Ref{};
  PyErr_Clear();
  return flag && flag.get() == Py_True;
}

std::string text_of(PyObject* object) noexcept {
  const Ref string = Ref::steal(PyObject_Str(object));
  const char* utf8 = string ? PyUnicode_AsUTF8(string.get()) : nullptr;
  if (utf8 == nullptr) {
    PyErr_Clear();
    return Py_TYPE(object)->tp_name;
  }
  return utf8;
}

}  // namespace halfway::python
