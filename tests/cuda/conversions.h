// Conversions as launches are made of, in the host's memory: what the kernels' tests share.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "backend/simulated_kernels.h"
#include "halfway/cast.h"
#include "halfway/layout.h"
#include "places_of.h"
#include "runtime/arrays.h"
#include "runtime/reference.h"

namespace conversions {

using halfway::CastOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::TensorView;
using halfway::cuda::detail::Conversion;
using halfway::detail::Places;

// Memory that begins at a multiple of 16 and an offset from there, with nothing around it: what is beyond is the
// sanitizer's to find.
class Memory {
 public:
  Memory(std::size_t offset, std::size_t size) : size_(size), block_(new unsigned char[offset + size + 16]) {
    const auto address = reinterpret_cast<std::uintptr_t>(block_.get());
    begin_ = block_.get() + (16 - address % 16) % 16 + offset;
    std::memset(begin_, 0x5A, size);
  }
  [[nodiscard]] unsigned char* data() const { return begin_; }
  [[nodiscard]] std::vector<unsigned char> bytes() const { return {begin_, begin_ + size_}; }

 private:
  std::size_t size_;
  std::unique_ptr<unsigned char[]> block_;
  unsigned char* begin_ = nullptr;
};

inline void fill(std::mt19937_64& random, const Memory& memory, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) memory.data()[i] = static_cast<unsigned char>(random());
}

inline std::vector<unsigned char> expected_of(const unsigned char* source, DType from, DType to, std::int64_t count,
                                              CastOptions options = {}) {
  options.casting = halfway::Casting::unsafe;
  const std::array<std::int64_t, 1> shape{count};
  const std::array<std::int64_t, 1> strides{1};
  const halfway::Tensor cast =
      halfway::cast({.data = source, .dtype = from, .shape = shape, .strides = strides}, to, options);
  const auto* const first = static_cast<const unsigned char*>(cast.view().data);
  return {first, first + static_cast<std::size_t>(count) * halfway::item_size(to)};
}

inline Conversion dense(DType from, DType to, const void* source, void* destination, std::uint64_t count) {
  Conversion work;
  work.source = source;
  work.destination = destination;
  work.from = from;
  work.to = to;
  work.count = count;
  work.source_places = Places::dense(static_cast<std::int64_t>(halfway::item_size(from)));
  work.destination_places = Places::dense(static_cast<std::int64_t>(halfway::item_size(to)));
  return work;
}

// A tensor of random axes with a random order on either side, as planes or parts of it are transferred.
struct Permuted {
  std::vector<std::int64_t> shape;
  arrays::Array source;
  arrays::Array target;
};

inline Permuted permuted(std::mt19937_64& random, DType from, DType to) {
  const std::size_t ndim = 2 + random() % 3;
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < ndim; ++i) shape.push_back(1 + static_cast<std::int64_t>(random() % (i < 2 ? 90 : 7)));
  std::shuffle(shape.begin(), shape.end(), random);
  arrays::Array source = arrays::random_layout(random, from, shape, random() % 4 == 0);
  arrays::Array target =
      random() % 2 == 0 ? arrays::contiguous(to, shape) : arrays::random_layout(random, to, shape, false);
  arrays::fill_random(random, source);
  return {shape, std::move(source), std::move(target)};
}

inline Conversion between(const Permuted& tensors, arrays::Array& target) {
  const TensorView from = tensors.source.view();
  const MutableView to = target.mutable_view();
  Conversion work;
  work.source = from.data;
  work.destination = to.data;
  work.from = reference::component(from.dtype);
  work.to = reference::component(to.dtype);
  work.from_scalars = reference::is_complex(from.dtype) ? 2 : 1;
  work.to_scalars = reference::is_complex(to.dtype) ? 2 : 1;
  work.source_swapped = from.swapped;
  work.destination_swapped = to.swapped;
  work.count = static_cast<std::uint64_t>(halfway::element_count(from.shape).value());
  work.source_places = halfway::detail::places_of(from).value();
  work.destination_places = halfway::detail::places_of(to).value();
  return work;
}

}  // namespace conversions
