// Arrays as arguments and results of functions that pybind11 binds: `halfway::pybind::array<...>`.
//
//   #include <halfway/pybind11.h>
//   namespace hp = halfway::pybind;
//
//   // Any DLPack producer or NumPy array of float32 with two dimensions, row-major, in host memory; torch tensors out.
//   hp::array<hp::torch> doubled(const hp::array<const float, hp::ndim<2>, hp::c_contig>& x) {
//     halfway::Tensor result = halfway::Tensor::allocate(x.view().shape, halfway::float32);
//     auto* const out = static_cast<float*>(result.mutable_view().data);
//     for (std::int64_t i = 0; i < x.size(); ++i) out[i] = 2 * x.data()[i];
//     return hp::array<hp::torch>(std::move(result));
//   }
//   PYBIND11_MODULE(plugin, m) { m.def("doubled", &doubled); }
//
// The constraints and the framework of results are template arguments, in any order:
//
//   float, const float ...   the elements are of this C++ type (bool, integers, float, double, complex) and
//                            aligned; without `const` they have to be writable
//   dtype<bfloat16, ...>     one of these dtypes: for those that C++ has no type of, or for several
//   ndim<2>                  so many dimensions
//   shape<-1, 3>             these dimensions; -1 is any
//   c_contig, f_contig       row-major, column-major
//   writable                 the memory may be written to
//   device<DeviceType::cuda> on such a device; without this: host memory, whatever the type of its device
//   any_device               wherever it is
//   cast_if_needed           what has another dtype, order or byte order, or is misaligned, is copied in one pass, as
//                            halfway::cast does it (same_kind). Needs one dtype; elements are const, in host memory
//   overloaded               what does not fit is left to the overloads behind this one: see Overloads
//   numpy, torch,            of results: what they are for Python. A capsule is one of DLPack 1, which any consumer
//   halfway_tensor, capsule  takes
//
// What comes in: NumPy arrays (every version, read-only ones and those of ml_dtypes included), objects with
// `__dlpack__` (torch, JAX, CuPy, halfway.Tensor ...; DLPack 1 is asked for, before that is understood too), and DLPack
// capsules. Nothing is copied unless `cast_if_needed` says so. Whether the memory of a producer of before DLPack 1 may
// be written to cannot be known: it counts as read-only, in results too, torch's apart. None is no array, and for
// Python an empty array is None: what may be left out is a `std::optional<array<...>>` with the default `py::none()`.
//
// Errors: what is no array at all is for pybind11 to report, with the function's signature. An array that does not fit
// is a TypeError that names every constraint it breaks and what came instead. One whose `__dlpack__` raises is a
// TypeError too, caused by what was raised; MemoryError, KeyboardInterrupt and the like pass as they are. Of a
// `py::arg().noconvert()` nothing is cast, and pybind11 reports. Results: TypeError where the framework has no such
// dtype, BufferError where it cannot express the memory (for torch: read-only, negative strides, misaligned elements,
// the other byte order), ImportError without the framework. halfway::Error is translated into BufferError by
// `register_errors(m)`.
//
// Overloads are chosen among by what fits without a cast, then, in their order, by what fits with one. An argument
// cannot tell whether there are overloads behind it, so it reports why an array does not fit, and these are not tried.
// That is right for a function that is not overloaded, and for the last overload that takes an array; all before that
// say `overloaded`. Where the last does too, pybind11 reports, with all signatures.
//
// Ownership: an array owns a reference to the memory for as long as it or a copy of it lives, beyond the call if need
// be. The Python object or DLPack producer is released exactly once, on whatever thread the last one goes, with the GIL
// or without: then that is left to the interpreter's next opportunity (Py_AddPendingCall). The GIL is never waited for.
// A capsule is used up when the function is called: after an error, of another argument too, it is as good as before.
// (Inside std::vector, std::optional and std::variant it is used up as soon as it fits.) Memory of devices that
// `DeviceType` does not name is handed on as it came: whichever thread lets go calls the producer's deleter, and
// read-only it is only if the producer says so.
// Threads: conversions hold the GIL. After them arrays need none: `py::call_guard<py::gil_scoped_release>()` is fine.
// Streams: the producer makes memory of a device ready for the legacy default stream, as `__dlpack__()` without a
// stream says; work on another stream has to be ordered behind that one.
//
// Needs pybind11 2.12, the first that knows NumPy 2, or later and the target halfway::pybind11; neither NumPy's headers
// nor the Python package `halfway`, which only results of `halfway_tensor` import.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#if PYBIND11_VERSION_HEX < 0x020C0000
#error \
    "halfway/pybind11.h needs pybind11 2.12 or later; `python -m pybind11 --cmakedir` says where the installed one is"
#endif

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "halfway/cast.h"
#include "halfway/detail/pybind11_exchange.h"
#include "halfway/dtype.h"
#include "halfway/layout.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace pybind {

// --- Constraints

