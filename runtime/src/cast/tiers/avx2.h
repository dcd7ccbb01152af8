// Steps in AVX2 and F16C that are worth writing by hand: GCC 12 makes 2 to 5 times as many instructions of the functors
// (it has no float16 conversions, works in 32 bits where 16 are enough, and forms what is rarely needed for every
// element). Same bits: the exhaustive tests compare every tier. bench/steps.py measures what each is worth, in the
// table of docs/casting.md. Included by loops.h alone.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

inline __m256i load_vector(const std::byte* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
inline __m256 load_floats(const std::byte* from) noexcept {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
}
inline __m256d load_doubles(const std::byte* from) noexcept {
  return _mm256_loadu_pd(reinterpret_cast<const double*>(from));
}
inline __m128i load_half(const std::byte* from) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
inline __m128 load_half_floats(const std::byte* from) noexcept {
  return _mm_loadu_ps(reinterpret_cast<const float*>(from));
}

// Instructions that pack and unpack do so in each half of a vector for itself: this puts the quarters in the order that
// makes the result one sequence, before unpacking and after packing.
inline __m256i in_order(__m256i value) noexcept { return _mm256_permute4x64_epi64(value, 0xD8); }

// Two vectors of 32-bit elements below 2^16 to one of 16-bit elements.
inline __m256i narrow(__m256i low, __m256i high) noexcept { return in_order(_mm256_packus_epi32(low, high)); }

// NaN is rare: whether there is any is asked for many elements at once, and what it takes is done only then.
inline bool has_nan(__m256 a, __m256 b) noexcept { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)) != 0; }

// What a step makes.
template <std::size_t n>
struct Vectors {
  __m256i parts[n];
};
using OneVector = Vectors<1>;
using TwoVectors = Vectors<2>;

inline OneVector one(__m256i part) noexcept { return {{part}}; }

// 16 elements on their way.
struct Floats {
  __m256 low;
  __m256 high;
};
inline Floats load_sixteen(const std::byte* from) noexcept { return {load_floats(from), load_floats(from + 32)}; }
inline TwoVectors two(Floats floats) noexcept {
  return {{_mm256_castps_si256(floats.low), _mm256_castps_si256(floats.high)}};
}

// --- the loop around a step

// Where vectors go: to the caches, or past them.
struct Cached {
  static constexpr std::size_t alignment = 1;
  static void put(std::byte* to, __m256i value) noexcept { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static void fetch(const std::byte* /*from*/, std::size_t /*bytes*/) noexcept {}
};

// The processor's own prefetching falls behind when it is asked for no lines to write to, so the loop fetches ahead.
struct Streamed {
  static constexpr std::size_t alignment = sizeof(__m256i);
  static void put(std::byte* to, __m256i value) noexcept { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), value); }
  static void fetch(const std::byte* from, std::size_t bytes) noexcept {
    constexpr std::size_t line = 64;
    for (std::size_t at = 0; at < bytes; at += line) {
      _mm_prefetch(reinterpret_cast<const char*>(from + streams_ahead + at), _MM_HINT_T0);
    }
  }
};

// Nowhere: what is wanted is in the state of the steps.
struct Discarded : Streamed {
  static constexpr std::size_t alignment = 1;
  static void put(std::byte* /*to*/, __m256i /*value*/) noexcept {}
};

inline void store_vector(std::byte* to, __m256i value) noexcept { Cached::put(to, value); }
inline void store_vector(std::byte* to, __m256 value) noexcept { Cached::put(to, _mm256_castps_si256(value)); }

// The byte order of what is read: the machine's, or the other one. Of some bytes of elements, `as_native` hands to
// `work` where they are in the machine's order.
struct Native {
  template <class T>
  static T element(T value) noexcept {
    return value;
  }
  template <class T, std::size_t bytes, class Work>
  static auto as_native(const std::byte* from, const Work& work) noexcept {
    return work(from);
  }
};
struct Swapped {
  template <class T>
  static T element(T value) noexcept {
    return swap_scalar(value);
  }
  // Nothing but loads of whole vectors follows, so that the compiler leaves the buffer out.
  template <class T, std::size_t bytes, class Work>
  static auto as_native(const std::byte* from, const Work& work) noexcept {
    alignas(__m256i) std::byte native[bytes];  // NOLINT(cppcoreguidelines-pro-type-member-init)
    static_assert(bytes % wide_bytes == 0);
    for (std::size_t at = 0; at < bytes; at += wide_bytes) swap_vector<T>(from + at, native + at);
    return work(native);
  }
};

