// How the chunks of a staged transfer grow: of 1, 1, 2, 4 .. parts, which are a whole chunk together, and then whole
// ones of 2, 4 or 8 parts. While the first is filled, by threads that are only just woken, nothing crosses (towards the
// host: while it crosses, nothing is emptied), so that it had better be small; in whole chunks what each costs beside
// its bytes is spread over as many as a slot holds. Whole ones begin at multiples of their size, so that kernels that
// turn planes around get whole planes. Private to the runtime and to what stages.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace detail {

// Chunks and parts are numbered from 0; chunk c consists of the parts [begin(c), begin(c + 1)).
class Ramp {
 public:
  Ramp() = default;
  // `whole`: parts of a whole chunk, a power of two; 1: all chunks are alike.
  constexpr explicit Ramp(std::uint64_t whole) noexcept : growing_(log2(whole)) {}

  [[nodiscard]] constexpr std::uint64_t parts(std::uint64_t chunk) const noexcept {
    return std::uint64_t{1} << std::min(chunk == 0 ? 0 : chunk - 1, growing_);
  }
  [[nodiscard]] constexpr std::uint64_t begin(std::uint64_t chunk) const noexcept {
    if (chunk <= growing_) return chunk == 0 ? 0 : std::uint64_t{1} << (chunk - 1);
    return (chunk - growing_) << growing_;
  }
  [[nodiscard]] constexpr std::uint64_t chunk_of(std::uint64_t part) const noexcept {
    if (part >> growing_ == 0) return part == 0 ? 0 : log2(part) + 1;
    return growing_ + (part >> growing_);
  }
  // Chunks of so many parts in all; the last may be cut short.
  [[nodiscard]] constexpr std::uint64_t chunks(std::uint64_t parts) const noexcept {
    return parts == 0 ? 0 : chunk_of(parts - 1) + 1;
  }

 private:
  // Rounded down, of at least 1.
  static constexpr std::uint64_t log2(std::uint64_t number) noexcept {
    return static_cast<std::uint64_t>(63 - std::countl_zero(number));
  }

  std::uint64_t growing_ = 0;  // doublings from a part to a whole chunk
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
