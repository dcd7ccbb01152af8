// The loops of one tier. A source file of a tier is this header, compiled for its instruction set:
//
//   #define HALFWAY_TIER_NAME "x86-64-v3"
//   #define HALFWAY_TIER_KERNELS kernels_x86_64_v3
//   #include "loops.h"
//
// Nothing here may be shared with other translation units: everything has internal linkage, and of the standard library
// only what leaves no code behind is used. (A test looks at the symbols.)
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

#define HALFWAY_CONVERT_INTERNAL
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../kernels.h"
#include "../tuning.h"
#include "halfway/convert.h"
#include "halfway/rounding.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

using convert::Flags;
using UInt8 = convert::Integer<std::uint8_t>;
using Int64 = convert::Integer<std::int64_t>;

template <class T>
inline T load(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <class T>
inline void store(std::byte* to, T value) noexcept {
  std::memcpy(to, &value, sizeof(T));
}

template <class W>
constexpr WideType wide_type = std::is_same_v<W, float>          ? WideType::float32
                               : std::is_same_v<W, double>       ? WideType::float64
                               : std::is_same_v<W, std::int64_t> ? WideType::int64
                                                                 : WideType::uint64;

// The element type that holds a wide type.
template <class W>
using ElementOf =
    std::conditional_t<std::is_same_v<W, float>, convert::Float32,
                       std::conditional_t<std::is_same_v<W, double>, convert::Float64, convert::Integer<W>>>;

// Some elements at a time, in registers, where that is worth writing by hand: `of(from)` makes vectors out of `width`
// of them. The primary template: no such thing.
template <class To, class From, bool saturate = false>
struct Step {
  static constexpr std::size_t width = 0;
};
template <class To, class From, bool saturate = false>
constexpr bool has_step = Step<To, From, saturate>::width != 0;

// Used by steps.
template <class E>
void decode_odd(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n) noexcept;
template <class E, class W, bool saturate>
void encode_and_sum(const std::byte* __restrict wide, std::byte* __restrict elements, std::size_t n,
                    Counts& counts) noexcept;

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

#include "moves.h"
// bench/native/functors.cpp measures what the steps are worth.
#if defined(__AVX2__) && defined(__F16C__) && !defined(HALFWAY_WITHOUT_STEPS)
#define HALFWAY_HAS_STEPS
#include "avx2.h"
#include "avx2_counted.h"
#include "avx2_fp8.h"
#include "avx2_wide.h"
#endif

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// --- decode

template <class E>
void decode_exact(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n) noexcept {
  using Bits = typename E::Bits;
  using Wide = typename E::Wide;
  for (std::size_t i = 0; i < n; ++i) {
    store<Wide>(wide + i * sizeof(Wide), E::decode(load<Bits>(elements + i * sizeof(Bits))));
  }
}

template <class E>
using Number = decltype(E::decode_number(typename E::Bits{}));

template <class E>
void decode_number(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n) noexcept {
  using Bits = typename E::Bits;
#if defined(HALFWAY_HAS_STEPS)
  using Wide = ElementOf<Number<E>>;
  if constexpr (has_step<Wide, E>) return run_steps<Wide, E, Cached>(elements, wide, n);
#endif
  for (std::size_t i = 0; i < n; ++i) {
    store<Number<E>>(wide + i * sizeof(Number<E>), E::decode_number(load<Bits>(elements + i * sizeof(Bits))));
  }
}

// Whether 64-bit integers are all within [-2^digits, 2^digits), or [0, 2^digits): then the conversions of 32-bit ones,
// which all vector units have, will do.
template <int digits, class I>
bool are_small(const std::byte* __restrict elements, std::size_t n) noexcept {
  constexpr std::uint64_t lowest = std::is_signed_v<I> ? std::uint64_t{1} << digits : 0;
  std::uint64_t beyond = 0;
  for (std::size_t i = 0; i < n; ++i) {
    beyond |= (load<std::uint64_t>(elements + i * sizeof(I)) + lowest) >> (digits + (std::is_signed_v<I> ? 1 : 0));
  }
  return beyond == 0;
}

template <class I>
void small_to_float(const std::byte* __restrict elements, std::byte* __restrict floats, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const auto value = static_cast<std::int32_t>(load<I>(elements + i * sizeof(I)));
    store<float>(floats + i * sizeof(float), static_cast<float>(value));
  }
}

