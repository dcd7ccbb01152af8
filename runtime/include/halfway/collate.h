// Collating: many tensors of one shape become one, a row each, in one pass with the casts of cast.h.
//
//   std::vector<halfway::TensorView> samples = ...;                              // each (3, 224, 224)
//   halfway::Tensor batch = halfway::collate(samples, halfway::bfloat16);        // (samples.size(), 3, 224, 224)
//   halfway::collate_into(samples, batch.mutable_view());                        // again, into the same memory
//
// Samples may differ in dtype, strides and byte order. The bits are those of casting each sample on its own (those of
// one cast of all, if rounded by chance), on every processor and for every number of threads.
//
// Threads: as cast.h; the work is shared by bytes, so that few large samples use all threads and many small ones are
// dealt out in runs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "halfway/allocator.h"
#include "halfway/cast.h"
#include "halfway/dtype.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

struct CollateOptions {
  // What is done to each sample: `axis` and `permute` speak of its axes. Rounding::stochastic goes by the index in the
  // batch, padding included: the bits are those of one cast of the stacked samples. The report sums up all samples;
  // what pads them is not counted.
  CastOptions cast{};
  // One element: samples may then differ in the extent of their (permuted) last axis, and shorter ones are filled up
  // with it at the end. It is rounded to the result's dtype if that is a float; it must have its value exactly if it is
  // not, and must not overflow.
  //
  //   const float zero = 0;
  //   halfway::CollateOptions options{.pad = halfway::TensorView{.data = &zero, .dtype = halfway::float32}};
  std::optional<TensorView> pad{};
};

// A fresh row-major tensor of shape (samples.size(), shape of a sample, permuted if the options say so). With `pad` the
// last axis has the largest extent of any sample. throws: std::invalid_argument (no samples); Error (nested: the shapes
// differ, naming the first sample that does;
//         unsupported_dtype: elements of less than a byte; malformed: more than 64 dimensions, or a pad that is not one
//         element; and, naming the sample, as cast() throws them); CastError, whose `index()` has the sample's number
//         in front of the place in its own axes; std::bad_alloc
// `options.cast.report` is filled also when a CastError says which value was lost.
[[nodiscard]] Tensor collate(std::span<const TensorView> samples, DType dtype, const CollateOptions& options = {},
                             Allocator& allocator = default_allocator());

// Into existing memory of any strides and byte order, whose first axis has one entry a sample. With `pad` its last axis
// may be longer than every sample's. With `same_value` or `Overflow::raise` all samples are checked first, and
// `destination` is untouched when this throws. A sample that is its own row of `destination` already (the same
// start, strides and item size, its axes permuted) is changed where it is, as by cast_into().
// throws: as collate(), and Error (out_mismatch: another shape; readonly; overlap: it shares memory with a sample, or
//         with itself), before anything is written
void collate_into(std::span<const TensorView> samples, const MutableView& destination,
                  const CollateOptions& options = {});

}  // namespace v0
}  // namespace halfway
