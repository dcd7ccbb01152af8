// CUDA devices, for the rest of the bindings: whether there are any, transfers, and the order of streams. This file and
// its source alone know the transfer engine (cuda/); nothing else of the bindings does.
//
// Streams. Memory of a device is ready on a stream: what is enqueued there finds its values. halfway.Tensor's is ready
// on the legacy default stream, always; torch's on torch's current stream; that of other producers on the stream that
// they are asked for.
//
// The GIL is let go of by every transfer: whatever its size, it may wait for what the stream was given before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "halfway/plan.h"
#include "halfway/tensor.h"
#include "py.h"

namespace halfway::inline v0::cuda {
class Pending;
}

namespace halfway::python {

// As device="cuda" says it: the current device, whichever that is.
inline constexpr std::int32_t any_index = -1;

[[nodiscard]] constexpr bool is_cuda(Device device) noexcept { return device.type == DeviceType::cuda; }

// Why no CUDA device can be used: what was looked for, and what was found. nullopt: there is one.
[[nodiscard]] std::optional<Error> missing_device();

// The device that is meant, its index filled in. throws: Error (unavailable: there is none, or this is a forked child;
// device: none of that index)
[[nodiscard]] Device require_device(Device device);

// The same, where none is needed: index 0 if nothing else is known.
[[nodiscard]] Device presumed_device(Device device) noexcept;

// The stream on which halfway.Tensor's device memory is ready: the legacy default one.
inline constexpr std::nullptr_t halfway_stream = nullptr;

// Makes work that is enqueued on `then` from now on begin behind what `first` was given so far. throws: Error
// (capturing: a graph is being captured from one of them; unavailable)
void order_streams(int device, void* first, void* then);

// Waits until everything that a stream was given is done. throws: Error (capturing, unavailable)
void await_stream(int device, void* stream);

// DLPack's name for a stream, and back (array API standard, __dlpack__): 1 is the legacy default stream, 2 the
// per-thread one, others are handles. throws: PythonError (ValueError: 0, which may be either, and negative ones)
[[nodiscard]] std::intptr_t stream_number(void* stream) noexcept;
[[nodiscard]] void* stream_handle(std::intptr_t number);

// --- transfers. throws: as those of halfway/cuda/transfer.h

// What is to be done, but for where.
struct Transfer {
  void* stream = nullptr;  // the caller's
  bool non_blocking = false;
  CastOptions cast{};
};

// Whether a transfer to a device is so small that the host has read the source when the call returns, whatever it asks
// for.
[[nodiscard]] bool is_read_at_once(const TensorView& source, DType to);

// Host memory into row-major device memory. `owner` is kept as long as the device reads, `source` is borrowed.
void send_into(const TensorView& source, Tensor owner, const MutableView& destination, const Transfer& transfer);

// Into fresh memory of the device's own. Requires: the device is there.
[[nodiscard]] Tensor send_fresh(const TensorView& source, Tensor owner, DType dtype, Device device,
                                const Transfer& transfer);

// Device memory into host memory. Waits.
void receive_into(const TensorView& source, const MutableView& destination, const Transfer& transfer);
[[nodiscard]] Tensor receive_fresh(const TensorView& source, DType dtype, const Transfer& transfer);

// Between memories of one device: one launch on the transfer's stream, and no waiting. `owner` is kept until the source
// has been read; without one it is read in the order of the stream, which may be captured then.
void cast_on_device_into(const TensorView& source, Tensor owner, const MutableView& destination,
                         const Transfer& transfer);
[[nodiscard]] Tensor cast_on_device_fresh(const TensorView& source, Tensor owner, DType dtype,
                                          const Transfer& transfer);
// Into row-major memory of the result's shape that is thrown away where this throws: what is checked is written
// meanwhile.
void cast_on_device_fresh_into(const TensorView& source, Tensor owner, const MutableView& destination,
                               const Transfer& transfer);

// A result under way to the host. The engine that it comes from lives as long.
class DeferredResult {
 public:
  DeferredResult(Tensor source, DType dtype, const Transfer& transfer);
  ~DeferredResult();  // does not wait; takes the device's lock
  DeferredResult(const DeferredResult&) = delete;
  DeferredResult& operator=(const DeferredResult&) = delete;

  [[nodiscard]] bool ready() const;
  [[nodiscard]] Tensor result();  // once; waits, the GIL need not be held

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What send and receive will do, added to the plan of the exchange. Where there is no device the plan is made of
// assumed constants and says why it cannot be done. `destination`: memory that is there, or nullptr.
void plan_send(Plan& plan, const TensorView& source, Device device, const MutableView* destination,
               const CastOptions& options);
void plan_on_device(Plan& plan, const TensorView& source, const MutableView* destination, const CastOptions& options);
// `deferred`: as a DeferredResult, into memory of its own.
void plan_receive(Plan& plan, const TensorView& source, const MutableView* destination, const CastOptions& options,
                  bool deferred);

// --- page-locked memory

// Locks existing host memory in place. throws: Error (unavailable; overlap: it is locked already)
void register_pinned(void* memory, std::size_t bytes);
// Unlocks it once all transfers that were begun are done. throws: Error
void unregister_pinned(void* memory);

// Adds what is private to tests and to the package to the module.
void init_device(PyObject* module);

}  // namespace halfway::python
