// The recycling pool over a memory and a clock of the test's: what is kept, for whom, how long, and what is counted.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_pool.h"
#include "memory/pool.h"
#include "memory/system.h"

namespace {

using halfway::MemoryStats;
using halfway::detail::control_group_limit;
using halfway::detail::operating_system;
using halfway::detail::parse_bytes;
using halfway::detail::Pool;

using namespace halfway_test;  // NOLINT(google-build-using-namespace)

BOOST_AUTO_TEST_SUITE(pool)

BOOST_AUTO_TEST_CASE(blocks_are_hardly_larger_than_requests) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const std::size_t bytes = Pool::smallest + (random() >> (18 + random() % 30));
    const std::size_t size = Pool::block_size(bytes);
    BOOST_REQUIRE(size >= bytes);
    BOOST_REQUIRE(size % Pool::granule == 0U);
    BOOST_REQUIRE(size - bytes <= Pool::granule - 1 + (bytes > Pool::huge_page / 2 ? bytes / 8 + 512 : 0));
    if (bytes >= 16 * MiB) BOOST_REQUIRE(size % Pool::huge_page == 0U);
    BOOST_REQUIRE(Pool::block_size(size) == size);
  }
  BOOST_TEST(Pool::block_size(2 * MiB + 1) == 2 * MiB + 4 * KiB);
  BOOST_TEST(Pool::block_size(100 * KiB) == 100 * KiB);
  BOOST_TEST(Pool::block_size(256 * MiB) == 256 * MiB);
  BOOST_TEST(Pool::block_size(256 * MiB + 1) == 258 * MiB);
}

BOOST_AUTO_TEST_CASE(impossible_sizes_are_out_of_memory) {
  TestPool test;
  for (const std::size_t bytes : {no_limit, no_limit - 1, no_limit / 2, no_limit / 2 + 1, no_limit / 2 - 4 * MiB}) {
    BOOST_CHECK_THROW(test.allocate(bytes), std::bad_alloc);
  }
  BOOST_TEST(test.stats().in_use == 0U);
  BOOST_TEST(test.stats().misses == 0U);
}

BOOST_AUTO_TEST_CASE(what_was_freed_is_handed_out_again) {
  TestPool test;
  std::byte* const memory = test.touch(MiB);
  BOOST_TEST(test.stats().cached == MiB);
  BOOST_TEST(test.allocate(MiB) == memory);
  BOOST_TEST(test.stats().cached == 0U);
  BOOST_TEST(test.allocate(MiB) != memory);
  test.free(memory, MiB);
  std::byte* const other = std::next(fake::mapped.begin())->first == memory
                               ? static_cast<std::byte*>(fake::mapped.begin()->first)
                               : static_cast<std::byte*>(std::next(fake::mapped.begin())->first);
  test.free(other, MiB);
  BOOST_TEST(test.allocate(MiB) == other);  // the one freed last is warm
  test.free(other, MiB);
  const MemoryStats stats = test.stats();
  BOOST_TEST(stats.hits == 2U);
  BOOST_TEST(stats.misses == 2U);
  BOOST_TEST(stats.in_use == 0U);
  BOOST_TEST(stats.peak_in_use == 2 * MiB);
  BOOST_TEST(stats.cached == 2 * MiB);
}

BOOST_AUTO_TEST_CASE(small_and_widely_aligned_requests_go_elsewhere) {
  TestPool test;
  test.touch(1);
  test.touch(Pool::smallest - 1);
  for (std::size_t alignment = 2 * Pool::granule; alignment <= 4 * MiB; alignment *= 2) {
    void* const memory = test.pool.allocate(MiB, alignment);
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(memory) % alignment == 0U);
    test.pool.deallocate(memory, MiB, alignment);
  }
  BOOST_TEST(test.stats().misses == 0U);
  BOOST_TEST(test.stats().cached == 0U);
  test.touch(Pool::smallest);
  BOOST_TEST(test.stats().misses == 1U);
}

