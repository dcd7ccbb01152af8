#include "pass.h"

#include <algorithm>
#include <mutex>

#include "converter.h"
#include "copier.h"
#include "parallel_run.h"
#include "tiling.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// How many tasks a pass over that many bytes is worth. One: it is not worth a second thread.
std::int64_t task_count(std::int64_t elements, std::size_t bytes_of_pair) noexcept {
  const std::size_t bytes = static_cast<std::size_t>(elements) * bytes_of_pair;
  if (bytes < parallel_bytes) return 1;
  const int threads = num_threads();
  if (threads == 1) return 1;
  const std::size_t most = static_cast<std::size_t>(threads) * tasks_per_thread;
  return static_cast<std::int64_t>(std::clamp(bytes / task_bytes, std::size_t{1}, most));
}

// The elements of a task: equal parts, whose borders are whole grains.
struct Share {
  std::int64_t begin;
  std::int64_t end;

  Share(std::int64_t count, std::int64_t grain, std::int64_t tasks, std::int64_t index) noexcept {
    const std::int64_t grains = (count + grain - 1) / grain;
    begin = std::min(count, grains * index / tasks * grain);
    end = std::min(count, grains * (index + 1) / tasks * grain);
  }
};

// The elements of a nest, or its tiles, among threads.
template <class Work>
void split(const Nest& nest, const Tiling& tiling, std::size_t bytes_of_pair, const Work& work) noexcept {
  // Whole blocks, so that no two threads write to one cache line.
  const std::int64_t count = tiling.pays() ? tiling.count() : nest.count;
  const std::int64_t grain = tiling.pays() ? 1 : static_cast<std::int64_t>(block_components);
  const std::int64_t tasks = task_count(nest.count, bytes_of_pair);
  if (tasks == 1) return work(0, count);
  run_parallel(static_cast<int>(tasks), [&](int index) noexcept {
    const Share share(count, grain, tasks, index);
    if (share.begin < share.end) work(share.begin, share.end);
  });
}

bool is_step(const Nest& nest, std::int64_t stride, std::size_t size) noexcept {
  return nest.count == 1 || stride == static_cast<std::int64_t>(size);
}

bool is_contiguous_pair(const Nest& nest, std::size_t from_size, std::size_t to_size) noexcept {
  return nest.ndim == 1 && is_step(nest, nest.source_strides[0], from_size) &&
         (nest.destination == nullptr || is_step(nest, nest.destination_strides[0], to_size));
}

// Whether the destination is one run of elements in the order of the nest.
bool is_dense(const Nest& nest, std::size_t size) noexcept {
  auto step = static_cast<std::int64_t>(size);
  for (std::size_t i = nest.ndim; i-- > 0;) {
    if (nest.shape[i] != 1 && nest.destination_strides[i] != step) return false;
    step *= nest.shape[i];
  }
  return nest.destination != nullptr;
}

bool is_worth_streaming(const Nest& nest, std::size_t from_size, std::size_t size) noexcept {
  const std::size_t last = nest.ndim - 1;
  const auto step = static_cast<std::int64_t>(size);
  const bool in_runs = is_dense(nest, size) ||
                       (nest.destination_strides[last] == step && nest.shape[last] * step >= shortest_streamed_run);
  return nest.destination != nullptr && in_runs &&
         static_cast<std::size_t>(nest.count) * (from_size + size) >= streaming_bytes();
}

}  // namespace

Tally& Tally::operator+=(const Tally& other) noexcept {
  report.count += other.report.count;
  report.nan += other.report.nan;
  report.overflow += other.report.overflow;
  report.underflow += other.report.underflow;
  report.inexact += other.report.inexact;
  losses += other.losses;
  if (other.first_loss >= 0 && (first_loss < 0 || other.first_loss < first_loss)) first_loss = other.first_loss;
  return *this;
}

void copy_pass(const Kernels& kernels, const Nest& nest, std::size_t size, std::size_t swap_unit) noexcept {
  constexpr auto most_elements = static_cast<std::int64_t>(block_components);
  const Tiling tiling(nest, size, size, most_elements);
  const Copy copy{.kernels = kernels,
                  .nest = nest,
                  .tiling = tiling,
                  .size = size,
                  .swap_unit = swap_unit,
                  .streams = is_worth_streaming(nest, size, size)};
  split(nest, tiling, 2 * size, [&](std::int64_t begin, std::int64_t end) noexcept { Copier(copy).run(begin, end); });
}

void convert_pass(const Kernels& kernels, const Nest& nest, const Elements& from, const Elements& to, bool saturate,
                  Tally* tally, const Transform* transform, const Positions* positions) noexcept {
  const Route route = transform == nullptr ? Route::between(kernels, from.dtype, to.dtype, saturate)
                                           : Route::between(kernels, from.dtype, to.dtype, saturate,
                                                            {transform->affine, transform->stochastic});
  const Tiling tiling(nest, from.size, to.size, Converter::block_of(route));
  const bool contiguous = is_contiguous_pair(nest, from.size, to.size);
  const bool in_place = nest.source == nest.destination;
  const bool streams = is_worth_streaming(nest, from.size, to.size);
  const bool aligned = reinterpret_cast<std::uintptr_t>(nest.destination) % to.size == 0;
  const bool is_plain =
      transform == nullptr && contiguous && !in_place && from.swap_unit == 1 && to.swap_unit == 1 && !saturate;
  const bool has_loop = is_plain && ((streams && aligned) || nest.destination == nullptr);
  const FusedLoop* const fused = has_loop ? kernels.find_fused(from.dtype, to.dtype) : nullptr;
  const Pass pass{.kernels = kernels,
                  .nest = nest,
                  .from = from,
                  .to = to,
                  .route = route,
                  .tiling = tiling,
                  .transform = route.affine != nullptr || route.stochastic != nullptr ? transform : nullptr,
                  .positions = positions,
                  .counts = tally != nullptr,
                  .contiguous = contiguous,
                  .dense = is_dense(nest, to.size),
                  .in_place = in_place,
                  .streams = streams,
                  .streamed = fused != nullptr ? fused->streamed : nullptr,
                  .streamed_counted = fused != nullptr ? fused->streamed_counted : nullptr};
  std::mutex adding;
  split(nest, tiling, from.size + to.size, [&](std::int64_t begin, std::int64_t end) noexcept {
    Tally part{.watched = tally != nullptr ? tally->watched : 0};
    Converter(pass, &part).run(begin, end);
    if (tally != nullptr) {
      const std::lock_guard lock(adding);
      *tally += part;
    }
  });
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
