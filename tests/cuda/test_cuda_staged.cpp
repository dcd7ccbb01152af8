// Staged transfers with several threads at the ring: the values, layouts, options and counts of cast(), errors at every
// call, and whose threads whatever they do leave behind.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "halfway/cast.h"
#include "halfway/plan.h"
#include "rig.h"
#include "slices.h"
#include "threads.h"

namespace {

using namespace rig;
using halfway::CastOptions;
using halfway::Report;

// Small slots of many small pieces.
EngineSizes tiny() {
  EngineSizes sizes;
  sizes.machine.chunk = 1024;
  sizes.machine.small = 0;
  sizes.machine.cores = 64;  // faster than the wire: pinned memory is cast by the host too
  sizes.slots = 3;
  sizes.piece = 64;
  return sizes;
}

struct Bench {
  explicit Bench(SimulatedOptions options = {}) : device(options), allocator(device), stream(device.make_stream()) {}

  TransferOptions to(DType dtype, CastOptions cast = {}) {
    return {.dtype = dtype, .stream = stream, .cast = std::move(cast), .allocator = &allocator};
  }
  void free_all() {
    device.finish(stream);
    for (const auto& held : allocator.made) {
      if (held->memory != nullptr) device.free_memory(std::exchange(held->memory, nullptr));
    }
    allocator.made.clear();
  }

