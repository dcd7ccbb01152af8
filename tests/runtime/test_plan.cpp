// The planner against an independent model over random questions, and its words for people.
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <ostream>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "halfway/layout.h"
#include "halfway/plan.h"
#include "producer.h"

namespace {

using halfway::CastError;
using halfway::Casting;
using halfway::Copy;
using halfway::DType;
using halfway::Error;
using halfway::Plan;
using halfway::Reason;
using halfway::SourceTraits;
using halfway::Step;
using halfway::StepKind;
using halfway::Target;
using halfway::TensorView;
using halfway::TypeCode;
using halfway::Wish;
namespace data = boost::unit_test::data;

// Targets like the bindings' own.
bool torch_has(DType dtype) {
  return dtype.lanes == 1 && dtype.bits >= 8 && dtype != halfway::float8_e3m4 && dtype != halfway::float8_e4m3;
}
bool numpy_has(DType dtype) { return dtype != halfway::complex32 && dtype.lanes == 1 && dtype.bits >= 8; }

const std::array<Target, 3>& targets() {
  static const std::array<Target, 3> rows{
      Target{.name = "torch",
             .has_dtype = torch_has,
             .negative_strides = false,
             .fractional_strides = false,
             .readonly = false,
             .misaligned = false,
             .swapped = false},
      Target{.name = "numpy", .has_dtype = numpy_has, .fractional_strides = true, .swapped = true, .max_ndim = 32},
      Target{.name = "halfway"},
  };
  return rows;
}
const Target& torch() { return targets()[0]; }
const Target& numpy() { return targets()[1]; }

// A question with everything it points to.
struct Question {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  TensorView view;
  SourceTraits traits;
  Wish wish;

  Question() {
    // Nothing may be read: any touch faults.
    view.data = halfway_test::forbidden();
    view.readonly = false;
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;
  ~Question() = default;

  void set(DType dtype, std::vector<std::int64_t> new_shape) {
    shape = std::move(new_shape);
    strides.resize(shape.size());
    halfway::row_major_strides(shape, strides);
    view.dtype = dtype;
    view.shape = shape;
    view.strides = strides;
  }
  [[nodiscard]] Plan plan() const { return halfway::plan(view, traits, wish); }
};

using Names = std::vector<std::string>;

Names names(std::span<const Reason> reasons) {
  Names result;
  for (const Reason reason : reasons) result.emplace_back(to_string(reason));
  return result;
}

// What comes of a question: a line a step, or the error with its reasons.
struct Outcome {
  std::string kind;  // "plan", "Error", "CastError"
  Names reasons;
  std::vector<std::string> steps;

