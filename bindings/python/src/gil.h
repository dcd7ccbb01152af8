// Letting other Python threads run while bytes are moved.
#pragma once

#include <cstdint>

#include "py.h"

namespace halfway::python {

// Below this the hand-over costs more than the work it would overlap with (64 KiB move in a few microseconds).
inline constexpr std::int64_t gil_release_bytes = std::int64_t{64} << 10;

// Releases the GIL for the life of the object when there is enough work. No Python object may be touched meanwhile.
class WithoutGil {
 public:
  explicit WithoutGil(std::int64_t bytes) noexcept
      : state_(bytes > gil_release_bytes ? PyEval_SaveThread() : nullptr) {}
  ~WithoutGil() {
    if (state_ != nullptr) {
      staying_at_exit([this] { PyEval_RestoreThread(state_); });
    }
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace halfway::python
