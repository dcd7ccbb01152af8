// Blocking on a word of memory. Private to the runtime.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace halfway {
inline namespace v0 {
namespace detail {

// Called directly where there are futexes: std::atomic::wait of libstdc++ spins and yields by rules of its own first,
// and keeps its counts of waiters in a table that a fork leaves wrong.
#if defined(__linux__)

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

// Blocks while the word has this value; may return at any time.
inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

// Wakes at most `count` threads that wait for the word to change.
inline void futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

#else

inline void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value) noexcept { word.wait(value); }
inline void futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept {
  for (; count > 0; --count) word.notify_one();
}

#endif

}  // namespace detail
}  // namespace v0
}  // namespace halfway
