// The pool and the process: forks in every state, exits in every state, the environment, threads that do not come.
#include <boost/test/unit_test.hpp>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "halfway/parallel.h"
#include "parallel/pool.h"
#include "parallel_run.h"
#include "scenario.h"

namespace {

using halfway::num_threads;
using halfway::set_executor;
using halfway::set_num_threads;
using halfway::detail::pool_workers;
using halfway::detail::run_parallel;

using std::chrono::microseconds;

// At most 128 tasks. Without memory from the heap: the locks of AddressSanitizer's allocator do not survive a fork, and
// a child that is forked while another thread holds one waits for it for ever.
bool runs_each_once(int tasks) {
  std::array<int, 128> runs{};
  run_parallel(tasks, [&runs](int index) { ++runs.at(static_cast<std::size_t>(index)); });
  return std::count(runs.begin(), runs.end(), 1) == tasks && std::count(runs.begin(), runs.end(), 0) == 128 - tasks;
}

// Tasks that wait for each other: the pool's workers have started, and each of so many threads has one of the tasks. A
// thread that starts takes memory from the heap, so forks come after this.
void all_meet(int threads) {
  std::atomic<int> here{0};
  run_parallel(threads, [&here, threads](int /*index*/) {
    ++here;
    while (here < threads) std::this_thread::yield();
  });
}

// --- scenarios: this executable again, with an environment of its own

// Ends while a thread that nobody waits for runs jobs.
int exit_amid_jobs() {
  set_num_threads(3);
  std::thread([] {
    for (;;) {
      run_parallel(3, [](int) { std::this_thread::sleep_for(microseconds(20)); });
    }
  }).detach();
  while (pool_workers() == 0) std::this_thread::yield();
  std::this_thread::sleep_for(microseconds(300));
  return 0;
}

int exit_after_a_job(int spin) {
  set_num_threads(3);
  halfway::detail::set_spin_time(spin);
  const bool right = runs_each_once(100);
  if (spin == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return right ? 0 : 1;
}

int affinity_of_one() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(static_cast<std::size_t>(sched_getcpu()), &mask);
  if (sched_setaffinity(0, sizeof(mask), &mask) != 0) return 100;
  return num_threads() + (runs_each_once(10) ? 0 : 50);
}

// No thread before there is work for it, and no more than there is work for.
int laziness() {
  set_num_threads(4);
  if (num_threads() != 4 || pool_workers() != 0) return 1;
  if (!runs_each_once(1) || pool_workers() != 0) return 2;
  if (!runs_each_once(2) || pool_workers() != 1) return 3;
  if (!runs_each_once(100) || pool_workers() != 3) return 4;
  set_num_threads(2);
  if (!runs_each_once(100) || pool_workers() != 3) return 5;
  return 0;
}

const scenario::Table& scenarios() {
  static const scenario::Table table{
      {"num_threads", [] { return num_threads(); }},
      {"affinity_of_one", affinity_of_one},
      {"laziness", laziness},
      {"exit_amid_jobs", exit_amid_jobs},
      {"exit_while_spinning", [] { return exit_after_a_job(1'000'000'000); }},
      {"exit_while_blocked", [] { return exit_after_a_job(0); }},
      {"exit_right_away", [] { return exit_after_a_job(-1); }},
  };
  return table;
}

struct Scenario {
  Scenario() { scenario::run_if_asked(scenarios()); }
};
BOOST_TEST_GLOBAL_FIXTURE(Scenario);

int run_scenario(const std::string& name, scenario::Environment environment = {}) {
  environment.try_emplace("OMP_NUM_THREADS", std::nullopt);
  environment.try_emplace("HALFWAY_NUM_THREADS", std::nullopt);
  return scenario::run(name, environment);
}

// Whether `body` returns true in a forked child. A child that hangs is ended by a signal.
template <class Body>
bool in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(body() ? 0 : 1);
  }
  return scenario::status_of(child) == 0;
}

// What every child must be able to do, whatever its parent was doing.
bool child_works() {
  if (num_threads() != 1 || pool_workers() != 0) return false;
  if (!runs_each_once(100) || pool_workers() != 0) return false;
  set_num_threads(2);
  for (int job = 0; job < 20; ++job) {
    if (!runs_each_once(job)) return false;
  }
  if (num_threads() != 2 || pool_workers() != 1) return false;
  set_num_threads(0);
  return num_threads() == 1;
}

// The workers that a child has started do take part.
bool child_has_workers() {
  set_num_threads(2);
  all_meet(2);
  return true;
}

BOOST_AUTO_TEST_SUITE(parallel_process)

BOOST_AUTO_TEST_CASE(workers_are_started_when_needed) { BOOST_TEST(run_scenario("laziness") == 0); }

BOOST_AUTO_TEST_CASE(exits_are_clean) {
  for (const char* name : {"exit_amid_jobs", "exit_while_spinning", "exit_while_blocked", "exit_right_away"}) {
    for (int i = 0; i < 10; ++i) BOOST_TEST_CONTEXT(name) BOOST_TEST(run_scenario(name) == 0);
  }
}

BOOST_AUTO_TEST_CASE(the_environment_sets_the_default) {
  const int machine = run_scenario("num_threads");
  BOOST_TEST(machine >= 1);
  const auto with = [](const char* omp, const char* own) {
    scenario::Environment environment;
    if (omp != nullptr) environment["OMP_NUM_THREADS"] = omp;
    if (own != nullptr) environment["HALFWAY_NUM_THREADS"] = own;
    return run_scenario("num_threads", environment);
  };
  BOOST_TEST(with("1", nullptr) == 1);
  BOOST_TEST(with("1,5", nullptr) == 1);
  BOOST_TEST(with("1000", nullptr) == machine);
  BOOST_TEST(with("many", nullptr) == machine);
  BOOST_TEST(with(nullptr, "37") == 37);
  BOOST_TEST(with("1", "37") == 37);
  BOOST_TEST(with("1", "0") == 1);
  BOOST_TEST(with(nullptr, "-3") == machine);
  BOOST_TEST(run_scenario("affinity_of_one") == 1);
  BOOST_TEST(run_scenario("affinity_of_one", {{"OMP_NUM_THREADS", "8"}}) == 1);
  BOOST_TEST(run_scenario("affinity_of_one", {{"HALFWAY_NUM_THREADS", "3"}}) == 3);
}

// --- forks

BOOST_AUTO_TEST_CASE(fork_before_any_job) {
  BOOST_TEST(in_child(child_works));
  set_num_threads(8);
  BOOST_TEST(in_child([] { return num_threads() == 1; }));  // what the parent has set is the parent's
  BOOST_TEST(in_child(child_has_workers));
  set_num_threads(0);
}

BOOST_AUTO_TEST_CASE(fork_with_idle_workers) {
  for (const int spin : {-1, 0, 1'000'000}) {
    halfway::detail::set_spin_time(spin);
    set_num_threads(4);
    all_meet(4);
    for (int i = 0; i < 50; ++i) {
      BOOST_TEST(runs_each_once(i));
      BOOST_TEST(in_child(i % 2 == 0 ? child_works : child_has_workers));
    }
    BOOST_TEST(num_threads() == 4);
    BOOST_TEST(pool_workers() == 3);
    BOOST_TEST(runs_each_once(100));
  }
  halfway::detail::set_spin_time(-1);
  set_num_threads(0);
}

BOOST_AUTO_TEST_CASE(fork_while_others_run_jobs) {
  set_num_threads(3);
  all_meet(3);
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::atomic<int> started{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&, caller] {
      ++started;
      for (int job = caller; !stop; ++job) failures += runs_each_once(job % 9) ? 0 : 1;
    });
  }
  while (started < 3) std::this_thread::yield();
  for (int i = 0; i < 200; ++i) {
    if (i % 40 == 0) halfway::detail::set_spin_time(i % 80 == 0 ? 0 : -1);
    BOOST_TEST(in_child(i % 2 == 0 ? child_works : child_has_workers));
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  BOOST_TEST(failures == 0);
  halfway::detail::set_spin_time(-1);
  set_num_threads(0);
}

BOOST_AUTO_TEST_CASE(fork_of_a_fork) {
  set_num_threads(2);
  BOOST_TEST(
      in_child([] { return child_has_workers() && in_child([] { return child_works() && child_has_workers(); }); }));
  set_num_threads(0);
}

// The child's pool works inside of the task, and after a call that the parent's job has become of.
BOOST_AUTO_TEST_CASE(fork_inside_a_task) {
  set_num_threads(2);
  const pid_t parent = getpid();
  for (int i = 0; i < 30; ++i) {
    std::atomic<int> here{0};
    std::atomic<bool> worked[2] = {false, false};
    run_parallel(2, [&](int index) {
      ++here;
      while (here < 2) std::this_thread::yield();
      worked[index] = in_child([] { return child_works() && child_has_workers(); });
    });
    BOOST_TEST((worked[0] && worked[1]));

    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<pid_t> child{0};
    run_parallel(20, [&](int index) {
      if (index % 2 == 0 && std::this_thread::get_id() == caller && child == 0 && getpid() == parent) {
        child = fork();
        if (child == 0) alarm(60);
      }
    });
    if (getpid() != parent) _exit(child_works() && child_has_workers() ? 0 : 1);  // it returned from the parent's job
    if (child != 0) BOOST_TEST(scenario::status_of(child) == 0);
    BOOST_TEST(runs_each_once(100));
  }
  set_num_threads(0);
}

class Refusing final : public halfway::Executor {
 public:
  int concurrency() const noexcept override { return 5; }
  void run(int /*tasks*/, Task /*task*/, void* /*context*/) noexcept override {}
};

BOOST_AUTO_TEST_CASE(a_child_has_no_executor) {
  static Refusing refusing;
  set_executor(&refusing);
  BOOST_TEST(in_child(child_works));
  BOOST_TEST(set_executor(nullptr) == &refusing);
}

// --- threads that do not come

std::atomic<int> calls_to_fail{0};  // from which call on; a child counts for itself
std::atomic<int> calls{0};

int fail_later(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) {
  return ++calls >= calls_to_fail ? EAGAIN : pthread_create(thread, attributes, body, argument);
}

int never_runs(pthread_t* /*thread*/, const pthread_attr_t* /*attributes*/, void* (* /*body*/)(void*), void* /*arg*/) {
  return 0;
}

BOOST_AUTO_TEST_CASE(fewer_threads_will_do) {
  for (int k = 1; k <= 5; ++k) {
    BOOST_TEST(in_child([k] {
      calls_to_fail = k;
      calls = 0;
      halfway::detail::set_create_thread(fail_later);
      set_num_threads(5);
      for (int job = 0; job < 100; ++job) {
        if (!runs_each_once(job)) return false;
      }
      const int attempts = std::min(k, 4);
      if (pool_workers() != k - 1 || calls != attempts) return false;  // and does not ask again for each job
      halfway::detail::set_create_thread(nullptr);
      for (int job = 0; job < 2000; ++job) {
        if (!runs_each_once(8)) return false;
      }
      return pool_workers() == 4;  // it does after a while
    }));
  }
}

// A worker that never gets a CPU holds nobody up.
BOOST_AUTO_TEST_CASE(workers_that_are_never_scheduled) {
  BOOST_TEST(in_child([] {
    halfway::detail::set_create_thread(never_runs);
    set_num_threads(5);
    for (int job = 0; job < 100; ++job) {
      if (!runs_each_once(job)) return false;
    }
    return pool_workers() == 4;
  }));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
