// Measured constants and page-locked memory over the simulated device: that they are measured, that nothing is left,
// and what fails. What the figures are worth only a device can tell.
#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <numeric>
#include <vector>

#include "rig.h"

namespace {

using halfway::Machine;
using rig::Engine;
using rig::Simulated;

constexpr std::uint64_t block = std::uint64_t{64} << 10;

void require_nothing_is_left(const Simulated& device) {
  BOOST_TEST(device.live_blocks() == 0);
  BOOST_TEST(device.live_streams() == 0);
  BOOST_TEST(device.live_registrations() == 0);
  BOOST_TEST((device.violation() == nullptr));
}

}  // namespace

BOOST_AUTO_TEST_CASE(everything_is_measured) {
  Simulated device({.memory = std::size_t{1} << 20, .threads = false});
  {
    Engine engine(device);
    const Machine before = engine.machine();
    const Machine machine = halfway::cuda::detail::calibrate(engine, 0, block);
    BOOST_TEST(!machine.assumed);
    BOOST_TEST(machine.measured.size() == 10U);
    for (const double rate : {machine.wire_to_device, machine.wire_to_host, machine.host_cast, machine.host_memory}) {
      BOOST_TEST(rate > 0);
    }
    for (const double share : {machine.mapped_read, machine.mapped_write}) {
      BOOST_TEST(share > 0);
      BOOST_TEST(share <= 1);
    }
    const rig::Counters counters = device.counters();
    BOOST_TEST(counters.copies_to_device == counters.copies_to_host);
    BOOST_TEST(counters.bytes_to_device == counters.copies_to_device * block);
    BOOST_TEST(counters.bytes_read_mapped == counters.bytes_written_mapped);
    // Measuring changes nothing by itself, and slots keep their size.
    BOOST_TEST(engine.machine().assumed);
    Machine other = machine;
    other.chunk = 1;
    engine.set_machine(other);
    BOOST_TEST(engine.machine().chunk == before.chunk);
    BOOST_TEST(!engine.machine().assumed);
  }
  require_nothing_is_left(device);
}

BOOST_AUTO_TEST_CASE(a_failure_anywhere_leaves_nothing) {
  std::uint64_t calls = 0;
  {
    Simulated device({.memory = std::size_t{1} << 20, .threads = false});
    Engine engine(device);
    static_cast<void>(halfway::cuda::detail::calibrate(engine, 0, 4096));
    calls = device.calls();
  }
  int errors = 0;
  for (std::uint64_t call = 1; call <= calls; ++call) {
    for (const rig::Fault fault : {rig::Fault::refused, rig::Fault::lost}) {
      Simulated device({.memory = std::size_t{1} << 20, .threads = false, .fail_call = call, .fault = fault});
      {
        Engine engine(device);
        try {
          static_cast<void>(halfway::cuda::detail::calibrate(engine, 0, 4096));
        } catch (const halfway::Error& error) {
          ++errors;
          BOOST_TEST((error.reason() == halfway::Reason::unavailable));
        }
      }
      require_nothing_is_left(device);
    }
  }
  BOOST_TEST(errors > 0);
}

BOOST_AUTO_TEST_CASE(memory_is_registered_once_and_read_until_it_is_waited_for) {
  Simulated device({.memory = std::size_t{1} << 20, .threads = false});
  {
    Engine engine(device);
    rig::StreamOrdered allocator(device);
    void* const stream = device.make_stream();
    std::vector<float> values(50'000);
    std::iota(values.begin(), values.end(), 0.0F);
    const std::array<std::int64_t, 1> shape{50'000};
    const std::array<std::int64_t, 1> strides{1};
    const halfway::MutableView view{
        .data = values.data(), .dtype = halfway::float32, .shape = shape, .strides = strides};
    const std::size_t bytes = values.size() * sizeof(float);
    BOOST_TEST((device.register_pinned(values.data(), bytes) == halfway::cuda::detail::Status::ok));
    BOOST_TEST((device.register_pinned(values.data() + 7, 4) == halfway::cuda::detail::Status::already_pinned));
    int released = 0;
    rig::Tensor there =
        engine.to_device(view, rig::Tensor::adopt(view, &released, [](void* count) { ++*static_cast<int*>(count); }),
                         {.stream = stream, .non_blocking = true, .allocator = &allocator});
    BOOST_TEST(released == 0);
    engine.wait();
    BOOST_TEST(released == 1);
    BOOST_TEST((device.unregister_pinned(values.data()) == halfway::cuda::detail::Status::ok));
    std::fill(values.begin(), values.end(), -1.0F);
    const std::vector<std::byte> arrived = rig::read_back(device, there.view(), stream);
    float last = 0;
    std::memcpy(&last, arrived.data() + arrived.size() - sizeof last, sizeof last);
    BOOST_TEST(last == 49'999.0F);
  }
  require_nothing_is_left(device);
}
