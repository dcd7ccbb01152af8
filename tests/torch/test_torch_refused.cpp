// What is refused, by which reason, and that nothing is lost by it; and every allocation that fails.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/_efficientzerotensor.h>
#include <ATen/ops/_nested_tensor_from_tensor_list.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/quantize_per_tensor.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "counting_new.h"
#include "halfway/torch.h"
#include "tensors.h"

namespace {

using halfway::CastOptions;
using halfway::Device;
using halfway::DeviceType;
using halfway::DType;
using halfway::Error;
using halfway::from_torch;
using halfway::MutableView;
using halfway::Tensor;
using halfway::to_torch;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)

struct Refused {
  const char* name;
  const char* reason;
  at::Tensor tensor;
};

std::vector<Refused> refused_tensors() {
  const at::Tensor plain = at::arange(6, at::kFloat).view({2, 3});
  std::vector<Refused> all{
      {"undefined", "no_storage", at::Tensor()},
      {"meta", "no_storage", at::empty({2, 3}, at::TensorOptions(at::kMeta).dtype(at::kFloat))},
      {"zero tensor", "no_storage", at::_efficientzerotensor({2, 3}, at::kFloat)},
      {"COO", "sparse", plain.to_sparse()},
      {"CSR", "sparse", plain.to_sparse_csr()},
      {"nested", "nested", at::_nested_tensor_from_tensor_list({plain, plain})},
      {"quantized", "quantized", at::quantize_per_tensor(plain, 0.5, 0, at::kQInt8)},
      {"bits", "unsupported_dtype", at::empty({2}, at::kBits8)},
      {"one bit", "unsupported_dtype", at::empty({2}, c10::ScalarType::UInt1)},
  };
  // As torch marks the tensors of Python classes that have a dispatch of their own.
  const at::Tensor python = at::zeros({2, 3});
  python.unsafeGetTensorImpl()->set_python_dispatch(true);
  all.push_back({"Python", "subclass", python});
  return all;
}

BOOST_AUTO_TEST_SUITE(torch_refused)

BOOST_AUTO_TEST_CASE(tensors_without_plain_memory_are_refused_by_every_function) {
  const at::Tensor plain = at::zeros({2, 3});
  Tensor ours = from_torch(at::zeros({2, 3}));
  const std::vector<std::pair<const char*, std::function<void(const at::Tensor&)>>> functions{
      {"from_torch", [](const at::Tensor& t) { static_cast<void>(from_torch(t)); }},
      {"to_dlpack", [](const at::Tensor& t) { static_cast<void>(halfway::to_dlpack(t)); }},
      {"view_of", [](const at::Tensor& t) { static_cast<void>(halfway::view_of(t)); }},
      {"mutable_view_of", [](const at::Tensor& t) { static_cast<void>(halfway::mutable_view_of(t)); }},
      {"cast", [](const at::Tensor& t) { static_cast<void>(halfway::cast(t, halfway::float16)); }},
      {"cast_from_torch",
       [](const at::Tensor& t) { static_cast<void>(halfway::cast_from_torch(t, halfway::float16)); }},
      {"cast_into, source", [&](const at::Tensor& t) { halfway::cast_into(t, plain); }},
      {"cast_into, ours", [&](const at::Tensor& t) { halfway::cast_into(t, ours.mutable_view()); }},
      {"cast_into, destination", [&](const at::Tensor& t) { halfway::cast_into(plain, t); }},
      {"cast_into, from ours", [&](const at::Tensor& t) { halfway::cast_into(ours.view(), t); }},
  };
  for (const Refused& refused : refused_tensors()) {
    for (const auto& [name, function] : functions) {
      const auto& call = function;
      BOOST_TEST_CONTEXT(name << " of " << refused.name) {
        BOOST_TEST(reason_of([&] { call(refused.tensor); }) == refused.reason);
      }
    }
  }
}

// A tensor over four floats, as its owner describes it.
struct Described {
  std::array<float, 8> memory{};
  int releases = 0;
  std::vector<std::int64_t> shape{2, 2};
  std::vector<std::int64_t> strides{2, 1};
  DType dtype = halfway::float32;
  Device device{};
  bool readonly = false;
  bool swapped = false;
  std::ptrdiff_t offset = 0;  // bytes

