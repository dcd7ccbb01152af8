#include "loss.h"

#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "text.h"
#include "tiers.h"

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

template <class T>
std::string float_text(T value) {
  return std::isnan(value) ? "nan" : number_text(value);  // without the sign of a NaN
}

template <class T>
T component(const std::byte* wide, std::size_t which) {
  T value;
  std::memcpy(&value, wide + which * sizeof(T), sizeof(T));
  return value;
}

std::string component_text(WideType type, const std::byte* wide, std::size_t which) {
  switch (type) {
    case WideType::float32:
      return float_text(component<float>(wide, which));
    case WideType::float64:
      return float_text(component<double>(wide, which));
    case WideType::int64:
      return number_text(component<std::int64_t>(wide, which));
    case WideType::uint64:
      return number_text(component<std::uint64_t>(wide, which));
  }
  return {};
}

std::vector<std::int64_t> unravel(std::span<const std::int64_t> shape, std::int64_t position) {
  std::vector<std::int64_t> index(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    index[i] = position % shape[i];
    position /= shape[i];
  }
  return index;
}

}  // namespace

std::string value_text(const TensorView& source, const Elements& elements, std::int64_t position) {
  const std::vector<std::int64_t> index = unravel(source.shape, position);
  const auto* place = static_cast<const std::byte*>(source.data);
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] != 0) place += index[i] * source.byte_stride(i);
  }
  std::array<std::byte, 16> element{};
  std::memcpy(element.data(), place, elements.size);
  const auto size = static_cast<std::int64_t>(elements.size);
  if (elements.swap_unit > 1) swap_run(element.data(), size, 1, elements.size, elements.swap_unit);

  const Decoding& decoding = active_kernels().find(elements.dtype)->exact;
  const bool has_parts = is_complex(elements.dtype);
  alignas(16) std::array<std::byte, 16> wide = element;
  if (decoding.loop != nullptr) decoding.loop(element.data(), wide.data(), has_parts ? 2 : 1);
  if (elements.dtype == boolean) return component<std::uint64_t>(wide.data(), 0) != 0 ? "True" : "False";
  std::string real = component_text(decoding.wide, wide.data(), 0);
  if (!has_parts) return real;
  const std::string imaginary = component_text(decoding.wide, wide.data(), 1);
  return "(" + real + (imaginary.front() == '-' ? "" : "+") + imaginary + "j)";
}

std::string SampleName::text() const { return "samples[" + std::to_string(index) + "]" + std::string(path); }

void refuse_loss(const TensorView& source, const Elements& elements, DType to, const CastOptions& options,
                 const Tally& tally,
                 const std::function<std::vector<std::int64_t>(const std::vector<std::int64_t>&)>& named,
                 const SampleName* sample) {
  const bool same_value = options.casting == Casting::same_value;
  std::vector<std::int64_t> index = named(unravel(source.shape, tally.first_loss));
  std::string value = value_text(source, elements, tally.first_loss);
  const std::string rule =
      same_value ? "casting='same_value'" : "overflow='" + std::string(to_string(options.overflow)) + "'";
  const std::string fate = std::string(options.is_affine() ? ", scaled and shifted," : "") +
                           (same_value ? " would change" : " would overflow");
  const std::string message = rule + " forbids this cast of " + to_string(source.dtype) + " to " + to_string(to) +
                              ": " + std::to_string(tally.losses) + " of " + std::to_string(tally.report.count) +
                              (tally.report.count == 1 ? " element" : " elements") + fate + ", the first is " + value +
                              " at index " + tuple_text(index) +
                              (sample != nullptr ? " of " + sample->text() : std::string());
  const std::string hint = same_value ? "casting='unsafe' accepts the changes, and report= counts them"
                                      : "overflow='saturate' clamps to the finite range";
  if (sample != nullptr) index.insert(index.begin(), sample->index);
  throw CastError(message, hint, tally.report, std::move(index), std::move(value));
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
