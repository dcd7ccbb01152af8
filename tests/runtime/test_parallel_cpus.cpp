// How many CPUs a process may use: parsing of what the kernel and the environment say.
#include <boost/test/unit_test.hpp>

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "halfway/parallel.h"
#include "parallel/cpus.h"

namespace {

using halfway::detail::cgroup_quota;
using halfway::detail::Cpus;
using halfway::detail::default_threads;
using halfway::detail::parse_cfs;
using halfway::detail::parse_cpu_max;
using halfway::detail::parse_threads;

constexpr int none = -1;

BOOST_AUTO_TEST_SUITE(parallel_cpus)

BOOST_AUTO_TEST_CASE(numbers_of_threads) {
  const std::map<std::string_view, int> cases{{"1", 1},
                                              {"4", 4},
                                              {" 4 ", 4},
                                              {"4,2,1", 4},
                                              {"3 , 2", 3},
                                              {"1024", 1024},
                                              {"1025", 1024},
                                              {"", none},
                                              {" ", none},
                                              {"0", none},
                                              {"-1", none},
                                              {"four", none},
                                              {"4.5", none},
                                              {"4x", none},
                                              {",4", none},
                                              {"x,4", none},
                                              {"+4", none},
                                              {"0x4", none},
                                              {"99999999999999999999999", 1024},
                                              {"-99999999999999999999999", none}};
  for (const auto& [text, expected] : cases) {
    BOOST_TEST_CONTEXT("'" << text << "'") BOOST_TEST(parse_threads(text).value_or(none) == expected);
  }
}

BOOST_AUTO_TEST_CASE(quotas_are_rounded_up) {
  const std::map<std::string_view, int> v2{
      {"max 100000\n", none},   {"max\n", none},      {"100000 100000\n", 1}, {"100001 100000\n", 2},
      {"1000 100000\n", 1},     {"150000 100000", 2}, {"200000", 2},          {"400000 200000\n", 2},
      {"1600000 100000\n", 16}, {"", none},           {"-1 100000", none},    {"0 100000", none},
      {"100000 0", none},       {"100000 x", none},   {"x y z", none},        {"9223372036854775807 1", 2147483647}};
  for (const auto& [text, expected] : v2) {
    BOOST_TEST_CONTEXT("'" << text << "'") BOOST_TEST(parse_cpu_max(text).value_or(none) == expected);
  }
  BOOST_TEST(parse_cfs("-1\n", "100000\n").value_or(none) == none);
  BOOST_TEST(parse_cfs("250000\n", "100000\n").value_or(none) == 3);
  BOOST_TEST(parse_cfs("50000", "100000").value_or(none) == 1);
  BOOST_TEST(parse_cfs("50000", "0").value_or(none) == none);
  BOOST_TEST(parse_cfs("", "").value_or(none) == none);
}

// The least of the quotas in `files`, for a process of these groups and mounts.
int quota(std::string_view cgroup, std::string_view mountinfo, const std::map<std::string, std::string>& files) {
  return cgroup_quota(cgroup, mountinfo,
                      [&files](const std::string& path) -> std::optional<std::string> {
                        const auto found = files.find(path);
                        return found != files.end() ? std::optional<std::string>(found->second) : std::nullopt;
                      })
      .value_or(none);
}

constexpr std::string_view v2_mount =
    "22 1 0:21 / /proc rw,nosuid - proc proc rw\n"
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";

BOOST_AUTO_TEST_CASE(unified_hierarchy) {
  const std::string root = "/sys/fs/cgroup";
  BOOST_TEST(quota("0::/a/b\n", v2_mount, {{root + "/a/b/cpu.max", "150000 100000\n"}}) == 2);
  // an ancestor's quota holds, too
  BOOST_TEST(quota("0::/a/b\n", v2_mount,
                   {{root + "/a/b/cpu.max", "max 100000\n"}, {root + "/a/cpu.max", "300000 100000\n"}}) == 3);
  BOOST_TEST(quota("0::/a/b\n", v2_mount,
                   {{root + "/a/b/cpu.max", "500000 100000\n"}, {root + "/a/cpu.max", "300000 100000\n"}}) == 3);
  BOOST_TEST(quota("0::/a/b\n", v2_mount,
                   {{root + "/a/b/cpu.max", "200000 100000\n"}, {root + "/cpu.max", "300000 100000\n"}}) == 2);
  BOOST_TEST(quota("0::/\n", v2_mount, {{root + "/cpu.max", "100000 100000\n"}}) == 1);
  // somebody else's group
  BOOST_TEST(quota("0::/a\n", v2_mount, {{root + "/ab/cpu.max", "100000 100000\n"}}) == none);
  // a group outside of the namespace
  BOOST_TEST(quota("0::/../x\n", v2_mount,
                   {{root + "/cpu.max", "400000 100000\n"}, {root + "/../x/cpu.max", "100000 100000\n"}}) == 4);
  BOOST_TEST(quota("", v2_mount, {{root + "/cpu.max", "100000 100000\n"}}) == none);
  BOOST_TEST(quota("0::/\n", "", {{root + "/cpu.max", "100000 100000\n"}}) == none);
  BOOST_TEST(quota("no line\n::\n0\n", "no line\n - \n1 2\n - cgroup2\n", {}) == none);
}

// A container that sees its own part of the tree only.
BOOST_AUTO_TEST_CASE(bound_mounts) {
  constexpr std::string_view mount = "30 23 0:26 /docker/0123 /sys/fs/my\\040cgroup ro - cgroup2 cgroup rw\n";
  BOOST_TEST(quota("0::/docker/0123\n", mount, {{"/sys/fs/my cgroup/cpu.max", "200000 100000\n"}}) == 2);
  BOOST_TEST(quota("0::/docker/0123/in\n", mount, {{"/sys/fs/my cgroup/in/cpu.max", "200000 100000\n"}}) == 2);
  BOOST_TEST(quota("0::/docker/01234\n", mount,
                   {{"/sys/fs/my cgroup/cpu.max", "200000 100000\n"},
                    {"/sys/fs/my cgroup4/cpu.max", "100000 100000\n"}}) == 2);
}

BOOST_AUTO_TEST_CASE(version_1) {
  constexpr std::string_view cgroup = "5:cpuset:/c\n4:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/u\n";
  constexpr std::string_view mount =
      "34 30 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
      "33 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
  const std::string root = "/sys/fs/cgroup/cpu,cpuacct";
  std::map<std::string, std::string> files{{root + "/a/b/cpu.cfs_quota_us", "-1\n"},
                                           {root + "/a/b/cpu.cfs_period_us", "100000\n"},
                                           {root + "/a/cpu.cfs_quota_us", "250000\n"},
                                           {root + "/a/cpu.cfs_period_us", "100000\n"}};
  BOOST_TEST(quota(cgroup, mount, files) == 3);
  files[root + "/a/b/cpu.cfs_quota_us"] = "100000\n";
  BOOST_TEST(quota(cgroup, mount, files) == 1);
  files.erase(root + "/a/b/cpu.cfs_period_us");
  BOOST_TEST(quota(cgroup, mount, files) == 3);
  BOOST_TEST(quota("5:cpuset:/a/b\n", mount, files) == none);
}

BOOST_AUTO_TEST_CASE(the_least_of_all_limits) {
  const Cpus eight{.affinity = 8, .quota = std::nullopt};
  const Cpus limited{.affinity = 8, .quota = 3};
  const Cpus generous{.affinity = 8, .quota = 30};
  BOOST_TEST(default_threads(eight, nullptr, nullptr) == 8);
  BOOST_TEST(default_threads(limited, nullptr, nullptr) == 3);
  BOOST_TEST(default_threads(generous, nullptr, nullptr) == 8);
  BOOST_TEST(default_threads(eight, "4,2", nullptr) == 4);
  BOOST_TEST(default_threads(limited, "4", nullptr) == 3);
  BOOST_TEST(default_threads(eight, "64", nullptr) == 8);
  BOOST_TEST(default_threads(eight, "none", nullptr) == 8);
  BOOST_TEST(default_threads(limited, "2", "16") == 16);  // overrides all
  BOOST_TEST(default_threads(limited, "2", "1") == 1);
  BOOST_TEST(default_threads(limited, "2", "0") == 2);
  BOOST_TEST(default_threads(limited, "2", "") == 2);
  BOOST_TEST(default_threads({.affinity = 4096, .quota = std::nullopt}, nullptr, nullptr) == halfway::max_threads);
}

BOOST_AUTO_TEST_CASE(this_machine) {
  const Cpus cpus = halfway::detail::read_cpus();
  BOOST_TEST(cpus.affinity >= 1);
  BOOST_TEST(cpus.available() >= 1);
  BOOST_TEST(cpus.available() <= cpus.affinity);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
