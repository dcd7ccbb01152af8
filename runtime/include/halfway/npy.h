// NumPy's .npy files: loaded as a memory map, without a copy and without Python, and saved so that NumPy loads them.
//
//   const halfway::Tensor values = halfway::load_npy("values.npy");  // np.save("values.npy", values)
//   halfway::Tensor half = halfway::cast(values.view(), halfway::bfloat16);
//   halfway::save_npy("half.npy", half.view());                      // np.load("half.npy").view(ml_dtypes.bfloat16)
//   half = halfway::load_npy("half.npy", {.dtype = halfway::bfloat16});
//
// Format versions 1.0, 2.0 and 3.0, either byte order, row-major and Fortran order, any shape NumPy can have, 0-d and
// empty included. Structured dtypes, objects, strings, dates and long doubles are refused; nothing in a file is ever
// evaluated or unpickled.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "halfway/dtype.h"
#include "halfway/error.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {

struct NpyOptions {
  // What the elements are. NumPy has no name for bfloat16, fp8 and other dtypes that it does not know by itself, and
  // files call them bytes (`V2`, `V1`): this says which. Elements narrower than a byte are one a byte (padded). A file
  // that does say its dtype has to say this one.
  std::optional<DType> dtype{};
  // The tensor may be written to: the process has the pages that it writes to for itself, and the file stays as it is.
  // False: the tensor is read-only.
  bool copy_on_write = false;
};

// A tensor over the file's memory map. Nothing but the header is read before the elements are.
//
// Shape, strides: the file's; Fortran order gives column-major strides. Bytes in the order of another machine give a
// tensor whose views are byte-swapped (tensor.h). The data's alignment is the file's: NumPy writes them at a multiple
// of 64 bytes. Ownership: the map lives as long as the tensor or any share or export of it, and does not need the
// file's name: the file may be renamed, deleted or replaced, by save_npy() too. Somebody who changes or shortens it in
// place changes the tensor's elements, or ends the process when it reads them (SIGBUS). Threads: any. throws: NpyError
// (the file is not what it says, or holds what no tensor can), std::filesystem::filesystem_error (the
//         system does not open or map it), Error (unavailable: no memory maps on this platform), std::bad_alloc
[[nodiscard]] Tensor load_npy(const std::filesystem::path& path, const NpyOptions& options = {});

// Writes the elements of a view in host memory, of any strides, so that NumPy loads the same shape and values.
//
// Row-major and column-major views are written from where they are, in their byte order, the latter in Fortran order;
// others by way of a row-major copy. Dtypes that NumPy does not know are written as bytes, `V<bytes of an element>`, in
// the machine's order, so that np.load(path).view(dtype) has them. (ml_dtypes does so, too, but for float8_e5m2 and
// complex32: np.load refuses its files of these, and load_npy() takes them.) Elements narrower than a byte have to be
// padded to one.
// The file appears under its name when it is complete, in place of what was there; until then, and when this throws,
// what was there stays as it was. So a file may be saved over while it is loaded. Symbolic links are followed, also to
// where no file is yet; permissions of a replaced file are kept, and hold while the new one is written. It is not
// synchronised to the disk. A process that is killed may leave a file `.halfway-<number>-<number>.tmp` beside it.
// throws: Error (device: not host memory; unsupported_dtype: packed sub-byte elements; no_storage; malformed: shape and
//         strides that no tensor has; unavailable), std::filesystem::filesystem_error (the system does not write it, or
//         something other than a file has the name; ELOOP: links that lead in a circle), std::bad_alloc
void save_npy(const std::filesystem::path& path, const TensorView& view);

// Every way in which a file is refused.
enum class NpyDefect : std::uint8_t {
  not_regular,       // a directory, a pipe, a device
  magic,             // other first bytes
  version,           // of a format that is not 1.0, 2.0 or 3.0
  truncated_header,  // the file ends before its header does
  syntax,            // the header is no literal of a dict of plain values
  missing_key,
  unknown_key,
  duplicate_key,
  bad_descr,  // not the text of a dtype with its byte order
  structured,
  objects,
  text,
  dates,
  extended,        // long double, whose format differs between machines
  opaque,          // bytes, and NpyOptions::dtype does not say of what
  dtype_mismatch,  // another dtype, or another size, than NpyOptions::dtype
  bad_order,       // fortran_order is neither True nor False
  bad_shape,       // not a tuple of integers
  negative_dim,
  too_many_dims,      // more than max_ndim
  too_many_elements,  // elements or bytes that 63 bits do not count
  truncated_data,     // the file ends before its elements do
  trailing_data,      // it goes on after them: several arrays in one file, or a damaged header
};

inline constexpr int npy_defect_count = static_cast<int>(NpyDefect::trailing_data) + 1;

// The enumerator's spelling, and one sentence about it.
[[nodiscard]] std::string_view to_string(NpyDefect defect) noexcept;
[[nodiscard]] std::string_view describe(NpyDefect defect) noexcept;

// The reason of the error: `malformed`, `unsupported_dtype` or, of dtype_mismatch, `dtype`.
[[nodiscard]] Reason reason(NpyDefect defect) noexcept;

// A file that is refused. The message names the file and what is wrong with it, the hint a way out.
class NpyError : public Error {
 public:
  NpyError(NpyDefect defect, const std::filesystem::path& path, const std::string& detail);

  [[nodiscard]] NpyDefect defect() const noexcept { return defect_; }

 private:
  NpyDefect defect_;
};

}  // namespace v0
}  // namespace halfway
