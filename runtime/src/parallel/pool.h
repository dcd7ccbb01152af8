// The worker threads behind run_parallel. Private to the runtime.
#pragma once

#include <pthread.h>

#include <cstddef>

#include "halfway/parallel.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Runs the tasks on at most `threads` threads, the calling one included; starts those that are missing. Returns false,
// and has done nothing, if the pool is busy. `spin`: threads that run out of work look out for more for a moment before
// they block; for processes that have a CPU for each of the threads. tasks >= 1, threads >= 2.
[[nodiscard]] bool run_on_pool(int tasks, int threads, bool spin, Executor::Task task, void* context) noexcept;

// Of each worker. Not what the system or the program gives other threads, which may be too little: tasks need about 40
// KiB, signal handlers of the host and the variables of its threads have to find room as well.
inline constexpr std::size_t worker_stack_bytes = std::size_t{512} << 10;

// Makes the pool of a forked child as good as new. To be called there before anything else uses it.
void reset_pool_after_fork() noexcept;

// For tests: how many workers there are.
[[nodiscard]] int pool_workers() noexcept;

// For tests: replaces pthread_create; nullptr restores it.
using CreateThread = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
void set_create_thread(CreateThread create) noexcept;

// For measurements and tests: how long threads spin, in nanoseconds; negative restores the constant.
void set_spin_time(int nanoseconds) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
