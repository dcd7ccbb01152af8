#include "host_pass.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>

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

// Elements that are no whole bytes cross as bytes.
DType slot_dtype(const TransferPlan& plan) noexcept { return item_size(plan.wire) == 0 ? uint8 : plan.wire; }

}  // namespace

HostPass::HostPass(const TransferPlan& plan, const MutableView& host, const CastOptions& options,
                   std::size_t piece_bytes)
    : plan_(plan), options_(options), casts_(options_apply(plan)), view_(host), slices_({}, 1) {
  if (plan.flat) {
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
  slices_ = Slices(view_.shape, static_cast<std::int64_t>(plan.part));
  if (piece_bytes == 0 || slices_.size() == 0) return;
  constexpr std::int64_t line = 64;  // elements: pieces do not share cache lines of a slot
  const Slice largest = range(0);
  const std::uint64_t bytes =
      static_cast<std::uint64_t>(largest.count) * (item_size(view_.dtype) + item_size(slot_dtype(plan)));
  const auto wanted = static_cast<std::int64_t>((bytes + piece_bytes - 1) / piece_bytes);
  piece_ = (largest.count + wanted - 1) / wanted;
  if (plan.flat && piece_ > line) piece_ = (piece_ + line - 1) / line * line;
  std::array<std::int64_t, max_ndim>
      shape;  // NOLINT(cppcoreguidelines-pro-type-member-init): written before it is read
  pieces_ = static_cast<std::uint64_t>(Slices(shape_of(view_.shape, largest, shape), piece_).size());
}

Slice HostPass::range(std::uint64_t part) const noexcept {
  const auto index = static_cast<std::int64_t>(part);
  return index < slices_.size() ? slices_[index] : Slice{};
}

std::uint64_t HostPass::first(std::uint64_t part) const noexcept {
  const auto index = static_cast<std::int64_t>(part);
  return static_cast<std::uint64_t>(index < slices_.size() ? slices_[index].first : slices_.elements());
}

Slice HostPass::piece_of(const Slice& part, std::uint64_t piece) const noexcept {
  if (pieces_ == 1) return part;
  std::array<std::int64_t, max_ndim>
      shape;  // NOLINT(cppcoreguidelines-pro-type-member-init): written before it is read
  const Slices pieces(shape_of(view_.shape, part, shape), piece_);
  const auto index = static_cast<std::int64_t>(piece);
  return index < pieces.size() ? within(view_.shape, part, pieces[index]) : Slice{};
}

// The options for a part alone. Whether they are permitted has been asked for the whole.
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

// Casts a piece, `pass(view, dense, options)` knowing which way, `dense` being the piece in the slot, in row-major
// order.
template <class Byte, class Cast>
Report HostPass::run(std::uint64_t part, std::uint64_t piece, Byte* dense, const Cast& pass) const {
  const Slice whole = range(part);
  const Slice slice = piece_of(whole, piece);
  Report report;
  if (slice.count == 0) return report;
  std::array<std::int64_t, max_ndim> dims;           // NOLINT(cppcoreguidelines-pro-type-member-init): as far as used
  std::array<std::int64_t, max_ndim> dense_strides;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const MutableView view = halfway::detail::slice_of(view_, slice, dims);
  const std::span<std::int64_t> strides(dense_strides.data(), view.shape.size());
  row_major_strides(view.shape, strides);
  const DType dtype = slot_dtype(plan_);
  using Data = std::conditional_t<std::is_const_v<Byte>, const void, void>;
  Data* const data = dense + (slice.first - whole.first) * static_cast<std::int64_t>(item_size(dtype));
  CastOptions options = options_of(slice);
  if (counts()) options.report = &report;
  pass(view, BasicView<Data>{.data = data, .dtype = dtype, .shape = view.shape, .strides = strides}, options);
  return report;
}

Report HostPass::fill(std::uint64_t part, std::uint64_t piece, void* dense) const {
  return run(part, piece, static_cast<std::byte*>(dense),
             [](const TensorView& host, const MutableView& slot, const CastOptions& options) {
               cast_into(host, slot, options);
             });
}

Report HostPass::drain(std::uint64_t part, std::uint64_t piece, const void* dense) const {
  return run(part, piece, static_cast<const std::byte*>(dense),
             [](const MutableView& host, const TensorView& slot, const CastOptions& options) {
               cast_into(slot, host, options);
             });
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
