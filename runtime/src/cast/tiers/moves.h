// Loops that move elements by their size, whatever they mean: gathering, transposing, byte order. Shuffles are written
// with the vector extensions that GCC and Clang share, one source for all sizes and instruction sets; a tier without
// byte shuffles (baseline x86-64) has plain loops where it would need them. Included by loops.h alone.
#pragma once

// NOLINTBEGIN(misc-definitions-in-headers): included once, by the sources of the tiers

#include <utility>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

#if defined(__SSSE3__) || defined(__aarch64__)
constexpr bool has_byte_shuffles = true;
#else
constexpr bool has_byte_shuffles = false;
#endif

// Vectors of elements. Those of 16 bytes are what all instruction sets have; `Wide` is the widest worth using.
template <class T, std::size_t bytes = 16>
struct VectorOf {
  using type [[gnu::vector_size(bytes)]] = T;
  static constexpr std::size_t size = bytes / sizeof(T);
  static constexpr auto places = std::make_index_sequence<size>{};
};
template <class T>
using Vector = typename VectorOf<T>::type;
#if defined(__AVX2__)
constexpr std::size_t wide_bytes = 32;
#else
constexpr std::size_t wide_bytes = 16;
#endif

template <class T>
constexpr std::size_t per_vector = VectorOf<T>::size;

// An element of 16 bytes is a vector itself.
using Whole = VectorOf<std::uint64_t>::type;

// --- shuffles. `I` are the places of the result.

template <class V, std::size_t... I>
inline V low_halves(V a, V b, std::index_sequence<I...> /*places*/) noexcept {
  return __builtin_shufflevector(a, b, static_cast<int>(I % 2 * sizeof...(I) + I / 2)...);
}
template <class V, std::size_t... I>
inline V high_halves(V a, V b, std::index_sequence<I...> /*places*/) noexcept {
  constexpr std::size_t half = sizeof...(I) / 2;
  return __builtin_shufflevector(a, b, static_cast<int>(I % 2 * sizeof...(I) + half + I / 2)...);
}
// Every second element of both, from the one at `first`.
template <std::size_t first, class V, std::size_t... I>
inline V every_second(V a, V b, std::index_sequence<I...> /*places*/) noexcept {
  return __builtin_shufflevector(a, b, static_cast<int>(2 * I + first)...);
}
template <class V, std::size_t... I>
inline V reversed(V a, std::index_sequence<I...> /*places*/) noexcept {
  return __builtin_shufflevector(a, a, static_cast<int>(sizeof...(I) - 1 - I)...);
}
// The bytes of each `unit` in reverse.
template <std::size_t unit, class V, std::size_t... I>
inline V swapped(V a, std::index_sequence<I...> /*places*/) noexcept {
  return __builtin_shufflevector(a, a, static_cast<int>(I / unit * unit + unit - 1 - I % unit)...);
}
// Every third element of three vectors, from the one at `first`: those of the first two, then the last's beside them.
template <std::size_t first, class V, std::size_t... I>
inline V every_third(V a, V b, V c, std::index_sequence<I...> /*places*/) noexcept {
  constexpr std::size_t n = sizeof...(I);
  const V front = __builtin_shufflevector(a, b, static_cast<int>(3 * I + first < 2 * n ? 3 * I + first : 0)...);
  return __builtin_shufflevector(front, c, static_cast<int>(3 * I + first < 2 * n ? I : 3 * I + first - n)...);
}
// The `part`th of the three vectors that a, b and c make when their elements take turns.
template <std::size_t part, class V, std::size_t... I>
inline V take_turns(V a, V b, V c, std::index_sequence<I...> /*places*/) noexcept {
  constexpr std::size_t n = sizeof...(I);
  constexpr std::size_t begin = part * n;
  const V two = __builtin_shufflevector(
      a, b, static_cast<int>((begin + I) % 3 < 2 ? (begin + I) % 3 * n + (begin + I) / 3 : 0)...);
  return __builtin_shufflevector(two, c, static_cast<int>((begin + I) % 3 < 2 ? I : n + (begin + I) / 3)...);
}

// --- strided to contiguous

