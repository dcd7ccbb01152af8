// What a kernel of the transfer engine does to one scalar: the functors of halfway/convert.h, chosen by dtypes that
// are known when it runs. The same source is compiled for the device (convert.cu) and for the host, where the simulated
// device runs it: both give the bits of the host's casts.
//
// An element is decoded exactly into one of four wide types and encoded from there with one rounding, so that there is
// code for every dtype and none for any pair. The choices are the same for all threads of a launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "halfway/convert.h"
#include "halfway/dtype.h"
#include "halfway/rounding.h"
#include "places.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Scale and shift of a launch: y = fma(x, scale, shift), in float where that holds every value of the source, else in
// double. As many numbers as there are indices of the result's axis that they go along; one where they are the same for
// all. They travel with the launch: the device needs no memory for them.
struct Affine {
  static constexpr int most = 32;

  std::uint64_t count = 0;   // 0: no scale, no shift
  std::uint64_t inner = 1;   // elements of the result for each index of the axis
  double scales[most] = {};  // rounded to the type that they are used in
  double shifts[most] = {};
};

// A launch: `count` elements of the source become as many of the destination. An element is one scalar of a dtype or
// several in a row (two of a complex number). Addresses are those of the device. Scalars may lie at any address: they
// are read and written byte-wise.
struct Conversion {
  const void* source = nullptr;
  void* destination = nullptr;
  DType from{};  // of scalars
  DType to{};
  std::uint64_t count = 0;
  std::uint32_t scalars = 1;  // of an element
  bool saturate = false;
  bool source_swapped = false;  // scalars are in the other byte order than the device's
  bool destination_swapped = false;
  halfway::detail::Places source_places{};
  halfway::detail::Places destination_places{};
  Affine affine{};

  // The same bytes, as elements of one byte.
  [[nodiscard]] static Conversion copy(const void* source, void* destination, std::uint64_t bytes) noexcept {
    Conversion work;
    work.source = source;
    work.destination = destination;
    work.from = work.to = uint8;
    work.count = bytes;
    work.source_places = work.destination_places = halfway::detail::Places::dense(1);
    return work;
  }

  [[nodiscard]] constexpr std::uint64_t source_size() const noexcept { return std::uint64_t{scalars} * from.bits / 8; }
  [[nodiscard]] constexpr std::uint64_t destination_size() const noexcept {
    return std::uint64_t{scalars} * to.bits / 8;
  }
};

// What every element type is one of.
struct WideValue {
  enum class Type : std::uint8_t { single, double_, signed_, unsigned_ };
  Type type;
  union {
    float single;
    double double_;
    std::int64_t signed_;
    std::uint64_t unsigned_;
  };

  HALFWAY_HD constexpr explicit WideValue(float value) noexcept : type(Type::single), single(value) {}
  HALFWAY_HD constexpr explicit WideValue(double value) noexcept : type(Type::double_), double_(value) {}
  HALFWAY_HD constexpr explicit WideValue(std::int64_t value) noexcept : type(Type::signed_), signed_(value) {}
  HALFWAY_HD constexpr explicit WideValue(std::uint64_t value) noexcept : type(Type::unsigned_), unsigned_(value) {}
};

[[nodiscard]] HALFWAY_HD constexpr bool is_dtype(DType a, DType b) noexcept {
  return a.code == b.code && a.bits == b.bits;
}

// The bytes in the other order; compilers know this loop as one instruction, for hosts and devices.
template <class Bits>
[[nodiscard]] HALFWAY_HD constexpr Bits other_order(Bits bits) noexcept {
  auto rest = static_cast<std::uint64_t>(static_cast<std::make_unsigned_t<Bits>>(bits));
  std::uint64_t reversed = 0;
  for (std::size_t i = 0; i < sizeof(Bits); ++i, rest >>= 8) reversed = (reversed << 8) | (rest & 0xFF);
  return static_cast<Bits>(reversed);
}

template <class Bits>
[[nodiscard]] HALFWAY_HD Bits load(const unsigned char* place, bool swapped) noexcept {
  Bits bits;
  __builtin_memcpy(&bits, place, sizeof(Bits));
  return swapped ? other_order(bits) : bits;
}

template <class Bits>
HALFWAY_HD void store(unsigned char* place, Bits bits, bool swapped) noexcept {
  if (swapped) bits = other_order(bits);
  __builtin_memcpy(place, &bits, sizeof(Bits));
}

// Floats are encoded from numbers, everything else from what it is, unless it is scaled or shifted.
template <class... E>
[[nodiscard]] HALFWAY_HD WideValue decode(convert::List<E...> /*all*/, DType from, bool as_number,
                                          const unsigned char* place, bool swapped) noexcept {
  WideValue value(0.0F);
  const auto one = [&](auto element) {
    using Element = decltype(element);
    if (!is_dtype(from, Element::dtype)) return false;
    const auto bits = load<typename Element::Bits>(place, swapped);
    value = as_number ? WideValue(Element::decode_number(bits)) : WideValue(Element::decode(bits));
    return true;
  };
  static_cast<void>((one(E{}) || ...));
  return value;
}

