// Transfers between the host and a CUDA device, with the cast in them: what crosses the wire is the narrower dtype, and
// neither side gets a temporary of the tensor's size. plan.h has the rule by which a side is chosen. Below them, casts
// between tensors in the memory of one device.
//
//   auto d = halfway::cuda::to_device(a.view(), {.device = 0, .dtype = halfway::bfloat16, .stream = stream});
//   auto f = halfway::cuda::cast_on_device(d.view(), {.dtype = halfway::float32, .stream = stream});
//
// Layouts. Host memory may have any. So may device memory: broadcast, permuted, negative and fractional strides, either
// byte order; a kernel finds the elements. Refused are layouts of more than 8 axes that do not continue one another in
// memory (Error: unavailable).
//
// Streams. A stream is the caller's: a cudaStream_t (or CUstream) of the device in question; null is the legacy default
// stream, as everywhere in CUDA. It is the stream on which the result is used next, or the source was made last:
//   - the transfer begins behind everything that was enqueued on it before the call, and
//   - everything that is enqueued on it after the call begins behind the transfer.
// So the result can be used, and its memory freed in the order of that stream, without waiting. The work itself is on
// that stream, too, but for transfers of several chunks. The caller may destroy it once the call has returned, with
// transfers under way and Pendings unread.
//
// Waiting. Without `non_blocking` a call returns when the transfer is done, and an error of the device is its error.
// With it, to_device() returns as soon as the source is no longer needed by the host: pageable sources have been read
// then, and may be changed. Pinned sources may be read by the device later; they have to be handed over as a `Tensor`,
// which is kept until that is done, whoever made it. A mere view of pinned memory is waited for, whatever
// `non_blocking` says. Of sources of at most `Machine::small` bytes it makes no difference: the host reads them, pinned
// or not, during the call. What has been read is released by the next call for that device, or by collect().
//
// Graphs. While a graph is captured from the stream, calls are refused (Error: capturing), and nothing is enqueued; but
// casts on the device of a mere view are captured. What a graph uses has to be kept as long as the graph.
//
// Fork. A child of a process that used a device cannot: calls are refused (Error: unavailable). What it inherited may
// be released there; that frees nothing.
//
// Threads: any. Transfers of one device go one after the other; those of several devices do not wait for each other.
// The thread's current device is as before when a call returns.
//
// A view whose `device` says host, and whose memory is a device's, is refused where the memory is asked about; sources
// of at most `Machine::small` bytes are read by the host without that.
//
// throws, all of them: Error (unavailable: no driver, no device, a build without CUDA, a failure of the device;
// capturing; stream: none of this device; device: memory of another kind; and what cast() throws), CastError,
// std::bad_alloc. Nothing is enqueued any more when a call throws, and what was handed over has been released once.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "halfway/cast.h"
#include "halfway/plan.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace cuda {

// Where results on a device come from: a framework's caching allocator, for one.
class DeviceAllocator {
 public:
  virtual ~DeviceAllocator() = default;

  // A fresh row-major tensor in the memory of `device`, whose memory work on `stream` may use from now on. The tensor
  // is released when the result is, or when the transfer failed: by then nothing uses its memory but work that `stream`
  // is behind.
  [[nodiscard]] virtual Tensor allocate(std::span<const std::int64_t> shape, DType dtype, Device device,
                                        void* stream) = 0;

 protected:
  DeviceAllocator() = default;
  DeviceAllocator(const DeviceAllocator&) = default;
  DeviceAllocator& operator=(const DeviceAllocator&) = default;
};

struct TransferOptions {
  int device = 0;                // of to_device(); elsewhere the tensor says it
  std::optional<DType> dtype{};  // of the result; none: the source's
  void* stream = nullptr;
  bool non_blocking = false;
  CastOptions cast{};  // `report`, `same_value` and `raise` make the call wait, whatever `non_blocking` says
  DeviceAllocator* allocator = nullptr;  // none: cudaMalloc
};

// A copy of host memory of any layout, row-major in device memory, cast.
[[nodiscard]] Tensor to_device(const TensorView& source, const TransferOptions& options = {});
// Takes the reference over, and keeps it as long as the device reads.
[[nodiscard]] Tensor to_device(Tensor source, const TransferOptions& options = {});

// Into device memory of the result's shape, any layout in which elements share no memory; `options.device`, `dtype` and
// `allocator` are not looked at.
void to_device_into(const TensorView& source, const MutableView& destination, const TransferOptions& options = {});
void to_device_into(Tensor source, const MutableView& destination, const TransferOptions& options = {});

// A copy of device memory of any layout in host memory, row-major, cast. Returns when it is done, whatever
// `non_blocking` says.
[[nodiscard]] Tensor to_host(const TensorView& source, const TransferOptions& options = {});

