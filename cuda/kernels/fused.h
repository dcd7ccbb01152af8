// The hot pairs: a kernel each, of dense elements in the machine's byte order, that converts and, some of them, scales
// first. What a thread writes at a time is one vector, mostly of 16 bytes, and its neighbours write the ones beside it:
// a warp's stores are of whole lines of the cache. A thread that wrote several vectors in a row would leave every store
// with holes, which caches join for loads and not for stores. Whatever else a launch asks for is the general kernel's
// (general.h) or that of channels (channels.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "grid.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Scale and shift of one index of the axis, as threads take them from shared memory.
using Coefficients = Run<float, 2>;

// Requires: the affine numbers are of float.
HALFWAY_HD inline Coefficients coefficients_at(const Affine& affine, std::uint32_t index) noexcept {
  return {{static_cast<float>(affine.scales[index]), static_cast<float>(affine.shifts[index])}};
}

// Scales neighbours by the numbers that `table` holds for the axis. `place`: of the first of them along the axis and
// what is inside of it, plus any number of periods.
template <int n>
HALFWAY_HD inline void scale_run(const Job& job, const unsigned char* table, std::uint32_t place,
                                 float (&values)[n]) noexcept {
  if (job.affine.count == 1) {
    const auto all = load_aligned<Coefficients>(table);
    HALFWAY_UNROLLED
    for (float& value : values) value = convert::multiply_add(value, all.bits[0], all.bits[1]);
    return;
  }
  // Divided once and counted on.
  std::uint32_t rest = 0;
  std::uint32_t index = 0;
  static_cast<void>(job.indices.divide(job.inner.divide(place, rest), index));
  HALFWAY_UNROLLED
  for (float& value : values) {
    const auto one = load_aligned<Coefficients>(table + index * sizeof(Coefficients));
    value = convert::multiply_add(value, one.bits[0], one.bits[1]);
    if (++rest != job.inner.value) continue;
    rest = 0;
    index = index + 1 == job.indices.value ? 0 : index + 1;
  }
}

// `n` neighbours.
template <class From, int n>
HALFWAY_HD inline void decode_floats(const typename From::Bits (&bits)[n], float (&values)[n]) noexcept {
  if constexpr (n % 2 == 0) {
    HALFWAY_UNROLLED
    for (int i = 0; i < n; i += 2) decode_pair<From>(bits[i], bits[i + 1], values[i], values[i + 1]);
  } else {
    HALFWAY_UNROLLED
    for (int i = 0; i < n; ++i) values[i] = From::decode_number(bits[i]);
  }
}

template <class From, class To>
using FusedCut = std::conditional_t<sizeof(typename From::Bits) == 8 && sizeof(typename To::Bits) == 2,
                                    tuning::FusedToQuarter, tuning::Fused>;

// `scaled`: by the launch's scale and shift. `Cut`: see tuning.h.
template <class From, class To, bool scaled = false, class Cut = FusedCut<From, To>>
struct Fused {
  using In = typename From::Bits;
  using Out = typename To::Bits;
  static constexpr bool has_tiles = false;
  static constexpr bool counts = false;
  static constexpr bool prepares = scaled;
  static constexpr unsigned threads = Cut::threads;
  struct Registers {};

  // Elements of a vector of the destination.
  static constexpr int elements = Cut::vector / static_cast<int>(sizeof(Out));
  static constexpr int bytes_in = elements * static_cast<int>(sizeof(In));
  // So many vectors, a block's width apart, are loaded before any is converted.
  static constexpr int ahead = bytes_in >= Cut::bytes ? 1 : Cut::bytes / bytes_in;
  static constexpr std::uint64_t elements_of_block = std::uint64_t{threads} * elements * ahead;

  using InVectors = typename Words<In, elements>::Vector;
  using OutVectors = Run<Out, elements>;

