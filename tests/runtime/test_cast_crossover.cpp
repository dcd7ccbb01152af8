// From how many bytes on a cast is shared among threads, and in how many tasks: an executor counts them.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "cast/pass.h"
#include "cast/tuning.h"
#include "halfway/cast.h"
#include "halfway/collate.h"
#include "halfway/parallel.h"
#include "under_test.h"

using halfway::CastOptions;
using halfway::DType;
using halfway::MutableView;
using halfway::TensorView;
using halfway::detail::parallel_bytes;
using halfway::detail::task_bytes;
using halfway::detail::task_count;
using halfway::detail::tasks_per_thread;
using under_test::InTier;
using under_test::next_tier;

namespace {

// Runs the tasks where it is called, and remembers how many there were.
class Counting final : public halfway::Executor {
 public:
  explicit Counting(int n) : concurrency_(n) { halfway::set_executor(this); }
  ~Counting() override { halfway::set_executor(nullptr); }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  [[nodiscard]] int concurrency() const noexcept override { return concurrency_; }
  void run(int tasks, Task task, void* context) noexcept override {
    calls.push_back(tasks);
    for (int index = 0; index < tasks; ++index) task(context, index);
  }

  std::vector<int> calls;  // tasks of each

 private:
  int concurrency_;
};

// A cast of a matrix of any number of rows, into a row-major one.
struct Kind {
  std::string name;
  DType from;
  DType to;
  std::int64_t columns;
  // Elements from one row of the source to the next, and from one column to the next; 0: as many as there are rows.
  std::int64_t row_step;
  std::int64_t column_step;
  CastOptions options{};

