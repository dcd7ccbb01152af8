// float64 where its casts are decided: at and around the values and midpoints of every target.
#include <algorithm>
#include <bit>
#include <cmath>

#include "sweep.h"

namespace sweep {
namespace {

const Format& float64() {
  static const Format& format = oracle::format(halfway::float64);
  return format;
}

// Doubles around `codes` consecutive magnitudes of `to`, one past the largest finite included.
void check_codes(const Format& to, std::uint64_t first, std::uint64_t codes, int around, Checker& checker) {
  std::vector<std::uint64_t> doubles;
  const std::uint64_t end = std::min(first + codes, to.largest + 2);
  for (std::uint64_t code = first; code < end; ++code) append_doubles_around(to, code, around, doubles);
  if (!doubles.empty()) checker.check_patterns(float64(), doubles, to);
}

// Halves and their neighbours around a power of two, which is where integer types end.
void check_border(std::uint64_t exponent, Checker& checker) {
  std::vector<std::uint64_t> doubles;
  const double power = std::ldexp(1.0, static_cast<int>(exponent));
  for (int step = -256; step <= 256; ++step) {
    const double value = power + step * 0.5;
    for (int ulp = -2; ulp <= 2; ++ulp) {
      const auto pattern = static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(std::fabs(value))) + ulp;
      if (pattern < 0) continue;
      doubles.push_back(static_cast<std::uint64_t>(pattern));
      doubles.push_back(static_cast<std::uint64_t>(pattern) | float64().sign());
    }
    const auto near = static_cast<std::uint64_t>(static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(power)) + step);
    doubles.push_back(near);
    doubles.push_back(near | float64().sign());
  }
  for (const Format& to : oracle::formats) {
    if (!to.is_float()) checker.check_patterns(float64(), doubles, to);
  }
}

// Any exponent, and mantissas that are random, or nearly all zeros or ones.
void check_random(std::uint64_t seed, Checker& checker) {
  constexpr std::uint64_t fraction = (std::uint64_t{1} << 52) - 1;
  std::vector<std::uint64_t> doubles(std::size_t{1} << 13);
  for (std::size_t i = 0; i < doubles.size(); ++i) {
    const std::uint64_t random = mix(seed, i);
    const std::uint64_t choice = mix(random, 1);
    const std::uint64_t few = random & fraction & ~(fraction >> (choice >> 8) % 53);
    // Three of four within the range of float32.
    const std::uint64_t field = choice % 4 == 0 ? random >> 52 & 0x7FF : 1023 - 160 + (random >> 52 & 0x7FF) % 300;
    const std::uint64_t kept = choice >> 2 & 1 ? random & fraction : choice >> 3 & 1 ? few : few ^ fraction;
    doubles[i] = (choice >> 63 << 63) | field << 52 | kept;
  }
  for (const Format& to : oracle::formats) checker.check_patterns(float64(), doubles, to);
}

}  // namespace

void add_float64_sweeps(std::vector<Sweep>& sweeps) {
  static const Format& float32 = oracle::format(halfway::float32);
  for (const Format& to : oracle::formats) {
    if (!to.is_float() || to.bits() > 16) continue;
    constexpr std::uint64_t codes = 512;
    sweeps.push_back({.name = "float64-" + std::string(to.name),
                      .chunks = (to.largest + 2 + codes - 1) / codes,
                      .run = [&to](std::uint64_t chunk, std::uint64_t, Checker& checker) {
                        check_codes(to, chunk * codes, codes, 3, checker);
                      }});
  }
  // One block of 64, another one with every seed: all of them are 6 * 10^10 doubles.
  constexpr std::uint64_t codes = std::uint64_t{1} << 12;
  constexpr std::uint64_t one_of = 64;
  sweeps.push_back({.name = "float64-float32",
                    .chunks = (std::uint64_t{1} << 31) / codes / one_of,
                    .run = [](std::uint64_t chunk, std::uint64_t seed, Checker& checker) {
                      const std::uint64_t block = chunk * one_of + mix(seed, chunk) % one_of;
                      check_codes(float32, block * codes, codes, 3, checker);
                    }});
  sweeps.push_back({.name = "float64-integers",
                    .chunks = 67,
                    .run = [](std::uint64_t chunk, std::uint64_t, Checker& checker) { check_border(chunk, checker); }});
  sweeps.push_back(
      {.name = "float64-random", .chunks = 1024, .run = [](std::uint64_t chunk, std::uint64_t seed, Checker& checker) {
         check_random(mix(seed, chunk), checker);
       }});
}

}  // namespace sweep
