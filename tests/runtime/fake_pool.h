// A recycling pool over a memory and a clock of the test's.
#pragma once

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "halfway/allocator.h"
#include "memory/pool.h"
#include "memory/system.h"

namespace halfway_test {

using halfway::MemoryStats;
using halfway::detail::operating_system;
using halfway::detail::Pool;
using halfway::detail::System;

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;
inline constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

// The system that the pools here see; its memory is the real one's.
namespace fake {

inline std::mutex mutex;
inline std::map<void*, std::pair<std::size_t, std::size_t>> mapped;  // size, alignment
inline std::size_t bytes_mapped = 0;
inline std::vector<void*> unmapped;  // in their order
inline int wrong = 0;
inline int maps_until_failure = -1;  // negative: none fails
inline int failures = 0;             // so many maps fail then
inline std::atomic<std::int64_t> clock{0};
inline std::size_t first_limit = no_limit;

inline void* map(std::size_t bytes, std::size_t alignment) noexcept {
  const std::lock_guard lock(mutex);
  if (maps_until_failure == 0 && failures > 0) {
    --failures;
    return nullptr;
  }
  if (maps_until_failure > 0) --maps_until_failure;
  void* const memory = operating_system.map(bytes, alignment);
  if (memory == nullptr) return nullptr;
  if (reinterpret_cast<std::uintptr_t>(memory) % alignment != 0) ++wrong;
  mapped[memory] = {bytes, alignment};
  bytes_mapped += bytes;
  return memory;
}

inline void unmap(void* memory, std::size_t bytes, std::size_t alignment) noexcept {
  const std::lock_guard lock(mutex);
  const auto found = mapped.find(memory);
  if (found == mapped.end() || found->second != std::pair(bytes, alignment)) {
    ++wrong;
    return;
  }
  mapped.erase(found);
  bytes_mapped -= bytes;
  if (unmapped.size() < unmapped.capacity()) unmapped.push_back(memory);  // allocates nothing
  operating_system.unmap(memory, bytes, alignment);
}

inline std::int64_t now() noexcept { return clock; }
inline std::size_t limit() noexcept { return first_limit; }

}  // namespace fake

inline constexpr System fake_system{.map = fake::map, .unmap = fake::unmap, .now = fake::now, .limit = fake::limit};

// A pool over the fake system, empty at its end.
class TestPool {
 public:
  explicit TestPool(std::size_t limit = no_limit) {
    fake::first_limit = limit;
    fake::unmapped.clear();
    fake::unmapped.reserve(10'000);
    fake::maps_until_failure = -1;
  }
  TestPool(const TestPool&) = delete;
  TestPool& operator=(const TestPool&) = delete;
  ~TestPool() {
    pool.trim();
    BOOST_TEST(fake::bytes_mapped == 0U);
    BOOST_TEST(fake::mapped.size() == 0U);
    BOOST_TEST(fake::wrong == 0);
    fake::wrong = 0;
  }

  std::byte* allocate(std::size_t bytes) {
    return static_cast<std::byte*>(pool.allocate(bytes, halfway::tensor_alignment));
  }
  void free(void* memory, std::size_t bytes) { pool.deallocate(memory, bytes, halfway::tensor_alignment); }
  // Allocates and frees.
  std::byte* touch(std::size_t bytes) {
    std::byte* const memory = allocate(bytes);
    free(memory, bytes);
    return memory;
  }
  [[nodiscard]] MemoryStats stats() { return pool.stats(); }

 private:
  std::unique_ptr<Pool::Table> table_{new Pool::Table{}};

 public:
  Pool pool{fake_system, *table_};
};

}  // namespace halfway_test
