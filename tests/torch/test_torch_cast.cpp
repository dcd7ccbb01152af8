// Casts with at::Tensor on either side give the bits of halfway::cast, in memory of torch's.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <array>
#include <complex>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "halfway/torch.h"
#include "rounds.h"
#include "tensors.h"

namespace {

using halfway::Casting;
using halfway::DType;
using halfway::Tensor;
using halfway::view_of;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)

BOOST_AUTO_TEST_SUITE(torch_cast)

BOOST_AUTO_TEST_CASE(the_bits_are_those_of_halfway) {
  std::mt19937 random(23);
  const std::vector<DType> dtypes = shared_dtypes();
  for (int round = 0; round < rounds::of(1500); ++round) {
    const DType from = dtypes[random() % dtypes.size()];
    const DType to = dtypes[random() % dtypes.size()];
    const at::Tensor source = torch_tensor(Layout(random), from, random);
    const halfway::CastOptions options{.casting = Casting::unsafe};
    const Tensor expected = halfway::cast(view_of(source), to, options);
    BOOST_TEST_CONTEXT(halfway::to_string(from) << " to " << halfway::to_string(to) << ' ' << source.sizes()) {
      const at::Tensor result = halfway::cast(source, to, options);
      BOOST_TEST((result.scalar_type() == halfway::to_torch(to)));
      BOOST_TEST(result.is_contiguous());
      BOOST_TEST(result.sizes() == source.sizes());
      BOOST_TEST((result.storage().allocator() == c10::GetCPUAllocator()));
      BOOST_TEST(elements_of(view_of(result)) == elements_of(expected.view()));

      const at::Tensor of_ours = halfway::cast_to_torch(view_of(source), to, options);
      BOOST_TEST(elements_of(view_of(of_ours)) == elements_of(expected.view()));
      const Tensor ours = halfway::cast_from_torch(source, to, options);
      BOOST_TEST(elements_of(ours.view()) == elements_of(expected.view()));
    }
  }
}

BOOST_AUTO_TEST_CASE(results_are_tensors_like_any_other) {
  const at::Tensor source = at::arange(6, at::kFloat).set_requires_grad(true);
  const at::Tensor result = halfway::cast(source, halfway::float64);
  BOOST_TEST(!result.requires_grad());
  result.resize_({1000});
  BOOST_TEST(result.select(0, 5).item<double>() == 5.0);
  const at::Tensor copy = halfway::cast(source, halfway::float32);
  BOOST_TEST(copy.const_data_ptr() != source.const_data_ptr());
  BOOST_TEST(copy.equal(source));
}

BOOST_AUTO_TEST_CASE(marked_sources_are_cast_by_their_values) {
  const at::Tensor z = at::full({3}, c10::complex<double>(1, 2));
  const at::Tensor result = halfway::cast(z.conj(), halfway::complex64);
  BOOST_TEST((result.select(0, 2).item<c10::complex<float>>() == c10::complex<float>(1, -2)));
  const Tensor ours = halfway::cast_from_torch(z.conj(), halfway::complex64);
  BOOST_TEST((static_cast<const std::complex<float>*>(ours.view().data)[0] == std::complex<float>(1, -2)));
}

BOOST_AUTO_TEST_CASE(into_memory_that_is_there) {
  const at::Tensor source = at::arange(12, at::kDouble).view({3, 4}).sub(6.0);
  const at::Tensor columns_first = at::zeros({4, 3}, at::kBFloat16).t();
  const auto version = columns_first._version();
  halfway::cast_into(source, columns_first);
  BOOST_TEST(columns_first.to(at::kDouble).equal(source));
  BOOST_TEST(columns_first._version() == version + 1);

  const at::Tensor again = at::zeros({3, 4}, at::kHalf);
  halfway::cast_into(view_of(source), again);
  BOOST_TEST(again.to(at::kDouble).equal(source));

  Tensor ours = Tensor::allocate(std::array<std::int64_t, 2>{3, 4}, halfway::float32);
  halfway::cast_into(source, ours.mutable_view());
  BOOST_TEST(halfway::to_torch(std::move(ours)).to(at::kDouble).equal(source));
}

