// What halfway/pybind11.h does with Python objects: arrays in, arrays out.
// Not for use by itself.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "halfway/cast.h"
#include "halfway/detail/pybind11_owner.h"
#include "halfway/dlpack.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/layout.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace pybind {
namespace detail {

enum class Order : std::uint8_t { any, c, f };
enum class Place : std::uint8_t { host, on, any };
enum class Framework : std::uint8_t { none, numpy, torch, halfway, capsule };

// The constraints of one `array<...>`.
struct Wish {
  std::span<const DType> dtypes{};
  std::span<const std::int64_t> shape{};  // -1: any
  int ndim = -1;                          // -1: any
  Order order = Order::any;
  Place place = Place::host;
  DeviceType device = DeviceType::cpu;  // of Place::on
  bool needs_writable = false;
  bool is_typed = false;  // read through a C++ type: aligned, in the machine's byte order
  bool may_cast = false;
  bool is_overloaded = false;  // what does not fit is for the next overload
  Framework framework = Framework::none;
};

// --- Dtypes, and how signatures spell them

template <class T>
consteval DType dtype_of() {
  using Value = std::remove_cv_t<T>;
  constexpr int bits = static_cast<int>(sizeof(Value)) * 8;
  if constexpr (std::is_same_v<Value, bool>) {
    return boolean;
  } else if constexpr (std::is_same_v<Value, float> || std::is_same_v<Value, double>) {
    return {TypeCode::float_, bits};
  } else if constexpr (std::is_same_v<Value, std::complex<float>> || std::is_same_v<Value, std::complex<double>>) {
    return {TypeCode::complex, bits};
  } else {
    static_assert(std::is_integral_v<Value> && bits <= 64 && !std::is_same_v<Value, char> &&
                      !std::is_same_v<Value, wchar_t> && !std::is_same_v<Value, char8_t> &&
                      !std::is_same_v<Value, char16_t> && !std::is_same_v<Value, char32_t>,
                  "neither an element type nor a constraint of halfway::pybind");
    return {std::is_signed_v<Value> ? TypeCode::int_ : TypeCode::uint, bits};
  }
}

template <DType type>
constexpr auto dtype_name() {
  constexpr auto code = static_cast<TypeCode>(type.code);
  constexpr auto bits = py::detail::const_name<std::size_t{type.bits}>();
  if constexpr (code == TypeCode::boolean) {
    return py::detail::const_name("bool");
  } else if constexpr (code == TypeCode::int_) {
    return py::detail::const_name("int") + bits;
  } else if constexpr (code == TypeCode::uint) {
    return py::detail::const_name("uint") + bits;
  } else if constexpr (code == TypeCode::float_) {
    return py::detail::const_name("float") + bits;
  } else if constexpr (code == TypeCode::bfloat) {
    return py::detail::const_name("bfloat") + bits;
  } else if constexpr (code == TypeCode::complex) {
    return py::detail::const_name("complex") + bits;
  } else {
    return py::detail::const_name("DLPack ") + py::detail::const_name<std::size_t{type.code}>() +
           py::detail::const_name(":") + bits;
  }
}

template <std::int64_t dim>
constexpr auto dim_name() {
  if constexpr (dim < 0) {
    return py::detail::const_name("*");
  } else {
    return py::detail::const_name<static_cast<std::size_t>(dim)>();
  }
}

// What has no text is left out.
template <class Separator>
constexpr auto joined(const Separator& /*separator*/) {
  return py::detail::const_name("");
}
template <class Separator, class First, class... Rest>
constexpr auto joined(const Separator& separator, const First& first, const Rest&... rest) {
  const auto others = joined(separator, rest...);
  using Empty = py::detail::descr<0>;
  if constexpr (std::is_same_v<First, Empty>) {
    return others;
  } else if constexpr (std::is_same_v<decltype(others), const Empty>) {
    return first;
  } else {
    return first + separator + others;
  }
}

template <class Text>
constexpr auto array_name(const Text& constraints) {
  if constexpr (std::is_same_v<Text, py::detail::descr<0>>) {
    return py::detail::const_name("Array");
  } else {
    return py::detail::const_name("Array[") + constraints + py::detail::const_name("]");
  }
}

// --- Arrays in

inline std::string type_name(py::handle object) {
  const auto type = py::type::handle_of(object);
  std::string module = py::str(type.attr("__module__"));
  std::string name = py::str(type.attr("__qualname__"));
  return module == "builtins" ? name : module + "." + name;
}

[[noreturn]] inline void refuse(py::handle source, const std::string& what) {
  throw py::type_error(type_name(source) + ": " + what);
}

// Whether it is of a class of a library, by the class's name: only if that was imported there can be any.
inline bool is_a(py::handle object, const char* library, const char* type) {
  PyObject* const modules = PyImport_GetModuleDict();
  PyObject* const module = modules == nullptr ? nullptr : PyDict_GetItemString(modules, library);
  return module != nullptr && py::hasattr(module, type) && py::isinstance(object, py::handle(module).attr(type));
}

// What an argument holds. The claim goes last: what is to go back must not be shared any more.
struct Imported {
  Claim claim{};
  Tensor tensor{};
  bool readonly = false;
};

// By its name, which NumPy's own dtypes and those of ml_dtypes share with the table.
inline std::optional<DType> dtype_of(const py::dtype& dtype) {
  const DTypeInfo* const row = find(std::string_view(std::string(py::str(dtype.attr("name")))));
  if (row == nullptr) return std::nullopt;
  const std::size_t size = item_size(row->dtype);
  if (static_cast<std::size_t>(dtype.itemsize()) != (size == 0 ? 1 : size)) return std::nullopt;
  return row->dtype;
}

inline Imported import_numpy(const py::array& source) {
  if (is_a(source, "numpy.ma", "MaskedArray"))
    refuse(source, "a masked array has no plain memory; fill it first: x.filled(value)");
  const py::dtype described = source.dtype();
  const std::optional<DType> dtype = dtype_of(described);
  if (!dtype) refuse(source, "no tensor has elements of dtype " + std::string(py::str(py::handle(described))));
  const auto dims = static_cast<std::size_t>(source.ndim());
  std::vector<std::int64_t> shape(source.shape(), source.shape() + dims);
  std::vector<std::int64_t> strides(source.strides(), source.strides() + dims);
  const bool empty = source.size() == 0;
  for (std::size_t i = 0; i < dims; ++i) {
    const auto size = static_cast<std::int64_t>(source.itemsize());
    if (empty || shape[i] == 1) {
      strides[i] = 1;
    } else if (strides[i] % size != 0) {
      refuse(source, "its strides are no whole elements; make it contiguous first");
    } else {
      strides[i] /= size;
    }
  }
  const bool readonly = !source.writeable();
  const MutableView view{.data = const_cast<void*>(source.data()),
                         .dtype = *dtype,
                         .shape = shape,
                         .strides = strides,
                         .readonly = readonly,
                         .swapped = described.byteorder() == (std::endian::native == std::endian::little ? '>' : '<'),
                         .padded = item_size(*dtype) == 0};
  auto owner = std::make_unique<Owner>(Owner{source.ptr(), {}});
  source.inc_ref();
  return {{}, Tensor::adopt(view, owner.release(), Owner::release), readonly};
}

// Takes what is in a DLPack capsule, which is the argument itself or was made for this import. Claimed first: what
// happens then, happens to a struct that is ours.
inline Imported import_capsule(py::handle source, py::handle capsule, bool is_torch) {
  const char* const name = PyCapsule_GetName(capsule.ptr());
  const std::string_view said = name == nullptr ? "" : name;
  Tensor taken;
  bool readonly = false;
  if (said == "dltensor_versioned") {
    auto* const managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), name));
    if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned") != 0)
      throw py::error_already_set();
    taken = from_dlpack(managed);
    readonly = taken.view().readonly;
  } else if (said == "dltensor") {
    auto* const managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), name));
    if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), "used_dltensor") != 0) throw py::error_already_set();
    taken = from_dlpack(managed);
    readonly = !is_torch;
  } else {
    refuse(source, said.starts_with("used_dltensor") ? "the DLPack capsule was used before; make a new one"
                                                     : "no DLPack capsule, but one called '" + std::string(said) + "'");
  }
  if (!source.is(capsule)) return {{}, deferred(std::move(taken), readonly), readonly};
  Claim claim(capsule, std::move(taken), readonly);
  Tensor tensor = claim.tensor().share();
  return {std::move(claim), std::move(tensor), readonly};
}

