// The functions of halfway/torch.h, which is what to include.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/GradMode.h>
#include <c10/core/ScalarType.h>
#include <c10/core/StorageImpl.h>
#include <c10/core/TensorImpl.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "halfway/allocator.h"
#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/layout.h"
#include "halfway/plan.h"
#include "halfway/tensor.h"
#include "halfway/torch.h"

namespace halfway {
inline namespace v0 {

namespace detail::libtorch {

// Runs `call`; what libtorch throws in it becomes ours.
template <class Call>
C10_ALWAYS_INLINE decltype(auto) translated(Call&& call) {
  try {
    return std::forward<Call>(call)();
  } catch (const c10::OutOfMemoryError&) {
    throw std::bad_alloc();
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    throw Error(Reason::unavailable, "libtorch failed: " + text.substr(0, text.find('\n')));
  }
}

struct Row {
  DType dtype;
  c10::ScalarType type;
};

// What both libraries have. Not here: what torch has in a form of its own (int1 to int7 in whole bytes, two
// float4_e2m1fn in one element), and the formats that it lacks. A template, since older releases of torch lack some:
// a name that depends on a parameter may be asked for.
template <class Type>
constexpr auto rows() noexcept {
  constexpr std::array<Row, 20> always{{
      {boolean, Type::Bool},
      {uint8, Type::Byte},
      {int8, Type::Char},
      {uint16, Type::UInt16},
      {int16, Type::Short},
      {uint32, Type::UInt32},
      {int32, Type::Int},
      {uint64, Type::UInt64},
      {int64, Type::Long},
      {float16, Type::Half},
      {bfloat16, Type::BFloat16},
      {float32, Type::Float},
      {float64, Type::Double},
      {complex32, Type::ComplexHalf},
      {complex64, Type::ComplexFloat},
      {complex128, Type::ComplexDouble},
      {float8_e4m3fn, Type::Float8_e4m3fn},
      {float8_e4m3fnuz, Type::Float8_e4m3fnuz},
      {float8_e5m2, Type::Float8_e5m2},
      {float8_e5m2fnuz, Type::Float8_e5m2fnuz},
  }};
  if constexpr (requires { Type::Float8_e8m0fnu; }) {
    std::array<Row, always.size() + 1> all{};
    for (std::size_t i = 0; i < always.size(); ++i) all[i] = always[i];
    all.back() = {float8_e8m0fnu, Type::Float8_e8m0fnu};
    return all;
  } else {
    return always;
  }
}

// The rows by either column, so that an exchange looks up and does not search.
class Table {
 public:
  constexpr Table() noexcept {
    for (c10::ScalarType& type : types_) type = c10::ScalarType::Undefined;
    for (const Row& row : rows<c10::ScalarType>()) {
      types_[slot(row.dtype)] = row.type;
      dtypes_[static_cast<std::size_t>(row.type)] = row.dtype;
    }
  }

  // Undefined: there is none.
  [[nodiscard]] constexpr c10::ScalarType type(DType dtype) const noexcept {
    const bool is_regular = dtype.lanes == 1 && dtype.code < codes && dtype.bits >= 8 && dtype.bits <= 128 &&
                            std::has_single_bit(unsigned{dtype.bits});
    return is_regular ? types_[slot(dtype)] : c10::ScalarType::Undefined;
  }

  // Of 0 bits: there is none.
  [[nodiscard]] constexpr DType dtype(c10::ScalarType type) const noexcept {
    const auto index = static_cast<std::size_t>(type);
    return index < dtypes_.size() ? dtypes_[index] : DType{};
  }

 private:
  static constexpr std::size_t codes = static_cast<std::size_t>(TypeCode::float4_e2m1fn) + 1;
  static constexpr std::size_t sizes = 5;  // 1, 2, 4, 8 and 16 bytes

  static constexpr std::size_t slot(DType dtype) noexcept {
    return dtype.code * sizes + static_cast<std::size_t>(std::countr_zero(unsigned{dtype.bits} / 8));
  }

  std::array<c10::ScalarType, codes * sizes> types_{};
  std::array<DType, static_cast<std::size_t>(c10::ScalarType::NumOptions)> dtypes_{};
};
inline constexpr Table table;

inline bool has_dtype(DType dtype) { return table.type(dtype) != c10::ScalarType::Undefined; }

// As halfway::is_misaligned, which is only asked where the address is not a multiple of the element's size.
inline bool is_misaligned(const TensorView& view) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  return (address & (item_size(view.dtype) - 1)) != 0 && halfway::is_misaligned(view);
}

// Whether torch has a number for it: its own are one byte, and those below 0 mean the current device.
inline bool has_device_index(Device device) noexcept {
  return device.id >= 0 && device.id <= std::numeric_limits<at::DeviceIndex>::max();
}

inline at::IntArrayRef array_of(std::span<const std::int64_t> span) noexcept { return {span.data(), span.size()}; }
inline std::span<const std::int64_t> span_of(at::IntArrayRef array) noexcept { return {array.data(), array.size()}; }

// Only real ones are left in a tensor: those that mean nothing are normalised on import.
inline bool has_negative_strides(const TensorView& view) noexcept {
  std::int64_t signs = 0;
  for (const std::int64_t stride : view.strides) signs |= stride;
  return signs < 0;
}

// Bytes from the first element to the end of the last, strides being non-negative.
inline std::size_t storage_bytes(const TensorView& view) noexcept {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] == 0) return 0;
    last += (view.shape[i] - 1) * view.strides[i];
  }
  return static_cast<std::size_t>(last + 1) * item_size(view.dtype);
}

