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
#include "cast/plain.h"
#include "cast/tiers.h"
#include "halfway/layout.h"

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

bool is_identical(const TensorView& source, const MutableView& destination) noexcept {
  if (source.data != destination.data || source.dtype != destination.dtype || source.swapped != destination.swapped ||
      source.element_size() != destination.element_size()) {
    return false;
  }
  const bool packed = source.element_size() == 0;
  for (std::size_t i = 0; i < source.shape.size(); ++i) {
    if (source.shape[i] == 1) continue;
    if (packed ? source.strides[i] != destination.strides[i] : source.byte_stride(i) != destination.byte_stride(i)) {
      return false;
    }
  }
  return true;
}

bool has_nan(DType dtype) noexcept {
  const DTypeInfo* const row = find(dtype);
  return row != nullptr && row->castable && row->format != nullptr;
}

convert::Flags watched_flags(DType from, DType to, const CastOptions& options) noexcept {
  const bool clamps_infinities = from != to && options.overflow == Overflow::saturate;
  if (is_exact(from, to) && !clamps_infinities) return 0;
  if (options.casting == Casting::same_value) return convert::overflow | convert::inexact | convert::nan_dropped;
  return options.overflow == Overflow::raise ? convert::overflow : convert::Flags{0};
}

}  // namespace detail

namespace {

using detail::Elements;
using detail::elements_of;
using detail::is_identical;
using detail::Kernels;
using detail::Nest;
using detail::require_permitted;
using detail::require_readable;
using detail::scalar_size;
using detail::Tally;

void require_writable(const TensorView& source, const MutableView& destination, std::int64_t count) {
  if (!std::equal(source.shape.begin(), source.shape.end(), destination.shape.begin(), destination.shape.end()) ||
      destination.strides.size() != destination.shape.size()) {
    throw Error(Reason::out_mismatch, "the destination's shape is not the source's",
                "make a destination of the source's shape");
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

void require_apart(const TensorView& source, const MutableView& destination) {
  if (may_self_overlap(destination)) {
    throw Error(Reason::overlap, "elements of the destination share memory with each other",
                "write into a contiguous tensor");
  }
  if (may_overlap(source, destination)) {
    throw Error(Reason::overlap, "the destination shares memory with the source", "cast into other memory");
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
void fill(const TensorView& source, const MutableView& destination, const CastOptions& options, std::int64_t count,
          bool fresh) {
  const DType from = source.dtype;
  const DType to = destination.dtype;
  const Elements in = elements_of(source);
  const Elements out = elements_of(destination);
  const Kernels& kernels = detail::active_kernels();
  const bool has_nan = detail::has_nan(from);

  if (from == to) {
    if (options.report != nullptr) options.report->count = static_cast<std::uint64_t>(count);
    if (!fresh && is_identical(source, destination)) {
      if (options.report == nullptr || !has_nan) return;
      Tally tally;
      detail::convert_pass(kernels, Nest::of(source), in, out, false, &tally);
      *options.report = tally.report;
      return;
    }
    if (in.size == 0) return copy_packed(source, destination, count);
    if (options.report == nullptr || !has_nan) {
      const std::size_t unit = source.swapped != destination.swapped ? scalar_size(from) : 1;
      return detail::copy_pass(kernels, Nest::between(source, destination), in.size, unit);
    }
  }

  const bool saturate = from != to && options.overflow == Overflow::saturate;  // copied bits keep their infinities
  Tally tally;
  tally.watched = detail::watched_flags(from, to, options);
  const bool counts = options.report != nullptr || tally.watched != 0;
  const bool checks_first = !fresh && tally.watched != 0;
  if (checks_first) {
    detail::convert_pass(kernels, Nest::of(source), in, out, saturate, &tally);
  } else {
    detail::convert_pass(kernels, Nest::between(source, destination), in, out, saturate, counts ? &tally : nullptr);
  }
  if (options.report != nullptr) *options.report = tally.report;
  if (tally.losses > 0) detail::refuse_loss(source, in, to, options, tally);
  if (checks_first) detail::convert_pass(kernels, Nest::between(source, destination), in, out, saturate, nullptr);
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
  Tensor result = allocate_like(source, dtype, count, allocator);
  if (detail::cast_plainly(source, result.mutable_view(), options)) return result;
  if (count > 0) fill(source, result.mutable_view(), options, count, true);
  return result;
}

void cast_into(const TensorView& source, const MutableView& destination, const CastOptions& options) {
  if (detail::cast_plainly(source, destination, options)) return;
  if (options.report != nullptr) *options.report = {};
  require_permitted(source, destination.dtype, destination.swapped, options.casting);
  const std::int64_t count = require_readable(source);
  require_writable(source, destination, count);
  if (count == 0) return;
  if (!is_identical(source, destination)) require_apart(source, destination);
  fill(source, destination, options, count, false);
}

}  // namespace v0
}  // namespace halfway
