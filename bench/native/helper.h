// A second thread for loops that are timed. It is started once, so nobody pays for its creation, and never joined: it
// waits for work until the process ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace halfway_bench {

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

class Helper {
 public:
  using Work = void (*)(const void* context);

  Helper() : thread_([this] { serve(); }) { thread_.detach(); }

  // One piece of work at a time; `context` has to live until `wait` returns.
  void start(Work work, const void* context) {
    work_ = work;
    context_ = context;
    posted_.fetch_add(1, std::memory_order_release);
    posted_.notify_one();
  }

  void wait() const {
    const std::uint32_t last = posted_.load(std::memory_order_relaxed);
    for (int i = 0; finished_.load(std::memory_order_acquire) != last; ++i) {
      if (i < spins) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  // Some tens of microseconds: longer than the gap between two repetitions, and short enough to leave the processor to
  // whoever is measured next.
  static constexpr int spins = 2000;

  void serve() {
    for (std::uint32_t seen = 0;;) {
      for (int i = 0; i < spins && posted_.load(std::memory_order_acquire) == seen; ++i) relax();
      posted_.wait(seen, std::memory_order_acquire);
      ++seen;
      work_(context_);
      finished_.store(seen, std::memory_order_release);
    }
  }

  Work work_ = nullptr;
  const void* context_ = nullptr;
  std::atomic<std::uint32_t> posted_{0};
  std::atomic<std::uint32_t> finished_{0};
  std::thread thread_;
};

// Runs `here` on this thread and `there` on the second one at the same time. One caller at a time.
template <typename Job>
void run_both(const Job& here, const Job& there) {
  static Helper* const helper = new Helper;
  helper->start([](const void* context) { (*static_cast<const Job*>(context))(); }, &there);
  here();
  helper->wait();
}

}  // namespace halfway_bench
