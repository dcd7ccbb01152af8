// Faults planted into the engine are noticed by the same runs that find nothing wrong with it: each in a process of its
// own, since what notices may be a sanitizer, or the memory protection. The test says which seed found it, and how.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ostream>
#include <string>

#include "halfway/parallel.h"
#include "planted.h"
#include "schedule.h"

namespace {

using halfway::cuda::detail::Bug;
using rig::Fault;

struct Planted {
  Bug bug;
  const char* name;
};
constexpr std::array planted{
    Planted{Bug::none, "none"},
    Planted{Bug::drop_slot_wait, "drop_slot_wait"},
    Planted{Bug::reuse_slot_early, "reuse_slot_early"},
    Planted{Bug::drop_filled_wait, "drop_filled_wait"},
    Planted{Bug::drop_scratch_wait, "drop_scratch_wait"},
    Planted{Bug::release_early, "release_early"},
    Planted{Bug::forget_consumer_wait, "forget_consumer_wait"},
    Planted{Bug::forget_caller_order, "forget_caller_order"},
    Planted{Bug::drop_drain_wait, "drop_drain_wait"},
    Planted{Bug::forget_to_settle, "forget_to_settle"},
    Planted{Bug::mark_early, "mark_early"},
    Planted{Bug::drop_kept_wait, "drop_kept_wait"},
    Planted{Bug::keep_counts, "keep_counts"},
    Planted{Bug::drop_count_wait, "drop_count_wait"},
    Planted{Bug::misnumber_elements, "misnumber_elements"},
};
static_assert(planted.size() == halfway::cuda::detail::bug_count);

// Of every hunt, the one without a bug included: a seed that is wrong by itself would pass for the catch of any bug.
constexpr std::uint64_t seeds = 600;

std::ostream& operator<<(std::ostream& out, const Planted& row) { return out << row.name; }

struct Found {
  bool found = false;
  std::uint64_t seed = 0;
  std::string how;
};

struct Message {
  std::uint64_t seed;
  char wrong[200];  // empty: this seed is about to run
};

// The child: seeds until one of them is wrong. A fault at a call is part of every other run, since some bugs only show
// on the way out of an error.
[[noreturn]] void hunt(Bug bug, std::size_t piece, int out) {
  const int nothing = ::open("/dev/null", O_WRONLY);
  ::dup2(nothing, 1);
  ::dup2(nothing, 2);
  halfway::cuda::detail::planted_bug = bug;
  halfway::set_num_threads(4);  // in a forked child it is 1
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    Message message{seed, {}};
    if (::write(out, &message, sizeof(message)) != sizeof(message)) ::_exit(9);
    const std::uint64_t call = seed % 2 == 0 ? 20 + seed % 41 : 0;
    const rig::Run run = rig::run_schedule(seed, call, Fault::refused, piece);
    if (run.wrong.empty()) continue;
    std::snprintf(message.wrong, sizeof(message.wrong), "%s", run.wrong.c_str());
    if (::write(out, &message, sizeof(message)) != sizeof(message)) ::_exit(9);
    ::_exit(1);
  }
  ::_exit(0);
}

Found find(Bug bug, std::size_t piece = rig::EngineSizes{}.piece) {
  std::array<int, 2> ends{};
  BOOST_REQUIRE(::pipe(ends.data()) == 0);
  const pid_t child = ::fork();
  if (child == 0) hunt(bug, piece, ends[1]);
  BOOST_REQUIRE(child > 0);
  ::close(ends[1]);
  Message last{};
  Message message{};
  while (::read(ends[0], &message, sizeof(message)) == sizeof(message)) last = message;
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  Found found{true, last.seed, last.wrong};
  if (WIFSIGNALED(status)) found.how = "signal " + std::to_string(WTERMSIG(status));
  if (found.how.empty()) found.how = "a sanitizer (exit status " + std::to_string(WEXITSTATUS(status)) + ")";
  return found;
}

BOOST_AUTO_TEST_SUITE(cuda_planted)

BOOST_DATA_TEST_CASE(every_planted_bug_is_caught, boost::unit_test::data::make(planted), row) {
  const Found found = find(row.bug);
  BOOST_TEST_MESSAGE(row.name << ": "
                              << (found.found ? "seed " + std::to_string(found.seed) + ", " + found.how
                                              : "nothing in " + std::to_string(seeds) + " seeds"));
  BOOST_TEST(found.found == (row.bug != Bug::none), row.name << ": " << found.how << ", seed " << found.seed);
}

// The faults of the ring, where several threads fill and empty it.
constexpr std::array of_the_ring{Bug::none,
                                 Bug::drop_slot_wait,
                                 Bug::reuse_slot_early,
                                 Bug::drop_drain_wait,
                                 Bug::drop_filled_wait,
                                 Bug::drop_scratch_wait};

BOOST_AUTO_TEST_CASE(planted_bugs_of_the_ring_are_caught_with_threads) {
  for (const Bug bug : of_the_ring) {
    const Found found = find(bug, rig::small_piece);
    const char* const name = planted[static_cast<std::size_t>(bug)].name;
    BOOST_TEST_MESSAGE(name << ": " << found.how << ", seed " << found.seed);
    BOOST_TEST(found.found == (bug != Bug::none), name << ": " << found.how << ", seed " << found.seed);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
