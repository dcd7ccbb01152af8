// What ships, on this machine: with a driver and a device it transfers, without it explains itself and everything else
// goes on.
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "halfway/cuda/transfer.h"

namespace {

using halfway::Error;
using halfway::Reason;
using halfway::Tensor;

Tensor counted(std::int64_t count) {
  const std::array<std::int64_t, 1> shape{count};
  Tensor tensor = Tensor::allocate(shape, halfway::float32);
  auto* const values = static_cast<float*>(tensor.mutable_view().data);
  for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) * 0.37F;
  return tensor;
}

BOOST_AUTO_TEST_SUITE(cuda_driver)

BOOST_AUTO_TEST_CASE(a_transfer_goes_there_and_back_or_says_what_was_looked_for) {
  const Tensor source = counted(100'000);
  const std::string why = halfway::cuda::unavailable_because();
  BOOST_TEST(why.empty() == (halfway::cuda::device_count() > 0));
  if (why.empty()) {
    const Tensor there = halfway::cuda::to_device(source.view(), {.dtype = halfway::bfloat16});
    const Tensor back = halfway::cuda::to_host(there.view(), {.dtype = halfway::float32});
    const Tensor narrow = halfway::cast(source.view(), halfway::bfloat16);
    const Tensor expected = halfway::cast(narrow.view(), halfway::float32);
    BOOST_TEST(std::memcmp(back.view().data, expected.view().data, 400'000) == 0);
    halfway::cuda::trim();
    return;
  }
  BOOST_TEST_MESSAGE(why);
  BOOST_TEST(why.find("CUDA") != std::string::npos);
  const auto says_why = [](const Error& error) {
    return error.reason() == Reason::unavailable && error.message().find("no CUDA device") != std::string::npos &&
           error.hint().find("halfway") != std::string::npos;
  };
  const halfway::MutableView there{.data = nullptr,
                                   .dtype = halfway::float32,
                                   .device = {halfway::DeviceType::cuda, 0},
                                   .shape = source.view().shape,
                                   .strides = source.view().strides};
  for (int i = 0; i < 2; ++i) {
    BOOST_CHECK_EXCEPTION(static_cast<void>(halfway::cuda::to_device(source.view())), Error, says_why);
    BOOST_CHECK_EXCEPTION(static_cast<void>(halfway::cuda::plan_to_device(source.view())), Error, says_why);
    BOOST_CHECK_EXCEPTION(halfway::cuda::to_device_into(source.view(), there), Error, says_why);
    BOOST_CHECK_EXCEPTION(static_cast<void>(halfway::cuda::to_host(there)), Error, says_why);
  }
  halfway::cuda::collect();
  halfway::cuda::trim();
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
