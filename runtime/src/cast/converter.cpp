#include "converter.h"

#include <algorithm>
#include <cstring>

#include "environment.h"
#include "flagged.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

using convert::Flags;

// Whether the next `n` elements are a run.
template <class Byte>
bool is_run(const Cursor<Byte>& cursor, std::size_t size, std::size_t n) noexcept {
  return cursor.run() >= static_cast<std::int64_t>(n) && (n == 1 || cursor.stride() == static_cast<std::int64_t>(size));
}

// Asks for what will be read soon.
void fetch(const std::byte* source, std::size_t bytes) noexcept {
#if defined(__GNUC__)
  constexpr std::size_t line = 64;
  for (std::size_t at = 0; at < bytes; at += line) __builtin_prefetch(source + at);
#else
  static_cast<void>(source);
  static_cast<void>(bytes);
#endif
}

// What a streaming loop reads first of so many bytes: it fetches ahead of where it is, but not what is there when it
// begins. float32 -> bfloat16 of rows of 8 and 16 KiB, the latter in reversed order: 0.28 instead of 0.37 ns an
// element, and 0.24 instead of 0.28; one run of all takes 0.21 (2-core AMD EPYC Milan virtual machine, 2026-11-26,
// medians of 25).
void fetch_beginning(const std::byte* source, std::size_t bytes) noexcept {
  fetch(source, std::min(bytes, streams_ahead));
}

}  // namespace

Converter::Converter(const Pass& pass, Tally* tally, Scratch& scratch) noexcept
    : pass_(pass),
      route_(pass.route),
      tally_(tally),
      from_(pass.kernels, pass.from.size, pass.from.swap_unit),
      to_(pass.kernels, pass.to.size, pass.to.swap_unit),
      streams_affine_(pass.streams && !pass.in_place && !to_.swaps() && fuses_affine() && shares_coefficients()) {
  constexpr std::int64_t line = 64;
  const bool varies = pass.transform != nullptr && pass.transform->varies;
  const bool tiles = !pass.contiguous && pass.tiling.pays();
  // Without blocks longer than all elements: small casts do with little.
  block_ = std::min(block_of(route_), (pass.nest.count + line - 1) / line * line);
  const std::size_t tile_size = tiles ? (pass.tiling.buffer_size() + line - 1) / line * line : 0;
  std::byte* memory = scratch.get(tile_size + blocks_size(varies));
  tile_ = tiles ? memory : nullptr;
  if (memory == nullptr) {
    block_ = std::min(block_, short_block);
    memory = scratch.get_near();
  } else {
    memory += tile_size;
  }
  const auto take = [&memory](std::size_t bytes) {
    std::byte* const place = memory;
    memory += bytes;
    return place;
  };
  const std::size_t components = components_of_block();
  gathered_ = take(components * sizeof(double));
  wide_ = take(components * sizeof(double));
  parts_ = take(components * sizeof(double));
  encoded_ = take(components * sizeof(double));
  lanes_ = reinterpret_cast<std::uint16_t*>(take(components * sizeof(std::uint16_t)));
  flags_ = reinterpret_cast<Flags*>(take(components * sizeof(Flags)));
  scales_ = varies ? take(2 * components * sizeof(double)) : nullptr;
  shifts_ = varies ? take(2 * components * sizeof(double)) : nullptr;
}

void Converter::run(std::int64_t begin, std::int64_t end) noexcept {
  const DefaultFloatEnvironment environment;
  if (pass_.contiguous) {
    run_contiguous(begin, end);
  } else if (pass_.tiling.pays()) {
    tile_ != nullptr ? run_tiles(begin, end) : run_rows(begin, end);
  } else {
    run_strided(begin, end);
  }
  if (pass_.streams) order_streamed_stores();
}

