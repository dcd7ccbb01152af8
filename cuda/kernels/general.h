// The kernel of every pair, layout and policy: elements are taken in groups, decoded into W in registers, scaled,
// rounded and counted as the launch says, encoded, and written. What is the same for a launch is decided once a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "grid.h"
#include "tile_place.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// A group of elements: where they are read and written, and their numbers. `n` of them exist.
template <int group>
struct Group {
  const unsigned char* from[group];
  unsigned char* to[group];
  std::uint64_t number[group];
  int n;
};

template <class W, bool counting, int group = tuning::group>
struct General {
  static constexpr bool has_tiles = true;
  static constexpr bool counts = counting;
  static constexpr bool prepares = false;
  static constexpr unsigned threads = tuning::threads;
  struct Registers {
    Sums sums;
  };
  static constexpr std::uint64_t elements_of_block = std::uint64_t{tuning::threads} * group;

  // First phase: a tile of the source into shared memory, bit by bit, read along the source's axis. (A check does not
  // see that it is written, by way of `to`.)
  HALFWAY_HD static void load(const Job& job, const Thread& thread, std::uint64_t step,
                              unsigned char* shared) noexcept {  // NOLINT(readability-non-const-parameter)
    const TilePlace place = tile_place(job, step);
    const Tiles& tiles = job.tiles;
    const std::uint32_t elements = place.extent[0] * place.extent[1];
    const Divisor rows(place.extent[0]);
    const int size = job.from_side.size;
    const Side in{size, job.from_side.access == Access::bytes ? Access::bytes : Access::scalars, false};
    const Side out{size, Access::scalars, false};
    // A group is asked for before any of it is stored, so that all of it is under way at once.
    HALFWAY_ROLLED
    for (std::uint32_t begin = thread.index; begin < elements; begin += thread.count * group) {
      const unsigned char* from[group];
      unsigned char* to[group];
      int n = 0;
      HALFWAY_UNROLLED
      for (int i = 0; i < group; ++i) {
        from[i] = job.source;
        to[i] = shared;
        const std::uint32_t at = begin + thread.count * static_cast<unsigned>(i);
        if (at >= elements) continue;
        n = i + 1;
        std::uint32_t along = 0;
        const std::uint32_t across = rows.divide(at, along);
        from[i] += place.source + along * tiles.plane_source_strides[0] + across * tiles.plane_source_strides[1];
        to[i] += static_cast<std::size_t>(across * tiles.pitch) +
                 static_cast<std::size_t>(along * static_cast<std::uint32_t>(size * job.from_scalars));
      }
      HALFWAY_ROLLED
      for (int scalar = 0; scalar < job.from_scalars; ++scalar) {
        std::uint64_t raw[group] = {};
        load_group(in, from, n, raw);
        store_group(out, to, n, raw);
        HALFWAY_UNROLLED
        for (int i = 0; i < group; ++i) {
          from[i] += size;
          to[i] += size;
        }
      }
    }
  }

