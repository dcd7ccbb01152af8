#include "transform.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "halfway/error.h"
#include "halfway/rounding.h"
#include "permutation.h"
#include "route.h"

namespace halfway {
inline namespace v0 {
namespace {

using detail::WideType;

template <class C>
void write_as(double value, std::byte* to) noexcept {
  const auto rounded = static_cast<C>(value);
  std::memcpy(to, &rounded, sizeof(C));
}

void write(WideType compute, double value, std::byte* to) noexcept {
  compute == WideType::float32 ? write_as<float>(value, to) : write_as<double>(value, to);
}

// One value for each of `count` indices, one value for all being repeated.
std::vector<std::byte> expanded(const Coefficients& coefficients, double neutral, std::size_t count, WideType compute) {
  const std::size_t size = detail::wide_size(compute);
  const std::span<const double> values = coefficients.values();
  std::vector<std::byte> result(count * size);
  for (std::size_t i = 0; i < count; ++i) {
    const double value = coefficients.is_along_axis() ? values[i] : values.empty() ? neutral : values[0];
    write(compute, value, result.data() + i * size);
  }
  return result;
}

void require_finite(const Coefficients& coefficients, const char* name) {
  const std::span<const double> values = coefficients.values();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    const std::string which = coefficients.is_along_axis() ? "[" + std::to_string(i) + "]" : "";
    throw std::invalid_argument(name + which + " is not finite");
  }
}

}  // namespace

std::string_view to_string(Rounding rounding) noexcept {
  switch (rounding) {
    case Rounding::nearest:
      return "nearest";
    case Rounding::stochastic:
      return "stochastic";
  }
  return "?";
}

void require_valid(const CastOptions& options) {
  if (options.rounding == Rounding::stochastic && !options.seed) {
    throw std::invalid_argument("rounding='stochastic' needs seed=, a number of 64 bits");
  }
  if (options.rounding != Rounding::stochastic && options.seed) {
    throw std::invalid_argument("seed= is for rounding='stochastic' alone");
  }
  require_finite(options.scale, "scale");
  require_finite(options.shift, "shift");
  const bool scale_varies = options.scale.is_along_axis();
  const bool shift_varies = options.shift.is_along_axis();
  if ((scale_varies || shift_varies) && !options.axis) {
    throw std::invalid_argument(std::string(scale_varies ? "scale" : "shift") +
                                " has a number for each index of an axis: axis= has to say which");
  }
  if (options.axis && !scale_varies && !shift_varies) {
    throw std::invalid_argument("axis= is for a scale or shift of one dimension alone");
  }
  if (scale_varies && shift_varies && options.scale.values().size() != options.shift.values().size()) {
    throw std::invalid_argument("scale has " + std::to_string(options.scale.values().size()) +
                                " numbers along the axis, but shift has " +
                                std::to_string(options.shift.values().size()));
  }
}

std::vector<std::int64_t> result_shape(std::span<const std::int64_t> shape, const CastOptions& options) {
  std::vector<std::int64_t> result(shape.begin(), shape.end());
  const detail::Permutation permutation(options, shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) result[i] = shape[permutation.source_axis(i)];
  return result;
}

namespace detail {

Transform::Transform(const CastOptions& options, WideType compute_in)
    : compute(compute_in),
      affine(options.is_affine()),
      varies(options.scale.is_along_axis() || options.shift.is_along_axis()),
      stochastic(options.rounding == Rounding::stochastic),
      seed(options.seed.value_or(0)) {
  constexpr double no_scale = 1.0;
  if (varies) {
    const Coefficients& along = options.scale.is_along_axis() ? options.scale : options.shift;
    const std::size_t count = along.values().size();
    scales = expanded(options.scale, no_scale, count, compute);
    shifts = expanded(options.shift, convert::no_shift, count, compute);
  } else if (affine) {
    write(compute, options.scale.is_given() ? options.scale.values()[0] : no_scale, one_scale.data());
    write(compute, options.shift.is_given() ? options.shift.values()[0] : convert::no_shift, one_shift.data());
  }
}

WideType compute_type(const Kernels& kernels, DType from) noexcept {
  return kernels.find(from)->number.wide == WideType::float32 ? WideType::float32 : WideType::float64;
}

bool is_transformed(DType from, DType to, const CastOptions& options) noexcept {
  return options.is_affine() || (from != to && options.rounding == Rounding::stochastic);
}

void Transforms::prepare(const Kernels& kernels, DType from, DType to, const CastOptions& options) {
  if (!is_transformed(from, to, options)) return;
  const WideType compute = compute_type(kernels, from);
  std::optional<Transform>& transform = compute == WideType::float32 ? single_ : double_;
  if (!transform) transform.emplace(options, compute);
}

const Transform* Transforms::find(const Kernels& kernels, DType from, DType to,
                                  const CastOptions& options) const noexcept {
  if (!is_transformed(from, to, options)) return nullptr;
  const std::optional<Transform>& transform = compute_type(kernels, from) == WideType::float32 ? single_ : double_;
  return transform ? &*transform : nullptr;
}

std::optional<std::size_t> require_axis(std::span<const std::int64_t> shape, const CastOptions& options) {
  if (!options.axis) return std::nullopt;
  const auto count = static_cast<std::int64_t>(shape.size());
  if (*options.axis < -count || *options.axis >= count) {
    throw Error(
        Reason::affine,
        "axis=" + std::to_string(*options.axis) + " is no axis of a source of " + std::to_string(count) + " dimensions",
        "name the axis of the source that scale and shift go along");
  }
  const auto axis = static_cast<std::size_t>(*options.axis < 0 ? *options.axis + count : *options.axis);
  const bool scale_varies = options.scale.is_along_axis();
  const std::size_t given = (scale_varies ? options.scale : options.shift).values().size();
  if (given != static_cast<std::size_t>(shape[axis])) {
    throw Error(Reason::affine,
                std::string(scale_varies ? "scale" : "shift") + " has " + std::to_string(given) +
                    " numbers, but axis " + std::to_string(axis) + " of the source has " + std::to_string(shape[axis]) +
                    " indices",
                "one number for each index of the axis, or one for all");
  }
  return axis;
}

void require_transformable(DType from, DType to, const CastOptions& options) {
  if (options.is_affine()) {
    for (const DType dtype : {from, to}) {
      if (is_complex(dtype)) {
        throw Error(Reason::unsupported_dtype, "scale and shift are for real dtypes, not " + to_string(dtype),
                    "cast the real and imaginary parts by themselves, as a view with an axis of two more");
      }
      const DTypeInfo* const row = find(dtype);
      if (row == nullptr || !row->castable) {
        throw Error(Reason::unsupported_dtype, to_string(dtype) + " is carried as it is, and has no scale and shift");
      }
    }
  }
  if (options.rounding == Rounding::stochastic) {
    const DTypeInfo* const row = find(to);
    if (row == nullptr || !row->castable || row->format == nullptr) {
      throw Error(Reason::unsupported_dtype, "rounding='stochastic' is for targets of floats, not " + to_string(to),
                  "leave rounding unset");
    }
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