template <DType... allowed>
struct dtype {};
template <int dimensions>
struct ndim {};
template <std::int64_t... dims>
struct shape {};
struct c_contig {};
struct f_contig {};
struct writable {};
template <DeviceType type>
struct device {};
struct any_device {};
struct cast_if_needed {};
struct overloaded {};

struct numpy {};
struct torch {};
struct halfway_tensor {};
struct capsule {};

namespace detail {

// What a template argument of `array` adds to the wishes, and how signatures spell it. C++ element types are those
// without a specialisation.
template <class T>
struct Constraint {
  using Element = T;
  static constexpr std::array<DType, 1> allowed{dtype_of<T>()};
  static constexpr void add(Wish& wish) {
    wish.dtypes = allowed;
    wish.is_typed = true;
    wish.needs_writable |= !std::is_const_v<T>;
  }
  static constexpr auto name =
      dtype_name<allowed[0]>() + ::pybind11::detail::const_name<std::is_const_v<T>>("", ", writable");
};

template <DType... types>
struct Constraint<dtype<types...>> {
  static_assert(sizeof...(types) > 0);
  using Element = void;
  static constexpr std::array<DType, sizeof...(types)> allowed{types...};
  static constexpr void add(Wish& wish) { wish.dtypes = allowed; }
  static constexpr auto name = joined(::pybind11::detail::const_name("|"), dtype_name<types>()...);
};

template <int dimensions>
struct Constraint<ndim<dimensions>> {
  static_assert(dimensions >= 0 && dimensions <= max_ndim);
  using Element = void;
  static constexpr void add(Wish& wish) { wish.ndim = dimensions; }
  static constexpr auto name =
      ::pybind11::detail::const_name("ndim=") + ::pybind11::detail::const_name<static_cast<std::size_t>(dimensions)>();
};

template <std::int64_t... dims>
struct Constraint<shape<dims...>> {
  static_assert(((dims >= -1) && ...));
  using Element = void;
  static constexpr std::array<std::int64_t, sizeof...(dims)> wanted{dims...};
  static constexpr void add(Wish& wish) {
    wish.ndim = static_cast<int>(sizeof...(dims));
    wish.shape = wanted;
  }
  static constexpr auto name = ::pybind11::detail::const_name("shape=(") +
                               joined(::pybind11::detail::const_name(", "), dim_name<dims>()...) +
                               ::pybind11::detail::const_name(")");
};

// The rest only sets a field.
#define HALFWAY_PYBIND_CONSTRAINT(type, spelling, statement)               \
  template <>                                                              \
  struct Constraint<type> {                                                \
    using Element = void;                                                  \
    static constexpr void add([[maybe_unused]] Wish& wish) { statement; }  \
    static constexpr auto name = ::pybind11::detail::const_name(spelling); \
  }
HALFWAY_PYBIND_CONSTRAINT(c_contig, "order='C'", wish.order = Order::c);
HALFWAY_PYBIND_CONSTRAINT(f_contig, "order='F'", wish.order = Order::f);
HALFWAY_PYBIND_CONSTRAINT(writable, "writable", wish.needs_writable = true);
HALFWAY_PYBIND_CONSTRAINT(any_device, "any device", wish.place = Place::any);
HALFWAY_PYBIND_CONSTRAINT(cast_if_needed, "cast if needed", wish.may_cast = true);
HALFWAY_PYBIND_CONSTRAINT(overloaded, "", wish.is_overloaded = true);  // nothing to callers
HALFWAY_PYBIND_CONSTRAINT(numpy, "numpy", wish.framework = Framework::numpy);
HALFWAY_PYBIND_CONSTRAINT(torch, "torch", wish.framework = Framework::torch);
HALFWAY_PYBIND_CONSTRAINT(halfway_tensor, "halfway.Tensor", wish.framework = Framework::halfway);
HALFWAY_PYBIND_CONSTRAINT(capsule, "capsule", wish.framework = Framework::capsule);
#undef HALFWAY_PYBIND_CONSTRAINT

template <DeviceType type>
struct Constraint<device<type>> {
  using Element = void;
  static constexpr void add(Wish& wish) {
    wish.place = Place::on;
    wish.device = type;
  }
  static constexpr auto name =
      ::pybind11::detail::const_name("device=") + ::pybind11::detail::const_name<static_cast<std::size_t>(type)>();
};

// The one element type among them, or void.
template <class... Types>
struct ElementOf {
  using type = void;
};
template <class First, class... Rest>
struct ElementOf<First, Rest...> {
  using Here = typename Constraint<First>::Element;
  using There = typename ElementOf<Rest...>::type;
  static_assert(std::is_void_v<Here> || std::is_void_v<There>, "two element types");
  using type = std::conditional_t<std::is_void_v<Here>, There, Here>;
};

}  // namespace detail

// A tensor that keeps the constraints, or a result. Copies share the memory. Default-constructed: empty, and nothing
// but assignment and `bool` may be asked of it.
template <class... Constraints>
class array {
  static constexpr detail::Wish make_wish() {
    detail::Wish made;
    (detail::Constraint<Constraints>::add(made), ...);
    return made;
  }
  using Found = typename detail::ElementOf<Constraints...>::type;

