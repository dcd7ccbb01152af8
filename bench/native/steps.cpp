// What the steps written by hand are worth: each beside the functors of convert.h, compiled for the same instruction
// set, in one loop and in the two stages that all other pairs take. On data in the first-level cache, one thread.
// Prints a line of JSON for each contender: the row, the role, and nanoseconds an element, one number a round; in each
// round the contenders of a row take turns. usage: halfway_bench_steps [ROUNDS]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cast/kernels.h"
#include "cast/route.h"
#include "cast/tiers.h"
#include "halfway/cast.h"

namespace halfway {
inline namespace v0 {
namespace detail {
extern const Kernels kernels_functors;
extern const std::span<const FusedLoop> functor_loops;
}  // namespace detail
}  // namespace v0
}  // namespace halfway

namespace {

using namespace halfway;
using detail::Counts;
using detail::FusedAffine;
using detail::FusedLoop;
using detail::Kernels;
using detail::Route;

constexpr std::size_t count = 1024;  // at most 8 KiB of them, and as much of results
constexpr double least_ns = 50'000;  // of a round's calls

// Memory as the pool hands it out: aligned to cache lines.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes + line) {}
  [[nodiscard]] std::byte* data() noexcept {
    void* place = bytes_.data();
    std::size_t room = bytes_.size();
    return static_cast<std::byte*>(std::align(line, bytes_.size() - line, place, room));
  }

 private:
  static constexpr std::size_t line = 64;
  std::vector<std::byte> bytes_;
};

// N(0, 1), or whole numbers of the dtype where it has no others.
Memory elements_of(DType dtype) {
  std::mt19937_64 random(2026);
  std::normal_distribution<double> normal;
  std::vector<double> numbers(count);
  const bool whole = dtype == uint8 || dtype == int64;
  for (double& number : numbers) number = whole ? static_cast<double>(random() % 200) : normal(random);
  Memory bytes(count * item_size(dtype));
  const std::int64_t shape[] = {count};
  const std::int64_t strides[] = {1};
  cast_into({.data = numbers.data(), .dtype = float64, .shape = shape, .strides = strides},
            {.data = bytes.data(), .dtype = dtype, .shape = shape, .strides = strides}, {.casting = Casting::unsafe});
  return bytes;
}

struct Contender {
  const char* role;
  std::function<void()> call;
};

double ns_of(const std::function<void()>& call, int calls) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) call();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

void race(const std::string& row, const std::vector<Contender>& contenders, int rounds) {
  std::vector<int> calls;
  for (const Contender& contender : contenders) {
    int enough = 1;
    while (ns_of(contender.call, enough) < least_ns) enough *= 2;
    calls.push_back(enough);
  }
  std::vector<std::vector<double>> times(contenders.size());
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      times[i].push_back(ns_of(contenders[i].call, calls[i]) / calls[i] / static_cast<double>(count));
    }
  }
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    std::printf("{\"row\": \"%s\", \"role\": \"%s\", \"ns\": [", row.c_str(), contenders[i].role);
    for (std::size_t j = 0; j < times[i].size(); ++j) std::printf("%s%.5f", j == 0 ? "" : ", ", times[i][j]);
    std::printf("]}\n");
  }
}

std::string name(DType from, DType to) { return to_string(from) + " -> " + to_string(to); }

void race_casts(const Kernels& steps, int rounds) {
  const Kernels& functors = detail::kernels_functors;
  for (const FusedLoop& step : steps.fused) {
    const auto loop =
        std::find_if(detail::functor_loops.begin(), detail::functor_loops.end(),
                     [&](const FusedLoop& other) { return other.from == step.from && other.to == step.to; });
    Memory source = elements_of(step.from);
    Memory destination(count * item_size(step.to));
    const std::byte* const from = source.data();
    std::byte* const to = destination.data();
    Route stages = Route::between(functors, step.from, step.to, false);
    const bool single = stages.decode == nullptr || stages.encode == nullptr;
    std::vector<Contender> contenders{{"step", [&] { step.loop(from, to, count); }},
                                      {"functors, one loop", [&, run = loop->loop] { run(from, to, count); }}};
    stages.single = single ? stages.single : nullptr;
    contenders.push_back({"functors, two stages", [&] { detail::convert(stages, from, to, count); }});
    race(name(step.from, step.to), contenders, rounds);
  }
}