void Converter::run_contiguous(std::int64_t begin, std::int64_t end) noexcept {
  const std::byte* source = pass_.nest.source + begin * static_cast<std::int64_t>(pass_.from.size);
  std::byte* destination = pass_.nest.destination;
  if (destination != nullptr) destination += begin * static_cast<std::int64_t>(pass_.to.size);
  const auto count = static_cast<std::size_t>(end - begin);
  if (streams_plainly_into(destination) && !from_.swaps()) return pass_.streamed(source, destination, count);
  if (pass_.streamed_counted != nullptr && pass_.counts && is_aligned(destination)) {
    Counts counts;
    pass_.streamed_counted(source, destination, count, route_.saturate, counts);
    const std::uint64_t losses = add(counts, count);
    if (losses > 0) locate_first_loss(source, begin, end);
    tally_->losses += losses;
    return;
  }
  const bool direct = encodes_into_place();
  if (direct && !from_.swaps() && is_plain_pair()) {
    convert_block(source, destination, begin, count);
    return;
  }
  const std::int64_t most =
      from_.swaps() && streams_into(destination) ? streamed_block(static_cast<std::int64_t>(pass_.from.size)) : block_;
  for (std::int64_t at = begin; at < end;) {
    std::int64_t some = std::min(most, end - at);
    if (pass_.streams && some < end - at) some = streamed_at_once(destination, some, pass_.to.size);
    at += some;
    const auto n = static_cast<std::size_t>(some);
    if (from_.swaps()) from_.swap(source, gathered_, n);
    const std::byte* const native = from_.swaps() ? gathered_ : source;
    std::byte* const place = direct || streams_into(destination) ? destination : encoded_;
    if (place != encoded_) fetch(source + n * pass_.from.size, n * pass_.from.size);
    const std::byte* const converted = convert_block(native, place, at - some, n);
    source += n * pass_.from.size;
    if (destination != nullptr) {
      const std::int64_t following = std::min(most, end - at);
      deliver(converted, destination, n, source, static_cast<std::size_t>(following) * pass_.from.size);
      destination += n * pass_.to.size;
    }
  }
}

void Converter::run_strided(std::int64_t begin, std::int64_t end) noexcept {
  const Nest& nest = pass_.nest;
  const bool writes = nest.destination != nullptr;
  const bool encodes = encodes_into_place();
  const bool rows_are_blocks = nest.shape[nest.ndim - 1] >= (pass_.dense ? short_dense_row : short_row);
  Cursor<const std::byte> in(nest, nest.source_strides, nest.source, begin);
  // Where nothing is written there is no memory to move in.
  Cursor<std::byte> out(nest, nest.destination_strides, nest.destination, writes ? begin : 0);
  // What one loop streams takes no buffer: as much at once as there is.
  const bool whole_rows = rows_are_blocks && streams_rows();
  const std::int64_t piece = rows_are_blocks && pass_.streams ? streamed_block(in.stride()) : block_;
  const std::int64_t most = whole_rows ? end - begin : piece;
  for (std::int64_t at = begin; at < end;) {
    std::int64_t some = std::min(end - at, most);
    if (rows_are_blocks) some = std::min(some, in.run());
    std::byte* run = nullptr;  // where these elements belong, if that is a run
    if (pass_.dense) {
      run = nest.destination + at * static_cast<std::int64_t>(pass_.to.size);
      if (pass_.streams && some < end - at) some = streamed_at_once(run, some, pass_.to.size);
    }
    const auto n = static_cast<std::size_t>(some);
    if (whole_rows) fetch_beginning(in.following_row(), n * pass_.from.size);
    if (!pass_.dense && writes && is_run(out, pass_.to.size, n)) run = out.get();
    const std::byte* const source = gather(in, n);
    std::byte* const place = (encodes && run != nullptr) || streams_into(run) ? run : encoded_;
    const std::byte* const converted = convert_block(source, place, at, n);
    if (run != nullptr) {
      deliver(converted, run, n, nullptr, 0);
      if (!pass_.dense) out.advance(some);
    } else if (writes) {
      scatter(converted, out, n);
    }
    at += some;
  }
}

// As many elements, `stride` bytes apart, as are gathered or swapped before they are streamed.
std::int64_t Converter::streamed_block(std::int64_t stride) const noexcept {
  return std::min(block_, std::max(streamed_block_bytes / std::max(distance(stride), std::int64_t{1}), short_row));
}

