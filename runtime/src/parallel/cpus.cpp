#include "parallel/cpus.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "halfway/parallel.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// Takes the text up to the separator off the front.
std::string_view take(std::string_view& text, char separator) noexcept {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view front = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return front;
}

std::string_view trim(std::string_view text) noexcept {
  constexpr std::string_view blank = " \t\n\r";
  const std::size_t begin = std::min(text.find_first_not_of(blank), text.size());
  const std::size_t end = text.find_last_not_of(blank) + 1;  // npos + 1 == 0
  return begin < end ? text.substr(begin, end - begin) : std::string_view{};
}

// A positive number and nothing else. What is too large for 64 bits is the largest of them.
std::optional<std::int64_t> positive(std::string_view text) noexcept {
  text = trim(text);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    return text.front() == '-' ? std::nullopt : std::optional<std::int64_t>(INT64_MAX);
  }
  return value > 0 ? std::optional<std::int64_t>(value) : std::nullopt;
}

std::optional<int> quota(std::optional<std::int64_t> microseconds, std::optional<std::int64_t> period) noexcept {
  if (!microseconds || !period) return std::nullopt;
  const std::int64_t cpus = *microseconds / *period + (*microseconds % *period != 0 ? 1 : 0);
  return static_cast<int>(std::min<std::int64_t>(cpus, INT32_MAX));
}

std::optional<int> least(std::optional<int> a, std::optional<int> b) noexcept {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

// A member of a list that is separated by commas.
bool has_word(std::string_view list, std::string_view word) noexcept {
  while (!list.empty()) {
    if (take(list, ',') == word) return true;
  }
  return false;
}

// A hierarchy of control groups: where the process is in it, and where it is mounted.
struct Hierarchy {
  std::string path;   // of the process's group, from the hierarchy's root
  std::string root;   // the group that is mounted
  std::string mount;  // where
};

// A line of /proc/self/cgroup is "id:controllers:path"; the unified hierarchy (v2) has id 0 and no controllers.
std::optional<std::string> group_path(std::string_view cgroup, bool unified) {
  while (!cgroup.empty()) {
    std::string_view line = take(cgroup, '\n');
    const std::string_view id = take(line, ':');
    const std::string_view controllers = take(line, ':');
    if (unified ? id == "0" && controllers.empty() : has_word(controllers, "cpu")) return std::string(line);
  }
  return std::nullopt;
}

// Paths in mountinfo have blanks and backslashes as \ooo, three octal digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8).ptr == text.data() + i + 4) {
      plain += static_cast<char>(value);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// A line of mountinfo is "id parent major:minor root mount options [tag...] - type source options".
std::optional<Hierarchy> find_hierarchy(std::string_view cgroup, std::string_view mountinfo, bool unified) {
  std::optional<std::string> path = group_path(cgroup, unified);
  while (path && !mountinfo.empty()) {
    std::string_view line = take(mountinfo, '\n');
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    std::string_view rest = line.substr(dash + 3);
    const std::string_view type = take(rest, ' ');
    take(rest, ' ');
    if (unified ? type != "cgroup2" : type != "cgroup" || !has_word(trim(rest), "cpu")) continue;
    for (int field = 0; field < 3; ++field) take(line, ' ');
    const std::string_view root = take(line, ' ');
    return Hierarchy{std::move(*path), unescape(root), unescape(take(line, ' '))};
  }
  return std::nullopt;
}

// The process's group and its ancestors as far as they are mounted, as directories. A group outside of what is mounted
// (a container that was not given its own part of the tree) leaves the mount's root.
std::vector<std::string> directories(const Hierarchy& hierarchy) {
  std::string_view inner = hierarchy.path;
  const std::string_view root = hierarchy.root == "/" ? std::string_view{} : hierarchy.root;
  if (inner.substr(0, root.size()) == root && (inner.size() == root.size() || inner[root.size()] == '/') &&
      inner.find("/..") == std::string_view::npos) {
    inner.remove_prefix(root.size());
  } else {
    inner = {};
  }
  std::vector<std::string> found;
  for (;;) {
    while (!inner.empty() && inner.back() == '/') inner.remove_suffix(1);
    found.push_back(hierarchy.mount + std::string(inner));
    if (inner.empty()) return found;
    inner = inner.substr(0, inner.rfind('/'));
  }
}

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

int affinity() {
#if defined(__linux__)
  // The kernel refuses a mask that is smaller than its own.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* const mask = CPU_ALLOC(static_cast<std::size_t>(cpus));
    if (mask == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus));
    const int count = sched_getaffinity(0, bytes, mask) == 0 ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

std::optional<int> parse_threads(std::string_view text) noexcept {
  const std::optional<std::int64_t> count = positive(take(text, ','));
  if (!count) return std::nullopt;
  return static_cast<int>(std::min<std::int64_t>(*count, max_threads));
}

std::optional<int> parse_cpu_max(std::string_view text) noexcept {
  text = trim(text);
  const std::string_view microseconds = take(text, ' ');
  return quota(positive(microseconds), text.empty() ? std::int64_t{100'000} : positive(text));
}

std::optional<int> parse_cfs(std::string_view quota_text, std::string_view period) noexcept {
  return quota(positive(quota_text), positive(period));
}

std::optional<int> cgroup_quota(std::string_view cgroup, std::string_view mountinfo, const ReadFile& read) {
  std::optional<int> result;
  if (const std::optional<Hierarchy> v2 = find_hierarchy(cgroup, mountinfo, true)) {
    for (const std::string& directory : directories(*v2)) {
      if (const std::optional<std::string> text = read(directory + "/cpu.max")) {
        result = least(result, parse_cpu_max(*text));
      }
    }
  }
  if (const std::optional<Hierarchy> v1 = find_hierarchy(cgroup, mountinfo, false)) {
    for (const std::string& directory : directories(*v1)) {
      const std::optional<std::string> microseconds = read(directory + "/cpu.cfs_quota_us");
      const std::optional<std::string> period = read(directory + "/cpu.cfs_period_us");
      if (microseconds && period) result = least(result, parse_cfs(*microseconds, *period));
    }
  }
  return result;
}

Cpus read_cpus() {
  Cpus cpus{.affinity = affinity(), .quota = std::nullopt};
  const std::optional<std::string> cgroup = read_file("/proc/self/cgroup");
  const std::optional<std::string> mountinfo = read_file("/proc/self/mountinfo");
  if (cgroup && mountinfo) cpus.quota = cgroup_quota(*cgroup, *mountinfo, read_file);
  return cpus;
}

int default_threads(const Cpus& cpus, const char* omp, const char* own) noexcept {
  if (const std::optional<int> chosen = own != nullptr ? parse_threads(own) : std::nullopt) return *chosen;
  const std::optional<int> limit = omp != nullptr ? parse_threads(omp) : std::nullopt;
  return std::clamp(least(cpus.available(), limit).value_or(1), 1, max_threads);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