  // Second phase, or the only one. A tile may be several groups for a thread; otherwise there is one.
  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* shared,
                                 Registers& registers) noexcept {
    TilePlace place{};
    std::uint32_t elements = 1;
    Side from_side = job.from_side;
    if (job.walk == Walk::tiled) {
      place = tile_place(job, step);
      elements = place.extent[0] * place.extent[1];
      from_side.access = Access::scalars;  // what is in shared memory is aligned whatever the source was
    }
    const std::uint32_t begin = job.walk == Walk::tiled ? thread.index : 0;
    HALFWAY_ROLLED
    for (std::uint32_t at = begin; at < elements; at += thread.count * group) {
      Group<group> some = no_group(job);
      if (job.walk == Walk::tiled) {
        take_of_tile(job, thread, place, at, elements, shared, some);
      } else if (job.walk == Walk::strided) {
        take_strided(job, step * elements_of_block + thread.index, thread, some);
      } else {
        take_dense(job, step, thread, some);
      }
      if (some.n > 0) convert_group(job, from_side, some, registers.sums);
    }
  }

 private:
  // Members that do not exist have an address all the same, which nothing is read from.
  HALFWAY_HD static Group<group> no_group(const Job& job) noexcept {
    Group<group> some;
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) {
      some.from[i] = job.source;
      some.to[i] = job.destination;
      some.number[i] = 0;
    }
    some.n = 0;
    return some;
  }

  HALFWAY_HD static void take_dense(const Job& job, std::uint64_t step, const Thread& thread,
                                    Group<group>& some) noexcept {
    const Span span = span_of(job, step);
    const std::uint64_t at = span.step * elements_of_block + std::uint64_t{thread.index} * group;
    if (at >= span.count) return;
    some.n = span.count - at < group ? static_cast<int>(span.count - at) : group;
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) {
      const std::uint64_t element = at + static_cast<unsigned>(i);
      some.number[i] = job.first + element;
      some.from[i] = span.source + element * static_cast<unsigned>(job.from_side.size);
      some.to[i] = span.destination + element * static_cast<unsigned>(job.to_side.size);
    }
  }

  HALFWAY_HD static void take_of_tile(const Job& job, const Thread& thread, const TilePlace& place, std::uint32_t begin,
                                      std::uint32_t elements, const unsigned char* shared,
                                      Group<group>& some) noexcept {
    const Tiles& tiles = job.tiles;
    const auto size = static_cast<std::uint32_t>(job.from_side.size * job.from_scalars);
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) {
      const std::uint32_t at = begin + thread.count * static_cast<unsigned>(i);
      if (at >= elements) continue;
      some.n = i + 1;
      const std::uint32_t across = at / place.extent[1];  // a Divisor would cost registers that are not there
      const std::uint32_t along = at - across * place.extent[1];
      some.from[i] = shared + static_cast<std::size_t>(along * tiles.pitch) + static_cast<std::size_t>(across * size);
      some.to[i] = job.destination + place.destination + along * tiles.plane_destination_strides[1] +
                   across * tiles.plane_destination_strides[0];
      some.number[i] = place.number + along * tiles.plane_number_strides[1] + across * tiles.plane_number_strides[0];
    }
  }

  HALFWAY_HD static std::int64_t offset(const halfway::detail::Places& places, std::uint64_t index,
                                        bool narrow) noexcept {
    std::uint64_t rest = places.first + index;
    std::int64_t bytes = 0;
    for (int axis = places.axes - 1; axis > 0; --axis) {
      std::uint64_t coordinate = 0;
      rest = divide(rest, static_cast<std::uint64_t>(places.dims[axis]), narrow, coordinate);
      bytes += static_cast<std::int64_t>(coordinate) * places.strides[axis];
    }
    return bytes + static_cast<std::int64_t>(rest) * places.strides[0];
  }

  HALFWAY_HD static void take_strided(const Job& job, std::uint64_t begin, const Thread& thread,
                                      Group<group>& some) noexcept {
    HALFWAY_ROLLED
    for (int i = 0; i < group; ++i) {
      const std::uint64_t at = begin + std::uint64_t{thread.count} * static_cast<unsigned>(i);
      if (at >= job.count) break;
      some.n = i + 1;
      set_member(some.from, i, job.source + offset(job.source_places, at, job.narrow));
      set_member(some.to, i, job.destination + offset(job.destination_places, at, job.narrow));
      set_member(some.number, i, job.first + at);
    }
  }

  // All scalars of the elements, part by part: a complex number's real parts come first. One that becomes a real number
  // loses its imaginary part, which counts, and matters to bool; one that was real has none.
  HALFWAY_HD static void convert_group(const Job& job, const Side& from_side, const Group<group>& some,
                                       Sums& sums) noexcept {
    const int parts = job.from_scalars > job.to_scalars ? job.from_scalars : job.to_scalars;
    std::uint64_t out[group];
    convert::Flags flags[group] = {};
    HALFWAY_ROLLED
    for (int part = 0; part < parts; ++part) {
      std::uint64_t raw[group] = {};
      if (part < job.from_scalars) {
        const unsigned char* from[group];
        const int place = job.reversed == 1 ? part : part + job.reversed - 1 - 2 * (part % job.reversed);
        const int bytes = place * from_side.size;
        HALFWAY_UNROLLED
        for (int i = 0; i < group; ++i) from[i] = some.from[i] + bytes;
        load_group(from_side, from, some.n, raw);
      }
      if (!counting && job.keeps_bits) {
        HALFWAY_UNROLLED
        for (int i = 0; i < group; ++i) out[i] = raw[i];
      } else {
        convert_part(job, some, part, raw, out, flags);
      }
      const bool is_complete = job.to_scalars > 1 || part + 1 == parts;
      if (!job.writes || !is_complete) continue;
      unsigned char* to[group];
      HALFWAY_UNROLLED
      for (int i = 0; i < group; ++i) to[i] = some.to[i] + (job.to_scalars > 1 ? part * job.to_side.size : 0);
      store_group(job.to_side, to, some.n, out);
    }
    if constexpr (counting) {
      HALFWAY_UNROLLED
      for (int i = 0; i < group; ++i) {
        if (i < some.n) sums.add(flags[i], job.watched, some.number[i]);
      }
    }
  }

  HALFWAY_HD static void convert_part(const Job& job, const Group<group>& some, int part,
                                      const std::uint64_t (&raw)[group], std::uint64_t (&out)[group],
                                      convert::Flags (&flags)[group]) noexcept {
    W values[group] = {};  // the imaginary parts of real numbers
    if (part < job.from_scalars) decode_group(convert::Elements{}, job.from, job.odd, raw, values);
    if constexpr (std::is_floating_point_v<W>) {
      if (part >= job.to_scalars) {
        HALFWAY_UNROLLED
        for (int i = 0; i < group; ++i) {
          if constexpr (counting) flags[i] |= convert::dropped_imaginary(values[i]);
          if (job.to == element_index<convert::Boolean>) out[i] |= convert::Boolean::encode(values[i], false).bits;
        }
        return;
      }
      if (job.affine.count != 0) {
        std::uint32_t indices[group];
        coefficients_of(job.affine, job.inner, job.indices, some.number, job.narrow, indices);
        HALFWAY_UNROLLED
        for (int i = 0; i < group; ++i) {
          values[i] = convert::multiply_add(values[i], static_cast<W>(job.affine.scales[indices[i]]),
                                            static_cast<W>(job.affine.shifts[indices[i]]));
        }
      }
    }
    GroupLanes<group> lanes;
    if (job.policy.stochastic) lanes = lanes_of(some.number, job.to_scalars, part, job.seed);
    encode_group<counting>(convert::Elements{}, job.to, job.policy, values, lanes, out, flags);
    if (job.keeps_bits) {
      HALFWAY_UNROLLED
      for (int i = 0; i < group; ++i) out[i] = raw[i];
    }
  }
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