// The elements that are left over at the end of a loop.
template <class To, class From, bool saturate = false, class Order = Native>
inline void convert_rest(const std::byte* from, std::byte* to, std::size_t begin, std::size_t n) noexcept {
  using Bits = typename From::Bits;
  using Out = typename To::Bits;
  for (std::size_t i = begin; i < n; ++i) {
    const Bits bits = Order::element(load<Bits>(from + i * sizeof(Bits)));
    store<Out>(to + i * sizeof(Out), convert::convert<To, From>(bits, saturate).bits);
  }
}

// The elements before the first whose place is aligned, at most `n`. `to` is aligned to its elements.
template <std::size_t size, class Stores>
inline std::size_t elements_to_align(const std::byte* to, std::size_t n) noexcept {
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(to) % Stores::alignment;
  const std::size_t elements = misaligned == 0 ? 0 : (Stores::alignment - misaligned) / size;
  return elements < n ? elements : n;
}

// Calls `step(i, state)` for `i` from `begin` on, `width` apart, as long as `width` elements are left of `n`. Returns
// the number of elements that are done. (A state that the step held by reference would not stay in registers.)
template <std::size_t width, class State, class Step>
inline std::size_t for_steps(std::size_t begin, std::size_t n, State& state, Step step) noexcept {
  std::size_t i = begin;
  for (; i + width <= n; i += width) step(i, state);
  return i;
}

// A call for each step would load all its constants anew: everything is inlined.
template <class To, class From, class Stores, bool saturate = false, class Order = Native>
[[gnu::flatten]] void run_steps(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  using This = Step<To, From, saturate>;
  using Bits = typename From::Bits;
  constexpr std::size_t from_size = sizeof(Bits);
  constexpr std::size_t to_size = sizeof(typename To::Bits);
  const std::size_t begin = elements_to_align<to_size, Stores>(to, n);
  convert_rest<To, From, saturate, Order>(from, to, 0, begin);
  This steps;
  const std::size_t done = for_steps<This::width>(begin, n, steps, [from, to](std::size_t i, This& step) {
    const std::byte* const source = from + i * from_size;
    constexpr std::size_t bytes = This::width * from_size;
    Stores::fetch(source, bytes);
    const auto made =
        Order::template as_native<Bits, bytes>(source, [&](const std::byte* native) { return step.of(native); });
    static_assert(sizeof(made) == This::width * to_size);
    std::byte* place = to + i * to_size;
    for (const __m256i part : made.parts) {
      Stores::put(place, part);
      place += sizeof(part);
    }
  });
  convert_rest<To, From, saturate, Order>(from, to, done, n);
}

// Byte order alone, past the caches.
template <class T>
void swap_streamed(const std::byte* source, std::byte* destination, std::size_t n) noexcept {
  constexpr std::size_t line = 64;
  constexpr std::size_t width = line / sizeof(T);
  std::size_t i = elements_to_align<sizeof(T), Streamed>(destination, n);
  swap_bytes<T>(source, destination, i);
  for (; i + width <= n; i += width) {
    const std::byte* const from = source + i * sizeof(T);
    std::byte* const to = destination + i * sizeof(T);
    Streamed::fetch(from, line);
    Swapped::as_native<T, line>(from, [to](const std::byte* native) {
      Streamed::put(to, load_vector(native));
      Streamed::put(to + sizeof(__m256i), load_vector(native + sizeof(__m256i)));
    });
  }
  swap_bytes<T>(source + i * sizeof(T), destination + i * sizeof(T), n - i);
}

// --- float32 and float64

inline __m256 canonical_nan(__m256 floats) noexcept {
  const __m256 is_nan = _mm256_cmp_ps(floats, floats, _CMP_UNORD_Q);
  return _mm256_blendv_ps(floats, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)), is_nan);
}
inline __m256d canonical_nan(__m256d doubles) noexcept {
  const __m256d is_nan = _mm256_cmp_pd(doubles, doubles, _CMP_UNORD_Q);
  return _mm256_blendv_pd(doubles, _mm256_castsi256_pd(_mm256_set1_epi64x(0x7FFFFFFFFFFFFFFF)), is_nan);
}

inline Floats canonical_nan(Floats floats) noexcept { return {canonical_nan(floats.low), canonical_nan(floats.high)}; }

inline __m256 join(__m128 low, __m128 high) noexcept {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

// 16 doubles as floats, rounded on the way by `rounded`.
template <class Rounded>
inline Floats sixteen_to_float(const std::byte* from, const Rounded& rounded) noexcept {
  const auto four = [&](std::size_t i) { return _mm256_cvtpd_ps(rounded(load_doubles(from + 32 * i))); };
  return {join(four(0), four(1)), join(four(2), four(3))};
}
inline __m256d as_they_are(__m256d doubles) noexcept { return doubles; }

template <>
struct Step<convert::Float32, convert::Float64> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept {
    return two(canonical_nan(sixteen_to_float(from, as_they_are)));
  }
};

