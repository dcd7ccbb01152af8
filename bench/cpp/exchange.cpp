// What an exchange with libtorch costs in C++: halfway's functions beside ATen's own for the same purpose.
//
// A name is ROW/ROLE/WHAT; contenders of a row do the same work from the same state to the same state, so that what
// makes a tensor is timed with what ends it. bench/cpp.py runs them in turns and judges.
#include <ATen/core/Tensor.h>
#include <ATen/dlpack.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "halfway/dlpack.h"
#include "halfway/torch.h"

namespace at {
// Of ATen/DLConvertor.h, which brings all operators with it.
TORCH_API DLManagedTensorVersioned* toDLPackVersioned(const Tensor& src);
TORCH_API Tensor fromDLPackVersioned(DLManagedTensorVersioned* src, std::function<void(void*)> deleter);
}  // namespace at

namespace {

using halfway::Tensor;

constexpr std::array<std::int64_t, 2> shape{8, 16};
constexpr std::array<std::int64_t, 2> strides{16, 1};
alignas(64) std::array<float, 128> memory{};

// A producer whose struct is made once: what is timed is the consumer's part.
void keep(DLManagedTensorVersioned* /*self*/) {}
DLManagedTensorVersioned* produced() {
  static std::array<std::int64_t, 2> own_shape = shape;
  static std::array<std::int64_t, 2> own_strides = strides;
  static DLManagedTensorVersioned managed = [] {
    DLManagedTensorVersioned made{};
    made.version = {1, 1};
    made.deleter = keep;
    made.dl_tensor.data = memory.data();
    made.dl_tensor.device = {kDLCPU, 0};
    made.dl_tensor.ndim = 2;
    made.dl_tensor.dtype = {kDLFloat, 32, 1};
    made.dl_tensor.shape = own_shape.data();
    made.dl_tensor.strides = own_strides.data();
    return made;
  }();
  benchmark::DoNotOptimize(managed);
  return &managed;
}

void release_nothing(void* context) { benchmark::DoNotOptimize(context); }

Tensor adopted() {
  halfway::MutableView view;
  view.data = memory.data();
  view.dtype = halfway::float32;
  view.shape = shape;
  view.strides = strides;
  return Tensor::adopt(view, memory.data(), release_nothing);
}

at::IntArrayRef array_of(std::span<const std::int64_t> span) { return {span.data(), span.size()}; }

const at::Tensor& source() {
  static const at::Tensor tensor = at::empty(array_of(shape), at::kFloat);
  return tensor;
}

template <class Call>
void run(benchmark::State& state, Call call) {
  for (auto _ : state) {
    auto made = call();
    benchmark::DoNotOptimize(made);
  }
}

void let_go(DLManagedTensorVersioned* managed) {
  benchmark::DoNotOptimize(managed);
  managed->deleter(managed);
}

// --- an owner made and freed: one allocation, one release

void floor_owner(benchmark::State& state) {
  for (auto _ : state) {
    void* const owner = ::operator new(192);
    benchmark::DoNotOptimize(owner);
    ::operator delete(owner);
  }
}
BENCHMARK(floor_owner)->Name("any/floor/operator new(192), delete");

// --- import: a DLPack struct becomes a tensor of the library

void import_ours(benchmark::State& state) {
  run(state, [] { return halfway::from_dlpack(produced()); });
}
BENCHMARK(import_ours)->Name("import/ours/halfway::from_dlpack(m)");

void import_rival(benchmark::State& state) {
  run(state, [] { return at::fromDLPackVersioned(produced(), {}); });
}
BENCHMARK(import_rival)->Name("import/rival/at::fromDLPackVersioned(m)");

// --- export: a tensor of the library becomes a DLPack struct

void export_ours(benchmark::State& state) {
  const Tensor tensor = adopted();
  for (auto _ : state) let_go(tensor.share().to_dlpack());
}
BENCHMARK(export_ours)->Name("export/ours/t.share().to_dlpack()");

void export_rival(benchmark::State& state) {
  for (auto _ : state) let_go(at::toDLPackVersioned(source()));
}
BENCHMARK(export_rival)->Name("export/rival/at::toDLPackVersioned(t)");

// --- to_torch: memory with an owner of its own becomes an at::Tensor

void to_torch_ours(benchmark::State& state) {
  run(state, [] { return halfway::to_torch(adopted()); });
}
BENCHMARK(to_torch_ours)->Name("to_torch, memory/ours/halfway::to_torch(Tensor::adopt(view, owner, release))");

void to_torch_rival(benchmark::State& state) {
  run(state, [] {
    return at::from_blob(memory.data(), array_of(shape), array_of(strides), release_nothing,
                         at::TensorOptions(at::kFloat));
  });
}
BENCHMARK(to_torch_rival)->Name("to_torch, memory/rival/torch::from_blob(data, sizes, strides, release)");

// --- to_torch: a DLPack struct becomes an at::Tensor

void to_torch_dlpack_ours(benchmark::State& state) {
  run(state, [] { return halfway::to_torch(halfway::from_dlpack(produced())); });
}
BENCHMARK(to_torch_dlpack_ours)->Name("to_torch, DLPack/ours/halfway::to_torch(halfway::from_dlpack(m))");

void to_torch_dlpack_rival(benchmark::State& state) {
  run(state, [] { return at::fromDLPackVersioned(produced(), {}); });
}
BENCHMARK(to_torch_dlpack_rival)->Name("to_torch, DLPack/rival/at::fromDLPackVersioned(m)");

// --- from_torch: an at::Tensor becomes a tensor or a struct that others understand

void from_torch_ours(benchmark::State& state) {
  run(state, [] { return halfway::from_torch(source()); });
}
BENCHMARK(from_torch_ours)->Name("from_torch/ours/halfway::from_torch(t)");

void from_torch_rival(benchmark::State& state) {
  for (auto _ : state) let_go(at::toDLPackVersioned(source()));
}
BENCHMARK(from_torch_rival)->Name("from_torch/rival/at::toDLPackVersioned(t)");

void from_torch_dlpack_ours(benchmark::State& state) {
  for (auto _ : state) let_go(halfway::to_dlpack(source()));
}
BENCHMARK(from_torch_dlpack_ours)->Name("from_torch, DLPack/ours/halfway::to_dlpack(t)");

void from_torch_dlpack_rival(benchmark::State& state) {
  for (auto _ : state) let_go(at::toDLPackVersioned(source()));
}
BENCHMARK(from_torch_dlpack_rival)->Name("from_torch, DLPack/rival/at::toDLPackVersioned(t)");

}  // namespace

BENCHMARK_MAIN();
