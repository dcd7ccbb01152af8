// The numbers of the kernels, each with the reasoning that chose it and the experiment behind it. The experiments are a
// program, halfway_kernel_experiments (experiments/), and are named here as its lines begin; unless they say otherwise
// they work in 256 MiB of the device's memory. Results are shares of the rate at which the device copies as many bytes,
// measured on an H100 80GB HBM3 (132 multiprocessors, copies at 2963 GB/s) with CUDA 13.0 on 2026-11-26. Of two numbers
// that are within 2% of each other the smaller one is preferred, unless it says why not. All were measured with 16
// blocks for each multiprocessor, unless they are about blocks. Of a number without results it says "Not measured", and
// which experiment settles it; docs/transfer.md lists these.
#pragma once

#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace tuning {

// Threads of a block. 256: a multiple of every scheduler's width; leaves 255 registers to each thread, and eight blocks
// to a multiprocessor of 2048 threads. Experiments: dense, channels. 128, 256 and 512 are within 1% for dense elements
// (float16 -> bfloat16: 0.937, 0.935, 0.933); channels that are not scaled: 0.902, 0.952, 0.928.
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
// leave room for 1024 threads.
//
// Experiments: dense, scaled, channels. Vectors of 8, 16 and 32 bytes: 0.925, 0.931, 0.730 (bfloat16 -> float32),
// 0.962, 0.959, 0.945 (float32 -> bfloat16), 0.981, 0.980, 0.861 (int64 -> bfloat16); channels, 8 and 16: 0.932, 0.952.
// Bytes ahead, of 16, 32, 64 and 128: 0.918, 0.933, 0.940, 0.952 (uint8 -> bfloat16), 0.962, 0.959, 0.978, 0.988
// (float32 -> bfloat16); but scaled 0.870, 0.914, 0.924, 0.873 (uint8 -> bfloat16) and 0.878, 0.894, 0.667, 0.878
// (uint8 -> float32); channels, 16, 48 and 96: 0.951, 0.952, 0.960. Without a bound of the
// blocks 32 bytes reach more than that (`most_blocks`).
template <unsigned threads_, int vector_, int bytes_>
struct Cut {
  static constexpr unsigned threads = threads_;
  static constexpr int vector = vector_;
  static constexpr int bytes = bytes_;
};
using Fused = Cut<threads, 16, 32>;
using Channels = Cut<threads, 16, 48>;

// Elements of 8 bytes that become 2 are written 8 bytes at a time, for which a thread asks for 32 bytes, as others do.
// In the device's memory that is as fast (int64 -> bfloat16, above). With 16 it took 64, in loads that lie 64 bytes
// apart, and kernels read 16 MiB of such a source over the wire in 405 to 411 us, where those of float32 and those to
// float32 took 362 to 371. Not measured over the wire: vectors of 8 and 4 bytes; and of float32 to fp8, which have 16.
// Experiment: mapped, of float64 -> bfloat16 and int64 -> float16.
using FusedToQuarter = Cut<threads, 8, 32>;

// Elements of a thread of the general kernel at a time. 4: vectors of 16 bytes where elements have four, and four
// accesses under way where they lie apart. 8 would need twice the registers and twice the code.
// Not measured. Experiment: group, of 2, 4 and 8 elements, row-major, by strides and in tiles.
inline constexpr int group = 4;

// The most blocks of a launch; each goes on to the next piece of work. In the device's memory as many as there are
// pieces, up to what a grid has: blocks that begin while others end even out, while those that go round wait for the
// slowest. Experiments: dense, scaled and channels, of 4, 8, 16, 32 and 64 blocks a multiprocessor and without a bound:
//   float32 -> bfloat16          0.933, 0.944, 0.966, 0.988, 0.997, 1.007
//   bfloat16 -> float32          0.891, 0.897, 0.932, 0.946, 0.960, 0.968
//   int64 -> bfloat16            0.986, 0.844, 0.980, 0.998, 1.015, 1.014
//   uint8 -> bfloat16            0.900, 0.901, 0.933, 0.943, 0.957, 0.967
//   uint8 -> bfloat16, scaled    0.885, 0.814, 0.913, 0.940, 0.961, 0.971
//   float32 -> bfloat16, scaled  0.920, 0.922, 0.938, 0.981, 0.991, 1.000
//   uint8 -> bfloat16, channels  0.906, 0.916, 0.948, 0.975, 0.988, 0.988
inline constexpr std::uint64_t most_blocks = 0x7FFFFFFF;

