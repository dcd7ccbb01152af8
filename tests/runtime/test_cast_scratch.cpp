// What passes keep between their stages: how much of a stack they take, and that they give the same where there is no
// memory for more.
#include <boost/test/unit_test.hpp>

#include <pthread.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "cast/scratch.h"
#include "cast/tiling.h"
#include "counting_new.h"
#include "halfway/allocator.h"
#include "halfway/cast.h"
#include "halfway/collate.h"
#include "halfway/parallel.h"
#include "parallel/pool.h"
#include "rounds.h"

using arrays::Array;
using arrays::Random;
using halfway::Casting;
using halfway::CastOptions;
using halfway::CollateOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::Overflow;
using halfway::Report;
using halfway::Rounding;
using halfway::TensorView;
using halfway::detail::Scratch;

namespace {

struct Job {
  std::string name;
  Array source;
  Array destination;
  CastOptions options{};
};

// Memory seen with its axes in another order.
Array turned(Array array) {
  std::reverse(array.shape.begin(), array.shape.end());
  std::reverse(array.strides.begin(), array.strides.end());
  std::reverse(array.whole_strides.begin(), array.whole_strides.end());
  return array;
}

Array filled(Random& random, DType dtype, const std::vector<std::int64_t>& shape) {
  Array array = arrays::contiguous(dtype, shape);
  arrays::fill_random(random, array);
  return array;
}

// Every other element along the last axis of twice as many.
Array strided(Random& random, DType dtype, std::vector<std::int64_t> shape) {
  shape.back() *= 2;
  Array array = filled(random, dtype, shape);
  array.shape.back() /= 2;
  array.strides.back() *= 2;
  array.whole_strides.clear();
  return array;
}

const std::vector<double>& numbers(std::size_t count) {
  static const std::vector<double> all = [] {
    std::vector<double> values;
    for (int i = 0; i < 1000; ++i) values.push_back(0.25 * (i % 17) - 1);
    return values;
  }();
  static std::vector<std::vector<double>> parts(1001);
  parts[count].assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
  return parts[count];
}

// Every way through a pass that has buffers.
std::vector<Job> jobs() {
  Random random(50);
  std::vector<Job> all;
  const auto add = [&](std::string name, Array source, Array destination, CastOptions options = {}) {
    options.casting = Casting::unsafe;
    all.push_back({std::move(name), std::move(source), std::move(destination), options});
  };
  const std::vector<std::int64_t> square{64, 64};
  const std::vector<std::int64_t> large{150, 600};
  const std::vector<std::int64_t> flat{5000};
  for (const auto& [from, to] : std::vector<std::pair<DType, DType>>{{halfway::float32, halfway::float32},
                                                                     {halfway::float32, halfway::bfloat16},
                                                                     {halfway::float64, halfway::bfloat16},
                                                                     {halfway::int64, halfway::float32},
                                                                     {halfway::uint8, halfway::float64},
                                                                     {halfway::bfloat16, halfway::int8},
                                                                     {halfway::complex128, halfway::complex64},
                                                                     {halfway::complex128, halfway::complex128},
                                                                     {halfway::complex64, halfway::boolean},
                                                                     {halfway::float32, halfway::complex128},
                                                                     {halfway::float64, halfway::float8_e4m3fn}}) {
    const std::string pair = to_string(from) + " to " + to_string(to);
    for (const std::vector<std::int64_t>& shape : {square, large}) {
      Array transposed = turned(filled(random, from, {shape[1], shape[0]}));
      add(pair + " transposed", transposed, arrays::contiguous(to, shape));
      add(pair + " transposed, saturated", transposed, arrays::contiguous(to, shape), {.overflow = Overflow::saturate});
      transposed.swapped = true;
      add(pair + " transposed, swapped", transposed, arrays::contiguous(to, shape));
      add(pair + " transposed into strides", transposed, strided(random, to, shape));
    }
    add(pair + " contiguous", filled(random, from, flat), arrays::contiguous(to, flat));
    add(pair + " strided", strided(random, from, flat), arrays::contiguous(to, flat));
    add(pair + " strided into strides", strided(random, from, large), strided(random, to, large));
    add(pair + " short rows", strided(random, from, {2000, 3}), arrays::contiguous(to, {2000, 3}));
    Array swapped = filled(random, from, flat);
    swapped.swapped = true;
    add(pair + " swapped", swapped, arrays::contiguous(to, flat));
  }
  for (const DType from : {halfway::float32, halfway::uint8, halfway::float64}) {
    for (const DType to : {halfway::bfloat16, halfway::int16, halfway::float64}) {
      const std::string pair = to_string(from) + " to " + to_string(to);
      for (const std::int64_t channels : {3, 200, 700}) {
        const std::vector<std::int64_t> shape{channels == 3 ? 900 : 40, channels};
        const std::vector<double>& along = numbers(static_cast<std::size_t>(channels));
        const CastOptions last{.scale = along, .shift = along, .axis = 1};
        const std::string name = pair + ", " + std::to_string(channels) + " channels";
        add(name + " last", filled(random, from, shape), arrays::contiguous(to, shape), last);
        add(name + " first", turned(filled(random, from, shape)), arrays::contiguous(to, {shape[1], shape[0]}),
            {.scale = along, .axis = 0});
        Array reversed = filled(random, from, shape);
        reversed.first += reversed.strides[1] * (channels - 1);
        reversed.strides[1] *= -1;
        reversed.whole_strides.clear();
        add(name + " reversed", reversed, arrays::contiguous(to, shape), last);
      }
    }
  }
  const CastOptions by_chance{.rounding = Rounding::stochastic, .seed = 7};
  add("stochastic", strided(random, halfway::float32, large), arrays::contiguous(halfway::bfloat16, large), by_chance);
  add("stochastic, transposed", turned(filled(random, halfway::complex128, {300, 40})),
      arrays::contiguous(halfway::complex64, {40, 300}), by_chance);
  return all;
}

struct Outcome {
  std::vector<std::byte> memory;
  Report report;
  std::vector<std::int64_t> lost;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(const Job& job, bool counts, bool checks) {
  Outcome outcome;
  Array result = job.destination;
  CastOptions options = job.options;
  if (counts) options.report = &outcome.report;
  if (checks) options.casting = Casting::same_value;
  try {
    halfway::cast_into(job.source.view(), result.mutable_view(), options);
  } catch (const halfway::CastError& error) {
    outcome.lost = error.index();
  }
  outcome.memory = std::move(result.memory);
  return outcome;
}

// Two batches: samples with coefficients along their rows, and ones that are padded.
std::vector<std::byte> run_collate(Report& report) {
  Random random(51);
  std::vector<Array> samples;
  for (int i = 0; i < 5; ++i) samples.push_back(turned(filled(random, halfway::float32, {70, 90})));
  std::vector<TensorView> views;
  for (const Array& sample : samples) views.push_back(sample.view());
  Array batch = arrays::contiguous(halfway::bfloat16, {5, 90, 70});
  const CastOptions cast{.scale = numbers(90), .axis = 0, .report = &report};
  halfway::collate_into(views, batch.mutable_view(), {.cast = cast});
  samples.back().shape[1] -= 9;
  views.back() = samples.back().view();
  Array padded = arrays::contiguous(halfway::float64, {5, 90, 70});
  const float zero = 0;
  CollateOptions options;
  options.pad = TensorView{.data = &zero, .dtype = halfway::float32};
  halfway::collate_into(views, padded.mutable_view(), options);
  batch.memory.insert(batch.memory.end(), padded.memory.begin(), padded.memory.end());
  return batch.memory;
}

BOOST_AUTO_TEST_SUITE(cast_scratch)

BOOST_AUTO_TEST_CASE(blocks_are_kept_and_given_back) {
  halfway::trim_memory();
  const std::int64_t before = halfway_test::live_allocations;
  std::byte* block = nullptr;
  {
    Scratch scratch;
    BOOST_TEST(scratch.get(1) == scratch.get_near());
    BOOST_TEST(scratch.get(Scratch::near_bytes) == scratch.get_near());
    BOOST_TEST(halfway_test::live_allocations == before);
    block = scratch.get(Scratch::near_bytes + 1);
    BOOST_TEST(scratch.get(Scratch::most_bytes) == block);
    std::memset(block, 1, Scratch::most_bytes);
    Scratch other;
    BOOST_TEST(other.get(Scratch::most_bytes) != block);
    BOOST_TEST(halfway_test::live_allocations == before + 2);
  }
  BOOST_TEST(halfway_test::live_allocations == before + 2);
  {
    Scratch scratch;
    Scratch other;
    std::byte* const a = scratch.get(Scratch::most_bytes);
    std::byte* const b = other.get(Scratch::most_bytes);
    BOOST_TEST((a == block || b == block));
    BOOST_TEST(halfway_test::live_allocations == before + 2);
  }
  {
    // More than are kept.
    const auto many = std::make_unique<Scratch[]>(100);
    const std::int64_t with_many = halfway_test::live_allocations;
    for (int i = 0; i < 100; ++i) BOOST_TEST(many[static_cast<std::size_t>(i)].get(Scratch::most_bytes) != nullptr);
    BOOST_TEST(halfway_test::live_allocations == with_many + 98);
  }
  BOOST_TEST(halfway_test::live_allocations <= before + 40);
  halfway::trim_memory();
  BOOST_TEST(halfway_test::live_allocations == before);
}

BOOST_AUTO_TEST_CASE(without_memory_the_result_is_the_same) {
  const std::vector<Job> all = jobs();
  for (const int threads : {1, 4}) {
    if (threads == 1 && rounds::are_watched) continue;
    halfway::set_num_threads(threads);
    for (const Job& job : all) {
      for (const auto& [counts, checks] : {std::pair{false, false}, std::pair{true, false}, std::pair{true, true}}) {
        const Outcome expected = run(job, counts, checks);
        halfway::trim_memory();
        const halfway_test::NoBlocksOf none(Scratch::most_bytes);
        BOOST_TEST((run(job, counts, checks) == expected), job.name << ", " << threads << " threads");
      }
    }
    Report expected_report;
    const std::vector<std::byte> expected = run_collate(expected_report);
    halfway::trim_memory();
    const halfway_test::NoBlocksOf none(Scratch::most_bytes);
    Report report;
    BOOST_TEST((run_collate(report) == expected));
    BOOST_TEST((report == expected_report));
  }
  halfway::set_num_threads(0);
}

// No pass makes a copy of what it reads or writes: what it allocates is one block for a thread, and metadata.
BOOST_AUTO_TEST_CASE(a_pass_allocates_no_more_than_its_block) {
  constexpr std::size_t metadata = std::size_t{4} << 10;
  halfway::set_num_threads(1);
  int large = 0;
  for (Job& job : jobs()) {
    if (job.source.memory.size() < 2 * Scratch::most_bytes) continue;
    ++large;
    for (const bool counts : {false, true}) {
      Report report;
      job.options.report = counts ? &report : nullptr;
      halfway::trim_memory();
      const std::size_t before = halfway_test::total_bytes;
      const halfway::MemoryStats pool = halfway::memory_stats();
      halfway::cast_into(job.source.view(), job.destination.mutable_view(), job.options);
      const halfway::MemoryStats after = halfway::memory_stats();
      BOOST_TEST(halfway_test::total_bytes - before <= Scratch::most_bytes + metadata, job.name);
      BOOST_TEST((after.hits == pool.hits && after.misses == pool.misses), job.name);
    }
  }
  BOOST_TEST(large > 20);
  halfway::set_num_threads(0);
}

// --- stacks

// Runs a body on a stack of its own and says how many bytes of it were used.
class Painted {
 public:
  explicit Painted(std::size_t bytes) : bytes_(bytes), memory_(std::aligned_alloc(4096, bytes)) {}
  ~Painted() { std::free(memory_); }
  Painted(const Painted&) = delete;
  Painted& operator=(const Painted&) = delete;

