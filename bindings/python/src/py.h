// The few CPython helpers that the bindings share: owned references, and the way errors cross between C++ and Python.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <unistd.h>

#include <exception>
#include <span>
#include <string>
#include <utility>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#include "halfway/cast.h"
#include "halfway/error.h"

namespace halfway::python {

// An owned reference, or nothing.
class Ref {
 public:
  Ref() noexcept = default;
  [[nodiscard]] static Ref steal(PyObject* object) noexcept { return Ref(object); }
  [[nodiscard]] static Ref borrow(PyObject* object) noexcept {
    Py_XINCREF(object);
    return Ref(object);
  }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref&& other) noexcept {
    if (this != &other) {
      Py_XDECREF(std::exchange(object_, std::exchange(other.object_, nullptr)));
    }
    return *this;
  }
  Ref(const Ref&) = delete;
  Ref& operator=(const Ref&) = delete;
  ~Ref() { Py_XDECREF(object_); }

  [[nodiscard]] PyObject* get() const noexcept { return object_; }
  [[nodiscard]] PyObject* release() noexcept { return std::exchange(object_, nullptr); }
  explicit operator bool() const noexcept { return object_ != nullptr; }

 private:
  explicit Ref(PyObject* object) noexcept : object_(object) {}
  PyObject* object_ = nullptr;
};

// Thrown when a Python error is already set; `guarded` lets it through to the interpreter.
struct PythonError {};

// The reference, or PythonError when it is NULL.
[[nodiscard]] inline Ref checked(PyObject* object) {
  if (object == nullptr) {
    throw PythonError{};
  }
  return Ref::steal(object);
}

[[noreturn]] void throw_type_error(const std::string& message);
[[noreturn]] void throw_value_error(const std::string& message);

// Drops the Python error that is set (a foreign library's, whose text must not reach the user).
inline void clear_foreign_error() noexcept { PyErr_Clear(); }

// The words of the reasons, as a tuple. throws PythonError
[[nodiscard]] Ref reasons_tuple(std::span<const Reason> reasons);

// ExchangeError and CastError, defined in halfway/_errors.py; set by `init_errors`.
[[nodiscard]] PyObject* exchange_error_type() noexcept;

// Runs `body`, which may run Python code or take the GIL back, and returns what it returns.
//
// When the interpreter finalizes, CPython before 3.14 ends a daemon thread that asks for the GIL by pthread_exit. With
// glibc that unwinds the stack by an exception nobody may swallow: it would run our destructors without the GIL and
// abort the process at the first noexcept function. Such a thread stays here instead, as CPython 3.14 makes it do,
// until the process ends.
template <class Body>
decltype(auto) staying_at_exit(Body&& body) {
#if defined(__GLIBCXX__) && PY_VERSION_HEX < 0x030E0000
  try {
    return std::forward<Body>(body)();
  } catch (abi::__forced_unwind&) {
    for (;;) {
      ::pause();
    }
  }
#else
  return std::forward<Body>(body)();
#endif
}

// Turns a C++ exception into a Python error. To be called outside of catch blocks: it runs Python code, and a thread
// that ends in there cannot be kept (`staying_at_exit`) while another exception is being handled.
void translate(const std::exception_ptr& thrown) noexcept;

// The same inside a catch block, where no daemon thread comes.
void translate_current_exception() noexcept;

// Runs `body` as the inside of a C callback: whatever it throws becomes a Python error and `failure` is returned.
template <class Body, class Result = PyObject*>
Result guarded(Body&& body, Result failure = Result{}) noexcept {
  std::exception_ptr thrown;
  try {
    return staying_at_exit(std::forward<Body>(body));
  } catch (...) {
    thrown = std::current_exception();
  }
  translate(thrown);
  return failure;
}

// Imports halfway._errors. Must run before anything can fail.
void init_errors();

// Keeps a Python exception that is set out of the way of code that must not see it.
class SavedException {
 public:
  SavedException() noexcept;
  ~SavedException();
  SavedException(const SavedException&) = delete;
  SavedException& operator=(const SavedException&) = delete;

 private:
#if PY_VERSION_HEX >= 0x030C0000
  PyObject* exception_;
#else
  PyObject* type_;
  PyObject* value_;
  PyObject* traceback_;
#endif
};

// What error messages call a type that is public under another name than its module's. `name` is static.
inline void set_public_name(PyObject* type, const char* name) noexcept {
  reinterpret_cast<PyTypeObject*>(type)->tp_name = name;
}

// Whether a module is still being imported, by another thread: what it lacks now may come.
[[nodiscard]] bool is_initializing(PyObject* module) noexcept;

// `str(object)` or its type's name when that fails; for messages only.
[[nodiscard]] std::string text_of(PyObject* object) noexcept;

}  // namespace halfway::python
