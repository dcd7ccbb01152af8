#include "runner.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace sweep {
namespace {

using Clock = std::chrono::steady_clock;

// The chunks of a share: every N-th in an order that the seed chooses, at least one.
class Picked {
 public:
  Picked(const Share& share, const Sweep& sweep) : chunks_(sweep.chunks) {
    std::uint64_t seed = share.seed;
    for (const char c : sweep.name) seed = mix(seed, static_cast<unsigned char>(c));
    offset_ = seed % chunks_;
    factor_ = chunks_ == 1 ? 1 : 1 + mix(seed, 1) % (chunks_ - 1);
    while (std::gcd(factor_, chunks_) != 1) ++factor_;
    if (sweep.whole) return;
    first_ = (share.number - 1) % chunks_;
    step_ = share.shares;
  }
  [[nodiscard]] std::uint64_t count() const { return (chunks_ - first_ + step_ - 1) / step_; }
  [[nodiscard]] std::uint64_t operator[](std::uint64_t i) const {
    return ((first_ + i * step_) * factor_ + offset_) % chunks_;
  }

 private:
  std::uint64_t chunks_;
  std::uint64_t offset_;
  std::uint64_t factor_;
  std::uint64_t first_ = 0;
  std::uint64_t step_ = 1;
};

}  // namespace

Result run(const Sweep& sweep, const Share& share, unsigned threads, Deadline deadline,
           const std::function<Subject()>& subject) {
  const Picked picked(share, sweep);
  Result result;
  result.picked = picked.count();
  std::atomic<std::uint64_t> next{0};
  std::mutex mutex;
  const auto work = [&] {
    Findings findings;
    std::uint64_t done = 0;
    try {
      Checker checker(findings, subject());
      for (;;) {
        const std::uint64_t i = next++;
        const bool late = deadline && !sweep.whole && i > 0 && Clock::now() > *deadline;
        if (i >= picked.count() || late) break;
        try {
          sweep.run(picked[i], share.seed, checker);
        } catch (const std::exception& error) {
          findings.add_mismatches(1);
          findings.describe("chunk " + std::to_string(picked[i]) + ": " + error.what());
        }
        ++done;
      }
    } catch (const std::exception& error) {
      findings.add_mismatches(1);
      findings.describe(std::string("there is nothing to test: ") + error.what());
    }
    const std::lock_guard lock(mutex);
    result.findings.merge(findings);
    result.done += done;
  };
  std::vector<std::thread> others;
  const auto wanted = static_cast<unsigned>(std::min<std::uint64_t>(threads, picked.count()));
  for (unsigned i = 1; i < wanted; ++i) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  return result;
}

}  // namespace sweep
