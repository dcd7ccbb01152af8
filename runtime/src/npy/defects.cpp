#include <array>
#include <cstddef>

#include "halfway/npy.h"

namespace halfway {
inline namespace v0 {
namespace {

struct Row {
  NpyDefect defect;
  std::string_view name;
  Reason reason;
  std::string_view sentence;
  std::string_view hint;
};

constexpr std::string_view resave = "save it again with numpy.save";

// clang-format off
constexpr std::array<Row, npy_defect_count> rows{{
    {NpyDefect::not_regular, "not_regular", Reason::malformed, "this is no regular file, and cannot be mapped",
     "copy what it gives into a file"},
    {NpyDefect::magic, "magic", Reason::malformed, "this is no .npy file",
     "numpy.save writes one; take an .npz archive apart first"},
    {NpyDefect::version, "version", Reason::malformed, "the format version is none of 1.0, 2.0 and 3.0", resave},
    {NpyDefect::truncated_header, "truncated_header", Reason::malformed, "the file ends inside its header", resave},
    {NpyDefect::syntax, "syntax", Reason::malformed, "the header is no literal of a dict", resave},
    {NpyDefect::missing_key, "missing_key", Reason::malformed, "the header lacks a key", resave},
    {NpyDefect::unknown_key, "unknown_key", Reason::malformed, "the header has an unknown key", resave},
    {NpyDefect::duplicate_key, "duplicate_key", Reason::malformed, "the header has a key twice", resave},
    {NpyDefect::bad_descr, "bad_descr", Reason::malformed, "the header's descr is no dtype with its byte order", resave},
    {NpyDefect::structured, "structured", Reason::unsupported_dtype, "the elements are records",
     "save each field as an array of its own"},
    {NpyDefect::objects, "objects", Reason::unsupported_dtype, "the elements are pickled objects, which are never loaded",
     "save a numeric array"},
    {NpyDefect::text, "text", Reason::unsupported_dtype, "the elements are strings", "encode them as numbers first"},
    {NpyDefect::dates, "dates", Reason::unsupported_dtype, "the elements are dates or durations",
     "save their counts, .view('int64'), and keep the unit yourself"},
    {NpyDefect::extended, "extended", Reason::unsupported_dtype,
     "the elements are long doubles, whose format differs between machines",
     "save .astype('float64'), or .astype('complex128')"},
    {NpyDefect::opaque, "opaque", Reason::unsupported_dtype, "the elements are bytes of which NumPy does not say more",
     "say what they are, as in {.dtype = halfway::bfloat16}"},
    {NpyDefect::dtype_mismatch, "dtype_mismatch", Reason::dtype, "the elements are not of the dtype that was said",
     "leave NpyOptions::dtype unset where the file says its dtype, and cast what was loaded"},
    {NpyDefect::bad_order, "bad_order", Reason::malformed, "the header's fortran_order is neither True nor False", resave},
    {NpyDefect::bad_shape, "bad_shape", Reason::malformed, "the header's shape is no tuple of integers", resave},
    {NpyDefect::negative_dim, "negative_dim", Reason::malformed, "a dimension is negative", resave},
    {NpyDefect::too_many_dims, "too_many_dims", Reason::malformed, "there are more than 64 dimensions", "reshape it"},
    {NpyDefect::too_many_elements, "too_many_elements", Reason::malformed,
     "there are more elements than any memory has room for", resave},
    {NpyDefect::truncated_data, "truncated_data", Reason::malformed, "the file ends before its elements do",
     "copy or save it again, completely"},
    {NpyDefect::trailing_data, "trailing_data", Reason::malformed, "the file goes on after its elements",
     "save each array into a file of its own"},
}};
// clang-format on

constexpr bool in_order() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i].defect) != i || rows[i].sentence.empty() || rows[i].hint.empty()) return false;
  }
  return true;
}
static_assert(in_order(), "one row a defect, in the order of the enumeration");

constexpr Row unknown{NpyDefect::syntax, "unknown", Reason::malformed, "the file is wrong in an unknown way",
                      "save it again"};

const Row& row(NpyDefect defect) noexcept {
  const auto i = static_cast<std::size_t>(defect);
  return i < rows.size() ? rows[i] : unknown;
}

std::string composed(NpyDefect defect, const std::filesystem::path& path, const std::string& detail) {
  std::string text = path.string() + ": " + std::string(describe(defect));
  if (!detail.empty()) text += " (" + detail + ")";
  return text;
}

}  // namespace

std::string_view to_string(NpyDefect defect) noexcept { return row(defect).name; }
std::string_view describe(NpyDefect defect) noexcept { return row(defect).sentence; }
Reason reason(NpyDefect defect) noexcept { return row(defect).reason; }

NpyError::NpyError(NpyDefect defect, const std::filesystem::path& path, const std::string& detail)
    : Error(row(defect).reason, composed(defect, path, detail), std::string(row(defect).hint)), defect_(defect) {}

}  // namespace v0
}  // namespace halfway
