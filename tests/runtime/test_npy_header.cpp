// Headers of .npy files: what is understood, every way of being wrong, and that no damage is read beyond the file's
// end. Each file is a heap block of its own size, so that AddressSanitizer sees the first byte too many.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "halfway/layout.h"
#include "npy/header.h"
#include "rounds.h"

namespace {

using halfway::DType;
using halfway::NpyDefect;
using halfway::NpyError;
using halfway::NpyOptions;
using halfway::detail::npy_header_text;
using halfway::detail::NpyHeader;
using halfway::detail::parse_npy;
namespace data = boost::unit_test::data;

constexpr std::string_view name = "some/file.npy";

NpyHeader parse(const std::string& file, const NpyOptions& options = {}) {
  const auto block = std::make_unique<std::byte[]>(file.size());
  std::transform(file.begin(), file.end(), block.get(), [](char c) { return static_cast<std::byte>(c); });
  return parse_npy({block.get(), file.size()}, options, name);
}

// The defect, and that the error says what an error has to say.
std::optional<NpyDefect> defect_of(const std::string& file, const NpyOptions& options = {}) {
  try {
    static_cast<void>(parse(file, options));
  } catch (const NpyError& error) {
    const std::string said = error.what();
    BOOST_TEST(said.find(std::string(name) + ": " + std::string(describe(error.defect()))) != std::string::npos, said);
    BOOST_TEST(!error.hint().empty());
    BOOST_TEST((error.reason() == reason(error.defect())));
    BOOST_TEST(said.size() < 400U, said);
    BOOST_TEST(std::all_of(said.begin(), said.end(), [](char c) { return c >= 0x20 && c < 0x7F; }), said);
    return error.defect();
  }
  return std::nullopt;
}

// A file of `text` as the header of a version, with so many bytes of elements.
std::string file_of(const std::string& text, std::size_t bytes, char major = 1) {
  std::string file = "\x93NUMPY";
  file += major;
  file += '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) file += static_cast<char>(text.size() >> (8 * i));
  return file + text + std::string(bytes, '\x01');
}

struct Good {
  std::string text;
  std::size_t bytes;
  NpyHeader header;
  std::optional<DType> dtype{};
};
std::ostream& operator<<(std::ostream& out, const Good& row) { return out << row.text; }

NpyHeader expected(DType dtype, std::vector<std::int64_t> shape, bool swapped = false, bool fortran_order = false) {
  NpyHeader header;
  header.dtype = dtype;
  header.swapped = swapped;
  header.fortran_order = fortran_order;
  header.ndim = shape.size();
  std::copy(shape.begin(), shape.end(), header.dims.begin());
  return header;
}

std::string dict(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

std::string ones(int count) {
  std::string text = "(";
  for (int i = 0; i < count; ++i) text += "1, ";
  return text + ")";
}

const std::vector<Good> good_rows{
    {dict("'<f4'", "(2, 3)"), 24, expected(halfway::float32, {2, 3})},
    {dict("'>f4'", "(2, 3)"), 24, expected(halfway::float32, {2, 3}, true)},
    {dict("'<f8'", "(2, 3)", "True"), 48, expected(halfway::float64, {2, 3}, false, true)},
    {dict("'|b1'", "()"), 1, expected(halfway::boolean, {})},
    {dict("'|u1'", "(0,)"), 0, expected(halfway::uint8, {0})},
    {dict("'>i1'", "(3,)"), 3, expected(halfway::int8, {3})},  // one byte has no order
    {dict("'<c16'", "(1, 0, 5)"), 0, expected(halfway::complex128, {1, 0, 5})},
    {dict("'<i2'", ones(64)), 2, expected(halfway::int16, std::vector<std::int64_t>(64, 1))},
    // Python's other spellings of the same.
    {"{\"shape\":(4,),\"fortran_order\":False,\"descr\":\"<u4\"}", 16, expected(halfway::uint32, {4})},
    {"  { 'descr' : '<u8' ,\n'fortran_order':\tTrue , 'shape' : ( 1 , 2 , ) , }  \n", 16,
     expected(halfway::uint64, {1, 2}, false, true)},
    {dict("'<i8'", "(3L, 1L)"), 24, expected(halfway::int64, {3, 1})},
    // Bytes, of which the caller says what they are.
    {dict("'<V2'", "(3,)"), 6, expected(halfway::bfloat16, {3}), halfway::bfloat16},
    {dict("'|V2'", "(3,)"), 6, expected(halfway::bfloat16, {3}), halfway::bfloat16},
    {dict("'>V2'", "(3,)"), 6, expected(halfway::bfloat16, {3}, true), halfway::bfloat16},
    {dict("'|V1'", "(3,)"), 3, expected(halfway::float8_e4m3fn, {3}), halfway::float8_e4m3fn},
    {dict("'<f1'", "(3,)"), 3, expected(halfway::float8_e5m2, {3}), halfway::float8_e5m2},
    {dict("'|V1'", "(3,)"), 3, expected(halfway::float4_e2m1fn, {3}), halfway::float4_e2m1fn},
    {dict("'>W4'", "(3,)"), 12, expected(halfway::complex32, {3}, true), halfway::complex32},
    {dict("'|V16'", "(2,)"), 32, expected(DType(2, 32, 4), {2}), DType(2, 32, 4)},
    {dict("'<f4'", "(2,)"), 8, expected(halfway::float32, {2}), halfway::float32},
};

struct Bad {
  NpyDefect defect;
  std::string file;
  std::optional<DType> dtype{};
};
std::ostream& operator<<(std::ostream& out, const Bad& row) { return out << to_string(row.defect) << ' ' << row.file; }

const std::string plain = dict("'<f4'", "(2, 3)");

std::vector<Bad> bad_rows() {
  std::vector<Bad> rows{
      {NpyDefect::magic, ""},
      {NpyDefect::magic, "PK\x03\x04 an archive"},
      {NpyDefect::magic, "\x93NUMPX" + file_of(plain, 24).substr(6)},
      {NpyDefect::truncated_header, "\x93NUMPY"},
      {NpyDefect::truncated_header, file_of(plain, 0).substr(0, 9)},
      {NpyDefect::truncated_header, file_of(plain, 0, 2).substr(0, 11)},
      {NpyDefect::truncated_header, std::string("\x93NUMPY\x02\0\xFF\xFF\xFF\xFF{}", 14)},
      {NpyDefect::unknown_key, file_of("{'descr': '<f4', 'evil': 1}", 4)},
      {NpyDefect::unknown_key, file_of("{'descr: '<f4'}", 4)},
      {NpyDefect::duplicate_key, file_of("{'shape': (1,), 'shape': (2,)}", 4)},
      {NpyDefect::missing_key, file_of("{'descr': '<f4', 'shape': (1,)}", 4)},
      {NpyDefect::missing_key, file_of("{}", 0)},
      {NpyDefect::opaque, file_of(dict("'<V2'", "(3,)"), 6)},
      {NpyDefect::opaque, file_of(dict("'<f1'", "(3,)"), 3)},
      {NpyDefect::dtype_mismatch, file_of(plain, 24), halfway::bfloat16},
      {NpyDefect::dtype_mismatch, file_of(dict("'<V2'", "(3,)"), 6), halfway::float32},
      {NpyDefect::dtype_mismatch, file_of(dict("'|V0'", "(3,)"), 0), halfway::bfloat16},
      {NpyDefect::dtype_mismatch, file_of(dict("'|V1'", "(3,)"), 3), DType(6, 16, 1)},
      {NpyDefect::truncated_data, file_of(plain, 23)},
      {NpyDefect::truncated_data, file_of(plain, 0)},
      {NpyDefect::trailing_data, file_of(plain, 25)},
  };
  for (const auto& [major, minor] : {std::pair{'\0', '\0'}, {'\4', '\0'}, {'\1', '\1'}, {'\xFF', '\xFF'}}) {
    std::string file = file_of(plain, 24);
    file[6] = major;
    file[7] = minor;
    rows.push_back({NpyDefect::version, file});
  }
  const auto add = [&rows](NpyDefect defect, const std::vector<std::string>& texts, std::size_t bytes) {
    for (const std::string& text : texts) rows.push_back({defect, file_of(text, bytes)});
  };
  add(NpyDefect::syntax,
      {"",
       " ",
       "[]",
       "{",
       "{'descr'",
       "{'descr'}",
       "{'descr' '<f4'}",
       "{'shape",
       "{,}",
       "dict()",
       plain + "x",
       plain + "{}",
       plain + std::string(1, '\0'),
       "# " + plain,
       "{'descr': '<f4' 'fortran_order': False}",
       "{'descr': '<f4\\x00'}",
       "{'descr': '<f4\n'}",
       "{'descr': '<f",
       "{u'descr': '<f4'}",
       dict("'<f4'", "(2,)", "False or True"),
       "{'fortran_order': Falsehood}"},
      24);
  add(NpyDefect::bad_descr,
      {dict("''", "()"),        dict("'''<f4'''", "()"), dict("'|i0'", "()"),   dict("'<'", "()"),
       dict("'f4'", "()"),      dict("'=f4'", "()"),     dict("'|f4'", "()"),   dict("'<f'", "()"),
       dict("'<f3'", "()"),     dict("'<f04'", "()"),    dict("'<f4 '", "()"),  dict("'<f+4'", "()"),
       dict("'<f-4'", "()"),    dict("'<i16'", "()"),    dict("'<x4'", "()"),   dict("'<V0x2'", "()"),
       dict("4", "()"),         dict("None", "()"),      dict("{'<f4'}", "()"), dict("'<f99999999999999999999'", "()"),
       dict("'<f4,<f4'", "()"), dict("'float32'", "()"), dict("'<b8'", "()"),   dict("'<c4'", "()")},
      4);
  add(NpyDefect::structured, {dict("[('a', '<f4'), ('b', '|O')]", "()"), dict("('<f4', (2,))", "()"), dict("[]", "()")},
      4);
  add(NpyDefect::objects, {dict("'|O'", "()"), dict("'|O8'", "()"), dict("'<O'", "()")}, 8);
  add(NpyDefect::text, {dict("'|S5'", "()"), dict("'<U5'", "()"), dict("'|T16'", "()")}, 5);
  add(NpyDefect::dates, {dict("'<M8[ns]'", "()"), dict("'<m8'", "()")}, 8);
  add(NpyDefect::extended, {dict("'<f16'", "()"), dict("'<f12'", "()"), dict("'<c32'", "()")}, 16);
  add(NpyDefect::bad_order,
      {dict("'<f4'", "()", "false"), dict("'<f4'", "()", "0"), dict("'<f4'", "()", "'F'"), dict("'<f4'", "()", "")}, 4);
  add(NpyDefect::bad_shape,
      {dict("'<f4'", "(2)"), dict("'<f4'", "[2]"), dict("'<f4'", "2"), dict("'<f4'", "(,)"), dict("'<f4'", "(2,,)"),
       dict("'<f4'", "(2.0,)"), dict("'<f4'", "(True,)"), dict("'<f4'", "(0x2,)"), dict("'<f4'", "(02,)"),
       dict("'<f4'", "(+2,)"), dict("'<f4'", "(1_0,)"), dict("'<f4'", "(2 3)"), dict("'<f4'", "('2',)"),
       dict("'<f4'", "((2,),)"), dict("'<f4'", "(2, -)"), dict("'<f4'", "(2"), dict("'<f4'", "(2LL,)")},
      8);
  rows.push_back({NpyDefect::bad_shape, file_of(dict("'<f4'", "(2L,)"), 8, 3)});  // Python 2 wrote no version 3.0
  add(NpyDefect::negative_dim, {dict("'<f4'", "(-1,)"), dict("'<f4'", "(2, -9223372036854775808)")}, 4);
  add(NpyDefect::too_many_dims, {dict("'<f4'", ones(65)), dict("'<f4'", ones(5000))}, 4);
  add(NpyDefect::too_many_elements,
      {dict("'<f4'", "(9223372036854775808,)"), dict("'<f4'", "(99999999999999999999999999999999,)"),
       dict("'|i1'", "(4294967296, 4294967296)"), dict("'<f4'", "(4611686018427387904,)"),
       dict("'|i1'", "(4294967296, 4294967296, 0)")},
      4);
  return rows;
}

BOOST_AUTO_TEST_SUITE(npy_header)

BOOST_DATA_TEST_CASE(what_numpy_writes_is_understood, data::make(good_rows), row) {
  for (const char major : {'\1', '\2', '\3'}) {
    if (major == '\3' && row.text.find('L') != std::string::npos) continue;
    const std::string file = file_of(row.text, row.bytes, major);
    const NpyHeader header = parse(file, {.dtype = row.dtype});
    BOOST_TEST((header.dtype == row.header.dtype));
    BOOST_TEST(header.swapped == row.header.swapped);
    BOOST_TEST(header.fortran_order == row.header.fortran_order);
    BOOST_TEST(header.shape() == row.header.shape(), boost::test_tools::per_element());
    BOOST_TEST(header.data_offset == file.size() - row.bytes);
    BOOST_TEST(header.data_bytes == row.bytes);
  }
}

BOOST_DATA_TEST_CASE(what_is_wrong_is_refused_by_name, data::make(bad_rows()), row) {
  const std::optional<NpyDefect> defect = defect_of(row.file, {.dtype = row.dtype});
  BOOST_TEST_REQUIRE(defect.has_value());
  BOOST_TEST(to_string(*defect) == to_string(row.defect));
}

BOOST_AUTO_TEST_CASE(every_defect_is_provoked) {
  std::set<NpyDefect> provoked{NpyDefect::not_regular};  // of files, not of headers: test_npy.cpp
  for (const Bad& row : bad_rows()) provoked.insert(row.defect);
  BOOST_TEST(provoked.size() == static_cast<std::size_t>(halfway::npy_defect_count));
  std::set<std::string_view> names;
  for (const NpyDefect defect : provoked) names.insert(to_string(defect));
  BOOST_TEST(names.size() == provoked.size());
}

// What a file may be after damage: refused, or one whose elements end where the file does.
void check_damaged(const std::string& file, const NpyOptions& options) {
  try {
    const NpyHeader header = parse(file, options);
    BOOST_REQUIRE(header.ndim <= static_cast<std::size_t>(halfway::max_ndim));
    const auto count = halfway::element_count(header.shape());
    BOOST_REQUIRE(count.has_value());
    const std::size_t size = header.padded() ? 1 : item_size(header.dtype);
    BOOST_REQUIRE_EQUAL(header.data_bytes, static_cast<std::size_t>(*count) * size);
    BOOST_REQUIRE_EQUAL(header.data_offset + header.data_bytes, file.size());
  } catch (const NpyError& error) {
    BOOST_REQUIRE(!to_string(error.defect()).empty());
  }
}

BOOST_DATA_TEST_CASE(every_byte_may_be_any_other, data::xrange(1, 4), major) {
  for (const NpyOptions& options : {NpyOptions{}, NpyOptions{.dtype = halfway::bfloat16}}) {
    const std::string descr = options.dtype ? "'<V2'" : "'<f4'";
    const std::string file =
        file_of(dict(descr, "(12, 3)") + "   \n", options.dtype ? 72 : 144, static_cast<char>(major));
    BOOST_REQUIRE(!defect_of(file, options));
    std::size_t header = file.size() - (options.dtype ? 72 : 144);
    // Under a sanitizer once for the text, which is the same in all; the bytes before it differ.
    if (rounds::are_watched && (major > 1 || options.dtype)) header = 12;
    for (std::size_t place = 0; place < header; ++place) {
      std::string damaged = file;
      for (int value = 0; value < 256; ++value) {
        damaged[place] = static_cast<char>(value);
        check_damaged(damaged, options);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(no_shorter_file_is_accepted) {
  for (const char major : {'\1', '\2', '\3'}) {
    const std::string file = file_of(plain + "\n", 24, major);
    for (std::size_t length = 0; length < file.size(); ++length) {
      BOOST_TEST(defect_of(file.substr(0, length)).has_value(), "cut to " << length << " bytes");
    }
  }
}

// Pieces of headers in any order reach what no damage to a right one does.
BOOST_AUTO_TEST_CASE(pieces_of_headers_in_any_order) {
  static constexpr std::array<std::string_view, 34> pieces{
      "{",       "}",     "'descr'", "'fortran_order'",
      "'shape'", ":",     ",",       "'<f4'",
      "'>V2'",   "(",     ")",       "()",
      "(2, 3)",  "(0,)",  "True",    "'",
      "\"",      "False", " ",       "\n",
      "-",       "1",     "0",       "9",
      "L",       "[",     "]",       "\\",
      "'|O'",    "None",  "#",       "\xC3",
      "u'",      "\t",
  };
  std::mt19937_64 random(8);
  for (int round = rounds::of(200000); round-- > 0;) {
    std::string text;
    if (random() % 2 == 0) {
      for (auto count = random() % 24; count-- > 0;) text += pieces[random() % pieces.size()];
    } else {
      text = dict("'<f4'", "(2, 3)");
      for (auto count = 1 + random() % 3; count-- > 0;) {
        text.replace(random() % text.size(), random() % 8, pieces[random() % pieces.size()]);
      }
    }
    check_damaged(file_of(text, random() % 2 == 0 ? 24 : 0, static_cast<char>(1 + random() % 3)),
                  {.dtype = random() % 4 == 0 ? std::optional(halfway::bfloat16) : std::nullopt});
  }
}

BOOST_AUTO_TEST_CASE(what_is_written_is_read_and_aligned) {
  for (const halfway::DTypeInfo& row : halfway::dtypes()) {
    for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{},
                                                   {0},
                                                   {7},
                                                   {2, 3},
                                                   std::vector<std::int64_t>(64, 1),
                                                   {std::int64_t{1} << 56, 0, 5}}) {
      for (const bool swapped : {false, true}) {
        for (const bool fortran_order : {false, true}) {
          const bool size = item_size(row.dtype) != 0;
          std::string file = npy_header_text(row.dtype, swapped, fortran_order, shape);
          BOOST_TEST(file.size() % 64 == 0U);
          std::size_t bytes = size ? item_size(row.dtype) : 1;
          for (const std::int64_t dim : shape) bytes *= static_cast<std::size_t>(dim);
          const NpyHeader header = parse(file + std::string(bytes, '\0'), {.dtype = row.dtype});
          BOOST_TEST((header.dtype == row.dtype));
          BOOST_TEST(header.swapped == (swapped && item_size(row.dtype) > 1));
          BOOST_TEST(header.fortran_order == fortran_order);
          BOOST_TEST(header.shape() == std::span<const std::int64_t>(shape), boost::test_tools::per_element());
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
