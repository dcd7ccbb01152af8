// Layout functions against brute force: small layouts whose every element is visited, and wide-integer arithmetic where
// they are too large to visit.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "halfway/layout.h"

namespace {

using halfway::DType;
using halfway::element_count;
using halfway::Extent;
using halfway::is_contiguous;
using halfway::TensorView;

constexpr std::int64_t int64_max = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t int64_min = std::numeric_limits<std::int64_t>::min();

__extension__ using Wide = __int128;

// A view and the arrays that it points to. Addresses are numbers: nothing is ever read.
struct Layout {
  std::uint64_t address = 0;
  DType dtype = halfway::uint8;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  bool strides_in_bytes = false;

  [[nodiscard]] TensorView view() const {
    TensorView view;
    view.data = reinterpret_cast<const void*>(static_cast<std::uintptr_t>(address));
    view.dtype = dtype;
    view.shape = shape;
    view.strides = strides;
    view.strides_in_bytes = strides_in_bytes;
    return view;
  }

  // Offsets of all elements in bytes from `address`, in row-major order.
  [[nodiscard]] std::vector<std::int64_t> offsets() const {
    const std::int64_t unit = strides_in_bytes ? 1 : static_cast<std::int64_t>(item_size(dtype));
    std::vector<std::int64_t> result{0};
    for (std::size_t i = 0; i < shape.size(); ++i) {
      std::vector<std::int64_t> next;
      for (const std::int64_t offset : result) {
        for (std::int64_t k = 0; k < shape[i]; ++k) next.push_back(offset + k * strides[i] * unit);
      }
      result = std::move(next);
    }
    return result;
  }

  // Every byte of every element, as often as it belongs to one.
  [[nodiscard]] std::vector<std::int64_t> bytes() const {
    std::vector<std::int64_t> result;
    for (const std::int64_t offset : offsets()) {
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(item_size(dtype)); ++i) {
        result.push_back(static_cast<std::int64_t>(address) + offset + i);
      }
    }
    std::sort(result.begin(), result.end());
    return result;
  }

  friend std::ostream& operator<<(std::ostream& out, const Layout& layout) {
    out << "at " << layout.address << ' ' << to_string(layout.dtype) << " shape";
    for (const std::int64_t value : layout.shape) out << ' ' << value;
    out << " strides";
    for (const std::int64_t value : layout.strides) out << ' ' << value;
    return out << (layout.strides_in_bytes ? " bytes" : "");
  }
};

class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  std::int64_t from(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[from(0, static_cast<std::int64_t>(values.size()) - 1)];
  }
  std::mt19937& engine() { return engine_; }

  // A small layout of any kind: about half of them row-major with changes, as slicing and transposing make them.
  Layout layout(std::int64_t spread = 12) {
    Layout result;
    result.address = static_cast<std::uint64_t>(4096 + from(0, spread));
    result.dtype = pick({halfway::uint8, halfway::int16, halfway::float32, DType(200, 24, 1)});
    const auto ndim = static_cast<std::size_t>(from(0, 4));
    for (std::size_t i = 0; i < ndim; ++i) result.shape.push_back(from(0, 9) == 0 ? 0 : from(1, 4));
    result.strides.resize(ndim);
    if (from(0, 1) == 0) {
      halfway::row_major_strides(result.shape, result.strides);
      const std::int64_t gap = from(1, 3);
      for (std::int64_t& stride : result.strides) {
        stride *= gap;
        if (from(0, 5) == 0) stride = -stride;
        if (from(0, 9) == 0) stride = from(0, 3);
      }
      if (from(0, 1) == 0) {
        std::vector<std::size_t> order(ndim);
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::shuffle(order.begin(), order.end(), engine_);
        const Layout before = result;
        for (std::size_t i = 0; i < ndim; ++i) {
          result.shape[i] = before.shape[order[i]];
          result.strides[i] = before.strides[order[i]];
        }
      }
    } else {
      for (std::int64_t& stride : result.strides) stride = from(-spread, spread);
    }
    if (from(0, 4) == 0) {
      result.strides_in_bytes = true;
      for (std::int64_t& stride : result.strides) stride = from(-3 * spread, 3 * spread);
    }
    return result;
  }

 private:
  std::mt19937 engine_;
};

