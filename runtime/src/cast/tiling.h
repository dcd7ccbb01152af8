// A nest cut into tiles: two dimensions at a time, where the source's order is not the destination's. Private to the
// runtime.
//
// Walking a transposed source in the order of the destination uses one element of each cache line, and comes back for
// the next when the line is gone. A tile is read along the source's lines, whole cache lines at a time, and turned
// round in registers into a buffer in the first-level cache; its rows are runs of the nest's innermost dimension.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "mover.h"
#include "nest.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// A part of a nest: `rows` of it, `length` elements each, of the innermost dimension.
struct Tile {
  const std::byte* source;
  std::byte* destination;  // nullptr: nothing is written
  std::int64_t position;   // of the first element in the order of the nest
  std::int64_t rows;
  std::int64_t length;
  // Where the next tile of the same two dimensions begins in the source; nullptr: this is their last one.
  const std::byte* next = nullptr;
};

class Tiling {
 public:
  // The most that `buffer_size()` is.
  static constexpr std::size_t most_buffer_bytes = tile_bytes + tile_bytes / 8;

  // For elements of `from_size` and `to_size` bytes. No row is longer than `most_elements`, nor is a tile whose rows
  // are one run of the nest.
  Tiling(const Nest& nest, std::size_t from_size, std::size_t to_size, std::int64_t most_elements) noexcept;

  // Whether the nest is better walked in tiles. If not, nothing else may be asked.
  [[nodiscard]] bool pays() const noexcept { return pays_; }

  [[nodiscard]] std::int64_t count() const noexcept { return outer_ * rows_.count() * lengths_.count(); }
  [[nodiscard]] Tile tile(std::int64_t index) const noexcept;

  // Reads a tile into a buffer, still in the source's byte order, while the next one is fetched. Its rows are
  // `buffer_step()` bytes apart.
  void load(const Mover& from, const Tile& tile, std::byte* buffer) const noexcept;

  // Whether the rows of a tile follow each other without a gap, in the nest and in the buffer.
  [[nodiscard]] bool joins_rows() const noexcept { return joins_rows_; }
  [[nodiscard]] std::int64_t buffer_step() const noexcept { return buffer_step_; }
  // What a buffer for the elements of any tile must hold, in bytes.
  [[nodiscard]] std::size_t buffer_size() const noexcept {
    return static_cast<std::size_t>(rows_.piece * buffer_step_);
  }
  // From one row to the next, in positions of the nest and in bytes of the source and of the destination.
  [[nodiscard]] std::int64_t position_step() const noexcept { return position_step_; }
  [[nodiscard]] std::int64_t source_step() const noexcept { return nest_.source_strides[across_]; }
  [[nodiscard]] std::int64_t destination_step() const noexcept { return nest_.destination_strides[across_]; }

 private:
  // A dimension in pieces of one size; the first one is shorter by `shift`, so that the others begin at cache lines.
  struct Cuts {
    std::int64_t extent;
    std::int64_t piece;
    std::int64_t shift;

    [[nodiscard]] std::int64_t count() const noexcept { return (extent + shift + piece - 1) / piece; }
    [[nodiscard]] std::int64_t begin(std::int64_t index) const noexcept {
      return std::max<std::int64_t>(index * piece - shift, 0);
    }
    [[nodiscard]] std::int64_t size(std::int64_t index) const noexcept {
      return std::min((index + 1) * piece - shift, extent) - begin(index);
    }
  };

  void choose_transposed(std::int64_t most_elements, std::size_t to_size) noexcept;
  void choose_joined(std::int64_t most_elements) noexcept;

  const Nest& nest_;
  std::int64_t size_;       // of a source element
  std::size_t across_ = 0;  // the dimension of the rows; that of their elements is the last
  bool pays_ = false;
  bool joins_rows_ = false;
  Cuts rows_{1, 1, 0};
  Cuts lengths_{1, 1, 0};
  std::int64_t outer_ = 1;  // elements of the other dimensions together
  std::int64_t buffer_step_ = 0;
  std::int64_t position_step_ = 0;
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
