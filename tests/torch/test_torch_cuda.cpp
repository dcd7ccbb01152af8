// halfway/torch_cuda.h. Without a GPU: one clear error, and nothing lost. With one: values, layouts, streams, memory
// and owners, beside torch's own. `make gpu-test` compiles it on the machine with the GPU.
#include <boost/test/unit_test.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/gate.h"
#include "halfway/torch_cuda.h"
#include "tensors.h"

namespace {

using c10::cuda::CUDAStream;
using c10::cuda::CUDAStreamGuard;
using gpu::Gate;
using halfway::Error;
using halfway::Tensor;
using halfway_test::reason_of;

namespace cuda = halfway::cuda;

constexpr std::int64_t large = 300'000;  // elements: more than the host reads at once for a device

bool has_device() { return cuda::device_count() > 0; }

boost::test_tools::assertion_result with_a_device(boost::unit_test::test_unit_id /*id*/) {
  if (!has_device()) std::puts("skipped: no CUDA device");
  return has_device();
}
boost::test_tools::assertion_result without_a_device(boost::unit_test::test_unit_id /*id*/) { return !has_device(); }

// Torch's kernels. Nothing here calls them by a symbol, and loading them takes a second, for which each case that needs
// no device would wait.
struct Kernels {
  Kernels() {
    if (has_device() && dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      throw std::runtime_error(dlerror());
    }
  }
};
BOOST_TEST_GLOBAL_FIXTURE(Kernels);

at::TensorOptions on_device(at::ScalarType type) { return at::TensorOptions().device(at::kCUDA, 0).dtype(type); }

// Values that the narrower dtypes round, and all dtypes have.
at::Tensor numbers(std::int64_t count, at::ScalarType type) {
  const at::Tensor wide = at::arange(count, at::kDouble);
  if (type == at::kBool) return wide.remainder(3).to(type);
  if (at::isIntegralType(type, false)) return wide.remainder(201).to(type);
  return wide.sub(static_cast<double>(count) / 2).mul(0.3737).to(type);
}

// Runs `body` once as it is, so that all kernels are loaded and all memory is cached, for which CUDA may wait for the
// device; then with a stream that is held back.
template <class Body>
void held_back(const CUDAStream& stream, Body&& body) {
  std::optional<Gate> gate;
  body(gate);
  stream.synchronize();
  gate.emplace(stream);
  body(gate);
}

// Bytes of torch's allocator in use.
std::int64_t allocated() {
  return static_cast<std::int64_t>(c10::cuda::CUDACachingAllocator::getDeviceStats(0).allocated_bytes[0].current);
}

bool is_torchs(const at::Tensor& tensor) {
  return tensor.storage().data_ptr().get_deleter() == c10::cuda::CUDACachingAllocator::get()->raw_deleter();
}

BOOST_AUTO_TEST_SUITE(torch_cuda)

BOOST_AUTO_TEST_CASE(without_a_device_every_function_says_so, *boost::unit_test::precondition(without_a_device)) {
  const at::Tensor host = at::arange(4, at::kFloat);
  const std::vector<std::function<void()>> calls{
      [&] { static_cast<void>(cuda::to_device(host)); },
      [&] { static_cast<void>(cuda::to_torch_device(halfway::from_torch(host))); },
      [&] { static_cast<void>(cuda::torch_stream(0)); },
      [&] {
        static_cast<void>(cuda::torch_memory().allocate({}, halfway::float32, {halfway::DeviceType::cuda, 0}, nullptr));
      },
  };
  for (const auto& call : calls) {
    std::string message;
    try {
      call();
    } catch (const Error& error) {
      BOOST_TEST(std::string(to_string(error.reason())) == "unavailable");
      message = error.message();
    }
    BOOST_TEST(message == cuda::unavailable_because());
    BOOST_TEST(!message.empty());
  }
  BOOST_TEST(host.storage().use_count() == 1U);
}

BOOST_AUTO_TEST_CASE(tensors_of_the_wrong_side_are_refused) {
  const at::Tensor host = at::arange(4, at::kFloat);
  const at::Tensor other = at::zeros({4});
  const auto version = other._version();
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_host(host)); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_host_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_device_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::cast_on_device(host)); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::cast_on_device_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_device(at::Tensor())); }) == "no_storage");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_torch_device(Tensor())); }) == "consumed");
  BOOST_TEST(other.equal(at::zeros({4})));
  BOOST_TEST(other._version() == version);
}

