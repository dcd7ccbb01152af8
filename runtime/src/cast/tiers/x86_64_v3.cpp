// Kernels for x86-64-v3. Compiled with -march=x86-64-v3.
#define HALFWAY_TIER_NAME "x86-64-v3"
#define HALFWAY_TIER_KERNELS kernels_x86_64_v3
#include "loops.h"
