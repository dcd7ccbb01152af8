// Integers of 32 and 64 bits where their casts are decided: around powers of two and around ties.
#include "sweep.h"

namespace sweep {
namespace {

void append(const Format& from, std::uint64_t magnitude, std::vector<std::uint64_t>& patterns) {
  patterns.push_back(magnitude & from.ones());
  patterns.push_back((0 - magnitude) & from.ones());
}

// Everything within 4096 of a power of two, on both sides of zero. Patterns wrap, so that the ends of the type are
// among them.
void check_power(const Format& from, int exponent, Checker& checker) {
  std::vector<std::uint64_t> patterns;
  for (std::uint64_t distance = 0; distance <= 4096; ++distance) {
    append(from, (std::uint64_t{1} << exponent) + distance, patterns);
    append(from, (std::uint64_t{1} << exponent) - distance, patterns);
  }
  for (const Format& to : oracle::formats) checker.check_patterns(from, patterns, to);
}

// Numbers with their highest bit at `exponent` that lie halfway between two of a float format, and their neighbours.
// All ties of a format with few bits; of the others, some.
void check_ties(const Format& from, int exponent, std::uint64_t seed, Checker& checker) {
  std::vector<std::uint64_t> patterns;
  for (const Format& to : oracle::formats) {
    const int unit = exponent - to.mantissa_bits - 1;  // the bit worth half of the last place
    if (!to.is_float() || unit < 0) continue;
    patterns.clear();
    const std::uint64_t ties = std::uint64_t{1} << to.mantissa_bits;
    constexpr std::uint64_t most = 2048;
    for (std::uint64_t i = 0; i < (ties < most ? ties : most); ++i) {
      const std::uint64_t fraction = ties <= most ? i : i < 2 ? (0 - i) & (ties - 1) : mix(seed, i) & (ties - 1);
      const std::uint64_t tie = (std::uint64_t{1} << exponent) + ((2 * fraction + 1) << unit);
      for (std::uint64_t distance = 0; distance <= 3; ++distance) {
        append(from, tie + distance, patterns);
        append(from, tie - distance, patterns);
      }
      if (unit > 2) {
        append(from, tie + (mix(seed, tie) & ((std::uint64_t{1} << unit) - 1)), patterns);
        append(from, tie - (mix(seed, tie) & ((std::uint64_t{1} << unit) - 1)), patterns);
      }
    }
    checker.check_patterns(from, patterns, to);
  }
}

}  // namespace

void add_integer_sweeps(std::vector<Sweep>& sweeps) {
  for (const halfway::DType dtype : {halfway::int32, halfway::uint32, halfway::int64, halfway::uint64}) {
    const Format& from = oracle::format(dtype);
    const auto bits = static_cast<std::uint64_t>(from.bits());
    sweeps.push_back({.name = std::string(from.name) + "-powers",
                      .chunks = bits,
                      .run = [&from](std::uint64_t chunk, std::uint64_t, Checker& checker) {
                        check_power(from, static_cast<int>(chunk), checker);
                      }});
    sweeps.push_back({.name = std::string(from.name) + "-ties",
                      .chunks = bits,
                      .run = [&from](std::uint64_t chunk, std::uint64_t seed, Checker& checker) {
                        check_ties(from, static_cast<int>(chunk), mix(seed, chunk), checker);
                      }});
  }
}

}  // namespace sweep
