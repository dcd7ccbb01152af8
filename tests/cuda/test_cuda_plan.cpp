// The planner of transfers as a table: widths, kinds of memory, cores and rates, and beside each case the arithmetic
// that decides it.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "halfway/layout.h"
#include "halfway/plan.h"
#include "plan_words.h"

namespace {

using namespace halfway;

constexpr std::int64_t million = 1'000'000;
constexpr std::uint64_t kib = 1024;

// A machine of round numbers.
const Machine machine{.wire_to_device = 50e9,
                      .wire_to_host = 50e9,
                      .host_cast = 10e9,
                      .host_memory = 100e9,
                      .cores = 1,
                      .small = 64 * kib,
                      .small_pinned = 1024 * kib,
                      .chunk = 512 * kib,
                      .first_chunk = 512 * kib};

Machine with_cores(int cores) {
  Machine changed = machine;
  changed.cores = cores;
  return changed;
}
Machine with_wire(double rate) {
  Machine changed = machine;
  changed.wire_to_device = rate;
  return changed;
}

struct Case {
  const char* name;  // with the arithmetic
  Direction direction;
  DType from;
  DType to;
  std::int64_t count;
  HostMemory host;
  Machine constants;
  // Expected: the side that casts, what crosses, and how.
  Route route;
  DType wire;
  bool staged;
  std::uint64_t bytes_wire;
  std::uint64_t copies;
  std::uint64_t launches;
};
std::ostream& operator<<(std::ostream& out, const Case& row) { return out << row.name; }

constexpr auto in = Direction::to_device;
constexpr auto out = Direction::to_host;
constexpr auto pageable = HostMemory::pageable;
constexpr auto pinned = HostMemory::pinned;
constexpr auto coherent = HostMemory::coherent;

const std::vector<Case>& cases() {
  // clang-format off
  static const std::vector<Case> rows{
    // Pageable: the host touches every byte anyway. 1e6 x 2 B = 2e6 B, in chunks of 512 KiB: ceil(2e6 / 524288) = 4.
    {"f32 -> bf16 pageable: 2e6 < 4e6 B, cast before the wire", in, float32, bfloat16, million, pageable, machine,
     Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"f64 -> f16 pageable: a quarter of 8e6 B", in, float64, float16, million, pageable, machine,
     Route::host_cast, float16, true, 2'000'000, 4, 0},
    {"f32 -> bf16 pageable, one slow core: it has to copy as many bytes as it casts", in, float32, bfloat16, million,
     pageable, with_wire(1e12), Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"f32 -> f32 pageable: 4e6 B in ceil(7.63) chunks", in, float32, float32, million, pageable, machine,
     Route::host_cast, float32, true, 4'000'000, 8, 0},
    {"f32 -> i32 pageable: as wide, so cast on the way into the slots", in, float32, int32, million, pageable, machine,
     Route::host_cast, int32, true, 4'000'000, 8, 0},
    {"u8 -> f32 pageable: 2e6 B cross, 8e6 are made behind the wire", in, uint8, float32, 2 * million, pageable, machine,
     Route::device_cast, uint8, true, 2'000'000, 4, 4},
    {"f16 -> f64 pageable: 2e6 B of 8e6", in, float16, float64, million, pageable, machine,
     Route::device_cast, float16, true, 2'000'000, 4, 4},
    // Pinned: wide / wire against max(wide / (cores x rate), narrow / wire).
    {"f32 -> f32 pinned: one copy of all", in, float32, float32, million, pinned, machine,
     Route::direct, float32, false, 4'000'000, 1, 0},
    {"f32 -> bf16 pinned, 1 core: 4e6/50e9 = 80 us < max(4e6/10e9, ..) = 400 us", in, float32, bfloat16, million, pinned,
     machine, Route::device_cast, float32, false, 4'000'000, 8, 8},
    {"f32 -> bf16 pinned, 5 cores: 80 us is not more than max(4e6/50e9, 2e6/50e9) = 80 us", in, float32, bfloat16,
     million, pinned, with_cores(5), Route::device_cast, float32, false, 4'000'000, 8, 8},
    {"f32 -> bf16 pinned, 8 cores: 80 us > max(4e6/80e9, 2e6/50e9) = 50 us", in, float32, bfloat16, million, pinned,
     with_cores(8), Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"f32 -> bf16 pinned, 64 cores: 80 us > max(4e6/100e9 (memory), 2e6/50e9) = 40 us", in, float32, bfloat16, million,
     pinned, with_cores(64), Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"f32 -> bf16 pinned, 8 cores, wire of 100e9: 40 us < max(4e6/80e9, ..) = 50 us", in, float32, bfloat16, million,
     pinned, [] { Machine m = with_wire(100e9); m.cores = 8; return m; }(),
     Route::device_cast, float32, false, 4'000'000, 8, 8},
    {"f32 -> bf16 pinned, 1 core, wire of 8e9 (PCIe 3 x8): 500 us > max(400, 250) us", in, float32, bfloat16, million,
     pinned, with_wire(8e9), Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"bf16 -> f32 pinned: 2e6 B cross whatever the cores", in, bfloat16, float32, million, pinned, with_cores(64),
     Route::device_cast, bfloat16, false, 2'000'000, 4, 4},
    {"f32 -> i32 pinned: as wide; nothing is gained on the host", in, float32, int32, million, pinned, with_cores(64),
     Route::device_cast, float32, false, 4'000'000, 8, 8},
    // Small: neither side has more than 65536 B. The host casts, whatever memory it is, and one copy crosses.
    {"f32 -> bf16 pageable: 16384 x 4 B = 65536 B", in, float32, bfloat16, 16'384, pageable, machine,
     Route::host_cast, bfloat16, true, 32'768, 1, 0},
    {"f32 -> bf16 pinned: 65536 B", in, float32, bfloat16, 16'384, pinned, machine,
     Route::host_cast, bfloat16, true, 32'768, 1, 0},
    {"f32 -> bf16 coherent: 65536 B", in, float32, bfloat16, 16'384, coherent, machine,
     Route::host_cast, bfloat16, true, 32'768, 1, 0},
    {"f32 -> f32 pinned, 4 B", in, float32, float32, 1, pinned, machine, Route::host_cast, float32, true, 4, 1, 0},
    {"f32 -> f32 pinned: 65540 B, where it lies", in, float32, float32, 16'385, pinned, machine,
     Route::direct, float32, false, 65'540, 1, 0},
    {"u8 -> f32 pageable: 16384 x 4 B are as soon there as 16384", in, uint8, float32, 16'384, pageable, machine,
     Route::host_cast, float32, true, 65'536, 1, 0},
    {"u8 -> f32 pageable: 65540 B are wide, 16385 cross, a kernel reads the slot", in, uint8, float32, 16'385, pageable,
     machine, Route::mapped, uint8, true, 16'385, 0, 1},
    {"u8 -> f32 pageable: 65536 B cross", in, uint8, float32, 65'536, pageable, machine,
     Route::mapped, uint8, true, 65'536, 0, 1},
    // A kernel reads up to 1048576 B out of the slots.
    {"u8 -> f32 pageable: 524288 B cross", in, uint8, float32, 524'288, pageable, machine,
     Route::mapped, uint8, true, 524'288, 0, 1},
    {"u8 -> f32 pageable: 1048576 B cross, in two chunks", in, uint8, float32, 1'048'576, pageable, machine,
     Route::mapped, uint8, true, 1'048'576, 0, 2},
    {"u8 -> f32 pageable: 1048577 B cross, in three chunks", in, uint8, float32, 1'048'577, pageable, machine,
     Route::device_cast, uint8, true, 1'048'577, 3, 3},
    {"u8 -> f32 pageable: 400000 B cross, more than kernels read", in, uint8, float32, 400'000, pageable,
     [] { Machine m = machine; m.small_pinned = 399'999; return m; }(),
     Route::device_cast, uint8, true, 400'000, 1, 1},
    // Pinned, and cast: up to 1048576 B are read where they lie, by one launch.
    {"f32 -> bf16 pinned: 65540 B", in, float32, bfloat16, 16'385, pinned, machine,
     Route::mapped, float32, false, 65'540, 0, 1},
    {"f32 -> bf16 pinned: 262144 x 4 B, whatever the cores", in, float32, bfloat16, 262'144, pinned, with_cores(64),
     Route::mapped, float32, false, 1'048'576, 0, 1},
    {"f32 -> bf16 pinned: 1048580 B, ceil(262145 / 131072) = 3 chunks", in, float32, bfloat16, 262'145, pinned, machine,
     Route::device_cast, float32, false, 1'048'580, 3, 3},
    // To a quarter of the bytes or less, where the host is faster than the wire: up to 262144 B.
    {"f64 -> bf16 pinned, 8 cores: 32768 x 8 B", in, float64, bfloat16, 32'768, pinned, with_cores(8),
     Route::mapped, float64, false, 262'144, 0, 1},
    {"f64 -> bf16 pinned, 8 cores: 262152 B, 3.3 us < 5.2 us", in, float64, bfloat16, 32'769, pinned, with_cores(8),
     Route::host_cast, bfloat16, true, 65'538, 1, 0},
    {"f64 -> bf16 pinned, 1 core: 262152 B", in, float64, bfloat16, 32'769, pinned, machine,
     Route::mapped, float64, false, 262'152, 0, 1},
    {"f64 -> f32 pinned, 8 cores: half of 262152 B", in, float64, float32, 32'769, pinned, with_cores(8),
     Route::mapped, float64, false, 262'152, 0, 1},
    {"u8 -> f32 pinned: 1048576 B cross", in, uint8, float32, 1'048'576, pinned, machine,
     Route::mapped, uint8, false, 1'048'576, 0, 1},
    // Coherent: the device reads it itself, wide as it is.
    {"f32 -> bf16 coherent", in, float32, bfloat16, million, coherent, with_cores(64),
     Route::mapped, float32, false, 4'000'000, 0, 1},
    {"bf16 -> f32 to coherent memory", out, bfloat16, float32, million, coherent, machine,
     Route::mapped, float32, false, 4'000'000, 0, 1},
    {"c64 -> f32 pinned, 1 core: 800 us > 160 us; ceil(8e6/524288) = 16 chunks", in, complex64, float32, million,
     pinned, machine, Route::device_cast, complex64, false, 8'000'000, 16, 16},
    {"c128 -> c64: pairs of what kernels convert", in, complex128, complex64, million, pinned, machine,
     Route::device_cast, complex128, false, 16'000'000, 31, 31},
    // To the host: narrowed before the wire by kernels that write the slots, widened behind it by the host.
    {"f32 -> bf16 to pageable: 2e6 B", out, float32, bfloat16, million, pageable, machine,
     Route::mapped, bfloat16, true, 2'000'000, 0, 4},
    {"f32 -> bf16 to pinned: a kernel writes it, at once", out, float32, bfloat16, million, pinned, machine,
     Route::mapped, bfloat16, false, 2'000'000, 0, 1},
    {"bf16 -> f32 to pageable: 2e6 B cross", out, bfloat16, float32, million, pageable, machine,
     Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"bf16 -> f32 to pinned: 2e6 B cross, into slots", out, bfloat16, float32, million, pinned, machine,
     Route::host_cast, bfloat16, true, 2'000'000, 4, 0},
    {"f32 -> f32 to pageable", out, float32, float32, million, pageable, machine,
     Route::host_cast, float32, true, 4'000'000, 8, 0},
    {"f32 -> f32 to pinned", out, float32, float32, million, pinned, machine,
     Route::direct, float32, false, 4'000'000, 1, 0},
    {"f32 -> bf16 to pageable, small", out, float32, bfloat16, 1000, pageable, machine,
     Route::mapped, bfloat16, true, 2000, 0, 1},
    {"bf16 -> f32 to pageable, small: narrow bits into a slot", out, bfloat16, float32, 1000, pageable, machine,
     Route::host_cast, bfloat16, true, 2000, 1, 0},
    {"f32 -> f32 to pinned, small", out, float32, float32, 1, pinned, machine, Route::direct, float32, false, 4, 1, 0},
    {"no elements", in, float32, bfloat16, 0, pageable, machine, Route::nothing, float32, false, 0, 0, 0},
  };
  // clang-format on
  return rows;
}

// A view of memory that is not there: a plan never looks.
struct Question {
  Question(DType dtype, std::vector<std::int64_t> dims, Direction direction) : shape(std::move(dims)) {
    strides.resize(shape.size());
    row_major_strides(shape, strides);
    view.dtype = dtype;
    view.shape = shape;
    view.strides = strides;
    if (direction == Direction::to_host) view.device = {DeviceType::cuda, 0};
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;
  ~Question() = default;

  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  TensorView view{.data = reinterpret_cast<const void*>(0x1000)};
};

TransferPlan plan_of(const Question& question, Direction direction, DType to, const CastOptions& options = {},
                     HostMemory host = pageable) {
  return plan_transfer(question.view, {.direction = direction, .to = to, .options = options, .host = host}, machine);
}

BOOST_AUTO_TEST_SUITE(cuda_plan)

BOOST_DATA_TEST_CASE(the_narrow_side_of_the_wire, boost::unit_test::data::make(cases()), row) {
  const Question question(row.from, {row.count}, row.direction);
  const MutableView destination{
      .data = reinterpret_cast<void*>(0x1000), .dtype = row.to, .shape = question.shape, .strides = question.strides};
  const TransferWish wish{.direction = row.direction,
                          .to = row.to,
                          .options = {.casting = Casting::unsafe},
                          .host = row.host,
                          .destination = row.direction == out ? &destination : nullptr};
  const TransferPlan plan = plan_transfer(question.view, wish, row.constants);
  BOOST_TEST(to_string(plan.route) == to_string(row.route));
  BOOST_TEST(to_string(plan.wire) == to_string(row.wire));
  BOOST_TEST(plan.staged == row.staged);
  BOOST_TEST(!plan.whole);
  BOOST_TEST(plan.bytes_wire == row.bytes_wire);
  BOOST_TEST(plan.copies == row.copies);
  BOOST_TEST(plan.launches == row.launches);
  BOOST_TEST(!plan.because.empty());
  // The steps tell the same: what crosses is in exactly one of them.
  std::uint64_t shipped = 0;
  for (const Step& step : plan.steps) {
    if (step.kind == StepKind::ship) shipped += step.bytes_read;
  }
  BOOST_TEST(shipped == (plan.copy_engine ? plan.bytes_wire : 0U));
}

// Whoever carries a plan out is not told why.
BOOST_DATA_TEST_CASE(words_change_nothing_else, boost::unit_test::data::make(cases()), row) {
  const Question question(row.from, {row.count}, row.direction);
  const CastOptions options{.casting = Casting::unsafe};
  const TransferWish wish{.direction = row.direction, .to = row.to, .options = options, .host = row.host};
  const TransferPlan silent = detail::plan_transfer(question.view, wish, row.constants, detail::Words::none);
  BOOST_TEST(silent.because.empty());
  BOOST_TEST(silent.steps.empty());
  const TransferPlan plan = plan_transfer(question.view, wish, row.constants);
  const auto numbers = [](const TransferPlan& p) {
    return std::array<std::uint64_t, 13>{static_cast<std::uint64_t>(p.route),
                                         p.elements,
                                         p.part,
                                         p.parts,
                                         p.chunks,
                                         p.copies,
                                         p.launches,
                                         p.bytes_wire,
                                         p.whole,
                                         p.staged,
                                         p.copy_engine,
                                         p.kernel,
                                         p.device_casts};
  };
  BOOST_TEST(numbers(silent) == numbers(plan), boost::test_tools::per_element());
  // What is small is the same from any memory: nobody asks.
  if (row.direction != in || !detail::is_small_transfer(question.view, row.to, row.constants)) return;
  for (const HostMemory memory : {pageable, pinned, coherent}) {
    TransferWish other = wish;
    other.host = memory;
    BOOST_TEST(to_string(plan_transfer(question.view, other, row.constants)) == to_string(plan));
  }
}

// Every other column of 1000 x 2000 in device memory, 1e6 elements: a kernel has to gather or scatter them, and does in
// the same launch whatever else it is there for.
BOOST_AUTO_TEST_CASE(a_layout_in_device_memory_costs_no_more_than_a_kernel) {
  struct Row {
    const char* name;
    Direction direction;
    DType from;
    DType to;
    HostMemory host;
    const char* expected;
  };
  const std::array rows{
      // From the host: what crosses is as for a row-major tensor; where a copy engine would have written the result, it
      // writes chunks beside it, and a kernel scatters them: ceil(4e6 / 524288) = 8 of each.
      Row{"pageable", in, float32, float32, pageable, "device_cast staged, 4000000 B, 8 copies, 8 launches"},
      Row{"pinned", in, float32, float32, pinned, "device_cast, 4000000 B, 8 copies, 8 launches"},
      Row{"narrowed", in, float32, bfloat16, pageable, "device_cast staged, 2000000 B, 4 copies, 4 launches"},
      Row{"widened", in, bfloat16, float32, pageable, "device_cast staged, 2000000 B, 4 copies, 4 launches"},
      Row{"coherent", in, float32, bfloat16, coherent, "mapped, 4000000 B, 0 copies, 1 launches"},
      // To the host: the kernel that gathers writes the host's memory itself.
      Row{"pageable", out, float32, float32, pageable, "mapped staged, 4000000 B, 0 copies, 8 launches"},
      Row{"pinned", out, float32, float32, pinned, "mapped, 4000000 B, 0 copies, 1 launches"},
      Row{"narrowed", out, float32, bfloat16, pageable, "mapped staged, 2000000 B, 0 copies, 4 launches"},
      Row{"widened", out, bfloat16, float32, pinned, "mapped staged, 2000000 B, 0 copies, 4 launches"},
      Row{"coherent", out, bfloat16, float32, coherent, "mapped, 4000000 B, 0 copies, 1 launches"},
      // On the device: one launch, and nothing crosses.
      Row{"narrowed", Direction::on_device, float32, bfloat16, pageable, "on_device, 0 B, 0 copies, 1 launches"},
      Row{"copied", Direction::on_device, float32, float32, pageable, "on_device, 0 B, 0 copies, 1 launches"},
  };
  for (const Row& row : rows) {
    const bool to_device = row.direction == in;
    Question source(row.from, {1000, 1000}, to_device ? in : out);
    Question destination(row.to, {1000, 1000}, row.direction == out ? in : out);
    (to_device ? destination : source).strides = {2000, 2};
    MutableView into{.data = reinterpret_cast<void*>(0x2000),
                     .dtype = row.to,
                     .device = destination.view.device,
                     .shape = destination.shape,
                     .strides = destination.strides};
    const TransferPlan plan = plan_transfer(
        source.view, {.direction = row.direction, .to = row.to, .host = row.host, .destination = &into}, machine);
    BOOST_TEST_INFO_SCOPE(row.name << " " << static_cast<int>(row.direction));
    const std::string found = std::string(to_string(plan.route)) + (plan.staged ? " staged" : "") + ", " +
                              std::to_string(plan.bytes_wire) + " B, " + std::to_string(plan.copies) + " copies, " +
                              std::to_string(plan.launches) + " launches";
    BOOST_TEST(found == row.expected);
    BOOST_TEST(plan.strided);
    const bool said = std::any_of(plan.steps.begin(), plan.steps.end(),
                                  [](const Step& step) { return step.how.find("strided") != std::string::npos; });
    BOOST_TEST(said);
  }
}

BOOST_AUTO_TEST_CASE(axes_that_change_places_on_the_device_are_a_layout) {
  Question question(float32, {1000, 1000}, out);
  const std::array<std::int64_t, 2> axes{1, 0};
  const TransferPlan plan = plan_of(question, out, float32, {.permute = axes});
  BOOST_TEST(plan.strided);
  BOOST_TEST(!plan.whole);
  BOOST_TEST(plan.launches == 8U);
  // Unless all of it is looked at by the host, which permutes it then.
  const TransferPlan checked = plan_of(question, out, bfloat16, {.overflow = Overflow::raise, .permute = axes});
  BOOST_TEST(checked.whole);
  BOOST_TEST(!checked.strided);
  BOOST_TEST(checked.copies == 8U);
}

BOOST_AUTO_TEST_CASE(what_the_options_change) {
  const Question question(float32, {1000, 1000}, in);
  const auto route = [&](const CastOptions& options, DType to = bfloat16) {
    const TransferPlan plan = plan_of(question, in, to, options, pinned);
    return std::string(to_string(plan.route)) + (plan.staged ? " staged" : "") + (plan.whole ? " whole" : "");
  };
  BOOST_TEST(route({}) == "device_cast");
  BOOST_TEST(route({.overflow = Overflow::saturate}) == "device_cast");
  Report report;
  BOOST_TEST(route({.report = &report}) == "device_cast");
  BOOST_TEST(route({.report = &report}, float32) == "host_cast staged");  // NaN, in what is only moved
  BOOST_TEST(route({.scale = 2.0}) == "device_cast");
  BOOST_TEST(route({.scale = 2.0}, float32) == "device_cast");
  const std::vector<double> many(1000, 2.0);
  BOOST_TEST(route({.scale = many, .axis = 1}) == "host_cast staged");  // too many for a launch
  BOOST_TEST(route({.overflow = Overflow::raise}) == "host_cast staged whole");
  BOOST_TEST(route({.casting = Casting::same_value}) == "host_cast staged whole");
  BOOST_TEST(route({.rounding = Rounding::stochastic, .seed = 1}) == "device_cast");
  // Where nothing can be lost there is nothing to check.
  BOOST_TEST(route({.casting = Casting::same_value}, float64) == "device_cast");
  const std::array<std::int64_t, 2> axes{1, 0};
  BOOST_TEST(route({.permute = axes}) == "host_cast staged");
  BOOST_TEST(route({.permute = axes}, float64) == "device_cast staged");  // brought into order, and widened there
  const std::array<std::int64_t, 2> same{0, 1};
  BOOST_TEST(route({.permute = same}) == "device_cast");
}

// Whoever casts does all that the options say of it, and kernels that count are waited for.
BOOST_AUTO_TEST_CASE(scale_shift_chance_and_counts_are_whose_the_cast_is) {
  Report report;
  const std::vector<double> scales{1, 2, 3, 4, 5};
  const auto told = [&](Direction direction, DType from, DType to, CastOptions options, HostMemory host = pageable,
                        bool deferred = false) {
    options.casting = Casting::unsafe;
    const Question question(from, {200'000, 5}, direction);
    TransferWish wish{.direction = direction, .to = to, .options = options, .host = host, .deferred = deferred};
    const TransferPlan plan = plan_transfer(question.view, wish, machine);
    return to_string(plan.wire) + (plan.device_casts ? ", by a kernel" : ", by the host") +
           (plan.whole ? ", all at once" : "") + (plan.counts ? ", counted" : "") + (plan.flat ? "" : ", by rows");
  };
  const CastOptions scaled{.scale = 0.5};
  const CastOptions chance{.rounding = Rounding::stochastic, .seed = 1};
  const CastOptions counted{.report = &report};
  // Bytes that become wide cross as they are, and are scaled behind the wire.
  BOOST_TEST(told(in, uint8, float32, scaled) == "uint8, by a kernel");
  BOOST_TEST(told(in, uint8, bfloat16, {.scale = scales, .axis = 1, .report = &report}) ==
             "uint8, by a kernel, counted");
  BOOST_TEST(told(in, float32, bfloat16, scaled) == "bfloat16, by the host");
  BOOST_TEST(told(in, float32, float32, scaled) == "float32, by the host");
  BOOST_TEST(told(in, float32, bfloat16, counted) == "bfloat16, by the host");
  BOOST_TEST(told(in, bfloat16, float32, counted) == "bfloat16, by a kernel, counted");
  BOOST_TEST(told(in, float32, bfloat16, chance) == "bfloat16, by the host, all at once");
  BOOST_TEST(told(in, float32, bfloat16, chance, pinned) == "float32, by a kernel");
  BOOST_TEST(told(in, bfloat16, float32, chance) == "bfloat16, by a kernel");
  BOOST_TEST(told(out, float32, bfloat16, scaled) == "bfloat16, by a kernel");
  BOOST_TEST(told(out, float32, bfloat16, counted) == "bfloat16, by a kernel, counted");
  BOOST_TEST(told(out, float32, bfloat16, chance) == "bfloat16, by a kernel");
  BOOST_TEST(told(out, bfloat16, float16, chance) == "float16, by a kernel");
  BOOST_TEST(told(out, float8_e8m0fnu, float16, chance) == "float8_e8m0fnu, by the host, all at once");
  BOOST_TEST(told(out, bfloat16, float32, scaled) == "bfloat16, by the host");
  BOOST_TEST(told(out, float32, bfloat16, {.overflow = Overflow::raise}) == "float32, by the host, all at once");
  BOOST_TEST(told(out, float32, bfloat16, scaled, pageable, true) == "bfloat16, by a kernel");
  BOOST_TEST(told(out, float32, bfloat16, counted, pageable, true) == "float32, by the host, all at once");
  BOOST_TEST(told(Direction::on_device, float32, float32, counted) == "float32, by the host, counted");
  BOOST_TEST(told(Direction::on_device, float32, bfloat16, {.overflow = Overflow::raise}) ==
             "bfloat16, by a kernel, counted");
  BOOST_TEST(told(Direction::on_device, int32, int64, counted) == "int64, by a kernel, counted");
  BOOST_TEST(told(Direction::on_device, int32, int32, counted) == "int32, by the host");
}

// Into slots' worth, smaller transfers into eighths, in steps of 64 KiB between 512 KiB and a slot.
BOOST_AUTO_TEST_CASE(smaller_transfers_are_cut_into_smaller_chunks) {
  Machine large = machine;
  large.chunk = large.first_chunk = 4096 * kib;
  const auto chunk_of = [&](std::int64_t bytes) {
    Question question(uint8, {bytes}, in);
    const TransferPlan plan = plan_transfer(question.view, {.to = uint8}, large);
    BOOST_TEST(plan.parts == 1U);
    BOOST_TEST(plan.copies == (static_cast<std::uint64_t>(bytes) + plan.part - 1) / plan.part);
    return plan.part;
  };
  constexpr std::int64_t mib = 1024 * 1024;
  BOOST_TEST(chunk_of(100'000) == 100'000U);
  BOOST_TEST(chunk_of(mib) == 512 * kib);
  BOOST_TEST(chunk_of(4 * mib) == 512 * kib);
  BOOST_TEST(chunk_of(4 * mib + 8) == 576 * kib);
  BOOST_TEST(chunk_of(8 * mib) == 1024 * kib);
  BOOST_TEST(chunk_of(32 * mib) == 4096 * kib);
  BOOST_TEST(chunk_of(100 * mib) == 4096 * kib);
}

// Through slots a first chunk of 256 KiB at least crosses, and each of the later ones has as many bytes as all before
// it.
BOOST_AUTO_TEST_CASE(the_first_chunks_are_smaller) {
  Machine large = machine;
  large.chunk = 8192 * kib;
  large.first_chunk = 256 * kib;
  struct Cut {
    std::uint64_t part;
    std::uint64_t parts;
    std::uint64_t chunks;
    bool operator==(const Cut&) const = default;
  };
  const auto cut_of = [&](std::int64_t bytes, HostMemory host = pageable) {
    const Question question(float32, {bytes / 4}, in);
    const TransferPlan plan =
        plan_transfer(question.view, {.to = int32, .options = {.casting = Casting::unsafe}, .host = host}, large);
    return Cut{plan.part * 4, plan.parts, plan.chunks};
  };
  constexpr std::int64_t mib = 1024 * 1024;
  BOOST_CHECK((cut_of(mib / 2) == Cut{512 * kib, 1, 1}));
  BOOST_CHECK((cut_of(mib) == Cut{256 * kib, 2, 3}));                // 1, 1, 2
  BOOST_CHECK((cut_of(4 * mib) == Cut{256 * kib, 2, 9}));            // 1, 1, 2 x 7
  BOOST_CHECK((cut_of(8 * mib) == Cut{256 * kib, 4, 10}));           // 1, 1, 2, 4 x 7
  BOOST_CHECK((cut_of(16 * mib) == Cut{256 * kib, 8, 11}));          // 1, 1, 2, 4, 8 x 7
  BOOST_CHECK((cut_of(256 * mib) == Cut{1024 * kib, 8, 35}));        // 1, 1, 2, 4, 8 x 31
  BOOST_CHECK((cut_of(16 * mib, pinned) == Cut{2048 * kib, 1, 8}));  // nobody fills these
  large.small_pinned = 0;
  large.first_chunk = 3 * kib;
  BOOST_CHECK((cut_of(4 * mib) == Cut{64 * kib, 8, 11}));
  large.first_chunk = 0;
  BOOST_CHECK((cut_of(4 * mib) == Cut{64 * kib, 8, 11}));
  // Elements that are larger than an eighth would be.
  const DType wide{complex128.code, complex128.bits, 65'535};
  const Question question_of_wide(wide, {3}, in);
  const TransferPlan plan_of_wide = plan_transfer(question_of_wide.view, {.to = wide}, large);
  BOOST_TEST(plan_of_wide.part == 1U);
  BOOST_TEST(plan_of_wide.chunks == 3U);
  // Elements that a part would not hold.
  large.chunk = 16;
  const Question question(complex128, {100}, in);
  const TransferPlan plan = plan_transfer(question.view, {.to = complex128}, [&] {
    Machine m = large;
    m.small = 0;
    return m;
  }());
  BOOST_TEST(plan.part == 1U);
  BOOST_TEST(plan.parts == 1U);
  BOOST_TEST(plan.chunks == 100U);
}

BOOST_AUTO_TEST_CASE(a_layout_is_cut_along_its_axes) {
  // Rows of 300000 B in chunks of 512 KiB: one row at a time, though two thirds of another would fit.
  Question question(float32, {7, 75'000}, in);
  question.strides = {150'000, 2};
  const TransferPlan plan = plan_of(question, in, float32);
  BOOST_TEST(!plan.flat);
  BOOST_TEST(plan.copies == 7U);
  // Rows of 1e6 B: 524288 / 4 = 131072 elements of one at a time, ceil(250000 / 131072) = 2 each.
  Question wide(float32, {3, 250'000}, in);
  wide.strides = {500'000, 2};
  BOOST_TEST(plan_of(wide, in, float32).copies == 6U);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_transferred_is_refused) {
  const auto refused = [](Reason reason) { return [reason](const Error& error) { return error.reason() == reason; }; };
  // Every other index of nine axes cannot be told to a kernel; of nine that continue one another it can.
  Question question(float32, std::vector<std::int64_t>(9, 2), out);
  BOOST_TEST(!plan_of(question, out, float32).strided);
  for (std::size_t axis = 0; axis < 9; ++axis) question.strides[axis] *= -2;
  BOOST_TEST(plan_of(question, out, float32).strided);
  for (std::size_t axis = 0; axis < 9; ++axis) question.strides[axis] = std::int64_t{1} << (2 * axis);
  BOOST_CHECK_EXCEPTION(static_cast<void>(plan_of(question, out, float32)), Error, refused(Reason::unavailable));
  question.shape[0] = 0;
  BOOST_TEST(to_string(plan_of(question, out, float32).route) == "nothing");
  question.shape[0] = 2;
  question.strides[0] = std::int64_t{1} << 62;
  BOOST_CHECK_EXCEPTION(static_cast<void>(plan_of(question, out, float32)), Error, refused(Reason::malformed));
  const Question plain(float32, {4, 4}, in);
  BOOST_CHECK_THROW(static_cast<void>(plan_of(plain, in, int32)), CastError);
  const Question packed(float4_e2m1fn, {5}, in);
  BOOST_TEST(plan_of(packed, in, float4_e2m1fn).bytes_wire == 3U);
  BOOST_CHECK_EXCEPTION(static_cast<void>(plan_of(packed, in, float32)), Error, refused(Reason::unsupported_dtype));
  Question padded(float4_e2m1fn, {5}, in);
  padded.view.padded = true;
  BOOST_CHECK_EXCEPTION(static_cast<void>(plan_of(padded, in, float4_e2m1fn)), Error,
                        refused(Reason::unsupported_dtype));
  const Question negative(float32, {-1}, in);
  BOOST_CHECK_EXCEPTION(static_cast<void>(plan_of(negative, in, float32)), Error, refused(Reason::malformed));
  const std::array<std::int64_t, 2> axes{0, 0};
  BOOST_CHECK_EXCEPTION(static_cast<void>(plan_of(plain, in, float32, {.permute = axes})), Error,
                        refused(Reason::permute));
}

BOOST_AUTO_TEST_CASE(words_for_people) {
  const Question question(float32, {million}, in);
  BOOST_TEST(to_string(plan_of(question, in, bfloat16)) ==
             "float32 -> device bfloat16: host_cast, 2000000 B over the wire\n"
             "  because   the host has to copy pageable memory, and casts on the way\n"
             "  cast      float32 -> bfloat16, on the host, into pinned slots, reads 4000000 B, writes 2000000 B\n"
             "  ship      bfloat16, 4 copies by a copy engine, reads 2000000 B, writes 2000000 B");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
