// Memory for what a pass keeps between its stages: blocks of elements and tiles. Private to the runtime.
//
// A stack may be too small for them: threads have as little as their programs ask for. What small passes need is part
// of the object all the same, since it costs nothing there. What others need comes from the heap, in blocks of one size
// that are kept when they are given back, a few for the whole process. They belong to no thread, so that nothing is to
// be done when a thread ends or the process forks.
#pragma once

#include <cstddef>

namespace halfway {
inline namespace v0 {
namespace detail {

class Scratch {
 public:
  // What is there in any case. 16 KiB hold the blocks of casts of up to 192 elements.
  static constexpr std::size_t near_bytes = std::size_t{16} << 10;
  // The most that may be asked for.
  static constexpr std::size_t most_bytes = std::size_t{216} << 10;

  Scratch() noexcept {}  // NOLINT(modernize-use-equals-default): leaves the memory uninitialised
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // So many bytes at least, aligned to 64; nullptr when there is no memory. Valid until the next call.
  [[nodiscard]] std::byte* get(std::size_t bytes) noexcept { return bytes <= near_bytes ? near_ : get_far(); }

  // `near_bytes` bytes, likewise.
  [[nodiscard]] std::byte* get_near() noexcept { return near_; }

 private:
  std::byte* get_far() noexcept;

  alignas(64) std::byte near_[near_bytes];
  std::byte* far_ = nullptr;
};

// Frees the blocks that are kept and in nobody's use.
void trim_scratch() noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
