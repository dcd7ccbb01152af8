// What a launch is told: the elements, where they lie, and what is done to them. Plain numbers, since they travel to the
// device by value. Whoever asks for work knows these alone; dispatch.h chooses the kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "halfway/convert.h"
#include "halfway/dtype.h"
#include "places.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Scale and shift of a launch: y = fma(x, scale, shift), in float where that holds every value of the source, else in
// double. As many numbers as there are indices of the result's axis that they go along; one where they are the same for
// all. They travel with the launch: the device needs no memory for them.
struct Affine {
  static constexpr int most = 32;

  std::uint64_t count = 0;   // 0: no scale, no shift
  std::uint64_t inner = 1;   // elements of the result for each index of the axis
  double scales[most] = {};  // rounded to the type that they are used in
  double shifts[most] = {};
};

// What launches count, in memory of the device. Launches add to it; it starts as Tally{}.
struct Tally {
  static constexpr std::uint64_t none = ~std::uint64_t{0};

  std::uint64_t nan = 0;
  std::uint64_t overflow = 0;
  std::uint64_t underflow = 0;
  std::uint64_t inexact = 0;
  std::uint64_t losses = 0;         // elements that have a watched flag
  std::uint64_t first_loss = none;  // the number of the first of them
};

// One tensor of several that a launch converts: `count` elements, dense on both sides.
struct Segment {
  const void* source = nullptr;
  void* destination = nullptr;
  std::uint64_t count = 0;
};

// Whose memory a launch works in: the wire, and not the device's memory, is what the last two wait for.
enum class Reach : std::uint8_t { device, reads_host, writes_host };

// A launch: `count` elements of the source become as many of the destination. An element is one scalar of a dtype or
// several in a row (two of a complex number). Addresses are those of the device; scalars may lie at any.
//
// Elements have numbers, which scale and shift along an axis, the chance of stochastic rounding and the first loss go
// by: that of the launch's first element is `first`, and the others follow in the result's row-major order.
struct Conversion {
  const void* source = nullptr;
  void* destination = nullptr;
  DType from{};  // of scalars
  DType to{};
  std::uint64_t count = 0;
  std::uint64_t first = 0;
  std::uint32_t from_scalars = 1;  // of an element. Where the numbers differ, a complex number becomes a real one or
  std::uint32_t to_scalars = 1;    // the reverse
  std::uint32_t reversed = 1;      // the source's are in reversed order within so many: parts of larger scalars, swapped
  bool saturate = false;
  bool stochastic = false;
  bool source_swapped = false;  // scalars are in the other byte order than the device's
  bool destination_swapped = false;
  bool writes = true;  // else it counts alone, and the destination is not touched
  Reach reach = Reach::device;
  std::uint64_t seed = 0;        // of `stochastic`
  convert::Flags watched = 0;    // what makes an element a loss
  Tally* tally = nullptr;        // none: nothing is counted
  halfway::detail::Places source_places{};
  halfway::detail::Places destination_places{};
  Affine affine{};
  // Several tensors in one launch instead of `source`, `destination` and `count`; borrowed for the call that launches.
  const Segment* segments = nullptr;
  std::uint32_t segment_count = 0;

  // The most tensors that one launch takes.
  static constexpr std::uint32_t most_segments = 40;

  // The same bytes, as elements of one byte.
  [[nodiscard]] static Conversion copy(const void* source, void* destination, std::uint64_t bytes) noexcept {
    Conversion work;
    work.source = source;
    work.destination = destination;
    work.from = work.to = uint8;
    work.count = bytes;
    work.source_places = work.destination_places = halfway::detail::Places::dense(1);
    return work;
  }

  [[nodiscard]] constexpr std::uint64_t source_size() const noexcept {
    return std::uint64_t{from_scalars} * from.bits / 8;
  }
  [[nodiscard]] constexpr std::uint64_t destination_size() const noexcept {
    return std::uint64_t{to_scalars} * to.bits / 8;
  }
};

[[nodiscard]] HALFWAY_HD constexpr bool is_dtype(DType a, DType b) noexcept {
  return a.code == b.code && a.bits == b.bits;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
