#include "libraries.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "box.h"
#include "capsule.h"
#include "devices.h"
#include "exchange_fast.h"
#include "halfway/dlpack.h"
#include "halfway/layout.h"
#include "numpy_api.h"
#include "producers.h"
#include "release.h"
#include "tensor_type.h"
#include "torch_api.h"
#include "torch_device.h"

namespace halfway::python {
namespace {

Source source_of(Tensor&& tensor) {
  Source source;
  source.tensor = std::move(tensor);
  source.view = source.tensor.view();
  return source;
}

// Strides that nobody may rely on (dimensions of size one, empty arrays), made row-major: consumers disagree about
// negative or odd values there.
void normalise_strides(DLTensor& tensor) noexcept {
  const std::span<const std::int64_t> shape(tensor.shape, static_cast<std::size_t>(tensor.ndim));
  bool empty = false;
  for (const std::int64_t dim : shape) {
    empty = empty || dim == 0;
  }
  if (empty) {
    row_major_strides(shape, {tensor.strides, shape.size()});
    return;
  }
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) {
      tensor.strides[i] = stride;
    }
    // a stride so large is only legal where the product is not used
    static_cast<void>(__builtin_mul_overflow(tensor.strides[i], shape[i], &stride));
  }
}

void fill(detail::Box& box, const TensorView& view, std::int64_t unit) noexcept {
  DLTensor& tensor = box.tensor();
  tensor.data = const_cast<void*>(view.data);
  tensor.dtype = {view.dtype.code, view.dtype.bits, view.dtype.lanes};
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    tensor.shape[i] = view.shape[i];
    tensor.strides[i] = view.strides[i] / unit;
  }
  box.managed.flags = (view.readonly ? DLPACK_FLAG_BITMASK_READ_ONLY : 0) |
                      (view.padded ? DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED : 0);
  normalise_strides(tensor);
}

// --- NumPy

bool is_array(PyObject* object) noexcept { return PyArray_Check(object) != 0; }

Source open_array(PyObject* object) {
  Source source;
  source.library = &numpy_library();
  source.view = view_of_array(reinterpret_cast<PyArrayObject*>(object));
  source.object = Ref::borrow(object);
  return source;
}

PyObject* alias_in_numpy(Source& source, const Plan& /*plan*/) {
  if (source.library == &numpy_library()) {
    return Ref::borrow(source.object.get()).release();
  }
  PyObject* base = source.object ? Ref::borrow(source.object.get()).release() : wrap_tensor(source.tensor.share());
  return array_over(source.view, !source.view.readonly, base);
}

PyObject* adopt_in_numpy(Tensor&& fresh, const Plan& /*plan*/) {
  const TensorView view = fresh.view();
  return array_over(view, true, wrap_tensor(std::move(fresh)));
}

// --- torch

bool is_torchs(PyObject* object) noexcept { return is_torch_tensor(object) || is_stand_in(object); }

Source open_tensor_of_torch(PyObject* object) {
  const TorchApi& api = torch();
  Source source;
  source.library = &torch_library();
  DLTensor described;
  if (is_fast_path_enabled() && Py_IS_TYPE(object, api.tensor_type) && open_torch_fast(api, object, described) &&
      torch_takes(api, described.dtype)) {
    source.view = view_of_described(described);
    source.object = Ref::borrow(object);
    return source;
  }
  TorchSource opened = is_stand_in(object) ? open_stand_in(object) : open_torch(api, object);
  if (is_cuda(opened.view.device)) {
    static_cast<void>(require_device(opened.view.device));
    source.stream = torch_stream(opened.view.device.id);
  }
  source.view = opened.view;
  source.traits = opened.traits;
  source.object = std::move(opened.object);
  source.tensor = std::move(opened.held);
  return source;
}

// A box of its own for the source's memory.
detail::Box* box_of(Source& source) {
  if (source.library == &numpy_library()) {
    return box_of_array(source.object.get(), source.view);
  }
  if (source.library == &torch_library()) {
    Tensor tensor = share_of_torch(source.object.get());
    return reinterpret_cast<detail::Box*>(std::move(tensor).to_dlpack());
  }
  // `source.tensor` stays a share, so this is a box of its own: flags and strides may be changed in it
  auto* box = reinterpret_cast<detail::Box*>(source.tensor.share().to_dlpack());
  normalise_strides(box->tensor());
  return box;
}

PyObject* alias_in_torch(Source& source, const Plan& /*plan*/) {
  if (source.library == &torch_library()) {
    return Ref::borrow(source.object.get()).release();
  }
  const TorchApi& api = torch();
  detail::Box* box = box_of(source);
  if (is_cuda(source.view.device)) {
    box->managed.flags &= ~std::uint64_t{DLPACK_FLAG_BITMASK_READ_ONLY};
    return torch_from_managed(ManagedPointer(&box->managed));
  }
  // torch knows host memory under one name, however it was allocated
  box->tensor().device = {kDLCPU, 0};
  // torch has no read-only tensors; that the plan allows the alias was the caller's wish
  box->managed.flags &= ~std::uint64_t{DLPACK_FLAG_BITMASK_READ_ONLY};
  return torch_from_box(api, box);
}

