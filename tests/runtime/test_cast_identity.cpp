// A value is cast to the same bits wherever it stands: alone or in an array of any length, in any tail, at any
// alignment, by any number of threads, in any floating-point mode, with the loops of any instruction set. The oracle is
// the value cast alone.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "arrays.h"
#include "cast/pass.h"
#include "halfway/cast.h"
#include "halfway/parallel.h"
#include "under_test.h"
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::Overflow;
using halfway::Report;
using halfway::TensorView;
using halfway::detail::useful_threads;
using under_test::InTier;
using under_test::next_tier;

namespace {

// The numbers of threads that must not show. Restores the default.
class ThreadCounts {
 public:
  static constexpr std::array<int, 3> all{1, 2, 7};
  static void set(int n) { halfway::set_num_threads(n); }
  ThreadCounts() = default;
  ThreadCounts(const ThreadCounts&) = delete;
  ThreadCounts& operator=(const ThreadCounts&) = delete;
  ~ThreadCounts() { halfway::set_num_threads(before_); }

 private:
  int before_ = halfway::num_threads();
};

struct Pair {
  DType from;
  DType to;
};

// Pairs that are likely to have loops of their own, and some that are not.
const std::vector<Pair>& hot_pairs() {
  namespace h = halfway;
  static const std::vector<Pair> all{{h::float32, h::bfloat16},      {h::float32, h::float16},
                                     {h::float32, h::float8_e4m3fn}, {h::float32, h::float64},
                                     {h::float64, h::bfloat16},      {h::float64, h::float16},
                                     {h::float64, h::float32},       {h::float16, h::float32},
                                     {h::bfloat16, h::float32},      {h::bfloat16, h::float16},
                                     {h::uint8, h::float32},         {h::uint8, h::bfloat16},
                                     {h::int64, h::float32},         {h::int64, h::int32},
                                     {h::int32, h::int64},           {h::uint8, h::float16},
                                     {h::int64, h::float16},         {h::int64, h::bfloat16},
                                     {h::float16, h::bfloat16},      {h::float32, h::float8_e5m2},
                                     {h::float8_e4m3fn, h::float32}, {h::float8_e4m3fn, h::bfloat16},
                                     {h::float8_e5m2, h::bfloat16},  {h::boolean, h::float32},
                                     {h::float8_e5m2, h::float32},   {h::float32, h::float8_e8m0fnu},
                                     {h::float32, h::int16},         {h::uint64, h::float16},
                                     {h::complex64, h::complex32},   {h::complex128, h::float32},
                                     {h::float32, h::complex64},     {h::bfloat16, h::bfloat16}};
  return all;
}

std::vector<Pair> all_pairs() {
  std::vector<Pair> all;
  for (const DType from : arrays::castable_dtypes()) {
    for (const DType to : arrays::castable_dtypes()) all.push_back({from, to});
  }
  return all;
}

Report sum(const Report& a, const Report& b) {
  return {a.count + b.count, a.nan + b.nan, a.overflow + b.overflow, a.underflow + b.underflow, a.inexact + b.inexact};
}

// Values of a pair, each cast alone. Arrays are made of them by repeating.
class Alone {
 public:
  // A prime: the same value comes to every place of a vector or block.
  static constexpr std::size_t period = 521;

  Alone(Random& random, const Pair& pair, Overflow overflow) : pair_(pair), overflow_(overflow) {
    Array values = arrays::contiguous(pair.from, {static_cast<std::int64_t>(period)});
    arrays::fill_random(random, values);
    values_ = std::move(values.memory);
    images_.resize(period * to_size());
    sums_.resize(period + 1);
    for (std::size_t i = 0; i < period; ++i) {
      Report report;
      cast(values_.data() + i * from_size(), images_.data() + i * to_size(), 1, &report);
      sums_[i + 1] = sum(sums_[i], report);
    }
  }

  [[nodiscard]] std::size_t from_size() const { return halfway::item_size(pair_.from); }
  [[nodiscard]] std::size_t to_size() const { return halfway::item_size(pair_.to); }
  [[nodiscard]] std::vector<std::byte> sources(std::size_t n) const { return repeated(values_, n * from_size()); }
  [[nodiscard]] std::vector<std::byte> images(std::size_t n) const { return repeated(images_, n * to_size()); }