// Elements that decode to double, or are 64-bit integers, to float. In two loops over a small buffer: a loop that works
// in one width all the way is the better vector code.
template <class E>
void decode_odd(const std::byte* __restrict elements, std::byte* __restrict wide, std::size_t n) noexcept {
  using Bits = typename E::Bits;
  constexpr std::size_t some = 256;
  double doubles[some];
  for (std::size_t begin = 0; begin < n; begin += some) {
    const std::size_t count = n - begin < some ? n - begin : some;
    const std::byte* const from = elements + begin * sizeof(Bits);
    if constexpr (std::is_integral_v<Number<E>>) {
      if (are_small<24, Bits>(from, count)) {  // exact in float
        small_to_float<Bits>(from, wide + begin * sizeof(float), count);
        continue;
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      const Number<E> number = E::decode_number(load<Bits>(from + i * sizeof(Bits)));
      if constexpr (std::is_integral_v<Number<E>>) {
        doubles[i] = convert::detail::to_odd_double(number);
      } else {
        doubles[i] = number;
      }
    }
    std::byte* const to = wide + begin * sizeof(float);
    for (std::size_t i = 0; i < count; ++i) store<float>(to + i * sizeof(float), convert::detail::to_odd(doubles[i]));
  }
}

#if !defined(HALFWAY_HAS_STEPS)
template <>
void decode_odd<convert::Float64>(const std::byte* __restrict elements, std::byte* __restrict wide,
                                  std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    store<float>(wide + i * sizeof(float), convert::detail::to_odd(load<double>(elements + i * sizeof(double))));
  }
}
#endif

// --- encode

template <class E, class W, bool saturate>
void encode(const std::byte* __restrict wide, std::byte* __restrict elements, std::size_t n) noexcept {
  using Bits = typename E::Bits;
#if defined(HALFWAY_HAS_STEPS)
  using Wide = ElementOf<W>;
  if constexpr (has_step<E, Wide, saturate>) return run_steps<E, Wide, Cached, saturate>(wide, elements, n);
#endif
  constexpr bool may_be_small = std::is_same_v<E, convert::Float32> && std::is_integral_v<W>;
  constexpr std::size_t some = may_be_small ? 256 : static_cast<std::size_t>(-1);
  for (std::size_t begin = 0; begin < n;) {
    const std::size_t end = n - begin < some ? n : begin + some;
    if constexpr (may_be_small) {
      if (are_small<31, W>(wide + begin * sizeof(W), end - begin)) {  // one rounding, as any
        small_to_float<W>(wide + begin * sizeof(W), elements + begin * sizeof(Bits), end - begin);
        begin = end;
        continue;
      }
    }
    for (std::size_t i = begin; i < end; ++i) {
      store<Bits>(elements + i * sizeof(Bits), E::encode(load<W>(wide + i * sizeof(W)), saturate).bits);
    }
    begin = end;
  }
}

// `n` elements by `encode_one(i)`, and the sums of their flags.
template <class E, class Encode>
inline void encode_summing(std::byte* __restrict elements, std::size_t n, Counts& counts, Encode encode_one) noexcept {
  using Bits = typename E::Bits;
  constexpr std::size_t some = 96;  // sums of up to 127 flags keep their counts apart
  for (std::size_t begin = 0; begin < n; begin += some) {
    const std::size_t end = n - begin < some ? n : begin + some;
    Flags sum = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const convert::Encoded<Bits> encoded = encode_one(i);
      store<Bits>(elements + i * sizeof(Bits), encoded.bits);
      sum += encoded.flags & convert::counted;
    }
    counts.nan += sum & 0xFF;
    counts.overflow += (sum >> 8) & 0xFF;
    counts.underflow += (sum >> 16) & 0xFF;
    counts.inexact += sum >> 24;
  }
}

template <class E, class W, bool saturate>
void encode_and_sum(const std::byte* __restrict wide, std::byte* __restrict elements, std::size_t n,
                    Counts& counts) noexcept {
  encode_summing<E>(elements, n, counts,
                    [&](std::size_t i) { return E::encode(load<W>(wide + i * sizeof(W)), saturate); });
}

// Rounding is monotonic: which magnitudes overflow and which become zero is a matter of two thresholds.
template <class W>
struct Thresholds {
  using Bits = typename convert::detail::Wide<W>::Bits;
  Bits overflow;   // the smallest magnitude that overflows; infinity if none does
  Bits underflow;  // the largest magnitude that becomes zero; 0 if none does
};

