// Tensors: allocation, adoption, moves and exports. Who is released when is in test_lifetime.cpp.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "box.h"
#include "counting_new.h"
#include "halfway/cast.h"
#include "halfway/dlpack.h"
#include "halfway/layout.h"
#include "halfway/tensor.h"
#include "producer.h"
#include "reason_of.h"

namespace {

using halfway::DType;
using halfway::Error;
using halfway::from_dlpack;
using halfway::MutableView;
using halfway::Tensor;
using halfway::TensorView;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)

static_assert(!std::is_copy_constructible_v<Tensor> && !std::is_copy_assignable_v<Tensor>);
static_assert(std::is_nothrow_move_constructible_v<Tensor> && std::is_nothrow_move_assignable_v<Tensor>);
static_assert(std::is_nothrow_default_constructible_v<Tensor>);
static_assert(std::is_convertible_v<MutableView, TensorView> && !std::is_convertible_v<TensorView, MutableView>);

constexpr std::int64_t huge = std::int64_t{1} << 40;

void count_up(void* context) { ++*static_cast<int*>(context); }

MutableView view_of(std::vector<float>& memory, const std::vector<std::int64_t>& shape,
                    const std::vector<std::int64_t>& strides) {
  MutableView view;
  view.data = memory.data();
  view.dtype = halfway::float32;
  view.shape = shape;
  view.strides = strides;
  return view;
}

BOOST_AUTO_TEST_SUITE(tensor)

BOOST_AUTO_TEST_CASE(allocates_row_major_aligned_memory) {
  const std::vector<std::vector<std::int64_t>> shapes{
      {}, {1}, {7}, {2, 3}, {0}, {3, 0, 5}, {1, 1, 1}, std::vector<std::int64_t>(64, 1), {5, 1, 7}};
  for (const auto& shape : shapes) {
    for (const DType dtype : {halfway::uint8, halfway::float32, halfway::complex128, DType(200, 24, 1),
                              DType(halfway::TypeCode::float4_e2m1fn, 4, 2)}) {
      Tensor tensor = Tensor::allocate(shape, dtype);
      const MutableView view = tensor.mutable_view();
      BOOST_TEST(std::equal(view.shape.begin(), view.shape.end(), shape.begin(), shape.end()));
      std::vector<std::int64_t> strides(shape.size());
      halfway::row_major_strides(shape, strides);
      BOOST_TEST(std::equal(view.strides.begin(), view.strides.end(), strides.begin(), strides.end()));
      BOOST_TEST((view.dtype == dtype));
      BOOST_TEST((view.device == halfway::Device{}));
      BOOST_TEST(!view.readonly);
      BOOST_TEST(view.data != nullptr);
      BOOST_TEST(reinterpret_cast<std::uintptr_t>(view.data) % halfway::tensor_alignment == 0U);
      // All of it can be written: the sanitizer watches.
      std::memset(view.data, 0x5A, static_cast<std::size_t>(extent(view)->high));
      BOOST_TEST(tensor.view().data == view.data);
    }
  }
}

BOOST_AUTO_TEST_CASE(refuses_to_allocate_what_cannot_be) {
  const auto reason = [](std::vector<std::int64_t> shape, DType dtype) {
    return reason_of([&] { static_cast<void>(Tensor::allocate(shape, dtype)); });
  };
  BOOST_TEST(reason({-1}, halfway::float32) == "malformed");
  BOOST_TEST(reason({huge, huge}, halfway::float32) == "malformed");
  BOOST_TEST(reason({huge, huge, 0}, halfway::float32) == "malformed");
  BOOST_TEST(reason({std::int64_t{1} << 61}, halfway::float32) == "malformed");
  BOOST_TEST(reason(std::vector<std::int64_t>(65, 1), halfway::float32) == "malformed");
  BOOST_TEST(reason({2}, DType(halfway::TypeCode::int_, 4)) == "unsupported_dtype");
  BOOST_TEST(reason({2}, DType(200, 12, 1)) == "unsupported_dtype");
  BOOST_TEST(reason({2}, DType(halfway::TypeCode::float_, 0)) == "unsupported_dtype");
  BOOST_TEST(reason({2}, DType(halfway::TypeCode::bfloat, 32)) == "unsupported_dtype");
}

