// The library's own threads are not wanted where the chunks already are on all of them.
#pragma once

#include "halfway/parallel.h"

namespace threads {

inline void only_mine() { halfway::set_num_threads(1); }

}  // namespace threads
