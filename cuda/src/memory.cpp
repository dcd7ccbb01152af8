// Tensors in a backend's memory, on the device or pinned.
#include <array>
#include <memory>

#include "engine.h"
#include "halfway/layout.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

// Memory of a backend, held by a tensor. It may be released on any thread, when the process ends, and in a forked
// child, where nothing of CUDA can be called: the memory is the parent's then.
struct Holding {
  Backend* backend;
  std::int64_t home;
  int device;
  bool pinned;
  void* memory;

  static void release(void* context) {
    const std::unique_ptr<Holding> holding(static_cast<Holding*>(context));
    if (holding->memory == nullptr || process_id() != holding->home) return;
    Backend& backend = *holding->backend;
    // Nobody is left to be told of a failure: at the end of the process the driver may be gone already.
    if (holding->pinned) {
      static_cast<void>(backend.free_pinned(holding->memory));
      return;
    }
    int previous = holding->device;
    static_cast<void>(backend.current_device(previous));
    static_cast<void>(backend.set_device(holding->device));
    static_cast<void>(backend.free(holding->memory));
    static_cast<void>(backend.set_device(previous));
  }
};

Tensor hold(Backend& backend, std::span<const std::int64_t> shape, DType dtype, Device device, bool pinned) {
  const std::optional<std::int64_t> count = element_count(shape);
  const std::uint64_t bits = static_cast<std::uint64_t>(total_bits(dtype));
  std::uint64_t all_bits = 0;
  if (!count || shape.size() > max_ndim ||
      __builtin_mul_overflow(static_cast<std::uint64_t>(*count), bits, &all_bits) || all_bits > PTRDIFF_MAX) {
    throw Error(Reason::malformed, "the shape has a negative dimension or too many elements");
  }
  std::array<std::int64_t, max_ndim> strides{};
  const std::span<std::int64_t> used(strides.data(), shape.size());
  row_major_strides(shape, used);
  auto holding = std::make_unique<Holding>(Holding{&backend, process_id(), device.id, pinned, nullptr});
  const std::uint64_t bytes = (all_bits + 7) / 8;
  if (bytes > 0 && pinned) {
    require(backend, backend.allocate_pinned(bytes, holding->memory), "allocating pinned memory");
  } else if (bytes > 0) {
    const DeviceScope scope(backend, device.id);
    require(backend, backend.allocate(bytes, holding->memory), "allocating device memory");
  }
  const MutableView view{
      .data = holding->memory, .dtype = dtype, .device = pinned ? Device{} : device, .shape = shape, .strides = used};
  return Tensor::adopt(view, holding.release(), Holding::release);
}

}  // namespace

Tensor PlainAllocator::allocate(std::span<const std::int64_t> shape, DType dtype, Device device, void* /*stream*/) {
  return hold(engine_.backend(), shape, dtype, device, false);
}

Tensor allocate_pinned(Engine& engine, std::span<const std::int64_t> shape, DType dtype) {
  return hold(engine.backend(), shape, dtype, {}, true);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
