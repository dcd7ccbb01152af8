// A pass over nests: copies or converts, and counts. Private to the runtime.
//
// What is done to the elements (a `Treatment`) is chosen once, for any number of nests; nests are worked through in
// parts, on any thread. `copy_pass` and `convert_pass` share one nest among threads, batch.h many.
#pragma once

#include <cstddef>
#include <cstdint>

#include "halfway/cast.h"
#include "halfway/convert.h"
#include "nest.h"
#include "route.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// How the elements of one side lie in memory.
struct Elements {
  DType dtype;
  std::size_t size;       // bytes of an element
  std::size_t swap_unit;  // bytes whose order is reversed; 1 when nothing is
};

// What a pass found. The loss that the caller asks about is any of `watched`.
struct Tally {
  convert::Flags watched = 0;
  Report report{};
  std::uint64_t losses = 0;      // elements with a watched flag
  std::int64_t first_loss = -1;  // the position of the first one in the order of the nest

  // What another part of the same pass found. Positions are those of the whole nest.
  Tally& operator+=(const Tally& other) noexcept;
};

// What is done to elements that lie in memory in one way, and what is watched meanwhile.
struct Treatment {
  Elements from;
  Elements to;
  bool copies;   // bit by bit, castable or not
  bool counts;   // into a tally
  bool streams;  // past the caches, where both sides are contiguous
  convert::Flags watched;
  Route route;  // not set when `copies`

  // Elements of one size, in any byte orders.
  static Treatment copy(const Elements& from, const Elements& to) noexcept;

  // Castable dtypes.
  static Treatment conversion(const Kernels& kernels, const Elements& from, const Elements& to, bool saturate,
                              bool counts, convert::Flags watched) noexcept;
};

// Elements [begin, end) of a nest, in its order, on the calling thread. Positions in the tally count from
// `first_index`, the position of the nest's first element. Where nothing counts, the tally stays as it is.
void run_part(const Kernels& kernels, const Treatment& treatment, const Nest& nest, std::int64_t begin,
              std::int64_t end, std::int64_t first_index, Tally& tally) noexcept;

// How many tasks a pass that reads and writes so many bytes is worth. One: it is not worth a second thread.
[[nodiscard]] std::int64_t task_count(std::size_t bytes) noexcept;

// The elements of a task: equal parts, whose borders are whole blocks, so that no two threads write to one cache line.
struct Share {
  std::int64_t begin;
  std::int64_t end;

  Share(std::int64_t count, std::int64_t tasks, std::int64_t index) noexcept;
};

// Elements of one dtype, bit by bit: any size. The units differ when the byte order does.
void copy_pass(const Kernels& kernels, const Nest& nest, std::size_t size, std::size_t swap_unit) noexcept;

// Castable dtypes. Counts into `tally` when there is one. Without a destination in the nest nothing is written. Between
// equal dtypes the bits are copied, and only NaN can be counted.
void convert_pass(const Kernels& kernels, const Nest& nest, const Elements& from, const Elements& to, bool saturate,
                  Tally* tally) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
