// What a pass does to numbers beyond converting them: scale and shift, rounding by chance. Private to the runtime.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "halfway/cast.h"
#include "kernels.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Prepared once, before the pass, and shared by its threads.
struct Transform {
  // Scale and shift, rounded to the compute type. Requires: the options are valid, and fit the source.
  Transform(const CastOptions& options, WideType compute);

  [[nodiscard]] const std::byte* scale() const noexcept { return varies ? scales.data() : one_scale.data(); }
  [[nodiscard]] const std::byte* shift() const noexcept { return varies ? shifts.data() : one_shift.data(); }

  WideType compute;
  bool affine;
  bool varies;  // along an axis
  bool stochastic;
  std::uint64_t seed;

  alignas(8) std::array<std::byte, 8> one_scale{};
  alignas(8) std::array<std::byte, 8> one_shift{};
  std::vector<std::byte> scales;  // one for each index of the axis
  std::vector<std::byte> shifts;
};

// The compute type of affine casts from a dtype: float32 where it holds every value, else float64.
[[nodiscard]] WideType compute_type(DType from) noexcept;

// Whether values are scaled, shifted or rounded by chance on their way. Where bits are copied, nothing is rounded.
[[nodiscard]] bool is_transformed(DType from, DType to, const CastOptions& options) noexcept;

// The transforms of tensors of any dtypes: coefficients are prepared once for each compute type that occurs.
class Transforms {
 public:
  // Requires: the options are valid and fit the source, and both dtypes are castable to each other.
  void prepare(DType from, DType to, const CastOptions& options);

  // What was prepared for such a pair; nullptr where it is not transformed.
  [[nodiscard]] const Transform* find(DType from, DType to, const CastOptions& options) const noexcept;

 private:
  std::optional<Transform> single_;
  std::optional<Transform> double_;
};

// The axis of the source that coefficients go along, if they do.
// throws: Error (affine)
[[nodiscard]] std::optional<std::size_t> require_axis(std::span<const std::int64_t> shape, const CastOptions& options);

// Whatever the source is, it may be transformed into the dtype as the options say.
// throws: Error (unsupported_dtype)
void require_transformable(DType to, const CastOptions& options);

// The dtypes may be transformed as the options say, and scale and shift are numbers of the compute type.
// throws: Error (unsupported_dtype, affine)
void require_transformable(DType from, DType to, const CastOptions& options);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
