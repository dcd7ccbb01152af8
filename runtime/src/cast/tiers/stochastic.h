// Stochastic rounding: the lanes of elements, and the encoding with them. Included by loops.h alone.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// The lanes of `counters` counters from `counter` on.
#if defined(HALFWAY_HAS_STEPS)
// Four counters at a time, a word of each in the lower half of 64 bits, where the processor multiplies; what is in the
// upper halves is never looked at, so that a round is two multiplications, two shifts and the four XOR.
// 0.38 ns a lane, where the functor takes 1.1 (2-core AMD EPYC Milan virtual machine, 2026-11-25).
struct FourCounters {
  __m256i word[4];
};

inline FourCounters philox_round(const FourCounters& x, __m256i key_0, __m256i key_1) noexcept {
  const __m256i product_0 = _mm256_mul_epu32(x.word[0], _mm256_set1_epi64x(convert::Philox::multiplier_0));
  const __m256i product_2 = _mm256_mul_epu32(x.word[2], _mm256_set1_epi64x(convert::Philox::multiplier_2));
  const auto mixed = [](__m256i product, __m256i word, __m256i key) {
    return _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product, 32), word), key);
  };
  return {{mixed(product_2, x.word[1], key_0), product_2, mixed(product_0, x.word[3], key_1), product_0}};
}

// 32 lanes: the words of each counter side by side, the counters in order.
inline void store_lanes(std::uint16_t* lanes, const FourCounters& x) noexcept {
  constexpr int upper_halves = 0xAA;
  const __m256i words_01 = _mm256_blend_epi32(x.word[0], _mm256_slli_epi64(x.word[1], 32), upper_halves);
  const __m256i words_23 = _mm256_blend_epi32(x.word[2], _mm256_slli_epi64(x.word[3], 32), upper_halves);
  const __m256i counters_02 = _mm256_unpacklo_epi64(words_01, words_23);
  const __m256i counters_13 = _mm256_unpackhi_epi64(words_01, words_23);
  auto* const to = reinterpret_cast<__m256i*>(lanes);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(counters_02, counters_13, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(counters_02, counters_13, 0x31));
}

// The lanes of 8 counters: two independent chains, so that one multiplies while the other waits; four would not fit the
// registers.
constexpr std::size_t many_lanes = 8 * convert::lanes_of_counter;

inline void store_many_lanes(std::uint16_t* lanes, std::uint64_t counter, std::uint64_t seed) noexcept {
  constexpr std::size_t chains = 2;
  FourCounters x[chains];
  for (std::size_t i = 0; i < chains; ++i) {
    const __m256i first = _mm256_set1_epi64x(static_cast<std::int64_t>(counter + 4 * i));
    const __m256i counters = _mm256_add_epi64(first, _mm256_setr_epi64x(0, 1, 2, 3));
    x[i] = {{counters, _mm256_srli_epi64(counters, 32), _mm256_setzero_si256(), _mm256_setzero_si256()}};
  }
  __m256i key_0 = _mm256_set1_epi64x(static_cast<std::int64_t>(seed & 0xFFFFFFFF));
  __m256i key_1 = _mm256_set1_epi64x(static_cast<std::int64_t>(seed >> 32));
  for (int round = 0; round < convert::Philox::rounds; ++round) {
    for (FourCounters& four : x) four = philox_round(four, key_0, key_1);
    key_0 = _mm256_add_epi32(key_0, _mm256_set1_epi64x(convert::Philox::weyl_0));
    key_1 = _mm256_add_epi32(key_1, _mm256_set1_epi64x(convert::Philox::weyl_1));
  }
  for (std::size_t i = 0; i < chains; ++i) store_lanes(lanes + 32 * i, x[i]);
}
#endif

