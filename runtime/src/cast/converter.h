// The stages of a pass, block by block, for one thread. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "flagged.h"
#include "mover.h"
#include "nest.h"
#include "pass.h"
#include "route.h"
#include "scratch.h"
#include "tiling.h"
#include "transform.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Works through a part of a nest. Its blocks lie in the scratch memory. Where there is none to be had, they are short,
// and tiles are read row by row: slower, with the same result.
class Converter {
 public:
  Converter(const Pass& pass, Tally* tally, Scratch& scratch) noexcept;

  // Elements from `begin` to `end` in the order of the nest; tiles, where the nest is walked in tiles.
  void run(std::int64_t begin, std::int64_t end) noexcept;

  // The most elements that are converted at once.
  [[nodiscard]] static std::int64_t block_of(const Route& route) noexcept {
    const bool pairs = is_complex(route.from) || is_complex(route.to);
    const std::size_t components = pairs ? block_components / 2 : block_components;
    return static_cast<std::int64_t>(wide_size(route.wide) == sizeof(float) ? components : components / 2);
  }

 private:
  void run_contiguous(std::int64_t begin, std::int64_t end) noexcept;
  void run_strided(std::int64_t begin, std::int64_t end) noexcept;
  [[nodiscard]] bool streams_rows() const noexcept;
  [[nodiscard]] std::int64_t streamed_block(std::int64_t stride) const noexcept;
  void run_tiles(std::int64_t begin, std::int64_t end) noexcept;
  void run_rows(std::int64_t begin, std::int64_t end) noexcept;
  const std::byte* gather(Cursor<const std::byte>& in, std::size_t n) noexcept;
  const std::byte* convert_block(const std::byte* source, std::byte* run, std::int64_t position,
                                 std::size_t n) noexcept;
  void deliver(const std::byte* elements, std::byte* run, std::size_t n, const std::byte* next,
               std::size_t next_bytes) noexcept;
  void scatter(const std::byte* elements, Cursor<std::byte>& out, std::size_t n) noexcept;
  const std::byte* decode(const std::byte* source, std::size_t n) noexcept;
  void encode(const std::byte* values, std::byte* encoded, std::int64_t position, std::size_t n) noexcept;
  [[nodiscard]] bool shares_coefficients() const noexcept;
  template <class Work>
  void in_channels(std::int64_t position, std::size_t n, const Work& work) noexcept;
  const std::byte* transformed(const std::byte* values, std::int64_t position, std::size_t n) noexcept;
  void convert_affine(const std::byte* source, std::byte* encoded, std::int64_t position, std::size_t n) noexcept;
  void find_lanes(std::int64_t position, std::size_t n) noexcept;
  void encode_and_count(const std::byte* values, std::byte* encoded, std::int64_t position, std::size_t n) noexcept;
  void encode_and_flag(const std::byte* values, std::byte* encoded, std::int64_t position, std::size_t n) noexcept;
  void locate_first_loss(const std::byte* values, std::int64_t begin, std::int64_t end) noexcept;
  std::uint64_t add(const Counts& counts, std::size_t n) noexcept;
  void add_losses(std::uint64_t losses, convert::Flags watched, std::int64_t position, std::size_t n) noexcept;

  [[nodiscard]] std::int64_t first_flagged(convert::Flags watched, std::size_t n) const noexcept;

  // Whether the first loss of all may be in a block that begins there: it may, unless one is known before.
  [[nodiscard]] bool may_be_first(std::int64_t position) const noexcept {
    return tally_->first_loss < 0 || position < tally_->first_loss;
  }
  // Whether nothing is between the source's components and the destination's but their conversion.
  [[nodiscard]] bool is_plain_pair() const noexcept {
    return !pass_.counts && !route_.copies && pass_.transform == nullptr && from_complex() == to_complex();
  }

  // Whether one loop does all stages: then decode() leaves the elements as they are.
  [[nodiscard]] bool fuses_affine() const noexcept { return route_.fused_affine != nullptr && !pass_.counts; }
  [[nodiscard]] FlaggedRounding flagged_rounding() const noexcept {
    return {.nearest = route_.nearest, .lanes = route_.stochastic != nullptr ? lanes_ : nullptr};
  }
  [[nodiscard]] bool from_complex() const noexcept { return is_complex(route_.from); }
  [[nodiscard]] bool to_complex() const noexcept { return is_complex(route_.to); }
  // What a block has room for, and the bytes of all that it takes.
  [[nodiscard]] std::size_t components_of_block() const noexcept {
    return static_cast<std::size_t>(block_) * (from_complex() || to_complex() ? 2 : 1);
  }
  [[nodiscard]] std::size_t blocks_size(bool varies) const noexcept {
    return components_of_block() * (component_bytes + (varies ? varying_bytes : 0));
  }
  [[nodiscard]] std::byte* imaginary() noexcept { return parts_ + components_of_block() / 2 * sizeof(double); }
  // Whether elements are encoded where they belong. What lies between is a buffer where they are yet to be swapped, or
  // still to be read.
  [[nodiscard]] bool encodes_into_place() const noexcept {
    return pass_.nest.destination != nullptr && !route_.copies && !pass_.streams && !pass_.in_place && !to_.swaps();
  }
  // Whether one loop converts elements and writes them past the caches to this run.
  [[nodiscard]] bool streams_into(const std::byte* run) const noexcept {
    return streams_plainly_into(run) || (streams_affine_ && run != nullptr && is_aligned(run));
  }
  [[nodiscard]] bool streams_plainly_into(const std::byte* run) const noexcept {
    return pass_.streamed != nullptr && run != nullptr && is_plain_pair() && is_aligned(run);
  }
  [[nodiscard]] bool is_aligned(const std::byte* run) const noexcept {
    return reinterpret_cast<std::uintptr_t>(run) % pass_.to.size == 0;
  }

  const Pass& pass_;
  const Route& route_;
  Tally* tally_;
  Mover from_;
  Mover to_;
  bool streams_affine_;      // a loop streams what is scaled and shifted
  std::size_t periods_ = 0;  // pairs of coefficients in `scales_` and `shifts_` that stand for the axis again and again

  // Four buffers of components of at most 8 bytes, lanes and flags; coefficients of up to two blocks.
  static constexpr std::size_t component_bytes = 4 * sizeof(double) + sizeof(std::uint16_t) + sizeof(convert::Flags);
  static constexpr std::size_t varying_bytes = 4 * sizeof(double);
  static_assert(Tiling::most_buffer_bytes + block_components * (component_bytes + varying_bytes) <=
                Scratch::most_bytes);
  // A block where there is no memory for more.
  static constexpr std::int64_t short_block = 128;
  static_assert(2 * short_block * component_bytes <= Scratch::near_bytes);  // pairs; they have no coefficients
  static_assert(short_block * (component_bytes + varying_bytes) <= Scratch::near_bytes);

  // The most elements that are converted at once, and room for as many: of the source, of wide components, of the
  // target, and what else a stage reads or writes for each component.
  std::int64_t block_;
  std::byte* gathered_;
  std::byte* wide_;
  std::byte* parts_;
  std::byte* encoded_;
  convert::Flags* flags_;
  // Of a transform: lanes, and the coefficients of a block that begins anywhere in a period of the axis.
  std::uint16_t* lanes_;
  std::byte* scales_;
  std::byte* shifts_;
  std::byte* tile_;  // nullptr: there is no memory for tiles
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
