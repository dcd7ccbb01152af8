// The pipeline of staged transfers over steps that only write down what happens: every order and number of threads that
// an executor may choose, and every place at which a step may fail.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "parallel_run.h"
#include "pipeline.h"
#include "threads.h"

namespace {

using halfway::cuda::detail::PipelineShape;
using halfway::cuda::detail::PipelineSteps;
using halfway::cuda::detail::run_pipeline;
using halfway::detail::Ramp;

enum class Step : std::uint8_t { open, process, close };

// One step of one piece, in the order in which a single thread comes to them.
struct Site {
  Step step;
  std::uint64_t number;  // of the piece; open: of the chunk's first, close: of its last
  [[nodiscard]] auto operator<=>(const Site& other) const noexcept {
    return std::pair(number, step) <=> std::pair(other.number, other.step);
  }
  [[nodiscard]] bool operator==(const Site& other) const noexcept = default;
};

std::string to_string(const Site& site) {
  return std::to_string(site.number) + "/" + std::to_string(static_cast<int>(site.step));
}

struct Failure : std::runtime_error {
  explicit Failure(const Site& at) : std::runtime_error(to_string(at)), site(at) {}
  Site site;
};

// Checks the contract as it goes. What is not atomic here is ordered by the pipeline alone, as ThreadSanitizer sees.
class Recorder final : public PipelineSteps {
 public:
  explicit Recorder(const PipelineShape& shape, std::vector<Site> failures = {})
      : shape_(shape), failures_(std::move(failures)), slots_(shape.slots), runs_(end_of(shape)) {}

  // Numbers of pieces: those before a chunk, and all of them.
  static std::uint64_t begin_of(const PipelineShape& shape, std::uint64_t chunk) {
    return shape.ramp.begin(chunk) * shape.pieces;
  }
  static std::uint64_t end_of(const PipelineShape& shape) { return begin_of(shape, shape.chunks); }

  void open(std::uint64_t chunk) override {
    Slot& slot = slots_[chunk % shape_.slots];
    if (slot.open || slot.chunks != chunk / shape_.slots) wrong = "a slot was opened before it was closed";
    slot.open = true;
    slot.processed.assign(shape_.ramp.parts(chunk) * shape_.pieces, 0);
    may_fail({Step::open, begin_of(shape_, chunk)});
  }

  void process(std::uint64_t chunk, std::uint64_t piece) override {
    Slot& slot = slots_[chunk % shape_.slots];
    if (!slot.open || slot.chunks != chunk / shape_.slots) wrong = "a piece was processed outside of its turn";
    ++slot.processed[piece];
    ++runs_[begin_of(shape_, chunk) + piece];
    if (piece % 3 == 1) std::this_thread::yield();
    may_fail({Step::process, begin_of(shape_, chunk) + piece});
  }

  void close(std::uint64_t chunk) override {
    Slot& slot = slots_[chunk % shape_.slots];
    const std::uint64_t pieces = shape_.ramp.parts(chunk) * shape_.pieces;
    if (!slot.open || slot.processed != std::vector<int>(pieces, 1)) wrong = "a slot was closed too early";
    may_fail({Step::close, begin_of(shape_, chunk + 1) - 1});
    slot.open = false;
    ++slot.chunks;
    ++closed;
  }

  // Pieces [0, end) have been processed, once each, and none more than once.
  [[nodiscard]] bool has_processed(std::uint64_t end) const {
    return std::all_of(runs_.begin(), runs_.end(), [](int runs) { return runs <= 1; }) &&
           std::all_of(runs_.begin(), runs_.begin() + static_cast<std::ptrdiff_t>(end), [](int n) { return n == 1; });
  }

  std::atomic<const char*> wrong{nullptr};
  std::atomic<std::uint64_t> closed{0};

 private:
  struct Slot {
    bool open = false;
    std::uint64_t chunks = 0;  // that have been closed
    std::vector<int> processed;
  };

  void may_fail(const Site& site) const {
    if (std::find(failures_.begin(), failures_.end(), site) != failures_.end()) throw Failure(site);
  }