// The first case that uses a device: here torch has made no tensor there, and its allocator is not prepared.
BOOST_AUTO_TEST_CASE(there_and_back, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor host = at::arange(4096, at::kFloat).view({64, 64}).t();
  // clang-format off
  at::Tensor batch = halfway::cuda::to_device(host, {.device = 0, .dtype = halfway::bfloat16, .non_blocking = true});
  at::Tensor wide = halfway::cuda::cast_on_device(batch, {.dtype = halfway::float32});
  at::Tensor back = halfway::cuda::to_host(wide);
  const halfway::TensorView view = halfway::view_of(host);
  halfway::Tensor held = halfway::cuda::to_device(
      view, {.device = 0, .stream = halfway::cuda::torch_stream(0), .allocator = &halfway::cuda::torch_memory()});
  // clang-format on
  BOOST_TEST(halfway::to_torch(std::move(held)).cpu().equal(host));
  BOOST_TEST(batch.is_cuda());
  BOOST_TEST((batch.scalar_type() == at::kBFloat16));
  BOOST_TEST(back.equal(halfway::cast(halfway::cast(host, halfway::bfloat16), halfway::float32)));

  BOOST_TEST(halfway::to_torch(halfway::from_torch(wide)).is_cuda());
  BOOST_TEST(reason_of([&] { static_cast<void>(halfway::cast(wide, halfway::float16)); }) == "device");
}

BOOST_AUTO_TEST_CASE(values_are_those_of_torchs_casts, *boost::unit_test::precondition(with_a_device)) {
  const std::vector<std::pair<at::ScalarType, at::ScalarType>> pairs{
      {at::kFloat, at::kFloat},  {at::kFloat, at::kBFloat16}, {at::kFloat, at::kHalf},  {at::kFloat, at::kDouble},
      {at::kDouble, at::kFloat}, {at::kBFloat16, at::kFloat}, {at::kHalf, at::kFloat},  {at::kByte, at::kBFloat16},
      {at::kByte, at::kFloat},   {at::kLong, at::kFloat},     {at::kInt, at::kLong},    {at::kLong, at::kInt},
      {at::kBool, at::kFloat},   {at::kShort, at::kShort},    {at::kByte, at::kDouble},
  };
  for (const auto& [from, to] : pairs) {
    for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1000}, large, 10 * large}) {
      BOOST_TEST_INFO_SCOPE(c10::toString(from) << " to " << c10::toString(to) << ", " << count << " elements");
      const cuda::TransferOptions options{.dtype = halfway::from_torch(to)};
      const at::Tensor host = numbers(count, from);
      const at::Tensor expected = host.to(to);
      const at::Tensor there = host.to(at::kCUDA);
      const at::Tensor sent = cuda::to_device(host, options);
      BOOST_TEST((sent.is_cuda() && sent.scalar_type() == to && sent.is_contiguous()));
      BOOST_TEST(sent.cpu().equal(expected));
      BOOST_TEST(cuda::to_device(host.pin_memory(), options).cpu().equal(expected));
      BOOST_TEST(cuda::to_torch_device(halfway::from_torch(host), options).cpu().equal(expected));
      BOOST_TEST(cuda::cast_on_device(there, options).cpu().equal(expected));
      const at::Tensor back = cuda::to_host(there, options);
      BOOST_TEST((back.is_cpu() && back.scalar_type() == to));
      BOOST_TEST(back.equal(expected));
    }
  }
}

BOOST_AUTO_TEST_CASE(options_of_the_cast_are_passed_on, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor host = numbers(6 * 50 * 70, at::kByte).view({6, 50, 70});
  halfway::Report report;
  const std::vector<double> scales{0.5, 2, -1, 0.25, 1, 8};
  const std::vector<double> shifts{0, 1, -1, 3, 0.5, 100};
  const std::vector<std::int64_t> axes{2, 0, 1};
  const std::vector<std::int64_t> twice{0, 0, 1};
  cuda::TransferOptions options{.dtype = halfway::float32};
  options.cast.scale = scales;
  options.cast.shift = shifts;
  options.cast.axis = 0;
  options.cast.permute = axes;
  options.cast.report = &report;
  const at::Tensor expected = halfway::cast(host, halfway::float32, options.cast);
  BOOST_TEST((expected.sizes() == at::IntArrayRef({70, 6, 50})));
  BOOST_TEST(cuda::to_device(host, options).cpu().equal(expected));
  BOOST_TEST(report.count == static_cast<std::uint64_t>(host.numel()));
  BOOST_TEST(cuda::cast_on_device(host.to(at::kCUDA), options).cpu().equal(expected));
  BOOST_TEST(cuda::to_host(host.to(at::kCUDA), options).equal(expected));
  const cuda::TransferOptions refused{.cast = {.permute = twice}};
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_device(host, refused)); }) == "permute");
}

