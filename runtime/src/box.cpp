#include "box.h"

#include <cstddef>
#include <new>
#include <type_traits>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

static_assert(std::is_standard_layout_v<Box> && offsetof(Box, managed) == 0, "a struct's address is its box's address");
static_assert(std::is_trivially_destructible_v<Box> && alignof(Box) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
static_assert(sizeof(Box) % alignof(std::int64_t) == 0, "shape and strides follow the box");

extern "C" void halfway_drop_box(DLManagedTensorVersioned* self) { static_cast<Box*>(self->manager_ctx)->drop(); }

}  // namespace

Box* Box::make(int ndim, void (*release)(Box*) noexcept, void* context, void* context2) {
  const auto dims = static_cast<std::size_t>(ndim);
  void* const memory = ::operator new(sizeof(Box) + 2 * dims * sizeof(std::int64_t));
  auto* const shape = reinterpret_cast<std::int64_t*>(static_cast<std::byte*>(memory) + sizeof(Box));
  Box* const box = new (memory) Box{
      .managed = {.version = {1, 3},
                  .manager_ctx = memory,
                  .deleter = halfway_drop_box,
                  .flags = 0,
                  .dl_tensor = {.data = nullptr,
                                .device = {kDLCPU, 0},
                                .ndim = ndim,
                                .dtype = {},
                                .shape = shape,
                                .strides = shape + dims,
                                .byte_offset = 0}},
      .references = {1},
      .release = release,
      .context = context,
      .context2 = context2,
      .size = 0,
      .next = nullptr,
  };
  return box;
}

void Box::free(Box* box) noexcept { ::operator delete(box); }

void Box::drop() noexcept {
  // The only reference cannot be shared by anyone else meanwhile, so seeing 1 saves the locked instruction.
  if (references.load(std::memory_order_acquire) == 1 || references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    release(this);
  }
}

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
  for (int i = 0; i < source.ndim; ++i) empty |= source.shape[i] == 0;
  const bool row_major = empty || source.strides == nullptr;
  std::int64_t running = 1;
  for (int i = source.ndim - 1; i >= 0; --i) {
    const std::int64_t dim = source.shape[i];
    std::int64_t stride = row_major ? running : source.strides[i];
    std::int64_t ignored = 0;
    if (dim == 1 && (stride < 0 || __builtin_mul_overflow(stride, bytes, &ignored))) stride = 1;
    tensor.shape[i] = dim;
    tensor.strides[i] = stride;
    running *= dim == 0 ? 1 : dim;
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
