// Which kernel a conversion is for, and with how many blocks: a pure function of what is asked and of where it lies.
// The CUDA backend launches the choice, the simulated device runs it.
#pragma once

#include <cstdint>

#include "channels.h"
#include "fused.h"
#include "general.h"
#include "job.h"
#include "transpose.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

enum class KernelKind : std::uint8_t { copy, fused, scaled, channels, transpose, general };
enum class WideKind : std::uint8_t { single, double_, signed_, unsigned_ };

struct Launch {
  KernelKind kind = KernelKind::general;
  WideKind wide = WideKind::single;  // of the general kernel
  std::uint32_t blocks = 0;          // 0: there is nothing to do
  std::uint32_t shared_bytes = 0;
  DType from{};  // of the kernels of pairs
  DType to{};
  Job job{};
};

// Requires: at most Conversion::most_segments segments. These are dense, and scaled by one number if at all; losses
// among them are counted, and not told apart.
//
// `numbers`: others than what ships are for experiments and tests. A launch of the general kernel is then to be run by
// the one of that group.
[[nodiscard]] Launch choose(const Conversion& work, const tuning::Numbers& numbers = {}) noexcept;

// `use(Body{})` of the kernel that was chosen: of one of fused.h, of channels.h, of transpose.h, of general.h, of any.
template <class Use>
void use_dense(const Launch& launch, Use use) {
  if (launch.kind == KernelKind::copy) return use(CopyVectors{});
  if (launch.kind == KernelKind::fused) {
    use_fused(launch.from, launch.to, use);
  } else if (launch.kind == KernelKind::scaled) {
    use_scaled(launch.from, launch.to, use);
  }
}
template <class Use>
void use_channels(const Launch& launch, Use use) {
  use_channels(launch.from, launch.to, launch.job.tiles.plane[0], use);
}
template <int some = tuning::transposed, class Use>
void use_transpose(const Launch& launch, Use use) {
  if (launch.job.keeps_bits) {
    use_moving_transpose<some>(launch.job.from_side.size, use);
  } else {
    use_converting_transpose<some>(launch.from, launch.to, use);
  }
}

template <int group = tuning::group, class Use>
void use_general(const Launch& launch, Use use) {
  const bool counts = launch.job.tally != nullptr;
  switch (launch.wide) {
    case WideKind::single:
      return counts ? use(General<float, true, group>{}) : use(General<float, false, group>{});
    case WideKind::double_:
      return counts ? use(General<double, true, group>{}) : use(General<double, false, group>{});
    case WideKind::signed_:
      return counts ? use(General<std::int64_t, true, group>{}) : use(General<std::int64_t, false, group>{});
    case WideKind::unsigned_:
      return counts ? use(General<std::uint64_t, true, group>{}) : use(General<std::uint64_t, false, group>{});
  }
}

template <class Use>
void use_kernel(const Launch& launch, Use use) {
  if (launch.kind == KernelKind::general) return use_general(launch, use);
  if (launch.kind == KernelKind::channels) return use_channels(launch, use);
  if (launch.kind == KernelKind::transpose) return use_transpose(launch, use);
  use_dense(launch, use);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
