// Kernels for x86-64-v4. Compiled with -march=x86-64-v4.
#define HALFWAY_TIER_NAME "x86-64-v4"
#define HALFWAY_TIER_KERNELS kernels_x86_64_v4
#include "loops.h"
