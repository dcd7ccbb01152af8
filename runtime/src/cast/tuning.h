// Numbers that decide how a pass is run, each with what it was chosen from. None of them changes a bit of the result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace detail {

// Components of a block between two stages: 4 KiB of float32, so that a block's buffers, its source and its destination
// stay in a first-level cache of 32 KiB with what is fetched meanwhile. float32 -> bfloat16 of 64 Mi with counts took
// 0.28 to 0.36 ns an element with 1024, 0.31 to 0.39 with 2048, 0.33 to 0.37 with 512 (2-core AMD EPYC Milan virtual
// machine, 2026-11-25, three rounds in turns); in the cache the calls show at 512.
inline constexpr std::size_t block_components = 1024;

// Bytes over which the elements of a block lie that is swapped or gathered on its way to a streaming loop: little, so
// that reading and writing take turns often. To bfloat16, fields of 24-byte records took 0.9 of the time of blocks of
// 1024 elements, every second column 0.97 (2-core AMD EPYC Milan virtual machine, 2026-11-26, medians of 31 in turns).
inline constexpr std::int64_t streamed_block_bytes = 2048;

// Rows shorter than this are gathered into common blocks; longer ones are blocks of their own, read and written in
// place where their elements are contiguous.
inline constexpr std::int64_t short_row = 64;
// The same where the rows follow each other in the destination: a block of many is converted and written at once.
inline constexpr std::int64_t short_dense_row = 256;

// Bytes of a tile of a transposed source: small enough for a second-level cache to hold it with all else. Its rows take
// this many bytes of each line of the source, where it has them. float32 -> bfloat16 of 4096 x 4096, transposed, on one
// thread and on two: 20 and 14 ms with 32 KiB and 256 bytes, 19 and 12 with 64 KiB and 256, 14 and 10 with 128 KiB and
// 512, 16 and 10 with 128 KiB and 1024 (2-core AMD EPYC Milan virtual machine, 2026-11-25, medians of 21).
inline constexpr std::size_t tile_bytes = std::size_t{128} << 10;
inline constexpr std::int64_t tile_line_bytes = 512;
// Elements of a row below which it is better to gather them one by one.
inline constexpr std::int64_t shortest_tile_row = 16;

// Bytes read and written below which a pass stays on the calling thread: a second one has to be woken. int64 -> int32
// on one thread and on two of torch's, in us: calls that follow each other 9.6 and 11.8 for 384 KiB, 18 and 12 for 768
// KiB, 57 and 41 for 3 MiB; 10 ms after the last one, when the other thread sleeps, 62 and 152, 82 and 130, 219 and 223
// (2-core AMD EPYC Milan virtual machine, 2026-11-26, medians of 40).
inline constexpr std::size_t parallel_bytes = std::size_t{512} << 10;

// Bytes read and written that are worth one more thread, beyond the second: a core needs about 20 us for so many (at
// the 19e9 source bytes a second of float32 -> bfloat16 that calibrate() found on a virtual machine of 16 cores),
// several times what waking a thread is presumed to take. Assumed; the times of passes on more than two threads are not
// measured.
inline constexpr std::size_t thread_bytes = std::size_t{384} << 10;

// Bytes of one task of a parallel pass: small enough that a thread that comes late leaves little to wait for.
inline constexpr std::size_t task_bytes = std::size_t{128} << 10;
inline constexpr std::size_t tasks_per_thread = 8;

// Bytes of a run of the destination from which it may be written past the caches: shorter ones end within cache lines
// too often.
inline constexpr std::int64_t shortest_streamed_run = 256;

// Passes that read and write so many bytes write past the caches: 5/8 of the last-level cache. Below, the lines that a
// plain store fetches are there already, and whoever reads the result next finds it there. Above, the source alone
// drives the result out. With 32 MiB of cache, casts that read 16 MiB and write 4 or 8 took 0.71 to 0.73 of the time of
// plain stores, 8 to 8 MiB 1.8 of it (2-core AMD EPYC Milan virtual machine, 2026-11-25, medians of 60 in turns).
[[nodiscard]] std::size_t streaming_bytes() noexcept;

// Bytes of the last-level cache that one processor uses, from the directory in which Linux describes its caches; 0 if
// it does not.
[[nodiscard]] std::size_t last_level_cache(const char* directory) noexcept;

// Bytes that a streaming loop fetches ahead of where it reads. float32 -> bfloat16 and float32 -> float8_e4m3fn of 4 Mi
// took 0.7 to 0.8 of the time with 2 or 4 KiB that they took with 1 KiB; from 16 Mi on all three were as fast (2-core
// AMD EPYC Milan virtual machine, 2026-11-26, medians of rounds in turns, pages of 4 KiB and of 2 MiB, several
// alignments).
inline constexpr std::size_t streams_ahead = std::size_t{2} << 10;

// Rows of a batch shorter than this are written through the caches, however large the batch: each streamed run ends
// with a fence.
inline constexpr std::size_t streaming_row_bytes = std::size_t{16} << 10;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
