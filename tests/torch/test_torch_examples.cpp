// The examples of halfway/torch.h as its comments show them (examples.py compares), with what they promise.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/arange.h>

#include <array>
#include <cstdint>
#include <utility>

#include "halfway/torch.h"
#include "tensors.h"

namespace {

BOOST_AUTO_TEST_SUITE(torch_examples)

BOOST_AUTO_TEST_CASE(of_the_header) {
  // clang-format off
  halfway::Tensor pixels = halfway::Tensor::allocate(std::array<std::int64_t, 2>{1, 64}, halfway::float32);
  at::Tensor x = halfway::to_torch(std::move(pixels));                  // the same memory
  x.fill_(0.5);
  at::Tensor narrow = halfway::cast(x, halfway::bfloat16);              // one pass, into memory of torch's allocator
  halfway::Tensor back = halfway::from_torch(narrow);                   // the same memory, kept as long as `back`
  // clang-format on
  BOOST_TEST(x.sizes().vec() == (std::vector<std::int64_t>{1, 64}));
  BOOST_TEST(back.view().data == narrow.const_data_ptr());
  BOOST_TEST(narrow.sum().item<float>() == 32.0F);
}

BOOST_AUTO_TEST_CASE(of_dtypes_and_memory) {
  const at::Tensor x = at::arange(3, at::kFloat);
  at::Tensor y = x.to(halfway::to_torch(halfway::float16));
  BOOST_TEST((y.scalar_type() == at::kHalf));

  const halfway::TensorView view = halfway::view_of(x);
  halfway::Tensor t = halfway::cast(view, halfway::float16, {}, halfway::torch_allocator());
  BOOST_TEST(halfway_test::elements_of(t.view()) == halfway_test::elements_of(halfway::view_of(y)));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
