#include "simulated.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "simulated_stream.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

constexpr std::size_t granule = 256;  // of device memory
constexpr unsigned char freed_device = 0xDB;
constexpr unsigned char freed_pinned = 0xDD;
constexpr unsigned char fresh = 0xCB;
constexpr unsigned char recycled_slot = 0xC7;

thread_local int this_threads_device = 0;

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): numbers by their index,
// so that threads share no state but a counter.
std::uint64_t draw(std::uint64_t seed, std::uint64_t index) noexcept {
  std::uint64_t x = seed * 0x9E3779B97F4A7C15U + (index + 1) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

std::byte* map(std::size_t bytes, int protection, int file) {
  void* const memory = ::mmap(nullptr, bytes, protection, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(memory);
}

std::size_t rounded(std::size_t bytes) noexcept { return (bytes + granule - 1) / granule * granule; }

}  // namespace

Simulated::Simulated(const SimulatedOptions& options) : options_(options) {
  // Each engine is never early, seldom, mostly or always.
  constexpr std::array<unsigned, 4> paces{0, 40, 160, 256};
  if (options.seed != 0) {
    for (std::size_t engine = 0; engine < chances_.size(); ++engine) {
      chances_[engine] = paces[draw(options.seed, ~std::uint64_t{engine}) % paces.size()];
    }
  }
  for (int device = 0; device < options.devices; ++device) {
    const int file = ::memfd_create("halfway-simulated-device", MFD_CLOEXEC);
    if (file < 0 || ::ftruncate(file, static_cast<off_t>(options.memory)) != 0) throw std::bad_alloc();
    Memory& memory = memories_.emplace_back();
    memory.handed_out = map(options.memory, PROT_NONE, file);
    memory.alias = map(options.memory, PROT_READ | PROT_WRITE, file);
    ::close(file);
  }
}

Simulated::~Simulated() {
  for (int device = 0; device < options_.devices; ++device) run_device(device);
  for (auto& stream : streams_) delete stream.load();
  for (const Memory& memory : memories_) {
    ::munmap(memory.handed_out, options_.memory);
    ::munmap(memory.alias, options_.memory);
  }
  for (Block& block : blocks_) {
    if (block.owner == Owner::pinned && block.generation % 2 == 1) {
      ::operator delete (block.begin.load(), std::align_val_t{granule});
    }
  }
}

std::string Simulated::missing() const { return "this is a simulated device"; }

std::string Simulated::error_text(Status status) const {
  return "simulated error " + std::to_string(static_cast<int>(status));
}

void Simulated::violate(const char* words) noexcept {
  const char* none = nullptr;
  violation_.compare_exchange_strong(none, words, std::memory_order_relaxed);
}

// What every call of the engine begins with: its number, its fault, and the schedule's chance to let work go.
Status Simulated::enter(Call call, bool* late) noexcept {
  const std::uint64_t number = calls_.fetch_add(1, std::memory_order_relaxed) + 1;
  progress();
  if (is_lost()) return Status::launch_failure;
  if (number != options_.fail_call) return Status::ok;
  switch (options_.fault) {
    case Fault::refused:
      return Status::unknown;
    case Fault::lost:
      lost_.store(true, std::memory_order_relaxed);
      return Status::launch_failure;
    case Fault::late:
      if (call == Call::enqueues && late != nullptr) *late = true;
      return Status::ok;
  }
  return Status::ok;
}

void Simulated::progress() noexcept {
  if (options_.seed == 0) return;
  const std::size_t count = stream_count_.load(std::memory_order_acquire);
  if (count == 0) return;
  const auto chance = [&] { return draw(options_.seed, draws_.fetch_add(1, std::memory_order_relaxed)); };
  const std::size_t first = chance() % count;
  for (std::size_t i = 0; i < count; ++i) {
    SimulatedStream* const stream = streams_[(first + i) % count].load(std::memory_order_relaxed);
    if (stream == nullptr) continue;
    stream->let_some_go([&](EngineKind engine) {
      const unsigned pace = engine == EngineKind::none ? 128 : chances_[static_cast<std::size_t>(engine)];
      return chance() % 256 < pace;
    });
  }
}

// --- devices and memory

Status Simulated::device_count(int& count) noexcept {
  const Status status = enter(Call::any);
  count = status == Status::ok ? options_.devices : 0;
  return status;
}

Status Simulated::traits(int device, DeviceTraits& traits) {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  if (device < 0 || device >= options_.devices) return Status::invalid_device;
  traits.name = "simulated device " + std::to_string(device);
  traits.coherent = options_.coherent;
  return Status::ok;
}

Status Simulated::current_device(int& device) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  device = this_threads_device;
  return Status::ok;
}

