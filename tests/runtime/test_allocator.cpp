// The allocator hook: what is asked of an allocator, and that memory goes back where it came from.
#include <boost/test/unit_test.hpp>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif
#if defined(__has_include)
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#endif
#endif

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "halfway/allocator.h"
#include "halfway/dlpack.h"
#include "halfway/tensor.h"

namespace {

using halfway::Allocator;
using halfway::default_allocator;
using halfway::set_default_allocator;
using halfway::Tensor;

constexpr std::array<std::int64_t, 2> shape{3, 5};

// Made before main and destroyed after it: its memory must find its allocator both times. (The sanitizer watches.)
const Tensor outlives_main = Tensor::allocate(shape, halfway::float32);
constexpr std::array<std::int64_t, 2> large{512, 1024};  // of float32: 2 MiB, which come from the pool
constexpr std::size_t large_bytes = std::size_t{2} << 20;
const Tensor large_outlives_main = Tensor::allocate(large, halfway::float32);

// Keeps account of what is asked of it.
class Accounting final : public Allocator {
 public:
  struct Block {
    std::size_t bytes;
    std::size_t alignment;
    friend bool operator==(const Block&, const Block&) = default;
  };

  void* allocate(std::size_t bytes, std::size_t alignment) override {
    if (fail) throw std::bad_alloc();
    void* const memory = ::operator new (bytes, std::align_val_t{alignment});
    const std::lock_guard<std::mutex> lock(mutex_);
    live_[memory] = {bytes, alignment};
    last = live_[memory];
    ++allocated;
    return memory;
  }
  void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(memory);
    wrong += found == live_.end() || found->second != Block{bytes, alignment} ? 1 : 0;
    if (found != live_.end()) live_.erase(found);
    ::operator delete (memory, std::align_val_t{alignment});
  }
  [[nodiscard]] std::size_t live() const { return live_.size(); }

  bool fail = false;
  int allocated = 0;
  int wrong = 0;
  Block last{};

 private:
  std::mutex mutex_;
  std::map<void*, Block> live_;
};

// The default allocator while this lives.
class Default {
 public:
  explicit Default(Allocator* allocator) : previous_(set_default_allocator(allocator)) {}
  Default(const Default&) = delete;
  Default& operator=(const Default&) = delete;
  ~Default() { set_default_allocator(previous_); }

 private:
  Allocator* previous_;
};

BOOST_AUTO_TEST_SUITE(allocator)

BOOST_AUTO_TEST_CASE(the_built_in_one_aligns) {
  Allocator& builtin = default_allocator();
  for (std::size_t alignment = 1; alignment <= 65536; alignment *= 2) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{4097}}) {
      void* const memory = builtin.allocate(bytes, alignment);
      BOOST_TEST(reinterpret_cast<std::uintptr_t>(memory) % alignment == 0U);
      std::memset(memory, 0xA5, bytes);
      builtin.deallocate(memory, bytes, alignment);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_tensor_asks_for_what_it_needs) {
  Accounting accounting;
  {
    const Tensor tensor = Tensor::allocate(shape, halfway::float64, accounting);
    BOOST_TEST((accounting.last == Accounting::Block{120, halfway::tensor_alignment}));
    const std::array<std::int64_t, 2> empty{0, 5};
    const Tensor nothing = Tensor::allocate(empty, halfway::float64, accounting);
    BOOST_TEST(accounting.last.bytes >= 1U);
    BOOST_TEST(accounting.live() == 2U);
  }
  BOOST_TEST(accounting.live() == 0U);
  BOOST_TEST(accounting.wrong == 0);
}

BOOST_AUTO_TEST_CASE(no_memory_is_no_tensor) {
  Accounting accounting;
  accounting.fail = true;
  BOOST_CHECK_THROW(static_cast<void>(Tensor::allocate(shape, halfway::float64, accounting)), std::bad_alloc);
  BOOST_TEST(accounting.wrong == 0);
}

BOOST_AUTO_TEST_CASE(the_default_can_be_replaced_and_restored) {
  Allocator* const builtin = &default_allocator();
  Accounting accounting;
  BOOST_TEST(set_default_allocator(&accounting) == builtin);
  BOOST_TEST(&default_allocator() == &accounting);
  BOOST_TEST(set_default_allocator(nullptr) == &accounting);
  BOOST_TEST(&default_allocator() == builtin);
  BOOST_TEST(set_default_allocator(builtin) == builtin);
  BOOST_TEST(&default_allocator() == builtin);
}

BOOST_AUTO_TEST_CASE(a_tensor_keeps_its_own_allocator) {
  Accounting accounting;
  DLManagedTensorVersioned* exported = nullptr;
  Tensor before = Tensor::allocate(shape, halfway::float64);
  {
    const Default replaced(&accounting);
    before.reset();  // not the allocator it came from
    exported = Tensor::allocate(shape, halfway::float64).to_dlpack();
    BOOST_TEST(accounting.allocated == 1);
  }
  BOOST_TEST(accounting.live() == 1U);
  std::thread([exported] { halfway::from_dlpack(exported).reset(); }).join();
  BOOST_TEST(accounting.live() == 0U);
  BOOST_TEST(accounting.wrong == 0);
}

BOOST_AUTO_TEST_CASE(replacing_is_atomic) {
  Accounting one;
  Accounting other;
  const Default restored(nullptr);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    for (int i = 0; i < 5000; ++i) set_default_allocator(i % 2 == 0 ? &one : &other);
    stop = true;
  });
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop) static_cast<void>(Tensor::allocate(shape, halfway::uint8));
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(one.live() == 0U);
  BOOST_TEST(other.live() == 0U);
  BOOST_TEST(one.wrong + other.wrong == 0);
}

