// Plans of transfers for whoever carries them out: without the words, which cost as much as a small transfer's calls.
// Private to the library.
#pragma once

#include <cstdint>

#include "halfway/plan.h"

namespace halfway {
inline namespace v0 {
namespace detail {

enum class Words : std::uint8_t {
  all,   // as plan_transfer() of plan.h
  none,  // `because` and `steps` stay empty; all else is the same
};

[[nodiscard]] TransferPlan plan_transfer(const TensorView& source, const TransferWish& wish, const Machine& machine,
                                         Words words);

// Whether a transfer to the device has at most `Machine::small` bytes on either side: its plan does not depend on what
// host memory the source is in. Of a malformed view it says no.
[[nodiscard]] bool is_small_transfer(const TensorView& source, DType to, const Machine& machine) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
