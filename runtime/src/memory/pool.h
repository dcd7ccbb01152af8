// The recycling pool behind the default allocator (allocator.h has the contract), over any `System`.
//
// The records of kept blocks stand in a table of fixed size: freeing allocates nothing, and nothing is written into
// memory that was freed. Records form two kinds of lists: one of all of them by age, and one for each class of sizes.
// The lock is held for moves between these lists, never for a system call.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "halfway/allocator.h"
#include "memory/system.h"

namespace halfway {
inline namespace v0 {
namespace detail {

class Pool final : public Allocator {
 public:
  static constexpr std::size_t smallest = std::size_t{64} << 10;  // smaller requests go to operator new
  static constexpr std::size_t granule = 4096;                    // the smallest page there is
  static constexpr std::size_t huge_page = std::size_t{2} << 20;
  static constexpr std::int64_t max_age = 10'000;  // milliseconds
  static constexpr std::size_t max_kept = 4096;    // blocks
  static constexpr std::size_t max_loans = 512;

  // Index of a record; 0 is none, so that a table of zeros is an empty one and takes no room in the library's file.
  using Index = std::uint16_t;

  struct Table {
    struct Record {
      void* memory;
      std::size_t size;
      std::int64_t since;  // when it was freed
      Index older, newer;
      Index previous, next;  // of the same class
    };
    // A block that serves a request for less than its size: `deallocate` is told the request's.
    struct Loan {
      void* memory;
      std::size_t size;
    };
    std::array<Record, max_kept + 1> records;
    std::array<Index, 384> classes;         // first records; eight classes to each power of two
    std::array<Loan, 2 * max_loans> loans;  // hashed by address, linear probing
  };

  // `table` is all zeros, and this pool's alone. Both must outlive the pool; what is kept at its end is not returned.
  constexpr Pool(const System& system, Table& table) noexcept : system_(&system), table_(&table) {}

  void* allocate(std::size_t bytes, std::size_t alignment) override;
  void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept override;

  [[nodiscard]] MemoryStats stats() noexcept;
  std::size_t trim() noexcept;
  void set_limit(std::size_t bytes) noexcept;

  // To be called around fork(): nobody is inside the pool while the process forks.
  void before_fork() noexcept { mutex_.lock(); }
  void after_fork_in_parent() noexcept { mutex_.unlock(); }
  void after_fork_in_child() noexcept {
    inherited_ = oldest_ != 0;
    mutex_.unlock();
  }

  // The bytes of the block for a request, which is `smallest` at least.
  // throws: std::bad_alloc if there can be no such block
  [[nodiscard]] static std::size_t block_size(std::size_t bytes);

 private:
  class Outgoing;
  using Lock = std::unique_lock<std::mutex>;

  void require_limit() noexcept;
  void* allocate_elsewhere(std::size_t bytes, std::size_t alignment);
  void* take(std::size_t size) noexcept;
  void keep(void* memory, std::size_t size, std::int64_t now) noexcept;
  Index find(std::size_t size) const noexcept;
  void remove(Index index) noexcept;
  void lend(void* memory, std::size_t size) noexcept;
  std::size_t take_back(void* memory) noexcept;
  template <class Condition>
  void evict_while(Lock& lock, Outgoing& outgoing, Condition condition) noexcept;
  void evict_old(Lock& lock, Outgoing& outgoing, std::int64_t now) noexcept;

  const System* system_;
  Table* table_;
  std::atomic<bool> has_limit_{false};  // set under the lock, with stats_.limit
  std::mutex mutex_;                    // guards everything below and the table
  Index oldest_ = 0;
  Index newest_ = 0;
  Index unused_ = 0;        // records that were in use before, linked by `next`
  Index touched_ = 0;       // records beyond this were never in use
  bool inherited_ = false;  // what is kept came from the parent process
  std::size_t loans_ = 0;
  MemoryStats stats_;
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
