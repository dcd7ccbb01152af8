// The floor of the cast benchmark: how fast this machine moves the bytes of a cast, without casting. A C library for
// ctypes, which releases the GIL around every call; see bench/floor.py for its use.
#include <cstddef>
#include <cstdint>
#include <mutex>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "helper.h"

#define FLOOR extern "C" __attribute__((visibility("default")))

namespace {

template <std::size_t Read, std::size_t Write>
void sweep_bytes(const std::byte* source, std::byte* destination, std::size_t units) {
  for (std::size_t i = 0; i < units; ++i) {
    std::byte all = source[i * Read];
    for (std::size_t j = 1; j < Read; ++j) all |= source[i * Read + j];
    for (std::size_t j = 0; j < Write; ++j) destination[i * Write + j] = all;
  }
}

#if defined(__x86_64__)

#define SWEEP sweep_sse2
#define SWEEP_TARGET
#define SWEEP_VECTOR __m128i
#define SWEEP_LOAD(from) _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))
#define SWEEP_STORE(to, value) _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value)
#define SWEEP_STREAM(to, value) _mm_stream_si128(reinterpret_cast<__m128i*>(to), value)
#define SWEEP_OR(a, b) _mm_or_si128(a, b)
#include "sweep.h"

#define SWEEP sweep_avx2
#define SWEEP_TARGET __attribute__((target("avx2")))
#define SWEEP_VECTOR __m256i
#define SWEEP_LOAD(from) _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))
#define SWEEP_STORE(to, value) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value)
#define SWEEP_STREAM(to, value) _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value)
#define SWEEP_OR(a, b) _mm256_or_si256(a, b)
#include "sweep.h"

#define SWEEP sweep_avx512
#define SWEEP_TARGET __attribute__((target("avx512f")))
#define SWEEP_VECTOR __m512i
#define SWEEP_LOAD(from) _mm512_loadu_si512(from)
#define SWEEP_STORE(to, value) _mm512_storeu_si512(to, value)
#define SWEEP_STREAM(to, value) _mm512_stream_si512(reinterpret_cast<__m512i*>(to), value)
#define SWEEP_OR(a, b) _mm512_or_si512(a, b)
#include "sweep.h"

#else

// Non-temporal stores have no portable spelling: both modes are the plain one here.
using Words = std::uint64_t __attribute__((vector_size(16), may_alias, aligned(1)));
#define SWEEP sweep_portable
#define SWEEP_TARGET
#define SWEEP_VECTOR Words
#define SWEEP_LOAD(from) (*reinterpret_cast<const Words*>(from))
#define SWEEP_STORE(to, value) (*reinterpret_cast<Words*>(to) = (value))
#define SWEEP_STREAM(to, value) SWEEP_STORE(to, value)
#define SWEEP_OR(a, b) ((a) | (b))
#include "sweep.h"

#endif

enum class Isa : std::uint8_t { portable, sse2, avx2, avx512 };

Isa detect() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return Isa::avx512;
  return __builtin_cpu_supports("avx2") ? Isa::avx2 : Isa::sse2;
#else
  return Isa::portable;
#endif
}

const Isa isa = detect();

using Sweep = void (*)(const std::byte*, std::byte*, std::size_t);

template <std::size_t Read, std::size_t Write, bool Stream>
Sweep of_this_machine() {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512:
      return sweep_avx512<Read, Write, Stream>;
    case Isa::avx2:
      return sweep_avx2<Read, Write, Stream>;
    default:
      return sweep_sse2<Read, Write, Stream>;
  }
#else
  return sweep_portable<Read, Write, Stream>;
#endif
}

template <bool Stream>
Sweep find(std::size_t read, std::size_t write) {
  if (write == 1) {
    switch (read) {
      case 1:
        return of_this_machine<1, 1, Stream>();
      case 2:
        return of_this_machine<2, 1, Stream>();
      case 4:
        return of_this_machine<4, 1, Stream>();
      case 8:
        return of_this_machine<8, 1, Stream>();
      case 12:  // records, of which a part is written
        return of_this_machine<12, 1, Stream>();
      default:
        return nullptr;
    }
  }
  if (read != 1) return nullptr;
  switch (write) {
    case 2:
      return of_this_machine<1, 2, Stream>();
    case 4:
      return of_this_machine<1, 4, Stream>();
    case 8:
      return of_this_machine<1, 8, Stream>();
    default:
      return nullptr;
  }
}

struct Job {
  Sweep sweep = nullptr;
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  std::size_t units = 0;
  bool stream = false;

  void operator()() const {
    sweep(source, destination, units);
#if defined(__x86_64__)
    if (stream) _mm_sfence();  // the stores count once they are ordered before what follows
#endif
  }
};

std::mutex one_call_at_a_time;

}  // namespace

// Reads `bytes_read` bytes of `source` and writes `bytes_written` bytes of `destination` in one sweep, `repetitions`
// times. The larger of the two counts is 1, 2, 4 or 8 times the smaller; 12 times as many may be read as written.
// `threads` is 1 or 2; below 128 units there is nothing to share and one thread does it all. Returns 0, or -1 for
// arguments outside of this.
FLOOR int halfway_floor_move(const void* source, void* destination, std::size_t bytes_read, std::size_t bytes_written,
                             int non_temporal, int threads, std::size_t repetitions) {
  const std::size_t units = bytes_read < bytes_written ? bytes_read : bytes_written;
  if (units == 0 || bytes_read % units != 0 || bytes_written % units != 0 || threads < 1 || threads > 2) return -1;
  const std::size_t read = bytes_read / units;
  const std::size_t write = bytes_written / units;
  const bool stream = non_temporal != 0;
  const Sweep sweep = stream ? find<true>(read, write) : find<false>(read, write);
  if (sweep == nullptr) return -1;

  const std::lock_guard lock(one_call_at_a_time);
  Job all{sweep, static_cast<const std::byte*>(source), static_cast<std::byte*>(destination), units, stream};
  const std::size_t half = units / 2 / 64 * 64;
  if (threads == 1 || half == 0) {
    for (std::size_t i = 0; i < repetitions; ++i) all();
    return 0;
  }
  const Job second{sweep, all.source + half * read, all.destination + half * write, units - half, stream};
  all.units = half;
  for (std::size_t i = 0; i < repetitions; ++i) {
    halfway_bench::run_both(all, second);
  }
  return 0;
}

// The instruction set that the sweeps use here.
FLOOR const char* halfway_floor_isa() {
  switch (isa) {
    case Isa::avx512:
      return "avx512f";
    case Isa::avx2:
      return "avx2";
    case Isa::sse2:
      return "sse2";
    default:
      return "portable";
  }
}
