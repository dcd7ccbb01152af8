// The numbers of the kernels. None of them was measured: no GPU has run this code. Each stands with the reasoning that
// chose it and with the experiment that would replace it; all experiments run a kernel on 1 GiB of source in the memory
// of the device unless they say otherwise, take the median of 20 launches, and prefer the smaller of two numbers that
// are within 2% of each other.
#pragma once

#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace tuning {

// Threads of a block. 256: a multiple of every scheduler's width; leaves 255 registers to each thread, and eight blocks
// to a multiprocessor of 2048 threads. Experiment: float32 -> bfloat16 and uint8 -> bfloat16 with 128, 256, 512.
inline constexpr unsigned threads = 256;

// How a kernel of a pair is cut: threads of a block; bytes of the destination that a thread writes at a time; and bytes
// of the source that it asks for before it uses any, in as many vectors as that takes.
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
// Experiment: int32 -> float16 and float32 -> float16 counted, dense and from every other element, with 2, 4, 8.
inline constexpr int group = 4;

// The most blocks of a launch; each goes on to the next piece of work. For the device's memory, 16 for each of the 132
// multiprocessors of an H100: twice as many as run at a time, so that the last ones even out.
// Experiment: float32 -> bfloat16 with 4, 8, 16, 32 a multiprocessor, and without a bound.
inline constexpr std::uint64_t most_blocks = std::uint64_t{132} * 16;

// Where the wire is what is waited for, fewer threads keep it busy, and multiprocessors are left to others. Reads are
// answered after about 2 us: 64e9 B/s x 2 us = 128 KB under way, 16 blocks of 256 threads and 32 bytes; 32, since reads
// do not come at once. Writes are posted, and need not wait for an answer: 16.
// Experiment: 64 MiB of pinned memory, float32 -> bfloat16 read and written, with 8, 16, 32, 64, 128 and 264 blocks.
inline constexpr std::uint64_t most_blocks_reading_host = 32;
inline constexpr std::uint64_t most_blocks_writing_host = 16;

// The side of a tile, in elements: of one byte, and of more. 64 bytes are two sectors of a cache line, 32 elements of
// two bytes as much. A tile of 8-byte elements then is 8 KiB, and six blocks fill 48 KiB. Experiment: permuted uint8
// NHWC -> bfloat16 NCHW (64 x 224 x 224 x 3) and a transposed 8192 x 8192 of 1, 2, 4, 8 bytes, with 16, 32, 64.
inline constexpr std::uint32_t tile_side_of_bytes = 64;
inline constexpr std::uint32_t tile_side = 32;

// Elements of the plane of the two axes from which on it is tiled. Below, most of a tile stays empty.
// Experiment: (n, 4, k) transposed in its last two axes, k = 4 .. 64: where tiles overtake elements taken one by one.
inline constexpr std::uint64_t smallest_plane = 64;

}  // namespace tuning
}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
