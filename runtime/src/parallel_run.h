// Running tasks in parallel: the runtime's side of parallel.h. Private.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "halfway/parallel.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Calls task(context, index) exactly once for every index of [0, tasks), on at most num_threads() threads, this one
// included, nor on more than `useful` ones: work that is little wakes few. Returns when all have returned, and what
// they wrote is visible then. Any number of tasks will do; as many as threads (or a few times as many, where they
// differ in length) is what the pool is made for. An Executor decides by itself how many of its threads take part.
void run_parallel(int tasks, int useful, Executor::Task task, void* context) noexcept;

// The same with a callable, by reference: body(index). An exception that leaves it ends the process.
template <class Body>
void run_parallel(int tasks, int useful,
                  Body&& body) noexcept {  // NOLINT(cppcoreguidelines-missing-std-forward): called in place
  using Plain = std::remove_reference_t<Body>;
  static_assert(std::is_invocable_v<Plain&, int>);
  run_parallel(
      tasks, useful, [](void* context, int index) noexcept { (*static_cast<Plain*>(context))(index); },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

template <class Body>
void run_parallel(int tasks, Body&& body) noexcept {  // NOLINT(cppcoreguidelines-missing-std-forward): called in place
  run_parallel(tasks, max_threads, body);
}

// Whether so many threads have a CPU each, so that one that waits may spin for a moment: elsewhere it is in the way of
// what it waits for.
[[nodiscard]] bool may_spin(int threads) noexcept;

// Threads that are there anyway, for what would otherwise run on the built-in pool. Calls task(context, index) for
// every index on at most `threads` threads and returns `done` when all have returned; or does nothing. Where it is
// `busy` the calling thread works alone: threads of the pool would compete with the team's for processors. Where it is
// `absent` the pool is used. Unlike an Executor it has no say in num_threads(). nullptr: none, as in a forked child at
// first.
enum class TeamAnswer : std::uint8_t { done, busy, absent };
using Team = TeamAnswer (*)(int tasks, int threads, Executor::Task task, void* context) noexcept;
void set_team(Team team) noexcept;

// What num_threads() gives unless set_num_threads was called, instead of what the machine says. n >= 1.
void set_default_num_threads(int n) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
