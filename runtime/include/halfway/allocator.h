// Where result memory comes from.
#pragma once

#include <cstddef>
#include <cstdint>

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

// The allocator used where none is named: the pool described below, until `set_default_allocator` replaces it.
[[nodiscard]] Allocator& default_allocator() noexcept;

// Replaces the default; nullptr restores the built-in one. The allocator must outlive every tensor made from it.
// Returns the previous default. Threads: atomic, tensors allocated before keep their own allocator.
Allocator* set_default_allocator(Allocator* allocator) noexcept;

// --- The built-in allocator: a bounded pool that hands freed memory out again
//
// Most of the time that a fresh large result takes goes into the page faults of its first use. So blocks of 64 KiB and
// more are kept when they are freed, and serve later requests of their size: the very size, or one that is at most an
// eighth smaller. Smaller requests, and alignments beyond 4 KiB, go to aligned operator new.
//
// Sizes: a request takes its bytes rounded up to 4 KiB, or to whole 2 MiB where that adds at most an eighth.
// Blocks of 2 MiB and more are aligned to 2 MiB and ask for huge pages (on Linux, where the system allows them).
// Contents: whatever was there before; nothing is cleared.
// Bounds: the bytes kept never exceed `memory_limit()`; what was freed longest ago goes back to the system first. A
// block that nobody asked for in 10 seconds goes back at the next use of the pool. No thread runs in the background, so
// a program that stops allocating keeps what is kept: `trim_memory()` returns it.
// Casts keep working memory of their own, up to 32 blocks of 216 KiB, which is in none of the figures here; they let go
// of it in `trim_memory()`, too.
// Out of memory: everything kept is returned and the request is tried once more, then std::bad_alloc.
// Threads, fork, exit: safe from any thread, also while the process exits. fork() waits until no thread is inside. A
// forked child may use and free what it inherited; of the memory that was kept at the fork it hands nothing out, since
// writing to it would copy it, and returns it when the child first uses the pool.
//
//   halfway::set_memory_limit(std::size_t{256} << 20);  // keep at most 256 MiB
//   const halfway::MemoryStats stats = halfway::memory_stats();
//   std::size_t returned = halfway::trim_memory();      // == stats.cached, if no other thread came between

// The pool's figures at one moment. Bytes count whole blocks; requests that went to operator new count nowhere.
struct MemoryStats {
  std::size_t in_use = 0;       // bytes handed out and not freed yet
  std::size_t peak_in_use = 0;  // the most that `in_use` has been
  std::size_t cached = 0;       // bytes freed and kept; at most `limit`
  std::size_t limit = 0;        // as memory_limit()
  std::uint64_t hits = 0;       // requests served by a kept block
  std::uint64_t misses = 0;     // requests served by fresh memory of the system
};
[[nodiscard]] MemoryStats memory_stats() noexcept;

// Returns everything that is kept to the system; the result says how many bytes that was.
std::size_t trim_memory() noexcept;

// The most bytes that may be kept. From the start: the environment variable HALFWAY_MEMORY_LIMIT (bytes, as a decimal
// number; read once, anything else is ignored), else 1 GiB or an eighth of the memory this process may have, whichever
// is less: the machine's physical memory, or its control group's limit if that is lower.
[[nodiscard]] std::size_t memory_limit() noexcept;

// Sets it; 0 keeps nothing. What is kept beyond it is returned before this returns.
void set_memory_limit(std::size_t bytes) noexcept;

}  // namespace v0
}  // namespace halfway
