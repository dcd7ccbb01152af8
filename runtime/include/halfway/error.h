// Why an exchange or a cast was refused, as a closed vocabulary with a sentence and a way out.
//
// Errors are exceptions in C++ code only: no function that this library hands to a C caller (DLPack deleters,
// exchange tables) ever throws.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace halfway {
inline namespace v0 {

// Every reason for which an exchange copies or is refused. The spelling of the enumerators is the spelling users see.
enum class Reason : std::uint8_t {
  dtype,               // a different dtype was asked for
  byte_order,          // the bytes are in the other byte order, which the target cannot express
  device,              // the memory is on a device that the target cannot address
  negative_strides,    // the target has no negative strides
  fractional_strides,  // the strides are not whole elements
  misaligned,          // the data pointer or a stride is not a multiple of the element's alignment
  readonly,            // the source is read-only and the target cannot say so, or a destination is read-only
  copy_requested,      // copy=True
  permute,             // the axes were permuted
  affine,              // a scale or shift was asked for
  unsupported_dtype,   // the target has no such dtype
  requires_grad,       // the tensor takes part in automatic differentiation
  conj,                // the tensor's conjugate bit is set: its memory holds the conjugates
  neg,                 // the tensor's negative bit is set: its memory holds the negatives
  sparse,              // the layout is not strided
  nested,              // nested tensor, samples of different shapes (a ragged batch), nested structured dtype
  quantized,           // quantized tensor
  subclass,            // a subclass with its own dispatch: its memory is not its value
  no_storage,          // elements without memory behind them (meta, fake, wrapper tensors)
  masked,              // masked array: a buffer cannot carry the mask
  overlap,             // destination and source share memory
  out_mismatch,        // `out` does not fit the result
  stream,              // the stream asked for cannot be honoured
  capturing,           // a CUDA graph is being captured
  version,             // DLPack major version other than 1
  malformed,           // the DLPack struct, or the file, is wrong
  consumed,            // the capsule was already consumed
  unavailable,         // the device or library is not there
};

// Number of reasons: they are 0 .. reason_count - 1.
inline constexpr int reason_count = static_cast<int>(Reason::unavailable) + 1;

// The enumerator's spelling, e.g. "byte_order".
[[nodiscard]] std::string_view to_string(Reason reason) noexcept;

// One sentence, without a full stop, e.g. "the bytes are in the other byte order".
[[nodiscard]] std::string_view describe(Reason reason) noexcept;

// An exchange or cast that could not be done. `what()` names every reason and ends with the hint.
class Error : public std::runtime_error {
 public:
  Error(Reason reason, const std::string& message, std::string hint = {});
  // `reasons` must not be empty; the first one is the one that `reason()` gives.
  Error(std::vector<Reason> reasons, const std::string& message, std::string hint = {});

  [[nodiscard]] Reason reason() const noexcept { return reasons_.front(); }
  [[nodiscard]] std::span<const Reason> reasons() const noexcept { return reasons_; }
  // The message without the hint, and the hint alone (empty if there is none).
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

 private:
  std::vector<Reason> reasons_;
  std::string message_;
  std::string hint_;
};

}  // namespace v0
}  // namespace halfway
