// Where bytes are moved for Python: the one place in which the GIL is released around a cast.
#pragma once

#include <cstdint>

#include "halfway/cast.h"
#include "halfway/tensor.h"
#include "py.h"

namespace halfway::python {

// Below this many bytes a fresh NumPy result is NumPy's own memory: one object instead of an array over a Tensor.
// Larger ones are worth the pool's alignment and recycling.
inline constexpr std::int64_t numpy_allocates_bytes = std::int64_t{64} << 10;

// cast_into(), without the GIL where there is enough work. The views may borrow shape and strides from NumPy or torch:
// they are copied before other threads run. throws as cast_into()
void move_into(const TensorView& source, const MutableView& destination, const CastOptions& options);

// cast() likewise: a fresh row-major tensor. throws as cast()
[[nodiscard]] Tensor move_fresh(const TensorView& source, DType dtype, const CastOptions& options);

// A fresh ndarray with the source's values as `dtype`, in NumPy's memory if it is small, else in the pool's.
// throws as cast(), and Error (unsupported_dtype, unavailable: as descr_for())
[[nodiscard]] PyObject* move_to_fresh_array(const TensorView& source, DType dtype, const CastOptions& options);

}  // namespace halfway::python
