#include "halfway/plan.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

#include "cast/permission.h"
#include "cast/permutation.h"
#include "cast/transform.h"
#include "halfway/layout.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace {

struct Question {
  const TensorView& source;
  const SourceTraits& traits;
  const Wish& wish;
  DType to;
};

bool has_fractional_strides(const TensorView& view) noexcept {
  const auto size = static_cast<std::int64_t>(view.element_size());
  if (!view.strides_in_bytes || size == 0 || element_count(view.shape) == 0) return false;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] > 1 && view.strides[i] % size != 0) return true;
  }
  return false;
}

// The host's memory is one, whatever DLPack calls the ways in which it was allocated.
Device normalised(Device device) noexcept { return is_host(device) ? Device{} : device; }

bool moves_devices(const Question& q) {
  return q.wish.device && normalised(*q.wish.device) != normalised(q.source.device);
}

bool moves_axes(const Question& q) { return detail::Permutation(q.wish.options, q.source.shape.size()).moves(); }

// Whether an order of the axes is asked for in which the memory is not: the result is row-major then.
bool permutes(const Question& q) {
  const detail::Permutation permutation(q.wish.options, q.source.shape.size());
  std::array<std::int64_t, std::size_t{2} * max_ndim> geometry;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  return permutation.is_given() && !is_contiguous(permutation.arranged(q.source, geometry));
}

// What a pass does besides reading and writing dtypes.
std::string extras(const Question& q) {
  const CastOptions& options = q.wish.options;
  std::string text;
  const auto add = [&](const std::string& what) { text += (text.empty() ? "" : ", ") + what; };
  if (permutes(q) || moves_axes(q)) add("permute " + detail::tuple_text(*options.permute));
  if (options.is_affine()) add("affine" + (options.axis ? " along axis " + std::to_string(*options.axis) : ""));
  if (options.rounding == Rounding::stochastic && q.to != q.source.dtype) add("stochastic");
  return text;
}

std::string target_of(const Question& q) {
  const Target& target = q.wish.target;
  return std::string(target.title.empty() ? target.name : target.title);
}

// What keeps a target from using the source's memory: when, in what words, and the way out.
struct Obstacle {
  Reason reason;
  bool (*stands)(const Question&);
  std::string (*words)(const Question&);  // nullptr: `describe(reason)`
  std::string_view hint;
};

constexpr std::array obstacles{
    Obstacle{Reason::dtype, [](const Question& q) { return q.to != q.source.dtype; },
             [](const Question& q) { return to_string(q.source.dtype) + " is not " + to_string(q.to); },
             "leave copy unset, or cast first"},
    Obstacle{Reason::byte_order,
             [](const Question& q) { return q.source.swapped && !q.wish.target.swapped && q.source.dtype.bits > 8; },
             nullptr, "leave copy unset, or swap the bytes first"},
    Obstacle{Reason::device, [](const Question& q) { return moves_devices(q); },
             [](const Question& q) {
               return "the memory is on " + to_string(normalised(q.source.device)) + ", not on " +
                      to_string(normalised(*q.wish.device));
             },
             "leave copy unset, or leave the memory on its device"},
    Obstacle{Reason::negative_strides,
             [](const Question& q) { return !q.wish.target.negative_strides && has_negative_strides(q.source); },
             [](const Question& q) { return target_of(q) + " has no negative strides"; },
             "leave copy unset, or flip the axes in the target"},
    Obstacle{Reason::fractional_strides,
             [](const Question& q) { return !q.wish.target.fractional_strides && has_fractional_strides(q.source); },
             nullptr, "leave copy unset"},
    Obstacle{Reason::misaligned, [](const Question& q) { return !q.wish.target.misaligned && is_misaligned(q.source); },
             [](const Question& q) {
               return "the memory is not aligned to " + std::to_string(alignment(q.source.dtype)) + " bytes";
             },
             "leave copy unset"},
    Obstacle{Reason::readonly,
             [](const Question& q) { return q.source.readonly && !q.wish.target.readonly && !q.wish.allow_readonly; },
             [](const Question& q) { return "the source is read-only and " + target_of(q) + " cannot say so"; },
             "pass allow_readonly=True to alias it knowingly"},
    Obstacle{Reason::copy_requested, [](const Question& q) { return q.wish.copy == Copy::always || q.wish.into_out; },
             [](const Question& q) {
               return std::string(q.wish.into_out ? "the result goes into memory that is there"
                                                  : "a copy was asked for");
             },
             "leave copy unset"},
    Obstacle{Reason::permute, [](const Question& q) { return permutes(q); }, nullptr,
             "leave copy unset, or permute the axes of the result in its own library"},
    Obstacle{Reason::affine, [](const Question& q) { return q.wish.options.is_affine(); }, nullptr, "leave copy unset"},
    Obstacle{Reason::requires_grad, [](const Question& q) { return q.traits.requires_grad; }, nullptr,
             "call .detach() first"},
    Obstacle{Reason::conj, [](const Question& q) { return q.traits.conj; }, nullptr, "call .resolve_conj() first"},
    Obstacle{Reason::neg, [](const Question& q) { return q.traits.neg; }, nullptr, "call .resolve_neg() first"},
};