// Sources that are large come from memory, and what is left out is fetched all the same: the processor's own
// prefetching stops at each page.
constexpr std::int64_t fetched_ahead = 1024;

// `step` is known when this is compiled: one of several elements that lie side by side. The last vector is left to the
// plain loop, since whole ones would read beyond the last element.
template <class T, std::size_t step>
std::size_t gather_each(const std::byte* source, std::byte* run, std::size_t n) noexcept {
  constexpr std::size_t width = per_vector<T>;
  constexpr auto places = VectorOf<T>::places;
  std::size_t i = 0;
  for (; i + width < n; i += width) {
    __builtin_prefetch(source + i * step * sizeof(T) + fetched_ahead);
    Vector<T> v[step];
    for (std::size_t part = 0; part < step; ++part)
      v[part] = load<Vector<T>>(source + (i * step + part * width) * sizeof(T));
    Vector<T> result;
    if constexpr (step == 2) {
      result = every_second<0>(v[0], v[1], places);
    } else if constexpr (step == 3) {
      result = every_third<0>(v[0], v[1], v[2], places);
    } else {
      result = every_second<0>(every_second<0>(v[0], v[1], places), every_second<0>(v[2], v[3], places), places);
    }
    store(run + i * sizeof(T), result);
  }
  return i;
}

template <class T>
std::size_t gather_reversed(const std::byte* source, std::byte* run, std::size_t n) noexcept {
  using Wide = VectorOf<T, wide_bytes>;
  std::size_t i = 0;
  for (; i + Wide::size <= n; i += Wide::size) {
    __builtin_prefetch(source - i * sizeof(T) - fetched_ahead);
    const auto v = load<typename Wide::type>(source - (i + Wide::size - 1) * sizeof(T));
    store(run + i * sizeof(T), reversed(v, Wide::places));
  }
  return i;
}

template <class T>
void gather(const std::byte* source, std::int64_t stride, std::byte* run, std::size_t n) noexcept {
  constexpr auto size = static_cast<std::int64_t>(sizeof(T));
  std::size_t i = 0;
  if constexpr (sizeof(T) < 16 && (has_byte_shuffles || sizeof(T) >= 4)) {
    if (stride == -size) i = gather_reversed<T>(source, run, n);
    if (stride == 2 * size) i = gather_each<T, 2>(source, run, n);
    if constexpr (sizeof(T) < 8) {
      if (stride == 3 * size) i = gather_each<T, 3>(source, run, n);
      if (stride == 4 * size) i = gather_each<T, 4>(source, run, n);
    }
  }
  const std::int64_t ahead = stride < 0 ? -fetched_ahead : fetched_ahead;
  for (; i < n; ++i) {
    const std::byte* const element = source + static_cast<std::int64_t>(i) * stride;
    __builtin_prefetch(element + ahead);
    store(run + i * sizeof(T), load<T>(element));
  }
}

// --- transposing

// The lower, or upper, halves of the 16-byte lanes of two vectors, their elements in turns.
template <class T, class V, std::size_t... I>
inline V low_lanes(V a, V b, std::index_sequence<I...> /*places*/) noexcept {
  constexpr std::size_t lane = per_vector<T>;
  return __builtin_shufflevector(a, b, static_cast<int>(I % 2 * sizeof...(I) + I / lane * lane + I % lane / 2)...);
}
template <class T, class V, std::size_t... I>
inline V high_lanes(V a, V b, std::index_sequence<I...> /*places*/) noexcept {
  constexpr std::size_t lane = per_vector<T>;
  return __builtin_shufflevector(a, b,
                                 static_cast<int>(I % 2 * sizeof...(I) + I / lane * lane + (lane + I % lane) / 2)...);
}

// Squares of 16 bytes a side, as many beside each other as vectors have lanes. Each round puts the elements of a line
// between those of the line that is half the side further; after as many rounds as the side has bits, lines are
// columns.
template <class T, class Vectors, std::size_t... I>
inline void transpose_round(typename Vectors::type (&v)[per_vector<T>], std::index_sequence<I...> /*pairs*/) noexcept {
  constexpr std::size_t half = per_vector<T> / 2;
  typename Vectors::type w[per_vector<T>];
  ((w[2 * I] = low_lanes<T>(v[I], v[I + half], Vectors::places),
    w[2 * I + 1] = high_lanes<T>(v[I], v[I + half], Vectors::places)),
   ...);
  ((v[2 * I] = w[2 * I], v[2 * I + 1] = w[2 * I + 1]), ...);
}