template <>
struct Step<convert::Float64, convert::Float32> {
  static constexpr std::size_t width = 16;
  static Vectors<4> of(const std::byte* from) noexcept {
    Vectors<4> made;
    const bool nan = has_nan(load_floats(from), load_floats(from + 32));
    for (std::size_t i = 0; i < 4; ++i) {
      const __m256d doubles = _mm256_cvtps_pd(load_half_floats(from + 16 * i));
      made.parts[i] = _mm256_castpd_si256(nan ? canonical_nan(doubles) : doubles);
    }
    return made;
  }
};

// --- bool and bytes

// 16 unsigned bytes, exactly. Both halves of a vector hold all of them, so that a shuffle within the halves spreads any
// of them out: half the instructions of widening them in order.
inline __m256i spread(__m256i bytes, const char (&first)[8]) noexcept {
  const auto at = [&](int i) { return static_cast<std::int32_t>(0x80808000U | static_cast<unsigned>(first[i])); };
  return _mm256_shuffle_epi8(bytes, _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
}
inline Floats bytes_to_float(const std::byte* from) noexcept {
  const __m256i bytes = _mm256_broadcastsi128_si256(load_half(from));
  return {_mm256_cvtepi32_ps(spread(bytes, {0, 1, 2, 3, 4, 5, 6, 7})),
          _mm256_cvtepi32_ps(spread(bytes, {8, 9, 10, 11, 12, 13, 14, 15}))};
}

template <>
struct Step<convert::Float32, UInt8> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept { return two(bytes_to_float(from)); }
};

template <>
struct Step<convert::Float32, convert::Boolean> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept {
    const __m128i is_zero = _mm_cmpeq_epi8(load_half(from), _mm_setzero_si128());
    const __m256 ones = _mm256_set1_ps(1);
    return two({_mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cvtepi8_epi32(is_zero)), ones),
                _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(is_zero, 8))), ones)});
  }
};

// --- 16 elements as floats, and floats as elements of 16 bits

// Those of a dtype, exactly; int64 as floats that round to 16 bits and fewer as they do. NaN of any payload.
template <class From>
inline Floats floats_of(const std::byte* from) noexcept {
  static_assert(std::is_same_v<From, convert::Float32>);
  return load_sixteen(from);
}
template <>
inline Floats floats_of<UInt8>(const std::byte* from) noexcept {
  return bytes_to_float(from);
}
template <>
inline Floats floats_of<convert::Float16>(const std::byte* from) noexcept {
  return {_mm256_cvtph_ps(load_half(from)), _mm256_cvtph_ps(load_half(from + 16))};
}
template <>
inline Floats floats_of<convert::BFloat16>(const std::byte* from) noexcept {
  const __m256i bfloats = in_order(load_vector(from));
  return {_mm256_castsi256_ps(_mm256_unpacklo_epi16(_mm256_setzero_si256(), bfloats)),
          _mm256_castsi256_ps(_mm256_unpackhi_epi16(_mm256_setzero_si256(), bfloats))};
}
template <class From>
concept HasFloats = std::is_same_v<From, convert::Float32> || std::is_same_v<From, convert::Float16> ||
    std::is_same_v<From, convert::BFloat16> || std::is_same_v<From, Int64> || std::is_same_v<From, UInt8>;

