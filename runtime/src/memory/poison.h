// Freed memory that is kept is out of bounds for AddressSanitizer.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define HALFWAY_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HALFWAY_POISON 1
#endif
#endif

#if defined(HALFWAY_POISON)
#include <sanitizer/asan_interface.h>
#endif

namespace halfway {
inline namespace v0 {
namespace detail {

#if defined(HALFWAY_POISON)
inline void poison(const void* memory, std::size_t bytes) noexcept { ASAN_POISON_MEMORY_REGION(memory, bytes); }
inline void unpoison(const void* memory, std::size_t bytes) noexcept { ASAN_UNPOISON_MEMORY_REGION(memory, bytes); }
#else
inline void poison(const void* /*memory*/, std::size_t /*bytes*/) noexcept {}
inline void unpoison(const void* /*memory*/, std::size_t /*bytes*/) noexcept {}
#endif

}  // namespace detail
}  // namespace v0
}  // namespace halfway

#undef HALFWAY_POISON
