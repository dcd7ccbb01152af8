// What the pool needs of the operating system, as a table: tests put a clock and a memory of their own in its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace halfway {
inline namespace v0 {
namespace detail {

struct System {
  // `bytes` bytes aligned to `alignment` (4 KiB or 2 MiB); nullptr if there are none. From 2 MiB on, in huge pages if
  // possible.
  void* (*map)(std::size_t bytes, std::size_t alignment) noexcept;
  // What `map` returned for the same two numbers.
  void (*unmap)(void* memory, std::size_t bytes, std::size_t alignment) noexcept;
  // Milliseconds of a monotonic clock; a resolution of several is enough.
  std::int64_t (*now)() noexcept;
  // The limit to start with. Called once, never from deallocate.
  std::size_t (*limit)() noexcept;
};

extern const System operating_system;

// The memory limit of the control group that this process is in, with those above it; SIZE_MAX if there is none.
// `membership` is /proc/self/cgroup, `mount` is /sys/fs/cgroup, with hierarchies of version 1 and 2 below it.
[[nodiscard]] std::size_t control_group_limit(const char* membership, const char* mount) noexcept;

// The decimal number that `text` is, or `otherwise`.
[[nodiscard]] std::size_t parse_bytes(std::string_view text, std::size_t otherwise) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