// float16: the processor's conversions differ from ours in NaN alone.
inline __m256i join(__m128i low, __m128i high) noexcept {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
inline __m256i numbers_to_float16(Floats floats) noexcept {
  constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return join(_mm256_cvtps_ph(floats.low, nearest), _mm256_cvtps_ph(floats.high, nearest));
}
inline __m256i to_float16(Floats floats) noexcept {
  const __m256i halves = numbers_to_float16(floats);
  const __m256i magnitude = _mm256_set1_epi16(0x7FFF);  // also the canonical NaN
  const __m256i is_nan = _mm256_cmpgt_epi16(_mm256_and_si256(halves, magnitude), _mm256_set1_epi16(0x7C00));
  return _mm256_blendv_epi8(halves, magnitude, is_nan);
}

// bfloat16 in the upper halves of 32 bits. Rounding works on the pattern with its sign: a carry never reaches it but
// from NaN.
inline __m256i round_upper_halves(__m256 floats) noexcept {
  const __m256i pattern = _mm256_castps_si256(floats);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(pattern, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(_mm256_add_epi32(pattern, _mm256_set1_epi32(0x7FFF)), odd);
}
inline __m256i round_to_bfloat16(__m256 floats) noexcept { return _mm256_srli_epi32(round_upper_halves(floats), 16); }

// The same where none is a midpoint.
inline __m256i round_to_bfloat16_off_midpoints(__m256 floats) noexcept {
  return _mm256_srli_epi32(_mm256_add_epi32(_mm256_castps_si256(floats), _mm256_set1_epi32(0x8000)), 16);
}

// Rounded patterns, 32 bits each, of these floats: NaN, which rounding may have made anything of, becomes canonical.
inline __m256i replace_nan(__m256i rounded, __m256 floats) noexcept {
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(floats, floats, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FFF), is_nan);
}
inline __m256i narrow_to_bfloat16(__m256i low, __m256i high, Floats floats) noexcept {
  if (has_nan(floats.low, floats.high)) {
    low = replace_nan(low, floats.low);
    high = replace_nan(high, floats.high);
  }
  return narrow(low, high);
}
inline __m256i to_bfloat16(Floats floats) noexcept {
  return narrow_to_bfloat16(round_to_bfloat16(floats.low), round_to_bfloat16(floats.high), floats);
}
// The same bits without a branch, for data with many NaN.
inline __m256i numbers_or_nan_to_bfloat16(Floats floats) noexcept {
  return narrow(replace_nan(round_to_bfloat16(floats.low), floats.low),
                replace_nan(round_to_bfloat16(floats.high), floats.high));
}

template <HasFloats From>
struct Step<convert::Float16, From> {
  static constexpr std::size_t width = 16;
  static OneVector of(const std::byte* from) noexcept {
    const Floats floats = floats_of<From>(from);
    return one(convert::is_float<From> ? to_float16(floats) : numbers_to_float16(floats));
  }
};

template <HasFloats From>
struct Step<convert::BFloat16, From> {
  static constexpr std::size_t width = 16;
  static OneVector of(const std::byte* from) noexcept { return one(to_bfloat16(floats_of<From>(from))); }
};

// 8-bit integers are exact in bfloat16's 8 digits: the lower halves of their floats are zero. Every other element comes
// out in its place, those between them one place too high.
template <>
struct Step<convert::BFloat16, UInt8> {
  static constexpr std::size_t width = 16;
  static OneVector of(const std::byte* from) noexcept {
    const __m256i bytes = _mm256_broadcastsi128_si256(load_half(from));
    const __m256 even = _mm256_cvtepi32_ps(spread(bytes, {0, 2, 4, 6, 8, 10, 12, 14}));
    const __m256 odd = _mm256_cvtepi32_ps(spread(bytes, {1, 3, 5, 7, 9, 11, 13, 15}));
    return one(_mm256_or_si256(_mm256_srli_epi32(_mm256_castps_si256(even), 16), _mm256_castps_si256(odd)));
  }
};

// --- between float16 and bfloat16, in their own 16 bits: a third of the instructions of going through floats

// 64 elements of 16 bits whose magnitudes are looked at together.
struct Halves {
  static constexpr std::size_t count = 4;
  __m256i parts[count];
  __m256i magnitudes[count];

  explicit Halves(const std::byte* from) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      parts[i] = load_vector(from + i * sizeof(__m256i));
      magnitudes[i] = _mm256_and_si256(parts[i], _mm256_set1_epi16(0x7FFF));
    }
  }

  // Whether every magnitude is zero or from `least` to `most`.
  [[nodiscard]] bool are_within(int least, int most) const noexcept {
    const auto before = [](__m256i magnitude) { return _mm256_sub_epi16(magnitude, _mm256_set1_epi16(1)); };
    const auto low = [&](__m256i a, __m256i b) { return _mm256_min_epu16(before(a), before(b)); };  // zero is far up
    const __m256i smallest = _mm256_min_epu16(low(magnitudes[0], magnitudes[1]), low(magnitudes[2], magnitudes[3]));
    const __m256i largest = _mm256_max_epu16(_mm256_max_epu16(magnitudes[0], magnitudes[1]),
                                             _mm256_max_epu16(magnitudes[2], magnitudes[3]));
    const __m256i missing = _mm256_subs_epu16(_mm256_set1_epi16(static_cast<short>(least - 1)), smallest);
    const __m256i beyond = _mm256_subs_epu16(largest, _mm256_set1_epi16(static_cast<short>(most)));
    const __m256i any = _mm256_or_si256(missing, beyond);
    return _mm256_testz_si256(any, any) != 0;
  }
};
using FourVectors = Vectors<Halves::count>;

