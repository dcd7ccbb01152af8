#include "channel.h"

#include <iterator>

#include "planted.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

Channel::Channel(Backend& backend, int device, StagingSizes sizes)
    : backend_(backend), device_(device), ring_(backend, sizes), counting_(backend) {}

Channel::~Channel() = default;

void Channel::prepare() {
  if (copies_ == nullptr) require(backend_, backend_.create_stream(copies_), "making a stream");
  if (kernels_ == nullptr) require(backend_, backend_.create_stream(kernels_), "making a stream");
}

const DeviceTraits& Channel::traits() {
  if (!has_traits_) {
    require(backend_, backend_.traits(device_, traits_), "asking for the device's properties");
    has_traits_ = true;
  }
  return traits_;
}

Event Channel::take_event() {
  if (!spare_.empty()) {
    Event event = spare_.back();
    spare_.pop_back();
    return event;
  }
  spare_.reserve(events_ + 1);  // so that giving it back needs no memory
  Event event = nullptr;
  require(backend_, backend_.create_event(event), "making an event");
  ++events_;
  return event;
}

Lanes Channel::follow(Stream caller) {
  prepare();
  const Lanes lanes{copies_, kernels_};
  Event reached = take_event();
  // Waits mean the mark as it is now: the event may be used anew at once.
  spare_.push_back(reached);
  require(backend_, backend_.record(reached, caller), "recording an event on the caller's stream");
  if (has_bug(Bug::forget_caller_order)) return lanes;
  require(backend_, backend_.wait(copies_, reached), "ordering streams");
  require(backend_, backend_.wait(kernels_, reached), "ordering streams");
  return lanes;
}

Event Channel::mark(Stream stream) {
  Event done = take_event();
  const Status status = backend_.record(done, stream);
  if (status != Status::ok) {
    give_back(done);
    fail(backend_, status, "recording an event");
  }
  return done;
}

void Channel::await(Stream stream) {
  Event done = mark(stream);
  const Status status = backend_.synchronize(done);
  give_back(done);
  require(backend_, status, "waiting for a stream");
}

Event Channel::lead(Stream last, Stream caller) {
  Event done = mark(last);
  const Status status = has_bug(Bug::forget_consumer_wait) ? Status::ok : backend_.wait(caller, done);
  if (status != Status::ok) {
    give_back(done);
    fail(backend_, status, "ordering the caller's stream behind the transfer");
  }
  return done;
}

void Channel::settle(Stream caller) noexcept {
  if (has_bug(Bug::forget_to_settle)) return ring_.reset();
  // Slots stay in use: those of this transfer have passed their events now, others' are still guarded by theirs.
  if (backend_.synchronize_stream(caller) != Status::ok) static_cast<void>(backend_.synchronize_device());
  settle_own();
}

void Channel::settle_device() noexcept {
  if (has_bug(Bug::forget_to_settle)) return ring_.reset();
  static_cast<void>(backend_.synchronize_device());
}

void Channel::settle_own() noexcept {
  for (Stream stream : {copies_, kernels_}) {
    if (stream == nullptr || backend_.synchronize_stream(stream) == Status::ok) continue;
    static_cast<void>(backend_.synchronize_device());
  }
}

bool Channel::is_done(Event event) noexcept {
  const Status status = backend_.query(event);
  if (status == Status::not_ready) return false;
  if (status == Status::ok || backend_.synchronize(event) == Status::ok) return true;
  static_cast<void>(backend_.synchronize_device());
  return true;
}

KeptList Channel::collect() noexcept {
  KeptList done;
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    const auto next = std::next(kept);
    if (is_done(kept->event)) {
      give_back(kept->event);
      done.splice(done.end(), kept_, kept);
    }
    kept = next;
  }
  return done;
}

KeptList Channel::finish() noexcept {
  settle_own();
  if (!ring_.settle()) static_cast<void>(backend_.synchronize_device());
  KeptList done;
  done.swap(kept_);
  for (const Kept& kept : done) {
    const bool waits = !has_bug(Bug::drop_kept_wait);
    if (waits && backend_.synchronize(kept.event) != Status::ok) static_cast<void>(backend_.synchronize_device());
    give_back(kept.event);
  }
  return done;
}

KeptList Channel::release() noexcept {
  KeptList done = finish();
  ring_.release();
  counting_.release();
  for (Event event : spare_) static_cast<void>(backend_.destroy_event(event));
  events_ -= spare_.size();
  spare_.clear();
  for (Stream* const stream : {&copies_, &kernels_}) {
    if (*stream != nullptr) static_cast<void>(backend_.destroy_stream(*stream));
    *stream = nullptr;
  }
  return done;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