BOOST_AUTO_TEST_CASE(destinations_of_any_strides, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor host = numbers(120 * 90, at::kFloat).view({120, 90});
  const at::Tensor there = host.to(at::kCUDA);
  const at::Tensor expected = host.to(at::kHalf);
  const auto fills = [&](const at::Tensor& memory, const at::Tensor& destination, auto&& fill) {
    const auto version = destination._version();
    fill(destination);
    BOOST_TEST(destination.cpu().equal(expected));
    BOOST_TEST(destination._version() > version);
    // Nothing beside it was written.
    destination.fill_(-1);
    BOOST_TEST(memory.cpu().eq(-1).all().item<bool>());
  };
  const auto every_layout = [&](const at::TensorOptions& where, auto&& fill) {
    const at::Tensor rows = at::full({120, 90}, -1, where);
    fills(rows, rows, fill);
    const at::Tensor columns = at::full({90, 120}, -1, where);
    fills(columns, columns.t(), fill);
    const at::Tensor wide = at::full({121, 200}, -1, where);
    fills(wide, wide.slice(0, 1).slice(1, 10, 190, 2), fill);
  };
  every_layout(on_device(at::kHalf), [&](const at::Tensor& into) { cuda::to_device_into(host, into); });
  every_layout(on_device(at::kHalf), [&](const at::Tensor& into) { cuda::cast_on_device_into(there, into); });
  every_layout(at::TensorOptions(at::kHalf), [&](const at::Tensor& into) { cuda::to_host_into(there, into); });
  // And sources.
  BOOST_TEST(cuda::to_device(host.t()).cpu().equal(host.t()));
  BOOST_TEST(cuda::to_host(there.t().slice(0, 3, 80, 4)).equal(host.t().slice(0, 3, 80, 4)));
  BOOST_TEST(cuda::cast_on_device(there.select(1, 7).expand({5, 120})).cpu().equal(host.select(1, 7).expand({5, 120})));
}

BOOST_AUTO_TEST_CASE(work_keeps_its_place_in_the_current_stream, *boost::unit_test::precondition(with_a_device)) {
  const CUDAStream stream = c10::cuda::getStreamFromPool();
  const CUDAStreamGuard current(stream);
  at::Tensor source = at::full({large}, 1, on_device(at::kFloat));
  held_back(stream, [&](std::optional<Gate>& gate) {
    const at::Tensor host = at::full({large}, 5, at::kFloat);
    source.fill_(2);
    const at::Tensor cast = cuda::cast_on_device(source, {.dtype = halfway::float16});
    cast.add_(1);
    source.fill_(9);
    const at::Tensor sent = cuda::to_device(host, {.dtype = halfway::bfloat16, .non_blocking = true});
    host.fill_(7);  // it has been read
    sent.mul_(2);
    if (gate) {
      BOOST_TEST(!stream.query());
      gate->open();
    }
    stream.synchronize();
    BOOST_TEST(cast.cpu().eq(3).all().item<bool>());
    BOOST_TEST(sent.cpu().eq(10).all().item<bool>());
    BOOST_TEST(source.cpu().eq(9).all().item<bool>());
  });
  // What waits, waits for what was enqueued before it.
  Gate gate(stream);
  source.fill_(4);
  std::jthread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    gate.open();
  });
  const at::Tensor back = cuda::to_host(source, {.dtype = halfway::bfloat16});
  opener.join();
  BOOST_TEST(back.eq(4).all().item<bool>());
}

