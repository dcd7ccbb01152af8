// torch's tensors on a device: memory from its allocator, its current stream, and tensors opened and delivered, all
// through its exchange table.
#pragma once

#include <dlpack/dlpack.h>

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "halfway/tensor.h"
#include "py.h"
#include "torch_api.h"

namespace halfway::python {

// The stream on which torch works in this thread on a device. throws: Error (unavailable: torch has no exchange table)
[[nodiscard]] void* torch_stream(int device);

// The index of torch's current device, where torch has begun to use devices.
[[nodiscard]] std::optional<int> current_torch_device() noexcept;

// What torch says of devices, for an error's message: "torch is not loaded", ...
[[nodiscard]] std::string torch_on_devices();

struct ReleaseManaged {
  void operator()(DLManagedTensorVersioned* managed) const noexcept;
};
using ManagedPointer = std::unique_ptr<DLManagedTensorVersioned, ReleaseManaged>;

// Fresh row-major memory of torch's allocator, ready on torch's current stream.
// throws: Error (unavailable: torch has no exchange table, or cannot allocate), std::bad_alloc
[[nodiscard]] ManagedPointer allocate_in_torch(std::span<const std::int64_t> shape, DType dtype, Device device);

// A torch tensor over device memory. throws: Error (malformed: torch refuses)
[[nodiscard]] PyObject* torch_from_managed(ManagedPointer managed);

// An owner of a torch tensor's device memory. throws: Error
[[nodiscard]] Tensor share_of_torch(PyObject* tensor);

// --- for tests: another type, whose exchange table and tensors take the place of torch's where a device is used

// `type` or None. throws: PythonError (TypeError: a type without an exchange table)
void use_as_torch(PyObject* type);
[[nodiscard]] bool is_stand_in(PyObject* object) noexcept;
[[nodiscard]] TorchSource open_stand_in(PyObject* tensor);

}  // namespace halfway::python