  friend bool operator==(const Outcome&, const Outcome&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
    out << outcome.kind << " [";
    for (const std::string& reason : outcome.reasons) out << ' ' << reason;
    out << " ]";
    for (const std::string& step : outcome.steps) out << " {" << step << '}';
    return out;
  }
};

std::string step_text(const std::string& kind, DType from, DType to, std::uint64_t read, std::uint64_t written) {
  return kind + ' ' + to_string(from) + ' ' + to_string(to) + ' ' + std::to_string(read) + ' ' +
         std::to_string(written);
}

Outcome outcome_of(const Question& question) {
  try {
    const Plan plan = question.plan();
    Outcome outcome{"plan", names(plan.reasons), {}};
    for (const Step& step : plan.steps) {
      outcome.steps.push_back(
          step_text(std::string(to_string(step.kind)), step.from, step.to, step.bytes_read, step.bytes_written));
    }
    return outcome;
  } catch (const CastError& error) {
    return {"CastError", names(error.reasons()), {}};
  } catch (const Error& error) {
    return {"Error", names(error.reasons()), {}};
  }
}

bool castable(DType dtype) {
  const halfway::DTypeInfo* const row = halfway::find(dtype);
  return row != nullptr && row->castable;
}

// The rules as a user would state them, decision by decision.
Outcome model(const Question& q) {
  const TensorView& x = q.view;
  const Target& target = q.wish.target;
  const DType to = q.wish.dtype ? *q.wish.dtype : x.dtype;
  if (!is_host(x.device)) return {"Error", {"device"}, {}};
  if (static_cast<int>(x.shape.size()) > target.max_ndim) return {"Error", {"malformed"}, {}};
  if (target.has_dtype && !target.has_dtype(to)) return {"Error", {"unsupported_dtype"}, {}};

  const bool empty = std::count(x.shape.begin(), x.shape.end(), 0) > 0;
  bool negative = false;
  bool fractional = false;
  bool off_grid = false;
  const auto item = x.padded && x.dtype.bits < 8 ? 1 : static_cast<std::int64_t>(item_size(x.dtype));
  const auto grid = static_cast<std::int64_t>(alignment(x.dtype));
  off_grid |= static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(x.data)) % grid != 0;
  for (std::size_t i = 0; i < x.shape.size(); ++i) {
    if (x.shape[i] < 2) continue;
    const std::int64_t bytes = x.strides_in_bytes ? x.strides[i] : x.strides[i] * item;
    negative |= bytes < 0;
    fractional |= item != 0 && bytes % item != 0;
    off_grid |= bytes % grid != 0;
  }

  // Reasons by name: the set of their enumerators keeps the order.
  std::set<Reason> why;
  const auto because = [&](bool yes, Reason reason) {
    if (yes) why.insert(reason);
  };
  because(q.traits.neg, Reason::neg);
  because(q.traits.conj, Reason::conj);
  because(q.traits.requires_grad, Reason::requires_grad);
  because(q.wish.into_out || q.wish.copy == Copy::always, Reason::copy_requested);
  because(x.readonly && !(target.readonly || q.wish.allow_readonly), Reason::readonly);
  because(!empty && off_grid && !target.misaligned, Reason::misaligned);
  because(!empty && fractional && !target.fractional_strides, Reason::fractional_strides);
  because(!empty && negative && !target.negative_strides, Reason::negative_strides);
  because(x.swapped && x.dtype.bits >= 16 && !target.swapped, Reason::byte_order);
  because(!(to == x.dtype), Reason::dtype);
  const Names reasons = names(std::vector<Reason>(why.begin(), why.end()));

  if (q.wish.copy == Copy::never && !why.empty()) return {"Error", reasons, {}};
  if (to != x.dtype) {
    if (!castable(x.dtype) || !castable(to)) return {"Error", {"unsupported_dtype"}, {}};
    if (!can_cast(x.dtype, to, q.wish.options.casting)) return {"CastError", {"dtype"}, {}};
  }
  if (why.contains(Reason::byte_order) && q.wish.options.casting == Casting::no) return {"CastError", {"dtype"}, {}};

