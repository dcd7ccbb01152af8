#include "exchange_device.h"

#include <array>
#include <string>
#include <utility>

#include "devices.h"
#include "halfway/layout.h"
#include "pending.h"
#include "torch_api.h"
#include "torch_device.h"
#include "views.h"

namespace halfway::python {
namespace {

Device wanted_device(Device device, bool explaining) {
  if (!is_cuda(device)) {
    return device;
  }
  return explaining && missing_device() ? presumed_device(device) : require_device(device);
}

Transfer transfer_of(const Exchange& exchange, void* stream) {
  Transfer transfer;
  transfer.stream = stream;
  transfer.non_blocking = exchange.arguments.non_blocking;
  transfer.cast = exchange.arguments.options;
  return transfer;
}

void mark_written_out(const Exchange& exchange) {
  PyObject* out = exchange.arguments.out;
  if (exchange.out->library == &torch_library() && !is_stand_in(out)) {
    mark_written(torch(), out);
  }
}

// A row-major view of fresh device memory. `strides` is room for its strides.
MutableView view_of(const DLManagedTensorVersioned& managed, DType dtype, std::span<const std::int64_t> shape,
                    Device device, std::array<std::int64_t, max_ndim>& strides) {
  const std::span<std::int64_t> used(strides.data(), shape.size());
  row_major_strides(shape, used);
  const DLTensor& tensor = managed.dl_tensor;
  return {.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset,
          .dtype = dtype,
          .device = device,
          .shape = shape,
          .strides = used};
}

// A torch tensor in memory of torch's own allocator, which `fill` writes.
template <class Fill>
PyObject* fresh_in_torch(DType dtype, std::span<const std::int64_t> shape, Device device, Fill fill) {
  ManagedPointer fresh = allocate_in_torch(shape, dtype, device);
  std::array<std::int64_t, max_ndim> strides;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  fill(view_of(*fresh, dtype, shape, device, strides));
  return torch_from_managed(std::move(fresh));
}

// A fresh array of `target`, its memory from the library's own allocator.
PyObject* send_fresh_to(const Library& target, const TensorView& source, Tensor owner, DType dtype,
                        std::span<const std::int64_t> shape, Device device, const Transfer& transfer,
                        const Plan& plan) {
  if (&target != &torch_library()) {
    return target.adopt(send_fresh(source, std::move(owner), dtype, device, transfer), plan);
  }
  return fresh_in_torch(dtype, shape, device, [&](const MutableView& destination) {
    send_into(source, std::move(owner), destination, transfer);
  });
}

PyObject* send(Exchange& exchange) {
  const Plan& plan = exchange.plan;
  const TensorView& source = exchange.source.view;
  const Transfer transfer = transfer_of(exchange, consumer_stream(exchange.target, plan.device.id));
  // Kept by the engine where the device reads it after the call has returned.
  const bool kept = transfer.non_blocking && !is_read_at_once(source, plan.to);
  Tensor owner = kept ? owner_of(exchange.source) : Tensor();
  if (exchange.out) {
    send_into(source, std::move(owner), detail::writable(exchange.out->view), transfer);
    mark_written_out(exchange);
    return Ref::borrow(exchange.arguments.out).release();
  }
  return send_fresh_to(*exchange.target, source, std::move(owner), plan.to, plan.result_shape, plan.device, transfer,
                       plan);
}

// Counts and checks are delivered with the values.
bool has_to_wait(const CastOptions& options) noexcept {
  return options.report != nullptr || options.casting == Casting::same_value || options.overflow == Overflow::raise;
}

// Whether nothing is there yet when the call returns.
bool is_deferred(const Exchange& exchange) noexcept {
  const Arguments& arguments = exchange.arguments;
  return arguments.non_blocking && exchange.target == &numpy_library() && !exchange.out &&
         !has_to_wait(arguments.options);
}

PyObject* receive(Exchange& exchange) {
  const Plan& plan = exchange.plan;
  const Arguments& arguments = exchange.arguments;
  const TensorView& source = exchange.source.view;
  const Transfer transfer = transfer_of(exchange, exchange.source.stream);
  const bool later = arguments.non_blocking && exchange.target == &numpy_library();
  if (exchange.out) {
    receive_into(source, detail::writable(exchange.out->view), transfer);
    mark_written_out(exchange);
    Ref out = Ref::borrow(arguments.out);
    return later ? pending_object(std::move(out)) : out.release();
  }
  if (is_deferred(exchange)) {
    auto deferred = std::make_unique<DeferredResult>(owner_of(exchange.source), plan.to, transfer);
    return pending_object(std::move(deferred), *exchange.target, plan, arguments.extras);
  }
  Ref result = checked(exchange.target->adopt(receive_fresh(source, plan.to, transfer), plan));
  return later ? pending_object(std::move(result)) : result.release();
}

}  // namespace

std::optional<Device> result_device(const Exchange& exchange, bool explaining) {
  const Arguments& arguments = exchange.arguments;
  const Device source = exchange.source.view.device;
  const bool to_numpy = exchange.target == &numpy_library();
  std::optional<Device> asked;
  if (arguments.device) {
    asked = wanted_device(*arguments.device, explaining);
  }
  if (asked) {
    require_on_devices(*exchange.target, *asked);
  }
  Device device = asked.value_or(to_numpy ? Device{} : source);
  if (exchange.out) {
    const Device out = exchange.out->view.device;
    if (asked && *asked != out && !(is_host(*asked) && is_host(out))) {
      throw Error(Reason::out_mismatch,
                  "device " + to_string(*asked) + " was asked for, but out is on " + to_string(out),
                  "leave device unset: out's own is the default");
    }
    device = out;
  }
  if (is_host(source) && is_host(device)) {
    return std::nullopt;
  }
  return device;
}

void require_on_devices(const Library& target, Device device) {
  if (&target == &numpy_library() && is_cuda(device)) {
    throw Error(Reason::device, "NumPy's arrays are in host memory, not on " + to_string(device),
                "to_torch(x, device=...) makes a torch tensor there, from_dlpack(x, device=...) a halfway.Tensor");
  }
}

PyObject* send_to(const Library& target, const TensorView& source, DType dtype,
                  std::span<const std::int64_t> result_shape, Device device, const Plan& plan) {
  Transfer transfer;
  transfer.stream = consumer_stream(&target, device.id);
  transfer.non_blocking = true;
  transfer.cast.casting = Casting::equiv;
  return send_fresh_to(target, source, Tensor(), dtype, result_shape, device, transfer, plan);
}

bool crosses(const Exchange& exchange) noexcept {
  const Device source = exchange.source.view.device;
  return source != exchange.plan.device && !(is_host(source) && is_host(exchange.plan.device));
}

void plan_devices(Exchange& exchange, bool explaining) {
  Plan& plan = exchange.plan;
  const Device source = exchange.source.view.device;
  const CastOptions& options = exchange.arguments.options;
  const MutableView out = exchange.out ? detail::writable(exchange.out->view) : MutableView{};
  const MutableView* const destination = exchange.out ? &out : nullptr;
  if (plan.zero_copy) {
    return;
  }
  // A transfer's steps and words are for people: the engine makes its own plan of what it does, and what it refuses it
  // refuses before anything is enqueued.
  if (!explaining && crosses(exchange) && (is_host(source) || is_host(plan.device))) {
    return;
  }
  if (!crosses(exchange)) {
    plan_on_device(plan, exchange.source.view, destination, options);
  } else if (is_host(source)) {
    plan_send(plan, exchange.source.view, plan.device, destination, options);
  } else if (is_host(plan.device)) {
    plan_receive(plan, exchange.source.view, destination, options, is_deferred(exchange));
  } else {
    throw Error(Reason::device, "nothing moves from " + to_string(source) + " to " + to_string(plan.device) + " here",
                "move it with its own library, or by way of the host");
  }
}

PyObject* transfer(Exchange& exchange) {
  return is_host(exchange.source.view.device) ? send(exchange) : receive(exchange);
}

PyObject* cast_there(Exchange& exchange) {
  hand_over(exchange);
  const Plan& plan = exchange.plan;
  const TensorView& source = exchange.source.view;
  const Transfer transfer = transfer_of(exchange, consumer_stream(exchange.target, plan.device.id));
  // torch lets go of its memory in the order of its own stream. Others do so when they please.
  const bool in_order = exchange.target == &torch_library() && exchange.source.library == &torch_library();
  Tensor owner = in_order ? Tensor() : owner_of(exchange.source);
  if (exchange.out) {
    cast_on_device_into(source, std::move(owner), detail::writable(exchange.out->view), transfer);
    mark_written_out(exchange);
    return Ref::borrow(exchange.arguments.out).release();
  }
  if (exchange.target != &torch_library()) {
    return exchange.target->adopt(cast_on_device_fresh(source, std::move(owner), plan.to, transfer), plan);
  }
  return fresh_in_torch(plan.to, plan.result_shape, plan.device, [&](const MutableView& destination) {
    cast_on_device_fresh_into(source, std::move(owner), destination, transfer);
  });
}

void hand_over(const Exchange& exchange) {
  const Device device = exchange.source.view.device;
  if (is_cuda(device)) {
    order_streams(device.id, exchange.source.stream, consumer_stream(exchange.target, device.id));
  }
}

}  // namespace halfway::python
