// A module of functions with every constraint of halfway/pybind11.h, for its tests.
#include <halfway/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <complex>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace hp = halfway::pybind;
namespace py = pybind11;

// What arrived, in words: dtype, shape, strides, and the address.
template <class... Constraints>
auto seen() {
  return [](const hp::array<Constraints...>& x) {
    const halfway::TensorView view = x.view();
    return py::make_tuple(to_string(view.dtype), std::vector<std::int64_t>(view.shape.begin(), view.shape.end()),
                          std::vector<std::int64_t>(view.strides.begin(), view.strides.end()),
                          reinterpret_cast<std::uintptr_t>(x.data()), view.readonly);
  };
}

// The argument's own memory, for another framework.
template <class Framework>
auto passed() {
  return [](const hp::array<hp::any_device>& x) { return hp::array<Framework>(x.tensor().share()); };
}

std::vector<hp::array<hp::any_device>>& kept() {
  static auto* const all = new std::vector<hp::array<hp::any_device>>;  // never destroyed: the interpreter may be gone
  return *all;
}

}  // namespace

PYBIND11_MODULE(_halfway_casters, m) {
  hp::register_errors(m);

  m.def("any", seen<>());
  m.def("any_device", seen<hp::any_device>());
  m.def("cuda", seen<hp::device<halfway::DeviceType::cuda>>());
  m.def("writable", seen<hp::writable>());
  m.def("float32", seen<const float>());
  m.def("float32_writable", seen<float>());
  m.def("of_bool", seen<const bool>());
  m.def("int8", seen<const std::int8_t>());
  m.def("uint16", seen<const std::uint16_t>());
  m.def("int64", seen<const std::int64_t>());
  m.def("float64", seen<const double>());
  m.def("complex64", seen<const std::complex<float>>());
  m.def("half", seen<hp::dtype<halfway::float16, halfway::bfloat16>>());
  m.def("float8", seen<hp::dtype<halfway::float8_e4m3fn>>());
  m.def("matrix", seen<hp::ndim<2>>());
  m.def("points", seen<hp::shape<-1, 3>>());
  m.def("scalar", seen<hp::ndim<0>>());
  m.def("rows", seen<hp::c_contig>());
  m.def("columns", seen<hp::f_contig>());
  m.def("everything", seen<float, hp::shape<2, -1>, hp::c_contig>());
  m.def("cast", seen<const float, hp::cast_if_needed>());
  m.def("cast_rows", seen<hp::dtype<halfway::bfloat16>, hp::c_contig, hp::ndim<2>, hp::cast_if_needed>());
  m.def("exact", seen<const float, hp::cast_if_needed>(), py::arg("x").noconvert());
  m.def(
      "nothing", [](const hp::array<>& x) { return x.size(); }, py::arg("x").none(true));

  m.def("overloaded", [](const hp::array<const float>&) { return "float32"; });
  m.def("overloaded", [](const hp::array<const double>&) { return "float64"; });
  m.def("overloaded", [](double) { return "number"; });

  // Arguments beside an array, which may fail after it was loaded.
  m.def("with_number", [](const hp::array<>& x, int number) { return x.size() + number; });
  m.def("with_either",
        [](const hp::array<>& x, const std::vector<double>& other) { return x.size() + std::ssize(other); });
  m.def("with_either", [](const hp::array<>& x, const std::string& other) { return x.size() + std::ssize(other); });
  m.def("with_array", [](const hp::array<>& x, const hp::array<>& y) { return x.size() + y.size(); });
  m.def("with_cast",
        [](const hp::array<>& x, const hp::array<const float, hp::cast_if_needed>& y) { return x.size() + y.size(); });
  m.def(
      "without_gil", [](const hp::array<const float, hp::cast_if_needed>& x) { return x.size(); },
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "optional", [](const std::optional<hp::array<>>& x) { return x.has_value(); }, py::arg("x") = py::none());

  m.def("rank", [](const hp::array<const float, hp::ndim<1>, hp::cast_if_needed, hp::overloaded>&) { return 1; });
  m.def("rank", [](const hp::array<const float, hp::ndim<2>, hp::cast_if_needed, hp::overloaded>&) { return 2; });
  m.def("rank", [](const hp::array<const float, hp::ndim<3>, hp::cast_if_needed>&) { return 3; });
  m.def("either", [](const hp::array<const float, hp::overloaded>&) { return "array"; });
  m.def("either", [](const std::vector<double>&) { return "list"; });
  m.def("variant",
        [](const std::variant<hp::array<const float, hp::ndim<1>, hp::cast_if_needed, hp::overloaded>,
                              hp::array<const float, hp::ndim<2>, hp::cast_if_needed>>& x) { return x.index(); });
  m.def("only_overloaded", [](const hp::array<hp::overloaded>& x) { return x.size(); });

  m.def("as_numpy", passed<hp::numpy>());
  m.def("as_torch", passed<hp::torch>());
  m.def("as_halfway", passed<hp::halfway_tensor>());
  m.def("as_capsule", passed<hp::capsule>());
  m.def("empty", [] { return hp::array<hp::numpy>(); });
  // A result of four elements, `offset` bytes off their alignment.
  const auto made = []<class Framework>(Framework /*framework*/) {
    return [](const std::string& dtype, int offset, bool swapped, bool padded, std::int64_t size) {
      alignas(16) static std::array<std::uint8_t, 80> bytes{};
      const std::array<std::int64_t, 1> shape{size};
      const std::array<std::int64_t, 1> strides{1};
      return hp::array<Framework>(halfway::Tensor::adopt({.data = bytes.data() + offset,
                                                          .dtype = halfway::find(dtype)->dtype,
                                                          .shape = shape,
                                                          .strides = strides,
                                                          .swapped = swapped,
                                                          .padded = padded},
                                                         nullptr, nullptr));
    };
  };
  const auto define = [&m, &made](const char* name, auto framework) {
    m.def(name, made(framework), py::arg("dtype"), py::kw_only(), py::arg("offset") = 0, py::arg("swapped") = false,
          py::arg("padded") = false, py::arg("size") = 4);
  };
  define("made_for_numpy", hp::numpy());
  define("made_for_torch", hp::torch());
  define("made_for_halfway", hp::halfway_tensor());
  define("made_for_capsule", hp::capsule());

  // Kept beyond the call, and let go by whom it pleases.
  m.def("keep", [](const hp::array<hp::any_device>& x) { kept().push_back(x); });
  m.def("drop", [] { kept().clear(); });
  m.def(
      "drop_without_gil", [] { kept().clear(); }, py::call_guard<py::gil_scoped_release>());
  m.def("drop_in_thread", [] {
    const py::gil_scoped_release without;
    std::thread([] { kept().clear(); }).join();
  });
  m.def("drop_in_thread_beside_the_gil", [] { std::thread([] { kept().clear(); }).join(); });
  const auto take = [](hp::array<> /*x*/) {};  // NOLINT(performance-unnecessary-value-param): it dies in the call
  m.def("take", take, py::call_guard<py::gil_scoped_release>());
  m.def("refuse", [](const hp::array<>& x) { return hp::array<hp::numpy>(halfway::cast(x.view(), halfway::int8)); });
  m.def("at", [](const hp::array<double, hp::ndim<2>>& x, std::int64_t i, std::int64_t j, double value) {
    std::swap(x(i, j), value);
    return value;
  });
}
