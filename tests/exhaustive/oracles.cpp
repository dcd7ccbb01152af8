// The oracles against each other: the fast arithmetic of oracle.h, run by run and one by one, and the search of
// tests/runtime/reference.h.
#include <array>

#include "runtime/reference.h"
#include "sweep.h"

namespace sweep {
namespace {

void compare(const Format& from, std::uint64_t pattern, const Format& to, bool saturate, const oracle::Image& image,
             Checker& checker) {
  const auto [patterns, lost] = reference::convert_element(
      {pattern, 0}, from.dtype, to.dtype, saturate ? halfway::Overflow::saturate : halfway::Overflow::by_format);
  const oracle::Lost flags = (lost.nan ? oracle::saw_nan : 0) | (lost.overflow ? oracle::overflow : 0) |
                             (lost.underflow ? oracle::underflow : 0) | (lost.inexact ? oracle::inexact : 0);
  checker.findings().add_checked(1);
  if (patterns.real == image.pattern && flags == image.lost) return;
  checker.findings().add_mismatches(1);
  checker.findings().describe(std::string(from.name) + " " + hexadecimal(pattern, from.bytes()) + " to " +
                              std::string(to.name) + (saturate ? ", saturate" : "") + ": oracle.h says " +
                              hexadecimal(image.pattern, to.bytes()) + " flags " + std::to_string(image.lost) +
                              ", reference.h " + hexadecimal(patterns.real, to.bytes()) + " flags " +
                              std::to_string(flags));
}

// One by one: every pattern of 8 bits, and a sample of larger ones in which few and many bits are likely.
void compare_patterns(const Format& from, std::uint64_t seed, Checker& checker) {
  const std::size_t n = from.bits() == 8 ? 256 : 2048;
  for (const Format& to : oracle::formats) {
    for (std::uint64_t i = 0; i < n; ++i) {
      std::uint64_t pattern = i;
      if (from.bits() > 8) {
        const std::uint64_t random = mix(seed, i);
        const std::uint64_t low = from.ones() >> (random >> 58) % static_cast<std::uint64_t>(from.bits());
        pattern = mix(random, 0) & from.ones();
        if (random % 4 == 0) pattern &= low;
        if (random % 4 == 1) pattern &= ~low;
        if (random % 4 == 2) pattern |= low;
        if (i < 16) pattern = i % 8 + (i < 8 ? 0 : from.sign()) - 4;  // the ends
        if (i >= 16 && i < 32 && from.is_float()) pattern = from.largest - 4 + i % 8 + (i < 24 ? 0 : from.sign());
        pattern &= from.ones();
      }
      for (const bool saturate : {false, true}) {
        compare(from, pattern, to, saturate, oracle::convert(from, pattern, to, saturate), checker);
      }
    }
  }
}

// The runs with one high half: a pattern here and there, and the counts of all of them.
template <class Out>
void compare_run(std::uint32_t first, std::uint64_t seed, const Format& to, Checker& checker) {
  static const Format& float32 = oracle::format(halfway::float32);
  std::vector<Out> images(oracle::run_length);
  for (const bool saturate : {false, true}) {
    oracle::Counts counts;
    oracle::Counts one_by_one;
    oracle::convert_run(first, to, saturate, images.data(), counts);
    for (std::uint32_t i = 0; i < oracle::run_length; ++i) {
      const oracle::Image image = oracle::convert(float32, first + i, to, saturate);
      one_by_one.add(image.lost);
      checker.findings().add_checked(1);
      if (image.pattern == images[i]) continue;
      checker.findings().add_mismatches(1);
      checker.findings().describe("float32 " + hexadecimal(first + i, 4) + " to " + std::string(to.name) +
                                  ": in a run " + hexadecimal(images[i], sizeof(Out)) + ", alone " +
                                  hexadecimal(image.pattern, sizeof(Out)));
    }
    if (counts.nan != one_by_one.nan || counts.overflow != one_by_one.overflow ||
        counts.underflow != one_by_one.underflow || counts.inexact != one_by_one.inexact) {
      checker.findings().add_mismatches(1);
      checker.findings().describe("float32 run from " + hexadecimal(first, 4) + " to " + std::string(to.name) +
                                  ": counts of the run are not those of its elements");
    }
    for (const std::uint32_t i : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU,
                                  static_cast<std::uint32_t>(mix(seed, first) % oracle::run_length)}) {
      compare(float32, first + i, to, saturate, oracle::convert(float32, first + i, to, saturate), checker);
    }
  }
}

// Each chunk takes one run of each sign and exponent; the top of the mantissa rotates with the seed.
void compare_runs(std::uint64_t chunk, std::uint64_t seed, Checker& checker) {
  const auto first = static_cast<std::uint32_t>(chunk << 23 | (mix(seed, chunk) & 0x7F) << 16);
  const auto start = static_cast<std::uint32_t>(chunk << 23);
  for (const Format& to : oracle::formats) {
    if (to.dtype == halfway::float32) continue;
    // Zero and infinity are in the first run.
    for (const std::uint32_t run : {first, start}) {
      const bool is_special = (chunk & 0xFF) == 0 || (chunk & 0xFF) == 0xFF;
      if (run == start && !is_special) continue;
      switch (to.bytes()) {
        case 1:
          compare_run<std::uint8_t>(run, seed, to, checker);
          break;
        case 2:
          compare_run<std::uint16_t>(run, seed, to, checker);
          break;
        case 4:
          compare_run<std::uint32_t>(run, seed, to, checker);
          break;
        default:
          compare_run<std::uint64_t>(run, seed, to, checker);
      }
    }
  }
}

}  // namespace

void add_oracle_sweeps(std::vector<Sweep>& sweeps) {
  sweeps.push_back(
      {.name = "oracles-patterns",
       .chunks = oracle::formats.size(),
       .run = [](std::uint64_t chunk, std::uint64_t seed,
                 Checker& checker) { compare_patterns(oracle::formats.at(chunk), mix(seed, chunk), checker); },
       .whole = true,
       .once = true});
  sweeps.push_back(
      {.name = "oracles-runs",
       .chunks = 512,
       .run = [](std::uint64_t chunk, std::uint64_t seed, Checker& checker) { compare_runs(chunk, seed, checker); },
       .once = true});
}

}  // namespace sweep
