#include "device.h"

#include <new>

#include "halfway/error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

void fail(const Backend& backend, Status status, std::string_view call) {
  if (status == Status::out_of_memory) throw std::bad_alloc();
  const std::string text = std::string(call) + ": " + backend.error_text(status);
  switch (status) {
    case Status::no_driver:
    case Status::no_device:
      throw Error(Reason::unavailable, "no CUDA device: " + text, backend.missing());
    case Status::not_initialized:
      throw Error(Reason::unavailable, text,
                  "CUDA does not survive a fork: start workers by spawn, or use the device in the parent");
    case Status::invalid_device:
      throw Error(Reason::device, "no such CUDA device: " + text, "CUDA_VISIBLE_DEVICES says which ones there are");
    case Status::invalid_handle:
      throw Error(Reason::stream, text, "pass a stream of the device that the tensor is on");
    case Status::already_pinned:
      throw Error(Reason::overlap, "the memory, or a page of it, is page-locked already: " + text,
                  "pin memory once, from the outermost place that needs it");
    default:
      throw Error(Reason::unavailable, "the device failed in " + text);
  }
}

DeviceScope::DeviceScope(Backend& backend, int device) : backend_(backend), device_(device) {
  require(backend, backend.current_device(previous_), "asking for the current device");
  if (previous_ != device_) require(backend, backend.set_device(device_), "making a device current");
}

DeviceScope::~DeviceScope() {
  if (previous_ != device_) static_cast<void>(backend_.set_device(previous_));
}

std::int64_t process_id() noexcept {
#if defined(__unix__) || defined(__APPLE__)
  return static_cast<std::int64_t>(::getpid());
#else
  return 0;
#endif
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
