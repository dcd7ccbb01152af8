// How the chunks of a staged transfer grow: the first is of one part, each is of twice as many as the one before it, up
// to what a whole chunk has. Nothing crosses while the first chunk is filled, by threads that are only just woken, so
// that it had better be small; in whole chunks what each costs beside its bytes is spread over as many as a slot holds.
// Private to the runtime and to what stages.
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
    return std::uint64_t{1} << std::min(chunk, growing_);
  }
  [[nodiscard]] constexpr std::uint64_t begin(std::uint64_t chunk) const noexcept {
    if (chunk <= growing_) return (std::uint64_t{1} << chunk) - 1;
    return (std::uint64_t{1} << growing_) - 1 + ((chunk - growing_) << growing_);
  }
  [[nodiscard]] constexpr std::uint64_t chunk_of(std::uint64_t part) const noexcept {
    const std::uint64_t before = (std::uint64_t{1} << growing_) - 1;  // parts of those that grow
    return part < before ? log2(part + 1) : growing_ + ((part - before) >> growing_);
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

  std::uint64_t growing_ = 0;  // chunks before the first whole one
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
