// Casts of several tensors on one device: what is dense on both sides shares launches.
#include <algorithm>
#include <string>
#include <vector>

#include "cast/loss.h"
#include "engine.h"
#include "launches.h"
#include "requirements.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

// Launches of one kind, being filled.
struct Batch {
  Conversion common{};
  std::vector<Segment> segments;
};

bool is_alike(const Conversion& a, const Conversion& b) noexcept {
  return is_dtype(a.from, b.from) && is_dtype(a.to, b.to) && a.from_scalars == b.from_scalars &&
         a.to_scalars == b.to_scalars;
}

// Dense elements that are found by counting, and scaled by one number if at all.
bool can_share(const TransferPlan& plan, const Conversion& work) noexcept {
  return !plan.strided && work.affine.count <= 1 && work.from_scalars == work.to_scalars;
}

}  // namespace

std::vector<TransferPlan> Engine::plan_many_on_device(std::span<const TensorView> sources,
                                                      std::span<const MutableView> destinations,
                                                      const TransferOptions& options) {
  if (sources.size() != destinations.size()) {
    throw Error(Reason::out_mismatch, std::to_string(sources.size()) + " sources, but " +
                                          std::to_string(destinations.size()) + " destinations");
  }
  std::vector<TransferPlan> plans;
  plans.reserve(sources.size());
  for (std::size_t i = 0; i < sources.size(); ++i) {
    plans.push_back(plan_on_device(sources[i], options, &destinations[i]));
    require_storage(sources[i], "source");
    require_disjoint_elements(destinations[i]);
    require_apart(sources[i], destinations[i], options.cast);
    if (sources[i].device.id != sources[0].device.id) {
      throw Error(Reason::device, "the tensors are on several CUDA devices", "cast those of each device by themselves");
    }
  }
  return plans;
}

void Engine::cast_many_on_device_into(std::span<const TensorView> sources, std::span<const MutableView> destinations,
                                      const TransferOptions& options) {
  const std::vector<TransferPlan> plans = plan_many_on_device(sources, destinations, options);
  if (options.cast.report != nullptr) *options.cast.report = {};
  if (sources.empty()) return;
  require_at_home();
  const int device = sources[0].device.id;
  const DeviceScope scope(backend_, device);
  // 1. What is counted or checked, of all of them, before any destination is touched.
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (options.cast.report != nullptr && !plans[i].counts) options.cast.report->count += plans[i].elements;
    if (!plans[i].counts || plans[i].chunks == 0) continue;
    Report part;
    TransferOptions counting = options;
    if (options.cast.report != nullptr) counting.cast.report = &part;
    const halfway::detail::SampleName name{static_cast<std::int64_t>(i)};
    Channel& there = begin(device, options.stream);
    cast_counted(there, plans[i], sources[i], destinations[i], counting, Counted::alone, &name);
    if (options.cast.report != nullptr) *options.cast.report += part;
  }
  // 2. The casts.
  std::vector<Batch> batches;
  const auto launch = [&](Batch& batch) {
    batch.common.segments = batch.segments.data();
    batch.common.segment_count = static_cast<std::uint32_t>(batch.segments.size());
    require(backend_, backend_.launch(batch.common, options.stream), "launching a kernel");
    batch.segments.clear();
  };
  try {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (plans[i].chunks == 0) continue;
      const Conversion work = launch_on_device(plans[i], sources[i], destinations[i], options.cast);
      if (!can_share(plans[i], work)) {
        require(backend_, backend_.launch(work, options.stream), "launching a kernel");
        continue;
      }
      auto batch =
          std::find_if(batches.begin(), batches.end(), [&](const Batch& b) { return is_alike(b.common, work); });
      if (batch == batches.end()) batch = batches.insert(batch, Batch{work, {}});
      batch->segments.push_back({work.source, work.destination, work.count});
      if (batch->segments.size() == Conversion::most_segments) launch(*batch);
    }
    for (Batch& batch : batches) {
      if (!batch.segments.empty()) launch(batch);
    }
  } catch (...) {
    // Launches before the one that failed may still run.
    Channel& there = channel(device);
    const std::lock_guard<std::mutex> lock(there.mutex());
    there.settle(options.stream);
    throw;
  }
}

std::vector<Tensor> Engine::cast_many_on_device(std::span<const TensorView> sources, const TransferOptions& options) {
  std::vector<Tensor> results;
  std::vector<MutableView> views;
  results.reserve(sources.size());
  views.reserve(sources.size());
  for (const TensorView& source : sources) {
    const TransferPlan plan = plan_on_device(source, options);
    require_at_home();
    const DeviceScope scope(backend_, source.device.id);
    static_cast<void>(channel(source.device.id));
    results.push_back(allocate_there(source, plan.to, source.device.id, options));
  }
  for (Tensor& result : results) views.push_back(result.mutable_view());
  cast_many_on_device_into(sources, views, options);
  return results;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
