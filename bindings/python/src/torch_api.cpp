#include "torch_api.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <utility>

#include "box.h"
#include "capsule.h"
#include "halfway/dlpack.h"
#include "halfway/layout.h"
#include "release.h"
#include "torch_threads.h"

namespace halfway::python {
namespace {

TorchApi g_torch;
bool g_loaded = false;
const DLPackExchangeAPI* g_table = nullptr;

struct NameRow {
  const char* name;
  DType dtype;
};
// What torch takes through DLPack. Not here: the quantized and bits dtypes, int1-7 and uint1-7 (exported as whole bytes
// of another dtype), float4_e2m1fn_x2, and the fp8 formats that torch lacks.
constexpr std::array<NameRow, 21> rows{{
    {"bool", boolean},
    {"uint8", uint8},
    {"int8", int8},
    {"uint16", uint16},
    {"int16", int16},
    {"uint32", uint32},
    {"int32", int32},
    {"uint64", uint64},
    {"int64", int64},
    {"float16", float16},
    {"bfloat16", bfloat16},
    {"float32", float32},
    {"float64", float64},
    {"complex32", complex32},
    {"complex64", complex64},
    {"complex128", complex128},
    {"float8_e4m3fn", float8_e4m3fn},
    {"float8_e4m3fnuz", float8_e4m3fnuz},
    {"float8_e5m2", float8_e5m2},
    {"float8_e5m2fnuz", float8_e5m2fnuz},
    {"float8_e8m0fnu", float8_e8m0fnu},
}};

PyGetSetDef* getset(PyTypeObject* type, const char* name) {
  const Ref descriptor = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name));
  if (!descriptor || !Py_IS_TYPE(descriptor.get(), &PyGetSetDescr_Type)) {
    PyErr_Clear();
    return nullptr;
  }
  return reinterpret_cast<PyGetSetDescrObject*>(descriptor.get())->d_getset;
}

PyCFunction method(PyTypeObject* type, const char* name) {
  const Ref descriptor = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name));
  if (!descriptor || !Py_IS_TYPE(descriptor.get(), &PyMethodDescr_Type)) {
    PyErr_Clear();
    return nullptr;
  }
  const PyMethodDef* definition = reinterpret_cast<PyMethodDescrObject*>(descriptor.get())->d_method;
  return definition->ml_flags == METH_NOARGS ? definition->ml_meth : nullptr;
}

// A table of a version we know: the newest with major 1, down the chain of older ones.
const DLPackExchangeAPI* usable(const DLPackExchangeAPIHeader* header) noexcept {
  while (header != nullptr && header->version.major != DLPACK_MAJOR_VERSION) {
    header = header->prev_api;
  }
  return reinterpret_cast<const DLPackExchangeAPI*>(header);
}

bool load(PyObject* module) {
  TorchApi api;
  const Ref tensor = Ref::steal(PyObject_GetAttrString(module, "Tensor"));
  const Ref dtype = Ref::steal(PyObject_GetAttrString(module, "dtype"));
  const Ref native = Ref::steal(PyObject_GetAttrString(module, "_C"));
  const Ref strided = Ref::steal(PyObject_GetAttrString(module, "strided"));
  const Ref without_functions =
      Ref::steal(native ? PyObject_GetAttrString(native.get(), "DisableTorchFunction") : nullptr);
  if (!tensor || !dtype || !native || !strided || !without_functions || !PyType_Check(tensor.get()) ||
      !PyType_Check(dtype.get())) {
    PyErr_Clear();
    return false;  // still being imported, or not torch
  }
  for (const NameRow& row : rows) {
    PyObject* object = PyObject_GetAttrString(module, row.name);
    if (object == nullptr) {
      PyErr_Clear();  // an older torch
    } else {
      api.dtypes.push_back({row.dtype, object});
      api.takes.set(TorchApi::slot(row.dtype.code, row.dtype.bits));
    }
  }
  if (api.dtypes.empty()) {
    return false;  // torch.Tensor is there before the dtypes are: another thread is still importing torch
  }
  api.module = Ref::borrow(module).release();
  api.tensor_type = reinterpret_cast<PyTypeObject*>(Ref::borrow(tensor.get()).release());
  api.dtype_type = reinterpret_cast<PyTypeObject*>(Ref::borrow(dtype.get()).release());
  api.table = exchange_table_of(api.tensor_type);
  api.versioned_capsules = PyObject_HasAttrString(native.get(), "_to_dlpack_versioned") != 0;
  api.requires_grad = getset(api.tensor_type, "requires_grad");
  api.dtype = getset(api.tensor_type, "dtype");
  api.is_neg = method(api.tensor_type, "is_neg");
  api.is_conj = method(api.tensor_type, "is_conj");
  api.increment_version = PyObject_GetAttrString(native.get(), "_increment_version");
  if (api.increment_version == nullptr) {
    PyErr_Clear();
  }
  api.native = Ref::borrow(native.get()).release();
  api.strided = Ref::borrow(strided.get()).release();
  api.without_functions = Ref::borrow(without_functions.get()).release();
  g_torch = std::move(api);
  g_table = g_torch.table;
  g_loaded = true;
  share_threads_with_torch();
  return true;
}

}  // namespace

