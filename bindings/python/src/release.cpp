#include "release.h"

#include <ctime>

#include <pthread.h>

#include <atomic>

namespace halfway::python {
namespace {

using detail::Box;

std::atomic<Box*> g_waiting{nullptr};
std::atomic<bool> g_scheduled{false};

[[nodiscard]] bool finalizing() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// The interpreter's current state is asked first: while no thread holds the GIL there is none, and the look-up of this
// thread's own is saved.
[[nodiscard]] bool has_current_thread_state() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
  PyThreadState* current = PyThreadState_GetUnchecked();
#else
  PyThreadState* current = _PyThreadState_UncheckedGet();
#endif
  return current != nullptr && current == PyGILState_GetThisThreadState();
}

template <class Managed>
void call_deleter(void* context) {
  auto* managed = static_cast<Managed*>(context);
  if (managed->deleter != nullptr) {
    managed->deleter(managed);
  }
}

// Lets go of what the box holds (nothing, if its context was taken away) and of the box. The GIL is held.
void let_go(Box* box) noexcept {
  staying_at_exit([box] {
    if (box->context == nullptr) {
      // nothing held
    } else if (box->release == release_object) {
      Py_DECREF(static_cast<PyObject*>(box->context));
    } else if (box->release == release_managed) {
      call_deleter<DLManagedTensorVersioned>(box->context);
    } else {
      call_deleter<DLManagedTensor>(box->context);
    }
  });
  Box::free(box);
}

// As let_go, with a pending exception kept.
void let_go_quietly(Box* box) noexcept {
  if (PyErr_Occurred() == nullptr) {
    let_go(box);
  } else {
    const SavedException saved;
    let_go(box);
  }
}

int run_pending(void* /*unused*/) {
  g_scheduled.exchange(false);  // a full barrier: whoever still sees it set has pushed a box that the drain sees
  drain();
  return 0;
}

// Pending calls cost more than an exchange of a small array (about 145 ns against 120 ns on CPython 3.11), and torch
// lets go of the GIL whenever a tensor dies. So releases may ask for `burst` of them a millisecond; beyond that, which
// takes a loop of exchanges, the next halfway call drains. What waits that way is bounded, in boxes and in bytes of
// their arrays together.
constexpr int burst = 64;
constexpr int max_waiting = 64;
constexpr std::int64_t max_waiting_bytes = std::int64_t{4} * 1024 * 1024;
// Approximate: threads may lose each other's updates.
std::atomic<int> g_tokens{burst};
std::atomic<std::int64_t> g_refilled{0};  // nanoseconds of a monotonic clock
std::atomic<int> g_waiting_count{0};
std::atomic<std::int64_t> g_waiting_bytes{0};

// The bytes of the box's elements, at most one more than `max_waiting_bytes`.
[[nodiscard]] std::int64_t bytes_of(const Box& box) noexcept {
  const DLTensor& tensor = box.managed.dl_tensor;
  std::int64_t bytes = tensor.dtype.bits * tensor.dtype.lanes / 8;
  for (int i = 0; i < tensor.ndim; ++i) {
    if (__builtin_mul_overflow(bytes, tensor.shape[i], &bytes) || bytes > max_waiting_bytes) {
      return max_waiting_bytes + 1;
    }
  }
  return bytes;
}

// Whether the box may wait for the next halfway call; it is then counted as waiting.
[[nodiscard]] bool may_wait(const Box& box) noexcept {
  const int tokens = g_tokens.load(std::memory_order_relaxed);
  if (tokens > 0) {
    g_tokens.store(tokens - 1, std::memory_order_relaxed);
    return false;
  }
  const int count = g_waiting_count.load(std::memory_order_relaxed) + 1;
  const std::int64_t bytes = g_waiting_bytes.load(std::memory_order_relaxed) + bytes_of(box);
  if (count > max_waiting || bytes > max_waiting_bytes) {
    return false;
  }
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  const std::int64_t nanoseconds = now.tv_sec * 1'000'000'000 + now.tv_nsec;
  if (nanoseconds - g_refilled.load(std::memory_order_relaxed) >= 1'000'000) {
    g_refilled.store(nanoseconds, std::memory_order_relaxed);
    g_tokens.store(burst, std::memory_order_relaxed);
    return false;
  }
  g_waiting_count.store(count, std::memory_order_relaxed);
  g_waiting_bytes.store(bytes, std::memory_order_relaxed);
  return true;
}

void release_now_or_later(Box* box) noexcept {
  if (has_current_thread_state()) {
    let_go_quietly(box);
    return;
  }
  const bool wait = may_wait(*box);  // asked first: once it is on the list, the box may be gone
  Box* head = g_waiting.load(std::memory_order_relaxed);
  do {
    box->next = head;
  } while (!g_waiting.compare_exchange_weak(head, box, std::memory_order_release, std::memory_order_relaxed));
  if (wait || g_scheduled.exchange(true, std::memory_order_acq_rel)) {
    return;
  }
  // While the interpreter finalizes nothing is scheduled: nobody will drain, and the box leaks by design.
  if (Py_IsInitialized() == 0 || finalizing() || Py_AddPendingCall(run_pending, nullptr) != 0) {
    g_scheduled.store(false, std::memory_order_release);  // or the interpreter's queue is full: the next call drains
  }
}

template <class Managed>
Tensor import_or_release(Managed* managed, void (*release)(Box*) noexcept) {
  try {
    return detail::import_tensor(managed, release);
  } catch (...) {
    call_deleter<Managed>(managed);
    throw;
  }
}

PyObject* drain_at_exit(PyObject* /*self*/, PyObject* /*unused*/) {
  drain();
  Py_RETURN_NONE;
}

}  // namespace

void release_object(Box* box) noexcept { release_now_or_later(box); }
void release_managed(Box* box) noexcept { release_now_or_later(box); }
void release_managed_legacy(Box* box) noexcept { release_now_or_later(box); }

Tensor import_managed(DLManagedTensorVersioned* managed) { return import_or_release(managed, release_managed); }
Tensor import_managed(DLManagedTensor* managed) { return import_or_release(managed, release_managed_legacy); }

void drain() noexcept {
  if (g_waiting.load(std::memory_order_relaxed) == nullptr) {
    return;
  }
  Box* box = g_waiting.exchange(nullptr, std::memory_order_acquire);
  g_waiting_count.store(0, std::memory_order_relaxed);
  g_waiting_bytes.store(0, std::memory_order_relaxed);
  while (box != nullptr) {
    Box* next = box->next;  // read first: letting go frees the box
    let_go_quietly(box);
    box = next;
  }
}

void init_release() {
  // A thread may have been about to schedule when another one forked: it is not there in the child.
  pthread_atfork(nullptr, nullptr, [] { g_scheduled.store(false, std::memory_order_relaxed); });
  static PyMethodDef definition = {"_drain", drain_at_exit, METH_NOARGS, nullptr};
  const Ref function = checked(PyCFunction_New(&definition, nullptr));
  const Ref atexit = checked(PyImport_ImportModule("atexit"));
  const Ref registered = checked(PyObject_CallMethod(atexit.get(), "register", "O", function.get()));
}

std::size_t pending_releases() noexcept {
  std::size_t count = 0;
  for (const Box* box = g_waiting.load(std::memory_order_acquire); box != nullptr; box = box->next) {
    ++count;
  }
  return count;
}

}  // namespace halfway::python