// Whether one loop takes rows from where they are to where they belong.
bool Converter::streams_rows() const noexcept {
  const Nest& nest = pass_.nest;
  const std::size_t last = nest.ndim - 1;
  if (!streams_plainly_into(nest.destination) || from_.swaps()) return false;
  if (nest.source_strides[last] != static_cast<std::int64_t>(pass_.from.size)) return false;
  const auto size = static_cast<std::int64_t>(pass_.to.size);
  return std::all_of(nest.destination_strides.begin(),
                     nest.destination_strides.begin() + static_cast<std::ptrdiff_t>(nest.ndim),
                     [size](std::int64_t stride) { return stride % size == 0; });
}

void Converter::run_tiles(std::int64_t begin, std::int64_t end) noexcept {
  const Tiling& tiling = pass_.tiling;
  const auto to_size = static_cast<std::int64_t>(pass_.to.size);
  const std::int64_t stride = pass_.nest.destination_strides[pass_.nest.ndim - 1];
  const bool encodes = encodes_into_place();
  for (std::int64_t index = begin; index < end; ++index) {
    const Tile tile = tiling.tile(index);
    tiling.load(from_, tile, tile_);
    // What is converted at once is a run of the nest: a row, or all of them.
    const bool joined = tiling.joins_rows();
    const std::int64_t pieces = joined ? 1 : tile.rows;
    const std::int64_t rows = joined ? tile.rows : 1;
    const auto n = static_cast<std::size_t>(rows * tile.length);
    const bool is_run = tile.destination != nullptr && (stride == to_size || tile.length == 1) &&
                        (rows == 1 || tiling.destination_step() == tile.length * to_size);
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      std::byte* const source = tile_ + piece * tiling.buffer_step();
      std::byte* const destination =
          tile.destination != nullptr ? tile.destination + piece * tiling.destination_step() : nullptr;
      if (from_.swaps()) from_.swap(source, source, n);
      std::byte* const place = is_run && (encodes || streams_into(destination)) ? destination : encoded_;
      const std::byte* const converted =
          convert_block(source, place, tile.position + piece * tiling.position_step(), n);
      if (is_run) {
        deliver(converted, destination, n, nullptr, 0);
      } else if (destination != nullptr) {
        for (std::int64_t row = 0; row < rows; ++row) {
          to_.scatter(converted + row * tile.length * to_size, destination + row * tiling.destination_step(), stride,
                      static_cast<std::size_t>(tile.length));
        }
      }
    }
  }
}

// The same without a buffer for tiles.
void Converter::run_rows(std::int64_t begin, std::int64_t end) noexcept {
  const Tiling& tiling = pass_.tiling;
  const std::size_t last = pass_.nest.ndim - 1;
  const std::int64_t from_stride = pass_.nest.source_strides[last];
  const std::int64_t to_stride = pass_.nest.destination_strides[last];
  for (std::int64_t index = begin; index < end; ++index) {
    const Tile tile = tiling.tile(index);
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      const std::byte* const source = tile.source + row * tiling.source_step();
      const std::int64_t position = tile.position + row * tiling.position_step();
      for (std::int64_t at = 0; at < tile.length; at += block_) {
        const auto n = static_cast<std::size_t>(std::min(block_, tile.length - at));
        from_.gather(source + at * from_stride, from_stride, gathered_, n);
        const std::byte* const converted = convert_block(gathered_, encoded_, position + at, n);
        if (tile.destination == nullptr) continue;
        to_.scatter(converted, tile.destination + row * tiling.destination_step() + at * to_stride, to_stride, n);
      }
    }
  }
}

