// Import from DLPack. The structs are only forward-declared: include whichever dlpack.h you like, or none.
#pragma once

#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

// Takes ownership of `managed`, whatever happens: when this throws, its deleter has been called exactly once.
// Accepted is what `validate` accepts. `byte_offset` is folded into the data pointer, NULL strides and those of empty
// tensors become row-major, IS_COPIED and unknown flags are dropped, and the device id of host memory becomes 0. On
// devices that `DeviceType` does not name, whose data may be a handle, byte_offset stays and is exported again.
// When `version.major != 1` nothing but the deleter is touched.
// throws: Error (version, malformed, unsupported_dtype), std::bad_alloc, std::invalid_argument (nullptr)
[[nodiscard]] Tensor from_dlpack(DLManagedTensorVersioned* managed);

// The struct used before DLPack 1.0: it cannot say whether it is writable, so the tensor is not marked read-only.
[[nodiscard]] Tensor from_dlpack(DLManagedTensor* managed);

}  // namespace v0
}  // namespace halfway
