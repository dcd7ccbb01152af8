// _halfway_sim: the simulated device of the tests as a Python module, with an array library that lives on it. The
// library does what the array API standard and DLPack say of producers and consumers on a device, and writes down what
// it was asked for. Its exchange table can stand in for torch's. Never installed.
#include <dlpack/dlpack.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "backend/simulated.h"
#include "halfway/layout.h"

namespace {

namespace py = pybind11;

using halfway::cuda::detail::Backend;
using halfway::cuda::detail::Counters;
using halfway::cuda::detail::Fault;
using halfway::cuda::detail::Simulated;
using halfway::cuda::detail::SimulatedOptions;

constexpr unsigned char unwritten = 0x77;
constexpr unsigned char released = 0xEE;

// A simulated device and the memory that the array library has of it, in the order of streams.
class World {
 public:
  explicit World(const SimulatedOptions& options) : simulated(options) {}

  Simulated simulated;
  std::vector<std::string> log;  // what was asked of the array library, by threads that hold the GIL
  std::map<int, void*> current;  // stream of each device
  bool fail_allocation = false;

  void* allocate(std::size_t bytes, int device, void* stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (released_.size() > 64) reap();
    void* const memory = simulated.make_memory(bytes, device);
    simulated.fill(memory, bytes, unwritten, stream);
    ++live_;
    return memory;
  }
  // What comes on the stream from now on may have the memory.
  void release(void* memory, std::size_t bytes, void* stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    simulated.fill(memory, bytes, released, stream);
    released_.emplace_back(memory, stream);
    --live_;
  }
  [[nodiscard]] int live() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return live_;
  }

 private:
  void reap() {
    for (const auto& [memory, stream] : released_) {
      simulated.finish(stream);
      simulated.free_memory(memory);
    }
    released_.clear();
  }

  std::mutex mutex_;
  int live_ = 0;
  std::vector<std::pair<void*, void*>> released_;
};

// The engine's pinned memory may be in somebody's hands for good: then the world stays, too.
void end(World* world) {
  if (world->simulated.live_blocks() == 0) delete world;
}

std::shared_ptr<World> g_world;     // of the exchange table, which has no place for one
bool g_let_go_without_gil = false;  // some backend was

struct Storage {
  std::shared_ptr<World> world;
  void* memory = nullptr;
  std::size_t bytes = 0;
  void* stream = nullptr;

  Storage(std::shared_ptr<World> where, std::size_t size, int device, void* on)
      : world(std::move(where)), memory(world->allocate(size, device, on)), bytes(size), stream(on) {}
  ~Storage() { world->release(memory, bytes, stream); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

struct Array {
  std::shared_ptr<World> world;
  std::shared_ptr<void> owner;
  std::byte* data = nullptr;
  DLDataType dtype{};
  int device = 0;
  void* stream = nullptr;  // on which it is ready
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;

  [[nodiscard]] std::size_t item() const { return dtype.bits / 8U; }
  // Bytes before and behind the first element.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> extent() const {
    std::int64_t low = 0;
    std::int64_t high = 1;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 0) return {0, 0};
      (strides[i] < 0 ? low : high) += strides[i] * (shape[i] - 1);
    }
    const auto size = static_cast<std::int64_t>(item());
    return {low * size, high * size};
  }
};

std::vector<std::int64_t> row_major(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  halfway::row_major_strides(shape, strides);
  return strides;
}

void* handle(std::uintptr_t number) { return reinterpret_cast<void*>(number); }  // NOLINT(performance-no-int-to-ptr)
std::uintptr_t number(const void* stream) { return reinterpret_cast<std::uintptr_t>(stream); }

Array make(const std::shared_ptr<World>& world, const std::vector<std::int64_t>& shape, DLDataType dtype, int device,
           void* stream) {
  std::size_t bytes = dtype.bits / 8U;
  for (const std::int64_t dim : shape) bytes *= static_cast<std::size_t>(dim);
  auto storage = std::make_shared<Storage>(world, std::max<std::size_t>(bytes, 1), device, stream);
  auto* const data = static_cast<std::byte*>(storage->memory);
  return {world, std::move(storage), data, dtype, device, stream, shape, row_major(shape)};
}

