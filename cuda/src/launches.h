// The launches of a transfer or of a cast on a device, from its plan. Private to the engine.
#pragma once

#include <cstdint>

#include "../kernels/conversion.h"
#include "halfway/cast.h"
#include "halfway/plan.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Of one transfer, chunk by chunk: what all of them have in common is worked out once.
class Launches {
 public:
  // `there` is the tensor in device memory: the destination of a transfer to the device, whose axes are the result's,
  // or the source of one to the host.
  Launches(const TransferPlan& plan, const TensorView& there, const CastOptions& options);

  // Elements [first, first + count), in the order in which they cross, between memory that has nothing else, as the
  // device addresses it, and their places in the tensor.
  [[nodiscard]] Conversion from(const void* memory, std::uint64_t first, std::uint64_t count) const noexcept;
  [[nodiscard]] Conversion into(void* memory, std::uint64_t first, std::uint64_t count) const noexcept;

 private:
  Conversion work_;
};

// All of a cast on one device. Requires: the plan was made of both.
[[nodiscard]] Conversion launch_on_device(const TransferPlan& plan, const TensorView& source,
                                          const MutableView& destination, const CastOptions& options);

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