void race_counts(const Kernels& steps, int rounds) {
  Memory source = elements_of(float32);
  Memory destination(count * 2);
  for (const DType to : {float16, bfloat16}) {
    Counts counts;
    const auto contender = [&](const char* role, const Kernels& kernels) {
      return Contender{role, [&, run = kernels.find(to)->encode_counted[0]] {
                         run(source.data(), destination.data(), count, false, counts);
                       }};
    };
    race(name(float32, to) + ", counted",
         {contender("step", steps), contender("functors, one loop", detail::kernels_functors)}, rounds);
  }
}

// One factor and one summand, as a pass takes them without a fused loop: three stages.
void race_affine(const Kernels& steps, int rounds) {
  const Kernels& functors = detail::kernels_functors;
  const float scale = 0.25F;
  const float shift = -1.5F;
  const auto* const factor = reinterpret_cast<const std::byte*>(&scale);
  const auto* const summand = reinterpret_cast<const std::byte*>(&shift);
  for (const FusedAffine& fused : steps.fused_affine) {
    Memory source = elements_of(fused.from);
    Memory destination(count * item_size(fused.to));
    Memory wide(count * sizeof(float));
    Memory results(count * sizeof(float));
    const detail::Decoding decoding = functors.find(fused.from)->number;
    const detail::EncodeLoop encode = functors.find(fused.to)->encode[0];
    race(name(fused.from, fused.to) + ", scaled",
         {{"step", [&] { fused.loop(source.data(), destination.data(), count, factor, summand); }},
          {"functors, stages",
           [&] {
             const std::byte* values = source.data();
             if (decoding.loop != nullptr) {
               decoding.loop(values, wide.data(), count);
               values = wide.data();
             }
             functors.affine[0].one(values, results.data(), count, factor, summand);
             encode(results.data(), destination.data(), count);
           }}},
         rounds);
  }
}

void race_chance(const Kernels& steps, int rounds) {
  const Kernels& functors = detail::kernels_functors;
  std::vector<std::uint16_t> lanes(count);
  std::vector<Contender> generators;
  std::vector<Contender> loops;
  Memory source = elements_of(float32);
  Memory destination(count * item_size(bfloat16));
  for (const auto& [role, kernels] :
       std::vector<std::pair<const char*, const Kernels*>>{{"step", &steps}, {"functors, one loop", &functors}}) {
    generators.push_back({role, [&, fill = kernels->lanes] { fill(7, 0, lanes.data(), count); }});
    loops.push_back({role, [&, run = kernels->find(bfloat16)->encode_stochastic[0]] {
                       run(source.data(), destination.data(), lanes.data(), count, false);
                     }});
  }
  race("lanes of 16 bits by Philox4x32-10", generators, rounds);
  race(name(float32, bfloat16) + ", stochastic, from lanes", loops, rounds);
}

}  // namespace

int main(int count_of_arguments, char** arguments) {
  const int rounds = count_of_arguments > 1 ? std::atoi(arguments[1]) : 41;
  if (!detail::set_active_tier("x86-64-v3")) {
    std::fputs("halfway_bench_steps: this processor has no x86-64-v3 (AVX2, F16C, FMA)\n", stderr);
    return 1;
  }
  const Kernels& steps = detail::active_kernels();
  race_casts(steps, rounds);
  race_counts(steps, rounds);
  race_affine(steps, rounds);
  race_chance(steps, rounds);
}
