// How a job runs
//
// The pool has one slot for a job: what to call, and a ticket, a 64-bit word that says what is left of it. Threads
// claim a task by a compare-and-swap of the ticket, the caller among them. So a worker that is not scheduled holds
// nothing up: the caller then does all the tasks itself, and what it waits for at the end is only the tasks that others
// have claimed.
//
// A worker may sleep between reading the ticket and swapping it, while that job ends and others come and go in the
// slot. This is why the ticket has a job number in it: a swap that succeeds proves that the job which the worker saw
// still had a task to give away at that moment. The rest of the slot (function, context) is written only while the
// ticket says "no task left", so whatever was read between the load of the ticket and a swap that succeeds belongs to
// that job:
//
//   - not older: the ticket was loaded with acquire, and stored with release after the rest;
//   - not newer: the next job is written after its caller saw all the tasks of this one done, this claim's included.
//
// What a swap that fails has read may be torn between jobs and is thrown away; the fields are atomics so that reading
// them is not a data race. Nothing of a job lives in a caller's stack except what its own tasks are given, and those
// are done when the caller returns.
//
// The job number has 38 bits: a worker would have to be off its CPU between two instructions for exactly a multiple of
// 2^38 jobs (days of back-to-back jobs) to be fooled.
#include "parallel/pool.h"

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

#include <csignal>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "parallel/futex.h"
#include "parallel/spin.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// How long a thread that ran out of work looks out for more before it blocks, in nanoseconds. A blocked worker takes 20
// to 30 us to come, about as long as a short job; one that spins is there in less than 1 us. Longer is no gain, and the
// CPU may be wanted by somebody else (torch's OpenMP threads).
//
// Two tasks of 20 us on two threads, median of a job in us (2-core AMD EPYC virtual machine, 2026-11-25):
//                     1 us    10 us   30 us   100 us of spinning
//   back to back      35.8    20.2    20.7    40.3 (the other CPU was wanted elsewhere)
//   after 1 ms idle   47.6    56.3    52.3    44.7 (the caller does most of it alone)
// An empty job takes 0.1 us back to back; after 1 ms idle 4.5 us, which is the call that wakes the worker.
constexpr int spin_time = 30'000;

// job number : 38 | seats : 10 | tasks : 16. Seats are the workers that may still join the job: there may be more
// workers than it is allowed to use. A worker takes a seat with its first task of a job; the caller needs none.
using Ticket = std::uint64_t;
constexpr int task_bits = 16;
constexpr int seat_bits = 10;
constexpr Ticket one_task = 1;
constexpr Ticket one_seat = one_task << task_bits;
constexpr Ticket one_job = one_seat << seat_bits;
constexpr int max_tasks = (1 << task_bits) - 1;
constexpr int max_workers = (1 << seat_bits) - 1;
static_assert(max_workers >= max_threads - 1);

constexpr int tasks_of(Ticket ticket) noexcept { return static_cast<int>(ticket & (one_seat - 1)); }
constexpr int seats_of(Ticket ticket) noexcept { return static_cast<int>(ticket % one_job / one_seat); }
constexpr Ticket job_of(Ticket ticket) noexcept { return ticket / one_job; }
constexpr bool may_join(Ticket ticket) noexcept { return tasks_of(ticket) != 0 && seats_of(ticket) != 0; }

// Workers block on a semaphore that also counts who waits for it, in one word: waiting : 16 | permits : 16. A permit is
// given to somebody who waits, who is then no longer counted; so a caller knows at any time how many workers are awake.
using Semaphore = std::uint32_t;
constexpr Semaphore one_permit = 1;
constexpr Semaphore one_waiting = 1U << 16;
constexpr int waiting_in(Semaphore word) noexcept { return static_cast<int>(word / one_waiting); }
constexpr bool has_permit(Semaphore word) noexcept { return word % one_waiting != 0; }

constexpr std::size_t cache_line = 64;