// --- DLPack

struct Managed {
  DLManagedTensorVersioned versioned{};
  DLManagedTensor legacy{};
  Array array;

  explicit Managed(Array from) : array(std::move(from)) {
    DLTensor tensor{};
    tensor.data = array.data;
    tensor.device = {kDLCUDA, array.device};
    tensor.ndim = static_cast<std::int32_t>(array.shape.size());
    tensor.dtype = array.dtype;
    tensor.shape = array.shape.data();
    tensor.strides = array.strides.data();
    versioned.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
    versioned.manager_ctx = legacy.manager_ctx = this;
    versioned.deleter = [](DLManagedTensorVersioned* self) { delete static_cast<Managed*>(self->manager_ctx); };
    legacy.deleter = [](DLManagedTensor* self) { delete static_cast<Managed*>(self->manager_ctx); };
    versioned.dl_tensor = legacy.dl_tensor = tensor;
  }
};

void destroy_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor_versioned") != 0) {
    auto* const managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    managed->deleter(managed);
  } else if (PyCapsule_IsValid(capsule, "dltensor") != 0) {
    auto* const managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    managed->deleter(managed);
  }
}

// The producer's part of the handshake: `stream` begins behind the values.
py::object dlpack(const Array& array, const py::object& stream, bool versioned) {
  array.world->log.push_back("__dlpack__ stream=" + std::string(py::str(stream)));
  const long wanted = stream.is_none() ? 1 : stream.cast<long>();
  if (wanted == 0 || wanted < -1) throw py::value_error("no such stream");
  if (wanted != -1) {
    array.world->simulated.order(array.stream, wanted == 1 ? nullptr : handle(static_cast<std::uintptr_t>(wanted)));
  }
  auto* const managed = new Managed(array);
  return py::reinterpret_steal<py::object>(
      versioned ? PyCapsule_New(&managed->versioned, "dltensor_versioned", destroy_capsule)
                : PyCapsule_New(&managed->legacy, "dltensor", destroy_capsule));
}

Array& array_of(void* object) { return py::handle(static_cast<PyObject*>(object)).cast<Array&>(); }

int failed(const char* what) {
  PyErr_SetString(PyExc_RuntimeError, what);
  return -1;
}

int allocate(DLTensor* prototype, DLManagedTensorVersioned** out, void* context,
             void (*set_error)(void*, const char*, const char*)) {
  *out = nullptr;
  try {
    if (g_world == nullptr || prototype->device.device_type != kDLCUDA) throw std::runtime_error("no such device");
    const int device = prototype->device.device_id;
    g_world->log.push_back("allocate");
    if (g_world->fail_allocation) throw std::bad_alloc();
    const std::vector<std::int64_t> shape(prototype->shape, prototype->shape + prototype->ndim);
    auto* const managed = new Managed(make(g_world, shape, prototype->dtype, device, g_world->current[device]));
    *out = &managed->versioned;
    return 0;
  } catch (const std::bad_alloc&) {
    set_error(context, "MemoryError", "simulated out of memory");
  } catch (const std::exception& error) {
    set_error(context, "RuntimeError", error.what());
  }
  return -1;
}

