// What a kernel of the transfer engine does to one element: the functors of halfway/convert.h, chosen by dtypes that
// are known when it runs. The same source is compiled for the device (convert.cu) and for the host, where the simulated
// device runs it: both give the bits of the host's casts.
//
// An element is decoded exactly into one of four wide types and encoded from there with one rounding, so that there is
// code for every dtype and none for any pair. The choices are the same for all threads of a launch.
#pragma once

#include <cstdint>

#include "halfway/convert.h"
#include "halfway/dtype.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// A launch: `count` elements at `source`, one after the other, become as many at `destination`. Addresses are those of
// the device. Both are aligned to the elements' alignment, or to nothing: they are read and written byte-wise then.
struct Conversion {
  const void* source = nullptr;
  void* destination = nullptr;
  DType from{};
  DType to{};
  std::uint64_t count = 0;
  bool saturate = false;

  // The same bytes, as elements of one byte.
  [[nodiscard]] static Conversion copy(const void* source, void* destination, std::uint64_t bytes) noexcept {
    return {source, destination, uint8, uint8, bytes, false};
  }
};

// The components of a complex dtype are converted as what they are: floats, twice as many.
[[nodiscard]] constexpr bool is_complex(DType dtype) noexcept {
  return dtype.code == static_cast<std::uint8_t>(TypeCode::complex);
}

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

template <class Bits>
[[nodiscard]] HALFWAY_HD Bits load(const void* source, std::uint64_t index) noexcept {
  const auto* const bytes = static_cast<const unsigned char*>(source) + index * sizeof(Bits);
  Bits bits;
  __builtin_memcpy(&bits, bytes, sizeof(Bits));
  return bits;
}

template <class Bits>
HALFWAY_HD void store(void* destination, std::uint64_t index, Bits bits) noexcept {
  __builtin_memcpy(static_cast<unsigned char*>(destination) + index * sizeof(Bits), &bits, sizeof(Bits));
}

// Floats are encoded from numbers, everything else from what it is.
template <class... E>
[[nodiscard]] HALFWAY_HD WideValue decode(convert::List<E...> /*all*/, DType from, bool as_number, const void* source,
                                          std::uint64_t index) noexcept {
  WideValue value(0.0F);
  const auto one = [&](auto element) {
    using Element = decltype(element);
    if (!is_dtype(from, Element::dtype)) return false;
    const auto bits = load<typename Element::Bits>(source, index);
    value = as_number ? WideValue(Element::decode_number(bits)) : WideValue(Element::decode(bits));
    return true;
  };
  static_cast<void>((one(E{}) || ...));
  return value;
}

template <class E, class W>
HALFWAY_HD void encode_one(W value, bool saturate, void* destination, std::uint64_t index) noexcept {
  store<typename E::Bits>(destination, index, E::encode(value, saturate).bits);
}

template <class... E>
HALFWAY_HD void encode(convert::List<E...> /*all*/, DType to, const WideValue& value, bool saturate, void* destination,
                       std::uint64_t index) noexcept {
  const auto one = [&](auto element) {
    using Element = decltype(element);
    if (!is_dtype(to, Element::dtype)) return false;
    switch (value.type) {
      case WideValue::Type::single:
        encode_one<Element>(value.single, saturate, destination, index);
        break;
      case WideValue::Type::double_:
        encode_one<Element>(value.double_, saturate, destination, index);
        break;
      case WideValue::Type::signed_:
        encode_one<Element>(value.signed_, saturate, destination, index);
        break;
      case WideValue::Type::unsigned_:
        encode_one<Element>(value.unsigned_, saturate, destination, index);
        break;
    }
    return true;
  };
  static_cast<void>((one(E{}) || ...));
}

// One element of a launch. Equal dtypes are bits.
HALFWAY_HD inline void convert_element(const Conversion& work, bool to_float, std::uint64_t index) noexcept {
  if (is_dtype(work.from, work.to)) {
    switch (work.from.bits) {
      case 8:
        return store(work.destination, index, load<std::uint8_t>(work.source, index));
      case 16:
        return store(work.destination, index, load<std::uint16_t>(work.source, index));
      case 32:
        return store(work.destination, index, load<std::uint32_t>(work.source, index));
      default:
        return store(work.destination, index, load<std::uint64_t>(work.source, index));
    }
  }
  const WideValue value = decode(convert::Elements{}, work.from, to_float, work.source, index);
  encode(convert::Elements{}, work.to, value, work.saturate, work.destination, index);
}

[[nodiscard]] constexpr bool is_float(DType dtype) noexcept {
  return dtype.code == static_cast<std::uint8_t>(TypeCode::float_) || dtype.code >= 7 ||
         dtype.code == static_cast<std::uint8_t>(TypeCode::bfloat);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