  std::uint64_t count = 1;
  for (const std::int64_t dim : x.shape) count *= static_cast<std::uint64_t>(dim);
  const auto size = [&](DType dtype, bool padded) {
    const auto bits = static_cast<std::uint64_t>(padded && dtype.bits < 8 ? 8 : dtype.bits * dtype.lanes);
    return (count * bits + 7) / 8;
  };
  const std::uint64_t in = size(x.dtype, x.padded);
  const std::uint64_t out = size(to, false);
  Outcome outcome{"plan", reasons, {}};
  if (why.empty()) {
    outcome.steps = {step_text("alias", x.dtype, to, 0, 0)};
    return outcome;
  }
  const bool lazy = q.traits.conj || q.traits.neg;
  if (lazy) outcome.steps.push_back(step_text("resolve", x.dtype, x.dtype, in, in));
  if (to != x.dtype) outcome.steps.push_back(step_text("cast", x.dtype, to, in, out));
  if (to == x.dtype && (!lazy || q.wish.into_out)) outcome.steps.push_back(step_text("copy", to, to, in, in));
  return outcome;
}

class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  int below(int n) { return static_cast<int>(engine_() % static_cast<unsigned>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int>(values.size()))];
  }
  DType dtype() {
    if (one_in(3))
      return halfway::dtypes()[static_cast<std::size_t>(below(static_cast<int>(halfway::dtypes().size())))].dtype;
    return pick({halfway::float32, halfway::float64, halfway::bfloat16, halfway::uint8, halfway::int16,
                 halfway::complex64, DType(200, 24, 1), DType(TypeCode::float_, 32, 4)});
  }

  void fill(Question& q) {
    std::vector<std::int64_t> shape(static_cast<std::size_t>(one_in(50) ? 40 : below(5)));
    for (std::int64_t& dim : shape) dim = shape.size() > 5 ? 1 : one_in(10) ? 0 : 1 + below(4);
    q.set(dtype(), shape);
    TensorView& view = q.view;
    if (item_size(view.dtype) == 0) {
      view.padded = one_in(2);
    } else if (one_in(4)) {
      view.strides_in_bytes = true;
      for (std::int64_t& stride : q.strides) stride *= static_cast<std::int64_t>(item_size(view.dtype));
    }
    if (item_size(view.dtype) != 0 || view.padded) {
      for (std::int64_t& stride : q.strides) {
        if (one_in(12)) stride = -stride;
        if (one_in(12)) stride += below(5);
      }
    }
    view.data = halfway_test::forbidden() + (one_in(6) ? 1 + below(7) : 0);
    view.readonly = one_in(5);
    view.swapped = one_in(8);
    if (one_in(30)) view.device = {halfway::DeviceType::cuda, 1};
    if (one_in(10)) view.device = {pick({halfway::DeviceType::cuda_host, halfway::DeviceType::cuda_managed}), 0};
    q.traits = {one_in(12), one_in(12), one_in(12)};
    q.wish.target = targets()[static_cast<std::size_t>(below(3))];
    if (one_in(2)) q.wish.dtype = one_in(3) ? view.dtype : dtype();
    q.wish.copy = pick({Copy::if_needed, Copy::if_needed, Copy::never, Copy::always});
    q.wish.allow_readonly = one_in(4);
    q.wish.into_out = one_in(8);
    q.wish.options.casting = pick({Casting::no, Casting::equiv, Casting::safe, Casting::same_kind, Casting::same_kind,
                                   Casting::unsafe, Casting::unsafe, Casting::same_value});
  }

 private:
  std::mt19937 engine_;
};

BOOST_AUTO_TEST_SUITE(plan)

BOOST_AUTO_TEST_CASE(agrees_with_the_model) {
  Random random(42);
  std::map<std::string, int> seen;  // outcomes, reasons and steps: that the questions reach all of them
  for (int round = 0; round < 100000; ++round) {
    Question question;
    random.fill(question);
    const Outcome expected = model(question);
    const Outcome found = outcome_of(question);
    if (found != expected) BOOST_FAIL("round " << round << ": " << found << ", not " << expected);
    ++seen[found.kind];
    for (const std::string& reason : found.reasons) ++seen[reason];
    for (const std::string& step : found.steps) ++seen["step " + step.substr(0, step.find(' '))];
  }
  for (const char* what : {"plan",
                           "Error",
                           "CastError",
                           "dtype",
                           "byte_order",
                           "device",
                           "negative_strides",
                           "fractional_strides",
                           "misaligned",
                           "readonly",
                           "copy_requested",
                           "unsupported_dtype",
                           "requires_grad",
                           "conj",
                           "neg",
                           "malformed",
                           "step alias",
                           "step resolve",
                           "step copy",
                           "step cast"}) {
    BOOST_TEST(seen[what] > 100, what << " was seen " << seen[what] << " times");
  }
}

