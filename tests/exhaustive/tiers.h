// The instruction sets that the library has loops for on this machine.
#pragma once

#include <string>
#include <vector>

#include "cast/tiers.h"

namespace tiers {

// What HALFWAY_TIER may be, for each the name; a single empty name where there is only one set of loops.
inline std::vector<std::string> available() {
  const auto names = halfway::detail::available_tiers();
  return {names.begin(), names.end()};
}

inline std::string active() { return std::string(halfway::detail::active_tier()); }

}  // namespace tiers
