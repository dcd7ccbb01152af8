#include "halfway/validate.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "box.h"
#include "halfway/dtype.h"
#include "halfway/layout.h"
#include "reach.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace {

struct Row {
  Defect defect;
  Reason reason;
  std::string_view name;
  std::string_view sentence;
};

constexpr std::array<Row, defect_count> rows{{
    {Defect::none, Reason::malformed, "none", "nothing is wrong"},
    {Defect::version, Reason::version, "version", "the DLPack major version is not 1"},
    {Defect::negative_ndim, Reason::malformed, "negative_ndim", "ndim is negative"},
    {Defect::too_many_dims, Reason::malformed, "too_many_dims", "ndim exceeds 64"},
    {Defect::null_shape, Reason::malformed, "null_shape", "there are dimensions, but shape is NULL"},
    {Defect::negative_dim, Reason::malformed, "negative_dim", "a dimension is negative"},
    {Defect::too_many_elements, Reason::malformed, "too_many_elements", "the number of elements does not fit int64"},
    {Defect::too_many_bytes, Reason::malformed, "too_many_bytes",
     "the reach of the strides in bytes does not fit int64"},
    {Defect::address_overflow, Reason::malformed, "address_overflow",
     "data + byte_offset + the reach of the strides leaves the address space"},
    {Defect::null_data, Reason::malformed, "null_data", "there are elements, but data is NULL"},
    {Defect::zero_bits, Reason::malformed, "zero_bits", "the dtype has 0 bits"},
    {Defect::zero_lanes, Reason::malformed, "zero_lanes", "the dtype has 0 lanes"},
    {Defect::impossible_bits, Reason::unsupported_dtype, "impossible_bits",
     "the dtype's code is known, but cannot have that number of bits"},
    {Defect::partial_bytes, Reason::unsupported_dtype, "partial_bytes", "the dtype's elements do not fill whole bytes"},
    {Defect::sub_byte_strides, Reason::unsupported_dtype, "sub_byte_strides",
     "packed elements narrower than a byte are not row-major, so no address expresses them"},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i].defect) != i || rows[i].name.empty() || rows[i].sentence.empty()) return false;
  }
  return true;
}
static_assert(in_order(), "one row a defect, in the order of the enumeration");

const Row* row(Defect defect) noexcept {
  const auto i = static_cast<std::size_t>(defect);
  return i < rows.size() ? &rows[i] : nullptr;
}

// Type codes whose elements may be narrower than a byte: all that name a number format.
constexpr bool may_be_packed(std::uint8_t code) noexcept {
  return code <= static_cast<std::uint8_t>(TypeCode::float4_e2m1fn) &&
         code != static_cast<std::uint8_t>(TypeCode::opaque_handle);
}

// Whether data + byte_offset + interval stays within the address space.
bool fits_address_space(const DLTensor& tensor, const Extent& interval) noexcept {
  std::uint64_t base = tensor.byte_offset;
  const bool addressable = detail::is_addressable(static_cast<DeviceType>(tensor.device.device_type));
  if (addressable && __builtin_add_overflow(base, reinterpret_cast<std::uintptr_t>(tensor.data), &base)) return false;
  std::uint64_t end = 0;
  if (__builtin_add_overflow(base, static_cast<std::uint64_t>(interval.high), &end)) return false;
  // A handle says nothing about what lies before it.
  return !addressable || 0 - static_cast<std::uint64_t>(interval.low) <= base;
}

}  // namespace

std::string_view to_string(Defect defect) noexcept {
  const Row* const found = row(defect);
  return found != nullptr ? found->name : std::string_view("unknown");
}

std::string_view describe(Defect defect) noexcept {
  const Row* const found = row(defect);
  return found != nullptr ? found->sentence : std::string_view("an unknown defect");
}

Reason reason(Defect defect) noexcept {
  const Row* const found = row(defect);
  return found != nullptr ? found->reason : Reason::malformed;
}

Defect validate(const DLManagedTensorVersioned& managed) noexcept {
  if (managed.version.major != 1) return Defect::version;
  return detail::validate_tensor(managed.dl_tensor, managed.flags);
}

Defect validate(const DLManagedTensor& managed) noexcept { return detail::validate_tensor(managed.dl_tensor, 0); }

