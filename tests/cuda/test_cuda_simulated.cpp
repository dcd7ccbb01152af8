// The simulated device itself: what is delayed, what forces it, what orders, what fails. A device that is wrong here
// would find nothing in the engine.
#include <boost/test/unit_test.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "backend/simulated.h"

namespace {

using namespace halfway::cuda::detail;

constexpr std::size_t size = 1024;

// A pinned block, a device block, two streams and an event.
struct Bench {
  explicit Bench(const SimulatedOptions& options = {}) : device(options) {
    BOOST_REQUIRE(device.create_stream(one) == Status::ok);
    BOOST_REQUIRE(device.create_stream(other) == Status::ok);
    BOOST_REQUIRE(device.create_event(event) == Status::ok);
    BOOST_REQUIRE(device.allocate_pinned(size, pinned) == Status::ok);
    BOOST_REQUIRE(device.allocate(size, memory) == Status::ok);
  }

  void set_pinned(int value) { std::memset(pinned, value, size); }
  [[nodiscard]] bool pinned_is(unsigned char value) const {
    const auto* const bytes = static_cast<const unsigned char*>(pinned);
    return std::all_of(bytes, bytes + size, [=](unsigned char byte) { return byte == value; });
  }
  Status in(Stream stream) { return device.copy(memory, pinned, size, CopyKind::to_device, stream); }
  Status out(Stream stream) { return device.copy(pinned, memory, size, CopyKind::to_host, stream); }

  Simulated device;
  Stream one = nullptr;
  Stream other = nullptr;
  Event event = nullptr;
  void* pinned = nullptr;
  void* memory = nullptr;
};

BOOST_AUTO_TEST_SUITE(cuda_simulated)

BOOST_AUTO_TEST_CASE(work_is_held_back_until_somebody_waits) {
  Bench bench;  // seed 0
  bench.set_pinned(1);
  BOOST_CHECK(bench.in(bench.one) == Status::ok);
  BOOST_CHECK(bench.device.record(bench.event, bench.one) == Status::ok);
  BOOST_CHECK(bench.device.query(bench.event) == Status::not_ready);
  bench.device.finish(bench.other);  // another stream forces nothing
  BOOST_CHECK(bench.device.query(bench.event) == Status::not_ready);
  BOOST_CHECK(bench.device.synchronize(bench.event) == Status::ok);
  BOOST_CHECK(bench.device.query(bench.event) == Status::ok);
  bench.set_pinned(2);
  BOOST_CHECK(bench.out(bench.one) == Status::ok);
  BOOST_CHECK(bench.device.synchronize_stream(bench.one) == Status::ok);
  BOOST_TEST(bench.pinned_is(1));
}

BOOST_AUTO_TEST_CASE(a_wait_means_the_mark_as_it_was_and_forces_the_other_stream) {
  Bench bench;
  bench.set_pinned(7);
  BOOST_CHECK(bench.in(bench.one) == Status::ok);
  BOOST_CHECK(bench.device.record(bench.event, bench.one) == Status::ok);
  BOOST_CHECK(bench.device.wait(bench.other, bench.event) == Status::ok);
  bench.device.fill(bench.device.make_memory(size), size, 9, bench.one);   // behind the mark
  BOOST_CHECK(bench.device.record(bench.event, bench.one) == Status::ok);  // means nothing to the wait
  BOOST_CHECK(bench.out(bench.other) == Status::ok);
  BOOST_CHECK(bench.device.synchronize_stream(bench.other) == Status::ok);
  BOOST_TEST(bench.pinned_is(7));
  BOOST_CHECK(bench.device.query(bench.event) == Status::not_ready);
}

BOOST_AUTO_TEST_CASE(an_event_that_was_never_recorded_is_passed) {
  Bench bench;
  BOOST_CHECK(bench.device.wait(bench.one, bench.event) == Status::ok);
  BOOST_CHECK(bench.device.query(bench.event) == Status::ok);
  BOOST_CHECK(bench.device.synchronize(bench.event) == Status::ok);
}

BOOST_AUTO_TEST_CASE(some_seeds_let_work_go_early_and_a_seed_is_a_run) {
  int early = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::array<int, 2> passed{};
    for (int& count : passed) {
      Bench bench({.seed = seed});
      BOOST_CHECK(bench.in(bench.one) == Status::ok);
      BOOST_CHECK(bench.device.record(bench.event, bench.one) == Status::ok);
      for (int i = 0; i < 8; ++i) count += bench.device.query(bench.event) == Status::ok ? 1 : 0;
    }
    BOOST_TEST(passed[0] == passed[1]);
    early += passed[0] > 0 ? 1 : 0;
  }
  BOOST_TEST(early > 15);
  BOOST_TEST(early < 60);
}

// In a child, since it ends in a signal.
BOOST_AUTO_TEST_CASE(the_host_cannot_touch_device_memory) {
  Bench bench;
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    *static_cast<volatile char*>(bench.memory) = 1;
    ::_exit(0);
  }
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(WIFSIGNALED(status));
  BOOST_TEST(WTERMSIG(status) == SIGSEGV);
}

