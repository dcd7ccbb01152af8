// Exchanges: every dtype that both libraries have, every layout, values written on one side and read on the other.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/zeros.h>
#include <dlpack/dlpack.h>

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "halfway/dlpack.h"
#include "halfway/torch.h"
#include "runtime/rounds.h"
#include "tensors.h"

namespace at {
// Of ATen/DLConvertor.h, which would bring all operators with it.
TORCH_API DLManagedTensor* toDLPack(const Tensor& src);
}  // namespace at

namespace {

using halfway::DType;
using halfway::from_torch;
using halfway::Tensor;
using halfway::TensorView;
using halfway::to_torch;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)

BOOST_AUTO_TEST_SUITE(torch_exchange)

BOOST_AUTO_TEST_CASE(every_dtype_of_torch_is_one_of_ours_or_refused_by_name) {
  std::size_t shared = 0;
  for (int code = 0; code < static_cast<int>(c10::ScalarType::NumOptions); ++code) {
    const auto type = static_cast<c10::ScalarType>(code);
    BOOST_TEST_CONTEXT(c10::toString(type)) {
      DType dtype;
      const std::string reason = reason_of([&] { dtype = from_torch(type); });
      if (reason == "nothing") {
        ++shared;
        BOOST_TEST((to_torch(dtype) == type));
        BOOST_TEST(item_size(dtype) == c10::elementSize(type));
        BOOST_TEST(find(dtype) != nullptr);
      } else {
        BOOST_TEST(reason == (c10::isQIntType(type) ? "quantized" : "unsupported_dtype"));
      }
    }
  }
  BOOST_TEST(shared == shared_dtypes().size());
  BOOST_TEST(shared >= 20U);
  BOOST_TEST(reason_of([] { static_cast<void>(from_torch(c10::ScalarType::Undefined)); }) == "unsupported_dtype");
}

BOOST_AUTO_TEST_CASE(every_dtype_of_ours_is_one_of_torch_or_refused) {
  std::size_t shared = 0;
  // All codes and sizes, those included that the table does not know.
  for (unsigned code = 0; code < 256; ++code) {
    if (rounds::are_watched && code > 24 && code % 16 != 15) continue;  // an exception takes a millisecond
    for (unsigned bits = 0; bits < 256; bits += rounds::are_watched ? 4 : 1) {
      for (const unsigned lanes : {0U, 1U, 2U}) {
        const DType dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits),
                          static_cast<std::uint16_t>(lanes)};
        c10::ScalarType type = c10::ScalarType::Undefined;
        if (reason_of([&] { type = to_torch(dtype); }) == "nothing") {
          ++shared;
          BOOST_TEST((from_torch(type) == dtype));
        }
      }
    }
  }
  BOOST_TEST(shared == shared_dtypes().size());
}