  // Of the first `n` elements of sources().
  [[nodiscard]] Report report(std::size_t n) const {
    Report total = sums_[n % period];
    const Report& whole = sums_[period];
    const std::uint64_t times = n / period;
    return sum(total, {times * whole.count, times * whole.nan, times * whole.overflow, times * whole.underflow,
                       times * whole.inexact});
  }

  void cast(const std::byte* source, std::byte* destination, std::size_t n, Report* report) const {
    const std::array<std::int64_t, 1> shape{static_cast<std::int64_t>(n)};
    const std::array<std::int64_t, 1> strides{1};
    halfway::cast_into(TensorView{.data = source, .dtype = pair_.from, .shape = shape, .strides = strides},
                       MutableView{.data = destination, .dtype = pair_.to, .shape = shape, .strides = strides},
                       {.casting = Casting::unsafe, .overflow = overflow_, .report = report});
  }

  [[nodiscard]] std::string name() const {
    return to_string(pair_.from) + " to " + to_string(pair_.to) + " overflow " + std::string(to_string(overflow_));
  }

 private:
  static std::vector<std::byte> repeated(const std::vector<std::byte>& pattern, std::size_t bytes) {
    std::vector<std::byte> all(bytes);
    for (std::size_t done = 0; done < bytes; done += pattern.size()) {
      std::memcpy(all.data() + done, pattern.data(), std::min(pattern.size(), bytes - done));
    }
    return all;
  }

  Pair pair_;
  Overflow overflow_;
  std::vector<std::byte> values_;
  std::vector<std::byte> images_;
  std::vector<Report> sums_;  // of the first i values
};

Overflow either(Random& random) { return random() % 2 == 0 ? Overflow::by_format : Overflow::saturate; }

// Memory at a chosen distance from a cache line, with bytes before and after it that nobody may touch.
class Guarded {
 public:
  static constexpr std::size_t margin = 128;

  explicit Guarded(std::size_t most) : memory_(most + 2 * margin + 2 * line) {}

  std::byte* place(std::size_t offset, std::size_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    const std::size_t start = (line - address % line) % line + margin + offset;
    std::fill(memory_.begin() + static_cast<std::ptrdiff_t>(start - margin),
              memory_.begin() + static_cast<std::ptrdiff_t>(start + bytes + margin), guard);
    begin_ = memory_.data() + start;
    end_ = begin_ + bytes;
    return begin_;
  }

  [[nodiscard]] bool intact() const {
    const auto is_guard = [](std::byte b) { return b == guard; };
    return std::all_of(begin_ - margin, begin_, is_guard) && std::all_of(end_, end_ + margin, is_guard);
  }

 private:
  static constexpr std::size_t line = 64;
  static constexpr std::byte guard{0xC3};

  std::vector<std::byte> memory_;
  std::byte* begin_ = nullptr;
  std::byte* end_ = nullptr;
};

// `n` elements from and to places at these distances from a cache line, with and without a report.
class Trial {
 public:
  Trial(const Alone& alone, std::size_t most)
      : alone_(alone),
        source_(alone.sources(most)),
        images_(alone.images(most)),
        in_(source_.size()),
        out_(images_.size()) {}

  // Describes the first failure. False from then on.
  bool run(std::size_t n, std::size_t source_offset, std::size_t destination_offset) {
    if (failed_) return false;
    const std::size_t bytes = n * alone_.to_size();
    std::byte* const source = in_.place(source_offset, n * alone_.from_size());
    std::copy_n(source_.data(), n * alone_.from_size(), source);
    const Report expected = alone_.report(n);
    for (const bool counted : {true, false}) {
      Report report;
      std::byte* const destination = out_.place(destination_offset, bytes);
      alone_.cast(source, destination, n, counted ? &report : nullptr);
      const bool same = bytes == 0 || std::memcmp(destination, images_.data(), bytes) == 0;
      if (!same || !out_.intact() || !in_.intact() || (counted && report != expected)) {
        BOOST_ERROR(alone_.name() << ", " << n << " elements, " << source_offset << " and " << destination_offset
                                  << " bytes from a cache line, counted " << counted << ": bits " << same
                                  << ", memory around intact " << (out_.intact() && in_.intact()) << ", report "
                                  << (!counted || report == expected));
        failed_ = true;
      }
    }
    return !failed_;
  }

