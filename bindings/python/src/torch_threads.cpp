#include "torch_threads.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "parallel_run.h"

namespace halfway::python {
namespace {

// What GCC's code calls; LLVM's and Intel's runtimes have it too.
using Region = void (*)(void* context);
using Parallel = void (*)(Region region, void* context, unsigned threads, unsigned flags);
using Ask = int (*)();

struct OpenMp {
  Parallel parallel = nullptr;
  Ask max_threads = nullptr;
  Ask in_parallel = nullptr;
  Ask thread_num = nullptr;
};

OpenMp g_openmp;
std::atomic_flag g_busy = ATOMIC_FLAG_INIT;

template <class Function>
bool find(void* library, const char* name, Function& function) noexcept {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// Each thread begins with the tasks that it would have in a static division, as torch makes it, and helps the others
// when it is done: what a thread wrote last is in the caches of its processor, and a machine may have several of the
// last level.
struct Work {
  static constexpr int most_parts = 64;
  struct alignas(64) Part {
    int next;  // atomically, once the team works
    int end;
  };

  Work(int tasks, int wanted, Executor::Task done, void* with) noexcept
      : threads(wanted), parts_count(std::clamp(std::min(tasks, wanted), 1, most_parts)), task(done), context(with) {
    for (int i = 0; i < parts_count; ++i) {
      parts[i].next = begin_of(i, tasks);
      parts[i].end = begin_of(i + 1, tasks);
    }
  }

  [[nodiscard]] int begin_of(int part, int tasks) const noexcept {
    return static_cast<int>(std::int64_t{tasks} * part / parts_count);
  }

  void run(int thread) noexcept {
    for (int i = 0; i < parts_count; ++i) {
      Part& part = parts[(thread + i) % parts_count];
      const std::atomic_ref<int> next(part.next);
      for (;;) {
        const int index = next.fetch_add(1, std::memory_order_relaxed);
        if (index >= part.end) break;
        task(context, index);
      }
    }
  }

  int threads;
  int parts_count;
  Executor::Task task;
  void* context;
  std::array<Part, most_parts> parts;  // not initialised but for the first `parts_count`
};

detail::TeamAnswer run_on_team(int tasks, int threads, Executor::Task task, void* context) noexcept {
  if (g_openmp.in_parallel() != 0) return detail::TeamAnswer::busy;
  if (g_openmp.max_threads() < 2) return detail::TeamAnswer::absent;
  // Every thread that asks has a team of its own: one at a time.
  if (g_busy.test_and_set(std::memory_order_acquire)) return detail::TeamAnswer::busy;
  Work work(tasks, threads, task, context);
  // Always the whole team, as torch has it: to change its size is to end threads and to start others.
  g_openmp.parallel(
      [](void* shared) {
        auto& mine = *static_cast<Work*>(shared);
        const int thread = g_openmp.thread_num();
        if (thread < mine.threads) mine.run(thread);
      },
      &work, 0, 0);
  g_busy.clear(std::memory_order_release);
  return detail::TeamAnswer::done;
}

}  // namespace

void share_threads_with_torch() noexcept {
  void* const library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) {
    return;
  }
  // Symbols of the libraries that torch itself is linked to: another OpenMP runtime may be in the process.
  const bool found = find(library, "GOMP_parallel", g_openmp.parallel) &&
                     find(library, "omp_get_max_threads", g_openmp.max_threads) &&
                     find(library, "omp_in_parallel", g_openmp.in_parallel) &&
                     find(library, "omp_get_thread_num", g_openmp.thread_num);
  dlclose(library);  // torch stays
  if (found) {
    detail::set_team(run_on_team);
  }
}

}  // namespace halfway::python