BOOST_AUTO_TEST_CASE(results_are_in_memory_of_torchs_allocator, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor host = numbers(large, at::kFloat);
  const at::Tensor there = cuda::to_device(host);
  const std::int64_t before = allocated();
  const std::vector<std::function<at::Tensor()>> calls{
      [&] { return cuda::to_device(host, {.dtype = halfway::bfloat16}); },
      [&] { return cuda::to_torch_device(halfway::from_torch(host), {.dtype = halfway::bfloat16}); },
      [&] { return cuda::cast_on_device(there, {.dtype = halfway::bfloat16}); },
  };
  for (const auto& call : calls) {
    at::Tensor result = call();
    BOOST_TEST(is_torchs(result));
    BOOST_TEST(allocated() - before >= 2 * large);
    BOOST_TEST(allocated() - before < 4 * large);  // and nothing beside it
    result.resize_({2 * large});                   // as torch's own may be
    result = at::Tensor();
    cuda::collect();
    BOOST_TEST(allocated() == before);
  }
  {
    // For another stream than the current one, which stays.
    const CUDAStream stream = c10::cuda::getStreamFromPool();
    const CUDAStream current = c10::cuda::getCurrentCUDAStream();
    const std::array<std::int64_t, 1> shape{large};
    const halfway::Device device{halfway::DeviceType::cuda, 0};
    const Tensor held = cuda::torch_memory().allocate(shape, halfway::float16, device, stream.stream());
    BOOST_TEST(allocated() - before >= 2 * large);
    BOOST_TEST((c10::cuda::getCurrentCUDAStream() == current));
    BOOST_TEST((cuda::torch_stream(0) == static_cast<void*>(current.stream())));
    BOOST_TEST(reason_of([&] {
                 const halfway::Device none{halfway::DeviceType::cuda, cuda::device_count()};
                 static_cast<void>(cuda::torch_memory().allocate(shape, halfway::float16, none, nullptr));
               }) == "device");
  }
  BOOST_TEST(allocated() == before);
}

BOOST_AUTO_TEST_CASE(results_may_be_used_on_another_stream, *boost::unit_test::precondition(with_a_device)) {
  const CUDAStream other = c10::cuda::getStreamFromPool();
  const at::Tensor host = numbers(large, at::kFloat);
  at::Tensor copy = at::zeros({large}, on_device(at::kFloat));
  held_back(other, [&](std::optional<Gate>& gate) {
    at::Tensor sent = cuda::to_device(host);
    {
      const CUDAStreamGuard current(other);
      copy.copy_(sent);
    }
    sent.record_stream(other);
    const void* const memory = sent.const_data_ptr();
    sent = at::Tensor();
    // Torch gives the memory to nobody else as long as the other stream has not come to it.
    const at::Tensor next = at::full({large}, -1, on_device(at::kFloat));
    if (gate) {
      BOOST_TEST(next.const_data_ptr() != memory);
      gate->open();
    }
    other.synchronize();
    BOOST_TEST(copy.cpu().equal(host));
  });
}

BOOST_AUTO_TEST_CASE(the_threads_device_and_stream_are_as_before, *boost::unit_test::precondition(with_a_device)) {
  const int count = cuda::device_count();
  const auto last = static_cast<c10::DeviceIndex>(count - 1);
  const c10::cuda::CUDAGuard device(last);  // of several, not the one that is used
  const CUDAStream stream = c10::cuda::getStreamFromPool(false, 0);
  const CUDAStream before = c10::cuda::getCurrentCUDAStream(0);
  const at::Tensor host = numbers(large, at::kFloat);
  for (const bool non_blocking : {false, true}) {
    const cuda::TransferOptions options{.dtype = halfway::float16, .non_blocking = non_blocking};
    const at::Tensor there = cuda::to_device(host, options);
    BOOST_TEST((there.device() == at::Device(at::kCUDA, 0)));
    static_cast<void>(cuda::cast_on_device(there, {.dtype = halfway::float32}));
    static_cast<void>(cuda::to_host(there, options));
    cuda::to_device_into(host, there, options);
    BOOST_TEST(c10::cuda::current_device() == last);
    BOOST_TEST((c10::cuda::getCurrentCUDAStream(0) == before));
  }
  {
    const c10::cuda::CUDAMultiStreamGuard current(stream);
    BOOST_TEST((cuda::torch_stream(0) == static_cast<void*>(stream.stream())));
    BOOST_TEST(cuda::to_host(cuda::to_device(host)).equal(host));
    BOOST_TEST((c10::cuda::getCurrentCUDAStream(0) == stream));
    BOOST_TEST(c10::cuda::current_device() == last);
  }
  BOOST_TEST((c10::cuda::getCurrentCUDAStream(0) == before));
}

BOOST_AUTO_TEST_CASE(pinned_sources_are_kept_until_they_are_read, *boost::unit_test::precondition(with_a_device)) {
  const CUDAStream stream = c10::cuda::getStreamFromPool();
  const CUDAStreamGuard current(stream);
  std::array<at::Tensor, 2> sources{numbers(large, at::kFloat).pin_memory(), numbers(large, at::kFloat).pin_memory()};
  std::size_t used = 0;
  held_back(stream, [&](std::optional<Gate>& gate) {
    at::Tensor& source = sources[used++];
    const c10::weak_intrusive_ptr<c10::StorageImpl> storage = source.storage().getWeakStorageImpl();
    const at::Tensor sent = cuda::to_device(source, {.non_blocking = true});
    source = at::Tensor();
    cuda::collect();
    if (gate) {
      BOOST_TEST(!stream.query());
      BOOST_TEST(!storage.expired());
      gate->open();
    }
    stream.synchronize();
    cuda::collect();
    BOOST_TEST(storage.expired());
    BOOST_TEST(sent.cpu().equal(numbers(large, at::kFloat)));
  });
}