constexpr int fewer_digits = convert::Float16::mantissa_bits - convert::BFloat16::mantissa_bits;
// What the exponents of bfloat16 have more, where they stand in it.
constexpr short rebias = (convert::BFloat16::bias - convert::Float16::bias) << convert::BFloat16::mantissa_bits;

// Normal numbers of float16 and zero; subnormal numbers, infinity and NaN go through floats.
template <>
struct Step<convert::BFloat16, convert::Float16> {
  static constexpr std::size_t width = 64;
  static FourVectors of(const std::byte* from) noexcept {
    const Halves halves(from);
    FourVectors made;
    if (!halves.are_within(1 << convert::Float16::mantissa_bits, convert::Float16::max_finite)) {
      for (std::size_t i = 0; i < Halves::count; ++i) {
        made.parts[i] = to_bfloat16(floats_of<convert::Float16>(from + i * sizeof(__m256i)));
      }
      return made;
    }
    for (std::size_t i = 0; i < Halves::count; ++i) {
      // 1. Midpoints above an even number lose the digit that makes them one, so that rounding up at midpoints is
      // rounding to even. No carry reaches the sign.
      constexpr short midpoint = 1 << (fewer_digits - 1);
      const __m256i end = _mm256_and_si256(halves.parts[i], _mm256_set1_epi16((1 << (fewer_digits + 1)) - 1));
      const __m256i down = _mm256_cmpeq_epi16(end, _mm256_set1_epi16(midpoint));  // -1 where it is to be
      // 2. Divided by 2^fewer_digits, rounding up at midpoints.
      const __m256i moved =
          _mm256_mulhrs_epi16(_mm256_add_epi16(halves.parts[i], down), _mm256_set1_epi16(1 << (15 - fewer_digits)));
      // 3. Copies of the sign that came along are dropped, and the exponent is biased anew, but that of zero.
      constexpr auto kept = static_cast<short>(0xFFFF ^ (0x7FFF & ~(0x7FFF >> fewer_digits)));
      made.parts[i] = _mm256_add_epi16(_mm256_and_si256(moved, _mm256_set1_epi16(kept)),
                                       _mm256_sign_epi16(_mm256_set1_epi16(rebias), halves.magnitudes[i]));
    }
    return made;
  }
};

// What is normal in float16, and zero, is exact there; all else goes through floats.
template <>
struct Step<convert::Float16, convert::BFloat16> {
  static constexpr std::size_t width = 64;
  static FourVectors of(const std::byte* from) noexcept {
    constexpr int least = rebias + (1 << convert::BFloat16::mantissa_bits);
    constexpr int most = rebias + (convert::Float16::max_finite >> fewer_digits);
    const Halves halves(from);
    FourVectors made;
    if (!halves.are_within(least, most)) {
      for (std::size_t i = 0; i < Halves::count; ++i) {
        made.parts[i] = to_float16(floats_of<convert::BFloat16>(from + i * sizeof(__m256i)));
      }
      return made;
    }
    for (std::size_t i = 0; i < Halves::count; ++i) {
      const __m256i rebiased = _mm256_subs_epu16(halves.magnitudes[i], _mm256_set1_epi16(rebias));  // zero stays
      const __m256i sign = _mm256_xor_si256(halves.parts[i], halves.magnitudes[i]);
      made.parts[i] = _mm256_or_si256(_mm256_slli_epi16(rebiased, fewer_digits), sign);
    }
    return made;
  }
};

// --- 16 bits to float32

template <>
struct Step<convert::Float32, convert::Float16> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept { return two(canonical_nan(floats_of<convert::Float16>(from))); }
};

// 16 bfloat16, already in the order for unpacking, to float32: 16 digits more, which only NaN has.
inline TwoVectors widened(__m256i bfloats, __m256i is_nan) noexcept {
  return {{_mm256_unpacklo_epi16(is_nan, bfloats), _mm256_unpackhi_epi16(is_nan, bfloats)}};
}

template <>
struct Step<convert::Float32, convert::BFloat16> {
  static constexpr std::size_t width = 16;
  static TwoVectors of(const std::byte* from) noexcept {
    const __m256i magnitude = _mm256_set1_epi16(0x7FFF);
    const __m256i bfloats = in_order(load_vector(from));
    const __m256i is_nan = _mm256_cmpgt_epi16(_mm256_and_si256(bfloats, magnitude), _mm256_set1_epi16(0x7F80));
    return widened(_mm256_blendv_epi8(bfloats, magnitude, is_nan), is_nan);
  }
};

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