  Simulated device;
  StreamOrdered allocator;
  Engine engine{device, tiny()};
  void* stream;
};

arrays::Array numbers(std::mt19937_64& random, DType dtype, std::vector<std::int64_t> shape) {
  arrays::Array array = arrays::contiguous(dtype, std::move(shape));
  arrays::fill_random(random, array);
  return array;
}

// There and back, against cast(). True: by the ring, both ways.
bool check(Bench& bench, arrays::Array& source, DType to, const CastOptions& options) {
  Report expected_counts;
  CastOptions counted = options;
  counted.report = &expected_counts;
  const Tensor expected = halfway::cast(source.view(), to, counted);
  Report counts;
  counted.report = &counts;
  const TransferOptions transfer = bench.to(to, counted);
  bool staged = bench.engine.plan_to_device(source.view(), transfer).staged;
  {
    const Tensor there = bench.engine.to_device(source.view(), Tensor(), transfer);
    BOOST_CHECK(read_back(bench.device, there.view(), bench.stream) == bytes_of(expected.view()));
    BOOST_CHECK(counts == expected_counts);
  }
  if (!source.swapped && source.whole_strides.size() == source.shape.size()) {
    arrays::Array dense = source;
    const Tensor here = bench.allocator.image(dense, bench.stream, 0);
    counts = {};
    arrays::Array target = arrays::contiguous(to, halfway::result_shape(source.shape, counted));
    const halfway::MutableView into = target.mutable_view();
    staged = bench.engine.plan_to_host(here.view(), transfer, &into).staged && staged;
    bench.engine.to_host_into(here.view(), into, transfer);
    BOOST_CHECK(bytes_of(target.view()) == bytes_of(expected.view()));
    BOOST_CHECK(counts == expected_counts);
  }
  BOOST_TEST(bench.device.violation() == nullptr);
  bench.free_all();
  return staged;
}

BOOST_AUTO_TEST_SUITE(cuda_staged)

BOOST_AUTO_TEST_CASE(parts_of_parts_are_where_row_major_order_has_them) {
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{
           {}, {1}, {13}, {3, 5}, {5, 1, 4}, {2, 3, 4}, {4, 3, 2}, {1, 7, 1, 3}, {2, 2, 3, 2}}) {
    const std::int64_t count = arrays::element_count(shape);
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
    std::iota(numbers.begin(), numbers.end(), 0);
    std::vector<std::int64_t> strides(shape.size());
    halfway::row_major_strides(shape, strides);
    const TensorView view{.data = numbers.data(), .dtype = halfway::int64, .shape = shape, .strides = strides};
    for (std::int64_t most = 1; most <= count; ++most) {
      const halfway::detail::Slices parts(shape, most);
      for (std::int64_t least = 1; least <= most; ++least) {
        std::int64_t next = 0;
        for (std::int64_t i = 0; i < parts.size(); ++i) {
          std::array<std::int64_t, halfway::max_ndim> dims{};
          const halfway::detail::Slices inner(halfway::detail::shape_of(shape, parts[i], dims), least);
          for (std::int64_t j = 0; j < inner.size(); ++j) {
            const halfway::detail::Slice slice = halfway::detail::within(shape, parts[i], inner[j]);
            std::array<std::int64_t, halfway::max_ndim> own{};
            const Tensor dense = halfway::cast(halfway::detail::slice_of(view, slice, own), halfway::int64);
            BOOST_REQUIRE(slice.first == next);
            BOOST_REQUIRE(slice.count == halfway::element_count(dense.view().shape).value());
            BOOST_REQUIRE(slice.count <= least);
            const auto* const found = static_cast<const std::int64_t*>(dense.view().data);
            for (std::int64_t k = 0; k < slice.count; ++k) BOOST_REQUIRE(found[k] == next++);
          }
        }
        BOOST_REQUIRE(next == count);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(layouts_options_and_counts_are_those_of_cast) {
  std::mt19937_64 random(11);
  constexpr std::array dtypes{halfway::float32, halfway::bfloat16, halfway::uint8, halfway::int64, halfway::float64};
  const auto any = [&](std::size_t count) { return random() % count; };
  with_all_kinds_of_threads([&] {
    Bench bench({.threads = false});
    int staged = 0;
    for (int i = 0; i < 40; ++i) {
      const DType from = dtypes[any(dtypes.size())];
      const DType to = dtypes[any(dtypes.size())];
      const auto shape = arrays::random_shape(random, 3000);
      arrays::Array source = any(2) == 0 ? arrays::random_layout(random, from, shape, true)
                                         : arrays::contiguous(from, {1 + static_cast<std::int64_t>(any(4000))});
      arrays::fill_random(random, source);
      CastOptions options{.casting = halfway::Casting::unsafe};
      std::vector<std::int64_t> axes(source.shape.size());
      std::iota(axes.begin(), axes.end(), 0);
      std::shuffle(axes.begin(), axes.end(), random);
      if (any(2) == 0) options.permute = axes;
      std::vector<double> scale;
      if (any(2) == 0 && !axes.empty()) {
        const std::size_t axis = any(axes.size());
        for (std::int64_t k = 0; k < source.shape[axis]; ++k) scale.push_back(0.25 * static_cast<double>(k + 1));
        options.scale = halfway::Coefficients(scale);
        options.axis = static_cast<std::int64_t>(axis);
      }
      BOOST_TEST_CONTEXT(to_string(from) << " -> " << to_string(to) << arrays::to_string(source)) {
        staged += check(bench, source, to, options) ? 1 : 0;
      }
    }
    BOOST_TEST(staged > 10);
  });
}

// Large enough for the threads that ship, with the sizes that ship.
BOOST_AUTO_TEST_CASE(the_shipped_sizes_take_several_threads) {
  const Threads several;
  std::mt19937_64 random(5);
  Simulated device({.memory = std::size_t{32} << 20, .threads = false});
  StreamOrdered allocator(device);
  Engine engine(device);
  void* const stream = device.make_stream();
  for (const std::int64_t count : {(1 << 19) + 1, 1'600'001}) {
    const arrays::Array source = numbers(random, halfway::float32, {count});
    Report expected_counts;
    Report counts;
    const CastOptions options{.casting = halfway::Casting::unsafe, .report = &expected_counts};
    const Tensor expected = halfway::cast(source.view(), halfway::bfloat16, options);
    TransferOptions transfer{.dtype = halfway::bfloat16, .stream = stream, .cast = options, .allocator = &allocator};
    transfer.cast.report = &counts;
    const Tensor there = engine.to_device(source.view(), Tensor(), transfer);
    BOOST_CHECK(read_back(device, there.view(), stream) == bytes_of(expected.view()));
    BOOST_CHECK(counts == expected_counts);
    const Tensor wide = engine.to_device(source.view(), Tensor(), {.stream = stream, .allocator = &allocator});
    arrays::Array target = arrays::contiguous(halfway::bfloat16, {count});
    engine.to_host_into(wide.view(), target.mutable_view(), transfer);
    BOOST_CHECK(bytes_of(target.view()) == bytes_of(expected.view()));
    BOOST_CHECK(counts == expected_counts);
  }
}

// One for each piece's worth that the host reads and writes, up to what there are; below two the executor is not asked.
BOOST_AUTO_TEST_CASE(a_transfer_asks_for_as_many_threads_as_its_bytes_are_worth) {
  std::mt19937_64 random(6);
  Simulated device({.memory = std::size_t{8} << 20, .threads = false});
  StreamOrdered allocator(device);
  EngineSizes sizes;
  sizes.piece = std::size_t{192} << 10;
  Engine engine(device, sizes);
  void* const stream = device.make_stream();
  const auto threads_of = [&](std::int64_t count, bool to_device) {
    const arrays::Array source = numbers(random, halfway::float32, {count});
    Tensor there = engine.to_device(source.view(), Tensor(), {.stream = stream, .allocator = &allocator});
    arrays::Array target = arrays::contiguous(halfway::bfloat16, {count});
    const TransferOptions options{.dtype = halfway::bfloat16, .stream = stream, .allocator = &allocator};
    Executor executor(Executor::Order::forward);
    halfway::set_executor(&executor);
    if (to_device) {
      there = engine.to_device(source.view(), Tensor(), options);
    } else {
      engine.to_host_into(there.view(), target.mutable_view(), options);
    }
    halfway::set_executor(nullptr);
    return executor.most_tasks;
  };
  // 6 bytes are read and written of each element to the device, 4 of each to the host: 192 KiB are 32768 and 49152.
  // Below two pieces' worth it has one thread, and so has the cast in it.
  BOOST_TEST(threads_of(40'000, true) == 0);
  BOOST_TEST(threads_of(2 * 32'768, true) == 2);
  BOOST_TEST(threads_of(3 * 32'768, true) == 3);
  BOOST_TEST(threads_of(300'000, true) == 4);
  BOOST_TEST(threads_of(60'000, false) == 0);
  BOOST_TEST(threads_of(2 * 49'152, false) == 2);
  BOOST_TEST(threads_of(300'000, false) == 4);
}

// Threads that help use the transfer's device, whatever is current elsewhere.
BOOST_AUTO_TEST_CASE(helping_threads_use_the_device_of_the_transfer) {
  with_all_kinds_of_threads([] {
    std::mt19937_64 random(1);
    Simulated device({.devices = 2, .threads = false});
    StreamOrdered allocator(device);
    Engine engine(device, tiny());
    const arrays::Array source = numbers(random, halfway::float32, {5000});
    const Tensor expected = halfway::cast(source.view(), halfway::bfloat16);
    for (const int id : {1, 0, 1}) {
      void* const stream = device.make_stream(id);
      const TransferOptions options{
          .device = id, .dtype = halfway::bfloat16, .stream = stream, .allocator = &allocator};
      const Tensor there = engine.to_device(source.view(), Tensor(), options);
      BOOST_CHECK(read_back(device, there.view(), stream) == bytes_of(expected.view()));
      const Tensor here = engine.to_host(there.view(), {.stream = stream});
      BOOST_CHECK(bytes_of(here.view()) == bytes_of(expected.view()));
    }
    int current = -1;
    BOOST_CHECK(device.current_device(current) == halfway::cuda::detail::Status::ok);
    BOOST_TEST(current == 0);
  });
}

// Every call that can fail, in every way: an error arrives, and nothing is left.
BOOST_AUTO_TEST_CASE(a_call_that_fails_ends_the_transfer_and_leaks_nothing) {
  with_all_kinds_of_threads([] {
    std::mt19937_64 random(2);
    const arrays::Array source = numbers(random, halfway::float32, {2500});
    arrays::Array back = arrays::contiguous(halfway::bfloat16, {2500});
    const Tensor expected = halfway::cast(source.view(), halfway::bfloat16);
    for (const Fault fault : {Fault::refused, Fault::lost, Fault::late}) {
      for (const bool to_device : {true, false}) {
        std::uint64_t calls = 1;
        for (std::uint64_t call = 0; call <= calls; ++call) {
          Simulated device({.threads = false, .fail_call = call, .fault = fault});
          StreamOrdered allocator(device);
          void* const stream = device.make_stream();
          int errors = 0;
          {
            Engine engine(device, tiny());
            Tensor there;
            const TransferOptions options{.dtype = halfway::bfloat16, .stream = stream, .allocator = &allocator};
            arrays::Array dense = source;
            if (!to_device) there = allocator.image(dense, stream, 0);
            try {
              if (to_device) {
                there = engine.to_device(source.view(), Tensor(), options);
                if (!device.is_lost()) {
                  BOOST_CHECK(read_back(device, there.view(), stream) == bytes_of(expected.view()));
                }
              } else {
                engine.to_host_into(there.view(), back.mutable_view(), options);
                if (!device.is_lost()) BOOST_CHECK(bytes_of(back.view()) == bytes_of(expected.view()));
              }
            } catch (const halfway::Error& error) {
              ++errors;
              BOOST_TEST(call != 0, error.what());
            }
            if (call == 0) calls = device.calls();
          }
          device.finish(stream);
          BOOST_TEST_CONTEXT("call " << call << ", fault " << static_cast<int>(fault)) {
            BOOST_TEST(device.violation() == nullptr);
            BOOST_TEST(device.live_blocks() == 0);
            BOOST_TEST(device.live_streams() == 0);
            BOOST_TEST(device.live_events() == 0);
          }
          // Releasing calls, whose failures change nothing, are among the last ones.
          if (fault == Fault::refused && call > 0 && call < calls / 2) BOOST_TEST(errors == 1);
        }
      }
    }
  });
}

// A check needs all elements: nothing is enqueued, and what was given to write into is as it was.
BOOST_AUTO_TEST_CASE(a_cast_that_raises_in_the_middle_leaves_the_destination_alone) {
  const Threads several;
  Bench bench;
  arrays::Array source = arrays::contiguous(halfway::float32, {4000});
  auto* const values = reinterpret_cast<float*>(source.memory.data());
  std::fill(values, values + 4000, 1.0F);
  values[2345] = 1e30F;
  const CastOptions raising{.casting = halfway::Casting::unsafe, .overflow = halfway::Overflow::raise};
  const TransferOptions options = bench.to(halfway::float16, raising);
  Tensor there = bench.allocator.allocate(source.shape, halfway::float16, device_0, bench.stream);
  const auto before = read_back(bench.device, there.view(), bench.stream);
  BOOST_CHECK_THROW(bench.engine.to_device_into(source.view(), Tensor(), there.mutable_view(), options),
                    halfway::CastError);
  BOOST_CHECK(read_back(bench.device, there.view(), bench.stream) == before);
  const Tensor wide = bench.allocator.image(source, bench.stream, 0);
  arrays::Array target = arrays::contiguous(halfway::float16, {4000});
  std::fill(target.memory.begin(), target.memory.end(), std::byte{0x5A});
  const auto untouched = target.memory;
  BOOST_CHECK_THROW(bench.engine.to_host_into(wide.view(), target.mutable_view(), options), halfway::CastError);
  BOOST_CHECK(target.memory == untouched);
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
