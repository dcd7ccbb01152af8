// Views (borrowed) and `Tensor` (owning). A tensor is a DLPack `DLManagedTensorVersioned` with its metadata in the same
// allocation as the owner's bookkeeping: one allocation an exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "halfway/allocator.h"
#include "halfway/dtype.h"

struct DLManagedTensor;
struct DLManagedTensorVersioned;

namespace halfway {
inline namespace v0 {

// DLPack device types that this library names; others travel as their number.
enum class DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_host = 3, cuda_managed = 13 };

struct Device {
  DeviceType type = DeviceType::cpu;
  std::int32_t id = 0;

  friend constexpr bool operator==(const Device&, const Device&) = default;
};

// Memory that the CPU may read and write directly.
[[nodiscard]] constexpr bool is_host(Device device) noexcept {
  return device.type == DeviceType::cpu || device.type == DeviceType::cuda_host ||
         device.type == DeviceType::cuda_managed;
}

// The most dimensions that a tensor can have here, as in NumPy.
inline constexpr int max_ndim = 64;

// A borrowed tensor: nothing here owns anything, and it is valid as long as what it was made from.
// `shape` and `strides` have one entry a dimension (ndim 0 .. 64). `strides` count elements as in DLPack, unless
// `strides_in_bytes` is set (fields of structured arrays, whose elements are not whole strides apart).
template <class Data>
struct BasicView {
  Data* data = nullptr;
  DType dtype{};
  Device device{};
  std::span<const std::int64_t> shape{};
  std::span<const std::int64_t> strides{};
  bool readonly = std::is_const_v<Data>;
  bool swapped = false;  // the elements are in the other byte order than the machine's
  bool strides_in_bytes = false;
  bool padded = false;  // sub-byte elements stored one a byte (DLPack's PADDED flag) instead of packed

  [[nodiscard]] int ndim() const noexcept { return static_cast<int>(shape.size()); }

  // The same bytes read in the other byte order.
  [[nodiscard]] BasicView byte_swapped() const noexcept {
    BasicView other = *this;
    other.swapped = !swapped;
    return other;
  }

  // Bytes from one element to its neighbour in a row; 0 for packed sub-byte elements.
  [[nodiscard]] std::size_t element_size() const noexcept {
    const std::size_t size = item_size(dtype);
    return size == 0 && padded ? 1 : size;  // the flag says nothing about elements of whole bytes
  }

  // The stride of a dimension in bytes. Elements must be whole bytes (`element_size() > 0`).
  [[nodiscard]] std::int64_t byte_stride(std::size_t dim) const noexcept {
    return strides_in_bytes ? strides[dim] : strides[dim] * static_cast<std::int64_t>(element_size());
  }

