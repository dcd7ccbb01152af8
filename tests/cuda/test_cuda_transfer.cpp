// Transfers over the simulated device, one at a time: bytes, routes, and the wire as it was planned.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rig.h"

namespace {

using halfway::CastOptions;
using halfway::DType;
using halfway::Error;
using halfway::Reason;
using halfway::Tensor;
using halfway::TransferPlan;
using namespace rig;

constexpr std::size_t device_memory = std::size_t{16} << 20;

struct Bench {
  explicit Bench(EngineSizes sizes = tiny(), SimulatedOptions options = {})
      : device(with_memory(options)), engine(device, sizes), stream(device.make_stream()), allocator(device) {}

  static EngineSizes tiny() {
    EngineSizes sizes;
    sizes.machine.chunk = 512;
    sizes.machine.small = 0;
    return sizes;
  }
  static SimulatedOptions with_memory(SimulatedOptions options) {
    options.memory = device_memory;
    return options;
  }
  TransferOptions to(DType dtype, CastOptions cast = {}) {
    return {.dtype = dtype, .stream = stream, .cast = std::move(cast), .allocator = &allocator};
  }
  std::vector<std::byte> read(const Tensor& tensor) { return read_back(device, tensor.view(), stream); }

  Simulated device;
  Engine engine;
  void* stream;
  StreamOrdered allocator;
};

arrays::Array numbers(DType dtype, std::vector<std::int64_t> shape) {
  arrays::Array array = arrays::contiguous(dtype, std::move(shape));
  std::mt19937_64 random(7);
  arrays::fill_random(random, array);
  return array;
}

CastOptions freely() { return {.casting = halfway::Casting::unsafe}; }

// The wire as planned and as it was.
void check_wire(const Counters& before, const Counters& after, const TransferPlan& plan) {
  BOOST_TEST(after.bytes_wire() - before.bytes_wire() == plan.bytes_wire);
  BOOST_TEST(after.copies_to_device + after.copies_to_host - before.copies_to_device - before.copies_to_host ==
             plan.copies);
  BOOST_TEST(after.launches - before.launches == plan.launches);
}

BOOST_AUTO_TEST_SUITE(cuda_transfer)

BOOST_AUTO_TEST_CASE(every_pair_of_dtypes_goes_there_and_back) {
  Bench bench;
  for (const DType from : arrays::castable_dtypes()) {
    const arrays::Array source = numbers(from, {301});
    for (const DType to : arrays::castable_dtypes()) {
      const Tensor expected = halfway::cast(source.view(), to, freely());
      const auto options = bench.to(to, freely());
      const Counters before = bench.device.counters();
      const TransferPlan plan = bench.engine.plan_to_device(source.view(), options);
      const Tensor there = bench.engine.to_device(source.view(), Tensor(), options);
      check_wire(before, bench.device.counters(), plan);
      BOOST_TEST_INFO(to_string(from) << " -> " << to_string(to));
      BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));

      // The other way, from the same numbers.
      const Tensor here = on_device(bench.allocator, bench.device, source.view(), bench.stream);
      const TransferPlan back = bench.engine.plan_to_host(here.view(), options);
      const Counters between = bench.device.counters();
      const Tensor result = bench.engine.to_host(here.view(), options);
      check_wire(between, bench.device.counters(), back);
      BOOST_CHECK(bytes_of(result.view()) == bytes_of(expected.view()));
    }
    bench.device.finish(bench.stream);
    for (const auto& held : bench.allocator.made) {
      if (held->released == 1 && held->memory != nullptr) {
        bench.device.free_memory(std::exchange(held->memory, nullptr));
      }
    }
  }
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
