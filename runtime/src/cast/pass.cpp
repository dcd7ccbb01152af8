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

template <class Work>
void split(std::int64_t count, std::size_t bytes_of_pair, const Work& work) noexcept {
  const std::int64_t tasks = task_count(static_cast<std::size_t>(count) * bytes_of_pair);
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

void copy_part(const Kernels& kernels, const Nest& nest, std::size_t size, std::size_t swap_unit, bool streams,
               std::int64_t begin, std::int64_t end) noexcept {
  if (!streams) return copy_strided(nest, size, swap_unit, begin, end);
  const auto step = static_cast<std::int64_t>(size);
  kernels.stream(nest.destination + begin * step, nest.source + begin * step,
                 static_cast<std::size_t>(end - begin) * size, nullptr, 0);
  order_streamed_stores();
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

std::int64_t task_count(std::size_t bytes) noexcept {
  if (bytes < parallel_bytes) return 1;
  const int threads = num_threads();
  if (threads == 1) return 1;
  const std::size_t most = static_cast<std::size_t>(threads) * tasks_per_thread;
  return static_cast<std::int64_t>(std::clamp(bytes / task_bytes, std::size_t{1}, most));
}

Share::Share(std::int64_t count, std::int64_t tasks, std::int64_t index) noexcept {
  constexpr auto grain = static_cast<std::int64_t>(block_components);
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
  return treatment;
}

Treatment Treatment::conversion(const Kernels& kernels, const Elements& from, const Elements& to, bool saturate,
                                bool counts, convert::Flags watched) noexcept {
  return {.from = from,
          .to = to,
          .copies = false,
          .counts = counts,
          .streams = false,
          .watched = watched,
          .route = Route::between(kernels, from.dtype, to.dtype, saturate)};
}

void run_part(const Kernels& kernels, const Treatment& treatment, const Nest& nest, std::int64_t begin,
              std::int64_t end, std::int64_t first_index, Tally& tally) noexcept {
  const bool contiguous = is_contiguous_pair(nest, treatment.from, treatment.to);
  const bool streams = treatment.streams && contiguous && nest.destination != nullptr;
  if (treatment.copies) {
    if (treatment.counts) tally.report.count += static_cast<std::uint64_t>(end - begin);
    if (nest.destination == nullptr) return;
    copy_part(kernels, nest, treatment.to.size, treatment.from.swap_unit, streams, begin, end);
    return;
  }
  const Pass pass{.kernels = kernels,
                  .nest = nest,
                  .from = treatment.from,
                  .to = treatment.to,
                  .route = treatment.route,
                  .counts = treatment.counts,
                  .contiguous = contiguous,
                  .streams = streams};
  Tally part{.watched = treatment.watched};
  Converter(pass, &part).run(begin, end);
  if (!treatment.counts) return;
  if (part.first_loss >= 0) part.first_loss += first_index;
  tally += part;
}

void copy_pass(const Kernels& kernels, const Nest& nest, std::size_t size, std::size_t swap_unit) noexcept {
  Treatment treatment = Treatment::copy({DType{}, size, swap_unit}, {DType{}, size, 1});
  treatment.streams = is_worth_streaming(nest, size);
  split(nest.count, 2 * size, [&](std::int64_t begin, std::int64_t end) noexcept {
    Tally none;
    run_part(kernels, treatment, nest, begin, end, 0, none);
  });
}

void convert_pass(const Kernels& kernels, const Nest& nest, const Elements& from, const Elements& to, bool saturate,
                  Tally* tally) noexcept {
  Treatment treatment = Treatment::conversion(kernels, from, to, saturate, tally != nullptr,
                                              tally != nullptr ? tally->watched : convert::Flags{0});
  treatment.streams = is_worth_streaming(nest, to.size);
  std::mutex adding;
  split(nest.count, from.size + to.size, [&](std::int64_t begin, std::int64_t end) noexcept {
    Tally part;
    run_part(kernels, treatment, nest, begin, end, 0, part);
    if (tally != nullptr) {
      const std::lock_guard lock(adding);
      *tally += part;
    }
  });
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
