#include "tiles.h"

#include <algorithm>
#include <array>

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

using halfway::detail::Places;

// Both sides split the same elements into axes of their own, since axes that continue one another are one. In the nest
// they have in common, an axis begins wherever one begins on either side: these are the numbers of elements that an
// index of it stands for.
struct Nest {
  int axes = 0;
  std::array<std::uint64_t, Tiles::most_axes> dims{};
  std::array<std::uint64_t, Tiles::most_axes> numbers{};  // elements of one index
};

// Places that are dense say nothing of the shape.
bool has_shape(const Places& places) noexcept { return places.axes > 1; }

std::optional<Nest> common_nest(const Places& source, const Places& destination) noexcept {
  std::array<std::uint64_t, Tiles::most_axes> numbers{1};
  std::size_t count = 1;
  std::uint64_t all = 0;
  for (const Places* const places : {&source, &destination}) {
    if (!has_shape(*places)) continue;
    std::uint64_t number = 1;
    for (int axis = places->axes - 1; axis > 0; --axis) {
      number *= static_cast<std::uint64_t>(places->dims[axis]);
      numbers[count++] = number;
    }
    number *= static_cast<std::uint64_t>(places->dims[0]);
    if (all != 0 && all != number) return std::nullopt;
    all = number;
  }
  std::sort(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(count), std::greater<>());
  Nest nest;
  std::uint64_t above = all;
  for (std::size_t i = 0; i < count; ++i) {
    if (numbers[i] == above) continue;
    if (above % numbers[i] != 0) return std::nullopt;
    const auto axis = static_cast<std::size_t>(nest.axes++);
    nest.numbers[axis] = numbers[i];
    nest.dims[axis] = above / numbers[i];
    above = numbers[i];
  }
  return nest;
}

// Bytes from one index of an axis to the next, for an axis of the common nest.
std::int64_t stride_of(const Places& places, std::uint64_t number) noexcept {
  int axis = places.axes - 1;
  std::uint64_t below = 1;
  while (axis > 0 && below * static_cast<std::uint64_t>(places.dims[axis]) <= number) {
    below *= static_cast<std::uint64_t>(places.dims[axis--]);
  }
  return places.strides[axis] * static_cast<std::int64_t>(number / below);
}

std::uint64_t magnitude(std::int64_t value) noexcept {
  return value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
}

// The axis along which a side lies closest. Broadcast axes are close to nothing.
int closest_axis(const Nest& nest, const Places& places) noexcept {
  int closest = -1;
  std::uint64_t smallest = 0;
  for (int axis = nest.axes - 1; axis >= 0; --axis) {
    const std::uint64_t stride = magnitude(stride_of(places, nest.numbers[static_cast<std::size_t>(axis)]));
    if (stride == 0 || (closest >= 0 && stride >= smallest)) continue;
    closest = axis;
    smallest = stride;
  }
  return closest;
}

// Where a side is dense in a launch that begins elsewhere, its address is that of the launch's first element.
std::optional<std::int64_t> base_of(const Places& places, std::uint64_t first) noexcept {
  if (places.first == first) return 0;
  if (places.first != 0 || has_shape(places)) return std::nullopt;
  return -static_cast<std::int64_t>(first) * places.strides[0];
}

}  // namespace

std::optional<Tiles> tiles_of(const Conversion& work, const tuning::Numbers& numbers) noexcept {
  const Places& source = work.source_places;
  const Places& destination = work.destination_places;
  if (!has_shape(source) && !has_shape(destination)) return std::nullopt;
  const std::uint64_t size = work.source_size();
  if (size > 16) return std::nullopt;
  const std::optional<Nest> nest = common_nest(source, destination);
  if (!nest || nest->axes < 2) return std::nullopt;
  const std::array<int, 2> sides{closest_axis(*nest, source), closest_axis(*nest, destination)};
  if (sides[0] < 0 || sides[1] < 0 || sides[0] == sides[1]) return std::nullopt;

  Tiles tiles;
  for (std::size_t side = 0; side < 2; ++side) {
    const auto axis = static_cast<std::size_t>(sides[side]);
    tiles.plane[side] = nest->dims[axis];
    tiles.plane_number_strides[side] = nest->numbers[axis];
    tiles.plane_source_strides[side] = stride_of(source, nest->numbers[axis]);
    tiles.plane_destination_strides[side] = stride_of(destination, nest->numbers[axis]);
  }
  if (tiles.plane[0] * tiles.plane[1] < numbers.smallest_plane) return std::nullopt;

  // A part of the tensor has to consist of whole planes, with all that is between their two axes.
  const auto outer = static_cast<std::size_t>(std::min(sides[0], sides[1]));
  const std::uint64_t inner = nest->numbers[outer] * nest->dims[outer];
  if (work.first % inner != 0 || work.count % inner != 0) return std::nullopt;
  const auto source_base = base_of(source, work.first);
  const auto destination_base = base_of(destination, work.first);
  if (!source_base || !destination_base) return std::nullopt;
  tiles.source_base = *source_base;
  tiles.destination_base = *destination_base;
  tiles.outer_axes = static_cast<int>(outer);
  tiles.outer_first = work.first / inner;
  for (int axis = 0; axis < nest->axes; ++axis) {
    if (axis == sides[0] || axis == sides[1]) continue;
    const std::uint64_t number = nest->numbers[static_cast<std::size_t>(axis)];
    tiles.dims[tiles.axes] = nest->dims[static_cast<std::size_t>(axis)];
    tiles.number_strides[tiles.axes] = number;
    tiles.source_strides[tiles.axes] = stride_of(source, number);
    tiles.destination_strides[tiles.axes] = stride_of(destination, number);
    ++tiles.axes;
  }

  // Square, unless an axis is too short for it: then the other one is longer.
  const std::uint32_t length = size > 8 ? numbers.tile_side_of_pairs : numbers.tile_side;
  const std::uint64_t area = std::uint64_t{length} * length;
  const std::size_t shorter = tiles.plane[1] < tiles.plane[0] ? 1 : 0;
  const std::uint64_t short_side = std::min<std::uint64_t>(tiles.plane[shorter], length);
  tiles.tile[shorter] = static_cast<std::uint32_t>(short_side);
  tiles.tile[1 - shorter] = static_cast<std::uint32_t>(std::min(tiles.plane[1 - shorter], area / short_side));
  pad(tiles, static_cast<std::uint32_t>(size), work.from.bits / 8, numbers.most_bytes_of_tile);
  return tiles;
}

void pad(Tiles& tiles, std::uint32_t size, std::uint32_t scalar, std::uint32_t most_bytes) noexcept {
  // Rows an odd number of words apart, so that the threads of a warp, which read along the other side, reach different
  // banks; of 8 bytes, an odd number of these.
  const std::uint32_t word = scalar == 8 ? 8 : 4;
  const std::uint32_t words = (tiles.tile[0] * size + word - 1) / word;
  tiles.pitch = (words % 2 == 0 ? words + 1 : words) * word;
  tiles.tile[1] = std::min(tiles.tile[1], most_bytes / tiles.pitch);
  for (std::size_t side = 0; side < 2; ++side) {
    tiles.tiles[side] = (tiles.plane[side] + tiles.tile[side] - 1) / tiles.tile[side];
  }
}

std::uint64_t outer_count(const Tiles& tiles, const Conversion& work) noexcept {
  return work.count / (tiles.plane[0] * tiles.plane[1]);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
