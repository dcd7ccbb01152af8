// Owners behind the arrays of halfway/pybind11.h, which any thread may let go of, with the GIL or without. Not for use
// by itself. References are plain pointers: pybind11's types are hidden, which g++ does not like to see in others.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <memory>
#include <string_view>
#include <utility>

#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace pybind {
namespace detail {

namespace py = ::pybind11;

// What has to be let go of with the GIL: a Python object, or a tensor whose producer's deleter may ask for it.
struct Owner {
  PyObject* object;
  Tensor tensor;
  Owner* next = nullptr;

  static inline std::atomic<Owner*> waiting{nullptr};

  static bool has_gil() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
    PyThreadState* const current = PyThreadState_GetUnchecked();
#else
    PyThreadState* const current = _PyThreadState_UncheckedGet();
#endif
    return current != nullptr && current == PyGILState_GetThisThreadState();
  }
  static bool is_finalizing() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
  }

  // Lets go of all that wait. The GIL is held.
  static void drain() noexcept {
    if (waiting.load(std::memory_order_relaxed) == nullptr) return;
    Owner* owner = waiting.exchange(nullptr, std::memory_order_acquire);
    const py::error_scope pending;  // whoever comes here may be about to raise
    while (owner != nullptr) {
      const std::unique_ptr<Owner> last(std::exchange(owner, owner->next));
      Py_XDECREF(last->object);
    }
  }

  static void release(void* context) noexcept {
    auto* const owner = static_cast<Owner*>(context);
    owner->next = waiting.load(std::memory_order_relaxed);
    while (!waiting.compare_exchange_weak(owner->next, owner, std::memory_order_release, std::memory_order_relaxed)) {
    }
    if (has_gil()) {
      drain();
    } else if (Py_IsInitialized() != 0 && !is_finalizing()) {
      // The interpreter's queue may be full: the next release or import with the GIL drains then. An interpreter that
      // is gone needs nothing back.
      Py_AddPendingCall(
          [](void*) {
            drain();
            return 0;
          },
          nullptr);
    }
  }
};

// Whether an address is all that is known of memory on such a device: elsewhere it may be a handle with an offset,
// which no view has.
inline bool is_addressable(Device device) { return is_host(device) || device.type == DeviceType::cuda; }

// The memory of a producer, let go of as an Owner is. What is not addressable stays as it is. throws: std::bad_alloc
inline Tensor deferred(Tensor tensor, bool readonly) {
  MutableView view = tensor.mutable_view();
  if (!is_addressable(view.device)) return tensor;
  view.readonly = readonly;
  auto owner = std::make_unique<Owner>(Owner{nullptr, std::move(tensor)});
  return Tensor::adopt(view, owner.release(), Owner::release);
}

// What was taken from a capsule that is an argument. It goes back unless the function is called: a call that was
// refused, for whatever argument, has used up nothing. All but settle() with the GIL.
class Claim {
 public:
  Claim() = default;
  // The capsule is good again when this throws. throws: std::bad_alloc
  Claim(py::handle capsule, Tensor imported, bool readonly)
      : capsule_(capsule.inc_ref().ptr()), imported_(std::move(imported)) {
    try {
      tensor_ = deferred(imported_.share(), readonly);
    } catch (...) {
      give_back();
      capsule.dec_ref();
      throw;
    }
  }
  Claim(Claim&& other) noexcept { *this = std::move(other); }
  Claim& operator=(Claim&& other) noexcept {
    std::swap(capsule_, other.capsule_);
    std::swap(imported_, other.imported_);
    std::swap(tensor_, other.tensor_);
    return *this;
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    give_back();
    Py_XDECREF(capsule_);
  }

  [[nodiscard]] const Tensor& tensor() const noexcept { return tensor_; }

  // The function is called. Without the GIL, if a guard of the call has released it.
  void settle() noexcept {
    imported_.reset();  // before the tensor, which is let go of later where there is no GIL
    tensor_.reset();
  }

 private:
  void give_back() noexcept {
    if (!imported_) return;
    tensor_.reset();
    const py::error_scope pending;
    const auto fill = [this](void* managed, const char* name) {
      PyCapsule_SetPointer(capsule_, managed);
      PyCapsule_SetName(capsule_, name);
    };
    try {
      if (std::string_view(PyCapsule_GetName(capsule_)) == "used_dltensor_versioned") {
        fill(std::move(imported_).to_dlpack(), "dltensor_versioned");
      } else {
        fill(std::move(imported_).to_dlpack_legacy(), "dltensor");
      }
    } catch (...) {  // NOLINT(bugprone-empty-catch): it is let go of, and the capsule stays used up
    }
  }

  PyObject* capsule_ = nullptr;
  Tensor imported_;  // as it goes back
  Tensor tensor_;    // as it is handed out
};

}  // namespace detail
}  // namespace pybind
}  // namespace v0
}  // namespace halfway
