#include "engine.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "halfway/layout.h"
#include "halfway/parallel.h"
#include "plan_words.h"
#include "planted.h"
#include "requirements.h"
#include "views.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

// Of several chunks one crosses while another is cast on the device; or they are enqueued by the threads of the host's
// pass, on each of which cudaStreamPerThread would be another stream. A lone chunk goes to the caller's stream.
bool needs_own_streams(const TransferPlan& plan) noexcept {
  return plan.chunks > 1 && (plan.staged || (plan.copy_engine && plan.kernel));
}

}  // namespace

Engine::Engine(Backend& backend, EngineSizes sizes) : backend_(backend), sizes_(std::move(sizes)) {}

Engine::~Engine() {
  if (!is_at_home()) {
    // What a forked child inherited is its parent's: left alone, and never freed here.
    for (std::unique_ptr<Channel>& channel : channels_) {
      static_cast<void>(channel.release());  // NOLINT(bugprone-unused-return-value)
    }
    return;
  }
  int current = 0;
  const bool restores = backend_.current_device(current) == Status::ok;
  for (const std::unique_ptr<Channel>& channel : channels_) {
    if (channel == nullptr) continue;
    static_cast<void>(backend_.set_device(channel->device()));
    static_cast<void>(channel->release());
  }
  if (restores) static_cast<void>(backend_.set_device(current));
}

void Engine::require_at_home() const {
  if (is_at_home()) return;
  throw Error(Reason::unavailable, "this process was forked from one that used a CUDA device",
              "start workers by spawn, or let the parent transfer");
}

Status Engine::device_count(int& count) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    count = static_cast<int>(channels_.size());
  }
  return count > 0 ? Status::ok : backend_.device_count(count);
}

Channel& Engine::channel(int device) {
  require_at_home();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (channels_.empty()) {
    int count = 0;
    require(backend_, backend_.device_count(count), "counting devices");
    if (count == 0) fail(backend_, Status::no_device, "counting devices");
    channels_.resize(static_cast<std::size_t>(count));
    home_ = process_id();
  }
  const auto index = static_cast<std::size_t>(device);
  if (device < 0 || index >= channels_.size()) {
    throw Error(Reason::device, "there is no CUDA device " + std::to_string(device),
                "there are " + std::to_string(channels_.size()) + "; CUDA_VISIBLE_DEVICES says which ones");
  }
  if (channels_[index] == nullptr) {
    const StagingSizes staging{sizes_.machine.chunk, sizes_.slots, sizes_.scratch};
    channels_[index] = std::make_unique<Channel>(backend_, device, staging);
  }
  return *channels_[index];
}

// Requires: the device is current.
Channel& Engine::begin(int device, void* stream) {
  Channel& there = channel(device);
  require_no_capture(backend_, stream);
  KeptList done;  // released when the lock is not held
  const std::lock_guard<std::mutex> lock(there.mutex());
  done = there.collect();
  return there;
}

Machine Engine::machine() const {
  Machine machine;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    machine = sizes_.machine;
  }
  if (machine.cores == 0) machine.cores = num_threads();
  return machine;
}

void Engine::set_machine(const Machine& machine) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::uint64_t chunk = sizes_.machine.chunk;
  sizes_.machine = machine;
  sizes_.machine.chunk = chunk;
}