// Without elements yet.
inline at::Tensor tensor_over(c10::Storage&& storage, c10::DispatchKey key, c10::ScalarType type) {
  return at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key),
                                                  c10::scalarTypeToTypeMeta(type));
}

// Says why torch cannot have `view`: with all reasons that the planner finds, and what to do in C++.
[[noreturn]] inline void refuse(const TensorView& view, const ToTorchOptions& options) {
  const Wish wish{.target = {.name = "torch",
                             .has_dtype = has_dtype,
                             .negative_strides = false,
                             .readonly = false,
                             .misaligned = false},
                  .dtype = {},
                  .copy = Copy::never,
                  .allow_readonly = options.allow_readonly,
                  .device = view.device};
  const std::string copies = "copy it: halfway::cast_to_torch(tensor.view(), dtype)";
  try {
    (void)plan(view, {}, wish);
  } catch (const Error& error) {
    const bool is_readonly = error.reason() == Reason::readonly;
    throw Error({error.reasons().begin(), error.reasons().end()}, error.message(),
                is_readonly ? "set ToTorchOptions::allow_readonly to alias it knowingly, or " + copies : copies);
  }
  if (view.device.type == DeviceType::cuda && !has_device_index(view.device)) {
    throw Error(Reason::device, "torch counts devices from 0 to " +
                                    std::to_string(std::numeric_limits<at::DeviceIndex>::max()) +
                                    ", and the memory is on " + to_string(view.device));
  }
  if (view.device.type == DeviceType::cuda) {
    throw Error(Reason::unavailable, "the memory is on " + to_string(view.device) + ", and this libtorch has no CUDA",
                "link libtorch_cuda, or bring it to the host: halfway::cuda::to_host");
  }
  throw Error(Reason::device,
              "torch tensors here are in host memory or on CUDA devices, not on device " + to_string(view.device));
}

inline void release_tensor(void* handle) { (void)Tensor::reclaim(handle); }
inline void release_storage(void* storage) { c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(storage)); }

// Keys of a tensor with plain memory, and those that autograd and autocast add to them.
inline constexpr c10::DispatchKeySet plain_keys{
    c10::DispatchKey::CPU,         c10::DispatchKey::CUDA,         c10::DispatchKey::ADInplaceOrView,
    c10::DispatchKey::AutogradCPU, c10::DispatchKey::AutogradCUDA, c10::DispatchKey::AutocastCPU,
    c10::DispatchKey::AutocastCUDA};

// Whether the tensor's memory is its value, by one look. What is not plain is asked one thing after the other.
inline bool is_plain(const at::Tensor& tensor) noexcept {
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();  // of an undefined tensor, too
  return (impl.key_set().raw_repr() & ~plain_keys.raw_repr()) == 0 && impl.unsafe_storage();
}