// The most blocks of a launch that counts: each adds its sums to the launch's when it ends, so that few ends are
// better. Twice as many as run at a time, so that the last ones even out. Not measured. Experiment: counting, of 2
// to 64 blocks a multiprocessor and without a bound.
inline constexpr std::uint64_t most_blocks_counting = std::uint64_t{132} * 16;

// Where the wire is what is waited for, fewer threads keep it busy, and multiprocessors are left to others. Reads are
// answered after about 2 us: 64e9 B/s x 2 us = 128 KB under way, 16 blocks of 256 threads and 32 bytes; 32, since reads
// do not come at once. Writes are posted, and need not wait for an answer: 16, and twice as many
// where a thread writes 8 bytes at a time. Either is twice what sufficed, since
// with half of that the speed drops to 0.72 and 0.52, and other machines may answer later. Experiments: mapped, 64 MiB
// of pinned memory over PCIe 5, as shares of the copy engine's 55 GB/s, by 4, 8, 16, 32, 64, 128 and 264 blocks:
//   reads   0.380, 0.723, 0.923, 0.918, 0.918, 0.921, 0.922; with 64 bytes ahead 8 blocks reach 0.925
//   writes  0.523, 0.936, 0.934, 0.941, 0.915, 0.947, 0.786
inline constexpr std::uint64_t most_blocks_reading_host = 32;
inline constexpr std::uint64_t most_blocks_writing_host = 16;

// The side of a tile, in elements: of up to 8 bytes, of which a tile takes 32.5 KiB of shared memory at most, and of 16
// bytes, of which it would not fit 48 KiB. Experiments, of the general kernel, which took all tiles then: tiles, a
// transposed matrix, by sides of 16, 32, 64 and 96:
//   1 byte   0.025, 0.074, 0.098, 0.105
//   2 bytes  0.046, 0.137, 0.178, 0.188
//   4 bytes  0.089, 0.258, 0.333, 0.349
//   8 bytes  0.185, 0.544, 0.666
// Not measured: the kernels that transpose, and elements of 16 bytes. tiles times both.
inline constexpr std::uint32_t tile_side = 64;
inline constexpr std::uint32_t tile_side_of_pairs = 32;

// The most bytes of a tile in shared memory: those of 64 x 64 elements of 8 bytes, with the padding of their rows.
// Tiles of an axis that is shorter, of which padding is a larger part, become shorter by it. Not measured: it
// follows from `tile_side`. Experiment: tiles, of matrices of 4, 8 and 16 columns, with 16 to 48 KiB.
inline constexpr std::uint32_t most_bytes_of_tile = 64 * 65 * 8;

// Elements that a thread of a kernel that transposes asks for before it uses any. 8: of 4 bytes, the 32 bytes of
// `Fused`; a tile of 64 x 64 is two rounds of 8 for each thread. Not measured. Experiment: transposed, of 4, 8
// and 16 elements.
inline constexpr int transposed = 8;

// Elements of the plane of the two axes from which on it is tiled. Below, most of a tile stays empty.
// Not measured. Experiment: planes, where tiles overtake elements taken one by one, in (n, 4, k), k from 4 to 64.
inline constexpr std::uint64_t smallest_plane = 64;

// Those by which the host chooses, as a value: `choose` of dispatch.h takes it, so that experiments can ask for others.
struct Numbers {
  int group = tuning::group;
  std::uint64_t most_blocks = tuning::most_blocks;
  std::uint64_t most_blocks_counting = tuning::most_blocks_counting;
  std::uint32_t tile_side = tuning::tile_side;
  std::uint32_t tile_side_of_pairs = tuning::tile_side_of_pairs;
  std::uint32_t most_bytes_of_tile = tuning::most_bytes_of_tile;
  std::uint64_t smallest_plane = tuning::smallest_plane;
};

}  // namespace tuning
}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
