// Transfers over the simulated device, one at a time: bytes, routes, and the wire as it was planned.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench.h"

namespace {

using halfway::Error;
using halfway::Reason;
using halfway::Tensor;
using halfway::TransferPlan;
using namespace rig;

// The wire as planned and as it was. What kernels count crosses beside the elements, twice.
void check_wire(const Counters& before, const Counters& after, const TransferPlan& plan) {
  const std::uint64_t tallies = plan.counts ? 2 : 0;
  BOOST_TEST(after.bytes_wire() - before.bytes_wire() ==
             plan.bytes_wire + tallies * sizeof(halfway::cuda::detail::Tally));
  BOOST_TEST(after.copies_to_device + after.copies_to_host - before.copies_to_device - before.copies_to_host ==
             plan.copies + tallies);
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

BOOST_AUTO_TEST_CASE(layouts_options_and_reports_are_those_of_cast) {
  Bench bench;
  std::mt19937_64 random(3);
  for (int i = 0; i < 200; ++i) {
    const auto shape = arrays::random_shape(random, 700);
    arrays::Array source = arrays::random_layout(random, halfway::float32, shape, true);
    arrays::fill_random(random, source);
    halfway::Report counted;
    halfway::Report expected_counts;
    CastOptions options{.report = &counted};
    std::vector<std::int64_t> axes(shape.size());
    for (std::size_t axis = 0; axis < axes.size(); ++axis) axes[axis] = static_cast<std::int64_t>(axis);
    std::shuffle(axes.begin(), axes.end(), random);
    if (random() % 2 == 0) options.permute = axes;
    std::vector<double> scales;
    std::vector<double> shifts;
    if (!shape.empty() && random() % 2 == 0) {
      options.axis = static_cast<std::int64_t>(random() % shape.size());
      for (std::int64_t index = 0; index < shape[static_cast<std::size_t>(*options.axis)]; ++index) {
        scales.push_back(0.25 + static_cast<double>(index));
        shifts.push_back(static_cast<double>(random() % 7));
      }
      options.scale = scales;
      if (random() % 2 == 0) options.shift = shifts;
    }
    const DType to = random() % 2 == 0 ? halfway::bfloat16 : halfway::float64;
    CastOptions reference = options;
    reference.report = &expected_counts;
    const Tensor expected = halfway::cast(source.view(), to, reference);
    const TransferPlan plan = bench.engine.plan_to_device(source.view(), bench.to(to, options));
    const Counters before = bench.device.counters();
    Tensor there = bench.engine.to_device(source.view(), Tensor(), bench.to(to, options));
    check_wire(before, bench.device.counters(), plan);
    BOOST_TEST_INFO("case " << i << " " << to_string(source));
    BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));
    BOOST_TEST((counted == expected_counts));
    BOOST_CHECK(std::equal(there.view().shape.begin(), there.view().shape.end(), expected.view().shape.begin(),
                           expected.view().shape.end()));

    // And back, into any layout.
    arrays::Array dense = arrays::contiguous(halfway::float32, shape);
    arrays::fill_random(random, dense);
    const Tensor image = halfway::cast(dense.view(), to, reference);
    const Tensor here = on_device(bench.allocator, bench.device, dense.view(), bench.stream);
    arrays::Array target = arrays::random_layout(random, to, halfway::result_shape(shape, options), false);
    const halfway::MutableView into = target.mutable_view();
    const TransferPlan back = bench.engine.plan_to_host(here.view(), bench.to(to, options), &into);
    const Counters between = bench.device.counters();
    bench.engine.to_host_into(here.view(), into, bench.to(to, options));
    check_wire(between, bench.device.counters(), back);
    const Tensor found = halfway::cast(target.view(), to, CastOptions{.casting = halfway::Casting::equiv});
    BOOST_CHECK(bytes_of(found.view()) == bytes_of(image.view()));
    BOOST_TEST((counted == expected_counts));
    bench.device.finish(bench.stream);
    bench.free_all();
    if (i % 40 == 39) bench.engine.trim();
  }
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_value_that_must_survive_is_checked_before_anything_is_sent) {
  Bench bench;
  arrays::Array source = arrays::contiguous(halfway::float32, {40, 20});
  for (std::int64_t i = 0; i < source.count(); ++i) source.set_patterns(i, {0x3F800000, 0});
  source.set_patterns(405, {0x3F800001, 0});
  const CastOptions strict{.casting = halfway::Casting::same_value};
  const Counters before = bench.device.counters();
  const auto options = bench.to(halfway::bfloat16, strict);
  const std::vector<std::int64_t> place{20, 5};
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_device(source.view(), Tensor(), options)), halfway::CastError,
                        [&](const halfway::CastError& error) { return error.index() == place; });
  BOOST_TEST(bench.device.counters().bytes_wire() == before.bytes_wire());

  // On the way back the destination stays as it is.
  const Tensor there = on_device(bench.allocator, bench.device, source.view(), bench.stream);
  arrays::Array target = arrays::contiguous(halfway::bfloat16, {40, 20});
  const std::vector<std::byte> as_it_was = target.memory;
  BOOST_CHECK_THROW(bench.engine.to_host_into(there.view(), target.mutable_view(), bench.to(halfway::bfloat16, strict)),
                    halfway::CastError);
  BOOST_CHECK(target.memory == as_it_was);
}