// Refuses what has no memory that could be pointed to. The order is that of what can be asked of such tensors.
inline void require_memory(const at::Tensor& tensor) {
  if (is_plain(tensor)) return;
  if (!tensor.defined()) {
    throw Error(Reason::no_storage, "the tensor is undefined", "assign a tensor to it first");
  }
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  if (impl.key_set().has(c10::DispatchKey::Python)) {
    throw Error(Reason::subclass, "a Python tensor with its own dispatch has no memory that is its value",
                "take the tensor inside of it");
  }
  if (tensor.is_nested()) {
    throw Error(Reason::nested, "a nested tensor has no strides", "take its parts: tensor.unbind()");
  }
  if (tensor.layout() != c10::kStrided) {
    throw Error(Reason::sparse, "the tensor's layout is not strided", "make it dense: tensor.to_dense()");
  }
  if (tensor.is_quantized()) {
    throw Error(Reason::quantized, "a quantized tensor's memory is not its value",
                "take tensor.int_repr(), or tensor.dequantize()");
  }
  if (!impl.has_storage() || tensor.is_meta() || tensor._is_zerotensor()) {
    throw Error(Reason::no_storage, "the tensor has elements, but no memory behind them",
                "make a tensor of the values: meta tensors have none, wrappers of torch.func have them inside");
  }
  if (!tensor.is_cpu() && !tensor.is_cuda()) {
    throw Error(Reason::device, "the memory is on " + tensor.device().str() + ", neither the CPU's nor a CUDA device's",
                "bring it to the CPU: tensor.cpu()");
  }
}

inline Device device_of(at::Device device) noexcept {
  return device.is_cuda() ? Device{DeviceType::cuda, device.index()} : Device{};
}

// `tensor` has memory; its values may be marked.
template <class Data>
BasicView<Data> described(const at::Tensor& tensor) {
  Data* data = nullptr;
  if constexpr (std::is_const_v<Data>) {
    data = tensor.const_data_ptr();
  } else {
    data = tensor.mutable_data_ptr();  // memory that is copied on write is copied here
  }
  if (data == nullptr && tensor.numel() > 0) {
    throw Error(Reason::no_storage, "the tensor has elements, but no memory behind them",
                "make a tensor of the values");
  }
  return {.data = data,
          .dtype = from_torch(tensor.scalar_type()),
          .device = device_of(tensor.device()),
          .shape = span_of(tensor.sizes()),
          .strides = span_of(tensor.strides()),
          .readonly = false};
}

inline void require_unmarked(const at::Tensor& tensor) {
  if (tensor.is_conj()) {
    throw Error(Reason::conj, "the memory holds the conjugates of the tensor's values", "pass tensor.resolve_conj()");
  }
  if (tensor.is_neg()) {
    throw Error(Reason::neg, "the memory holds the negatives of the tensor's values", "pass tensor.resolve_neg()");
  }
}

// Of the CPU's allocator: whatever it says, there was no memory.
inline c10::DataPtr allocate(std::size_t bytes) {
  try {
    return c10::GetAllocator(c10::kCPU)->allocate(bytes);
  } catch (const c10::Error&) {
    throw std::bad_alloc();
  }
}

// As at::empty, row-major: `allocate(bytes)` gives memory of `allocator`.
template <class Allocate>
at::Tensor empty(std::span<const std::int64_t> shape, DType dtype, c10::DispatchKey key, c10::Allocator* allocator,
                 Allocate&& allocate) {
  const c10::ScalarType type = to_torch(dtype);
  const std::optional<std::int64_t> count = element_count(shape);
  std::int64_t bytes = 0;
  if (!count || __builtin_mul_overflow(*count, static_cast<std::int64_t>(item_size(dtype)), &bytes)) {
    throw std::bad_alloc();
  }
  return translated([&] {
    const auto size = static_cast<std::size_t>(bytes);
    c10::Storage storage(c10::Storage::use_byte_size_t{}, size, std::forward<Allocate>(allocate)(size), allocator,
                         true);
    at::Tensor tensor = tensor_over(std::move(storage), key, type);
    tensor.unsafeGetTensorImpl()->set_sizes_contiguous(array_of(shape));
    return tensor;
  });
}

inline at::Tensor empty_on_host(std::span<const std::int64_t> shape, DType dtype) {
  return empty(shape, dtype, c10::DispatchKey::CPU, c10::GetAllocator(c10::kCPU), allocate);
}

// The tensor itself or, where its values are only marked, a plain one.
inline at::Tensor resolved(const at::Tensor& tensor) {
  if (!tensor.is_conj() && !tensor.is_neg()) return tensor;
  return translated([&] {
    const c10::NoGradGuard no_grad;
    if (!tensor.is_cpu()) return tensor.resolve_conj().resolve_neg();
    at::Tensor plain = empty_on_host(span_of(tensor.sizes()), from_torch(tensor.scalar_type()));
    plain.copy_(tensor);
    return plain;
  });
}

// `plain` has memory that is its value.
inline Tensor adopted(const at::Tensor& plain) {
  const MutableView view = translated([&] { return described<void>(plain); });
  c10::Storage storage = plain.storage();
  return Tensor::adopt(view, storage.unsafeReleaseStorageImpl(), release_storage);
}

