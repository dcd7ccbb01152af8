#include "pending.h"

#include <exception>
#include <mutex>
#include <new>
#include <utility>

#include "docs.h"
#include "moving.h"
#include "release.h"

namespace halfway::python {
namespace {

// What is under way, apart from the object: several threads may ask for it at once.
struct Arrival {
  std::mutex mutex;  // taken without the GIL
  std::unique_ptr<DeferredResult> deferred;
  std::shared_ptr<const Extras> extras;
  const Library* target = nullptr;
  Plan plan;
  Tensor memory;  // once it is there
  std::exception_ptr failure;

  // Waits. The GIL is not held.
  void await() {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!deferred) {
      return;
    }
    try {
      memory = deferred->result();
    } catch (...) {
      failure = std::current_exception();
    }
    deferred.reset();
  }
};

struct PendingObject {
  PyObject_HEAD std::shared_ptr<Arrival> arrival;  // nullptr: the result was there from the beginning
  Ref result;
};

PyTypeObject* g_type = nullptr;

PendingObject& pending(PyObject* self) noexcept { return *reinterpret_cast<PendingObject*>(self); }

PendingObject& make() {
  PyObject* self = checked(g_type->tp_alloc(g_type, 0)).release();
  PendingObject& object = pending(self);
  new (&object.arrival) std::shared_ptr<Arrival>;
  new (&object.result) Ref;
  return object;
}

void dealloc(PyObject* self) {
  PendingObject& object = pending(self);
  PyTypeObject* type = Py_TYPE(self);
  if (object.arrival && object.arrival.use_count() == 1) {
    // Letting go of it may wait for a transfer of another thread, which may want the GIL.
    std::unique_ptr<DeferredResult> deferred = std::move(object.arrival->deferred);
    unlocked(deferred ? gil_release_bytes + 1 : 0, [&] { deferred.reset(); });
  }
  object.arrival.~shared_ptr();
  object.result.~Ref();
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* ready(PyObject* self, PyObject* /*unused*/) {
  return guarded([&]() -> PyObject* {
    const PendingObject& object = pending(self);
    bool is_ready = static_cast<bool>(object.result);
    if (!is_ready) {
      Arrival& arrival = *object.arrival;
      // Somebody who waits for it holds the lock.
      const std::unique_lock<std::mutex> lock(arrival.mutex, std::try_to_lock);
      is_ready = lock.owns_lock() && (!arrival.deferred || arrival.deferred->ready());
    }
    return PyBool_FromLong(is_ready ? 1 : 0);
  });
}

PyObject* result(PyObject* self, PyObject* /*unused*/) {
  drain();
  return guarded([&]() -> PyObject* {
    PendingObject& object = pending(self);
    if (!object.result) {
      const std::shared_ptr<Arrival> arrival = object.arrival;
      unlocked(gil_release_bytes + 1, [&] { arrival->await(); });
      if (arrival->failure) {
        std::rethrow_exception(arrival->failure);
      }
      if (!object.result) {  // or another thread has been here
        Ref made = checked(arrival->target->adopt(arrival->memory.share(), arrival->plan));
        if (!object.result) {  // or while it was made
          object.result = std::move(made);
          arrival->memory.reset();
        }
      }
    }
    return Ref::borrow(object.result.get()).release();
  });
}

PyMethodDef methods[] = {
    {"ready", ready, METH_NOARGS, docs::pending_ready},
    {"result", result, METH_NOARGS, docs::pending_result},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_doc, const_cast<char*>(docs::pending)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "halfway.Pending",
    .basicsize = sizeof(PendingObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

}  // namespace

PyObject* pending_object(Ref result) {
  PendingObject& object = make();
  object.result = std::move(result);
  return reinterpret_cast<PyObject*>(&object);
}

PyObject* pending_object(std::unique_ptr<DeferredResult> deferred, const Library& target, const Plan& plan,
                         std::shared_ptr<const Extras> extras) {
  auto arrival = std::make_shared<Arrival>();
  arrival->deferred = std::move(deferred);
  arrival->extras = std::move(extras);
  arrival->target = &target;
  arrival->plan = plan;
  PendingObject& object = make();
  object.arrival = std::move(arrival);
  return reinterpret_cast<PyObject*>(&object);
}

void init_pending(PyObject* module) {
  g_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&spec)).release());
  if (PyModule_AddObjectRef(module, "Pending", reinterpret_cast<PyObject*>(g_type)) < 0) {
    throw PythonError{};
  }
}

}  // namespace halfway::python
