#include "tensor_type.h"

#include <structmember.h>

#include <array>
#include <limits>
#include <new>
#include <string>

#include "box.h"
#include "capsule.h"
#include "devices.h"
#include "docs.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "halfway/plan.h"
#include "moving.h"
#include "numpy_api.h"
#include "release.h"
#include "text.h"

namespace halfway::python {
namespace {

PyTypeObject* g_type = nullptr;

TensorView view_of(PyObject* self) noexcept { return tensor_object(self).tensor.view(); }

void dealloc(PyObject* self) {
  TensorObject& object = tensor_object(self);
  if (object.weak_references != nullptr) {
    PyObject_ClearWeakRefs(self);
  }
  PyTypeObject* type = Py_TYPE(self);
  object.tensor.~Tensor();
  object.reasons.~vector();
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* integers(std::span<const std::int64_t> values) {
  Ref tuple = checked(PyTuple_New(static_cast<Py_ssize_t>(values.size())));
  for (std::size_t i = 0; i < values.size(); ++i) {
    PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(i), checked(PyLong_FromLongLong(values[i])).release());
  }
  return tuple.release();
}

PyObject* string(std::string_view text) {
  return PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
}

std::int64_t count_of(const TensorView& view) noexcept { return element_count(view.shape).value_or(0); }

// Broadcast elements count as often as they appear, so that this may exceed any memory: then INT64_MAX.
std::int64_t bytes_of(const TensorView& view) noexcept {
  const std::int64_t count = count_of(view);
  const auto size = static_cast<std::int64_t>(view.element_size());
  std::int64_t bytes = 0;
  if (size == 0) {  // packed: less than a byte each
    return count / 8 * total_bits(view.dtype) + (count % 8 * total_bits(view.dtype) + 7) / 8;
  }
  return __builtin_mul_overflow(count, size, &bytes) ? std::numeric_limits<std::int64_t>::max() : bytes;
}

// --- attributes

PyObject* get_shape(PyObject* self, void*) {
  return guarded([&] { return integers(view_of(self).shape); });
}
PyObject* get_strides(PyObject* self, void*) {
  return guarded([&] { return integers(view_of(self).strides); });
}
PyObject* get_ndim(PyObject* self, void*) { return PyLong_FromLong(view_of(self).ndim()); }
PyObject* get_size(PyObject* self, void*) { return PyLong_FromLongLong(count_of(view_of(self))); }
PyObject* get_nbytes(PyObject* self, void*) {
  return guarded([&]() -> PyObject* {
    const TensorView view = view_of(self);
    if (view.element_size() == 0) {
      return PyLong_FromLongLong(bytes_of(view));
    }
    const Ref count = checked(PyLong_FromLongLong(count_of(view)));
    const Ref size = checked(PyLong_FromSize_t(view.element_size()));
    return PyNumber_Multiply(count.get(), size.get());
  });
}
PyObject* get_dtype(PyObject* self, void*) {
  return guarded([&] { return string(to_string(view_of(self).dtype)); });
}
PyObject* get_device(PyObject* self, void*) {
  return guarded([&] { return string(to_string(view_of(self).device)); });
}
PyObject* get_readonly(PyObject* self, void*) { return PyBool_FromLong(view_of(self).readonly ? 1 : 0); }
PyObject* get_data_ptr(PyObject* self, void*) { return PyLong_FromVoidPtr(const_cast<void*>(view_of(self).data)); }
PyObject* get_reasons(PyObject* self, void*) {
  return guarded([&] { return reasons_tuple(tensor_object(self).reasons).release(); });
}

PyObject* repr(PyObject* self) {
  return guarded([&] {
    const TensorView view = view_of(self);
    std::string text = "halfway.Tensor(shape=" + detail::tuple_text(view.shape);
    text += ", dtype=" + to_string(view.dtype);
    if (view.device != Device{}) {
      text += ", device=" + to_string(view.device);
    }
    if (view.readonly) {
      text += ", readonly";
    }
    return string(text + ")");
  });
}

Py_ssize_t length(PyObject* self) {
  const TensorView view = view_of(self);
  if (view.ndim() == 0) {
    PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
    return -1;
  }
  return static_cast<Py_ssize_t>(view.shape[0]);
}

// --- DLPack

PyObject* dlpack_device(PyObject* self, PyObject*) {
  const Device device = view_of(self).device;
  return Py_BuildValue("(ii)", static_cast<int>(device.type), static_cast<int>(device.id));
}

bool wants_versioned(PyObject* max_version) {
  if (max_version == Py_None) {
    return false;
  }
  int major = 0;
  int minor = 0;
  if (!PyTuple_Check(max_version) || PyArg_ParseTuple(max_version, "ii", &major, &minor) == 0) {
    PyErr_Clear();
    throw_type_error("max_version must be a (major, minor) tuple or None");
  }
  return major >= 1;
}

// The producer's part of the handshake (array API standard): the consumer's stream begins behind what makes the values.
// None is the legacy default stream, -1 no stream.
void synchronise(PyObject* stream, Device device) {
  if (stream != Py_None && !PyLong_Check(stream)) {
    throw_type_error("stream must be an int or None");
  }
  const long long number = stream == Py_None ? 1 : PyLong_AsLongLong(stream);
  if (number == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw_type_error("stream must be an int that fits a pointer");
  }
  if (is_host(device)) {
    if (stream != Py_None && number != -1) {
      throw Error(Reason::stream,
                  "stream " + std::to_string(number) + " was asked for, but the tensor is in host memory",
                  "pass stream=None");
    }
  } else if (number != -1) {
    order_streams(device.id, halfway_stream, stream_handle(static_cast<std::intptr_t>(number)));
  }
}

// Whether it is to be a copy in host memory of what is on a device.
bool wants_host(PyObject* dl_device, Device device) {
  if (dl_device == Py_None) {
    return false;
  }
  int type = 0;
  int id = 0;
  if (!PyTuple_Check(dl_device) || PyArg_ParseTuple(dl_device, "ii", &type, &id) == 0) {
    PyErr_Clear();
    throw_type_error("dl_device must be a (device_type, device_id) tuple or None");
  }
  const Device wanted{static_cast<DeviceType>(type), id};
  if (is_cuda(device) && wanted.type == DeviceType::cpu) {
    return true;
  }
  if (wanted.type != device.type || (!is_host(device) && wanted.id != device.id)) {
    throw Error(Reason::device, "the tensor is on device " + to_string(device) + ", not on " + to_string(wanted),
                "leave dl_device unset, and move the result with its own library");
  }
  return false;
}

Tensor exported(const Tensor& tensor, bool to_host, PyObject* copy) {
  const TensorView view = tensor.view();
  if (to_host) {
    if (copy == Py_False) {
      throw Error(Reason::device, "the tensor is on " + to_string(view.device) + ", and copy=False was asked for",
                  "leave copy unset");
    }
    return receive_fresh(view, view.dtype, {.stream = halfway_stream});
  }
  if (copy != Py_True) {
    return tensor.share();
  }
  return is_cuda(view.device) ? cast_on_device_fresh(view, tensor.share(), view.dtype, {.stream = halfway_stream})
                              : copy_of(view);
}

PyObject* dlpack(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"stream", "max_version", "dl_device", "copy", nullptr};
  PyObject* stream = Py_None;
  PyObject* max_version = Py_None;
  PyObject* dl_device = Py_None;
  PyObject* copy = Py_None;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", const_cast<char**>(names), &stream, &max_version,
                                  &dl_device, &copy) == 0) {
    return nullptr;
  }
  return guarded([&] {
    const TensorObject& object = tensor_object(self);
    const TensorView view = object.tensor.view();
    const bool versioned = wants_versioned(max_version);
    if (copy != Py_None && !PyBool_Check(copy)) {
      throw_type_error("copy must be True, False or None");
    }
    const bool to_host = wants_host(dl_device, view.device);
    synchronise(stream, to_host ? Device{} : view.device);
    return capsule_of(exported(object.tensor, to_host, copy), versioned).release();
  });
}