Status Simulated::set_device(int device) noexcept {
  // It is set in any case: a thread that cannot get its device back is beyond what an engine can repair.
  if (device < 0 || device >= options_.devices) return Status::invalid_device;
  this_threads_device = device;
  return enter(Call::releases);
}

Simulated::Block* Simulated::find(const void* memory) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  for (Block& block : blocks_) {
    if (block.generation.load(std::memory_order_relaxed) % 2 == 0) continue;
    const auto begin = reinterpret_cast<std::uintptr_t>(block.begin.load(std::memory_order_relaxed));
    if (address >= begin && address - begin < block.size.load(std::memory_order_relaxed)) return &block;
  }
  return nullptr;
}

bool Simulated::resolve(const void* memory, std::size_t bytes, Place& place) noexcept {
  Block* const block = find(memory);
  if (block == nullptr) {
    place.memory = static_cast<std::byte*>(const_cast<void*>(memory));
    return options_.coherent;
  }
  const auto offset =
      static_cast<std::size_t>(static_cast<const std::byte*>(memory) - block->begin.load(std::memory_order_relaxed));
  if (bytes > block->size.load(std::memory_order_relaxed) - offset) return false;
  place.block = block;
  place.generation = block->generation.load(std::memory_order_relaxed);
  place.memory = static_cast<std::byte*>(const_cast<void*>(memory));
  if (block->owner.load(std::memory_order_relaxed) == Owner::device) {
    const Memory& there = memories_[static_cast<std::size_t>(block->device.load(std::memory_order_relaxed))];
    place.memory = there.alias + (place.memory - there.handed_out);
  }
  return true;
}

Simulated::Block* Simulated::add_block(void* memory, std::size_t bytes, Owner owner, int device) noexcept {
  for (Block& block : blocks_) {
    if (block.generation.load(std::memory_order_relaxed) % 2 == 1) continue;
    block.begin.store(static_cast<std::byte*>(memory), std::memory_order_relaxed);
    block.size.store(bytes, std::memory_order_relaxed);
    block.owner.store(owner, std::memory_order_relaxed);
    block.device.store(device, std::memory_order_relaxed);
    block.generation.fetch_add(1, std::memory_order_relaxed);
    return &block;
  }
  return nullptr;
}

// First fit between the blocks that live.
void* Simulated::take_memory(std::size_t bytes, int device) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Memory& memory = memories_[static_cast<std::size_t>(device)];
  std::vector<std::pair<std::size_t, std::size_t>> taken;
  for (const Block& block : blocks_) {
    if (block.generation.load(std::memory_order_relaxed) % 2 == 0 || block.owner != Owner::device) continue;
    if (block.device != device) continue;
    const auto begin = static_cast<std::size_t>(block.begin.load() - memory.handed_out);
    taken.emplace_back(begin, begin + rounded(block.size));
  }
  std::sort(taken.begin(), taken.end());
  std::size_t at = 0;
  for (const auto& [begin, end] : taken) {
    if (begin - at >= rounded(bytes)) break;
    at = end;
  }
  if (at + rounded(bytes) > options_.memory) return nullptr;
  std::memset(memory.alias + at, fresh, bytes);
  return add_block(memory.handed_out + at, bytes, Owner::device, device) == nullptr ? nullptr : memory.handed_out + at;
}

void Simulated::remove_memory(Block& block) noexcept {
  Place place;
  if (!resolve(block.begin.load(), block.size, place)) std::abort();  // a block is in its own memory
  std::memset(place.memory, block.owner == Owner::device ? freed_device : freed_pinned, block.size);
  block.generation.fetch_add(1, std::memory_order_relaxed);
}

Status Simulated::allocate(std::size_t bytes, void*& memory) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  memory = take_memory(bytes, this_threads_device);
  if (memory == nullptr) return Status::out_of_memory;
  const std::lock_guard<std::mutex> lock(mutex_);
  ++live_blocks_;
  return Status::ok;
}

// Waits for all work of the device, as cudaFree does.
Status Simulated::free(void* memory) noexcept {
  const Status status = enter(Call::releases);
  Block* const block = find(memory);
  if (block == nullptr || block->owner != Owner::device) {
    violate("memory was freed that is none of the device's");
    return Status::invalid_handle;
  }
  run_device(block->device);
  const std::lock_guard<std::mutex> lock(mutex_);
  remove_memory(*block);
  --live_blocks_;
  return status;
}

