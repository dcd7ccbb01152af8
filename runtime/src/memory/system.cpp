#include "memory/system.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

#include <ctime>
#else
#include <chrono>
#include <new>
#endif

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
constexpr std::size_t default_limit = std::size_t{1} << 30;

#if defined(__linux__)

constexpr std::size_t huge_page = std::size_t{2} << 20;

// Part of a mapping can fail to go: when it lies in the middle of what the kernel holds as one, and the process has as
// many mappings as it may have. Then at least its pages go.
void drop(void* memory, std::size_t bytes) noexcept {
  if (bytes != 0 && ::munmap(memory, bytes) != 0) ::madvise(memory, bytes, MADV_DONTNEED);
}

void* map_pages(std::size_t bytes) noexcept {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

void* map(std::size_t bytes, std::size_t alignment) noexcept {
  if (alignment < huge_page) return map_pages(bytes);  // the kernel's alignment is a page
  auto* const first = static_cast<std::byte*>(map_pages(bytes + alignment));
  if (first == nullptr) return nullptr;
  // At least a page too much is at the front, at the end, or both.
  const std::size_t behind = reinterpret_cast<std::uintptr_t>(first) % alignment;
  const std::size_t front = behind == 0 ? 0 : alignment - behind;
  drop(first, front);
  drop(first + front + bytes, alignment - front);
  ::madvise(first + front, bytes, MADV_HUGEPAGE);  // where it cannot be had, small pages do
  return first + front;
}

void unmap(void* memory, std::size_t bytes, std::size_t /*alignment*/) noexcept { drop(memory, bytes); }

std::int64_t now() noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return static_cast<std::int64_t>(time.tv_sec) * 1000 + static_cast<std::int64_t>(time.tv_nsec) / 1'000'000;
}

std::size_t usable_memory() noexcept {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  const std::size_t physical =
      pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) : most;
  return std::min(physical, control_group_limit("/proc/self/cgroup", "/sys/fs/cgroup"));
}

#else

void* map(std::size_t bytes, std::size_t alignment) noexcept {
  return ::operator new (bytes, std::align_val_t{alignment}, std::nothrow);
}

void unmap(void* memory, std::size_t /*bytes*/, std::size_t alignment) noexcept {
  ::operator delete (memory, std::align_val_t{alignment});
}

std::int64_t now() noexcept {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

std::size_t usable_memory() noexcept { return most; }

#endif

std::size_t limit() noexcept {
  const std::size_t usual = std::min(default_limit, usable_memory() / 8);
  const char* const setting = std::getenv("HALFWAY_MEMORY_LIMIT");  // NOLINT(concurrency-mt-unsafe): read once
  return setting == nullptr ? usual : parse_bytes(setting, usual);
}

}  // namespace

constinit const System operating_system{.map = map, .unmap = unmap, .now = now, .limit = limit};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
