// Scale and shift as Python gives them: numbers, or arrays of any library.
#pragma once

#include <vector>

#include "halfway/cast.h"
#include "py.h"

namespace halfway::python {

// A scale or a shift, owned.
struct OwnCoefficients {
  bool is_along_axis = false;
  std::vector<double> values;  // none: not given

  [[nodiscard]] Coefficients view() const noexcept;
  // By bits: adding 0.0 and adding -0.0 are not the same.
  friend bool operator==(const OwnCoefficients& a, const OwnCoefficients& b) noexcept;
};

// A number, or a sequence or one-dimensional array of numbers, as float64. `name` is what messages call it.
// throws PythonError (TypeError: no real numbers; ValueError: too large, several dimensions), Error (as open_source())
[[nodiscard]] OwnCoefficients parse_coefficients(PyObject* object, const char* name);

}  // namespace halfway::python