BOOST_AUTO_TEST_CASE(chance_falls_as_on_the_host) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {1000});
  const CastOptions chance{.rounding = halfway::Rounding::stochastic, .seed = 42};
  const Tensor expected = halfway::cast(source.view(), halfway::bfloat16, chance);
  const Tensor there = bench.engine.to_device(source.view(), Tensor(), bench.to(halfway::bfloat16, chance));
  BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));
}

BOOST_AUTO_TEST_CASE(a_pinned_source_is_kept_until_it_has_been_read_and_no_longer) {
  Bench bench;
  Source source(bench, numbers(halfway::float32, {2000}), true);
  const Tensor expected = halfway::cast(source.view, halfway::bfloat16);
  auto options = bench.to(halfway::bfloat16);
  options.non_blocking = true;
  Tensor owner = source.tensor();
  const halfway::TensorView view = owner.view();
  const Tensor there = bench.engine.to_device(view, std::move(owner), options);
  bench.engine.collect();
  BOOST_TEST(source.held.released == 0);  // nothing has run
  BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));
  BOOST_TEST(source.held.released == 0);  // nobody has looked
  bench.engine.collect();
  BOOST_TEST(source.held.released == 1);
}

BOOST_AUTO_TEST_CASE(a_mere_view_of_pinned_memory_is_waited_for) {
  Bench bench;
  Source source(bench, numbers(halfway::float32, {2000}), true);
  const Tensor expected = halfway::cast(source.view, halfway::float32);
  auto options = bench.to(halfway::float32);
  options.non_blocking = true;
  const Tensor there = bench.engine.to_device(source.view, Tensor(), options);
  Held::release(&source.held);
  BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(what_the_host_has_read_is_released_at_once) {
  Bench bench;
  Source source(bench, numbers(halfway::float32, {2000}), false);
  auto options = bench.to(halfway::bfloat16);
  options.non_blocking = true;
  const Tensor expected = halfway::cast(source.view, halfway::bfloat16);
  Tensor owner = source.tensor();
  const halfway::TensorView view = owner.view();
  const Tensor there = bench.engine.to_device(view, std::move(owner), options);
  BOOST_TEST(source.held.released == 1);
  BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));
}