template <class E, class W>
constexpr Thresholds<W> thresholds_of() noexcept {
  using Bits = typename Thresholds<W>::Bits;
  // The first magnitude whose flags have, or no longer have, one of them.
  const auto first = [](Bits low, Flags flag, bool wanted) {
    Bits high = convert::detail::Wide<W>::infinity;
    while (low < high) {
      const Bits middle = low + (high - low) / 2;
      const Flags flags = E::encode(convert::detail::bit_cast<W>(middle), false).flags;
      if (((flags & flag) != 0) == wanted) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  };
  return {first(0, convert::overflow, true), static_cast<Bits>(first(1, convert::underflow, false) - 1)};
}

// Floats into floats, where anything may occur: a loop of comparisons beside the one that encodes. The block stays in
// the cache, and two simple loops take half the time of one that forms all the flags of every element.
template <class E, class W>
void count_all(const std::byte* __restrict wide, std::size_t n, bool saturate, Counts& counts) noexcept {
  using Bits = typename Thresholds<W>::Bits;
  using convert::detail::is_greater;
  constexpr Thresholds<W> thresholds = thresholds_of<E, W>();
  constexpr Bits infinity = convert::detail::Wide<W>::infinity;
  Bits finite = 0;
  Bits infinite = 0;
  Bits in_range = 0;
  Bits nonzero_out = 0;
  Bits zero = 0;
  Bits changed = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const W value = load<W>(wide + i * sizeof(W));
    const Bits magnitude = convert::detail::magnitude_bits(value);
    const auto within = static_cast<Bits>(is_greater(thresholds.overflow, magnitude));
    finite += static_cast<Bits>(is_greater(infinity, magnitude));
    infinite += static_cast<Bits>(magnitude == infinity);
    in_range += within;
    nonzero_out += static_cast<Bits>(is_greater(magnitude, thresholds.underflow));
    zero += static_cast<Bits>(magnitude == 0);
    changed += within & static_cast<Bits>(E::changes(value));
  }
  counts.nan += n - finite - infinite;
  counts.overflow += finite - in_range;
  counts.underflow += n - nonzero_out - zero;
  counts.inexact += changed + (saturate || !E::has_infinity ? infinite : 0);
}

// Mostly nothing occurs but inexact values, which the largest and the smallest magnitude of a group show. Counting
// these alone takes half the time; groups are small, so that a rare NaN costs little.
template <class E, class W>
void count_floats(const std::byte* __restrict wide, std::size_t n, bool saturate, Counts& counts) noexcept {
  using Bits = typename Thresholds<W>::Bits;
  constexpr Thresholds<W> thresholds = thresholds_of<E, W>();
  constexpr std::size_t group = 128;
  for (std::size_t begin = 0; begin < n; begin += group) {
    const std::size_t count = n - begin < group ? n - begin : group;
    const std::byte* const from = wide + begin * sizeof(W);
    Bits largest = 0;
    Bits smallest_less_1 = static_cast<Bits>(-1);  // zero, less 1, is the largest of all
    Bits changed = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const W value = load<W>(from + i * sizeof(W));
      const Bits magnitude = convert::detail::magnitude_bits(value);
      const Bits less_1 = magnitude - 1;
      largest = magnitude > largest ? magnitude : largest;
      smallest_less_1 = less_1 < smallest_less_1 ? less_1 : smallest_less_1;
      changed += static_cast<Bits>(E::changes(value));
    }
    if (largest < thresholds.overflow && smallest_less_1 >= thresholds.underflow) {
      counts.inexact += changed;
    } else {
      count_all<E, W>(from, count, saturate, counts);
    }
  }
}

template <class E, class W>
void encode_counted(const std::byte* wide, std::byte* elements, std::size_t n, bool saturate, Counts& counts) noexcept {
#if defined(HALFWAY_HAS_STEPS)
  if constexpr (std::is_same_v<W, float> && has_counted_step<E>) {
    if (!saturate) return run_counted_steps<E, Cached>(wide, elements, n, counts);
  }
#endif
  if constexpr (convert::is_float<E> && std::is_floating_point_v<W>) {
    if constexpr (E::has_sign) {  // e8m0 loses zero and all that is negative: no matter of magnitudes
      count_floats<E, W>(wide, n, saturate, counts);
      return saturate ? encode<E, W, true>(wide, elements, n) : encode<E, W, false>(wide, elements, n);
    }
  }
  if (saturate) {
    encode_and_sum<E, W, true>(wide, elements, n, counts);
  } else {
    encode_and_sum<E, W, false>(wide, elements, n, counts);
  }
}