HostMemory Engine::host_memory(const TensorView& view, Channel& channel) {
  const std::optional<Extent> bytes = extent(view);
  if (!bytes || view.data == nullptr || bytes->high <= bytes->low) return HostMemory::pageable;
  // Memory is pinned as a whole where both of its ends are of one allocation. Ends that were locked one by one say
  // nothing about what is between them.
  std::array<PointerTraits, 2> ends;
  const auto* const data = static_cast<const std::byte*>(view.data);
  require(backend_, backend_.pointer_traits(data + bytes->low, ends[0]), "looking at a pointer");
  // What is not pinned at one end is not looked at again.
  if (ends[0].kind == PointerTraits::Kind::pinned) {
    require(backend_, backend_.pointer_traits(data + bytes->high - 1, ends[1]), "looking at a pointer");
  }
  if (ends[0].kind == PointerTraits::Kind::device) {
    throw Error(Reason::device, "a tensor that is said to be in host memory is in device memory");
  }
  const auto distance =
      static_cast<std::byte*>(ends[1].device_address) - static_cast<std::byte*>(ends[0].device_address);
  if (ends[0].kind == PointerTraits::Kind::pinned && ends[1].kind == PointerTraits::Kind::pinned &&
      ends[0].allocation != 0 && ends[0].allocation == ends[1].allocation && distance == bytes->high - 1 - bytes->low) {
    return HostMemory::pinned;
  }
  const std::lock_guard<std::mutex> lock(channel.mutex());
  return channel.traits().coherent ? HostMemory::coherent : HostMemory::pageable;
}

TransferPlan Engine::plan(const TensorView& source, Channel& channel, TransferWish wish, halfway::detail::Words words) {
  const TensorView* host = nullptr;
  TensorView destination;
  const Machine machine = this->machine();
  wish.host = HostMemory::pageable;
  if (wish.direction == Direction::to_device && halfway::detail::is_small_transfer(source, wish.to, machine)) {
    // The host reads it, whatever it is: what asking the driver twice costs, the transfer costs.
    return halfway::detail::plan_transfer(source, wish, machine, words);
  }
  if (wish.direction == Direction::to_device) {
    host = &source;
  } else if (wish.destination != nullptr) {
    destination = *wish.destination;
    host = &destination;
  }
  if (host != nullptr) {
    wish.host = host_memory(*host, channel);
  } else if (!wish.deferred) {
    const std::lock_guard<std::mutex> lock(channel.mutex());
    if (channel.traits().coherent) wish.host = HostMemory::coherent;
  }
  return halfway::detail::plan_transfer(source, wish, machine, words);
}

void* Engine::mapped_address(const void* memory) {
  PointerTraits traits;
  require(backend_, backend_.pointer_traits(memory, traits), "asking for a mapped address");
  // Coherent memory has the same address on both sides.
  return traits.kind == PointerTraits::Kind::pinned ? traits.device_address : const_cast<void*>(memory);
}

// --- to the device

TransferPlan Engine::plan_to_device(const TensorView& source, const TransferOptions& options,
                                    const MutableView* destination) {
  require_on_host(source, "source");
  if (destination != nullptr) {
    require_on_device(*destination, "destination");
    require_result(result_shape(source.shape, options.cast), *destination);
  }
  const int device = destination != nullptr ? destination->device.id : options.device;
  const DType to = destination != nullptr ? destination->dtype : options.dtype.value_or(source.dtype);
  Channel& there = channel(device);
  const DeviceScope scope(backend_, device);
  return plan(source, there, {.to = to, .options = options.cast, .destination = destination},
              halfway::detail::Words::all);
}

Tensor Engine::to_device(const TensorView& source, Tensor owner, const TransferOptions& options) {
  require_on_host(source, "source");
  require_at_home();
  const DeviceScope scope(backend_, options.device);
  Channel& there = begin(options.device, options.stream);
  const DType to = options.dtype.value_or(source.dtype);
  const TransferPlan plan =
      this->plan(source, there, {.to = to, .options = options.cast}, halfway::detail::Words::none);
  require_storage(source, "source");

  Tensor result = allocate_there(source, to, options.device, options);
  send(there, plan, source, std::move(owner), result.mutable_view(), options);
  return result;
}

// A fresh result of a source, on a device.
Tensor Engine::allocate_there(const TensorView& source, DType to, int device, const TransferOptions& options) {
  const std::vector<std::int64_t> shape = result_shape(source.shape, options.cast);
  PlainAllocator plain(*this);
  DeviceAllocator& allocator = options.allocator != nullptr ? *options.allocator : plain;
  const Device there{DeviceType::cuda, device};
  Tensor result = allocator.allocate(shape, to, there, options.stream);
  const TensorView view = result.view();
  if (view.dtype != to || view.device != there || !is_contiguous(view) ||
      !std::equal(shape.begin(), shape.end(), view.shape.begin(), view.shape.end())) {
    throw Error(Reason::out_mismatch, "the allocator gave a tensor of another dtype, shape, layout or device");
  }
  return result;
}

