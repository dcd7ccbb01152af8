// What the fused kernels have to do, on a real or simulated device: every pair of theirs, at every alignment of both
// sides, in sizes around what vectors and blocks hold, scaled or not, and whatever is close to what they take and has
// to be the general kernel's. The bits of the host's casts, and nothing written beside them.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "site.h"

namespace {

using namespace site;
using halfway::CastOptions;
using halfway::DType;
using halfway::Overflow;
using halfway::Tensor;

// Row-major, `offset` elements behind the beginning of aligned memory, with `gap` elements behind each index of the
// first axis.
arrays::Array placed(DType dtype, std::vector<std::int64_t> shape, std::int64_t offset, std::int64_t gap = 0) {
  arrays::Array array = arrays::contiguous(dtype, std::move(shape));
  const auto size = static_cast<std::int64_t>(array.size());
  const std::int64_t rows = array.shape.empty() ? 1 : array.shape[0];
  array.first = offset * size;
  array.memory.resize(array.memory.size() + static_cast<std::size_t>((offset + rows * gap + 1) * size));
  if (!array.shape.empty()) {
    array.strides[0] += gap * size;
    array.whole_strides[0] += gap;
  }
  for (std::size_t i = 0; i < array.memory.size(); ++i) array.memory[i] = static_cast<std::byte>(i * 37 + 11);
  return array;
}

// Casts on the device between two arrays, and on the host, and compares all memory.
void check(Bench& bench, arrays::Random& random, arrays::Array source, const arrays::Array& target,
           const CastOptions& cast) {
  arrays::fill_random(random, source);
  arrays::Array expected = target;
  halfway::cast_into(source.view(), expected.mutable_view(), cast);
  There from(bench, source);
  There into(bench, target);
  bench.engine.cast_on_device_into(from.view(), Tensor(), into.view(), bench.to(target.dtype, cast));
  BOOST_CHECK(into.now().memory == expected.memory);
}

CastOptions freely(Overflow overflow = Overflow::by_format) {
  CastOptions cast;
  cast.casting = halfway::Casting::unsafe;
  cast.overflow = overflow;
  return cast;
}

std::vector<double> scales(std::int64_t count) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(1 / (255 * (0.2 + 0.01 * static_cast<double>(i))));
  return values;
}
std::vector<double> shifts(std::int64_t count) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(-2.1 + 0.3 * static_cast<double>(i));
  return values;
}

const std::vector<DType> images_targets{halfway::float32, halfway::float16, halfway::bfloat16};

// Around vectors of 4, 8 and 16 elements, blocks of them, and several blocks.
const std::vector<std::int64_t> sizes{0,   1,   2,    3,    4,    7,    8,    9,    15,   16,   17,   255,
                                      256, 257, 1023, 2049, 4095, 4096, 4097, 8191, 8192, 8200, 20000};

BOOST_AUTO_TEST_SUITE(device_fused)

BOOST_AUTO_TEST_CASE(dense_elements_at_any_place) {
  Bench bench(Bench::shipped());
  arrays::Random random(31);
  using namespace halfway;
  for (const auto& [from, to] : std::vector<std::pair<DType, DType>>{{uint8, float32},
                                                                     {uint8, bfloat16},
                                                                     {uint8, float16},
                                                                     {boolean, float32},
                                                                     {bfloat16, float32},
                                                                     {float16, float32},
                                                                     {float16, bfloat16},
                                                                     {bfloat16, float16},
                                                                     {float32, bfloat16},
                                                                     {float32, float64},
                                                                     {float64, float16},
                                                                     {int64, bfloat16},
                                                                     {int32, int64},
                                                                     {int64, int32},
                                                                     {float8_e5m2, float32},
                                                                     {float8_e4m3fn, bfloat16},
                                                                     {float32, float8_e4m3fn}}) {
    for (const std::int64_t size : sizes) {
      if (size > 300 && random() % 2 == 0) continue;
      for (const std::int64_t in : {0, 1, 2, 3}) {
        for (const std::int64_t out : {0, 1, 5}) {
          if (random() % 3 == 0) continue;
          BOOST_TEST_INFO_SCOPE(to_string(from) << " -> " << to_string(to) << ", " << size << " elements, " << in
                                                << " and " << out << " off");
          check(bench, random, placed(from, {size}, in), placed(to, {size}, out),
                freely(random() % 2 == 0 ? Overflow::saturate : Overflow::by_format));
        }
      }
    }
  }
}

