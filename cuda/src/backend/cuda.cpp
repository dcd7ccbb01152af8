// CUDA's runtime, linked statically: it looks for the driver when it is first called, so that a program with this in it
// starts on machines without one, and every call answers 35 there.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "../../kernels/launch.h"
#include "device.h"
#include "parallel/spin.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

// An event is waited for by looking at it: all the time for as long as most transfers take, then now and then. It is
// not blocked on: events for that (cudaEventBlockingSync) interrupt a processor whenever they pass, one that casts for
// all one knows. With looks every 20 us after the first 200, blocking transfers of 16 MiB took 40 to 100 us longer than
// it took torch to wait for them (H100, virtual machine of 16 cores, 2026-11-26): whoever sleeps is woken late.
constexpr std::chrono::microseconds looking{2000};
constexpr std::chrono::microseconds asleep{20};

// Between two looks, each of which takes the driver's lock, under which other threads enqueue. Few: in a virtual
// machine a long loop of pauses is taken for a wait for another processor, and left for the host.
constexpr int pauses = 4;

// Errors stay in the runtime's per-thread variable until they are taken out, where other code of the process would
// find them: ours are returned, so they are taken out at once.
Status taken(cudaError_t error) noexcept {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return static_cast<Status>(error);
}

// A function of the driver, which the runtime has loaded; nullptr where it has none of this name. `known` remembers it.
template <class Function>
Function driver_function(const char* name, std::atomic<Function>& known) noexcept {
  Function found = known.load(std::memory_order_relaxed);
  if (found != nullptr) return found;
  constexpr unsigned since = 12000;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &entry, since, cudaEnableDefault, &result);
  if (taken(error) != Status::ok || result != cudaDriverEntryPointSuccess) return nullptr;
  found = reinterpret_cast<Function>(entry);
  known.store(found, std::memory_order_relaxed);  // whoever comes second finds the same
  return found;
}

// The runtime does not tell allocations apart; the driver does. 0: it does not say.
std::uint64_t allocation_of(const void* memory) noexcept {
  static constinit std::atomic<CUresult (*)(void*, CUpointer_attribute, CUdeviceptr)> known{nullptr};
  const auto get = driver_function("cuPointerGetAttribute", known);
  if (get == nullptr) return 0;
  unsigned long long id = 0;
  const CUresult result = get(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, reinterpret_cast<CUdeviceptr>(memory));
  return result == CUDA_SUCCESS ? id : 0;
}

cudaStream_t native_stream(Stream stream) noexcept { return static_cast<cudaStream_t>(stream); }
cudaEvent_t native_event(Event event) noexcept { return static_cast<cudaEvent_t>(event); }

