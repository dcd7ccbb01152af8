// The floating-point environment that conversions run in. Private to the runtime.
#pragma once

#include <cstdint>

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace halfway {
inline namespace v0 {
namespace detail {

// While it lives, this thread rounds to nearest, keeps subnormal numbers and traps nothing, whatever the caller has set
// (frameworks switch FTZ and DAZ on for speed). Restores the caller's environment, exception flags included: a cast
// leaves no trace in `fetestexcept`.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() noexcept : saved_(read()) {
    if ((saved_ & control) != (standard & control)) write(standard);
  }
  ~DefaultFloatEnvironment() {
    if (read() != saved_) write(saved_);
  }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
#if defined(__SSE__) || defined(_M_X64)
  // MXCSR: all exceptions masked, everything else zero. Bits 0 to 5 are the exception flags.
  using Register = unsigned int;
  static constexpr Register standard = 0x1F80;
  static constexpr Register control = 0xFFC0;
  static Register read() noexcept { return _mm_getcsr(); }
  static void write(Register value) noexcept { _mm_setcsr(value); }
#elif defined(__aarch64__)
  // FPCR: zero is the default. The exception flags are in another register, which traps nothing.
  using Register = std::uint64_t;
  static constexpr Register standard = 0;
  static constexpr Register control = ~Register{0};
  static Register read() noexcept {
    Register value;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void write(Register value) noexcept { __asm__ __volatile__("msr fpcr, %0" : : "r"(value)); }
#else
#error "say here how this processor's rounding and flush-to-zero modes are set"
#endif

  Register saved_;
};

// Orders stores that went past the caches before everything that this thread does next, the news that its part is done
// above all: other threads may read the memory then.
inline void order_streamed_stores() noexcept {
#if defined(__SSE__) || defined(_M_X64)
  _mm_sfence();
#endif
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
