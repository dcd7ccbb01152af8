#include "pass.h"

#include <algorithm>
#include <mutex>

#include "converter.h"
#include "environment.h"
#include "parallel_run.h"
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

// The elements of a task: equal parts, whose borders are whole blocks, so that no two threads write to one cache line.
struct Share {
  std::int64_t begin;
  std::int64_t end;

  Share(std::int64_t count, std::int64_t tasks, std::int64_t index) noexcept {
    constexpr auto grain = static_cast<std::int64_t>(block_components);
    const std::int64_t grains = (count + grain - 1) / grain;
    begin = std::min(count, grains * index / tasks * grain);
    end = std::min(count, grains * (index + 1) / tasks * grain);
  }
};

template <class Work>
void split(std::int64_t count, std::size_t bytes_of_pair, const Work& work) noexcept {
  const std::int64_t tasks = task_count(count, bytes_of_pair);
  if (tasks == 1) return work(0, count);
  run_parallel(static_cast<int>(tasks), [&](int index) noexcept {
    const Share share(count, tasks, index);
    if (share.begin < share.end) work(share.begin, share.end);
  });
}

bool is_contiguous_pair(const Nest& nest, const Elements& from, const Elements& to) noexcept {
  const auto step = [&](std::int64_t stride, std::size_t size) {
    return nest.count == 1 || stride == static_cast<std::int64_t>(size);
  };
  return nest.ndim == 1 && from.swap_unit == 1 && to.swap_unit == 1 && step(nest.source_strides[0], from.size) &&
         (nest.destination == nullptr || step(nest.destination_strides[0], to.size));
}

bool is_worth_streaming(const Nest& nest, std::size_t size) noexcept {
  return nest.destination != nullptr && static_cast<std::size_t>(nest.count) * size >= streaming_bytes();
}

void copy_strided(const Nest& nest, std::size_t size, std::size_t swap_unit, std::int64_t begin,
                  std::int64_t end) noexcept {
  Cursor<const std::byte> in(nest, nest.source_strides, nest.source, begin);
  Cursor<std::byte> out(nest, nest.destination_strides, nest.destination, begin);
  // Swapped elements are turned round in place, piece by piece while they are in the cache.
  const std::int64_t most = swap_unit > 1 ? static_cast<std::int64_t>(block_components) : nest.count;
  for (std::int64_t left = end - begin; left > 0;) {
    const std::int64_t some = std::min({in.run(), most, left});
    copy_run(in.get(), in.stride(), out.get(), out.stride(), some, size);
    if (swap_unit > 1) swap_run(out.get(), out.stride(), some, size, swap_unit);
    in.advance(some);
    out.advance(some);
    left -= some;
  }
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
  const auto step = static_cast<std::int64_t>(size);
  const bool contiguous = nest.ndim == 1 && swap_unit == 1 &&
                          (nest.count == 1 || (nest.source_strides[0] == step && nest.destination_strides[0] == step));
  const bool streams = contiguous && is_worth_streaming(nest, size);
  split(nest.count, 2 * size, [&](std::int64_t begin, std::int64_t end) noexcept {
    if (streams) {
      kernels.stream(nest.destination + begin * step, nest.source + begin * step,
                     static_cast<std::size_t>(end - begin) * size, nullptr, 0);
      order_streamed_stores();
    } else {
      copy_strided(nest, size, swap_unit, begin, end);
    }
  });
}

void convert_pass(const Kernels& kernels, const Nest& nest, const Elements& from, const Elements& to, bool saturate,
                  Tally* tally, const Transform* transform, const Positions* positions) noexcept {
  const Route route = transform == nullptr ? Route::between(kernels, from.dtype, to.dtype, saturate)
                                           : Route::between(kernels, from.dtype, to.dtype, saturate,
                                                            {transform->affine, transform->stochastic});
  const bool contiguous = is_contiguous_pair(nest, from, to);
  const Pass pass{.kernels = kernels,
                  .nest = nest,
                  .from = from,
                  .to = to,
                  .route = route,
                  .transform = route.affine != nullptr || route.stochastic != nullptr ? transform : nullptr,
                  .positions = positions,
                  .counts = tally != nullptr,
                  .contiguous = contiguous,
                  .streams = contiguous && is_worth_streaming(nest, to.size)};
  std::mutex adding;
  split(nest.count, from.size + to.size, [&](std::int64_t begin, std::int64_t end) noexcept {
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