// --- NumPy

PyObject* array(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"dtype", "copy", nullptr};
  PyObject* dtype = Py_None;
  PyObject* copy = Py_None;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:__array__", const_cast<char**>(names), &dtype, &copy) == 0) {
    return nullptr;
  }
  return guarded([&]() -> PyObject* {
    const TensorView view = view_of(self);
    if (!is_host(view.device)) {
      throw Error(Reason::device, "the tensor is on device " + to_string(view.device) + ", not in host memory",
                  "halfway.to_numpy(x) copies it there");
    }
    if (copy != Py_None && !PyBool_Check(copy)) {
      throw_type_error("copy must be True, False or None");
    }
    Ref result;
    if (copy == Py_True) {
      Tensor owned = copy_of(view);
      const TensorView fresh = owned.view();
      result = Ref::steal(array_over(fresh, true, wrap_tensor(std::move(owned))));
    } else {
      result = Ref::steal(array_over(view, !view.readonly, Ref::borrow(self).release()));
    }
    if (dtype == Py_None) {
      return result.release();
    }
    PyArray_Descr* descr = nullptr;
    if (PyArray_DescrConverter(dtype, &descr) == NPY_FAIL) {
      throw PythonError{};
    }
    const Ref wanted = Ref::steal(reinterpret_cast<PyObject*>(descr));
    if (PyArray_EquivTypes(PyArray_DESCR(reinterpret_cast<PyArrayObject*>(result.get())), descr) != 0) {
      return result.release();
    }
    if (copy == Py_False) {
      throw Error(Reason::dtype, "__array__ with copy=False cannot change the dtype",
                  "leave copy unset, or ask for no dtype");
    }
    return checked(PyObject_CallMethod(result.get(), "astype", "O", wanted.get())).release();
  });
}