inline py::object attribute_or_null(py::handle object, const char* name) {
  PyObject* const found = PyObject_GetAttrString(object.ptr(), name);
  if (found == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_AttributeError) == 0) throw py::error_already_set();
    PyErr_Clear();
  }
  return py::reinterpret_steal<py::object>(found);
}

inline py::object call_dlpack(const py::object& method) {
  try {
    return method(py::arg("max_version") = py::make_tuple(1, 3));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method();  // of before DLPack 1, which has no such argument
}

// The first line: torch's messages have a backtrace behind it.
inline std::string message_of(const py::error_already_set& error) {
  std::string message = py::str(error.value());
  message.resize(std::min(message.find('\n'), message.size()));
  return message;
}

// Nothing when it is no producer.
inline std::optional<Imported> import_producer(py::handle source) {
  const bool is_torch = is_a(source, "torch", "Tensor");
  py::object capsule;
  try {
    const py::object method = attribute_or_null(source, "__dlpack__");
    if (!method) return std::nullopt;
    // Torch exports the memory of tensors that are negated lazily, not their values.
    if (is_torch && source.attr("is_neg")().cast<bool>()) {
      refuse(source, "its memory holds the negatives of its values; x.resolve_neg() first");
    }
    capsule = call_dlpack(method);
  } catch (py::error_already_set& error) {
    // An interrupt and a lack of memory say nothing about the argument.
    if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
    const std::string what = type_name(source) + ": it does not export its memory: " + message_of(error);
    py::raise_from(error, PyExc_TypeError, what.c_str());
    throw py::error_already_set();
  }
  if (!PyCapsule_CheckExact(capsule.ptr())) {
    refuse(source, "__dlpack__ gave a " + type_name(capsule) + " and no capsule; its library is at fault");
  }
  return import_capsule(source, capsule, is_torch);
}

// Nothing when it is no array of any kind.
inline std::optional<Imported> import_any(py::handle source) {
  if (is_a(source, "numpy", "ndarray")) return import_numpy(py::reinterpret_borrow<py::array>(source));
  if (PyCapsule_CheckExact(source.ptr())) return import_capsule(source, source, false);
  if (PyType_Check(source.ptr())) return std::nullopt;
  return import_producer(source);
}

inline std::string text_of(std::span<const std::int64_t> dims) {
  std::string text = "(";
  for (const std::int64_t dim : dims) {
    if (text.size() > 1) text += ", ";
    text += dim < 0 ? "*" : std::to_string(dim);
  }
  return text + (dims.size() == 1 ? ",)" : ")");
}

inline bool is_column_major(const TensorView& view) {
  const std::vector<std::int64_t> shape(view.shape.rbegin(), view.shape.rend());
  const std::vector<std::int64_t> strides(view.strides.rbegin(), view.strides.rend());
  return is_contiguous(shape, strides);
}

inline std::string device_text(Device device) {
  const char* const name = device.type == DeviceType::cpu            ? "cpu"
                           : device.type == DeviceType::cuda         ? "cuda"
                           : device.type == DeviceType::cuda_host    ? "pinned host memory"
                           : device.type == DeviceType::cuda_managed ? "managed memory"
                                                                     : nullptr;
  if (name != nullptr) return name;
  return "DLPack device type " + std::to_string(static_cast<std::int32_t>(device.type));
}

// Every constraint that is broken, in words; `castable` ones are those that a cast mends.
struct Verdict {
  std::string castable;
  std::string lasting;

  static void add(std::string& text, const std::string& what) { text += (text.empty() ? "" : "; ") + what; }
};

inline std::string text_of(std::span<const DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) text += (text.empty() ? "" : " or ") + to_string(dtype);
  return text;
}

