#include "halfway/cast.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "cast/loss.h"
#include "cast/operands.h"
#include "cast/pass.h"
#include "cast/permission.h"
#include "cast/permutation.h"
#include "cast/plain.h"
#include "cast/tiers.h"
#include "cast/transform.h"
#include "halfway/layout.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace detail {

std::size_t scalar_size(DType dtype) noexcept {
  if (find(DType(dtype.code, dtype.bits, 1)) != nullptr) return alignment(dtype);
  switch (static_cast<TypeCode>(dtype.code)) {
    case TypeCode::int_:
    case TypeCode::uint:
    case TypeCode::float_:
      return dtype.bits / 8;  // 128 bits
    case TypeCode::complex:
      return dtype.bits / 16;
    default:
      return 0;
  }
}

void require_permitted(const TensorView& source, DType to, bool to_swapped, Casting casting) {
  const std::size_t scalar = scalar_size(source.dtype);
  const bool swaps = source.swapped != to_swapped && scalar != 1;
  require_permitted(source.dtype, to, casting, swaps);
  if (swaps && scalar == 0) {
    throw Error(Reason::unsupported_dtype,
                "the bytes of " + to_string(source.dtype) + " cannot be swapped: its scalars are unknown");
  }
}

std::int64_t require_readable(const TensorView& source) {
  if (source.shape.size() > max_ndim || source.strides.size() != source.shape.size()) {
    throw Error(Reason::malformed, "a view has one stride a dimension, and at most 64 dimensions");
  }
  const std::optional<std::int64_t> count = element_count(source.shape);
  if (!count) throw Error(Reason::malformed, "the shape has a negative dimension or too many elements");
  require_host(source.device, "source");
  if (*count > 0 && source.data == nullptr) throw Error(Reason::no_storage, "the source's data pointer is null");
  return *count;
}

bool has_same_places(const TensorView& source, const MutableView& destination) noexcept {
  const std::size_t size = source.element_size();
  if (source.data != destination.data || size == 0 || size != destination.element_size()) return false;
  for (std::size_t i = 0; i < source.shape.size(); ++i) {
    if (source.shape[i] != 1 && source.byte_stride(i) != destination.byte_stride(i)) return false;
  }
  return true;
}

bool is_identical(const TensorView& source, const MutableView& destination) noexcept {
  if (source.dtype != destination.dtype || source.swapped != destination.swapped) return false;
  if (source.element_size() != 0) return has_same_places(source, destination);
  if (source.data != destination.data || destination.element_size() != 0) return false;
  for (std::size_t i = 0; i < source.shape.size(); ++i) {
    if (source.shape[i] != 1 && source.strides[i] != destination.strides[i]) return false;
  }
  return true;
}

bool has_nan(DType dtype) noexcept {
  const DTypeInfo* const row = find(dtype);
  return row != nullptr && row->castable && row->format != nullptr;
}

bool converts(DType from, DType to, const CastOptions& options) noexcept { return from != to || options.is_affine(); }

convert::Flags watched_flags(DType from, DType to, const CastOptions& options) noexcept {
  const bool clamps_infinities = converts(from, to, options) && options.overflow == Overflow::saturate;
  if (is_exact(from, to) && !clamps_infinities && !options.is_affine()) return 0;
  if (options.casting == Casting::same_value) return convert::overflow | convert::inexact | convert::nan_dropped;
  return options.overflow == Overflow::raise ? convert::overflow : convert::Flags{0};
}

}  // namespace detail

namespace {

using detail::Elements;
using detail::elements_of;
using detail::has_same_places;
using detail::is_identical;
using detail::Kernels;
using detail::Nest;
using detail::Permutation;
using detail::Positions;
using detail::require_permitted;
using detail::require_readable;
using detail::Tally;
using detail::Transform;
using detail::Treatment;

// The source with its axes in the result's order, and what else the options say of them. Holds what the view borrows.
class Arranged {
 public:
  // throws: std::invalid_argument, Error
  Arranged(const TensorView& source, const CastOptions& options) : view_(source) {
    if (!options.transforms()) return;
    require_valid(options);
    axis_ = detail::require_axis(source.shape, options);
    if (!options.permute) return;
    permutation_ = Permutation(options, source.shape.size());
    view_ = permutation_.arranged(source, geometry_);
    if (axis_) axis_ = permutation_.result_axis(*axis_);
  }
  ~Arranged() = default;
  Arranged(const Arranged&) = delete;
  Arranged& operator=(const Arranged&) = delete;