BOOST_AUTO_TEST_CASE(freed_memory_is_overwritten_and_missed) {
  Bench bench;
  bench.set_pinned(3);
  BOOST_CHECK(bench.in(bench.one) == Status::ok);
  BOOST_CHECK(bench.device.free_pinned(bench.pinned) == Status::ok);
  bench.device.finish(bench.one);
  BOOST_TEST(bench.device.violation() != nullptr);

  // Freeing device memory waits, as CUDA does.
  Bench patient;
  BOOST_CHECK(patient.in(patient.one) == Status::ok);
  BOOST_CHECK(patient.device.free(patient.memory) == Status::ok);
  BOOST_TEST(patient.device.violation() == nullptr);
  BOOST_CHECK(patient.in(patient.one) == Status::illegal_address);
  BOOST_TEST(patient.device.violation() != nullptr);
}

BOOST_AUTO_TEST_CASE(what_a_device_cannot_reach_is_refused) {
  Bench bench;
  std::array<std::byte, size> pageable{};
  BOOST_CHECK(bench.device.copy(bench.memory, pageable.data(), size, CopyKind::to_device, bench.one) ==
              Status::illegal_address);
  Bench kernel;
  BOOST_CHECK(kernel.device.launch(Conversion::copy(pageable.data(), kernel.memory, size), kernel.one) ==
              Status::illegal_address);
  Bench beyond;
  BOOST_CHECK(beyond.device.copy(beyond.memory, beyond.pinned, size + 1, CopyKind::to_device, beyond.one) ==
              Status::illegal_address);
  Bench coherent({.coherent = true});
  BOOST_CHECK(coherent.device.launch(Conversion::copy(pageable.data(), coherent.memory, size), coherent.one) ==
              Status::ok);
  BOOST_CHECK(coherent.device.synchronize_stream(coherent.one) == Status::ok);
  BOOST_TEST(coherent.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_refused_call_has_no_effect_and_fails_alone) {
  Bench bench({.fail_call = 6});  // the first after those of the bench
  bench.set_pinned(1);
  BOOST_CHECK(bench.in(bench.one) == Status::unknown);
  BOOST_TEST(bench.device.counters().copies_to_device == 0U);
  BOOST_CHECK(bench.in(bench.one) == Status::ok);
  BOOST_CHECK(bench.device.synchronize_stream(bench.one) == Status::ok);
}

BOOST_AUTO_TEST_CASE(a_lost_device_fails_for_ever_and_runs_nothing) {
  for (const Fault fault : {Fault::lost, Fault::late}) {
    Bench bench({.fail_call = 7, .fault = fault});
    bench.set_pinned(1);
    BOOST_CHECK(bench.in(bench.one) == Status::ok);
    const Status second = bench.out(bench.one);
    BOOST_TEST((second == Status::ok) == (fault == Fault::late));
    BOOST_CHECK(bench.device.synchronize_stream(bench.one) == Status::launch_failure);
    BOOST_CHECK(bench.in(bench.one) == Status::launch_failure);
    BOOST_CHECK(bench.device.free_pinned(bench.pinned) == Status::launch_failure);
    BOOST_TEST(bench.device.live_blocks() == 1);  // released all the same
  }
}

BOOST_AUTO_TEST_CASE(streams_belong_to_the_current_device) {
  Simulated device({.devices = 2});
  Stream stream = nullptr;
  Event event = nullptr;
  BOOST_CHECK(device.set_device(1) == Status::ok);
  BOOST_CHECK(device.create_stream(stream) == Status::ok);
  BOOST_CHECK(device.create_event(event) == Status::ok);
  BOOST_CHECK(device.record(event, stream) == Status::ok);
  BOOST_CHECK(device.set_device(0) == Status::ok);
  BOOST_CHECK(device.record(event, stream) == Status::invalid_handle);
  BOOST_CHECK(device.set_device(2) == Status::invalid_device);
}

BOOST_AUTO_TEST_CASE(counters_tell_the_wire_from_the_device) {
  Bench bench({.seed = 5});
  BOOST_CHECK(bench.in(bench.one) == Status::ok);
  BOOST_CHECK(bench.out(bench.one) == Status::ok);
  BOOST_CHECK(bench.device.launch(Conversion::copy(bench.pinned, bench.memory, 100), bench.one) == Status::ok);
  BOOST_CHECK(bench.device.launch(Conversion::copy(bench.memory, bench.pinned, 10), bench.one) == Status::ok);
  BOOST_CHECK(bench.device.launch({bench.memory, bench.memory, halfway::float32, halfway::float16, 4}, bench.one) ==
              Status::ok);
  const Counters counters = bench.device.counters();
  BOOST_TEST(counters.bytes_to_device == size);
  BOOST_TEST(counters.bytes_to_host == size);
  BOOST_TEST(counters.bytes_read_mapped == 100U);
  BOOST_TEST(counters.bytes_written_mapped == 10U);
  BOOST_TEST(counters.launches == 3U);
  BOOST_TEST(counters.bytes_wire() == 2 * size + 110);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
