// Every pattern of the dtypes of 8 and 16 bits to every dtype that is cast, complex ones included.
#include <cstring>
#include <numeric>

#include "sweep.h"

namespace sweep {
namespace {

struct Pair {
  const Format* from;
  const Format* component;  // of the target
  halfway::DType to;
};

std::vector<Pair> pairs() {
  std::vector<Pair> all;
  for (const Format& from : oracle::formats) {
    if (from.bits() > 16) continue;
    for (const halfway::DTypeInfo& row : halfway::dtypes()) {
      if (!row.castable) continue;
      const bool is_complex = row.kind == halfway::Kind::complex;
      const halfway::DType part =
          is_complex ? halfway::DType(halfway::TypeCode::float_, row.dtype.bits / 2) : row.dtype;
      all.push_back({&from, &oracle::format(part), row.dtype});
    }
  }
  return all;
}

void check_pair(const Pair& pair, Checker& checker) {
  std::vector<std::uint64_t> patterns(std::size_t{1} << pair.from->bits());
  std::iota(patterns.begin(), patterns.end(), 0);
  std::vector<std::byte> source;
  pack(*pair.from, patterns, source);
  const std::size_t size = halfway::item_size(pair.to);
  std::vector<std::byte> wanted(patterns.size() * size);  // imaginary parts stay zero
  for (const bool saturate : {false, true}) {
    oracle::Counts counts;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      // Bits are copied only where the dtype stays the same.
      const oracle::Image image =
          pair.to == pair.from->dtype
              ? oracle::convert(*pair.from, patterns[i], *pair.from, saturate)
              : oracle::encode(oracle::unpack(*pair.from, patterns[i]), *pair.from, *pair.component, saturate);
      std::memcpy(wanted.data() + i * size, &image.pattern, pair.component->bytes());
      counts.add(image.lost);
    }
    checker.check(*pair.from, source.data(), patterns.size(), pair.to, saturate, wanted.data(), counts, "oracle.h");
  }
}

}  // namespace

void add_narrow_sweeps(std::vector<Sweep>& sweeps) {
  static const std::vector<Pair> all = pairs();
  sweeps.push_back(
      {.name = "narrow-everything",
       .chunks = all.size(),
       .run = [](std::uint64_t chunk, std::uint64_t, Checker& checker) { check_pair(all[chunk], checker); },
       .whole = true});
}

}  // namespace sweep
