#include "transform.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "environment.h"
#include "halfway/error.h"
#include "halfway/rounding.h"
#include "permutation.h"
#include "route.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace {

using detail::WideType;

template <class C>
void write_as(double value, std::byte* to) noexcept {
  const auto rounded = static_cast<C>(value);
  std::memcpy(to, &rounded, sizeof(C));
}

// Not inlined: a compiler that moves arithmetic past the change of the environment moves no calls.
[[gnu::noinline]] void write(WideType compute, double value, std::byte* to) noexcept {
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

// Bits compare as magnitudes do, and in every floating-point mode without a trace.
std::uint64_t magnitude(double value) noexcept {
  return std::bit_cast<std::uint64_t>(value) & ~(std::uint64_t{1} << 63);
}

// The smallest magnitudes that are no number of the type, once rounded to it.
constexpr std::uint64_t beyond_float64 = std::bit_cast<std::uint64_t>(std::numeric_limits<double>::infinity());
constexpr std::uint64_t beyond_float32 = std::bit_cast<std::uint64_t>(0x1.ffffffp+127);

// The index of the first number that is not below the bound; as many as there are if all are.
std::size_t find_beyond(const Coefficients& coefficients, std::uint64_t bound) noexcept {
  const std::span<const double> values = coefficients.values();
  return static_cast<std::size_t>(
      std::find_if(values.begin(), values.end(), [bound](double value) { return magnitude(value) >= bound; }) -
      values.begin());
}

// "scale", "shift[3]"
std::string name_of(const Coefficients& coefficients, const char* name, std::size_t index) {
  return name + (coefficients.is_along_axis() ? "[" + std::to_string(index) + "]" : std::string());
}

void require_finite(const Coefficients& coefficients, const char* name) {
  const std::size_t index = find_beyond(coefficients, beyond_float64);
  if (index == coefficients.values().size()) return;
  throw std::invalid_argument(name_of(coefficients, name, index) + " is not finite");
}

void require_float32(const Coefficients& coefficients, const char* name, DType from) {
  const std::size_t index = find_beyond(coefficients, beyond_float32);
  if (index == coefficients.values().size()) return;
  throw Error(Reason::affine,
              name_of(coefficients, name, index) + "=" + detail::number_text(coefficients.values()[index]) +
                  " exceeds float32, in which " + to_string(from) + " sources are computed",
              "cast to float64 first, or pass a smaller number");
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

// The caller's floating-point mode may round another way, or flush what is subnormal.
Transform::Transform(const CastOptions& options, WideType compute_in)
    : compute(compute_in),
      affine(options.is_affine()),
      varies(options.scale.is_along_axis() || options.shift.is_along_axis()),
      stochastic(options.rounding == Rounding::stochastic),
      seed(options.seed.value_or(0)) {
  const DefaultFloatEnvironment environment;
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

WideType compute_type(DType from) noexcept { return is_exact(from, float32) ? WideType::float32 : WideType::float64; }

bool is_transformed(DType from, DType to, const CastOptions& options) noexcept {
  return options.is_affine() || (from != to && options.rounding == Rounding::stochastic);
}

void Transforms::prepare(DType from, DType to, const CastOptions& options) {
  if (!is_transformed(from, to, options)) return;
  const WideType compute = compute_type(from);
  std::optional<Transform>& transform = compute == WideType::float32 ? single_ : double_;
  if (!transform) transform.emplace(options, compute);
}

const Transform* Transforms::find(DType from, DType to, const CastOptions& options) const noexcept {
  if (!is_transformed(from, to, options)) return nullptr;
  const std::optional<Transform>& transform = compute_type(from) == WideType::float32 ? single_ : double_;
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

namespace {

void require_real(DType dtype) {
  if (is_complex(dtype)) {
    throw Error(Reason::unsupported_dtype, "scale and shift are for real dtypes, not " + to_string(dtype),
                "cast the real and imaginary parts by themselves, as a view with an axis of two more");
  }
  const DTypeInfo* const row = find(dtype);
  if (row == nullptr || !row->castable) {
    throw Error(Reason::unsupported_dtype, to_string(dtype) + " is carried as it is, and has no scale and shift");
  }
}

}  // namespace

void require_transformable(DType to, const CastOptions& options) {
  if (options.is_affine()) require_real(to);
  if (options.rounding == Rounding::stochastic) {
    const DTypeInfo* const row = find(to);
    if (row == nullptr || !row->castable || row->format == nullptr) {
      throw Error(Reason::unsupported_dtype, "rounding='stochastic' is for targets of floats, not " + to_string(to),
                  "leave rounding unset");
    }
  }
}

void require_transformable(DType from, DType to, const CastOptions& options) {
  if (options.is_affine()) {
    require_real(from);
    if (compute_type(from) == WideType::float32) {
      require_float32(options.scale, "scale", from);
      require_float32(options.shift, "shift", from);
    }
  }
  require_transformable(to, options);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
