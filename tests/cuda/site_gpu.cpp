// The first GPU of this machine. Without one the executable says what was looked for, and exits with 77: skipped.
#include <cstdio>
#include <cstdlib>

#include "halfway/cuda/transfer.h"
#include "site.h"

namespace site {
namespace {

constexpr int skipped = 77;

struct NeedsDevice {
  NeedsDevice() {
    const std::string why = halfway::cuda::unavailable_because();
    if (why.empty()) return;
    std::fprintf(stderr, "skipped, for want of a GPU: %s\n", why.c_str());
    std::fflush(stderr);
    std::_Exit(skipped);
  }
};
BOOST_TEST_GLOBAL_FIXTURE(NeedsDevice);

}  // namespace

Backend& backend() { return halfway::cuda::detail::shipped_backend(); }
// HALFWAY_GPU_QUICK: a fifth of what the simulated device does, where a tool watches every access.
std::int64_t rounds(std::int64_t simulated, std::int64_t real) {
  static const bool quick = std::getenv("HALFWAY_GPU_QUICK") != nullptr;  // NOLINT(concurrency-mt-unsafe)
  return quick ? (simulated + 4) / 5 : real;
}
std::optional<std::uint64_t> launches() { return std::nullopt; }

}  // namespace site