template <class V, std::size_t... I>
inline auto join(V low, V high, std::index_sequence<I...> /*places*/) noexcept {
  return __builtin_shufflevector(low, high, static_cast<int>(I)...);
}

template <class T, class Vectors>
inline typename Vectors::type load_lanes(const std::byte* source, std::int64_t lane_step) noexcept {
  if constexpr (Vectors::size == per_vector<T>) {
    return load<Vector<T>>(source);
  } else {
    static_assert(Vectors::size == 2 * per_vector<T>);
    return join(load<Vector<T>>(source), load<Vector<T>>(source + lane_step), Vectors::places);
  }
}

template <class T, class Vectors, std::size_t... I>
inline void transpose_square(const std::byte* source, std::int64_t line_step, std::byte* rows, std::int64_t row_step,
                             std::index_sequence<I...> /*places*/) noexcept {
  constexpr std::size_t side = sizeof...(I);
  constexpr auto pairs = std::make_index_sequence<side / 2>{};
  const std::int64_t lane_step = static_cast<std::int64_t>(side) * line_step;
  typename Vectors::type v[side] = {
      load_lanes<T, Vectors>(source + static_cast<std::int64_t>(I) * line_step, lane_step)...};
  transpose_round<T, Vectors>(v, pairs);
  if constexpr (side >= 4) transpose_round<T, Vectors>(v, pairs);
  if constexpr (side >= 8) transpose_round<T, Vectors>(v, pairs);
  if constexpr (side >= 16) transpose_round<T, Vectors>(v, pairs);
  (store(rows + static_cast<std::int64_t>(I) * row_step, v[I]), ...);
}

// Lines that are far apart are no sequence that a processor foresees: asks for the one that is read `lines_ahead`
// later.
inline void fetch_ahead(const Lines& in, std::size_t line, std::size_t bytes) noexcept {
  constexpr std::size_t lines_ahead = 16;
  constexpr std::size_t cache_line = 64;
  std::size_t ahead = line + lines_ahead;
  const std::byte* from = in.source;
  if (ahead >= in.lines) {
    ahead -= in.lines;
    from = in.next;
  }
  if (from == nullptr || ahead >= in.lines) return;
  from += static_cast<std::int64_t>(ahead) * in.line_step;
  for (std::size_t at = 0; at < bytes; at += cache_line) __builtin_prefetch(from + at);
  __builtin_prefetch(from + bytes - 1);
}

// Lines from `first` on in whole squares. Returns the first one that is left over.
template <class T, class Vectors>
std::size_t transpose_squares(const Lines& in, std::byte* rows, std::int64_t row_step, std::size_t first) noexcept {
  constexpr std::size_t side = per_vector<T>;
  const std::size_t bytes = in.width * sizeof(T);
  const bool are_far = in.line_step >= 1024 || in.line_step <= -1024;
  std::size_t i = first;
  for (; i + Vectors::size <= in.lines; i += Vectors::size) {
    if (are_far) {
      for (std::size_t line = i; line < i + Vectors::size; ++line) fetch_ahead(in, line, bytes);
    }
    const std::byte* from = in.source + static_cast<std::int64_t>(i) * in.line_step;
    std::byte* to = rows + i * sizeof(T);
    for (std::size_t j = 0; j + side <= in.width; j += side) {
      transpose_square<T, Vectors>(from, in.line_step, to, row_step, VectorOf<T>::places);
      from += 16;
      to += static_cast<std::int64_t>(side) * row_step;
    }
  }
  return i;
}