BOOST_AUTO_TEST_CASE(the_nearest_size_within_an_eighth_serves) {
  TestPool test;
  std::byte* const larger = test.allocate(MiB + 128 * KiB);
  std::byte* const nearer = test.allocate(MiB + 64 * KiB);
  std::byte* const smaller = test.allocate(MiB - 4 * KiB);
  std::byte* const much = test.allocate(MiB + 132 * KiB);
  test.free(nearer, MiB + 64 * KiB);
  test.free(much, MiB + 132 * KiB);
  test.free(smaller, MiB - 4 * KiB);
  test.free(larger, MiB + 128 * KiB);

  BOOST_TEST(test.allocate(MiB) == nearer);
  BOOST_TEST(test.allocate(MiB) == larger);
  BOOST_TEST(test.stats().in_use == 2 * MiB + 192 * KiB);  // whole blocks
  std::byte* const fresh = test.allocate(MiB);
  BOOST_TEST(test.stats().misses == 5U);
  BOOST_TEST(test.stats().cached == 2 * MiB + 128 * KiB);

  // They come back with the size they have, whatever was asked of them.
  for (std::byte* const memory : {fresh, larger, nearer}) test.free(memory, MiB);
  BOOST_TEST(test.stats().in_use == 0U);
  BOOST_TEST(test.allocate(MiB + 128 * KiB) == larger);
  BOOST_TEST(test.allocate(MiB) == fresh);
  test.free(larger, MiB + 128 * KiB);
  test.free(fresh, MiB);
}

BOOST_AUTO_TEST_CASE(many_blocks_lent_for_less) {
  TestPool test;
  constexpr std::size_t large = 72 * KiB;
  constexpr std::size_t count = Pool::max_loans + 100;
  std::vector<std::byte*> blocks(count);
  std::mt19937 random(2);
  for (int round = 0; round < 3; ++round) {
    for (std::byte*& block : blocks) block = test.allocate(large);
    for (std::byte* const block : blocks) test.free(block, large);
    for (std::byte*& block : blocks) block = test.allocate(Pool::smallest);
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (std::size_t i = 0; i < count; ++i) test.free(blocks[i], Pool::smallest);
    BOOST_TEST(test.stats().in_use == 0U);
    BOOST_TEST(test.stats().cached == fake::bytes_mapped);
  }
}

BOOST_AUTO_TEST_CASE(the_oldest_make_room) {
  TestPool test(4 * MiB);
  std::array<std::byte*, 4> blocks{};
  for (std::byte*& block : blocks) block = test.allocate(MiB);
  for (std::byte* const block : blocks) test.free(block, MiB);
  BOOST_TEST(test.stats().cached == 4 * MiB);
  BOOST_TEST(fake::unmapped.empty());

  std::byte* const large = test.touch(2 * MiB);
  BOOST_TEST((fake::unmapped == std::vector<void*>{blocks[0], blocks[1]}));
  BOOST_TEST(test.stats().cached == 4 * MiB);
  test.touch(4 * MiB + 1);  // too large itself: nothing else has to go for it
  BOOST_TEST(fake::unmapped.size() == 3U);
  BOOST_TEST(test.stats().cached == 4 * MiB);
  test.touch(64 * KiB);
  BOOST_TEST(fake::unmapped.back() == blocks[2]);
  test.pool.set_limit(3 * MiB);
  BOOST_TEST(fake::unmapped.back() == blocks[3]);
  BOOST_TEST(test.stats().cached == 2 * MiB + 64 * KiB);
  test.pool.set_limit(2 * MiB);
  BOOST_TEST(fake::unmapped.back() == large);
  BOOST_TEST(test.stats().cached == 64 * KiB);
}