Status Simulated::allocate_pinned(std::size_t bytes, void*& memory) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  void* const block = ::operator new (bytes, std::align_val_t{granule}, std::nothrow);
  if (block == nullptr) return Status::out_of_memory;
  std::memset(block, fresh, bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (add_block(block, bytes, Owner::pinned, 0) == nullptr) std::abort();
  ++live_blocks_;
  memory = block;
  return Status::ok;
}

Status Simulated::free_pinned(void* memory) noexcept {
  const Status status = enter(Call::releases);
  const std::lock_guard<std::mutex> lock(mutex_);
  Block* const block = find(memory);
  if (block == nullptr || block->owner != Owner::pinned) {
    violate("memory was freed that was not allocated as pinned");
    return Status::invalid_handle;
  }
  remove_memory(*block);
  ::operator delete (memory, std::align_val_t{granule});
  --live_blocks_;
  return status;
}

// Overlapping memory is refused; pages that are merely shared are not.
Status Simulated::register_pinned(void* memory, std::size_t bytes) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto first = reinterpret_cast<std::uintptr_t>(memory);
  for (const Block& block : blocks_) {
    const auto begin = reinterpret_cast<std::uintptr_t>(block.begin.load());
    if (block.generation % 2 == 1 && first < begin + block.size && begin < first + bytes) return Status::already_pinned;
  }
  if (add_block(memory, bytes, Owner::foreign, 0) == nullptr) std::abort();
  ++live_registrations_;
  return Status::ok;
}

Status Simulated::unregister_pinned(void* memory) noexcept {
  const Status status = enter(Call::releases);
  const std::lock_guard<std::mutex> lock(mutex_);
  Block* const block = find(memory);
  if (block == nullptr || block->owner != Owner::foreign) {
    violate("memory was unregistered that was not registered");
    return Status::invalid_handle;
  }
  block->generation.fetch_add(1, std::memory_order_relaxed);
  --live_registrations_;
  return status;
}

Status Simulated::pointer_traits(const void* memory, PointerTraits& traits) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  traits = {};
  const Block* const block = find(memory);
  if (block == nullptr) return Status::ok;
  const bool on_device = block->owner.load(std::memory_order_relaxed) == Owner::device;
  traits.kind = on_device ? PointerTraits::Kind::device : PointerTraits::Kind::pinned;
  traits.device = block->device.load(std::memory_order_relaxed);
  traits.device_address = const_cast<void*>(memory);
  traits.allocation = reinterpret_cast<std::uintptr_t>(block);
  return Status::ok;
}

// --- streams and events

SimulatedStream* Simulated::add_stream(int device) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::size_t index = stream_count_.load(std::memory_order_relaxed);
  if (index == streams_.size()) std::abort();
  SimulatedStream* const stream = std::make_unique<SimulatedStream>(*this, device, options_.threads).release();
  streams_[index].store(stream, std::memory_order_relaxed);
  stream_count_.store(index + 1, std::memory_order_release);
  return stream;
}

// `current_only`: as for launches and records, which CUDA refuses for another device's stream.
SimulatedStream* Simulated::stream_of(Stream stream, bool current_only, Status& status) noexcept {
  const int device = this_threads_device;
  if (stream == nullptr) {
    auto& chosen = default_streams_[static_cast<std::size_t>(device)];
    SimulatedStream* found = chosen.load(std::memory_order_relaxed);
    if (found == nullptr) {
      found = add_stream(device);
      chosen.store(found, std::memory_order_relaxed);
    }
    return found;
  }
  auto* const found = static_cast<SimulatedStream*>(stream);
  if (found->destroyed.load(std::memory_order_relaxed)) violate("a stream was used after it had been destroyed");
  if (current_only && found->device() != device) status = Status::invalid_handle;
  return found;
}

Status Simulated::create_stream(Stream& stream) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  stream = add_stream(this_threads_device);
  const std::lock_guard<std::mutex> lock(mutex_);
  ++live_streams_;
  return Status::ok;
}

Status Simulated::destroy_stream(Stream stream) noexcept {
  const Status status = enter(Call::releases);
  static_cast<SimulatedStream*>(stream)->destroyed.store(true, std::memory_order_relaxed);
  const std::lock_guard<std::mutex> lock(mutex_);
  --live_streams_;
  return status;
}

Status Simulated::is_capturing(Stream stream, bool& capturing) noexcept {
  Status status = enter(Call::any);
  if (status != Status::ok) return status;
  capturing = stream_of(stream, true, status)->capturing.load(std::memory_order_relaxed);
  return status;
}