  std::size_t used(const std::function<void()>& body) {
    std::memset(memory_, 0xA5, bytes_);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    BOOST_TEST_REQUIRE(pthread_attr_setstack(&attributes, memory_, bytes_) == 0);
    pthread_t thread{};
    auto start = [](void* context) -> void* {
      (*static_cast<const std::function<void()>*>(context))();
      return nullptr;
    };
    const int error = pthread_create(&thread, &attributes, start, const_cast<void*>(static_cast<const void*>(&body)));
    pthread_attr_destroy(&attributes);
    BOOST_TEST_REQUIRE(error == 0);
    pthread_join(thread, nullptr);
    const auto* const begin = static_cast<const std::byte*>(memory_);
    const auto* const end = begin + bytes_;
    return static_cast<std::size_t>(end - std::find_if(begin, end, [](std::byte b) { return b != std::byte{0xA5}; }));
  }

 private:
  std::size_t bytes_;
  void* memory_;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool is_sanitized = true;
#elif defined(__has_feature)
constexpr bool is_sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool is_sanitized = false;
#endif

// What cast.h and parallel.h promise, with the frames of this test.
BOOST_AUTO_TEST_CASE(casts_and_tasks_take_little_of_a_stack, *boost::unit_test::enable_if<!is_sanitized>()) {
  constexpr std::size_t promised = std::size_t{48} << 10;
  Painted painted(std::size_t{1} << 20);
  const std::vector<Job> all = jobs();
  const std::size_t start = painted.used([] {});
  std::size_t most = 0;
  std::string which;
  const auto note = [&](std::size_t used, const std::string& name) {
    if (used <= most) return;
    most = used;
    which = name;
  };
  for (const bool memory : {true, false}) {
    halfway::trim_memory();
    for (const Job& job : all) {
      for (const bool counts : {false, true}) {
        const halfway_test::NoBlocksOf none(memory ? SIZE_MAX : Scratch::most_bytes);
        halfway::set_num_threads(1);
        note(painted.used([&] { (void)run(job, counts, counts); }), job.name);
      }
    }
    const halfway_test::NoBlocksOf none(memory ? SIZE_MAX : Scratch::most_bytes);
    Report report;
    note(painted.used([&] { (void)run_collate(report); }), "collate");
  }
  halfway::set_num_threads(0);
  BOOST_TEST_MESSAGE("of a stack: " << most - start << " bytes, " << which);
  BOOST_TEST(most - start <= promised, which << " takes " << most - start << " bytes");
}

std::size_t g_worker_stack = 0;

int create_noting_the_stack(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* context) {
  pthread_attr_getstacksize(attributes, &g_worker_stack);
  return pthread_create(thread, attributes, body, context);
}

BOOST_AUTO_TEST_CASE(workers_have_stacks_of_a_known_size) {
  halfway::detail::set_create_thread(create_noting_the_stack);
  halfway::set_num_threads(halfway::detail::pool_workers() + 2);
  Random random(52);
  const Array source = filled(random, halfway::float32, {700, 700});
  (void)halfway::cast(source.view(), halfway::bfloat16);
  halfway::detail::set_create_thread(nullptr);
  halfway::set_num_threads(0);
  BOOST_TEST(g_worker_stack == halfway::detail::worker_stack_bytes);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
