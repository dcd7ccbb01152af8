// Elements in registers: their bits, decoded and encoded by dtypes that are known when a kernel runs. There is code for
// every dtype and none for any pair; all threads of a launch take the same branches, once for a group of elements. How
// many these are, `group`, follows from the arrays that they lie in.
//
// An element is decoded into one of four wide types, W, which follows from the launch and is the same for all of it
// (`wide_type_of` of dispatch.cpp). Decoding is exact, or to odd where a narrower rounding follows (see `to_odd` of
// convert.h):
//
//   float    floats of 16 bits and less, and float32; to floats, or scaled, bool and integers of 8 and 16 bits; and
//            to odd all that is cast, neither scaled nor by chance, to floats of 16 bits and less
//   double   float64; to other floats than float64, or scaled, integers of 32 and 64 bits: these are rounded to it
//            where they are scaled, else to odd
//   int64    other signed integers
//   uint64   other unsigned integers, and bool
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "conversion.h"
#include "halfway/convert.h"
#include "halfway/rounding.h"
#include "packed.h"
#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// --- numbers of the element types, in the order of convert::Elements

template <class E, class... Es>
[[nodiscard]] constexpr int index_in(convert::List<Es...> /*all*/) noexcept {
  int index = 0;
  static_cast<void>(((std::is_same_v<E, Es> || (++index, false)) || ...));
  return index;
}
template <class E>
inline constexpr int element_index = index_in<E>(convert::Elements{});

template <class... Es>
[[nodiscard]] constexpr int element_index_of(DType dtype, convert::List<Es...> /*all*/) noexcept {
  int index = 0;
  static_cast<void>(((is_dtype(dtype, Es::dtype) || (++index, false)) || ...));
  return index;
}

// Member `i` of a group.
template <class T, int group>
[[nodiscard]] HALFWAY_HD inline T member(const T (&values)[group], int i) noexcept {
  T value = values[0];
  HALFWAY_UNROLLED
  for (int k = 1; k < group; ++k) value = i == k ? values[k] : value;
  return value;
}
template <class T, int group>
HALFWAY_HD inline void set_member(T (&values)[group], int i, T value) noexcept {
  HALFWAY_UNROLLED
  for (int k = 0; k < group; ++k) values[k] = i == k ? value : values[k];
}

// --- bits

// The bytes in the other order; compilers know this loop as few instructions, for hosts and devices.
[[nodiscard]] HALFWAY_HD constexpr std::uint64_t other_order(std::uint64_t bits) noexcept {
  std::uint64_t reversed = 0;
  for (std::size_t i = 0; i < sizeof(bits); ++i, bits >>= 8) reversed = reversed << 8 | (bits & 0xFF);
  return reversed;
}

// `count` elements, as wide as one access takes them.
template <class Bits, int count>
struct alignas(sizeof(Bits) * count < 16 ? sizeof(Bits) * count : 16) Run {
  Bits bits[count];
};

// Elements that are narrower than registers lie in words where they fill these, and are taken from them where they are
// used: a register holds four bytes of a load, and not one.
template <class Bits, int count>
struct Words {
  static constexpr bool has_words = sizeof(Bits) < 4 && sizeof(Bits) * count % 4 == 0;
  using Word = std::conditional_t<has_words, std::uint32_t, Bits>;
  static constexpr int of_word = has_words ? static_cast<int>(4 / sizeof(Bits)) : 1;
  using Vector = Run<Word, count / of_word>;
};
template <class Bits, class Word>
[[nodiscard]] HALFWAY_HD constexpr Bits element_of(const Word* words, int index) noexcept {
  if constexpr (std::is_same_v<Bits, Word>) {
    return words[index];
  } else {
    constexpr int size = sizeof(Bits);
    constexpr int some = 4 / size;
    return static_cast<Bits>(words[index / some] >> (index % some * size * 8));
  }
}

