#include "memory/pool.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>
#include <new>

#include "memory/poison.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// Both sides of a block's life see the request, and decide by it alone whose it is.
bool is_pooled(std::size_t bytes, std::size_t alignment) noexcept {
  return bytes >= Pool::smallest && alignment <= Pool::granule;
}

std::size_t alignment_of(std::size_t size) noexcept {
  return size >= Pool::huge_page ? Pool::huge_page : Pool::granule;
}

constexpr std::size_t rounded_up(std::size_t bytes, std::size_t to) noexcept { return (bytes + to - 1) / to * to; }

// The class of a size: its leading bit and the three after it.
std::size_t class_of(std::size_t size) noexcept {
  const std::size_t eighths = std::max<std::size_t>(size / (Pool::smallest / 8), 8);
  const auto power = static_cast<unsigned>(std::bit_width(eighths)) - 4;
  return std::size_t{power} * 8 + ((eighths >> (power & 63)) & 7);
}

std::size_t loan_slot(const void* memory) noexcept {
  constexpr int bits = std::countr_zero(2 * Pool::max_loans);
  const auto page = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(memory) / Pool::granule);
  return static_cast<std::size_t>((page * 0x9E3779B97F4A7C15U) >> (64 - bits));  // Fibonacci hashing
}

}  // namespace

// Blocks on their way to the system: taken out of the pool under its lock, unmapped without it. Must be destroyed after
// the lock is released.
class Pool::Outgoing {
 public:
  explicit Outgoing(const System& system) noexcept : system_(&system) {}
  Outgoing(const Outgoing&) = delete;
  Outgoing& operator=(const Outgoing&) = delete;
  ~Outgoing() { flush(); }

  void add(void* memory, std::size_t size) noexcept { blocks_[count_++] = {memory, size}; }
  [[nodiscard]] bool full() const noexcept { return count_ == blocks_.size(); }
  void flush() noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      const auto [memory, size] = blocks_[i];
      unpoison(memory, size);
      system_->unmap(memory, size, alignment_of(size));
      bytes_ += size;
    }
    count_ = 0;
  }
  // Bytes returned to the system so far.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  struct Block {
    void* memory;
    std::size_t size;
  };
  const System* system_;
  std::array<Block, 16> blocks_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

std::size_t Pool::block_size(std::size_t bytes) {
  if (bytes > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) - 2 * huge_page) {
    throw std::bad_alloc();
  }
  const std::size_t size = rounded_up(bytes, granule);
  const std::size_t huge = rounded_up(size, huge_page);
  return huge - size <= size / 8 ? huge : size;
}

void* Pool::allocate(std::size_t bytes, std::size_t alignment) {
  if (!is_pooled(bytes, alignment)) return allocate_elsewhere(bytes, alignment);
  const std::size_t size = block_size(bytes);
  const std::int64_t now = system_->now();
  require_limit();
  void* memory = nullptr;
  {
    Outgoing outgoing(*system_);
    Lock lock(mutex_);
    // A block that is wanted now is welcome at any age.
    memory = take(size);
    evict_old(lock, outgoing, now);
  }
  if (memory != nullptr) {
    unpoison(memory, bytes);
    return memory;
  }

  memory = system_->map(size, alignment_of(size));
  if (memory == nullptr) {
    trim();
    memory = system_->map(size, alignment_of(size));
    if (memory == nullptr) throw std::bad_alloc();
  }
  poison(static_cast<std::byte*>(memory) + bytes, size - bytes);
  const Lock lock(mutex_);
  stats_.in_use += size;
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  ++stats_.misses;
  return memory;
}

void* Pool::allocate_elsewhere(std::size_t bytes, std::size_t alignment) {
  try {
    return ::operator new (bytes, std::align_val_t{alignment});
  } catch (const std::bad_alloc&) {
    if (trim() == 0) throw;
  }
  return ::operator new (bytes, std::align_val_t{alignment});
}

void Pool::deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept {
  if (!is_pooled(bytes, alignment)) {
    ::operator delete (memory, std::align_val_t{alignment});
    return;
  }
  poison(memory, bytes);  // what is behind it is poisoned already
  const std::int64_t now = system_->now();
  Outgoing outgoing(*system_);
  Lock lock(mutex_);
  std::size_t size = take_back(memory);
  if (size == 0) size = block_size(bytes);
  stats_.in_use -= size;
  evict_old(lock, outgoing, now);
  // Other threads may have come between, so the limit is looked at again each time.
  evict_while(lock, outgoing, [&]() noexcept {
    const bool has_room = unused_ != 0 || touched_ < max_kept;
    return size <= stats_.limit && (stats_.cached > stats_.limit - size || !has_room);
  });
  if (size <= stats_.limit) {
    keep(memory, size, now);
  } else {
    outgoing.add(memory, size);
  }
}

MemoryStats Pool::stats() noexcept {
  require_limit();
  const Lock lock(mutex_);
  return stats_;
}

