// Stochastic rounding: the lanes of elements, and the encoding with them. Included by loops.h alone.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// The lanes of `counters` counters from `counter` on.
#if defined(__AVX2__)
// Eight counters at a time, a word of each in one vector. The processor multiplies every other word, so that both
// halves of a product take two multiplications and a blend. 8 times as fast as the loop of the functor, which GCC 12
// leaves scalar.
struct EightCounters {
  __m256i word[4];
};

struct Product {
  __m256i high;
  __m256i low;
};

inline Product multiply(__m256i words, std::uint32_t multiplier) noexcept {
  const __m256i factor = _mm256_set1_epi64x(multiplier);
  const __m256i even = _mm256_mul_epu32(words, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(words, 32), factor);
  constexpr int odd_words = 0xAA;
  return {_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, odd_words),
          _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), odd_words)};
}

inline EightCounters philox(std::uint64_t counter, std::uint64_t seed) noexcept {
  const __m256i first = _mm256_set1_epi64x(static_cast<std::int64_t>(counter));
  const __m256i low_four = _mm256_add_epi64(first, _mm256_setr_epi64x(0, 1, 2, 3));
  const __m256i high_four = _mm256_add_epi64(first, _mm256_setr_epi64x(4, 5, 6, 7));
  // Words 0 and 1 of all eight: deinterleaved, then brought into order.
  const __m256 low = _mm256_castsi256_ps(low_four);
  const __m256 high = _mm256_castsi256_ps(high_four);
  const auto in_sequence = [](__m256 words) { return _mm256_permute4x64_epi64(_mm256_castps_si256(words), 0xD8); };
  EightCounters x{{in_sequence(_mm256_shuffle_ps(low, high, 0x88)), in_sequence(_mm256_shuffle_ps(low, high, 0xDD)),
                   _mm256_setzero_si256(), _mm256_setzero_si256()}};
  auto key_0 = static_cast<std::uint32_t>(seed);
  auto key_1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < convert::Philox::rounds; ++round) {
    const Product product_0 = multiply(x.word[0], convert::Philox::multiplier_0);
    const Product product_2 = multiply(x.word[2], convert::Philox::multiplier_2);
    const auto mixed = [](__m256i a, __m256i b, std::uint32_t key) {
      return _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_set1_epi32(static_cast<std::int32_t>(key)));
    };
    x = {{mixed(product_2.high, x.word[1], key_0), product_2.low, mixed(product_0.high, x.word[3], key_1),
          product_0.low}};
    key_0 += convert::Philox::weyl_0;
    key_1 += convert::Philox::weyl_1;
  }
  return x;
}

// 64 lanes: the words of each counter side by side, the counters in order.
inline void store_lanes(std::uint16_t* lanes, const EightCounters& x) noexcept {
  const __m256i low_01 = _mm256_unpacklo_epi32(x.word[0], x.word[1]);
  const __m256i high_01 = _mm256_unpackhi_epi32(x.word[0], x.word[1]);
  const __m256i low_23 = _mm256_unpacklo_epi32(x.word[2], x.word[3]);
  const __m256i high_23 = _mm256_unpackhi_epi32(x.word[2], x.word[3]);
  const __m256i counters_04 = _mm256_unpacklo_epi64(low_01, low_23);
  const __m256i counters_15 = _mm256_unpackhi_epi64(low_01, low_23);
  const __m256i counters_26 = _mm256_unpacklo_epi64(high_01, high_23);
  const __m256i counters_37 = _mm256_unpackhi_epi64(high_01, high_23);
  auto* const to = reinterpret_cast<__m256i*>(lanes);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(counters_04, counters_15, 0x20));
  _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(counters_26, counters_37, 0x20));
  _mm256_storeu_si256(to + 2, _mm256_permute2x128_si256(counters_04, counters_15, 0x31));
  _mm256_storeu_si256(to + 3, _mm256_permute2x128_si256(counters_26, counters_37, 0x31));
}
#endif

void fill_lanes(std::uint64_t seed, std::uint64_t first, std::uint16_t* lanes, std::size_t n) noexcept {
  constexpr std::size_t some = convert::lanes_of_counter;
  std::size_t i = 0;
  while (i < n) {
    const std::uint64_t index = first + i;
#if defined(__AVX2__)
    constexpr std::size_t many = 8 * some;
    if (index % some == 0 && n - i >= many) {
      store_lanes(lanes + i, philox(index / some, seed));
      i += many;
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
