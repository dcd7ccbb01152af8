// The pages that the pool's blocks are made of: large blocks ask for huge ones, as /proc/self/smaps shows.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "fake_pool.h"
#include "halfway/allocator.h"
#include "halfway/tensor.h"
#include "memory/pool.h"
#include "memory/system.h"

namespace {

using namespace halfway_test;  // NOLINT(google-build-using-namespace)

// What the kernel holds as one.
struct Mapping {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::vector<std::string> flags;  // VmFlags: "hg" was advised to be of huge pages

  [[nodiscard]] bool wants_huge_pages() const { return std::find(flags.begin(), flags.end(), "hg") != flags.end(); }
};

std::vector<Mapping> mappings() {
  std::vector<Mapping> all;
  std::ifstream lines("/proc/self/smaps");
  for (std::string line; std::getline(lines, line);) {
    // A mapping begins with its addresses, its attributes with their names: some of the latter look like a number.
    const char* const last = line.data() + line.size();
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    const char* const dash = std::from_chars(line.data(), last, begin, 16).ptr;
    if (dash != last && *dash == '-' && std::from_chars(dash + 1, last, end, 16).ec == std::errc()) {
      all.push_back({begin, end, {}});
    } else if (line.starts_with("VmFlags:") && !all.empty()) {
      std::istringstream words(line.substr(8));
      for (std::string word; words >> word;) all.back().flags.push_back(word);
    }
  }
  return all;
}

// How many of the bytes lie in mappings that are to be of huge pages.
std::size_t bytes_advised(const void* memory, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t end = begin + bytes;
  std::size_t advised = 0;
  for (const Mapping& mapping : mappings()) {
    if (mapping.end <= begin || mapping.begin >= end || !mapping.wants_huge_pages()) continue;
    advised += std::min(mapping.end, end) - std::max(mapping.begin, begin);
  }
  return advised;
}

bool is_aligned(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % Pool::huge_page == 0; }

// Whether there is something to see. Otherwise says what is missing, in the words by which CTest knows a skipped test.
bool has_huge_pages() {
  constexpr const char* setting = "/sys/kernel/mm/transparent_hugepage/enabled";
  const std::vector<Mapping> all = mappings();
  const bool has_flags = std::any_of(all.begin(), all.end(), [](const Mapping& m) { return !m.flags.empty(); });
  const char* const missing = !std::filesystem::exists(setting) ? setting
                              : !has_flags                      ? "VmFlags in /proc/self/smaps"
                                                                : nullptr;
  if (missing != nullptr) std::printf("skipped: there are no transparent huge pages to be seen: no %s\n", missing);
  return missing == nullptr;
}

BOOST_AUTO_TEST_SUITE(pool_pages)

BOOST_AUTO_TEST_CASE(the_system_advises_what_it_maps) {
  if (!has_huge_pages()) return;
  for (const std::size_t bytes : {2 * MiB, 2 * MiB + 4 * KiB, 6 * MiB, 34 * MiB}) {
    void* const memory = operating_system.map(bytes, Pool::huge_page);
    BOOST_TEST_REQUIRE(memory != nullptr);
    BOOST_TEST(is_aligned(memory));
    BOOST_TEST(bytes_advised(memory, bytes) == bytes);
    operating_system.unmap(memory, bytes, Pool::huge_page);
  }
}

BOOST_AUTO_TEST_CASE(large_blocks_ask_for_huge_pages) {
  if (!has_huge_pages()) return;
  TestPool test;
  for (const std::size_t bytes : {2 * MiB, 2 * MiB + 1, 5 * MiB + 17, 16 * MiB + 1}) {
    const std::size_t size = Pool::block_size(bytes);
    std::byte* const memory = test.allocate(bytes);
    BOOST_TEST(is_aligned(memory), bytes);
    BOOST_TEST(bytes_advised(memory, size) == size, bytes);
    test.free(memory, bytes);
    // Nor is it lost to whoever gets the block next.
    BOOST_TEST(test.allocate(bytes) == memory);
    BOOST_TEST(bytes_advised(memory, size) == size, bytes);
    test.free(memory, bytes);
  }
}

// A huge page that is not filled would be memory that nobody has asked for.
BOOST_AUTO_TEST_CASE(small_blocks_do_not) {
  if (!has_huge_pages()) return;
  TestPool test;
  for (const std::size_t bytes : {Pool::smallest, MiB, 2 * MiB - 256 * KiB}) {
    BOOST_TEST_REQUIRE(Pool::block_size(bytes) < Pool::huge_page);
    std::byte* const memory = test.allocate(bytes);
    BOOST_TEST(bytes_advised(memory, bytes) == 0U, bytes);
    test.free(memory, bytes);
  }
}

BOOST_AUTO_TEST_CASE(tensors_have_them) {
  if (!has_huge_pages()) return;
  const std::vector<std::int64_t> shape{1024, 1031};
  const halfway::Tensor tensor = halfway::Tensor::allocate(shape, halfway::float32);
  const std::size_t bytes = std::size_t{1024} * 1031 * 4;
  BOOST_TEST(is_aligned(tensor.view().data));
  BOOST_TEST(bytes_advised(tensor.view().data, bytes) == bytes);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
