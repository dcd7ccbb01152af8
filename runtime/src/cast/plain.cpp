#include "plain.h"

#include <cstdint>

#include "environment.h"
#include "route.h"
#include "tiers.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// The number of elements, or 0 where that is not for here: none, too many, shapes that differ, strides that are not
// row-major.
std::size_t plain_count(const TensorView& source, const MutableView& destination) noexcept {
  const std::size_t ndim = source.shape.size();
  if (destination.shape.size() != ndim || source.strides.size() != ndim || destination.strides.size() != ndim) return 0;
  constexpr auto most = static_cast<std::int64_t>(parallel_bytes);
  const auto from_unit = source.strides_in_bytes ? static_cast<std::int64_t>(source.element_size()) : 1;
  const auto to_unit = destination.strides_in_bytes ? static_cast<std::int64_t>(destination.element_size()) : 1;
  std::int64_t count = 1;
  for (std::size_t i = ndim; i-- > 0;) {
    const std::int64_t dim = source.shape[i];
    if (dim != destination.shape[i] || dim < 1 || dim > most) return 0;
    if (dim != 1 && (source.strides[i] != count * from_unit || destination.strides[i] != count * to_unit)) return 0;
    count *= dim;
    if (count > most) return 0;
  }
  return static_cast<std::size_t>(count);
}

bool are_apart(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) noexcept {
  const auto a_begin = reinterpret_cast<std::uintptr_t>(a);
  const auto b_begin = reinterpret_cast<std::uintptr_t>(b);
  return a_begin + a_bytes <= b_begin || b_begin + b_bytes <= a_begin;
}

}  // namespace

bool cast_plainly(const TensorView& source, const MutableView& destination, const CastOptions& options) {
  const DType from = source.dtype;
  const DType to = destination.dtype;
  const bool checks = options.report != nullptr || options.overflow == Overflow::raise ||
                      options.casting == Casting::same_value || options.transforms();
  if (checks || from == to || is_complex(from) != is_complex(to) || !can_cast(from, to, options.casting)) return false;
  if (source.swapped || destination.swapped || destination.readonly || !is_host(source.device) ||
      !is_host(destination.device) || source.data == nullptr || destination.data == nullptr) {
    return false;
  }
  const std::size_t count = plain_count(source, destination);
  const std::size_t from_bytes = count * source.element_size();
  const std::size_t to_bytes = count * destination.element_size();
  if (count == 0 || from_bytes + to_bytes >= parallel_bytes ||
      !are_apart(source.data, from_bytes, destination.data, to_bytes)) {
    return false;
  }
  const Route route = Route::between(active_kernels(), from, to, options.overflow == Overflow::saturate);
  const DefaultFloatEnvironment environment;
  convert(route, static_cast<const std::byte*>(source.data), static_cast<std::byte*>(destination.data),
          is_complex(from) ? 2 * count : count);
  return true;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