void Engine::to_device_into(const TensorView& source, Tensor owner, const MutableView& destination,
                            const TransferOptions& options) {
  require_on_host(source, "source");
  require_on_device(destination, "destination");
  require_at_home();
  const int device = destination.device.id;
  const DeviceScope scope(backend_, device);
  Channel& there = begin(device, options.stream);
  require_result(result_shape(source.shape, options.cast), destination);
  const TransferPlan plan =
      this->plan(source, there, {.to = destination.dtype, .options = options.cast, .destination = &destination},
                 halfway::detail::Words::none);
  require_storage(source, "source");
  require_disjoint_elements(destination);
  send(there, plan, source, std::move(owner), destination, options);
}

void Engine::send(Channel& channel, const TransferPlan& plan, const TensorView& source, Tensor owner,
                  const MutableView& destination, const TransferOptions& options) {
  if (plan.chunks == 0) {
    if (options.cast.report != nullptr) *options.cast.report = {};
    return;
  }
  // A cast that has to see everything first, before anything is enqueued.
  const Tensor cast_first = plan.whole ? cast(source, plan.to, options.cast) : Tensor();
  const bool reads_source = !plan.staged;  // the device, and not the host
  KeptList node;
  if (options.non_blocking && reads_source && owner) node.emplace_back();
  const bool on_own = needs_own_streams(plan);
  const bool waits = node.empty() && (reads_source || !options.non_blocking);
  // A kernel behind a copy engine runs when the slot is free already.
  const bool ends_with_slot = plan.staged && !(plan.copy_engine && plan.kernel);
  std::unique_lock<std::mutex> lock(channel.mutex());
  Done done;
  try {
    const Lanes lanes = on_own ? channel.follow(options.stream) : Lanes{options.stream, options.stream};
    Tally* const tally = plan.counts ? channel.counting().begin(lanes.kernels) : nullptr;
    enqueue_to_device(channel, plan, lanes, plan.whole ? cast_first.view() : source, options.cast, destination, tally);
    if (plan.counts) take_counts(channel, plan, options.cast, lanes.kernels);
    if (on_own) {
      done.event = channel.lead(plan.kernel ? lanes.kernels : lanes.copies, options.stream);
    } else if (waits && ends_with_slot) {
      done = {channel.ring().lend(), true};
    } else if (waits || !node.empty()) {
      done.event = channel.mark(options.stream);
    }
  } catch (...) {
    channel.settle(options.stream);
    throw;
  }
  if (has_bug(Bug::release_early)) owner.reset();
  if (!node.empty()) {
    node.front() = {done.event, std::move(owner), Tensor()};
    channel.keep(node);
  } else if (waits) {
    finish(channel, lock, done);
  } else if (done.event != nullptr) {
    channel.give_back(done.event);
  }
}

// Waits for what the kernels counted. The tally is the channel's: the lock is held meanwhile.
void Engine::take_counts(Channel& channel, const TransferPlan& plan, const CastOptions& options, Stream stream) {
  Counting& counting = channel.counting();
  counting.fetch(stream);
  if (!has_bug(Bug::drop_count_wait)) channel.await(stream);
  if (options.report == nullptr) return;
  const Tally& tally = counting.result();
  *options.report = {plan.elements, tally.nan, tally.overflow, tally.underflow, tally.inexact};
}

// Waits without the lock: the next transfer may begin.
void Engine::finish(Channel& channel, std::unique_lock<std::mutex>& lock, const Done& done) {
  lock.unlock();
  const Status status = backend_.synchronize(done.event);
  lock.lock();
  if (done.lent) {
    channel.ring().take_back(done.event, status == Status::ok);
  } else {
    channel.give_back(done.event);
  }
  if (status == Status::ok) return;
  channel.settle_device();
  lock.unlock();
  fail(backend_, status, "waiting for a transfer");
}