BOOST_AUTO_TEST_CASE(the_source_of_a_cast_on_the_device_is_kept_until_it_has_been_read) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {2000});
  const Tensor expected = halfway::cast(source.view(), halfway::bfloat16);
  const auto cast_there = [&](Tensor owner) {
    const halfway::TensorView view = owner.view();
    return bench.engine.cast_on_device(view, std::move(owner), bench.to(halfway::bfloat16));
  };
  const Counters before = bench.device.counters();
  const Tensor there = cast_there(on_device(bench.allocator, bench.device, source.view(), bench.stream));
  const Held& held = *bench.allocator.made[0];
  bench.engine.collect();
  BOOST_TEST(held.released == 0);  // nothing has run, and nobody waited
  BOOST_CHECK(bench.read(there) == bytes_of(expected.view()));
  bench.engine.collect();
  BOOST_TEST(held.released == 1);
  BOOST_TEST(bench.device.counters().launches - before.launches == 1U);
  BOOST_TEST(bench.device.counters().bytes_wire() == before.bytes_wire());
  BOOST_TEST(bench.device.live_blocks() == 0);  // no slot, no scratch
  BOOST_TEST(bench.device.live_streams() == 0);
  // Before everything is freed, what is still read is waited for.
  const Tensor again = cast_there(on_device(bench.allocator, bench.device, source.view(), bench.stream));
  bench.engine.trim();
  BOOST_TEST(bench.device.live_events() == 0);
  BOOST_CHECK(bench.read(again) == bytes_of(expected.view()));
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_cast_on_the_device_of_a_view_may_be_captured) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {100});
  Tensor there = on_device(bench.allocator, bench.device, source.view(), bench.stream);
  Tensor result = on_device(bench.allocator, bench.device, source.view(), bench.stream);
  bench.device.set_capturing(bench.stream, true);
  const std::uint64_t calls = bench.device.calls();
  bench.engine.cast_on_device_into(there.view(), Tensor(), result.mutable_view(), bench.to(halfway::float32));
  // The device was asked which one is current and for one launch: no event, no memory. (The first call of an engine
  // counts the devices.)
  BOOST_TEST(bench.device.calls() - calls == 3U);
  BOOST_TEST(bench.device.violation() == nullptr);
  const halfway::TensorView view = there.view();
  BOOST_CHECK_EXCEPTION(
      static_cast<void>(bench.engine.cast_on_device(view, std::move(there), bench.to(halfway::float32))), Error,
      [](const Error& error) { return error.reason() == Reason::capturing; });
  bench.device.set_capturing(bench.stream, false);
}

BOOST_AUTO_TEST_CASE(half_pinned_memory_is_pageable) {
  Bench bench;
  Source source(bench, numbers(halfway::float32, {2000}), false);
  bench.device.pin(source.held.memory, source.held.bytes / 2);
  const TransferPlan plan = bench.engine.plan_to_device(source.view, bench.to(halfway::float32));
  BOOST_TEST(plan.staged);
  const Tensor there = bench.engine.to_device(source.view, Tensor(), bench.to(halfway::float32));
  BOOST_CHECK(bench.read(there) == source.held.host);
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_result_that_is_under_way) {
  Bench bench;
  const arrays::Array numbers_there = numbers(halfway::float32, {3000});
  for (const DType to : {halfway::float32, halfway::bfloat16, halfway::float64}) {
    const Tensor expected = halfway::cast(numbers_there.view(), to, freely());
    Tensor there = on_device(bench.allocator, bench.device, numbers_there.view(), bench.stream);
    const Held& held = *bench.allocator.made.back();
    auto pending = bench.engine.to_host_later(std::move(there), bench.to(to, freely()));
    BOOST_TEST(!pending->ready());
    BOOST_TEST(held.released == 0);
    const Tensor here = pending->result();
    BOOST_TEST(held.released == 1);
    BOOST_CHECK(bytes_of(here.view()) == bytes_of(expected.view()));
    BOOST_CHECK_EXCEPTION(static_cast<void>(pending->result()), Error,
                          [](const Error& error) { return error.reason() == Reason::consumed; });
  }
  // Never asked for: everything is kept until the device is done with it.
  Tensor there = on_device(bench.allocator, bench.device, numbers_there.view(), bench.stream);
  const Held& held = *bench.allocator.made.back();
  bench.engine.to_host_later(std::move(there), bench.to(halfway::float32)).reset();
  bench.engine.collect();
  BOOST_TEST(held.released == 0);
  bench.device.finish(bench.stream);
  bench.engine.collect();
  BOOST_TEST(held.released == 1);
  BOOST_TEST(bench.device.violation() == nullptr);
}

