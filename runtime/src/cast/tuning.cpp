#include "tuning.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <system_error>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// The number at the start of a file, and what follows it; -1 if there is none.
struct NumberInFile {
  long number = -1;
  char unit = '\0';

  NumberInFile(const char* directory, int index, const char* name) noexcept {
    std::array<char, 256> text;  // NOLINT(cppcoreguidelines-pro-type-member-init): written by snprintf
    const int length = std::snprintf(text.data(), text.size(), "%s/index%d/%s", directory, index, name);
    if (length < 0 || static_cast<std::size_t>(length) >= text.size()) return;
    const int file = ::open(text.data(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    const ::ssize_t size = ::read(file, text.data(), text.size() - 1);
    static_cast<void>(::close(file));
    if (size <= 0) return;
    text[static_cast<std::size_t>(size)] = '\0';
    const auto [end, error] = std::from_chars(text.data(), text.data() + size, number);
    if (error == std::errc{}) unit = *end;
  }
};

}  // namespace

std::size_t last_level_cache(const char* directory) noexcept {
  long level = 0;
  std::size_t bytes = 0;
  for (int index = 0; index < 16; ++index) {
    const NumberInFile found(directory, index, "level");
    if (found.number < 0) break;
    const NumberInFile size(directory, index, "size");
    if (size.number <= 0 || found.number < level) continue;
    level = found.number;
    bytes = static_cast<std::size_t>(size.number) << (size.unit == 'K' ? 10 : size.unit == 'M' ? 20 : 0);
  }
  return bytes;
}

std::size_t streaming_bytes() noexcept {
  // Not a static with an initialiser: a child forked while another thread is at it would wait for that thread forever.
  // Whoever comes second finds the same.
  static constinit std::atomic<std::size_t> known{0};
  std::size_t bytes = known.load(std::memory_order_relaxed);
  if (bytes == 0) {
    constexpr std::size_t assumed = std::size_t{32} << 20;  // where the system does not say
    // Not sysconf(_SC_LEVEL3_CACHE_SIZE): on some AMD processors that is the sum of all caches of a socket.
    const std::size_t last_level = last_level_cache("/sys/devices/system/cpu/cpu0/cache");
    bytes = (last_level > 0 ? last_level : assumed) / 8 * 5;
    known.store(bytes, std::memory_order_relaxed);
  }
  return bytes;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