// Through a pointer that is aligned for T: the device faults where it is not, and so does the simulated one.
template <class T>
HALFWAY_HD inline void require_aligned([[maybe_unused]] const void* place) noexcept {
#if !defined(__CUDA_ARCH__)
  if (reinterpret_cast<std::uintptr_t>(place) % alignof(T) != 0) __builtin_trap();
#endif
}
template <class T>
[[nodiscard]] HALFWAY_HD inline T load_aligned(const unsigned char* place) noexcept {
  require_aligned<T>(place);
#if defined(__CUDA_ARCH__)
  return *reinterpret_cast<const T*>(place);
#else
  T value;
  __builtin_memcpy(&value, place, sizeof(T));
  return value;
#endif
}
template <class T>
HALFWAY_HD inline void store_aligned(unsigned char* place, const T& value) noexcept {
  require_aligned<T>(place);
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<T*>(place) = value;
#else
  __builtin_memcpy(place, &value, sizeof(T));
#endif
}

// How the scalars of one side are accessed: the same for all of a launch.
enum class Access : std::uint8_t {
  bytes,    // they lie at any address
  scalars,  // each is aligned
  vectors,  // groups of them are dense, and aligned as a whole
};

struct Side {
  int size = 1;  // bytes of a scalar: 1, 2, 4 or 8
  Access access = Access::bytes;
  bool swapped = false;
};

template <class Bits, int group>
HALFWAY_HD inline void load_as(bool vector, const unsigned char* const (&places)[group], int n,
                               std::uint64_t (&raw)[group]) noexcept {
  if (vector) {
    const auto run = load_aligned<Run<Bits, group>>(places[0]);
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) raw[i] = run.bits[i];
    return;
  }
  HALFWAY_UNROLLED
  for (int i = 0; i < group; ++i) {
    if (i < n) raw[i] = load_aligned<Bits>(places[i]);
  }
}

template <int group>
HALFWAY_HD inline void load_bytes(int size, const unsigned char* const (&places)[group], int n,
                                  std::uint64_t (&raw)[group]) noexcept {
  HALFWAY_ROLLED
  for (int i = 0; i < n; ++i) {
    const unsigned char* const place = member(places, i);
    std::uint64_t bits = 0;
    HALFWAY_ROLLED
    for (int byte = size - 1; byte >= 0; --byte) bits = bits << 8 | place[byte];
    set_member(raw, i, bits);
  }
}

template <class Bits, int group>
HALFWAY_HD inline void store_as(bool vector, unsigned char* const (&places)[group], int n,
                                const std::uint64_t (&raw)[group]) noexcept {
  if (vector) {
    Run<Bits, group> run;
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) run.bits[i] = static_cast<Bits>(raw[i]);
    return store_aligned(places[0], run);
  }
  HALFWAY_UNROLLED
  for (int i = 0; i < group; ++i) {
    if (i < n) store_aligned(places[i], static_cast<Bits>(raw[i]));
  }
}

template <int group>
HALFWAY_HD inline void store_bytes(int size, unsigned char* const (&places)[group], int n,
                                   const std::uint64_t (&raw)[group]) noexcept {
  HALFWAY_ROLLED
  for (int i = 0; i < n; ++i) {
    unsigned char* const place = member(places, i);
    std::uint64_t bits = member(raw, i);
    HALFWAY_ROLLED
    for (int byte = 0; byte < size; ++byte, bits >>= 8) place[byte] = static_cast<unsigned char>(bits);
  }
}

template <int group>
HALFWAY_HD inline void swap_group(int size, std::uint64_t (&raw)[group]) noexcept {
  const int unused = 64 - 8 * size;
  HALFWAY_UNROLLED
  for (std::uint64_t& bits : raw) bits = other_order(bits) >> unused;
}

// The first `n` of a group, in the machine's byte order; the others stay as they are.
template <int group>
HALFWAY_HD inline void load_group(const Side& side, const unsigned char* const (&places)[group], int n,
                                  std::uint64_t (&raw)[group]) noexcept {
  const bool vector = side.access == Access::vectors && n == group;
  if (side.access == Access::bytes) {
    load_bytes(side.size, places, n, raw);
  } else if (side.size == 1) {
    load_as<std::uint8_t>(vector, places, n, raw);
  } else if (side.size == 2) {
    load_as<std::uint16_t>(vector, places, n, raw);
  } else if (side.size == 4) {
    load_as<std::uint32_t>(vector, places, n, raw);
  } else {
    load_as<std::uint64_t>(vector, places, n, raw);
  }
  if (side.swapped) swap_group(side.size, raw);
}