namespace detail {

Defect validate_tensor(const DLTensor& tensor, std::uint64_t flags) noexcept {
  if (tensor.ndim < 0) return Defect::negative_ndim;
  if (tensor.ndim > max_ndim) return Defect::too_many_dims;
  if (tensor.ndim > 0 && tensor.shape == nullptr) return Defect::null_shape;

  const auto ndim = static_cast<std::size_t>(tensor.ndim);
  std::int64_t count = 1;  // of the dimensions that are not 0
  std::int64_t signs = 0;
  bool empty = false;
  bool overflow = false;
  for (std::size_t i = 0; i < ndim; ++i) {
    const std::int64_t dim = tensor.shape[i];
    signs |= dim;
    empty |= dim == 0;
    overflow |= __builtin_mul_overflow(count, dim == 0 ? 1 : dim, &count);
  }
  if (signs < 0) return Defect::negative_dim;
  if (overflow) return Defect::too_many_elements;

  const DType dtype{tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes};
  const int bits = total_bits(dtype);
  const bool narrow = dtype.bits < 8;
  const bool padded = narrow && (flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
  const bool packed = narrow && dtype.lanes == 1 && !padded;
  const std::int64_t size = (bits + 7) / 8;

  Extent interval{0, 0};
  if (packed) {
    interval.high = packed_bytes(count, bits);
  } else if (empty || tensor.strides == nullptr) {
    // Row-major strides, which empty tensors are given on import, must not overflow in bytes either.
    if (__builtin_mul_overflow(count, size, &interval.high)) return Defect::too_many_bytes;
  } else if (!reach(tensor.shape, tensor.strides, ndim, size, size, interval)) {
    return Defect::too_many_bytes;
  }
  if (!empty) {
    if (!fits_address_space(tensor, interval)) return Defect::address_overflow;
    if (tensor.data == nullptr && is_addressable(static_cast<DeviceType>(tensor.device.device_type))) {
      return Defect::null_data;
    }
  }

  if (dtype.bits == 0) return Defect::zero_bits;
  if (dtype.lanes == 0) return Defect::zero_lanes;
  if (is_impossible(dtype)) return Defect::impossible_bits;
  if (padded ? dtype.lanes != 1 : bits % 8 != 0 && !(packed && may_be_packed(dtype.code))) return Defect::partial_bytes;
  if (packed && tensor.strides != nullptr &&
      !is_contiguous(std::span<const std::int64_t>(tensor.shape, ndim),
                     std::span<const std::int64_t>(tensor.strides, ndim))) {
    return Defect::sub_byte_strides;
  }
  return Defect::none;
}

namespace {

std::string address(const void* pointer) {
  std::array<char, 2 + 2 * sizeof(std::uintptr_t) + 1> text{};
  std::snprintf(text.data(), text.size(), "0x%llx",
                static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(pointer)));
  return text.data();
}

std::string dtype_text(const DLDataType& dtype) {
  return "dtype code " + std::to_string(dtype.code) + " with " + std::to_string(dtype.bits) + " bits and " +
         std::to_string(dtype.lanes) + (dtype.lanes == 1 ? " lane" : " lanes");
}

// What is wrong, with the values that are. Reads no more of `tensor` than the check that found the defect.
std::string message(Defect defect, const DLTensor& tensor) {
  const auto list = [&](const std::int64_t* values) {
    return tuple_text({values, static_cast<std::size_t>(tensor.ndim)});
  };
  const auto shape = [&] { return "shape " + list(tensor.shape); };
  const auto layout = [&] {
    return shape() + (tensor.strides == nullptr ? "" : " with strides " + list(tensor.strides));
  };
  switch (defect) {
    case Defect::negative_ndim:
      return "ndim is " + std::to_string(tensor.ndim) + ", less than 0";
    case Defect::too_many_dims:
      return "ndim is " + std::to_string(tensor.ndim) + ", at most " + std::to_string(max_ndim);
    case Defect::null_shape:
      return "shape is NULL, but ndim is " + std::to_string(tensor.ndim);
    case Defect::negative_dim:
      return shape() + " has a negative dimension";
    case Defect::too_many_elements:
      return shape() + " has more elements than int64 can count";
    case Defect::too_many_bytes:
      return layout() + " and " + dtype_text(tensor.dtype) + " reaches further than int64 can count bytes";
    case Defect::address_overflow:
      return "data " + address(tensor.data) + " and byte_offset " + std::to_string(tensor.byte_offset) + ", " +
             layout() + ", leave the address space";
    case Defect::null_data:
      return "data is NULL, but " + shape() + " has elements";
    case Defect::zero_bits:
    case Defect::zero_lanes:
      return dtype_text(tensor.dtype) + " has no size";
    case Defect::impossible_bits:
      return dtype_text(tensor.dtype) + " does not exist";
    case Defect::partial_bytes:
      return dtype_text(tensor.dtype) + " does not fill whole bytes";
    case Defect::sub_byte_strides:
      return layout() + " of packed " + std::to_string(tensor.dtype.bits) + "-bit elements is not row-major";
    case Defect::none:
    case Defect::version:
      break;
  }
  return std::string(halfway::describe(defect));
}

}  // namespace

void refuse(Defect defect, const DLTensor& tensor) { throw Error(reason(defect), message(defect, tensor)); }

}  // namespace detail
}  // namespace v0
}  // namespace halfway