// While another thread captures a graph in the default mode, allocating and asking events from any thread makes that
// capture invalid. What is done here has nothing to do with it.
class NoCaptureDisturbed {
 public:
  NoCaptureDisturbed() noexcept { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~NoCaptureDisturbed() { static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  NoCaptureDisturbed(const NoCaptureDisturbed&) = delete;
  NoCaptureDisturbed& operator=(const NoCaptureDisturbed&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

class Cuda final : public Backend {
 public:
  [[nodiscard]] std::string missing() const override {
    int driver = 0;
    int runtime = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    static_cast<void>(cudaRuntimeGetVersion(&runtime));
    static_cast<void>(cudaGetLastError());
    const auto version = [](int number) {
      return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
    };
    const std::string wanted = "halfway was built for CUDA " + version(runtime);
    if (driver == 0) return wanted + ", and looked for NVIDIA's driver (libcuda.so.1): there is none";
    if (driver / 1000 < runtime / 1000)
      return wanted + ", and the driver is for CUDA " + version(driver) + ": update it";
    return wanted + ", the driver is for CUDA " + version(driver) +
           ": look at nvidia-smi and CUDA_VISIBLE_DEVICES for the devices";
  }
  [[nodiscard]] std::string error_text(Status status) const override {
    const auto error = static_cast<cudaError_t>(status);
    return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ", " +
           std::to_string(static_cast<int>(status)) + ")";
  }

  Status device_count(int& count) noexcept override { return taken(cudaGetDeviceCount(&count)); }

  Status traits(int device, DeviceTraits& traits) override {
    cudaDeviceProp properties{};
    const Status status = taken(cudaGetDeviceProperties(&properties, device));
    if (status != Status::ok) return status;
    traits.name = properties.name;
    traits.coherent = properties.pageableMemoryAccess != 0 && properties.pageableMemoryAccessUsesHostPageTables != 0;
    return status;
  }

  Status current_device(int& device) noexcept override { return taken(cudaGetDevice(&device)); }
  Status set_device(int device) noexcept override { return taken(cudaSetDevice(device)); }

  bool has_context(int device) noexcept override {
    static constinit std::atomic<CUresult (*)(CUdevice, unsigned*, int*)> known{nullptr};
    const auto get = driver_function("cuDevicePrimaryCtxGetState", known);
    unsigned flags = 0;
    int active = 0;
    return get == nullptr || get(device, &flags, &active) != CUDA_SUCCESS || active != 0;  // in doubt
  }
  Status allocate(std::size_t bytes, void*& memory) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaMalloc(&memory, bytes));
  }
  Status free(void* memory) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaFree(memory));
  }
  Status allocate_pinned(std::size_t bytes, void*& memory) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped));
  }
  Status free_pinned(void* memory) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaFreeHost(memory));
  }

  Status register_pinned(void* memory, std::size_t bytes) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaHostRegister(memory, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped));
  }
  Status unregister_pinned(void* memory) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaHostUnregister(memory));
  }

  Status pointer_traits(const void* memory, PointerTraits& traits) noexcept override {
    cudaPointerAttributes attributes{};
    const Status status = taken(cudaPointerGetAttributes(&attributes, memory));
    if (status != Status::ok) return status;
    traits.device = attributes.device;
    traits.device_address = attributes.devicePointer;
    traits.allocation = attributes.type == cudaMemoryTypeHost ? allocation_of(memory) : 0;
    switch (attributes.type) {
      case cudaMemoryTypeHost:
        // Registered, but not mapped, memory is within reach of copy engines alone: such programs are rare, and
        // their memory is staged.
        traits.kind = attributes.devicePointer != nullptr ? PointerTraits::Kind::pinned : PointerTraits::Kind::pageable;
        break;
      case cudaMemoryTypeDevice:
        traits.kind = PointerTraits::Kind::device;
        break;
      case cudaMemoryTypeManaged:
        traits.kind = PointerTraits::Kind::managed;
        break;
      default:
        traits.kind = PointerTraits::Kind::pageable;
        break;
    }
    return status;
  }

  Status create_stream(Stream& stream) noexcept override {
    cudaStream_t created = nullptr;
    const Status status = taken(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
    stream = created;
    return status;
  }
  Status destroy_stream(Stream stream) noexcept override { return taken(cudaStreamDestroy(native_stream(stream))); }

  Status is_capturing(Stream stream, bool& capturing) noexcept override {
    cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
    const cudaError_t error = cudaStreamIsCapturing(native_stream(stream), &state);
    // The legacy stream, while another stream that it waits for is captured.
    const bool implicitly = error == cudaErrorStreamCaptureImplicit;
    capturing = implicitly || state != cudaStreamCaptureStatusNone;
    const Status status = taken(error);
    return implicitly ? Status::ok : status;
  }

  Status create_event(Event& event) noexcept override {
    cudaEvent_t created = nullptr;
    const Status status = taken(cudaEventCreateWithFlags(&created, cudaEventDisableTiming));
    event = created;
    return status;
  }
  Status destroy_event(Event event) noexcept override { return taken(cudaEventDestroy(native_event(event))); }
  Status record(Event event, Stream stream) noexcept override {
    return taken(cudaEventRecord(native_event(event), native_stream(stream)));
  }
  Status wait(Stream stream, Event event) noexcept override {
    return taken(cudaStreamWaitEvent(native_stream(stream), native_event(event), 0));
  }
  Status query(Event event) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaEventQuery(native_event(event)));
  }
  Status synchronize(Event event) noexcept override {
    const NoCaptureDisturbed guard;
    const auto end = std::chrono::steady_clock::now() + looking;
    for (;;) {
      if (const Status status = taken(cudaEventQuery(native_event(event))); status != Status::not_ready) return status;
      if (std::chrono::steady_clock::now() < end) {
        for (int i = 0; i < pauses; ++i) halfway::detail::pause();
      } else {
        std::this_thread::sleep_for(asleep);
      }
    }
  }
  Status synchronize_stream(Stream stream) noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaStreamSynchronize(native_stream(stream)));
  }
  Status synchronize_device() noexcept override {
    const NoCaptureDisturbed guard;
    return taken(cudaDeviceSynchronize());
  }

  Status copy(void* destination, const void* source, std::size_t bytes, CopyKind kind,
              Stream stream) noexcept override {
    const cudaMemcpyKind direction = kind == CopyKind::to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
    return taken(cudaMemcpyAsync(destination, source, bytes, direction, native_stream(stream)));
  }
  Status launch(const Conversion& work, Stream stream) noexcept override {
    return taken(detail::launch(work, native_stream(stream)));
  }
};

}  // namespace

Backend& shipped_backend() noexcept {
  static Cuda backend;  // holds nothing: it can be called while the process ends
  return backend;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
