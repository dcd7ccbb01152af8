// Who is released when: in any order of letting go, and on any thread. Nothing here replaces operator new, so that
// every sanitizer can watch.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "halfway/dlpack.h"
#include "halfway/tensor.h"
#include "producer.h"

namespace {

using halfway::from_dlpack;
using halfway::MutableView;
using halfway::Tensor;
using namespace halfway_test;  // NOLINT(google-build-using-namespace)

// Everything that can hold a reference.
struct Holders {
  std::vector<Tensor> tensors;
  std::vector<DLManagedTensorVersioned*> versioned;
  std::vector<DLManagedTensor*> legacy;

  [[nodiscard]] std::size_t count() const { return tensors.size() + versioned.size() + legacy.size(); }
};

template <class T>
T take(std::vector<T>& from, std::size_t which) {
  T taken = std::move(from[which]);
  from[which] = std::move(from.back());
  from.pop_back();
  return taken;
}

// One random step: share, export, import or let go.
void step(Holders& holders, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  switch (below(7)) {
    case 0:
      if (!holders.tensors.empty()) holders.tensors.push_back(holders.tensors[below(holders.tensors.size())].share());
      break;
    case 1:
      if (!holders.tensors.empty()) {
        holders.versioned.push_back(take(holders.tensors, below(holders.tensors.size())).to_dlpack());
      }
      break;
    case 2:
      if (!holders.tensors.empty()) {
        holders.legacy.push_back(take(holders.tensors, below(holders.tensors.size())).to_dlpack_legacy());
      }
      break;
    case 3:
      if (!holders.versioned.empty()) {
        holders.tensors.push_back(from_dlpack(take(holders.versioned, below(holders.versioned.size()))));
      }
      break;
    case 4:
      if (!holders.legacy.empty()) {
        holders.tensors.push_back(from_dlpack(take(holders.legacy, below(holders.legacy.size()))));
      }
      break;
    case 5:
      if (!holders.tensors.empty()) take(holders.tensors, below(holders.tensors.size())).reset();
      break;
    default:
      if (!holders.versioned.empty()) {
        auto* const managed = take(holders.versioned, below(holders.versioned.size()));
        managed->deleter(managed);
      } else if (!holders.legacy.empty()) {
        auto* const managed = take(holders.legacy, below(holders.legacy.size()));
        managed->deleter(managed);
      }
      break;
  }
}

void let_go_of_all(Holders& holders) {
  for (auto* const managed : holders.versioned) managed->deleter(managed);
  for (auto* const managed : holders.legacy) managed->deleter(managed);
  holders = {};
}

BOOST_AUTO_TEST_SUITE(lifetime)

BOOST_AUTO_TEST_CASE(released_once_when_the_last_holder_goes_in_any_order) {
  std::mt19937 random(7);
  std::int64_t wrong = 0;
  for (int round = 0; round < 3000; ++round) {
    Versioned producer;
    Holders holders;
    holders.tensors.push_back(from_dlpack(&producer.managed));
    for (int i = 0; i < 60 && holders.count() > 0; ++i) {
      step(holders, random);
      wrong += producer.releases != (holders.count() == 0 ? 1 : 0) ? 1 : 0;
      for (const Tensor& tensor : holders.tensors) {
        wrong += tensor.view().data != producer.tensor().data || tensor.view().shape[1] != 3 ? 1 : 0;
      }
      for (const auto* managed : holders.versioned) {
        wrong += managed->dl_tensor.data != producer.tensor().data || managed->dl_tensor.strides[0] != 3 ? 1 : 0;
      }
    }
    let_go_of_all(holders);
    wrong += producer.releases != 1 ? 1 : 0;
  }
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(memory_of_our_own_lives_as_long_as_any_holder) {
  std::mt19937 random(11);
  const std::array<std::int64_t, 1> shape{257};
  std::int64_t wrong = 0;
  for (int round = 0; round < 500; ++round) {
    Holders holders;
    Tensor first = Tensor::allocate(shape, halfway::int32);
    auto* const values = static_cast<std::int32_t*>(first.mutable_view().data);
    for (int i = 0; i < 257; ++i) values[i] = i;
    holders.tensors.push_back(std::move(first));
    for (int i = 0; i < 40 && holders.count() > 0; ++i) {
      step(holders, random);
      if (holders.count() > 0) wrong += values[256] != 256 ? 1 : 0;  // the sanitizer watches
      // To be the only holder is what IS_COPIED says.
      for (const auto* managed : holders.versioned) {
        wrong += (managed->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0 && holders.count() != 1 ? 1 : 0;
      }
    }
    let_go_of_all(holders);
  }
  BOOST_TEST(wrong == 0);
}

// Threads that share, export and let go of one tensor at the same time: for ThreadSanitizer as much as for the counts.
BOOST_AUTO_TEST_CASE(released_once_whichever_thread_is_last, *boost::unit_test::label("threads")) {
  for (int round = 0; round < 200; ++round) {
    std::vector<float> memory(64, 1.0F);
    const std::vector<std::int64_t> shape{64};
    const std::vector<std::int64_t> strides{1};
    std::atomic<int> releases{0};
    struct Owner {
      std::vector<float>* memory;
      std::atomic<int>* releases;
    } owner{&memory, &releases};
    MutableView view;
    view.data = memory.data();
    view.dtype = halfway::float32;
    view.shape = shape;
    view.strides = strides;
    Tensor tensor = Tensor::adopt(view, &owner, [](void* context) {
      auto* const held = static_cast<Owner*>(context);
      // Written without a lock: every holder's last read must happen before.
      std::fill(held->memory->begin(), held->memory->end(), -1.0F);
      held->releases->fetch_add(1);
    });
    std::atomic<bool> go{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i) {
      threads.emplace_back([&, i, mine = tensor.share()]() mutable {
        while (!go.load(std::memory_order_relaxed)) std::this_thread::yield();
        std::mt19937 random(i);
        Holders holders;
        holders.tensors.push_back(std::move(mine));
        for (int n = 0; n < 20 && holders.count() > 0; ++n) {
          step(holders, random);
          for (const Tensor& held : holders.tensors) {
            wrong += static_cast<const float*>(held.view().data)[n] != 1.0F ? 1 : 0;
          }
        }
        let_go_of_all(holders);
      });
    }
    go = true;
    tensor.reset();
    for (std::thread& thread : threads) thread.join();
    BOOST_TEST(releases == 1);
    BOOST_TEST(wrong == 0);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
