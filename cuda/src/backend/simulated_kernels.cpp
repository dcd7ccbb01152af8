#include "simulated_kernels.h"

#include <memory>

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

void run_launch(const Launch& launch) {
  use_kernel(launch, [&](auto body) { run_blocks<decltype(body)>(launch); });
}

void run_conversion(const Conversion& work) {
  run_launch(*std::make_unique<Launch>(choose(work)));  // too large for the stack of every thread
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
