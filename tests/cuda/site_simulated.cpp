#include "backend/simulated.h"
#include "runtime/rounds.h"
#include "site.h"

namespace site {
namespace {

halfway::cuda::detail::Simulated& device() {
  static halfway::cuda::detail::Simulated simulated({.memory = std::size_t{8} << 20, .threads = false});
  return simulated;
}

// At the end, whatever the cases were: no engine did what none may do.
struct NothingWrong {
  ~NothingWrong() { BOOST_TEST(device().violation() == nullptr); }
};
BOOST_TEST_GLOBAL_FIXTURE(NothingWrong);

}  // namespace

Backend& backend() { return device(); }
std::int64_t rounds(std::int64_t simulated, std::int64_t /*real*/) { return rounds::of(static_cast<int>(simulated)); }
std::optional<std::uint64_t> launches() { return device().counters().launches; }

}  // namespace site
