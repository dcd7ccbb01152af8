#include "tiling.h"

#include <limits>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::int64_t cache_line = 64;

// Rows of a tile of elements that have whole cache lines to themselves.
constexpr std::int64_t fewest_rows = 8;

// Bytes of a row from which copying it by itself is faster than copying its elements among those of others.
constexpr std::int64_t longest_plain_row = 32;

// The largest multiple of `unit` that is not above `n`, but at least one.
constexpr std::int64_t whole(std::int64_t n, std::int64_t unit) noexcept {
  return std::max(n / unit, std::int64_t{1}) * unit;
}

// How much shorter the first piece of elements, `stride` bytes apart from an address on, must be than a piece of whole
// cache lines, if the next one shall begin at the start of a line (or, walking downwards, at the end of one).
std::int64_t shift_to_line(const void* first, std::int64_t stride) noexcept {
  const auto in_line = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(first) % cache_line);
  const std::int64_t step = distance(stride);
  return stride > 0 ? in_line / step : (cache_line - 1 - in_line) / step;
}

}  // namespace

Tiling::Tiling(const Nest& nest, std::size_t from_size, std::size_t to_size, std::int64_t most_elements) noexcept
    : nest_(nest), size_(static_cast<std::int64_t>(from_size)) {
  if (nest.ndim < 2 || from_size > largest_moved) return;
  choose_transposed(most_elements, to_size);
  if (!pays_) choose_joined(most_elements);
  if (!pays_) return;

  const std::size_t last = nest.ndim - 1;
  joins_rows_ =
      across_ + 1 == last && lengths_.piece == nest.shape[last] && lengths_.piece * rows_.piece <= most_elements;
  // Rows that are a power of two apart would share few sets of the cache.
  buffer_step_ = lengths_.piece * size_;
  if (buffer_step_ >= tile_line_bytes && !joins_rows_) buffer_step_ += cache_line;
  position_step_ = 1;
  for (std::size_t i = across_ + 1; i < nest.ndim; ++i) position_step_ *= nest.shape[i];
  outer_ = nest.count / nest.shape[across_] / nest.shape[last];
}

// Rows across the dimension in which the source's elements are nearest to each other, if that is not the innermost.
void Tiling::choose_transposed(std::int64_t most_elements, std::size_t to_size) noexcept {
  const std::size_t last = nest_.ndim - 1;
  std::int64_t nearest = distance(nest_.source_strides[last]);
  for (std::size_t i = 0; i < last; ++i) {
    const std::int64_t step = distance(nest_.source_strides[i]);
    if (step == 0 || step >= nearest) continue;
    nearest = step;
    across_ = i;
    pays_ = true;
  }
  const std::int64_t length = nest_.shape[last];
  pays_ = pays_ && length >= shortest_tile_row;
  if (!pays_) return;

  // Whole cache lines of the source across, and rows as long as the buffer allows.
  const std::int64_t rows = nest_.shape[across_];
  constexpr auto budget = static_cast<std::int64_t>(tile_bytes);
  const std::int64_t line = std::max(cache_line / std::max(nearest, size_), std::int64_t{1});
  const std::int64_t few = std::min(rows, std::max(tile_line_bytes / std::max(nearest, size_), fewest_rows));
  const std::int64_t longest = whole(std::min(most_elements, budget / (few * size_)), cache_line);
  lengths_ = {length, std::min(length, longest), 0};
  std::int64_t most_rows = budget / (lengths_.piece * size_);
  if (across_ + 1 == last && length < short_row) most_rows = std::min(most_rows, most_elements / length);
  rows_ = {rows, std::min(rows, whole(most_rows, std::min(line, most_rows))), 0};
  if (rows_.piece < rows && rows_.piece >= line) {
    rows_.shift = shift_to_line(nest_.source, nest_.source_strides[across_]) % line;
  }
  const std::int64_t written = nest_.destination_strides[last];
  if (lengths_.piece < length && nest_.destination != nullptr && written == static_cast<std::int64_t>(to_size)) {
    lengths_.shift = shift_to_line(nest_.destination, written);
  }
}

// Short rows, several at once.
void Tiling::choose_joined(std::int64_t most_elements) noexcept {
  const std::size_t last = nest_.ndim - 1;
  const std::int64_t length = nest_.shape[last];
  const bool is_run = nest_.source_strides[last] == size_ && length * size_ >= longest_plain_row;
  if (length >= short_row || is_run) return;
  across_ = last - 1;
  const std::int64_t rows = nest_.shape[across_];
  const std::int64_t most = std::min(most_elements, static_cast<std::int64_t>(tile_bytes) / size_);
  rows_ = {rows, std::min(rows, most / length), 0};
  lengths_ = {length, length, 0};
  pays_ = rows_.piece * length >= short_row;
}

Tile Tiling::tile(std::int64_t index) const noexcept {
  const std::size_t last = nest_.ndim - 1;
  const std::int64_t row_piece = index % rows_.count();
  index /= rows_.count();
  const std::int64_t length_piece = index % lengths_.count();
  index /= lengths_.count();

  const std::int64_t row = rows_.begin(row_piece);
  const std::int64_t element = lengths_.begin(length_piece);
  Tile tile{.source = nest_.source + row * nest_.source_strides[across_] + element * nest_.source_strides[last],
            .destination = nest_.destination,
            .position = row * position_step_ + element,
            .rows = rows_.size(row_piece),
            .length = lengths_.size(length_piece)};
  std::int64_t to = row * nest_.destination_strides[across_] + element * nest_.destination_strides[last];
  std::int64_t elements = nest_.shape[last];  // of one step in the dimension
  for (std::size_t i = last; i-- > 0;) {
    if (i != across_) {
      const std::int64_t at = index % nest_.shape[i];
      index /= nest_.shape[i];
      tile.source += at * nest_.source_strides[i];
      tile.position += at * elements;
      to += at * nest_.destination_strides[i];
    }
    elements *= nest_.shape[i];
  }
  if (tile.destination != nullptr) tile.destination += to;
  if (row_piece + 1 < rows_.count()) {
    tile.next = tile.source + tile.rows * nest_.source_strides[across_];
  } else if (length_piece + 1 < lengths_.count()) {
    tile.next = tile.source - row * nest_.source_strides[across_] + tile.length * nest_.source_strides[last];
  }
  return tile;
}

void Tiling::load(const Mover& from, const Tile& tile, std::byte* buffer) const noexcept {
  const std::size_t last = nest_.ndim - 1;
  Lines lines{.source = tile.source,
              .line_step = nest_.source_strides[last],
              .element_step = nest_.source_strides[across_],
              .lines = static_cast<std::size_t>(tile.length),
              .width = static_cast<std::size_t>(tile.rows),
              .next = tile.next};
  std::int64_t row_step = buffer_step_;
  if (lines.element_step == -size_) {  // read upwards, and begin with the last row
    lines.source += lines.element_step * (tile.rows - 1);
    lines.element_step = size_;
    if (tile.next != nullptr) lines.next = tile.next - size_ * (tile.rows - 1);
    buffer += row_step * (tile.rows - 1);
    row_step = -row_step;
  }
  from.transpose(lines, buffer, row_step);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
