// Loops over contiguous blocks of elements, made from the functors of convert.h: one table of decoders, one of
// encoders. Private to the runtime.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "halfway/convert.h"
#include "halfway/dtype.h"

namespace halfway {
inline namespace v0 {
namespace detail {

// The types that elements are decoded to.
enum class WideType : std::uint8_t { float32, float64, int64, uint64 };
inline constexpr std::size_t wide_count = 4;

[[nodiscard]] constexpr std::size_t wide_size(WideType wide) noexcept { return wide == WideType::float32 ? 4 : 8; }

// `elements` are `n` elements in the machine's byte order, at any address; `wide` is aligned.
using DecodeBlock = void (*)(const std::byte* elements, std::byte* wide, std::size_t n) noexcept;
using EncodeBlock = void (*)(const std::byte* wide, std::byte* elements, std::size_t n, bool saturate) noexcept;
// Encodes and says what each element lost.
using EncodeFlaggedBlock = void (*)(const std::byte* wide, std::byte* elements, convert::Flags* flags, std::size_t n,
                                    bool saturate) noexcept;

struct BlockFunctions {
  DType dtype;
  WideType wide;  // what it decodes to
  DecodeBlock decode;
  std::array<EncodeBlock, wide_count> encode;  // from each wide type
  std::array<EncodeFlaggedBlock, wide_count> encode_flagged;
};

// The functions of a dtype; of its components when it is complex. nullptr when it is not castable.
[[nodiscard]] const BlockFunctions* block_functions(DType dtype) noexcept;

// Adds to each of `n` flags what dropping the imaginary part in `imaginary` loses. Float types only.
void flag_dropped_imaginary(WideType wide, const std::byte* imaginary, convert::Flags* flags, std::size_t n) noexcept;

}  // namespace detail
}  // namespace v0
}  // namespace halfway
