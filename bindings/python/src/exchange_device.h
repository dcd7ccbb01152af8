// Exchanges in which a device takes part: where the result goes, what is planned, and the transfer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "exchange.h"

namespace halfway::python {

// Where the result is to be; nothing where neither the source nor the result has to do with a device.
// `explaining`: a device need not be there. throws: Error (unavailable, device, out_mismatch)
[[nodiscard]] std::optional<Device> result_device(const Exchange& exchange, bool explaining);

// Adds to the plan what happens between the two memories; of a transfer between the host and a device only where it is
// explained, not where it is carried out. throws: Error (device: between two devices; and as the engine)
void plan_devices(Exchange& exchange, bool explaining);

// Whether the result is in another memory than the source. Requires: the exchange is planned.
[[nodiscard]] bool crosses(const Exchange& exchange) noexcept;

// Transfers: the result, a Pending for one that is under way, or `out`. throws: as the transfer
[[nodiscard]] PyObject* transfer(Exchange& exchange);

// Casts or copies within the memory of a device, on the target's stream. throws: as the cast
[[nodiscard]] PyObject* cast_there(Exchange& exchange);

// throws: Error (device) where the library's arrays are never on a device
void require_on_devices(const Library& target, Device device);

// Host memory as a fresh array of `target` on a device; the host's has been read when this returns. `permuted` is the
// result's shape. throws: as the transfer
[[nodiscard]] PyObject* send_to(const Library& target, const TensorView& source, DType dtype,
                                std::span<const std::int64_t> result_shape, Device device, const Plan& plan);

// Before device memory is handed out as it is: the target's stream begins behind the source's. throws: Error
void hand_over(const Exchange& exchange);

}  // namespace halfway::python
