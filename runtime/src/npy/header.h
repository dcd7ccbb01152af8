// The header of a .npy file, as bytes: what is in it is read here and nowhere else. Private to the runtime.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "halfway/npy.h"

namespace halfway {
inline namespace v0 {
namespace detail {

struct NpyHeader {
  DType dtype{};
  bool swapped = false;  // bytes in the order of another machine
  bool fortran_order = false;
  std::size_t ndim = 0;
  std::array<std::int64_t, max_ndim> dims{};
  std::size_t data_offset = 0;  // bytes from the start of the file
  std::size_t data_bytes = 0;   // up to the end of the file, exactly

  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept { return {dims.data(), ndim}; }
  // Elements narrower than a byte are stored one a byte.
  [[nodiscard]] bool padded() const noexcept { return item_size(dtype) == 0; }
};

// The header of a whole file. Reads no byte outside of `file`, and none of the elements; allocates for errors alone.
// throws: NpyError, with `path` in its message
[[nodiscard]] NpyHeader parse_npy(std::span<const std::byte> file, const NpyOptions& options,
                                  const std::filesystem::path& path);

// Magic, version, length and text of the header (version 1.0) for elements that follow it, 64-byte aligned in the file.
// `dtype` is of whole bytes, or narrower than a byte and padded to one; shape() has at most max_ndim dimensions.
[[nodiscard]] std::string npy_header_text(DType dtype, bool swapped, bool fortran_order,
                                          std::span<const std::int64_t> shape);

// Whether NumPy itself knows the dtype, and with it the elements' byte order.
[[nodiscard]] bool numpy_knows(DType dtype) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
