// Arrays of any castable dtype in any layout, read and written element by element: the slow way to do what a cast does.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "halfway/dtype.h"
#include "halfway/tensor.h"
#include "reference.h"

namespace arrays {

using halfway::DType;
using reference::Patterns;
using Random = std::mt19937_64;

inline std::vector<DType> castable_dtypes() {
  std::vector<DType> all;
  for (const halfway::DTypeInfo& row : halfway::dtypes()) {
    if (row.castable) all.push_back(row.dtype);
  }
  return all;
}

inline std::int64_t element_count(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

// Elements of whole bytes somewhere in a block of memory that is larger than they need.
struct Array {
  DType dtype{};
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // bytes
  bool swapped = false;
  std::ptrdiff_t first = 0;  // of element (0, 0, ...) in `memory`
  std::vector<std::byte> memory;
  std::vector<std::int64_t> whole_strides;  // elements; empty when the strides are not whole elements

  [[nodiscard]] std::int64_t count() const { return element_count(shape); }
  [[nodiscard]] std::size_t size() const { return halfway::item_size(dtype); }

  // Where the element at a position in C order lies in `memory`.
  [[nodiscard]] std::ptrdiff_t offset(std::int64_t position) const {
    std::ptrdiff_t place = first;
    for (std::size_t i = shape.size(); i-- > 0;) {
      place += position % shape[i] * strides[i];
      position /= shape[i];
    }
    return place;
  }

  // The element's bytes, in the machine's order.
  [[nodiscard]] std::vector<std::byte> get(std::int64_t position) const {
    std::vector<std::byte> element(size());
    read(position, element.data());
    return element;
  }
  void set(std::int64_t position, std::span<const std::byte> element) {
    std::byte* const place = memory.data() + offset(position);
    std::memcpy(place, element.data(), element.size());
    if (swapped) swap(place);
  }

  [[nodiscard]] Patterns patterns(std::int64_t position) const {
    std::byte element[largest];
    read(position, element);
    return reference::load(dtype, element);
  }
  void set_patterns(std::int64_t position, const Patterns& patterns) {
    std::byte element[largest];
    reference::store(dtype, patterns, element);
    set(position, {element, size()});
  }

  [[nodiscard]] halfway::TensorView view() const { return const_cast<Array*>(this)->mutable_view(); }
  [[nodiscard]] halfway::MutableView mutable_view() {
    const bool whole = whole_strides.size() == shape.size();
    return {.data = memory.data() + first,
            .dtype = dtype,
            .shape = shape,
            .strides = whole ? whole_strides : strides,
            .swapped = swapped,
            .strides_in_bytes = !whole};
  }

 private:
  // Bytes of an element that has patterns. None is allocated: AddressSanitizer notes where each allocation was made.
  static constexpr std::size_t largest = 16;

  void read(std::int64_t position, std::byte* element) const {
    std::memcpy(element, memory.data() + offset(position), size());
    if (swapped) swap(element);
  }
  void swap(std::byte* element) const {
    const std::size_t unit = halfway::alignment(dtype);
    for (std::size_t i = 0; i < size(); i += unit) std::reverse(element + i, element + i + unit);
  }
};

// Row-major, as a fresh result is.
inline Array contiguous(DType dtype, std::vector<std::int64_t> shape) {
  Array array;
  array.dtype = dtype;
  array.shape = std::move(shape);
  array.strides.resize(array.shape.size());
  array.whole_strides.resize(array.shape.size());
  std::int64_t running = 1;
  for (std::size_t i = array.shape.size(); i-- > 0;) {
    array.whole_strides[i] = running;
    array.strides[i] = running * static_cast<std::int64_t>(array.size());
    running *= std::max<std::int64_t>(array.shape[i], 1);
  }
  array.memory.resize(static_cast<std::size_t>(running) * array.size());
  return array;
}

// Any order of the axes, steps in any direction, gaps of any number of bytes, any alignment, either byte order.
// Elements never share memory unless `broadcasts`: then some steps are zero. The memory is random bytes.
inline Array random_layout(Random& random, DType dtype, const std::vector<std::int64_t>& shape, bool broadcasts) {
  const auto chance = [&random](unsigned one_in) { return random() % one_in == 0; };
  Array array;
  array.dtype = dtype;
  array.shape = shape;
  array.strides.assign(shape.size(), 0);
  array.swapped = chance(3);
  std::vector<std::size_t> order(shape.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = order.size() - 1 - i;
  if (chance(2)) std::shuffle(order.begin(), order.end(), random);

  const bool fractional = chance(3);
  const auto size = static_cast<std::int64_t>(array.size());
  const std::int64_t unit = fractional ? 1 : size;
  std::int64_t extent = size;
  std::int64_t low = 0;
  for (const std::size_t axis : order) {
    std::int64_t step = extent + (chance(2) ? 0 : static_cast<std::int64_t>(random() % 4) * unit);
    if (broadcasts && chance(6)) step = 0;
    extent += step * (shape[axis] - 1);
    const bool backwards = chance(4);
    if (backwards) low += step * (shape[axis] - 1);
    array.strides[axis] = backwards ? -step : step;
    // A step that is never taken may be anything.
    if (shape[axis] == 1 && chance(2)) array.strides[axis] = fractional ? 12345 : size * -77;
  }
  array.first = low + static_cast<std::ptrdiff_t>(random() % 9) * (chance(2) ? 1 : 0);
  array.memory.resize(static_cast<std::size_t>(extent) + 16);
  for (std::byte& b : array.memory) b = static_cast<std::byte>(random());
  const bool divides = std::all_of(array.strides.begin(), array.strides.end(),
                                   [size](std::int64_t stride) { return stride % size == 0; });
  if (divides && !chance(4)) {
    for (const std::int64_t stride : array.strides) array.whole_strides.push_back(stride / size);
  }
  return array;
}

inline std::vector<std::int64_t> random_shape(Random& random, std::int64_t most_elements) {
  std::vector<std::int64_t> shape(random() % 9);
  std::int64_t left = most_elements;
  for (std::int64_t& dim : shape) {
    const auto most = static_cast<std::uint64_t>(random() % 3 == 0 ? left : std::min<std::int64_t>(left, 7));
    dim = 1 + static_cast<std::int64_t>(random() % std::max<std::uint64_t>(most, 1));
    left /= dim;
  }
  std::shuffle(shape.begin(), shape.end(), random);
  return shape;
}

// A component's pattern, with zeros, infinities, NaN, subnormal numbers, integers and other formats' ranges made
// likely.
inline std::uint64_t random_pattern(Random& random, const reference::Format& format) {
  const std::uint64_t ones = format.bits() == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << format.bits()) - 1;
  if (format.style == reference::Style::boolean) return random() % 4 == 0 ? random() & ones : random() & 1;
  if (format.style == reference::Style::integer) {
    const std::uint64_t magnitude = (random() & ones) >> random() % static_cast<std::uint64_t>(format.bits());
    return (random() % 2 == 0 ? magnitude : 0 - magnitude) & ones;
  }
  const std::uint64_t sign = random() % 2 == 0 ? format.sign() : 0;
  const std::uint64_t mantissas = (std::uint64_t{1} << format.mantissa_bits) - 1;
  switch (random() % 8) {
    case 0:
      return sign;  // zero, and what e8m0 and the "uz" formats have there
    case 1:
      return (format.largest() + random() % 2) | sign;  // largest, and infinity or NaN
    case 2:
      return format.nan ^ sign;
    case 3:
      return (random() & mantissas) | sign;  // subnormal
    case 4:
    case 5: {
      // Of moderate size with few digits.
      const int field = std::max(format.bias + static_cast<int>(random() % 24) - 8, 0);
      const std::uint64_t mantissa = mantissas & ~(mantissas >> (1 + random() % 12)) & random();
      const std::uint64_t code = (static_cast<std::uint64_t>(field) << format.mantissa_bits) | mantissa;
      return std::min(code, format.largest()) | sign;
    }
    default:
      return random() & ones;
  }
}

inline void fill_random(Random& random, Array& array) {
  const reference::Format& format = reference::format(reference::component(array.dtype));
  const bool complex = reference::is_complex(array.dtype);
  for (std::int64_t i = 0; i < array.count(); ++i) {
    array.set_patterns(i, {random_pattern(random, format), complex ? random_pattern(random, format) : 0});
  }
}

// All patterns of dtypes of up to 16 bits; of wider ones (and complex32, as pairs) a random choice, the same every
// time.
inline Array values_of(DType dtype, std::int64_t wide_count) {
  const reference::Format& format = reference::format(reference::component(dtype));
  if (format.bits() <= 16 && !reference::is_complex(dtype)) {
    Array array = contiguous(dtype, {std::int64_t{1} << format.bits()});
    for (std::int64_t i = 0; i < array.count(); ++i) array.set_patterns(i, {static_cast<std::uint64_t>(i), 0});
    return array;
  }
  Array array = contiguous(dtype, {wide_count});
  Random random(format.dtype.bits + 1000U * dtype.code);
  fill_random(random, array);
  return array;
}

inline std::string to_string(const std::vector<std::int64_t>& values) {
  std::string text = "(";
  for (const std::int64_t value : values) text += std::to_string(value) + ",";
  return text + ")";
}

inline std::string to_string(const Array& array) {
  return halfway::to_string(array.dtype) + (array.swapped ? " swapped" : "") + " shape " + to_string(array.shape) +
         " byte strides " + to_string(array.strides) + " at " + std::to_string(array.first);
}

}  // namespace arrays