BOOST_AUTO_TEST_CASE(a_refused_destination_is_untouched_and_of_its_version) {
  const at::Tensor source = at::full({4}, 1.5);
  const at::Tensor integers = at::full({4}, 7, at::kInt);
  const auto version = integers._version();
  const auto refused = [&](const at::Tensor& destination, Casting casting) {
    return reason_of([&] { halfway::cast_into(source, destination, {.casting = casting}); });
  };
  BOOST_TEST(refused(integers, Casting::same_value) != "nothing");
  BOOST_TEST(refused(integers, Casting::safe) != "nothing");
  BOOST_TEST(refused(at::zeros({5}), Casting::unsafe) == "out_mismatch");
  BOOST_TEST(refused(at::zeros({1}).expand({4}), Casting::unsafe) == "overlap");
  BOOST_TEST(integers.equal(at::full({4}, 7, at::kInt)));
  BOOST_TEST(integers._version() == version);

  const at::Tensor leaf = at::zeros({4}).set_requires_grad(true);
  const auto of_leaf = leaf._version();
  BOOST_TEST(refused(leaf, Casting::unsafe) == "requires_grad");
  BOOST_TEST(refused(leaf.mul(2), Casting::unsafe) == "requires_grad");
  BOOST_TEST(refused(leaf.detach(), Casting::unsafe) == "nothing");
  BOOST_TEST(leaf._version() == of_leaf + 1);  // the detached tensor's, too
  BOOST_TEST(refused(at::zeros({4}, at::kComplexFloat).conj(), Casting::unsafe) == "conj");
}

BOOST_AUTO_TEST_CASE(tensors_of_inference_mode_keep_no_version) {
  const c10::InferenceMode inference;
  const at::Tensor source = at::full({4}, 2.0, at::kFloat);
  const at::Tensor into = at::zeros({4}, at::kHalf);
  BOOST_TEST_REQUIRE(into.is_inference());
  halfway::cast_into(source, into);
  BOOST_TEST(halfway::cast(into, halfway::float32).equal(source));
}

BOOST_AUTO_TEST_CASE(options_and_report) {
  const at::Tensor bytes = at::arange(24, at::kByte).view({2, 4, 3});
  const std::array<std::int64_t, 3> channels_first{2, 0, 1};
  const std::vector<double> scale{1.0, 2.0, 0.5};
  halfway::Report report;
  const at::Tensor result = halfway::cast(
      bytes, halfway::bfloat16,
      {.scale = scale, .axis = -1, .permute = std::span<const std::int64_t>(channels_first), .report = &report});
  BOOST_TEST(result.sizes().vec() == (std::vector<std::int64_t>{3, 2, 4}));
  BOOST_TEST(report.count == 24U);
  BOOST_TEST(result.select(0, 1).equal(bytes.select(2, 1).to(at::kBFloat16).mul(2)));

  const std::array<std::int64_t, 2> wrong{0, 0};
  BOOST_TEST(reason_of([&] {
               static_cast<void>(
                   halfway::cast(bytes, halfway::float32, {.permute = std::span<const std::int64_t>(wrong)}));
             }) == "permute");
  BOOST_CHECK_THROW(static_cast<void>(halfway::cast(bytes, halfway::float32, {.seed = 1})), std::invalid_argument);
  BOOST_TEST(reason_of([&] { static_cast<void>(halfway::cast(bytes, halfway::float8_e3m4)); }) == "unsupported_dtype");
}

BOOST_AUTO_TEST_CASE(results_that_no_memory_holds) {
  const at::Tensor one = at::zeros({1}, at::kByte);
  const at::Tensor endless = one.expand({std::int64_t{1} << 61});
  BOOST_CHECK_THROW(static_cast<void>(halfway::cast(endless, halfway::float64)), std::bad_alloc);
  // A sanitizer's allocator ends the process instead.
  if (rounds::are_watched) return;
  BOOST_CHECK_THROW(static_cast<void>(halfway::cast(endless, halfway::float16)), std::bad_alloc);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