// The next `n` source elements, contiguous and in the machine's byte order.
const std::byte* Converter::gather(Cursor<const std::byte>& in, std::size_t n) noexcept {
  const auto wanted = static_cast<std::int64_t>(n);
  if (in.run() >= wanted) {
    const std::byte* const place = in.get();
    const bool usable = !from_.swaps() && is_run(in, pass_.from.size, n);
    if (!usable) from_.gather(place, in.stride(), gathered_, n);
    in.advance(wanted);
    return usable ? place : gathered_;
  }
  for (std::size_t done = 0; done < n;) {
    const std::int64_t some = std::min(wanted - static_cast<std::int64_t>(done), in.run());
    from_.gather(in.get(), in.stride(), gathered_ + done * pass_.from.size, static_cast<std::size_t>(some));
    in.advance(some);
    done += static_cast<std::size_t>(some);
  }
  return gathered_;
}

// Native elements to native elements of the target, which begin at the position in the nest: in `run`, which is theirs
// in the destination or `encoded_`, or the source itself where the dtypes are the same.
const std::byte* Converter::convert_block(const std::byte* source, std::byte* run, std::int64_t position,
                                          std::size_t n) noexcept {
  if (run != encoded_ && streams_plainly_into(run)) {
    pass_.streamed(source, run, n);
  } else if (is_plain_pair()) {
    convert(route_, source, run, from_complex() ? 2 * n : n);
  } else {
    encode(decode(source, n), run, position, n);
  }
  return route_.copies ? source : run;
}

// Native elements to a run in the destination, unless they are there. What is read next may be fetched meanwhile.
void Converter::deliver(const std::byte* elements, std::byte* run, std::size_t n, const std::byte* next,
                        std::size_t next_bytes) noexcept {
  if (!pass_.streams) return to_.scatter(elements, run, static_cast<std::int64_t>(pass_.to.size), n);
  if (elements == run) return;
  if (to_.swaps()) {
    to_.swap(elements, encoded_, n);
    elements = encoded_;
  }
  pass_.kernels.stream(run, elements, n * pass_.to.size, next, next_bytes);
}

// Native elements to where they belong.
void Converter::scatter(const std::byte* elements, Cursor<std::byte>& out, std::size_t n) noexcept {
  const auto wanted = static_cast<std::int64_t>(n);
  for (std::int64_t done = 0; done < wanted;) {
    const std::int64_t some = std::min(wanted - done, out.run());
    to_.scatter(elements + done * static_cast<std::int64_t>(pass_.to.size), out.get(), out.stride(),
                static_cast<std::size_t>(some));
    out.advance(some);
    done += some;
  }
}

// The block in the wide type, with the number of components that the target has. All-zero bits are 0 in every wide
// type.
const std::byte* Converter::decode(const std::byte* source, std::size_t n) noexcept {
  const std::byte* values = source;
  if (route_.decode != nullptr && !fuses_affine()) {
    route_.decode(source, wide_, from_complex() ? 2 * n : n);
    values = wide_;
  }
  if (from_complex() == to_complex()) return values;
  const std::size_t size = wide_size(route_.wide);
  const auto single = static_cast<std::int64_t>(size);
  const auto count = static_cast<std::int64_t>(n);
  if (to_complex()) {
    std::memset(parts_, 0, 2 * n * size);
    copy_run(values, single, parts_, 2 * single, count, size);
  } else {
    copy_run(values, 2 * single, parts_, single, count, size);
    copy_run(values + size, 2 * single, imaginary(), single, count, size);
  }
  return parts_;
}

void Converter::encode(const std::byte* values, std::byte* encoded, std::int64_t position, std::size_t n) noexcept {
  if (fuses_affine()) return convert_affine(values, encoded, position, n);
  if (pass_.transform != nullptr) values = transformed(values, position, n);
  const bool both_parts_matter = from_complex() && route_.to == boolean;
  if (pass_.counts) {
    if (from_complex() || to_complex()) {
      encode_and_flag(values, encoded, position, n);
    } else {
      encode_and_count(values, encoded, position, n);
    }
  } else {
    const std::size_t components = to_complex() ? 2 * n : n;
    if (route_.stochastic != nullptr) {
      route_.stochastic(values, encoded, lanes_, components, route_.saturate);
    } else if (route_.encode != nullptr) {
      route_.encode(values, encoded, components);
    } else {
      std::memcpy(encoded, values, components * route_.to_size);
    }
  }
  if (both_parts_matter) {
    // x != 0 when either part is not 0.
    std::byte others[block_components];
    route_.encode(imaginary(), others, n);
    for (std::size_t i = 0; i < n; ++i) encoded[i] |= others[i];
  }
}

