// The samples of a batch, opened for one pass: arrays of any library, and Python and NumPy scalars.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "halfway/tensor.h"
#include "libraries.h"
#include "py.h"

namespace halfway::python {

// Room for the value of a scalar.
struct alignas(16) ScalarValue {
  std::array<std::byte, 16> bytes;
};

// A Python bool, int, float or complex, or a scalar of NumPy's own, as an array without dimensions over `value`; their
// dtypes are bool, int64, float64 and complex128, as torch collates them. False for anything else.
// throws: PythonError (ValueError: an int that is no int64)
[[nodiscard]] bool view_of_scalar(PyObject* object, ScalarValue& value, TensorView& view);

// Owns what its views need: a reference to each sample, and copies of shapes and strides, which other threads may
// change in NumPy's and torch's own objects while the GIL is not held.
class Samples {
 public:
  // `sequence` is a list or tuple; `path` says where in a tree the samples were found, and stands behind "samples[3]"
  // in messages. Lazily conjugated and negated tensors are resolved. Capsules are consumed. throws: as open_source(),
  // naming the sample
  Samples(PyObject* sequence, std::string path);
  Samples(const Samples&) = delete;
  Samples& operator=(const Samples&) = delete;
  ~Samples() = default;

  [[nodiscard]] std::span<const TensorView> views() const noexcept { return views_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // "samples[3]['image']"
  [[nodiscard]] std::string name(std::size_t index) const;

  // The dtype of all of them. throws: Error (dtype: they differ, naming the first that does)
  [[nodiscard]] DType common_dtype() const;

 private:
  void open(std::size_t index, PyObject* object, std::vector<std::size_t>& tensors);
  void open_slowly(std::size_t index, PyObject* object);
  void open_tensors(std::span<const std::size_t> indices);
  void keep(std::size_t index, const TensorView& view);

  Ref objects_;  // a tuple
  std::string path_;
  std::vector<TensorView> views_;
  std::unique_ptr<std::int64_t[]> geometry_;  // shape and strides of one sample after the other
  std::size_t ndim_ = 0;
  std::deque<std::vector<std::int64_t>> odd_;  // those of samples of another number of dimensions
  std::unique_ptr<ScalarValue[]> scalars_;     // by sample, once there is a scalar
  std::vector<Source> opened_;                 // what is held for samples that are no plain arrays
};

}  // namespace halfway::python
