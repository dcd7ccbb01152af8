// The dtype table, and the casting levels against NumPy's own answers and against the formats' values.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "halfway/dtype.h"
#include "reference.h"

using halfway::Casting;
using halfway::DType;
using halfway::DTypeInfo;
using halfway::FloatFormat;
using halfway::Kind;
using halfway::TypeCode;

namespace halfway {
// For Boost.Test's messages.
static std::ostream& boost_test_print_type(std::ostream& out, const DType& dtype) { return out << to_string(dtype); }
}  // namespace halfway

namespace {

std::vector<DType> castable() {
  std::vector<DType> result;
  for (const DTypeInfo& row : halfway::dtypes()) {
    if (row.castable) result.push_back(row.dtype);
  }
  return result;
}

DType by_name(std::string_view name) {
  const DTypeInfo* row = halfway::find(name);
  BOOST_TEST_REQUIRE(row != nullptr, "no dtype " << name);
  return row->dtype;
}

BOOST_AUTO_TEST_SUITE(dtype)

BOOST_AUTO_TEST_CASE(rows_are_found_by_dtype_name_and_alias) {
  std::set<std::string_view> names;
  for (const DTypeInfo& row : halfway::dtypes()) {
    BOOST_TEST(halfway::find(row.dtype) == &row);
    BOOST_TEST(halfway::find(row.name) == &row);
    BOOST_TEST(names.insert(row.name).second);
    for (const std::string_view alias : row.aliases) {
      BOOST_TEST(halfway::find(alias) == &row);
      BOOST_TEST(names.insert(alias).second);
    }
    BOOST_TEST(halfway::to_string(row.dtype) == row.name);
    BOOST_TEST(!halfway::is_impossible(row.dtype));
  }
  BOOST_TEST(names.size() > halfway::dtypes().size());
}

BOOST_AUTO_TEST_CASE(every_constant_has_its_row) {
  const std::map<std::string_view, DType> constants{
      {"bool", halfway::boolean},
      {"int8", halfway::int8},
      {"int16", halfway::int16},
      {"int32", halfway::int32},
      {"int64", halfway::int64},
      {"uint8", halfway::uint8},
      {"uint16", halfway::uint16},
      {"uint32", halfway::uint32},
      {"uint64", halfway::uint64},
      {"float16", halfway::float16},
      {"bfloat16", halfway::bfloat16},
      {"float32", halfway::float32},
      {"float64", halfway::float64},
      {"complex32", halfway::complex32},
      {"complex64", halfway::complex64},
      {"complex128", halfway::complex128},
      {"float8_e3m4", halfway::float8_e3m4},
      {"float8_e4m3", halfway::float8_e4m3},
      {"float8_e4m3b11fnuz", halfway::float8_e4m3b11fnuz},
      {"float8_e4m3fn", halfway::float8_e4m3fn},
      {"float8_e4m3fnuz", halfway::float8_e4m3fnuz},
      {"float8_e5m2", halfway::float8_e5m2},
      {"float8_e5m2fnuz", halfway::float8_e5m2fnuz},
      {"float8_e8m0fnu", halfway::float8_e8m0fnu},
      {"float6_e2m3fn", halfway::float6_e2m3fn},
      {"float6_e3m2fn", halfway::float6_e3m2fn},
      {"float4_e2m1fn", halfway::float4_e2m1fn},
  };
  for (const auto& [name, dtype] : constants) BOOST_TEST(by_name(name) == dtype);
  for (int bits = 1; bits < 8; ++bits) {
    BOOST_TEST(by_name("int" + std::to_string(bits)) == DType(TypeCode::int_, bits));
    BOOST_TEST(by_name("uint" + std::to_string(bits)) == DType(TypeCode::uint, bits));
  }
  BOOST_TEST(halfway::dtypes().size() == constants.size() + 14);
}

BOOST_AUTO_TEST_CASE(aliases_people_type) {
  const std::map<std::string_view, DType> aliases{
      {"bf16", halfway::bfloat16},
      {"half", halfway::float16},
      {"fp16", halfway::float16},
      {"f16", halfway::float16},
      {"f32", halfway::float32},
      {"single", halfway::float32},
      {"f64", halfway::float64},
      {"double", halfway::float64},
      {"float", halfway::float64},
      {"int", halfway::int64},
      {"complex", halfway::complex128},
      {"bool_", halfway::boolean},
      {"c64", halfway::complex64},
      {"chalf", halfway::complex32},
      {"u16", halfway::uint16},
      {"f8_e4m3fn", halfway::float8_e4m3fn},
      {"e5m2", halfway::float8_e5m2},
      {"e8m0", halfway::float8_e8m0fnu},
      {"f8_e8m0fnu", halfway::float8_e8m0fnu},
  };
  for (const auto& [name, dtype] : aliases) BOOST_TEST(by_name(name) == dtype);
}

BOOST_AUTO_TEST_CASE(unknown_names_are_not_found) {
  // NumPy's "i8" and "u8" count bytes: as aliases of int8 and uint8 they would silently mean something else.
  for (const std::string_view name : {"", "i8", "u8", "f8", "f4", "BF16", "bfloat16 ", "float128", "longdouble",
                                      "object", "datetime64", "string", "float8", "int128"}) {
    BOOST_TEST(halfway::find(name) == nullptr, name);
  }
}

BOOST_AUTO_TEST_CASE(unknown_dtypes_are_not_found) {
  BOOST_TEST(halfway::find(DType(TypeCode::float_, 32, 4)) == nullptr);
  BOOST_TEST(halfway::find(DType(TypeCode::float_, 128)) == nullptr);
  BOOST_TEST(halfway::find(DType(TypeCode::opaque_handle, 64)) == nullptr);
  BOOST_TEST(halfway::find(DType(std::uint8_t{200}, std::uint8_t{16}, std::uint16_t{1})) == nullptr);
  BOOST_TEST(halfway::find(DType(std::uint8_t{17}, std::uint8_t{255}, std::uint16_t{1})) == nullptr);
  BOOST_TEST(halfway::find(DType(std::uint8_t{255}, std::uint8_t{255}, std::uint16_t{1})) == nullptr);
  BOOST_TEST(halfway::find(DType(std::uint8_t{0}, std::uint8_t{8}, std::uint16_t{0})) == nullptr);
}

BOOST_AUTO_TEST_CASE(text_of_dtypes_without_a_row) {
  BOOST_TEST(to_string(DType(TypeCode::float_, 32, 4)) == "float32x4");
  BOOST_TEST(to_string(DType(TypeCode::float4_e2m1fn, 4, 2)) == "float4_e2m1fnx2");
  BOOST_TEST(to_string(DType(std::uint8_t{99}, std::uint8_t{16}, std::uint16_t{1})) == "99:16");
  BOOST_TEST(to_string(DType(std::uint8_t{99}, std::uint8_t{16}, std::uint16_t{3})) == "99:16x3");
}

BOOST_AUTO_TEST_CASE(possible_bits_of_every_known_code) {
  const std::map<int, std::set<int>> possible{
      {0, {1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128}},
      {1, {1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128}},
      {2, {16, 32, 64, 128}},
      {4, {16}},
      {5, {32, 64, 128}},
      {6, {8}},
      {7, {8}},
      {8, {8}},
      {9, {8}},
      {10, {8}},
      {11, {8}},
      {12, {8}},
      {13, {8}},
      {14, {8}},
      {15, {6}},
      {16, {6}},
      {17, {4}},
  };
  for (int code = 0; code < 256; ++code) {
    for (int bits = 0; bits < 256; ++bits) {
      const DType dtype(static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1);
      const auto known = possible.find(code);
      const bool impossible = known != possible.end() && known->second.count(bits) == 0;
      if (halfway::is_impossible(dtype) != impossible) BOOST_ERROR("code " << code << " bits " << bits);
      const DType vector(static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 3);
      if (halfway::is_impossible(vector) != impossible) BOOST_ERROR("code " << code << " bits " << bits << " x3");
    }
  }
}

BOOST_AUTO_TEST_CASE(alignments) {
  for (const DTypeInfo& row : halfway::dtypes()) {
    const std::size_t bytes = row.dtype.bits < 8 ? 1 : row.dtype.bits / 8;
    BOOST_TEST(halfway::alignment(row.dtype) == (row.kind == Kind::complex ? bytes / 2 : bytes), row.name);
  }
  BOOST_TEST(halfway::alignment(DType(TypeCode::float_, 32, 4)) == 4U);
  BOOST_TEST(halfway::alignment(DType(TypeCode::float_, 128)) == 1U);
  BOOST_TEST(halfway::alignment(DType(TypeCode::opaque_handle, 64)) == 1U);
}

BOOST_AUTO_TEST_CASE(kinds_and_castability) {
  for (const DTypeInfo& row : halfway::dtypes()) {
    const bool reference_casts =
        row.kind == Kind::complex || std::any_of(reference::formats().begin(), reference::formats().end(),
                                                 [&](const auto& format) { return format.dtype == row.dtype; });
    BOOST_TEST(row.castable == reference_casts, row.name);
    BOOST_TEST((row.format != nullptr) == (row.kind == Kind::floating || row.kind == Kind::complex), row.name);
    BOOST_TEST((row.kind == Kind::complex) == (row.name.substr(0, 7) == "complex"), row.name);
    BOOST_TEST((row.kind == Kind::signed_integer) == (row.name.substr(0, 3) == "int"), row.name);
    BOOST_TEST((row.kind == Kind::unsigned_integer) == (row.name.substr(0, 4) == "uint"), row.name);
    BOOST_TEST((row.kind == Kind::boolean) == (row.name == "bool"), row.name);
    if (row.format != nullptr) {
      BOOST_TEST(row.format->bits() == (row.kind == Kind::complex ? row.dtype.bits / 2 : row.dtype.bits), row.name);
    }
  }
}

// The formats against their definitions, written down a second time.
BOOST_AUTO_TEST_CASE(formats_of_castable_floats) {
  for (const reference::Format& expected : reference::formats()) {
    const DTypeInfo* row = halfway::find(expected.dtype);
    BOOST_TEST_REQUIRE(row != nullptr);
    BOOST_TEST(row->name == expected.name);
    if (!expected.is_float()) continue;
    const FloatFormat& format = *row->format;
    BOOST_TEST_CONTEXT(row->name) {
      BOOST_TEST(format.exponent_bits == expected.exponent_bits);
      BOOST_TEST(format.mantissa_bits == expected.mantissa_bits);
      BOOST_TEST(format.bias == expected.bias);
      BOOST_TEST(format.has_sign == expected.is_signed);
      BOOST_TEST(format.has_infinity == (expected.style == reference::Style::ieee));
      BOOST_TEST(format.has_negative_zero ==
                 (expected.style == reference::Style::ieee || expected.style == reference::Style::fn));
      BOOST_TEST(format.max_finite == expected.largest());
      BOOST_TEST(format.canonical_nan == expected.nan);
      BOOST_TEST(reference::decode(expected, format.canonical_nan).is_nan());
    }
  }
}

// The largest and the smallest numbers, as published: the OCP and the Graphcore/AMD/Qualcomm papers, IEEE 754.
BOOST_AUTO_TEST_CASE(published_ranges) {
  struct Range {
    std::string_view name;
    double largest;
    double smallest_normal;
    double smallest;
  };
  const std::vector<Range> ranges{
      {"float16", 65504, 0x1p-14, 0x1p-24},
      {"bfloat16", 0x1.FEp127, 0x1p-126, 0x1p-133},
      {"float32", std::numeric_limits<float>::max(), std::numeric_limits<float>::min(),
       std::numeric_limits<float>::denorm_min()},
      {"float64", std::numeric_limits<double>::max(), std::numeric_limits<double>::min(),
       std::numeric_limits<double>::denorm_min()},
      {"float8_e3m4", 15.5, 0.25, 0x1p-6},
      {"float8_e4m3", 240, 0x1p-6, 0x1p-9},
      {"float8_e4m3b11fnuz", 30, 0x1p-10, 0x1p-13},
      {"float8_e4m3fn", 448, 0x1p-6, 0x1p-9},
      {"float8_e4m3fnuz", 240, 0x1p-7, 0x1p-10},
      {"float8_e5m2", 57344, 0x1p-14, 0x1p-16},
      {"float8_e5m2fnuz", 57344, 0x1p-15, 0x1p-17},
      {"float8_e8m0fnu", 0x1p127, 0x1p-127, 0x1p-127},
      {"float6_e2m3fn", 7.5, 1.0, 0.125},
      {"float6_e3m2fn", 28, 0.25, 0.0625},
      {"float4_e2m1fn", 6, 1.0, 0.5},
  };
  for (const Range& range : ranges) {
    const FloatFormat& format = *halfway::find(range.name)->format;
    BOOST_TEST_CONTEXT(range.name) {
      const auto mantissa = static_cast<double>(format.max_finite & ((std::uint64_t{1} << format.mantissa_bits) - 1));
      const double significand = 1 + std::ldexp(mantissa, -format.mantissa_bits);
      BOOST_TEST(std::ldexp(significand, format.max_exponent()) == range.largest);
      BOOST_TEST(std::ldexp(1.0, format.min_exponent()) == range.smallest_normal);
      BOOST_TEST(std::ldexp(1.0, format.min_subnormal()) == range.smallest);
    }
  }
}

// numpy.can_cast for every pair of NumPy's dtypes, by NumPy 2.4.6: the first level that allows it.
// '=' no, 's' safe, 'k' same_kind, 'u' unsafe. (`no` and `equiv` differ in the byte order alone.)
struct NumpyRow {
  std::string_view from;
  std::string_view levels;  // to the dtypes of the column order below
};
constexpr std::string_view numpy_columns[] = {"bool",    "int8",    "uint8",     "int16",     "uint16",
                                              "int32",   "uint32",  "int64",     "uint64",    "float16",
                                              "float32", "float64", "complex64", "complex128"};
constexpr NumpyRow numpy_rows[] = {
    {"bool", "=sssssssssssss"},      {"int8", "u=ususususssss"},       {"uint8", "uk=sssssssssss"},
    {"int16", "uku=ususukssss"},     {"uint16", "ukkk=sssskssss"},     {"int32", "ukuku=usukksks"},
    {"uint32", "ukkkkk=sskksks"},    {"int64", "ukukuku=ukksks"},      {"uint64", "ukkkkkkk=kksks"},
    {"float16", "uuuuuuuuu=ssss"},   {"float32", "uuuuuuuuuk=sss"},    {"float64", "uuuuuuuuukk=ks"},
    {"complex64", "uuuuuuuuuuuu=s"}, {"complex128", "uuuuuuuuuuuuk="},
};

BOOST_AUTO_TEST_CASE(levels_between_numpy_dtypes_are_numpys) {
  const std::map<char, int> first_level{{'=', 0}, {'s', 2}, {'k', 3}, {'u', 4}};
  for (const NumpyRow& row : numpy_rows) {
    BOOST_TEST_REQUIRE(row.levels.size() == std::size(numpy_columns));
    for (std::size_t column = 0; column < std::size(numpy_columns); ++column) {
      const DType from = by_name(row.from);
      const DType to = by_name(numpy_columns[column]);
      for (int level = 0; level <= static_cast<int>(Casting::unsafe); ++level) {
        const bool expected = level >= first_level.at(row.levels[column]);
        BOOST_TEST(halfway::can_cast(from, to, static_cast<Casting>(level)) == expected,
                   row.from << " to " << numpy_columns[column] << " at level " << level);
      }
      BOOST_TEST(halfway::can_cast(from, to, Casting::same_value));
    }
  }
}

// Whether every value of `from` survives, found by trying: all patterns up to 16 bits, else the hardest ones.
bool every_value_survives(DType from, DType to) {
  using namespace reference;  // NOLINT(google-build-using-namespace)
  const Format& in = format(component(from));
  std::vector<std::uint64_t> patterns;
  if (in.bits() <= 16) {
    for (std::uint64_t pattern = 0; pattern < std::uint64_t{1} << in.bits(); ++pattern) patterns.push_back(pattern);
    if (in.style == Style::boolean) patterns = {0, 1};
  } else {
    const std::uint64_t ones = in.bits() == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << in.bits()) - 1;
    patterns = {0, 1, ones, ones >> 1, (ones >> 1) + 1, (ones >> 1) - 1, in.largest(), in.largest() + 1};
    if (in.is_float()) patterns.push_back(in.nan);
  }
  for (const std::uint64_t pattern : patterns) {
    const Number x = decode(in, pattern);
    const auto [image, lost] = convert_element({pattern, pattern}, from, to, Overflow::by_format);
    // Stricter than same_value: the sign of zero has to survive.
    const bool loses_sign = x.is_zero() && x.negative && !(decode(format(component(to)), image.real).negative);
    if (!lost.survives() || loses_sign) return false;
  }
  return true;
}