template <int group>
HALFWAY_HD inline void store_group(const Side& side, unsigned char* const (&places)[group], int n,
                                   std::uint64_t (&raw)[group]) noexcept {
  if (side.swapped) swap_group(side.size, raw);
  const bool vector = side.access == Access::vectors && n == group;
  if (side.access == Access::bytes) return store_bytes(side.size, places, n, raw);
  if (side.size == 1) return store_as<std::uint8_t>(vector, places, n, raw);
  if (side.size == 2) return store_as<std::uint16_t>(vector, places, n, raw);
  if (side.size == 4) return store_as<std::uint32_t>(vector, places, n, raw);
  store_as<std::uint64_t>(vector, places, n, raw);
}

// --- values

// An element type's value in W, or void where it has none there. `odd`: integers of 64 bits that become double.
template <class E, class W>
HALFWAY_HD constexpr auto decode_as(typename E::Bits bits, [[maybe_unused]] bool odd) noexcept {
  using Number = decltype(E::decode_number(bits));
  if constexpr (std::is_same_v<Number, W>) {
    return E::decode_number(bits);
  } else if constexpr (std::is_same_v<W, float>) {
    return convert::detail::to_odd(E::decode_number(bits));
  } else if constexpr (std::is_same_v<W, double> && std::is_integral_v<Number>) {
    const Number number = E::decode_number(bits);
    const auto rounded = convert::detail::bit_cast<double>(convert::Float64::encode(number, false).bits);
    return odd ? convert::detail::to_odd_double(number) : rounded;
  } else if constexpr (std::is_same_v<typename E::Wide, W>) {
    return E::decode(bits);
  }
}

template <class W, int group, class... E>
HALFWAY_HD inline void decode_group(convert::List<E...> /*all*/, int from, bool odd, const std::uint64_t (&raw)[group],
                                    W (&values)[group]) noexcept {
  const auto one = [&](auto element) {
    using Element = decltype(element);
    using Bits = typename Element::Bits;
    if constexpr (!std::is_void_v<decltype(decode_as<Element, W>(Bits{}, false))>) {
      if (from != element_index<Element>) return false;
      HALFWAY_UNROLLED
      for (int i = 0; i < group; ++i) values[i] = decode_as<Element, W>(static_cast<Bits>(raw[i]), odd);
      return true;
    }
    return false;
  };
  static_cast<void>((one(E{}) || ...));
}

// How a launch encodes.
struct Policy {
  bool saturate = false;
  bool nearest = false;     // into integers that are scaled: to the nearest
  bool stochastic = false;  // into floats
};

// The element types that W is encoded into: integers become floats by way of the other two wide types.
template <class E, class W>
inline constexpr bool is_encoded_from =
    std::is_floating_point_v<W> || !convert::is_float<E> || std::is_same_v<E, convert::Float64>;

template <class Bits>
[[nodiscard]] HALFWAY_HD constexpr std::uint64_t widened(Bits bits) noexcept {
  return static_cast<std::make_unsigned_t<Bits>>(bits);
}

// One value by any policy, with what it loses.
template <class E, class W>
[[nodiscard]] HALFWAY_HD inline convert::Encoded<typename E::Bits> encode_one(const Policy& policy, W value,
                                                                              std::uint32_t lane) noexcept {
  if constexpr (convert::is_float<E>) {
    if (policy.stochastic) return convert::encode_stochastic<E>(value, lane, policy.saturate);
  } else if constexpr (std::is_floating_point_v<W> && !std::is_same_v<E, convert::Boolean>) {
    if (policy.nearest) return convert::encode_nearest<E>(value, policy.saturate);
  }
  return E::encode(value, policy.saturate);
}

