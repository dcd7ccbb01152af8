// What an exchange will do, and why: a pure function of the source, the wish and the target's abilities.
//
// The executor runs the plan it is given, so that what was explained is what happens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

// Properties of a source that its view cannot carry.
struct SourceTraits {
  bool requires_grad = false;  // the consumer must not alias it (the producer's automatic differentiation)
  bool conj = false;           // conjugate bit: the memory holds the conjugates
  bool neg = false;            // negative bit: the memory holds the negatives
};

// What the target library can express. Rows for NumPy, torch and DLPack stand in the bindings.
struct Target {
  std::string_view name;               // "numpy", "torch", "halfway"
  bool (*has_dtype)(DType) = nullptr;  // nullptr: every dtype
  bool negative_strides = true;
  bool fractional_strides = false;
  bool readonly = true;
  bool misaligned = true;
  bool swapped = false;  // can express the other byte order
  int max_ndim = halfway::max_ndim;
  std::string_view title{};  // as messages spell it; empty: the name
};

enum class Copy : std::uint8_t { if_needed, never, always };

struct Wish {
  Target target;
  std::optional<DType> dtype;  // none: the source's
  Copy copy = Copy::if_needed;
  bool allow_readonly = false;
  bool into_out = false;  // the result is written into memory that is already there
  CastOptions options{};
};

enum class StepKind : std::uint8_t {
  alias,    // hand out the source's memory
  resolve,  // the producer materialises conj / neg / detached values
  copy,     // same values, fresh or given memory
  cast,     // another dtype or other values, fresh or given memory
};

[[nodiscard]] std::string_view to_string(StepKind kind) noexcept;

struct Step {
  StepKind kind = StepKind::alias;
  DType from{};
  DType to{};
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::string how{};  // what else happens in it, e.g. "permute (0, 3, 1, 2), affine along axis 3"; mostly nothing
};

struct Plan {
  bool zero_copy = true;
  std::vector<Reason> reasons;  // why not zero-copy; empty when it is
  std::vector<Step> steps;
  DType from{};
  DType to{};
  std::vector<std::int64_t> shape;         // of the source
  std::vector<std::int64_t> result_shape;  // permuted, if the axes are
  std::string_view target;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t bytes_wire = 0;  // over a bus to another device
};

// Never touches the source's data.
// throws: Error (every reason, in the order of the enumeration) when Copy::never and the source cannot be aliased;
//         Error(unsupported_dtype) when the target has no such dtype; Error(device) for memory the host cannot address;
//         CastError when the level forbids the cast; what cast() says of options that do not fit the source or the
//         dtypes
[[nodiscard]] Plan plan(const TensorView& source, const SourceTraits& traits, const Wish& wish);

// Several lines for people, e.g.
//   float64 (64, 3) -> torch bfloat16: one pass
//     because   dtype
//     cast      float64 -> bfloat16, reads 1536 B, writes 384 B
[[nodiscard]] std::string to_string(const Plan& plan);

}  // namespace v0
}  // namespace halfway
