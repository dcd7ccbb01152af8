#include "halfway/allocator.h"

#include <atomic>
#include <new>

namespace halfway {
inline namespace v0 {
namespace {

class AlignedNew final : public Allocator {
 public:
  constexpr AlignedNew() = default;
  void* allocate(std::size_t bytes, std::size_t alignment) override {
    return ::operator new (bytes, std::align_val_t{alignment});
  }
  void deallocate(void* memory, std::size_t /*bytes*/, std::size_t alignment) noexcept override {
    ::operator delete (memory, std::align_val_t{alignment});
  }
};

// Tensors may outlive static destruction, so the allocator is never destroyed, and it is there before any constructor
// runs.
union Immortal {
  AlignedNew allocator;
  constexpr Immortal() : allocator() {}
  Immortal(const Immortal&) = delete;
  Immortal& operator=(const Immortal&) = delete;
  ~Immortal() {}  // NOLINT(modernize-use-equals-default): a defaulted one would be deleted
};
constinit Immortal builtin;

constinit std::atomic<Allocator*> current{nullptr};  // nullptr: the built-in one

}  // namespace

Allocator& default_allocator() noexcept {
  Allocator* const set = current.load(std::memory_order_acquire);
  return set != nullptr ? *set : builtin.allocator;
}

Allocator* set_default_allocator(Allocator* allocator) noexcept {
  Allocator* const previous = current.exchange(allocator, std::memory_order_acq_rel);
  return previous != nullptr ? previous : &builtin.allocator;
}

}  // namespace v0
}  // namespace halfway
