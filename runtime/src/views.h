// Views made of views. Private to the runtime and to what is built on it.
#pragma once

#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The view of memory that is written into, or that whoever takes it only reads.
[[nodiscard]] inline MutableView writable(const TensorView& view) noexcept {
  return {const_cast<void*>(view.data), view.dtype, view.device, view.shape, view.strides, view.readonly, view.swapped,
          view.strides_in_bytes,        view.padded};
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