// --- both in one

template <class To, class From>
void convert_fused(const std::byte* __restrict from, std::byte* __restrict to, std::size_t n) noexcept {
  using Bits = typename From::Bits;
  using Out = typename To::Bits;
#if defined(HALFWAY_HAS_STEPS)
  if constexpr (has_step<To, From>) return run_steps<To, From, Cached>(from, to, n);
#endif
  for (std::size_t i = 0; i < n; ++i) {
    store<Out>(to + i * sizeof(Out), convert::convert<To, From>(load<Bits>(from + i * sizeof(Bits)), false).bits);
  }
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

#include "affine.h"
#include "stochastic.h"
#if defined(HALFWAY_HAS_STEPS)
#include "avx2_affine.h"
#endif

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// --- memory

void stream(std::byte* destination, const std::byte* source, std::size_t bytes, const std::byte* next,
            std::size_t next_bytes) noexcept {
#if defined(__AVX__)
  using Vector = __m256i;
#elif defined(__SSE2__)
  using Vector = __m128i;
#endif
#if defined(__SSE2__)
  constexpr std::size_t width = sizeof(Vector);
  constexpr std::size_t line = 64;
  std::size_t head = (width - reinterpret_cast<std::uintptr_t>(destination) % width) % width;
  if (head > bytes) head = bytes;
  std::memcpy(destination, source, head);
  std::size_t at = head;
  std::size_t fetched = 0;
  while (at + line <= bytes) {
    for (const std::size_t end = at + line; at < end; at += width) {
      auto* const to = reinterpret_cast<Vector*>(destination + at);
#if defined(__AVX__)
      _mm256_stream_si256(to, _mm256_loadu_si256(reinterpret_cast<const Vector*>(source + at)));
#else
      _mm_stream_si128(to, _mm_loadu_si128(reinterpret_cast<const Vector*>(source + at)));
#endif
    }
    for (; fetched < next_bytes && fetched * bytes <= at * next_bytes; fetched += line) {
      _mm_prefetch(reinterpret_cast<const char*>(next + fetched), _MM_HINT_T0);
    }
  }
  std::memcpy(destination + at, source + at, bytes - at);
#else
  static_cast<void>(next);
  static_cast<void>(next_bytes);
  std::memcpy(destination, source, bytes);
#endif
}

// --- the table

// `loop` unless the elements are of the wide type already.
template <class E, class W>
constexpr DecodeLoop unless_same(DecodeLoop loop) noexcept {
  return std::is_same_v<typename E::Bits, W> || (convert::is_float<E> && sizeof(typename E::Bits) == sizeof(W))
             ? nullptr
             : loop;
}

template <class E>
constexpr Decoding odd_of() noexcept {
  if constexpr (std::is_same_v<Number<E>, float>) {
    return {WideType::float32, unless_same<E, float>(decode_number<E>)};
  } else {
    return {WideType::float32, decode_odd<E>};
  }
}

template <class E>
constexpr DTypeKernels kernels_of() noexcept {
  using Wide = typename E::Wide;
  DTypeKernels row{};
  row.dtype = E::dtype;
  row.exact = {wide_type<Wide>, unless_same<E, Wide>(decode_exact<E>)};
  if constexpr (std::is_floating_point_v<Wide>) row.exact = {wide_type<Wide>, unless_same<E, Wide>(decode_number<E>)};
  row.number = {wide_type<Number<E>>, unless_same<E, Number<E>>(decode_number<E>)};
  row.odd = odd_of<E>();
  row.encode[0] = encode<E, float, false>;
  row.encode_saturated[0] = encode<E, float, true>;
  row.encode_counted[0] = encode_counted<E, float>;
  if constexpr (!convert::is_float<E> || sizeof(typename E::Bits) >= 4) {
    row.encode[1] = encode<E, double, false>;
    row.encode[2] = encode<E, std::int64_t, false>;
    row.encode[3] = encode<E, std::uint64_t, false>;
    row.encode_saturated[1] = encode<E, double, true>;
    row.encode_saturated[2] = encode<E, std::int64_t, true>;
    row.encode_saturated[3] = encode<E, std::uint64_t, true>;
    row.encode_counted[1] = encode_counted<E, double>;
    row.encode_counted[2] = encode_counted<E, std::int64_t>;
    row.encode_counted[3] = encode_counted<E, std::uint64_t>;
  }
  add_nearest<E>(row);
  add_stochastic<E>(row);
  return row;
}

template <class... E>
constexpr auto table_of(convert::List<E...> /*elements*/) noexcept {
  return std::array<DTypeKernels, sizeof...(E)>{kernels_of<E>()...};
}
constexpr auto table = table_of(convert::Elements{});

using convert::BFloat16;
using convert::Float16;
using convert::Float32;
using convert::Float64;

// What steps are worth being written for.
template <class To, class From>
struct Pair {};
template <class... P>
struct Pairs {};
using HotPairs =
    Pairs<Pair<Float16, Float64>, Pair<Float16, BFloat16>, Pair<Float16, UInt8>, Pair<Float16, Int64>,
          Pair<BFloat16, Float64>, Pair<BFloat16, Float16>, Pair<BFloat16, UInt8>, Pair<BFloat16, Int64>,
          Pair<BFloat16, convert::Float8E4M3FN>, Pair<BFloat16, convert::Float8E5M2>, Pair<Float32, UInt8>,
          Pair<Float32, convert::Boolean>, Pair<Float32, convert::Float8E4M3FN>, Pair<Float32, convert::Float8E5M2>,
          // Single stages, here for the sake of the streamed loops.
          Pair<Float16, Float32>, Pair<BFloat16, Float32>, Pair<Float32, Float16>, Pair<Float32, BFloat16>,
          Pair<Float32, Float64>, Pair<Float32, Int64>, Pair<Float64, Float32>, Pair<convert::Float8E4M3FN, Float32>,
          Pair<convert::Float8E5M2, Float32>>;

#if defined(HALFWAY_HAS_STEPS)
template <class To, class From>
constexpr FusedLoop fused_of() noexcept {
  FusedLoop fused{From::dtype, To::dtype, convert_fused<To, From>, run_steps<To, From, Streamed>};
  if constexpr (std::is_same_v<From, Float32> && has_counted_step<To>)
    fused.streamed_counted = encode_counted_streamed<To>;
  if constexpr (sizeof(typename From::Bits) > 1) {
    fused.swapping = run_steps<To, From, Cached, false, Swapped>;
    fused.swapping_streamed = run_steps<To, From, Streamed, false, Swapped>;
  }
  return fused;
}

template <class... To, class... From>
constexpr auto fused_of_all(Pairs<Pair<To, From>...> /*pairs*/) noexcept {
  return std::array{fused_of<To, From>()...};
}
constexpr std::array fused = fused_of_all(HotPairs{});
constexpr std::array fused_affine{
    fused_affine_of<BFloat16, UInt8>,   fused_affine_of<Float16, UInt8>,   fused_affine_of<Float32, UInt8>,
    fused_affine_of<BFloat16, Float32>, fused_affine_of<Float16, Float32>, fused_affine_of<Float32, Float32>,
};
constexpr std::array swaps_streamed{swap_streamed<std::uint16_t>, swap_streamed<std::uint32_t>,
                                    swap_streamed<std::uint64_t>};
#else
constexpr std::array fused{
    FusedLoop{UInt8::dtype, BFloat16::dtype, convert_fused<BFloat16, UInt8>, nullptr},
};
constexpr std::array<FusedAffine, 0> fused_affine{};
constexpr std::array<SwapLoop, 0> swaps_streamed{};
#endif

}  // namespace

extern const Kernels HALFWAY_TIER_KERNELS;
constinit const Kernels HALFWAY_TIER_KERNELS{
    .name = HALFWAY_TIER_NAME,
    .dtypes = table,
    .fused = fused,
    .moves = moves,
    .swaps = swaps,
    .swaps_streamed = swaps_streamed,
    .affine = {AffineLoops{affine_one<float>, affine_each<float>},
               AffineLoops{affine_one<double>, affine_each<double>}},
    .fused_affine = fused_affine,
    .lanes = fill_lanes,
    .integers_to_odd = {decode_odd_double<std::int64_t>, decode_odd_double<std::uint64_t>},
    .stream = stream,
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
