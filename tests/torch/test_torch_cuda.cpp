// halfway/torch_cuda.h. Without a GPU: one clear error, and nothing lost. With one: values, streams and memory.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "halfway/torch_cuda.h"
#include "tensors.h"

namespace {

using halfway::Error;
using halfway::Tensor;
using halfway_test::reason_of;

namespace cuda = halfway::cuda;

bool has_device() { return cuda::device_count() > 0; }

boost::test_tools::assertion_result with_a_device(boost::unit_test::test_unit_id /*id*/) { return has_device(); }
boost::test_tools::assertion_result without_a_device(boost::unit_test::test_unit_id /*id*/) { return !has_device(); }

BOOST_AUTO_TEST_SUITE(torch_cuda)

BOOST_AUTO_TEST_CASE(without_a_device_every_function_says_so, *boost::unit_test::precondition(without_a_device)) {
  const at::Tensor host = at::arange(4, at::kFloat);
  const std::vector<std::function<void()>> calls{
      [&] { static_cast<void>(cuda::to_device(host)); },
      [&] { static_cast<void>(cuda::to_torch_device(halfway::from_torch(host))); },
      [&] { static_cast<void>(cuda::torch_stream(0)); },
      [&] {
        static_cast<void>(cuda::torch_memory().allocate({}, halfway::float32, {halfway::DeviceType::cuda, 0}, nullptr));
      },
  };
  for (const auto& call : calls) {
    std::string message;
    try {
      call();
    } catch (const Error& error) {
      BOOST_TEST(std::string(to_string(error.reason())) == "unavailable");
      message = error.message();
    }
    BOOST_TEST(message == cuda::unavailable_because());
    BOOST_TEST(!message.empty());
  }
  BOOST_TEST(host.storage().use_count() == 1U);
}

BOOST_AUTO_TEST_CASE(tensors_of_the_wrong_side_are_refused) {
  const at::Tensor host = at::arange(4, at::kFloat);
  const at::Tensor other = at::zeros({4});
  const auto version = other._version();
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_host(host)); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_host_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_device_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::cast_on_device(host)); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::cast_on_device_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_device(at::Tensor())); }) == "no_storage");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_torch_device(Tensor())); }) == "consumed");
  BOOST_TEST(other.equal(at::zeros({4})));
  BOOST_TEST(other._version() == version);
}

BOOST_AUTO_TEST_CASE(there_and_back, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor host = at::arange(4096, at::kFloat).view({64, 64}).t();
  // clang-format off
  at::Tensor batch = halfway::cuda::to_device(host, {.device = 0, .dtype = halfway::bfloat16, .non_blocking = true});
  at::Tensor wide = halfway::cuda::cast_on_device(batch, {.dtype = halfway::float32});
  at::Tensor back = halfway::cuda::to_host(wide);
  const halfway::TensorView view = halfway::view_of(host);
  halfway::Tensor held = halfway::cuda::to_device(
      view, {.device = 0, .stream = halfway::cuda::torch_stream(0), .allocator = &halfway::cuda::torch_memory()});
  // clang-format on
  BOOST_TEST(halfway::to_torch(std::move(held)).cpu().equal(host));
  BOOST_TEST(batch.is_cuda());
  BOOST_TEST((batch.scalar_type() == at::kBFloat16));
  BOOST_TEST(back.equal(halfway::cast(halfway::cast(host, halfway::bfloat16), halfway::float32)));

  BOOST_TEST(halfway::to_torch(halfway::from_torch(wide)).is_cuda());
  BOOST_TEST(reason_of([&] { static_cast<void>(halfway::cast(wide, halfway::float16)); }) == "device");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
