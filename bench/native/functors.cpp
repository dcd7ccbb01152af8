// The loops of x86-64-v3 as a compiler makes them of the functors of convert.h, without the steps written by hand.
#define HALFWAY_WITHOUT_STEPS
#define HALFWAY_TIER_NAME "functors"
#define HALFWAY_TIER_KERNELS kernels_functors
#include "cast/tiers/loops.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

template <class... To, class... From>
constexpr auto loops_of_all(Pairs<Pair<To, From>...> /*pairs*/) noexcept {
  return std::array{FusedLoop{From::dtype, To::dtype, convert_fused<To, From>, nullptr}...};
}
constexpr std::array all = loops_of_all(HotPairs{});

}  // namespace

extern const std::span<const FusedLoop> functor_loops;
constinit const std::span<const FusedLoop> functor_loops(all);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
