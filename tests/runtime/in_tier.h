// Choosing the kernels that casts use, for one scope.
#pragma once

#include <boost/test/unit_test.hpp>

#include <string_view>

#include "cast/tiers.h"

namespace tiers {

// Uses a tier for as long as it lives.
class InTier {
 public:
  explicit InTier(std::string_view name) {
    if (!halfway::detail::set_active_tier(name)) BOOST_FAIL("no tier " << name);
  }
  ~InTier() { halfway::detail::set_active_tier({}); }
  InTier(const InTier&) = delete;
  InTier& operator=(const InTier&) = delete;
};

}  // namespace tiers