void fill_lanes(std::uint64_t seed, std::uint64_t first, std::uint16_t* lanes, std::size_t n) noexcept {
  constexpr std::size_t some = convert::lanes_of_counter;
  std::size_t i = 0;
  while (i < n) {
    const std::uint64_t index = first + i;
#if defined(HALFWAY_HAS_STEPS)
    if (index % some == 0 && n - i >= many_lanes) {
      store_many_lanes(lanes + i, index / some, seed);
      i += many_lanes;
      continue;
    }
#endif
    const convert::Words words = convert::philox(index / some, seed);
    std::size_t lane = index % some;
    for (; lane < some && i < n; ++lane, ++i) lanes[i] = convert::lane_of(words, lane);
  }
}

template <class I>
void decode_odd_double(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    store<double>(wide + i * sizeof(double), convert::detail::to_odd_double(load<I>(elements + i * sizeof(I))));
  }
}

template <class E, class W>
void encode_stochastic(const std::byte* __restrict wide, std::byte* __restrict elements,
                       const std::uint16_t* __restrict lanes, std::size_t n, bool saturate) noexcept {
  using Bits = typename E::Bits;
  for (std::size_t i = 0; i < n; ++i) {
    const W value = load<W>(wide + i * sizeof(W));
    store<Bits>(elements + i * sizeof(Bits), convert::encode_stochastic<E>(value, lanes[i], saturate).bits);
  }
}

#if defined(HALFWAY_HAS_STEPS)
// A bfloat16 is the upper half of a float32, of any exponent: what is discarded is the lower half, and a lane that is
// added to it carries where the value rounds away from zero, beyond the largest number to infinity.
template <>
void encode_stochastic<convert::BFloat16, float>(const std::byte* __restrict wide, std::byte* __restrict elements,
                                                 const std::uint16_t* __restrict lanes, std::size_t n,
                                                 bool saturate) noexcept {
  const auto rounded = [](__m256 floats, const std::uint16_t* eight) {
    const __m128i narrow_lanes = load_half(reinterpret_cast<const std::byte*>(eight));
    return _mm256_srli_epi32(_mm256_add_epi32(_mm256_castps_si256(floats), _mm256_cvtepu16_epi32(narrow_lanes)), 16);
  };
  std::size_t i = 0;
  for (; !saturate && i + 16 <= n; i += 16) {
    const Floats floats = load_sixteen(wide + 4 * i);
    const __m256i low = rounded(floats.low, lanes + i);
    const __m256i high = rounded(floats.high, lanes + i + 8);
    store_vector(elements + 2 * i, narrow_to_bfloat16(low, high, floats));
  }
  for (; i < n; ++i) {
    const auto value = load<float>(wide + 4 * i);
    store<std::uint16_t>(elements + 2 * i,
                         convert::encode_stochastic<convert::BFloat16>(value, lanes[i], saturate).bits);
  }
}
#endif

template <class E, class W>
void stochastic_counted(const std::byte* __restrict wide, std::byte* __restrict elements,
                        const std::uint16_t* __restrict lanes, std::size_t n, bool saturate, Counts& counts) noexcept {
  encode_summing<E>(elements, n, counts, [&](std::size_t i) {
    return convert::encode_stochastic<E>(load<W>(wide + i * sizeof(W)), lanes[i], saturate);
  });
}

template <class E, class W>
constexpr void add_stochastic_from(DTypeKernels& row) noexcept {
  row.encode_stochastic[static_cast<std::size_t>(wide_type<W>)] = encode_stochastic<E, W>;
  row.stochastic_counted[static_cast<std::size_t>(wide_type<W>)] = stochastic_counted<E, W>;
}

template <class E>
constexpr void add_stochastic(DTypeKernels& row) noexcept {
  if constexpr (convert::is_float<E>) {
    if constexpr (E::bits < 32) add_stochastic_from<E, float>(row);
    if constexpr (E::bits < 64) {
      add_stochastic_from<E, double>(row);
    } else {
      add_stochastic_from<E, std::int64_t>(row);
      add_stochastic_from<E, std::uint64_t>(row);
    }
  }
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
