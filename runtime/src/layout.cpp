#include "halfway/layout.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "reach.h"

namespace halfway {
inline namespace v0 {
namespace {

bool is_empty(std::span<const std::int64_t> shape) noexcept {
  return std::any_of(shape.begin(), shape.end(), [](std::int64_t dim) { return dim == 0; });
}

// Whether the strides are those of a row-major tensor whose neighbours are `unit` apart.
bool is_row_major(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                  std::int64_t unit) noexcept {
  if (is_empty(shape)) return true;
  std::int64_t expected = unit;
  bool overflow = false;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) continue;
    if (overflow || strides[i] != expected) return false;
    overflow = __builtin_mul_overflow(expected, shape[i], &expected);
  }
  return true;
}

// One dimension of more than one element: elements `step` bytes apart (never negative), reaching `span` bytes in all.
struct Dim {
  std::int64_t step;
  std::int64_t span;
};

// The dimensions that matter of a tensor that is not empty, by increasing step, and where its lowest byte lies.
struct Dims {
  std::array<Dim, max_ndim> items{};
  std::size_t count = 0;
  std::int64_t low = 0;        // of the lowest element, relative to the data pointer
  std::int64_t item_size = 0;  // bytes

  [[nodiscard]] const Dim* begin() const noexcept { return items.data(); }
  [[nodiscard]] const Dim* end() const noexcept { return items.data() + count; }
};

// False when something does not fit.
bool collect(const TensorView& view, std::int64_t unit, std::int64_t item_size, Dims& dims) noexcept {
  dims.item_size = item_size;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    const std::int64_t dim = view.shape[i];
    if (dim == 1) continue;
    std::int64_t step = 0;
    std::int64_t span = 0;
    if (dim < 1 || dims.count == max_ndim || __builtin_mul_overflow(view.strides[i], unit, &step) ||
        __builtin_mul_overflow(step, dim - 1, &span)) {
      return false;
    }
    if (step < 0) {
      if (__builtin_add_overflow(dims.low, span, &dims.low)) return false;
      if (__builtin_sub_overflow(0, step, &step) || __builtin_sub_overflow(0, span, &span)) return false;
    }
    dims.items[dims.count++] = {step, span};
  }
  std::sort(dims.items.begin(), dims.items.begin() + static_cast<std::ptrdiff_t>(dims.count),
            [](const Dim& a, const Dim& b) { return a.step < b.step; });
  return true;
}

// The bytes that a step of 1 in `strides` moves; 1 for packed elements, whose steps are counted in elements instead.
std::int64_t stride_unit(const TensorView& view) noexcept {
  const auto size = static_cast<std::int64_t>(view.element_size());
  return view.strides_in_bytes || size == 0 ? 1 : size;
}

// The bytes of an element; 0 for packed ones.
std::int64_t size_of(const TensorView& view) noexcept { return static_cast<std::int64_t>(view.element_size()); }

// floor((elements * bits + carry) / 8), where carry is 0 to round down and 7 to round up; false when it does not fit.
bool bytes_of_bits(std::int64_t elements, int bits, int carry, std::int64_t& bytes) noexcept {
  const std::int64_t rest = ((elements & 7) * bits + carry) >> 3;
  return !__builtin_mul_overflow(elements >> 3, bits, &bytes) && !__builtin_add_overflow(bytes, rest, &bytes);
}

struct Interval {
  std::uintptr_t low;
  std::uintptr_t high;
};

// The addresses of a view; false when they do not fit the address space.
bool addresses(const TensorView& view, const Extent& reach, Interval& interval) noexcept {
  const auto data = reinterpret_cast<std::uintptr_t>(view.data);
  const auto below = 0 - static_cast<std::uint64_t>(reach.low);
  interval.low = data - below;
  return below <= data && !__builtin_add_overflow(data, static_cast<std::uint64_t>(reach.high), &interval.high);
}

// A view as blocks that repeat at multiples of `period`: those dimensions whose step is at most `inner` make the block.
struct Blocks {
  std::int64_t size;    // bytes from the first to the end of the last in a block
  std::int64_t period;  // greatest common divisor of the other steps; 0 when there are none
};

Blocks blocks(const Dims& dims, std::int64_t inner) noexcept {
  Blocks result{dims.item_size, 0};
  for (const Dim& dim : dims) {
    if (dim.step <= inner) {
      result.size += dim.span;  // at most the view's own extent, which fits
    } else {
      result.period = std::gcd(result.period, dim.step);
    }
  }
  return result;
}