// Into host memory of the result's shape, any layout.
void to_host_into(const TensorView& source, const MutableView& destination, const TransferOptions& options = {});

namespace detail {
class Engine;
struct Deferred;
}  // namespace detail

// A result that is under way to the host. What it comes from is kept until it has been read.
class Pending {
 public:
  Pending() noexcept;  // empty
  explicit Pending(std::unique_ptr<detail::Deferred> deferred) noexcept;
  Pending(Pending&&) noexcept;
  Pending& operator=(Pending&&) noexcept;
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending();  // does not wait

  // Whether result() will not wait for the device.
  [[nodiscard]] bool ready() const;
  // Waits, and hands the result over; once. A result that did not arrive is gone: what is asked after an error of the
  // device is answered by `consumed`. throws: Error (consumed; unavailable), CastError, std::bad_alloc
  [[nodiscard]] Tensor result();

 private:
  std::unique_ptr<detail::Deferred> deferred_;
};

// As to_host(), without waiting: into pinned memory of its own. What `options.cast` borrows is borrowed until result().
[[nodiscard]] Pending to_host_later(Tensor source, const TransferOptions& options = {});

// A copy of device memory of any layout in the same device's memory, row-major, cast: one launch on `options.stream`,
// no memory but the result's, and no waiting, whatever `non_blocking` says. Failures of the device while it runs are
// the errors of later calls. The source is read in the order of the stream: a `Tensor` that is handed over is kept
// until that is done, a mere view is the caller's to keep until then. All options are those of cast(), with its bits,
// counts and errors. A `report`, and `same_value` or `raise` where something can be lost, are waited for; such a call
// is refused while a graph is captured from the stream. throws: as above, and Error (unavailable: scale or shift with
// more than 32 numbers along an axis)
[[nodiscard]] Tensor cast_on_device(const TensorView& source, const TransferOptions& options = {});
[[nodiscard]] Tensor cast_on_device(Tensor source, const TransferOptions& options = {});

// Into memory of the result's shape on the source's device, any layout in which elements share no memory. It may be the
// source's own where every element becomes its image in its own place: start, strides and item size are the same.
// What is checked is checked by a launch of its own, before another one writes.
// throws: Error (device: another device; overlap; out_mismatch; readonly), before anything is enqueued
void cast_on_device_into(const TensorView& source, const MutableView& destination, const TransferOptions& options = {});
void cast_on_device_into(Tensor source, const MutableView& destination, const TransferOptions& options = {});

// Several tensors of one device at once, in the order of `options.stream`: those that are row-major and of one dtype
// share launches, 40 at a time, which is what small tensors are worth. The options are for each of them; elements are
// numbered, for stochastic rounding, in each tensor by itself. A report is of all together, and a check is over for all
// of them before anything is written; what it refuses is said to be of `samples[i]`. No destination may share memory
// with any other tensor but its own source.
//
//   std::vector<halfway::Tensor> narrow =
//       halfway::cuda::cast_many_on_device(views, {.dtype = halfway::bfloat16, .stream = stream});
//
// throws: as cast_on_device() and cast_on_device_into(), and Error (out_mismatch: not as many destinations as sources;
//         device: several devices), before anything is enqueued
[[nodiscard]] std::vector<Tensor> cast_many_on_device(std::span<const TensorView> sources,
                                                      const TransferOptions& options = {});
void cast_many_on_device_into(std::span<const TensorView> sources, std::span<const MutableView> destinations,
                              const TransferOptions& options = {});

// What the calls of the same names will do. Nothing is enqueued.
[[nodiscard]] TransferPlan plan_to_device(const TensorView& source, const TransferOptions& options = {});
[[nodiscard]] TransferPlan plan_to_device_into(const TensorView& source, const MutableView& destination,
                                               const TransferOptions& options = {});
[[nodiscard]] TransferPlan plan_to_host(const TensorView& source, const TransferOptions& options = {});
[[nodiscard]] TransferPlan plan_to_host_later(const TensorView& source, const TransferOptions& options = {});
[[nodiscard]] TransferPlan plan_to_host_into(const TensorView& source, const MutableView& destination,
                                             const TransferOptions& options = {});
[[nodiscard]] TransferPlan plan_cast_on_device(const TensorView& source, const TransferOptions& options = {});
[[nodiscard]] TransferPlan plan_cast_on_device_into(const TensorView& source, const MutableView& destination,
                                                    const TransferOptions& options = {});

// How many devices there are; 0 where there is no driver.
[[nodiscard]] int device_count() noexcept;

// Why there is none, for people; empty where there is one.
[[nodiscard]] std::string unavailable_because();

// Releases the sources that have been read, without waiting for others.
void collect();

// Waits for all transfers, and frees the pinned slots and whatever else is kept for the next one.
void trim();

}  // namespace cuda
}  // namespace v0
}  // namespace halfway
