// What tests over the simulated device share: sources that notice when they are let go, memory of the caller's stream,
// and elements to compare with.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/simulated.h"
#include "engine.h"
#include "halfway/cast.h"
#include "halfway/dlpack.h"
#include "halfway/layout.h"
#include "runtime/arrays.h"

namespace rig {

using halfway::DType;
using halfway::MutableView;
using halfway::Tensor;
using halfway::TensorView;
using halfway::cuda::TransferOptions;
using halfway::cuda::detail::Counters;
using halfway::cuda::detail::Engine;
using halfway::cuda::detail::EngineSizes;
using halfway::cuda::detail::Fault;
using halfway::cuda::detail::Simulated;
using halfway::cuda::detail::SimulatedOptions;

inline constexpr halfway::Device device_0{halfway::DeviceType::cuda, 0};

// Bytes of a dense tensor in host memory.
inline std::vector<std::byte> bytes_of(const TensorView& view) {
  const auto count = static_cast<std::size_t>(halfway::element_count(view.shape).value());
  std::vector<std::byte> bytes(count * view.element_size());
  if (!bytes.empty()) std::memcpy(bytes.data(), view.data, bytes.size());
  return bytes;
}

// Memory that a tensor holds, and what has become of it. Lives as long as anybody looks at it.
struct Held {
  std::atomic<int> released{0};
  Simulated* device = nullptr;
  void* stream = nullptr;  // device memory: of its last use, which overwriting it is ordered behind
  void* memory = nullptr;
  std::size_t bytes = 0;
  bool pinned = false;
  bool freed = false;           // by the release, at once: whatever still uses it is wrong
  std::vector<std::byte> host;  // the memory itself, on the host

  // Whoever reads it after this reads something else, and races.
  static void release(void* context) {
    auto& held = *static_cast<Held*>(context);
    held.released.fetch_add(1, std::memory_order_relaxed);
    if (held.memory == nullptr) return;  // freed by the test
    if (held.freed) return held.device->free_memory(held.memory);
    if (held.stream != nullptr) {
      held.device->fill(held.memory, held.bytes, 0xEE, held.stream);
      return;
    }
    if (held.pinned) held.device->unpin(held.memory);
    std::memset(held.memory, 0xEE, held.bytes);
  }
};

// The caller's memory on a device, in the order of a stream, as frameworks hand it out: what had it before may still be
// writing (in that order), and what has it next will write (in that order).
class StreamOrdered final : public halfway::cuda::DeviceAllocator {
 public:
  explicit StreamOrdered(Simulated& device) noexcept : device_(device) {}

  Tensor allocate(std::span<const std::int64_t> shape, DType dtype, halfway::Device device, void* stream) override {
    if (fail) throw std::bad_alloc();
    const auto count = static_cast<std::size_t>(halfway::element_count(shape).value());
    const std::size_t bytes = std::max<std::size_t>((count * static_cast<std::size_t>(total_bits(dtype)) + 7) / 8, 1);
    Held& held = take(bytes, stream, device.id);
    std::vector<std::int64_t> strides(shape.size());
    halfway::row_major_strides(shape, strides);
    return Tensor::adopt({.data = held.memory, .dtype = dtype, .device = device, .shape = shape, .strides = strides},
                         &held, Held::release);
  }

  // An array's memory, gaps and all. Requires: native byte order, strides of whole elements.
  Tensor image(arrays::Array& array, void* stream, int id) {
    Held& held = take(array.memory.size(), stream, id);
    device_.write(held.memory, array.memory.data(), array.memory.size(), stream);
    MutableView view = array.mutable_view();
    view.data = static_cast<std::byte*>(held.memory) + array.first;
    view.device = {halfway::DeviceType::cuda, id};
    return Tensor::adopt(view, &held, Held::release);
  }

  bool fail = false;
  std::vector<std::unique_ptr<Held>> made;

 private:
  Held& take(std::size_t bytes, void* stream, int id) {
    Held& held = *made.emplace_back(std::make_unique<Held>());
    held.device = &device_;
    held.stream = stream;
    held.bytes = bytes;
    held.memory = device_.make_memory(bytes, id);
    device_.fill(held.memory, bytes, 0x77, stream);
    return held;
  }

  Simulated& device_;
};

// A tensor in device memory whose elements arrive on a stream.
inline Tensor on_device(StreamOrdered& allocator, Simulated& device, const TensorView& dense, void* stream,
                        int id = 0) {
  const halfway::Device where{halfway::DeviceType::cuda, id};
  Tensor tensor = allocator.allocate(dense.shape, dense.dtype, where, stream);
  const std::vector<std::byte> bytes = bytes_of(dense);
  device.write(tensor.mutable_view().data, bytes.data(), bytes.size(), stream);
  return tensor;
}

// The elements of device memory, behind everything on a stream.
inline std::vector<std::byte> read_back(Simulated& device, const TensorView& view, void* stream) {
  const auto count = static_cast<std::size_t>(halfway::element_count(view.shape).value());
  std::vector<std::byte> bytes((count * static_cast<std::size_t>(total_bits(view.dtype)) + 7) / 8);
  device.read(bytes.data(), view.data, bytes.size(), stream);
  device.finish(stream);
  return bytes;
}

}  // namespace rig