// --- the pool behind the default (test_pool.cpp has the rest)

Tensor make_large() { return Tensor::allocate(large, halfway::float32); }

// The memory of a tensor and its pool's figures, with nothing kept at first.
class EmptyPool {
 public:
  EmptyPool() { halfway::trim_memory(); }
  EmptyPool(const EmptyPool&) = delete;
  EmptyPool& operator=(const EmptyPool&) = delete;
  ~EmptyPool() { halfway::trim_memory(); }
};

BOOST_AUTO_TEST_CASE(memory_returns_with_the_last_reference) {
  const EmptyPool empty;
  const std::size_t before = halfway::memory_stats().in_use;
  Tensor tensor = make_large();
  const void* const address = tensor.view().data;
  BOOST_TEST(halfway::memory_stats().in_use == before + large_bytes);
  Tensor share = tensor.share();
  DLManagedTensorVersioned* const exported = tensor.share().to_dlpack();
  DLManagedTensor* const legacy = tensor.share().to_dlpack_legacy();
  tensor.reset();
  BOOST_TEST(make_large().view().data != address);
  std::thread([&] { share.reset(); }).join();
  std::thread([&] { halfway::from_dlpack(exported).reset(); }).join();
  BOOST_TEST(make_large().view().data != address);
  halfway::trim_memory();
  std::thread([&] { halfway::from_dlpack(legacy).reset(); }).join();
  BOOST_TEST(halfway::memory_stats().in_use == before);
  BOOST_TEST(halfway::memory_stats().cached == large_bytes);
  BOOST_TEST(make_large().view().data == address);
}

BOOST_AUTO_TEST_CASE(what_is_kept_can_be_bounded_and_returned) {
  const EmptyPool empty;
  const std::size_t limit = halfway::memory_limit();
  BOOST_TEST(halfway::memory_stats().limit == limit);
  { const Tensor one = make_large(), other = make_large(); }
  BOOST_TEST(halfway::memory_stats().cached == 2 * large_bytes);
  halfway::set_memory_limit(large_bytes);
  BOOST_TEST(halfway::memory_stats().cached == large_bytes);
  BOOST_TEST(halfway::trim_memory() == large_bytes);
  BOOST_TEST(halfway::trim_memory() == 0U);
  halfway::set_memory_limit(0);
  make_large().reset();
  BOOST_TEST(halfway::memory_stats().cached == 0U);
  halfway::set_memory_limit(limit);
  BOOST_TEST(halfway::memory_limit() == limit);
}

#if defined(__unix__)

// The exit status of `body` in a forked child; a child that hangs is killed.
template <class Body>
int in_child(Body&& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(30);
    ::_exit(body() ? 0 : 1);
  }
  int status = -1;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

BOOST_AUTO_TEST_CASE(a_forked_child_keeps_working) {
  const EmptyPool empty;
  Tensor inherited = make_large();
  std::memset(inherited.mutable_view().data, 0x5A, large_bytes);
  make_large().reset();
  const int status = in_child([&] {
    const void* const address = inherited.view().data;
    bool good = static_cast<const unsigned char*>(inherited.view().data)[large_bytes - 1] == 0x5A;
    inherited.reset();
    good &= halfway::memory_stats().cached == large_bytes;  // not what the parent kept
    Tensor again = make_large();
    good &= again.view().data == address;
    std::memset(again.mutable_view().data, 0, large_bytes);
    return good;
  });
  BOOST_TEST(status == 0);
  BOOST_TEST(static_cast<unsigned>(static_cast<const unsigned char*>(inherited.view().data)[0]) == 0x5AU);
  BOOST_TEST(halfway::memory_stats().cached == large_bytes);
}

BOOST_AUTO_TEST_CASE(forks_while_other_threads_allocate) {
  const EmptyPool empty;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        const Tensor one = make_large();
        const Tensor other = make_large();
      }
    });
  }
  int failed = 0;
  for (int i = 0; i < 100; ++i) {
    failed += in_child([] {
                for (int k = 0; k < 10; ++k) {
                  void* const memory = default_allocator().allocate(large_bytes, halfway::tensor_alignment);
                  std::memset(memory, k, 100);
                  default_allocator().deallocate(memory, large_bytes, halfway::tensor_alignment);
                }
                return halfway::memory_stats().cached == large_bytes && halfway::trim_memory() == large_bytes;
              }) == 0
                  ? 0
                  : 1;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(failed == 0);
}

#if defined(__SANITIZE_ADDRESS__)
#define HALFWAY_TEST_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HALFWAY_TEST_POISON 1
#endif
#endif
#if defined(HALFWAY_TEST_POISON)
BOOST_AUTO_TEST_CASE(kept_memory_is_poisoned) {
  const EmptyPool empty;
  constexpr std::size_t bytes = large_bytes - 5000;
  auto* const memory = static_cast<char*>(default_allocator().allocate(bytes, 64));
  BOOST_TEST(__asan_region_is_poisoned(memory, bytes) == nullptr);
  BOOST_TEST(__asan_address_is_poisoned(memory + bytes) == 1);
  BOOST_TEST(__asan_address_is_poisoned(memory + large_bytes - 1) == 1);
  default_allocator().deallocate(memory, bytes, 64);
  BOOST_TEST(__asan_address_is_poisoned(memory) == 1);
  BOOST_TEST(__asan_address_is_poisoned(memory + bytes - 1) == 1);
  BOOST_TEST(default_allocator().allocate(large_bytes, 64) == memory);
  BOOST_TEST(__asan_region_is_poisoned(memory, large_bytes) == nullptr);
  default_allocator().deallocate(memory, large_bytes, 64);
  halfway::trim_memory();
  BOOST_TEST(__asan_address_is_poisoned(memory) == 0);
}
#endif

#endif

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
