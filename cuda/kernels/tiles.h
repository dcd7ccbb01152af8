// The nest that a source and a destination have in common, and whether tiles pay in it.
#pragma once

#include <cstdint>
#include <optional>

#include "job.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// None where both sides lie closest along the same axis, or where the launch is no whole number of planes.
[[nodiscard]] std::optional<Tiles> tiles_of(const Conversion& work, const tuning::Numbers& numbers) noexcept;

// Lays the rows of a tile out in shared memory, of elements of `size` bytes that are accessed as scalars of `scalar`
// bytes, as many as `most_bytes` hold, and counts the tiles.
void pad(Tiles& tiles, std::uint32_t size, std::uint32_t scalar, std::uint32_t most_bytes) noexcept;

// The planes of the launch.
[[nodiscard]] std::uint64_t outer_count(const Tiles& tiles, const Conversion& work) noexcept;

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