  // The numbers of the axis, into shared memory: threads take different ones at a time, which constant memory, where
  // they are else, answers one after the other.
  HALFWAY_HD static void prepare(const Job& job, const Thread& thread, unsigned char* shared) noexcept {
    if (thread.index >= job.affine.count) return;
    store_aligned(shared + thread.index * sizeof(Coefficients), coefficients_at(job.affine, thread.index));
  }

  template <int n>
  HALFWAY_HD static void convert_run(const Job& job, const unsigned char* shared, std::uint32_t place,
                                     const In (&in)[n], Out (&out)[n]) noexcept {
    using Number = decltype(From::decode_number(In{}));
    const bool saturate = job.policy.saturate;
    if constexpr (scaled || (n > 1 && convert::is_float<To> && std::is_same_v<Number, float>)) {
      static_assert(std::is_same_v<Number, float>);
      float values[n];
      decode_floats<From>(in, values);
      if constexpr (scaled) scale_run(job, shared, place, values);
      encode_floats<To>(values, out, saturate);
    } else if constexpr (n > 1 && convert::is_float<To> && sizeof(Out) < 4) {
      float values[n];
      HALFWAY_UNROLLED
      for (int i = 0; i < n; ++i) values[i] = convert::detail::to_odd(From::decode_number(in[i]));
      encode_floats<To>(values, out, saturate);
    } else {
      HALFWAY_UNROLLED
      for (int i = 0; i < n; ++i) out[i] = convert::convert<To, From>(in[i], saturate).bits;
    }
  }

  HALFWAY_HD static void load(const Job& /*job*/, const Thread& /*thread*/, std::uint64_t /*step*/,
                              unsigned char* /*shared*/) noexcept {}

  // Step 0 also converts the elements before the first whole vector; what is behind the last one is of the last step.
  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* shared,
                                 Registers& /*registers*/) noexcept {
    const Span span = in_global_memory(span_of(job, step));
    const std::uint64_t head = job.head < span.count ? job.head : span.count;
    const std::uint64_t whole = (span.count - head) / elements * elements + head;  // the end of the vectors
    const std::uint64_t base = span.step * elements_of_block;
    const std::uint64_t begin = head + base;
    // Of element `base` along the affine axis, so that from there on 32 bits do.
    std::uint64_t phase = 0;
    if constexpr (scaled) static_cast<void>(divide(job.first + base, job.period, job.narrow, phase));
    const auto place_of = [base, phase](std::uint64_t at) { return static_cast<std::uint32_t>(at - base + phase); };

    const std::uint64_t heads = span.step == 0 ? head : 0;
    const std::uint64_t tails = begin + elements_of_block > whole ? span.count - whole : 0;
    HALFWAY_ROLLED
    for (std::uint64_t i = thread.index; i < heads + tails; i += thread.count) {
      const std::uint64_t at = i < heads ? i : whole + (i - heads);
      const In in[1] = {load_aligned<In>(span.source + at * sizeof(In))};
      Out out[1];
      convert_run(job, shared, place_of(at), in, out);
      store_aligned(span.destination + at * sizeof(Out), out[0]);
    }

    InVectors in[ahead];
    HALFWAY_UNROLLED
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at =
          begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * elements;
      if (at < whole) in[i] = load_aligned<InVectors>(span.source + at * sizeof(In));
    }
    HALFWAY_UNROLLED
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at =
          begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * elements;
      if (at >= whole) continue;
      In bits[elements];
      HALFWAY_UNROLLED
      for (int k = 0; k < elements; ++k) bits[k] = element_of<In>(in[i].bits, k);
      OutVectors out;
      convert_run(job, shared, place_of(at), bits, out.bits);
      store_aligned(span.destination + at * sizeof(Out), out);
    }
  }
};

// The bits of dense elements, in vectors.
struct CopyVectors {
  static constexpr bool has_tiles = false;
  static constexpr bool counts = false;
  static constexpr bool prepares = false;
  static constexpr unsigned threads = tuning::threads;
  struct Registers {};