// --- to the host

TransferPlan Engine::plan_to_host_later(const TensorView& source, const TransferOptions& options) {
  require_on_device(source, "source");
  Channel& there = channel(source.device.id);
  const DeviceScope scope(backend_, source.device.id);
  return plan(source, there,
              {.direction = Direction::to_host,
               .to = options.dtype.value_or(source.dtype),
               .options = options.cast,
               .deferred = true},
              halfway::detail::Words::all);
}

TransferPlan Engine::plan_to_host(const TensorView& source, const TransferOptions& options,
                                  const MutableView* destination) {
  require_on_device(source, "source");
  Channel& there = channel(source.device.id);
  const DeviceScope scope(backend_, source.device.id);
  const DType to = destination != nullptr ? destination->dtype : options.dtype.value_or(source.dtype);
  if (destination != nullptr) {
    require_on_host(*destination, "destination");
    require_result(result_shape(source.shape, options.cast), *destination);
  }
  return plan(source, there,
              {.direction = Direction::to_host, .to = to, .options = options.cast, .destination = destination},
              halfway::detail::Words::all);
}

Tensor Engine::to_host(const TensorView& source, const TransferOptions& options) {
  require_on_device(source, "source");
  require_at_home();
  const int device = source.device.id;
  const DeviceScope scope(backend_, device);
  Channel& there = begin(device, options.stream);
  const DType to = options.dtype.value_or(source.dtype);
  const TransferPlan plan =
      this->plan(source, there, {.direction = Direction::to_host, .to = to, .options = options.cast},
                 halfway::detail::Words::none);
  require_storage(source, "source");
  if (plan.whole) {
    Tensor all = Tensor::allocate(source.shape, plan.wire);
    receive(there, plan, source, all.mutable_view(), options);
    return cast(all.view(), to, options.cast);
  }
  Tensor result = Tensor::allocate(result_shape(source.shape, options.cast), to);
  receive(there, plan, source, result.mutable_view(), options);
  return result;
}

void Engine::to_host_into(const TensorView& source, const MutableView& destination, const TransferOptions& options) {
  require_on_device(source, "source");
  require_on_host(destination, "destination");
  require_at_home();
  const int device = source.device.id;
  const DeviceScope scope(backend_, device);
  Channel& there = begin(device, options.stream);
  require_result(result_shape(source.shape, options.cast), destination);
  const TransferPlan plan = this->plan(
      source, there,
      {.direction = Direction::to_host, .to = destination.dtype, .options = options.cast, .destination = &destination},
      halfway::detail::Words::none);
  require_storage(source, "source");
  require_disjoint_elements(destination);
  if (!plan.whole) return receive(there, plan, source, destination, options);
  Tensor all = Tensor::allocate(source.shape, plan.wire);
  receive(there, plan, source, all.mutable_view(), options);
  cast_into(all.view(), destination, options.cast);
}

void Engine::receive(Channel& channel, const TransferPlan& plan, const TensorView& source,
                     const MutableView& destination, const TransferOptions& options) {
  if (plan.chunks == 0) {
    if (options.cast.report != nullptr) *options.cast.report = {};
    return;
  }
  std::unique_lock<std::mutex> lock(channel.mutex());
  Done done;
  try {
    const bool on_own = needs_own_streams(plan);
    const Lanes lanes = on_own ? channel.follow(options.stream) : Lanes{options.stream, options.stream};
    Stream stream = lanes.kernels;
    Tally* const tally = plan.counts ? channel.counting().begin(stream) : nullptr;
    if (plan.staged) {
      // All of it has been waited for at the end: the caller's stream need not wait.
      drain_to_host(channel, plan, lanes, source, destination, options.cast, tally);
      if (plan.counts) take_counts(channel, plan, options.cast, stream);
      return;
    }
    void* const memory = plan.kernel ? mapped_address(destination.data) : destination.data;
    enqueue_to_host(plan, options.cast, source, memory, stream, tally);
    if (plan.counts) take_counts(channel, plan, options.cast, stream);
    done.event = channel.mark(stream);
  } catch (...) {
    channel.settle(options.stream);
    throw;
  }
  finish(channel, lock, done);
}

