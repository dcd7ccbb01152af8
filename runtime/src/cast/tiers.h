// Which instruction sets there are kernels for, and which of them this machine runs. Private to the runtime.
#pragma once

#include <span>
#include <string_view>

#include "kernels.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The tiers that this processor has, the oldest first; never empty.
[[nodiscard]] std::span<const std::string_view> available_tiers() noexcept;

// The name of the tier in use.
[[nodiscard]] std::string_view active_tier() noexcept;

// The kernels in use: of the newest tier, or of the one that the environment variable HALFWAY_TIER names. Chosen at the
// first use.
// throws: Error (unavailable: HALFWAY_TIER names no tier, or one that this processor lacks), at every use
[[nodiscard]] const Kernels& active_kernels();

// Uses a tier by its name from now on, whatever the environment says; an empty name restores the choice. For tests: no
// cast may run meanwhile. Returns whether there is such a tier.
bool set_active_tier(std::string_view name) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
