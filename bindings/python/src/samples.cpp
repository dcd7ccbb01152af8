#include "samples.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "halfway/error.h"
#include "numpy_api.h"
#include "torch_api.h"

namespace halfway::python {
namespace {

template <class T>
TensorView put(ScalarValue& room, const T& value, DType dtype) noexcept {
  static_assert(sizeof(T) <= sizeof(ScalarValue));
  std::memcpy(room.bytes.data(), &value, sizeof(T));
  return {.data = room.bytes.data(), .dtype = dtype};
}

// A scalar of a dtype of NumPy's own; ml_dtypes' are left to open_source().
bool view_of_numpy_scalar(PyObject* object, ScalarValue& value, TensorView& view) {
  const Ref owned = checked(reinterpret_cast<PyObject*>(PyArray_DescrFromScalar(object)));
  auto* descr = reinterpret_cast<PyArray_Descr*>(owned.get());
  if (descr->type_num >= NPY_NTYPES_LEGACY || descr->type_num < 0) {
    return false;
  }
  const std::optional<DType> dtype = dtype_of(descr);
  if (!dtype) {
    return false;
  }
  PyArray_ScalarAsCtype(object, value.bytes.data());
  view = {.data = value.bytes.data(), .dtype = *dtype};
  return true;
}

// Adds the sample's name to the error that is set or thrown; the exceptions of a producer pass as they are.
template <class Body>
void naming(const Samples& samples, std::size_t index, Body&& body) {
  try {
    std::forward<Body>(body)();
  } catch (const CastError&) {
    throw;
  } catch (const Error& error) {
    throw Error({error.reasons().begin(), error.reasons().end()}, samples.name(index) + ": " + error.message(),
                error.hint());
  }
}

}  // namespace

bool view_of_scalar(PyObject* object, ScalarValue& value, TensorView& view) {
  if (PyArray_IsScalar(object, Generic)) {
    return view_of_numpy_scalar(object, value, view);  // before Python's: numpy.float64 is a float, too
  }
  if (PyBool_Check(object)) {
    view = put(value, static_cast<std::uint8_t>(object == Py_True ? 1 : 0), boolean);
    return true;
  }
  if (PyFloat_Check(object)) {
    view = put(value, PyFloat_AS_DOUBLE(object), float64);
    return true;
  }
  if (PyLong_Check(object)) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0) {
      throw_value_error("the int " + text_of(object) + " is no int64; numpy.uint64 and float take larger ones");
    }
    view = put(value, static_cast<std::int64_t>(number), int64);
    return true;
  }
  if (PyComplex_Check(object)) {
    view = put(value, PyComplex_AsCComplex(object), complex128);
    return true;
  }
  return false;
}

Samples::Samples(PyObject* sequence, std::string path)
    : objects_(checked(PySequence_Tuple(sequence))), path_(std::move(path)) {
  const auto count = static_cast<std::size_t>(PyTuple_GET_SIZE(objects_.get()));
  views_.resize(count);
  std::vector<std::size_t> tensors;
  for (std::size_t i = 0; i < count; ++i) {
    open(i, PyTuple_GET_ITEM(objects_.get(), static_cast<Py_ssize_t>(i)), tensors);
  }
  if (!tensors.empty()) {
    open_tensors(tensors);
  }
}

std::string Samples::name(std::size_t index) const { return "samples[" + std::to_string(index) + "]" + path_; }

void Samples::open(std::size_t index, PyObject* object, std::vector<std::size_t>& tensors) {
  TensorView view;
  if (view_of_plain_array(object, view)) {
    return keep(index, view);
  }
  const TorchApi* api = torch_if_loaded();
  if (api != nullptr && Py_IS_TYPE(object, api->tensor_type)) {
    tensors.push_back(index);
    return;
  }
  const bool may_be_scalar =
      PyFloat_Check(object) || PyLong_Check(object) || PyComplex_Check(object) || PyArray_IsScalar(object, Generic);
  if (may_be_scalar) {
    if (!scalars_) {
      scalars_ = std::make_unique<ScalarValue[]>(views_.size());
    }
    if (view_of_scalar(object, scalars_[index], view)) {
      return keep(index, view);
    }
  }
  open_slowly(index, object);
}

void Samples::open_slowly(std::size_t index, PyObject* object) {
  naming(*this, index, [&] {
    std::optional<Source> opened = open_if_source(object);
    if (!opened) {
      throw_type_error(
          name(index) + " is of type " + Py_TYPE(object)->tp_name +
          ", not a NumPy array, a torch tensor, a halfway.Tensor, a DLPack producer or capsule, or a number");
    }
    Source& source = opened_.emplace_back(std::move(*opened));
    if (source.traits.conj || source.traits.neg) {
      const Ref plain = resolve_torch(torch(), source.object.get());
      source = torch_library().open(plain.get());
    }
    keep(index, source.view);
  });
}

// Plain tensors at once: asking torch about them lets other threads run, which must not happen between a description
// and its copy.
void Samples::open_tensors(std::span<const std::size_t> indices) {
  const TorchApi& api = torch();
  std::vector<PlainTorch> asked;
  asked.reserve(indices.size());
  for (const std::size_t index : indices) {
    asked.push_back(
        {.tensor = PyTuple_GET_ITEM(objects_.get(), static_cast<Py_ssize_t>(index)), .may_require_grad = true});
  }
  const bool plain = open_torch_fast(api, asked) && std::all_of(asked.begin(), asked.end(), [&](const auto& tensor) {
                       return torch_takes(api, tensor.described.dtype);
                     });
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (plain) {
      keep(indices[i], view_of_described(asked[i].described));
    } else {
      open_slowly(indices[i], asked[i].tensor);
    }
  }
}

void Samples::keep(std::size_t index, const TensorView& view) {
  if (!geometry_) {
    ndim_ = view.shape.size();
    geometry_ = std::make_unique_for_overwrite<std::int64_t[]>(std::max<std::size_t>(2 * ndim_ * views_.size(), 1));
  }
  const std::size_t ndim = view.shape.size();
  std::int64_t* place = nullptr;
  if (ndim == ndim_) {
    place = geometry_.get() + 2 * ndim * index;
  } else {
    place = odd_.emplace_back(2 * ndim).data();
  }
  std::copy_n(view.shape.data(), ndim, place);
  std::copy_n(view.strides.data(), ndim, place + ndim);
  TensorView& kept = views_[index];
  kept = view;
  kept.shape = {place, ndim};
  kept.strides = {place + ndim, ndim};
}

DType Samples::common_dtype() const {
  const DType first = views_.front().dtype;
  const auto other =
      std::find_if(views_.begin(), views_.end(), [first](const TensorView& view) { return view.dtype != first; });
  if (other == views_.end()) {
    return first;
  }
  const auto index = static_cast<std::size_t>(other - views_.begin());
  throw Error(Reason::dtype,
              name(index) + " is " + to_string(other->dtype) + ", but " + name(0) + " is " + to_string(first),
              "pass dtype= to cast them all to one");
}

}  // namespace halfway::python