constexpr bool in_order() {
  for (std::size_t i = 1; i < obstacles.size(); ++i) {
    if (obstacles[i - 1].reason >= obstacles[i].reason) return false;
  }
  return true;
}
static_assert(in_order(), "reasons are given in the order of their enumeration");

constexpr const Obstacle& obstacle_of(Reason reason) {
  std::size_t i = 0;
  while (obstacles[i].reason != reason) ++i;
  return obstacles[i];
}

bool is_castable(DType dtype) noexcept {
  const DTypeInfo* const info = find(dtype);
  return info != nullptr && info->castable;
}

void require_expressible(const Question& q) {
  const Target& target = q.wish.target;
  if (q.source.ndim() > target.max_ndim) {
    throw Error(Reason::malformed, "ndim is " + std::to_string(q.source.ndim()) + ", and " + target_of(q) +
                                       " has at most " + std::to_string(target.max_ndim));
  }
  if (target.has_dtype != nullptr && !target.has_dtype(q.to)) {
    const bool asked = q.wish.dtype.has_value();
    throw Error(Reason::unsupported_dtype, target_of(q) + " has no dtype " + to_string(q.to),
                asked               ? "ask for another dtype"
                : is_castable(q.to) ? "pass dtype= to cast it to one that it has"
                                    : "keep it a halfway.Tensor: its bytes travel, but are never cast");
  }
}

[[noreturn]] void refuse(const Question& q, std::vector<Reason> reasons) {
  std::string message = target_of(q) + " cannot use this memory as it is: ";
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    const Obstacle& obstacle = obstacle_of(reasons[i]);
    if (i > 0) message += ", ";
    message += obstacle.words != nullptr ? obstacle.words(q) : std::string(describe(reasons[i]));
  }
  std::string hint(obstacle_of(reasons.front()).hint);
  throw Error(std::move(reasons), message, std::move(hint));
}

constexpr std::uint64_t saturated = std::numeric_limits<std::uint64_t>::max();

std::uint64_t add(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? saturated : sum;
}

// Bytes of `count` elements; broadcast ones are counted as often as they are read, which may exceed any memory.
std::uint64_t storage_bytes(std::uint64_t count, DType dtype, bool padded) noexcept {
  if (padded && dtype.bits < 8) return count;
  const auto bits = static_cast<std::uint64_t>(total_bits(dtype));
  std::uint64_t whole = 0;
  if (__builtin_mul_overflow(count / 8, bits, &whole)) return saturated;
  return add(whole, (count % 8 * bits + 7) / 8);
}

// A line of the explanation: what it is about, in a column of its own, and the text.
std::string line(std::string_view subject, const std::string& text) {
  constexpr std::size_t column = 10;
  std::string result = "\n  " + std::string(subject);
  result.append(column - subject.size(), ' ');
  return result + text;
}

}  // namespace

std::string_view to_string(StepKind kind) noexcept {
  switch (kind) {
    case StepKind::alias:
      return "alias";
    case StepKind::resolve:
      return "resolve";
    case StepKind::copy:
      return "copy";
    case StepKind::cast:
      return "cast";
    case StepKind::ship:
      return "ship";
  }
  return "unknown";
}

