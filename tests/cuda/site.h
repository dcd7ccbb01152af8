// One device under test, real or simulated: the cases of device_cases.cpp run on either. All that they need of it is
// the engine's own interface to a device, so that a case is written once.
#pragma once

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "device.h"
#include "engine.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "runtime/arrays.h"

namespace site {

using halfway::cuda::detail::Backend;
using halfway::cuda::detail::CopyKind;
using halfway::cuda::detail::Engine;
using halfway::cuda::detail::EngineSizes;
using halfway::cuda::detail::Status;

// The device of this executable: the first one of the shipped backend, or a simulated one.
Backend& backend();

// How many random cases, or values of a wide dtype, this device is worth.
std::int64_t rounds(std::int64_t simulated, std::int64_t real);

// Launches so far, where the device counts them.
std::optional<std::uint64_t> launches();

inline void require(Status status) { BOOST_REQUIRE(status == Status::ok); }

// Memory of the host that is pinned as long as it lives.
class Pinned {
 public:
  explicit Pinned(std::size_t bytes) { require(backend().allocate_pinned(bytes == 0 ? 1 : bytes, memory_)); }
  ~Pinned() { static_cast<void>(backend().free_pinned(memory_)); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  void* memory_ = nullptr;
};

// An engine with small chunks, so that small tensors need several, and a stream of a caller's.
struct Bench {
  explicit Bench(const EngineSizes& sizes = small()) : engine(backend(), sizes) {
    require(backend().create_stream(stream));
  }
  ~Bench() {
    static_cast<void>(backend().synchronize_stream(stream));
    static_cast<void>(backend().destroy_stream(stream));
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  static EngineSizes small() {
    EngineSizes sizes;
    sizes.machine.chunk = 512;
    sizes.machine.first_chunk = 64;
    sizes.machine.small = 0;
    sizes.machine.small_pinned = 0;
    return sizes;
  }
  // As shipped, on a machine of one core.
  static EngineSizes shipped() { return {}; }

  [[nodiscard]] halfway::cuda::TransferOptions to(halfway::DType dtype, halfway::CastOptions cast = {}) const {
    return {.dtype = dtype, .stream = stream, .cast = std::move(cast)};
  }
  void finish() const { require(backend().synchronize_stream(stream)); }

  Engine engine;
  void* stream = nullptr;
};

// Bytes of device memory, behind everything on the stream; what dense tensors hold.
inline std::vector<std::byte> fetch(const Bench& bench, const void* memory, std::size_t bytes) {
  if (bytes == 0) return {};
  const Pinned pinned(bytes);
  require(backend().copy(pinned.data(), memory, bytes, CopyKind::to_host, bench.stream));
  bench.finish();
  return {pinned.data(), pinned.data() + bytes};
}
inline std::vector<std::byte> fetch(const Bench& bench, const halfway::TensorView& dense) {
  const auto count = static_cast<std::size_t>(halfway::element_count(dense.shape).value());
  return fetch(bench, dense.data, count * dense.element_size());
}

inline std::vector<std::byte> bytes_of(const halfway::TensorView& dense) {
  const auto count = static_cast<std::size_t>(halfway::element_count(dense.shape).value());
  const auto* const first = static_cast<const std::byte*>(dense.data);
  return {first, first + count * dense.element_size()};
}

// An array's memory, gaps and all, on the device.
class There {
 public:
  There(const Bench& bench, arrays::Array array) : bench_(bench), array_(std::move(array)) {
    const std::size_t bytes = array_.memory.size();
    require(backend().allocate(bytes == 0 ? 1 : bytes, memory_));
    if (bytes == 0) return;
    const Pinned pinned(bytes);
    std::memcpy(pinned.data(), array_.memory.data(), bytes);
    require(backend().copy(memory_, pinned.data(), bytes, CopyKind::to_device, bench.stream));
    bench.finish();
  }
  ~There() {
    static_cast<void>(backend().synchronize_stream(bench_.stream));
    static_cast<void>(backend().free(memory_));
  }
  There(const There&) = delete;
  There& operator=(const There&) = delete;

  [[nodiscard]] halfway::MutableView view() {
    halfway::MutableView view = array_.mutable_view();
    view.data = static_cast<std::byte*>(memory_) + array_.first;
    view.device = {halfway::DeviceType::cuda, 0};
    return view;
  }
  // The array as it is there now.
  [[nodiscard]] arrays::Array now() const {
    arrays::Array array = array_;
    array.memory = fetch(bench_, memory_, array_.memory.size());
    return array;
  }

 private:
  const Bench& bench_;
  arrays::Array array_;
  void* memory_ = nullptr;
};

}  // namespace site
