// Places of elements, as kernels compute them, against the sum over all axes.
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <limits>
#include <vector>

#include "arrays.h"
#include "halfway/layout.h"
#include "places_of.h"

namespace {

using halfway::detail::Places;
using halfway::detail::places_of;

BOOST_AUTO_TEST_SUITE(places)

BOOST_AUTO_TEST_CASE(every_element_is_where_its_strides_say) {
  arrays::Random random(5);
  for (int i = 0; i < 2000; ++i) {
    const auto shape = arrays::random_shape(random, 300);
    const arrays::Array array = arrays::random_layout(random, halfway::float32, shape, true);
    const auto places = places_of(array.view());
    BOOST_TEST_INFO_SCOPE(arrays::to_string(array));
    BOOST_REQUIRE(places.has_value());  // at most eight axes
    const std::int64_t first = static_cast<std::int64_t>(random()) & 1 ? 0 : array.count() / 2;
    Places from = *places;
    from.first = static_cast<std::uint64_t>(first);
    for (std::int64_t position = first; position < array.count(); ++position) {
      BOOST_REQUIRE(from.offset(static_cast<std::uint64_t>(position - first)) == array.offset(position) - array.first);
    }
  }
}

struct Layout {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  [[nodiscard]] halfway::TensorView view() const {
    return {.data = nullptr, .dtype = halfway::float32, .shape = shape, .strides = strides};
  }
};

BOOST_AUTO_TEST_CASE(axes_that_continue_one_another_are_one) {
  const auto axes = [](const Layout& layout) { return places_of(layout.view()).value().axes; };
  BOOST_TEST(axes({{2, 3, 4}, {12, 4, 1}}) == 1);
  BOOST_TEST(axes({{2, 3, 4}, {24, 8, 2}}) == 1);
  BOOST_TEST(axes({{2, 3, 4}, {-12, -4, -1}}) == 1);
  BOOST_TEST(axes({{2, 3, 4}, {0, 0, 0}}) == 1);
  BOOST_TEST(axes({{2, 3, 4}, {12, 4, 2}}) == 2);
  BOOST_TEST(axes({{2, 3, 4}, {1, 2, 6}}) == 3);
  BOOST_TEST(axes({{2, 1, 4}, {4, 99, 1}}) == 1);
  BOOST_TEST(axes({{1, 1}, {5, 5}}) == 1);
  BOOST_TEST(axes({{}, {}}) == 1);
}

BOOST_AUTO_TEST_CASE(more_axes_than_a_launch_has_room_for) {
  Layout apart;
  for (int axis = 0; axis < 8; ++axis) {
    apart.shape.push_back(2);
    apart.strides.push_back(std::int64_t{1} << (2 * axis));
  }
  BOOST_TEST(places_of(apart.view())->axes == 8);
  apart.shape.push_back(1);  // no axis at all, wherever it would lead
  apart.strides.push_back(std::numeric_limits<std::int64_t>::max());
  BOOST_TEST(places_of(apart.view())->axes == 8);
  apart.shape.back() = 2;
  apart.strides.back() = 1 << 20;
  BOOST_TEST(!places_of(apart.view()).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
