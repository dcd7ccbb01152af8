// A Python module of a third party, written with pybind11: its functions take whatever holds an array, and say in their
// signatures what they need of it.
//
//   >>> import numpy as np, torch, plugin
//   >>> plugin.rms(torch.tensor([3.0, 4.0]))
//   3.5355339059327378
//   >>> plugin.centre(np.eye(2, dtype="f4"))              # in place
//   >>> plugin.cosine(np.eye(2), torch.eye(2))            # a torch tensor
//   tensor([[1., 0.],
//           [0., 1.]])
#include <halfway/pybind11.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace {

namespace hp = halfway::pybind;
namespace py = pybind11;

// Any shape, layout and dtype that float64 holds.
double rms(const hp::array<const double, hp::c_contig, hp::cast_if_needed>& x) {
  double sum = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) sum += x.data()[i] * x.data()[i];
  return std::sqrt(sum / static_cast<double>(x.size()));
}

// Subtracts each column's mean. Written where it is, so nothing may be cast or copied on the way in.
void centre(const hp::array<float, hp::ndim<2>>& x) {
  for (std::int64_t j = 0; j < x.extent(1); ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < x.extent(0); ++i) sum += static_cast<double>(x(i, j));
    const auto mean = static_cast<float>(sum / static_cast<double>(x.extent(0)));
    for (std::int64_t i = 0; i < x.extent(0); ++i) x(i, j) -= mean;
  }
}

// Of every row of `a` with every row of `b`: a fresh float32 tensor in torch.
using Rows = hp::array<const float, hp::ndim<2>, hp::cast_if_needed>;
hp::array<hp::torch> cosine(const Rows& a, const Rows& b) {
  if (a.extent(1) != b.extent(1)) throw std::invalid_argument("rows of a and b differ in length");
  const std::array<std::int64_t, 2> shape{a.extent(0), b.extent(0)};
  halfway::Tensor result = halfway::Tensor::allocate(shape, halfway::float32);
  auto* out = static_cast<float*>(result.mutable_view().data);
  for (std::int64_t i = 0; i < shape[0]; ++i) {
    for (std::int64_t j = 0; j < shape[1]; ++j) {
      double ab = 0;
      double aa = 0;
      double bb = 0;
      for (std::int64_t k = 0; k < a.extent(1); ++k) {
        const double x = static_cast<double>(a(i, k));
        const double y = static_cast<double>(b(j, k));
        ab += x * y;
        aa += x * x;
        bb += y * y;
      }
      *out++ = static_cast<float>(ab / std::sqrt(aa * bb));
    }
  }
  return hp::array<hp::torch>(std::move(result));
}

// Keeps what it is given: the array lives as long as this does, whoever made it.
class Lookup {
 public:
  explicit Lookup(hp::array<const float, hp::ndim<2>, hp::c_contig> table) : table_(std::move(table)) {}

  // A row, as a view of the table in NumPy; what Python does with it cannot outlive the table's memory.
  [[nodiscard]] hp::array<hp::numpy> row(std::int64_t index) const {
    if (index < 0 || index >= table_.extent(0)) throw py::index_error("there is no such row");
    const std::array<std::int64_t, 1> shape{table_.extent(1)};
    const std::array<std::int64_t, 1> strides{1};
    const halfway::MutableView view{.data = const_cast<float*>(table_.data() + index * table_.extent(1)),
                                    .dtype = halfway::float32,
                                    .shape = shape,
                                    .strides = strides,
                                    .readonly = true};
    auto* const share = new halfway::Tensor(table_.tensor().share());
    return hp::array<hp::numpy>(
        halfway::Tensor::adopt(view, share, [](void* context) { delete static_cast<halfway::Tensor*>(context); }));
  }

 private:
  hp::array<const float, hp::ndim<2>, hp::c_contig> table_;
};

}  // namespace

PYBIND11_MODULE(plugin, m) {
  hp::register_errors(m);
  m.def("rms", &rms, py::arg("x"), py::call_guard<py::gil_scoped_release>());
  m.def("centre", &centre, py::arg("x"), py::call_guard<py::gil_scoped_release>());
  m.def("cosine", &cosine, py::arg("a"), py::arg("b"));
  py::class_<Lookup>(m, "Lookup")
      .def(py::init<hp::array<const float, hp::ndim<2>, hp::c_contig>>(), py::arg("table"))
      .def("row", &Lookup::row, py::arg("index"));
}
