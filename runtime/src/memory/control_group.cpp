// Which memory limit the process's control group has. No allocation: it is asked in the middle of one.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <limits>

#include "memory/system.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

using Buffer = std::array<char, 4096>;

// The start of a file, as much as fits; empty if it cannot be read.
std::string_view read_file(const char* path, Buffer& buffer) noexcept {
  std::FILE* const file = std::fopen(path, "re");
  if (file == nullptr) return {};
  const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), file);
  static_cast<void>(std::fclose(file));
  return {buffer.data(), size};
}

// The lowest limit in the file `name` of the group `path` and of the groups above it. What a container does not show
// is skipped; its root then has the container's own limit.
std::size_t lowest(const char* mount, const char* hierarchy, std::string_view path, const char* name) noexcept {
  std::size_t found = none;
  for (;;) {
    while (path.ends_with('/')) path.remove_suffix(1);
    Buffer file;
    const int length = std::snprintf(file.data(), file.size(), "%s%s%.*s/%s", mount, hierarchy,
                                     static_cast<int>(path.size()), path.data(), name);
    if (length > 0 && static_cast<std::size_t>(length) < file.size()) {
      Buffer content;
      std::string_view text = read_file(file.data(), content);
      text = text.substr(0, text.find('\n'));
      found = std::min(found, parse_bytes(text, none));  // "max" is no number
    }
    if (path.empty()) return found;
    path = path.substr(0, std::min(path.rfind('/'), path.size()));
  }
}

// Whether a comma-separated list names the controller of memory.
bool has_memory(std::string_view controllers) noexcept {
  while (!controllers.empty()) {
    const std::size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == "memory") return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

}  // namespace

std::size_t parse_bytes(std::string_view text, std::size_t otherwise) noexcept {
  std::size_t value = 0;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto [rest, error] = std::from_chars(begin, end, value);
  return error == std::errc{} && rest == end ? value : otherwise;
}

std::size_t control_group_limit(const char* membership, const char* mount) noexcept {
  Buffer buffer;
  std::string_view lines = read_file(membership, buffer);
  std::size_t found = none;
  // Lines are hierarchy:controllers:path; version 2 is the one that names no controllers.
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = line.substr(second + 1);
    if (controllers.empty()) {
      found = std::min(found, lowest(mount, "", path, "memory.max"));
    } else if (has_memory(controllers)) {
      found = std::min(found, lowest(mount, "/memory", path, "memory.limit_in_bytes"));
    }
  }
  return found;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
