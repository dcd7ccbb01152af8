// Where result memory comes from.
#pragma once

#include <cstddef>

namespace halfway {
inline namespace v0 {

// A source of memory. Implementations must be safe to call from any thread; `deallocate` may be called on a thread
// other than the allocating one, in a forked child, and while the process exits.
class Allocator {
 public:
  virtual ~Allocator() = default;

  // At least `bytes` bytes (bytes >= 1) aligned to `alignment` (a power of two).
  // throws: std::bad_alloc
  [[nodiscard]] virtual void* allocate(std::size_t bytes, std::size_t alignment) = 0;

  // `memory` was returned by allocate(bytes, alignment) of this object.
  virtual void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept = 0;

 protected:
  Allocator() = default;
  Allocator(const Allocator&) = default;
  Allocator& operator=(const Allocator&) = default;
};

// The alignment of memory that this library allocates for tensors: a cache line.
inline constexpr std::size_t tensor_alignment = 64;

// The allocator used where none is named: aligned operator new, until `set_default_allocator` replaces it.
[[nodiscard]] Allocator& default_allocator() noexcept;

// Replaces the default; nullptr restores the built-in one. The allocator must outlive every tensor made from it.
// Returns the previous default. Threads: atomic, tensors allocated before keep their own allocator.
Allocator* set_default_allocator(Allocator* allocator) noexcept;

}  // namespace v0
}  // namespace halfway
