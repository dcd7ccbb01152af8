// The casts that most calls are: small, contiguous, nothing to check or count. Private to the runtime.
#pragma once

#include "halfway/cast.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Casts and returns true if everything about the call is plain: another dtype that the level allows, contiguous host
// memory in the machine's byte order on both sides, apart from each other, no count, no check, too small to share among
// threads. Else does nothing and returns false: the general way decides, and says what is wrong. It takes some hundred
// nanoseconds more, as long as casting a thousand elements.
// throws: Error (unavailable: see active_kernels())
[[nodiscard]] bool cast_plainly(const TensorView& source, const MutableView& destination, const CastOptions& options);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