PyObject* adopt_in_torch(Tensor&& fresh, const Plan& /*plan*/) {
  const TorchApi& api = torch();
  return torch_from_box(api, reinterpret_cast<detail::Box*>(std::move(fresh).to_dlpack()));
}

// --- halfway

bool is_own(PyObject* object) noexcept { return is_tensor(object); }

Source open_own(PyObject* object) {
  Source source = source_of(tensor_object(object).tensor.share());
  source.library = &halfway_library();
  source.object = Ref::borrow(object);
  return source;
}

PyObject* alias_in_halfway(Source& source, const Plan& plan) {
  if (source.library == &halfway_library()) {
    return Ref::borrow(source.object.get()).release();
  }
  Tensor tensor = source.library == nullptr ? source.tensor.share() : detail::Box::wrap(box_of(source));
  return wrap_tensor(std::move(tensor), plan.reasons);
}

PyObject* adopt_in_halfway(Tensor&& fresh, const Plan& plan) { return wrap_tensor(std::move(fresh), plan.reasons); }

constexpr Library numpy_row{
    .target =
        {.name = "numpy", .has_dtype = numpy_has_dtype, .fractional_strides = true, .swapped = true, .title = "NumPy"},
    .owns = is_array,
    .open = open_array,
    .alias = alias_in_numpy,
    .adopt = adopt_in_numpy,
};
constexpr Library torch_row{
    .target = {.name = "torch",
               .has_dtype = torch_has_dtype,
               .negative_strides = false,
               .readonly = false,
               .misaligned = false},
    .owns = is_torchs,
    .open = open_tensor_of_torch,
    .alias = alias_in_torch,
    .adopt = adopt_in_torch,
};
constexpr Library halfway_row{
    .target = {.name = "halfway"},
    .owns = is_own,
    .open = open_own,
    .alias = alias_in_halfway,
    .adopt = adopt_in_halfway,
};
constexpr std::array<const Library*, 3> libraries{&numpy_row, &torch_row, &halfway_row};

}  // namespace

const Library& numpy_library() noexcept { return numpy_row; }
const Library& torch_library() noexcept { return torch_row; }
const Library& halfway_library() noexcept { return halfway_row; }

const Library* library_of(PyObject* object) noexcept {
  for (const Library* library : libraries) {
    if (library->owns(object)) {
      return library;
    }
  }
  return nullptr;
}

const Library& library_named(PyObject* name) {
  if (!PyUnicode_Check(name)) {
    throw_type_error(std::string("to must be a string, not ") + Py_TYPE(name)->tp_name);
  }
  const std::string text = text_of(name);
  for (const Library* library : libraries) {
    if (library->target.name == text) {
      return *library;
    }
  }
  std::string names;
  for (const Library* library : libraries) {
    names += (names.empty() ? "'" : ", '") + std::string(library->target.name) + "'";
  }
  throw_value_error("to='" + text + "' is not one of " + names);
}

void* consumer_stream(const Library* consumer, int device) {
  return consumer == &torch_row ? torch_stream(device) : halfway_stream;
}

Tensor owner_of(Source& source) {
  if (source.library == &numpy_row) {
    // Its geometry is no matter: nothing but the array's life is held.
    Ref array = Ref::borrow(source.object.get());
    detail::Box* box = detail::Box::make(0, release_object, array.release());
    box->tensor().data = const_cast<void*>(source.view.data);
    box->tensor().dtype = {kDLUInt, 8, 1};
    return detail::Box::wrap(box);
  }
  return source.library == &torch_row ? share_of_torch(source.object.get()) : source.tensor.share();
}

std::optional<Source> open_if_source(PyObject* object, const Opening& opening) {
  std::optional<Source> source;
  if (const Library* library = library_of(object); library != nullptr) {
    source = library->open(object);
  } else if (PyArray_IsScalar(object, Generic)) {
    const Ref array = checked(PyArray_FromScalar(object, nullptr));
    source = open_array(array.get());
  } else if (is_dlpack_capsule(object)) {
    source = source_of(opening.peek ? peek_capsule(object) : tensor_from_capsule(object));
    require_ready(*source, opening, halfway_stream);  // a capsule knows no stream: the default one
  } else if (!PyType_Check(object)) {
    source = open_producer(object, opening);
  }
  if (source && !opening.devices && !is_host(source->view.device)) {
    throw Error(Reason::device, "the memory is on " + to_string(source->view.device) + ", not in host memory",
                "copy it to the host first: halfway.to_numpy(x), or its own library's way");
  }
  return source;
}