  [[nodiscard]] Tensor tensor() {
    MutableView view;
    view.data = reinterpret_cast<char*>(&memory[4]) + offset;
    view.dtype = dtype;
    view.device = device;
    view.shape = shape;
    view.strides = strides;
    view.readonly = readonly;
    view.swapped = swapped;
    return Tensor::adopt(view, this, [](void* self) { ++static_cast<Described*>(self)->releases; });
  }
};

BOOST_AUTO_TEST_CASE(what_torch_cannot_express_is_refused_and_kept) {
  const std::vector<std::pair<std::vector<std::string>, std::function<void(Described&)>>> cases{
      {{"readonly"}, [](Described& d) { d.readonly = true; }},
      {{"negative_strides"},
       [](Described& d) {
         d.strides = {-2, 1};
       }},
      {{"byte_order"}, [](Described& d) { d.swapped = true; }},
      {{"misaligned"}, [](Described& d) { d.offset = 2; }},
      {{"negative_strides", "misaligned", "readonly"},
       [](Described& d) {
         d.strides = {2, -1};
         d.offset = 1;
         d.readonly = true;
       }},
      {{"unsupported_dtype"}, [](Described& d) { d.dtype = halfway::float8_e3m4; }},
      {{"unsupported_dtype"}, [](Described& d) { d.dtype = DType(halfway::TypeCode::float_, 32, 2); }},
      {{"unsupported_dtype"},
       [](Described& d) { d.dtype = DType(std::uint8_t{200}, std::uint8_t{16}, std::uint16_t{1}); }},
      {{"device"},
       [](Described& d) {
         d.device = {static_cast<DeviceType>(7), 0};
       }},
      // Not cut to the 8 bits that torch has for them.
      {{"device"},
       [](Described& d) {
         d.device = {DeviceType::cuda, 256};
       }},
      {{"device"},
       [](Described& d) {
         d.device = {DeviceType::cuda, -1};
       }},
      // The tests link no CUDA part of libtorch.
      {{"unavailable"},
       [](Described& d) {
         d.device = {DeviceType::cuda, 0};
       }},
  };
  for (const auto& [expected, change] : cases) {
    Described described;
    change(described);
    {
      Tensor tensor = described.tensor();
      std::vector<std::string> reasons;
      try {
        static_cast<void>(to_torch(std::move(tensor)));
      } catch (const Error& error) {
        for (const halfway::Reason reason : error.reasons()) reasons.emplace_back(to_string(reason));
        BOOST_TEST(error.message().find("torch") != std::string::npos, error.message());
      }
      BOOST_TEST(reasons == expected);
      BOOST_TEST_REQUIRE(static_cast<bool>(tensor));  // NOLINT(bugprone-use-after-move): as documented
      BOOST_TEST(described.releases == 0);
    }
    BOOST_TEST(described.releases == 1);
  }
  BOOST_TEST(reason_of([] { static_cast<void>(to_torch(Tensor())); }) == "consumed");
}

BOOST_AUTO_TEST_CASE(read_only_memory_is_handed_over_knowingly) {
  Described described;
  described.readonly = true;
  {
    const at::Tensor t = to_torch(described.tensor(), {.allow_readonly = true});
    BOOST_TEST(t.const_data_ptr() == static_cast<const void*>(&described.memory[4]));
    described.strides = {-2, 1};
    Tensor reversed = described.tensor();
    BOOST_TEST(reason_of([&] { static_cast<void>(to_torch(std::move(reversed), {.allow_readonly = true})); }) ==
               "negative_strides");
  }
  BOOST_TEST(described.releases == 2);
}

BOOST_AUTO_TEST_CASE(what_means_nothing_is_not_refused) {
  Described described;
  described.shape = {1, 2};
  described.strides = {-2, 1};  // of the one row that there is
  BOOST_TEST(to_torch(described.tensor()).sum().item<float>() == 0.0F);
  described.shape = {0, 2};
  described.strides = {-2, -1};
  BOOST_TEST(to_torch(described.tensor()).numel() == 0);
  described.offset = 1;
  BOOST_TEST(to_torch(described.tensor()).numel() == 0);
  described.dtype = halfway::complex64;  // is aligned as its parts are
  described.offset = 4;
  described.shape = {1};
  described.strides = {1};
  BOOST_TEST(to_torch(described.tensor()).dim() == 1);
}

