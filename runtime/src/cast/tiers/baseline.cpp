// Kernels for what every processor of the architecture has: SSE2 on x86-64, NEON on 64-bit ARM.
#if defined(__aarch64__)
#define HALFWAY_TIER_NAME "neon"
#else
#define HALFWAY_TIER_NAME "baseline"
#endif
#define HALFWAY_TIER_KERNELS kernels_baseline
#include "loops.h"