int from_object(void* object, DLManagedTensorVersioned** out) {
  try {
    *out = &(new Managed(array_of(object)))->versioned;
    return 0;
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

int to_object(DLManagedTensorVersioned* managed, void** out) {
  try {
    if (g_world == nullptr || managed->dl_tensor.device.device_type != kDLCUDA) return failed("no such device");
    const DLTensor& tensor = managed->dl_tensor;
    const int device = tensor.device.device_id;
    Array array;
    array.world = g_world;
    array.device = device;
    array.stream = g_world->current[device];
    array.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
    array.dtype = tensor.dtype;
    array.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
    array.strides.assign(tensor.strides, tensor.strides + tensor.ndim);
    array.owner = std::shared_ptr<void>(managed, [](void* owned) {
      auto* const struct_ = static_cast<DLManagedTensorVersioned*>(owned);
      if (struct_->deleter != nullptr) struct_->deleter(struct_);
    });
    *out = py::cast(std::move(array)).release().ptr();
    return 0;
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

int describe(void* object, DLTensor* out) {
  try {
    Array& array = array_of(object);
    *out = {array.data,
            {kDLCUDA, array.device},
            static_cast<std::int32_t>(array.shape.size()),
            array.dtype,
            array.shape.data(),
            array.strides.data(),
            0};
    return 0;
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

int current_stream(DLDeviceType type, std::int32_t device, void** out) {
  if (g_world == nullptr || type != kDLCUDA) return failed("no such device");
  g_world->log.push_back("current_work_stream");
  *out = g_world->current[device];
  return 0;
}

const DLPackExchangeAPI exchange_table = {
    .header = {.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION}, .prev_api = nullptr},
    .managed_tensor_allocator = allocate,
    .managed_tensor_from_py_object_no_sync = from_object,
    .managed_tensor_to_py_object_no_sync = to_object,
    .dltensor_from_py_object_no_sync = describe,
    .current_work_stream = current_stream,
};

// --- the module

std::shared_ptr<World> make_world(std::uint64_t seed, int devices, std::size_t memory, bool coherent, bool threads,
                                  std::uint64_t fail_call, const std::string& fault) {
  SimulatedOptions options;
  options.seed = seed;
  options.devices = devices;
  options.memory = memory;
  options.coherent = coherent;
  options.threads = threads;
  options.fail_call = fail_call;
  options.fault = fault == "refused" ? Fault::refused : fault == "lost" ? Fault::lost : Fault::late;
  return {new World(options), end};
}

py::object backend_of(const std::shared_ptr<World>& world) {
  Backend* const backend = &world->simulated;
  PyObject* const capsule = PyCapsule_New(backend, "halfway_device_backend", [](PyObject* self) {
    if (PyGILState_Check() == 0) g_let_go_without_gil = true;
    delete static_cast<std::shared_ptr<World>*>(PyCapsule_GetContext(self));
  });
  PyCapsule_SetContext(capsule, new std::shared_ptr<World>(world));
  return py::reinterpret_steal<py::object>(capsule);
}

py::dict counters_of(const World& world) {
  const Counters counters = world.simulated.counters();
  py::dict result;
  result["copies"] = counters.copies_to_device + counters.copies_to_host;
  result["launches"] = counters.launches;
  result["bytes_wire"] = counters.bytes_wire();
  return result;
}

py::dict live_of(World& world) {
  py::dict result;
  result["blocks"] = world.simulated.live_blocks();
  result["streams"] = world.simulated.live_streams();
  result["events"] = world.simulated.live_events();
  result["registrations"] = world.simulated.live_registrations();
  result["arrays"] = world.live();
  return result;
}

py::bytes bytes_of(const Array& array, std::optional<std::uintptr_t> stream) {
  const auto [low, high] = array.extent();
  std::string bytes(static_cast<std::size_t>(high - low), '\0');
  void* const on = stream ? handle(*stream) : array.stream;
  {
    const py::gil_scoped_release nothing;
    array.world->simulated.read(bytes.data(), array.data + low, bytes.size(), on);
    array.world->simulated.finish(on);
  }
  return {bytes};
}

}  // namespace

PYBIND11_MODULE(_halfway_sim, module) {
  py::class_<World, std::shared_ptr<World>>(module, "Device")
      .def(py::init(&make_world), py::kw_only(), py::arg("seed") = 0, py::arg("devices") = 1,
           py::arg("memory") = std::size_t{1} << 26, py::arg("coherent") = false, py::arg("threads") = false,
           py::arg("fail_call") = 0, py::arg("fault") = "refused")
      .def("backend", backend_of)
      .def("counters", counters_of)
      .def("live", live_of)
      .def_readwrite("log", &World::log)
      .def_readwrite("fail_allocation", &World::fail_allocation)
      .def_property_readonly("calls", [](const World& world) { return world.simulated.calls(); })
      .def_property_readonly("is_lost", [](const World& world) { return world.simulated.is_lost(); })
      .def_property_readonly("violation",
                             [](const World& world) {
                               const char* const words = world.simulated.violation();
                               return words == nullptr ? std::string() : std::string(words);
                             })
      .def("use", [](const std::shared_ptr<World>& world) { g_world = world; })
      .def(
          "stream", [](World& world, int device) { return number(world.simulated.make_stream(device)); },
          py::arg("device") = 0)
      .def(
          "set_stream", [](World& world, std::uintptr_t stream, int device) { world.current[device] = handle(stream); },
          py::arg("stream"), py::arg("device") = 0)
      .def("set_device", [](World& world, int device) { return static_cast<int>(world.simulated.set_device(device)); })
      .def("set_capturing", [](World& world, std::uintptr_t stream,
                               bool capturing) { world.simulated.set_capturing(handle(stream), capturing); })
      .def(
          "finish", [](World& world, std::uintptr_t stream) { world.simulated.finish(handle(stream)); },
          py::call_guard<py::gil_scoped_release>())
      .def("pin",
           [](World& world, std::uintptr_t address, std::size_t bytes) { world.simulated.pin(handle(address), bytes); })
      .def("unpin", [](World& world, std::uintptr_t address) { world.simulated.unpin(handle(address)); })
      .def(
          "array",
          [](const std::shared_ptr<World>& world, const std::vector<std::int64_t>& shape, int code, int bits,
             int device, std::uintptr_t stream) {
            const DLDataType dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
            return make(world, shape, dtype, device, handle(stream));
          },
          py::arg("shape"), py::arg("code"), py::arg("bits"), py::arg("device") = 0, py::arg("stream") = 0);
  module.def("reset", [] { g_world.reset(); });
  module.def("let_go_without_gil", [] { return g_let_go_without_gil; });

  py::class_<Array> array(module, "Array", py::dynamic_attr());
  array.def_readonly("shape", &Array::shape)
      .def_readonly("strides", &Array::strides)
      .def_readonly("device", &Array::device)
      .def_property_readonly("dtype",
                             [](const Array& self) { return py::make_tuple(self.dtype.code, self.dtype.bits); })
      .def_property_readonly("stream", [](const Array& self) { return number(self.stream); })
      .def_property_readonly("data_ptr", [](const Array& self) { return number(self.data); })
      .def_property_readonly("low", [](const Array& self) { return self.extent().first; })
      .def("write",
           [](const Array& self, const py::bytes& bytes, std::uintptr_t stream) {
             const std::string text = bytes;
             self.world->simulated.write(self.data, text.data(), text.size(), handle(stream));
           })
      .def("read", bytes_of, py::arg("stream") = py::none())
      // The same memory seen otherwise; offset and strides in elements.
      .def("view",
           [](const Array& self, std::int64_t offset, std::vector<std::int64_t> shape,
              std::vector<std::int64_t> strides) {
             Array other = self;
             other.data += offset * static_cast<std::int64_t>(self.item());
             other.shape = std::move(shape);
             other.strides = std::move(strides);
             return other;
           })
      .def(
          "__dlpack__",
          [](const Array& self, const py::object& stream, const py::object& max_version, const py::object& dl_device,
             const py::object& copy) {
            static_cast<void>(dl_device);
            static_cast<void>(copy);
            return dlpack(self, stream, !max_version.is_none());
          },
          py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
          py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__",
           [](const Array& self) { return py::make_tuple(static_cast<int>(kDLCUDA), self.device); });
  array.attr("__dlpack_c_exchange_api__") = py::reinterpret_steal<py::object>(
      PyCapsule_New(const_cast<DLPackExchangeAPI*>(&exchange_table), "dlpack_exchange_api", nullptr));
}