 public:
  static constexpr detail::Wish wish = make_wish();
  static_assert(!wish.may_cast ||
                    (wish.dtypes.size() == 1 && !wish.needs_writable && wish.place == detail::Place::host),
                "cast_if_needed needs one dtype, const elements and host memory");

  // float, const float, ... as constrained; without an element type void or const void, by whether `writable` is asked.
  using Element =
      std::conditional_t<!std::is_void_v<Found>, Found, std::conditional_t<wish.needs_writable, void, const void>>;

  array() = default;
  // Of results, and of what is kept in C++: nothing is checked.
  explicit array(Tensor tensor) noexcept : tensor_(std::move(tensor)) {}
  array(const array& other) noexcept : tensor_(other.tensor_.share()) {}
  array& operator=(const array& other) noexcept {
    if (this != &other) tensor_ = other.tensor_.share();
    return *this;
  }
  array(array&&) noexcept = default;
  array& operator=(array&&) noexcept = default;
  ~array() = default;

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(tensor_); }
  [[nodiscard]] const Tensor& tensor() const noexcept { return tensor_; }
  [[nodiscard]] TensorView view() const noexcept { return tensor_.view(); }
  [[nodiscard]] MutableView mutable_view() const noexcept requires(!std::is_const_v<Element>) {
    return tensor_.share().mutable_view();  // the view is this tensor's: the share only lends a non-const handle
  }

  [[nodiscard]] Element* data() const noexcept {
    // Only what may be written to is given out without const: import has seen to that.
    return const_cast<Element*>(static_cast<const Element*>(view().data));
  }
  [[nodiscard]] int dimensions() const noexcept { return view().ndim(); }
  [[nodiscard]] std::int64_t extent(std::size_t dim) const noexcept { return view().shape[dim]; }
  // The number of elements.
  [[nodiscard]] std::int64_t size() const noexcept { return element_count(view().shape).value_or(0); }

  // One element, by as many indices as there are dimensions. Nothing is checked.
  template <class... Indices>
  [[nodiscard]] auto& operator()(Indices... indices) const noexcept requires(!std::is_void_v<Element>) {
    static_assert(wish.ndim < 0 || wish.ndim == static_cast<int>(sizeof...(Indices)), "one index a dimension");
    const std::span<const std::int64_t> strides = view().strides;
    std::int64_t offset = 0;
    std::size_t dim = 0;
    ((offset += static_cast<std::int64_t>(indices) * strides[dim++]), ...);
    return data()[offset];
  }

 private:
  Tensor tensor_;
};

// halfway::Error, of anything called from the module, becomes BufferError with the same text; call it once a module.
inline void register_errors(::pybind11::module_& /*module*/) {
  // NOLINTNEXTLINE(performance-unnecessary-value-param): pybind11's signature
  ::pybind11::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Error& error) {
      PyErr_SetString(PyExc_BufferError, error.what());
    }
  });
}

}  // namespace pybind
}  // namespace v0
}  // namespace halfway

template <class... Constraints>
struct pybind11::detail::type_caster<halfway::pybind::array<Constraints...>> {
  using Array = halfway::pybind::array<Constraints...>;
  static constexpr auto name = halfway::pybind::detail::array_name(
      halfway::pybind::detail::joined(const_name(", "), halfway::pybind::detail::Constraint<Constraints>::name...));
  template <class T>
  using cast_op_type = movable_cast_op_type<T>;

  bool load(handle source, bool convert) {
    halfway::pybind::detail::Imported imported = halfway::pybind::detail::load_array(source, Array::wish, convert);
    if (!imported.tensor) return false;
    claim_ = std::move(imported.claim);
    value_ = Array(std::move(imported.tensor));
    return true;
  }

  // Asked for once all arguments were loaded, when the function is about to be called.
  // NOLINTBEGIN(google-explicit-constructor): as pybind11 asks
  operator Array*() {
    claim_.settle();
    return &value_;
  }
  operator Array&() {
    claim_.settle();
    return value_;
  }
  operator Array&&() && {
    claim_.settle();
    return std::move(value_);
  }
  // NOLINTEND(google-explicit-constructor)

  template <class T>
  requires std::is_same_v<std::remove_cv_t<T>, Array>
  static handle cast(T* source, return_value_policy policy, handle parent) {
    if (source == nullptr) return none().release();
    const std::unique_ptr<T> owned(policy == return_value_policy::take_ownership ? source : nullptr);
    return cast(*source, policy, parent);
  }
  static handle cast(const Array& source, return_value_policy /*policy*/, handle /*parent*/) {
    static_assert(Array::wish.framework != halfway::pybind::detail::Framework::none,
                  "say what the result is: array<numpy>, array<torch>, array<halfway_tensor> or array<capsule>");
    if (!source) return none().release();
    return halfway::pybind::detail::export_as(Array::wish.framework, source.tensor().share()).release();
  }

 private:
  halfway::pybind::detail::Claim claim_;
  Array value_;  // goes before the claim
};
