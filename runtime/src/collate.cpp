#include "halfway/collate.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "cast/loss.h"
#include "cast/operands.h"
#include "cast/permission.h"
#include "cast/tiers.h"
#include "cast/transform.h"
#include "collation.h"
#include "halfway/layout.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

// Bytes of so many elements; for what decides how a pass is run, where too many are as good as very many.
std::int64_t bytes_of(std::int64_t count, std::size_t size) noexcept {
  std::int64_t bytes = 0;
  return __builtin_mul_overflow(count, static_cast<std::int64_t>(size), &bytes) ? most : bytes;
}

std::int64_t add(std::int64_t a, std::int64_t b) noexcept {
  std::int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? most : sum;
}

bool same(std::span<const std::int64_t> a, std::span<const std::int64_t> b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// Alike but for one axis.
bool same_but(std::size_t axis, std::span<const std::int64_t> a, std::span<const std::int64_t> b) noexcept {
  return a.size() == b.size() && axis < a.size() && same(a.first(axis), b.first(axis)) &&
         same(a.subspan(axis + 1), b.subspan(axis + 1));
}

bool is_of(DType dtype, Kind kind) noexcept {
  const DTypeInfo* const row = find(dtype);
  return row != nullptr && row->kind == kind;
}

}  // namespace

Collation::Collation(std::span<const TensorView> samples, DType dtype, const CollateOptions& options,
                     const CollationNames& names)
    : given_(samples), samples_(samples), options_(options), names_(names), dtype_(dtype) {
  require_samples();
}

Collation::Collation(std::span<const TensorView> samples, const MutableView& destination, const CollateOptions& options,
                     const CollationNames& names)
    : given_(samples),
      samples_(samples),
      options_(options),
      names_(names),
      dtype_(destination.dtype),
      swapped_(destination.swapped),
      destination_(destination),
      into_(true) {
  require_samples();
  require_destination();
}

std::string Collation::name_of(std::size_t index) const {
  return SampleName{static_cast<std::int64_t>(index), names_.path}.text();
}

std::string Collation::destination_name() const { return std::string(names_.destination) + std::string(names_.path); }

// Runs a check of one sample; what it throws gets the sample's name.
template <class Body>
void Collation::named(std::size_t index, Body&& body) const {
  try {
    std::forward<Body>(body)();
  } catch (const CastError& error) {
    throw CastError(name_of(index) + ": " + error.message(), error.hint());
  } catch (const Error& error) {
    throw Error({error.reasons().begin(), error.reasons().end()}, name_of(index) + ": " + error.message(),
                error.hint());
  }
}

void Collation::require_samples() {
  const CastOptions& cast = options_.cast;
  if (cast.transforms()) require_valid(cast);
  if (given_.empty()) throw std::invalid_argument("there are no samples: a batch of none has no shape");
  const TensorView& first = given_.front();
  const std::size_t ndim = first.shape.size();
  if (ndim >= max_ndim) {
    throw Error(Reason::malformed,
                "a batch of samples of " + std::to_string(ndim) + " dimensions would have more than 64");
  }
  const std::size_t size = into_ ? destination_.element_size() : item_size(dtype_);
  if (size == 0) {
    throw Error(Reason::unsupported_dtype, "elements of " + to_string(dtype_) + " are no whole bytes",
                "collate into a dtype of whole bytes");
  }
  if (cast.permute) {
    named(0, [&] { permutation_ = Permutation(cast, ndim); });
    permuted_.reserve(given_.size());
    geometry_.resize(given_.size() * ndim * 2);
  }
  if (ndim > 0) last_axis_ = permutation_.source_axis(ndim - 1);
  shape_.reserve(ndim + 1);
  shape_.push_back(static_cast<std::int64_t>(given_.size()));
  for (std::size_t i = 0; i < ndim; ++i) shape_.push_back(first.shape[permutation_.source_axis(i)]);
  for (std::size_t i = 0; i < given_.size(); ++i) require_sample(i);
  if (cast.permute) samples_ = permuted_;
  measure(size);
}

void Collation::measure(std::size_t size) {
  if (!element_count(shape_)) throw Error(Reason::malformed, "the batch has too many elements");
  row_ = element_count(std::span(shape_).subspan(1)).value_or(0);
  bytes_ = bytes_of(row_, size);
  bytes_ = bytes_of(static_cast<std::int64_t>(samples_.size()), static_cast<std::size_t>(bytes_));
  bytes_ = add(bytes_, read_);
}

