#include "tuning.h"

#include <unistd.h>

namespace halfway {
inline namespace v0 {
namespace detail {

std::size_t streaming_bytes() noexcept {
  static const std::size_t bytes = [] {
    constexpr std::size_t assumed = std::size_t{32} << 20;  // where the system does not say
    long last_level = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    last_level = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (last_level <= 0) last_level = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return (last_level > 0 ? static_cast<std::size_t>(last_level) : assumed) / 2;
  }();
  return bytes;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
