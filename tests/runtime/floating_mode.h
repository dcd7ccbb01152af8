// The floating-point modes that a caller may be in. x86 alone: everything here is behind __SSE__.
#pragma once

#if defined(__SSE__)
#include <xmmintrin.h>

#include <vector>

namespace floating_mode {

inline constexpr unsigned standard = 0x1F80;                              // no exception traps
inline constexpr unsigned flush = 0x8040;                                 // FTZ | DAZ
inline constexpr unsigned traps = 0x0000;                                 // every exception does
inline constexpr unsigned rounding[] = {0x0000, 0x2000, 0x4000, 0x6000};  // nearest, down, up, to zero

// Sets MXCSR for as long as it lives.
class Mode {
 public:
  explicit Mode(unsigned value) : before_(_mm_getcsr()) { _mm_setcsr(value); }
  ~Mode() { _mm_setcsr(before_); }
  Mode(const Mode&) = delete;
  Mode& operator=(const Mode&) = delete;

 private:
  unsigned before_;
};

// Every rounding direction, with subnormal numbers and without, and others that frameworks or debuggers set.
inline std::vector<unsigned> modes() {
  std::vector<unsigned> all{traps, traps | flush | rounding[2], standard | 0x3F, standard | 0x8000, standard | 0x0040};
  for (const unsigned direction : rounding) {
    all.push_back(standard | direction);
    all.push_back(standard | direction | flush);
  }
  return all;
}

}  // namespace floating_mode
#endif