BOOST_AUTO_TEST_CASE(allocation_that_fails_leaks_nothing) {
  const std::array<std::int64_t, 2> shape{3, 4};
  std::int64_t successes = 0;
  for (bool failed = true; failed; ++successes) {
    const std::int64_t live = live_allocations;
    bool threw = false;
    {
      const FailingAllocation failing(successes);
      try {
        static_cast<void>(Tensor::allocate(shape, halfway::float64));
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      failed = FailingAllocation::happened();
    }
    const std::int64_t leaked = live_allocations - live;
    BOOST_TEST(threw == failed);
    BOOST_TEST(leaked == 0);
  }
  BOOST_TEST(successes == 3);  // the bookkeeping and the memory
}

BOOST_AUTO_TEST_CASE(adopts_and_releases_once) {
  std::vector<float> memory(6);
  std::vector<std::int64_t> shape{2, 3};
  std::vector<std::int64_t> strides{3, 1};
  int releases = 0;
  {
    Tensor tensor = Tensor::adopt(view_of(memory, shape, strides), &releases, count_up);
    shape.assign(2, 0);  // the metadata is a copy
    strides.assign(2, 0);
    BOOST_TEST(tensor.view().data == memory.data());
    BOOST_TEST(tensor.view().shape[1] == 3);
    BOOST_TEST(tensor.view().strides[0] == 3);
    static_cast<float*>(tensor.mutable_view().data)[5] = 7;
    const Tensor other = tensor.share();
    tensor.reset();
    BOOST_TEST(releases == 0);
  }
  BOOST_TEST(releases == 1);
  BOOST_TEST(memory[5] == 7);
}

BOOST_AUTO_TEST_CASE(adopts_what_nobody_owns) {
  std::vector<float> memory(1);
  const Tensor tensor = Tensor::adopt(view_of(memory, {}, {}), nullptr, nullptr);
  BOOST_TEST(tensor.view().data == memory.data());
}

BOOST_AUTO_TEST_CASE(adopts_read_only_memory) {
  std::vector<float> memory(3);
  MutableView view = view_of(memory, {}, {});
  view.readonly = true;
  DLManagedTensorVersioned* const out = Tensor::adopt(view, nullptr, nullptr).to_dlpack();
  BOOST_TEST(out->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  out->deleter(out);
}

// DLPack cannot say the byte order: such a tensor serves casts, and an export that it refuses leaves it as it was.
BOOST_AUTO_TEST_CASE(adopts_memory_in_the_other_byte_order) {
  std::vector<float> memory{0, 0};
  const std::array<unsigned char, 8> big_endian{0x3F, 0x80, 0, 0, 0xC0, 0x20, 0, 0};  // 1, -2.5
  std::memcpy(memory.data(), big_endian.data(), big_endian.size());
  const std::vector<std::int64_t> shape{2};
  const std::vector<std::int64_t> strides{1};
  int releases = 0;
  MutableView view = view_of(memory, shape, strides);
  view.swapped = true;
  Tensor tensor = Tensor::adopt(view, &releases, count_up);
  BOOST_TEST(tensor.view().swapped);
  BOOST_TEST(tensor.mutable_view().swapped);
  BOOST_TEST(tensor.share().view().swapped);

  const Tensor native = halfway::cast(tensor.view(), halfway::float32);
  BOOST_TEST(!native.view().swapped);
  BOOST_TEST(static_cast<const float*>(native.view().data)[0] == 1.0F);
  BOOST_TEST(static_cast<const float*>(native.view().data)[1] == -2.5F);

  for (const bool shared : {false, true}) {
    const Tensor other = shared ? tensor.share() : Tensor();
    BOOST_TEST(reason_of([&] { static_cast<void>(std::move(tensor).to_dlpack()); }) == "byte_order");
    BOOST_TEST(reason_of([&] { static_cast<void>(std::move(tensor).to_dlpack_legacy()); }) == "byte_order");
    BOOST_TEST_REQUIRE(static_cast<bool>(tensor));
  }
  BOOST_TEST(releases == 0);
  tensor.reset();
  BOOST_TEST(releases == 1);
}

BOOST_AUTO_TEST_CASE(releases_what_it_cannot_adopt) {
  std::vector<float> memory(6);
  const std::vector<std::int64_t> shape{2, 3};
  const std::vector<std::int64_t> strides{3, 1};
  const auto reason = [&](auto change) {
    MutableView view = view_of(memory, shape, strides);
    change(view);
    int releases = 0;
    std::string found = reason_of([&] { static_cast<void>(Tensor::adopt(view, &releases, count_up)); });
    BOOST_TEST(releases == 1);
    return found;
  };
  BOOST_TEST(reason([](MutableView& v) { v.strides_in_bytes = true; }) == "fractional_strides");
  BOOST_TEST(reason([](MutableView& v) { v.strides = v.strides.first(1); }) == "malformed");
  BOOST_TEST(reason([](MutableView& v) { v.strides = {}; }) == "malformed");
  BOOST_TEST(reason([](MutableView& v) { v.data = nullptr; }) == "malformed");
  BOOST_TEST(reason([](MutableView& v) { v.dtype = DType(halfway::TypeCode::boolean, 1); }) == "unsupported_dtype");

  int releases = 0;
  {
    const FailingAllocation failing(0);
    try {
      static_cast<void>(Tensor::adopt(view_of(memory, shape, strides), &releases, count_up));
    } catch (const std::bad_alloc&) {
      releases += 100;
    }
  }
  BOOST_TEST(releases == 101);
}

BOOST_AUTO_TEST_CASE(an_empty_tensor_has_nothing_to_give) {
  Tensor empty;
  BOOST_TEST(!empty);
  BOOST_TEST(!empty.share());
  empty.reset();
  BOOST_TEST(reason_of([&] { static_cast<void>(std::move(empty).to_dlpack()); }) == "consumed");
  BOOST_TEST(reason_of([&] { static_cast<void>(std::move(empty).to_dlpack_legacy()); }) == "consumed");
}

BOOST_AUTO_TEST_CASE(moves_hand_over) {
  Versioned first;
  Versioned second;
  Tensor a = from_dlpack(&first.managed);
  Tensor b = from_dlpack(&second.managed);
  b = std::move(a);
  BOOST_TEST(!a);  // NOLINT(bugprone-use-after-move): moved-from tensors are empty
  BOOST_TEST(second.releases == 1);
  BOOST_TEST(first.releases == 0);
  Tensor& alias = b;
  b = std::move(alias);
  BOOST_TEST(first.releases == 0);
  BOOST_TEST(static_cast<bool>(b));
  const Tensor c = std::move(b);
  BOOST_TEST(c.view().data == first.tensor().data);
  BOOST_TEST(first.releases == 0);
}

BOOST_AUTO_TEST_CASE(an_unshared_tensor_is_the_struct_itself) {
  const std::array<std::int64_t, 2> shape{2, 3};
  Tensor tensor = Tensor::allocate(shape, halfway::float32);
  const void* const memory = tensor.view().data;
  static_cast<float*>(tensor.mutable_view().data)[5] = 7;
  { const Tensor gone = tensor.share(); }
  const std::int64_t before = total_allocations;
  DLManagedTensorVersioned* const out = std::move(tensor).to_dlpack();
  const std::int64_t allocations = total_allocations - before;
  BOOST_TEST(allocations == 0);
  BOOST_TEST(!tensor);  // NOLINT(bugprone-use-after-move): as documented
  BOOST_TEST(out->flags == DLPACK_FLAG_BITMASK_IS_COPIED);
  BOOST_TEST(out->dl_tensor.data == memory);
  BOOST_TEST(out->dl_tensor.ndim == 2);
  BOOST_TEST(out->dl_tensor.shape[1] == 3);
  BOOST_TEST(out->dl_tensor.strides[0] == 3);
  BOOST_TEST(out->dl_tensor.byte_offset == 0U);
  BOOST_TEST(static_cast<float*>(out->dl_tensor.data)[5] == 7);
  out->deleter(out);
}

BOOST_AUTO_TEST_CASE(a_shared_tensor_exports_a_struct_of_its_own) {
  const std::array<std::int64_t, 2> shape{2, 3};
  Tensor tensor = Tensor::allocate(shape, halfway::float32);
  DLManagedTensorVersioned* const first = tensor.share().to_dlpack();
  DLManagedTensorVersioned* const second = tensor.share().to_dlpack();
  BOOST_TEST(first != second);
  BOOST_TEST(first->flags == 0U);  // others see the memory: it is no copy
  BOOST_TEST(first->dl_tensor.shape != second->dl_tensor.shape);
  BOOST_TEST(first->dl_tensor.data == tensor.view().data);
  // A consumer may do as it likes with its own struct.
  first->dl_tensor.shape[0] = 99;
  first->dl_tensor.strides[0] = 99;
  first->dl_tensor.data = nullptr;
  BOOST_TEST(tensor.view().shape[0] == 2);
  BOOST_TEST(second->dl_tensor.strides[0] == 3);
  first->deleter(first);
  tensor.reset();
  static_cast<float*>(second->dl_tensor.data)[5] = 7;
  second->deleter(second);
}

BOOST_AUTO_TEST_CASE(foreign_memory_is_never_called_copied) {
  Versioned producer;
  DLManagedTensorVersioned* const out = from_dlpack(&producer.managed).to_dlpack();
  BOOST_TEST(out->flags == 0U);
  out->deleter(out);

  std::vector<float> memory(1);
  DLManagedTensorVersioned* const adopted = Tensor::adopt(view_of(memory, {}, {}), nullptr, nullptr).to_dlpack();
  BOOST_TEST(adopted->flags == 0U);
  adopted->deleter(adopted);
}

BOOST_AUTO_TEST_CASE(a_consumer_may_spoil_the_struct_it_was_given) {
  const std::array<std::int64_t, 2> shape{2, 3};
  DLManagedTensorVersioned* const out = Tensor::allocate(shape, halfway::float32).to_dlpack();
  out->dl_tensor = DLTensor{};
  out->flags = ~std::uint64_t{0};
  out->deleter(out);  // the memory goes back with its own address and size: the sanitizer watches
}

BOOST_AUTO_TEST_CASE(legacy_export) {
  Versioned producer;
  producer.set({2, 3, 1}, {-3, 2, 5});
  producer.tensor().data = reinterpret_cast<void*>(std::uintptr_t{4096});
  DLManagedTensor* const out = from_dlpack(&producer.managed).to_dlpack_legacy();
  BOOST_TEST(out->dl_tensor.data == producer.tensor().data);
  BOOST_TEST(out->dl_tensor.ndim == 3);
  BOOST_TEST((std::vector<std::int64_t>(out->dl_tensor.shape, out->dl_tensor.shape + 3) == producer.shape));
  BOOST_TEST((std::vector<std::int64_t>(out->dl_tensor.strides, out->dl_tensor.strides + 3) == producer.strides));
  BOOST_TEST(out->dl_tensor.dtype.bits == 32);
  BOOST_TEST(producer.releases == 0);
  out->deleter(out);
  BOOST_TEST(producer.releases == 1);
}

BOOST_AUTO_TEST_CASE(legacy_structs_cannot_say_everything) {
  const auto reason = [](std::uint64_t flags, DLDataType dtype) {
    Versioned producer;
    producer.managed.flags = flags;
    producer.tensor().dtype = dtype;
    Tensor tensor = from_dlpack(&producer.managed);
    std::string found = reason_of([&] {
      DLManagedTensor* const out = std::move(tensor).to_dlpack_legacy();
      out->deleter(out);
    });
    BOOST_TEST(static_cast<bool>(tensor) == (found != "nothing"));  // NOLINT(bugprone-use-after-move): kept on failure
    return found;
  };
  BOOST_TEST(reason(DLPACK_FLAG_BITMASK_READ_ONLY, {kDLFloat, 32, 1}) == "readonly");
  BOOST_TEST(reason(DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, {kDLInt, 4, 1}) == "unsupported_dtype");
  BOOST_TEST(reason(DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, {kDLInt, 8, 1}) == "nothing");
  BOOST_TEST(reason(0, {kDLInt, 4, 1}) == "nothing");
}

BOOST_AUTO_TEST_CASE(an_export_that_fails_keeps_the_reference) {
  Versioned producer;
  const Tensor other = from_dlpack(&producer.managed);
  Tensor tensor = other.share();
  int failures = 0;
  const std::int64_t live = live_allocations;
  {
    const FailingAllocation failing(0);
    try {
      static_cast<void>(std::move(tensor).to_dlpack());
    } catch (const std::bad_alloc&) {
      ++failures;
    }
  }
  {
    const FailingAllocation failing(0);
    try {
      static_cast<void>(std::move(tensor).to_dlpack_legacy());
    } catch (const std::bad_alloc&) {
      ++failures;
    }
  }
  const std::int64_t leaked = live_allocations - live;
  BOOST_TEST(failures == 2);
  BOOST_TEST(leaked == 0);
  BOOST_TEST(static_cast<bool>(tensor));  // NOLINT(bugprone-use-after-move): as documented
  BOOST_TEST(tensor.view().data == other.view().data);
}

BOOST_AUTO_TEST_CASE(a_reference_given_away_as_a_pointer_is_taken_back) {
  Versioned producer;
  Tensor tensor = from_dlpack(&producer.managed);
  Tensor other = tensor.share();
  const std::int64_t made = total_allocations;
  void* const released = std::move(tensor).release();
  const std::int64_t allocated = total_allocations - made;
  BOOST_TEST(allocated == 0);
  BOOST_TEST(!tensor);  // NOLINT(bugprone-use-after-move): as documented
  {
    const Tensor again = Tensor::reclaim(released);
    BOOST_TEST(again.view().data == other.view().data);
    BOOST_TEST(producer.releases == 0);
  }
  other.reset();
  BOOST_TEST(producer.releases == 1);
  BOOST_TEST(std::move(tensor).release() == static_cast<void*>(nullptr));
  BOOST_TEST(!Tensor::reclaim(nullptr));
}

BOOST_AUTO_TEST_CASE(byte_order_is_a_property_of_the_view) {
  Versioned producer;
  const Tensor tensor = from_dlpack(&producer.managed);
  const TensorView swapped = tensor.view().byte_swapped();
  BOOST_TEST(swapped.swapped);
  BOOST_TEST(swapped.data == tensor.view().data);
  BOOST_TEST(!swapped.byte_swapped().swapped);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