inline Verdict judge(const Imported& imported, const Wish& wish) {
  const TensorView view = imported.tensor.view();
  Verdict verdict;
  bool fits = wish.dtypes.empty();
  for (const DType dtype : wish.dtypes) fits = fits || dtype == view.dtype;
  if (!fits) {
    Verdict::add(verdict.castable, "dtype " + text_of(wish.dtypes) + " is wanted, not " + to_string(view.dtype));
  }
  if (view.swapped) Verdict::add(verdict.castable, "the machine's byte order is wanted, not the other");
  if (wish.is_typed && is_misaligned(view)) {
    Verdict::add(verdict.castable, "aligned elements are wanted; a copy has them");
  }
  const bool ordered =
      wish.order == Order::any || (wish.order == Order::c ? is_contiguous(view) : is_column_major(view));
  if (!ordered) {
    Verdict::add(wish.order == Order::c ? verdict.castable : verdict.lasting,
                 wish.order == Order::c
                     ? "row-major (C-contiguous) memory is wanted, not strides " + text_of(view.strides)
                     : "column-major (Fortran) memory is wanted, not strides " + text_of(view.strides));
  }
  if (wish.ndim >= 0 && wish.ndim != view.ndim()) {
    Verdict::add(verdict.lasting, std::to_string(wish.ndim) + (wish.ndim == 1 ? " dimension is" : " dimensions are") +
                                      " wanted, not " + std::to_string(view.ndim()) + ": " + text_of(view.shape));
  } else {
    for (std::size_t i = 0; i < wish.shape.size(); ++i) {
      if (wish.shape[i] < 0 || wish.shape[i] == view.shape[i]) continue;
      Verdict::add(verdict.lasting, "shape " + text_of(wish.shape) + " is wanted, not " + text_of(view.shape));
      break;
    }
  }
  if (wish.needs_writable && imported.readonly) {
    Verdict::add(verdict.lasting, "writable memory is wanted, not read-only");
  }
  if (wish.place == Place::host && !is_host(view.device)) {
    Verdict::add(verdict.lasting, "host memory is wanted, not " + device_text(view.device));
  } else if (wish.place == Place::on && view.device.type != wish.device) {
    Verdict::add(verdict.lasting,
                 "memory of device " + device_text({wish.device, 0}) + " is wanted, not " + device_text(view.device));
  }
  return verdict;
}

