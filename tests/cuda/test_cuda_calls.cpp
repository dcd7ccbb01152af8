// What transfers ask of a device, call by call: each costs the time of a driver's call, and a small transfer is made of
// little else. A call that is added shows here.
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/tiles.h"
#include "rig.h"
#include "threads.h"

namespace {

using namespace halfway::cuda::detail;
using halfway::bfloat16;
using halfway::DType;
using halfway::float32;
using halfway::Tensor;
using rig::TransferOptions;

// The simulated device, and the names of what it was asked.
class Recorder final : public Backend {
 public:
  explicit Recorder(Simulated& device) noexcept : device_(device) {}

  std::string taken() { return std::exchange(calls_, {}); }

  [[nodiscard]] std::string missing() const override { return device_.missing(); }
  [[nodiscard]] std::string error_text(Status status) const override { return device_.error_text(status); }
  Status device_count(int& count) noexcept override { return note("count", device_.device_count(count)); }
  Status traits(int device, DeviceTraits& traits) override { return note("traits", device_.traits(device, traits)); }
  Status current_device(int& device) noexcept override { return note("device", device_.current_device(device)); }
  Status set_device(int device) noexcept override { return note("set_device", device_.set_device(device)); }
  Status allocate(std::size_t bytes, void*& memory) noexcept override {
    return note("allocate", device_.allocate(bytes, memory));
  }
  Status free(void* memory) noexcept override { return note("free", device_.free(memory)); }
  Status allocate_pinned(std::size_t bytes, void*& memory) noexcept override {
    return note("allocate_pinned", device_.allocate_pinned(bytes, memory));
  }
  Status free_pinned(void* memory) noexcept override { return note("free_pinned", device_.free_pinned(memory)); }
  Status register_pinned(void* memory, std::size_t bytes) noexcept override {
    return note("register", device_.register_pinned(memory, bytes));
  }
  Status unregister_pinned(void* memory) noexcept override {
    return note("unregister", device_.unregister_pinned(memory));
  }
  Status pointer_traits(const void* memory, PointerTraits& traits) noexcept override {
    return note("pointer", device_.pointer_traits(memory, traits));
  }
  Status create_stream(Stream& stream) noexcept override { return note("make_stream", device_.create_stream(stream)); }
  Status destroy_stream(Stream stream) noexcept override { return note("end_stream", device_.destroy_stream(stream)); }
  Status is_capturing(Stream stream, bool& capturing) noexcept override {
    return note("capturing", device_.is_capturing(stream, capturing));
  }
  Status create_event(Event& event) noexcept override { return note("make_event", device_.create_event(event)); }
  Status destroy_event(Event event) noexcept override { return note("end_event", device_.destroy_event(event)); }
  Status record(Event event, Stream stream) noexcept override { return note("record", device_.record(event, stream)); }
  Status wait(Stream stream, Event event) noexcept override { return note("wait", device_.wait(stream, event)); }
  Status query(Event event) noexcept override { return note("query", device_.query(event)); }
  Status synchronize(Event event) noexcept override { return note("synchronize", device_.synchronize(event)); }
  Status synchronize_stream(Stream stream) noexcept override {
    return note("synchronize_stream", device_.synchronize_stream(stream));
  }
  Status synchronize_device() noexcept override { return note("synchronize_device", device_.synchronize_device()); }
  Status copy(void* destination, const void* source, std::size_t bytes, CopyKind kind,
              Stream stream) noexcept override {
    return note("copy", device_.copy(destination, source, bytes, kind, stream));
  }
  Status launch(const Conversion& work, Stream stream) noexcept override {
    return note(tiles_of(work, tuning::Numbers{}) ? "tiles" : "launch", device_.launch(work, stream));
  }
  void recycled(void* memory, std::size_t bytes) noexcept override { device_.recycled(memory, bytes); }

 private:
  // Of another thread than the one that made this: with a star.
  Status note(const char* name, Status status) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_ += calls_.empty() ? "" : " ";
    calls_ += name;
    if (std::this_thread::get_id() != owner_) calls_ += '*';
    return status;
  }

  Simulated& device_;
  const std::thread::id owner_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::string calls_;
};

// Transfers of an engine that has made one of the kind before. Chunks of 4096 B; `small` is 1024 B, `small_pinned` 2048
// unless it is said.
struct Bench {
  explicit Bench(std::size_t piece = EngineSizes{}.piece, std::uint64_t small_pinned = 2048,
                 std::uint64_t first_chunk = 4096)
      : device({.memory = std::size_t{1} << 20}),
        recorder(device),
        allocator(device),
        engine(recorder, sizes(piece, small_pinned, first_chunk)) {}

  static EngineSizes sizes(std::size_t piece, std::uint64_t small_pinned, std::uint64_t first_chunk = 4096) {
    EngineSizes sizes;
    sizes.piece = piece;
    sizes.machine.chunk = 4096;
    sizes.machine.first_chunk = first_chunk;
    sizes.machine.small = 1024;
    sizes.machine.small_pinned = small_pinned;
    sizes.machine.cores = 1;  // slower than the wire
    sizes.slots = 2;
    return sizes;
  }