BOOST_AUTO_TEST_CASE(sources_on_a_device_are_kept_until_they_are_read, *boost::unit_test::precondition(with_a_device)) {
  const CUDAStream stream = c10::cuda::getStreamFromPool();
  const CUDAStreamGuard current(stream);
  const at::Tensor host = numbers(large, at::kFloat);
  std::array<at::Tensor, 2> sources{host.to(at::kCUDA), host.to(at::kCUDA)};
  std::size_t used = 0;
  held_back(stream, [&](std::optional<Gate>& gate) {
    at::Tensor& source = sources[used++];
    const at::Tensor narrow = cuda::cast_on_device(source, {.dtype = halfway::float16});
    source = at::Tensor();
    const at::Tensor next = at::full({large}, -1, on_device(at::kFloat));  // perhaps the same memory, in its turn
    if (gate) gate->open();
    stream.synchronize();
    BOOST_TEST(narrow.cpu().equal(host.to(at::kHalf)));
    BOOST_TEST(next.cpu().eq(-1).all().item<bool>());
  });
}

BOOST_AUTO_TEST_CASE(values_that_are_only_marked_are_made, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor plain = at::complex(numbers(1000, at::kFloat), numbers(1000, at::kFloat).flip(0));
  const at::Tensor there = plain.to(at::kCUDA);
  const at::Tensor expected = plain.conj().resolve_conj();
  BOOST_TEST(there.conj().is_conj());
  BOOST_TEST(cuda::to_host(there.conj()).equal(expected));
  BOOST_TEST(cuda::cast_on_device(there.conj()).cpu().equal(expected));
  BOOST_TEST(cuda::to_device(plain.conj()).cpu().equal(expected));
  BOOST_TEST(reason_of([&] { cuda::to_device_into(plain, there.conj()); }) == "conj");

  const at::Tensor learnt = numbers(1000, at::kFloat).to(at::kCUDA).requires_grad_();
  BOOST_TEST(!cuda::to_host(learnt).requires_grad());
  BOOST_TEST(!cuda::cast_on_device(learnt).requires_grad());
  BOOST_TEST(reason_of([&] { cuda::to_device_into(numbers(1000, at::kFloat), learnt); }) == "requires_grad");
}

BOOST_AUTO_TEST_CASE(tensors_of_the_wrong_device_are_refused, *boost::unit_test::precondition(with_a_device)) {
  const at::Tensor host = numbers(4, at::kFloat);
  const at::Tensor there = host.to(at::kCUDA);
  const at::Tensor other = at::zeros({4}, on_device(at::kFloat));
  const auto version = other._version();
  const std::int64_t before = allocated();
  const int none = cuda::device_count();
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_device(there)); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_device_into(there, other); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_host_into(there, other); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_host_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::cast_on_device_into(host, other); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_device(host, {.device = none})); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::to_device(host, {.device = -1})); }) == "device");
  BOOST_TEST(reason_of([&] { static_cast<void>(cuda::torch_stream(none)); }) == "device");
  BOOST_TEST(reason_of([&] { cuda::to_device_into(numbers(5, at::kFloat), other); }) == "out_mismatch");
  BOOST_TEST(other.cpu().equal(at::zeros({4})));
  BOOST_TEST(other._version() == version);
  BOOST_TEST(allocated() == before);
}

BOOST_AUTO_TEST_CASE(threads_with_streams_of_their_own, *boost::unit_test::precondition(with_a_device)) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&wrong, thread] {
      try {
        const CUDAStreamGuard current(c10::cuda::getStreamFromPool(false, 0));
        const at::Tensor host = numbers(large + thread, at::kFloat);
        const at::Tensor expected = host.to(at::kBFloat16);
        for (int i = 0; i < 10; ++i) {
          const bool waits = (i + thread) % 2 == 0;
          const at::Tensor there = cuda::to_device(host, {.dtype = halfway::bfloat16, .non_blocking = !waits});
          const at::Tensor wide = cuda::cast_on_device(there, {.dtype = halfway::float32});
          if (!cuda::to_host(wide, {.dtype = halfway::bfloat16}).equal(expected)) ++wrong;
        }
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
