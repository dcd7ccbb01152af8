#include "pass.h"

#include <algorithm>
#include <mutex>

#include "converter.h"
#include "copier.h"
#include "operands.h"
#include "parallel_run.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// The parts of a pass among threads.
template <class Work>
void split(const Pass& pass, const Work& work) noexcept {
  const std::size_t bytes = static_cast<std::size_t>(pass.nest.count) * (pass.from.size + pass.to.size);
  const std::int64_t tasks = task_count(bytes);
  if (tasks == 1) return work(pass.share(1, 0));
  run_parallel(static_cast<int>(tasks), useful_threads(bytes), [&](int index) noexcept {
    const Share share = pass.share(tasks, index);
    if (share.begin < share.end) work(share);
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

// Whether what is written has rows that are worth to be written past the caches.
bool has_long_rows(const Nest& nest, std::size_t size) noexcept {
  const std::size_t last = nest.ndim - 1;
  const auto step = static_cast<std::int64_t>(size);
  return nest.destination != nullptr && nest.destination_strides[last] == step &&
         nest.shape[last] * step >= shortest_streamed_run;
}

// Whether a pass reads and writes so much that what it writes is better not kept.
bool is_large(const Nest& nest, const Treatment& treatment) noexcept {
  return static_cast<std::size_t>(nest.count) * (treatment.from.size + treatment.to.size) >= streaming_bytes();
}

std::int64_t block_of(const Treatment& treatment) noexcept {
  return treatment.copies ? static_cast<std::int64_t>(block_components) : Converter::block_of(treatment.route);
}

}  // namespace

Tally& Tally::operator+=(const Tally& other) noexcept {
  report += other.report;
  losses += other.losses;
  if (other.first_loss >= 0 && (first_loss < 0 || other.first_loss < first_loss)) first_loss = other.first_loss;
  return *this;
}

std::int64_t task_count(std::size_t bytes) noexcept {
  if (bytes < parallel_bytes) return 1;
  const int threads = num_threads();
  if (threads == 1) return 1;
  const std::size_t most = static_cast<std::size_t>(threads) * tasks_per_thread;
  return static_cast<std::int64_t>(std::clamp(bytes / task_bytes, std::size_t{1}, most));
}

int useful_threads(std::size_t bytes) noexcept {
  return static_cast<int>(std::clamp(bytes / thread_bytes, std::size_t{2}, std::size_t{max_threads}));
}

Share::Share(std::int64_t count, std::int64_t grain, std::int64_t tasks, std::int64_t index) noexcept {
  const std::int64_t grains = (count + grain - 1) / grain;
  begin = std::min(count, grains * index / tasks * grain);
  end = std::min(count, grains * (index + 1) / tasks * grain);
}

Treatment Treatment::copy(const Elements& from, const Elements& to) noexcept {
  Treatment treatment;  // NOLINT(cppcoreguidelines-pro-type-member-init): there is no route
  treatment.from = from;
  treatment.to = to;
  // Turned round twice is as it was.
  treatment.from.swap_unit = from.swap_unit == to.swap_unit ? 1 : std::max(from.swap_unit, to.swap_unit);
  treatment.to.swap_unit = 1;
  treatment.copies = true;
  treatment.counts = false;
  treatment.streams = false;
  treatment.watched = 0;
  treatment.transform = nullptr;
  return treatment;
}

Treatment Treatment::conversion(const Kernels& kernels, const Elements& from, const Elements& to, bool saturate,
                                bool counts, convert::Flags watched, const Transform* transform) noexcept {
  const Route route = transform == nullptr ? Route::between(kernels, from.dtype, to.dtype, saturate)
                                           : Route::between(kernels, from.dtype, to.dtype, saturate,
                                                            {transform->affine, transform->stochastic});
  Treatment treatment{.from = from,
                      .to = to,
                      .copies = false,
                      .counts = counts,
                      .streams = false,
                      .watched = watched,
                      .route = route,
                      .transform = route.affine != nullptr || route.stochastic != nullptr ? transform : nullptr};
  if (from.swap_unit > 1 && !saturate && !counts && treatment.transform == nullptr && !route.copies) {
    const FusedLoop* const fused = kernels.find_fused(from.dtype, to.dtype);
    if (fused != nullptr && fused->swapping != nullptr) {
      treatment.loops_swap = true;
      treatment.route.single = fused->swapping;
      treatment.from.swap_unit = 1;
    }
  }
  return treatment;
}

Treatment Treatment::chosen(const Kernels& kernels, const Elements& from, const Elements& to,
                            const CastOptions& options, bool counts, const Transform* transform) noexcept {
  const bool converted = converts(from.dtype, to.dtype, options);
  if (!converted && (!counts || !has_nan(from.dtype))) {
    Treatment copied = copy(from, to);
    copied.counts = counts;
    return copied;
  }
  const convert::Flags watched = counts ? watched_flags(from.dtype, to.dtype, options) : convert::Flags{0};
  return conversion(kernels, from, to, converted && options.overflow == Overflow::saturate, counts, watched, transform);
}

Pass::Pass(const Kernels& used, const Treatment& done, const Nest& walked, const Positions* at) noexcept
    : kernels(used),
      treatment(done),
      nest(walked),
      from(done.from),
      to(done.to),
      route(done.route),
      tiling(walked, done.from.size, done.to.size, block_of(done)),
      transform(done.transform),
      positions(at),
      counts(done.counts),
      contiguous(is_contiguous_pair(walked, done.from.size, done.to.size)),
      dense(is_dense(walked, done.to.size)),
      in_place(walked.source == walked.destination),
      streams(done.streams && (dense || has_long_rows(walked, done.to.size))) {
  if (treatment.copies) return;
  const bool counts_alone = nest.destination == nullptr && contiguous;
  if (transform != nullptr || in_place || to.swap_unit != 1 || route.saturate || !(streams || counts_alone)) return;
  const FusedLoop* const fused = kernels.find_fused(from.dtype, to.dtype);
  if (fused == nullptr) return;
  streamed = treatment.loops_swap ? fused->swapping_streamed : fused->streamed;
  if (contiguous && from.swap_unit == 1) streamed_counted = fused->streamed_counted;
}

Share Pass::share(std::int64_t tasks, std::int64_t index) const noexcept {
  if (tiling.pays()) return {tiling.count(), 1, tasks, index};
  return {nest.count, static_cast<std::int64_t>(block_components), tasks, index};
}

void Pass::run(const Share& part, Tally& tally, Scratch& scratch, std::int64_t first) const noexcept {
  if (treatment.copies) {
    if (nest.destination == nullptr) return;
    const Copy copy{.kernels = kernels,
                    .nest = nest,
                    .tiling = tiling,
                    .size = to.size,
                    .swap_unit = from.swap_unit,
                    .streams = streams};
    return Copier(copy, scratch).run(part.begin, part.end);
  }
  Tally own{.watched = treatment.watched};
  Converter(*this, &own, scratch).run(part.begin, part.end);
  if (!counts) return;
  if (own.first_loss >= 0) own.first_loss += first;
  tally += own;
}

Tally run_pass(const Kernels& kernels, const Nest& nest, Treatment treatment, const Positions* positions) noexcept {
  treatment.streams = is_large(nest, treatment);
  const Pass pass(kernels, treatment, nest, positions);
  Tally total;
  std::mutex adding;
  split(pass, [&](const Share& share) noexcept {
    Scratch scratch;
    Tally part;
    pass.run(share, part, scratch);
    if (!treatment.counts || treatment.copies) return;
    const std::lock_guard lock(adding);
    total += part;
  });
  if (treatment.copies && treatment.counts) total.report.count = static_cast<std::uint64_t>(nest.count);
  return total;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
