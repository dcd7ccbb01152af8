// Copying elements bit by bit, or with their bytes reversed, for one thread. Private to the runtime.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "mover.h"
#include "nest.h"
#include "scratch.h"
#include "tiling.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Everything that the threads of a copy share.
struct Copy {
  const Kernels& kernels;
  const Nest& nest;
  const Tiling& tiling;
  std::size_t size;  // of an element
  std::size_t swap_unit;
  bool streams;  // past the caches: runs of the destination are long
};

// Works through a part of a nest. Its buffer lies in the scratch memory. Where there is none to be had for tiles, they
// are copied row by row: slower, with the same result.
class Copier {
 public:
  Copier(const Copy& copy, Scratch& scratch) noexcept
      : copy_(copy), mover_(copy.kernels, copy.size, copy.swap_unit), plain_(copy.kernels, copy.size, 1) {
    if (copy.tiling.pays()) buffer_ = scratch.get(std::max(copy.tiling.buffer_size(), block_bytes));
    has_tiles_ = buffer_ != nullptr;
    if (buffer_ == nullptr) buffer_ = scratch.get_near();
  }

  // Elements from `begin` to `end` in the order of the nest; tiles, where the nest is walked in tiles.
  void run(std::int64_t begin, std::int64_t end) noexcept;

 private:
  void run_strided(std::int64_t begin, std::int64_t end) noexcept;
  void run_tiles(std::int64_t begin, std::int64_t end) noexcept;
  void run_rows(std::int64_t begin, std::int64_t end) noexcept;
  void move(const std::byte* source, std::int64_t source_stride, std::byte* destination,
            std::int64_t destination_stride, std::int64_t n) noexcept;
  // To a run; `following` elements at `next` may be fetched meanwhile.
  void stream(std::byte* destination, const std::byte* source, std::int64_t n, const std::byte* next = nullptr,
              std::int64_t following = 0) noexcept;

  const Copy& copy_;
  Mover mover_;
  Mover plain_;  // leaves the byte order alone
  // Of elements that are moved in two steps.
  static constexpr std::size_t block_bytes = block_components * sizeof(float);
  static_assert(block_bytes <= Scratch::near_bytes);
  std::byte* buffer_ = nullptr;
  bool has_tiles_ = false;
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
