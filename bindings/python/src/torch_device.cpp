#include "torch_device.h"

#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "box.h"
#include "capsule.h"
#include "devices.h"
#include "halfway/layout.h"
#include "release.h"

namespace halfway::python {
namespace {

PyTypeObject* g_stand_in = nullptr;
const DLPackExchangeAPI* g_stand_in_table = nullptr;

const DLPackExchangeAPI& device_table() {
  const DLPackExchangeAPI* table = g_stand_in != nullptr ? g_stand_in_table : torch().table;
  if (table == nullptr || table->managed_tensor_allocator == nullptr || table->current_work_stream == nullptr) {
    throw Error(Reason::unavailable, "this torch has no DLPack exchange table, which its device memory comes through",
                "update torch; or move a host tensor with x.to(\"cuda\")");
  }
  return *table;
}

// What an allocator says instead of memory.
struct Refusal {
  bool out_of_memory = false;
  static void set(void* context, const char* kind, const char* message) {
    const std::string_view text = message == nullptr ? "" : message;
    static_cast<Refusal*>(context)->out_of_memory = (kind != nullptr && std::strcmp(kind, "MemoryError") == 0) ||
                                                    text.find("out of memory") != std::string_view::npos;
  }
};

// An attribute of an attribute, or nothing; never leaves a Python error.
Ref attribute(PyObject* object, const char* name) noexcept {
  Ref found = Ref::steal(object == nullptr ? nullptr : PyObject_GetAttrString(object, name));
  PyErr_Clear();
  return found;
}

std::optional<long> number(const Ref& result) noexcept {
  const long value = result ? PyLong_AsLong(result.get()) : -1;
  const bool failed = !result || PyErr_Occurred() != nullptr;
  PyErr_Clear();
  return failed ? std::nullopt : std::optional<long>(value);
}

std::optional<long> number(PyObject* object, const char* method) noexcept {
  return number(Ref::steal(object == nullptr ? nullptr : PyObject_CallMethod(object, method, nullptr)));
}

}  // namespace

void* torch_stream(int device) {
  void* stream = nullptr;
  if (device_table().current_work_stream(kDLCUDA, device, &stream) != 0) {
    clear_foreign_error();
    throw Error(Reason::unavailable, "torch does not say which stream it works on",
                "look at torch.cuda.current_stream(), whose error this is");
  }
  // cudaStreamLegacy is another name of the null stream
  return reinterpret_cast<std::uintptr_t>(stream) == 1 ? nullptr : stream;
}

std::optional<int> current_torch_device() noexcept {
  const TorchApi* api = torch_if_loaded();
  if (api == nullptr) {
    return std::nullopt;
  }
  // torch.cuda's own functions are Python code of several calls. That CUDA is initialised stays true in this process;
  // then torch._C has the rest, where torch was built for CUDA.
  static pid_t initialized_in = 0;
  static PyObject* const native_name = PyUnicode_InternFromString("_cuda_getDevice");
  std::optional<long> device;
  if (native_name != nullptr && initialized_in == ::getpid()) {
    device = number(Ref::steal(PyObject_CallMethodNoArgs(api->native, native_name)));
  }
  if (!device) {
    const Ref cuda = attribute(api->module, "cuda");
    if (number(cuda.get(), "is_initialized").value_or(0) == 0) {
      return std::nullopt;
    }
    initialized_in = ::getpid();
    device = number(cuda.get(), "current_device");
  }
  return device ? std::optional<int>(static_cast<int>(*device)) : std::nullopt;
}

std::string torch_on_devices() {
  const TorchApi* api = torch_if_loaded();
  if (api == nullptr) {
    return "torch is not loaded";
  }
  const Ref version = attribute(api->module, "__version__");
  const std::string name = "torch " + (version ? text_of(version.get()) : std::string("of unknown version"));
  const Ref built_for = attribute(attribute(api->module, "version").get(), "cuda");
  if (!built_for || built_for.get() == Py_None) {
    return name + " was built without CUDA";
  }
  const std::optional<long> count = number(attribute(api->module, "cuda").get(), "device_count");
  return name + " was built for CUDA " + text_of(built_for.get()) + " and sees " +
         (count ? std::to_string(*count) : std::string("no")) + (count == 1 ? " device" : " devices");
}

void ReleaseManaged::operator()(DLManagedTensorVersioned* managed) const noexcept {
  if (managed->deleter != nullptr) {
    const SavedException saved;
    managed->deleter(managed);
  }
}

ManagedPointer allocate_in_torch(std::span<const std::int64_t> shape, DType dtype, Device device) {
  const DLPackExchangeAPI& table = device_table();
  DLTensor prototype{};
  prototype.device = {static_cast<DLDeviceType>(device.type), device.id};
  prototype.dtype = {dtype.code, dtype.bits, dtype.lanes};
  prototype.ndim = static_cast<std::int32_t>(shape.size());
  prototype.shape = const_cast<std::int64_t*>(shape.data());
  DLManagedTensorVersioned* managed = nullptr;
  Refusal refusal;
  const int status = table.managed_tensor_allocator(&prototype, &managed, &refusal, Refusal::set);
  if (PyErr_Occurred() != nullptr) {
    refusal.out_of_memory = refusal.out_of_memory || PyErr_ExceptionMatches(PyExc_MemoryError) != 0;
    clear_foreign_error();
  }
  ManagedPointer owned(status == 0 ? managed : nullptr);
  if (!owned && refusal.out_of_memory) {
    throw std::bad_alloc();
  }
  if (!owned) {
    throw Error(Reason::unavailable, "torch gave no memory on " + to_string(device),
                "torch.empty(1, device=\"" + to_string(device) + "\") says why");
  }
  const DLTensor& tensor = owned->dl_tensor;
  if (tensor.device.device_type != prototype.device.device_type || tensor.device.device_id != device.id ||
      tensor.ndim != prototype.ndim || !std::equal(shape.begin(), shape.end(), tensor.shape) ||
      DType(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) != dtype ||
      (tensor.strides != nullptr && !is_contiguous(shape, {tensor.strides, shape.size()}))) {
    throw Error(Reason::out_mismatch, "torch's allocator gave a tensor of another dtype, shape, layout or device");
  }
  return owned;
}

PyObject* torch_from_managed(ManagedPointer managed) {
  const DLPackExchangeAPI& table = device_table();
  void* result = nullptr;
  if (table.managed_tensor_to_py_object_no_sync(managed.get(), &result) != 0) {
    clear_foreign_error();  // what failed has not consumed its argument
    throw Error(Reason::malformed, "torch refused the tensor");
  }
  static_cast<void>(managed.release());  // NOLINT(bugprone-unused-return-value): torch has it
  return static_cast<PyObject*>(result);
}

Tensor share_of_torch(PyObject* tensor) {
  if (!is_stand_in(tensor)) {
    return import_managed(managed_from_torch(torch(), tensor));
  }
  DLManagedTensorVersioned* managed = nullptr;
  if (g_stand_in_table->managed_tensor_from_py_object_no_sync(tensor, &managed) != 0) {
    throw PythonError{};
  }
  return import_managed(managed);
}

void use_as_torch(PyObject* type) {
  const DLPackExchangeAPI* table = nullptr;
  if (type != Py_None) {
    table = PyType_Check(type) ? exchange_table_of(reinterpret_cast<PyTypeObject*>(type)) : nullptr;
    if (table == nullptr || table->dltensor_from_py_object_no_sync == nullptr) {
      throw_type_error("expected a type with an exchange table");
    }
    Py_INCREF(type);
  }
  Py_XDECREF(reinterpret_cast<PyObject*>(g_stand_in));
  g_stand_in = type == Py_None ? nullptr : reinterpret_cast<PyTypeObject*>(type);
  g_stand_in_table = table;
}

bool is_stand_in(PyObject* object) noexcept {
  return g_stand_in != nullptr && PyObject_TypeCheck(object, g_stand_in) != 0;
}

TorchSource open_stand_in(PyObject* tensor) {
  DLTensor described{};
  if (g_stand_in_table->dltensor_from_py_object_no_sync(tensor, &described) != 0) {
    throw PythonError{};
  }
  TorchSource source;
  source.object = Ref::borrow(tensor);
  source.view = view_of_described(described);
  source.view.device = {static_cast<DeviceType>(described.device.device_type), described.device.device_id};
  return source;
}

}  // namespace halfway::python