std::size_t Pool::trim() noexcept {
  Outgoing outgoing(*system_);
  {
    Lock lock(mutex_);
    evict_while(lock, outgoing, []() noexcept { return true; });
  }
  outgoing.flush();
  return outgoing.bytes();
}

void Pool::set_limit(std::size_t bytes) noexcept {
  Outgoing outgoing(*system_);
  Lock lock(mutex_);
  has_limit_.store(true, std::memory_order_release);
  stats_.limit = bytes;
  evict_while(lock, outgoing, [&]() noexcept { return stats_.cached > stats_.limit; });
}

// The limit to start with is found out outside of the lock, since files are read for it.
void Pool::require_limit() noexcept {
  if (has_limit_.load(std::memory_order_acquire)) return;
  const std::size_t limit = system_->limit();
  const Lock lock(mutex_);
  if (!has_limit_.load(std::memory_order_relaxed)) stats_.limit = limit;
  has_limit_.store(true, std::memory_order_release);
}

// A kept block for a request of `size`, or nullptr.
void* Pool::take(std::size_t size) noexcept {
  const Index index = inherited_ ? Index{0} : find(size);
  if (index == 0) return nullptr;
  const Table::Record record = table_->records[index];
  remove(index);
  if (record.size != size) lend(record.memory, record.size);
  stats_.in_use += record.size;
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  ++stats_.hits;
  return record.memory;
}

Pool::Index Pool::find(std::size_t size) const noexcept {
  const std::size_t largest = loans_ < max_loans ? size + size / 8 : size;
  const std::size_t last = class_of(largest);
  for (std::size_t at = class_of(size); at <= last; ++at) {
    Index best = 0;
    for (Index index = table_->classes[at]; index != 0; index = table_->records[index].next) {
      const std::size_t has = table_->records[index].size;
      if (has == size) return index;
      if (has > size && has <= largest && (best == 0 || has < table_->records[best].size)) best = index;
    }
    if (best != 0) return best;
  }
  return 0;
}

// There is a record for it, and room below the limit.
void Pool::keep(void* memory, std::size_t size, std::int64_t now) noexcept {
  Index index = unused_;
  if (index != 0) {
    unused_ = table_->records[index].next;
  } else {
    index = ++touched_;
  }
  Index& first = table_->classes[class_of(size)];
  table_->records[index] = {
      .memory = memory, .size = size, .since = now, .older = newest_, .newer = 0, .previous = 0, .next = first};
  if (first != 0) table_->records[first].previous = index;
  first = index;
  (newest_ != 0 ? table_->records[newest_].newer : oldest_) = index;
  newest_ = index;
  stats_.cached += size;
}

void Pool::remove(Index index) noexcept {
  Table::Record& record = table_->records[index];
  (record.older != 0 ? table_->records[record.older].newer : oldest_) = record.newer;
  (record.newer != 0 ? table_->records[record.newer].older : newest_) = record.older;
  (record.previous != 0 ? table_->records[record.previous].next : table_->classes[class_of(record.size)]) = record.next;
  if (record.next != 0) table_->records[record.next].previous = record.previous;
  stats_.cached -= record.size;
  record.next = unused_;
  unused_ = index;
}

void Pool::lend(void* memory, std::size_t size) noexcept {
  std::size_t slot = loan_slot(memory);
  while (table_->loans[slot].memory != nullptr) slot = (slot + 1) % table_->loans.size();
  table_->loans[slot] = {memory, size};
  ++loans_;
}

// The size of a block that was lent, which ends here; 0 if it was not.
std::size_t Pool::take_back(void* memory) noexcept {
  if (loans_ == 0) return 0;
  auto& loans = table_->loans;
  std::size_t hole = loan_slot(memory);
  while (loans[hole].memory != memory) {
    if (loans[hole].memory == nullptr) return 0;
    hole = (hole + 1) % loans.size();
  }
  const std::size_t size = loans[hole].size;
  // What was pushed beyond the hole moves into it, so that no search ends too early.
  for (std::size_t slot = (hole + 1) % loans.size(); loans[slot].memory != nullptr; slot = (slot + 1) % loans.size()) {
    const std::size_t home = loan_slot(loans[slot].memory);
    if ((slot - home) % loans.size() >= (slot - hole) % loans.size()) {
      loans[hole] = loans[slot];
      hole = slot;
    }
  }
  loans[hole] = {};
  --loans_;
  return size;
}

// Takes the oldest blocks out while `condition` holds. The lock is released now and then to unmap them.
template <class Condition>
void Pool::evict_while(Lock& lock, Outgoing& outgoing, Condition condition) noexcept {
  while (oldest_ != 0 && condition()) {
    outgoing.add(table_->records[oldest_].memory, table_->records[oldest_].size);
    remove(oldest_);
    if (outgoing.full()) {
      lock.unlock();
      outgoing.flush();
      lock.lock();
    }
  }
}

void Pool::evict_old(Lock& lock, Outgoing& outgoing, std::int64_t now) noexcept {
  evict_while(lock, outgoing, [&]() noexcept { return inherited_ || now - table_->records[oldest_].since >= max_age; });
  inherited_ = false;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
