#include "halfway/npy.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "halfway/cast.h"
#include "halfway/layout.h"
#include "npy/file.h"
#include "npy/header.h"

namespace halfway {
inline namespace v0 {

using detail::FileMap;

namespace {

using Dims = std::array<std::int64_t, max_ndim>;

Dims reversed(std::span<const std::int64_t> values) noexcept {
  Dims result{};
  std::reverse_copy(values.begin(), values.end(), result.begin());
  return result;
}

Dims strides_of(const detail::NpyHeader& header) noexcept {
  Dims strides{};
  const std::span<std::int64_t> used(strides.data(), header.ndim);
  if (!header.fortran_order) {
    row_major_strides(header.shape(), used);
    return strides;
  }
  const Dims shape = reversed(header.shape());
  row_major_strides({shape.data(), header.ndim}, used);
  std::reverse(used.begin(), used.end());
  return strides;
}

bool is_column_major(const TensorView& view) noexcept {
  const Dims shape = reversed(view.shape);
  const Dims strides = reversed(view.strides);
  TensorView transposed = view;
  transposed.shape = {shape.data(), view.shape.size()};
  transposed.strides = {strides.data(), view.strides.size()};
  return is_contiguous(transposed);
}

void require_storable(const TensorView& view) {
  if (view.shape.size() != view.strides.size() || view.ndim() > max_ndim || !extent(view)) {
    throw Error(Reason::malformed, "the view's shape and strides are those of no tensor");
  }
  if (!is_host(view.device)) {
    throw Error(Reason::device, "only host memory is saved, and the view is of a device's",
                "copy it to the host first");
  }
  if (view.element_size() == 0) {
    throw Error(Reason::unsupported_dtype, "packed elements of " + to_string(view.dtype) + " are no whole bytes",
                "store them one a byte, padded");
  }
  if (view.data == nullptr && element_count(view.shape) != 0) {
    throw Error(Reason::no_storage, "the view has elements without memory");
  }
}

}  // namespace

Tensor load_npy(const std::filesystem::path& path, const NpyOptions& options) {
  auto map = std::make_unique<FileMap>(path, options.copy_on_write);
  const std::span<std::byte> bytes = map->bytes();
  const detail::NpyHeader header = detail::parse_npy(bytes, options, path);
  const Dims strides = strides_of(header);
  const MutableView view{.data = bytes.data() + header.data_offset,
                         .dtype = header.dtype,
                         .shape = header.shape(),
                         .strides = {strides.data(), header.ndim},
                         .readonly = !options.copy_on_write,
                         .swapped = header.swapped,
                         .padded = header.padded()};
  return Tensor::adopt(view, map.release(), [](void* context) { delete static_cast<FileMap*>(context); });
}

void save_npy(const std::filesystem::path& path, const TensorView& view) {
  require_storable(view);
  TensorView source = view;
  Tensor copy;
  // Nothing says the byte order of bytes to NumPy, so that it has to be the machine's.
  const bool is_foreign = view.swapped && !detail::numpy_knows(view.dtype) && view.element_size() > 1;
  const bool row_major = is_contiguous(view);
  if (is_foreign || (!row_major && !is_column_major(view))) {
    if (!is_foreign) source.swapped = false;  // the copy keeps the order: its elements are not looked at
    copy = cast(source, view.dtype);
    source = copy.view();
    source.swapped = view.swapped && !is_foreign;
  }
  const bool fortran_order = !is_contiguous(source);
  const std::string header = detail::npy_header_text(source.dtype, source.swapped, fortran_order, source.shape);
  const auto bytes = static_cast<std::size_t>(*element_count(source.shape)) * source.element_size();
  detail::replace_file(path, {std::as_bytes(std::span(header)), {static_cast<const std::byte*>(source.data), bytes}});
}

}  // namespace v0
}  // namespace halfway
