// Casts: any castable dtype to any other, any strides, byte order and alignment, in one pass with one rounding.
//
// Numeric rules (convert.h holds the functors)
//   floats     round once, to nearest even, from any source; the target's canonical NaN is written for NaN; signed zero
//              and subnormals are kept where the target has them, whatever FTZ/DAZ mode the calling thread is in.
//   same dtype bits are copied (NaN payloads too).
//   to e8m0    zero and negatives become NaN, ties go up, below 2^-127 gives 2^-127.
//   to integer floats truncate; NaN becomes 0 in every mode.
//   to bool    x != 0 (NaN is true).
//   complex    as pairs; a real target takes the real part (needs `unsafe` or `same_value`).
//   affine     y = round(fma(x, scale, shift)): see `CastOptions::scale`.
//   stochastic up or down by chance, the same chance for the same seed: see `Rounding::stochastic`.
//
// The bits and the counts are the same on every processor, for every number of threads and every layout.
//
// Threads: casts may run at the same time, of one source too. A cast that moves 512 KiB or more uses up to
// num_threads() threads (parallel.h) and returns when all is written. Loops are chosen for the processor at the first
// cast; the environment variable HALFWAY_TIER forces a set (`baseline`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, `neon`).
//
// Memory: a cast needs at most 48 KiB of the calling thread's stack. What a pass keeps between its stages beyond that
// comes from the heap, up to 216 KiB for each thread that works; some of it is kept for the next cast. Without memory
// for it casts are slower, and never fail for it half-way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "halfway/allocator.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

// What a finite value does that is not representable within the target's range ("its rounding with unbounded exponent
// exceeds the finite range").
enum class Overflow : std::uint8_t {
  by_format,  // infinity, or NaN where the format has none; int -> int wraps; float -> int saturates
  saturate,   // the nearest finite value, for infinities too; NaN stays NaN (0 for integers)
  raise,      // CastError
};

[[nodiscard]] std::string_view to_string(Overflow overflow) noexcept;  // "default", "saturate", "raise"

enum class Rounding : std::uint8_t {
  nearest,     // to nearest even (floats to integers: truncated, unless scaled or shifted)
  stochastic,  // by chance, as rounding.h defines it; needs a seed, and a target of floats
};

[[nodiscard]] std::string_view to_string(Rounding rounding) noexcept;  // "nearest", "stochastic"

// A scale or a shift: none, one number for every element, or one for each index along an axis. Numbers along an axis
// are borrowed.
class Coefficients {
 public:
  constexpr Coefficients() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor): options are written {.scale = 2}
  constexpr Coefficients(double value) noexcept : value_(value), kind_(Kind::one) {}
  constexpr Coefficients(std::span<const double> values) noexcept  // NOLINT(google-explicit-constructor)
      : values_(values), kind_(Kind::along_axis) {}
  Coefficients(const std::vector<double>& values) noexcept  // NOLINT(google-explicit-constructor)
      : Coefficients(std::span<const double>(values)) {}
  Coefficients(const std::vector<double>&& values) = delete;  // gone before anybody reads them

  [[nodiscard]] constexpr bool is_given() const noexcept { return kind_ != Kind::none; }
  [[nodiscard]] constexpr bool is_along_axis() const noexcept { return kind_ == Kind::along_axis; }
  // One value, or one for each index; empty when none is given.
  [[nodiscard]] constexpr std::span<const double> values() const noexcept {
    return kind_ == Kind::one ? std::span<const double>(&value_, 1) : values_;
  }

 private:
  enum class Kind : std::uint8_t { none, one, along_axis };
  double value_ = 0;
  std::span<const double> values_;
  Kind kind_ = Kind::none;
};

// What a cast lost, counted in the same pass. A complex element counts once in each column that either part sets.
struct Report {
  std::uint64_t count = 0;      // elements looked at
  std::uint64_t nan = 0;        // NaN in the source; with scale or shift, in y
  std::uint64_t overflow = 0;   // finite in, not representable within range
  std::uint64_t underflow = 0;  // nonzero in, zero out (also counted in `inexact`)
  std::uint64_t inexact = 0;    // a finite value changed and is not counted in `overflow`; an infinity without an image

  // Of two parts together.
  constexpr Report& operator+=(const Report& other) noexcept {
    count += other.count;
    nan += other.nan;
    overflow += other.overflow;
    underflow += other.underflow;
    inexact += other.inexact;
    return *this;
  }
  friend bool operator==(const Report&, const Report&) = default;
};

struct CastOptions {
  Casting casting = Casting::same_kind;
  Overflow overflow = Overflow::by_format;
  Rounding rounding = Rounding::nearest;
  std::optional<std::uint64_t> seed{};  // of Rounding::stochastic, which needs one; nothing else takes it

