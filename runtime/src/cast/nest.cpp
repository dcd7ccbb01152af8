#include "nest.h"

#include <cstring>
#include <utility>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// Sizes that occur are compiled in, so that a copy is a load and a store; `item` is one of them or anything else.
template <std::size_t item>
void copy_items(const std::byte* source, std::int64_t source_stride, std::byte* destination,
                std::int64_t destination_stride, std::int64_t n) noexcept {
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(destination + i * destination_stride, source + i * source_stride, item);
}

template <class U>
U reversed(U value) noexcept {
  if constexpr (sizeof(U) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(U) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(U) == 8) return __builtin_bswap64(value);
}

template <class U>
void swap_units(std::byte* data, std::int64_t stride, std::int64_t n) noexcept {
  for (std::int64_t i = 0; i < n; ++i) {
    std::byte* const place = data + i * stride;
    U value;
    std::memcpy(&value, place, sizeof(U));
    value = reversed(value);
    std::memcpy(place, &value, sizeof(U));
  }
}

}  // namespace

void Nest::add(std::size_t axis, std::int64_t dim, std::int64_t source_stride,
               std::int64_t destination_stride) noexcept {
  axes_[ndim] = static_cast<std::uint8_t>(axis);
  shape[ndim] = dim;
  source_strides[ndim] = source_stride;
  destination_strides[ndim] = destination_stride;
  ++ndim;
  count *= dim;
}

void Nest::normalise(std::span<const std::int64_t> axes, Positions* positions) noexcept {
  // 1. The destination's steps run upwards.
  for (std::size_t i = 0; i < ndim; ++i) {
    if (destination_strides[i] >= 0) continue;
    destination += destination_strides[i] * (shape[i] - 1);
    source += source_strides[i] * (shape[i] - 1);
    destination_strides[i] = -destination_strides[i];
    source_strides[i] = -source_strides[i];
    reversed_ |= std::uint64_t{1} << axes_[i];
  }
  // 2. The destination's largest steps outermost: insertion, since the axes mostly are in order already.
  for (std::size_t i = 1; i < ndim; ++i) {
    for (std::size_t j = i; j > 0; --j) {
      if (destination_strides[j - 1] > destination_strides[j] ||
          (destination_strides[j - 1] == destination_strides[j] &&
           distance(source_strides[j - 1]) >= distance(source_strides[j]))) {
        break;
      }
      std::swap(axes_[j - 1], axes_[j]);
      std::swap(shape[j - 1], shape[j]);
      std::swap(source_strides[j - 1], source_strides[j]);
      std::swap(destination_strides[j - 1], destination_strides[j]);
    }
  }
  if (positions != nullptr) describe(axes, *positions);
  // 3. A dimension whose neighbour inside ends where its own next step begins, in both tensors, is the same loop.
  std::size_t last = 0;
  for (std::size_t i = 1; i < ndim; ++i) {
    if (source_strides[last] == source_strides[i] * shape[i] &&
        destination_strides[last] == destination_strides[i] * shape[i]) {
      shape[last] *= shape[i];
    } else {
      shape[++last] = shape[i];
    }
    source_strides[last] = source_strides[i];
    destination_strides[last] = destination_strides[i];
  }
  if (ndim == 0) add(0, 1, 0, 0);
  ndim = last + 1;
}

