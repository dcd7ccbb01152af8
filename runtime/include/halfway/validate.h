// Every way a DLPack struct can be wrong, by name.
//
//   accepted:  ndim 0 .. 64; dimensions >= 0; NULL strides (row-major, from any version); any stride in a dimension of
//              size 1; any data, strides and byte_offset when a dimension is 0; misaligned data; unknown type codes of
//              whole bytes; lanes > 1; sub-byte dtypes, packed or padded; unknown devices, whose data may be a handle
//              and NULL; unknown flags; a NULL deleter.
//   refused:   the rows of `Defect`.
#pragma once

#include <cstdint>
#include <string_view>

#include "halfway/error.h"

struct DLManagedTensor;
struct DLManagedTensorVersioned;

namespace halfway {
inline namespace v0 {

enum class Defect : std::uint8_t {
  none,
  version,  // version.major != 1: nothing else was read
  negative_ndim,
  too_many_dims,  // ndim > 64
  null_shape,     // ndim > 0 without a shape
  negative_dim,
  too_many_elements,  // the product of the dimensions that are not 0 does not fit int64
  too_many_bytes,     // the reach of the strides, in bytes, does not fit int64 (empty tensors: of row-major strides)
  address_overflow,   // data + byte_offset + reach leaves the address space
  null_data,          // elements without data
  zero_bits,          // bits == 0
  zero_lanes,         // lanes == 0
  impossible_bits,    // a known type code with bits it cannot have
  partial_bytes,      // an unknown type code, or lanes, that do not fill whole bytes; several padded sub-byte lanes
  sub_byte_strides,   // packed sub-byte elements that are not row-major: no address can express them
};

inline constexpr int defect_count = static_cast<int>(Defect::sub_byte_strides) + 1;

// The enumerator's spelling, and one sentence about it.
[[nodiscard]] std::string_view to_string(Defect defect) noexcept;
[[nodiscard]] std::string_view describe(Defect defect) noexcept;

// The reason under which an import refuses the defect: version, unsupported_dtype or malformed.
[[nodiscard]] Reason reason(Defect defect) noexcept;

// The first defect found, in the order of the enumeration as far as reading it is safe: ndim is judged before shape is
// read. Reads the struct, shape and strides only; never the data, never the deleter. Never throws.
[[nodiscard]] Defect validate(const DLManagedTensorVersioned& managed) noexcept;
[[nodiscard]] Defect validate(const DLManagedTensor& managed) noexcept;

}  // namespace v0
}  // namespace halfway
