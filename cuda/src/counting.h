// What kernels count, on its way to the host: a tally in device memory, and pinned memory in which its start lies and
// its end arrives. One for each channel; private to the engine.
//
// Threads: the channel's lock is held from begin() until the result has been waited for.
#pragma once

#include <array>
#include <cstddef>

#include "../kernels/conversion.h"
#include "device.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

class Counting {
 public:
  explicit Counting(Backend& backend) noexcept : backend_(backend) {}
  ~Counting() = default;  // release() before
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  // Where launches on the stream count from now on, from zero. throws: Error, std::bad_alloc
  [[nodiscard]] Tally* begin(Stream stream);
  // Enqueues the way back, behind those launches. throws: Error
  void fetch(Stream stream);
  // Once fetch() has been waited for.
  [[nodiscard]] const Tally& result() const noexcept { return pinned_->found; }

  // Enqueues the copy of one element of at most 16 bytes, and says where it arrives. throws: Error
  [[nodiscard]] const std::byte* fetch_element(const void* place, std::size_t size, Stream stream);

  // Requires: nothing is enqueued any more.
  void release() noexcept;

 private:
  struct Pinned {
    Tally start;
    Tally found;
    std::array<std::byte, 16> element;
  };

  Backend& backend_;
  void* tally_ = nullptr;
  Pinned* pinned_ = nullptr;
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
