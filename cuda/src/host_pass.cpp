#include "host_pass.h"

#include <algorithm>
#include <cstddef>

#include "cast/permutation.h"
#include "cast/transform.h"
#include "halfway/layout.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

using halfway::detail::Slice;
using halfway::detail::Slices;

namespace {

bool options_apply(const TransferPlan& plan) noexcept { return !plan.whole && !plan.device_casts; }

}  // namespace

HostPass::HostPass(const TransferPlan& plan, const MutableView& host, const CastOptions& options)
    : plan_(plan), options_(options), casts_(options_apply(plan)), view_(host), slices_({}, 1) {
  if (casts_ && options.report != nullptr) *options.report = {};
  if (plan.flat) {
    // Elements that are no whole bytes cross as bytes.
    if (item_size(view_.dtype) == 0) view_.dtype = uint8;
    dims_[0] = static_cast<std::int64_t>(plan.elements);
    strides_[0] = 1;
    view_.shape = {dims_.data(), 1};
    view_.strides = {strides_.data(), 1};
    view_.strides_in_bytes = false;
    view_.swapped = false;
    view_.padded = false;
  } else {
    if (options.axis) axis_ = *options.axis < 0 ? *options.axis + host.ndim() : *options.axis;
    // A destination has the result's axes already.
    const bool arranged = plan.direction == Direction::to_host;
    const halfway::detail::Permutation permutation =
        plan.whole ? halfway::detail::Permutation() : halfway::detail::Permutation(options, host.shape.size());
    for (std::size_t i = 0; i < host.shape.size(); ++i) {
      const std::size_t axis = arranged ? i : permutation.source_axis(i);
      dims_[i] = host.shape[axis];
      strides_[i] = host.strides[axis];
    }
    if (axis_ >= 0) axis_ = static_cast<std::int64_t>(permutation.result_axis(static_cast<std::size_t>(axis_)));
    view_.shape = {dims_.data(), host.shape.size()};
    view_.strides = {strides_.data(), host.shape.size()};
  }
  slices_ = Slices(view_.shape, static_cast<std::int64_t>(plan.chunk));
}

Slice HostPass::range(std::uint64_t chunk) const noexcept { return slices_[static_cast<std::int64_t>(chunk)]; }

MutableView HostPass::part(std::uint64_t chunk) { return halfway::detail::slice_of(view_, range(chunk), part_shape_); }

// The options for a chunk alone. Whether they are permitted has been asked for the whole.
CastOptions HostPass::options_of(const Slice& slice) const {
  CastOptions options;
  options.casting = Casting::unsafe;
  if (!casts_) return options;
  options = options_;
  options.casting = Casting::unsafe;
  options.permute.reset();
  options.report = nullptr;
  if (axis_ < 0) return options;
  const auto axis = static_cast<std::size_t>(axis_);
  const auto cut = [&](Coefficients& coefficients) {
    if (!coefficients.is_along_axis()) return;
    const std::span<const double> values = coefficients.values();
    if (axis < slice.axis) {
      const std::int64_t index = halfway::detail::outer_index(view_.shape, slice, axis);
      coefficients = Coefficients(values[static_cast<std::size_t>(index)]);
    } else if (axis == slice.axis && !view_.shape.empty()) {
      coefficients =
          Coefficients(values.subspan(static_cast<std::size_t>(slice.begin), static_cast<std::size_t>(slice.rows)));
    }
  };
  cut(options.scale);
  cut(options.shift);
  options.axis.reset();
  if (axis >= slice.axis) options.axis = static_cast<std::int64_t>(axis - slice.axis);
  return options;
}

// Casts a chunk, `pass(slot, options)` knowing which way, `slot` being laid out like the part in row-major order.
template <class Data, class Cast>
void HostPass::run(std::uint64_t chunk, std::span<const std::int64_t> shape, Data* slot, const Cast& pass) {
  CastOptions options = options_of(range(chunk));
  Report report;
  const bool counts = casts_ && options_.report != nullptr;
  if (counts) options.report = &report;
  const std::span<std::int64_t> strides(slot_strides_.data(), shape.size());
  row_major_strides(shape, strides);
  const DType dtype = item_size(plan_.wire) == 0 ? uint8 : plan_.wire;
  pass(BasicView<Data>{.data = slot, .dtype = dtype, .shape = shape, .strides = strides}, options);
  if (counts) *options_.report += report;
}

void HostPass::fill(std::uint64_t chunk, void* slot) {
  const TensorView source = part(chunk);
  run(chunk, source.shape, slot,
      [&source](const MutableView& to, const CastOptions& options) { cast_into(source, to, options); });
}

void HostPass::drain(std::uint64_t chunk, const void* slot) {
  const MutableView destination = part(chunk);
  run(chunk, destination.shape, slot,
      [&destination](const TensorView& from, const CastOptions& options) { cast_into(from, destination, options); });
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
