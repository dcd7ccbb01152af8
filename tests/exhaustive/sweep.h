// Sweeps: long tests cut into chunks that any order, share or number of threads may run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "halfway/cast.h"
#include "oracle.h"

namespace sweep {

using halfway::DType;
using oracle::Format;

// What a thread has found in the chunks it ran. Not shared between threads.
class Findings {
 public:
  static constexpr std::size_t shown = 8;

  void add_checked(std::uint64_t n) { checked_ += n; }
  void add_mismatches(std::uint64_t n) { mismatches_ += n; }
  // One line about a mismatch. Only the first few are kept.
  void describe(std::string line) {
    if (lines_.size() < shown) lines_.push_back(std::move(line));
  }
  void merge(const Findings& other) {
    checked_ += other.checked_;
    mismatches_ += other.mismatches_;
    for (const std::string& line : other.lines_) describe(line);
  }

  [[nodiscard]] std::uint64_t checked() const { return checked_; }
  [[nodiscard]] std::uint64_t mismatches() const { return mismatches_; }
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::uint64_t checked_ = 0;
  std::uint64_t mismatches_ = 0;
  std::vector<std::string> lines_;
};

// What is under test: the cast of one contiguous array into another.
struct Subject {
  std::function<void(const halfway::TensorView&, const halfway::MutableView&, const halfway::CastOptions&)> cast;
  bool counts = true;  // whether it takes a report
};

// The library's own, on the host.
[[nodiscard]] Subject host_cast();

// Casts arrays and compares the results with what is wanted. One for each thread.
class Checker {
 public:
  explicit Checker(Findings& findings, Subject subject = host_cast())
      : findings_(findings), subject_(std::move(subject)) {}

  [[nodiscard]] Findings& findings() const { return findings_; }

  // `n` elements of `from`, cast without a report and, where the subject takes one, with; `wanted` holds `n` elements
  // of `to`.
  void check(const Format& from, const void* source, std::size_t n, DType to, bool saturate, const void* wanted,
             const oracle::Counts& counts, std::string_view oracle);

  // The same elements, given as patterns, against oracle::convert in both overflow modes.
  void check_patterns(const Format& from, const std::vector<std::uint64_t>& patterns, const Format& to);

  // The subject's results for `n` elements, valid until the next call.
  const std::byte* cast(const Format& from, const void* source, std::size_t n, DType to, bool saturate,
                        halfway::Report* report);

 private:
  Findings& findings_;
  Subject subject_;
  std::vector<std::byte> result_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> wanted_;
};

struct Sweep {
  std::string name;
  std::uint64_t chunks = 0;
  // Checks chunk `index`, with `seed` for what is random in it.
  std::function<void(std::uint64_t index, std::uint64_t seed, Checker& checker)> run{};
  bool whole = false;     // small enough for every share to run all chunks
  bool once = false;      // one instruction set is enough: it is about an oracle
  bool in_turn = false;   // a limited time has it with one instruction set, which the seed chooses
  std::string skipped{};  // why there is nothing to run
};

void add_float32_sweeps(std::vector<Sweep>& sweeps);
void add_float64_sweeps(std::vector<Sweep>& sweeps);
void add_integer_sweeps(std::vector<Sweep>& sweeps);
void add_narrow_sweeps(std::vector<Sweep>& sweeps);
void add_oracle_sweeps(std::vector<Sweep>& sweeps);
void add_cuda_sweeps(std::vector<Sweep>& sweeps);

// Elements of a format from patterns, and back.
void pack(const Format& format, const std::vector<std::uint64_t>& patterns, std::vector<std::byte>& elements);
[[nodiscard]] std::uint64_t pattern_at(std::size_t bytes, const std::byte* elements, std::size_t index);

// "0x3f80", as many digits as the element has.
[[nodiscard]] std::string hexadecimal(std::uint64_t pattern, std::size_t bytes);

// A well-mixed function of two numbers (the finaliser of SplitMix64).
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t x = a * 0x9E3779B97F4A7C15U + b + 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

// The double patterns of a number given by magnitude bits of a narrower format, and of the midpoint above it, each with
// its neighbours of up to `around` units in the last place, in both signs.
void append_doubles_around(const Format& format, std::uint64_t code, int around, std::vector<std::uint64_t>& doubles);

}  // namespace sweep
