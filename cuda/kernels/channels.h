// Interleaved channels into planes, as of images from NHWC to NCHW: the source has the 2 to 4 channels of a pixel side
// by side, the destination each channel's pixels. A thread takes as many pixels as fill a vector of each plane, all
// channels of them, and separates these in registers, since it knows at compile time where each is. Its neighbours take
// the pixels beside: a warp reads one run of memory and writes one for each plane, without shared memory or barriers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fused.h"
#include "grid.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Where a row of pixels begins: one index of all axes but the pixels' and the channels'. `rest` is its number within
// the launch.
HALFWAY_HD inline void add_row(const Tiles& tiles, std::uint64_t rest, bool narrow, std::int64_t& source,
                               std::int64_t& destination) noexcept {
  HALFWAY_ROLLED
  for (int axis = tiles.axes - 1; axis >= 0; --axis) {
    if (axis + 1 == tiles.outer_axes) rest += tiles.outer_first;
    std::uint64_t index = rest;
    if (axis > 0) rest = divide(rest, tiles.dims[axis], narrow, index);
    source += static_cast<std::int64_t>(index) * tiles.source_strides[axis];
    destination += static_cast<std::int64_t>(index) * tiles.destination_strides[axis];
  }
}

// Of a launch's `Tiles`, whose source's axis is the channels' and whose destination's is the pixels'. Where anything
// lies so that vectors would not be aligned, or where they do not divide a row, a thread takes one pixel at a time.
template <class From, class To, int channels, class Cut = tuning::Channels>
struct Deinterleave {
  using In = typename From::Bits;
  using Out = typename To::Bits;
  static constexpr bool has_tiles = false;
  static constexpr bool counts = false;
  static constexpr bool prepares = false;
  static constexpr unsigned threads = Cut::threads;
  struct Registers {};

  // Pixels of a vector of a plane, and the bytes of the source that they are read by: the largest power of two that
  // divides what a thread takes.
  static constexpr int pixels = Cut::vector / static_cast<int>(sizeof(Out));
  static constexpr int bytes_in = pixels * channels * static_cast<int>(sizeof(In));
  static constexpr int unit = (bytes_in & -bytes_in) < 16 ? (bytes_in & -bytes_in) : 16;
  static constexpr int ahead = bytes_in >= Cut::bytes ? 1 : Cut::bytes / bytes_in;
  static constexpr int alignment = Cut::vector < 16 ? Cut::vector : 16;  // of the planes
  static constexpr int pixels_ahead = 4;                                 // where they are taken one at a time

  [[nodiscard]] HALFWAY_HD static constexpr std::uint64_t groups_of_block(bool vectors) noexcept {
    return std::uint64_t{threads} * static_cast<unsigned>(vectors ? ahead : pixels_ahead);
  }

  HALFWAY_HD static void load(const Job& /*job*/, const Thread& /*thread*/, std::uint64_t /*step*/,
                              unsigned char* /*shared*/) noexcept {}

  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* /*shared*/,
                                 Registers& /*registers*/) noexcept {
    if (job.to_side.access == Access::vectors) {
      take<pixels, unit, ahead>(job, thread, step);
    } else {
      take<1, static_cast<int>(sizeof(In)), pixels_ahead>(job, thread, step);
    }
  }

 private:
  // Groups of `n` pixels, as many at a time as `some`.
  template <int n, int bytes, int some>
  HALFWAY_HD static void take(const Job& job, const Thread& thread, std::uint64_t step) noexcept {
    using Part = Words<In, bytes / static_cast<int>(sizeof(In))>;
    constexpr int parts = n * channels * static_cast<int>(sizeof(In)) / bytes;
    constexpr int of_part = bytes / static_cast<int>(sizeof(In));
    const Tiles& tiles = job.tiles;
    const std::uint64_t begin = step * groups_of_block(n > 1) + thread.index;
    typename Part::Vector in[some][parts];
    std::int64_t to[some];
    HALFWAY_UNROLLED
    for (int i = 0; i < some; ++i) {
      const std::uint64_t number = begin + std::uint64_t{thread.count} * static_cast<unsigned>(i);
      if (number >= job.groups) continue;
      std::uint32_t place = 0;
      const std::uint32_t row = job.groups_of_row.divide(static_cast<std::uint32_t>(number), place);
      std::int64_t from = tiles.source_base + std::int64_t{place} * n * channels * sizeof_in;
      to[i] = tiles.destination_base + std::int64_t{place} * n * sizeof_out;
      add_row(tiles, row, job.narrow, from, to[i]);
      HALFWAY_UNROLLED
      for (int part = 0; part < parts; ++part) {
        in[i][part] = load_aligned<typename Part::Vector>(global(job.source) + from + std::int64_t{part} * bytes);
      }
    }
    HALFWAY_UNROLLED
    for (int i = 0; i < some; ++i) {
      if (begin + std::uint64_t{thread.count} * static_cast<unsigned>(i) >= job.groups) continue;
      HALFWAY_UNROLLED
      for (int channel = 0; channel < channels; ++channel) {
        In mine[n];
        HALFWAY_UNROLLED
        for (int pixel = 0; pixel < n; ++pixel) {
          const int at = pixel * channels + channel;
          mine[pixel] = element_of<In>(in[i][at / of_part].bits, at % of_part);
        }
        Run<Out, n> out;
        convert_channel(job, channel, mine, out.bits);
        store_aligned(global(job.destination) + to[i] + channel * tiles.plane_destination_strides[0], out);
      }
    }
  }

  template <int n>
  HALFWAY_HD static void convert_channel(const Job& job, int channel, const In (&in)[n], Out (&out)[n]) noexcept {
    if constexpr (std::is_same_v<From, To>) {
      HALFWAY_UNROLLED
      for (int i = 0; i < n; ++i) out[i] = in[i];
    } else {
      float values[n];
      decode_floats<From>(in, values);
      if (job.affine.count != 0) {
        const Coefficients mine =
            coefficients_at(job.affine, job.affine.count == 1 ? 0 : static_cast<std::uint32_t>(channel));
        HALFWAY_UNROLLED
        for (float& value : values) value = convert::multiply_add(value, mine.bits[0], mine.bits[1]);
      }
      encode_floats<To>(values, out, job.policy.saturate);
    }
  }

  static constexpr std::int64_t sizeof_in = sizeof(In);
  static constexpr std::int64_t sizeof_out = sizeof(Out);
};

using ChannelPairs =
    convert::List<Pair<UInt8, UInt8>, Pair<UInt8, Float32>, Pair<UInt8, Float16>, Pair<UInt8, BFloat16>>;

// `use(Deinterleave<From, To, channels>{})`; false where there is no kernel of it.
template <class Use>
bool use_channels(DType from, DType to, std::uint64_t channels, Use use) {
  return channels >= 2 && channels <= 4 && use_pair(ChannelPairs{}, from, to, [&](auto pair) {
           using From = typename decltype(pair)::From;
           using To = typename decltype(pair)::To;
           if (channels == 2) return use(Deinterleave<From, To, 2>{});
           if (channels == 3) return use(Deinterleave<From, To, 3>{});
           use(Deinterleave<From, To, 4>{});
         });
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
