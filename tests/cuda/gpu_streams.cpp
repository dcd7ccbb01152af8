// On a real GPU: order, waiting, owners, graphs, threads and memory, through the functions of transfer.h. A stream is
// held back by a host function in it, so that what must not have happened yet provably could not.
#include <boost/test/unit_test.hpp>

#include <cuda_runtime_api.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gate.h"
#include "halfway/cuda/transfer.h"
#include "site.h"

namespace {

using gpu::Gate;
using halfway::DType;
using halfway::Error;
using halfway::Reason;
using halfway::Tensor;
using halfway::TensorView;
namespace cuda = halfway::cuda;

constexpr std::int64_t mebi = 1 << 20;

void ok(cudaError_t error) { BOOST_REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error)); }

class Stream {
 public:
  Stream() { ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }  // NOLINT(google-explicit-constructor)
  void wait() const { ok(cudaStreamSynchronize(stream_)); }
  [[nodiscard]] bool is_done() const { return cudaStreamQuery(stream_) == cudaSuccess; }

 private:
  cudaStream_t stream_ = nullptr;
};

// Kernels are loaded when they are first launched, which may wait for all streams.
void load_kernels() {
  static const bool loaded = [] {
    for (const std::int64_t count : {8, 1'000'000}) {
      const Tensor host = Tensor::allocate(std::array{count}, halfway::uint8);
      std::memset(const_cast<void*>(host.view().data), 0, static_cast<std::size_t>(count));
      const Tensor there = cuda::to_device(host.view(), {.dtype = halfway::float32});
      const Tensor narrow = cuda::cast_on_device(there.view(), {.dtype = halfway::float16});
      static_cast<void>(cuda::to_host_later(narrow.share()).result());
      static_cast<void>(cuda::to_host(there.view(), {.dtype = halfway::bfloat16}));
    }
    return true;
  }();
  static_cast<void>(loaded);
}

arrays::Array numbers(DType dtype, std::vector<std::int64_t> shape, unsigned seed = 7) {
  arrays::Array array = arrays::contiguous(dtype, std::move(shape));
  arrays::Random random(seed);
  arrays::fill_random(random, array);
  return array;
}

std::vector<std::byte> cast_here(const TensorView& source, DType to) {
  return site::bytes_of(halfway::cast(source, to, {.casting = halfway::Casting::unsafe}).view());
}

std::vector<std::byte> fetch(const void* memory, std::size_t bytes, const Stream& stream) {
  std::vector<std::byte> found(bytes);
  ok(cudaMemcpyAsync(found.data(), memory, bytes, cudaMemcpyDeviceToHost, stream));
  stream.wait();
  return found;
}

// Memory from cudaMalloc, as a row-major destination.
struct Room {
  Room(DType dtype, std::vector<std::int64_t> dims) : shape(std::move(dims)), strides(shape.size()) {
    halfway::row_major_strides(shape, strides);
    bytes = static_cast<std::size_t>(halfway::element_count(shape).value()) * halfway::item_size(dtype);
    ok(cudaMalloc(&memory, bytes));
    view = {
        .data = memory, .dtype = dtype, .device = {halfway::DeviceType::cuda, 0}, .shape = shape, .strides = strides};
  }
  ~Room() { static_cast<void>(cudaFree(memory)); }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::size_t bytes = 0;
  void* memory = nullptr;
  halfway::MutableView view;
};

// Pinned memory with an array's bytes, as a tensor that counts its releases.
struct PinnedSource {
  explicit PinnedSource(const arrays::Array& array) : elements(array) {
    ok(cudaHostAlloc(&memory, elements.memory.size(), cudaHostAllocDefault));
    std::memcpy(memory, elements.memory.data(), elements.memory.size());
  }
  ~PinnedSource() { static_cast<void>(cudaFreeHost(memory)); }
  PinnedSource(const PinnedSource&) = delete;
  PinnedSource& operator=(const PinnedSource&) = delete;

  Tensor tensor() {
    halfway::MutableView view = elements.mutable_view();
    view.data = memory;
    return Tensor::adopt(view, this, [](void* self) { ++static_cast<PinnedSource*>(self)->released; });
  }
  arrays::Array elements;
  void* memory = nullptr;
  std::atomic<int> released{0};
};