// By one number, along the last axis, the first one, and one in between.
BOOST_AUTO_TEST_CASE(scaled_elements_at_any_place) {
  Bench bench(Bench::shipped());
  arrays::Random random(32);
  for (const DType from : {halfway::uint8, halfway::float32}) {
    for (const DType to : images_targets) {
      for (const std::int64_t size : sizes) {
        for (const std::int64_t channels : {0, 1, 2, 3, 4, 5, 31, 32}) {
          if (size > 300 && random() % 4 != 0) continue;
          const std::int64_t inner = std::array<std::int64_t, 4>{1, 3, 8, 49}[random() % 4];
          const std::int64_t outer = (size + channels * inner) / (channels * inner + 1);
          const std::vector<std::int64_t> shape =
              channels == 0 ? std::vector<std::int64_t>{size} : std::vector<std::int64_t>{outer, channels, inner};
          const std::vector<double> scale = scales(channels);
          const std::vector<double> shift = shifts(channels);
          CastOptions cast = freely(random() % 4 == 0 ? Overflow::saturate : Overflow::by_format);
          cast.scale = 0.37;
          cast.shift = -1.25;
          if (channels != 0) {
            cast.axis = 1;
            cast.scale = scale;
            if (random() % 3 != 0) cast.shift = shift;
          }
          const auto in = static_cast<std::int64_t>(random() % 3);
          const auto out = static_cast<std::int64_t>(random() % 3);
          BOOST_TEST_INFO_SCOPE(to_string(from)
                                << " -> " << to_string(to) << ", " << outer << " x " << channels << " x " << inner
                                << " of " << size << ", " << in << " and " << out << " off");
          check(bench, random, placed(from, shape, in), placed(to, shape, out), cast);
        }
      }
    }
  }
}

// What a channel's coefficients are must not depend on where a block begins: an axis that no block's size is a multiple
// of, over many blocks.
BOOST_AUTO_TEST_CASE(scaled_elements_of_many_blocks) {
  Bench bench(Bench::shipped());
  arrays::Random random(33);
  const std::vector<double> scale = scales(7);
  const std::vector<double> shift = shifts(7);
  for (const std::int64_t inner : {1, 11, 5003}) {
    CastOptions cast = freely();
    cast.axis = 1;
    cast.scale = scale;
    cast.shift = shift;
    const std::vector<std::int64_t> shape{100000 / (7 * inner) + 1, 7, inner};
    BOOST_TEST_INFO_SCOPE("inner " << inner);
    check(bench, random, placed(halfway::uint8, shape, 1), placed(halfway::bfloat16, shape, 5), cast);
  }
}

