// Where bytes are moved for Python: the one place in which the GIL is released around a cast.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "gil.h"
#include "halfway/cast.h"
#include "halfway/tensor.h"
#include "py.h"
#include "threads.h"

namespace halfway::python {

// Below this many bytes a fresh NumPy result is NumPy's own memory: one object instead of an array over a Tensor.
// Larger ones are worth the pool's alignment and recycling.
inline constexpr std::int64_t numpy_allocates_bytes = std::int64_t{64} << 10;

// Shape and strides of a view, copied: NumPy's and torch's own may change under another thread while the GIL is not
// held.
template <class View>
class OwnGeometry {
 public:
  explicit OwnGeometry(const View& view) noexcept : view_(view) {
    // a view of more dimensions is refused by the cast, before anything is read
    const std::size_t ndim = std::min(view.shape.size(), shape_.size());
    std::copy_n(view.shape.data(), ndim, shape_.data());
    std::copy_n(view.strides.data(), ndim, strides_.data());
    view_.shape = {shape_.data(), ndim};
    view_.strides = {strides_.data(), ndim};
  }
  ~OwnGeometry() = default;
  OwnGeometry(const OwnGeometry&) = delete;
  OwnGeometry& operator=(const OwnGeometry&) = delete;

  [[nodiscard]] const View& view() const noexcept { return view_; }

 private:
  View view_;
  // Not initialised: of each, only the first ndim values are read.
  std::array<std::int64_t, max_ndim> shape_;    // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<std::int64_t, max_ndim> strides_;  // NOLINT(cppcoreguidelines-pro-type-member-init)
};

// Runs `body` without the GIL. All large work comes through here: what has to be said to the runtime before other
// Python threads run beside it (how many threads it may use, for one) is said here.
template <class Body>
decltype(auto) unlocked(std::int64_t bytes, Body&& body) {
  limit_threads_in_workers();
  const WithoutGil nothing(bytes);
  return std::forward<Body>(body)();
}

// cast_into(), without the GIL where there is enough work. The views may borrow shape and strides from NumPy or torch:
// they are copied before other threads run. throws as cast_into()
void move_into(const TensorView& source, const MutableView& destination, const CastOptions& options);

// cast() likewise: a fresh row-major tensor. throws as cast()
[[nodiscard]] Tensor move_fresh(const TensorView& source, DType dtype, const CastOptions& options);

// A fresh ndarray with the source's values as `dtype`, in NumPy's memory if it is small, else in the pool's.
// throws as cast(), and Error (unsupported_dtype, unavailable: as descr_for())
[[nodiscard]] PyObject* move_to_fresh_array(const TensorView& source, DType dtype, const CastOptions& options);

}  // namespace halfway::python
