// A build without CUDA's toolkit: there is no device, and every call says so.
#include "device.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {
namespace {

class Absent final : public Backend {
 public:
  [[nodiscard]] std::string missing() const override {
    return "this build of halfway has no CUDA part: build it where nvcc is found, with HALFWAY_CUDA=ON";
  }
  [[nodiscard]] std::string error_text(Status /*status*/) const override { return "built without CUDA"; }

  Status device_count(int& count) noexcept override {
    count = 0;
    return Status::no_device;
  }
  Status traits(int /*device*/, DeviceTraits& /*traits*/) override { return Status::no_device; }
  Status current_device(int& /*device*/) noexcept override { return Status::no_device; }
  Status set_device(int /*device*/) noexcept override { return Status::no_device; }
  Status allocate(std::size_t /*bytes*/, void*& /*memory*/) noexcept override { return Status::no_device; }
  Status free(void* /*memory*/) noexcept override { return Status::no_device; }
  Status allocate_pinned(std::size_t /*bytes*/, void*& /*memory*/) noexcept override { return Status::no_device; }
  Status free_pinned(void* /*memory*/) noexcept override { return Status::no_device; }
  Status register_pinned(void* /*memory*/, std::size_t /*bytes*/) noexcept override { return Status::no_device; }
  Status unregister_pinned(void* /*memory*/) noexcept override { return Status::no_device; }
  Status pointer_traits(const void* /*memory*/, PointerTraits& /*traits*/) noexcept override {
    return Status::no_device;
  }
  Status create_stream(Stream& /*stream*/) noexcept override { return Status::no_device; }
  Status destroy_stream(Stream /*stream*/) noexcept override { return Status::no_device; }
  Status is_capturing(Stream /*stream*/, bool& /*capturing*/) noexcept override { return Status::no_device; }
  Status create_event(Event& /*event*/) noexcept override { return Status::no_device; }
  Status destroy_event(Event /*event*/) noexcept override { return Status::no_device; }
  Status record(Event /*event*/, Stream /*stream*/) noexcept override { return Status::no_device; }
  Status wait(Stream /*stream*/, Event /*event*/) noexcept override { return Status::no_device; }
  Status query(Event /*event*/) noexcept override { return Status::no_device; }
  Status synchronize(Event /*event*/) noexcept override { return Status::no_device; }
  Status synchronize_stream(Stream /*stream*/) noexcept override { return Status::no_device; }
  Status synchronize_device() noexcept override { return Status::no_device; }
  Status copy(void* /*destination*/, const void* /*source*/, std::size_t /*bytes*/, CopyKind /*kind*/,
              Stream /*stream*/) noexcept override {
    return Status::no_device;
  }
  Status launch(const Conversion& /*work*/, Stream /*stream*/) noexcept override { return Status::no_device; }
};

}  // namespace

Backend& shipped_backend() noexcept {
  static Absent backend;
  return backend;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
