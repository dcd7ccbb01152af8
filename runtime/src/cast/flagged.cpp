#include "flagged.h"

#include <cstring>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

using convert::Flags;

template <class T>
T load(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <class E, class W>
void encode_all(const std::byte* values, std::byte* elements, Flags* flags, std::size_t n, bool saturate) noexcept {
  using Bits = typename E::Bits;
  for (std::size_t i = 0; i < n; ++i) {
    const convert::Encoded<Bits> encoded = E::encode(load<W>(values + i * sizeof(W)), saturate);
    std::memcpy(elements + i * sizeof(Bits), &encoded.bits, sizeof(Bits));
    flags[i] = encoded.flags;
  }
}

struct Block {
  WideType wide;
  const std::byte* values;
  std::byte* elements;
  Flags* flags;
  std::size_t n;
  bool saturate;
};

template <class E>
void encode_block(const Block& b) noexcept {
  switch (b.wide) {
    case WideType::float32:
      return encode_all<E, float>(b.values, b.elements, b.flags, b.n, b.saturate);
    case WideType::float64:
      return encode_all<E, double>(b.values, b.elements, b.flags, b.n, b.saturate);
    case WideType::int64:
      return encode_all<E, std::int64_t>(b.values, b.elements, b.flags, b.n, b.saturate);
    case WideType::uint64:
      return encode_all<E, std::uint64_t>(b.values, b.elements, b.flags, b.n, b.saturate);
  }
}

template <class... E>
void dispatch(DType to, const Block& block, convert::List<E...> /*elements*/) noexcept {
  // The first one whose dtype it is.
  static_cast<void>(((E::dtype == to ? (encode_block<E>(block), true) : false) || ...));
}

template <class W>
void flag_dropped(const std::byte* imaginary, Flags* flags, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) flags[i] |= convert::dropped_imaginary(load<W>(imaginary + i * sizeof(W)));
}

}  // namespace

void encode_flagged(DType to, WideType wide, const std::byte* values, std::byte* elements, Flags* flags, std::size_t n,
                    bool saturate) noexcept {
  if (to.code == static_cast<std::uint8_t>(TypeCode::complex)) to = DType(TypeCode::float_, to.bits / 2);
  dispatch(to, {wide, values, elements, flags, n, saturate}, convert::Elements{});
}

void flag_dropped_imaginary(WideType wide, const std::byte* imaginary, Flags* flags, std::size_t n) noexcept {
  if (wide == WideType::float32) {
    flag_dropped<float>(imaginary, flags, n);
  } else {
    flag_dropped<double>(imaginary, flags, n);
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
