#include "halfway/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "parallel/cpus.h"
#include "parallel/pool.h"
#include "parallel_run.h"

namespace halfway {
inline namespace v0 {
namespace {

constinit std::atomic<int> chosen{0};      // by set_num_threads; 0: none
constinit std::atomic<int> by_default{0};  // 0: not read yet
constinit std::atomic<int> available{0};   // CPUs; 0: not read yet
constinit std::atomic<Executor*> current{nullptr};
constinit std::atomic<detail::Team> shared_team{nullptr};

int clamp(int n) noexcept { return std::clamp(n, 1, max_threads); }

// What the machine and the environment say, unless somebody has said otherwise meanwhile.
void read_default() noexcept {
  int cpus = 1;
  int threads = 1;
  try {
    const detail::Cpus read = detail::read_cpus();
    cpus = read.available();
    // NOLINTNEXTLINE(concurrency-mt-unsafe): read once; whoever changes the environment has to stop its readers anyway
    threads = detail::default_threads(read, std::getenv("OMP_NUM_THREADS"), std::getenv("HALFWAY_NUM_THREADS"));
  } catch (...) {
    // out of memory: one thread is always right
  }
  available.store(std::max(cpus, 1), std::memory_order_relaxed);
  int unread = 0;
  by_default.compare_exchange_strong(unread, threads, std::memory_order_relaxed);
}

int default_threads() noexcept {
  const int n = by_default.load(std::memory_order_relaxed);
  if (n != 0) return n;
  read_default();
  return by_default.load(std::memory_order_relaxed);
}

int threads_of(const Executor* executor) noexcept {
  const int n = chosen.load(std::memory_order_relaxed);
  if (executor == nullptr) return n != 0 ? n : default_threads();
  const int limit = clamp(executor->concurrency());
  return n != 0 ? std::min(n, limit) : limit;
}

void after_fork_in_child() noexcept {
  detail::reset_pool_after_fork();
  chosen.store(0, std::memory_order_relaxed);
  by_default.store(1, std::memory_order_relaxed);
  current.store(nullptr, std::memory_order_relaxed);
  shared_team.store(nullptr, std::memory_order_relaxed);
}

// Registered when the library is loaded: a child that forks off before the parent has ever asked has one thread, too.
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

}  // namespace

int num_threads() noexcept { return threads_of(current.load(std::memory_order_acquire)); }

void set_num_threads(int n) {
  if (n < 0) {
    throw std::invalid_argument("the number of threads must be at least 1, or 0 for the default, not " +
                                std::to_string(n));
  }
  chosen.store(n == 0 ? 0 : clamp(n), std::memory_order_relaxed);
}

Executor* set_executor(Executor* executor) noexcept { return current.exchange(executor, std::memory_order_acq_rel); }

namespace detail {

bool may_spin(int threads) noexcept {
  if (available.load(std::memory_order_relaxed) == 0) read_default();
  return threads <= available.load(std::memory_order_relaxed);
}

void run_parallel(int tasks, int useful, Executor::Task task, void* context) noexcept {
  if (tasks > 1) {
    Executor* const executor = current.load(std::memory_order_acquire);
    const int most = threads_of(executor);
    const int threads = std::min(most, useful);
    if (threads > 1) {
      if (executor != nullptr) {
        executor->run(tasks, task, context);
        return;
      }
      const detail::Team team = shared_team.load(std::memory_order_acquire);
      TeamAnswer answer = TeamAnswer::absent;
      if (team != nullptr) {
        // A team is woken and waited for as a whole: where three quarters of it would have nothing to do, the rest is
        // not worth that.
        answer = threads > most / 4 ? team(tasks, threads, task, context) : TeamAnswer::busy;
      }
      if (answer == TeamAnswer::done) return;
      if (answer == TeamAnswer::absent &&
          run_on_pool(tasks, threads, may_spin(std::min(threads, tasks)), task, context)) {
        return;
      }
    }
  }
  for (int index = 0; index < tasks; ++index) task(context, index);
}

void set_team(Team team) noexcept { shared_team.store(team, std::memory_order_release); }

void set_default_num_threads(int n) noexcept { by_default.store(clamp(n), std::memory_order_relaxed); }

}  // namespace detail

}  // namespace v0
}  // namespace halfway