BOOST_AUTO_TEST_SUITE(gpu_streams)

BOOST_AUTO_TEST_CASE(large_tensors_there_and_back) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {9 * mebi + 3});
  for (const DType to : {halfway::bfloat16, halfway::float32, halfway::float64, halfway::float8_e4m3fn}) {
    const std::vector<std::byte> expected = cast_here(source.view(), to);
    BOOST_TEST_INFO_SCOPE(to_string(to));
    const Tensor there = cuda::to_device(source.view(), {.dtype = to, .stream = stream});
    BOOST_CHECK(fetch(there.view().data, expected.size(), stream) == expected);
    BOOST_CHECK(site::bytes_of(cuda::to_host(there.view(), {.stream = stream}).view()) == expected);
    // And cast on the way back, from what is wide.
    const Tensor wide = cuda::to_device(source.view(), {.stream = stream});
    BOOST_CHECK(site::bytes_of(cuda::to_host(wide.view(), {.dtype = to, .stream = stream}).view()) == expected);
    PinnedSource pinned(source);
    const Tensor from_pinned = cuda::to_device(pinned.tensor(), {.dtype = to, .stream = stream});
    BOOST_CHECK(fetch(from_pinned.view().data, expected.size(), stream) == expected);
    BOOST_TEST(pinned.released == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_transfer_keeps_its_place_in_the_callers_stream) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {300'000});
  PinnedSource pinned(source);
  for (const bool from_pinned : {false, true}) {
    // Pinned memory whose dtype stays is read by a copy engine, on every machine.
    const DType to = from_pinned ? halfway::float32 : halfway::bfloat16;
    const std::vector<std::byte> expected = cast_here(source.view(), to);
    Room room(to, {300'000});
    Room copy(to, {300'000});
    load_kernels();
    Gate gate(stream);
    // What the stream was given before comes first, and what it is given afterwards comes after.
    ok(cudaMemsetAsync(room.memory, 0xFF, room.bytes, stream));
    const cuda::TransferOptions options{.stream = stream, .non_blocking = true};
    if (from_pinned) {
      cuda::to_device_into(pinned.tensor(), room.view, options);
    } else {
      cuda::to_device_into(source.view(), room.view, options);
    }
    ok(cudaMemcpyAsync(copy.memory, room.memory, room.bytes, cudaMemcpyDeviceToDevice, stream));
    ok(cudaMemsetAsync(room.memory, 0xEE, room.bytes, stream));
    BOOST_TEST(!stream.is_done());
    cuda::collect();
    BOOST_TEST(pinned.released == 0);  // the device has not come to it
    gate.open();
    BOOST_CHECK(fetch(copy.memory, copy.bytes, stream) == expected);
  }
  cuda::collect();
  BOOST_TEST(pinned.released == 1);
}

BOOST_AUTO_TEST_CASE(a_cast_on_the_device_keeps_its_place_and_its_source) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {1000, 300});
  const std::vector<std::byte> expected = cast_here(source.view(), halfway::float16);
  std::atomic<int> released{0};
  const PinnedSource pinned(source);  // pageable memory would be waited for by the copy itself
  Room room(halfway::float32, {1000, 300});
  Room result(halfway::float16, {1000, 300});
  load_kernels();
  Gate gate(stream);
  ok(cudaMemcpyAsync(room.memory, pinned.memory, room.bytes, cudaMemcpyHostToDevice, stream));
  Tensor owner = Tensor::adopt(room.view, &released, [](void* count) { ++*static_cast<std::atomic<int>*>(count); });
  cuda::cast_on_device_into(std::move(owner), result.view, {.stream = stream});
  cuda::collect();
  BOOST_TEST(released == 0);
  gate.open();
  BOOST_CHECK(fetch(result.memory, result.bytes, stream) == expected);
  cuda::collect();
  BOOST_TEST(released == 1);
}

BOOST_AUTO_TEST_CASE(a_result_that_is_under_way) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {500'000});
  const Tensor there = cuda::to_device(source.view(), {.stream = stream});
  for (const DType to : {halfway::bfloat16, halfway::float32, halfway::float64}) {
    load_kernels();
    Gate gate(stream);
    cuda::Pending pending = cuda::to_host_later(there.share(), {.dtype = to, .stream = stream});
    BOOST_TEST(!pending.ready());
    gate.open();
    BOOST_CHECK(site::bytes_of(pending.result().view()) == cast_here(source.view(), to));
  }
}

BOOST_AUTO_TEST_CASE(the_legacy_default_stream) {
  const arrays::Array source = numbers(halfway::float32, {70'000});
  const Tensor there = cuda::to_device(source.view(), {.dtype = halfway::float16, .non_blocking = true});
  const std::vector<std::byte> expected = cast_here(source.view(), halfway::float16);
  std::vector<std::byte> found(expected.size());
  ok(cudaMemcpy(found.data(), there.view().data, found.size(), cudaMemcpyDeviceToHost));
  BOOST_CHECK(found == expected);
}

BOOST_AUTO_TEST_CASE(graphs_refuse_transfers_and_capture_casts) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {5000});
  Room from(halfway::float32, {5000});
  Room into(halfway::bfloat16, {5000});
  load_kernels();
  const auto is_refused = [](const Error& error) { return error.reason() == Reason::capturing; };
  ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  const cuda::TransferOptions options{.stream = stream, .non_blocking = true};
  BOOST_CHECK_EXCEPTION(static_cast<void>(cuda::to_device(source.view(), options)), Error, is_refused);
  BOOST_CHECK_EXCEPTION(static_cast<void>(cuda::to_host(from.view, options)), Error, is_refused);
  Tensor owner = Tensor::adopt(from.view, nullptr, nullptr);
  BOOST_CHECK_EXCEPTION(cuda::cast_on_device_into(std::move(owner), into.view, options), Error, is_refused);
  cuda::cast_on_device_into(from.view, into.view, options);
  cudaGraph_t graph = nullptr;
  ok(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t run = nullptr;
  ok(cudaGraphInstantiate(&run, graph, 0));
  for (unsigned seed = 1; seed <= 3; ++seed) {
    const arrays::Array other = numbers(halfway::float32, {5000}, seed);
    ok(cudaMemcpyAsync(from.memory, other.memory.data(), from.bytes, cudaMemcpyHostToDevice, stream));
    ok(cudaGraphLaunch(run, stream));
    BOOST_CHECK(fetch(into.memory, into.bytes, stream) == cast_here(other.view(), halfway::bfloat16));
  }
  ok(cudaGraphExecDestroy(run));
  ok(cudaGraphDestroy(graph));
}

BOOST_AUTO_TEST_CASE(another_threads_capture_is_not_disturbed) {
  load_kernels();
  const Stream captured;
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {mebi});
  ok(cudaStreamBeginCapture(captured, cudaStreamCaptureModeGlobal));
  std::thread([&] {
    const Tensor there = cuda::to_device(source.view(), {.dtype = halfway::float16, .stream = stream});
    BOOST_CHECK(site::bytes_of(cuda::to_host(there.view(), {.stream = stream}).view()) ==
                cast_here(source.view(), halfway::float16));
  }).join();
  cudaGraph_t graph = nullptr;
  ok(cudaStreamEndCapture(captured, &graph));
  ok(cudaGraphDestroy(graph));
}

BOOST_AUTO_TEST_CASE(threads_with_streams_of_their_own) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&wrong, thread] {
      cudaStream_t stream = nullptr;
      if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) ++wrong;
      const arrays::Array source = numbers(halfway::float32, {400'000}, thread);
      const std::vector<std::byte> expected = cast_here(source.view(), halfway::bfloat16);
      for (int i = 0; i < 25; ++i) {
        const bool waits = (i + static_cast<int>(thread)) % 2 == 0;
        const Tensor there =
            cuda::to_device(source.view(), {.dtype = halfway::bfloat16, .stream = stream, .non_blocking = !waits});
        const Tensor wide = cuda::cast_on_device(there.view(), {.dtype = halfway::float32, .stream = stream});
        const Tensor back = cuda::to_host(wide.view(), {.dtype = halfway::bfloat16, .stream = stream});
        if (site::bytes_of(back.view()) != expected) ++wrong;
        if (i % 5 == 0) cuda::collect();
      }
      static_cast<void>(cudaStreamDestroy(stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(wrong == 0);
}

// The ring's slots are the host's; on the device two chunks are kept, and trim() gives them back.
BOOST_AUTO_TEST_CASE(a_transfer_takes_no_more_device_memory_than_its_result) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::uint8, {16 * mebi});
  const auto free_now = [] {
    std::size_t free = 0;
    std::size_t total = 0;
    ok(cudaMemGetInfo(&free, &total));
    return free;
  };
  Room room(halfway::float32, {16 * mebi});
  const auto once = [&] {
    cuda::to_device_into(source.view(), room.view, {.stream = stream, .cast = {.casting = halfway::Casting::unsafe}});
    static_cast<void>(cuda::to_host(room.view, {.dtype = halfway::bfloat16, .stream = stream}));
  };
  once();  // the runtime loads its kernels
  cuda::trim();
  const std::size_t before = free_now();
  for (int i = 0; i < 8; ++i) once();
  constexpr std::size_t chunks = 2 * 8 * mebi;
  constexpr std::size_t granule = 2 * mebi;  // cudaMalloc takes memory from the driver in pages of this size
  BOOST_TEST(free_now() + chunks + granule >= before);
  cuda::trim();
  BOOST_TEST(free_now() + granule >= before);
}

BOOST_AUTO_TEST_CASE(errors_leave_nothing_behind) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {1000});
  const auto reason = [](Reason wanted) { return [wanted](const Error& error) { return error.reason() == wanted; }; };
  BOOST_CHECK_EXCEPTION(static_cast<void>(cuda::to_device(source.view(), {.device = 99, .stream = stream})), Error,
                        reason(Reason::device));
  const std::array<std::int64_t, 1> huge{std::int64_t{1} << 50};
  const std::array<std::int64_t, 1> broadcast{0};
  TensorView view = source.view();
  view.shape = huge;
  view.strides = broadcast;
  BOOST_CHECK_THROW(static_cast<void>(cuda::to_device(view, {.stream = stream})), std::bad_alloc);
  BOOST_TEST(cudaPeekAtLastError() == cudaSuccess);  // other code of this thread finds none of our errors
  // And we do not report those of others.
  void* memory = nullptr;
  BOOST_TEST(cudaMalloc(&memory, std::size_t{1} << 60) != cudaSuccess);
  const Tensor there = cuda::to_device(source.view(), {.dtype = halfway::float16, .stream = stream});
  const Tensor wide = cuda::cast_on_device(there.view(), {.dtype = halfway::float32, .stream = stream});
  BOOST_CHECK(site::bytes_of(cuda::to_host(there.view(), {.stream = stream}).view()) ==
              cast_here(source.view(), halfway::float16));
  static_cast<void>(cudaGetLastError());
  if (cuda::device_count() < 2) return;
  // A stream of another device.
  ok(cudaSetDevice(1));
  cudaStream_t other = nullptr;
  ok(cudaStreamCreate(&other));
  ok(cudaSetDevice(0));
  BOOST_CHECK_EXCEPTION(static_cast<void>(cuda::to_device(source.view(), {.stream = other})), Error,
                        reason(Reason::stream));
}

BOOST_AUTO_TEST_CASE(a_forked_child_is_refused_and_may_let_go) {
  const Stream stream;
  const arrays::Array source = numbers(halfway::float32, {1000});
  Tensor there = cuda::to_device(source.view(), {.stream = stream});
  const pid_t child = ::fork();
  if (child == 0) {
    int wrong = 1;
    try {
      static_cast<void>(cuda::to_device(source.view(), {}));
    } catch (const Error& error) {
      wrong = error.reason() == Reason::unavailable ? 0 : 2;
    }
    there.reset();
    ::_exit(wrong);
  }
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  BOOST_CHECK(site::bytes_of(cuda::to_host(there.view(), {.stream = stream}).view()) == site::bytes_of(source.view()));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
