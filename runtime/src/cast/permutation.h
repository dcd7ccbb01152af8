// The axes of a source in the order of the result's, as `CastOptions::permute` names them. Private to the runtime.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "halfway/cast.h"
#include "halfway/tensor.h"

namespace halfway {
inline namespace v0 {
namespace detail {

class Permutation {
 public:
  // None is given: the axes stay as they are.
  Permutation() noexcept {}  // NOLINT(modernize-use-equals-default): leaves the array uninitialised

  // Of a source of so many dimensions. throws: Error (permute, malformed)
  Permutation(const CastOptions& options, std::size_t ndim);

  [[nodiscard]] bool is_given() const noexcept { return given_; }

  // Whether any axis gets another place.
  [[nodiscard]] bool moves() const noexcept { return moves_; }

  // The axis of the source that becomes axis `i` of the result, and the reverse.
  [[nodiscard]] std::size_t source_axis(std::size_t i) const noexcept { return given_ ? axes_[i] : i; }
  [[nodiscard]] std::size_t result_axis(std::size_t axis) const noexcept {
    std::size_t i = 0;
    while (source_axis(i) != axis) ++i;
    return i;
  }

  // The source with its axes in the result's order: the same elements at the same places. Borrows `geometry`, which has
  // room for a shape and as many strides.
  [[nodiscard]] TensorView arranged(const TensorView& source, std::span<std::int64_t> geometry) const noexcept;

  // An index of the result as one of the source.
  [[nodiscard]] std::vector<std::int64_t> index_of_source(const std::vector<std::int64_t>& index) const;

 private:
  bool given_ = false;
  bool moves_ = false;
  std::array<std::uint8_t, max_ndim> axes_;
};

}  // namespace detail
}  // namespace v0
}  // namespace halfway
