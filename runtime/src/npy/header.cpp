#include "npy/header.h"

#include <bit>
#include <charconv>
#include <limits>
#include <string_view>
#include <system_error>

#include "halfway/layout.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

constexpr std::string_view magic("\x93NUMPY", 6);
constexpr std::size_t data_alignment = 64;
constexpr char native_order = std::endian::native == std::endian::little ? '<' : '>';

// NumPy's own dtypes, as a `descr` writes them behind the byte order.
struct NumpyRow {
  char kind;
  std::size_t size;
  DType dtype;
};
constexpr std::array<NumpyRow, 14> numpy_rows{{
    {'b', 1, boolean},
    {'i', 1, int8},
    {'i', 2, int16},
    {'i', 4, int32},
    {'i', 8, int64},
    {'u', 1, uint8},
    {'u', 2, uint16},
    {'u', 4, uint32},
    {'u', 8, uint64},
    {'f', 2, float16},
    {'f', 4, float32},
    {'f', 8, float64},
    {'c', 8, complex64},
    {'c', 16, complex128},
}};

const NumpyRow* find_row(char kind, std::size_t size) noexcept {
  for (const NumpyRow& row : numpy_rows) {
    if (row.kind == kind && row.size == size) return &row;
  }
  return nullptr;
}

const NumpyRow* find_row(DType dtype) noexcept {
  for (const NumpyRow& row : numpy_rows) {
    if (row.dtype == dtype) return &row;
  }
  return nullptr;
}

// Bytes of an element in a file.
std::size_t stored_size(DType dtype) noexcept {
  const std::size_t size = item_size(dtype);
  return size == 0 && total_bits(dtype) < 8 ? 1 : size;
}

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// Text of a file as part of a message: quoted, shortened, and without bytes that a terminal would obey.
std::string quoted(std::string_view text) {
  constexpr std::size_t most = 40;
  constexpr std::string_view hex = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      result += c;
    } else {
      result += "\\x";
      result += hex[byte >> 4U];
      result += hex[byte & 15U];
    }
  }
  return result + (text.size() > most ? "...'" : "'");
}

// Reads the one literal that a header may be: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, its keys in
// any order. Far less than Python's grammar: no escapes, no signs but to be refused, no nesting, no comments.
class Parser {
 public:
  Parser(std::string_view text, std::size_t offset, bool long_suffix, const NpyOptions& options,
         const std::filesystem::path& path)
      : text_(text), offset_(offset), long_suffix_(long_suffix), options_(options), path_(path) {}