// Calls `body` with the first, the second, ... allocation failing until it gets through; how often that was.
int failures_survived(const std::function<void()>& body, const std::function<void()>& after_failure) {
  for (int k = 0;; ++k) {
    const std::int64_t live = live_allocations;
    bool failed = false;
    {
      const FailingAllocation failing(k);
      try {
        body();
      } catch (const std::bad_alloc&) {
        failed = true;
      }
    }
    if (!failed) return k;
    BOOST_TEST(live_allocations == live);
    after_failure();
  }
}

BOOST_AUTO_TEST_CASE(each_allocation_that_fails_costs_nothing) {
  static_cast<void>(to_torch(from_torch(at::zeros({2, 2}))));  // what libtorch makes at first use
  Described described;
  Tensor tensor = described.tensor();
  const int imports = failures_survived([&] { static_cast<void>(to_torch(std::move(tensor))); },
                                        [&] {
                                          BOOST_TEST_REQUIRE(static_cast<bool>(tensor));
                                          BOOST_TEST(described.releases == 0);
                                        });
  BOOST_TEST(imports == 3);  // torch's storage, tensor and version counter: one block of ours is there already
  BOOST_TEST(described.releases == 1);

  const at::Tensor t = at::zeros({3, 4});
  const auto unshared = [&] { BOOST_TEST(t.storage().use_count() == 1U); };
  BOOST_TEST(failures_survived([&] { static_cast<void>(from_torch(t)); }, unshared) == 1);
  BOOST_TEST(failures_survived([&] { static_cast<void>(halfway::cast(t, halfway::bfloat16)); }, unshared) >= 2);
  BOOST_TEST(failures_survived([&] { static_cast<void>(halfway::view_of(t)); }, unshared) == 0);
}

// An allocator of torch's that counts and can have no memory.
class Scarce final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    TORCH_CHECK(!empty, "no memory: you tried to allocate ", bytes, " bytes");
    ++made;
    auto* const memory = new Block{this, std::make_unique<std::max_align_t[]>(bytes / sizeof(std::max_align_t) + 1)};
    return {memory->bytes.get(), memory,
            [](void* block) {
              auto* const self = static_cast<Block*>(block);
              ++self->of->freed;
              delete self;
            },
            c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }

  bool empty = false;
  int made = 0;
  int freed = 0;

 private:
  struct Block {
    Scarce* of;
    std::unique_ptr<std::max_align_t[]> bytes;
  };
};

BOOST_AUTO_TEST_CASE(torch_s_allocator_is_asked_and_may_have_nothing) {
  Scarce scarce;
  c10::Allocator* const usual = c10::GetCPUAllocator();
  const at::Tensor t = at::zeros({12}, at::kComplexFloat);
  const std::array<std::int64_t, 1> shape{100};
  c10::SetCPUAllocator(&scarce, 255);
  {
    const at::Tensor narrow = halfway::cast(t, halfway::complex128);
    BOOST_TEST(scarce.made == 1);
    BOOST_TEST((narrow.storage().allocator() == &scarce));
    Tensor ours = Tensor::allocate(shape, halfway::float64, halfway::torch_allocator());
    BOOST_TEST(scarce.made == 2);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(ours.view().data) % halfway::tensor_alignment == 0U);
    std::fill_n(static_cast<double*>(ours.mutable_view().data), 100, 1.0);
    scarce.empty = true;
    BOOST_CHECK_THROW(static_cast<void>(halfway::cast(t, halfway::complex128)), std::bad_alloc);
    BOOST_CHECK_THROW(static_cast<void>(from_torch(t.conj())), std::bad_alloc);
    BOOST_CHECK_THROW(static_cast<void>(Tensor::allocate(shape, halfway::int8, halfway::torch_allocator())),
                      std::bad_alloc);
    // Whose memory it is does not depend on who is asked today.
    c10::SetCPUAllocator(usual, 255);
    BOOST_TEST(scarce.freed == 0);
  }
  BOOST_TEST(scarce.freed == 2);
  BOOST_TEST((c10::GetCPUAllocator() == usual));
}

BOOST_AUTO_TEST_CASE(alignments_of_every_size) {
  for (std::size_t alignment = 1; alignment <= 1U << 14; alignment *= 2) {
    void* const memory = halfway::torch_allocator().allocate(7, alignment);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(memory) % alignment == 0U);
    std::memset(memory, 1, 7);
    halfway::torch_allocator().deallocate(memory, 7, alignment);
  }
  BOOST_CHECK_THROW(static_cast<void>(halfway::torch_allocator().allocate(SIZE_MAX - 8, 64)), std::bad_alloc);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
