#include "scratch.h"

#include <array>
#include <atomic>
#include <new>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// As many blocks as threads work at the same time on most machines; more are freed when they are given back.
constexpr std::size_t most_kept = 32;
constinit std::array<std::atomic<std::byte*>, most_kept> kept{};

constexpr std::align_val_t alignment{64};

std::byte* take() noexcept {
  for (std::atomic<std::byte*>& place : kept) {
    if (place.load(std::memory_order_relaxed) == nullptr) continue;
    std::byte* const block = place.exchange(nullptr, std::memory_order_acquire);
    if (block != nullptr) return block;
  }
  return nullptr;
}

void free(std::byte* block) noexcept { ::operator delete(block, alignment); }

void give(std::byte* block) noexcept {
  for (std::atomic<std::byte*>& place : kept) {
    std::byte* empty = place.load(std::memory_order_relaxed);
    if (empty != nullptr) continue;
    if (place.compare_exchange_strong(empty, block, std::memory_order_release, std::memory_order_relaxed)) return;
  }
  free(block);
}

}  // namespace

Scratch::~Scratch() {
  if (far_ != nullptr) give(far_);
}

std::byte* Scratch::get_far() noexcept {
  if (far_ == nullptr) far_ = take();
  if (far_ == nullptr) far_ = static_cast<std::byte*>(::operator new(most_bytes, alignment, std::nothrow));
  return far_;
}

void trim_scratch() noexcept {
  while (std::byte* const block = take()) free(block);
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
