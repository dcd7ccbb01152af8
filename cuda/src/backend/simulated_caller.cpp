// The caller's side of the simulated device: streams, memory and work of a program that uses the engine, and what tests
// ask. None of it is counted, fails, or lets work go on its own.
#include <cstring>
#include <new>
#include <utility>

#include "simulated.h"
#include "simulated_stream.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

Counters Simulated::counters() const noexcept {
  const auto value = [&](std::size_t index) { return counters_[index].load(std::memory_order_relaxed); };
  return {value(0), value(1), value(2), value(3), value(4), value(5), value(6)};
}

std::size_t Simulated::pinned_bytes() const noexcept {
  std::size_t bytes = 0;
  for (const Block& block : blocks_) {
    if (block.generation % 2 == 1 && block.owner == Owner::pinned) bytes += block.size;
  }
  return bytes;
}

Stream Simulated::make_stream(int device) { return add_stream(device); }

void* Simulated::make_memory(std::size_t bytes, int device) {
  void* const memory = take_memory(bytes, device);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void Simulated::free_memory(void* memory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (Block* const block = find(memory); block != nullptr) remove_memory(*block);
}

void Simulated::set_capturing(Stream stream, bool capturing) {
  static_cast<SimulatedStream*>(stream)->capturing.store(capturing, std::memory_order_relaxed);
}

void Simulated::pin(void* memory, std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  static_cast<void>(add_block(memory, bytes, Owner::foreign, 0));
}

void Simulated::unpin(void* memory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (Block* const block = find(memory); block != nullptr) block->generation.fetch_add(1, std::memory_order_relaxed);
}

void Simulated::fill(void* memory, std::size_t bytes, unsigned char value, Stream stream) {
  Place to;
  static_cast<void>(resolve(memory, bytes, to));
  auto work = std::make_unique<Work>();
  work->kind = Work::Kind::fill;
  work->engine = EngineKind::kernels;
  work->destination = to.memory;
  work->bytes = bytes;
  work->value = value;
  Status status = Status::ok;
  stream_of(stream, false, status)->enqueue(std::move(work));
}

void Simulated::write(void* memory, const void* bytes, std::size_t size, Stream stream) {
  if (size == 0) return;
  Place to;
  static_cast<void>(resolve(memory, size, to));
  auto work = std::make_unique<Work>();
  work->kind = Work::Kind::copy;
  work->engine = EngineKind::kernels;
  work->destination = to.memory;
  work->bytes = size;
  const auto* const first = static_cast<const std::byte*>(bytes);
  work->payload.assign(first, first + size);
  Status status = Status::ok;
  stream_of(stream, false, status)->enqueue(std::move(work));
}

void Simulated::read(void* bytes, const void* memory, std::size_t size, Stream stream) {
  if (size == 0) return;
  Place from;
  static_cast<void>(resolve(memory, size, from));
  auto work = std::make_unique<Work>();
  work->kind = Work::Kind::copy;
  work->engine = EngineKind::kernels;
  work->destination = static_cast<std::byte*>(bytes);
  work->source = from.memory;
  work->bytes = size;
  Status status = Status::ok;
  stream_of(stream, false, status)->enqueue(std::move(work));
}

void Simulated::order(Stream first, Stream then) {
  Status status = Status::ok;
  auto waiting = std::make_unique<Work>();
  waiting->kind = Work::Kind::wait;
  waiting->mark = &stream_of(first, false, status)->mark();
  stream_of(then, false, status)->enqueue(std::move(waiting));
}

void Simulated::finish(Stream stream) {
  Status status = Status::ok;
  await(stream_of(stream, false, status)->mark());
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
