// The hot pairs: a kernel each, of dense elements in the machine's byte order, that only converts. Both sides are accessed
// in vectors of 16 bytes; whatever else a launch asks for is the general kernel's (general.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "grid.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

template <class From, class To>
struct Fused {
  using In = typename From::Bits;
  using Out = typename To::Bits;
  static constexpr bool has_tiles = false;
  static constexpr bool counts = false;
  struct Registers {};

  static constexpr int vector = 16;
  // Elements of a thread at a time: a vector of the narrower side, and whole vectors of the other.
  static constexpr int elements = vector / static_cast<int>(sizeof(In) < sizeof(Out) ? sizeof(In) : sizeof(Out));
  static constexpr int loads = elements * static_cast<int>(sizeof(In)) / vector;
  static constexpr int stores = elements * static_cast<int>(sizeof(Out)) / vector;
  // So many of these are loaded before any is converted.
  static constexpr int ahead = loads * vector >= tuning::fused_bytes ? 1 : tuning::fused_bytes / (loads * vector);
  static constexpr std::uint64_t elements_of_block = std::uint64_t{tuning::threads} * elements * ahead;

  using InVectors = Run<In, elements>;
  using OutVectors = Run<Out, elements>;

  HALFWAY_HD static void convert_some(const InVectors& in, OutVectors& out, bool saturate) noexcept {
    using Number = decltype(From::decode_number(In{}));
    if constexpr (convert::is_float<To> && std::is_same_v<Number, float>) {
      float values[elements];
      for (int i = 0; i < elements; i += 2) {
        decode_pair<From>(in.bits[i], in.bits[i + 1], values[i], values[i + 1]);
      }
      encode_floats<To>(values, out.bits, saturate);
    } else if constexpr (convert::is_float<To> && sizeof(Out) < 4) {
      float values[elements];
      for (int i = 0; i < elements; ++i) values[i] = convert::detail::to_odd(From::decode_number(in.bits[i]));
      encode_floats<To>(values, out.bits, saturate);
    } else {
      for (int i = 0; i < elements; ++i) out.bits[i] = convert::convert<To, From>(in.bits[i], saturate).bits;
    }
  }

  HALFWAY_HD static void convert_one(const unsigned char* source, unsigned char* destination, std::uint64_t index,
                                     bool saturate) noexcept {
    const auto in = load_aligned<In>(source + index * sizeof(In));
    store_aligned(destination + index * sizeof(Out), convert::convert<To, From>(in, saturate).bits);
  }

  HALFWAY_HD static void load(const Job& /*job*/, const Thread& /*thread*/, std::uint64_t /*step*/,
                              unsigned char* /*shared*/) noexcept {}

  // Step 0 also converts the elements before the first whole vector; what is behind the last one is of the last step.
  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* /*shared*/,
                                 Registers& /*registers*/) noexcept {
    const Span span = span_of(job, step);
    const bool saturate = job.policy.saturate;
    const std::uint64_t head = job.head < span.count ? job.head : span.count;
    const std::uint64_t whole = (span.count - head) / elements * elements + head;  // the end of the vectors
    const std::uint64_t begin = head + span.step * elements_of_block;
    if (span.step == 0 && thread.index < head) convert_one(span.source, span.destination, thread.index, saturate);
    if (begin + elements_of_block > whole && thread.index < span.count - whole) {
      convert_one(span.source, span.destination, whole + thread.index, saturate);
    }
    InVectors in[ahead];
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at = begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * elements;
      if (at < whole) in[i] = load_aligned<InVectors>(span.source + at * sizeof(In));
    }
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at = begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * elements;
      if (at >= whole) continue;
      OutVectors out;
      convert_some(in[i], out, saturate);
      store_aligned(span.destination + at * sizeof(Out), out);
    }
  }
};

// The bits of dense elements, in vectors.
struct CopyVectors {
  static constexpr bool has_tiles = false;
  static constexpr bool counts = false;
  struct Registers {};

  static constexpr int ahead = tuning::fused_bytes / 16;
  static constexpr std::uint64_t elements_of_block = std::uint64_t{tuning::threads} * ahead * 16;
  using Vector = Run<std::uint32_t, 4>;

  HALFWAY_HD static void load(const Job& /*job*/, const Thread& /*thread*/, std::uint64_t /*step*/,
                              unsigned char* /*shared*/) noexcept {}

  // Elements are bytes.
  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* /*shared*/,
                                 Registers& /*registers*/) noexcept {
    const Span span = span_of(job, step);
    const std::uint64_t head = job.head < span.count ? job.head : span.count;
    const std::uint64_t whole = (span.count - head) / 16 * 16 + head;
    const std::uint64_t begin = head + span.step * elements_of_block;
    if (span.step == 0 && thread.index < head) span.destination[thread.index] = span.source[thread.index];
    if (begin + elements_of_block > whole && thread.index < span.count - whole) {
      span.destination[whole + thread.index] = span.source[whole + thread.index];
    }
    Vector in[ahead];
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at = begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * 16;
      if (at < whole) in[i] = load_aligned<Vector>(span.source + at);
    }
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at = begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * 16;
      if (at < whole) store_aligned(span.destination + at, in[i]);
    }
  }
};

// Steps of a run of elements.
template <class Body>
[[nodiscard]] constexpr std::uint64_t steps_of(std::uint64_t count, std::uint32_t head) noexcept {
  const std::uint64_t rest = count > head ? count - head : 0;
  const std::uint64_t steps = (rest + Body::elements_of_block - 1) / Body::elements_of_block;
  return steps == 0 && count > 0 ? 1 : steps;
}

// The pairs. `use(Fused<From, To>{})` of the one that it is; false where it is none.
template <class... Pairs, class Use>
bool use_fused_of(convert::List<Pairs...> /*pairs*/, DType from, DType to, Use use) {
  const auto one = [&](auto pair) {
    using Pair = decltype(pair);
    if (!is_dtype(from, Pair::From::dtype) || !is_dtype(to, Pair::To::dtype)) return false;
    use(Fused<typename Pair::From, typename Pair::To>{});
    return true;
  };
  return (one(Pairs{}) || ...);
}

template <class F, class T>
struct Pair {
  using From = F;
  using To = T;
};

using UInt8 = convert::Integer<std::uint8_t>;
using Int32 = convert::Integer<std::int32_t>;
using Int64 = convert::Integer<std::int64_t>;
using convert::Float32;
using convert::Float64;

using HotPairs = convert::List<
    Pair<Float32, Float16>, Pair<Float32, BFloat16>, Pair<Float32, Float8E4M3FN>, Pair<Float32, Float8E5M2>,
    Pair<Float32, Float64>, Pair<Float64, Float32>, Pair<Float64, Float16>, Pair<Float64, BFloat16>,
    Pair<Float16, Float32>, Pair<Float16, BFloat16>, Pair<BFloat16, Float32>, Pair<BFloat16, Float16>,
    Pair<UInt8, Float32>, Pair<UInt8, Float16>, Pair<UInt8, BFloat16>, Pair<Int64, Float32>, Pair<Int64, Float16>,
    Pair<Int64, BFloat16>, Pair<Int64, Int32>, Pair<Int32, Int64>, Pair<convert::Boolean, Float32>,
    Pair<Float8E4M3FN, Float32>, Pair<Float8E4M3FN, BFloat16>, Pair<Float8E5M2, Float32>, Pair<Float8E5M2, BFloat16>>;

template <class Use>
bool use_fused(DType from, DType to, Use use) {
  return use_fused_of(HotPairs{}, from, to, use);
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
