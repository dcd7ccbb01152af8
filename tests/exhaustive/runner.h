// Runs the chunks of a sweep, or a share of them, on several threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "sweep.h"

namespace sweep {

// One of `shares` parts of each sweep; all of them together are everything. The seed chooses which chunks make a part,
// and what is random in them.
struct Share {
  std::uint64_t number = 1;  // 1 .. shares
  std::uint64_t shares = 1;
  std::uint64_t seed = 0;
};

struct Result {
  Findings findings;
  std::uint64_t done = 0;    // chunks
  std::uint64_t picked = 0;  // chunks of the share

  // Nothing was compared, where something should have been. Single chunks may be empty (there are no ties between the
  // smallest integers), a whole sweep may not.
  [[nodiscard]] bool vacuous(const Sweep& sweep) const {
    return findings.checked() == 0 && (done == sweep.chunks || done == 0);
  }
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

// After the deadline no chunk is begun but the first, and those of a sweep that shares do not divide. An exception in a
// chunk is a mismatch. `subject` makes what is under test, once for each thread, on that thread.
[[nodiscard]] Result run(const Sweep& sweep, const Share& share, unsigned threads, Deadline deadline,
                         const std::function<Subject()>& subject = host_cast);

}  // namespace sweep
