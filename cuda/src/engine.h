// The transfer engine over any backend: what transfer.h says, with the backend said. The functions of transfer.h are
// one engine over CUDA's runtime; tests make theirs over the simulated device.
//
// Who owns what, until when:
//   the source     The caller, where it is a view: no work that reads it is left when the call returns. Else the
//   engine,
//                  until the event behind the last work that reads it has passed (Channel::keep).
//   the result     The caller from the return on; the caller's stream is behind all work that writes it.
//   a pinned slot  The ring, always; its event says when it can be written anew.
// Where anything fails, all work is waited for first (Channel::settle), then everything is released as usual.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "channel.h"
#include "halfway/cuda/transfer.h"
#include "host_pass.h"
#include "plan_words.h"

namespace halfway {
inline namespace v0 {
namespace detail {
struct SampleName;
}
namespace cuda {
namespace detail {

struct EngineSizes {
  Machine machine{};  // `cores` 0: num_threads(); `chunk` is the size of a slot
  int slots = StagingSizes{}.slots;
  int scratch = StagingSizes{}.scratch;
  std::size_t piece = StagingSizes{}.piece;  // bytes, at least 1
};

class Engine {
 public:
  // The backend must outlive the engine and every tensor that it made.
  explicit Engine(Backend& backend, EngineSizes sizes = {});
  ~Engine();  // waits for all transfers; nothing may be pending
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  [[nodiscard]] Tensor to_device(const TensorView& source, Tensor owner, const TransferOptions& options);
  void to_device_into(const TensorView& source, Tensor owner, const MutableView& destination,
                      const TransferOptions& options);
  [[nodiscard]] Tensor to_host(const TensorView& source, const TransferOptions& options);
  void to_host_into(const TensorView& source, const MutableView& destination, const TransferOptions& options);
  [[nodiscard]] std::unique_ptr<Deferred> to_host_later(Tensor source, const TransferOptions& options);

  // One launch on the caller's stream.
  [[nodiscard]] Tensor cast_on_device(const TensorView& source, Tensor owner, const TransferOptions& options);
  void cast_on_device_into(const TensorView& source, Tensor owner, const MutableView& destination,
                           const TransferOptions& options);

  // Of several tensors, on the caller's stream: one launch for as many as are dense and of one pair of dtypes.
  [[nodiscard]] std::vector<Tensor> cast_many_on_device(std::span<const TensorView> sources,
                                                        const TransferOptions& options);
  void cast_many_on_device_into(std::span<const TensorView> sources, std::span<const MutableView> destinations,
                                const TransferOptions& options);

  [[nodiscard]] TransferPlan plan_to_device(const TensorView& source, const TransferOptions& options,
                                            const MutableView* destination = nullptr);
  [[nodiscard]] TransferPlan plan_to_host(const TensorView& source, const TransferOptions& options,
                                          const MutableView* destination = nullptr);
  [[nodiscard]] TransferPlan plan_to_host_later(const TensorView& source, const TransferOptions& options);
  [[nodiscard]] TransferPlan plan_on_device(const TensorView& source, const TransferOptions& options,
                                            const MutableView* destination = nullptr,
                                            halfway::detail::Words words = halfway::detail::Words::all);

  void collect();
  void wait();  // for everything that was enqueued; releases what was kept for it
  void trim();

  [[nodiscard]] Backend& backend() noexcept { return backend_; }

  // As Backend::device_count(), which is asked until a device has been used.
  Status device_count(int& count) noexcept;

  // The constants that plans are computed from. `chunk` stays what it was: slots have that size.
  [[nodiscard]] Machine machine() const;
  void set_machine(const Machine& machine);

  // Whether this is the process that used the device, if one did.
  [[nodiscard]] bool is_at_home() const noexcept { return home_ == 0 || process_id() == home_; }
  // throws: Error (unavailable)
  void require_at_home() const;

 private:
  friend struct Deferred;

  // What a call waits for without the lock: an event of its own, or one that the ring lent.
  struct Done {
    Event event = nullptr;
    bool lent = false;
  };

  enum class Counted : std::uint8_t { and_cast, alone };

  Channel& channel(int device);
  void take_from_all(KeptList (Channel::*take)() noexcept);
  Channel& begin(int device, void* stream);  // after the checks that every transfer makes
  HostMemory host_memory(const TensorView& view, Channel& channel);
  TransferPlan plan(const TensorView& source, Channel& channel, TransferWish wish, halfway::detail::Words words);
  void send(Channel& channel, const TransferPlan& plan, const TensorView& source, Tensor owner,
            const MutableView& destination, const TransferOptions& options);
  void enqueue_to_device(Channel& channel, const TransferPlan& plan, const Lanes& lanes, const TensorView& source,
                         const CastOptions& options, const MutableView& destination, Tally* tally);
  void receive(Channel& channel, const TransferPlan& plan, const TensorView& source, const MutableView& destination,
               const TransferOptions& options);
  void drain_to_host(Channel& channel, const TransferPlan& plan, const Lanes& lanes, const TensorView& source,
                     const MutableView& destination, const CastOptions& options, Tally* tally);
  void enqueue_to_host(const TransferPlan& plan, const CastOptions& options, const TensorView& source, void* memory,
                       Stream stream, Tally* tally = nullptr);
  [[nodiscard]] Tensor allocate_there(const TensorView& source, DType to, int device, const TransferOptions& options);
  void launch_cast(Channel& channel, const TransferPlan& plan, const TensorView& source, Tensor owner,
                   const MutableView& destination, const TransferOptions& options);
  void cast_counted(Channel& channel, const TransferPlan& plan, const TensorView& source,
                    const MutableView& destination, const TransferOptions& options, Counted counted = Counted::and_cast,
                    const halfway::detail::SampleName* name = nullptr);
  std::vector<TransferPlan> plan_many_on_device(std::span<const TensorView> sources,
                                                std::span<const MutableView> destinations,
                                                const TransferOptions& options);
  void take_counts(Channel& channel, const TransferPlan& plan, const CastOptions& options, Stream stream);
  void finish(Channel& channel, std::unique_lock<std::mutex>& lock, const Done& done);
  void* mapped_address(const void* memory);

  Backend& backend_;
  EngineSizes sizes_;                  // `machine` is guarded by the lock
  std::atomic<std::int64_t> home_{0};  // the process that first used a device; 0: none yet
  mutable std::mutex mutex_;           // guards the list of channels
  std::vector<std::unique_ptr<Channel>> channels_;
};

// As calibrate() of calibrate.h, with blocks of `bytes`. throws: Error, std::bad_alloc
[[nodiscard]] Machine calibrate(Engine& engine, int device, std::uint64_t bytes);

// The engine of the functions in transfer.h. Never destroyed.
[[nodiscard]] Engine& shipped_engine();

// What a Pending stands for.
struct Deferred {
  Engine* engine = nullptr;
  Channel* channel = nullptr;  // none: nothing is under way
  KeptList held;               // one node: the event, the source, and the pinned memory that the device writes
  bool casts = false;
  DType to{};
  CastOptions options{};

  Deferred() = default;
  ~Deferred();
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;

  [[nodiscard]] bool ready();
  [[nodiscard]] Tensor result();
};

// cudaMalloc and cudaFree, as an allocator.
class PlainAllocator final : public DeviceAllocator {
 public:
  explicit PlainAllocator(Engine& engine) noexcept : engine_(engine) {}
  [[nodiscard]] Tensor allocate(std::span<const std::int64_t> shape, DType dtype, Device device, void* stream) override;

 private:
  Engine& engine_;
};

// Row-major pinned memory of its own for a tensor.
[[nodiscard]] Tensor allocate_pinned(Engine& engine, std::span<const std::int64_t> shape, DType dtype);

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
