// What the tests of halfway/torch.h share: torch's tensors of any dtype and layout, and reasons as text.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "halfway/torch.h"
#include "runtime/reason_of.h"

namespace halfway_test {

// The dtypes that both libraries have.
inline std::vector<halfway::DType> shared_dtypes() {
  std::vector<halfway::DType> found;
  for (const auto& row : halfway::detail::libtorch::rows<c10::ScalarType>()) found.push_back(row.dtype);
  return found;
}

// A layout of random shape (0 to 5 dimensions, some of them 0 or 1), axes in any order, gaps and broadcast axes.
struct Layout {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::int64_t elements = 1;  // from the first to the end of the last

  explicit Layout(std::mt19937& random) {
    const auto below = [&](std::uint32_t n) { return static_cast<std::int64_t>(random() % n); };
    const auto ndim = static_cast<std::size_t>(below(6));
    std::vector<std::size_t> order(ndim);
    for (std::size_t i = 0; i < ndim; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    shape.resize(ndim);
    strides.resize(ndim);
    std::int64_t step = 1 + below(2);
    for (const std::size_t axis : order) {
      shape[axis] = below(24) == 0 ? 0 : 1 + below(4);
      strides[axis] = below(8) == 0 ? 0 : step;
      step *= std::max<std::int64_t>(shape[axis], 1) + below(2);
    }
    for (std::size_t i = 0; i < ndim; ++i) elements += std::max<std::int64_t>(shape[i] - 1, 0) * strides[i];
  }
};

// Random bytes (booleans: 0 and 1) behind a tensor of torch's.
inline at::Tensor torch_tensor(const Layout& layout, halfway::DType dtype, std::mt19937& random,
                               std::int64_t offset = 0) {
  at::Tensor memory = at::empty({layout.elements + offset}, halfway::to_torch(dtype));
  auto* const bytes = static_cast<std::uint8_t*>(memory.mutable_data_ptr());
  for (std::size_t i = 0; i < memory.nbytes(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(dtype == halfway::boolean ? random() % 2 : random());
  }
  return memory.as_strided(layout.shape, layout.strides, offset);
}

inline std::vector<std::int64_t> listed(std::span<const std::int64_t> span) { return {span.begin(), span.end()}; }

// Bytes of the elements in row-major order, by strides alone: neither library's code.
inline std::vector<std::uint8_t> elements_of(const halfway::TensorView& view) {
  const std::size_t size = view.element_size();
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> index(view.shape.size(), 0);
  if (std::find(view.shape.begin(), view.shape.end(), 0) != view.shape.end()) return bytes;
  for (;;) {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < index.size(); ++i) at += index[i] * view.strides[i];
    const auto* const element = static_cast<const std::uint8_t*>(view.data) + at * static_cast<std::int64_t>(size);
    bytes.insert(bytes.end(), element, element + size);
    std::size_t axis = index.size();
    while (axis > 0 && ++index[axis - 1] == view.shape[axis - 1]) index[--axis] = 0;
    if (axis == 0) return bytes;
  }
}

}  // namespace halfway_test
