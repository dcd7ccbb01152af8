// Measured constants for the planner of transfers, in place of the assumed ones (plan.h, `Machine`).
//
//   halfway::Machine here = halfway::cuda::calibrate();  // about a second; to be kept, for later processes
//   halfway::cuda::set_machine(here);
#pragma once

#include "halfway/plan.h"

namespace halfway {
inline namespace v0 {
namespace cuda {

// Measures how fast the wire is in both directions (copy engines, and kernels that reach over it) and how fast this
// process casts, on one core in its caches, and on all from memory into pinned slots. What else runs on the machine and
// the device is measured, too: best on idle ones. Takes 64 MiB of pinned, as much of device memory and 256 MiB of the
// host's meanwhile. throws: Error (unavailable, device), std::bad_alloc
[[nodiscard]] Machine calibrate(int device = 0);

// What plans are computed from, from now on, in this process; `chunk` stays as it is. Threads: any.
void set_machine(const Machine& machine);
[[nodiscard]] Machine machine();

}  // namespace cuda
}  // namespace v0
}  // namespace halfway
