// The allocator hook: what is asked of an allocator, and that memory goes back where it came from.
#include <boost/test/unit_test.hpp>

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

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
