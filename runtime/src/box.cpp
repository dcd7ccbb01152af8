#include "box.h"

#include <cstddef>
#include <type_traits>

#include "halfway/layout.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

static_assert(std::is_standard_layout_v<Box> && offsetof(Box, managed) == 0, "a struct's address is its box's address");
static_assert(std::is_trivially_destructible_v<Box> && alignof(Box) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
static_assert(sizeof(Box) % alignof(std::int64_t) == 0, "shape and strides follow the box");

}  // namespace

void drop_struct(DLManagedTensorVersioned* self) noexcept { reinterpret_cast<Box*>(self)->drop(); }

std::uint64_t kept_flags(std::uint64_t flags, const DLDataType& dtype) noexcept {
  constexpr std::uint64_t padded = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
  return flags & (DLPACK_FLAG_BITMASK_READ_ONLY | (dtype.bits < 8 ? padded : 0));
}

void describe(Box& box, const DLTensor& source, std::uint64_t flags) noexcept {
  DLTensor& tensor = box.tensor();
  box.managed.flags = kept_flags(flags, source.dtype);
  tensor.dtype = source.dtype;
  tensor.device = source.device;
  const auto device = static_cast<DeviceType>(source.device.device_type);
  if (is_host({device, 0})) tensor.device.device_id = 0;

  const std::int64_t bytes = (source.dtype.bits * source.dtype.lanes + 7) / 8;
  bool empty = false;
  for (std::int32_t i = 0; i < source.ndim; ++i) {
    const std::int64_t dim = source.shape[i];
    tensor.shape[i] = dim;
    empty |= dim == 0;
  }
  if (empty || source.strides == nullptr) {
    const auto ndim = static_cast<std::size_t>(source.ndim);
    row_major_strides({tensor.shape, ndim}, {tensor.strides, ndim});
  } else {
    for (std::int32_t i = 0; i < source.ndim; ++i) {
      std::int64_t stride = source.strides[i];
      std::int64_t ignored = 0;
      if (tensor.shape[i] == 1 && (stride < 0 || __builtin_mul_overflow(stride, bytes, &ignored))) stride = 1;
      tensor.strides[i] = stride;
    }
  }

  if (is_addressable(device)) {
    // The offset of an empty tensor means nothing and may be anything.
    tensor.data = source.byte_offset == 0 || empty ? source.data : static_cast<char*>(source.data) + source.byte_offset;
  } else {
    tensor.data = source.data;
    tensor.byte_offset = source.byte_offset;
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
