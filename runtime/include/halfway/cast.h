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
//
// The bits and the counts are the same on every processor, for every number of threads and every layout.
//
// Threads: casts may run at the same time, of one source too. A cast that moves 256 KiB or more uses up to
// num_threads() threads (parallel.h) and returns when all is written. Loops are chosen for the processor at the first
// cast; the environment variable HALFWAY_TIER forces a set (`baseline`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, `neon`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
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

// What a cast lost, counted in the same pass. A complex element counts once in each column that either part sets.
struct Report {
  std::uint64_t count = 0;      // elements looked at
  std::uint64_t nan = 0;        // NaN in the source
  std::uint64_t overflow = 0;   // finite in, not representable within range
  std::uint64_t underflow = 0;  // nonzero in, zero out (also counted in `inexact`)
  std::uint64_t inexact = 0;    // a finite value changed and is not counted in `overflow`; an infinity without an image

  friend bool operator==(const Report&, const Report&) = default;
};

struct CastOptions {
  Casting casting = Casting::same_kind;
  Overflow overflow = Overflow::by_format;
  Report* report = nullptr;  // filled when not null; starts from zero
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

// A fresh row-major tensor of the source's shape, in the machine's byte order. A level of `no` also forbids to change
// the byte order. Dtypes that are not castable can be copied to themselves, packed sub-byte elements if row-major.
// throws: CastError; Error (device: not host memory; unsupported_dtype: not castable, or bytes to swap of a dtype whose
//         scalars are unknown; no_storage: elements without memory; malformed: a shape or strides that no tensor has;
//         unavailable: HALFWAY_TIER names no set of loops that this processor has); std::bad_alloc
// `options.report` is filled also when a CastError says which value was lost.
[[nodiscard]] Tensor cast(const TensorView& source, DType dtype, const CastOptions& options = {},
                          Allocator& allocator = default_allocator());

// Into existing memory of the same shape, any strides and byte order. With `same_value` or `Overflow::raise` the source
// is checked in a first pass and `destination` is untouched when this throws.
// Overlap: where both views have the same start, strides and item size, each element becomes its image in its own place
// (float32 into an int32 view of its memory, one byte order into the other); a view onto itself is left as it is, and
// counted. Nothing else may share memory.
// throws: as cast(), and Error (out_mismatch: shapes differ, or sub-byte elements packed on one side and padded on the
//         other; readonly; overlap: the two share memory in any other way, or elements of the destination do), before
//         anything is written
void cast_into(const TensorView& source, const MutableView& destination, const CastOptions& options = {});

}  // namespace v0
}  // namespace halfway
