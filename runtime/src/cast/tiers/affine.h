// Scale and shift, and integers rounded to nearest. Included by loops.h alone.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

template <class C>
void affine_one(const std::byte* __restrict values, std::byte* __restrict results, std::size_t n,
                const std::byte* __restrict scale, const std::byte* __restrict shift) noexcept {
  const C factor = load<C>(scale);
  const C addend = load<C>(shift);
  for (std::size_t i = 0; i < n; ++i) {
    store<C>(results + i * sizeof(C), convert::multiply_add(load<C>(values + i * sizeof(C)), factor, addend));
  }
}

template <class C>
void affine_each(const std::byte* __restrict values, std::byte* __restrict results, std::size_t n,
                 const std::byte* __restrict scale, const std::byte* __restrict shift) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t at = i * sizeof(C);
    store<C>(results + at, convert::multiply_add(load<C>(values + at), load<C>(scale + at), load<C>(shift + at)));
  }
}

// --- integers, to nearest even

template <class E, class W>
void encode_nearest(const std::byte* __restrict wide, std::byte* __restrict elements, std::size_t n) noexcept {
  using Bits = typename E::Bits;
  for (std::size_t i = 0; i < n; ++i) {
    store<Bits>(elements + i * sizeof(Bits), convert::encode_nearest<E>(load<W>(wide + i * sizeof(W)), false).bits);
  }
}

template <class E, class W>
void nearest_counted(const std::byte* __restrict wide, std::byte* __restrict elements, std::size_t n, bool saturate,
                     Counts& counts) noexcept {
  encode_summing<E>(elements, n, counts,
                    [&](std::size_t i) { return convert::encode_nearest<E>(load<W>(wide + i * sizeof(W)), saturate); });
}

template <class E>
constexpr void add_nearest(DTypeKernels& row) noexcept {
  if constexpr (!convert::is_float<E> && !std::is_same_v<E, convert::Boolean>) {
    row.encode_nearest = {encode_nearest<E, float>, encode_nearest<E, double>};
    row.nearest_counted = {nearest_counted<E, float>, nearest_counted<E, double>};
  }
}

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
