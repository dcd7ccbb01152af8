// A pass over nests: copies or converts, and counts. Private to the runtime.
//
// What is done to the elements (a `Treatment`) is chosen once, for any number of nests. With a nest it makes a `Pass`,
// which is worked through in parts, on any thread. `run_pass` shares one nest among threads, batch.h many.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elements.h"
#include "halfway/cast.h"
#include "halfway/convert.h"
#include "nest.h"
#include "route.h"
#include "scratch.h"
#include "tiling.h"
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

// What is done to elements that lie in memory in one way, and what is watched meanwhile.
struct Treatment {
  Elements from;
  Elements to;
  bool copies;              // bit by bit, castable or not
  bool counts;              // into a tally; of copies there is nothing to count but how many
  bool streams;             // past the caches, where runs of the destination are long: it is large
  bool loops_swap = false;  // the loops that convert turn the source's bytes round: to all else they are native
  convert::Flags watched;
  Route route;                 // not set when `copies`
  const Transform* transform;  // nullptr: none

  // Elements of one size, in any byte orders.
  static Treatment copy(const Elements& from, const Elements& to) noexcept;

  // Castable dtypes. Between equal ones bits are copied, and only NaN can be counted, unless the transform, which fits
  // the dtypes (see Route::between), is affine.
  static Treatment conversion(const Kernels& kernels, const Elements& from, const Elements& to, bool saturate,
                              bool counts, convert::Flags watched, const Transform* transform = nullptr) noexcept;

  // Whichever of these the options ask for. `counts`: whether anything is to be counted; of dtypes without NaN, bits
  // are copied all the same.
  static Treatment chosen(const Kernels& kernels, const Elements& from, const Elements& to, const CastOptions& options,
                          bool counts, const Transform* transform) noexcept;
};

// What one task does of the parts of a pass: equal numbers, whose borders are whole grains.
struct Share {
  std::int64_t begin;
  std::int64_t end;

  Share(std::int64_t count, std::int64_t grain, std::int64_t tasks, std::int64_t index) noexcept;
};

// A nest and what is done to it. Borrows all that it is made from. Without a destination in the nest nothing is
// written; if both sides are the same places, elements change where they are.
struct Pass {
  // `at`: the nest's positions, which say where an element stands. A treatment with a transform needs them.
  Pass(const Kernels& used, const Treatment& done, const Nest& walked, const Positions* at = nullptr) noexcept;

  // The part of one of so many tasks, elements in the order of the nest, or tiles where it is walked in tiles: no two
  // threads write to one cache line of a run.
  [[nodiscard]] Share share(std::int64_t tasks, std::int64_t index) const noexcept;

  // On the calling thread. Positions in the tally count from `first`, that of the nest's first element. Where nothing
  // counts, the tally stays as it is.
  void run(const Share& part, Tally& tally, Scratch& scratch, std::int64_t first = 0) const noexcept;

  const Kernels& kernels;
  const Treatment& treatment;
  const Nest& nest;
  const Elements& from;
  const Elements& to;
  const Route& route;
  Tiling tiling;
  const Transform* transform;  // nullptr: the route does nothing but convert
  const Positions* positions;  // of a transform
  bool counts;                 // into a tally
  bool contiguous;             // both sides are one run of elements
  bool dense;                  // the destination is one run of elements in the order of the nest
  bool in_place;               // both sides are the same places
  bool streams;                // past the caches: runs of the destination are long
  // Loops that stream by themselves, to runs that are aligned to their elements: nullptr where there is none, or it is
  // not wanted.
  EncodeLoop streamed = nullptr;
  CountedLoop streamed_counted = nullptr;  // of a contiguous pair
};

// How many tasks a pass that reads and writes so many bytes is worth. One: it is not worth a second thread.
[[nodiscard]] std::int64_t task_count(std::size_t bytes) noexcept;
// How many threads it is worth: no fewer than 2, where it is worth several tasks.
[[nodiscard]] int useful_threads(std::size_t bytes) noexcept;

// The whole nest, on as many threads as its bytes are worth. What was found is empty unless the treatment counts.
Tally run_pass(const Kernels& kernels, const Nest& nest, Treatment treatment,
               const Positions* positions = nullptr) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
