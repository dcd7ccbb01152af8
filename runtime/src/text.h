// Pieces of messages. Private to the runtime.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace halfway {
inline namespace v0 {
namespace detail {

// As Python writes a tuple: "()", "(3,)", "(2, 3)".
[[nodiscard]] inline std::string tuple_text(std::span<const std::int64_t> values) {
  std::string text = "(";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(values[i]);
  }
  return text + (values.size() == 1 ? ",)" : ")");
}

// A number in as few digits as identify it: "0.1", "-3", "1e+39".
template <class T>
[[nodiscard]] std::string number_text(T value) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
