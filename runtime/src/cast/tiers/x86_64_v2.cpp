// Kernels for x86-64-v2. Compiled with -march=x86-64-v2.
#define HALFWAY_TIER_NAME "x86-64-v2"
#define HALFWAY_TIER_KERNELS kernels_x86_64_v2
#include "loops.h"
