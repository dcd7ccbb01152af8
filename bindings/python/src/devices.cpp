#include "devices.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "arguments.h"
#include "engine.h"
#include "halfway/cuda/transfer.h"
#include "halfway/parallel.h"
#include "moving.h"
#include "requirements.h"
#include "torch_device.h"

namespace halfway::python {
namespace {

using cuda::TransferOptions;
using cuda::detail::Backend;
using cuda::detail::DeviceScope;
using cuda::detail::Engine;
using cuda::detail::Event;
using cuda::detail::Status;

constexpr const char* backend_name = "halfway_device_backend";

// The engine over a backend of the tests; empty: the one that ships. The GIL guards it.
std::shared_ptr<Engine>& replaced_engine() {
  static auto* const engine = new std::shared_ptr<Engine>;  // outlives every static
  return *engine;
}

// An engine with other constants over the same backend, for experiments; empty: none. The GIL guards it.
std::shared_ptr<Engine>& tuned_engine() {
  static auto* const engine = new std::shared_ptr<Engine>;  // outlives every static
  return *engine;
}

std::shared_ptr<Engine> engine() {
  if (tuned_engine()) {
    return tuned_engine();
  }
  if (replaced_engine()) {
    return replaced_engine();
  }
  return {std::shared_ptr<void>(), &cuda::detail::shipped_engine()};
}

// Runs `body` without the GIL, whatever the size of the transfer: it may wait for work of the caller's own.
template <class Body>
decltype(auto) without_gil(Body&& body) {
  return unlocked(gil_release_bytes + 1, std::forward<Body>(body));
}

TransferOptions options_of(const Transfer& transfer, std::optional<DType> dtype = std::nullopt, int device = 0) {
  TransferOptions options;
  options.device = device;
  options.dtype = dtype;
  options.stream = transfer.stream;
  options.non_blocking = transfer.non_blocking;
  options.cast = transfer.cast;
  return options;
}

bool& calibration_was_read() noexcept {
  static bool read = false;
  return read;
}

void use_as_engine(PyObject* capsule) {
  calibration_was_read() = false;
  tuned_engine().reset();
  if (capsule == Py_None) {
    replaced_engine().reset();
    return;
  }
  auto* const backend = static_cast<Backend*>(PyCapsule_GetPointer(capsule, backend_name));
  if (backend == nullptr) {
    throw PythonError{};
  }
  // The capsule keeps the backend. The last owner may be a deferred result, which is let go of without the GIL.
  Py_INCREF(capsule);
  replaced_engine() = std::shared_ptr<Engine>(new Engine(*backend), [capsule](Engine* made) {
    delete made;
    staying_at_exit([capsule] {
      const PyGILState_STATE state = PyGILState_Ensure();
      Py_DECREF(capsule);
      PyGILState_Release(state);
    });
  });
}

// --- measured constants, kept in a file by halfway/_calibration.py

struct Figure {
  const char* name;
  double Machine::*value;
};
constexpr std::array<Figure, 6> figures{{
    {"wire_to_device", &Machine::wire_to_device},
    {"wire_to_host", &Machine::wire_to_host},
    {"mapped_read", &Machine::mapped_read},
    {"mapped_write", &Machine::mapped_write},
    {"host_cast", &Machine::host_cast},
    {"host_memory", &Machine::host_memory},
}};

Ref dict_of(const Machine& machine) {
  Ref dict = checked(PyDict_New());
  for (const Figure& figure : figures) {
    const Ref value = checked(PyFloat_FromDouble(machine.*figure.value));
    if (PyDict_SetItemString(dict.get(), figure.name, value.get()) != 0) {
      throw PythonError{};
    }
  }
  const Ref date = checked(PyUnicode_FromString(machine.measured.c_str()));
  if (PyDict_SetItemString(dict.get(), "measured", date.get()) != 0) {
    throw PythonError{};
  }
  return dict;
}

// False: something is missing, and the machine is not to be used.
bool read_machine(PyObject* dict, Machine& machine) {
  for (const Figure& figure : figures) {
    PyObject* value = PyDict_Check(dict) ? PyDict_GetItemString(dict, figure.name) : nullptr;
    if (value == nullptr || !PyFloat_Check(value)) {
      return false;
    }
    machine.*figure.value = PyFloat_AsDouble(value);
  }
  PyObject* date = PyDict_GetItemString(dict, "measured");
  if (date == nullptr) {
    return false;
  }
  machine.measured = text_of(date);
  machine.assumed = false;
  return true;
}

// Constants that an experiment chooses; unlike the figures they are never measured, nor kept in a file.
void read_size(std::string_view name, double value, cuda::detail::EngineSizes& sizes) {
  for (const Figure& figure : figures) {
    if (name == figure.name) {
      sizes.machine.*figure.value = value;
      return;
    }
  }
  const bool is_count = value >= 1 && value <= 64 && value == std::floor(value);
  const bool is_size = value >= 0 && value <= 0x1p62 && value == std::floor(value);
  if (name == "slots" && is_count) {
    sizes.slots = static_cast<int>(value);
  } else if (name == "scratch" && is_count) {
    sizes.scratch = static_cast<int>(value);
  } else if (name == "chunk" && is_size && value >= 512) {
    sizes.machine.chunk = static_cast<std::uint64_t>(value);
  } else if (name == "first_chunk" && is_size) {
    sizes.machine.first_chunk = static_cast<std::uint64_t>(value);
  } else if (name == "piece" && is_size && value >= 1) {
    sizes.piece = static_cast<std::size_t>(value);
  } else if (name == "small" && is_size) {
    sizes.machine.small = static_cast<std::uint64_t>(value);
  } else if (name == "small_pinned" && is_size) {
    sizes.machine.small_pinned = static_cast<std::uint64_t>(value);
  } else {
    throw std::invalid_argument("no constant of the engine: " + std::string(name) + "=" + std::to_string(value) +
                                "; slots and scratch are 1 to 64, chunk is at least 512 bytes, piece at least 1; "
                                "first_chunk, small and small_pinned are in bytes");
  }
}

// Throughout, nothing is under way, and nothing is alive that an engine other than the usual one allocated.
void tune_engine(PyObject* constants) {
  tuned_engine().reset();
  if (constants == Py_None) {
    return;
  }
  const std::shared_ptr<Engine> usual = engine();
  cuda::detail::EngineSizes sizes;
  sizes.machine = usual->machine();
  sizes.machine.cores = 0;  // num_threads()
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  Py_ssize_t place = 0;
  if (!PyDict_Check(constants)) {
    throw std::invalid_argument("constants of the engine are a dict, or None for those that ship");
  }
  while (PyDict_Next(constants, &place, &key, &value) != 0) {
    const double number = PyFloat_AsDouble(value);
    if (number == -1 && PyErr_Occurred() != nullptr) {
      throw PythonError{};
    }
    read_size(text_of(key), number, sizes);
  }
  // It keeps the usual one, and that keeps the backend.
  tuned_engine() = std::shared_ptr<Engine>(new Engine(usual->backend(), sizes), [usual](Engine* made) { delete made; });
}

std::string device_name(Backend& backend, int device) {
  cuda::detail::DeviceTraits traits;
  require(backend, backend.traits(device, traits), "asking for the device's properties");
  return traits.name;
}

// On the first use of a device, what an earlier process has measured. Whatever is wrong with that, the assumed
// constants do.
void read_calibration(Engine& there, int device) {
  if (std::exchange(calibration_was_read(), true)) {
    return;
  }
  const SavedException saved;
  try {
    const Ref module = checked(PyImport_ImportModule("halfway._calibration"));
    const Ref found =
        checked(PyObject_CallMethod(module.get(), "load", "s", device_name(there.backend(), device).c_str()));
    Machine machine = there.machine();
    machine.cores = 0;
    if (read_machine(found.get(), machine)) {
      there.set_machine(machine);
    }
  } catch (const PythonError&) {
    PyErr_Clear();
  } catch (const std::exception&) {
    // a device that does not say its name
  }
}

// The index that device= names, perhaps `any_index`.
PyObject* device_index(PyObject* /*module*/, PyObject* value) {
  return guarded([&]() -> PyObject* {
    const std::optional<Device> device = parse_device(value);
    if (!device || !is_cuda(*device)) {
      throw Error(Reason::device, "device must be a CUDA device", R"(pass "cuda" or "cuda:N")");
    }
    return PyLong_FromLong(device->id);
  });
}

PyObject* calibrate(PyObject* /*module*/, PyObject* args) {
  int index = any_index;
  unsigned long long bytes = 0;
  if (PyArg_ParseTuple(args, "iK", &index, &bytes) == 0) {
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    const Device device = require_device({DeviceType::cuda, index});
    const std::shared_ptr<Engine> there = engine();
    const Machine measured = without_gil([&] { return cuda::detail::calibrate(*there, device.id, bytes); });
    there->set_machine(measured);
    const Ref name = checked(PyUnicode_FromString(device_name(there->backend(), device.id).c_str()));
    return PyTuple_Pack(2, name.get(), dict_of(measured).get());
  });
}

PyObject* set_device_backend(PyObject* /*module*/, PyObject* capsule) {
  return guarded([&]() -> PyObject* {
    use_as_engine(capsule);
    Py_RETURN_NONE;
  });
}

PyObject* tune(PyObject* /*module*/, PyObject* constants) {
  return guarded([&]() -> PyObject* {
    tune_engine(constants);
    Py_RETURN_NONE;
  });
}

PyObject* set_torch_stand_in(PyObject* /*module*/, PyObject* type) {
  return guarded([&]() -> PyObject* {
    use_as_torch(type);
    Py_RETURN_NONE;
  });
}

// Waits, at the end of the process: what the device reads is released while there is an interpreter to do it.
PyObject* finish_at_exit(PyObject* /*module*/, PyObject* /*unused*/) {
  return guarded([]() -> PyObject* {
    const std::shared_ptr<Engine> there = engine();
    if (there->is_at_home()) {
      without_gil([&] { there->wait(); });
    }
    Py_RETURN_NONE;
  });
}

PyMethodDef functions[] = {
    {"_device_index", device_index, METH_O, nullptr},
    {"_calibrate", calibrate, METH_VARARGS, nullptr},
    {"_set_device_backend", set_device_backend, METH_O, nullptr},
    {"_set_torch_stand_in", set_torch_stand_in, METH_O, nullptr},
    {"_tune_engine", tune, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

// --- which device

std::optional<Error> missing_device() {
  const std::shared_ptr<Engine> there = engine();
  try {
    there->require_at_home();
  } catch (const Error& error) {
    return error;
  }
  Backend& backend = there->backend();
  int count = 0;
  const Status status = there->device_count(count);
  if (status == Status::ok && count > 0) {
    return std::nullopt;
  }
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");  // NOLINT(concurrency-mt-unsafe): with the GIL
  std::string message = "no CUDA device can be used: " + backend.missing();
  if (status != Status::ok && status != Status::no_driver && status != Status::no_device) {
    message += " (" + backend.error_text(status) + ")";
  }
  message += "; CUDA_VISIBLE_DEVICES is " +
             (visible == nullptr ? std::string("not set") : "\"" + std::string(visible) + "\"") + "; ";
  message += torch_on_devices();
  return Error(Reason::unavailable, message, "explain() shows the plan all the same; everything on the host works");
}

Device require_device(Device device) {
  if (const std::optional<Error> error = missing_device()) {
    const std::string name = device.id == any_index ? "cuda" : to_string(device);
    throw Error(error->reason(), "device " + name + ": " + error->message(), error->hint());
  }
  const std::shared_ptr<Engine> there = engine();
  Backend& backend = there->backend();
  if (device.id == any_index) {
    if (replaced_engine()) {
      require(backend, backend.current_device(device.id), "asking for the current device");
    } else {
      device.id = current_torch_device().value_or(0);
    }
  }
  int count = 0;
  require(backend, there->device_count(count), "counting devices");
  if (device.id < 0 || device.id >= count) {
    throw Error(Reason::device, "there is no CUDA device " + std::to_string(device.id),
                "there " + std::string(count == 1 ? "is 1" : "are " + std::to_string(count)) +
                    ", counted from 0; CUDA_VISIBLE_DEVICES says which");
  }
  read_calibration(*there, device.id);
  return device;
}

Device presumed_device(Device device) noexcept {
  if (device.id == any_index) {
    device.id = 0;
  }
  return device;
}

// --- streams

void order_streams(int device, void* first, void* then) {
  if (first == then) {
    return;
  }
  const std::shared_ptr<Engine> there = engine();
  there->require_at_home();
  Backend& backend = there->backend();
  const DeviceScope scope(backend, device);
  for (void* const stream : {first, then}) {
    cuda::detail::require_no_capture(backend, stream);
  }
  Event event = nullptr;
  require(backend, backend.create_event(event), "making an event");
  Status status = backend.record(event, first);
  if (status == Status::ok) {
    status = backend.wait(then, event);
  }
  const Status destroyed = backend.destroy_event(event);  // the wait keeps what it needs
  require(backend, status == Status::ok ? destroyed : status, "ordering streams");
}

void await_stream(int device, void* stream) {
  const std::shared_ptr<Engine> there = engine();
  there->require_at_home();
  Backend& backend = there->backend();
  const DeviceScope scope(backend, device);
  cuda::detail::require_no_capture(backend, stream);
  const Status status = without_gil([&] { return backend.synchronize_stream(stream); });
  require(backend, status, "waiting for a stream");
}

std::intptr_t stream_number(void* stream) noexcept {
  return stream == nullptr ? 1 : reinterpret_cast<std::intptr_t>(stream);
}

void* stream_handle(std::intptr_t number) {
  if (number == 0) {
    throw_value_error("stream 0 may be the legacy default stream or the per-thread one: pass 1 or 2");
  }
  if (number < 0) {
    throw_value_error("stream " + std::to_string(number) + " is no stream: pass a handle, 1, 2, or -1 for none");
  }
  return number == 1 ? nullptr : reinterpret_cast<void*>(number);  // NOLINT(performance-no-int-to-ptr): a handle
}

// --- transfers

bool is_read_at_once(const TensorView& source, DType to) {
  return detail::is_small_transfer(source, to, engine()->machine());
}

void send_into(const TensorView& source, Tensor owner, const MutableView& destination, const Transfer& transfer) {
  const OwnGeometry from(source);
  const OwnGeometry to(destination);
  const std::shared_ptr<Engine> there = engine();
  without_gil([&] { there->to_device_into(from.view(), std::move(owner), to.view(), options_of(transfer)); });
}

Tensor send_fresh(const TensorView& source, Tensor owner, DType dtype, Device device, const Transfer& transfer) {
  const OwnGeometry from(source);
  const std::shared_ptr<Engine> there = engine();
  return without_gil(
      [&] { return there->to_device(from.view(), std::move(owner), options_of(transfer, dtype, device.id)); });
}

void receive_into(const TensorView& source, const MutableView& destination, const Transfer& transfer) {
  const OwnGeometry from(source);
  const OwnGeometry to(destination);
  const std::shared_ptr<Engine> there = engine();
  without_gil([&] { there->to_host_into(from.view(), to.view(), options_of(transfer)); });
}

Tensor receive_fresh(const TensorView& source, DType dtype, const Transfer& transfer) {
  const OwnGeometry from(source);
  const std::shared_ptr<Engine> there = engine();
  return without_gil([&] { return there->to_host(from.view(), options_of(transfer, dtype)); });
}

void cast_on_device_into(const TensorView& source, Tensor owner, const MutableView& destination,
                         const Transfer& transfer) {
  const OwnGeometry from(source);
  const OwnGeometry to(destination);
  const std::shared_ptr<Engine> there = engine();
  without_gil([&] { there->cast_on_device_into(from.view(), std::move(owner), to.view(), options_of(transfer)); });
}

Tensor cast_on_device_fresh(const TensorView& source, Tensor owner, DType dtype, const Transfer& transfer) {
  const OwnGeometry from(source);
  const std::shared_ptr<Engine> there = engine();
  return without_gil([&] { return there->cast_on_device(from.view(), std::move(owner), options_of(transfer, dtype)); });
}

namespace {

// Memory that is there already, as if it were allocated for the result.
class Given final : public cuda::DeviceAllocator {
 public:
  explicit Given(const MutableView& memory) noexcept : memory_(memory) {}
  Tensor allocate(std::span<const std::int64_t> /*shape*/, DType /*dtype*/, Device /*device*/,
                  void* /*stream*/) override {
    return Tensor::adopt(memory_, nullptr, nullptr);
  }

 private:
  const MutableView& memory_;
};

}  // namespace

void cast_on_device_fresh_into(const TensorView& source, Tensor owner, const MutableView& destination,
                               const Transfer& transfer) {
  const OwnGeometry from(source);
  const OwnGeometry to(destination);
  const std::shared_ptr<Engine> there = engine();
  Given given(to.view());
  TransferOptions options = options_of(transfer, destination.dtype);
  options.allocator = &given;
  without_gil([&] { static_cast<void>(there->cast_on_device(from.view(), std::move(owner), options)); });
}

struct DeferredResult::State {
  std::shared_ptr<Engine> engine;
  cuda::Pending pending;
};

DeferredResult::DeferredResult(Tensor source, DType dtype, const Transfer& transfer)
    : state_(std::make_unique<State>()) {
  state_->engine = engine();
  state_->pending = without_gil(
      [&] { return cuda::Pending(state_->engine->to_host_later(std::move(source), options_of(transfer, dtype))); });
}

DeferredResult::~DeferredResult() {
  const std::shared_ptr<Engine> there = state_->engine;
  state_.reset();
  try {
    if (there->is_at_home()) {
      there->collect();  // what nobody asked for, if it is done already
    }
  } catch (...) {
    // a device that fails here has nobody to tell
  }
}

bool DeferredResult::ready() const { return state_->pending.ready(); }

Tensor DeferredResult::result() { return state_->pending.result(); }

// --- plans

namespace {

// A plan of the engine's, which may have to wait for a transfer of another thread.
template <class Make>
void add_engine_plan(Plan& plan, const TensorView& source, const MutableView* destination, const CastOptions& options,
                     int device, Make make) {
  Transfer transfer;
  transfer.cast = options;
  const TransferOptions wanted = options_of(transfer, plan.to, device);
  const OwnGeometry from(source);
  const OwnGeometry to(destination != nullptr ? *destination : MutableView{});
  const std::shared_ptr<Engine> there = engine();
  Machine machine;
  const TransferPlan made = without_gil([&] {
    machine = there->machine();
    return make(*there, from.view(), wanted, destination != nullptr ? &to.view() : nullptr);
  });
  add_transfer(plan, made, machine);
}

}  // namespace

void plan_send(Plan& plan, const TensorView& source, Device device, const MutableView* destination,
               const CastOptions& options) {
  if (const std::optional<Error> error = missing_device()) {
    Machine machine;
    machine.cores = num_threads();
    add_transfer(plan, plan_transfer(source, {.to = plan.to, .options = options}, machine), machine);
    plan.unavailable = error->message();
    return;
  }
  add_engine_plan(plan, source, destination, options, device.id,
                  [](Engine& there, const TensorView& from, const TransferOptions& wanted, const MutableView* to) {
                    return there.plan_to_device(from, wanted, to);
                  });
}

void plan_on_device(Plan& plan, const TensorView& source, const MutableView* destination, const CastOptions& options) {
  add_engine_plan(plan, source, destination, options, source.device.id,
                  [](Engine& there, const TensorView& from, const TransferOptions& wanted, const MutableView* to) {
                    return there.plan_on_device(from, wanted, to);
                  });
}

void plan_receive(Plan& plan, const TensorView& source, const MutableView* destination, const CastOptions& options,
                  bool deferred) {
  add_engine_plan(
      plan, source, destination, options, source.device.id,
      [deferred](Engine& there, const TensorView& from, const TransferOptions& wanted, const MutableView* to) {
        return deferred ? there.plan_to_host_later(from, wanted) : there.plan_to_host(from, wanted, to);
      });
}

// --- page-locked memory

void register_pinned(void* memory, std::size_t bytes) {
  static_cast<void>(require_device({DeviceType::cuda, any_index}));
  const std::shared_ptr<Engine> there = engine();
  const Status status = without_gil([&] { return there->backend().register_pinned(memory, bytes); });
  require(there->backend(), status, "page-locking memory");
}

void unregister_pinned(void* memory) {
  const std::shared_ptr<Engine> there = engine();
  there->require_at_home();
  Backend& backend = there->backend();
  std::exception_ptr failure;
  const Status status = without_gil([&] {
    try {
      there->wait();
    } catch (...) {
      // It is unlocked in any case. Whatever failed, the device itself is asked to be done; one that does not even
      // answer that is lost, and nothing runs on it.
      failure = std::current_exception();
      static_cast<void>(backend.synchronize_device());
    }
    return backend.unregister_pinned(memory);
  });
  if (failure) {
    std::rethrow_exception(failure);
  }
  require(backend, status, "unlocking memory");
}

void init_device(PyObject* module) {
  if (PyModule_AddFunctions(module, functions) < 0) {
    throw PythonError{};
  }
  static PyMethodDef definition = {"_finish", finish_at_exit, METH_NOARGS, nullptr};
  const Ref function = checked(PyCFunction_New(&definition, nullptr));
  const Ref atexit = checked(PyImport_ImportModule("atexit"));
  const Ref registered = checked(PyObject_CallMethod(atexit.get(), "register", "O", function.get()));
}

}  // namespace halfway::python
