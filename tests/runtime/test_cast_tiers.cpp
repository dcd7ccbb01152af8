// The kernels of every instruction set that this machine has: the same bits and the same counts from all of them, and
// which of them is used.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arrays.h"
#include "cast/environment.h"
#include "cast/tiers.h"
#include "halfway/cast.h"
#include "reference.h"
#include "rounds.h"
#include "scenario.h"
#include "under_test.h"

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::DType;
using halfway::Overflow;
using halfway::Report;
using halfway::detail::active_kernels;
using halfway::detail::active_tier;
using halfway::detail::available_tiers;
using halfway::detail::set_active_tier;
using under_test::Guarded;
using under_test::InTier;

namespace {

constexpr Overflow every_overflow[] = {Overflow::by_format, Overflow::saturate};

struct Outcome {
  std::vector<std::byte> elements;
  Report report;
  bool intact = true;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::string to_string(const Report& report) {
  return std::to_string(report.count) + " elements, " + std::to_string(report.nan) + " NaN, " +
         std::to_string(report.overflow) + " overflow, " + std::to_string(report.underflow) + " underflow, " +
         std::to_string(report.inexact) + " inexact";
}

Outcome cast_of(const halfway::TensorView& source, DType to, Overflow overflow, bool counts,
                std::size_t misalignment = 0) {
  const auto count = static_cast<std::size_t>(
      arrays::element_count(std::vector<std::int64_t>(source.shape.begin(), source.shape.end())));
  std::vector<std::int64_t> strides(source.shape.size());
  std::int64_t running = 1;
  for (std::size_t i = strides.size(); i-- > 0; running *= source.shape[i]) strides[i] = running;
  const std::size_t bytes = count * halfway::item_size(to);
  Guarded destination(bytes, misalignment);
  Outcome outcome;
  halfway::cast_into(source, {.data = destination.data(), .dtype = to, .shape = source.shape, .strides = strides},
                     {.casting = Casting::unsafe, .overflow = overflow, .report = counts ? &outcome.report : nullptr});
  outcome.elements.assign(destination.data(), destination.data() + bytes);
  outcome.intact = destination.is_intact();
  return outcome;
}

// The same from every tier, in both overflow modes, counted and not. Returns how many outcomes were compared.
int compare_tiers(const halfway::TensorView& source, DType to, std::size_t misalignment, const std::string& what) {
  int compared = 0;
  for (const Overflow overflow : every_overflow) {
    std::optional<Outcome> first;
    std::optional<Report> first_report;
    for (const std::string_view tier : available_tiers()) {
      const InTier in(tier);
      for (const bool counts : {false, true}) {
        Outcome outcome = cast_of(source, to, overflow, counts, misalignment);
        const Report report = outcome.report;
        outcome.report = {};
        if (!outcome.intact) BOOST_ERROR(what << " to " << to_string(to) << ", " << tier << " writes beyond the end");
        if (!first) first = outcome;
        if (outcome.elements != first->elements) {
          BOOST_ERROR(what << " to " << to_string(to) << ", " << to_string(overflow) << (counts ? ", counted" : "")
                           << ": " << tier << " gives other elements than the first tier");
        }
        if (counts) {
          if (!first_report) first_report = report;
          if (!(report == *first_report)) {
            BOOST_ERROR(what << " to " << to_string(to) << ", " << to_string(overflow) << ": " << tier << " reports "
                             << to_string(report) << ", the first tier " << to_string(*first_report));
          }
        }
        ++compared;
      }
    }
  }
  return compared;
}

// --- numbers that are difficult to round

std::uint64_t pattern_of(DType from, double value) {
  return from == halfway::float32 ? std::bit_cast<std::uint32_t>(static_cast<float>(value))
                                  : std::bit_cast<std::uint64_t>(value);
}

double to_double(const reference::Number& number) {
  return std::ldexp(static_cast<double>(number.significand), number.exponent);
}

double next(DType from, double value, double towards) {
  if (from == halfway::float32) return std::nextafter(static_cast<float>(value), static_cast<float>(towards));
  return std::nextafter(value, towards);
}

// All that values_of() has, and of wide floats also the numbers of fp8 and their midpoints with their neighbours; of
// wide integers the powers of two with theirs.
Array values_of(DType from, std::int64_t wide_count) {
  const Array some = arrays::values_of(from, wide_count);
  std::vector<std::uint64_t> more;
  if (from == halfway::float32 || from == halfway::float64) {
    for (const reference::Format& format : reference::formats()) {
      if (!format.is_float() || format.bits() != 8) continue;
      for (std::uint64_t code = 0; code <= format.largest() + 1; ++code) {
        for (const double x : {to_double(value_of(format, code)), to_double(midpoint(format, code))}) {
          for (const double sign : {1.0, -1.0}) {
            more.push_back(pattern_of(from, sign * x));
            more.push_back(pattern_of(from, sign * next(from, x, HUGE_VAL)));
            more.push_back(pattern_of(from, sign * next(from, x, 0)));
          }
        }
      }
    }
  } else if (reference::format(reference::component(from)).style == reference::Style::integer && from.bits > 16) {
    for (int bit = 0; bit < from.bits; ++bit) {
      const std::uint64_t power = std::uint64_t{1} << bit;
      for (const std::uint64_t x : {power - 1, power, power + 1}) more.insert(more.end(), {x, 0 - x});
    }
  }
  if (more.empty()) return some;
  Array all = arrays::contiguous(from, {some.count() + static_cast<std::int64_t>(more.size())});
  std::copy(some.memory.begin(), some.memory.end(), all.memory.begin());
  const std::uint64_t mask = ~std::uint64_t{0} >> (64 - from.bits);
  for (std::size_t i = 0; i < more.size(); ++i) {
    all.set_patterns(some.count() + static_cast<std::int64_t>(i), {more[i] & mask, 0});
  }
  return all;
}

BOOST_AUTO_TEST_SUITE(cast_tiers)

BOOST_AUTO_TEST_CASE(every_value_of_every_pair_at_once) {
  int compared = 0;
  for (const DType from : arrays::castable_dtypes()) {
    const Array source = values_of(from, 5000);
    for (const DType to : arrays::castable_dtypes()) {
      compared += compare_tiers(source.view(), to, 0, to_string(from));
    }
  }
  BOOST_TEST(compared == 24 * 24 * 4 * static_cast<int>(available_tiers().size()));
}

// What is left over when a loop has done whole vectors, at addresses that are no multiple of anything.
BOOST_AUTO_TEST_CASE(every_pair_in_arrays_of_few_elements) {
  for (const DType from : arrays::castable_dtypes()) {
    const Array all = values_of(from, 3000);
    const std::size_t size = all.size();
    std::size_t begin = 0;
    for (std::int64_t n = 1; n <= 70; n += rounds::are_watched ? 5 : 1) {
      // Others each time; of the narrow dtypes nearly all come by.
      const std::size_t bytes = static_cast<std::size_t>(n) * size;
      if (begin + bytes > all.memory.size()) begin = 0;
      const auto misalignment = static_cast<std::size_t>(n % 9);
      std::vector<std::byte> memory(bytes + misalignment);
      std::memcpy(memory.data() + misalignment, all.memory.data() + begin, bytes);
      begin += bytes;
      const std::int64_t shape[] = {n};
      const std::int64_t strides[] = {1};
      const halfway::TensorView source{
          .data = memory.data() + misalignment, .dtype = from, .shape = shape, .strides = strides};
      for (const DType to : arrays::castable_dtypes()) {
        compare_tiers(source, to, static_cast<std::size_t>(n % 7), std::to_string(n) + " of " + to_string(from));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(strided_and_swapped_sources) {
  Random random(20);
  int compared = 0;
  int swapped = 0;
  for (const DType from : arrays::castable_dtypes()) {
    for (int layout = 0; layout < 4; ++layout) {
      Array source = arrays::random_layout(random, from, arrays::random_shape(random, 3000), true);
      arrays::fill_random(random, source);
      swapped += source.swapped ? 1 : 0;
      for (const DType to : arrays::castable_dtypes()) {
        compared += compare_tiers(source.view(), to, random() % 9, arrays::to_string(source));
      }
    }
  }
  BOOST_TEST(compared > 0);
  BOOST_TEST(swapped > 10);
}

// --- counts: what one element says must not depend on the others of its block

// A value with what must become of it.
struct Entry {
  std::uint64_t pattern;
  reference::Image images[2];  // by_format, saturate
};

// The values of a source that are something special for a target, each sort at least once.
class Palette {
 public:
  Palette(DType from, DType to) : from_(from), to_(to) {
    const reference::Format& out = reference::format(to);
    if (!reference::format(from).is_float()) {
      for (const std::int64_t x :
           {0L,   1L,   -1L,    3L,     17L,    127L,   128L,   255L,      257L,       448L,        464L,
            465L, 480L, 57344L, 61439L, 61440L, 65519L, 65520L, 16777217L, -16777219L, 2147483647L, -2147483648L}) {
        add(static_cast<std::uint64_t>(x));
      }
      if (from.bits == 64) {
        // Beyond 2^53, where a double has not all digits; midpoints of float32 and bfloat16 and what is beside them.
        for (const std::uint64_t x :
             {0x20000000000001U, 0x7FFFFFFFFFFFFFFFU, 0x7FFFFFBFFFFFFFFFU, 0x8000000000000000U, 0x8000000000000001U,
              0x4000004000000000U, 0x4000004000000001U, 0x4000003FFFFFFFFFU, 0x4040000000000000U, 0x4040000000000001U,
              0x403FFFFFFFFFFFFFU}) {
          add(x);
          add(0 - x);
        }
      }
      return;
    }
    const double infinity = HUGE_VAL;
    std::vector<double> values{0, 1, 1.5, 0.25, 1.0 / 3, 1 + 0x1p-20, infinity, 1e30, 4e-41};
    if (from == halfway::float64) values.insert(values.end(), {1 + 0x1p-40, 1e300, 5e-324, 3e-310});
    if (out.is_float()) {
      const double smallest = to_double(value_of(out, out.style == reference::Style::power ? 0 : 1));
      const double largest = to_double(value_of(out, out.largest()));
      const double limit = to_double(midpoint(out, out.largest()));
      values.insert(values.end(), {smallest, 3 * smallest, 1.5 * smallest, 0.75 * smallest, largest, limit});
      values.insert(values.end(), {smallest / 2, next(from, smallest / 2, infinity), next(from, smallest / 2, 0)});
      values.insert(values.end(), {next(from, limit, infinity), next(from, limit, 0)});
    } else {
      values.insert(values.end(), {0.5, 0.9999, 127.5, 128, 255.5, 256, 2147483647.5, 2147483648, 1e19});
    }
    for (const double x : values) {
      add(pattern_of(from, x));
      add(pattern_of(from, -x));
    }
    add(pattern_of(from, std::numeric_limits<double>::quiet_NaN()));
    add(pattern_of(from, std::numeric_limits<double>::quiet_NaN()) | reference::format(from).sign() | 0x1234);
  }

  [[nodiscard]] DType from() const { return from_; }
  [[nodiscard]] DType to() const { return to_; }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const Entry& operator[](std::size_t i) const { return entries_[i]; }

  // The first entry that `is` true of, without saturation.
  template <class Predicate>
  [[nodiscard]] std::size_t find(Predicate is) const {
    const auto found =
        std::find_if(entries_.begin(), entries_.end(), [&is](const Entry& entry) { return is(entry.images[0]); });
    return static_cast<std::size_t>(found - entries_.begin());
  }
  [[nodiscard]] std::size_t exact() const { return 2; }  // 1
  [[nodiscard]] std::size_t inexact() const {
    return find([](const reference::Image& x) { return x.inexact && !x.underflow; });
  }

  // Casts entries, given by index, with every tier, counting and not, and compares elements and counts with the
  // reference.
  void check(const std::vector<std::size_t>& block, const std::string& what) const {
    Array source = arrays::contiguous(from_, {static_cast<std::int64_t>(block.size())});
    for (std::size_t i = 0; i < block.size(); ++i) {
      std::memcpy(source.memory.data() + i * source.size(), &entries_[block[i]].pattern, source.size());
    }
    for (const Overflow overflow : every_overflow) {
      Outcome expected;
      const std::size_t size = halfway::item_size(to_);
      expected.elements.resize(block.size() * size);
      for (std::size_t i = 0; i < block.size(); ++i) {
        const reference::Image& image = entries_[block[i]].images[overflow == Overflow::saturate ? 1 : 0];
        std::memcpy(expected.elements.data() + i * size, &image.pattern, size);
        expected.report += image;
      }
      for (const std::string_view tier : available_tiers()) {
        const InTier in(tier);
        const Outcome found = cast_of(source.view(), to_, overflow, true);
        if (cast_of(source.view(), to_, overflow, false).elements != expected.elements) {
          BOOST_ERROR(to_string(from_) << " to " << to_string(to_) << ", " << to_string(overflow) << ", " << tier
                                       << ", " << what << ": other elements when nothing is counted");
        }
        if (!(found == expected)) {
          BOOST_ERROR(to_string(from_) << " to " << to_string(to_) << ", " << to_string(overflow) << ", " << tier
                                       << ", " << what << ": " << to_string(found.report) << ", not "
                                       << to_string(expected.report)
                                       << (found.elements == expected.elements ? "" : "; other elements"));
        }
      }
    }
  }

 private:
  void add(std::uint64_t pattern) {
    pattern &= ~std::uint64_t{0} >> (64 - from_.bits);
    Entry entry{.pattern = pattern, .images = {}};
    for (const Overflow overflow : every_overflow) {
      entry.images[overflow == Overflow::saturate ? 1 : 0] =
          reference::convert_element({pattern, 0}, from_, to_, overflow).lost;
    }
    entries_.push_back(entry);
  }

  DType from_;
  DType to_;
  std::vector<Entry> entries_;
};

// Sources that are counted in each of the wide types, targets of every kind.
std::vector<Palette> palettes() {
  std::vector<Palette> all;
  for (const DType from : {halfway::float32, halfway::float64, halfway::int32, halfway::int64}) {
    for (const reference::Format& out : reference::formats()) {
      const bool worthwhile = out.is_float() || out.dtype == halfway::int8 || out.dtype == halfway::int32 ||
                              out.dtype == halfway::uint64 || out.style == reference::Style::boolean;
      if (worthwhile && out.dtype != from) all.emplace_back(from, out.dtype);
    }
  }
  return all;
}

std::string named(const Palette& palette, std::size_t entry) {
  const reference::Format& format = reference::format(palette.from());
  return to_string(reference::decode(format, palette[entry].pattern));
}

BOOST_AUTO_TEST_CASE(the_palettes_have_every_sort) {
  for (const Palette& palette : palettes()) {
    if (!reference::format(palette.from()).is_float() || !reference::format(palette.to()).is_float()) continue;
    if (palette.from() == halfway::float32 && palette.to() == halfway::float64) continue;  // nothing is lost
    BOOST_TEST_CONTEXT(to_string(palette.from()) << " to " << to_string(palette.to())) {
      BOOST_TEST(palette.find([](const reference::Image& x) { return x.nan; }) < palette.size());
      BOOST_TEST(palette.find([](const reference::Image& x) { return x.overflow; }) < palette.size());
      BOOST_TEST(palette.inexact() < palette.size());
      const bool has_zero = reference::format(palette.to()).style != reference::Style::power;
      BOOST_TEST((palette.find([](const reference::Image& x) { return x.underflow; }) < palette.size()) == has_zero);
    }
  }
}

BOOST_AUTO_TEST_CASE(blocks_of_one_value) {
  for (const Palette& palette : palettes()) {
    for (std::size_t entry = 0; entry < palette.size(); entry += rounds::are_watched ? 3 : 1) {
      for (const std::size_t n : {1U, 95U, 96U, 97U, 127U, 128U, 193U, 1025U, 2049U, 4097U}) {
        palette.check(std::vector<std::size_t>(n, entry), std::to_string(n) + " of " + named(palette, entry));
      }
    }
  }
}

// An infinity among finite values that overflow, a zero among those that underflow, and all other such company.
BOOST_AUTO_TEST_CASE(any_two_values_among_others) {
  for (const Palette& palette : palettes()) {
    std::vector<std::size_t> others{0, palette.exact()};
    if (palette.inexact() < palette.size()) others.push_back(palette.inexact());
    for (const std::size_t other : others) {
      std::vector<std::size_t> block(101, other);
      for (std::size_t first = 0; first < palette.size(); ++first) {
        for (std::size_t second = first; second < palette.size(); second += rounds::are_watched ? 7 : 1) {
          block.front() = first;
          block[97] = second;
          palette.check(block,
                        named(palette, first) + " and " + named(palette, second) + " among " + named(palette, other));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(one_value_at_every_place) {
  for (const Palette& palette : palettes()) {
    const auto sorts = {palette.find([](const reference::Image& x) { return x.nan; }),
                        palette.find([](const reference::Image& x) { return x.overflow; }),
                        palette.find([](const reference::Image& x) { return x.underflow; })};
    for (const std::size_t entry : sorts) {
      if (entry == palette.size()) continue;
      const auto check = [&palette, entry](std::size_t n, std::size_t place) {
        std::vector<std::size_t> block(n, palette.exact());
        block[place] = entry;
        palette.check(block, named(palette, entry) + " at " + std::to_string(place) + " of " + std::to_string(n));
      };
      for (std::size_t place = 0; place < 200; place += rounds::are_watched ? 9 : 1) check(200, place);
      for (const std::size_t border : {96U, 128U, 512U, 1024U, 2048U, 3072U, 4096U}) {
        for (std::size_t place = border - 2; place < border + 2; ++place) check(4200, place);
      }
      check(4200, 4199);
    }
  }
}

BOOST_AUTO_TEST_CASE(random_blocks) {
  Random random(21);
  constexpr std::size_t borders[] = {96, 128, 192, 256, 1024, 2048, 4096};
  for (const Palette& palette : palettes()) {
    for (int trial = 0; trial < 40; ++trial) {
      const std::size_t n =
          random() % 2 == 0 ? 1 + random() % 300 : borders[random() % std::size(borders)] - 2 + random() % 5;
      // Few values, so that whole blocks are free of something.
      std::vector<std::size_t> some(1 + random() % 4);
      for (std::size_t& entry : some) entry = random() % palette.size();
      const std::uint64_t rare = 1 + random() % 400;
      std::vector<std::size_t> block(n);
      for (std::size_t& entry : block) entry = random() % rare == 0 ? some[random() % some.size()] : some[0];
      palette.check(block, "trial " + std::to_string(trial));
    }
  }
}

// --- the tables themselves

BOOST_AUTO_TEST_CASE(every_tier_has_every_dtype) {
  for (const std::string_view tier : available_tiers()) {
    const InTier in(tier);
    BOOST_TEST(active_tier() == tier);
    BOOST_TEST(active_kernels().name == tier);
    for (const DType dtype : arrays::castable_dtypes()) {
      const halfway::detail::DTypeKernels* const row = active_kernels().find(dtype);
      BOOST_TEST_REQUIRE(row != nullptr);
      BOOST_TEST((row->dtype == reference::component(dtype)));
    }
  }
}

// --- which tier is used

#if defined(__x86_64__)
BOOST_AUTO_TEST_CASE(tiers_are_those_of_the_processor) {
  const auto tiers = available_tiers();
  BOOST_TEST_REQUIRE(!tiers.empty());
  constexpr std::string_view order[] = {"baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
  BOOST_TEST(std::equal(tiers.begin(), tiers.end(), order, order + tiers.size()));
#if defined(__GNUC__) && !defined(__clang__)
  // The compiler's library looks for itself.
  std::size_t levels = 1;
  if (__builtin_cpu_supports("x86-64-v2") != 0) levels = 2;
  if (__builtin_cpu_supports("x86-64-v3") != 0) levels = 3;
  if (__builtin_cpu_supports("x86-64-v4") != 0) levels = 4;
  BOOST_TEST(tiers.size() == levels);
#endif
}
#endif

BOOST_AUTO_TEST_CASE(tiers_are_set_by_name) {
  const std::string_view chosen = active_tier();
  for (const std::string_view tier : available_tiers()) {
    BOOST_TEST(set_active_tier(tier));
    BOOST_TEST(active_tier() == tier);
    BOOST_TEST(!set_active_tier("nonsense"));
    BOOST_TEST(active_tier() == tier);
  }
  BOOST_TEST(set_active_tier({}));
  BOOST_TEST(active_tier() == chosen);
}

// A cast to another dtype, and one to its own.
void cast_something() {
  const Array source = arrays::contiguous(halfway::float64, {100});
  (void)halfway::cast(source.view(), halfway::float16);
  (void)halfway::cast(source.view(), halfway::float64);
}

std::string wanted_tier() {
  const char* const wanted = std::getenv("HALFWAY_TIER");  // NOLINT(concurrency-mt-unsafe): no other thread
  return wanted != nullptr ? wanted : "";
}

int tier_is_honoured() {
  const std::string wanted = wanted_tier();
  const std::string_view expected = wanted.empty() ? available_tiers().back() : std::string_view(wanted);
  if (active_tier() != expected) return 1;
  cast_something();
  return active_tier() == expected && active_kernels().name == expected ? 0 : 2;
}

int tier_is_refused() {
  if (!active_tier().empty()) return 1;
  for (int use = 0; use < 2; ++use) {
    try {
      cast_something();
      return 2;
    } catch (const halfway::Error& error) {
      if (error.reason() != halfway::Reason::unavailable) return 3;
      const std::string_view text = error.what();
      if (text.find("HALFWAY_TIER=" + wanted_tier()) == std::string_view::npos) return 4;
      for (const std::string_view tier : available_tiers()) {
        if (error.hint().find(tier) == std::string::npos) return 5;
      }
    }
  }
  // The level is asked before the tier, and nothing needs one where there is no element.
  const Array nothing = arrays::contiguous(halfway::float64, {0});
  (void)halfway::cast(nothing.view(), halfway::float16);
  if (!set_active_tier(available_tiers().front())) return 6;
  cast_something();
  return 0;
}

struct Scenario {
  Scenario() { scenario::run_if_asked({{"honoured", tier_is_honoured}, {"refused", tier_is_refused}}); }
};
BOOST_TEST_GLOBAL_FIXTURE(Scenario);

BOOST_AUTO_TEST_CASE(the_environment_names_a_tier) {
  BOOST_TEST(scenario::run("honoured", {{"HALFWAY_TIER", std::nullopt}}) == 0);
  BOOST_TEST(scenario::run("honoured", {{"HALFWAY_TIER", ""}}) == 0);
  for (const std::string_view tier : available_tiers()) {
    BOOST_TEST_CONTEXT(tier) BOOST_TEST(scenario::run("honoured", {{"HALFWAY_TIER", std::string(tier)}}) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_tier_that_is_not_there_is_refused) {
  std::vector<std::string> names{"nonsense", "BASELINE", "baseline ", " ", "x86-64-v5"};
  for (const std::string_view tier : {"baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4", "neon"}) {
    const auto here = available_tiers();
    if (std::find(here.begin(), here.end(), tier) == here.end()) names.emplace_back(tier);
  }
  for (const std::string& name : names) {
    BOOST_TEST_CONTEXT(name) BOOST_TEST(scenario::run("refused", {{"HALFWAY_TIER", name}}) == 0);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
