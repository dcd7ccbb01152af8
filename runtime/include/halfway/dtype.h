// The one table of dtypes: names, DLPack codes, sizes, and for floats the format from which every conversion is
// derived.
//
// A `DType` is DLPack's (code, bits, lanes) triple. Triples that the table does not know travel opaquely: they can be
// exchanged as long as they occupy whole bytes, but not cast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace halfway {
inline namespace v0 {

// DLPack type codes (dlpack.h 1.3, DLDataTypeCode).
enum class TypeCode : std::uint8_t {
  int_ = 0,
  uint = 1,
  float_ = 2,
  opaque_handle = 3,
  bfloat = 4,
  complex = 5,
  boolean = 6,
  float8_e3m4 = 7,
  float8_e4m3 = 8,
  float8_e4m3b11fnuz = 9,
  float8_e4m3fn = 10,
  float8_e4m3fnuz = 11,
  float8_e5m2 = 12,
  float8_e5m2fnuz = 13,
  float8_e8m0fnu = 14,
  float6_e2m3fn = 15,
  float6_e3m2fn = 16,
  float4_e2m1fn = 17,
};

// In the order of NumPy's kinds: a cast to a later kind is `same_kind` or better.
enum class Kind : std::uint8_t { boolean, unsigned_integer, signed_integer, floating, complex, opaque };

// Same layout as DLPack's DLDataType.
struct DType {
  std::uint8_t code = 0;
  std::uint8_t bits = 0;
  std::uint16_t lanes = 1;

  constexpr DType() = default;
  constexpr DType(TypeCode c, int bits_, int lanes_ = 1)
      : code(static_cast<std::uint8_t>(c)),
        bits(static_cast<std::uint8_t>(bits_)),
        lanes(static_cast<std::uint16_t>(lanes_)) {}
  constexpr DType(std::uint8_t code_, std::uint8_t bits_, std::uint16_t lanes_)
      : code(code_), bits(bits_), lanes(lanes_) {}

  friend constexpr bool operator==(const DType&, const DType&) = default;
};

inline constexpr DType boolean{TypeCode::boolean, 8};
inline constexpr DType int8{TypeCode::int_, 8};
inline constexpr DType int16{TypeCode::int_, 16};
inline constexpr DType int32{TypeCode::int_, 32};
inline constexpr DType int64{TypeCode::int_, 64};
inline constexpr DType uint8{TypeCode::uint, 8};
inline constexpr DType uint16{TypeCode::uint, 16};
inline constexpr DType uint32{TypeCode::uint, 32};
inline constexpr DType uint64{TypeCode::uint, 64};
inline constexpr DType float16{TypeCode::float_, 16};
inline constexpr DType bfloat16{TypeCode::bfloat, 16};
inline constexpr DType float32{TypeCode::float_, 32};
inline constexpr DType float64{TypeCode::float_, 64};
inline constexpr DType complex32{TypeCode::complex, 32};
inline constexpr DType complex64{TypeCode::complex, 64};
inline constexpr DType complex128{TypeCode::complex, 128};
inline constexpr DType float8_e3m4{TypeCode::float8_e3m4, 8};
inline constexpr DType float8_e4m3{TypeCode::float8_e4m3, 8};
inline constexpr DType float8_e4m3b11fnuz{TypeCode::float8_e4m3b11fnuz, 8};
inline constexpr DType float8_e4m3fn{TypeCode::float8_e4m3fn, 8};
inline constexpr DType float8_e4m3fnuz{TypeCode::float8_e4m3fnuz, 8};
inline constexpr DType float8_e5m2{TypeCode::float8_e5m2, 8};
inline constexpr DType float8_e5m2fnuz{TypeCode::float8_e5m2fnuz, 8};
inline constexpr DType float8_e8m0fnu{TypeCode::float8_e8m0fnu, 8};
inline constexpr DType float6_e2m3fn{TypeCode::float6_e2m3fn, 6};
inline constexpr DType float6_e3m2fn{TypeCode::float6_e3m2fn, 6};
inline constexpr DType float4_e2m1fn{TypeCode::float4_e2m1fn, 4};

// A binary floating-point format of at most 64 bits: sign (if any), exponent, mantissa, from the top bit down.
// A finite value is (-1)^s * 2^(e - bias) * 1.m, or (-1)^s * 2^(1 - bias) * 0.m for e == 0 when `mantissa_bits > 0`.
// The patterns above `max_finite` are infinity (the first one, if the format has it) and NaN.
struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  bool has_sign;             // false: e8m0 alone
  bool has_infinity;         // exponent all ones, mantissa zero
  bool has_negative_zero;    // false: the bit pattern 10..0 is NaN ("uz"), or there is no zero at all (e8m0)
  bool has_nan;              // false: fp6 and fp4, whose every pattern is a finite number
  std::uint64_t max_finite;  // bits of the largest finite value
  // What every cast that changes the dtype writes for NaN; 0 for formats without NaN.
  std::uint64_t canonical_nan;

  [[nodiscard]] constexpr bool has_zero() const noexcept { return mantissa_bits > 0; }
  [[nodiscard]] constexpr int bits() const noexcept { return exponent_bits + mantissa_bits + (has_sign ? 1 : 0); }
  // The exponents of the smallest normal value and of the smallest nonzero value: 2^min_exponent, 2^min_subnormal.
  [[nodiscard]] constexpr int min_exponent() const noexcept { return mantissa_bits > 0 ? 1 - bias : -bias; }
  [[nodiscard]] constexpr int min_subnormal() const noexcept { return min_exponent() - mantissa_bits; }
  // The exponent of the largest finite value.
  [[nodiscard]] constexpr int max_exponent() const noexcept {
    return static_cast<int>(max_finite >> mantissa_bits) - bias;
  }
};

