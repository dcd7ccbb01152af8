// Torch's copy of dlpack.h before halfway's headers. Its include guard is DLPack's own.
#include <ATen/dlpack.h>

#include <halfway/halfway.h>
#include <halfway/torch.h>

namespace {
[[maybe_unused]] halfway::Tensor imported(DLManagedTensor* managed) { return halfway::from_dlpack(managed); }
}  // namespace
