// The library's own threads are not wanted where the chunks already are on all of them.
#pragma once

#if __has_include("halfway/parallel.h")
#include "halfway/parallel.h"
#endif

namespace threads {

inline void only_mine() {
#if __has_include("halfway/parallel.h")
  halfway::set_num_threads(1);
#endif
}

}  // namespace threads