// The formats behind the dtypes of the same names.
// clang-format off
namespace formats {
//                                                exp mant bias  sign   inf    -0     NaN
inline constexpr FloatFormat float16            { 5, 10,   15, true,  true,  true,  true,  0x7BFF, 0x7FFF};
inline constexpr FloatFormat bfloat16           { 8,  7,  127, true,  true,  true,  true,  0x7F7F, 0x7FFF};
inline constexpr FloatFormat float32            { 8, 23,  127, true,  true,  true,  true,  0x7F7FFFFF, 0x7FFFFFFF};
inline constexpr FloatFormat float64            {11, 52, 1023, true,  true,  true,  true,  0x7FEFFFFFFFFFFFFF,
                                                                                           0x7FFFFFFFFFFFFFFF};
inline constexpr FloatFormat float8_e3m4        { 3,  4,    3, true,  true,  true,  true,  0x6F, 0x7F};
inline constexpr FloatFormat float8_e4m3        { 4,  3,    7, true,  true,  true,  true,  0x77, 0x7F};
inline constexpr FloatFormat float8_e4m3b11fnuz { 4,  3,   11, true,  false, false, true,  0x7F, 0x80};
inline constexpr FloatFormat float8_e4m3fn      { 4,  3,    7, true,  false, true,  true,  0x7E, 0x7F};
inline constexpr FloatFormat float8_e4m3fnuz    { 4,  3,    8, true,  false, false, true,  0x7F, 0x80};
inline constexpr FloatFormat float8_e5m2        { 5,  2,   15, true,  true,  true,  true,  0x7B, 0x7F};
inline constexpr FloatFormat float8_e5m2fnuz    { 5,  2,   16, true,  false, false, true,  0x7F, 0x80};
inline constexpr FloatFormat float8_e8m0fnu     { 8,  0,  127, false, false, false, true,  0xFE, 0xFF};
inline constexpr FloatFormat float6_e2m3fn      { 2,  3,    1, true,  false, true,  false, 0x1F, 0};
inline constexpr FloatFormat float6_e3m2fn      { 3,  2,    3, true,  false, true,  false, 0x1F, 0};
inline constexpr FloatFormat float4_e2m1fn      { 2,  1,    1, true,  false, true,  false, 0x07, 0};
}  // namespace formats
// clang-format on

struct DTypeInfo {
  DType dtype;
  Kind kind;
  bool castable;                              // false: carried, never converted (fp4, fp6, sub-byte integers)
  std::string_view name;                      // e.g. "bfloat16"
  std::span<const std::string_view> aliases;  // e.g. "bf16"; may be empty
  const FloatFormat* format;                  // floats and complex components; else nullptr
};

// The table, in a fixed order. Never changes while the process runs.
[[nodiscard]] std::span<const DTypeInfo> dtypes() noexcept;

// The row of a dtype (lanes must be 1), or nullptr.
[[nodiscard]] const DTypeInfo* find(DType dtype) noexcept;

// The row whose name or alias this is (exact spelling), or nullptr.
[[nodiscard]] const DTypeInfo* find(std::string_view name) noexcept;

// The table's name, else "code:bits" or "code:bitsxlanes", e.g. "float32x4".
[[nodiscard]] std::string to_string(DType dtype);

[[nodiscard]] constexpr int total_bits(DType dtype) noexcept { return dtype.bits * dtype.lanes; }

// Whole bytes of an element; 0 when elements are not whole bytes (sub-byte types are stored packed).
[[nodiscard]] constexpr std::size_t item_size(DType dtype) noexcept {
  return total_bits(dtype) % 8 == 0 ? static_cast<std::size_t>(total_bits(dtype)) / 8 : 0;
}

// The alignment that hardware wants of one element: the size of a scalar or of a complex component (1, 2, 4 or 8), 1
// for anything unknown.
[[nodiscard]] std::size_t alignment(DType dtype) noexcept;

// A known code with bits it cannot have (bool != 8, bfloat16 != 16, fp8 != 8, fp6 != 6, fp4 != 4, float 24, ...).
[[nodiscard]] bool is_impossible(DType dtype) noexcept;

// Numpy's casting levels, in increasing permissiveness; `same_value` allows any pair, but every value must survive.
enum class Casting : std::uint8_t { no, equiv, safe, same_kind, unsafe, same_value };

[[nodiscard]] std::string_view to_string(Casting casting) noexcept;

// Whether every value of `from`, infinities, NaN and negative zero included, is a value of `to` (a NaN may become
// another NaN). The same for equal dtypes of any kind; else false when either is not castable.
[[nodiscard]] bool is_exact(DType from, DType to) noexcept;

// Whether `casting` allows from -> to. Between NumPy's own dtypes this is numpy.can_cast (whose `safe` lets int64
// become float64). Where bfloat16, fp8 or complex32 take part: `safe` when the cast `is_exact`, `same_kind`
// additionally any float or integer to any float (or complex), `unsafe` and `same_value` anything castable. False when
// either is not castable, unless equal. The byte order is no part of a DType: cast() refuses to change it under `no`.
[[nodiscard]] bool can_cast(DType from, DType to, Casting casting) noexcept;

}  // namespace v0
}  // namespace halfway