std::unique_ptr<Deferred> Engine::to_host_later(Tensor source, const TransferOptions& options) {
  const TensorView view = source.view();
  require_on_device(view, "source");
  require_at_home();
  const int device = view.device.id;
  const DeviceScope scope(backend_, device);
  Channel& there = begin(device, options.stream);
  auto deferred = std::make_unique<Deferred>();
  deferred->engine = this;
  deferred->to = options.dtype.value_or(view.dtype);
  deferred->options = options.cast;
  const TransferPlan plan = this->plan(
      view, there, {.direction = Direction::to_host, .to = deferred->to, .options = options.cast, .deferred = true},
      halfway::detail::Words::none);
  require_storage(view, "source");
  Kept& held = deferred->held.emplace_back();
  if (plan.chunks == 0) {  // nothing to wait for, nor to cast
    if (options.cast.report != nullptr) *options.cast.report = Report{};
    held.second = allocate_pinned(*this, result_shape(view.shape, options.cast), deferred->to);
    return deferred;
  }
  deferred->casts = plan.whole;
  held.second = allocate_pinned(*this,
                                plan.whole ? std::vector<std::int64_t>(view.shape.begin(), view.shape.end())
                                           : result_shape(view.shape, options.cast),
                                plan.wire);
  const std::unique_lock<std::mutex> lock(there.mutex());
  try {
    void* const memory = held.second.mutable_view().data;
    enqueue_to_host(plan, options.cast, view, plan.kernel ? mapped_address(memory) : memory, options.stream);
    held.event = there.mark(options.stream);
    deferred->channel = &there;
  } catch (...) {
    there.settle(options.stream);
    throw;
  }
  held.first = std::move(source);
  return deferred;
}

// --- what is left

void Engine::collect() { take_from_all(&Channel::collect); }

void Engine::wait() { take_from_all(&Channel::finish); }

void Engine::trim() { take_from_all(&Channel::release); }

// What the channels let go of is released when their locks are not held.
void Engine::take_from_all(KeptList (Channel::*take)() noexcept) {
  require_at_home();
  std::vector<Channel*> all;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::unique_ptr<Channel>& channel : channels_) {
      if (channel != nullptr) all.push_back(channel.get());
    }
  }
  for (Channel* const channel : all) {
    const DeviceScope scope(backend_, channel->device());
    KeptList done;
    const std::lock_guard<std::mutex> lock(channel->mutex());
    done = (channel->*take)();
  }
}

// --- deferred results

Deferred::~Deferred() {
  if (channel == nullptr || !engine->is_at_home()) return;
  // Not asked for: what the device still uses is kept as a source is.
  const std::lock_guard<std::mutex> lock(channel->mutex());
  channel->keep(held);
}

bool Deferred::ready() {
  if (channel == nullptr) return true;
  engine->require_at_home();
  const DeviceScope scope(engine->backend(), channel->device());
  return engine->backend().query(held.front().event) != Status::not_ready;
}

Tensor Deferred::result() {
  if (held.empty()) throw Error(Reason::consumed, "the result has been handed over, or did not arrive");
  KeptList handed;  // released when no lock is held
  if (channel == nullptr) {
    handed.swap(held);
  } else {
    engine->require_at_home();
    const DeviceScope scope(engine->backend(), channel->device());
    Channel& there = *channel;
    std::unique_lock<std::mutex> lock(there.mutex());
    // Whatever comes of it, nothing is under way any more: what did not arrive must not be asked for again.
    channel = nullptr;
    handed.swap(held);
    engine->finish(there, lock, {handed.front().event, false});
  }
  Tensor& memory = handed.front().second;
  return casts ? cast(memory.view(), to, options) : std::move(memory);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
