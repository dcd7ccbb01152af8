// The recycling pool and operator new, which this file replaces. (test_pool.cpp does not, so that every sanitizer can
// watch.)
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "counting_new.h"
#include "fake_pool.h"

namespace {

using namespace halfway_test;  // NOLINT(google-build-using-namespace)

BOOST_AUTO_TEST_SUITE(pool_new)

BOOST_AUTO_TEST_CASE(other_memory_runs_out_too) {
  TestPool test;
  {
    const halfway_test::FailingAllocation failing(0);
    BOOST_CHECK_THROW(static_cast<void>(test.allocate(100)), std::bad_alloc);  // nothing to return: fails at once
  }
  test.touch(MiB);
  const halfway_test::FailingAllocation failing(0);
  std::byte* const memory = test.allocate(100);
  BOOST_TEST(halfway_test::FailingAllocation::happened());
  BOOST_TEST(test.stats().cached == 0U);
  test.free(memory, 100);
}

BOOST_AUTO_TEST_CASE(recycling_allocates_nothing) {
  TestPool test(4 * MiB);
  std::vector<std::byte*> blocks(100);
  for (std::byte*& block : blocks) block = test.allocate(72 * KiB);
  const std::int64_t before = halfway_test::total_allocations;
  for (std::byte* const block : blocks) test.free(block, 72 * KiB);
  for (int i = 0; i < 100; ++i) test.touch(Pool::smallest);
  test.pool.trim();
  BOOST_TEST(halfway_test::total_allocations - before == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