void Converter::encode_and_count(const std::byte* values, std::byte* encoded, std::int64_t position,
                                 std::size_t n) noexcept {
  Counts counts;
  if (route_.stochastic != nullptr) {
    route_.stochastic_counted(values, encoded, lanes_, n, route_.saturate, counts);
  } else {
    route_.counted(values, encoded, n, route_.saturate, counts);
  }
  const std::uint64_t losses = add(counts, n);
  if (losses == 0) return;
  if (may_be_first(position)) {
    encode_flagged(route_.to, route_.wide, values, encoded, flags_, n, route_.saturate, flagged_rounding());
  }
  add_losses(losses, tally_->watched & route_.possible, position, n);
}

// Returns how many of them are losses.
std::uint64_t Converter::add(const Counts& counts, std::size_t n) noexcept {
  tally_->report += {n, counts.nan, counts.overflow, counts.underflow, counts.inexact};
  const Flags watched = tally_->watched & route_.possible;
  // No element has two of these, so that their counts add up.
  std::uint64_t losses = 0;
  if ((watched & convert::overflow) != 0) losses += counts.overflow;
  if ((watched & convert::inexact) != 0) losses += counts.inexact;
  if ((watched & convert::nan_dropped) != 0) losses += counts.nan;
  return losses;
}

// Among contiguous values of the wide type.
void Converter::locate_first_loss(const std::byte* values, std::int64_t begin, std::int64_t end) noexcept {
  const Flags watched = tally_->watched & route_.possible;
  const std::int64_t most = block_;
  for (std::int64_t at = begin; at < end; at += most) {
    const auto n = static_cast<std::size_t>(std::min(most, end - at));
    encode_flagged(route_.to, route_.wide, values, encoded_, flags_, n, route_.saturate);
    const std::int64_t first = first_flagged(watched, n);
    if (first < static_cast<std::int64_t>(n)) {
      tally_->first_loss = at + first;
      return;
    }
    values += n * wide_size(route_.wide);
  }
}

// Where there are losses and none is known before them, `flags_` holds those of the block. Tiles come in any order.
void Converter::add_losses(std::uint64_t losses, Flags watched, std::int64_t position, std::size_t n) noexcept {
  tally_->losses += losses;
  if (losses == 0 || !may_be_first(position)) return;
  tally_->first_loss = position + first_flagged(watched, n);
}

// The first element of a block with one of the flags; `n` if none has.
std::int64_t Converter::first_flagged(Flags watched, std::size_t n) const noexcept {
  return std::find_if(flags_, flags_ + n, [watched](Flags f) { return (f & watched) != 0; }) - flags_;
}

// Complex elements count once for both parts, which takes the flags of each.
void Converter::encode_and_flag(const std::byte* values, std::byte* encoded, std::int64_t position,
                                std::size_t n) noexcept {
  encode_flagged(route_.to, route_.wide, values, encoded, flags_, to_complex() ? 2 * n : n, route_.saturate,
                 flagged_rounding());
  if (to_complex()) {
    for (std::size_t i = 0; i < n; ++i) flags_[i] = flags_[2 * i] | flags_[2 * i + 1];
  } else {
    flag_dropped_imaginary(route_.wide, imaginary(), flags_, n);
  }
  const auto count = [&](Flags mask) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += (flags_[i] & mask) != 0 ? 1U : 0U;
    return sum;
  };
  tally_->report +=
      {n, count(convert::saw_nan), count(convert::overflow), count(convert::underflow), count(convert::inexact)};
  const Flags watched = tally_->watched;
  add_losses(watched != 0 ? count(watched) : 0, watched, position, n);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
