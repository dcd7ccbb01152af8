// Who is released when: halfway's tensors, torch's and DLPack's structs over one memory, let go in any order and on any
// thread. Nothing here replaces operator new, so that every sanitizer can watch.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/arange.h>
#include <dlpack/dlpack.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "halfway/dlpack.h"
#include "halfway/torch.h"
#include "rounds.h"
#include "tensors.h"

namespace {

using halfway::from_torch;
using halfway::Tensor;
using halfway::to_torch;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)

// Memory that says how often it was released.
struct Owner {
  std::array<float, 8> memory{0, 1, 2, 3, 4, 5, 6, 7};
  std::atomic<int> releases{0};

  [[nodiscard]] Tensor tensor() {
    static constexpr std::array<std::int64_t, 1> shape{8};
    static constexpr std::array<std::int64_t, 1> strides{1};
    halfway::MutableView view;
    view.data = memory.data();
    view.dtype = halfway::float32;
    view.shape = shape;
    view.strides = strides;
    return Tensor::adopt(view, this, [](void* self) { ++static_cast<Owner*>(self)->releases; });
  }
  [[nodiscard]] at::Tensor torch() {
    return at::from_blob(
        memory.data(), {8}, [this](void*) { ++releases; }, at::kFloat);
  }
};

// Everything that can hold the memory.
struct Holders {
  std::vector<Tensor> ours;
  std::vector<at::Tensor> torchs;
  std::vector<DLManagedTensorVersioned*> structs;

  [[nodiscard]] std::size_t count() const { return ours.size() + torchs.size() + structs.size(); }
};

template <class T>
T take(std::vector<T>& from, std::mt19937& random) {
  std::swap(from[random() % from.size()], from.back());
  T taken = std::move(from.back());
  from.pop_back();
  return taken;
}

// One random step: share, exchange, take a view, or let go, here or on another thread.
void step(Holders& holders, std::mt19937& random) {
  switch (random() % 8) {
    case 0:
      if (!holders.ours.empty()) holders.ours.push_back(holders.ours[random() % holders.ours.size()].share());
      break;
    case 1:
      if (!holders.ours.empty()) holders.torchs.push_back(to_torch(take(holders.ours, random)));
      break;
    case 2:
      if (!holders.torchs.empty()) holders.ours.push_back(from_torch(take(holders.torchs, random)));
      break;
    case 3:
      if (!holders.torchs.empty()) {
        const at::Tensor& t = holders.torchs[random() % holders.torchs.size()];
        holders.torchs.push_back(random() % 2 == 0 ? t.view({2, 4}).view({8}) : t.detach());
      }
      break;
    case 4:
      if (!holders.ours.empty()) holders.structs.push_back(take(holders.ours, random).to_dlpack());
      break;
    case 5:
      if (!holders.structs.empty()) holders.ours.push_back(halfway::from_dlpack(take(holders.structs, random)));
      break;
    case 6:
      if (!holders.ours.empty()) {
        Tensor last = take(holders.ours, random);
        if (random() % 4 == 0) std::thread([&] { last.reset(); }).join();
      }
      break;
    default:
      if (!holders.torchs.empty()) {
        at::Tensor last = take(holders.torchs, random);
        if (random() % 4 == 0) std::thread([&] { last.reset(); }).join();
      } else if (!holders.structs.empty()) {
        auto* const managed = take(holders.structs, random);
        managed->deleter(managed);
      }
      break;
  }
}

BOOST_AUTO_TEST_SUITE(torch_lifetime)

BOOST_AUTO_TEST_CASE(released_once_when_the_last_holder_goes_in_any_order) {
  std::mt19937 random(17);
  std::int64_t wrong = 0;
  for (int round = 0; round < rounds::of(600); ++round) {
    Owner owner;
    Holders holders;
    if (round % 2 == 0) {
      holders.ours.push_back(owner.tensor());
    } else {
      holders.torchs.push_back(owner.torch());
    }
    for (int i = 0; i < 50 && holders.count() > 0; ++i) {
      step(holders, random);
      wrong += owner.releases != (holders.count() == 0 ? 1 : 0) ? 1 : 0;
      for (const Tensor& tensor : holders.ours) wrong += tensor.view().data != owner.memory.data() ? 1 : 0;
      for (const at::Tensor& t : holders.torchs) wrong += t.const_data_ptr() != owner.memory.data() ? 1 : 0;
    }
    for (auto* const managed : holders.structs) managed->deleter(managed);
    holders = {};
    wrong += owner.releases != 1 ? 1 : 0;
  }
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(exchanged_and_let_go_on_many_threads_at_once) {
  Owner owner;
  {
    const Tensor ours = owner.tensor();
    const at::Tensor torchs = to_torch(ours.share());
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < rounds::of(3000); ++i) {
          const at::Tensor mine = to_torch(ours.share());
          const Tensor back = from_torch(i % 2 == 0 ? mine : torchs);
          if (static_cast<const float*>(back.view().data)[i % 8] != static_cast<float>(i % 8)) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    BOOST_TEST(wrong == 0);
    BOOST_TEST(owner.releases == 0);
  }
  BOOST_TEST(owner.releases == 1);
}

BOOST_AUTO_TEST_CASE(the_storage_is_held_and_nothing_more) {
  // A result holds its graph, and the graph what it was made of.
  const at::Tensor leaf = at::arange(4, at::kFloat).set_requires_grad(true);
  at::Tensor result = leaf.mul(leaf);
  const c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> impl(result.getIntrusivePtr());
  const Tensor ours = from_torch(result);
  BOOST_TEST(!impl.expired());
  result.reset();
  BOOST_TEST(impl.expired());
  BOOST_TEST(static_cast<const float*>(ours.view().data)[3] == 9.0F);
}

BOOST_AUTO_TEST_CASE(a_tensor_that_gets_another_storage_leaves_the_memory_alone) {
  at::Tensor t = at::arange(64, at::kFloat);
  at::Tensor u = at::arange(64, at::kFloat);
  const Tensor of_t = from_torch(t);
  const Tensor of_u = from_torch(u);
  t.set_(at::arange(3, at::kFloat));
  u.set_data(at::arange(3, at::kFloat));
  BOOST_TEST(t.numel() == 3);
  BOOST_TEST(u.numel() == 3);
  BOOST_TEST(static_cast<const float*>(of_t.view().data)[63] == 63.0F);
  BOOST_TEST(static_cast<const float*>(of_u.view().data)[63] == 63.0F);
}

BOOST_AUTO_TEST_CASE(foreign_memory_is_not_resized) {
  Owner owner;
  {
    const at::Tensor t = to_torch(owner.tensor());
    BOOST_CHECK_THROW(t.resize_({9}), c10::Error);
    BOOST_TEST(t.const_data_ptr() == owner.memory.data());
    t.resize_({4});  // less of it is no matter
    BOOST_TEST(t.sum().item<float>() == 6.0F);
    BOOST_TEST(owner.releases == 0);
  }
  BOOST_TEST(owner.releases == 1);
}

BOOST_AUTO_TEST_CASE(memory_of_torch_outlives_torch_s_tensor) {
  Tensor ours;
  {
    const at::Tensor t = at::arange(1 << 16, at::kInt);
    ours = from_torch(t.slice(0, 100));
  }
  const Tensor other = ours.share();
  std::thread([moved = std::move(ours)] { BOOST_TEST_REQUIRE(static_cast<bool>(moved)); }).join();
  BOOST_TEST(static_cast<const int*>(other.view().data)[0] == 100);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