Status Simulated::create_event(Event& event) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  auto made = std::make_unique<SimulatedEvent>();
  event = made.get();
  const std::lock_guard<std::mutex> lock(mutex_);
  events_.push_back(std::move(made));
  ++live_events_;
  return Status::ok;
}

Status Simulated::destroy_event(Event event) noexcept {
  const Status status = enter(Call::releases);
  auto* const destroyed = static_cast<SimulatedEvent*>(event);
  if (std::exchange(destroyed->destroyed, true)) violate("an event was destroyed twice");
  const std::lock_guard<std::mutex> lock(mutex_);
  --live_events_;
  return status;
}

Status Simulated::record(Event event, Stream stream) noexcept {
  Status status = enter(Call::any);
  if (status != Status::ok) return status;
  SimulatedStream* const found = stream_of(stream, true, status);
  if (status != Status::ok) return status;
  if (found->capturing.load(std::memory_order_relaxed)) violate("something was enqueued on a stream that is captured");
  static_cast<SimulatedEvent*>(event)->latest.store(&found->mark(), std::memory_order_relaxed);
  return Status::ok;
}

Status Simulated::wait(Stream stream, Event event) noexcept {
  Status status = enter(Call::any);
  if (status != Status::ok) return status;
  SimulatedStream* const found = stream_of(stream, false, status);
  Mark* const mark = static_cast<SimulatedEvent*>(event)->latest.load(std::memory_order_relaxed);
  if (mark == nullptr) return Status::ok;
  auto waiting = std::make_unique<Work>();
  waiting->kind = Work::Kind::wait;
  waiting->mark = mark;
  found->enqueue(std::move(waiting));
  return Status::ok;
}

Status Simulated::query(Event event) noexcept {
  if (const Status status = enter(Call::any); status != Status::ok) return status;
  const Mark* const mark = static_cast<SimulatedEvent*>(event)->latest.load(std::memory_order_relaxed);
  return mark == nullptr || mark->passed.load(std::memory_order_acquire) != 0 ? Status::ok : Status::not_ready;
}

// A lost device answers once nothing runs on it any more.
Status Simulated::synchronize(Event event) noexcept {
  Status status = enter(Call::any);
  if (status != Status::ok && !is_lost()) return status;
  const Mark* const mark = static_cast<SimulatedEvent*>(event)->latest.load(std::memory_order_relaxed);
  if (mark != nullptr) await(*mark);
  return is_lost() ? Status::launch_failure : status;
}

Status Simulated::synchronize_stream(Stream stream) noexcept {
  Status status = enter(Call::any);
  if (status != Status::ok && !is_lost()) return status;
  Status found = Status::ok;
  await(stream_of(stream, false, found)->mark());
  return is_lost() ? Status::launch_failure : status;
}

Status Simulated::synchronize_device() noexcept {
  const Status status = enter(Call::any);
  if (status != Status::ok && !is_lost()) return status;
  run_device(this_threads_device);
  return is_lost() ? Status::launch_failure : status;
}

void Simulated::run_device(int device) noexcept {
  const std::size_t count = stream_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    SimulatedStream* const stream = streams_[i].load(std::memory_order_relaxed);
    if (stream->device() == device) await(stream->mark());
  }
}

// --- work

Status Simulated::copy(void* destination, const void* source, std::size_t bytes, CopyKind kind,
                       Stream stream) noexcept {
  bool late = false;
  Status status = enter(Call::enqueues, &late);
  if (status != Status::ok) return status;
  SimulatedStream* const found = stream_of(stream, true, status);
  if (status != Status::ok) return status;
  const bool to_device = kind == CopyKind::to_device;
  Place from;
  Place to;
  const bool known = resolve(source, bytes, from) && resolve(destination, bytes, to);
  const Place& host = to_device ? from : to;
  const Place& device = to_device ? to : from;
  if (!known || host.block == nullptr || device.block == nullptr || host.block->owner == Owner::device ||
      device.block->owner != Owner::device) {
    violate("an asynchronous copy is not between pinned memory and device memory");
    return Status::illegal_address;
  }
  auto work = std::make_unique<Work>();
  work->kind = Work::Kind::copy;
  work->engine = to_device ? EngineKind::copies_in : EngineKind::copies_out;
  work->destination = to.memory;
  work->source = from.memory;
  work->bytes = bytes;
  work->touched.push_back({&from.block->generation, from.generation});
  work->touched.push_back({&to.block->generation, to.generation});
  work->late = late;
  found->enqueue(std::move(work));
  counters_[to_device ? 0 : 1].fetch_add(1, std::memory_order_relaxed);
  counters_[to_device ? 3 : 4].fetch_add(bytes, std::memory_order_relaxed);
  return Status::ok;
}

