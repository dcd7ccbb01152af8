#include "halfway/dtype.h"

#include <algorithm>
#include <array>

namespace halfway {
inline namespace v0 {
namespace {

using Name = std::string_view;

// What people write for a dtype, beside its name. Where NumPy and torch read a word differently ("float", "int"), it is
// NumPy's reading. NumPy's codes that count bytes are left out, and so is what would clash with them: "i8" is an int64
// there and would be an int8 here. ("f16" is a longdouble there, which no exchange accepts: nothing can be misread.)
constexpr Name bool_names[] = {"bool_", "boolean"};
constexpr Name int16_names[] = {"i16", "short"};
constexpr Name int32_names[] = {"i32", "intc"};
constexpr Name int64_names[] = {"i64", "int"};
constexpr Name uint16_names[] = {"u16", "ushort"};
constexpr Name uint32_names[] = {"u32", "uintc"};
constexpr Name uint64_names[] = {"u64", "uint"};
constexpr Name float16_names[] = {"f16", "fp16", "half"};
constexpr Name bfloat16_names[] = {"bf16"};
constexpr Name float32_names[] = {"f32", "fp32", "single"};
constexpr Name float64_names[] = {"f64", "fp64", "double", "float"};
constexpr Name complex32_names[] = {"chalf"};
constexpr Name complex64_names[] = {"c64", "csingle"};
constexpr Name complex128_names[] = {"c128", "cdouble", "complex"};
constexpr Name e3m4_names[] = {"f8_e3m4", "fp8_e3m4", "e3m4"};
constexpr Name e4m3_names[] = {"f8_e4m3", "fp8_e4m3", "e4m3"};
constexpr Name e4m3b11fnuz_names[] = {"f8_e4m3b11fnuz", "fp8_e4m3b11fnuz", "e4m3b11fnuz"};
constexpr Name e4m3fn_names[] = {"f8_e4m3fn", "fp8_e4m3fn", "e4m3fn"};
constexpr Name e4m3fnuz_names[] = {"f8_e4m3fnuz", "fp8_e4m3fnuz", "e4m3fnuz"};
constexpr Name e5m2_names[] = {"f8_e5m2", "fp8_e5m2", "e5m2"};
constexpr Name e5m2fnuz_names[] = {"f8_e5m2fnuz", "fp8_e5m2fnuz", "e5m2fnuz"};
constexpr Name e8m0fnu_names[] = {"f8_e8m0fnu", "fp8_e8m0fnu", "e8m0fnu", "f8_e8m0", "fp8_e8m0", "e8m0"};
constexpr Name e2m3fn_names[] = {"f6_e2m3fn", "fp6_e2m3fn", "e2m3fn"};
constexpr Name e3m2fn_names[] = {"f6_e3m2fn", "fp6_e3m2fn", "e3m2fn"};
constexpr Name e2m1fn_names[] = {"f4_e2m1fn", "fp4_e2m1fn", "e2m1fn"};

constexpr DTypeInfo floating(DType dtype, Name name, std::span<const Name> aliases, const FloatFormat& format) {
  return {dtype, Kind::floating, format.has_nan, name, aliases, &format};
}
constexpr DTypeInfo complex(DType dtype, Name name, std::span<const Name> aliases, const FloatFormat& component) {
  return {dtype, Kind::complex, true, name, aliases, &component};
}
constexpr DTypeInfo integer(DType dtype, Name name, std::span<const Name> aliases = {}) {
  const bool is_signed = dtype.code == static_cast<std::uint8_t>(TypeCode::int_);
  return {dtype, is_signed ? Kind::signed_integer : Kind::unsigned_integer, dtype.bits >= 8, name, aliases, nullptr};
}
constexpr DTypeInfo sub_byte(TypeCode code, int bits, Name name) { return integer(DType(code, bits), name); }

// The table. A new dtype is a row here; if it is to be cast, also an element type in convert.h.
constexpr DTypeInfo rows[] = {
    {boolean, Kind::boolean, true, "bool", bool_names, nullptr},
    integer(int8, "int8"),
    integer(int16, "int16", int16_names),
    integer(int32, "int32", int32_names),
    integer(int64, "int64", int64_names),
    integer(uint8, "uint8"),
    integer(uint16, "uint16", uint16_names),
    integer(uint32, "uint32", uint32_names),
    integer(uint64, "uint64", uint64_names),
    floating(float16, "float16", float16_names, formats::float16),
    floating(bfloat16, "bfloat16", bfloat16_names, formats::bfloat16),
    floating(float32, "float32", float32_names, formats::float32),
    floating(float64, "float64", float64_names, formats::float64),
    complex(complex32, "complex32", complex32_names, formats::float16),
    complex(complex64, "complex64", complex64_names, formats::float32),
    complex(complex128, "complex128", complex128_names, formats::float64),
    floating(float8_e3m4, "float8_e3m4", e3m4_names, formats::float8_e3m4),
    floating(float8_e4m3, "float8_e4m3", e4m3_names, formats::float8_e4m3),
    floating(float8_e4m3b11fnuz, "float8_e4m3b11fnuz", e4m3b11fnuz_names, formats::float8_e4m3b11fnuz),
    floating(float8_e4m3fn, "float8_e4m3fn", e4m3fn_names, formats::float8_e4m3fn),
    floating(float8_e4m3fnuz, "float8_e4m3fnuz", e4m3fnuz_names, formats::float8_e4m3fnuz),
    floating(float8_e5m2, "float8_e5m2", e5m2_names, formats::float8_e5m2),
    floating(float8_e5m2fnuz, "float8_e5m2fnuz", e5m2fnuz_names, formats::float8_e5m2fnuz),
    floating(float8_e8m0fnu, "float8_e8m0fnu", e8m0fnu_names, formats::float8_e8m0fnu),
    floating(float6_e2m3fn, "float6_e2m3fn", e2m3fn_names, formats::float6_e2m3fn),
    floating(float6_e3m2fn, "float6_e3m2fn", e3m2fn_names, formats::float6_e3m2fn),
    floating(float4_e2m1fn, "float4_e2m1fn", e2m1fn_names, formats::float4_e2m1fn),
    sub_byte(TypeCode::int_, 1, "int1"),
    sub_byte(TypeCode::int_, 2, "int2"),
    sub_byte(TypeCode::int_, 3, "int3"),
    sub_byte(TypeCode::int_, 4, "int4"),
    sub_byte(TypeCode::int_, 5, "int5"),
    sub_byte(TypeCode::int_, 6, "int6"),
    sub_byte(TypeCode::int_, 7, "int7"),
    sub_byte(TypeCode::uint, 1, "uint1"),
    sub_byte(TypeCode::uint, 2, "uint2"),
    sub_byte(TypeCode::uint, 3, "uint3"),
    sub_byte(TypeCode::uint, 4, "uint4"),
    sub_byte(TypeCode::uint, 5, "uint5"),
    sub_byte(TypeCode::uint, 6, "uint6"),
    sub_byte(TypeCode::uint, 7, "uint7"),
};
constexpr std::size_t row_count = std::size(rows);
constexpr std::uint8_t no_row = 0xFF;
static_assert(row_count < no_row);

// (code, bits) -> row, by direct indexing.
constexpr std::size_t code_count = 18;
constexpr std::size_t bits_count = 129;
constexpr auto row_of_dtype = [] {
  std::array<std::uint8_t, code_count * bits_count> table{};
  table.fill(no_row);
  for (std::size_t row = 0; row < row_count; ++row) {
    table[rows[row].dtype.code * bits_count + rows[row].dtype.bits] = static_cast<std::uint8_t>(row);
  }
  return table;
}();

// name -> row, by open addressing (FNV-1a, linear probing) in a table built by the compiler.
constexpr std::size_t slot_count = 512;
constexpr std::size_t slot_of(Name name) {
  std::uint32_t hash = 2166136261U;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return (hash ^ (hash >> 16)) % slot_count;
}

struct Slot {
  Name name;
  std::uint8_t row;
};
constexpr auto row_of_name = [] {
  std::array<Slot, slot_count> table{};
  table.fill({Name(), no_row});  // by hand: g++ 12 loses a default member initialiser in most of the slots
  const auto insert = [&table](Name name, std::size_t row) {
    std::size_t slot = slot_of(name);
    while (table[slot].row != no_row) {
      if (table[slot].name == name) throw "two dtypes of one name";  // stops the compiler
      slot = (slot + 1) % slot_count;
    }
    table[slot] = {name, static_cast<std::uint8_t>(row)};
  };
  for (std::size_t row = 0; row < row_count; ++row) {
    insert(rows[row].name, row);
    for (const Name alias : rows[row].aliases) insert(alias, row);
  }
  return table;
}();

constexpr bool is_code(DType dtype, TypeCode code) { return dtype.code == static_cast<std::uint8_t>(code); }

// Whether the finite values, infinities, NaN and zeros of `from` are all values of `to`.
constexpr bool holds(const FloatFormat& to, const FloatFormat& from) {
  if (from.has_sign && !to.has_sign) return false;
  if (from.has_zero() && !to.has_zero()) return false;
  if (from.has_negative_zero && !to.has_negative_zero) return false;
  if (from.has_infinity && !to.has_infinity) return false;
  if (from.has_nan && !to.has_nan) return false;
  // Enough digits, the last one of the smallest number included: what is normal here may be subnormal there.
  if (from.mantissa_bits > to.mantissa_bits || from.min_subnormal() < to.min_subnormal()) return false;
  if (from.max_exponent() != to.max_exponent()) return from.max_exponent() < to.max_exponent();
  const auto mantissa = [](const FloatFormat& format) {
    return format.max_finite & ((std::uint64_t{1} << format.mantissa_bits) - 1);
  };
  return mantissa(from) << (to.mantissa_bits - from.mantissa_bits) <= mantissa(to);
}

// The bits of the largest magnitude of an integer or boolean, the sign apart.
constexpr int value_bits(const DTypeInfo& row) {
  if (row.kind == Kind::boolean) return 1;
  return row.dtype.bits - (row.kind == Kind::signed_integer ? 1 : 0);
}

// Whether all integers of `from` are values of `to`. The most negative one is a power of two: it needs no more digits
// than the others, but one more exponent.
constexpr bool holds_integers(const FloatFormat& to, const DTypeInfo& from) {
  if (!to.has_zero() || (from.kind == Kind::signed_integer && !to.has_sign)) return false;
  return value_bits(from) <= to.mantissa_bits + 1 && value_bits(from) <= to.max_exponent();
}

bool is_exact(const DTypeInfo& from, const DTypeInfo& to) noexcept {
  const bool from_float = from.format != nullptr;
  const bool to_float = to.format != nullptr;
  if (from_float && to_float) {
    return (from.kind != Kind::complex || to.kind == Kind::complex) && holds(*to.format, *from.format);
  }
  if (to_float) return holds_integers(*to.format, from);
  if (from_float) return false;  // integers have no NaN
  if (from.kind == Kind::signed_integer && to.kind != Kind::signed_integer) return false;
  return value_bits(from) <= value_bits(to);
}

}  // namespace

std::span<const DTypeInfo> dtypes() noexcept { return rows; }

const DTypeInfo* find(DType dtype) noexcept {
  if (dtype.code >= code_count || dtype.bits >= bits_count || dtype.lanes != 1) return nullptr;
  const std::uint8_t row = row_of_dtype[dtype.code * bits_count + dtype.bits];
  return row == no_row ? nullptr : &rows[row];
}

const DTypeInfo* find(std::string_view name) noexcept {
  for (std::size_t slot = slot_of(name); row_of_name[slot].row != no_row; slot = (slot + 1) % slot_count) {
    if (row_of_name[slot].name == name) return &rows[row_of_name[slot].row];
  }
  return nullptr;
}

std::string to_string(DType dtype) {
  const DTypeInfo* row = find(DType(dtype.code, dtype.bits, 1));
  std::string text =
      row != nullptr ? std::string(row->name) : std::to_string(dtype.code) + ":" + std::to_string(dtype.bits);
  if (dtype.lanes != 1) text.append("x").append(std::to_string(dtype.lanes));
  return text;
}

std::size_t alignment(DType dtype) noexcept {
  const DTypeInfo* row = find(DType(dtype.code, dtype.bits, 1));
  if (row == nullptr) return 1;
  const std::size_t bytes = dtype.bits / 8;
  return std::max<std::size_t>(1, row->kind == Kind::complex ? bytes / 2 : bytes);
}

bool is_impossible(DType dtype) noexcept {
  if (dtype.code >= code_count || is_code(dtype, TypeCode::opaque_handle)) return false;
  // 128-bit integers and floats and their complex pairs exist elsewhere: they travel without a row.
  const bool number =
      is_code(dtype, TypeCode::int_) || is_code(dtype, TypeCode::uint) || is_code(dtype, TypeCode::float_);
  if (number && dtype.bits == 128) return false;
  return find(DType(dtype.code, dtype.bits, 1)) == nullptr;
}

std::string_view to_string(Casting casting) noexcept {
  switch (casting) {
    case Casting::no:
      return "no";
    case Casting::equiv:
      return "equiv";
    case Casting::safe:
      return "safe";
    case Casting::same_kind:
      return "same_kind";
    case Casting::unsafe:
      return "unsafe";
    case Casting::same_value:
      return "same_value";
  }
  return "?";
}

bool is_exact(DType from, DType to) noexcept {
  if (from == to) return true;
  const DTypeInfo* source = find(from);
  const DTypeInfo* target = find(to);
  return source != nullptr && target != nullptr && source->castable && target->castable && is_exact(*source, *target);
}

bool can_cast(DType from, DType to, Casting casting) noexcept {
  if (from == to) return true;
  const DTypeInfo* source = find(from);
  const DTypeInfo* target = find(to);
  if (source == nullptr || target == nullptr || !source->castable || !target->castable) return false;
  switch (casting) {
    case Casting::no:
    case Casting::equiv:
      return false;
    case Casting::safe:
      // NumPy counts 64-bit integers to double as safe, although double has only 53 digits.
      return is_exact(*source, *target) || ((from == int64 || from == uint64) && (to == float64 || to == complex128));
    case Casting::same_kind:
      return source->kind <= target->kind;  // the order of the enumerators
    case Casting::unsafe:
    case Casting::same_value:
      return true;
  }
  return false;
}

}  // namespace v0
}  // namespace halfway
