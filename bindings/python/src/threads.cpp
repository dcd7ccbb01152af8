#include "threads.h"

#include <algorithm>
#include <climits>
#include <string>

#include "docs.h"
#include "halfway/parallel.h"
#include "parallel_run.h"

namespace halfway::python {
namespace {

// Interned names, made once.
PyObject* g_worker_module = nullptr;
PyObject* g_worker_info = nullptr;

bool g_is_worker = false;  // once true it stays true; the GIL guards it

PyObject* get_num_threads(PyObject* /*self*/, PyObject* /*unused*/) {
  limit_threads_in_workers();
  return PyLong_FromLong(num_threads());
}

PyObject* put_num_threads(PyObject* /*self*/, PyObject* argument) {
  return guarded([argument] {
    if (PyBool_Check(argument) || !PyIndex_Check(argument)) {
      throw_type_error(std::string("set_num_threads() takes an int, not ") + Py_TYPE(argument)->tp_name);
    }
    const Ref number = checked(PyNumber_Index(argument));
    int overflow = 0;
    const long n = PyLong_AsLongAndOverflow(number.get(), &overflow);
    if (overflow < 0 || (overflow == 0 && n < 0)) {
      throw_value_error("the number of threads must be at least 1, or 0 for the default, not " + text_of(number.get()));
    }
    set_num_threads(overflow > 0 ? max_threads : static_cast<int>(std::min<long>(n, max_threads)));
    return Py_NewRef(Py_None);
  });
}

PyMethodDef functions[] = {
    {"num_threads", get_num_threads, METH_NOARGS, docs::num_threads},
    {"set_num_threads", put_num_threads, METH_O, docs::set_num_threads},
    {nullptr, nullptr, 0, nullptr},
};

// torch keeps what get_worker_info() returns in a variable of this module: None in any other process. The module is
// there before a worker runs anything, and asking it directly imports nothing and calls no Python code.
bool ask_torch() noexcept {
  PyObject* modules = PyImport_GetModuleDict();
  if (modules == nullptr || !PyDict_Check(modules)) {
    return false;
  }
  PyObject* module = PyDict_GetItemWithError(modules, g_worker_module);
  if (module == nullptr || !PyModule_Check(module)) {
    return false;
  }
  PyObject* info = PyDict_GetItemWithError(PyModule_GetDict(module), g_worker_info);
  return info != nullptr && info != Py_None;
}

}  // namespace

bool in_data_loader_worker() noexcept {
  if (!g_is_worker) {
    if (PyErr_Occurred() == nullptr) {
      g_is_worker = ask_torch();
      clear_foreign_error();
    } else {
      const SavedException saved;
      g_is_worker = ask_torch();
      clear_foreign_error();
    }
  }
  return g_is_worker;
}

void limit_threads_in_workers() noexcept {
  if (!g_is_worker && in_data_loader_worker()) {
    detail::set_default_num_threads(1);
  }
}

void init_threads(PyObject* module) {
  g_worker_module = checked(PyUnicode_InternFromString("torch.utils.data._utils.worker")).release();
  g_worker_info = checked(PyUnicode_InternFromString("_worker_info")).release();
  if (PyModule_AddFunctions(module, functions) < 0) {
    throw PythonError{};
  }
}

}  // namespace halfway::python
