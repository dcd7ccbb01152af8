// Every float32 pattern to every other real dtype.
#include <memory>
#include <numeric>

#include "sweep.h"

namespace sweep {
namespace {

constexpr std::uint64_t runs_a_chunk = 16;
constexpr std::uint64_t chunks = (std::uint64_t{1} << 32) / oracle::run_length / runs_a_chunk;

template <class Out>
void check_runs(std::uint64_t chunk, const Format& to, Checker& checker) {
  static const Format& float32 = oracle::format(halfway::float32);
  std::vector<std::uint32_t> source(oracle::run_length);
  std::vector<Out> wanted(oracle::run_length);
  for (std::uint64_t run = 0; run < runs_a_chunk; ++run) {
    const auto first = static_cast<std::uint32_t>((chunk * runs_a_chunk + run) * oracle::run_length);
    std::iota(source.begin(), source.end(), first);
    oracle::Counts counts;
    for (const bool saturate : {false, true}) {
      // Without overflow and infinities both modes want the same.
      if (!saturate || counts.overflow > 0 || (first >> 23 & 0xFF) == 0xFF) {
        counts = {};
        oracle::convert_run(first, to, saturate, wanted.data(), counts);
      }
      checker.check(float32, source.data(), source.size(), to.dtype, saturate, wanted.data(), counts, "oracle.h");
    }
  }
}

// A double that a float32 became is that float32 again.
void check_round_trip(std::uint64_t chunk, Checker& checker) {
  static const Format& float32 = oracle::format(halfway::float32);
  static const Format& float64 = oracle::format(halfway::float64);
  std::vector<std::uint32_t> source(oracle::run_length);
  std::vector<std::byte> doubles(oracle::run_length * 8);
  for (std::uint64_t run = 0; run < runs_a_chunk; ++run) {
    const auto first = static_cast<std::uint32_t>((chunk * runs_a_chunk + run) * oracle::run_length);
    std::iota(source.begin(), source.end(), first);
    const std::byte* const wide = checker.cast(float32, source.data(), source.size(), halfway::float64, false, nullptr);
    std::copy_n(wide, doubles.size(), doubles.data());
    oracle::Counts counts;
    for (std::uint32_t& pattern : source) {
      if ((pattern & 0x7FFFFFFF) <= 0x7F800000) continue;
      pattern = 0x7FFFFFFF;
      ++counts.nan;
    }
    checker.check(float64, doubles.data(), source.size(), halfway::float32, false, source.data(), counts,
                  "the float32 itself");
  }
}

}  // namespace

void add_float32_sweeps(std::vector<Sweep>& sweeps) {
  for (const Format& to : oracle::formats) {
    if (to.dtype == halfway::float32) continue;
    sweeps.push_back({.name = "float32-" + std::string(to.name),
                      .chunks = chunks,
                      .run = [&to](std::uint64_t chunk, std::uint64_t, Checker& checker) {
                        switch (to.bytes()) {
                          case 1:
                            return check_runs<std::uint8_t>(chunk, to, checker);
                          case 2:
                            return check_runs<std::uint16_t>(chunk, to, checker);
                          case 4:
                            return check_runs<std::uint32_t>(chunk, to, checker);
                          default:
                            return check_runs<std::uint64_t>(chunk, to, checker);
                        }
                      }});
  }
  sweeps.push_back(
      {.name = "float32-float64-float32",
       .chunks = chunks,
       .run = [](std::uint64_t chunk, std::uint64_t, Checker& checker) { check_round_trip(chunk, checker); }});
}

}  // namespace sweep
