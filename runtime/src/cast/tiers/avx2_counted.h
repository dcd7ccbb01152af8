// Encoding and counting in one loop, in AVX2 and F16C: as exact as two loops, for less than twice the time of one.
// Included by loops.h alone, after avx2.h.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// Counts in 16-bit lanes: for at most 2^16 vectors.
class LaneCounts {
 public:
  // 16 results. `kept`: all ones where the value was kept, or is NaN. `infinity`: the pattern.
  void add(__m256i results, __m256i kept, __m256i infinity) noexcept {
    const __m256i magnitude = _mm256_and_si256(results, _mm256_set1_epi16(0x7FFF));
    const __m256i zero = _mm256_cmpeq_epi16(magnitude, _mm256_setzero_si256());
    const __m256i infinite = _mm256_cmpeq_epi16(magnitude, infinity);
    kept_ = _mm256_sub_epi16(kept_, kept);
    underflow_ = _mm256_sub_epi16(underflow_, _mm256_andnot_si256(kept, zero));
    overflow_ = _mm256_sub_epi16(overflow_, _mm256_andnot_si256(kept, infinite));
  }

  // Masks of 8 floats each.
  void add_nan(__m256 low, __m256 high) noexcept {
    nan_ += static_cast<std::uint64_t>(_mm_popcnt_u32(static_cast<unsigned>(_mm256_movemask_ps(low))) +
                                       _mm_popcnt_u32(static_cast<unsigned>(_mm256_movemask_ps(high))));
  }

  void add_to(Counts& counts, std::size_t elements) const noexcept {
    counts.nan += nan_;
    const std::uint64_t overflow = sum(overflow_);
    counts.overflow += overflow;
    counts.underflow += sum(underflow_);
    counts.inexact += elements - sum(kept_) - overflow;
  }

 private:
  static std::uint64_t sum(__m256i lanes) noexcept {
    std::uint16_t each[16];
    store_vector(reinterpret_cast<std::byte*>(each), lanes);
    std::uint64_t total = 0;
    for (const std::uint16_t lane : each) total += lane;
    return total;
  }

  __m256i kept_ = _mm256_setzero_si256();
  __m256i underflow_ = _mm256_setzero_si256();
  __m256i overflow_ = _mm256_setzero_si256();
  std::uint64_t nan_ = 0;
};

// The results of 16 floats.
template <class To>
struct CountedStep {
  static constexpr std::size_t width = 0;
};
template <class To>
constexpr bool has_counted_step = CountedStep<To>::width != 0;

template <>
struct CountedStep<convert::BFloat16> {
  static constexpr std::size_t width = 16;
  static __m256i of(const std::byte* from, LaneCounts& lanes) noexcept {
    const __m256 low = load_floats(from);
    const __m256 high = load_floats(from + 32);
    __m256i results = _mm256_packus_epi32(round_to_bfloat16(low), round_to_bfloat16(high));
    const __m256i dropped = _mm256_set1_epi32(0xFFFF);
    const __m256i lost = _mm256_packus_epi32(_mm256_and_si256(_mm256_castps_si256(low), dropped),
                                             _mm256_and_si256(_mm256_castps_si256(high), dropped));
    __m256i kept = _mm256_cmpeq_epi16(lost, _mm256_setzero_si256());
    if (has_nan(low, high)) {
      const __m256 low_is_nan = _mm256_cmp_ps(low, low, _CMP_UNORD_Q);
      const __m256 high_is_nan = _mm256_cmp_ps(high, high, _CMP_UNORD_Q);
      lanes.add_nan(low_is_nan, high_is_nan);
      const __m256i is_nan = _mm256_packs_epi32(_mm256_castps_si256(low_is_nan), _mm256_castps_si256(high_is_nan));
      results = _mm256_blendv_epi8(results, _mm256_set1_epi16(0x7FFF), is_nan);
      kept = _mm256_or_si256(kept, is_nan);
    }
    lanes.add(results, kept, _mm256_set1_epi16(0x7F80));
    return in_order(results);
  }
};

template <>
struct CountedStep<convert::Float16> {
  static constexpr std::size_t width = 16;
  static __m256i of(const std::byte* from, LaneCounts& lanes) noexcept {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const __m256 low = load_floats(from);
    const __m256 high = load_floats(from + 32);
    const __m128i low_halves = _mm256_cvtps_ph(low, nearest);
    const __m128i high_halves = _mm256_cvtps_ph(high, nearest);
    __m256i results = join(low_halves, high_halves);
    const __m256 low_kept = _mm256_cmp_ps(_mm256_cvtph_ps(low_halves), low, _CMP_EQ_UQ);
    const __m256 high_kept = _mm256_cmp_ps(_mm256_cvtph_ps(high_halves), high, _CMP_EQ_UQ);
    const __m256i kept = in_order(_mm256_packs_epi32(_mm256_castps_si256(low_kept), _mm256_castps_si256(high_kept)));
    if (has_nan(low, high)) {
      lanes.add_nan(_mm256_cmp_ps(low, low, _CMP_UNORD_Q), _mm256_cmp_ps(high, high, _CMP_UNORD_Q));
      results = to_float16({low, high});
    }
    lanes.add(results, kept, _mm256_set1_epi16(0x7C00));
    return results;
  }
};

template <class To, class Stores>
void run_counted_steps(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n,
                       Counts& counts) noexcept {
  constexpr std::size_t width = CountedStep<To>::width;
  constexpr std::size_t some = width << 15U;
  std::size_t i = elements_to_align<sizeof(typename To::Bits), Stores>(to, n);
  encode_and_sum<To, float, false>(from, to, i, counts);
  while (i + width <= n) {
    const std::size_t begin = i;
    const std::size_t end = n - begin < some ? n : begin + some;
    LaneCounts lanes;
    i = for_steps<width>(begin, end, lanes, [=](std::size_t at, LaneCounts& counted) noexcept {
      Stores::fetch(from + 4 * at, 4 * width);
      [[maybe_unused]] const __m256i results = CountedStep<To>::of(from + 4 * at, counted);
      if constexpr (!std::is_same_v<Stores, Discarded>) Stores::put(to + 2 * at, results);
    });
    LaneCounts(lanes).add_to(counts, i - begin);  // of a copy: the lanes themselves stay in registers
  }
  std::byte unused[2 * width];
  encode_and_sum<To, float, false>(from + 4 * i, std::is_same_v<Stores, Discarded> ? unused : to + 2 * i, n - i,
                                   counts);
}

// A `CountedLoop` for casts that do not saturate. Without `elements` it counts, and writes nothing.
template <class To>
void encode_counted_streamed(const std::byte* wide, std::byte* elements, std::size_t n, bool /*saturate*/,
                             Counts& counts) noexcept {
  if (elements == nullptr) return run_counted_steps<To, Discarded>(wide, elements, n, counts);
  run_counted_steps<To, Streamed>(wide, elements, n, counts);
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