  // With either of them, the target gets y = round(fma(x, scale, shift)). The fma is in float32, or in float64 where
  // float32 does not hold every value of the source (float64, and integers of 32 and 64 bits): x, scale and shift are
  // rounded to that type, in which scale and shift have to be finite, then the fma is rounded once to it, and y once to
  // the target. Without a scale it is x + shift, without a shift x * scale (with the sign of a zero). Integer targets
  // round to nearest even and follow `overflow`, and the counts and `same_value` speak of the store of y. Equal dtypes
  // are converted too: NaN becomes the canonical one. Complex dtypes have no affine casts.
  Coefficients scale{};
  Coefficients shift{};
  // The axis of the source that a scale or shift with a number for each index goes along; negative: from the end.
  std::optional<std::int64_t> axis{};

  // The result's axes, in terms of the source's: axis i of the result is axis (*permute)[i] of the source. Negative:
  // from the end. The result of cast() is row-major in any case.
  std::optional<std::span<const std::int64_t>> permute{};

  Report* report = nullptr;  // filled when not null; starts from zero

  [[nodiscard]] constexpr bool is_affine() const noexcept { return scale.is_given() || shift.is_given(); }
  // Whether there is more to do than to convert each element by itself, where it is.
  [[nodiscard]] constexpr bool transforms() const noexcept {
    return is_affine() || permute.has_value() || rounding != Rounding::nearest || seed.has_value() || axis.has_value();
  }
};

// A cast that the level forbids (`report()` is empty then), or one that met a value it must not lose.
class CastError : public Error {
 public:
  // The level forbids the pair.
  explicit CastError(const std::string& message, std::string hint = {});
  // A value was lost: `index` is its place in the source's axes, `value` its text.
  CastError(const std::string& message, std::string hint, const Report& report, std::vector<std::int64_t> index,
            std::string value);

  [[nodiscard]] const std::optional<Report>& report() const noexcept { return report_; }
  [[nodiscard]] const std::vector<std::int64_t>& index() const noexcept { return index_; }
  [[nodiscard]] const std::string& value() const noexcept { return value_; }

 private:
  std::optional<Report> report_;
  std::vector<std::int64_t> index_;
  std::string value_;
};

// A fresh row-major tensor of the source's shape (permuted as `options.permute` says), in the machine's byte order. A
// level of `no` also forbids to change the byte order. Dtypes that are not castable can be copied to themselves, packed
// sub-byte elements if row-major.
// throws: CastError; Error (device: not host memory; unsupported_dtype: not castable, or bytes to swap of a dtype whose
//         scalars are unknown, or stochastic rounding into integers, or a complex dtype with scale or shift; affine:
//         not as many numbers as the axis has indices, or no such axis, or one that exceeds the type in which the
//         source is computed; permute: no permutation of the source's axes; no_storage: elements without memory;
//         malformed: a shape or strides that no tensor has; unavailable: HALFWAY_TIER names no set of loops that this
//         processor has); std::bad_alloc; std::invalid_argument (options that fit no source: require_valid())
// `options.report` is filled also when a CastError says which value was lost.
[[nodiscard]] Tensor cast(const TensorView& source, DType dtype, const CastOptions& options = {},
                          Allocator& allocator = default_allocator());

// Into existing memory of the result's shape (the source's, permuted as `options.permute` says), any strides and byte
// order. With `same_value` or `Overflow::raise` the source is checked in a first pass and `destination` is untouched
// when this throws.
// Overlap: where both views, the source's axes permuted, have the same start, strides and item size, each element
// becomes its image in its own place (float32 into an int32 view of its memory, one byte order into the other); a view
// onto itself is left as it is, and counted. Nothing else may share memory: a square is not transposed where it lies.
// throws: as cast(), and Error (out_mismatch: another shape than the result's, or sub-byte elements packed on one side
//         and padded on the other; readonly; overlap: the two share memory in any other way, or elements of the
//         destination do), before anything is written
void cast_into(const TensorView& source, const MutableView& destination, const CastOptions& options = {});

// What can be said of options without a source. cast() asks this itself.
// throws: std::invalid_argument (stochastic rounding without a seed, or a seed without it; a scale or shift that is not
//         finite; numbers along an axis without `axis`, or not as many in scale and shift; `axis` without any)
void require_valid(const CastOptions& options);

// What a row-major destination of cast_into() has to be like: the source's shape, permuted.
// throws: Error (permute)
[[nodiscard]] std::vector<std::int64_t> result_shape(std::span<const std::int64_t> shape, const CastOptions& options);

}  // namespace v0
}  // namespace halfway
