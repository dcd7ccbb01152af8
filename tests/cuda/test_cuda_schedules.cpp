// Seeded schedules, each without a fault and with faults at several of the calls that it makes: right bytes, everything
// released once and not too early, nothing leaked, errors delivered as errors. HALFWAY_SCHEDULES and HALFWAY_SEED
// choose how many and from which seed on; what fails says its numbers.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <set>
#include <string>

#include "schedule.h"
#include "threads.h"

namespace {

using rig::Fault;

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

BOOST_AUTO_TEST_SUITE(cuda_schedules)

BOOST_AUTO_TEST_CASE(bytes_owners_and_errors_are_right_under_every_schedule_and_fault) {
  const std::uint64_t runs = setting("HALFWAY_SCHEDULES", 2100);
  const std::uint64_t first = setting("HALFWAY_SEED", 1);
  constexpr std::uint64_t faults_each = 5;
  std::uint64_t errors = 0;
  std::uint64_t made = 0;
  std::set<std::string> routes;
  const auto judge = [&](std::uint64_t seed, std::uint64_t call, Fault fault) {
    const rig::Run run = rig::run_schedule(seed, call, fault);
    ++made;
    routes.insert(run.routes.begin(), run.routes.end());
    errors += static_cast<std::uint64_t>(run.errors);
    BOOST_TEST(run.wrong == "",
               "seed " << seed << ", call " << call << ", fault " << static_cast<int>(fault) << ": " << run.wrong);
    return run.calls;
  };
  std::uint64_t seed = first;
  while (made < runs) {
    const std::uint64_t calls = judge(seed, 0, Fault::refused);
    std::mt19937_64 random(seed);
    for (std::uint64_t i = 0; i < faults_each; ++i) {
      const std::uint64_t call = 1 + random() % calls;
      judge(seed, call, static_cast<Fault>(random() % 3));
    }
    ++seed;
  }
  BOOST_TEST_MESSAGE(made << " runs from seed " << first << " on, " << errors << " errors delivered");
  BOOST_TEST(errors > made / 4);  // the faults are felt
  // And the runs have been everywhere.
  if (made < 1000) return;
  for (const std::string& route : routes) BOOST_TEST_MESSAGE(route);
  for (const char* const route : {"to_device direct",
                                  "to_device host_cast staged",
                                  "to_device host_cast staged whole",
                                  "to_device device_cast",
                                  "to_device device_cast staged",
                                  "to_device mapped",
                                  "to_device mapped staged",
                                  "to_device nothing",
                                  "to_device device_cast strided",
                                  "to_device device_cast staged strided",
                                  "to_device device_cast staged whole strided",
                                  "to_device mapped strided",
                                  "to_device mapped staged strided",
                                  "to_host direct",
                                  "to_host host_cast staged",
                                  "to_host host_cast staged whole",
                                  "to_host mapped",
                                  "to_host mapped staged",
                                  "to_host mapped strided",
                                  "to_host mapped staged strided",
                                  "to_host mapped staged whole strided",
                                  "on_device",
                                  "on_device strided"}) {
    BOOST_TEST(routes.count(route) == 1U, route);
  }
}

// The same with several threads at the ring, which no seed repeats.
BOOST_AUTO_TEST_CASE(several_threads_get_the_same_under_schedules_and_faults) {
  const std::uint64_t runs = setting("HALFWAY_SCHEDULES", 2100) / 3;
  const rig::Threads several;
  std::uint64_t seed = setting("HALFWAY_SEED", 1);
  std::uint64_t calls = 0;
  for (std::uint64_t made = 0; made < runs; ++made) {
    const std::uint64_t call = made % 3 == 0 ? 0 : 1 + (seed * 31 + made) % calls;
    const auto fault = static_cast<Fault>(made % 3 == 0 ? 0 : made / 3 % 3);
    const rig::Run run = rig::run_schedule(seed, call, fault, rig::small_piece);
    BOOST_TEST(run.wrong == "",
               "seed " << seed << ", call " << call << ", fault " << static_cast<int>(fault) << ": " << run.wrong);
    if (call == 0) calls = std::max<std::uint64_t>(run.calls, 1);
    if (made % 3 == 2) ++seed;
  }
}

// A chunk is not handed on as a whole, and other threads come with the chunks below it. ThreadSanitizer sees whether
// these use what the device still reads.
BOOST_AUTO_TEST_CASE(a_call_is_refused_among_several_threads) {
  struct Refused {
    std::uint64_t seed;
    std::uint64_t call;
  };
  const rig::Threads several;
  for (const Refused& refused : {Refused{139, 75}, Refused{79, 30}, Refused{13, 37}}) {
    for (int repetition = 0; repetition < 12; ++repetition) {
      const rig::Run run = rig::run_schedule(refused.seed, refused.call, Fault::refused, rig::small_piece);
      BOOST_TEST(run.wrong == "", "seed " << refused.seed << ", call " << refused.call << ": " << run.wrong);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
