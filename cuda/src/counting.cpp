#include "counting.h"

#include <new>

#include "planted.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

Tally* Counting::begin(Stream stream) {
  if (pinned_ == nullptr) {
    void* memory = nullptr;
    require(backend_, backend_.allocate_pinned(sizeof(Pinned), memory), "allocating pinned memory");
    pinned_ = new (memory) Pinned{};
  }
  if (tally_ == nullptr) require(backend_, backend_.allocate(sizeof(Tally), tally_), "allocating device memory");
  if (!has_bug(Bug::keep_counts)) {
    require(backend_, backend_.copy(tally_, &pinned_->start, sizeof(Tally), CopyKind::to_device, stream),
            "copying to the device");
  }
  return static_cast<Tally*>(tally_);
}

void Counting::fetch(Stream stream) {
  require(backend_, backend_.copy(&pinned_->found, tally_, sizeof(Tally), CopyKind::to_host, stream),
          "copying to the host");
}

const std::byte* Counting::fetch_element(const void* place, std::size_t size, Stream stream) {
  require(backend_, backend_.copy(pinned_->element.data(), place, size, CopyKind::to_host, stream),
          "copying to the host");
  return pinned_->element.data();
}

void Counting::release() noexcept {
  if (tally_ != nullptr) static_cast<void>(backend_.free(tally_));
  if (pinned_ != nullptr) static_cast<void>(backend_.free_pinned(pinned_));
  tally_ = nullptr;
  pinned_ = nullptr;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
