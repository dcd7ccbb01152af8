// Blocks of scratch memory among threads. Apart from the other tests of scratch memory, which replace operator new:
// ThreadSanitizer has one of its own.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#include "cast/scratch.h"
#include "halfway/allocator.h"

namespace {

using halfway::detail::Scratch;

BOOST_AUTO_TEST_SUITE(cast_scratch_threads)

BOOST_AUTO_TEST_CASE(threads_never_share_a_block, *boost::unit_test::label("threads")) {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&wrong, thread] {
      for (int i = 0; i < 2000; ++i) {
        Scratch scratch;
        std::byte* const block = scratch.get(Scratch::most_bytes);
        std::memset(block, thread, 64);
        if (i % 16 == 0) std::this_thread::yield();
        if (std::any_of(block, block + 64, [&](std::byte b) { return b != static_cast<std::byte>(thread); })) ++wrong;
        if (i % 500 == 0) halfway::trim_memory();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