  // The calls of a transfer to the device, when each slot has been used once.
  std::string send(DType to, std::int64_t count, bool pinned, bool non_blocking, bool into_columns = false) {
    arrays::Array array = arrays::contiguous(float32, {count});
    if (pinned) device.pin(array.memory.data(), array.memory.size());
    arrays::Array columns = arrays::contiguous(to, {2 * count});
    Tensor there = allocator.image(columns, stream, 0);
    halfway::MutableView every_other = there.mutable_view();
    const std::vector<std::int64_t> shape{count};
    const std::vector<std::int64_t> strides{2};
    every_other.shape = shape;
    every_other.strides = strides;
    std::string calls;
    for (int round = 0; round < 3; ++round) {
      static_cast<void>(recorder.taken());
      const TransferOptions options{
          .dtype = to, .stream = stream, .non_blocking = non_blocking, .allocator = &allocator};
      Tensor owner = Tensor::adopt(array.mutable_view(), nullptr, nullptr);
      const halfway::TensorView view = owner.view();
      if (into_columns) {
        engine.to_device_into(view, std::move(owner), every_other, options);
      } else {
        static_cast<void>(engine.to_device(view, std::move(owner), options));
      }
      calls = recorder.taken();
      device.finish(stream);
      engine.collect();
    }
    if (pinned) device.unpin(array.memory.data());
    BOOST_TEST(device.violation() == nullptr);
    return calls;
  }

  // Likewise, to the host.
  std::string receive(DType to, std::int64_t count, bool pinned) {
    const arrays::Array array = arrays::contiguous(float32, {count});
    arrays::Array target = arrays::contiguous(to, {count});
    if (pinned) device.pin(target.memory.data(), target.memory.size());
    const Tensor there = rig::on_device(allocator, device, array.view(), stream);
    std::string calls;
    for (int round = 0; round < 3; ++round) {
      static_cast<void>(recorder.taken());
      engine.to_host_into(there.view(), target.mutable_view(), {.stream = stream});
      calls = recorder.taken();
    }
    if (pinned) device.unpin(target.memory.data());
    return calls;
  }

  Simulated device;
  Recorder recorder;
  rig::StreamOrdered allocator;
  Engine engine;
  void* stream = device.make_stream();
};

BOOST_AUTO_TEST_SUITE(cuda_calls)

BOOST_AUTO_TEST_CASE(a_small_transfer_is_one_copy_between_two_questions_and_an_event) {
  for (const bool pinned : {false, true}) {
    for (const DType to : {bfloat16, float32}) {
      for (const std::int64_t count : {1, 256}) {
        Bench bench;
        BOOST_TEST(bench.send(to, count, pinned, false) == "device capturing copy record synchronize");
        // Nobody has waited for what was in the slot.
        Bench later;
        BOOST_TEST(later.send(to, count, pinned, true) == "device capturing query copy record");
      }
      // A layout in device memory needs a kernel, which reads the slot.
      Bench bench;
      BOOST_TEST(bench.send(to, 256, pinned, false, true) == "device capturing launch record synchronize");
    }
  }
}

BOOST_AUTO_TEST_CASE(a_slot_is_asked_about_only_where_nobody_has_waited_for_it) {
  Bench bench;
  BOOST_TEST(bench.send(bfloat16, 100, false, true) == "device capturing query copy record");
  BOOST_TEST(bench.send(bfloat16, 100, false, false) == "device capturing copy record synchronize");
}

// Slots take turns, but nobody waits for one of another stream while there are others.
BOOST_AUTO_TEST_CASE(a_slot_that_another_stream_holds_is_passed_over) {
  Simulated device({.memory = std::size_t{1} << 20});
  Recorder recorder(device);
  rig::StreamOrdered allocator(device);
  EngineSizes sizes = Bench::sizes(EngineSizes{}.piece, 0);
  sizes.slots = 3;
  Engine engine(recorder, sizes);
  void* const held = device.make_stream();
  void* const idle = device.make_stream();
  const arrays::Array array = arrays::contiguous(float32, {100});
  const auto send = [&](void* stream) {
    static_cast<void>(recorder.taken());
    const Tensor there = engine.to_device(
        array.view(), Tensor(), {.dtype = bfloat16, .stream = stream, .non_blocking = true, .allocator = &allocator});
    return recorder.taken();
  };
  static_cast<void>(send(held));  // whose work the device keeps until somebody waits for it
  for (int i = 0; i < 7; ++i) {
    const std::string calls = send(idle);
    BOOST_TEST(calls.find("synchronize") == std::string::npos, calls);
    device.finish(idle);
  }
  BOOST_TEST(device.violation() == nullptr);
}

BOOST_AUTO_TEST_CASE(pinned_memory_is_asked_about_at_both_ends) {
  Bench bench;
  const std::string asked = "device capturing pointer pointer ";
  BOOST_TEST(bench.send(float32, 257, true, false) == asked + "copy record synchronize");
  BOOST_TEST(bench.send(float32, 5000, true, false) == asked + "copy record synchronize");
  BOOST_TEST(bench.send(float32, 257, true, true) == asked + "copy record");
  BOOST_TEST(bench.send(bfloat16, 257, true, false) == asked + "pointer launch record synchronize");
  BOOST_TEST(bench.send(bfloat16, 257, true, true) == asked + "pointer launch record");
}