// Whatever call fails, a result is handed over once and whole, or never: nobody gets what the device did not write.
BOOST_AUTO_TEST_CASE(a_result_that_did_not_arrive_is_not_handed_over_later) {
  const arrays::Array numbers_there = numbers(halfway::float32, {3000});
  for (const DType to : {halfway::bfloat16, halfway::float64}) {
    const Tensor expected = halfway::cast(numbers_there.view(), to, freely());
    for (const Fault fault : {Fault::refused, Fault::lost, Fault::late}) {
      int failed_results = 0;
      std::uint64_t calls = 1;
      for (std::uint64_t call = 0; call <= calls; ++call) {
        Bench bench(Bench::tiny(), {.threads = false, .fail_call = call, .fault = fault});
        Tensor there = on_device(bench.allocator, bench.device, numbers_there.view(), bench.stream);
        const Held& held = *bench.allocator.made.back();
        std::unique_ptr<halfway::cuda::detail::Deferred> pending;
        try {
          pending = bench.engine.to_host_later(std::move(there), bench.to(to, freely()));
        } catch (const Error&) {
          BOOST_TEST(call != 0);
        }
        bool failed = false;
        int handed = 0;
        for (int asked = 0; pending != nullptr && asked < 3; ++asked) {
          try {
            const Tensor here = pending->result();
            ++handed;
            BOOST_TEST_INFO("call " << call << ", fault " << static_cast<int>(fault) << ", asked " << asked);
            BOOST_CHECK(bytes_of(here.view()) == bytes_of(expected.view()));
          } catch (const Error& error) {
            failed = failed || error.reason() != Reason::consumed;
          }
        }
        BOOST_TEST(handed <= 1);
        failed_results += failed ? 1 : 0;
        pending.reset();
        if (call == 0) calls = bench.device.calls();
        if (call == 0) bench.engine.wait();
        BOOST_TEST(held.released <= 1);
        BOOST_TEST(bench.device.violation() == nullptr);
      }
      BOOST_TEST(failed_results > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_ring_is_made_on_need_in_exact_sizes_and_bounded) {
  EngineSizes sizes = Bench::tiny();
  sizes.machine.chunk = 1000;
  sizes.slots = 3;
  Bench bench(sizes);
  const auto send = [&](std::int64_t bytes) {
    const arrays::Array source = numbers(halfway::uint8, {bytes});
    static_cast<void>(bench.engine.to_device(source.view(), Tensor(), bench.to(halfway::uint8)));
  };
  BOOST_TEST(bench.device.live_blocks() == 0);
  send(10);
  BOOST_TEST(bench.device.live_blocks() == 1);
  send(1001);
  BOOST_TEST(bench.device.live_blocks() == 3);
  send(20'000);
  send(20'000);
  BOOST_TEST(bench.device.live_blocks() == 3);
  BOOST_TEST(bench.device.pinned_bytes() == 3000U);
  bench.engine.trim();
  BOOST_TEST(bench.device.live_blocks() == 0);
  BOOST_TEST(bench.device.live_streams() == 0);
  BOOST_TEST(bench.device.live_events() == 0);
  send(5000);  // and anew
  BOOST_TEST(bench.device.live_blocks() == 3);
}

BOOST_AUTO_TEST_CASE(nothing_is_enqueued_while_a_graph_is_captured) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {100});
  const Tensor there = on_device(bench.allocator, bench.device, source.view(), bench.stream);
  bench.device.finish(bench.stream);
  bench.device.set_capturing(bench.stream, true);
  const std::size_t made = bench.allocator.made.size();
  const auto refused = [](const Error& error) { return error.reason() == Reason::capturing; };
  const auto options = bench.to(halfway::bfloat16);
  const halfway::MutableView memory = const_cast<Tensor&>(there).mutable_view();
  arrays::Array target = numbers(halfway::float32, {100});
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_device(source.view(), Tensor(), options)), Error, refused);
  BOOST_CHECK_EXCEPTION(bench.engine.to_device_into(source.view(), Tensor(), memory, options), Error, refused);
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_host(there.view(), options)), Error, refused);
  BOOST_CHECK_EXCEPTION(bench.engine.to_host_into(there.view(), target.mutable_view(), options), Error, refused);
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_host_later(there.share(), options)), Error, refused);
  BOOST_TEST(bench.allocator.made.size() == made);
  BOOST_TEST(bench.device.counters().bytes_wire() == 0U);
  BOOST_TEST(bench.device.violation() == nullptr);
  // Another stream is not concerned.
  auto elsewhere = options;
  elsewhere.stream = bench.device.make_stream();
  static_cast<void>(bench.engine.to_device(source.view(), Tensor(), elsewhere));
}