BOOST_AUTO_TEST_CASE(no_limit_at_all_and_none_to_keep) {
  TestPool test(0);
  test.touch(MiB);
  BOOST_TEST(fake::bytes_mapped == 0U);
  BOOST_TEST(test.stats().limit == 0U);
  test.pool.set_limit(no_limit);
  BOOST_TEST(test.stats().limit == no_limit);
  std::byte* const memory = test.touch(MiB);
  BOOST_TEST(test.allocate(MiB) == memory);
  test.pool.set_limit(0);
  test.free(memory, MiB);
  BOOST_TEST(fake::bytes_mapped == 0U);
}

BOOST_AUTO_TEST_CASE(a_limit_set_first_is_not_overwritten) {
  {
    TestPool test(123 * MiB);
    test.pool.set_limit(5 * MiB);
    test.touch(MiB);
    BOOST_TEST(test.stats().limit == 5 * MiB);
  }
  TestPool other(123 * MiB);
  BOOST_TEST(other.stats().limit == 123 * MiB);
}

BOOST_AUTO_TEST_CASE(what_nobody_wants_goes_after_a_while) {
  TestPool test;
  fake::clock = 1'000'000;
  std::byte* const first = test.touch(MiB);
  fake::clock += Pool::max_age / 2;
  std::byte* const second = test.touch(3 * MiB);
  fake::clock += Pool::max_age / 2 - 1;
  test.touch(128 * KiB);
  BOOST_TEST(fake::unmapped.empty());
  fake::clock += 1;
  std::byte* const third = test.allocate(256 * KiB);  // any use of the pool lets it go
  BOOST_TEST((fake::unmapped == std::vector<void*>{first}));
  fake::clock += Pool::max_age / 2;
  test.free(third, 256 * KiB);
  BOOST_TEST((fake::unmapped == std::vector<void*>{first, second}));

  fake::clock += 100 * Pool::max_age;
  BOOST_TEST(test.allocate(256 * KiB) == third);  // old, but wanted
  BOOST_TEST(test.stats().cached == 0U);
  test.free(third, 256 * KiB);
}

BOOST_AUTO_TEST_CASE(trimming_returns_everything) {
  TestPool test;
  BOOST_TEST(test.pool.trim() == 0U);
  std::byte* const live = test.allocate(MiB);
  std::vector<std::byte*> blocks;
  for (std::size_t i = 0; i < 100; ++i) blocks.push_back(test.allocate(MiB + i * 4 * KiB));
  for (std::size_t i = 0; i < 100; ++i) test.free(blocks[i], MiB + i * 4 * KiB);
  const std::size_t cached = test.stats().cached;
  BOOST_TEST(cached == 100 * MiB + 4950 * 4 * KiB);
  BOOST_TEST(test.pool.trim() == cached);
  BOOST_TEST(test.stats().cached == 0U);
  BOOST_TEST(fake::bytes_mapped == MiB);
  test.free(live, MiB);
}

BOOST_AUTO_TEST_CASE(more_blocks_than_records) {
  TestPool test;
  std::vector<std::byte*> blocks(Pool::max_kept + 50);
  for (int round = 0; round < 2; ++round) {
    fake::unmapped.clear();
    for (std::byte*& block : blocks) block = test.allocate(Pool::smallest);
    for (std::byte* const block : blocks) test.free(block, Pool::smallest);
    BOOST_TEST(test.stats().cached == Pool::max_kept * Pool::smallest);
    BOOST_TEST(test.stats().in_use == 0U);
    BOOST_TEST((fake::unmapped == std::vector<void*>(blocks.begin(), blocks.begin() + 50)));
  }
}

BOOST_AUTO_TEST_CASE(out_of_memory_trims_and_tries_once_more) {
  TestPool test;
  std::byte* const live = test.allocate(MiB);
  test.touch(3 * MiB);
  fake::maps_until_failure = 0;
  fake::failures = 1;
  std::byte* const memory = test.allocate(5 * MiB);
  BOOST_TEST(test.stats().cached == 0U);
  test.free(memory, 5 * MiB);

  fake::failures = 2;
  const MemoryStats before = test.stats();
  BOOST_CHECK_THROW(test.allocate(9 * MiB), std::bad_alloc);
  BOOST_TEST(fake::failures == 0);
  const MemoryStats after = test.stats();
  BOOST_TEST(after.in_use == before.in_use);
  BOOST_TEST(after.peak_in_use == before.peak_in_use);
  BOOST_TEST(after.misses == before.misses);
  BOOST_TEST(after.cached == 0U);
  test.free(live, MiB);
}