BOOST_AUTO_TEST_CASE(exact_means_that_every_value_survives) {
  for (const DType from : castable()) {
    for (const DType to : castable()) {
      if (from == to) continue;
      BOOST_TEST(halfway::is_exact(from, to) == every_value_survives(from, to), to_string(from)
                                                                                    << " to " << to_string(to));
    }
  }
}

BOOST_AUTO_TEST_CASE(levels_where_other_dtypes_take_part) {
  const auto is_numpys = [](DType dtype) {
    return std::find(std::begin(numpy_columns), std::end(numpy_columns), to_string(dtype)) != std::end(numpy_columns);
  };
  const auto rank = [](DType dtype) {
    const Kind kind = halfway::find(dtype)->kind;
    return kind == Kind::boolean            ? 0
           : kind == Kind::unsigned_integer ? 1
           : kind == Kind::signed_integer   ? 2
           : kind == Kind::floating         ? 3
                                            : 4;
  };
  for (const DType from : castable()) {
    for (const DType to : castable()) {
      BOOST_TEST_CONTEXT(to_string(from) << " to " << to_string(to)) {
        const bool same = from == to;
        BOOST_TEST(halfway::can_cast(from, to, Casting::no) == same);
        BOOST_TEST(halfway::can_cast(from, to, Casting::equiv) == same);
        BOOST_TEST(halfway::can_cast(from, to, Casting::unsafe));
        BOOST_TEST(halfway::can_cast(from, to, Casting::same_value));
        if (is_numpys(from) && is_numpys(to)) continue;
        const bool safe = halfway::is_exact(from, to);
        BOOST_TEST(halfway::can_cast(from, to, Casting::safe) == safe);
        BOOST_TEST(halfway::can_cast(from, to, Casting::same_kind) == (safe || rank(from) <= rank(to)));
      }
    }
  }
  using namespace halfway;  // NOLINT(google-build-using-namespace)
  BOOST_TEST(can_cast(float8_e4m3fn, bfloat16, Casting::safe));
  BOOST_TEST(can_cast(bfloat16, float32, Casting::safe));
  BOOST_TEST(can_cast(uint8, bfloat16, Casting::safe));
  BOOST_TEST(!can_cast(float16, bfloat16, Casting::safe));
  BOOST_TEST(can_cast(float16, bfloat16, Casting::same_kind));
  BOOST_TEST(!can_cast(boolean, float8_e8m0fnu, Casting::safe));       // no zero
  BOOST_TEST(!can_cast(float8_e5m2, float8_e5m2fnuz, Casting::safe));  // no infinity, no negative zero
  BOOST_TEST(can_cast(float8_e8m0fnu, bfloat16, Casting::safe));       // 2^-127 is subnormal there
  BOOST_TEST(!can_cast(complex64, bfloat16, Casting::same_kind));
}

