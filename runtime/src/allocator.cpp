#include "halfway/allocator.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define HALFWAY_FORKS 1
#endif

#include <atomic>

#include "cast/scratch.h"
#include "memory/pool.h"

namespace halfway {
inline namespace v0 {
namespace {

using detail::Pool;

// Tensors may outlive static destruction, so the allocator is never destroyed, and it is there before any constructor
// runs.
constinit Pool::Table table{};
union Immortal {
  Pool pool;
  constexpr Immortal() : pool(detail::operating_system, table) {}
  Immortal(const Immortal&) = delete;
  Immortal& operator=(const Immortal&) = delete;
  ~Immortal() {}  // NOLINT(modernize-use-equals-default): a defaulted one would be deleted
};
constinit Immortal builtin;

constinit std::atomic<Allocator*> current{nullptr};  // nullptr: the built-in one

#if defined(HALFWAY_FORKS)
// The child has the forking thread alone: a lock that another one held would stay locked.
[[maybe_unused]] const int fork_handlers =
    ::pthread_atfork([] { builtin.pool.before_fork(); }, [] { builtin.pool.after_fork_in_parent(); },
                     [] { builtin.pool.after_fork_in_child(); });
#endif

}  // namespace

Allocator& default_allocator() noexcept {
  Allocator* const set = current.load(std::memory_order_acquire);
  return set != nullptr ? *set : builtin.pool;
}

Allocator* set_default_allocator(Allocator* allocator) noexcept {
  Allocator* const previous = current.exchange(allocator, std::memory_order_acq_rel);
  return previous != nullptr ? previous : &builtin.pool;
}

MemoryStats memory_stats() noexcept { return builtin.pool.stats(); }

std::size_t trim_memory() noexcept {
  detail::trim_scratch();
  return builtin.pool.trim();
}

std::size_t memory_limit() noexcept { return builtin.pool.stats().limit; }

void set_memory_limit(std::size_t bytes) noexcept { builtin.pool.set_limit(bytes); }

}  // namespace v0
}  // namespace halfway