  [[nodiscard]] const TensorView& view() const noexcept { return view_; }
  // Of the view.
  [[nodiscard]] std::optional<std::size_t> axis() const noexcept { return axis_; }
  // An index of the view as one of the source.
  [[nodiscard]] std::vector<std::int64_t> index_of_source(const std::vector<std::int64_t>& index) const {
    return permutation_.index_of_source(index);
  }

 private:
  TensorView view_;
  std::optional<std::size_t> axis_;
  Permutation permutation_;
  std::array<std::int64_t, std::size_t{2} * max_ndim> geometry_;  // NOLINT(cppcoreguidelines-pro-type-member-init)
};

void require_writable(const TensorView& source, const MutableView& destination, std::int64_t count) {
  if (!std::equal(source.shape.begin(), source.shape.end(), destination.shape.begin(), destination.shape.end()) ||
      destination.strides.size() != destination.shape.size()) {
    throw Error(Reason::out_mismatch,
                "the destination's shape " + detail::tuple_text(destination.shape) + " is not the result's, " +
                    detail::tuple_text(source.shape),
                "make a destination of the source's shape, permuted if the axes are");
  }
  if (source.dtype == destination.dtype && source.element_size() != destination.element_size()) {
    throw Error(Reason::out_mismatch, "one of source and destination is padded to a byte an element, the other packed");
  }
  detail::require_host(destination.device, "destination");
  if (destination.readonly) throw Error(Reason::readonly, "the destination is read-only");
  if (count > 0 && destination.data == nullptr) {
    throw Error(Reason::no_storage, "the destination's data pointer is null");
  }
}

// Each element may be written without changing one that is yet to be read.
void require_apart(const TensorView& source, const MutableView& destination) {
  if (may_self_overlap(destination)) {
    throw Error(Reason::overlap, "elements of the destination share memory with each other",
                "write into a contiguous tensor");
  }
  if (!has_same_places(source, destination) && may_overlap(source, destination)) {
    throw Error(Reason::overlap, "the destination shares memory with the source",
                "cast into other memory; in place only where start, strides and item size are the same");
  }
}

std::size_t packed_size(DType dtype, std::int64_t count) noexcept {
  return (static_cast<std::size_t>(count) * static_cast<std::size_t>(total_bits(dtype)) + 7) / 8;
}

// Elements of less than a byte, stored without gaps: only all of them at once have an address.
void copy_packed(const TensorView& source, const MutableView& destination, std::int64_t count) {
  if (!is_contiguous(source) || !is_contiguous(destination)) {
    throw Error(Reason::malformed, "packed elements of " + to_string(source.dtype) + " must be row-major",
                "pad them to a byte each");
  }
  std::memcpy(destination.data, source.data, packed_size(source.dtype, count));
}

// Everything is permitted, and there is at least one element. `fresh`: the destination may be written and thrown away.
void fill(const Arranged& arranged, const MutableView& destination, const CastOptions& options, std::int64_t count,
          bool fresh) {
  const TensorView& source = arranged.view();
  const DType from = source.dtype;
  const DType to = destination.dtype;
  const Elements in = elements_of(source);
  const Elements out = elements_of(destination);
  const bool stays = !fresh && !options.is_affine() && is_identical(source, destination);
  if (stays && options.report == nullptr) return;
  if (in.size == 0) {
    if (options.report != nullptr) options.report->count = static_cast<std::uint64_t>(count);
    if (!stays) copy_packed(source, destination, count);
    return;
  }
  const Kernels& kernels = detail::active_kernels();
  std::optional<Transform> transform;
  if (detail::is_transformed(from, to, options)) transform.emplace(options, detail::compute_type(from));
  // One pass; where nothing is written it only counts.
  const auto pass = [&](bool writes, bool counts) {
    Positions positions;
    positions.axis = arranged.axis().value_or(Positions::no_axis);
    Positions* const asked = transform ? &positions : nullptr;
    const Nest nest = writes ? Nest::between(source, destination, asked) : Nest::of(source, asked);
    return detail::run_pass(
        kernels, nest, Treatment::chosen(kernels, in, out, options, counts, transform ? &*transform : nullptr), asked);
  };
  const bool watches = detail::watched_flags(from, to, options) != 0;
  const bool checks_first = !fresh && watches;
  const Tally tally = pass(!checks_first && !stays, options.report != nullptr || watches);
  if (options.report != nullptr) *options.report = tally.report;
  if (tally.losses > 0) {
    detail::refuse_loss(source, in, to, options, tally,
                        [&](const std::vector<std::int64_t>& index) { return arranged.index_of_source(index); });
  }
  if (checks_first && !stays) pass(true, false);
}

// Memory from an allocator that a tensor holds until its last share goes.
struct Holding {
  Allocator* allocator;
  void* memory;
  std::size_t bytes;

