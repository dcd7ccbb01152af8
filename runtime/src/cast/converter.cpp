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

// Whether the next `n` elements can be used where they are.
template <class Byte>
bool is_plain(const Elements& side, const Cursor<Byte>& cursor, std::size_t n) noexcept {
  return side.swap_unit == 1 && cursor.run() >= static_cast<std::int64_t>(n) &&
         (n == 1 || cursor.stride() == static_cast<std::int64_t>(side.size));
}

}  // namespace

void Converter::run(std::int64_t begin, std::int64_t end) noexcept {
  const DefaultFloatEnvironment environment;
  if (pass_.contiguous) {
    run_contiguous(begin, end);
  } else {
    run_strided(begin, end);
  }
}

void Converter::run_contiguous(std::int64_t begin, std::int64_t end) noexcept {
  const std::byte* source = pass_.nest.source + begin * static_cast<std::int64_t>(pass_.from.size);
  std::byte* destination = pass_.nest.destination;
  if (destination != nullptr) destination += begin * static_cast<std::int64_t>(pass_.to.size);
  const std::size_t components = from_complex() && to_complex() ? 2 : 1;
  const bool is_plain_pair = !pass_.counts && pass_.transform == nullptr && from_complex() == to_complex();
  if (is_plain_pair && !pass_.streams) {
    return convert(route_, source, destination, static_cast<std::size_t>(end - begin) * components);
  }
  const std::int64_t most = block();
  for (std::int64_t at = begin; at < end; at += most) {
    const auto n = static_cast<std::size_t>(std::min(most, end - at));
    const bool buffered = destination == nullptr || pass_.streams || route_.copies;
    std::byte* const encoded = buffered ? encoded_ : destination;
    if (is_plain_pair) {
      convert(route_, source, encoded, n * components);
    } else {
      encode(decode(source, n), encoded, at, n);
    }
    if (destination != nullptr) {
      const std::byte* const written = route_.copies ? source : encoded;
      const std::size_t bytes = n * pass_.to.size;
      if (pass_.streams) {
        const std::int64_t following = std::min(most, end - at - static_cast<std::int64_t>(n));
        pass_.kernels.stream(destination, written, bytes, source + n * pass_.from.size,
                             static_cast<std::size_t>(following) * pass_.from.size);
      } else if (buffered) {
        std::memcpy(destination, written, bytes);
      }
      destination += bytes;
    }
    source += n * pass_.from.size;
  }
  if (pass_.streams) order_streamed_stores();
}

void Converter::run_strided(std::int64_t begin, std::int64_t end) noexcept {
  const Nest& nest = pass_.nest;
  const bool writes = nest.destination != nullptr;
  const bool same = route_.copies;
  Cursor<const std::byte> in(nest, nest.source_strides, nest.source, begin);
  // Where nothing is written there is no memory to move in.
  Cursor<std::byte> out(nest, nest.destination_strides, nest.destination, writes ? begin : 0);
  for (std::int64_t at = begin; at < end;) {
    std::int64_t some = std::min(end - at, block());
    if (nest.shape[nest.ndim - 1] >= short_row) some = std::min(some, in.run());
    const auto n = static_cast<std::size_t>(some);

    const std::byte* const source = gather(in, n);
    const bool in_place = writes && !same && is_plain(pass_.to, out, n);
    std::byte* const encoded = in_place ? out.get() : encoded_;
    encode(decode(source, n), encoded, at, n);
    if (in_place) {
      out.advance(some);
    } else if (writes) {
      scatter(same ? source : encoded, out, n);
    }
    at += some;
  }
}

// The next `n` source elements, contiguous and in the machine's byte order.
const std::byte* Converter::gather(Cursor<const std::byte>& in, std::size_t n) noexcept {
  const Elements& from = pass_.from;
  const auto wanted = static_cast<std::int64_t>(n);
  if (is_plain(from, in, n)) {
    const std::byte* const place = in.get();
    in.advance(wanted);
    return place;
  }
  const auto size = static_cast<std::int64_t>(from.size);
  for (std::int64_t done = 0; done < wanted;) {
    const std::int64_t some = std::min(wanted - done, in.run());
    copy_run(in.get(), in.stride(), gathered_ + done * size, size, some, from.size);
    in.advance(some);
    done += some;
  }
  if (from.swap_unit > 1) swap_run(gathered_, size, wanted, from.size, from.swap_unit);
  return gathered_;
}

// `n` contiguous elements in the machine's byte order to where they belong.
void Converter::scatter(const std::byte* elements, Cursor<std::byte>& out, std::size_t n) noexcept {
  const Elements& to = pass_.to;
  const auto size = static_cast<std::int64_t>(to.size);
  const auto wanted = static_cast<std::int64_t>(n);
  for (std::int64_t done = 0; done < wanted;) {
    const std::int64_t some = std::min(wanted - done, out.run());
    std::byte* const place = out.get();
    copy_run(elements + done * size, size, place, out.stride(), some, to.size);
    if (to.swap_unit > 1) swap_run(place, out.stride(), some, to.size, to.swap_unit);
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
  Report& report = tally_->report;
  report.count += n;
  report.nan += counts.nan;
  report.overflow += counts.overflow;
  report.underflow += counts.underflow;
  report.inexact += counts.inexact;

  const Flags watched = tally_->watched & route_.possible;
  if (watched == 0) return;
  // No element has two of these, so that their counts add up.
  std::uint64_t losses = 0;
  if ((watched & convert::overflow) != 0) losses += counts.overflow;
  if ((watched & convert::inexact) != 0) losses += counts.inexact;
  if ((watched & convert::nan_dropped) != 0) losses += counts.nan;
  if (losses > 0 && tally_->first_loss < 0) {
    encode_flagged(route_.to, route_.wide, values, encoded, flags_, n, route_.saturate, flagged_rounding());
  }
  add_losses(losses, watched, position, n);
}

// Where there are losses and none was met before, `flags_` holds those of the block.
void Converter::add_losses(std::uint64_t losses, Flags watched, std::int64_t position, std::size_t n) noexcept {
  tally_->losses += losses;
  if (losses == 0 || tally_->first_loss >= 0) return;
  const Flags* const first = std::find_if(flags_, flags_ + n, [watched](Flags f) { return (f & watched) != 0; });
  tally_->first_loss = position + (first - flags_);
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
  Report& report = tally_->report;
  report.count += n;
  const auto count = [&](Flags mask) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += (flags_[i] & mask) != 0 ? 1U : 0U;
    return sum;
  };
  report.nan += count(convert::saw_nan);
  report.overflow += count(convert::overflow);
  report.underflow += count(convert::underflow);
  report.inexact += count(convert::inexact);
  const Flags watched = tally_->watched;
  add_losses(watched != 0 ? count(watched) : 0, watched, position, n);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
