#include "halfway/dlpack.h"

#include <stdexcept>
#include <string>

#include "box.h"

namespace halfway {
inline namespace v0 {
namespace {

// Calls the producer's deleter unless told that somebody else will.
template <class Managed>
class Claim {
 public:
  explicit Claim(Managed* managed) noexcept : managed_(managed) {}
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    if (managed_ != nullptr) let_go(managed_);
  }
  void dismiss() noexcept { managed_ = nullptr; }

  static void let_go(Managed* managed) noexcept {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }

 private:
  Managed* managed_;
};

template <class Managed>
void release_producer(detail::Box* box) noexcept {
  auto* const managed = static_cast<Managed*>(box->context);
  detail::Box::free(box);
  Claim<Managed>::let_go(managed);
}

template <class Managed>
Tensor import_or_release(Managed* managed) {
  if (managed == nullptr) throw std::invalid_argument("from_dlpack was given no struct");
  Claim claim(managed);
  Tensor tensor = detail::import_tensor(managed, release_producer<Managed>);
  claim.dismiss();
  return tensor;
}

template <class Managed>
Tensor import_valid(Managed* managed, std::uint64_t flags, void (*release)(detail::Box*) noexcept) {
  const DLTensor& source = managed->dl_tensor;
  const Defect defect = detail::validate_tensor(source, flags);
  if (defect != Defect::none) detail::refuse(defect, source);
  detail::Box* const box = detail::Box::make(source.ndim, release, managed);
  detail::describe(*box, source, flags);
  return detail::Box::wrap(box);
}

}  // namespace

namespace detail {

Tensor import_tensor(DLManagedTensorVersioned* managed, void (*release)(Box*) noexcept) {
  const DLPackVersion version = managed->version;
  if (version.major != 1) {
    throw Error(Reason::version,
                "the DLPack version is " + std::to_string(version.major) + "." + std::to_string(version.minor) +
                    ", and only major version 1 is understood",
                "ask the producer for version 1");
  }
  return import_valid(managed, managed->flags, release);
}

Tensor import_tensor(DLManagedTensor* managed, void (*release)(Box*) noexcept) {
  return import_valid(managed, 0, release);
}

}  // namespace detail

Tensor from_dlpack(DLManagedTensorVersioned* managed) { return import_or_release(managed); }
Tensor from_dlpack(DLManagedTensor* managed) { return import_or_release(managed); }

}  // namespace v0
}  // namespace halfway
