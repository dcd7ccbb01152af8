// How often a test with random cases tries.
#pragma once

namespace rounds {

// Whether a sanitizer watches: one case takes ten times as long, and what it looks for does not need as many. The bits
// of the results are the matter of the builds without one.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool are_watched = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool are_watched = true;
#else
inline constexpr bool are_watched = false;
#endif
#else
inline constexpr bool are_watched = false;
#endif

// As many as wanted, or a tenth of them.
constexpr int of(int wanted) noexcept { return are_watched ? (wanted + 9) / 10 : wanted; }

}  // namespace rounds
