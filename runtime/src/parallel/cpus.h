// How many CPUs this process may use: affinity, control groups, environment. Private to the runtime.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace halfway {
inline namespace v0 {
namespace detail {

// The CPUs that a process may keep busy: at least 1.
struct Cpus {
  int affinity = 1;          // in the calling thread's affinity mask
  std::optional<int> quota;  // of the control groups, rounded up; none: no quota

  [[nodiscard]] int available() const noexcept { return quota && *quota < affinity ? *quota : affinity; }
};

// This process's. throws: std::bad_alloc
[[nodiscard]] Cpus read_cpus();

// The default number of threads. `omp` and `own`: OMP_NUM_THREADS and HALFWAY_NUM_THREADS, nullptr where not set.
[[nodiscard]] int default_threads(const Cpus& cpus, const char* omp, const char* own) noexcept;

// A count of threads as OMP_NUM_THREADS has it: the first number of a list, at least 1.
[[nodiscard]] std::optional<int> parse_threads(std::string_view text) noexcept;

// The CPUs of a quota, rounded up; none where there is no quota or the text is not one.
// v2: the text of `cpu.max` ("150000 100000", "max 100000"); v1: those of `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
[[nodiscard]] std::optional<int> parse_cpu_max(std::string_view text) noexcept;
[[nodiscard]] std::optional<int> parse_cfs(std::string_view quota, std::string_view period) noexcept;

// The text of a file, none if it cannot be read.
using ReadFile = std::function<std::optional<std::string>(const std::string& path)>;

// The least quota along the path of a process's control groups, from its own up to the root of what is mounted.
// `cgroup`, `mountinfo`: the texts of /proc/self/cgroup and /proc/self/mountinfo. throws: std::bad_alloc
[[nodiscard]] std::optional<int> cgroup_quota(std::string_view cgroup, std::string_view mountinfo,
                                              const ReadFile& read);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