  NpyHeader parse() {
    skip_space();
    expect('{', "an opening brace");
    for (skip_space(); !take('}'); skip_space()) {
      read_entry();
      skip_space();
      if (take(',')) continue;
      expect('}', "a comma or the closing brace");
      break;
    }
    skip_space();
    if (place_ != text_.size()) fail_syntax("nothing behind the closing brace");
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (!seen_[i]) fail(NpyDefect::missing_key, quoted(keys[i].name));
    }
    return header_;
  }

 private:
  struct Key {
    std::string_view name;
    void (Parser::*read)();
  };
  static const std::array<Key, 3> keys;

  [[noreturn]] void fail(NpyDefect defect, const std::string& detail) const { throw NpyError(defect, path_, detail); }
  [[noreturn]] void fail_syntax(std::string_view wanted) const {
    fail(NpyDefect::syntax, "byte " + std::to_string(offset_ + place_) + " is not " + std::string(wanted));
  }

  [[nodiscard]] char peek() const noexcept { return place_ < text_.size() ? text_[place_] : '\0'; }
  bool take(char c) noexcept {
    if (peek() != c || place_ == text_.size()) return false;
    ++place_;
    return true;
  }
  void expect(char c, std::string_view wanted) {
    if (!take(c)) fail_syntax(wanted);
  }
  void skip_space() noexcept {
    while (place_ < text_.size() && (text_[place_] == ' ' || text_[place_] == '\n' || text_[place_] == '\t')) ++place_;
  }

  std::string_view read_string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail_syntax("the quote of a string");
    const std::size_t begin = ++place_;
    while (peek() != quote || place_ == text_.size()) {
      if (place_ == text_.size() || peek() == '\n' || peek() == '\\') fail_syntax("part of a plain string");
      ++place_;
    }
    return text_.substr(begin, place_++ - begin);
  }

  void read_entry() {
    const std::string_view name = read_string();
    std::size_t i = 0;
    while (i < keys.size() && keys[i].name != name) ++i;
    if (i == keys.size()) fail(NpyDefect::unknown_key, quoted(name));
    if (seen_[i]) fail(NpyDefect::duplicate_key, quoted(name));
    seen_[i] = true;
    skip_space();
    expect(':', "a colon");
    skip_space();
    (this->*keys[i].read)();
  }

  void read_order() {
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(place_).starts_with(word)) {
        place_ += word.size();
        header_.fortran_order = value;
        return;
      }
    }
    fail(NpyDefect::bad_order, quoted(text_.substr(place_, 6)));
  }

  void read_shape() {
    const std::size_t begin = place_;
    const auto bad = [&] { fail(NpyDefect::bad_shape, quoted(text_.substr(begin, place_ - begin + 1))); };
    if (!take('(')) bad();
    bool comma = true;  // so far; one number needs it to be a tuple
    for (skip_space(); !take(')'); skip_space()) {
      if (!comma) bad();
      if (header_.ndim == max_ndim) {
        fail(NpyDefect::too_many_dims, "at least " + std::to_string(max_ndim + 1) + " dimensions");
      }
      header_.dims[header_.ndim++] = read_dim(bad);
      skip_space();
      comma = take(',');
    }
    if (header_.ndim == 1 && !comma) bad();
  }

  template <class Bad>
  std::int64_t read_dim(const Bad& bad) {
    const bool negative = take('-');
    const std::size_t begin = place_;
    while (is_digit(peek())) ++place_;
    const std::string_view digits = text_.substr(begin, place_ - begin);
    if (digits.empty() || (digits.size() > 1 && digits[0] == '0')) bad();
    if (negative) fail(NpyDefect::negative_dim, "-" + std::string(digits.substr(0, 20)));
    if (long_suffix_) take('L');  // how Python 2 wrote integers
    std::int64_t value = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc()) {
      fail(NpyDefect::too_many_elements, "dimension " + std::string(digits.substr(0, 40)));
    }
    return value;
  }

  void read_descr() {
    if (peek() == '[' || peek() == '(') fail(NpyDefect::structured, "");
    if (peek() != '\'' && peek() != '"') fail(NpyDefect::bad_descr, quoted(text_.substr(place_, 10)));
    const std::string_view descr = read_string();
    const auto refuse = [&](NpyDefect defect) { fail(defect, quoted(descr)); };
    if (descr.size() < 2) refuse(NpyDefect::bad_descr);
    const char order = descr[0];
    const char kind = descr[1];
    if (std::string_view("<>|").find(order) == std::string_view::npos) refuse(NpyDefect::bad_descr);
    if (kind == 'O') refuse(NpyDefect::objects);
    if (std::string_view("SUaT").find(kind) != std::string_view::npos) refuse(NpyDefect::text);
    if (kind == 'M' || kind == 'm') refuse(NpyDefect::dates);

    const std::string_view digits = descr.substr(2);
    std::size_t size = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
    const bool is_number = error == std::errc() && end == digits.data() + digits.size();
    if (!is_number || (digits[0] == '0' && digits.size() > 1)) refuse(NpyDefect::bad_descr);
    header_.swapped = order != '|' && order != native_order && size > 1;

    if (const NumpyRow* const row = find_row(kind, size)) {
      if (order == '|' && size > 1) refuse(NpyDefect::bad_descr);
      if (options_.dtype && *options_.dtype != row->dtype) {
        fail(NpyDefect::dtype_mismatch,
             "it holds " + to_string(row->dtype) + ", and " + to_string(*options_.dtype) + " was said");
      }
      header_.dtype = row->dtype;
      return;
    }
    if ((kind == 'f' || kind == 'c') && size > 8) refuse(NpyDefect::extended);
    // ml_dtypes has `f1` for float8_e5m2 and `W4` for complex32, and `V` for all others.
    const bool is_named = (kind == 'f' && size == 1) || (kind == 'W' && size == 4);
    if (kind != 'V' && !is_named) refuse(NpyDefect::bad_descr);
    if (!options_.dtype) fail(NpyDefect::opaque, quoted(descr));
    if (stored_size(*options_.dtype) != size || is_impossible(*options_.dtype)) {
      fail(NpyDefect::dtype_mismatch, "its elements have " + std::to_string(size) + (size == 1 ? " byte" : " bytes") +
                                          ", and " + to_string(*options_.dtype) + " was said");
    }
    header_.dtype = *options_.dtype;
  }

  std::string_view text_;
  std::size_t offset_;  // of the text in the file
  bool long_suffix_;
  const NpyOptions& options_;
  const std::filesystem::path& path_;
  std::size_t place_ = 0;
  std::array<bool, 3> seen_{};
  NpyHeader header_{};
};

