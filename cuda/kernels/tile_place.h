// Where the tile of a step lies, for kernels that walk in tiles.
#pragma once

#include <cstdint>

#include "job.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Where a tile begins on both sides, the number of its first element, and how many elements of it there are along the
// source's axis and along the destination's.
struct TilePlace {
  std::int64_t source;
  std::int64_t destination;
  std::uint64_t number;
  std::uint32_t extent[2];
};

[[nodiscard]] HALFWAY_HD inline TilePlace tile_place(const Job& job, std::uint64_t step) noexcept {
  const Tiles& tiles = job.tiles;
  TilePlace place{tiles.source_base, tiles.destination_base, 0, {}};
  std::uint64_t rest = step;
  HALFWAY_UNROLLED
  for (int side = 1; side >= 0; --side) {
    std::uint64_t index = 0;
    rest = divide(rest, tiles.tiles[side], job.narrow, index);
    const std::uint64_t begin = index * tiles.tile[side];
    const std::uint64_t left = tiles.plane[side] - begin;
    place.extent[side] = left < tiles.tile[side] ? static_cast<std::uint32_t>(left) : tiles.tile[side];
    place.source += static_cast<std::int64_t>(begin) * tiles.plane_source_strides[side];
    place.destination += static_cast<std::int64_t>(begin) * tiles.plane_destination_strides[side];
    place.number += begin * tiles.plane_number_strides[side];
  }
  for (int axis = tiles.axes - 1; axis >= 0; --axis) {
    if (axis + 1 == tiles.outer_axes) rest += tiles.outer_first;
    std::uint64_t index = 0;
    rest = divide(rest, tiles.dims[axis], job.narrow, index);
    place.source += static_cast<std::int64_t>(index) * tiles.source_strides[axis];
    place.destination += static_cast<std::int64_t>(index) * tiles.destination_strides[axis];
    place.number += index * tiles.number_strides[axis];
  }
  return place;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