Plan plan(const TensorView& source, const SourceTraits& traits, const Wish& wish) {
  const Question question{source, traits, wish, wish.dtype.value_or(source.dtype)};
  if (!wish.device) detail::require_host(source.device, "source");
  require_expressible(question);
  const bool affine = wish.options.is_affine();
  if (wish.options.transforms()) {
    require_valid(wish.options);
    static_cast<void>(detail::require_axis(source.shape, wish.options));
    detail::require_transformable(source.dtype, question.to, wish.options);
  }

  Plan plan;
  for (const Obstacle& obstacle : obstacles) {
    if (obstacle.stands(question)) plan.reasons.push_back(obstacle.reason);
  }
  plan.zero_copy = plan.reasons.empty();
  if (wish.copy == Copy::never && !plan.zero_copy) refuse(question, std::move(plan.reasons));
  const bool swaps = std::find(plan.reasons.begin(), plan.reasons.end(), Reason::byte_order) != plan.reasons.end();
  detail::require_permitted(source.dtype, question.to, wish.options.casting, swaps);

  plan.from = source.dtype;
  plan.to = question.to;
  plan.shape.assign(source.shape.begin(), source.shape.end());
  plan.result_shape = result_shape(source.shape, wish.options);
  plan.target = wish.target.name;
  plan.device = normalised(wish.device.value_or(source.device));

  const auto count =
      static_cast<std::uint64_t>(element_count(source.shape).value_or(std::numeric_limits<std::int64_t>::max()));
  const std::uint64_t read = storage_bytes(count, plan.from, source.padded);
  const auto push = [&](StepKind kind, std::uint64_t bytes_read, std::uint64_t bytes_written) {
    plan.steps.push_back({kind, plan.from, kind == StepKind::cast ? plan.to : plan.from, bytes_read, bytes_written,
                          kind == StepKind::resolve ? std::string() : extras(question)});
    plan.bytes_read = add(plan.bytes_read, bytes_read);
    plan.bytes_written = add(plan.bytes_written, bytes_written);
  };
  if (plan.zero_copy) {
    push(StepKind::alias, 0, 0);
    return plan;
  }
  const bool resolve = traits.conj || traits.neg;
  if (resolve) push(StepKind::resolve, read, read);
  if (moves_devices(question) || !is_host(plan.device)) return plan;
  if (plan.to != plan.from || affine) {
    push(StepKind::cast, read, storage_bytes(count, plan.to, false));
  } else if (!resolve || wish.into_out || permutes(question) || moves_axes(question)) {
    push(StepKind::copy, read, read);
  }
  return plan;
}

std::string to_string(const Plan& plan) {
  std::string text = to_string(plan.from) + " " + detail::tuple_text(plan.shape) + " -> " + std::string(plan.target) +
                     " " + to_string(plan.to);
  if (plan.result_shape != plan.shape) text += " " + detail::tuple_text(plan.result_shape);
  if (plan.device != Device{}) text += " on " + to_string(plan.device);
  text += ": ";
  if (plan.bytes_wire > 0) {
    text += std::to_string(plan.bytes_wire) + " B over the wire";
  } else if (plan.steps.empty()) {
    text += "no elements";
  } else {
    text += plan.zero_copy ? "zero-copy" : plan.steps.size() == 1 ? "one pass" : "two passes";
  }
  if (!plan.reasons.empty()) {
    std::string reasons;
    for (const Reason reason : plan.reasons) {
      if (!reasons.empty()) reasons += ", ";
      reasons += to_string(reason);
    }
    text += line("because", reasons);
  }
  for (const Step& step : plan.steps) {
    std::string what = to_string(step.from);
    if (step.from != step.to) what += " -> " + to_string(step.to);
    if (!step.how.empty()) what += ", " + step.how;
    if (step.kind == StepKind::alias) {
      what += ", the same memory";
    } else {
      what += ", reads " + std::to_string(step.bytes_read) + " B, writes " + std::to_string(step.bytes_written) + " B";
    }
    text += line(to_string(step.kind), what);
  }
  if (!plan.because.empty()) text += line("chosen", plan.because);
  if (!plan.machine.empty()) text += line("figures", plan.machine);
  if (!plan.unavailable.empty()) text += line("not here", plan.unavailable);
  return text;
}

std::string to_string(Device device) {
  const std::string index = ":" + std::to_string(device.id);
  switch (device.type) {
    case DeviceType::cpu:
      return "cpu";
    case DeviceType::cuda:
      return "cuda" + index;
    case DeviceType::cuda_host:
      return "cuda_host";
    case DeviceType::cuda_managed:
      return "cuda_managed" + index;
  }
  return std::to_string(static_cast<int>(device.type)) + index;
}

void add_transfer(Plan& plan, const TransferPlan& transfer, const Machine& machine) {
  for (const Step& step : transfer.steps) {
    plan.bytes_read = add(plan.bytes_read, step.bytes_read);
    plan.bytes_written = add(plan.bytes_written, step.bytes_written);
    plan.steps.push_back(step);
  }
  plan.bytes_wire = transfer.bytes_wire;
  plan.because = std::string(to_string(transfer.route)) + ": " + transfer.because;
  plan.machine = machine.assumed ? "assumed, not measured on this machine" : "measured " + machine.measured;
}

}  // namespace v0
}  // namespace halfway
