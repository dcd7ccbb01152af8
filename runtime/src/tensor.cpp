#include "halfway/tensor.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "box.h"
#include "halfway/error.h"

namespace halfway {
inline namespace v0 {

using detail::Box;

namespace {

void release_allocated(Box* box) noexcept {
  auto* const allocator = static_cast<Allocator*>(box->context);
  void* const memory = box->context2;
  const std::size_t bytes = box->size;
  Box::free(box);
  allocator->deallocate(memory, bytes, tensor_alignment);
}

void release_parent(Box* box) noexcept {
  auto* const parent = static_cast<Box*>(box->context);
  Box::free(box);
  parent->drop();
}

using ReleaseContext = void (*)(void*);

void release_adopted(Box* box) noexcept {
  void* const context = box->context;
  const auto release = reinterpret_cast<ReleaseContext>(box->context2);
  Box::free(box);
  if (release != nullptr) release(context);
}

// Calls `release` unless told that a box will.
class AdoptionClaim {
 public:
  AdoptionClaim(void* context, ReleaseContext release) noexcept : context_(context), release_(release) {}
  AdoptionClaim(const AdoptionClaim&) = delete;
  AdoptionClaim& operator=(const AdoptionClaim&) = delete;
  ~AdoptionClaim() {
    if (release_ != nullptr) release_(context_);
  }
  void dismiss() noexcept { release_ = nullptr; }

 private:
  void* context_;
  ReleaseContext release_;
};

// The struct of before DLPack 1.0 with its metadata behind it, holding a reference to the box.
struct LegacyExport {
  DLManagedTensor managed;
  Box* box;
};
static_assert(offsetof(LegacyExport, managed) == 0 && sizeof(LegacyExport) % alignof(std::int64_t) == 0);

// Static: a C name is one name for the whole program, whatever namespace it is in.
extern "C" {
static void halfway_drop_legacy_export(DLManagedTensor* self) {
  Box* const box = static_cast<LegacyExport*>(self->manager_ctx)->box;
  ::operator delete(self->manager_ctx);
  box->drop();
}
}

// A copy of `from` whose shape and strides lie in `room`, 2 * ndim values.
DLTensor copied(const DLTensor& from, std::int64_t* room) noexcept {
  DLTensor to = from;
  to.shape = room;
  to.strides = room + from.ndim;
  std::copy_n(from.shape, from.ndim, to.shape);
  std::copy_n(from.strides, from.ndim, to.strides);
  return to;
}

template <class Data>
BasicView<Data> view_of(const Box& box) noexcept {
  const DLManagedTensorVersioned& managed = box.managed;
  const DLTensor& tensor = managed.dl_tensor;
  const auto ndim = static_cast<std::size_t>(tensor.ndim);
  return {
      .data = tensor.data,
      .dtype = {tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes},
      .device = {static_cast<DeviceType>(tensor.device.device_type), tensor.device.device_id},
      .shape = {tensor.shape, ndim},
      .strides = {tensor.strides, ndim},
      .readonly = (managed.flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0,
      .swapped = box.swapped,
      .strides_in_bytes = false,
      .padded = (managed.flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0,
  };
}

std::int32_t clamped_ndim(std::size_t dims) noexcept {
  return static_cast<std::int32_t>(std::min(dims, static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())));
}

// A valid description of `shape` in `device`, for the validator: it reads through these pointers only.
DLTensor described(void* data, DType dtype, Device device, std::span<const std::int64_t> shape,
                   const std::int64_t* strides) noexcept {
  return {.data = data,
          .device = {static_cast<DLDeviceType>(device.type), device.id},
          .ndim = clamped_ndim(shape.size()),
          .dtype = {dtype.code, dtype.bits, dtype.lanes},
          .shape = const_cast<std::int64_t*>(shape.data()),
          .strides = const_cast<std::int64_t*>(strides),
          .byte_offset = 0};
}

void require_valid(const DLTensor& tensor, std::uint64_t flags) {
  const Defect defect = detail::validate_tensor(tensor, flags);
  if (defect != Defect::none) detail::refuse(defect, tensor);
}

void require_exportable(const Box* box) {
  if (box == nullptr) throw Error(Reason::consumed, "the tensor is empty: moved from, exported or never filled");
  if (box->swapped) {
    throw Error(Reason::byte_order, "the elements are in the other byte order, which no DLPack struct can say",
                "cast the view, to its own dtype if need be: the result is in the machine's order");
  }
}

// The struct for a consumer of a tensor that others hold, too, or the error. A function of its own, so that the common
// export has no more to set up than it needs.
[[gnu::noinline]] DLManagedTensorVersioned* export_shared(Box* shared) {
  require_exportable(shared);
  Box* const box = Box::make(shared->tensor().ndim, release_parent, shared);
  box->tensor() = copied(shared->tensor(), box->tensor().shape);
  box->managed.flags = shared->managed.flags;
  return &box->managed;
}

}  // namespace

Tensor Tensor::allocate(std::span<const std::int64_t> shape, DType dtype, Allocator& allocator) {
  // Any address serves for the check; the allocation then has the last word.
  DLTensor tensor = described(&tensor, dtype, {}, shape, nullptr);
  if (item_size(dtype) == 0) {
    throw Error(Reason::unsupported_dtype, "elements of " + to_string(dtype) + " are no whole bytes");
  }
  require_valid(tensor, 0);

  std::size_t bytes = item_size(dtype);
  for (const std::int64_t dim : shape) bytes *= static_cast<std::size_t>(dim);
  bytes = std::max<std::size_t>(bytes, 1);

  // Until there is memory, there is none to deallocate.
  Tensor result(Box::make(tensor.ndim, Box::free, &allocator));
  Box& box = *result.box_;
  tensor.data = allocator.allocate(bytes, tensor_alignment);
  box.release = release_allocated;
  box.context2 = tensor.data;
  box.size = bytes;
  detail::describe(box, tensor, 0);
  return result;
}

Tensor Tensor::adopt(const MutableView& view, void* context, void (*release)(void* context)) {
  AdoptionClaim claim(context, release);
  if (view.strides_in_bytes) {
    throw Error(Reason::fractional_strides, "a tensor's strides count elements, but the view's count bytes",
                "divide them by the element's size, or cast the view");
  }
  if (view.shape.size() != view.strides.size()) {
    throw Error(Reason::malformed, "shape has " + std::to_string(view.shape.size()) + " dimensions, but strides have " +
                                       std::to_string(view.strides.size()));
  }
  const std::uint64_t flags = (view.readonly ? DLPACK_FLAG_BITMASK_READ_ONLY : 0) |
                              (view.padded ? DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED : 0);
  const DLTensor tensor = described(view.data, view.dtype, view.device, view.shape, view.strides.data());
  require_valid(tensor, flags);
  Box* const box = Box::make(tensor.ndim, release_adopted, context, reinterpret_cast<void*>(release));
  claim.dismiss();
  detail::describe(*box, tensor, flags);
  box->swapped = view.swapped;
  return Tensor(box);
}

void* detail::adopt_valid(void* data, DType dtype, Device device, std::span<const std::int64_t> shape,
                          const std::int64_t* strides, void* context, void (*release)(void* context)) {
  AdoptionClaim claim(context, release);
  Box* const box =
      Box::make(static_cast<int>(shape.size()), release_adopted, context, reinterpret_cast<void*>(release));
  claim.dismiss();
  DLTensor& tensor = box->tensor();
  tensor.data = data;
  tensor.device = {static_cast<DLDeviceType>(device.type), device.id};
  tensor.dtype = {dtype.code, dtype.bits, dtype.lanes};
  std::int64_t* const own_shape = tensor.shape;
  std::int64_t* const own_strides = tensor.strides;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    own_shape[i] = shape[i];
    own_strides[i] = strides[i];
  }
  return box;
}

TensorView Tensor::view() const noexcept { return view_of<const void>(*box_); }

MutableView Tensor::mutable_view() noexcept { return view_of<void>(*box_); }

Tensor Tensor::share() const noexcept {
  if (box_ != nullptr) box_->references.fetch_add(1, std::memory_order_relaxed);
  return Tensor(box_);
}

DLManagedTensorVersioned* Tensor::to_dlpack() && {
  Box* const box = box_;
  // Nobody else holds this box, so nobody can come to share it, and its one reference becomes the consumer's.
  if (box != nullptr && !box->swapped && box->references.load(std::memory_order_acquire) == 1) {
    if (box->release == release_allocated) box->managed.flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
    box_ = nullptr;
    return &box->managed;
  }
  DLManagedTensorVersioned* const managed = export_shared(box);
  box_ = nullptr;
  return managed;
}

DLManagedTensor* Tensor::to_dlpack_legacy() && {
  require_exportable(box_);
  if ((box_->managed.flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    throw Error(Reason::readonly, "the tensor is read-only, which a DLPack struct of before version 1.0 cannot say",
                "ask for the versioned struct, or copy the tensor");
  }
  if ((box_->managed.flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0) {
    throw Error(Reason::unsupported_dtype,
                "the elements are narrower than a byte and padded to one, which a DLPack struct of before version 1.0 "
                "cannot say",
                "ask for the versioned struct");
  }
  const DLTensor& tensor = box_->tensor();
  const auto dims = static_cast<std::size_t>(tensor.ndim);
  void* const memory = ::operator new(sizeof(LegacyExport) + 2 * dims * sizeof(std::int64_t));
  auto* const room = reinterpret_cast<std::int64_t*>(static_cast<std::byte*>(memory) + sizeof(LegacyExport));
  auto* const legacy = new (memory) LegacyExport{
      .managed = {.dl_tensor = copied(tensor, room), .manager_ctx = memory, .deleter = halfway_drop_legacy_export},
      .box = box_,
  };
  box_ = nullptr;
  return &legacy->managed;
}

void Tensor::reset() noexcept {
  if (Box* const box = std::exchange(box_, nullptr)) box->drop();
}

}  // namespace v0
}  // namespace halfway