// A tensor that keeps all constraints; an empty one when pybind11 shall go on with other overloads, or report.
// throws: py::type_error, py::error_already_set, std::bad_alloc
inline Imported load_array(py::handle source, const Wish& wish, bool convert) {
  Owner::drain();
  const bool reports = convert && !wish.is_overloaded;
  try {
    std::optional<Imported> imported = import_any(source);
    if (!imported) return {};
    const Verdict verdict = judge(*imported, wish);
    if (verdict.castable.empty() && verdict.lasting.empty()) return std::move(*imported);
    if (convert && wish.may_cast && verdict.lasting.empty()) {
      const TensorView view = imported->tensor.view();
      Tensor result;
      {
        const py::gil_scoped_release without_gil;
        result = cast(view, wish.dtypes[0]);
      }
      imported->tensor = std::move(result);
      return std::move(*imported);
    }
    if (!reports) return {};
    std::string all = verdict.lasting;
    if (!verdict.castable.empty()) Verdict::add(all, verdict.castable);
    refuse(source, all);
  } catch (const Error& error) {
    if (reports) refuse(source, error.what());
  } catch (const py::type_error&) {
    if (reports) throw;
  } catch (py::error_already_set& error) {
    if (reports || !error.matches(PyExc_TypeError)) throw;
  }
  return {};
}

// --- Arrays out

// Lets go of a DLPack struct by importing it: the struct's definition is not known here.
template <class Managed>
void drop_managed(PyObject* capsule, const char* name) noexcept {
  if (PyCapsule_IsValid(capsule, name) == 0) return;  // consumed
  const py::error_scope pending;
  try {
    static_cast<void>(from_dlpack(static_cast<Managed*>(PyCapsule_GetPointer(capsule, name))));
  } catch (...) {  // NOLINT(bugprone-empty-catch): whatever it is, from_dlpack has let go
  }
}

inline py::object capsule_of(Tensor tensor, bool versioned) {
  constexpr auto wrap = [](void* managed, const char* name, PyCapsule_Destructor destructor) {
    PyObject* const capsule = PyCapsule_New(managed, name, destructor);
    return py::reinterpret_steal<py::object>(capsule);
  };
  py::object capsule;
  if (versioned) {
    auto* const managed = std::move(tensor).to_dlpack();
    capsule = wrap(managed, "dltensor_versioned",
                   [](PyObject* self) { drop_managed<DLManagedTensorVersioned>(self, "dltensor_versioned"); });
    if (!capsule) static_cast<void>(from_dlpack(managed));
  } else {
    auto* const managed = std::move(tensor).to_dlpack_legacy();
    capsule = wrap(managed, "dltensor", [](PyObject* self) { drop_managed<DLManagedTensor>(self, "dltensor"); });
    if (!capsule) static_cast<void>(from_dlpack(managed));
  }
  if (!capsule) throw py::error_already_set();
  return capsule;
}