constexpr std::array<Parser::Key, 3> Parser::keys{{
    {"descr", &Parser::read_descr},
    {"fortran_order", &Parser::read_order},
    {"shape", &Parser::read_shape},
}};

}  // namespace

NpyHeader parse_npy(std::span<const std::byte> file, const NpyOptions& options, const std::filesystem::path& path) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  const auto fail = [&](NpyDefect defect, const std::string& detail) { throw NpyError(defect, path, detail); };
  const auto unsigned_at = [&](std::size_t place, std::size_t width) {
    std::size_t value = 0;
    for (std::size_t i = width; i-- > 0;) value = value << 8U | static_cast<unsigned char>(bytes[place + i]);
    return value;
  };

  if (!bytes.starts_with(magic)) {
    // A file that ends within them is cut off; any other is something else.
    fail(magic.starts_with(bytes) && !bytes.empty() ? NpyDefect::truncated_header : NpyDefect::magic,
         bytes.empty() ? "it is empty" : "it begins with " + quoted(bytes.substr(0, magic.size())));
  }
  if (bytes.size() < magic.size() + 2) fail(NpyDefect::truncated_header, "it has no version");
  const std::size_t major = unsigned_at(magic.size(), 1);
  const std::size_t minor = unsigned_at(magic.size() + 1, 1);
  if (major < 1 || major > 3 || minor != 0) {
    fail(NpyDefect::version, std::to_string(major) + "." + std::to_string(minor));
  }
  const std::size_t width = major == 1 ? 2 : 4;
  const std::size_t begin = magic.size() + 2 + width;
  if (bytes.size() < begin) fail(NpyDefect::truncated_header, "it has no length of the header");
  const std::size_t length = unsigned_at(magic.size() + 2, width);
  if (length > bytes.size() - begin) {
    fail(NpyDefect::truncated_header, "the header should have " + std::to_string(length) + " bytes, and " +
                                          std::to_string(bytes.size() - begin) + " are there");
  }

  NpyHeader header = Parser(bytes.substr(begin, length), begin, major < 3, options, path).parse();
  header.data_offset = begin + length;
  const std::optional<std::int64_t> count = element_count(header.shape());
  std::int64_t needed = 0;
  if (!count || __builtin_mul_overflow(*count, static_cast<std::int64_t>(stored_size(header.dtype)), &needed)) {
    fail(NpyDefect::too_many_elements, "shape " + tuple_text(header.shape()));
  }
  header.data_bytes = static_cast<std::size_t>(needed);
  const std::size_t there = bytes.size() - header.data_offset;
  if (there != header.data_bytes) {
    fail(there < header.data_bytes ? NpyDefect::truncated_data : NpyDefect::trailing_data,
         tuple_text(header.shape()) + " of " + to_string(header.dtype) + " are " + std::to_string(needed) +
             " bytes, and " + std::to_string(there) + " are there");
  }
  return header;
}

std::string npy_header_text(DType dtype, bool swapped, bool fortran_order, std::span<const std::int64_t> shape) {
  const NumpyRow* const row = find_row(dtype);
  const std::size_t size = stored_size(dtype);
  const char foreign_order = native_order == '<' ? '>' : '<';
  std::string text = "{'descr': '";
  text += size == 1 ? '|' : swapped ? foreign_order : native_order;
  text += row != nullptr ? row->kind : 'V';
  text += std::to_string(size) + "', 'fortran_order': " + (fortran_order ? "True" : "False") +
          ", 'shape': " + tuple_text(shape) + ", }";
  const std::size_t begin = magic.size() + 4;
  while ((begin + text.size() + 1) % data_alignment != 0) text += ' ';
  text += '\n';

  std::string result(magic);
  result += '\x01';
  result += '\x00';
  result += static_cast<char>(text.size() & 255U);
  result += static_cast<char>(text.size() >> 8U);
  return result + text;
}

bool numpy_knows(DType dtype) noexcept { return find_row(dtype) != nullptr; }

}  // namespace detail
}  // namespace v0
}  // namespace halfway
