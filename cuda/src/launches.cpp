#include "launches.h"

#include <array>
#include <cstring>
#include <span>

#include "cast/operands.h"
#include "cast/permutation.h"
#include "cast/route.h"
#include "cast/transform.h"
#include "places_of.h"
#include "views.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

using halfway::detail::is_complex;
using halfway::detail::Permutation;
using halfway::detail::Places;
using Geometry = std::array<std::int64_t, std::size_t{2} * max_ndim>;

// Elements whose bits are kept, as scalars that can be moved whole: as large as they divide the element, or as those
// whose bytes change their order. Of these the largest are moved in parts, which change theirs.
void set_bits(Conversion& work, DType dtype, bool swaps) noexcept {
  const std::size_t size = item_size(dtype);
  const std::size_t unit = swaps ? halfway::detail::scalar_size(dtype) : size;
  std::size_t scalar = 8;
  while (unit % scalar != 0) scalar /= 2;
  if (swaps) work.reversed = static_cast<std::uint32_t>(unit / scalar);
  work.from = work.to = DType(TypeCode::uint, static_cast<int>(scalar * 8));
  work.from_scalars = work.to_scalars = static_cast<std::uint32_t>(size / scalar);
}

// What elements are made of. Those of no whole bytes cross as bytes.
void set_scalars(Conversion& work, DType from, DType to, bool copies) noexcept {
  work.from = from;
  work.to = to;
  if (copies) {
    const bool swaps = work.source_swapped != work.destination_swapped;
    if (item_size(from) == 0) {
      work.from = work.to = uint8;
    } else {
      set_bits(work, from, swaps);
    }
    return;
  }
  const auto split = [](DType& dtype, std::uint32_t& scalars) {
    if (!is_complex(dtype)) return;
    scalars = 2;
    dtype = DType(TypeCode::float_, dtype.bits / 2);
  };
  split(work.from, work.from_scalars);
  split(work.to, work.to_scalars);
}

// Requires: the plan was made of the view.
Places places_there(const TensorView& view) noexcept {
  if (view.element_size() == 0) return Places::dense(1);
  return halfway::detail::places_of(view).value_or(Places());
}

Affine affine_of(DType from, std::span<const std::int64_t> shape, const Permutation& permutation,
                 const CastOptions& options) {
  Affine affine;
  if (!options.is_affine()) return affine;
  const halfway::detail::WideType compute = halfway::detail::compute_type(from);
  const halfway::detail::Transform transform(options, compute);
  const auto value = [compute](const std::byte* values, std::size_t index) {
    if (compute == halfway::detail::WideType::float32) {
      float single = 0;
      std::memcpy(&single, values + index * sizeof(single), sizeof(single));
      return static_cast<double>(single);
    }
    double number = 0;
    std::memcpy(&number, values + index * sizeof(number), sizeof(number));
    return number;
  };
  affine.count = 1;
  if (const auto axis = halfway::detail::require_axis(shape, options)) {
    affine.count = static_cast<std::uint64_t>(shape[*axis]);
    for (std::size_t i = permutation.result_axis(*axis) + 1; i < shape.size(); ++i) {
      affine.inner *= static_cast<std::uint64_t>(shape[permutation.source_axis(i)]);
    }
  }
  for (std::size_t i = 0; i < affine.count; ++i) {
    affine.scales[i] = value(transform.scale(), i);
    affine.shifts[i] = value(transform.shift(), i);
  }
  return affine;
}

}  // namespace

Launches::Launches(const TransferPlan& plan, const TensorView& there, const CastOptions& options) {
  work_.saturate = options.overflow == Overflow::saturate;
  void* const data = halfway::detail::writable(there).data;
  if (plan.direction == Direction::to_device) {
    work_.destination = data;
    work_.destination_swapped = there.swapped;
    work_.destination_places = places_there(there);
    set_scalars(work_, plan.wire, plan.to, plan.wire == plan.to);
    work_.source_places = Places::dense(static_cast<std::int64_t>(work_.source_size()));
    return;
  }
  Geometry geometry;  // NOLINT(cppcoreguidelines-pro-type-member-init): as far as used
  const Permutation permutation = plan.whole ? Permutation() : Permutation(options, there.shape.size());
  work_.source = data;
  work_.source_swapped = there.swapped;
  work_.source_places = places_there(permutation.arranged(there, geometry));
  set_scalars(work_, plan.from, plan.wire, plan.from == plan.wire);
  work_.destination_places = Places::dense(static_cast<std::int64_t>(work_.destination_size()));
}

Conversion Launches::from(const void* memory, std::uint64_t first, std::uint64_t count) const noexcept {
  Conversion work = work_;
  work.source = memory;
  work.destination_places.first = work.first = first;
  work.count = count;
  return work;
}

Conversion Launches::into(void* memory, std::uint64_t first, std::uint64_t count) const noexcept {
  Conversion work = work_;
  work.destination = memory;
  work.source_places.first = work.first = first;
  work.count = count;
  return work;
}

Conversion launch_on_device(const TransferPlan& plan, const TensorView& source, const MutableView& destination,
                            const CastOptions& options) {
  Conversion work;
  Geometry geometry;  // NOLINT(cppcoreguidelines-pro-type-member-init): as far as used
  const Permutation permutation(options, source.shape.size());
  work.source = source.data;
  work.destination = destination.data;
  work.count = plan.elements;
  work.saturate = options.overflow == Overflow::saturate;
  work.source_swapped = source.swapped;
  work.destination_swapped = destination.swapped;
  work.source_places = places_there(permutation.arranged(source, geometry));
  work.destination_places = places_there(destination);
  work.affine = affine_of(plan.from, source.shape, permutation, options);
  set_scalars(work, plan.from, plan.to, plan.from == plan.to && !options.is_affine());
  return work;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
