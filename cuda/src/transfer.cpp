// The functions of transfer.h: one engine over the backend that ships.
#include "halfway/cuda/transfer.h"

#include <utility>

#include "engine.h"
#include "halfway/cuda/calibrate.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

Engine& shipped_engine() {
  // Tensors are released while the process ends, and the driver may be gone by then.
  static Engine* const instance = [] {
    EngineSizes sizes;
    sizes.machine.cores = 0;  // as many as casts use
    return new Engine(shipped_backend(), sizes);
  }();
  return *instance;
}

}  // namespace detail

using detail::shipped_engine;

Tensor to_device(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().to_device(source, Tensor(), options);
}

Tensor to_device(Tensor source, const TransferOptions& options) {
  const TensorView view = source.view();
  return shipped_engine().to_device(view, std::move(source), options);
}

void to_device_into(const TensorView& source, const MutableView& destination, const TransferOptions& options) {
  shipped_engine().to_device_into(source, Tensor(), destination, options);
}

void to_device_into(Tensor source, const MutableView& destination, const TransferOptions& options) {
  const TensorView view = source.view();
  shipped_engine().to_device_into(view, std::move(source), destination, options);
}

Tensor to_host(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().to_host(source, options);
}

void to_host_into(const TensorView& source, const MutableView& destination, const TransferOptions& options) {
  shipped_engine().to_host_into(source, destination, options);
}

Pending to_host_later(Tensor source, const TransferOptions& options) {
  return Pending(shipped_engine().to_host_later(std::move(source), options));
}

Tensor cast_on_device(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().cast_on_device(source, Tensor(), options);
}

Tensor cast_on_device(Tensor source, const TransferOptions& options) {
  const TensorView view = source.view();
  return shipped_engine().cast_on_device(view, std::move(source), options);
}

void cast_on_device_into(const TensorView& source, const MutableView& destination, const TransferOptions& options) {
  shipped_engine().cast_on_device_into(source, Tensor(), destination, options);
}

void cast_on_device_into(Tensor source, const MutableView& destination, const TransferOptions& options) {
  const TensorView view = source.view();
  shipped_engine().cast_on_device_into(view, std::move(source), destination, options);
}

std::vector<Tensor> cast_many_on_device(std::span<const TensorView> sources, const TransferOptions& options) {
  return shipped_engine().cast_many_on_device(sources, options);
}

void cast_many_on_device_into(std::span<const TensorView> sources, std::span<const MutableView> destinations,
                              const TransferOptions& options) {
  shipped_engine().cast_many_on_device_into(sources, destinations, options);
}

TransferPlan plan_to_device(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().plan_to_device(source, options);
}

TransferPlan plan_to_device_into(const TensorView& source, const MutableView& destination,
                                 const TransferOptions& options) {
  return shipped_engine().plan_to_device(source, options, &destination);
}

TransferPlan plan_to_host(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().plan_to_host(source, options);
}

TransferPlan plan_to_host_later(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().plan_to_host_later(source, options);
}

TransferPlan plan_to_host_into(const TensorView& source, const MutableView& destination,
                               const TransferOptions& options) {
  return shipped_engine().plan_to_host(source, options, &destination);
}

TransferPlan plan_cast_on_device(const TensorView& source, const TransferOptions& options) {
  return shipped_engine().plan_on_device(source, options);
}

TransferPlan plan_cast_on_device_into(const TensorView& source, const MutableView& destination,
                                      const TransferOptions& options) {
  return shipped_engine().plan_on_device(source, options, &destination);
}

int device_count() noexcept {
  int count = 0;
  return detail::shipped_backend().device_count(count) == detail::Status::ok ? count : 0;
}

std::string unavailable_because() {
  detail::Backend& backend = detail::shipped_backend();
  int count = 0;
  const detail::Status status = backend.device_count(count);
  if (status == detail::Status::ok && count > 0) return {};
  return backend.error_text(status == detail::Status::ok ? detail::Status::no_device : status) + ": " +
         backend.missing();
}

Machine calibrate(int device) { return detail::calibrate(shipped_engine(), device, std::uint64_t{64} << 20); }
void set_machine(const Machine& machine) { shipped_engine().set_machine(machine); }
Machine machine() { return shipped_engine().machine(); }

void collect() { shipped_engine().collect(); }
void trim() { shipped_engine().trim(); }

Pending::Pending() noexcept = default;
Pending::Pending(std::unique_ptr<detail::Deferred> deferred) noexcept : deferred_(std::move(deferred)) {}
Pending::Pending(Pending&&) noexcept = default;
Pending& Pending::operator=(Pending&&) noexcept = default;
Pending::~Pending() = default;

bool Pending::ready() const { return deferred_ == nullptr || deferred_->ready(); }

Tensor Pending::result() {
  if (deferred_ == nullptr) throw Error(Reason::consumed, "there is no pending result");
  return deferred_->result();
}

}  // namespace cuda
}  // namespace v0
}  // namespace halfway