// (n, h, w, channels) to (n, channels, h, w).
BOOST_AUTO_TEST_CASE(channels_become_planes) {
  Bench bench(Bench::shipped());
  arrays::Random random(34);
  const std::array<std::int64_t, 4> axes{0, 3, 1, 2};
  std::vector<DType> targets = images_targets;
  targets.push_back(halfway::uint8);
  for (const DType to : targets) {
    for (const std::int64_t channels : {1, 2, 3, 4, 5}) {
      for (const auto& [height, width] : std::vector<std::pair<std::int64_t, std::int64_t>>{
               {1, 64}, {5, 13}, {8, 8}, {15, 17}, {16, 16}, {1, 255}, {1, 257}, {24, 40}, {48, 64}, {67, 61}}) {
        for (const int affine : {0, 1, 2, 3}) {
          const std::int64_t count = 1 + static_cast<std::int64_t>(random() % 3);
          const std::vector<double> scale = scales(affine == 3 ? count : channels);
          const std::vector<double> shift = shifts(affine == 3 ? count : channels);
          CastOptions cast = freely(random() % 4 == 0 ? Overflow::saturate : Overflow::by_format);
          cast.permute = axes;
          if (affine == 1) cast.scale = 0.37;
          if (affine > 1) {
            cast.axis = affine == 2 ? 3 : 0;  // of the source: the channels, or the images
            cast.scale = scale;
            cast.shift = shift;
          }
          const bool aligned = random() % 2 == 0;
          const auto in = static_cast<std::int64_t>(aligned ? random() % 2 * 16 : random() % 9);
          const auto out = static_cast<std::int64_t>(aligned ? random() % 2 * 16 : random() % 3);
          const auto source_gap = static_cast<std::int64_t>(random() % 3 * (aligned ? 16 : 5));
          const auto target_gap = static_cast<std::int64_t>(random() % 3 * (aligned ? 16 : 3));
          BOOST_TEST_INFO_SCOPE(to_string(to) << ", " << count << " x " << height << " x " << width << " x " << channels
                                              << ", affine " << affine << ", " << in << " and " << out << " off, gaps "
                                              << source_gap << " and " << target_gap);
          check(bench, random, placed(halfway::uint8, {count, height, width, channels}, in, source_gap),
                placed(to, {count, channels, height, width}, out, target_gap), cast);
        }
      }
    }
  }
}

// Parts of images, whose rows are apart, and channels that are in reversed order or not all taken: axes of the same
// number are not the same memory.
BOOST_AUTO_TEST_CASE(parts_of_images) {
  Bench bench(Bench::shipped());
  arrays::Random random(35);
  const std::array<std::int64_t, 4> axes{0, 3, 1, 2};
  for (int round = 0; round < rounds(150, 300); ++round) {
    const auto channels = 2 + static_cast<std::int64_t>(random() % 3);
    const auto width = 8 * (1 + static_cast<std::int64_t>(random() % 9));
    const auto height = 2 + static_cast<std::int64_t>(random() % 20);
    arrays::Array source = placed(halfway::uint8, {2, height, width, channels}, 16);
    if (random() % 2 == 0)
      source.shape[2] = std::max<std::int64_t>(1, width - static_cast<std::int64_t>(random() % 17));
    if (random() % 2 == 0) source.shape[1] = 1 + static_cast<std::int64_t>(random() % 2);
    const auto change = random() % 4;
    if (change == 0) source.shape[3] -= 1;
    if (change == 1) {
      source.first += channels - 1;
      source.strides[3] = -1;
      source.whole_strides[3] = -1;
    }
    const DType to = random() % 4 == 0 ? halfway::uint8 : images_targets[random() % 3];
    CastOptions cast = freely();
    cast.permute = axes;
    const std::vector<double> scale = scales(source.shape[3]);
    if (random() % 2 == 0) {
      cast.axis = 3;
      cast.scale = scale;
    }
    const arrays::Array target =
        placed(to, {source.shape[0], source.shape[3], source.shape[1], source.shape[2]}, random() % 2 == 0 ? 0 : 1);
    BOOST_TEST_INFO_SCOPE("round " << round << ": " << arrays::to_string(source) << " -> " << to_string(to));
    check(bench, random, source, target, cast);
  }
}

// Planes that are aligned, each of them, and hold no whole number of vectors.
BOOST_AUTO_TEST_CASE(planes_with_gaps) {
  Bench bench(Bench::shipped());
  arrays::Random random(37);
  const std::array<std::int64_t, 3> axes{2, 0, 1};
  CastOptions cast = freely();
  cast.permute = axes;
  for (const DType to : images_targets) {
    for (std::int64_t pixels = 33; pixels < 66; ++pixels) {
      for (const std::int64_t gap : {std::int64_t{0}, 16 - pixels % 16, std::int64_t{3}}) {
        BOOST_TEST_INFO_SCOPE(to_string(to) << ", " << pixels << " pixels, gaps of " << gap);
        check(bench, random, placed(halfway::uint8, {1, pixels, 3}, 0), placed(to, {3, 1, pixels}, 0, gap), cast);
      }
    }
  }
}

