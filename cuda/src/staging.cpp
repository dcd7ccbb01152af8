#include "staging.h"

#include <utility>

#include "planted.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

Ring::Ring(Backend& backend, StagingSizes sizes)
    : backend_(backend),
      sizes_(sizes),
      slots_(static_cast<std::size_t>(sizes.slots)),
      scratch_(static_cast<std::size_t>(sizes.scratch)) {}

Event Ring::make_event() {
  Event event = nullptr;
  require(backend_, backend_.create_event(event), "making an event");
  return event;
}

Slot& Ring::take(std::uint64_t chunk) {
  Slot& slot = slots_[(slot_ + chunk) % slots_.size()];
  if (slot.memory == nullptr) {
    require(backend_, backend_.allocate_pinned(sizes_.slot_bytes, slot.memory), "allocating pinned memory");
  }
  if (slot.mapped == nullptr) {
    PointerTraits traits;
    require(backend_, backend_.pointer_traits(slot.memory, traits), "asking for a mapped address");
    slot.mapped = traits.device_address;
  }
  if (!has_bug(Bug::drop_slot_wait)) await(slot);
  if (std::exchange(slot.lent, false)) slot.touched = nullptr;  // whoever borrowed it destroys it
  if (slot.touched == nullptr) slot.touched = make_event();
  backend_.recycled(slot.memory, sizes_.slot_bytes);
  return slot;
}

void Ring::prefer_free() noexcept {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const std::size_t place = (slot_ + i) % slots_.size();
    Slot& slot = slots_[place];
    if (slot.in_use && backend_.query(slot.touched) != Status::ok) continue;
    slot.in_use = false;
    slot_ = place;
    return;
  }
}

void Ring::used(Slot& slot, Stream stream) {
  require(backend_, backend_.record(slot.touched, stream), "recording an event");
  slot.in_use = true;
}

void Ring::await(Slot& slot) {
  if (!slot.in_use) return;
  require(backend_, backend_.synchronize(slot.touched), "waiting for a pinned slot");
  slot.in_use = false;
}

Event Ring::lend() noexcept {
  Slot& slot = slots_[(slot_ + slots_.size() - 1) % slots_.size()];
  slot.lent = true;
  return slot.touched;
}

void Ring::take_back(Event event, bool passed) noexcept {
  for (Slot& slot : slots_) {
    if (slot.touched != event) continue;
    slot.lent = false;
    if (passed) slot.in_use = false;
    return;
  }
  static_cast<void>(backend_.destroy_event(event));
}

Scratch& Ring::next_scratch(Stream copies) {
  Scratch& scratch = scratch_[chunk_];
  if (scratch.filled == nullptr) scratch.filled = make_event();
  if (scratch.read == nullptr) scratch.read = make_event();
  if (scratch.memory == nullptr) {
    require(backend_, backend_.allocate(sizes_.slot_bytes, scratch.memory), "allocating device memory");
  }
  if (scratch.in_use && !has_bug(Bug::drop_scratch_wait)) {
    require(backend_, backend_.wait(copies, scratch.read), "ordering streams");
  }
  chunk_ = (chunk_ + 1) % scratch_.size();
  return scratch;
}

void Ring::filled(Scratch& scratch, Stream copies, Stream kernels) {
  if (copies == kernels) return;
  require(backend_, backend_.record(scratch.filled, copies), "recording an event");
  if (has_bug(Bug::drop_filled_wait)) return;
  require(backend_, backend_.wait(kernels, scratch.filled), "ordering streams");
}

void Ring::read(Scratch& scratch, Stream kernels) {
  require(backend_, backend_.record(scratch.read, kernels), "recording an event");
  scratch.in_use = true;
}

void Ring::reset() noexcept {
  for (Slot& slot : slots_) slot.in_use = false;
  for (Scratch& scratch : scratch_) scratch.in_use = false;
}

bool Ring::settle() noexcept {
  bool answered = true;
  const auto await = [&](bool in_use, Event event) {
    if (in_use && backend_.synchronize(event) != Status::ok) answered = false;
  };
  for (const Slot& slot : slots_) await(slot.in_use, slot.touched);
  for (const Scratch& scratch : scratch_) await(scratch.in_use, scratch.read);
  reset();
  return answered;
}

void Ring::release() noexcept {
  const auto destroy = [&](Event event) {
    if (event != nullptr) static_cast<void>(backend_.destroy_event(event));
  };
  for (Slot& slot : slots_) {
    if (!slot.lent) destroy(slot.touched);
    if (slot.memory != nullptr) static_cast<void>(backend_.free_pinned(slot.memory));
    slot = {};
  }
  for (Scratch& scratch : scratch_) {
    destroy(scratch.filled);
    destroy(scratch.read);
    if (scratch.memory != nullptr) static_cast<void>(backend_.free(scratch.memory));
    scratch = {};
  }
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