BOOST_AUTO_TEST_CASE(is_consistent_in_itself) {
  Random random(43);
  for (int round = 0; round < 30000; ++round) {
    Question question;
    random.fill(question);
    Plan plan;
    try {
      plan = question.plan();
    } catch (const Error&) {
      continue;
    }
    const bool alias = plan.steps.size() == 1 && plan.steps[0].kind == StepKind::alias;
    bool good = plan.zero_copy == plan.reasons.empty() && plan.zero_copy == alias && !plan.steps.empty();
    good &= std::is_sorted(plan.reasons.begin(), plan.reasons.end());
    good &= question.wish.copy != Copy::never || plan.zero_copy;
    good &= question.wish.copy != Copy::always || !plan.zero_copy;
    good &= plan.steps.front().from == question.view.dtype && plan.steps.back().to == plan.to;
    std::uint64_t read = 0;
    std::uint64_t written = 0;
    for (std::size_t i = 0; i < plan.steps.size(); ++i) {
      read += plan.steps[i].bytes_read;
      written += plan.steps[i].bytes_written;
      good &= i == 0 || plan.steps[i].from == plan.steps[i - 1].to;
    }
    good &= plan.bytes_read == read && plan.bytes_written == written && plan.bytes_wire == 0;
    good &= plan.shape == question.shape && plan.target == question.wish.target.name;
    good &= plan.from == question.view.dtype && plan.to == question.wish.dtype.value_or(question.view.dtype);
    if (!good) BOOST_FAIL("round " << round << '\n' << to_string(plan));
  }
}

// --- errors and their hints

struct Refusal {
  const char* reasons;
  const char* message;
  const char* hint;
  void (*ask)(Question&);

  friend std::ostream& operator<<(std::ostream& out, const Refusal& row) { return out << row.message; }
};

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> rows{
      {"dtype", "torch cannot use this memory as it is: float32 is not bfloat16", "leave copy unset, or cast first",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.wish.dtype = halfway::bfloat16;
       }},
      {"byte_order", "torch cannot use this memory as it is: the bytes are in the other byte order",
       "leave copy unset, or swap the bytes first",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.view.swapped = true;
       }},
      {"negative_strides readonly",
       "torch cannot use this memory as it is: torch has no negative strides, the source is read-only and torch cannot "
       "say so",
       "leave copy unset, or flip the axes in the target",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.view.readonly = true;
         q.strides[0] = -1;
       }},
      {"fractional_strides misaligned",
       "torch cannot use this memory as it is: the strides are not whole elements, the memory is not aligned to 4 "
       "bytes",
       "leave copy unset",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.view.strides_in_bytes = true;
         q.strides[0] = 5;
       }},
      {"readonly", "torch cannot use this memory as it is: the source is read-only and torch cannot say so",
       "pass allow_readonly=True to alias it knowingly",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.view.readonly = true;
       }},
      {"requires_grad", "torch cannot use this memory as it is: the tensor takes part in automatic differentiation",
       "call .detach() first",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.traits.requires_grad = true;
       }},
      {"conj",
       "torch cannot use this memory as it is: the tensor's conjugate bit is set: its memory holds the conjugates",
       "call .resolve_conj() first",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.traits.conj = true;
       }},
      {"neg", "torch cannot use this memory as it is: the tensor's negative bit is set: its memory holds the negatives",
       "call .resolve_neg() first",
       [](Question& q) {
         q.wish.copy = Copy::never;
         q.traits.neg = true;
       }},
      {"unsupported_dtype", "torch has no dtype float8_e4m3", "pass dtype= to cast it to one that it has",
       [](Question& q) { q.view.dtype = halfway::float8_e4m3; }},
      {"unsupported_dtype", "torch has no dtype float32x4",
       "keep it a halfway.Tensor: its bytes travel, but are never cast",
       [](Question& q) { q.view.dtype = DType(TypeCode::float_, 32, 4); }},
      {"unsupported_dtype", "torch has no dtype float8_e4m3", "ask for another dtype",
       [](Question& q) { q.wish.dtype = halfway::float8_e4m3; }},
      {"device", "the source is on DLPack device (2, 1), which the host cannot address",
       "copy it to the host with its own library first",
       [](Question& q) {
         q.view.device = {halfway::DeviceType::cuda, 1};
       }},
      {"malformed", "ndim is 33, and numpy has at most 32", "",
       [](Question& q) {
         q.set(halfway::float32, std::vector<std::int64_t>(33, 1));
         q.wish.target = numpy();
       }},
  };
  return rows;
}

