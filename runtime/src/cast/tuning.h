// Numbers that decide how a pass is run, each with what it was chosen from. None of them changes a bit of the result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace detail {

// Components of a block between two stages: 8 KiB of float32, so that a block's buffers, its source and its destination
// stay in a first-level cache of 32 KiB. Larger ones gained nothing, at 512 the calls were a tenth of the time.
inline constexpr std::size_t block_components = 2048;

// Rows shorter than this are gathered into common blocks; longer ones are blocks of their own, read and written in
// place where their elements are contiguous.
inline constexpr std::int64_t short_row = 64;

// Bytes read and written below which a pass stays on the calling thread: a second one has to be woken.
inline constexpr std::size_t parallel_bytes = std::size_t{256} << 10;

// Bytes of one task of a parallel pass: small enough that a thread that comes late leaves little to wait for.
inline constexpr std::size_t task_bytes = std::size_t{128} << 10;
inline constexpr std::size_t tasks_per_thread = 8;

// Destinations from this size on are written past the caches. Half of the last-level cache: below, the lines that a
// plain store fetches are there already, and whoever reads the result next finds it there.
[[nodiscard]] std::size_t streaming_bytes() noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