void Nest::describe(std::span<const std::int64_t> axes, Positions& positions) const noexcept {
  positions.ndim = ndim;
  positions.first_index = positions.origin;
  std::int64_t below = 1;
  for (std::size_t i = ndim; i-- > 0;) {
    const std::size_t axis = axes_[i];
    positions.shape[i] = shape[i];
    if (i + 1 < ndim && axis > axes_[i + 1]) positions.in_order = false;
    if (axis == positions.axis) {
      positions.extent = shape[i];
      positions.below = below;
      positions.is_reversed = (reversed_ >> axis & 1) != 0;
    }
    below *= shape[i];
  }
  // Rows of a result that is longer than what is walked of it do not follow each other.
  const bool has_gaps = positions.last_extent != 0 && !axes.empty() && positions.last_extent != axes.back();
  if (reversed_ != 0 || has_gaps) positions.in_order = false;
  if (ndim == 0) positions.in_order = true;
  if (positions.in_order) return;
  // The steps of row-major order: the product of the extents of later axes, which may stand anywhere in the nest.
  const std::size_t last = axes.size() - 1;
  for (std::size_t i = 0; i < ndim; ++i) {
    std::int64_t step = has_gaps && axes_[i] != last ? positions.last_extent : 1;
    for (std::size_t j = 0; j < ndim; ++j) {
      if (axes_[j] > axes_[i] && (!has_gaps || axes_[j] != last)) step *= shape[j];
    }
    const bool is_reversed = (reversed_ >> axes_[i] & 1) != 0;
    if (is_reversed) positions.first_index += step * (shape[i] - 1);
    positions.index_strides[i] = is_reversed ? -step : step;
  }
}

Nest Nest::between(const TensorView& source, const MutableView& destination, Positions* positions) noexcept {
  Nest nest;
  nest.source = static_cast<const std::byte*>(source.data);
  nest.destination = static_cast<std::byte*>(destination.data);
  for (std::size_t i = 0; i < source.shape.size(); ++i) {
    if (source.shape[i] != 1) nest.add(i, source.shape[i], source.byte_stride(i), destination.byte_stride(i));
  }
  nest.normalise(source.shape, positions);
  return nest;
}

Nest Nest::of(const TensorView& source, Positions* positions) noexcept {
  Nest nest;
  nest.source = static_cast<const std::byte*>(source.data);
  std::int64_t elements = 1;
  for (const std::int64_t dim : source.shape) elements *= dim;
  for (std::size_t i = 0; i < source.shape.size(); ++i) {
    elements /= source.shape[i];
    if (source.shape[i] != 1) nest.add(i, source.shape[i], source.byte_stride(i), elements);
  }
  nest.normalise(source.shape, positions);
  return nest;
}

void copy_run(const std::byte* source, std::int64_t source_stride, std::byte* destination,
              std::int64_t destination_stride, std::int64_t n, std::size_t item) noexcept {
  const auto size = static_cast<std::int64_t>(item);
  if (source_stride == size && destination_stride == size) {
    std::memcpy(destination, source, static_cast<std::size_t>(n) * item);
    return;
  }
  switch (item) {
    case 1:
      return copy_items<1>(source, source_stride, destination, destination_stride, n);
    case 2:
      return copy_items<2>(source, source_stride, destination, destination_stride, n);
    case 4:
      return copy_items<4>(source, source_stride, destination, destination_stride, n);
    case 8:
      return copy_items<8>(source, source_stride, destination, destination_stride, n);
    case 16:
      return copy_items<16>(source, source_stride, destination, destination_stride, n);
    default:
      for (std::int64_t i = 0; i < n; ++i) {
        std::memcpy(destination + i * destination_stride, source + i * source_stride, item);
      }
  }
}

void swap_run(std::byte* data, std::int64_t stride, std::int64_t n, std::size_t item, std::size_t unit) noexcept {
  // Elements of several units (complex numbers, lanes) that follow each other are so many more elements of one.
  if (item != unit && stride != static_cast<std::int64_t>(item)) {
    for (std::int64_t i = 0; i < n; ++i) swap_run(data + i * stride, static_cast<std::int64_t>(item), 1, item, unit);
    return;
  }
  const std::int64_t units = n * static_cast<std::int64_t>(item / unit);
  const std::int64_t step = item == unit ? stride : static_cast<std::int64_t>(unit);
  switch (unit) {
    case 1:
      return;
    case 2:
      return swap_units<std::uint16_t>(data, step, units);
    case 4:
      return swap_units<std::uint32_t>(data, step, units);
    case 8:
      return swap_units<std::uint64_t>(data, step, units);
    default:
      for (std::int64_t i = 0; i < units; ++i) std::reverse(data + i * step, data + i * step + unit);
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