// Elements of pixels to planes: `channels` rows from lines that follow each other.
template <class T, std::size_t channels>
std::size_t split_channels(const Lines& in, std::byte* rows, std::int64_t row_step) noexcept {
  constexpr std::size_t width = per_vector<T>;
  constexpr auto places = VectorOf<T>::places;
  std::size_t i = 0;
  for (; i + width <= in.lines; i += width) {
    // What is read next comes while these lines are converted: images to normalised planes took 0.67 to 0.93 of the
    // time on one thread, 0.74 to 0.95 on two (2-core AMD EPYC Milan virtual machine, 2026-11-26, three runs in turns,
    // medians of 40).
    if (in.next != nullptr) __builtin_prefetch(in.next + i * channels * sizeof(T));
    Vector<T> v[channels];
    for (std::size_t c = 0; c < channels; ++c)
      v[c] = load<Vector<T>>(in.source + (i * channels + c * width) * sizeof(T));
    std::byte* const to = rows + i * sizeof(T);
    if constexpr (channels == 2) {
      store(to, every_second<0>(v[0], v[1], places));
      store(to + row_step, every_second<1>(v[0], v[1], places));
    } else if constexpr (channels == 3) {
      store(to, every_third<0>(v[0], v[1], v[2], places));
      store(to + row_step, every_third<1>(v[0], v[1], v[2], places));
      store(to + 2 * row_step, every_third<2>(v[0], v[1], v[2], places));
    } else {
      const Vector<T> even_front = every_second<0>(v[0], v[1], places);
      const Vector<T> even_back = every_second<0>(v[2], v[3], places);
      const Vector<T> odd_front = every_second<1>(v[0], v[1], places);
      const Vector<T> odd_back = every_second<1>(v[2], v[3], places);
      store(to, every_second<0>(even_front, even_back, places));
      store(to + row_step, every_second<0>(odd_front, odd_back, places));
      store(to + 2 * row_step, every_second<1>(even_front, even_back, places));
      store(to + 3 * row_step, every_second<1>(odd_front, odd_back, places));
    }
  }
  return i;
}

// Planes to pixels: rows of `channels` elements that follow each other, from as many lines.
template <class T, std::size_t channels>
std::size_t join_channels(const std::byte* source, std::int64_t line_step, std::byte* rows,
                          std::size_t width) noexcept {
  constexpr std::size_t step = per_vector<T>;
  constexpr auto places = VectorOf<T>::places;
  std::size_t j = 0;
  for (; j + step <= width; j += step) {
    Vector<T> v[channels];
    for (std::size_t c = 0; c < channels; ++c) {
      v[c] = load<Vector<T>>(source + static_cast<std::int64_t>(c) * line_step + j * sizeof(T));
    }
    std::byte* const to = rows + j * channels * sizeof(T);
    if constexpr (channels == 2) {
      store(to, low_halves(v[0], v[1], places));
      store(to + 16, high_halves(v[0], v[1], places));
    } else if constexpr (channels == 3) {
      store(to, take_turns<0>(v[0], v[1], v[2], places));
      store(to + 16, take_turns<1>(v[0], v[1], v[2], places));
      store(to + 32, take_turns<2>(v[0], v[1], v[2], places));
    } else {
      const Vector<T> even_front = low_halves(v[0], v[2], places);
      const Vector<T> even_back = high_halves(v[0], v[2], places);
      const Vector<T> odd_front = low_halves(v[1], v[3], places);
      const Vector<T> odd_back = high_halves(v[1], v[3], places);
      store(to, low_halves(even_front, odd_front, places));
      store(to + 16, high_halves(even_front, odd_front, places));
      store(to + 32, low_halves(even_back, odd_back, places));
      store(to + 48, high_halves(even_back, odd_back, places));
    }
  }
  return j;
}

// Lines [first, lines) of rows [first_row, width), element by element. A few lines at a time, so that their cache lines
// are still there when the next row reads from them.
template <class T>
void transpose_plainly(const Lines& in, std::byte* rows, std::int64_t row_step, std::size_t first,
                       std::size_t first_row) noexcept {
  constexpr std::size_t some = 8;
  for (std::size_t begin = first; begin < in.lines; begin += some) {
    const std::size_t end = in.lines - begin < some ? in.lines : begin + some;
    for (std::size_t j = first_row; j < in.width; ++j) {
      const std::byte* const from = in.source + static_cast<std::int64_t>(j) * in.element_step;
      std::byte* const to = rows + static_cast<std::int64_t>(j) * row_step;
      for (std::size_t i = begin; i < end; ++i) {
        store(to + i * sizeof(T), load<T>(from + static_cast<std::int64_t>(i) * in.line_step));
      }
    }
  }
}