BOOST_AUTO_TEST_CASE(every_mapping_may_fail) {
  for (int k = 0; k < 12; ++k) {
    TestPool test(8 * MiB);
    fake::maps_until_failure = k;
    fake::failures = 2;
    std::map<std::byte*, std::size_t> live;
    int thrown = 0;
    for (std::size_t i = 0; i < 20; ++i) {
      const std::size_t bytes = (i % 5 + 1) * MiB;
      try {
        live[test.allocate(bytes)] = bytes;
      } catch (const std::bad_alloc&) {
        ++thrown;
      }
      if (i % 3 == 2 && !live.empty()) {
        const auto [memory, size] = *live.begin();
        live.erase(live.begin());
        test.free(memory, size);
      }
      BOOST_TEST(test.stats().in_use + test.stats().cached == fake::bytes_mapped);
    }
    BOOST_TEST(thrown == 1);
    for (const auto& [memory, size] : live) test.free(memory, size);
  }
}

BOOST_AUTO_TEST_CASE(a_child_hands_out_nothing_that_its_parent_kept) {
  TestPool test;
  std::byte* const live = test.allocate(MiB);
  test.touch(3 * MiB);
  test.touch(5 * MiB);
  test.pool.before_fork();
  test.pool.after_fork_in_parent();
  test.free(test.allocate(3 * MiB), 3 * MiB);
  BOOST_TEST(test.stats().hits == 1U);

  test.pool.before_fork();
  test.pool.after_fork_in_child();
  test.free(live, MiB);  // what the child frees itself it keeps
  BOOST_TEST(test.stats().cached == MiB);
  BOOST_TEST(test.allocate(MiB) == live);
  std::byte* const fresh = test.allocate(3 * MiB);
  BOOST_TEST(test.stats().hits == 2U);
  test.free(fresh, 3 * MiB);
  test.free(live, MiB);
}

// --- anything in any order

