// The numbers of the kernels, each with the reasoning that chose it and the experiment that would replace it. The
// experiments are a program, halfway_kernel_experiments (experiments.cu), and are named here as its lines are; unless
// they say otherwise they work in 256 MiB of the device's memory. Of two numbers that are within 2% of each other the
// smaller one is preferred. Measured so far, on an H100 (80 GB HBM3, 2963 GB/s where memory is copied), 2026-11-26: how
// fused kernels write, see `Cut`; the numbers are reasoning.
#pragma once

#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace tuning {

// Threads of a block. 256: a multiple of every scheduler's width; leaves 255 registers to each thread, and eight blocks
// to a multiprocessor of 2048 threads. Experiments: dense, channels.
inline constexpr unsigned threads = 256;

// How a kernel of a pair is cut: threads of a block; bytes of the destination that a thread writes at a time; and bytes
// of the source that it asks for before it uses any, in as many vectors as that takes.
//
// Written are 16 bytes, the widest that all architectures have, so that a warp writes 512 bytes in a row. Threads that
// wrote 2 or 4 vectors in a row, with all of 16 bytes of a narrower source, reached 0.48 (uint8 -> float32), 0.60
// (bfloat16 -> float32), 0.72 (float16 -> float32) and 0.90 (uint8 -> bfloat16) of the rate of a copy, while those of
// one vector reached 0.93 (float16 -> bfloat16) to 0.97 (int64 -> bfloat16).
//
// Asked for are 32 bytes: with 2048 threads that is 64 KiB under way in each multiprocessor, more than the 40 KiB or so
// that 3.35 TB/s (H100 SXM) at 700 ns and 132 multiprocessors need (Little's law: 2.3 MB in all, 18 KB each, doubled
// for the writes). Where channels are separated, 48: two groups of 8 pixels of 3 bytes, in kernels whose registers
// leave room for 1024 threads. Experiments: dense, scaled, channels.
template <unsigned threads_, int vector_, int bytes_>
struct Cut {
  static constexpr unsigned threads = threads_;
  static constexpr int vector = vector_;
  static constexpr int bytes = bytes_;
};
using Fused = Cut<threads, 16, 32>;
using Channels = Cut<threads, 16, 48>;

// Elements of a thread of the general kernel at a time. 4: vectors of 16 bytes where elements have four, and four
// accesses under way where they lie apart. 8 would need twice the registers and twice the code.
// No experiment yet: the number is in every kernel of general.cu.
inline constexpr int group = 4;

// The most blocks of a launch; each goes on to the next piece of work. For the device's memory, 16 for each of the 132
// multiprocessors of an H100: twice as many as run at a time, so that the last ones even out.
// Experiments: dense, scaled and channels, the lines of 4 to 64 a multiprocessor, and without a bound.
inline constexpr std::uint64_t most_blocks = std::uint64_t{132} * 16;

// Where the wire is what is waited for, fewer threads keep it busy, and multiprocessors are left to others. Reads are
// answered after about 2 us: 64e9 B/s x 2 us = 128 KB under way, 16 blocks of 256 threads and 32 bytes; 32, since reads
// do not come at once. Writes are posted, and need not wait for an answer: 16.
// Experiments: mapped, 64 MiB of pinned memory read and written by 4 to 264 blocks.
inline constexpr std::uint64_t most_blocks_reading_host = 32;
inline constexpr std::uint64_t most_blocks_writing_host = 16;

// The side of a tile, in elements: of one byte, and of more. 64 bytes are two sectors of a cache line, 32 elements of
// two bytes as much. A tile of 8-byte elements then is 8 KiB, and six blocks fill 48 KiB. Experiments: tiles, a
// transposed matrix of 1, 2, 4 and 8 bytes.
inline constexpr std::uint32_t tile_side_of_bytes = 64;
inline constexpr std::uint32_t tile_side = 32;

// Elements of the plane of the two axes from which on it is tiled. Below, most of a tile stays empty.
// No experiment yet: it would find where tiles overtake elements taken one by one, in (n, 4, k), k = 4 .. 64.
inline constexpr std::uint64_t smallest_plane = 64;

}  // namespace tuning
}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