// A group, as dtypes are cast without scale, shift, chance or counts.
template <class E, class W, int group>
HALFWAY_HD inline void encode_plainly(const Policy& policy, const W (&values)[group],
                                      std::uint64_t (&raw)[group]) noexcept {
  if constexpr (std::is_same_v<W, float> && has_packed_encoding<E>) {
    typename E::Bits elements[group];
    encode_floats<E>(values, elements, policy.saturate);
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) raw[i] = elements[i];
  } else {
    HALFWAY_UNROLLED
    for (int i = 0; i < group; ++i) raw[i] = widened(E::encode(values[i], policy.saturate).bits);
  }
}

// Whether these pairs occur without scale, shift and chance. Of the others the code is kept short.
template <class E, class W>
inline constexpr bool is_encoded_plainly =
    is_encoded_from<E, W> && !(std::is_same_v<W, double> && convert::is_float<E> && sizeof(typename E::Bits) < 4);

// What the members of a group are rounded by, where that is by chance: 16 bits each, the first one lowest.
template <int group>
struct GroupLanes {
  static constexpr int of_word = 4;
  static constexpr int count = (group + of_word - 1) / of_word;
  std::uint64_t words[count] = {};

  [[nodiscard]] HALFWAY_HD std::uint32_t of(int i) const noexcept {
    std::uint64_t lanes = 0;
    if constexpr (count == 1) {
      lanes = words[0] >> (16 * i);
    } else {
      lanes = member(words, i / of_word) >> (i % of_word * 16);
    }
    return static_cast<std::uint32_t>(lanes & 0xFFFF);
  }
  // Requires: the member has none.
  HALFWAY_HD void add(int i, std::uint64_t lane) noexcept {
    if constexpr (count == 1) {
      words[0] |= lane << (16 * i);
    } else {
      set_member(words, i / of_word, member(words, i / of_word) | lane << (i % of_word * 16));
    }
  }
};

// One by one: the code of all policies and flags stands once for each element type, and not once for each member.
template <class W, int group, class... E>
HALFWAY_HD inline void encode_singly(convert::List<E...> /*all*/, int to, const Policy& policy,
                                     const W (&values)[group], const GroupLanes<group>& lanes,
                                     std::uint64_t (&raw)[group], convert::Flags (&flags)[group]) noexcept {
  HALFWAY_ROLLED
  for (int i = 0; i < group; ++i) {
    const W value = member(values, i);
    const std::uint32_t lane = lanes.of(i);
    const auto one = [&](auto element) {
      using Element = decltype(element);
      if constexpr (is_encoded_from<Element, W>) {
        if (to != element_index<Element>) return false;
        const convert::Encoded<typename Element::Bits> encoded = encode_one<Element>(policy, value, lane);
        set_member(raw, i, widened(encoded.bits));
        set_member(flags, i, member(flags, i) | encoded.flags);
        return true;
      }
      return false;
    };
    static_cast<void>((one(E{}) || ...));
  }
}

// What is lost is added to the flags where they are counted.
template <bool counts, class W, int group, class... E>
HALFWAY_HD inline void encode_group(convert::List<E...> all, int to, const Policy& policy, const W (&values)[group],
                                    const GroupLanes<group>& lanes, std::uint64_t (&raw)[group],
                                    convert::Flags (&flags)[group]) noexcept {
  const auto one = [&](auto element) {
    using Element = decltype(element);
    if constexpr (is_encoded_plainly<Element, W>) {
      if (to != element_index<Element>) return false;
      encode_plainly<Element>(policy, values, raw);
      return true;
    }
    return false;
  };
  if constexpr (!counts) {
    if (!policy.stochastic && !policy.nearest && (one(E{}) || ...)) return;
  }
  encode_singly(all, to, policy, values, lanes, raw, flags);
}

// --- what depends on an element's number

// 32 bits are divided several times faster than 64 on a GPU.
[[nodiscard]] HALFWAY_HD inline std::uint64_t divide(std::uint64_t a, std::uint64_t b, bool narrow,
                                                     std::uint64_t& rest) noexcept {
  if (narrow) {
    const auto quotient = static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
    rest = static_cast<std::uint32_t>(a) - quotient * static_cast<std::uint32_t>(b);
    return quotient;
  }
  const std::uint64_t quotient = a / b;
  rest = a - quotient * b;
  return quotient;
}

