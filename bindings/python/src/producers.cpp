#include "producers.h"

#include <array>
#include <string>
#include <utility>

#include "capsule.h"
#include "devices.h"
#include "release.h"

namespace halfway::python {
namespace {

[[noreturn]] void throw_unknown_device(Device device) {
  throw Error(Reason::device,
              "the array is on DLPack device (" + std::to_string(static_cast<int>(device.type)) + ", " +
                  std::to_string(device.id) + "), which is neither the host's memory nor a CUDA device's",
              "copy it to the host with its own library first");
}

// Where the producer says that its memory is; nothing where it has no such method: its struct will say.
std::optional<Device> device_of(PyObject* producer) {
  const Ref device =
      Ref::steal(staying_at_exit([&] { return PyObject_CallMethod(producer, "__dlpack_device__", nullptr); }));
  int type = 0;
  int id = 0;
  if (!device) {
    if (PyErr_ExceptionMatches(PyExc_AttributeError) == 0) {
      throw PythonError{};
    }
    PyErr_Clear();
    return std::nullopt;
  }
  if (!PyTuple_Check(device.get()) || PyArg_ParseTuple(device.get(), "ii", &type, &id) == 0) {
    PyErr_Clear();
    throw Error(Reason::malformed, "__dlpack_device__ did not return a (device_type, device_id) tuple");
  }
  if (id < 0) {
    throw Error(Reason::malformed, "__dlpack_device__ returned a negative device_id");
  }
  return Device{static_cast<DeviceType>(type), id};
}

// Asked before the memory is: a producer that is refused has not been made to wait for anything.
void require_welcome(Device device, const Opening& opening) {
  if (is_host(device)) {
    return;
  }
  if (!is_cuda(device)) {
    throw_unknown_device(device);
  }
  if (!opening.devices) {
    throw Error(Reason::device, "the array is on " + to_string(device) + ", not in host memory",
                "copy it to the host first: halfway.to_numpy(x), or its own library's way");
  }
  static_cast<void>(require_device(device));
}

Tensor import_by_table(const DLPackExchangeAPI& table, PyObject* producer) {
  DLManagedTensorVersioned* managed = nullptr;
  const bool failed =
      staying_at_exit([&] { return table.managed_tensor_from_py_object_no_sync(producer, &managed); }) != 0;
  if (failed && PyErr_Occurred() != nullptr) {
    throw PythonError{};
  }
  if (failed || managed == nullptr) {
    throw Error(Reason::malformed, std::string("the exchange table of ") + Py_TYPE(producer)->tp_name +
                                       " gave neither a tensor nor an error");
  }
  return import_managed(managed);
}

// The stream that the producer of a table works on: its values are ready there.
void* stream_by_table(const DLPackExchangeAPI& table, int device) {
  void* stream = nullptr;
  if (table.current_work_stream != nullptr && table.current_work_stream(kDLCUDA, device, &stream) != 0) {
    if (PyErr_Occurred() != nullptr) {
      throw PythonError{};
    }
    throw Error(Reason::stream, "the producer does not say on which stream its values are ready");
  }
  return stream;
}

// Whether the Python error is that a function does not take a keyword: any other TypeError is the producer's own.
bool is_unknown_keyword() noexcept {
  if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) {
    return false;
  }
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  const std::string text = text_of(value);
  PyErr_Restore(type, value, traceback);
  return text.find("argument") != std::string::npos;  // keyword, positional, takes no keyword arguments
}

// __dlpack__ in its ways of being called, the newest first: `stream` where the memory is a device's, `max_version`
// since DLPack 1.0. Older producers know fewer keywords, which they say by a TypeError. `told`: whether it took the
// stream.
Ref call_dlpack(PyObject* producer, const Ref& stream, bool& told) {
  const Ref method = checked(PyObject_GetAttrString(producer, "__dlpack__"));
  const Ref nothing = checked(PyTuple_New(0));
  const Ref version = checked(Py_BuildValue("(ii)", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION));
  struct Way {
    bool stream;
    bool version;
  };
  for (const Way& way : {Way{true, true}, Way{true, false}, Way{false, true}, Way{false, false}}) {
    if (way.stream && !stream) {
      continue;
    }
    const Ref keywords = checked(PyDict_New());
    if ((way.stream && PyDict_SetItemString(keywords.get(), "stream", stream.get()) != 0) ||
        (way.version && PyDict_SetItemString(keywords.get(), "max_version", version.get()) != 0)) {
      throw PythonError{};
    }
    Ref capsule =
        Ref::steal(staying_at_exit([&] { return PyObject_Call(method.get(), nothing.get(), keywords.get()); }));
    if (capsule) {
      told = way.stream;
      return capsule;
    }
    const bool oldest = !way.stream && !way.version;
    if (oldest || !is_unknown_keyword()) {
      throw PythonError{};
    }
    PyErr_Clear();
  }
  throw PythonError{};
}

Tensor import_by_method(PyObject* producer, const Ref& stream, bool& told) {
  const Ref capsule = call_dlpack(producer, stream, told);
  if (!is_dlpack_capsule(capsule.get())) {
    throw Error(Reason::malformed,
                std::string("__dlpack__ returned ") + Py_TYPE(capsule.get())->tp_name + ", not a DLPack capsule");
  }
  return tensor_from_capsule(capsule.get());
}

}  // namespace

void require_ready(Source& source, const Opening& opening, void* ready) {
  const Device device = source.view.device;
  require_welcome(device, opening);
  if (!is_cuda(device)) {
    return;
  }
  source.stream = consumer_stream(opening.consumer, device.id);
  if (!opening.peek) {
    order_streams(device.id, ready, source.stream);
  }
}

std::optional<Source> open_producer(PyObject* object, const Opening& opening) {
  const DLPackExchangeAPI* table = exchange_table_of(Py_TYPE(object));
  if (table == nullptr && PyObject_HasAttrString(object, "__dlpack__") == 0) {
    return std::nullopt;
  }
  const std::optional<Device> said = device_of(object);
  if (said) {
    require_welcome(*said, opening);
  }
  const bool on_device = said && is_cuda(*said);
  // The host reads managed memory as it does its own, but a device may still be writing it.
  const bool managed = said && said->type == DeviceType::cuda_managed && !opening.peek && !missing_device();
  Source source;
  void* ready = halfway_stream;  // without being told of a stream, producers make their values ready on this one
  if (table != nullptr) {
    if (on_device || managed) {
      ready = stream_by_table(*table, said->id);
    }
    source.tensor = import_by_table(*table, object);
  } else {
    void* const wanted = on_device ? consumer_stream(opening.consumer, said->id) : nullptr;
    Ref stream;
    if (on_device || managed) {
      stream = checked(PyLong_FromSsize_t(opening.peek ? -1 : stream_number(wanted)));
    }
    bool told = false;
    source.tensor = import_by_method(object, stream, told);
    if (told) {
      ready = wanted;
    }
  }
  if (managed) {
    await_stream(said->id, ready);
  }
  source.view = source.tensor.view();
  require_ready(source, opening, ready);
  return source;
}

}  // namespace halfway::python