// --- buffer protocol

struct FormatRow {
  DType dtype;
  const char* format;  // struct module syntax
};
constexpr std::array<FormatRow, 14> formats{{
    {boolean, "?"},
    {int8, "b"},
    {uint8, "B"},
    {int16, "h"},
    {uint16, "H"},
    {int32, "i"},
    {uint32, "I"},
    {int64, "q"},
    {uint64, "Q"},
    {float16, "e"},
    {float32, "f"},
    {float64, "d"},
    {complex64, "Zf"},
    {complex128, "Zd"},
}};

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  buffer->obj = nullptr;
  const auto refuse = [&](const std::string& message) {
    PyErr_SetString(PyExc_BufferError, message.c_str());
    return -1;
  };
  return guarded(
      [&]() -> int {
        const TensorView view = view_of(self);
        const FormatRow* row = nullptr;
        for (const FormatRow& candidate : formats) {
          row = candidate.dtype == view.dtype ? &candidate : row;
        }
        if (row == nullptr) {
          return refuse("the buffer protocol has no format for " + to_string(view.dtype) +
                        "; use halfway.to_numpy or DLPack");
        }
        if (!is_host(view.device)) {
          return refuse("the tensor is on device " + to_string(view.device) + ", not in host memory");
        }
        if ((flags & PyBUF_WRITABLE) != 0 && view.readonly) {
          return refuse("the tensor is read-only");
        }
        if (bytes_of(view) == std::numeric_limits<std::int64_t>::max()) {
          return refuse("the tensor's broadcast elements are more bytes than a buffer can count");
        }
        const bool wants_strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
        const bool contiguous = is_contiguous(view);
        const auto ndim = static_cast<std::size_t>(view.ndim());
        std::array<std::int64_t, max_ndim> reversed_shape;
        std::array<std::int64_t, max_ndim> reversed_strides;
        for (std::size_t i = 0; i < ndim; ++i) {
          reversed_shape[i] = view.shape[ndim - 1 - i];
          reversed_strides[i] = view.strides[ndim - 1 - i];
        }
        const bool fortran = is_contiguous(std::span<const std::int64_t>(reversed_shape).first(ndim),
                                           std::span<const std::int64_t>(reversed_strides).first(ndim));
        if ((!wants_strides || (flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS) && !contiguous) {
          return refuse("the tensor is not C-contiguous");
        }
        if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && !fortran) {
          return refuse("the tensor is not Fortran-contiguous");
        }
        if ((flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS && !contiguous && !fortran) {
          return refuse("the tensor is not contiguous");
        }
        // shape and byte strides live as long as the buffer
        auto* dims = static_cast<Py_ssize_t*>(PyMem_Malloc(sizeof(Py_ssize_t) * 2 * (ndim == 0 ? 1 : ndim)));
        if (dims == nullptr) {
          throw std::bad_alloc{};
        }
        for (std::size_t i = 0; i < ndim; ++i) {
          dims[i] = static_cast<Py_ssize_t>(view.shape[i]);
          dims[ndim + i] = static_cast<Py_ssize_t>(view.byte_stride(i));
        }
        buffer->buf = const_cast<void*>(view.data);
        buffer->len = static_cast<Py_ssize_t>(bytes_of(view));
        buffer->itemsize = static_cast<Py_ssize_t>(item_size(view.dtype));
        buffer->readonly = view.readonly ? 1 : 0;
        buffer->ndim = view.ndim();
        buffer->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(row->format) : nullptr;
        // the protocol wants NULL for both of a scalar
        buffer->shape = (flags & PyBUF_ND) != 0 && ndim > 0 ? dims : nullptr;
        buffer->strides = wants_strides && ndim > 0 ? dims + ndim : nullptr;
        buffer->suboffsets = nullptr;
        buffer->internal = dims;
        buffer->obj = Ref::borrow(self).release();
        return 0;
      },
      -1);
}

