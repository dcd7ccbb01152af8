// Kernels on the simulated device.
#pragma once

#include "../../kernels/conversion.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// What a device would do: the kernel that is chosen for it, block by block, and in each block phase by phase, one thread
// after the other. Addresses are those that the host can use.
void run_conversion(const Conversion& work);

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