// Never destroyed (it has nothing to destroy): workers use it until the process is gone, after static destruction too.
struct Pool {
  // All that a worker needs of a job is in one cache line.
  struct alignas(cache_line) {
    std::atomic<Ticket> ticket{0};
    std::atomic<Executor::Task> task{nullptr};
    std::atomic<void*> context{nullptr};
    std::atomic<int> end{0};  // the index after the last task's
    std::atomic<bool> spin{false};
    std::atomic<int> processor{-1};  // that the caller runs on; -1: unknown
  } job;

  // Twice the tasks that are not done, plus one if the caller is blocked until they are.
  struct alignas(cache_line) {
    std::atomic<std::uint32_t> word{0};
  } unfinished;

  struct alignas(cache_line) {
    std::atomic<Semaphore> word{0};
  } semaphore;

  struct alignas(cache_line) {
    std::atomic<bool> busy{false};
    // Changes in a forked child. Threads that come out of a task as another process have no job any more.
    std::atomic<unsigned> process{0};
    std::atomic<int> workers{0};  // written by who holds `busy`
    int failures{0};              // jobs to go before a thread is asked for again; of who holds `busy`
    std::atomic<int> spin_time{halfway::detail::spin_time};
    std::atomic<CreateThread> create{nullptr};
  } state;
};
constinit Pool pool;

// Waits for `ready()` without blocking; false if the time is up.
template <class Ready>
bool spin_until(Ready ready) noexcept {
  return detail::spin_until(pool.state.spin_time.load(std::memory_order_relaxed), ready);
}

// A task that was claimed, and what its job says.
struct Claim {
  Ticket job;
  Executor::Task task;
  void* context;
  int index;
};

// Claims the first task of whatever job there is.
bool join(Claim& claim) noexcept {
  Ticket ticket = pool.job.ticket.load(std::memory_order_acquire);
  while (may_join(ticket)) {
    claim.task = pool.job.task.load(std::memory_order_relaxed);
    claim.context = pool.job.context.load(std::memory_order_relaxed);
    claim.index = pool.job.end.load(std::memory_order_relaxed) - tasks_of(ticket);
    // Release: the loads above come before whatever is done by who sees the task claimed.
    if (pool.job.ticket.compare_exchange_weak(ticket, ticket - one_seat - one_task, std::memory_order_acq_rel,
                                              std::memory_order_acquire)) {
      claim.job = job_of(ticket);
      return true;
    }
  }
  return false;
}

