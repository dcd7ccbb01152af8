#include "blocks.h"

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

template <class T>
void store(std::byte* to, T value) noexcept {
  std::memcpy(to, &value, sizeof(T));
}

template <class E>
void decode_block(const std::byte* elements, std::byte* wide, std::size_t n) noexcept {
  using Bits = typename E::Bits;
  using Wide = typename E::Wide;
  for (std::size_t i = 0; i < n; ++i)
    store(wide + i * sizeof(Wide), E::decode(load<Bits>(elements + i * sizeof(Bits))));
}

template <class E, class W>
void encode_block(const std::byte* wide, std::byte* elements, std::size_t n, bool saturate) noexcept {
  using Bits = typename E::Bits;
  for (std::size_t i = 0; i < n; ++i) {
    store(elements + i * sizeof(Bits), E::encode(load<W>(wide + i * sizeof(W)), saturate).bits);
  }
}

template <class E, class W>
void encode_flagged_block(const std::byte* wide, std::byte* elements, Flags* flags, std::size_t n,
                          bool saturate) noexcept {
  using Bits = typename E::Bits;
  for (std::size_t i = 0; i < n; ++i) {
    const convert::Encoded<Bits> encoded = E::encode(load<W>(wide + i * sizeof(W)), saturate);
    store(elements + i * sizeof(Bits), encoded.bits);
    flags[i] = encoded.flags;
  }
}

template <class W>
constexpr WideType wide_type = std::is_same_v<W, float>          ? WideType::float32
                               : std::is_same_v<W, double>       ? WideType::float64
                               : std::is_same_v<W, std::int64_t> ? WideType::int64
                                                                 : WideType::uint64;

// The wide types in the order of their enumeration.
template <class E>
constexpr BlockFunctions functions_of{
    E::dtype,
    wide_type<typename E::Wide>,
    decode_block<E>,
    {encode_block<E, float>, encode_block<E, double>, encode_block<E, std::int64_t>, encode_block<E, std::uint64_t>},
    {encode_flagged_block<E, float>, encode_flagged_block<E, double>, encode_flagged_block<E, std::int64_t>,
     encode_flagged_block<E, std::uint64_t>}};

template <class... E>
constexpr std::array<BlockFunctions, sizeof...(E)> table_of(convert::List<E...> /*elements*/) {
  return {functions_of<E>...};
}
constexpr auto table = table_of(convert::Elements{});

// (code, bytes) -> row. Sizes are powers of two up to 8.
constexpr std::size_t code_count = 18;
constexpr std::size_t size_count = 9;
constexpr std::uint8_t no_row = 0xFF;
constexpr auto row_of = [] {
  std::array<std::uint8_t, code_count * size_count> rows{};
  rows.fill(no_row);
  for (std::size_t i = 0; i < table.size(); ++i) {
    rows[table[i].dtype.code * size_count + table[i].dtype.bits / 8] = static_cast<std::uint8_t>(i);
  }
  return rows;
}();

template <class W>
void flag_dropped(const std::byte* imaginary, Flags* flags, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    flags[i] = static_cast<Flags>(flags[i] | convert::dropped_imaginary(load<W>(imaginary + i * sizeof(W))));
  }
}

}  // namespace

const BlockFunctions* block_functions(DType dtype) noexcept {
  if (dtype.code == static_cast<std::uint8_t>(TypeCode::complex)) {
    dtype = DType(TypeCode::float_, dtype.bits / 2, dtype.lanes);
  }
  const std::size_t bytes = dtype.bits / 8;
  if (dtype.code >= code_count || dtype.bits % 8 != 0 || bytes >= size_count || dtype.lanes != 1) return nullptr;
  const std::uint8_t row = row_of[dtype.code * size_count + bytes];
  return row == no_row ? nullptr : &table[row];
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
