#include "mover.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "nest.h"

namespace halfway {
inline namespace v0 {
namespace detail {

Mover::Mover(const Kernels& kernels, std::size_t size, std::size_t swap_unit) noexcept : size_(size), unit_(swap_unit) {
  if (std::has_single_bit(size) && size <= largest_moved) {
    loops_ = &kernels.moves[static_cast<std::size_t>(std::countr_zero(size))];
  }
  if (swap_unit > 1 && std::has_single_bit(swap_unit) && swap_unit <= sizeof(std::uint64_t)) {
    const std::size_t row = static_cast<std::size_t>(std::countr_zero(swap_unit)) - 1;
    swap_ = kernels.swaps[row];
    if (row < kernels.swaps_streamed.size()) swap_streamed_ = kernels.swaps_streamed[row];
  }
}

void Mover::swap(const std::byte* source, std::byte* destination, std::size_t n) const noexcept {
  if (swap_ != nullptr) return swap_(source, destination, n * (size_ / unit_));
  if (source != destination) std::memcpy(destination, source, n * size_);
  swap_run(destination, static_cast<std::int64_t>(size_), static_cast<std::int64_t>(n), size_, unit_);
}

bool Mover::swap_streamed(const std::byte* source, std::byte* destination, std::size_t n) const noexcept {
  if (swap_streamed_ == nullptr || reinterpret_cast<std::uintptr_t>(destination) % unit_ != 0) return false;
  swap_streamed_(source, destination, n * (size_ / unit_));
  return true;
}

void Mover::gather(const std::byte* source, std::int64_t stride, std::byte* run, std::size_t n) const noexcept {
  if (stride == static_cast<std::int64_t>(size_)) {
    if (swaps()) return swap(source, run, n);
    if (source != run) std::memcpy(run, source, n * size_);
    return;
  }
  if (loops_ != nullptr) {
    loops_->gather(source, stride, run, n);
  } else if (source != run || n > 1) {
    copy_run(source, stride, run, static_cast<std::int64_t>(size_), static_cast<std::int64_t>(n), size_);
  }
  if (swaps()) swap(run, run, n);
}

void Mover::scatter(const std::byte* run, std::byte* destination, std::int64_t stride, std::size_t n) const noexcept {
  const auto step = static_cast<std::int64_t>(size_);
  if (stride == step) {
    if (swaps()) return swap(run, destination, n);
    if (run != destination) std::memcpy(destination, run, n * size_);
    return;
  }
  copy_run(run, step, destination, stride, static_cast<std::int64_t>(n), size_);
  if (swaps()) swap_run(destination, stride, static_cast<std::int64_t>(n), size_, unit_);
}

void Mover::transpose(const Lines& in, std::byte* rows, std::int64_t row_step) const noexcept {
  if (loops_ != nullptr) return loops_->transpose(in, rows, row_step);
  for (std::size_t j = 0; j < in.width; ++j) {
    copy_run(in.source + static_cast<std::int64_t>(j) * in.element_step, in.line_step,
             rows + static_cast<std::int64_t>(j) * row_step, static_cast<std::int64_t>(size_),
             static_cast<std::int64_t>(in.lines), size_);
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
