// What a kernel is launched with: a conversion, and what the host worked out about it so that threads need not. Made by
// dispatch.h; travels to the device by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conversion.h"
#include "elements.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// The source and the destination of a launch as one nest of axes, of which two are walked in tiles: the one along which
// the source lies closest (`inner_source`), and the one along which the destination does. Tiles are read along the
// first, written along the second, and turned around in shared memory.
struct Tiles {
  static constexpr int most_axes = 2 * halfway::detail::Places::most_axes;

  int axes = 0;  // other than the two, those before both of them first
  int outer_axes = 0;
  std::uint64_t outer_first = 0;  // where among these the launch begins
  std::uint64_t dims[most_axes] = {};
  std::int64_t source_strides[most_axes] = {};  // bytes
  std::int64_t destination_strides[most_axes] = {};
  std::uint64_t number_strides[most_axes] = {};  // elements, in row-major order
  // Of the two: [0] the source's, [1] the destination's.
  std::uint64_t plane[2] = {};
  std::int64_t plane_source_strides[2] = {};
  std::int64_t plane_destination_strides[2] = {};
  std::uint64_t plane_number_strides[2] = {};
  std::uint32_t tile[2] = {};    // elements of a tile along them
  std::uint64_t tiles[2] = {};   // tiles along them
  std::uint32_t pitch = 0;       // bytes from one row of a tile to the next in shared memory
  std::int64_t source_base = 0;  // bytes to the first element of all
  std::int64_t destination_base = 0;
};

// How elements are found.
enum class Walk : std::uint8_t {
  dense,    // one behind the other on both sides; a thread takes a group of neighbours
  strided,  // by their places; threads take neighbours, so that accesses that can be joined are
  tiled,    // `Tiles`
  several,  // dense, of several tensors
};

struct Job {
  const unsigned char* source = nullptr;
  unsigned char* destination = nullptr;
  std::uint64_t count = 0;
  std::uint64_t steps = 0;  // pieces of work, of a block each
  std::uint64_t first = 0;  // as in Conversion
  std::uint64_t seed = 0;
  Tally* tally = nullptr;
  convert::Flags watched = 0;
  int from = 0;  // element_index
  int to = 0;
  Side from_side{};
  Side to_side{};
  int from_scalars = 1;
  int to_scalars = 1;
  int reversed = 1;  // as in Conversion
  Policy policy{};
  Walk walk = Walk::dense;
  bool keeps_bits = false;  // equal dtypes, not scaled: the source's bits are written whatever is counted
  bool odd = false;         // integers of 64 bits are decoded to odd, where they become double
  bool writes = true;
  bool narrow = false;     // every number of an element fits 32 bits
  std::uint32_t head = 0;  // fused kernels: elements before the first whole vector
  Divisor inner{};         // of `affine`, where they fit 32 bits: elements of an index of the axis, and its indices
  Divisor indices{};
  std::uint32_t period = 1;  // kernels that scale: elements of all indices
  std::uint64_t groups = 0;  // kernels of channels: groups of pixels in all, and in a row
  Divisor groups_of_row{};
  Divisor tile_rows[2] = {};  // kernels that transpose: elements of a tile along the two axes
  halfway::detail::Places source_places{};
  halfway::detail::Places destination_places{};
  Affine affine{};
  Tiles tiles{};
  std::uint32_t segment_count = 0;
  Segment segments[Conversion::most_segments] = {};
  std::uint64_t segment_steps[Conversion::most_segments] = {};  // pieces before each
};

// Kernel parameters of 4 KiB are what all architectures and drivers take.
static_assert(sizeof(Job) <= 4096);

// One dense run of elements, and the piece of it that a step is about.
struct Span {
  const unsigned char* source;
  unsigned char* destination;
  std::uint64_t count;
  std::uint64_t step;
};

// Memory of the device and mapped memory of the host are global memory: told so, compilers choose the instructions for
// that instead of those for any.
template <class Byte>
[[nodiscard]] HALFWAY_HD inline Byte* global(Byte* place) noexcept {
#if defined(__CUDA_ARCH__)
  __builtin_assume(__isGlobal(place));
#endif
  return place;
}
[[nodiscard]] HALFWAY_HD inline Span in_global_memory(const Span& span) noexcept {
  return {global(span.source), global(span.destination), span.count, span.step};
}

[[nodiscard]] HALFWAY_HD inline Span span_of(const Job& job, std::uint64_t step) noexcept {
  if (job.walk != Walk::several) return {job.source, job.destination, job.count, step};
  std::uint32_t low = 0;
  std::uint32_t high = job.segment_count;
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (job.segment_steps[middle] <= step) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const Segment& segment = job.segments[low];
  return {static_cast<const unsigned char*>(segment.source), static_cast<unsigned char*>(segment.destination),
          segment.count, step - job.segment_steps[low]};
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