bool shares_a_byte(const Layout& a, const Layout& b) {
  const std::vector<std::int64_t> in_a = a.bytes();
  const std::vector<std::int64_t> in_b = b.bytes();
  return std::find_first_of(in_a.begin(), in_a.end(), in_b.begin(), in_b.end()) != in_a.end();
}

bool overlap(const Layout& a, const Layout& b) {
  const bool answer = may_overlap(a.view(), b.view());
  if (answer != may_overlap(b.view(), a.view())) BOOST_FAIL("not symmetric: " << a << "; " << b);
  return answer;
}

BOOST_AUTO_TEST_SUITE(layout)

BOOST_AUTO_TEST_CASE(counts_elements_as_wide_integers_do) {
  Random random(1);
  for (int round = 0; round < 200000; ++round) {
    std::vector<std::int64_t> shape(static_cast<std::size_t>(random.from(0, 6)));
    for (std::int64_t& dim : shape) {
      dim = random.from(0, 2) != 0 ? random.from(0, 5)
                                   : random.pick<std::int64_t>({int64_max, std::int64_t{1} << 31, std::int64_t{1} << 62,
                                                                3037000499, 3037000500, -1, int64_min, 0});
    }
    constexpr Wide ceiling = Wide{1} << 100;
    Wide count = 1;
    bool empty = false;
    bool negative = false;
    for (const std::int64_t dim : shape) {
      negative |= dim < 0;
      empty |= dim == 0;
      if (dim > 0) count = count > ceiling / dim ? ceiling : count * dim;
    }
    const std::optional<std::int64_t> found = element_count(shape);
    const bool countable = !negative && count <= int64_max;
    if (found.has_value() != countable || (countable && *found != (empty ? 0 : static_cast<std::int64_t>(count)))) {
      BOOST_FAIL("round " << round);
    }
  }
}

BOOST_AUTO_TEST_CASE(row_major_strides_number_the_elements) {
  Random random(2);
  for (int round = 0; round < 20000; ++round) {
    Layout layout = random.layout();
    layout.dtype = halfway::uint8;
    layout.strides_in_bytes = false;
    halfway::row_major_strides(layout.shape, layout.strides);
    const std::vector<std::int64_t> offsets = layout.offsets();
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      if (offsets[i] != static_cast<std::int64_t>(i)) BOOST_FAIL(layout);
    }
    if (!is_contiguous(layout.shape, layout.strides)) BOOST_FAIL(layout);
  }
  const std::vector<std::int64_t> shape{3, 0, 5};
  std::vector<std::int64_t> strides(3);
  halfway::row_major_strides(shape, strides);
  BOOST_TEST((strides == std::vector<std::int64_t>{5, 5, 1}));
}

BOOST_AUTO_TEST_CASE(contiguous_means_one_element_after_the_other) {
  Random random(3);
  int contiguous = 0;
  for (int round = 0; round < 200000; ++round) {
    const Layout layout = random.layout();
    const std::vector<std::int64_t> offsets = layout.offsets();
    bool expected = true;
    for (std::size_t i = 0; i < offsets.size(); ++i) {
      expected &= offsets[i] == static_cast<std::int64_t>(i * item_size(layout.dtype));
    }
    if (is_contiguous(layout.view()) != expected) BOOST_FAIL(layout);
    if (!layout.strides_in_bytes && is_contiguous(layout.shape, layout.strides) != expected) BOOST_FAIL(layout);
    contiguous += expected ? 1 : 0;
  }
  BOOST_TEST(contiguous > 10000);
}

BOOST_AUTO_TEST_CASE(contiguity_of_what_is_too_large_to_visit) {
  const std::vector<std::int64_t> shape{2, int64_max, int64_max};
  BOOST_TEST(!is_contiguous(shape, std::vector<std::int64_t>{1, int64_max, 1}));
  BOOST_TEST(is_contiguous(std::vector<std::int64_t>{1, int64_max, 1}, std::vector<std::int64_t>{-5, 1, int64_min}));
}

