// The instruction sets that the library has loops for on this machine.
#pragma once

#include <string>
#include <vector>

#if __has_include("cast/tiers.h")
#include "cast/tiers.h"
#endif

namespace tiers {

// What HALFWAY_TIER may be, for each the name; a single empty name where there is only one set of loops.
inline std::vector<std::string> available() {
#if __has_include("cast/tiers.h")
  const auto names = halfway::detail::available_tiers();
  return {names.begin(), names.end()};
#else
  return {""};
#endif
}

inline std::string active() {
#if __has_include("cast/tiers.h")
  return std::string(halfway::detail::active_tier());
#else
  return "";
#endif
}

}  // namespace tiers