BOOST_AUTO_TEST_CASE(the_current_device_is_as_before) {
  Bench bench(Bench::tiny(), {.devices = 2});
  const arrays::Array source = numbers(halfway::float32, {500});
  auto options = bench.to(halfway::bfloat16);
  options.device = 1;
  options.stream = bench.device.make_stream(1);
  const auto current = [&] {
    int device = -1;
    BOOST_CHECK(bench.device.current_device(device) == halfway::cuda::detail::Status::ok);
    return device;
  };
  BOOST_TEST(current() == 0);
  const Tensor there = bench.engine.to_device(source.view(), Tensor(), options);
  BOOST_TEST(current() == 0);
  BOOST_TEST(there.view().device.id == 1);
  const Tensor back = bench.engine.to_host(there.view(), options);
  BOOST_TEST(current() == 0);
  BOOST_CHECK(bytes_of(back.view()) == read_back(bench.device, there.view(), options.stream));
  // A stream of another device, and no device at all.
  options.stream = bench.stream;
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_device(source.view(), Tensor(), options)), Error,
                        [](const Error& error) { return error.reason() == Reason::stream; });
  options.device = 2;
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_device(source.view(), Tensor(), options)), Error,
                        [](const Error& error) { return error.reason() == Reason::device; });
  BOOST_TEST(current() == 0);
  bench.engine.trim();
  BOOST_TEST(current() == 0);
  options.device = 1;
  options.stream = bench.device.make_stream(1);
  {
    Engine other(bench.device, Bench::tiny());
    static_cast<void>(other.to_device(source.view(), Tensor(), options));
  }
  BOOST_TEST(current() == 0);
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(plain_device_memory_and_the_legacy_stream) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {500});
  const Tensor expected = halfway::cast(source.view(), halfway::float16);
  Tensor there = bench.engine.to_device(source.view(), Tensor(), {.dtype = halfway::float16, .non_blocking = true});
  const Tensor back = bench.engine.to_host(there.view(), {});
  BOOST_CHECK(bytes_of(back.view()) == bytes_of(expected.view()));
  const int blocks = bench.device.live_blocks();
  there.reset();
  BOOST_TEST(bench.device.live_blocks() == blocks - 1);
  BOOST_TEST(bench.device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(the_callers_stream_may_be_gone_when_the_call_has_returned) {
  EngineSizes sizes = Bench::tiny();
  sizes.slots = 2;
  Bench bench(sizes);
  const arrays::Array source = numbers(halfway::float32, {200});
  const Tensor expected = halfway::cast(source.view(), halfway::bfloat16);
  Source pinned(bench, numbers(halfway::float32, {1000}), true);
  const auto with_stream = [&](const auto& body) {
    void* stream = nullptr;
    BOOST_REQUIRE(bench.device.create_stream(stream) == halfway::cuda::detail::Status::ok);
    auto options = bench.to(halfway::bfloat16);
    options.stream = stream;
    options.non_blocking = true;
    body(options);
    BOOST_CHECK(bench.device.destroy_stream(stream) == halfway::cuda::detail::Status::ok);
  };
  std::vector<Tensor> results;
  const auto send = [&](const TransferOptions& options) {
    results.push_back(bench.engine.to_device(source.view(), Tensor(), options));
  };
  for (int i = 0; i < 5; ++i) with_stream(send);  // the third waits for the slot of the first
  with_stream([&](TransferOptions options) {
    options.dtype.reset();
    Tensor owner = pinned.tensor();
    const halfway::TensorView view = owner.view();
    results.push_back(bench.engine.to_device(view, std::move(owner), options));
  });
  std::unique_ptr<halfway::cuda::detail::Deferred> pending;
  const Tensor there = on_device(bench.allocator, bench.device, source.view(), bench.stream);
  bench.device.finish(bench.stream);
  with_stream([&](const TransferOptions& options) { pending = bench.engine.to_host_later(there.share(), options); });
  BOOST_CHECK(bytes_of(pending->result().view()) == bytes_of(expected.view()));
  bench.engine.wait();
  BOOST_TEST(pinned.held.released == 1);
  for (int i = 0; i < 5; ++i) {
    BOOST_CHECK(bench.read(results[static_cast<std::size_t>(i)]) == bytes_of(expected.view()));
  }
  bench.engine.trim();
  BOOST_TEST(bench.device.violation() == nullptr);
  BOOST_TEST(bench.device.live_events() == 0);
  // On a stream that is still there when nothing else uses their memory.
  for (const auto& held : bench.allocator.made) held->stream = bench.stream;
}

BOOST_AUTO_TEST_CASE(what_crosses_as_bytes) {
  Bench bench;
  std::vector<std::uint8_t> nibbles(700);
  for (std::size_t i = 0; i < nibbles.size(); ++i) nibbles[i] = static_cast<std::uint8_t>(i * 37);
  const std::array<std::int64_t, 1> shape{1399};
  const std::array<std::int64_t, 1> strides{1};
  const halfway::TensorView packed{
      .data = nibbles.data(), .dtype = halfway::float4_e2m1fn, .shape = shape, .strides = strides};
  const Tensor there = bench.engine.to_device(packed, Tensor(), bench.to(halfway::float4_e2m1fn));
  const std::vector<std::byte> found = bench.read(there);
  BOOST_TEST(std::memcmp(found.data(), nibbles.data(), 700) == 0);
  // Unknown elements travel as they are.
  const DType strange(std::uint8_t{77}, std::uint8_t{24}, std::uint16_t{1});
  const std::array<std::int64_t, 1> few{200};
  const halfway::TensorView opaque{.data = nibbles.data(), .dtype = strange, .shape = few, .strides = strides};
  const Tensor opaque_there = bench.engine.to_device(opaque, Tensor(), bench.to(strange));
  const std::vector<std::byte> opaque_found = bench.read(opaque_there);
  BOOST_TEST(std::memcmp(opaque_found.data(), nibbles.data(), 600) == 0);
}

BOOST_AUTO_TEST_CASE(arguments_that_do_not_fit_are_refused_before_anything_is_enqueued) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {10, 10});
  Tensor there = on_device(bench.allocator, bench.device, source.view(), bench.stream);
  arrays::Array target = numbers(halfway::float32, {10, 9});
  const auto reason = [](Reason wanted) { return [wanted](const Error& error) { return error.reason() == wanted; }; };
  const auto options = bench.to(halfway::float32);
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_host(source.view(), options)), Error, reason(Reason::device));
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_device(there.view(), Tensor(), options)), Error,
                        reason(Reason::device));
  BOOST_CHECK_EXCEPTION(bench.engine.to_host_into(there.view(), target.mutable_view(), options), Error,
                        reason(Reason::out_mismatch));
  arrays::Array fitting = numbers(halfway::float32, {10, 10});
  halfway::MutableView readonly = fitting.mutable_view();
  readonly.readonly = true;
  BOOST_CHECK_EXCEPTION(bench.engine.to_host_into(there.view(), readonly, options), Error, reason(Reason::readonly));
  halfway::MutableView strided = there.mutable_view();
  // Every other index of nine axes: more than kernels are told of.
  const std::vector<std::int64_t> many(9, 2);
  std::vector<std::int64_t> apart(9);
  for (std::size_t axis = 0; axis < apart.size(); ++axis) apart[axis] = std::int64_t{1} << (2 * axis);
  strided.shape = many;
  strided.strides = apart;
  const arrays::Array of_nine = numbers(halfway::float32, many);
  BOOST_CHECK_EXCEPTION(bench.engine.to_device_into(of_nine.view(), Tensor(), strided, options), Error,
                        reason(Reason::unavailable));
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_host(strided, options)), Error, reason(Reason::unavailable));
  // Memory that is said to be the host's.
  halfway::TensorView lie = there.view();
  lie.device = {};
  BOOST_CHECK_EXCEPTION(static_cast<void>(bench.engine.to_device(lie, Tensor(), options)), Error,
                        reason(Reason::device));
  bench.allocator.fail = true;
  BOOST_CHECK_THROW(static_cast<void>(bench.engine.to_device(source.view(), Tensor(), options)), std::bad_alloc);
  BOOST_TEST(bench.device.counters().bytes_wire() == 0U);
}