void Collation::require_sample(std::size_t index) {
  const TensorView& sample = given_[index];
  const TensorView& first = given_.front();
  const bool regular = index > 0 && same(sample.shape, first.shape);
  if (!regular) {
    named(index, [&] { count_ = require_readable(sample); });
    if (index > 0) {
      if (!options_.pad || !same_but(last_axis_, sample.shape, first.shape)) refuse_shape(index);
      pads_ = true;
      shape_.back() = std::max(shape_.back(), sample.shape[last_axis_]);
    } else {
      first_count_ = count_;
    }
    if (options_.cast.axis) require_axis_of(index);
  } else if (sample.strides.size() != sample.shape.size() || !is_host(sample.device) ||
             (sample.data == nullptr && first_count_ > 0)) {
    named(index, [&] { static_cast<void>(require_readable(sample)); });
  } else {
    count_ = first_count_;
  }
  if (index == 0 || sample.dtype != given_[index - 1].dtype || sample.swapped != given_[index - 1].swapped) {
    named(index, [&] {
      require_permitted(sample, dtype_, swapped_, options_.cast.casting);
      require_transformable(sample.dtype, dtype_, options_.cast);
      kernels_ = &active_kernels();
    });
    transforms_.prepare(sample.dtype, dtype_, options_.cast);
    may_lose_ = may_lose_ || watched_flags(sample.dtype, dtype_, options_.cast) != 0;
  }
  const std::size_t size = sample.element_size();
  if (size == 0) {
    named(index, [&] {
      throw Error(Reason::unsupported_dtype, "packed elements of " + to_string(sample.dtype) + " have no addresses",
                  "pad them to a byte each");
    });
  }
  const std::int64_t bytes = bytes_of(count_, size);
  if (index == 0) first_bytes_ = bytes;
  even_ = even_ && bytes == first_bytes_;
  read_ = add(read_, bytes);
  if (!permutation_.is_given()) return;
  const std::size_t geometry = 2 * sample.shape.size();
  permuted_.push_back(permutation_.arranged(sample, std::span(geometry_).subspan(index * geometry, geometry)));
}

// The axis of scale and shift has as many indices as there are numbers.
void Collation::require_axis_of(std::size_t index) {
  const TensorView& sample = given_[index];
  named(index, [&] { axis_ = require_axis(sample.shape, options_.cast).value_or(Positions::no_axis); });
  if (axis_ != Positions::no_axis) axis_ = permutation_.result_axis(axis_);
}

void Collation::refuse_shape(std::size_t index) const {
  const TensorView& first = given_.front();
  const TensorView& sample = given_[index];
  const std::string message = name_of(index) + " has shape " + tuple_text(sample.shape) + ", but " + name_of(0) +
                              " has " + tuple_text(first.shape);
  if (same_but(last_axis_, sample.shape, first.shape)) {
    throw Error(Reason::nested, message,
                options_.cast.permute ? "pass pad= to fill up what becomes the last axis of the shorter ones"
                                      : "pass pad= to fill up the last axis of the shorter ones");
  }
  throw Error(Reason::nested, message,
              options_.pad ? "pad= fills up the last axis alone: bring the others to one extent first"
                           : "bring them to one shape first");
}

void Collation::require_destination() {
  const MutableView& destination = destination_;
  if (destination.strides.size() != destination.shape.size()) {
    throw Error(Reason::malformed, "a view has one stride a dimension");
  }
  const bool longer = options_.pad && shape_.size() > 1 && same_but(shape_.size() - 1, destination.shape, shape_) &&
                      destination.shape.back() > shape_.back();
  if (longer) {
    shape_.back() = destination.shape.back();
    pads_ = true;
    measure(destination.element_size());
  } else if (!same(destination.shape, shape_)) {
    throw Error(Reason::out_mismatch,
                destination_name() + " has shape " + tuple_text(destination.shape) + ", but " +
                    std::to_string(samples_.size()) + (samples_.size() == 1 ? " sample" : " samples") +
                    " of this shape make " + tuple_text(shape_),
                "collate into that shape");
  }
  require_host(destination.device, "destination");
  if (destination.readonly) throw Error(Reason::readonly, destination_name() + " is read-only");
  if (row_ == 0) return;
  if (destination.data == nullptr)
    throw Error(Reason::no_storage, "the data pointer of " + destination_name() + " is null");
  if (may_self_overlap(destination)) {
    throw Error(Reason::overlap, "elements of " + destination_name() + " share memory with each other",
                "collate into a contiguous tensor");
  }
  MutableView row = destination;
  row.shape = destination.shape.subspan(1);
  row.strides = destination.strides.subspan(1);
  const std::int64_t step = destination.byte_stride(0);
  for (std::size_t i = 0; i < samples_.size(); ++i) {
    const TensorView& sample = samples_[i];
    if (!may_overlap(sample, destination)) continue;
    row.data = static_cast<std::byte*>(destination.data) + static_cast<std::int64_t>(i) * step;
    if (same(sample.shape, row.shape) && has_same_places(sample, row)) continue;
    throw Error(
        Reason::overlap, destination_name() + " shares memory with " + name_of(i),
        "collate into other memory; in place only where a sample has the start, strides and item size of its row");
  }
}