Source open_source(PyObject* object, const Opening& opening) {
  if (std::optional<Source> source = open_if_source(object, opening)) {
    return std::move(*source);
  }
  throw_type_error(
      std::string("expected a NumPy array, a torch tensor, a halfway.Tensor, a DLPack producer or capsule, "
                  "not ") +
      Py_TYPE(object)->tp_name + "; numpy.asarray(x) makes an array of most things");
}

Source open_out(const Library& target, PyObject* object, const std::string& name) {
  if (!target.owns(object)) {
    throw_type_error(name + " must be an array of " + std::string(target.target.name) + ", not " +
                     Py_TYPE(object)->tp_name);
  }
  Source out = target.open(object);
  const SourceTraits& traits = out.traits;
  if (traits.requires_grad || traits.conj || traits.neg) {
    const Reason reason = traits.requires_grad ? Reason::requires_grad : traits.conj ? Reason::conj : Reason::neg;
    throw Error(reason, name + " cannot be written: " + std::string(describe(reason)),
                traits.requires_grad ? "pass out.detach()" : "pass a plain tensor");
  }
  if (out.view.readonly) {
    throw Error(Reason::readonly, name + " is read-only", "pass a writable array");
  }
  return out;
}

Ref permuted_array(PyObject* array, const detail::Permutation& permutation) {
  auto* given = reinterpret_cast<PyArrayObject*>(array);
  std::array<npy_intp, max_ndim> axes;  // NOLINT(cppcoreguidelines-pro-type-member-init): ndim of them are read
  const int ndim = PyArray_NDIM(given);
  for (int i = 0; i < ndim; ++i) {
    axes[static_cast<std::size_t>(i)] = static_cast<npy_intp>(permutation.source_axis(static_cast<std::size_t>(i)));
  }
  PyArray_Dims order{axes.data(), ndim};
  return checked(PyArray_Transpose(given, &order));
}

Source permuted(Source& source, const detail::Permutation& permutation) {
  if (source.library == &numpy_library()) {
    // stays NumPy's: its byte orders and strides are more than a box can say
    return open_array(permuted_array(source.object.get(), permutation).get());
  }
  detail::Box* box = box_of(source);
  DLTensor& tensor = box->tensor();
  const std::vector<std::int64_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  const std::vector<std::int64_t> strides(tensor.strides, tensor.strides + tensor.ndim);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    tensor.shape[i] = shape[permutation.source_axis(i)];
    tensor.strides[i] = strides[permutation.source_axis(i)];
  }
  normalise_strides(tensor);
  return source_of(detail::Box::wrap(box));
}

detail::Box* box_of_array(PyObject* array, const TensorView& view) {
  detail::Box* box = detail::Box::make(view.ndim(), release_object, array);
  Py_INCREF(array);
  // NumPy's elements are whole bytes: sub-byte ones are padded
  const auto size = static_cast<std::int64_t>(std::max<std::size_t>(view.element_size(), 1));
  fill(*box, view, view.strides_in_bytes ? size : 1);
  return box;
}

detail::Box* box_of_plain_array(PyObject* object) {
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  PyArray_Descr* descr = PyArray_DESCR(array);
  constexpr int wanted = NPY_ARRAY_ALIGNED | NPY_ARRAY_WRITEABLE;
  if ((PyArray_FLAGS(array) & wanted) != wanted || !PyArray_ISNBO(descr->byteorder)) {
    return nullptr;
  }
  const std::optional<DType> dtype = dtype_of(descr);
  if (!dtype || dtype->bits < 8) {
    return nullptr;
  }
  // item sizes are powers of two, so strides divide by shifting
  const auto shift = std::countr_zero(static_cast<std::uint64_t>(item_size(*dtype)));
  const std::int64_t fraction = static_cast<std::int64_t>(item_size(*dtype)) - 1;
  const int ndim = PyArray_NDIM(array);
  const npy_intp* shape = PyArray_DIMS(array);
  const npy_intp* strides = PyArray_STRIDES(array);
  detail::Box* box = detail::Box::make(ndim, release_object, object);
  DLTensor& tensor = box->tensor();
  tensor.data = PyArray_DATA(array);
  tensor.dtype = {dtype->code, dtype->bits, 1};
  bool plain = true;
  bool empty = false;
  std::int64_t row_major = 1;  // the stride that nobody may rely on, as normalise_strides() says
  for (int i = ndim - 1; i >= 0; --i) {
    const std::int64_t dim = shape[i];
    std::int64_t stride = strides[i] >> shift;
    if (dim == 1) {
      stride = row_major;
    } else {
      plain = plain && strides[i] >= 0 && (strides[i] & fraction) == 0;
      empty = empty || dim == 0;
    }
    tensor.shape[i] = dim;
    tensor.strides[i] = stride;
    row_major = stride * dim;
  }
  if (!plain) {
    detail::Box::free(box);
    return nullptr;
  }
  if (empty) {
    normalise_strides(tensor);
  }
  Py_INCREF(object);
  return box;
}

}  // namespace halfway::python
