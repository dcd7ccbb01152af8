// Counts and fails global operator new. Include it in one file of an executable: it replaces the operators.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace halfway_test {

// Allocations that live now, and those ever made, and the bytes of these.
inline std::atomic<std::int64_t> live_allocations{0};
inline std::atomic<std::int64_t> total_allocations{0};
inline std::atomic<std::size_t> total_bytes{0};
// Allocations of this thread until one fails; negative: none will.
inline thread_local std::int64_t allocations_until_failure = -1;

// Requests of just so many bytes fail, of every thread.
inline std::atomic<std::size_t> refused_size{SIZE_MAX};

class NoBlocksOf {
 public:
  explicit NoBlocksOf(std::size_t bytes) { refused_size = bytes; }
  ~NoBlocksOf() { refused_size = SIZE_MAX; }
  NoBlocksOf(const NoBlocksOf&) = delete;
  NoBlocksOf& operator=(const NoBlocksOf&) = delete;
};

// The next `successes` allocations of this thread succeed, the one after them fails.
class FailingAllocation {
 public:
  explicit FailingAllocation(std::int64_t successes) { allocations_until_failure = successes; }
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;
  ~FailingAllocation() { allocations_until_failure = -1; }
  // Whether an allocation has failed meanwhile.
  [[nodiscard]] static bool happened() noexcept { return allocations_until_failure < 0; }
};

inline void* allocate(std::size_t bytes, std::size_t alignment) {
  if (allocations_until_failure >= 0 && allocations_until_failure-- == 0) throw std::bad_alloc();
  if (bytes == refused_size.load(std::memory_order_relaxed)) throw std::bad_alloc();
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  live_allocations.fetch_add(1, std::memory_order_relaxed);
  total_allocations.fetch_add(1, std::memory_order_relaxed);
  total_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return memory;
}

inline void* allocate_or_null(std::size_t bytes, std::size_t alignment) noexcept {
  try {
    return allocate(bytes, alignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

inline void deallocate(void* memory) noexcept {
  if (memory == nullptr) return;
  live_allocations.fetch_sub(1, std::memory_order_relaxed);
  std::free(memory);
}

}  // namespace halfway_test

void* operator new(std::size_t bytes) { return halfway_test::allocate(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return halfway_test::allocate(bytes, static_cast<std::size_t>(alignment));
}
// The library's own call the above, but those of AddressSanitizer do not.
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return halfway_test::allocate_or_null(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t& /*tag*/) noexcept {
  return halfway_test::allocate_or_null(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { halfway_test::deallocate(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept { halfway_test::deallocate(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { halfway_test::deallocate(memory); }
void operator delete(void* memory, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  halfway_test::deallocate(memory);
}
