#include "route.h"

#include <algorithm>

#include "tuning.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

bool is_floating(DType dtype) noexcept {
  return dtype.code != static_cast<std::uint8_t>(TypeCode::int_) &&
         dtype.code != static_cast<std::uint8_t>(TypeCode::uint) &&
         dtype.code != static_cast<std::uint8_t>(TypeCode::boolean);
}

// Whether a value of the wide type is an element of the dtype as it stands.
bool is_of_wide_type(DType dtype, WideType wide) noexcept {
  switch (wide) {
    case WideType::float32:
      return dtype == float32;
    case WideType::float64:
      return dtype == float64;
    case WideType::int64:
      return dtype == int64;
    case WideType::uint64:
      return dtype == uint64;
  }
  return false;
}

DType component(DType dtype) noexcept { return is_complex(dtype) ? DType(TypeCode::float_, dtype.bits / 2) : dtype; }

}  // namespace

Route Route::between(const Kernels& kernels, DType from, DType to, bool saturate) noexcept {
  const DTypeKernels& source = *kernels.find(from);
  const DTypeKernels& target = *kernels.find(to);
  const bool from_float = is_floating(from);
  const bool to_float = is_floating(to);
  const Decoding& decoding = !to_float ? source.exact : is_narrow(target) ? source.odd : source.number;
  const auto wide = static_cast<std::size_t>(decoding.wide);

  Route route{
      .from = from,
      .to = to,
      .saturate = saturate,
      .copies = from == to,
      .wide = decoding.wide,
      .decode = decoding.loop,
      .encode = saturate ? target.encode_saturated[wide] : target.encode[wide],
      .single = nullptr,
      .counted = target.encode_counted[wide],
      .from_size = source.dtype.bits / 8U,
      .to_size = target.dtype.bits / 8U,
      .possible = from_float ? convert::counted : convert::counted & ~convert::saw_nan,
  };
  if (from_float && !to_float) route.possible |= convert::nan_dropped;

  // Decoded floats of 16 bits and fewer hold the canonical NaN already; infinities remain to be saturated.
  const DType to_component = component(to);
  const bool decodes = decoding.loop != nullptr;
  if (decodes && is_of_wide_type(to_component, decoding.wide) && !(from_float && saturate)) route.encode = nullptr;

  if (from == to) {
    route.encode = nullptr;  // the bits are copied; decoded is only what is counted
  } else if (route.encode == nullptr) {
    route.single = decoding.loop;
  } else if (!decodes) {
    route.single = route.encode;
  } else if (!saturate) {
    const FusedLoop* const fused = kernels.find_fused(from, to);
    if (fused != nullptr) route.single = fused->loop;
  }
  return route;
}

namespace {

// Decoding into the compute type. Integers of 64 bits are rounded to it; all else is exact.
DecodeLoop compute_decoding(const Kernels& kernels, const Decoding& number) noexcept {
  const bool is_integer = number.wide == WideType::int64 || number.wide == WideType::uint64;
  return is_integer ? kernels.find(float64)->encode[static_cast<std::size_t>(number.wide)] : number.loop;
}

void add_affine(Route& route, const Kernels& kernels, bool stochastic) noexcept {
  const DTypeKernels& target = *kernels.find(route.to);
  const Decoding& number = kernels.find(route.from)->number;
  const bool is_single = number.wide == WideType::float32;
  route.copies = false;
  route.single = nullptr;
  route.decode = compute_decoding(kernels, number);
  route.wide = is_single ? WideType::float32 : WideType::float64;
  route.affine = &kernels.affine[is_single ? 0 : 1];
  route.possible = convert::counted | (is_floating(route.to) ? 0 : convert::nan_dropped);
  const auto compute = static_cast<std::size_t>(route.wide);
  if (target.encode_nearest[compute] != nullptr) {
    route.nearest = true;
    route.encode = target.encode_nearest[compute];
    route.counted = target.nearest_counted[compute];
    return;
  }
  if (stochastic && target.encode_stochastic[compute] != nullptr) {
    route.stochastic = target.encode_stochastic[compute];
    route.stochastic_counted = target.stochastic_counted[compute];
    return;
  }
  if (is_narrow(target) && !is_single) {
    route.odd = kernels.find(float64)->odd.loop;
    route.wide = WideType::float32;
  }
  const auto wide = static_cast<std::size_t>(route.wide);
  route.encode = route.saturate ? target.encode_saturated[wide] : target.encode[wide];
  route.counted = target.encode_counted[wide];
  for (const FusedAffine& fused : kernels.fused_affine) {
    if (fused.from == route.from && fused.to == route.to && !route.saturate) {
      route.fused_affine = fused.loop;
      route.streamed_affine = fused.streamed;
    }
  }
}

void add_stochastic(Route& route, const Kernels& kernels) noexcept {
  const DTypeKernels& target = *kernels.find(route.to);
  Decoding decoding = kernels.find(route.from)->number;
  const bool is_integer = decoding.wide == WideType::int64 || decoding.wide == WideType::uint64;
  if (is_integer && target.dtype != float64) {
    decoding = {WideType::float64, kernels.integers_to_odd[decoding.wide == WideType::int64 ? 0 : 1]};
  }
  const auto wide = static_cast<std::size_t>(decoding.wide);
  if (target.encode_stochastic[wide] == nullptr) return;
  route.wide = decoding.wide;
  route.decode = decoding.loop;
  route.single = nullptr;
  route.stochastic = target.encode_stochastic[wide];
  route.stochastic_counted = target.stochastic_counted[wide];
}

}  // namespace

Route Route::between(const Kernels& kernels, DType from, DType to, bool saturate, Extras extras) noexcept {
  Route route = between(kernels, from, to, saturate);
  if (extras.affine) {
    add_affine(route, kernels, extras.stochastic);
  } else if (extras.stochastic && from != to) {
    add_stochastic(route, kernels);
  }
  return route;
}

void convert(const Route& route, const std::byte* source, std::byte* destination, std::size_t n) noexcept {
  if (route.single != nullptr) return route.single(source, destination, n);
  alignas(64) std::byte wide[block_components * sizeof(float)];  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const std::size_t most = sizeof(wide) / wide_size(route.wide);
  for (std::size_t done = 0; done < n; done += most) {
    const std::size_t some = std::min(most, n - done);
    route.decode(source + done * route.from_size, wide, some);
    route.encode(wide, destination + done * route.to_size, some);
  }
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
