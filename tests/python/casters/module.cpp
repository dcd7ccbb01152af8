// A module of functions with every constraint of halfway/pybind11.h, for its tests.
#include <halfway/pybind11.h>
#include <pybind11/stl.h>

#include <complex>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
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

  m.def("as_numpy", passed<hp::numpy>());
  m.def("as_torch", passed<hp::torch>());
  m.def("as_halfway", passed<hp::halfway_tensor>());
  m.def("as_capsule", passed<hp::capsule>());
  m.def("empty", [] { return hp::array<hp::numpy>(); });
  m.def("packed", [] {
    halfway::MutableView view;
    static std::uint8_t bytes[2]{};
    static const std::int64_t shape[1]{4};
    static const std::int64_t strides[1]{1};
    view.data = bytes;
    view.dtype = halfway::float4_e2m1fn;
    view.shape = shape;
    view.strides = strides;
    return hp::array<hp::numpy>(halfway::Tensor::adopt(view, nullptr, nullptr));
  });

  // Kept beyond the call, and let go by whom it pleases.
  m.def("keep", [](const hp::array<hp::any_device>& x) { kept().push_back(x); });
  m.def("drop", [] { kept().clear(); });
  m.def(
      "drop_without_gil", [] { kept().clear(); }, py::call_guard<py::gil_scoped_release>());
  m.def("drop_in_thread", [] {
    const py::gil_scoped_release without;
    std::thread([] { kept().clear(); }).join();
  });
  const auto take = [](hp::array<> /*x*/) {};  // NOLINT(performance-unnecessary-value-param): it dies in the call
  m.def("take", take, py::call_guard<py::gil_scoped_release>());
  m.def("refuse", [](const hp::array<>& x) { return hp::array<hp::numpy>(halfway::cast(x.view(), halfway::int8)); });
  m.def("at", [](const hp::array<double, hp::ndim<2>>& x, std::int64_t i, std::int64_t j, double value) {
    std::swap(x(i, j), value);
    return value;
  });
}
