#include "pinning.h"

#include "capsule.h"
#include "devices.h"
#include "halfway/layout.h"
#include "libraries.h"
#include "numpy_api.h"
#include "tensor_type.h"

namespace halfway::python {
namespace {

// The address of what was locked, or None where there is nothing to lock, and what keeps that memory.
PyObject* register_array(PyObject* /*module*/, PyObject* object) {
  return guarded([&]() -> PyObject* {
    if (is_dlpack_capsule(object)) {
      throw_type_error("pin() takes an array, not a capsule, which can be read only once");
    }
    if (PyArray_IsScalar(object, Generic)) {
      throw_type_error("pin() takes an array, not a NumPy scalar, whose value is copied when it is read");
    }
    Source source = open_source(object);
    if (source.view.readonly) {
      throw Error(Reason::readonly, "the memory is read-only, and drivers lock writable memory alone",
                  "pin a writable copy");
    }
    const std::optional<Extent> bytes = extent(source.view);
    if (!bytes || bytes->high <= bytes->low || source.view.data == nullptr) {
      static_cast<void>(require_device({DeviceType::cuda, any_index}));
      return Py_BuildValue("(OO)", Py_None, Py_None);
    }
    const Ref keeper = source.object ? Ref::borrow(source.object.get()) : checked(wrap_tensor(source.tensor.share()));
    auto* const first = static_cast<std::byte*>(const_cast<void*>(source.view.data)) + bytes->low;
    const Ref address = checked(PyLong_FromVoidPtr(first));
    Ref result = checked(PyTuple_Pack(2, address.get(), keeper.get()));
    register_pinned(first, static_cast<std::size_t>(bytes->high - bytes->low));
    return result.release();
  });
}

PyObject* unregister_address(PyObject* /*module*/, PyObject* address) {
  return guarded([&]() -> PyObject* {
    void* const memory = PyLong_AsVoidPtr(address);
    if (PyErr_Occurred() != nullptr) {
      throw PythonError{};
    }
    unregister_pinned(memory);
    Py_RETURN_NONE;
  });
}

PyMethodDef functions[] = {
    {"_register_pinned", register_array, METH_O, nullptr},
    {"_unregister_pinned", unregister_address, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void init_pinning(PyObject* module) {
  if (PyModule_AddFunctions(module, functions) < 0) {
    throw PythonError{};
  }
}

}  // namespace halfway::python
