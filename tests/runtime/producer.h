// DLPack producers under a test's eye, and memory that faults when touched.
#pragma once

#include <dlpack/dlpack.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace halfway_test {

// A readable page followed by one that faults.
class GuardedPage {
 public:
  GuardedPage() : size_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))) {
    void* const pages = ::mmap(nullptr, 2 * size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    page_ = static_cast<std::byte*>(pages);
    if (::mprotect(page_ + size_, size_, PROT_NONE) != 0) throw std::bad_alloc();
  }
  GuardedPage(const GuardedPage&) = delete;
  GuardedPage& operator=(const GuardedPage&) = delete;
  ~GuardedPage() { ::munmap(page_, 2 * size_); }

  // Where the page that faults begins.
  [[nodiscard]] std::byte* forbidden() const noexcept { return page_ + size_; }

 private:
  std::size_t size_;
  std::byte* page_ = nullptr;
};

// The address of a page that faults, the same for the whole process.
inline std::byte* forbidden() {
  static const GuardedPage page;
  return page.forbidden();
}

template <class Managed>
inline constexpr bool is_versioned = std::is_same_v<Managed, DLManagedTensorVersioned>;

// A struct whose deleter counts. As built: float32, shape (2, 3), row-major, on the CPU, over memory that faults when
// touched. `reset_pointers()` after changing the length of shape or strides.
template <class Managed>
class Producer {
 public:
  Producer() {
    if constexpr (is_versioned<Managed>) managed.version = {1, 3};
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) { static_cast<Producer*>(self->manager_ctx)->releases.fetch_add(1); };
    tensor().data = forbidden();
    tensor().device = {kDLCPU, 0};
    tensor().dtype = {kDLFloat, 32, 1};
    reset_pointers();
  }
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;
  ~Producer() = default;

  void reset_pointers() {
    tensor().ndim = static_cast<std::int32_t>(shape.size());
    tensor().shape = shape.data();
    tensor().strides = strides.data();
  }
  void set(std::vector<std::int64_t> new_shape, std::vector<std::int64_t> new_strides) {
    shape = std::move(new_shape);
    strides = std::move(new_strides);
    reset_pointers();
  }

  [[nodiscard]] DLTensor& tensor() noexcept { return managed.dl_tensor; }
  [[nodiscard]] std::uint64_t flags() const noexcept {
    if constexpr (is_versioned<Managed>) {
      return managed.flags;
    } else {
      return 0;
    }
  }

  Managed managed{};
  std::vector<std::int64_t> shape{2, 3};
  std::vector<std::int64_t> strides{3, 1};
  std::atomic<int> releases{0};
};

using Versioned = Producer<DLManagedTensorVersioned>;
using Legacy = Producer<DLManagedTensor>;

}  // namespace halfway_test