// Whether two views keep apart modulo a common period of their blocks: every byte of `a` lies in [a, a + size) plus
// multiples of the period, every byte of `b` in [b, b + size) likewise, and these residues are disjoint.
bool keep_apart(const Dims& a, std::uintptr_t lowest_a, const Dims& b, std::uintptr_t lowest_b,
                std::int64_t inner) noexcept {
  const Blocks block_a = blocks(a, inner);
  const Blocks block_b = blocks(b, inner);
  const auto period = static_cast<std::uint64_t>(std::gcd(block_a.period, block_b.period));
  if (period == 0) return false;
  const std::uint64_t residue_a = lowest_a % period;
  const std::uint64_t residue_b = lowest_b % period;
  const std::uint64_t distance = residue_b >= residue_a ? residue_b - residue_a : residue_b + (period - residue_a);
  return static_cast<std::uint64_t>(block_a.size) <= distance &&
         static_cast<std::uint64_t>(block_b.size) <= period - distance;
}

}  // namespace

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) noexcept {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(count, dim == 0 ? 1 : dim, &count)) return std::nullopt;
    empty |= dim == 0;
  }
  return empty ? 0 : count;
}

void row_major_strides(std::span<const std::int64_t> shape, std::span<std::int64_t> strides) noexcept {
  std::int64_t running = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = running;
    if (shape[i] > 1) running *= shape[i];
  }
}

bool is_contiguous(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) noexcept {
  return is_row_major(shape, strides, 1);
}

bool is_contiguous(const TensorView& view) noexcept {
  const std::int64_t unit = view.strides_in_bytes ? size_of(view) : 1;
  return is_row_major(view.shape, view.strides, unit);
}

std::optional<Extent> extent(std::span<const std::int64_t> shape, std::span<const std::int64_t> byte_strides,
                             std::size_t item_size) noexcept {
  if (is_empty(shape)) return Extent{};
  Extent result;
  if (!detail::reach(shape.data(), byte_strides.data(), shape.size(), 1, static_cast<std::int64_t>(item_size),
                     result)) {
    return std::nullopt;
  }
  return result;
}

std::optional<Extent> extent(const TensorView& view) noexcept {
  if (is_empty(view.shape)) return Extent{};
  const std::int64_t size = size_of(view);
  Extent result;
  if (!detail::reach(view.shape.data(), view.strides.data(), view.shape.size(), stride_unit(view), size == 0 ? 1 : size,
                     result)) {
    return std::nullopt;
  }
  if (size == 0) {
    // Counted in elements so far; the data pointer is the first bit of element 0.
    const int bits = total_bits(view.dtype);
    std::int64_t length = 0;
    if (!bytes_of_bits(result.low, bits, 0, result.low) || !bytes_of_bits(result.high, bits, 7, result.high) ||
        __builtin_sub_overflow(result.high, result.low, &length)) {
      return std::nullopt;
    }
  }
  return result;
}

bool has_negative_strides(const TensorView& view) noexcept {
  if (is_empty(view.shape)) return false;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    if (view.strides[i] < 0 && view.shape[i] > 1) return true;
  }
  return false;
}

bool is_misaligned(const TensorView& view) noexcept {
  if (is_empty(view.shape)) return false;
  const std::size_t wanted = alignment(view.dtype);
  if (reinterpret_cast<std::uintptr_t>(view.data) % wanted != 0) return true;
  if (!view.strides_in_bytes) return false;  // whole elements, which are whole alignments
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] > 1 && static_cast<std::uint64_t>(view.strides[i]) % wanted != 0) return true;
  }
  return false;
}

bool may_self_overlap(const TensorView& view) noexcept {
  if (is_empty(view.shape)) return false;
  const std::int64_t size = size_of(view);
  Dims dims;
  if (!collect(view, stride_unit(view), size == 0 ? 1 : size, dims)) return true;
  // Each dimension must step over everything that the smaller steps reach.
  std::int64_t reached = dims.item_size;
  for (const Dim& dim : dims) {
    if (dim.step < reached || __builtin_add_overflow(reached, dim.span, &reached)) return true;
  }
  return false;
}

bool may_overlap(const TensorView& a, const TensorView& b) noexcept {
  if (is_empty(a.shape) || is_empty(b.shape)) return false;
  const std::optional<Extent> reach_a = extent(a);
  const std::optional<Extent> reach_b = extent(b);
  Interval interval_a{};
  Interval interval_b{};
  if (!reach_a || !reach_b || !addresses(a, *reach_a, interval_a) || !addresses(b, *reach_b, interval_b)) return true;
  if (interval_a.high <= interval_b.low || interval_b.high <= interval_a.low) return false;

  const std::int64_t size_a = size_of(a);
  const std::int64_t size_b = size_of(b);
  Dims dims_a;
  Dims dims_b;
  if (size_a == 0 || size_b == 0 || !collect(a, stride_unit(a), size_a, dims_a) ||
      !collect(b, stride_unit(b), size_b, dims_b)) {
    return true;
  }
  // Single elements as blocks, then everything up to each step that occurs.
  if (keep_apart(dims_a, interval_a.low, dims_b, interval_b.low, 0)) return false;
  for (const Dims* dims : {&dims_a, &dims_b}) {
    for (const Dim& dim : *dims) {
      if (keep_apart(dims_a, interval_a.low, dims_b, interval_b.low, dim.step)) return false;
    }
  }
  return true;
}

}  // namespace v0
}  // namespace halfway
