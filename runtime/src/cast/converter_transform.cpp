// The stages that depend on where an element stands: scale and shift along an axis, and lanes of chance.
#include <algorithm>
#include <cstring>

#include "converter.h"
#include "halfway/rounding.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

// Elements of one index along the axis from which on they are worth a call of their own: fewer are gathered with their
// neighbours, and each brings its coefficients along.
constexpr std::int64_t short_channel = 32;

}  // namespace

// Whether all parts of a block share a pair of coefficients.
bool Converter::shares_coefficients() const noexcept {
  return pass_.positions->extent == 1 || !pass_.transform->varies || pass_.positions->below >= short_channel;
}

// Calls `work(done, some, each, scale, shift)` for parts of a block that share a pair of coefficients, or have one
// each.
template <class Work>
void Converter::in_channels(std::int64_t position, std::size_t n, const Work& work) noexcept {
  const Transform& transform = *pass_.transform;
  const Positions& positions = *pass_.positions;
  const std::size_t size = wide_size(transform.compute);
  const std::byte* const scale = transform.scale();
  const std::byte* const shift = transform.shift();
  if (positions.extent == 1 || !transform.varies) return work(std::size_t{0}, n, false, scale, shift);

  const std::int64_t below = positions.below;
  const std::int64_t period = positions.extent * below;
  const std::int64_t most = block_;
  const bool repeats = below < short_channel && period <= most;
  for (std::size_t done = 0; done < n;) {
    const auto left = static_cast<std::int64_t>(n - done);
    const std::int64_t at = position + static_cast<std::int64_t>(done);
    const auto offset = static_cast<std::size_t>(positions.place(at)) * size;
    std::int64_t some = left;
    if (below >= short_channel) {
      // 1. Long runs of one index.
      some = std::min(left, below - at % below);
      work(done, static_cast<std::size_t>(some), false, scale + offset, shift + offset);
    } else if (repeats) {
      // 2. A short period: written out once, as often as a block may need it. It doubles, so that it always is a whole
      //    number of periods, but for the last time.
      const std::int64_t phase = at % period;
      some = std::min(left, most);
      const auto needed = static_cast<std::size_t>(phase + some);
      if (periods_ == 0) {
        for (; periods_ < static_cast<std::size_t>(period); ++periods_) {
          const auto from = static_cast<std::size_t>(positions.place(static_cast<std::int64_t>(periods_))) * size;
          std::memcpy(scales_ + periods_ * size, scale + from, size);
          std::memcpy(shifts_ + periods_ * size, shift + from, size);
        }
      }
      while (periods_ < needed) {
        const std::size_t more = std::min(periods_, 2 * static_cast<std::size_t>(most) - periods_);
        std::memcpy(scales_ + periods_ * size, scales_, more * size);
        std::memcpy(shifts_ + periods_ * size, shifts_, more * size);
        periods_ += more;
      }
      const std::size_t begin = static_cast<std::size_t>(phase) * size;
      work(done, static_cast<std::size_t>(some), true, scales_ + begin, shifts_ + begin);
    } else if (below == 1 && !positions.is_reversed) {
      // 3. A long innermost axis: the coefficients as they are.
      some = std::min(left, positions.extent - positions.place(at));
      work(done, static_cast<std::size_t>(some), true, scale + offset, shift + offset);
    } else {
      // 4. Anything else: the coefficients of this block.
      some = std::min(left, most);
      for (std::int64_t i = 0; i < some;) {
        const std::int64_t run = std::min(some - i, below - (at + i) % below);
        const auto from = static_cast<std::size_t>(positions.place(at + i)) * size;
        for (const std::int64_t end = i + run; i < end; ++i) {
          std::memcpy(scales_ + static_cast<std::size_t>(i) * size, scale + from, size);
          std::memcpy(shifts_ + static_cast<std::size_t>(i) * size, shift + from, size);
        }
      }
      work(done, static_cast<std::size_t>(some), true, scales_, shifts_);
    }
    done += static_cast<std::size_t>(some);
  }
}

// Elements to elements, part by part, where a loop does it all for one pair of coefficients.
void Converter::convert_affine(const std::byte* source, std::byte* encoded, std::int64_t position,
                               std::size_t n) noexcept {
  const AffineLoop loop = streams_affine_ && encoded != encoded_ ? route_.streamed_affine : route_.fused_affine;
  in_channels(position, n,
              [&](std::size_t done, std::size_t some, bool each, const std::byte* scale, const std::byte* shift) {
                const std::byte* const elements = source + done * route_.from_size;
                std::byte* const to = encoded + done * route_.to_size;
                if (!each) return loop(elements, to, some, scale, shift);
                const std::byte* values = elements;
                if (route_.decode != nullptr) {
                  route_.decode(elements, wide_, some);
                  values = wide_;
                }
                route_.affine->each(values, parts_, some, scale, shift);
                route_.encode(parts_, to, some);
              });
}

// What is to be encoded: scaled and shifted, in the type that the encoding reads, and with lanes where it wants them.
const std::byte* Converter::transformed(const std::byte* values, std::int64_t position, std::size_t n) noexcept {
  if (route_.affine != nullptr) {
    const std::size_t size = wide_size(pass_.transform->compute);
    in_channels(position, n,
                [&](std::size_t done, std::size_t some, bool each, const std::byte* scale, const std::byte* shift) {
                  const AffineLoop loop = each ? route_.affine->each : route_.affine->one;
                  loop(values + done * size, parts_ + done * size, some, scale, shift);
                });
    values = parts_;
    if (route_.odd != nullptr) {
      route_.odd(parts_, wide_, n);
      values = wide_;
    }
  }
  if (route_.stochastic != nullptr) find_lanes(position, n);
  return values;
}

// A lane for each component of the target.
void Converter::find_lanes(std::int64_t position, std::size_t n) noexcept {
  const std::uint64_t seed = pass_.transform->seed;
  const Positions& positions = *pass_.positions;
  const std::size_t components = to_complex() ? 2 : 1;
  const auto first = [&](std::int64_t at) { return static_cast<std::uint64_t>(positions.index(at)) * components; };
  if (positions.in_order) return pass_.kernels.lanes(seed, first(position), lanes_, n * components);
  for (std::size_t i = 0; i < n;) {
    const std::int64_t at = position + static_cast<std::int64_t>(i);
    const std::size_t last = positions.ndim - 1;
    std::size_t some = 1;
    if (positions.index_strides[last] == 1) {
      const std::int64_t row = positions.shape[last];
      some = std::min(n - i, static_cast<std::size_t>(row - at % row));
    }
    pass_.kernels.lanes(seed, first(at), lanes_ + i * components, some * components);
    i += some;
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