  static void release(void* context) {
    const std::unique_ptr<Holding> holding(static_cast<Holding*>(context));
    holding->allocator->deallocate(holding->memory, holding->bytes, tensor_alignment);
  }
};

// A fresh row-major tensor. Elements of less than a byte are stored as the source stores them.
Tensor allocate_like(const TensorView& source, DType dtype, std::int64_t count, Allocator& allocator) {
  if (item_size(dtype) != 0) return Tensor::allocate(source.shape, dtype, allocator);
  if (source.dtype != dtype) {
    throw Error(Reason::unsupported_dtype, "elements of " + to_string(dtype) + " are no whole bytes");
  }
  std::array<std::int64_t, max_ndim> strides{};
  const std::span<std::int64_t> used(strides.data(), source.shape.size());
  row_major_strides(source.shape, used);
  const std::size_t bytes = source.padded ? static_cast<std::size_t>(count) : packed_size(dtype, count);

  auto holding = std::make_unique<Holding>(Holding{&allocator, nullptr, std::max<std::size_t>(bytes, 1)});
  holding->memory = allocator.allocate(holding->bytes, tensor_alignment);
  const MutableView view{
      .data = holding->memory, .dtype = dtype, .shape = source.shape, .strides = used, .padded = source.padded};
  return Tensor::adopt(view, holding.release(), Holding::release);
}

}  // namespace

std::string_view to_string(Overflow overflow) noexcept {
  switch (overflow) {
    case Overflow::by_format:
      return "default";
    case Overflow::saturate:
      return "saturate";
    case Overflow::raise:
      return "raise";
  }
  return "?";
}

CastError::CastError(const std::string& message, std::string hint) : Error(Reason::dtype, message, std::move(hint)) {}

CastError::CastError(const std::string& message, std::string hint, const Report& report,
                     std::vector<std::int64_t> index, std::string value)
    : Error(Reason::dtype, message, std::move(hint)),
      report_(report),
      index_(std::move(index)),
      value_(std::move(value)) {}

Tensor cast(const TensorView& source, DType dtype, const CastOptions& options, Allocator& allocator) {
  if (options.report != nullptr) *options.report = {};
  require_permitted(source, dtype, false, options.casting);
  const std::int64_t count = require_readable(source);
  const Arranged arranged(source, options);
  detail::require_transformable(source.dtype, dtype, options);
  Tensor result = allocate_like(arranged.view(), dtype, count, allocator);
  if (detail::cast_plainly(source, result.mutable_view(), options)) return result;
  if (count > 0) fill(arranged, result.mutable_view(), options, count, true);
  return result;
}

void cast_into(const TensorView& source, const MutableView& destination, const CastOptions& options) {
  if (detail::cast_plainly(source, destination, options)) return;
  if (options.report != nullptr) *options.report = {};
  require_permitted(source, destination.dtype, destination.swapped, options.casting);
  const std::int64_t count = require_readable(source);
  const Arranged arranged(source, options);
  detail::require_transformable(source.dtype, destination.dtype, options);
  require_writable(arranged.view(), destination, count);
  if (count == 0) return;
  if (options.is_affine() || !is_identical(arranged.view(), destination)) require_apart(arranged.view(), destination);
  fill(arranged, destination, options, count, false);
}

}  // namespace v0
}  // namespace halfway
