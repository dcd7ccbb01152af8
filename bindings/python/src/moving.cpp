#include "moving.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "halfway/layout.h"
#include "numpy_api.h"
#include "tensor_type.h"
#include "views.h"

namespace halfway::python {
namespace {

// Bytes of all elements, broadcast ones as often as they appear; INT64_MAX where that overflows.
std::int64_t bytes_of(std::span<const std::int64_t> shape, std::size_t element_size) noexcept {
  std::int64_t bytes = 0;
  const std::int64_t count = element_count(shape).value_or(std::numeric_limits<std::int64_t>::max());
  const auto size = static_cast<std::int64_t>(std::max<std::size_t>(element_size, 1));
  return __builtin_mul_overflow(count, size, &bytes) ? std::numeric_limits<std::int64_t>::max() : bytes;
}

}  // namespace

void move_into(const TensorView& source, const MutableView& destination, const CastOptions& options) {
  const std::int64_t bytes = bytes_of(source.shape, source.element_size());
  if (bytes <= gil_release_bytes) {
    cast_into(source, destination, options);
    return;
  }
  const OwnGeometry from(source);
  const OwnGeometry to(destination);
  unlocked(bytes, [&] { cast_into(from.view(), to.view(), options); });
}

Tensor move_fresh(const TensorView& source, DType dtype, const CastOptions& options) {
  const std::int64_t bytes = bytes_of(source.shape, source.element_size());
  if (bytes <= gil_release_bytes) {
    return cast(source, dtype, options);
  }
  const OwnGeometry from(source);
  return unlocked(bytes, [&] { return cast(from.view(), dtype, options); });
}

PyObject* move_to_fresh_array(const TensorView& source, DType dtype, const CastOptions& options) {
  // Elements of less than a byte lie one in a byte in NumPy and packed elsewhere: cast() keeps them as they are.
  if (item_size(dtype) != 0 && bytes_of(source.shape, item_size(dtype)) < numpy_allocates_bytes) {
    const std::vector<std::int64_t> permuted =
        options.permute ? result_shape(source.shape, options) : std::vector<std::int64_t>();
    const Ref array = Ref::steal(new_array(options.permute ? std::span(permuted) : source.shape, dtype));
    if (array) {
      const TensorView view = view_of_array(reinterpret_cast<PyArrayObject*>(array.get()));
      move_into(source, detail::writable(view), options);
      return Ref::borrow(array.get()).release();
    }
  }
  Tensor fresh = move_fresh(source, dtype, options);
  const TensorView view = fresh.view();
  return array_over(view, true, wrap_tensor(std::move(fresh)));
}

}  // namespace halfway::python