// Claims one more task of the job. Until the claims of this thread are reported as finished, the job's fields cannot
// change.
bool claim_next(Claim& claim, int end) noexcept {
  Ticket ticket = pool.job.ticket.load(std::memory_order_relaxed);
  while (job_of(ticket) == claim.job && tasks_of(ticket) != 0) {
    if (pool.job.ticket.compare_exchange_weak(ticket, ticket - one_task, std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {
      claim.index = end - tasks_of(ticket);
      return true;
    }
  }
  return false;
}

// Reports tasks as done. The last one to do so wakes the caller, if it blocked; by then the caller may have returned
// and another one may have a job: the word is the pool's, and whoever waits for it looks again.
void finish(int tasks) noexcept {
  const std::uint32_t done = 2U * static_cast<std::uint32_t>(tasks);
  if (pool.unfinished.word.fetch_sub(done, std::memory_order_acq_rel) == done + 1) {
    futex_wake(pool.unfinished.word, 1);
  }
}

// --- workers

// Blocks until a caller asks for workers, or returns at once if there is a job to join.
void wait_for_permit() noexcept {
  std::atomic<Semaphore>& word = pool.semaphore.word;
  // Either this thread sees the new ticket, or the caller that has stored it sees this thread waiting: the two writes
  // and the two reads are in one total order (seq_cst).
  Semaphore seen = word.fetch_add(one_waiting, std::memory_order_seq_cst) + one_waiting;
  bool leave = may_join(pool.job.ticket.load(std::memory_order_seq_cst));
  for (;;) {
    if (has_permit(seen)) {
      if (word.compare_exchange_weak(seen, seen - one_permit, std::memory_order_acquire, std::memory_order_relaxed)) {
        return;
      }
    } else if (leave) {
      if (word.compare_exchange_weak(seen, seen - one_waiting, std::memory_order_relaxed)) return;
    } else {
      futex_wait(word, seen);
      seen = word.load(std::memory_order_relaxed);
    }
  }
}

int this_processor() noexcept {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Leaves the processor that the caller runs on, if this worker was woken there: it would take turns with the caller
// instead of working beside it, and the system moves one of them only after milliseconds. It is not kept off that
// processor: the caller may be elsewhere next time, and the system then knows better where there is room.
void leave_callers_processor() noexcept {
#if defined(__linux__)
  const int processor = pool.job.processor.load(std::memory_order_relaxed);
  if (processor < 0 || this_processor() != processor) return;
  cpu_set_t all;
  if (sched_getaffinity(getpid(), sizeof(all), &all) != 0) return;
  cpu_set_t others = all;
  CPU_CLR(static_cast<unsigned>(processor), &others);
  if (CPU_COUNT(&others) == 0) return;
  sched_setaffinity(0, sizeof(others), &others);
  sched_setaffinity(0, sizeof(all), &all);
#endif
}

// Static: a C name is one name for the whole program, whatever namespace it is in.
extern "C" {
static void* halfway_worker(void* /*unused*/) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "halfway");
#endif
  const unsigned process = pool.state.process.load(std::memory_order_relaxed);
  for (;;) {
    leave_callers_processor();
    Claim claim{};
    while (join(claim)) {
      const int end = pool.job.end.load(std::memory_order_relaxed);
      int done = 0;
      do {
        claim.task(claim.context, claim.index);
        if (pool.state.process.load(std::memory_order_relaxed) != process) return nullptr;
        ++done;
      } while (claim_next(claim, end));
      finish(done);
    }
    const auto joinable = [] { return may_join(pool.job.ticket.load(std::memory_order_relaxed)); };
    if (pool.job.spin.load(std::memory_order_relaxed) && spin_until(joinable)) continue;
    wait_for_permit();
  }
}
}

bool start_worker() noexcept {
  const CreateThread hook = pool.state.create.load(std::memory_order_relaxed);
  const CreateThread create = hook != nullptr ? hook : pthread_create;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, worker_stack_bytes);
  // The host's handlers run on the host's threads. Not blocked is what a thread brings upon itself: a blocked SIGSEGV
  // would end the process without the handler that its host may have for it.
  sigset_t blocked;
  sigset_t saved;
  sigfillset(&blocked);
  for (const int synchronous : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
    sigdelset(&blocked, synchronous);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, &saved);  // inherited, so that it holds from the worker's first instruction
  pthread_t thread{};
  const int error = create(&thread, &attributes, halfway_worker, nullptr);
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  pthread_attr_destroy(&attributes);
  return error == 0;
}

// --- callers

// Sees to it that `wanted` workers look for the job that was just published, as far as they can be had. Those that are
// awake look by themselves before they block.
void call_workers(int wanted) noexcept {
  constexpr int patience = 1000;  // jobs between attempts to start threads where there are none to be had
  const int workers = pool.state.workers.load(std::memory_order_relaxed);
  Semaphore seen = pool.semaphore.word.load(std::memory_order_seq_cst);
  for (;;) {
    const int waiting = waiting_in(seen);
    const int wake = std::min(waiting, wanted - (workers - waiting));
    if (wake <= 0) break;
    const auto moved = static_cast<Semaphore>(wake);
    if (pool.semaphore.word.compare_exchange_weak(seen, seen - moved * one_waiting + moved * one_permit,
                                                  std::memory_order_release, std::memory_order_relaxed)) {
      futex_wake(pool.semaphore.word, wake);
      break;
    }
  }
  if (workers >= wanted) return;
  if (pool.state.failures > 0) {
    --pool.state.failures;
    return;
  }
  for (int count = workers; count < wanted; ++count) {
    if (!start_worker()) {
      pool.state.failures = patience;
      return;
    }
    pool.state.workers.store(count + 1, std::memory_order_relaxed);
  }
}

