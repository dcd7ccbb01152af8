// Waiting without blocking. Private to the runtime and to what works in its parallel regions.
#pragma once

#include <chrono>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace halfway {
inline namespace v0 {
namespace detail {

inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb");  // `yield` is a no-op on most cores
#endif
}

// Waits for `ready()` for at most so many nanoseconds; false if the time is up.
template <class Ready>
bool spin_until(int nanoseconds, Ready ready) noexcept {
  using Clock = std::chrono::steady_clock;
  constexpr int looks = 32;  // between two looks at the clock: about a microsecond
  const Clock::time_point end = Clock::now() + std::chrono::nanoseconds(nanoseconds);
  do {
    for (int i = 0; i < looks; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (Clock::now() < end);
  return false;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
