#include "flagged.h"

#include <cstring>
#include <type_traits>

#include "halfway/rounding.h"

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
convert::Encoded<typename E::Bits> encode_one(W value, bool saturate, bool nearest,
                                              const std::uint16_t* lane) noexcept {
  if constexpr (convert::is_float<E>) {
    if (lane != nullptr) return convert::encode_stochastic<E>(value, *lane, saturate);
  } else if constexpr (std::is_floating_point_v<W> && !std::is_same_v<E, convert::Boolean>) {
    if (nearest) return convert::encode_nearest<E>(value, saturate);
  }
  return E::encode(value, saturate);
}

struct Block {
  WideType wide;
  const std::byte* values;
  std::byte* elements;
  Flags* flags;
  std::size_t n;
  bool saturate;
  FlaggedRounding rounding;
};

template <class E, class W>
void encode_all(const Block& b) noexcept {
  using Bits = typename E::Bits;
  for (std::size_t i = 0; i < b.n; ++i) {
    const std::uint16_t* const lane = b.rounding.lanes != nullptr ? b.rounding.lanes + i : nullptr;
    const convert::Encoded<Bits> encoded =
        encode_one<E>(load<W>(b.values + i * sizeof(W)), b.saturate, b.rounding.nearest, lane);
    std::memcpy(b.elements + i * sizeof(Bits), &encoded.bits, sizeof(Bits));
    b.flags[i] = encoded.flags;
  }
}

template <class E>
void encode_block(const Block& b) noexcept {
  switch (b.wide) {
    case WideType::float32:
      return encode_all<E, float>(b);
    case WideType::float64:
      return encode_all<E, double>(b);
    case WideType::int64:
      return encode_all<E, std::int64_t>(b);
    case WideType::uint64:
      return encode_all<E, std::uint64_t>(b);
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
                    bool saturate, FlaggedRounding rounding) noexcept {
  if (to.code == static_cast<std::uint8_t>(TypeCode::complex)) to = DType(TypeCode::float_, to.bits / 2);
  dispatch(to, {wide, values, elements, flags, n, saturate, rounding}, convert::Elements{});
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
