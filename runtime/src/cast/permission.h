// Which casts are refused before any element is looked at, and in which words. Private to the runtime.
#pragma once

#include "halfway/cast.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// throws: Error(unsupported_dtype) when the dtypes differ and one is not castable; CastError when `casting` forbids the
//         pair, or forbids to swap the bytes (`swaps`: the byte order changes)
void require_permitted(DType from, DType to, Casting casting, bool swaps);

// throws: Error(device) when the host cannot address the memory; `role` is "source" or "destination"
void require_host(Device device, const char* role);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
