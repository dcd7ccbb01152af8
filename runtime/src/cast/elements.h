// How the elements of one side of a pass lie in memory. Private to the runtime.
#pragma once

#include <cstddef>

#include "halfway/dtype.h"

namespace halfway {
inline namespace v0 {
namespace detail {

struct Elements {
  DType dtype;
  std::size_t size;       // bytes of an element
  std::size_t swap_unit;  // bytes whose order is reversed; 1 when nothing is
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
