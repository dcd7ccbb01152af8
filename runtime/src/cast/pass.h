// One pass over a nest: copies or converts, and counts. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elements.h"
#include "halfway/cast.h"
#include "halfway/convert.h"
#include "nest.h"
#include "route.h"
#include "transform.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// What a pass found. The loss that the caller asks about is any of `watched`.
struct Tally {
  convert::Flags watched = 0;
  Report report{};
  std::uint64_t losses = 0;      // elements with a watched flag
  std::int64_t first_loss = -1;  // the position of the first one in the order of the nest

  // What another part of the same pass found. Positions are those of the whole nest.
  Tally& operator+=(const Tally& other) noexcept;
};

// Elements of one dtype, bit by bit: any size. The bytes of each `swap_unit` are reversed; 1: none are. If both sides
// are the same places, elements change where they are.
void copy_pass(const Kernels& kernels, const Nest& nest, std::size_t size, std::size_t swap_unit) noexcept;

// Castable dtypes. Counts into `tally` when there is one. Without a destination in the nest nothing is written. Between
// equal dtypes the bits are copied, and only NaN can be counted, unless `transform` is affine. With a transform (which
// fits the dtypes, see Route::between) the nest's positions say where an element stands. If both sides are the same
// places, elements become their images where they are.
void convert_pass(const Kernels& kernels, const Nest& nest, const Elements& from, const Elements& to, bool saturate,
                  Tally* tally, const Transform* transform = nullptr, const Positions* positions = nullptr) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