constexpr std::size_t some_sizes[] = {1, 100, 64 * KiB - 1, 64 * KiB, 70'000, 1'000'000, MiB, 2 * MiB, 5 * MiB + 17};

std::size_t any_size(std::mt19937_64& random) {
  switch (random() % 4) {
    case 0:
      return some_sizes[random() % std::size(some_sizes)];
    case 1:
      return 1 + random() % (64 * MiB >> random() % 26);
    default:  // near one another
      return 256 * KiB + random() % (64 * KiB);
  }
}

struct Live {
  std::byte* memory;
  std::size_t bytes;
  std::byte pattern;
};

// Both ends and a byte in each page: what overlaps another block shows.
template <class Visit>
void visit(const Live& live, Visit&& each) {
  for (std::size_t i = 0; i < live.bytes; i += Pool::granule) each(live.memory[i]);
  each(live.memory[live.bytes - 1]);
}
void fill(const Live& live) {
  visit(live, [&](std::byte& byte) { byte = live.pattern; });
}
bool intact(const Live& live) {
  bool same = true;
  visit(live, [&](const std::byte& byte) { same &= byte == live.pattern; });
  return same;
}

BOOST_AUTO_TEST_CASE(random_requests) {
  for (const std::size_t limit : {std::size_t{0}, 3 * MiB, 64 * MiB, no_limit}) {
    TestPool test(limit);
    std::mt19937_64 random(limit + 7);
    std::vector<Live> live;
    std::uint64_t requests = 0;
    std::size_t peak = 0;
    for (int step = 0; step < 3000; ++step) {
      if (live.size() < 20 && random() % 2 == 0) {
        const std::size_t bytes = any_size(random);
        live.push_back({test.allocate(bytes), bytes, static_cast<std::byte>(step)});
        requests += bytes >= Pool::smallest ? 1 : 0;
        BOOST_REQUIRE(reinterpret_cast<std::uintptr_t>(live.back().memory) % halfway::tensor_alignment == 0U);
        fill(live.back());
      } else if (!live.empty()) {
        std::swap(live[random() % live.size()], live.back());
        BOOST_REQUIRE(intact(live.back()));
        test.free(live.back().memory, live.back().bytes);
        live.pop_back();
      }
      if (random() % 50 == 0) fake::clock += static_cast<std::int64_t>(random() % 12'000);
      if (random() % 500 == 0) test.pool.trim();
      const MemoryStats stats = test.stats();
      std::size_t least = 0;
      std::size_t most = 0;
      for (const Live& one : live) {
        if (one.bytes < Pool::smallest) continue;
        least += Pool::block_size(one.bytes);
        most += Pool::block_size(one.bytes) + Pool::block_size(one.bytes) / 8;
      }
      peak = std::max(peak, stats.in_use);
      BOOST_REQUIRE(stats.cached <= limit);
      BOOST_REQUIRE(stats.in_use + stats.cached == fake::bytes_mapped);
      BOOST_REQUIRE(stats.in_use >= least);
      BOOST_REQUIRE(stats.in_use <= most);
      BOOST_REQUIRE(stats.hits + stats.misses == requests);
      BOOST_REQUIRE(stats.peak_in_use == peak);
    }
    if (limit >= 64 * MiB) BOOST_TEST(test.stats().hits > test.stats().misses);
    for (const Live& one : live) {
      BOOST_REQUIRE(intact(one));
      test.free(one.memory, one.bytes);
    }
    BOOST_TEST(test.stats().in_use == 0U);
  }
}

BOOST_AUTO_TEST_CASE(many_threads, *boost::unit_test::label("threads")) {
  TestPool test(8 * MiB);
  std::atomic<int> broken{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::vector<Live> shared;  // freed on another thread than allocated
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      std::mt19937_64 random(id);
      for (int step = 0; step < 2000; ++step) {
        const std::size_t bytes = 60 * KiB + random() % (random() % 2 == 0 ? 16 * KiB : MiB);
        const Live made{test.allocate(bytes), bytes, static_cast<std::byte>(random())};
        fill(made);
        Live taken = made;
        {
          const std::lock_guard lock(mutex);
          shared.push_back(made);
          std::swap(shared[random() % shared.size()], shared.back());
          taken = shared.back();
          shared.pop_back();
          if (shared.size() < 8) {
            shared.push_back(taken);
            continue;
          }
        }
        broken += intact(taken) ? 0 : 1;
        test.free(taken.memory, taken.bytes);
      }
    });
  }
  std::thread meddler([&] {
    for (std::size_t i = 0; !stop; ++i) {
      broken += test.stats().cached <= 8 * MiB ? 0 : 1;
      if (i % 16 == 0) test.pool.trim();
      test.pool.set_limit((i % 8 + 1) * MiB);
      test.pool.before_fork();
      test.pool.after_fork_in_parent();
      fake::clock += 100;
    }
  });
  for (std::thread& thread : threads) thread.join();
  stop = true;
  meddler.join();
  for (const Live& one : shared) {
    broken += intact(one) ? 0 : 1;
    test.free(one.memory, one.bytes);
  }
  BOOST_TEST(broken == 0);
  BOOST_TEST(test.stats().in_use == 0U);
  BOOST_TEST(test.stats().cached == fake::bytes_mapped);
}

// --- the real system