const DLPackExchangeAPI* exchange_table_of(PyTypeObject* type) noexcept {
  // the standard's spelling first, then the one that early adopters shipped
  for (const char* name : {"__dlpack_c_exchange_api__", "__c_dlpack_exchange_api__"}) {
    const Ref attribute = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name));
    if (!attribute) {
      PyErr_Clear();
      continue;
    }
    const void* pointer = nullptr;
    if (PyCapsule_IsValid(attribute.get(), "dlpack_exchange_api") != 0) {
      pointer = PyCapsule_GetPointer(attribute.get(), "dlpack_exchange_api");
    }
    if (const DLPackExchangeAPI* table = usable(static_cast<const DLPackExchangeAPIHeader*>(pointer));
        table != nullptr && table->managed_tensor_from_py_object_no_sync != nullptr &&
        table->managed_tensor_to_py_object_no_sync != nullptr) {
      return table;
    }
  }
  return nullptr;
}

const TorchApi& torch() {
  if (g_loaded) {
    return g_torch;
  }
  const Ref module = Ref::steal(PyImport_ImportModule("torch"));
  if (!module) {
    if (PyErr_ExceptionMatches(PyExc_ImportError) == 0) {
      throw PythonError{};
    }
    const bool absent = PyErr_ExceptionMatches(PyExc_ModuleNotFoundError) != 0;
    PyErr_Clear();
    throw Error(
        Reason::unavailable, absent ? "torch is not installed" : "torch is installed but cannot be imported",
        absent ? "pip install torch; NumPy and DLPack exchange work without it" : "try: python -c 'import torch'");
  }
  if (!load(module.get())) {
    throw Error(Reason::unavailable, "torch is still being imported, or the module named torch is not PyTorch");
  }
  return g_torch;
}

const TorchApi* torch_if_loaded() noexcept {
  if (g_loaded) {
    return &g_torch;
  }
  static PyObject* const name = PyUnicode_InternFromString("torch");
  PyObject* module = name == nullptr ? nullptr : PyDict_GetItemWithError(PyImport_GetModuleDict(), name);
  if (module == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  try {
    return load(module) ? &g_torch : nullptr;
  } catch (...) {
    PyErr_Clear();
    return nullptr;
  }
}

bool is_torch_tensor(PyObject* object) noexcept {
  const TorchApi* api = torch_if_loaded();
  return api != nullptr && PyObject_TypeCheck(object, api->tensor_type) != 0;
}

bool torch_has_dtype(DType dtype) noexcept {
  return std::any_of(rows.begin(), rows.end(), [&](const NameRow& row) { return row.dtype == dtype; });
}

std::optional<DType> dtype_of_torch(const TorchApi& api, PyObject* dtype) noexcept {
  for (const TorchApi::DTypeRow& row : api.dtypes) {
    if (row.object == dtype) {
      return row.dtype;
    }
  }
  return std::nullopt;
}

PyObject* torch_from_box(const TorchApi& api, detail::Box* box) {
  PyObject* result = nullptr;
  if (api.table != nullptr) {
    if (api.table->managed_tensor_to_py_object_no_sync(&box->managed, reinterpret_cast<void**>(&result)) == 0) {
      return result;
    }
    box->drop();  // a failed import has not consumed its argument
    const std::string text = "torch refused the tensor";
    clear_foreign_error();
    throw Error(Reason::malformed, text);
  }
  const Ref capsule = capsule_of(detail::Box::wrap(box), api.versioned_capsules);
  result = PyObject_CallMethod(api.native, "_from_dlpack", "O", capsule.get());
  if (result == nullptr) {
    clear_foreign_error();
    throw Error(Reason::unsupported_dtype, "this torch does not take the tensor through DLPack",
                "a newer torch may; or pass dtype= to convert");
  }
  return result;
}

void mark_written(const TorchApi& api, PyObject* tensor) {
  if (api.increment_version == nullptr) {
    return;
  }
  // The list that torch wants is kept from call to call; a call inside of this one makes its own.
  static PyObject* spare = nullptr;
  Ref tensors = Ref::steal(std::exchange(spare, nullptr));
  if (!tensors) {
    tensors = checked(PyList_New(1));
  }
  Py_XDECREF(PyList_GET_ITEM(tensors.get(), 0));  // None, or nothing yet
  PyList_SET_ITEM(tensors.get(), 0, Ref::borrow(tensor).release());
  if (!Ref::steal(PyObject_CallOneArg(api.increment_version, tensors.get()))) {
    PyErr_Clear();  // inference tensors keep no version
  }
  if (spare == nullptr && Py_REFCNT(tensors.get()) == 1 && PyList_GET_SIZE(tensors.get()) == 1) {
    const Ref written = Ref::steal(PyList_GET_ITEM(tensors.get(), 0));
    PyList_SET_ITEM(tensors.get(), 0, Ref::borrow(Py_None).release());
    spare = tensors.release();
  }
}

void set_torch_table_enabled(bool enabled) {
  static_cast<void>(torch());
  g_torch.table = enabled ? g_table : nullptr;
}

}  // namespace halfway::python