 private:
  const Alone& alone_;
  std::vector<std::byte> source_;
  std::vector<std::byte> images_;
  Guarded in_;
  Guarded out_;
  bool failed_ = false;
};

std::vector<std::size_t> tail_lengths() {
  std::vector<std::size_t> lengths(131);
  std::iota(lengths.begin(), lengths.end(), 0);
  for (const std::size_t block : {512U, 4096U}) {
    for (std::size_t n = block - 3; n <= block + 3; ++n) lengths.push_back(n);
  }
  return lengths;
}

#if defined(__SSE__)
// Flushes subnormal results to zero and reads subnormal operands as zero for as long as it lives.
class Flushing {
 public:
  Flushing() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040U); }
  ~Flushing() { _mm_setcsr(before_); }
  Flushing(const Flushing&) = delete;
  Flushing& operator=(const Flushing&) = delete;

 private:
  unsigned before_;
};
#endif

}  // namespace

BOOST_AUTO_TEST_SUITE(cast_identity)

BOOST_AUTO_TEST_CASE(any_tail) {
  Random random(31);
  const std::vector<std::size_t> lengths = tail_lengths();
  for (const Pair& pair : all_pairs()) {
    const InTier in(next_tier());
    const Alone alone(random, pair, either(random));
    Trial trial(alone, lengths.back());
    bool same = true;
    for (const std::size_t n : lengths) same = trial.run(n, 0, 0) && same;
    BOOST_TEST(same);
  }
}

BOOST_AUTO_TEST_CASE(any_alignment) {
  Random random(32);
  for (const Pair& pair : all_pairs()) {
    const InTier in(next_tier());
    const Alone alone(random, pair, either(random));
    Trial trial(alone, 150);
    bool same = true;
    for (std::size_t offset = 0; offset < 64; ++offset) {
      same = trial.run(67 + offset, offset, random() % 64) && same;
      same = trial.run(131 - offset, random() % 64, offset) && same;
    }
    BOOST_TEST(same);
  }
}

BOOST_AUTO_TEST_CASE(every_pair_of_alignments_where_loops_are_special) {
  Random random(33);
  for (const Pair& pair : hot_pairs()) {
    const InTier in(next_tier());
    const Alone alone(random, pair, either(random));
    Trial trial(alone, 80);
    bool same = true;
    for (std::size_t places = 0; places < 64 * std::size_t{64}; ++places) {
      same = trial.run(80, places / 64, places % 64) && same;
    }
    BOOST_TEST(same);
  }
}

BOOST_AUTO_TEST_CASE(any_number_of_threads, *boost::unit_test::label("threads")) {
  // Long enough for threads to be worth while, ending in the middle of everything.
  constexpr std::size_t n = (std::size_t{1} << 20) + 12345;
  constexpr std::size_t shorter = 100000;
  Random random(34);
  [[maybe_unused]] const ThreadCounts counts;
  for (const Pair& pair : hot_pairs()) {
    const InTier in(next_tier());
    const Alone alone(random, pair, either(random));
    Trial trial(alone, n);
    for (const int threads : ThreadCounts::all) {
      ThreadCounts::set(threads);
      BOOST_TEST_REQUIRE(useful_threads((n - shorter) * (alone.from_size() + alone.to_size())) >= threads);
      BOOST_TEST(trial.run(n, 0, 0));
      BOOST_TEST(trial.run(n - random() % shorter, random() % 64, random() % 64));
#if defined(__SSE__)
      const Flushing flushing;
      BOOST_TEST(trial.run(n, 0, 0));
#endif
    }
  }
}

#if defined(__SSE__)
BOOST_AUTO_TEST_CASE(subnormal_numbers_whatever_the_mode) {
  Random random(35);
  for (const Pair& pair : all_pairs()) {
    const InTier in(next_tier());
    const Alone alone(random, pair, either(random));
    Trial trial(alone, 1100);
    const Flushing flushing;
    for (const std::size_t n : {1U, 2U, 15U, 67U, 1100U}) BOOST_TEST(trial.run(n, 0, 0));
  }
}
#endif

BOOST_AUTO_TEST_CASE(any_cut_of_an_array) {
  Random random(36);
  constexpr std::size_t n = 3000;
  for (const Pair& pair : all_pairs()) {
    const InTier in(next_tier());
    const Alone alone(random, pair, either(random));
    const std::vector<std::byte> source = alone.sources(n);
    std::vector<std::byte> pieces(n * alone.to_size());
    Report total;
    for (std::size_t done = 0; done < n;) {
      const std::size_t some = std::min<std::size_t>(n - done, random() % (random() % 2 == 0 ? 8 : 700));
      Report report;
      alone.cast(source.data() + done * alone.from_size(), pieces.data() + done * alone.to_size(), some, &report);
      total = sum(total, report);
      done += some;
    }
    BOOST_TEST((pieces == alone.images(n)), alone.name());
    BOOST_TEST((total == alone.report(n)), alone.name());
  }
}