// One element as the destination stores it.
void Collation::encode_padding() {
  if (!pads_ || row_ == 0) return;
  TensorView pad = *options_.pad;
  if (element_count(pad.shape) != std::optional<std::int64_t>(1)) {
    throw Error(Reason::malformed, "pad has shape " + tuple_text(pad.shape) + ", not one element");
  }
  pad.shape = {};
  pad.strides = {};
  const bool rounds =
      is_of(dtype_, Kind::complex) || (is_of(dtype_, Kind::floating) && !is_of(pad.dtype, Kind::complex));
  const CastOptions exactly{.casting = Casting::same_value};
  const CastOptions rounded{.casting = Casting::unsafe, .overflow = Overflow::raise};
  padding_.resize((static_cast<std::size_t>(total_bits(dtype_)) + 7) / 8);
  const MutableView place{.data = padding_.data(), .dtype = dtype_, .swapped = swapped_, .padded = destination_.padded};
  try {
    cast_into(pad, place, rounds ? rounded : exactly);
  } catch (const CastError& error) {
    throw CastError("pad " + error.value() + (names_.path.empty() ? "" : " for " + std::string(names_.path)) +
                        " is no value of " + to_string(dtype_),
                    "pass one that the dtype has");
  }
}

Batch Collation::batch(const MutableView& destination) const noexcept {
  return {samples_,      destination,
          options_.cast, axis_,
          transforms_,   pads_ ? padding_.data() : nullptr,
          row_,          static_cast<std::size_t>(read_),
          even_};
}

void Collation::run(const MutableView& destination, bool writes, bool counts) {
  if (row_ == 0) return;
  const Tally tally = batch_pass(*kernels_, batch(destination), writes, counts);
  if (options_.cast.report != nullptr) *options_.cast.report += tally.report;
  if (tally.losses == 0) return;
  const std::int64_t index = tally.first_loss / row_;
  const TensorView& sample = samples_[static_cast<std::size_t>(index)];
  Tally of_sample = tally;
  of_sample.first_loss = tally.first_loss % row_;
  const SampleName name{index, names_.path};
  refuse_loss(
      sample, elements_of(sample), dtype_, options_.cast, of_sample,
      [this](const std::vector<std::int64_t>& place) { return permutation_.index_of_source(place); }, &name);
}

void Collation::write_fresh(const MutableView& fresh) {
  encode_padding();
  run(fresh, true, may_lose_ || options_.cast.report != nullptr);
}

void Collation::check() {
  encode_padding();
  if (!may_lose_) return;
  run(destination_, false, true);
  checked_ = true;
}

void Collation::write() noexcept { run(destination_, true, options_.cast.report != nullptr && !checked_); }

}  // namespace detail

Tensor collate(std::span<const TensorView> samples, DType dtype, const CollateOptions& options, Allocator& allocator) {
  if (options.cast.report != nullptr) *options.cast.report = {};
  detail::Collation collation(samples, dtype, options);
  Tensor result = collation.allocate(allocator);
  collation.write_fresh(result.mutable_view());
  return result;
}

void collate_into(std::span<const TensorView> samples, const MutableView& destination, const CollateOptions& options) {
  if (options.cast.report != nullptr) *options.cast.report = {};
  detail::Collation collation(samples, destination, options);
  collation.check();
  collation.write();
}

}  // namespace v0
}  // namespace halfway