Status Simulated::launch(const Conversion& conversion, Stream stream) noexcept {
  bool late = false;
  Status status = enter(Call::enqueues, &late);
  if (status != Status::ok) return status;
  SimulatedStream* const found = stream_of(stream, true, status);
  return status == Status::ok ? enqueue_conversion(conversion, *found, late) : status;
}

namespace {

// The bytes that a launch may touch, from the address it is given on.
Extent reach_of(const halfway::detail::Places& places, std::uint64_t count, std::uint64_t item_size) noexcept {
  std::array<std::int64_t, 2> ends{places.offset(0), places.offset(count - 1)};
  if (places.axes > 1) {
    ends = {0, 0};
    for (int axis = 0; axis < places.axes; ++axis) {
      const std::int64_t span = (places.dims[axis] - 1) * places.strides[axis];
      ends[span < 0 ? 0 : 1] += span;
    }
  }
  return {std::min(ends[0], ends[1]), std::max(ends[0], ends[1]) + static_cast<std::int64_t>(item_size)};
}

}  // namespace

bool Simulated::resolve_reach(const void* memory, Extent reach, Place& place) noexcept {
  const auto* const lowest = static_cast<const std::byte*>(memory) + reach.low;
  if (!resolve(lowest, static_cast<std::size_t>(reach.high - reach.low), place)) return false;
  place.memory -= reach.low;
  return true;
}

Status Simulated::enqueue_conversion(const Conversion& conversion, SimulatedStream& stream, bool late) noexcept {
  auto work = std::make_unique<Work>();
  work->kind = Work::Kind::convert;
  work->engine = EngineKind::kernels;
  work->conversion = conversion;
  work->late = late;
  std::uint64_t read_mapped = 0;
  std::uint64_t written_mapped = 0;
  const auto reach = [&](const void* memory, Extent extent, std::byte*& place, std::uint64_t* mapped) {
    Place found;
    if (!resolve_reach(memory, extent, found)) return false;
    place = found.memory;
    if (found.block != nullptr) work->touched.push_back({&found.block->generation, found.generation});
    const bool is_host = found.block == nullptr || found.block->owner != Owner::device;
    if (mapped != nullptr && is_host) *mapped += static_cast<std::uint64_t>(extent.high - extent.low);
    return true;
  };
  const auto both = [&](const void*& source, void*& destination, Extent read, Extent written) {
    std::byte* from = nullptr;
    std::byte* to = nullptr;
    if (!reach(source, read, from, &read_mapped) || !reach(destination, written, to, &written_mapped)) return false;
    source = from;
    destination = to;
    return true;
  };
  bool reached = true;
  if (conversion.segment_count == 0) {
    const std::uint64_t count = conversion.count;
    reached = both(work->conversion.source, work->conversion.destination,
                   reach_of(conversion.source_places, count, conversion.source_size()),
                   reach_of(conversion.destination_places, count, conversion.destination_size()));
    // A launch reads and writes each element, and not what is between them.
    if (read_mapped != 0) read_mapped = count * conversion.source_size();
    if (written_mapped != 0) written_mapped = conversion.writes ? count * conversion.destination_size() : 0;
  } else {
    work->segments.assign(conversion.segments, conversion.segments + conversion.segment_count);
    for (Segment& segment : work->segments) {
      const auto extent = [&](std::uint64_t size) {
        return Extent{0, static_cast<std::int64_t>(segment.count * size)};
      };
      reached = reached && both(segment.source, segment.destination, extent(conversion.source_size()),
                                extent(conversion.destination_size()));
    }
    work->conversion.segments = work->segments.data();
  }
  if (conversion.tally != nullptr && reached) {
    std::byte* tally = nullptr;
    reached = reach(conversion.tally, {0, sizeof(Tally)}, tally, nullptr);
    work->conversion.tally = reinterpret_cast<Tally*>(tally);
  }
  if (!reached) {
    violate("a kernel was given memory that the device cannot reach");
    return Status::illegal_address;
  }
  stream.enqueue(std::move(work));
  counters_[2].fetch_add(1, std::memory_order_relaxed);
  counters_[5].fetch_add(read_mapped, std::memory_order_relaxed);
  counters_[6].fetch_add(written_mapped, std::memory_order_relaxed);
  return Status::ok;
}

void Simulated::recycled(void* memory, std::size_t bytes) noexcept { std::memset(memory, recycled_slot, bytes); }

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
