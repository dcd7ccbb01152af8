// What the transfer engine asks of a device: memory, streams, events, copies, launches. Two backends answer: CUDA's
// runtime (backend/cuda.cpp) and a simulated device for tests (backend/simulated.h). Private to the engine.
//
// Semantics are those of CUDA's runtime. In short:
//   - A stream runs its work in the order in which it was enqueued. Streams know nothing of each other; the engine's
//   own
//     are not ordered by the legacy default stream either.
//   - `record` marks a place in a stream; `wait` makes a stream, and `synchronize` the calling thread, wait until all
//     work before that place is done. A wait means the mark that was the latest when it was enqueued: recording the
//     event anew does not change it. An event that was never recorded is passed at once.
//   - What the host wrote before it enqueued work is visible to that work; what work wrote is visible to the host once
//     it knows of a later mark that it has passed, and to a stream behind a wait for it.
//   - Nothing may be freed that enqueued work still uses.
// Calls on a device's streams and events are made while it is the current device of the thread (`DeviceScope`).
//
// Errors: every call that can fail returns a Status. A call that fails has enqueued nothing. Releasing calls (free,
// destroy) release in any case; their status tells of earlier, asynchronous failures.
// Threads: any call on any thread; of one stream at a time. An event may be waited for by several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../kernels/conversion.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// CUDA's numbers, for both backends. Those named here are told apart by the engine.
enum class [[nodiscard]] Status : int{
    ok = 0,
    out_of_memory = 2,      // cudaErrorMemoryAllocation
    not_initialized = 3,    // cudaErrorInitializationError: a forked child of a process that used CUDA
    no_driver = 35,         // cudaErrorInsufficientDriver: also when there is none
    no_device = 100,        // cudaErrorNoDevice
    invalid_device = 101,   // cudaErrorInvalidDevice
    invalid_handle = 400,   // cudaErrorInvalidResourceHandle
    not_ready = 600,        // cudaErrorNotReady: no error
    illegal_address = 700,  // cudaErrorIllegalAddress
    already_pinned = 712,   // cudaErrorHostMemoryAlreadyRegistered
    launch_failure = 719,   // cudaErrorLaunchFailure
    not_permitted = 800,    // cudaErrorNotPermitted
    unknown = 999,          // cudaErrorUnknown
};

using Stream = void*;  // cudaStream_t; null is the legacy default stream
using Event = void*;   // cudaEvent_t; null is no event

enum class CopyKind : std::uint8_t { to_device, to_host };

struct DeviceTraits {
  std::string name{};
  bool coherent = false;  // kernels reach all of the host's memory, through its page tables
};

struct PointerTraits {
  enum class Kind : std::uint8_t { pageable, pinned, device, managed };
  Kind kind = Kind::pageable;
  int device = 0;
  void* device_address = nullptr;  // pinned: where kernels see it
  std::uint64_t allocation =
      0;  // pinned: the same for all of an allocation, or of what was locked at once; 0: not known
};

class Backend {
 public:
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  // Why there may be no device, for people: what was looked for, and what was found. Empty: nothing to say.
  [[nodiscard]] virtual std::string missing() const = 0;
  [[nodiscard]] virtual std::string error_text(Status status) const = 0;

  virtual Status device_count(int& count) noexcept = 0;
  virtual Status traits(int device, DeviceTraits& traits) = 0;
  virtual Status current_device(int& device) noexcept = 0;
  virtual Status set_device(int device) noexcept = 0;
  // Whether this process uses the device already: making it current creates a context there otherwise.
  [[nodiscard]] virtual bool has_context(int /*device*/) noexcept { return true; }

  // Device memory, aligned to 256 bytes. `free` may wait for all work of the device.
  virtual Status allocate(std::size_t bytes, void*& memory) noexcept = 0;
  virtual Status free(void* memory) noexcept = 0;
  // Page-locked host memory, mapped for every device.
  virtual Status allocate_pinned(std::size_t bytes, void*& memory) noexcept = 0;
  virtual Status free_pinned(void* memory) noexcept = 0;
  // Memory that somebody else allocated, page-locked and mapped for every device where it is, until it is unregistered.
  // Whole pages are locked: what shares one with memory that is registered may be refused (already_pinned).
  virtual Status register_pinned(void* memory, std::size_t bytes) noexcept = 0;
  virtual Status unregister_pinned(void* memory) noexcept = 0;
  virtual Status pointer_traits(const void* memory, PointerTraits& traits) noexcept = 0;

  virtual Status create_stream(Stream& stream) noexcept = 0;
  virtual Status destroy_stream(Stream stream) noexcept = 0;
  // Whether a graph is being captured from it: nothing may be enqueued that a replay could not repeat.
  virtual Status is_capturing(Stream stream, bool& capturing) noexcept = 0;
  virtual Status create_event(Event& event) noexcept = 0;
  virtual Status destroy_event(Event event) noexcept = 0;

  virtual Status record(Event event, Stream stream) noexcept = 0;
  virtual Status wait(Stream stream, Event event) noexcept = 0;
  virtual Status query(Event event) noexcept = 0;  // ok or not_ready
  virtual Status synchronize(Event event) noexcept = 0;
  virtual Status synchronize_stream(Stream stream) noexcept = 0;
  virtual Status synchronize_device() noexcept = 0;

  // Between pinned memory and device memory, by a copy engine.
  virtual Status copy(void* destination, const void* source, std::size_t bytes, CopyKind kind,
                      Stream stream) noexcept = 0;
  virtual Status launch(const Conversion& work, Stream stream) noexcept = 0;

  // Staging memory is about to be written anew: tests destroy what it holds.
  virtual void recycled(void* /*memory*/, std::size_t /*bytes*/) noexcept {}

 protected:
  Backend() = default;
};

// The backend that ships: CUDA's runtime, or one that says that this build has none. Never destroyed.
[[nodiscard]] Backend& shipped_backend() noexcept;

// Throws what a status means; `call` names what was tried.
// throws: std::bad_alloc (out_of_memory); Error (stream: the caller's stream is none of the device's, where `stream`;
//         unavailable: anything else)
[[noreturn]] void fail(const Backend& backend, Status status, std::string_view call);
inline void require(const Backend& backend, Status status, std::string_view call) {
  if (status != Status::ok) fail(backend, status, call);
}

// Makes a device the calling thread's current one while it lives.
class DeviceScope {
 public:
  // throws: Error (unavailable)
  DeviceScope(Backend& backend, int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  Backend& backend_;
  int device_;
  int previous_ = 0;
};

// Whether this process is a forked child of the one that was told by `id`: nothing of CUDA works in it.
[[nodiscard]] std::int64_t process_id() noexcept;

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