void release_buffer(PyObject*, Py_buffer* buffer) { PyMem_Free(buffer->internal); }

PyGetSetDef attributes[] = {
    {"shape", get_shape, nullptr, "Size of each dimension.", nullptr},
    {"strides", get_strides, nullptr, "Stride of each dimension, in elements.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of dimensions.", nullptr},
    {"size", get_size, nullptr, "Number of elements.", nullptr},
    {"nbytes", get_nbytes, nullptr, "Bytes of all elements, without gaps.", nullptr},
    {"dtype", get_dtype, nullptr, "Name of the dtype, as in halfway.dtypes().", nullptr},
    {"device", get_device, nullptr, "Where the memory is, e.g. 'cpu'.", nullptr},
    {"readonly", get_readonly, nullptr, "Whether the producer forbids writing.", nullptr},
    {"data_ptr", get_data_ptr, nullptr, "Address of the first element.", nullptr},
    {"reasons", get_reasons, nullptr,
     "Why the tensor does not share its source's memory, as a tuple; empty when it does.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMethodDef methods[] = {
    {"__dlpack__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(dlpack)), METH_VARARGS | METH_KEYWORDS,
     docs::tensor_dlpack},
    {"__dlpack_device__", dlpack_device, METH_NOARGS, docs::tensor_dlpack_device},
    {"__array__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(array)), METH_VARARGS | METH_KEYWORDS,
     docs::tensor_array},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_doc, const_cast<char*>(docs::tensor)},
    {Py_tp_getset, attributes},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_sq_length, reinterpret_cast<void*>(length)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "halfway.Tensor",
    .basicsize = sizeof(TensorObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

}  // namespace

PyTypeObject* tensor_type() noexcept { return g_type; }

PyObject* wrap_tensor(Tensor&& tensor, std::vector<Reason> reasons) {
  PyObject* self = g_type->tp_alloc(g_type, 0);
  if (self == nullptr) {
    throw PythonError{};
  }
  TensorObject& object = tensor_object(self);
  new (&object.tensor) Tensor(std::move(tensor));
  new (&object.reasons) std::vector<Reason>(std::move(reasons));
  return self;
}

Tensor copy_of(const TensorView& view) { return move_fresh(view, view.dtype, {.casting = Casting::equiv}); }

void init_tensor_type(PyObject* module) {
  g_type = reinterpret_cast<PyTypeObject*>(checked(PyType_FromSpec(&spec)).release());
  const Ref table = own_exchange_table();
  if (PyObject_SetAttrString(reinterpret_cast<PyObject*>(g_type), "__dlpack_c_exchange_api__", table.get()) < 0 ||
      PyModule_AddObjectRef(module, "Tensor", reinterpret_cast<PyObject*>(g_type)) < 0) {
    throw PythonError{};
  }
}

}  // namespace halfway::python