  [[nodiscard]] std::size_t bytes(std::int64_t rows) const {
    return static_cast<std::size_t>(rows * columns) * (halfway::item_size(from) + halfway::item_size(to));
  }
};

std::vector<Kind> kinds() {
  namespace h = halfway;
  std::vector<Kind> all{
      {.name = "contiguous", .from = h::float64, .to = h::bfloat16, .columns = 1, .row_step = 1, .column_step = 1},
      {.name = "contiguous of other sizes",
       .from = h::uint8,
       .to = h::bfloat16,
       .columns = 1,
       .row_step = 1,
       .column_step = 1},
      {.name = "copied", .from = h::float32, .to = h::float32, .columns = 1, .row_step = 1, .column_step = 1},
      {.name = "strided", .from = h::float32, .to = h::bfloat16, .columns = 32, .row_step = 64, .column_step = 2},
      {.name = "rows apart", .from = h::float64, .to = h::float16, .columns = 32, .row_step = 40, .column_step = 1},
      {.name = "transposed", .from = h::float32, .to = h::bfloat16, .columns = 32, .row_step = 1, .column_step = 0},
      {.name = "transposed copy", .from = h::float64, .to = h::float64, .columns = 16, .row_step = 1, .column_step = 0},
      {.name = "affine", .from = h::float32, .to = h::bfloat16, .columns = 1, .row_step = 1, .column_step = 1},
      {.name = "affine, transposed",
       .from = h::uint8,
       .to = h::float32,
       .columns = 32,
       .row_step = 1,
       .column_step = 0},
      {.name = "stochastic", .from = h::float32, .to = h::bfloat16, .columns = 1, .row_step = 1, .column_step = 1},
  };
  for (Kind& kind : all) {
    if (kind.name.starts_with("affine")) kind.options.scale = 0.5;
    if (kind.name != "stochastic") continue;
    kind.options.rounding = halfway::Rounding::stochastic;
    kind.options.seed = 3;
  }
  return all;
}

// The cast of so many rows: fresh, and into memory that is there, with a report and without. How many tasks each
// handed to the executor, 0 where it was not called.
std::vector<int> tasks_of(const Kind& kind, std::int64_t rows, Counting& counting) {
  const std::array<std::int64_t, 2> shape{rows, kind.columns};
  const std::array<std::int64_t, 2> strides{kind.row_step, kind.column_step == 0 ? rows : kind.column_step};
  const std::array<std::int64_t, 2> row_major{kind.columns, 1};
  const auto elements = static_cast<std::size_t>((rows - 1) * strides[0] + (kind.columns - 1) * strides[1] + 1);
  const std::vector<std::byte> source(elements * halfway::item_size(kind.from));
  std::vector<std::byte> made(static_cast<std::size_t>(rows * kind.columns) * halfway::item_size(kind.to));
  const TensorView in{.data = source.data(), .dtype = kind.from, .shape = shape, .strides = strides};
  const MutableView out{.data = made.data(), .dtype = kind.to, .shape = shape, .strides = row_major};

  std::vector<int> tasks;
  const auto count = [&](const std::function<void()>& call) {
    counting.calls.clear();
    call();
    BOOST_TEST(counting.calls.size() <= 1U, kind.name);
    tasks.push_back(counting.calls.empty() ? 0 : counting.calls.front());
  };
  halfway::Report report;
  CastOptions options = kind.options;
  count([&] { (void)halfway::cast(in, kind.to, options); });
  count([&] { halfway::cast_into(in, out, options); });
  options.report = &report;
  count([&] { (void)halfway::cast(in, kind.to, options); });
  count([&] { halfway::cast_into(in, out, options); });
  return tasks;
}

// The least number of rows that moves so many bytes.
std::int64_t rows_for(const Kind& kind, std::size_t bytes) {
  const std::size_t row = std::max<std::size_t>(kind.bytes(1), 1);
  return static_cast<std::int64_t>((bytes + row - 1) / row);
}

BOOST_AUTO_TEST_SUITE(cast_crossover)

BOOST_AUTO_TEST_CASE(small_casts_stay_on_their_thread) {
  for (const Kind& kind : kinds()) {
    Counting counting(4);
    const std::int64_t least = rows_for(kind, parallel_bytes);
    for (const std::int64_t rows : {std::int64_t{1}, least / 2, least - 1}) {
      const InTier in(next_tier());
      BOOST_TEST_REQUIRE(kind.bytes(rows) < parallel_bytes);
      BOOST_TEST((tasks_of(kind, rows, counting) == std::vector<int>(4, 0)), kind.name << ", " << rows << " rows");
    }
  }
}

BOOST_AUTO_TEST_CASE(large_casts_are_shared_in_as_many_tasks_as_they_are_worth) {
  for (const Kind& kind : kinds()) {
    for (const int threads : {2, 3, 7}) {
      Counting counting(threads);
      int before = 0;
      for (std::size_t bytes = parallel_bytes; bytes <= 16 * parallel_bytes; bytes += parallel_bytes * 5 / 2) {
        const InTier in(next_tier());
        const std::int64_t rows = rows_for(kind, bytes);
        const std::size_t most = static_cast<std::size_t>(threads) * tasks_per_thread;
        const auto wanted = static_cast<int>(std::min(kind.bytes(rows) / task_bytes, most));
        BOOST_TEST_REQUIRE(wanted > 1);
        BOOST_TEST(task_count(kind.bytes(rows)) == wanted);
        BOOST_TEST((tasks_of(kind, rows, counting) == std::vector<int>(4, wanted)),
                   kind.name << ", " << rows << " rows, " << threads << " threads");
        BOOST_TEST(wanted >= before);  // more bytes, no fewer tasks
        before = wanted;
      }
      BOOST_TEST(before == threads * static_cast<int>(tasks_per_thread));  // the largest meets the limit
    }
  }
}

BOOST_AUTO_TEST_CASE(one_thread_needs_nobody) {
  for (const Kind& kind : kinds()) {
    const std::int64_t rows = rows_for(kind, 2 * parallel_bytes);
    Counting one(1);
    BOOST_TEST((tasks_of(kind, rows, one) == std::vector<int>(4, 0)), kind.name);
  }
  const Kind kind = kinds().front();
  const std::int64_t rows = rows_for(kind, 8 * parallel_bytes);
  Counting many(7);
  halfway::set_num_threads(1);
  BOOST_TEST((tasks_of(kind, rows, many) == std::vector<int>(4, 0)));
  halfway::set_num_threads(2);
  BOOST_TEST((tasks_of(kind, rows, many) == std::vector<int>(4, 2 * static_cast<int>(tasks_per_thread))));
  halfway::set_num_threads(0);
}

// Samples of a batch count together.
BOOST_AUTO_TEST_CASE(batches_have_the_same_bounds) {
  constexpr std::int64_t samples = 16;
  constexpr std::size_t element = 4 + 2;
  constexpr auto least = static_cast<std::int64_t>((parallel_bytes + element * samples - 1) / (element * samples));
  for (const std::int64_t extent : {least - 1, least}) {
    Counting counting(4);
    const std::array<std::int64_t, 1> shape{extent};
    const std::array<std::int64_t, 1> strides{1};
    const std::vector<float> values(static_cast<std::size_t>(extent), 1.0F);
    const std::vector<TensorView> views(
        samples, {.data = values.data(), .dtype = halfway::float32, .shape = shape, .strides = strides});
    (void)halfway::collate(views, halfway::bfloat16);
    const std::vector<int> wanted = extent < least ? std::vector<int>{} : std::vector<int>{4};
    BOOST_TEST(counting.calls == wanted, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