// `nearest`: integers are rounded to, and not truncated.
template <class E, class W>
[[nodiscard]] HALFWAY_HD typename E::Bits encode_one(W value, bool saturate, bool nearest) noexcept {
  if constexpr (std::is_floating_point_v<W> && !convert::is_float<E> && !std::is_same_v<E, convert::Boolean>) {
    if (nearest) return convert::encode_nearest<E>(value, saturate).bits;
  }
  return E::encode(value, saturate).bits;
}

template <class E>
[[nodiscard]] HALFWAY_HD typename E::Bits encode_as(const WideValue& value, bool saturate, bool nearest) noexcept {
  switch (value.type) {
    case WideValue::Type::single:
      return encode_one<E>(value.single, saturate, nearest);
    case WideValue::Type::double_:
      return encode_one<E>(value.double_, saturate, nearest);
    case WideValue::Type::signed_:
      return encode_one<E>(value.signed_, saturate, nearest);
    default:
      return encode_one<E>(value.unsigned_, saturate, nearest);
  }
}

template <class... E>
HALFWAY_HD void encode(convert::List<E...> /*all*/, const Conversion& work, const WideValue& value,
                       unsigned char* place) noexcept {
  const bool nearest = work.affine.count != 0;
  const auto one = [&](auto element) {
    using Element = decltype(element);
    if (!is_dtype(work.to, Element::dtype)) return false;
    store(place, encode_as<Element>(value, work.saturate, nearest), work.destination_swapped);
    return true;
  };
  static_cast<void>((one(E{}) || ...));
}

// Of numbers: what decode_number() gives of a source is in float exactly where that is the type to compute in.
[[nodiscard]] HALFWAY_HD inline WideValue scaled(const Affine& affine, const WideValue& value,
                                                 std::uint64_t element) noexcept {
  const std::uint64_t index = affine.count == 1 ? 0 : element / affine.inner % affine.count;
  const double scale = affine.scales[index];
  const double shift = affine.shifts[index];
  switch (value.type) {
    case WideValue::Type::single:
      return WideValue(convert::multiply_add(value.single, static_cast<float>(scale), static_cast<float>(shift)));
    case WideValue::Type::double_:
      return WideValue(convert::multiply_add(value.double_, scale, shift));
    case WideValue::Type::signed_:
      return WideValue(convert::multiply_add(static_cast<double>(value.signed_), scale, shift));
    default:
      return WideValue(convert::multiply_add(static_cast<double>(value.unsigned_), scale, shift));
  }
}

template <class Bits>
HALFWAY_HD void copy_bits(const unsigned char* from, unsigned char* to, bool swaps) noexcept {
  store(to, load<Bits>(from, false), swaps);
}

HALFWAY_HD inline void copy_scalar(std::size_t size, const unsigned char* from, unsigned char* to,
                                   bool swaps) noexcept {
  switch (size) {
    case 1:
      return copy_bits<std::uint8_t>(from, to, swaps);
    case 2:
      return copy_bits<std::uint16_t>(from, to, swaps);
    case 4:
      return copy_bits<std::uint32_t>(from, to, swaps);
    case 8:
      return copy_bits<std::uint64_t>(from, to, swaps);
    default:
      for (std::size_t i = 0; i < size; ++i) to[i] = from[swaps ? size - 1 - i : i];
  }
}

// One scalar of a launch, of count * scalars; a launch's element after the other, and the scalars of one in a row.
// Equal dtypes are bits, unless they are scaled or shifted. `as_number`: of_numbers(work).
HALFWAY_HD inline void convert_scalar(const Conversion& work, bool as_number, std::uint64_t index) noexcept {
  const std::uint64_t element = work.scalars == 1 ? index : index / work.scalars;
  const std::size_t scalar = index - element * work.scalars;
  const std::size_t source_size = work.from.bits / 8U;
  const std::size_t destination_size = work.to.bits / 8U;
  const unsigned char* const from =
      static_cast<const unsigned char*>(work.source) + work.source_places.offset(element) + scalar * source_size;
  unsigned char* const to = static_cast<unsigned char*>(work.destination) + work.destination_places.offset(element) +
                            scalar * destination_size;
  const bool is_affine = work.affine.count != 0;
  if (is_dtype(work.from, work.to) && !is_affine) {
    return copy_scalar(source_size, from, to, work.source_swapped != work.destination_swapped);
  }
  WideValue value = decode(convert::Elements{}, work.from, as_number, from, work.source_swapped);
  if (is_affine) value = scaled(work.affine, value, work.destination_places.first + element);
  encode(convert::Elements{}, work, value, to);
}

[[nodiscard]] constexpr bool is_float(DType dtype) noexcept {
  return dtype.code == static_cast<std::uint8_t>(TypeCode::float_) || dtype.code >= 7 ||
         dtype.code == static_cast<std::uint8_t>(TypeCode::bfloat);
}

// Whether the source's elements are decoded as numbers.
[[nodiscard]] constexpr bool of_numbers(const Conversion& work) noexcept {
  return is_float(work.to) || work.affine.count != 0;
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