BOOST_AUTO_TEST_CASE(the_system_maps_aligned) {
  for (const std::size_t bytes : {64 * KiB, 2 * MiB, 2 * MiB + 4 * KiB, 6 * MiB}) {
    const std::size_t alignment = bytes >= Pool::huge_page ? Pool::huge_page : Pool::granule;
    std::array<void*, 5> blocks{};
    for (void*& block : blocks) {
      block = operating_system.map(bytes, alignment);
      BOOST_REQUIRE(block != nullptr);
      BOOST_TEST(reinterpret_cast<std::uintptr_t>(block) % alignment == 0U);
      std::memset(block, 0x5A, bytes);
    }
    for (void* const block : blocks) operating_system.unmap(block, bytes, alignment);
  }
  BOOST_TEST(operating_system.map(std::size_t{1} << 60, Pool::huge_page) == nullptr);
}

BOOST_AUTO_TEST_CASE(the_system_has_a_clock_and_a_limit) {
  const std::int64_t first = operating_system.now();
  BOOST_TEST(operating_system.now() >= first);
  BOOST_TEST(operating_system.now() - first < 3'600'000);
  if (std::getenv("HALFWAY_MEMORY_LIMIT") == nullptr) {
    BOOST_TEST(operating_system.limit() > 0U);
    BOOST_TEST(operating_system.limit() <= 1024 * MiB);
  }
}

BOOST_AUTO_TEST_CASE(numbers_of_bytes) {
  BOOST_TEST(parse_bytes("0", 7) == 0U);
  BOOST_TEST(parse_bytes("1073741824", 7) == 1024 * MiB);
  for (const char* const text : {"", "max", "-1", " 1", "1 ", "1G", "0x10", "1.5", "99999999999999999999999"}) {
    BOOST_TEST(parse_bytes(text, 7) == 7U);
  }
}

// A folder of files that goes with it.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "halfway-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  [[nodiscard]] std::size_t limit() const {
    return control_group_limit((path_ / "self").c_str(), (path_ / "mount").c_str());
  }

 private:
  std::filesystem::path path_;
};

BOOST_AUTO_TEST_CASE(control_groups_of_version_2) {
  const Folder folder;
  BOOST_TEST(folder.limit() == no_limit);
  folder.write("self", "0::/user/one\n");
  BOOST_TEST(folder.limit() == no_limit);
  folder.write("mount/user/one/memory.max", "max\n");
  BOOST_TEST(folder.limit() == no_limit);
  folder.write("mount/user/memory.max", "5000000\n");
  BOOST_TEST(folder.limit() == 5'000'000U);
  folder.write("mount/user/one/memory.max", "4000000\n");
  BOOST_TEST(folder.limit() == 4'000'000U);
  folder.write("mount/memory.max", "3000000\n");
  BOOST_TEST(folder.limit() == 3'000'000U);
  folder.write("self", "0::/\n");
  BOOST_TEST(folder.limit() == 3'000'000U);
  folder.write("self", "0::/../elsewhere/not/shown\n");
  BOOST_TEST(folder.limit() == 3'000'000U);
}

BOOST_AUTO_TEST_CASE(control_groups_of_version_1) {
  const Folder folder;
  folder.write("self", "12:cpu,cpuacct:/a\n4:hugetlb,memory:/docker/b\n1:name=systemd:/c\n0::/d\nnonsense\n::\n");
  folder.write("mount/memory/docker/b/memory.limit_in_bytes", "9223372036854771712\n");
  BOOST_TEST(folder.limit() == 9223372036854771712U);
  folder.write("mount/memory/memory.limit_in_bytes", "7000000\n");
  BOOST_TEST(folder.limit() == 7'000'000U);
  folder.write("mount/memory/docker/b/memory.limit_in_bytes", "6000000\n");
  BOOST_TEST(folder.limit() == 6'000'000U);
  folder.write("mount/d/memory.max", "5\n");  // both at once
  BOOST_TEST(folder.limit() == 5U);
  folder.write("self", std::string(10'000, 'x'));
  BOOST_TEST(folder.limit() == no_limit);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
