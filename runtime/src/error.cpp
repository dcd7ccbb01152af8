#include "halfway/error.h"

#include <array>
#include <cassert>
#include <cstddef>
#include <utility>

namespace halfway {
inline namespace v0 {
namespace {

struct Row {
  Reason reason;
  std::string_view name;
  std::string_view sentence;
};

constexpr std::array<Row, reason_count> rows{{
    {Reason::dtype, "dtype", "a different dtype was asked for"},
    {Reason::byte_order, "byte_order", "the bytes are in the other byte order"},
    {Reason::device, "device", "the memory is on a device that the target cannot address"},
    {Reason::negative_strides, "negative_strides", "the target has no negative strides"},
    {Reason::fractional_strides, "fractional_strides", "the strides are not whole elements"},
    {Reason::misaligned, "misaligned", "the memory is not aligned to the element's size"},
    {Reason::readonly, "readonly", "the memory is read-only"},
    {Reason::copy_requested, "copy_requested", "a copy was asked for"},
    {Reason::permute, "permute", "the axes were permuted"},
    {Reason::affine, "affine", "a scale or shift was asked for"},
    {Reason::unsupported_dtype, "unsupported_dtype", "the target has no such dtype"},
    {Reason::requires_grad, "requires_grad", "the tensor takes part in automatic differentiation"},
    {Reason::conj, "conj", "the tensor's conjugate bit is set: its memory holds the conjugates"},
    {Reason::neg, "neg", "the tensor's negative bit is set: its memory holds the negatives"},
    {Reason::sparse, "sparse", "the layout is not strided"},
    {Reason::nested, "nested", "the tensor or its dtype is nested, or the samples of a batch differ in shape"},
    {Reason::quantized, "quantized", "the tensor is quantized"},
    {Reason::subclass, "subclass", "the object is a subclass whose memory is not its value"},
    {Reason::no_storage, "no_storage", "the elements have no memory behind them"},
    {Reason::masked, "masked", "the array is masked, and a buffer cannot carry the mask"},
    {Reason::overlap, "overlap", "the destination shares memory with the source or with itself"},
    {Reason::out_mismatch, "out_mismatch", "the destination does not fit the result"},
    {Reason::stream, "stream", "the stream asked for cannot be honoured"},
    {Reason::capturing, "capturing", "a CUDA graph is being captured"},
    {Reason::version, "version", "the DLPack major version is not 1"},
    {Reason::malformed, "malformed", "the DLPack struct or the file is wrong"},
    {Reason::consumed, "consumed", "the tensor was already consumed"},
    {Reason::unavailable, "unavailable", "the device or library is not there"},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<std::size_t>(rows[i].reason) != i || rows[i].name.empty() || rows[i].sentence.empty()) return false;
  }
  return true;
}
static_assert(in_order(), "one row a reason, in the order of the enumeration");

const Row* row(Reason reason) noexcept {
  const auto i = static_cast<std::size_t>(reason);
  return i < rows.size() ? &rows[i] : nullptr;
}

// "reason, reason: message; hint"
std::string compose(std::span<const Reason> reasons, const std::string& message, const std::string& hint) {
  std::string text;
  for (const Reason reason : reasons) {
    if (!text.empty()) text += ", ";
    text += to_string(reason);
  }
  text += ": ";
  text += message;
  if (!hint.empty()) {
    text += "; ";
    text += hint;
  }
  return text;
}

}  // namespace

std::string_view to_string(Reason reason) noexcept {
  const Row* const found = row(reason);
  return found != nullptr ? found->name : std::string_view("unknown");
}

std::string_view describe(Reason reason) noexcept {
  const Row* const found = row(reason);
  return found != nullptr ? found->sentence : std::string_view("an unknown reason");
}

Error::Error(Reason reason, const std::string& message, std::string hint)
    : Error(std::vector<Reason>{reason}, message, std::move(hint)) {}

Error::Error(std::vector<Reason> reasons, const std::string& message, std::string hint)
    : std::runtime_error(compose(reasons, message, hint)),
      reasons_(std::move(reasons)),
      message_(message),
      hint_(std::move(hint)) {
  assert(!reasons_.empty());
}

}  // namespace v0
}  // namespace halfway
