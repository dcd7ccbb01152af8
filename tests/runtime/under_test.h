// What tests of kernels share: which instruction set is used, and memory that shows who writes beyond its end.
#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "cast/tiers.h"

namespace under_test {

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

// One tier after another, in the order of calls, so that all of them are met.
inline std::string_view next_tier() {
  static std::size_t calls = 0;
  const auto tiers = halfway::detail::available_tiers();
  return tiers[calls++ % tiers.size()];
}

// Row-major memory at any address, with bytes around it that nobody may write to.
class Guarded {
 public:
  static constexpr std::size_t margin = 64;  // the widest vectors
  static constexpr std::byte untouched{0xA5};

  Guarded(std::size_t bytes, std::size_t misalignment)
      : memory_(bytes + 2 * margin, untouched), first_(margin - 8 + misalignment), bytes_(bytes) {}

  [[nodiscard]] std::byte* data() { return memory_.data() + first_; }
  [[nodiscard]] bool is_intact() const {
    const auto is_untouched = [](std::byte b) { return b == untouched; };
    const auto begin = memory_.begin() + static_cast<std::ptrdiff_t>(first_);
    return std::all_of(memory_.begin(), begin, is_untouched) &&
           std::all_of(begin + static_cast<std::ptrdiff_t>(bytes_), memory_.end(), is_untouched);
  }

 private:
  std::vector<std::byte> memory_;
  std::size_t first_;
  std::size_t bytes_;
};

}  // namespace under_test
