// How many threads a call may use, and whose threads they are.
//
// Large casts are cut into tasks that run on a pool of worker threads. The pool starts no thread before the first call
// that needs one, runs one call's tasks at a time, and is never waited for: a call that finds it busy (with another
// thread's call, or with the very task that makes the call) does all of its work itself. So a process runs at most
// num_threads() - 1 threads on top of those that call, each with a stack of 512 KiB. Results never depend on the number
// of threads.
#pragma once

namespace halfway {
inline namespace v0 {

// Counts above this one count as this one.
inline constexpr int max_threads = 1024;

// How many threads one call may use, the calling one included: 1 .. max_threads.
//
// Unless set_num_threads says otherwise this is the least of
//   - the CPUs in the affinity mask of the thread that asks first,
//   - the CPU quota of the process's control groups (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), rounded up,
//   - OMP_NUM_THREADS, of a list the first number;
// or HALFWAY_NUM_THREADS alone, where the environment has it. A variable that is not a number of at least 1 counts as
// not set. All of it is read once, on first use.
//
// In a forked child it is 1 until the child itself calls set_num_threads: its parent has the CPUs, and whoever forks to
// work in parallel (torch's DataLoader does) has as many children as CPUs. set_num_threads in the parent and
// HALFWAY_NUM_THREADS do not change that.
//
// Where an Executor is set, its concurrency takes the place of the default, and is a limit to what is set.
[[nodiscard]] int num_threads() noexcept;

// Sets what num_threads() gives, for the whole process; 0 restores the default. Threads: atomic; calls that are running
// go on with the number they began with. Lowering it ends no thread: the workers beyond it stay blocked.
// throws: std::invalid_argument if n is negative
void set_num_threads(int n);

// Somebody else's threads for the tasks of this library, for programs that have a pool of their own.
//
//     class HostThreads final : public halfway::Executor {
//      public:
//       int concurrency() const noexcept override { return tbb::this_task_arena::max_concurrency(); }
//       void run(int tasks, Task task, void* context) noexcept override {
//         tbb::this_task_arena::isolate([=] {
//           tbb::parallel_for(0, tasks, [=](int index) { task(context, index); });
//         });
//       }
//     };
//
//     static HostThreads host_threads;
//     halfway::set_executor(&host_threads);
//
// Implementations must be safe to call from any thread, from inside of tasks too. A task needs at most 48 KiB of the
// stack of the thread that runs it; a task of a transfer to or from a device calls the device's driver, too.
class Executor {
 public:
  using Task = void (*)(void* context, int index) noexcept;

  virtual ~Executor() = default;

  // How many tasks may run at the same time, the calling thread's included; less than 1 counts as 1. Asked often: it
  // should take nanoseconds.
  [[nodiscard]] virtual int concurrency() const noexcept = 0;

  // Calls task(context, index) once for every index of [0, tasks), tasks >= 2, on any threads in any order, and returns
  // when all have returned; what they wrote is then visible to the calling thread. It must not throw: the calls that
  // wait for the tasks could not go on.
  virtual void run(int tasks, Task task, void* context) noexcept = 0;

 protected:
  Executor() = default;
  Executor(const Executor&) = default;
  Executor& operator=(const Executor&) = default;
};

// Replaces the built-in pool; nullptr restores it. The executor must outlive every call that may use it, those that
// are running when it is replaced included. Returns the previous one, nullptr for the built-in pool. A forked child
// starts with the built-in pool, since the threads of the other are not in it. Threads: atomic.
Executor* set_executor(Executor* executor) noexcept;

}  // namespace v0
}  // namespace halfway
