#include "permutation.h"

#include <string>

#include "halfway/error.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): of the axes, `ndim` are read
Permutation::Permutation(const CastOptions& options, std::size_t ndim) {
  if (!options.permute) return;
  const std::span<const std::int64_t> permute = *options.permute;
  const auto refuse = [&](const std::string& why) {
    throw Error(Reason::permute, "permute=" + tuple_text(permute) + " " + why,
                "name each of the source's axes once, in the order of the result's");
  };
  if (permute.size() != ndim) {
    refuse("names " + std::to_string(permute.size()) + " axes, but the source has " + std::to_string(ndim));
  }
  if (ndim > max_ndim) throw Error(Reason::malformed, "at most 64 dimensions");
  given_ = true;
  std::uint64_t seen = 0;
  const auto count = static_cast<std::int64_t>(ndim);
  for (std::size_t i = 0; i < ndim; ++i) {
    if (permute[i] < -count || permute[i] >= count) {
      refuse("names axis " + std::to_string(permute[i]) + ", but the source has " + std::to_string(ndim) + " axes");
    }
    axes_[i] = static_cast<std::uint8_t>(permute[i] < 0 ? permute[i] + count : permute[i]);
    const std::uint64_t bit = std::uint64_t{1} << axes_[i];
    if ((seen & bit) != 0) refuse("names axis " + std::to_string(axes_[i]) + " twice");
    seen |= bit;
    moves_ = moves_ || axes_[i] != i;
  }
}

TensorView Permutation::arranged(const TensorView& source, std::span<std::int64_t> geometry) const noexcept {
  const std::size_t ndim = source.shape.size();
  const std::span shape = geometry.first(ndim);
  const std::span strides = geometry.subspan(ndim, ndim);
  for (std::size_t i = 0; i < ndim; ++i) {
    shape[i] = source.shape[source_axis(i)];
    strides[i] = source.strides[source_axis(i)];
  }
  TensorView view = source;
  view.shape = shape;
  view.strides = strides;
  return view;
}

std::vector<std::int64_t> Permutation::index_of_source(const std::vector<std::int64_t>& index) const {
  std::vector<std::int64_t> result(index.size());
  for (std::size_t i = 0; i < index.size(); ++i) result[source_axis(i)] = index[i];
  return result;
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