BOOST_AUTO_TEST_CASE(any_layout_of_torch_is_the_same_memory_here) {
  std::mt19937 random(3);
  for (const DType dtype : shared_dtypes()) {
    for (int round = 0; round < 40; ++round) {
      const at::Tensor t = torch_tensor(Layout(random), dtype, random, round % 3);
      const Tensor ours = from_torch(t);
      const TensorView view = ours.view();
      BOOST_TEST_CONTEXT(halfway::to_string(dtype) << ' ' << t.sizes() << ' ' << t.strides()) {
        BOOST_TEST((view.dtype == dtype));
        BOOST_TEST((view.device == halfway::Device{}));
        BOOST_TEST(!view.readonly);
        BOOST_TEST(listed(view.shape) == t.sizes().vec());
        if (t.numel() > 0) {
          BOOST_TEST(view.data == t.data_ptr());
          BOOST_TEST(listed(view.strides) == t.strides().vec());
        }
        const TensorView borrowed = halfway::view_of(t);
        BOOST_TEST(borrowed.data == t.const_data_ptr());
        BOOST_TEST(listed(borrowed.strides) == t.strides().vec());
        const Tensor through = halfway::from_dlpack(halfway::to_dlpack(t));
        BOOST_TEST((through.view().dtype == dtype));
        BOOST_TEST(listed(through.view().shape) == t.sizes().vec());
        BOOST_TEST(elements_of(through.view()) == elements_of(view));
        // What torch itself says of the tensor through DLPack.
        const Tensor peer = halfway::from_dlpack(at::toDLPack(t));
        BOOST_TEST((peer.view().dtype == view.dtype));
        BOOST_TEST(elements_of(peer.view()) == elements_of(view));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(any_layout_of_ours_is_the_same_memory_in_torch) {
  std::mt19937 random(5);
  for (const DType dtype : shared_dtypes()) {
    for (int round = 0; round < 40; ++round) {
      const Layout layout(random);
      std::vector<std::max_align_t> memory(
          static_cast<std::size_t>(layout.elements) * item_size(dtype) / sizeof(std::max_align_t) + 1);
      halfway::MutableView view;
      view.data = memory.data();
      view.dtype = dtype;
      view.shape = layout.shape;
      view.strides = layout.strides;
      Tensor ours = Tensor::adopt(view, nullptr, nullptr);
      const std::vector<std::int64_t> strides = listed(ours.view().strides);
      const at::Tensor t = to_torch(std::move(ours));
      BOOST_TEST_CONTEXT(halfway::to_string(dtype) << ' ' << t.sizes() << ' ' << t.strides()) {
        BOOST_TEST(!ours);  // NOLINT(bugprone-use-after-move): as documented
        BOOST_TEST((t.scalar_type() == to_torch(dtype)));
        BOOST_TEST(t.is_cpu());
        BOOST_TEST(!t.requires_grad());
        BOOST_TEST(t.sizes().vec() == layout.shape);
        BOOST_TEST(t.strides().vec() == strides);
        if (t.numel() > 0) {
          BOOST_TEST(t.const_data_ptr() == memory.data());
          // All elements, and nothing beyond, belong to the storage.
          BOOST_TEST(t.storage().nbytes() == static_cast<std::size_t>(layout.elements) * item_size(dtype));
        } else {
          BOOST_TEST(t.storage().nbytes() == 0U);
        }
        BOOST_TEST(t.is_contiguous() == halfway::is_contiguous(from_torch(t).view()));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_one_side_writes_the_other_reads) {
  const std::array<std::int64_t, 2> shape{3, 4};
  Tensor ours = Tensor::allocate(shape, halfway::float32);
  auto* const values = static_cast<float*>(ours.mutable_view().data);
  for (int i = 0; i < 12; ++i) values[i] = static_cast<float>(i);
  const Tensor kept = ours.share();
  at::Tensor t = to_torch(std::move(ours));
  BOOST_TEST(t.sum().item<float>() == 66.0F);
  BOOST_TEST(t.t().contiguous().select(0, 1).select(0, 2).item<float>() == 9.0F);
  t.mul_(2);
  BOOST_TEST(static_cast<const float*>(kept.view().data)[11] == 22.0F);

  const at::Tensor counted = at::arange(6, at::kLong);
  Tensor back = from_torch(counted);
  static_cast<std::int64_t*>(back.mutable_view().data)[5] = 50;
  BOOST_TEST(counted.select(0, 5).item<std::int64_t>() == 50);
}

BOOST_AUTO_TEST_CASE(scalars_and_nothing) {
  const at::Tensor scalar = to_torch(from_torch(at::zeros({}, at::kHalf).add(1.5)));
  BOOST_TEST(scalar.dim() == 0);
  BOOST_TEST(scalar.item<float>() == 1.5F);
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{0}, {3, 0, 2}, {0, 7}}) {
    const Tensor empty = from_torch(at::empty(shape, at::kFloat));
    BOOST_TEST(listed(empty.view().shape) == shape);
    BOOST_TEST(to_torch(empty.share()).sizes().vec() == shape);
    BOOST_TEST(to_torch(Tensor::allocate(shape, halfway::bfloat16)).sizes().vec() == shape);
  }
  std::vector<std::int64_t> many(64, 1);
  BOOST_TEST(to_torch(from_torch(at::zeros(many))).dim() == 64);
  many.push_back(1);
  BOOST_TEST(reason_of([&] { static_cast<void>(from_torch(at::zeros(many))); }) == "malformed");
}

BOOST_AUTO_TEST_CASE(what_requires_grad_is_shared_without_it) {
  at::Tensor leaf = at::arange(4, at::kFloat).set_requires_grad(true);
  const at::Tensor result = leaf.mul(3);
  for (const at::Tensor& t : {leaf, result}) {
    const Tensor ours = from_torch(t);
    BOOST_TEST(ours.view().data == t.const_data_ptr());
    BOOST_TEST(!to_torch(ours.share()).requires_grad());
  }
  result.sum().backward();  // the graph is as it was
  BOOST_TEST(leaf.grad().select(0, 3).item<float>() == 3.0F);
}

BOOST_AUTO_TEST_CASE(marked_values_are_made) {
  using complex = std::complex<float>;
  const at::Tensor z = at::empty({5}, at::kComplexFloat);
  for (int i = 0; i < 5; ++i) {
    static_cast<complex*>(z.mutable_data_ptr())[i] = complex(static_cast<float>(i), static_cast<float>(10 + i));
  }
  const at::Tensor conjugated = z.conj().slice(0, 0, 5, 2);
  BOOST_TEST_REQUIRE(conjugated.is_conj());
  const Tensor ours = from_torch(conjugated);
  BOOST_TEST(ours.view().data != conjugated.const_data_ptr());
  BOOST_TEST((static_cast<const complex*>(ours.view().data)[2] == complex(4, -14)));

  const Tensor through = halfway::from_dlpack(halfway::to_dlpack(conjugated));
  BOOST_TEST(elements_of(through.view()) == elements_of(ours.view()));

  const at::Tensor negated = at::imag(z.conj());
  BOOST_TEST_REQUIRE(negated.is_neg());
  const Tensor imaginary = from_torch(negated);
  BOOST_TEST(static_cast<const float*>(imaginary.view().data)[3] == -13.0F);
  BOOST_TEST(reason_of([&] { static_cast<void>(halfway::view_of(conjugated)); }) == "conj");
  BOOST_TEST(reason_of([&] { static_cast<void>(halfway::mutable_view_of(negated)); }) == "neg");
}

BOOST_AUTO_TEST_CASE(memory_copied_on_write_is_copied_for_who_may_write) {
  const at::Tensor original = at::arange(1000, at::kInt);
  const at::Tensor lazy = original._lazy_clone();
  BOOST_TEST(halfway::view_of(lazy).data == original.const_data_ptr());
  Tensor ours = from_torch(lazy);
  static_cast<int*>(ours.mutable_view().data)[7] = -1;
  BOOST_TEST(original.select(0, 7).item<int>() == 7);
  BOOST_TEST(lazy.select(0, 7).item<int>() == -1);
}

BOOST_AUTO_TEST_CASE(page_locked_and_managed_memory_is_the_host_s) {
  for (const auto type : {halfway::DeviceType::cuda_host, halfway::DeviceType::cuda_managed}) {
    std::array<float, 2> memory{1, 2};
    const std::array<std::int64_t, 1> shape{2};
    const std::array<std::int64_t, 1> strides{1};
    halfway::MutableView view;
    view.data = memory.data();
    view.dtype = halfway::float32;
    view.device = {type, 0};
    view.shape = shape;
    view.strides = strides;
    const at::Tensor t = to_torch(Tensor::adopt(view, nullptr, nullptr));
    BOOST_TEST(t.is_cpu());
    BOOST_TEST(t.sum().item<float>() == 3.0F);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