BOOST_DATA_TEST_CASE(says_why_not, data::make(refusals()), row) {
  Question question;
  question.set(halfway::float32, {3});
  question.wish.target = torch();
  row.ask(question);
  try {
    static_cast<void>(question.plan());
    BOOST_FAIL("planned");
  } catch (const Error& error) {
    std::string reasons;
    for (const std::string& name : names(error.reasons())) reasons += (reasons.empty() ? "" : " ") + name;
    BOOST_TEST(reasons == row.reasons);
    BOOST_TEST(error.message() == row.message);
    BOOST_TEST(error.hint() == row.hint);
    // The message names every reason that keeps the memory from being shared.
    if (question.wish.copy == Copy::never) {
      for (const std::string& name : names(error.reasons())) {
        BOOST_TEST(std::string(error.what()).find(name) != std::string::npos);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_casting_level_is_judged) {
  Question question;
  question.set(halfway::float64, {3});
  question.wish.target = numpy();
  question.wish.dtype = halfway::int32;
  BOOST_CHECK_THROW(static_cast<void>(question.plan()), CastError);
  question.wish.options.casting = Casting::unsafe;
  BOOST_CHECK_NO_THROW(static_cast<void>(question.plan()));

  // A change of byte order alone is what `no` forbids and `equiv` allows.
  question.wish.dtype.reset();
  question.wish.target = torch();
  question.view.swapped = true;
  question.wish.options.casting = Casting::no;
  BOOST_CHECK_THROW(static_cast<void>(question.plan()), CastError);
  question.wish.options.casting = Casting::equiv;
  BOOST_CHECK_NO_THROW(static_cast<void>(question.plan()));
  question.wish.target = numpy();
  question.wish.options.casting = Casting::no;
  BOOST_CHECK_NO_THROW(static_cast<void>(question.plan()));
}

// --- sizes

BOOST_AUTO_TEST_CASE(bytes_of_packed_padded_and_broadcast_elements) {
  Question question;
  question.wish.copy = Copy::always;
  question.set(DType(TypeCode::int_, 4), {3, 5});
  BOOST_TEST(question.plan().bytes_read == 8U);  // ceil(15 * 4 / 8)
  question.set(DType(TypeCode::float6_e2m3fn, 6), {7});
  BOOST_TEST(question.plan().bytes_written == 6U);  // ceil(7 * 6 / 8)
  question.view.padded = true;
  BOOST_TEST(question.plan().bytes_read == 7U);
  question.view.padded = false;
  question.set(halfway::float32, {4, 0});
  BOOST_TEST(question.plan().bytes_read == 0U);

  // More than any memory: counted as far as 64 bits go.
  question.set(halfway::complex128, {std::int64_t{1} << 62});
  question.strides[0] = 0;
  BOOST_TEST(question.plan().bytes_read == std::numeric_limits<std::uint64_t>::max());
  question.traits.conj = true;
  question.wish.dtype = halfway::complex64;
  BOOST_TEST(question.plan().bytes_read == std::numeric_limits<std::uint64_t>::max());
}

// --- words for people

BOOST_AUTO_TEST_CASE(explains_a_cast) {
  Question question;
  question.set(halfway::float64, {64, 3});
  question.wish.target = torch();
  question.wish.dtype = halfway::bfloat16;
  BOOST_TEST(to_string(question.plan()) ==
             "float64 (64, 3) -> torch bfloat16: one pass\n"
             "  because   dtype\n"
             "  cast      float64 -> bfloat16, reads 1536 B, writes 384 B");
}

BOOST_AUTO_TEST_CASE(explains_zero_copy) {
  Question question;
  question.set(halfway::float32, {3});
  question.wish.target = numpy();
  BOOST_TEST(to_string(question.plan()) ==
             "float32 (3,) -> numpy float32: zero-copy\n"
             "  alias     float32, the same memory");
}

// "The result of permute is row-major": memory that already is, with its axes in that order, needs no pass.
BOOST_AUTO_TEST_CASE(axes_that_are_turned_back_need_no_copy) {
  const std::array<std::int64_t, 3> swapped{2, 1, 0};
  const std::array<std::int64_t, 3> straight{0, 1, 2};
  struct Case {
    std::array<std::int64_t, 3> shape;
    std::array<std::int64_t, 3> strides;
    std::span<const std::int64_t> permute;
    bool zero_copy;
    std::string how{};
  };
  const std::array<Case, 7> cases{
      Case{{4, 3, 2}, {1, 4, 12}, swapped, true, "permute (2, 1, 0)"},
      Case{{4, 3, 2}, {6, 2, 1}, swapped, false, "permute (2, 1, 0)"},
      Case{{4, 3, 2}, {6, 2, 1}, straight, true, ""},
      Case{{4, 3, 2}, {1, 4, 12}, straight, false, "permute (0, 1, 2)"},
      Case{{1, 3, 1}, {99, 1, -7}, swapped, true, "permute (2, 1, 0)"},
      Case{{0, 3, 2}, {5, 5, 5}, swapped, true, "permute (2, 1, 0)"},
      Case{{4, 3, 2}, {0, 4, 12}, swapped, false, "permute (2, 1, 0)"},
  };
  const std::array<float, 24> memory{};
  for (const Case& c : cases) {
    const TensorView view{
        .data = memory.data(), .dtype = halfway::float32, .shape = c.shape, .strides = c.strides, .readonly = false};
    Wish wish;
    wish.target = targets()[1];
    wish.options.permute = c.permute;
    const Plan made = halfway::plan(view, {}, wish);
    BOOST_TEST(made.zero_copy == c.zero_copy);
    BOOST_TEST((made.reasons == (c.zero_copy ? std::vector<Reason>{} : std::vector<Reason>{Reason::permute})));
    BOOST_TEST_REQUIRE(made.steps.size() == 1U);
    BOOST_TEST((made.steps[0].kind == (c.zero_copy ? StepKind::alias : StepKind::copy)));
    BOOST_TEST(made.steps[0].how == c.how);
    wish.copy = Copy::never;
    if (c.zero_copy) {
      BOOST_TEST(halfway::plan(view, {}, wish).zero_copy);
    } else {
      BOOST_CHECK_EXCEPTION((void)halfway::plan(view, {}, wish), Error,
                            [](const Error& error) { return error.reason() == Reason::permute; });
    }
    // What torch resolves lies as torch likes it.
    wish.copy = Copy::if_needed;
    SourceTraits lazy;
    lazy.conj = true;
    const Plan resolved = halfway::plan(view, lazy, wish);
    BOOST_TEST(resolved.steps.size() == (c.how.empty() ? 1U : 2U));
  }
}

BOOST_AUTO_TEST_CASE(explains_two_passes) {
  Question question;
  question.set(halfway::complex64, {});
  question.wish.target = numpy();
  question.wish.dtype = halfway::complex128;
  question.traits = {true, true, false};
  BOOST_TEST(to_string(question.plan()) ==
             "complex64 () -> numpy complex128: two passes\n"
             "  because   dtype, requires_grad, conj\n"
             "  resolve   complex64, reads 8 B, writes 8 B\n"
             "  cast      complex64 -> complex128, reads 8 B, writes 16 B");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
