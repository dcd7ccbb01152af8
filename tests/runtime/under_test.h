// What tests of kernels share: which instruction set and how many threads are used, and memory that shows who writes
// beyond its end.
#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "cast/tiers.h"
#include "halfway/parallel.h"

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

// One setting after another, in the order of calls: every number of threads with every tier. Uses it for as long as it
// lives.
class NextSetting {
 public:
  static constexpr std::array<int, 3> thread_counts{1, 2, 7};

  NextSetting() : NextSetting(next_call()) {}
  ~NextSetting() { halfway::set_num_threads(0); }
  NextSetting(const NextSetting&) = delete;
  NextSetting& operator=(const NextSetting&) = delete;

  [[nodiscard]] std::string_view tier() const { return tier_; }
  [[nodiscard]] int threads() const { return threads_; }

 private:
  explicit NextSetting(std::size_t call)
      : tier_(halfway::detail::available_tiers()[call % halfway::detail::available_tiers().size()]),
        threads_(thread_counts[call / halfway::detail::available_tiers().size() % thread_counts.size()]),
        in_(tier_) {
    halfway::set_num_threads(threads_);
  }
  static std::size_t next_call() {
    static std::size_t calls = 0;
    return calls++;
  }

  std::string_view tier_;
  int threads_;
  InTier in_;
};

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