  static constexpr int ahead = tuning::Fused::bytes / 16;
  static constexpr std::uint64_t elements_of_block = std::uint64_t{tuning::threads} * ahead * 16;
  using Vector = Run<std::uint32_t, 4>;

  HALFWAY_HD static void load(const Job& /*job*/, const Thread& /*thread*/, std::uint64_t /*step*/,
                              unsigned char* /*shared*/) noexcept {}

  // Elements are bytes.
  HALFWAY_HD static void convert(const Job& job, const Thread& thread, std::uint64_t step, unsigned char* /*shared*/,
                                 Registers& /*registers*/) noexcept {
    const Span span = in_global_memory(span_of(job, step));
    const std::uint64_t head = job.head < span.count ? job.head : span.count;
    const std::uint64_t whole = (span.count - head) / 16 * 16 + head;
    const std::uint64_t begin = head + span.step * elements_of_block;
    if (span.step == 0 && thread.index < head) span.destination[thread.index] = span.source[thread.index];
    if (begin + elements_of_block > whole && thread.index < span.count - whole) {
      span.destination[whole + thread.index] = span.source[whole + thread.index];
    }
    Vector in[ahead];
    HALFWAY_UNROLLED
    for (int i = 0; i < ahead; ++i) {
      const std::uint64_t at = begin + (std::uint64_t{thread.count} * static_cast<unsigned>(i) + thread.index) * 16;
      if (at < whole) in[i] = load_aligned<Vector>(span.source + at);
    }
    HALFWAY_UNROLLED
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

// Calls `use` with the pair among these; false where it is none.
template <class... Pairs, class Use>
bool use_pair(convert::List<Pairs...> /*pairs*/, DType from, DType to, Use use) {
  const auto one = [&](auto pair) {
    using Pair = decltype(pair);
    if (!is_dtype(from, Pair::From::dtype) || !is_dtype(to, Pair::To::dtype)) return false;
    use(pair);
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

using HotPairs =
    convert::List<Pair<Float32, Float16>, Pair<Float32, BFloat16>, Pair<Float32, Float8E4M3FN>,
                  Pair<Float32, Float8E5M2>, Pair<Float32, Float64>, Pair<Float64, Float32>, Pair<Float64, Float16>,
                  Pair<Float64, BFloat16>, Pair<Float16, Float32>, Pair<Float16, BFloat16>, Pair<BFloat16, Float32>,
                  Pair<BFloat16, Float16>, Pair<UInt8, Float32>, Pair<UInt8, Float16>, Pair<UInt8, BFloat16>,
                  Pair<Int64, Float32>, Pair<Int64, Float16>, Pair<Int64, BFloat16>, Pair<Int64, Int32>,
                  Pair<Int32, Int64>, Pair<convert::Boolean, Float32>, Pair<Float8E4M3FN, Float32>,
                  Pair<Float8E4M3FN, BFloat16>, Pair<Float8E5M2, Float32>, Pair<Float8E5M2, BFloat16>>;

// Those that are scaled, too: in float, which holds every value of the source.
using ScaledPairs = convert::List<Pair<UInt8, Float32>, Pair<UInt8, Float16>, Pair<UInt8, BFloat16>,
                                  Pair<Float32, Float32>, Pair<Float32, Float16>, Pair<Float32, BFloat16>>;

// `use(Fused<From, To, scaled>{})` of the pair; false where there is no kernel of it.
template <class Use>
bool use_fused(DType from, DType to, Use use) {
  return use_pair(HotPairs{}, from, to,
                  [&](auto pair) { use(Fused<typename decltype(pair)::From, typename decltype(pair)::To>{}); });
}
template <class Use>
bool use_scaled(DType from, DType to, Use use) {
  return use_pair(ScaledPairs{}, from, to,
                  [&](auto pair) { use(Fused<typename decltype(pair)::From, typename decltype(pair)::To, true>{}); });
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
