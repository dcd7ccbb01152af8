// Transposes: elements that are moved, or converted between the hottest pairs of floats, where the source lies closest
// along another axis than the destination. The tiles are those of the general kernel, which does the same for every
// pair and policy with several times the instructions; here an element costs a load and a store on each side of shared
// memory and the steps from it to the next.
#pragma once

#include <cstdint>
#include <type_traits>

#include "fused.h"
#include "grid.h"
#include "tile_place.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// The elements of a tile that a thread takes, in the order of one side: its rows are `length` long, and the next
// element is a block's width further on. Where it is is divided once and counted on.
class TileWalk {
 public:
  // Bytes from one element to the next of a row, and from one row to the next: in the device's memory, and in shared
  // memory.
  struct Strides {
    std::int64_t along;
    std::int64_t across;
    std::uint32_t shared_along;
    std::uint32_t shared_across;
  };

  HALFWAY_HD TileWalk(const Divisor& length, const Thread& thread, const Strides& strides) noexcept
      : length_(length.value),
        at_(strides, length, thread.index),
        step_(strides, length, thread.count),
        wrap_(strides.across - static_cast<std::int64_t>(length.value) * strides.along),
        shared_wrap_(strides.shared_across - length.value * strides.shared_along) {}

  HALFWAY_HD void advance() noexcept {
    at_.along += step_.along;
    at_.across += step_.across;
    at_.place += step_.place;
    at_.shared += step_.shared;
    if (at_.along < length_) return;
    at_.along -= length_;
    ++at_.across;
    at_.place += wrap_;
    at_.shared += shared_wrap_;
  }

  [[nodiscard]] HALFWAY_HD bool is_within(std::uint32_t along, std::uint32_t across) const noexcept {
    return at_.along < along && at_.across < across;
  }
  [[nodiscard]] HALFWAY_HD std::int64_t place() const noexcept { return at_.place; }
  [[nodiscard]] HALFWAY_HD std::uint32_t shared() const noexcept { return at_.shared; }

 private:
  // So many elements further on.
  struct Distance {
    HALFWAY_HD Distance(const Strides& strides, const Divisor& length, std::uint32_t elements) noexcept
        : across(length.divide(elements, along)),
          place(static_cast<std::int64_t>(along) * strides.along + static_cast<std::int64_t>(across) * strides.across),
          shared(along * strides.shared_along + across * strides.shared_across) {}

    std::uint32_t along = 0;
    std::uint32_t across;
    std::int64_t place;
    std::uint32_t shared;
  };

  std::uint32_t length_;
  Distance at_;
  Distance step_;
  std::int64_t wrap_;
  std::uint32_t shared_wrap_;
};

// Elements are converted before they lie in shared memory. Every element is aligned on both sides. `some`: those that a
// thread asks for before it uses any.
template <class From, class To, int some = tuning::transposed>
struct Transpose {
  using In = typename From::Bits;
  using Out = typename To::Bits;
  static constexpr bool has_tiles = true;
  static constexpr bool counts = false;
  static constexpr bool prepares = false;
  static constexpr unsigned threads = tuning::threads;
  struct Registers {};

  static constexpr std::uint32_t size = sizeof(Out);

  // Read along the source's axis.
  HALFWAY_HD static void load(const Job& job, const Thread& thread, std::uint64_t step,
                              unsigned char* shared) noexcept {
    const TilePlace place = tile_place(job, step);
    const Tiles& tiles = job.tiles;
    const unsigned char* const source = global(job.source) + place.source;
    TileWalk walk(job.tile_rows[0], thread,
                  {tiles.plane_source_strides[0], tiles.plane_source_strides[1], size, tiles.pitch});
    const std::uint32_t elements = tiles.tile[0] * place.extent[1];
    const std::uint32_t end = tiles.pitch * place.extent[1];
    HALFWAY_ROLLED
    for (std::uint32_t begin = thread.index; begin < elements; begin += thread.count * some) {
      // Elements that do not exist are read as the tile's first one and written where nothing is read: loads without a
      // condition are all under way before the first of them is waited for.
      In in[some];
      std::uint32_t to[some];
      HALFWAY_UNROLLED
      for (int i = 0; i < some; ++i) {
        to[i] = walk.shared();
        in[i] = load_aligned<In>(source + (walk.is_within(place.extent[0], place.extent[1]) ? walk.place() : 0));
        walk.advance();
      }
      Out out[some];
      convert_some(job, in, out);
      HALFWAY_UNROLLED
      for (int i = 0; i < some; ++i) {
        if (to[i] < end) store_aligned(shared + to[i], out[i]);
      }
    }
  }

  // Written along the destination's.
  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* shared,
                                 Registers& /*registers*/) noexcept {
    const TilePlace place = tile_place(job, step);
    const Tiles& tiles = job.tiles;
    unsigned char* const destination = global(job.destination) + place.destination;
    TileWalk walk(job.tile_rows[1], thread,
                  {tiles.plane_destination_strides[1], tiles.plane_destination_strides[0], tiles.pitch, size});
    const std::uint32_t elements = tiles.tile[1] * place.extent[0];
    HALFWAY_ROLLED
    for (std::uint32_t begin = thread.index; begin < elements; begin += thread.count * some) {
      HALFWAY_UNROLLED
      for (int i = 0; i < some; ++i) {
        if (walk.is_within(place.extent[1], place.extent[0])) {
          store_aligned(destination + walk.place(), load_aligned<Out>(shared + walk.shared()));
        }
        walk.advance();
      }
    }
  }

 private:
  HALFWAY_HD static void convert_some(const Job& job, const In (&in)[some], Out (&out)[some]) noexcept {
    if constexpr (std::is_same_v<From, To>) {
      HALFWAY_UNROLLED
      for (int i = 0; i < some; ++i) {
        out[i] = in[i];
        if (size > 1 && job.to_side.swapped) out[i] = static_cast<Out>(other_order(in[i]) >> (64 - 8 * size));
      }
    } else {
      float values[some];
      decode_floats<From>(in, values);
      encode_floats<To>(values, out, job.policy.saturate);
    }
  }
};

using TransposedPairs =
    convert::List<Pair<Float32, BFloat16>, Pair<Float32, Float16>, Pair<BFloat16, Float32>, Pair<Float16, Float32>>;

// `use(Transpose<E, E>{})` of elements of so many bytes that are moved; false where there is no kernel of it.
template <int some = tuning::transposed, class Use>
bool use_moving_transpose(int size, Use use) {
  const auto one = [&](auto element) {
    using Element = decltype(element);
    if (size != static_cast<int>(sizeof(typename Element::Bits))) return false;
    use(Transpose<Element, Element, some>{});
    return true;
  };
  return one(UInt8{}) || one(convert::Integer<std::uint16_t>{}) || one(convert::Integer<std::uint32_t>{}) ||
         one(convert::Integer<std::uint64_t>{});
}
// Likewise of elements that are converted.
template <int some = tuning::transposed, class Use>
bool use_converting_transpose(DType from, DType to, Use use) {
  return use_pair(TransposedPairs{}, from, to, [&](auto pair) {
    use(Transpose<typename decltype(pair)::From, typename decltype(pair)::To, some>{});
  });
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
