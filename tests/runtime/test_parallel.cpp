// Running tasks on threads: each exactly once, whoever calls; the executor hook; what the pool's workers are like.
// (Forks, exits and the environment are in test_parallel_process.cpp, the machine's limits in test_parallel_cpus.cpp.)
#include <boost/test/unit_test.hpp>

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "halfway/parallel.h"
#include "parallel/pool.h"
#include "parallel_run.h"

namespace {

// Stands in for the pool of the header's example.
namespace tbb {
namespace this_task_arena {
int max_concurrency() { return 3; }
}  // namespace this_task_arena
template <class Body>
void parallel_for(int begin, int end, const Body& body) {
  std::vector<std::thread> threads;
  for (int i = begin; i < end; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}
}  // namespace tbb

using halfway::num_threads;
using halfway::set_executor;
using halfway::set_num_threads;
using halfway::detail::pool_workers;
using halfway::detail::run_parallel;
using halfway::detail::TeamAnswer;

// A number of threads, and how long they spin, while this lives.
class Threads {
 public:
  explicit Threads(int n, int spin = -1) {
    set_num_threads(n);
    halfway::detail::set_spin_time(spin);
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() {
    set_num_threads(0);
    halfway::detail::set_spin_time(-1);
  }
};

// How many of the indices were not run exactly once. The counts are plain numbers: if two threads ran the same task, or
// a task's writes were not visible, the thread sanitizer would see it.
int wrong(int tasks) {
  std::vector<int> runs(static_cast<std::size_t>(tasks) + 1);
  run_parallel(tasks, [&runs](int index) { ++runs.at(static_cast<std::size_t>(index)); });
  return static_cast<int>(std::count_if(runs.begin(), runs.end() - 1, [](int n) { return n != 1; })) + runs.back();
}

// Two tasks, each of which waits until the other runs: the second one runs on a worker.
template <class Body>
void run_on_two(Body body) {
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> here{0};
  run_parallel(2, [&](int) {
    ++here;
    while (here < 2) std::this_thread::yield();
    if (std::this_thread::get_id() != caller) body();
  });
}

BOOST_AUTO_TEST_SUITE(parallel)

BOOST_AUTO_TEST_CASE(every_task_runs_exactly_once) {
  for (const int spin : {-1, 0}) {
    for (const int threads : {1, 2, 3, 7, 64}) {
      const Threads set(threads, spin);
      int failures = 0;
      for (int tasks = 0; tasks <= 1000; ++tasks) failures += wrong(tasks);
      BOOST_TEST_CONTEXT(threads << " threads") BOOST_TEST(failures == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(no_or_fewer_tasks_run_nothing) {
  const Threads set(2);
  std::atomic<int> runs{0};
  for (const int tasks : {0, -1, -1000}) run_parallel(tasks, [&runs](int) { ++runs; });
  BOOST_TEST(runs == 0);
}

// More than one job of the pool can hold.
BOOST_AUTO_TEST_CASE(any_number_of_tasks) {
  const Threads set(3);
  for (const int tasks : {65534, 65535, 65536, 131070, 131071, 300'000}) BOOST_TEST(wrong(tasks) == 0);
}

// A worker that comes late must not run, or read, anything of a job that is over: each job has a function, a context
// and a number of tasks of its own, on the caller's stack.
BOOST_AUTO_TEST_CASE(jobs_in_quick_succession_do_not_mix) {
  for (const int spin : {-1, 0}) {
    const Threads set(4, spin);
    int failures = 0;
    for (int round = 0; round < 5000; ++round) {
      std::vector<int> even(static_cast<std::size_t>(round % 5 + 1));
      std::vector<int> odd(static_cast<std::size_t>(round % 7 + 1));
      run_parallel(static_cast<int>(even.size()),
                   [&even, round](int i) { even.at(static_cast<std::size_t>(i)) += round; });
      run_parallel(static_cast<int>(odd.size()),
                   [&odd, round](int i) { odd.at(static_cast<std::size_t>(i)) -= round; });
      failures += std::count(even.begin(), even.end(), round) == static_cast<std::ptrdiff_t>(even.size()) ? 0 : 1;
      failures += std::count(odd.begin(), odd.end(), -round) == static_cast<std::ptrdiff_t>(odd.size()) ? 0 : 1;
    }
    BOOST_TEST(failures == 0);
  }
}

BOOST_AUTO_TEST_CASE(workers_take_part) {
  for (const int spin : {-1, 0}) {
    const Threads set(2, spin);
    int elsewhere = 0;
    for (int i = 0; i < 50; ++i) {
      run_on_two([&elsewhere] { ++elsewhere; });
      if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // so that the worker blocks
    }
    BOOST_TEST(elsewhere == 50);
  }
}

// The caller is done long before the others: it blocks, and is woken.
BOOST_AUTO_TEST_CASE(the_caller_waits_for_the_last_task) {
  const Threads set(3);
  for (int i = 0; i < 10; ++i) {
    int finished = 0;
    run_on_two([&finished] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      finished = 1;
    });
    BOOST_TEST(finished == 1);
  }
}

BOOST_AUTO_TEST_CASE(nested_calls_run_where_they_are) {
  const Threads set(4);
  constexpr int outer = 20;
  constexpr int inner = 50;
  std::vector<int> runs(outer * inner);
  std::atomic<int> moved{0};
  run_parallel(outer, [&](int i) {
    const std::thread::id here = std::this_thread::get_id();
    run_parallel(inner, [&](int j) {
      ++runs.at(static_cast<std::size_t>(i * inner + j));
      moved += std::this_thread::get_id() == here ? 0 : 1;
    });
  });
  BOOST_TEST(std::count(runs.begin(), runs.end(), 1) == outer * inner);
  BOOST_TEST(moved == 0);
}

BOOST_AUTO_TEST_CASE(concurrent_callers) {
  for (const int threads : {1, 2, 5}) {
    const Threads set(threads);
    std::atomic<int> failures{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 8; ++caller) {
      callers.emplace_back([&failures, caller] {
        for (int job = 0; job < 500; ++job) failures += wrong((job * 7 + caller) % 40);
      });
    }
    for (std::thread& caller : callers) caller.join();
    BOOST_TEST(failures == 0);
  }
}

// Callers get in each other's way, they do not wait for each other: this one's tasks end only after the other's call.
BOOST_AUTO_TEST_CASE(nobody_waits_for_another_caller) {
  const Threads set(2);
  std::atomic<bool> other_done{false};
  std::atomic<bool> started{false};
  std::thread other([&] {
    while (!started) std::this_thread::yield();
    run_parallel(4, [](int) {});
    other_done = true;
  });
  run_parallel(2, [&](int) {
    started = true;
    while (!other_done) std::this_thread::yield();
  });
  other.join();
  BOOST_TEST(other_done);
}

BOOST_AUTO_TEST_CASE(no_more_threads_than_set) {
  for (const int threads : {2, 8, 3, 1}) {  // also fewer than there are workers by then
    const Threads set(threads);
    const int before = pool_workers();
    for (int job = 0; job < 100; ++job) {
      std::mutex mutex;
      std::set<std::thread::id> ids;
      run_parallel(100, [&](int) {
        const std::lock_guard<std::mutex> lock(mutex);
        ids.insert(std::this_thread::get_id());
      });
      BOOST_TEST_REQUIRE(static_cast<int>(ids.size()) <= threads);
    }
    BOOST_TEST(pool_workers() == std::max(before, threads - 1));
  }
}

// Workers beyond the number that look out for work do not join.
BOOST_AUTO_TEST_CASE(no_more_threads_than_set_among_many_awake) {
  const Threads set(1, 20'000'000);
  for (int job = 0; job < 20; ++job) {
    std::atomic<int> running{0};
    std::atomic<int> most{0};
    auto body = [&] {
      const int now = ++running;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) continue;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      --running;
    };
    const auto task = [](void* context, int) noexcept { (*static_cast<decltype(body)*>(context))(); };
    const int threads = job % 2 == 0 ? 8 : 3;
    BOOST_TEST(halfway::detail::run_on_pool(24, threads, true, task, &body));
    BOOST_TEST(most <= threads);
  }
}

BOOST_AUTO_TEST_CASE(the_number_of_threads) {
  BOOST_TEST(num_threads() >= 1);
  const int by_default = num_threads();
  for (const int n : {1, 2, 64, halfway::max_threads}) {
    set_num_threads(n);
    BOOST_TEST(num_threads() == n);
  }
  set_num_threads(1'000'000'000);
  BOOST_TEST(num_threads() == halfway::max_threads);
  BOOST_CHECK_THROW(set_num_threads(-1), std::invalid_argument);
  BOOST_TEST(num_threads() == halfway::max_threads);
  set_num_threads(0);
  BOOST_TEST(num_threads() == by_default);

  halfway::detail::set_default_num_threads(3);
  BOOST_TEST(num_threads() == 3);
  set_num_threads(5);
  halfway::detail::set_default_num_threads(1);
  BOOST_TEST(num_threads() == 5);  // what is set explicitly wins
  set_num_threads(0);
  BOOST_TEST(num_threads() == 1);
}

BOOST_AUTO_TEST_CASE(the_number_may_change_during_jobs) {
  std::atomic<bool> stop{false};
  std::thread changing([&stop] {
    for (int n = 0; !stop; n = (n + 1) % 6) set_num_threads(n);
  });
  int failures = 0;
  for (int job = 0; job < 5000; ++job) failures += wrong(job % 20);
  stop = true;
  changing.join();
  set_num_threads(0);
  BOOST_TEST(failures == 0);
}

// --- workers

BOOST_AUTO_TEST_CASE(workers_leave_signals_to_the_host) {
  const Threads set(2);
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, nullptr, &before);
  sigset_t mask;
  std::string name(16, '\0');
  run_on_two([&] {
    pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    pthread_getname_np(pthread_self(), name.data(), name.size());
  });
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGALRM, SIGPROF, SIGRTMIN}) {
    BOOST_TEST(sigismember(&mask, signal) == 1);
  }
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) BOOST_TEST(sigismember(&mask, signal) == 0);
  BOOST_TEST(name.c_str() == "halfway");
  sigset_t after;
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  for (int signal = 1; signal < SIGRTMAX; ++signal) {
    BOOST_TEST(sigismember(&after, signal) == sigismember(&before, signal));
  }
}

#if defined(__linux__)
BOOST_AUTO_TEST_CASE(a_worker_leaves_the_callers_processor) {
  cpu_set_t all;
  BOOST_TEST_REQUIRE(sched_getaffinity(0, sizeof(all), &all) == 0);
  if (CPU_COUNT(&all) < 2) {
    BOOST_TEST_MESSAGE("one processor: there is no other to go to");
    return;
  }
  const Threads set(2);
  bool has_left = false;
  // The caller is a thread of its own, bound to one processor; the process may use all.
  std::thread caller([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    const auto processor = static_cast<unsigned>(sched_getcpu());
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof(one), &one);
    // The worker is put where the caller is, as the system may do when it wakes a thread.
    run_on_two([&] { sched_setaffinity(0, sizeof(one), &one); });
    for (int i = 0; i < 1000 && !has_left; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // long enough for the worker to block
      run_on_two([&] {
        cpu_set_t mask;
        sched_getaffinity(0, sizeof(mask), &mask);
        has_left = CPU_EQUAL(&mask, &all);
      });
    }
  });
  caller.join();
  BOOST_TEST(has_left);
}
#endif

// --- executors

class HostThreads final : public halfway::Executor {
 public:
  int concurrency() const noexcept override { return tbb::this_task_arena::max_concurrency(); }
  void run(int tasks, Task task, void* context) noexcept override {
    tbb::parallel_for(0, tasks, [=](int index) { task(context, index); });
  }
};

BOOST_AUTO_TEST_CASE(the_example_of_an_executor) {
  static HostThreads host_threads;
  halfway::set_executor(&host_threads);

  BOOST_TEST(num_threads() == 3);
  for (int tasks = 0; tasks < 20; ++tasks) BOOST_TEST(wrong(tasks) == 0);
  set_num_threads(0);
  halfway::set_executor(nullptr);
}

// Runs tasks in the order that a host might least be expected to.
class Counting final : public halfway::Executor {
 public:
  explicit Counting(int n) : concurrency_(n) {}
  int concurrency() const noexcept override { return concurrency_; }
  void run(int tasks, Task task, void* context) noexcept override {
    ++calls;
    asked += tasks;
    for (int index = tasks; index > 0; --index) task(context, index - 1);
  }