BOOST_AUTO_TEST_CASE(several_chunks_have_streams_of_their_own) {
  Bench bench;
  // Pageable: ceil(3000 x 2 / 4096) = 2 chunks, which threads of the host's pass may enqueue.
  BOOST_TEST(bench.send(bfloat16, 3000, false, false) ==
             "device capturing pointer record wait wait synchronize copy record synchronize copy record record wait "
             "synchronize");
  // Pinned, one chunk of 4 x 1000 B: the copy and the kernel behind it, on the caller's stream.
  BOOST_TEST(bench.send(bfloat16, 1000, true, false) ==
             "device capturing pointer pointer wait copy launch record record synchronize");
  // ceil(4 x 1500 / 4096) = 2 chunks: the second crosses while the first is cast.
  BOOST_TEST(bench.send(bfloat16, 1500, true, false) ==
             "device capturing pointer pointer record wait wait "
             "wait copy record wait launch record wait copy record wait launch record record wait synchronize");
}

BOOST_AUTO_TEST_CASE(slots_that_kernels_read_are_a_launch_and_an_event_each) {
  const std::string asked = "device capturing pointer record wait wait ";
  // ceil(4 x 2000 / 4096) = 2 chunks of float32.
  Bench bench(EngineSizes{}.piece, 8000);
  BOOST_TEST(bench.send(halfway::float64, 2000, false, false) ==
             asked + "synchronize launch record synchronize launch record record wait synchronize");
  Bench ships(EngineSizes{}.piece, 7999);
  BOOST_TEST(ships.send(halfway::float64, 2000, false, false) ==
             asked +
                 "synchronize wait copy record record wait launch record "
                 "synchronize wait copy record record wait launch record record wait synchronize");
}

// On another thread cudaStreamPerThread would be another stream.
BOOST_AUTO_TEST_CASE(what_goes_to_the_callers_stream_is_enqueued_by_the_caller) {
  const rig::Threads threads(rig::Executor::Order::threads_backward);
  Bench bench(512);
  for (const bool non_blocking : {false, true}) {
    const std::string calls = bench.send(bfloat16, 2000, false, non_blocking);  // 4000 B: one chunk of several pieces
    BOOST_TEST(calls.find("device*") != std::string::npos, calls);
    BOOST_TEST(calls.find("copy record") != std::string::npos, calls);
    for (const char* name : {"copy*", "record*", "launch*"}) BOOST_TEST(calls.find(name) == std::string::npos, calls);
  }
}

// A slot is free as soon as its bytes have crossed; the transfer is done when they have been cast, too.
BOOST_AUTO_TEST_CASE(a_kernel_behind_a_slot_is_waited_for) {
  Bench bench;
  const std::string calls = bench.send(halfway::float64, 600, false, false);  // 2400 B cross
  BOOST_TEST(calls.ends_with("launch record record synchronize"), calls);
}

// Whole chunks are whole planes, whatever the chunks before them are.
BOOST_AUTO_TEST_CASE(chunks_of_a_transposed_source_are_turned_around_by_tiles) {
  Bench bench(EngineSizes{}.piece, 2048, 512);
  // 32 planes of 16 x 32, 1024 B of bfloat16 each: 8 chunks of 4096 B, of which the first are 512, 512, 1024 and 2048.
  const arrays::Array array = arrays::contiguous(float32, {32, 16, 32});
  arrays::Array target = arrays::contiguous(bfloat16, {32, 32, 16});
  const Tensor there = rig::on_device(bench.allocator, bench.device, array.view(), bench.stream);
  halfway::TensorView turned = there.view();
  const std::vector<std::int64_t> shape{32, 32, 16};
  const std::vector<std::int64_t> strides{512, 1, 32};
  turned.shape = shape;
  turned.strides = strides;
  static_cast<void>(bench.recorder.taken());
  bench.engine.to_host_into(turned, target.mutable_view(), {.stream = bench.stream});
  const std::string calls = bench.recorder.taken();
  const auto count_of = [&](const std::string& name) {
    int count = 0;
    for (std::size_t at = calls.find(name); at != std::string::npos; at = calls.find(name, at + 1)) ++count;
    return count;
  };
  BOOST_TEST(count_of("launch") == 2);
  BOOST_TEST(count_of("tiles") == 9);
}

BOOST_AUTO_TEST_CASE(to_the_host_on_the_callers_stream) {
  Bench bench;
  BOOST_TEST(bench.receive(float32, 100, true) == "device capturing pointer pointer copy record synchronize");
  BOOST_TEST(bench.receive(bfloat16, 100, true) ==
             "device capturing pointer pointer pointer launch record synchronize");
  BOOST_TEST(bench.receive(float32, 100, false) == "device capturing pointer copy record synchronize");
  BOOST_TEST(bench.receive(bfloat16, 100, false) == "device capturing pointer launch record synchronize");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