// Around tiles of 64 elements, with rows that are apart and begin anywhere: what transposes moves, what it converts,
// and pairs and addresses that it leaves to the general kernel.
BOOST_AUTO_TEST_CASE(matrices_are_transposed) {
  Bench bench(Bench::shipped());
  arrays::Random random(38);
  using namespace halfway;
  const std::array<std::int64_t, 3> axes{0, 2, 1};
  CastOptions cast = freely();
  cast.permute = axes;
  for (const auto& [from, to] : std::vector<std::pair<DType, DType>>{{uint8, uint8},
                                                                     {float16, float16},
                                                                     {int32, int32},
                                                                     {float64, float64},
                                                                     {complex64, complex64},
                                                                     {complex128, complex128},
                                                                     {float32, bfloat16},
                                                                     {float32, float16},
                                                                     {bfloat16, float32},
                                                                     {float16, float32},
                                                                     {float32, float8_e4m3fn}}) {
    for (const auto& [rows, columns] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {2, 32}, {3, 2000}, {8, 8}, {31, 33}, {63, 65}, {64, 64}, {65, 64}, {64, 129}, {1500, 5}, {130, 190}}) {
      for (const std::int64_t gap : {0, 1}) {
        cast.overflow = random() % 2 == 0 ? Overflow::saturate : Overflow::by_format;
        const auto count = 1 + static_cast<std::int64_t>(random() % 2);
        arrays::Array source = placed(from, {count, rows, columns}, static_cast<std::int64_t>(random() % 3), gap);
        arrays::Array target = placed(to, {count, columns, rows}, static_cast<std::int64_t>(random() % 3), gap);
        if (random() % 5 == 0) {  // at addresses that no element is aligned at
          source.first += 1;
          source.memory.emplace_back();
        }
        BOOST_TEST_INFO_SCOPE(to_string(from) << " -> " << to_string(to) << ", " << count << " x " << rows << " x "
                                              << columns << ", gaps of " << gap << ", at " << source.first);
        check(bench, random, source, target, cast);
      }
    }
  }
}

// What a fused kernel does not do, of tensors that are otherwise its.
BOOST_AUTO_TEST_CASE(other_wishes_are_the_general_kernels) {
  Bench bench(Bench::shipped());
  arrays::Random random(36);
  const std::array<std::int64_t, 4> axes{0, 3, 1, 2};
  for (const DType to :
       {halfway::float32, halfway::bfloat16, halfway::float8_e4m3fn, halfway::int8, halfway::float64}) {
    for (const bool planes : {false, true}) {
      for (const int wish : {0, 1, 2}) {
        CastOptions cast = freely();
        halfway::Report counted;
        halfway::Report wanted;
        cast.scale = 0.01;
        if (planes) cast.permute = axes;
        if (wish == 1 && halfway::find(to)->format != nullptr) {
          cast.rounding = halfway::Rounding::stochastic;
          cast.seed = 5;
        }
        const std::vector<std::int64_t> shape{2, 24, 24, 3};
        arrays::Array source = placed(halfway::uint8, shape, 0);
        arrays::fill_random(random, source);
        arrays::Array expected = planes ? placed(to, {2, 3, 24, 24}, 0) : placed(to, shape, 0);
        There from(bench, source);
        There into(bench, expected);
        if (wish == 2) cast.report = &wanted;
        halfway::cast_into(source.view(), expected.mutable_view(), cast);
        if (wish == 2) cast.report = &counted;
        bench.engine.cast_on_device_into(from.view(), Tensor(), into.view(), bench.to(to, cast));
        BOOST_TEST_INFO_SCOPE(to_string(to) << (planes ? ", planes" : "") << ", wish " << wish);
        BOOST_CHECK(into.now().memory == expected.memory);
        BOOST_TEST((counted == wanted));
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
