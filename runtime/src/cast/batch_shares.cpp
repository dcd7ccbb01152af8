#include "batch_shares.h"

#include <algorithm>

#include "halfway/layout.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): of `begins_` only what deal() has set is read
BatchShares::BatchShares(std::span<const TensorView> samples, std::size_t row_bytes, std::size_t bytes, bool even,
                         std::int64_t worth) noexcept
    : samples_(samples), row_bytes_(row_bytes), tasks_(worth) {
  const auto count = std::max(static_cast<std::int64_t>(samples.size()), std::int64_t{1});
  if (even || worth == 1) {
    // Few samples are cut into pieces, many are dealt out in runs.
    pieces_ = count >= worth ? 1 : (worth + count - 1) / count;
    if (pieces_ > 1) tasks_ = count * pieces_;
    return;
  }
  tasks_ = std::min(worth, most_uneven);
  deal(bytes);
}

void BatchShares::deal(std::size_t bytes) noexcept {
  const auto tasks = static_cast<std::size_t>(tasks_);
  piece_bytes_ = std::max(bytes / (tasks * pieces_a_task), std::size_t{1});
  std::size_t next = 0;
  std::size_t done = 0;
  const auto count = static_cast<std::int64_t>(samples_.size());
  for (std::int64_t sample = 0; sample < count; ++sample) {
    const std::size_t size = bytes_of(sample);
    const std::int64_t all = pieces(sample);
    for (std::int64_t piece = 0; piece < all; ++piece) {
      const std::size_t begin = done + size / static_cast<std::size_t>(all) * static_cast<std::size_t>(piece);
      for (; next < tasks && begin >= bytes / tasks * next; ++next) begins_[next] = {sample, piece};
    }
    done += size;
  }
  std::fill(begins_.begin() + static_cast<std::ptrdiff_t>(next), begins_.begin() + tasks_ + 1, Place{count, 0});
}

std::size_t BatchShares::bytes_of(std::int64_t sample) const noexcept {
  const TensorView& view = samples_[static_cast<std::size_t>(sample)];
  return static_cast<std::size_t>(element_count(view.shape).value_or(0)) * view.element_size() + row_bytes_;
}

std::int64_t BatchShares::pieces(std::int64_t sample) const noexcept {
  if (pieces_ != 0) return pieces_;
  return static_cast<std::int64_t>(std::max((bytes_of(sample) + piece_bytes_ - 1) / piece_bytes_, std::size_t{1}));
}

BatchShares::Place BatchShares::begin(std::int64_t task) const noexcept {
  if (pieces_ == 0) return begins_[static_cast<std::size_t>(task)];
  const std::int64_t unit = static_cast<std::int64_t>(samples_.size()) * pieces_ * task / tasks_;
  return {unit / pieces_, unit % pieces_};
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
