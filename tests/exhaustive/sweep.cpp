#include "sweep.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace sweep {

static_assert(std::endian::native == std::endian::little, "patterns are read from their first bytes");

void pack(const Format& format, const std::vector<std::uint64_t>& patterns, std::vector<std::byte>& elements) {
  const std::size_t size = format.bytes();
  elements.resize(patterns.size() * size);
  for (std::size_t i = 0; i < patterns.size(); ++i) std::memcpy(elements.data() + i * size, &patterns[i], size);
}

std::uint64_t pattern_at(std::size_t bytes, const std::byte* elements, std::size_t index) {
  std::uint64_t pattern = 0;
  std::memcpy(&pattern, elements + index * bytes, bytes);
  return pattern;
}

std::string hexadecimal(std::uint64_t pattern, std::size_t bytes) {
  std::string digits(2 * bytes, '0');
  for (std::size_t i = digits.size(); i-- > 0; pattern >>= 4) digits[i] = "0123456789abcdef"[pattern & 15];
  return "0x" + digits;
}

Subject host_cast() { return {.cast = halfway::cast_into}; }

const std::byte* Checker::cast(const Format& from, const void* source, std::size_t n, DType to, bool saturate,
                               halfway::Report* report) {
  const std::size_t size = halfway::item_size(to);
  // What the cast leaves unwritten must not look like an earlier result.
  result_.assign(n * size, std::byte{0x5A});
  const std::array<std::int64_t, 1> shape{static_cast<std::int64_t>(n)};
  const std::array<std::int64_t, 1> strides{1};
  const halfway::TensorView in{.data = source, .dtype = from.dtype, .shape = shape, .strides = strides};
  const halfway::MutableView out{.data = result_.data(), .dtype = to, .shape = shape, .strides = strides};
  subject_.cast(in, out,
                {.casting = halfway::Casting::unsafe,
                 .overflow = saturate ? halfway::Overflow::saturate : halfway::Overflow::by_format,
                 .report = report});
  return result_.data();
}

namespace {

std::string describe(const Format& from, std::uint64_t source, DType to, bool saturate) {
  return std::string(from.name) + " " + hexadecimal(source, from.bytes()) + " to " + to_string(to) +
         (saturate ? ", saturate" : "");
}

}  // namespace

void Checker::check(const Format& from, const void* source, std::size_t n, DType to, bool saturate, const void* wanted,
                    const oracle::Counts& counts, std::string_view oracle) {
  const std::size_t size = halfway::item_size(to);
  halfway::Report report;
  for (const bool counted : {false, true}) {
    if (counted && !subject_.counts) return;
    const std::byte* const got = cast(from, source, n, to, saturate, counted ? &report : nullptr);
    findings_.add_checked(n);
    if (std::memcmp(got, wanted, n * size) == 0) continue;
    for (std::size_t i = 0; i < n; ++i) {
      if (std::memcmp(got + i * size, static_cast<const std::byte*>(wanted) + i * size, size) == 0) continue;
      findings_.add_mismatches(1);
      const std::uint64_t pattern = pattern_at(from.bytes(), static_cast<const std::byte*>(source), i);
      const std::size_t part = size <= 8 ? size : 8;  // complex128: the real part
      const auto text = [part, i, size](const void* elements) {
        return hexadecimal(pattern_at(part, static_cast<const std::byte*>(elements) + i * size, 0), part);
      };
      findings_.describe(describe(from, pattern, to, saturate) + (counted ? ", counted" : "") + ": got " + text(got) +
                         ", wanted " + text(wanted) + " by " + std::string(oracle));
    }
  }
  const halfway::Report expected{n, counts.nan, counts.overflow, counts.underflow, counts.inexact};
  if (report == expected) return;
  findings_.add_mismatches(1);
  const auto text = [](const halfway::Report& r) {
    return "count " + std::to_string(r.count) + " nan " + std::to_string(r.nan) + " overflow " +
           std::to_string(r.overflow) + " underflow " + std::to_string(r.underflow) + " inexact " +
           std::to_string(r.inexact);
  };
  findings_.describe(describe(from, pattern_at(from.bytes(), static_cast<const std::byte*>(source), 0), to, saturate) +
                     " and " + std::to_string(n - 1) + " more: report " + text(report) + ", wanted " + text(expected) +
                     " by " + std::string(oracle));
}

void Checker::check_patterns(const Format& from, const std::vector<std::uint64_t>& patterns, const Format& to) {
  pack(from, patterns, packed_);
  const std::size_t size = to.bytes();
  for (const bool saturate : {false, true}) {
    oracle::Counts counts;
    wanted_.resize(patterns.size() * size);
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      const oracle::Image image = oracle::convert(from, patterns[i], to, saturate);
      std::memcpy(wanted_.data() + i * size, &image.pattern, size);
      counts.add(image.lost);
    }
    check(from, packed_.data(), patterns.size(), to.dtype, saturate, wanted_.data(), counts, "oracle.h");
  }
}

void append_doubles_around(const Format& format, std::uint64_t code, int around, std::vector<std::uint64_t>& doubles) {
  static const Format& float64 = oracle::format(halfway::float64);
  // Patterns of magnitudes grow with them, so one more fraction bit below the code is the midpoint to the next. Past
  // the largest code the same pattern is the number that the exponent would have without an end.
  Format finite = format;
  finite.largest = ~std::uint64_t{0} >> 1;
  finite.nan = 0;
  const oracle::Number low = oracle::unpack(finite, code);
  oracle::Number middle = oracle::unpack(finite, code + 1);
  const int exponent = low.significand == 0 ? middle.exponent : low.exponent;
  // 1. low + high with the lower exponent's grid: both have at most 25 bits, far below the 64 of a significand.
  const std::uint64_t a = low.significand >> 32;
  const std::uint64_t b = middle.significand >> 32 << (low.significand == 0 ? 0 : middle.exponent - low.exponent);
  middle = oracle::normalised(false, a + b, exponent - 63 + 32 - 1);
  for (const oracle::Number& centre : {low, middle}) {
    const std::uint64_t bits = oracle::to_float(centre, float64, false).pattern;
    for (int step = -around; step <= around; ++step) {
      if (step < 0 && bits < static_cast<std::uint64_t>(-step)) continue;
      const std::uint64_t pattern = bits + static_cast<std::uint64_t>(static_cast<std::int64_t>(step));
      doubles.push_back(pattern);
      doubles.push_back(pattern | float64.sign());
    }
  }
}

}  // namespace sweep