BOOST_AUTO_TEST_CASE(the_extent_is_that_of_all_bytes) {
  Random random(4);
  for (int round = 0; round < 100000; ++round) {
    const Layout layout = random.layout();
    const std::vector<std::int64_t> bytes = layout.bytes();
    const auto address = static_cast<std::int64_t>(layout.address);
    const Extent expected = bytes.empty() ? Extent{} : Extent{bytes.front() - address, bytes.back() + 1 - address};
    const std::optional<Extent> found = extent(layout.view());
    if (!found || *found != expected) BOOST_FAIL(layout);
    if (layout.strides_in_bytes && halfway::extent(layout.shape, layout.strides, item_size(layout.dtype)) != expected) {
      BOOST_FAIL(layout);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_extent_of_packed_elements_is_that_of_all_bits) {
  Random random(5);
  for (int round = 0; round < 50000; ++round) {
    Layout layout = random.layout();
    layout.strides_in_bytes = false;
    layout.dtype = halfway::uint8;
    const std::vector<std::int64_t> elements = layout.offsets();
    const auto bits = random.from(1, 7);
    layout.dtype = DType(halfway::TypeCode::uint, static_cast<int>(bits));
    Extent expected;
    if (!elements.empty()) {
      const auto [low, high] = std::minmax_element(elements.begin(), elements.end());
      // Floors and ceilings by way of positive numbers.
      constexpr std::int64_t shift = 800000;
      expected = {(*low * bits + shift) / 8 - shift / 8, ((*high + 1) * bits + shift + 7) / 8 - shift / 8};
    }
    const std::optional<Extent> found = extent(layout.view());
    if (!found || *found != expected) BOOST_FAIL(layout);
  }
}

BOOST_AUTO_TEST_CASE(the_extent_of_what_is_too_large_to_visit) {
  Random random(6);
  int fits = 0;
  constexpr int rounds = 200000;
  constexpr Wide limit = Wide{1} << 100;  // far beyond int64, and the sum of some does not wrap
  for (int round = 0; round < rounds; ++round) {
    const auto ndim = static_cast<std::size_t>(random.from(1, 4));
    std::vector<std::int64_t> shape(ndim);
    std::vector<std::int64_t> strides(ndim);
    const auto item = static_cast<std::size_t>(random.pick({1, 8, 16}));
    Wide low = 0;
    Wide high = static_cast<Wide>(item);
    for (std::size_t i = 0; i < ndim; ++i) {
      shape[i] = random.pick<std::int64_t>({1, 2, 3, std::int64_t{1} << random.from(1, 62), int64_max});
      strides[i] = random.pick<std::int64_t>({0, 1, -1, std::int64_t{1} << random.from(1, 62),
                                              -(std::int64_t{1} << random.from(1, 62)), int64_max, int64_min});
      const Wide span = shape[i] == 1 ? 0 : std::clamp(Wide{shape[i] - 1} * strides[i], -limit, limit);
      (span < 0 ? low : high) += span;
    }
    const std::optional<Extent> found = halfway::extent(shape, strides, item);
    const bool expected = high - low <= int64_max;
    if (found.has_value() != expected || (expected && (found->low != low || found->high != high))) {
      BOOST_FAIL("round " << round);
    }
    fits += expected ? 1 : 0;
  }
  BOOST_TEST(fits > rounds / 20);
  BOOST_TEST(fits < rounds * 19 / 20);

  // Elements whose stride in bytes does not fit.
  Layout layout;
  layout.dtype = halfway::float64;
  layout.shape = {2};
  layout.strides = {std::int64_t{1} << 61};
  BOOST_TEST(!extent(layout.view()).has_value());
}

BOOST_AUTO_TEST_CASE(negative_strides_are_those_that_are_followed) {
  Random random(7);
  for (int round = 0; round < 50000; ++round) {
    const Layout layout = random.layout();
    bool expected = false;
    for (std::size_t i = 0; i < layout.shape.size(); ++i) expected |= layout.shape[i] > 1 && layout.strides[i] < 0;
    if (std::count(layout.shape.begin(), layout.shape.end(), 0) > 0) expected = false;
    if (has_negative_strides(layout.view()) != expected) BOOST_FAIL(layout);
  }
}

BOOST_AUTO_TEST_CASE(misaligned_means_that_an_element_is) {
  Random random(8);
  for (int round = 0; round < 100000; ++round) {
    Layout layout = random.layout();
    layout.dtype = random.pick({halfway::uint8, halfway::int16, halfway::float32, halfway::float64, halfway::complex64,
                                halfway::complex128, DType(200, 24, 1), DType(halfway::TypeCode::float_, 32, 3)});
    const auto wanted = static_cast<std::int64_t>(alignment(layout.dtype));
    bool expected = false;
    for (const std::int64_t offset : layout.offsets()) {
      expected |= (static_cast<std::int64_t>(layout.address) + offset) % wanted != 0;
    }
    if (is_misaligned(layout.view()) != expected) BOOST_FAIL(layout);
  }
}

BOOST_AUTO_TEST_CASE(self_overlap_is_never_missed) {
  Random random(9);
  int overlapping = 0;
  int cleared = 0;
  for (int round = 0; round < 200000; ++round) {
    const Layout layout = random.layout();
    const std::vector<std::int64_t> bytes = layout.bytes();
    const bool shares = std::adjacent_find(bytes.begin(), bytes.end()) != bytes.end();
    const bool answer = may_self_overlap(layout.view());
    if (shares && !answer) BOOST_FAIL(layout);
    overlapping += shares ? 1 : 0;
    cleared += answer ? 0 : 1;
  }
  BOOST_TEST(overlapping > 10000);
  BOOST_TEST(cleared > 10000);
}

// What slicing, reversing and transposing a row-major array can make has no self-overlap, and that is seen.
BOOST_AUTO_TEST_CASE(slices_of_arrays_do_not_overlap_themselves) {
  Random random(10);
  for (int round = 0; round < 50000; ++round) {
    Layout layout;
    layout.dtype = random.pick({halfway::uint8, halfway::float32, halfway::complex128});
    const auto ndim = static_cast<std::size_t>(random.from(0, 5));
    std::int64_t stride = 1;
    for (std::size_t i = 0; i < ndim; ++i) {
      const std::int64_t dim = random.from(1, 6);
      const std::int64_t step = random.from(1, 3);
      layout.shape.push_back((dim + step - 1) / step);
      layout.strides.push_back(random.pick<std::int64_t>({-1, 1}) * step * stride);
      stride *= dim;
    }
    std::vector<std::size_t> order(ndim);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random.engine());
    Layout permuted = layout;
    for (std::size_t i = 0; i < ndim; ++i) {
      permuted.shape[i] = layout.shape[order[i]];
      permuted.strides[i] = layout.strides[order[i]];
    }
    if (may_self_overlap(permuted.view())) BOOST_FAIL(permuted);
  }
}

BOOST_AUTO_TEST_CASE(broadcasts_overlap_themselves) {
  Layout layout;
  layout.shape = {3, 4};
  layout.strides = {0, 1};
  BOOST_TEST(may_self_overlap(layout.view()));
  layout.shape = {1, 4};
  BOOST_TEST(!may_self_overlap(layout.view()));
  layout.shape = {0, 4};
  BOOST_TEST(!may_self_overlap(layout.view()));
  layout.shape = {3, 4};
  layout.strides = {int64_max, int64_max};
  BOOST_TEST(may_self_overlap(layout.view()));
  layout.strides = {int64_min, 1};
  BOOST_TEST(may_self_overlap(layout.view()));
}

BOOST_AUTO_TEST_CASE(overlap_is_never_missed) {
  Random random(11);
  int shared = 0;
  int cleared = 0;
  constexpr int rounds = 200000;
  for (int round = 0; round < rounds; ++round) {
    const Layout a = random.layout(30);
    const Layout b = random.layout(30);
    const bool shares = shares_a_byte(a, b);
    const bool answer = overlap(a, b);
    if (shares && !answer) BOOST_FAIL(a << "; " << b);
    shared += shares ? 1 : 0;
    cleared += answer ? 0 : 1;
  }
  BOOST_TEST(shared > rounds / 10);
  BOOST_TEST(cleared > rounds / 10);
}

// Two slices of one array, x[i::s, j:k] and the like, of which brute force says whether they share an element.
Layout slice(const std::vector<std::int64_t>& dims, DType dtype, const std::vector<std::array<std::int64_t, 3>>& cuts) {
  Layout result;
  result.dtype = dtype;
  std::int64_t stride = 1;
  std::int64_t start = 0;
  std::vector<std::int64_t> strides(dims.size());
  for (std::size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const auto [first, last, step] = cuts[i];
    result.shape.push_back((last - first + step - 1) / step);
    result.strides.push_back(strides[i] * step);
    start += first * strides[i];
  }
  result.address = 4096 + static_cast<std::uint64_t>(start) * item_size(dtype);
  return result;
}

BOOST_AUTO_TEST_CASE(interleaved_slices_are_told_apart_exactly) {
  int apart = 0;
  for (const DType dtype : {halfway::uint8, halfway::float32, halfway::complex128}) {
    // a[i::s] and a[j::s]
    for (std::int64_t step = 1; step <= 5; ++step) {
      for (std::int64_t i = 0; i < step; ++i) {
        for (std::int64_t j = 0; j < step; ++j) {
          const Layout a = slice({20}, dtype, {{i, 20, step}});
          const Layout b = slice({20}, dtype, {{j, 20, step}});
          BOOST_TEST(overlap(a, b) == (i == j));
        }
      }
    }
    // x[:, i:k] and x[:, j:l]: columns and blocks of columns, in rows of 4
    for (std::int64_t i = 0; i < 4; ++i) {
      for (std::int64_t k = i + 1; k <= 4; ++k) {
        for (std::int64_t j = 0; j < 4; ++j) {
          for (std::int64_t l = j + 1; l <= 4; ++l) {
            const Layout a = slice({3, 4}, dtype, {{0, 3, 1}, {i, k, 1}});
            const Layout b = slice({3, 4}, dtype, {{0, 3, 1}, {j, l, 1}});
            const bool shares = shares_a_byte(a, b);
            BOOST_TEST(overlap(a, b) == shares);
            apart += shares ? 0 : 1;
          }
        }
      }
    }
    // x[:, i, :] and x[:, j, :]
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < 3; ++j) {
        const Layout a = slice({4, 3, 5}, dtype, {{0, 4, 1}, {i, i + 1, 1}, {0, 5, 1}});
        const Layout b = slice({4, 3, 5}, dtype, {{0, 4, 1}, {j, j + 1, 1}, {0, 5, 1}});
        BOOST_TEST(overlap(a, b) == (i == j));
      }
    }
  }
  BOOST_TEST(apart > 0);
}