inline py::dtype numpy_dtype(DType dtype, bool swapped) {
  const DTypeInfo* const row = find(dtype);
  if (row == nullptr || !row->castable) throw py::type_error("NumPy has no dtype for " + to_string(dtype));
  const std::string name(row->name);
  py::object found;
  try {
    found = py::dtype(name);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    const py::module_ others = py::module_::import("ml_dtypes");
    if (!py::hasattr(others, name.c_str())) throw py::type_error("neither NumPy nor ml_dtypes has a dtype " + name);
    found = py::dtype::from_args(others.attr(name.c_str()));
  }
  return swapped ? py::dtype::from_args(found.attr("newbyteorder")()) : py::reinterpret_borrow<py::dtype>(found);
}

inline py::object to_numpy(Tensor tensor) {
  const TensorView view = tensor.view();
  if (!is_host(view.device))
    throw py::buffer_error("NumPy has host memory alone, and the result is of " + device_text(view.device));
  const py::dtype dtype = numpy_dtype(view.dtype, view.swapped);
  std::vector<py::ssize_t> strides(view.shape.size());
  for (std::size_t i = 0; i < strides.size(); ++i) strides[i] = static_cast<py::ssize_t>(view.byte_stride(i));
  const std::vector<py::ssize_t> shape(view.shape.begin(), view.shape.end());
  const void* const data = view.data;
  const bool readonly = view.readonly;
  auto held = std::make_unique<Tensor>(std::move(tensor));
  const py::capsule base(held.get(), [](void* context) { delete static_cast<Tensor*>(context); });
  held.release();  // NOLINT(bugprone-unused-return-value): the capsule's
  py::array result(dtype, shape, strides, data, base);
  if (readonly) result.attr("flags").attr("writeable") = false;
  return result;
}

inline void require_for_torch(const py::module_& torch, const TensorView& view) {
  // Torch has dtypes of its own for elements narrower than a byte, of another layout than DLPack's.
  const DTypeInfo* const row = find(view.dtype);
  if (row == nullptr || item_size(view.dtype) == 0 || !py::hasattr(torch, std::string(row->name).c_str()))
    throw py::type_error("torch has no dtype for " + to_string(view.dtype) + ", or takes none through DLPack");
  if (view.readonly)
    throw py::buffer_error("torch has no read-only tensors, and the result is read-only: return a copy");
  if (has_negative_strides(view)) throw py::buffer_error("torch has no negative strides: return a copy");
  if (view.swapped) throw py::buffer_error("torch has no other byte order than the machine's: return a copy");
  if (is_misaligned(view))
    throw py::buffer_error("torch wants aligned elements, and the result's are not: return a copy");
}

inline py::object to_torch(Tensor tensor) {
  const py::module_ torch = py::module_::import("torch");
  require_for_torch(torch, tensor.view());
  try {
    return torch.attr("from_dlpack")(capsule_of(std::move(tensor), false));
  } catch (py::error_already_set& error) {  // of an older torch, or of one without the device
    if (!error.matches(PyExc_RuntimeError)) throw;
    py::raise_from(error, PyExc_BufferError, ("torch does not take the result: " + message_of(error)).c_str());
    throw py::error_already_set();
  }
}

inline py::object export_as(Framework framework, Tensor tensor) {
  try {
    switch (framework) {
      case Framework::numpy:
        return to_numpy(std::move(tensor));
      case Framework::torch:
        return to_torch(std::move(tensor));
      case Framework::halfway:
        return py::module_::import("halfway").attr("from_dlpack")(capsule_of(std::move(tensor), true));
      default:
        return capsule_of(std::move(tensor), true);
    }
  } catch (const Error& error) {
    throw py::buffer_error(error.what());
  }
}

}  // namespace detail
}  // namespace pybind
}  // namespace v0
}  // namespace halfway