BOOST_AUTO_TEST_CASE(a_forked_child_is_refused_and_may_let_go) {
  Bench bench;
  const arrays::Array source = numbers(halfway::float32, {500});
  Source pinned(bench, source, true);
  auto options = bench.to(halfway::float32);
  options.non_blocking = true;
  Tensor there = bench.engine.to_device(source.view(), Tensor(), {.dtype = halfway::float16});
  auto pending = bench.engine.to_host_later(there.share(), options);
  const pid_t child = ::fork();
  if (child == 0) {
    // The simulated device has no threads here: whatever waits for it would hang.
    int wrong = 0;
    const auto refused = [&](auto call) {
      try {
        call();
        ++wrong;
      } catch (const Error& error) {
        wrong += error.reason() == Reason::unavailable ? 0 : 1;
      }
    };
    refused([&] { static_cast<void>(bench.engine.to_device(source.view(), Tensor(), options)); });
    refused([&] { static_cast<void>(bench.engine.to_host(there.view(), options)); });
    refused([&] { static_cast<void>(pending->ready()); });
    refused([&] { static_cast<void>(pending->result()); });
    refused([&] { bench.engine.collect(); });
    pending.reset();
    there.reset();
    ::_exit(wrong);
  }
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  BOOST_CHECK(bytes_of(pending->result().view()).size() == 2000U);  // the parent goes on
}

BOOST_AUTO_TEST_CASE(threads_share_a_device) {
  for (int round = 0; round < 4; ++round) {
    // Few slots: one whose event another thread waits for is handed out to the next.
    EngineSizes sizes = Bench::tiny();
    sizes.slots = 1 + round;
    if (round % 2 == 0) sizes.machine.small = std::uint64_t{16} << 10;
    Bench bench(sizes);
    const arrays::Array source = numbers(halfway::float32, {3000});
    const Tensor expected = halfway::cast(source.view(), halfway::bfloat16);
    const std::vector<std::byte> bytes = bytes_of(expected.view());
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&, thread] {
        void* const stream = bench.device.make_stream();
        for (int i = 0; i < 10; ++i) {
          TransferOptions options{.dtype = halfway::bfloat16, .stream = stream, .non_blocking = (i + thread) % 2 == 0};
          const Tensor there = bench.engine.to_device(source.view(), Tensor(), options);
          options.dtype.reset();
          const Tensor back = bench.engine.to_host(there.view(), options);
          if (bytes_of(back.view()) != bytes) ++wrong;
          if (i % 4 == 0) bench.engine.collect();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    BOOST_TEST(wrong == 0);
    BOOST_TEST(bench.device.violation() == nullptr);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