BOOST_AUTO_TEST_CASE(real_and_imaginary_parts_do_not_overlap) {
  Layout real;
  real.address = 4096;
  real.dtype = halfway::float32;
  real.shape = {10};
  real.strides = {2};
  Layout imaginary = real;
  imaginary.address += 4;
  BOOST_TEST(!overlap(real, imaginary));
  imaginary.address += 2;  // not a whole element further
  BOOST_TEST(overlap(real, imaginary));
}

BOOST_AUTO_TEST_CASE(intervals_are_told_apart_exactly) {
  Random random(12);
  for (int round = 0; round < 20000; ++round) {
    Layout a = random.layout();
    Layout b = random.layout();
    const std::vector<std::int64_t> in_a = a.bytes();
    const std::vector<std::int64_t> in_b = b.bytes();
    if (in_a.empty() || in_b.empty()) {
      if (overlap(a, b)) BOOST_FAIL("empty: " << a << "; " << b);
      continue;
    }
    // b, moved to begin just after a ends: apart. One byte lower and the byte is shared if both have it.
    b.address += static_cast<std::uint64_t>(in_a.back() + 1 - in_b.front());
    if (overlap(a, b)) BOOST_FAIL(a << "; " << b);
    b.address -= 1;
    if (!overlap(a, b)) BOOST_FAIL(a << "; " << b);
  }
}

BOOST_AUTO_TEST_CASE(overlap_at_the_ends_of_the_address_space) {
  Layout low;
  low.address = 16;
  low.shape = {16};
  low.strides = {-1};
  Layout high = low;
  high.address = std::numeric_limits<std::uint64_t>::max() - 16;
  high.strides = {1};
  BOOST_TEST(!overlap(low, high));
  // Views that no import accepts, because they wrap: nothing is known about them.
  high.shape = {18};
  BOOST_TEST(overlap(low, high));
  low.shape = {18};
  BOOST_TEST(overlap(low, high));
  low.shape = {2, 2};
  low.strides = {int64_max, int64_max};
  BOOST_TEST(overlap(low, low));
}

BOOST_AUTO_TEST_CASE(packed_elements_overlap_by_whole_bytes) {
  Layout a;
  a.address = 4096;
  a.dtype = DType(halfway::TypeCode::int_, 4);
  a.shape = {3};  // a byte and a half
  a.strides = {1};
  Layout b = a;
  BOOST_TEST(!may_self_overlap(a.view()));
  BOOST_TEST(overlap(a, b));
  b.address += 1;
  BOOST_TEST(overlap(a, b));
  b.address += 1;
  BOOST_TEST(!overlap(a, b));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