// Divides numbers of 32 bits by one that the host knows.
struct Divisor {
  std::uint32_t value = 1;
  std::uint32_t reciprocal = 0xFFFFFFFF;  // floor((2^32 - 1) / value)

  Divisor() = default;
  HALFWAY_HD constexpr explicit Divisor(std::uint32_t number) noexcept
      : value(number), reciprocal(0xFFFFFFFF / number) {}

  // The product with the reciprocal is less than the quotient by a / 2^32 at most, and so by less than one.
  [[nodiscard]] HALFWAY_HD constexpr std::uint32_t divide(std::uint32_t a, std::uint32_t& rest) const noexcept {
    auto quotient = static_cast<std::uint32_t>((std::uint64_t{a} * reciprocal) >> 32);
    rest = a - quotient * value;
    if (rest < value) return quotient;
    rest -= value;
    return quotient + 1;
  }
};

// Which of the numbers along the affine axis each element of a group takes. Elements that follow each other, as they do
// where both sides are dense, are divided once and counted on.
// `inner`, `count`: those of the axis, where numbers are narrow.
template <int group>
HALFWAY_HD inline void coefficients_of(const Affine& affine, const Divisor& inner, const Divisor& count,
                                       const std::uint64_t (&numbers)[group], bool narrow,
                                       std::uint32_t (&indices)[group]) noexcept {
  HALFWAY_UNROLLED
  for (std::uint32_t& index : indices) index = 0;
  if (affine.count == 1) return;
  bool in_order = true;
  HALFWAY_UNROLLED
  for (int i = 1; i < group; ++i) in_order = in_order && numbers[i] == numbers[0] + static_cast<unsigned>(i);
  const auto place = [&](std::uint64_t number, std::uint64_t& rest) {
    if (narrow) {
      std::uint32_t index = 0;
      std::uint32_t remainder = 0;
      static_cast<void>(count.divide(inner.divide(static_cast<std::uint32_t>(number), remainder), index));
      rest = remainder;
      return index;
    }
    const std::uint64_t quotient = number / affine.inner;
    rest = number - quotient * affine.inner;
    return static_cast<std::uint32_t>(quotient % affine.count);
  };
  std::uint64_t rest = 0;
  if (!in_order) {
    HALFWAY_ROLLED
    for (int i = 0; i < group; ++i) set_member(indices, i, place(member(numbers, i), rest));
    return;
  }
  std::uint32_t index = place(numbers[0], rest);
  indices[0] = index;
  HALFWAY_UNROLLED
  for (int i = 1; i < group; ++i) {
    if (++rest == affine.inner) {
      rest = 0;
      if (++index == affine.count) index = 0;
    }
    indices[i] = index;
  }
}

// The lane of a component.
[[nodiscard]] HALFWAY_HD inline std::uint64_t lane_of_component(const convert::Words& words,
                                                                std::uint64_t component) noexcept {
  const std::uint64_t lane = component % convert::lanes_of_counter;
  const std::uint32_t low = lane < 2 ? words.word[0] : words.word[1];
  const std::uint32_t high = lane < 6 ? words.word[2] : words.word[3];
  return ((lane < 4 ? low : high) >> (lane % 2 * 16)) & 0xFFFF;
}

// The lanes of a group: of part `part` of elements with these numbers. Neighbours share a counter.
template <int group>
[[nodiscard]] HALFWAY_HD inline GroupLanes<group> lanes_of(const std::uint64_t (&numbers)[group], int scalars, int part,
                                                           std::uint64_t seed) noexcept {
  constexpr std::uint64_t some = convert::lanes_of_counter;
  GroupLanes<group> lanes;
  std::uint64_t counter = ~std::uint64_t{0};  // of no component: there are fewer
  convert::Words words{};
  HALFWAY_ROLLED
  for (int i = 0; i < group; ++i) {
    const std::uint64_t component = member(numbers, i) * static_cast<unsigned>(scalars) + static_cast<unsigned>(part);
    if (component / some != counter) {
      counter = component / some;
      words = convert::philox(counter, seed);
    }
    lanes.add(i, lane_of_component(words, component));
  }
  return lanes;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