BOOST_AUTO_TEST_CASE(what_is_not_castable_equals_only_itself) {
  const std::vector<DType> carried{halfway::float4_e2m1fn,
                                   halfway::float6_e2m3fn,
                                   DType(TypeCode::int_, 4),
                                   DType(TypeCode::float_, 32, 4),
                                   DType(TypeCode::opaque_handle, 64),
                                   DType(std::uint8_t{77}, std::uint8_t{8}, std::uint16_t{1})};
  for (const DType dtype : carried) {
    for (int level = 0; level <= static_cast<int>(Casting::same_value); ++level) {
      BOOST_TEST(halfway::can_cast(dtype, dtype, static_cast<Casting>(level)));
      BOOST_TEST(!halfway::can_cast(dtype, halfway::float32, static_cast<Casting>(level)));
      BOOST_TEST(!halfway::can_cast(halfway::float32, dtype, static_cast<Casting>(level)));
    }
    BOOST_TEST(halfway::is_exact(dtype, dtype));
    BOOST_TEST(!halfway::is_exact(dtype, halfway::float32));
  }
}

BOOST_AUTO_TEST_CASE(names_of_levels) {
  BOOST_TEST(to_string(Casting::no) == "no");
  BOOST_TEST(to_string(Casting::equiv) == "equiv");
  BOOST_TEST(to_string(Casting::safe) == "safe");
  BOOST_TEST(to_string(Casting::same_kind) == "same_kind");
  BOOST_TEST(to_string(Casting::unsafe) == "unsafe");
  BOOST_TEST(to_string(Casting::same_value) == "same_value");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
