// What somebody would write by hand for exactly this: bytes of RGB images, pixel by pixel (NHWC), to normalised
// bfloat16 planes (NCHW). The benchmarks hold the general engine against it; a C library for ctypes, see
// bench/by_hand.py.
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "helper.h"

namespace {

constexpr std::size_t channels = 3;

struct Coefficients {
  float scale[channels];
  float shift[channels];
};

// The bits of bfloat16(byte * scale + shift), rounded to nearest even. Never NaN.
std::uint16_t normalised(std::uint8_t byte, float scale, float shift) {
  const auto bits = std::bit_cast<std::uint32_t>(std::fma(static_cast<float>(byte), scale, shift));
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

// `count` pixels to one place in each of three planes, which lie `plane` elements apart.
void pixels_portable(const std::uint8_t* source, std::uint16_t* destination, std::size_t count, std::size_t plane,
                     const Coefficients& by) {
  for (std::size_t c = 0; c < channels; ++c) {
    const float scale = by.scale[c];
    const float shift = by.shift[c];
    for (std::size_t i = 0; i < count; ++i) {
      destination[c * plane + i] = normalised(source[i * channels + c], scale, shift);
    }
  }
}

#if defined(__x86_64__)

#define BY_HAND __attribute__((target("avx2,fma")))

// 16 elements, given as 16-bit words, as bfloat16. The even and the odd ones are converted apart, so that no
// instruction but a blend is needed to bring the halves together.
BY_HAND inline __m256i words_normalised(__m256i words, __m256 scale, __m256 shift) {
  const __m256i even = _mm256_and_si256(words, _mm256_set1_epi32(0xFFFF));
  const __m256i odd = _mm256_srli_epi32(words, 16);
  const __m256i low = _mm256_castps_si256(_mm256_fmadd_ps(_mm256_cvtepi32_ps(even), scale, shift));
  const __m256i high = _mm256_castps_si256(_mm256_fmadd_ps(_mm256_cvtepi32_ps(odd), scale, shift));
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i half = _mm256_set1_epi32(0x7FFF);
  const __m256i low_rounded =
      _mm256_add_epi32(_mm256_add_epi32(low, half), _mm256_and_si256(_mm256_srli_epi32(low, 16), one));
  const __m256i high_rounded =
      _mm256_add_epi32(_mm256_add_epi32(high, half), _mm256_and_si256(_mm256_srli_epi32(high, 16), one));
  return _mm256_blend_epi16(_mm256_srli_epi32(low_rounded, 16), high_rounded, 0xAA);
}

BY_HAND inline __m256i two_halves(const std::uint8_t* low, const std::uint8_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(low))),
                                 _mm_loadu_si128(reinterpret_cast<const __m128i*>(high)), 1);
}

BY_HAND inline __m256i both(const std::uint8_t* from) {
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

template <bool Stream>
BY_HAND inline void put(std::uint16_t* to, __m256i value) {
  if constexpr (Stream) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
  }
}

// 32 pixels at a time. Byte 3i + c of three registers holds channel c of pixel i; 3 has an inverse modulo 16, so the 16
// bytes of a channel lie at 16 different places: two blends collect them, one shuffle puts them in order.
template <bool Stream>
BY_HAND void pixels_avx2(const std::uint8_t* source, std::uint16_t* destination, std::size_t count, std::size_t plane,
                         const Coefficients& by) {
  alignas(16) std::uint8_t order[channels][16];
  alignas(16) std::uint8_t from_second[channels][16] = {};
  alignas(16) std::uint8_t from_third[channels][16] = {};
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t at = 3 * i + c;
      order[c][i] = static_cast<std::uint8_t>(at % 16);
      if (at / 16 == 1) from_second[c][at % 16] = 0xFF;
      if (at / 16 == 2) from_third[c][at % 16] = 0xFF;
    }
  }
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const std::uint8_t* from = source + i * channels;
    const __m256i first = two_halves(from, from + 48);
    const __m256i second = two_halves(from + 16, from + 64);
    const __m256i third = two_halves(from + 32, from + 80);
    for (std::size_t c = 0; c < channels; ++c) {
      const __m256i scattered =
          _mm256_blendv_epi8(_mm256_blendv_epi8(first, second, both(from_second[c])), third, both(from_third[c]));
      const __m256i bytes = _mm256_shuffle_epi8(scattered, both(order[c]));
      const __m256 scale = _mm256_set1_ps(by.scale[c]);
      const __m256 shift = _mm256_set1_ps(by.shift[c]);
      std::uint16_t* to = destination + c * plane + i;
      put<Stream>(to, words_normalised(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes)), scale, shift));
      put<Stream>(to + 16, words_normalised(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(bytes, 1)), scale, shift));
    }
  }
  pixels_portable(source + i * channels, destination + i, count - i, plane, by);
}

bool has_avx2() { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }

#endif

using Pixels = void (*)(const std::uint8_t*, std::uint16_t*, std::size_t, std::size_t, const Coefficients&);

// Streaming stores need each plane at a multiple of 32 bytes; where it is not, the stores are plain.
Pixels choose(const std::uint16_t* destination, std::size_t plane, bool stream) {
#if defined(__x86_64__)
  if (has_avx2()) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(destination) % 32 == 0 && plane % 16 == 0;
    return stream && aligned ? pixels_avx2<true> : pixels_avx2<false>;
  }
#endif
  static_cast<void>(destination);
  static_cast<void>(plane);
  static_cast<void>(stream);
  return pixels_portable;
}

struct Job {
  Pixels pixels = nullptr;
  const std::uint8_t* source = nullptr;
  std::uint16_t* destination = nullptr;
  std::size_t images = 0;
  std::size_t plane = 0;
  Coefficients by{};

  void operator()() const {
    for (std::size_t n = 0; n < images; ++n) {
      const std::size_t start = n * plane * channels;
      pixels(source + start, destination + start, plane, plane, by);
    }
#if defined(__x86_64__)
    _mm_sfence();
#endif
  }
};

std::mutex one_call_at_a_time;

}  // namespace

// `images` images of `plane` pixels of three bytes, `repetitions` times. `scale` and `shift` have three values. On two
// threads each takes half of the images. Returns 0, or -1 for another number of threads.
extern "C" __attribute__((visibility("default"))) int halfway_by_hand_images(
    const std::uint8_t* source, std::uint16_t* destination, std::size_t images, std::size_t plane, const float* scale,
    const float* shift, int non_temporal, int threads, std::size_t repetitions) {
  if (threads < 1 || threads > 2) return -1;
  Job here{choose(destination, plane, non_temporal != 0), source, destination, images, plane, {}};
  for (std::size_t c = 0; c < channels; ++c) {
    here.by.scale[c] = scale[c];
    here.by.shift[c] = shift[c];
  }
  const std::lock_guard lock(one_call_at_a_time);
  Job there = here;
  there.images = threads == 1 ? 0 : images / 2;
  here.images -= there.images;
  there.source += here.images * plane * channels;
  there.destination += here.images * plane * channels;
  for (std::size_t i = 0; i < repetitions; ++i) {
    if (there.images == 0) {
      here();
    } else {
      halfway_bench::run_both(here, there);
    }
  }
  return 0;
}