namespace {

// Where the elements of a source lie, while its axes stay what they are.
enum class Order { rows, columns, backwards, sliced };

// A large array of int32 with ones everywhere.
Array large(Order order) {
  constexpr std::int64_t rows = 1031;
  constexpr std::int64_t columns = 1117;
  Array array;
  array.dtype = halfway::int32;
  array.shape = {rows, columns};
  switch (order) {
    case Order::rows:
      array.whole_strides = {columns, 1};
      break;
    case Order::columns:
      array.whole_strides = {1, rows};
      break;
    case Order::backwards:
      array.whole_strides = {-columns, -1};
      array.first = (rows * columns - 1) * 4;
      break;
    case Order::sliced:
      array.whole_strides = {2, 2 * rows};
      break;
  }
  for (const std::int64_t stride : array.whole_strides) array.strides.push_back(4 * stride);
  array.memory.resize(static_cast<std::size_t>(rows * columns * 8));
  const std::int32_t one = 1;
  for (std::size_t i = 0; i < array.memory.size(); i += 4) std::memcpy(array.memory.data() + i, &one, 4);
  return array;
}

void check_first_loss(const Array& source, const std::set<std::int64_t>& positions, DType to,
                      const CastOptions& wanted) {
  const std::int64_t first = *positions.begin();
  const std::int64_t columns = source.shape[1];
  Report report;
  CastOptions options = wanted;
  options.report = &report;
  Array destination = arrays::contiguous(to, source.shape);
  std::fill(destination.memory.begin(), destination.memory.end(), std::byte{0x5A});
  const std::vector<std::byte> before = destination.memory;
  for (const bool fresh : {true, false}) {
    try {
      if (fresh) {
        (void)halfway::cast(source.view(), to, options);
      } else {
        halfway::cast_into(source.view(), destination.mutable_view(), options);
      }
      BOOST_ERROR("a loss went unnoticed, casting " << to_string(options.casting));
    } catch (const halfway::CastError& error) {
      BOOST_TEST(error.index() == (std::vector<std::int64_t>{first / columns, first % columns}),
                 boost::test_tools::per_element());
      BOOST_TEST(std::strtod(error.value().c_str(), nullptr) == static_cast<double>(source.patterns(first).real));
      BOOST_TEST((error.report() == report));
      BOOST_TEST(report.count == static_cast<std::uint64_t>(source.count()));
      BOOST_TEST(report.overflow == positions.size());
      BOOST_TEST((destination.memory == before));
    }
  }
}

}  // namespace

// With many losses, many threads and any layout, the first one in C order of the source's axes is named.
BOOST_AUTO_TEST_CASE(the_first_loss_of_a_large_array, *boost::unit_test::label("threads")) {
  Random random(37);
  [[maybe_unused]] const ThreadCounts counts;
  for (const Order order : {Order::rows, Order::columns, Order::backwards, Order::sliced}) {
    Array source = large(order);
    const auto n = static_cast<std::uint64_t>(source.count());
    for (const std::uint64_t losses : {1U, 2U, 40U, 40U}) {
      std::set<std::int64_t> positions;
      while (positions.size() < losses) {
        // Anywhere, or all in the last tenth: then also the last thread's.
        const std::uint64_t low = losses == 2 ? n - n / 10 : 0;
        positions.insert(static_cast<std::int64_t>(low + random() % (n - low)));
      }
      if (losses == 1) positions = {source.count() - 1};
      // Every loss has a value of its own, beyond int8, int16 and float16, not exact in bfloat16.
      std::uint64_t value = 70001;
      for (const std::int64_t position : positions) source.set_patterns(position, {value += 2, 0});
      for (const int threads : ThreadCounts::all) {
        ThreadCounts::set(threads);
        BOOST_TEST_REQUIRE(useful_threads(n * (4 + 1)) >= threads);  // to int8
        check_first_loss(source, positions, halfway::int8, {.casting = Casting::same_value});
        check_first_loss(source, positions, halfway::float16,
                         {.casting = Casting::unsafe, .overflow = Overflow::raise});
        check_first_loss(source, positions, halfway::uint16,
                         {.casting = Casting::same_value, .overflow = Overflow::saturate});
      }
      for (const std::int64_t position : positions) source.set_patterns(position, {1, 0});
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
