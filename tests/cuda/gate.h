// A stream of a real GPU that is held back, so that what must not have happened yet provably could not.
#pragma once

#include <boost/test/unit_test.hpp>

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace gpu {

// Whatever a stream is given after it waits until it is opened. It opens by itself in the end: then something has
// waited for the stream that must not, and the test fails instead of hanging. Kernels are loaded when they are first
// launched, which may wait for all streams: have them loaded before.
class Gate {
 public:
  explicit Gate(cudaStream_t stream) {
    const cudaError_t error = cudaLaunchHostFunc(stream, hold, this);
    BOOST_REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
  }
  ~Gate() { open(); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  void open() {
    if (passed_ && !open_) BOOST_ERROR("a call waited for the stream that was held back");
    open_ = true;
    while (!passed_) std::this_thread::yield();
  }

 private:
  static constexpr std::chrono::seconds patience{20};
  static void CUDART_CB hold(void* self) {
    auto& gate = *static_cast<Gate*>(self);
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!gate.open_ && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    gate.passed_ = true;
  }
  std::atomic<bool> open_{false};
  std::atomic<bool> passed_{false};
};

}  // namespace gpu
