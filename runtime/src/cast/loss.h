// What is said about a value that a cast must not lose. Private to the runtime.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "halfway/cast.h"
#include "pass.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The element at a position in C order, in as few digits as identify it: "0.1", "-3", "True", "(1-2j)", "nan".
[[nodiscard]] std::string value_text(const TensorView& source, const Elements& elements, std::int64_t position);

// One sample of a batch, as messages call it: "samples[3]", with where it was found in a tree behind.
struct SampleName {
  std::int64_t index;
  std::string_view path{};

  [[nodiscard]] std::string text() const;
};

// `tally.first_loss` is a position in `source`. `named` turns an index of `source` into the one that the caller knows;
// for a sample it has its number in front.
// throws: CastError, always
[[noreturn]] void refuse_loss(const TensorView& source, const Elements& elements, DType to, const CastOptions& options,
                              const Tally& tally,
                              const std::function<std::vector<std::int64_t>(const std::vector<std::int64_t>&)>& named,
                              const SampleName* sample = nullptr);

}  // namespace detail
}  // namespace v0
}  // namespace halfway