  int calls = 0;
  int asked = 0;

 private:
  int concurrency_;
};

BOOST_AUTO_TEST_CASE(an_executor_gets_all_tasks) {
  Counting counting(4);
  BOOST_TEST(set_executor(&counting) == nullptr);
  const int workers = pool_workers();
  BOOST_TEST(wrong(10) == 0);
  BOOST_TEST(counting.calls == 1);
  BOOST_TEST(counting.asked == 10);
  BOOST_TEST(wrong(1) == 0);  // nothing to share
  BOOST_TEST(wrong(0) == 0);
  BOOST_TEST(counting.calls == 1);
  BOOST_TEST(pool_workers() == workers);

  BOOST_TEST(num_threads() == 4);
  set_num_threads(9);
  BOOST_TEST(num_threads() == 4);  // the executor has no more
  set_num_threads(2);
  BOOST_TEST(num_threads() == 2);
  set_num_threads(1);
  BOOST_TEST(wrong(10) == 0);
  BOOST_TEST(counting.calls == 1);  // one thread is the caller's own
  set_num_threads(0);

  Counting other(4);
  BOOST_TEST(set_executor(&other) == &counting);
  BOOST_TEST(set_executor(nullptr) == &other);
  BOOST_TEST(set_executor(nullptr) == nullptr);
  BOOST_TEST(wrong(10) == 0);
  BOOST_TEST(counting.calls + other.calls == 1);
}

// --- threads that are there anyway

std::atomic<int> asked_of_team{0};
std::atomic<TeamAnswer> answer_of_team{TeamAnswer::done};

TeamAnswer on_this_thread(int tasks, int threads, halfway::Executor::Task task, void* context) noexcept {
  ++asked_of_team;
  if (answer_of_team != TeamAnswer::done) return answer_of_team;
  BOOST_TEST(threads > 1);
  for (int index = tasks; index-- > 0;) task(context, index);
  return TeamAnswer::done;
}

BOOST_AUTO_TEST_CASE(a_team_is_preferred_to_the_pool) {
  set_num_threads(3);
  halfway::detail::set_team(on_this_thread);
  asked_of_team = 0;
  for (const TeamAnswer answer : {TeamAnswer::done, TeamAnswer::busy, TeamAnswer::absent, TeamAnswer::done}) {
    answer_of_team = answer;
    const int workers = halfway::detail::pool_workers();
    std::vector<std::atomic<int>> times(50);
    std::set<std::thread::id> threads;
    std::mutex adding;
    run_parallel(50, [&](int index) {
      ++times[static_cast<std::size_t>(index)];
      const std::lock_guard lock(adding);
      threads.insert(std::this_thread::get_id());
    });
    for (const std::atomic<int>& n : times) BOOST_TEST(n == 1);
    // Of a busy team nobody else takes the place: it has the processors.
    if (answer != TeamAnswer::absent) {
      BOOST_TEST(threads.size() == 1U);
      BOOST_TEST(halfway::detail::pool_workers() == workers);
    } else {
      BOOST_TEST(halfway::detail::pool_workers() >= 2);
    }
  }
  BOOST_TEST(asked_of_team == 4);
  run_parallel(1, [](int) {});
  set_num_threads(1);
  run_parallel(5, [](int) {});
  BOOST_TEST(asked_of_team == 4);  // nothing to share

  // An executor that the program has set comes first.
  set_num_threads(3);
  Counting counting(4);
  set_executor(&counting);
  run_parallel(5, [](int) {});
  set_executor(nullptr);
  BOOST_TEST(asked_of_team == 4);
  halfway::detail::set_team(nullptr);
  run_parallel(5, [](int) {});
  BOOST_TEST(asked_of_team == 4);
  set_num_threads(0);
}

// Work of several tasks of which few threads have use: others are not woken, and a team, which is woken as a whole,
// only where more than a quarter of it has something to do.
BOOST_AUTO_TEST_CASE(no_more_threads_than_are_of_use) {
  const Threads set(8, 0);
  for (const int useful : {1, 2, 3}) {
    std::set<std::thread::id> threads;
    std::mutex adding;
    std::vector<int> times(200);
    run_parallel(200, useful, [&](int index) {
      ++times[static_cast<std::size_t>(index)];
      const std::lock_guard lock(adding);
      threads.insert(std::this_thread::get_id());
    });
    BOOST_TEST(threads.size() <= static_cast<std::size_t>(useful));
    BOOST_TEST((std::count(times.begin(), times.end(), 1) == 200));
  }
  halfway::detail::set_team(on_this_thread);
  answer_of_team = TeamAnswer::done;
  for (const auto& [useful, asked] : {std::pair(1, 0), std::pair(2, 0), std::pair(3, 1), std::pair(100, 1)}) {
    asked_of_team = 0;
    std::vector<int> times(200);  // plain: on one thread, whoever does it
    run_parallel(200, useful, [&](int index) { ++times[static_cast<std::size_t>(index)]; });
    BOOST_TEST(asked_of_team == asked);
    BOOST_TEST((std::count(times.begin(), times.end(), 1) == 200));
  }
  halfway::detail::set_team(nullptr);
}

BOOST_AUTO_TEST_CASE(an_executor_of_no_threads_counts_as_one) {
  for (const int concurrency : {0, -5, 1}) {
    Counting counting(concurrency);
    set_executor(&counting);
    BOOST_TEST(num_threads() == 1);
    BOOST_TEST(wrong(10) == 0);
    BOOST_TEST(counting.calls == 0);
    set_executor(nullptr);
  }
  Counting many(2'000'000'000);
  set_executor(&many);
  BOOST_TEST(num_threads() == halfway::max_threads);
  set_executor(nullptr);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
