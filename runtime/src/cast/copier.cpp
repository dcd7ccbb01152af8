#include "copier.h"

#include <algorithm>

#include "environment.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {

void Copier::run(std::int64_t begin, std::int64_t end) noexcept {
  if (copy_.tiling.pays()) {
    has_tiles_ ? run_tiles(begin, end) : run_rows(begin, end);
  } else {
    run_strided(begin, end);
  }
  if (copy_.streams) order_streamed_stores();
}

void Copier::run_strided(std::int64_t begin, std::int64_t end) noexcept {
  const Nest& nest = copy_.nest;
  Cursor<const std::byte> in(nest, nest.source_strides, nest.source, begin);
  Cursor<std::byte> out(nest, nest.destination_strides, nest.destination, begin);
  for (std::int64_t left = end - begin; left > 0;) {
    const std::int64_t some = std::min(in.run(), left);
    move(in.get(), in.stride(), out.get(), out.stride(), some);
    in.advance(some);
    out.advance(some);
    left -= some;
  }
}

// Through the buffer goes what is streamed and not a run as it stands, unless a loop turns its bytes round on the way,
// and what is strided on both sides.
void Copier::move(const std::byte* source, std::int64_t source_stride, std::byte* destination,
                  std::int64_t destination_stride, std::int64_t n) noexcept {
  const auto size = static_cast<std::int64_t>(copy_.size);
  const bool to_run = destination_stride == size;
  if (source_stride == size && !mover_.swaps()) {
    if (copy_.streams && to_run) return stream(destination, source, n);
    return mover_.scatter(source, destination, destination_stride, static_cast<std::size_t>(n));
  }
  if (source_stride == size && to_run && copy_.streams &&
      mover_.swap_streamed(source, destination, static_cast<std::size_t>(n))) {
    return;
  }
  if (to_run && !copy_.streams) return mover_.gather(source, source_stride, destination, static_cast<std::size_t>(n));
  const std::int64_t most = static_cast<std::int64_t>(block_bytes) / size;
  if (most == 0) {  // larger than any buffer
    copy_run(source, source_stride, destination, destination_stride, n, copy_.size);
    if (mover_.swaps()) swap_run(destination, destination_stride, n, copy_.size, copy_.swap_unit);
    return;
  }
  for (std::int64_t done = 0; done < n;) {
    std::byte* const place = destination + done * destination_stride;
    std::int64_t some = std::min(most, n - done);
    if (copy_.streams && to_run && some < n - done) some = streamed_at_once(place, some, copy_.size);
    mover_.gather(source + done * source_stride, source_stride, buffer_, static_cast<std::size_t>(some));
    done += some;
    if (copy_.streams && to_run) {
      const std::int64_t following = source_stride == size ? std::min(most, n - done) : 0;
      stream(place, buffer_, some, source + done * source_stride, following);
    } else {
      plain_.scatter(buffer_, place, destination_stride, static_cast<std::size_t>(some));
    }
  }
}

void Copier::run_tiles(std::int64_t begin, std::int64_t end) noexcept {
  const Tiling& tiling = copy_.tiling;
  const auto size = static_cast<std::int64_t>(copy_.size);
  const std::int64_t stride = copy_.nest.destination_strides[copy_.nest.ndim - 1];
  for (std::int64_t index = begin; index < end; ++index) {
    const Tile tile = tiling.tile(index);
    tiling.load(plain_, tile, buffer_);
    std::int64_t rows = tile.rows;
    std::int64_t n = tile.length;
    if (tiling.joins_rows() && stride == size && tiling.destination_step() == n * size) {
      n *= rows;
      rows = 1;
    }
    for (std::int64_t row = 0; row < rows; ++row) {
      std::byte* const source = buffer_ + row * tiling.buffer_step();
      std::byte* const destination = tile.destination + row * tiling.destination_step();
      if (copy_.streams) {
        if (mover_.swaps()) mover_.swap(source, source, static_cast<std::size_t>(n));
        stream(destination, source, n);
      } else {
        mover_.scatter(source, destination, stride, static_cast<std::size_t>(n));
      }
    }
  }
}

// The same without a buffer for tiles.
void Copier::run_rows(std::int64_t begin, std::int64_t end) noexcept {
  const Tiling& tiling = copy_.tiling;
  const std::size_t last = copy_.nest.ndim - 1;
  for (std::int64_t index = begin; index < end; ++index) {
    const Tile tile = tiling.tile(index);
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      move(tile.source + row * tiling.source_step(), copy_.nest.source_strides[last],
           tile.destination + row * tiling.destination_step(), copy_.nest.destination_strides[last], tile.length);
    }
  }
}

void Copier::stream(std::byte* destination, const std::byte* source, std::int64_t n, const std::byte* next,
                    std::int64_t following) noexcept {
  copy_.kernels.stream(destination, source, static_cast<std::size_t>(n) * copy_.size, next,
                       static_cast<std::size_t>(following) * copy_.size);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