  // A mutable view reads like any other.
  operator BasicView<const void>() const noexcept  // NOLINT(google-explicit-constructor)
      requires(!std::is_const_v<Data>) {
    return {data, dtype, device, shape, strides, readonly, swapped, strides_in_bytes, padded};
  }
};
using TensorView = BasicView<const void>;
using MutableView = BasicView<void>;

namespace detail {
struct Box;
}

// Owns one reference to a tensor. Move-only; `share()` makes another reference to the same memory. The producer is
// released exactly once, when the last share goes, on whatever thread that happens.
//
//   halfway::Tensor a = halfway::from_dlpack(managed);
//   halfway::Tensor b = a.share();                        // same memory, one producer
//   DLManagedTensorVersioned* m = std::move(b).to_dlpack();
//
// Threads: distinct Tensor objects may be used from distinct threads, shares of one tensor included.
class Tensor {
 public:
  Tensor() noexcept = default;  // empty: no tensor
  Tensor(Tensor&& other) noexcept : box_(other.box_) { other.box_ = nullptr; }
  Tensor& operator=(Tensor&& other) noexcept {
    if (this != &other) {
      reset();
      box_ = other.box_;
      other.box_ = nullptr;
    }
    return *this;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() {
    if (box_ != nullptr) reset();
  }

  // Fresh, uninitialised, row-major host memory, aligned to `tensor_alignment`.
  // throws: Error (malformed: a negative or too large shape; unsupported_dtype: elements of no whole bytes),
  //         std::bad_alloc
  [[nodiscard]] static Tensor allocate(std::span<const std::int64_t> shape, DType dtype,
                                       Allocator& allocator = default_allocator());

  // Takes ownership of `context`: `release(context)` is called exactly once, when the last share or exported struct
  // goes, on that thread; also when this call throws. It must not throw. `view` describes the memory; its shape and
  // strides are copied. A null `release` is legal (memory that outlives every use). A byte-swapped view makes a tensor
  // whose views are byte-swapped: it is cast as any other, and not exported.
  // throws: Error (the view is not a valid DLPack tensor, or has strides in bytes), std::bad_alloc
  [[nodiscard]] static Tensor adopt(const MutableView& view, void* context, void (*release)(void* context));

  [[nodiscard]] explicit operator bool() const noexcept { return box_ != nullptr; }

  // A view of the memory, valid while this or any share lives. Empty tensors (default-constructed, moved-from) have
  // none: calling this on one is an error of the caller (undefined).
  [[nodiscard]] TensorView view() const noexcept;

  // As view(), for writing. `readonly` in it still says whether the producer allows that.
  [[nodiscard]] MutableView mutable_view() noexcept;

  // Another reference to the same memory. Does not allocate.
  [[nodiscard]] Tensor share() const noexcept;

  // Hands this reference to a DLPack consumer, which releases it by calling `deleter`. Strides are always filled,
  // byte_offset is 0 (on devices that `DeviceType` names), flags are READ_ONLY and PADDED as imported. Without other
  // shares the struct is the tensor itself (no allocation), and IS_COPIED is set when this library allocated the
  // memory; else a new struct is made.
  // throws: Error (consumed: there is no tensor; byte_order: its elements are in the other one), std::bad_alloc; this
  //         reference is then kept
  [[nodiscard]] DLManagedTensorVersioned* to_dlpack() &&;

  // As to_dlpack(), in the struct used before DLPack 1.0, which can say neither read-only nor padded.
  // throws: Error (readonly; unsupported_dtype: padded elements; consumed and byte_order, as to_dlpack()),
  //         std::bad_alloc; this reference is then kept
  [[nodiscard]] DLManagedTensor* to_dlpack_legacy() &&;

  // Drops this reference.
  void reset() noexcept;

  // Gives this reference away as a pointer, for those who keep a `void*` and a function to call with it; an empty
  // tensor gives nullptr. `reclaim` makes a tensor of it again, once, on any thread. Nothing is allocated.
  //
  //   void* const context = std::move(tensor).release();
  //   auto* const deleter = +[](void* held) { (void)halfway::Tensor::reclaim(held); };
  [[nodiscard]] void* release() && noexcept {
    detail::Box* const box = box_;
    box_ = nullptr;
    return box;
  }
  [[nodiscard]] static Tensor reclaim(void* released) noexcept { return Tensor(static_cast<detail::Box*>(released)); }

 private:
  friend struct detail::Box;
  explicit Tensor(detail::Box* box) noexcept : box_(box) {}

  detail::Box* box_ = nullptr;
};

namespace detail {

// As Tensor::adopt, without its checks, for adapters of libraries that keep their own tensors valid; the result is for
// Tensor::reclaim(), and the address of the struct that Tensor::to_dlpack() would give. All in registers and one
// pointer: this is most of what an exchange costs. Requires: there are elements, in memory that can be addressed,
// writable; at most `max_ndim` dimensions; strides that are not negative; a dtype of the table; 0 as the id of host
// memory. throws: std::bad_alloc
[[nodiscard]] void* adopt_valid(void* data, DType dtype, Device device, std::span<const std::int64_t> shape,
                                const std::int64_t* strides, void* context, void (*release)(void* context));

}  // namespace detail

}  // namespace v0
}  // namespace halfway
