// Batches drawn at random, and the stack of single casts that each should be.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "arrays.h"
#include "halfway/cast.h"
#include "halfway/parallel.h"

namespace batches {

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::Report;
using halfway::TensorView;

using Shape = std::vector<std::int64_t>;

class Threads {
 public:
  explicit Threads(int n) { halfway::set_num_threads(n); }
  ~Threads() { halfway::set_num_threads(0); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
};

inline std::vector<TensorView> views_of(const std::vector<Array>& samples) {
  std::vector<TensorView> views;
  for (const Array& sample : samples) views.push_back(sample.view());
  return views;
}

// The part of a batch that belongs to a sample, cut to the sample's extent of the last axis.
struct Row {
  Shape shape;
  Shape strides;
  MutableView view;

  Row(const MutableView& batch, std::size_t index, const Shape& sample) : shape(sample) {
    for (std::size_t axis = 1; axis < batch.shape.size(); ++axis) strides.push_back(batch.byte_stride(axis));
    view = batch;
    view.data = static_cast<std::byte*>(batch.data) + static_cast<std::int64_t>(index) * batch.byte_stride(0);
    view.shape = shape;
    view.strides = strides;
    view.strides_in_bytes = true;
  }
};

// What a batch should be: each sample cast on its own, in place of what `destination` holds.
inline Report stack(const std::vector<Array>& samples, const MutableView& destination, CastOptions options) {
  Report total;
  Report one;
  options.report = &one;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const Row row(destination, i, halfway::result_shape(samples[i].shape, options));
    halfway::cast_into(samples[i].view(), row.view, options);
    total += one;
  }
  return total;
}

inline Shape batch_shape(std::size_t samples, const Shape& sample) {
  Shape shape{static_cast<std::int64_t>(samples)};
  shape.insert(shape.end(), sample.begin(), sample.end());
  return shape;
}

inline std::vector<Array> random_samples(Random& random, std::size_t n, const Shape& shape,
                                         const std::vector<DType>& dtypes) {
  std::vector<Array> samples;
  for (std::size_t i = 0; i < n; ++i) {
    const DType dtype = dtypes[random() % dtypes.size()];
    samples.push_back(random() % 2 == 0 ? arrays::random_layout(random, dtype, shape, true)
                                        : arrays::contiguous(dtype, shape));
    arrays::fill_random(random, samples.back());
  }
  return samples;
}

inline std::string describe(const std::vector<Array>& samples, DType to) {
  std::string text = std::to_string(samples.size()) + " samples to " + halfway::to_string(to) + ":";
  for (std::size_t i = 0; i < std::min<std::size_t>(samples.size(), 4); ++i) {
    text += " " + arrays::to_string(samples[i]);
  }
  return text;
}

// Options that fit samples of one shape, drawn at random, with what they borrow.
struct Drawn {
  std::vector<double> numbers;
  Shape axes;
  Shape whole_axes;  // the same of the stacked samples
  CastOptions options{.casting = Casting::unsafe};

  Drawn(Random& random, const Shape& shape, bool affine) {
    const auto ndim = static_cast<std::int64_t>(shape.size());
    if (affine && ndim > 0 && random() % 2 == 0) {
      options.axis = static_cast<std::int64_t>(random() % shape.size());
      const std::int64_t extent = shape[static_cast<std::size_t>(*options.axis)];
      for (std::int64_t i = 0; i < extent; ++i) numbers.push_back(static_cast<double>(random() % 64) / 16 - 2);
      options.scale = numbers;
      if (random() % 2 == 0) *options.axis -= ndim;
    } else if (affine) {
      options.scale = 0.75;
    }
    if (affine && random() % 2 == 0) options.shift = -0.3;
    if (random() % 2 == 0) {
      for (std::int64_t i = 0; i < ndim; ++i) axes.push_back(i);
      std::shuffle(axes.begin(), axes.end(), random);
      whole_axes.push_back(0);
      for (const std::int64_t axis : axes) whole_axes.push_back(axis + 1);
      options.permute = axes;
    }
  }
  Drawn(const Drawn&) = delete;
  Drawn& operator=(const Drawn&) = delete;
  ~Drawn() = default;

  // The same about all samples, stacked.
  [[nodiscard]] CastOptions whole() const {
    CastOptions result = options;
    if (result.axis && *result.axis >= 0) ++*result.axis;
    if (result.permute) result.permute = whole_axes;
    return result;
  }
};

}  // namespace batches
