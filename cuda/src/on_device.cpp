// Casts from a device's memory into the same device's memory: one launch on the caller's stream, and nothing else.
#include <algorithm>
#include <array>
#include <utility>

#include "cast/loss.h"
#include "cast/operands.h"
#include "cast/permutation.h"
#include "engine.h"
#include "halfway/layout.h"
#include "launches.h"
#include "plan_words.h"
#include "planted.h"
#include "requirements.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
TransferPlan Engine::plan_on_device(const TensorView& source, const TransferOptions& options,
                                    const MutableView* destination, halfway::detail::Words words) {
  require_on_device(source, "source");
  DType to = options.dtype.value_or(source.dtype);
  if (destination != nullptr) {
    to = destination->dtype;
    require_on_device(*destination, "destination");
    if (destination->device.id != source.device.id) {
      throw Error(Reason::device,
                  "the source is on CUDA device " + std::to_string(source.device.id) + ", the destination on device " +
                      std::to_string(destination->device.id),
                  "copy between devices with the library that made them, and cast on one of them");
    }
    require_result(result_shape(source.shape, options.cast), *destination);
  }
  return halfway::detail::plan_transfer(
      source, {.direction = Direction::on_device, .to = to, .options = options.cast, .destination = destination},
      machine(), words);
}

Tensor Engine::cast_on_device(const TensorView& source, Tensor owner, const TransferOptions& options) {
  const TransferPlan plan = plan_on_device(source, options, nullptr, halfway::detail::Words::none);
  require_storage(source, "source");
  require_at_home();
  const int device = source.device.id;
  const DeviceScope scope(backend_, device);
  Channel& there = owner || plan.counts ? begin(device, options.stream) : channel(device);
  Tensor result = allocate_there(source, plan.to, device, options);
  launch_cast(there, plan, source, std::move(owner), result.mutable_view(), options);
  return result;
}

void Engine::cast_on_device_into(const TensorView& source, Tensor owner, const MutableView& destination,
                                 const TransferOptions& options) {
  const TransferPlan plan = plan_on_device(source, options, &destination, halfway::detail::Words::none);
  require_storage(source, "source");
  require_disjoint_elements(destination);
  require_apart(source, destination, options.cast);
  require_at_home();
  const int device = source.device.id;
  const DeviceScope scope(backend_, device);
  Channel& there = owner || plan.counts ? begin(device, options.stream) : channel(device);
  launch_cast(there, plan, source, std::move(owner), destination, options);
}

// Where nothing is to be kept no event is touched, so that the launch may be part of a graph.
void Engine::launch_cast(Channel& channel, const TransferPlan& plan, const TensorView& source, Tensor owner,
                         const MutableView& destination, const TransferOptions& options) {
  if (options.cast.report != nullptr) *options.cast.report = {.count = plan.elements};
  if (plan.chunks == 0) return;
  if (plan.counts) return cast_counted(channel, plan, source, destination, options);
  const Conversion work = launch_on_device(plan, source, destination, options.cast);
  if (!owner) return require(backend_, backend_.launch(work, options.stream), "launching a kernel");
  KeptList node;
  node.emplace_back();
  const std::lock_guard<std::mutex> lock(channel.mutex());
  Event done = has_bug(Bug::mark_early) ? channel.mark(options.stream) : nullptr;
  require(backend_, backend_.launch(work, options.stream), "launching a kernel");
  try {
    if (done == nullptr) done = channel.mark(options.stream);
  } catch (...) {
    channel.settle(options.stream);
    throw;
  }
  if (has_bug(Bug::release_early)) owner.reset();
  node.front() = {done, std::move(owner), Tensor()};
  channel.keep(node);
}

// Counts are waited for, and whatever is checked is known then: a destination that was there before is written by a
// launch of its own, a fresh one at once, and thrown away.
void Engine::cast_counted(Channel& channel, const TransferPlan& plan, const TensorView& source,
                          const MutableView& destination, const TransferOptions& options, Counted counted,
                          const halfway::detail::SampleName* name) {
  Conversion work = launch_on_device(plan, source, destination, options.cast);
  work.writes = plan.launches == 1 && counted == Counted::and_cast;
  halfway::detail::Tally losses;
  std::array<std::byte, 16> element{};
  const std::lock_guard<std::mutex> lock(channel.mutex());
  try {
    Counting& counting = channel.counting();
    work.tally = counting.begin(options.stream);
    require(backend_, backend_.launch(work, options.stream), "launching a kernel");
    take_counts(channel, plan, options.cast, options.stream);
    const Tally& tally = counting.result();
    losses.report = {plan.elements, tally.nan, tally.overflow, tally.underflow, tally.inexact};
    losses.losses = tally.losses;
    losses.first_loss = static_cast<std::int64_t>(tally.first_loss);
    if (tally.losses > 0) {
      const auto place = work.source_places.offset(tally.first_loss);
      const std::byte* const arrived = counting.fetch_element(static_cast<const std::byte*>(work.source) + place,
                                                              source.element_size(), options.stream);
      channel.await(options.stream);
      std::copy_n(arrived, source.element_size(), element.begin());
    } else if (!work.writes && counted == Counted::and_cast) {
      work.writes = true;
      work.tally = nullptr;
      require(backend_, backend_.launch(work, options.stream), "launching a kernel");
      channel.await(options.stream);
    }
  } catch (...) {
    channel.settle(options.stream);
    throw;
  }
  if (losses.losses == 0) return;
  const halfway::detail::Permutation permutation(options.cast, source.shape.size());
  std::array<std::int64_t, std::size_t{2} * max_ndim> geometry;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  // Every index of this view is the element that was found.
  const std::array<std::int64_t, max_ndim> nowhere{};
  TensorView lost = permutation.arranged(source, geometry);
  lost.data = element.data();
  lost.strides = std::span<const std::int64_t>(nowhere).first(lost.shape.size());
  halfway::detail::refuse_loss(
      lost, halfway::detail::elements_of(source), destination.dtype, options.cast, losses,
      [&](const std::vector<std::int64_t>& index) { return permutation.index_of_source(index); }, name);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
