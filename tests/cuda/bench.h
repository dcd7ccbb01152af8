// A simulated device with an engine, memory of its own, and a stream of the caller's: what most tests of transfers
// need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "rig.h"

namespace rig {

using halfway::CastOptions;

inline constexpr std::size_t device_memory = std::size_t{16} << 20;

struct Bench {
  explicit Bench(EngineSizes sizes = tiny(), SimulatedOptions options = {})
      : device(with_memory(options)), allocator(device), engine(device, sizes), stream(device.make_stream()) {}

  static EngineSizes tiny() {
    EngineSizes sizes;
    sizes.machine.chunk = 512;
    sizes.machine.small = 0;
    sizes.machine.small_pinned = 0;
    return sizes;
  }
  static SimulatedOptions with_memory(SimulatedOptions options) {
    options.memory = device_memory;
    return options;
  }
  TransferOptions to(DType dtype, CastOptions cast = {}) {
    return {.dtype = dtype, .stream = stream, .cast = std::move(cast), .allocator = &allocator};
  }
  std::vector<std::byte> read(const Tensor& tensor) { return read_back(device, tensor.view(), stream); }

  // What nobody holds any more, when the device is done with everything.
  void free_all() {
    for (const auto& held : allocator.made) {
      if (held->memory != nullptr) device.free_memory(std::exchange(held->memory, nullptr));
    }
  }

  Simulated device;
  StreamOrdered allocator;
  Engine engine;
  void* stream;
};

inline arrays::Array numbers(DType dtype, std::vector<std::int64_t> shape) {
  arrays::Array array = arrays::contiguous(dtype, std::move(shape));
  std::mt19937_64 random(7);
  arrays::fill_random(random, array);
  return array;
}

inline CastOptions freely() { return {.casting = halfway::Casting::unsafe}; }

// Host memory that somebody holds, pinned if asked for.
struct Source {
  Source(Bench& bench, arrays::Array elements, bool pinned) : array(std::move(elements)) {
    held.device = &bench.device;
    held.host = array.memory;
    held.memory = held.host.data();
    held.bytes = held.host.size();
    held.pinned = pinned;
    if (pinned) bench.device.pin(held.memory, held.bytes);
    view = array.mutable_view();
    view.data = static_cast<std::byte*>(held.memory) + array.first;
  }
  Tensor tensor() { return Tensor::adopt(view, &held, Held::release); }

  arrays::Array array;
  Held held;
  halfway::MutableView view;
};

}  // namespace rig
