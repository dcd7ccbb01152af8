// Torch's copy of dlpack.h behind halfway's headers.
#include <halfway/halfway.h>
#include <halfway/torch.h>

#include <ATen/dlpack.h>

namespace {
[[maybe_unused]] halfway::Tensor imported(DLManagedTensor* managed) { return halfway::from_dlpack(managed); }
}  // namespace