// Blocks until every task is done.
void wait_for_others(bool spin) noexcept {
  const auto done = [] { return pool.unfinished.word.load(std::memory_order_acquire) == 0; };
  if (done() || (spin && spin_until(done))) return;
  std::atomic<std::uint32_t>& word = pool.unfinished.word;
  std::uint32_t seen = word.fetch_or(1, std::memory_order_acq_rel) | 1;
  while (seen != 1) {
    futex_wait(word, seen);
    seen = word.load(std::memory_order_acquire);
  }
  word.store(0, std::memory_order_relaxed);
}

// Runs the tasks [begin, begin + tasks). The caller holds `busy`. False if this is another process by now.
bool run_job(int begin, int tasks, int threads, bool spin, Executor::Task task, void* context) noexcept {
  const unsigned process = pool.state.process.load(std::memory_order_relaxed);
  const int wanted = std::min({tasks, threads, max_workers + 1}) - 1;
  const int end = begin + tasks;
  // Nobody has a claim: all tasks of the last job are done, and `busy` has made that known to this thread.
  pool.job.task.store(task, std::memory_order_relaxed);
  pool.job.context.store(context, std::memory_order_relaxed);
  pool.job.end.store(end, std::memory_order_relaxed);
  pool.job.spin.store(spin, std::memory_order_relaxed);
  pool.job.processor.store(this_processor(), std::memory_order_relaxed);
  pool.unfinished.word.store(2U * static_cast<std::uint32_t>(tasks), std::memory_order_relaxed);
  const Ticket number = job_of(pool.job.ticket.load(std::memory_order_relaxed)) + 1;  // wraps by itself
  pool.job.ticket.store(number * one_job + static_cast<Ticket>(wanted) * one_seat + static_cast<Ticket>(tasks),
                        std::memory_order_seq_cst);
  if (wanted > 0) call_workers(wanted);

  Claim claim{.job = number % (~Ticket{0} / one_job + 1), .task = task, .context = context, .index = 0};
  int done = 0;
  while (claim_next(claim, end)) {
    task(context, claim.index);
    // The child of a fork inside the task: its pool is a new one, and the threads that had the other tasks are not
    // there.
    if (pool.state.process.load(std::memory_order_relaxed) != process) return false;
    ++done;
  }
  if (done > 0) finish(done);
  wait_for_others(spin);
  return true;
}

}  // namespace

bool run_on_pool(int tasks, int threads, bool spin, Executor::Task task, void* context) noexcept {
  // Not waiting for another caller is also what makes nested calls work: the pool is busy as long as a task runs.
  if (pool.state.busy.load(std::memory_order_relaxed) || pool.state.busy.exchange(true, std::memory_order_acquire)) {
    return false;
  }
  for (int begin = 0; begin < tasks;) {
    const int part = std::min(tasks - begin, max_tasks);
    if (!run_job(begin, part, threads, spin, task, context)) return true;
    begin += part;
  }
  pool.state.busy.store(false, std::memory_order_release);
  return true;
}

void reset_pool_after_fork() noexcept {
  // This is the only thread, whatever the others were in the middle of. The job number goes on.
  const Ticket next = job_of(pool.job.ticket.load(std::memory_order_relaxed)) + 1;
  pool.job.ticket.store(next * one_job, std::memory_order_relaxed);
  pool.unfinished.word.store(0, std::memory_order_relaxed);
  pool.semaphore.word.store(0, std::memory_order_relaxed);
  pool.state.workers.store(0, std::memory_order_relaxed);
  pool.state.failures = 0;
  pool.state.process.fetch_add(1, std::memory_order_relaxed);
  pool.state.busy.store(false, std::memory_order_release);
}

int pool_workers() noexcept { return pool.state.workers.load(std::memory_order_relaxed); }

void set_create_thread(CreateThread create) noexcept { pool.state.create.store(create, std::memory_order_relaxed); }

void set_spin_time(int nanoseconds) noexcept {
  pool.state.spin_time.store(nanoseconds < 0 ? spin_time : nanoseconds, std::memory_order_relaxed);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