// Whether steps are those of pixels of `n` channels without gaps.
template <class T>
inline bool is_pixel(std::int64_t step, std::size_t n) noexcept {
  return n >= 2 && n <= 4 && step == static_cast<std::int64_t>(n * sizeof(T));
}

template <class T>
void transpose(const Lines& in, std::byte* rows, std::int64_t row_step) noexcept {
  constexpr auto size = static_cast<std::int64_t>(sizeof(T));
  if constexpr (sizeof(T) < 16) {
    if (in.element_step == size) {
      if constexpr (has_byte_shuffles || sizeof(T) >= 4) {
        if (is_pixel<T>(in.line_step, in.width)) {
          const std::size_t done = in.width == 2   ? split_channels<T, 2>(in, rows, row_step)
                                   : in.width == 3 ? split_channels<T, 3>(in, rows, row_step)
                                                   : split_channels<T, 4>(in, rows, row_step);
          return transpose_plainly<T>(in, rows, row_step, done, 0);
        }
        if (is_pixel<T>(row_step, in.lines)) {
          const std::size_t done = in.lines == 2   ? join_channels<T, 2>(in.source, in.line_step, rows, in.width)
                                   : in.lines == 3 ? join_channels<T, 3>(in.source, in.line_step, rows, in.width)
                                                   : join_channels<T, 4>(in.source, in.line_step, rows, in.width);
          return transpose_plainly<T>(in, rows, row_step, 0, done);
        }
      }
      std::size_t whole_lines = transpose_squares<T, VectorOf<T, wide_bytes>>(in, rows, row_step, 0);
      if constexpr (wide_bytes > 16) whole_lines = transpose_squares<T, VectorOf<T>>(in, rows, row_step, whole_lines);
      const std::size_t whole_rows = in.width / per_vector<T> * per_vector<T>;
      Lines rest = in;
      rest.lines = whole_lines;
      transpose_plainly<T>(rest, rows, row_step, 0, whole_rows);
      return transpose_plainly<T>(in, rows, row_step, whole_lines, 0);
    }
  }
  transpose_plainly<T>(in, rows, row_step, 0, 0);
}

// --- byte order

template <class T>
inline T swap_scalar(T value) noexcept {
  const auto bits = static_cast<std::make_unsigned_t<T>>(value);
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(bits));
  if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(bits));
  if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(bits));
}

// The units of one vector.
template <class T>
inline void swap_vector(const std::byte* source, std::byte* destination) noexcept {
  using Bytes = VectorOf<std::uint8_t, wide_bytes>;
  store(destination, swapped<sizeof(T)>(load<typename Bytes::type>(source), Bytes::places));
}

// Loads come before the stores to the same place: source and destination may be the same.
template <class T>
void swap_bytes(const std::byte* source, std::byte* destination, std::size_t n) noexcept {
  std::size_t i = 0;
  if constexpr (has_byte_shuffles) {
    for (; i + wide_bytes / sizeof(T) <= n; i += wide_bytes / sizeof(T)) {
      swap_vector<T>(source + i * sizeof(T), destination + i * sizeof(T));
    }
  }
  for (; i < n; ++i) store(destination + i * sizeof(T), swap_scalar(load<T>(source + i * sizeof(T))));
}

// --- the rows of the table

template <class T>
constexpr MoveKernels moves_of{gather<T>, transpose<T>};

constexpr std::array moves{moves_of<std::uint8_t>, moves_of<std::uint16_t>, moves_of<std::uint32_t>,
                           moves_of<std::uint64_t>, moves_of<Whole>};
constexpr std::array swaps{swap_bytes<std::uint16_t>, swap_bytes<std::uint32_t>, swap_bytes<std::uint64_t>};

}  // namespace
}  // namespace detail
}  // namespace v0
}  // namespace halfway

// NOLINTEND(misc-definitions-in-headers)