// The same where `is_plain(plain)`, as a reference given away: most of what others ask of a tensor is known then, and
// torch keeps its tensors valid. What is left is memory that is not there (made by others), and dimensions, of which
// torch has no limit.
C10_ALWAYS_INLINE void* adopted_plain(const at::Tensor& plain) {
  const c10::TensorImpl& impl = *plain.unsafeGetTensorImpl();
  const DType dtype = table.dtype(plain.scalar_type());
  const at::IntArrayRef shape = impl.sizes();
  if (impl.numel() == 0 || shape.size() > std::size_t{max_ndim} || dtype.bits == 0) return adopted(plain).release();
  c10::StorageImpl* const storage = impl.unsafe_storage().unsafeGetStorageImpl();
  auto* const first = static_cast<std::byte*>(storage->mutable_data());
  if (first == nullptr) return adopted(plain).release();
  std::byte* const data = first + impl.storage_offset() * static_cast<std::int64_t>(item_size(dtype));
  const Device device = device_of(storage->device());
  c10::raw::intrusive_ptr::incref(storage);
  return adopt_valid(data, dtype, device, span_of(shape), impl.strides().data(), storage, release_storage);
}

// A source of a cast: the view, and what it is a view of.
class Source {
 public:
  explicit Source(const at::Tensor& tensor) {
    require_memory(tensor);
    tensor_ = resolved(tensor);
    view_ = translated([&] { return described<const void>(tensor_); });
  }
  [[nodiscard]] const TensorView& view() const noexcept { return view_; }

 private:
  at::Tensor tensor_;
  TensorView view_;
};

// A destination. `written()` says that it was.
class Destination {
 public:
  explicit Destination(const at::Tensor& tensor) : tensor_(tensor) {
    require_memory(tensor);
    if (tensor.requires_grad()) {
      throw Error(Reason::requires_grad, "the destination requires grad, and autograd would not see what is written",
                  "pass tensor.detach()");
    }
    require_unmarked(tensor);
    view_ = translated([&] { return described<void>(tensor); });
  }
  [[nodiscard]] const MutableView& view() const noexcept { return view_; }

  void written() const noexcept {
    // Tensors of inference mode keep no version.
    if (!tensor_.is_inference()) tensor_.unsafeGetTensorImpl()->bump_version();
  }

 private:
  const at::Tensor& tensor_;
  MutableView view_;
};

// The block's own deleter stands in front of it: it need not be the one of today's allocator.
class TorchAllocator final : public Allocator {
 public:
  [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment) override {
    alignment = std::max(alignment, alignof(c10::DataPtr));
    std::size_t whole = 0;
    if (__builtin_add_overflow(bytes, sizeof(c10::DataPtr) + alignment, &whole)) throw std::bad_alloc();
    c10::DataPtr block = libtorch::allocate(whole);
    const auto first = reinterpret_cast<std::uintptr_t>(block.get()) + sizeof(c10::DataPtr);
    const std::uintptr_t offset = (alignment - first % alignment) % alignment;
    std::byte* const memory = static_cast<std::byte*>(block.get()) + sizeof(c10::DataPtr) + offset;
    new (memory - sizeof(c10::DataPtr)) c10::DataPtr(std::move(block));
    return memory;
  }

  void deallocate(void* memory, std::size_t /*bytes*/, std::size_t /*alignment*/) noexcept override {
    auto* const slot = reinterpret_cast<c10::DataPtr*>(static_cast<std::byte*>(memory) - sizeof(c10::DataPtr));
    const c10::DataPtr block = std::move(*slot);  // lives in the block that it frees
    slot->~DataPtr();
  }
};

}  // namespace detail::libtorch

inline c10::ScalarType to_torch(DType dtype) {
  const c10::ScalarType type = detail::libtorch::table.type(dtype);
  if (type == c10::ScalarType::Undefined) {
    throw Error(Reason::unsupported_dtype, "torch has no dtype " + to_string(dtype), "cast to one that it has");
  }
  return type;
}

inline DType from_torch(c10::ScalarType type) {
  const DType dtype = detail::libtorch::table.dtype(type);
  if (dtype.bits == 0) {
    const bool is_quantized = c10::isQIntType(type);
    throw Error(
        is_quantized ? Reason::quantized : Reason::unsupported_dtype,
        std::string("halfway has no dtype like torch's ") + c10::toString(type),
        is_quantized ? "take tensor.int_repr(), or tensor.dequantize()" : "view its bytes: tensor.view(at::kByte)");
  }
  return dtype;
}