  const PipelineShape shape_;
  const std::vector<Site> failures_;
  std::vector<Slot> slots_;
  std::vector<int> runs_;
};

BOOST_AUTO_TEST_SUITE(cuda_pipeline)

BOOST_AUTO_TEST_CASE(chunks_grow_to_whole_ones) {
  for (const std::uint64_t whole : {1U, 2U, 4U, 8U, 64U}) {
    const Ramp ramp(whole);
    BOOST_TEST(ramp.chunks(0) == 0U);
    std::uint64_t part = 0;
    for (std::uint64_t chunk = 0; part < 1000; ++chunk) {
      const std::uint64_t size = std::min(std::max<std::uint64_t>(part, 1), whole);  // as many as are before it
      BOOST_TEST(ramp.begin(chunk) == part);
      BOOST_TEST(ramp.parts(chunk) == size);
      for (const std::uint64_t end = part + size; part < end; ++part) {
        BOOST_REQUIRE(ramp.chunk_of(part) == chunk);
        BOOST_REQUIRE(ramp.chunks(part + 1) == chunk + 1);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_piece_is_processed_once_in_its_slots_turn) {
  rig::with_all_kinds_of_threads([] {
    for (const std::uint64_t chunks : {0U, 1U, 2U, 7U, 40U}) {
      for (const std::uint64_t pieces : {1U, 2U, 5U}) {
        for (const std::uint64_t slots : {1U, 2U, 3U, 8U}) {
          for (const int threads : {1, 2, 4, 9}) {
            for (const std::uint64_t whole : {1U, 4U}) {
              const PipelineShape shape{
                  .chunks = chunks, .ramp = Ramp(whole), .pieces = pieces, .slots = slots, .threads = threads};
              Recorder steps(shape);
              run_pipeline(steps, shape);
              BOOST_TEST(steps.wrong.load() == nullptr, steps.wrong.load());
              BOOST_TEST(steps.closed.load() == chunks);
              BOOST_TEST(steps.has_processed(Recorder::end_of(shape)));
            }
          }
        }
      }
    }
  });
}

// More turns than the counts of a slot have numbers.
BOOST_AUTO_TEST_CASE(slots_may_go_around_any_number_of_times) {
  const PipelineShape shape{.chunks = 70'000, .pieces = 2, .slots = 1, .threads = 1};
  Recorder steps(shape);
  run_pipeline(steps, shape);
  BOOST_TEST(steps.wrong.load() == nullptr);
  BOOST_TEST(steps.closed.load() == shape.chunks);
}

// Every step that can fail, alone and with every other one: the first is what is reported, whatever happened first, and
// everything before it has been done.
BOOST_AUTO_TEST_CASE(the_first_failure_is_reported_and_what_is_before_it_is_done) {
  rig::with_all_kinds_of_threads([] {
    // Of 2, 2, 2 and 2 pieces, or 2, 4 and 4.
    for (const bool grows : {false, true}) {
      const std::uint64_t chunks = grows ? 3 : 4;
      for (const std::uint64_t slots : {1U, 2U, 3U}) {
        for (const int threads : {1, 4}) {
          const PipelineShape shape{
              .chunks = chunks, .ramp = Ramp(grows ? 2 : 1), .pieces = 2, .slots = slots, .threads = threads};
          std::vector<Site> sites;
          for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
            sites.push_back({Step::open, Recorder::begin_of(shape, chunk)});
            for (std::uint64_t number = Recorder::begin_of(shape, chunk); number < Recorder::begin_of(shape, chunk + 1);
                 ++number) {
              sites.push_back({Step::process, number});
            }
            sites.push_back({Step::close, Recorder::begin_of(shape, chunk + 1) - 1});
          }
          for (const Site& first : sites) {
            for (const Site& second : sites) {
              if (second < first) continue;
              Recorder steps(shape, {first, second});
              const auto is_first = [&](const Failure& failure) { return failure.site == first; };
              BOOST_CHECK_EXCEPTION(run_pipeline(steps, shape), Failure, is_first);
              BOOST_TEST(steps.wrong.load() == nullptr);
              BOOST_TEST(steps.has_processed(first.number + (first.step == Step::open ? 0 : 1)),
                         to_string(first) << " and " << to_string(second));
            }
          }
        }
      }
    }
  });
}

// A pool that is busy does the work on the calling thread.
BOOST_AUTO_TEST_CASE(pipelines_may_run_inside_of_tasks_and_beside_each_other) {
  const rig::Threads several;
  const PipelineShape shape{.chunks = 20, .pieces = 3, .slots = 2, .threads = 4};
  std::atomic<int> done{0};
  const auto once = [&] {
    Recorder steps(shape);
    run_pipeline(steps, shape);
    if (steps.wrong.load() == nullptr && steps.closed.load() == shape.chunks) ++done;
  };
  halfway::detail::run_parallel(8, [&](int) { once(); });
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { once(); });
  for (std::thread& thread : threads) thread.join();
  BOOST_TEST(done.load() == 11);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
