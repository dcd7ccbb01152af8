// The C exchange table that halfway.Tensor offers, so that other libraries exchange with it without Python calls.
#include <dlpack/dlpack.h>

#include <array>
#include <cstddef>

#include "box.h"
#include "halfway/dlpack.h"
#include "release.h"
#include "tensor_type.h"

namespace halfway::python {
namespace {

// Errors go through SetError, never through Python.
int allocate(DLTensor* prototype, DLManagedTensorVersioned** out, void* error_context,
             void (*set_error)(void* error_context, const char* kind, const char* message)) {
  *out = nullptr;
  try {
    const Device device{static_cast<DeviceType>(prototype->device.device_type), prototype->device.device_id};
    if (device.type != DeviceType::cpu) {
      throw Error(Reason::unavailable, "only host memory can be allocated");
    }
    if (prototype->ndim < 0 || (prototype->ndim > 0 && prototype->shape == nullptr)) {
      throw Error(Reason::malformed, "the prototype has no shape");
    }
    const DType dtype{prototype->dtype.code, prototype->dtype.bits, prototype->dtype.lanes};
    *out = Tensor::allocate({prototype->shape, static_cast<std::size_t>(prototype->ndim)}, dtype).to_dlpack();
    return 0;
  } catch (const Error& error) {
    set_error(error_context, "BufferError", error.what());
  } catch (const std::bad_alloc&) {
    set_error(error_context, "MemoryError", "out of memory");
  } catch (const std::exception& error) {
    set_error(error_context, "RuntimeError", error.what());
  }
  return -1;
}

// The tensor object behind a void*, or TypeError.
TensorObject& own(void* object) {
  if (!is_tensor(static_cast<PyObject*>(object))) {
    throw_type_error("this exchange table takes halfway.Tensor objects");
  }
  return tensor_object(static_cast<PyObject*>(object));
}

int from_object(void* object, DLManagedTensorVersioned** out) {
  *out = nullptr;
  return guarded(
      [&] {
        *out = own(object).tensor.share().to_dlpack();
        return 0;
      },
      -1);
}

int to_object(DLManagedTensorVersioned* managed, void** out) {
  *out = nullptr;
  return guarded(
      [&] {
        // not consumed on failure: that is what torch does, and what a consumer that retries needs
        Tensor tensor = detail::import_tensor(managed, release_managed);
        try {
          *out = wrap_tensor(tensor.share());
        } catch (...) {
          detail::Box* box = detail::Box::of(tensor);
          box->context = nullptr;
          throw;
        }
        return 0;
      },
      -1);
}

int describe_object(void* object, DLTensor* out) {
  return guarded(
      [&] {
        const Tensor& tensor = own(object).tensor;
        if (tensor.view().readonly) {
          throw Error(Reason::readonly, "the tensor is read-only, which a bare DLTensor cannot say",
                      "use managed_tensor_from_py_object_no_sync, whose flags can");
        }
        *out = detail::Box::of(tensor)->tensor();
        return 0;
      },
      -1);
}

int current_stream(DLDeviceType /*type*/, int32_t /*id*/, void** out) {
  *out = nullptr;
  return 0;
}

const DLPackExchangeAPI table = {
    .header = {.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION}, .prev_api = nullptr},
    .managed_tensor_allocator = allocate,
    .managed_tensor_from_py_object_no_sync = from_object,
    .managed_tensor_to_py_object_no_sync = to_object,
    .dltensor_from_py_object_no_sync = describe_object,
    .current_work_stream = current_stream,
};

}  // namespace

Ref own_exchange_table() {
  return checked(PyCapsule_New(const_cast<DLPackExchangeAPI*>(&table), "dlpack_exchange_api", nullptr));
}

}  // namespace halfway::python