inline at::Tensor to_torch(Tensor&& tensor, const ToTorchOptions& options) {
  namespace libtorch = detail::libtorch;
  if (!tensor) throw Error(Reason::consumed, "the tensor is empty: moved from, exported or never filled");
  const MutableView view = tensor.mutable_view();
  const c10::ScalarType type = libtorch::table.type(view.dtype);
  const bool on_cuda = view.device.type == DeviceType::cuda && libtorch::has_device_index(view.device) &&
                       c10::impl::hasDeviceGuardImpl(c10::DeviceType::CUDA);
  if (type == c10::ScalarType::Undefined || (view.readonly && !options.allow_readonly) ||
      (view.swapped && view.dtype.bits > 8) || libtorch::is_misaligned(view) || libtorch::has_negative_strides(view) ||
      !(is_host(view.device) || on_cuda)) {
    libtorch::refuse(view, options);
  }
  return libtorch::translated([&] {
    const at::Device device = on_cuda ? at::Device(at::kCUDA, static_cast<at::DeviceIndex>(view.device.id)) : at::kCPU;
    // The reference goes to the storage when nothing can fail any more.
    c10::Storage storage(c10::Storage::use_byte_size_t{}, libtorch::storage_bytes(view),
                         c10::DataPtr(view.data, device));
    c10::StorageImpl& impl = *storage.unsafeGetStorageImpl();
    at::Tensor result =
        libtorch::tensor_over(std::move(storage), on_cuda ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU, type);
    result.unsafeGetTensorImpl()->set_sizes_and_strides(libtorch::array_of(view.shape),
                                                        libtorch::array_of(view.strides));
    impl.set_data_ptr_noswap(c10::DataPtr(view.data, std::move(tensor).release(), libtorch::release_tensor, device));
    return result;
  });
}

inline Tensor from_torch(const at::Tensor& tensor) {
  namespace libtorch = detail::libtorch;
  if (libtorch::is_plain(tensor)) {
    return Tensor::reclaim(libtorch::translated([&] { return libtorch::adopted_plain(tensor); }));
  }
  libtorch::require_memory(tensor);
  return libtorch::adopted(libtorch::resolved(tensor));
}

inline DLManagedTensorVersioned* to_dlpack(const at::Tensor& tensor) {
  namespace libtorch = detail::libtorch;
  if (libtorch::is_plain(tensor)) {
    return static_cast<DLManagedTensorVersioned*>(
        libtorch::translated([&] { return libtorch::adopted_plain(tensor); }));
  }
  return from_torch(tensor).to_dlpack();
}

inline TensorView view_of(const at::Tensor& tensor) {
  detail::libtorch::require_memory(tensor);
  detail::libtorch::require_unmarked(tensor);
  return detail::libtorch::translated([&] { return detail::libtorch::described<const void>(tensor); });
}

inline MutableView mutable_view_of(const at::Tensor& tensor) {
  const detail::libtorch::Destination destination(tensor);
  destination.written();
  return destination.view();
}

inline at::Tensor cast_to_torch(const TensorView& source, DType dtype, const CastOptions& options) {
  require_valid(options);
  at::Tensor result = detail::libtorch::empty_on_host(
      options.permute ? std::span<const std::int64_t>(result_shape(source.shape, options)) : source.shape, dtype);
  cast_into(source, detail::libtorch::described<void>(result), options);
  return result;
}

inline at::Tensor cast(const at::Tensor& source, DType dtype, const CastOptions& options) {
  return cast_to_torch(detail::libtorch::Source(source).view(), dtype, options);
}

inline Tensor cast_from_torch(const at::Tensor& source, DType dtype, const CastOptions& options, Allocator& allocator) {
  return cast(detail::libtorch::Source(source).view(), dtype, options, allocator);
}

inline void cast_into(const TensorView& source, const at::Tensor& destination, const CastOptions& options) {
  const detail::libtorch::Destination target(destination);
  cast_into(source, target.view(), options);
  target.written();
}

inline void cast_into(const at::Tensor& source, const at::Tensor& destination, const CastOptions& options) {
  cast_into(detail::libtorch::Source(source).view(), destination, options);
}

inline void cast_into(const at::Tensor& source, const MutableView& destination, const CastOptions& options) {
  cast_into(detail::libtorch::Source(source).view(), destination, options);
}

inline Allocator& torch_allocator() noexcept {
  // Never destroyed: tensors may be freed while the process exits.
  using Memory = detail::libtorch::TorchAllocator;
  alignas(Memory) static std::byte room[sizeof(Memory)];
  static Memory* const memory = new (room) Memory;
  return *memory;
}

}  // namespace v0
}  // namespace halfway
