// One pass over many tensors: each sample into its own part of one destination. Private to the runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "halfway/cast.h"
#include "halfway/tensor.h"
#include "kernels.h"
#include "pass.h"
#include "transform.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// Samples that were found to fit: readable, of whole-byte elements, their axes in the result's order, each of a shape
// that fits the destination's behind its first axis, in dtypes and byte orders that may be changed like this.
struct Batch {
  std::span<const TensorView> samples;
  MutableView destination;
  CastOptions options;  // of the samples as they are now: `axis` and `permute` are not looked at
  std::size_t axis;     // that coefficients go along, or Positions::no_axis
  const Transforms& transforms;
  // One element as the destination stores it, for what lies behind the end of a sample's last axis; nullptr where no
  // sample is shorter than the destination.
  const std::byte* padding;
  std::int64_t row;  // elements of the destination that belong to one sample
  std::size_t read;  // bytes of all samples
  bool even;         // each sample has as many
};

// Runs over all samples with as many threads as the bytes are worth, however they are spread over the samples. Without
// `writes` it only counts.
//
// Positions in the result are `sample * row + position in the sample`, the latter in C order of the sample's axes.
[[nodiscard]] Tally batch_pass(const Kernels& kernels, const Batch& batch, bool writes, bool counts) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
