// The loops that casts are made of: for each instruction set one table, with a row for each castable dtype. Private to
// the runtime.
//
// A pass has at most two stages, through a buffer that stays in the first-level cache:
//
//   decode   elements -> a wide type, exactly; for float targets of 16 bits and fewer always float32, rounded to odd
//            where that is not exact (convert.h says why this is still one rounding)
//   encode   a wide type -> elements, rounded; counted or not
//
// A stage that would change nothing is left out: the other one then reads or writes memory directly.
//
// Scale and shift are a stage between them, in float32 or float64. Stochastic rounding is another way to encode, from
// the exact value and a lane of 16 bits for each element (halfway/rounding.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "halfway/dtype.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The types that elements are decoded to.
enum class WideType : std::uint8_t { float32, float64, int64, uint64 };
inline constexpr std::size_t wide_count = 4;

[[nodiscard]] constexpr std::size_t wide_size(WideType wide) noexcept { return wide == WideType::float32 ? 4 : 8; }

// What a counted pass found: the columns of `Report`.
struct Counts {
  std::uint64_t nan = 0;
  std::uint64_t overflow = 0;
  std::uint64_t underflow = 0;
  std::uint64_t inexact = 0;
};

// `n` contiguous elements in the machine's byte order, at any address; the ranges do not overlap.
using DecodeLoop = void (*)(const std::byte* elements, std::byte* wide, std::size_t n) noexcept;
using EncodeLoop = void (*)(const std::byte* wide, std::byte* elements, std::size_t n) noexcept;
using CountedLoop = void (*)(const std::byte* wide, std::byte* elements, std::size_t n, bool saturate,
                             Counts& counts) noexcept;

// `results[i]` = `values[i]` * scale + shift, rounded once; float32 or float64. Scale and shift are one value for all
// or one for each. The results do not overlap the rest.
using AffineLoop = void (*)(const std::byte* values, std::byte* results, std::size_t n, const std::byte* scale,
                            const std::byte* shift) noexcept;
// The lanes of elements `first`, `first + 1`, ...
using LanesLoop = void (*)(std::uint64_t seed, std::uint64_t first, std::uint16_t* lanes, std::size_t n) noexcept;
using StochasticLoop = void (*)(const std::byte* wide, std::byte* elements, const std::uint16_t* lanes, std::size_t n,
                                bool saturate) noexcept;
using StochasticCountedLoop = void (*)(const std::byte* wide, std::byte* elements, const std::uint16_t* lanes,
                                       std::size_t n, bool saturate, Counts& counts) noexcept;

// A way to decode: no function where the elements already are of the wide type.
struct Decoding {
  WideType wide;
  DecodeLoop loop;
};

struct DTypeKernels {
  DType dtype;
  Decoding exact;   // for integers and bool
  Decoding number;  // for float32 and float64
  Decoding odd;     // for narrower floats: float32
  // From each wide type; narrow floats have those from float32 alone.
  std::array<EncodeLoop, wide_count> encode;
  std::array<EncodeLoop, wide_count> encode_saturated;
  std::array<CountedLoop, wide_count> encode_counted;
  // Integers: to nearest even instead of towards zero, from float32 and float64. Floats and bool have none.
  std::array<EncodeLoop, 2> encode_nearest;
  std::array<CountedLoop, 2> nearest_counted;
  // Floats: from the wide types that hold values which they do not.
  std::array<StochasticLoop, wide_count> encode_stochastic;
  std::array<StochasticCountedLoop, wide_count> stochastic_counted;
};

// Scale and shift in one compute type.
struct AffineLoops {
  AffineLoop one;   // one pair of coefficients
  AffineLoop each;  // a pair for each value
};

// Both stages in one loop, for pairs where that is faster, and loops that write past the caches: nullptr where there is
// none. Those need a destination that is aligned to its elements, and `order_streamed_stores` before anybody is told.
struct FusedLoop {
  DType from;
  DType to;
  EncodeLoop loop;
  EncodeLoop streamed;
  CountedLoop streamed_counted = nullptr;  // never saturates; without a destination it counts alone
  // Of elements in the other byte order, which are turned round in registers.
  EncodeLoop swapping = nullptr;
  EncodeLoop swapping_streamed = nullptr;
};

// Elements in two dimensions: `lines` of them one way, `width` the other. Steps are in bytes and may be anything.
struct Lines {
  const std::byte* source;
  std::int64_t line_step;
  std::int64_t element_step;  // from one element of a line to the next
  std::size_t lines;
  std::size_t width;
  const std::byte* next = nullptr;  // the first of as many lines that are read after these, if they are known
};

// Elements of one size, whatever they mean. What is written does not overlap what is read.
struct MoveKernels {
  // `n` elements, `stride` bytes apart (of any sign, or zero), to a run of them.
  void (*gather)(const std::byte* source, std::int64_t stride, std::byte* run, std::size_t n) noexcept;
  // Lines to columns: element j of line i becomes element i of row j, of `width` rows with `lines` elements each.
  void (*transpose)(const Lines& in, std::byte* rows, std::int64_t row_step) noexcept;
};
inline constexpr std::size_t largest_moved = 16;

// Reverses the bytes of each of `n` units that follow each other. `source` and `destination` may be the same.
using SwapLoop = void (*)(const std::byte* source, std::byte* destination, std::size_t n) noexcept;

// All three stages in one loop: one pair of coefficients, in float32. And one that writes past the caches, of which the
// same holds as of a FusedLoop's.
struct FusedAffine {
  DType from;
  DType to;
  AffineLoop loop;
  AffineLoop streamed;
};

struct Kernels {
  std::string_view name;  // of the instruction set, as HALFWAY_TIER names it
  std::span<const DTypeKernels> dtypes;
  std::span<const FusedLoop> fused;
  std::span<const MoveKernels> moves;  // of elements of 1, 2, 4, 8 and 16 bytes
  std::span<const SwapLoop> swaps;     // of units of 2, 4 and 8 bytes
  // The same past the caches, to units that are aligned; empty where there is none. `order_streamed_stores` has to
  // follow.
  std::span<const SwapLoop> swaps_streamed;
  std::array<AffineLoops, 2> affine;  // in float32, in float64
  std::span<const FusedAffine> fused_affine;
  LanesLoop lanes;
  std::array<DecodeLoop, 2> integers_to_odd;  // int64, uint64 -> double, to odd: for stochastic rounding
  // memcpy with stores that leave the caches alone. Meanwhile fetches what is read next into the cache (`next_bytes`
  // may be 0). `order_streamed_stores` has to follow before anybody is told.
  void (*stream)(std::byte* destination, const std::byte* source, std::size_t bytes, const std::byte* next,
                 std::size_t next_bytes) noexcept;

  // The row of a dtype; of its components when it is complex. nullptr when it is not castable.
  [[nodiscard]] const DTypeKernels* find(DType dtype) const noexcept;

  // nullptr if there is none.
  [[nodiscard]] const FusedLoop* find_fused(DType from, DType to) const noexcept;
};

// A float that is encoded from float32 alone.
[[nodiscard]] inline bool is_narrow(const DTypeKernels& row) noexcept { return row.encode[1] == nullptr; }

}  // namespace detail
}  // namespace v0
}  // namespace halfway
