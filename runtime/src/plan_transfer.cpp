// Plans of transfers: which side casts, what crosses the wire, in how many pieces.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <span>
#include <utility>

#include "cast/operands.h"
#include "cast/permission.h"
#include "cast/permutation.h"
#include "cast/route.h"
#include "cast/transform.h"
#include "halfway/layout.h"
#include "halfway/plan.h"
#include "places_of.h"
#include "plan_words.h"
#include "ramp.h"
#include "slices.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace {

// A side of a transfer: its shape and strides in the order in which elements cross, and how they lie.
struct Side {
  std::array<std::int64_t, max_ndim> shape{};
  std::array<std::int64_t, max_ndim> strides{};
  std::size_t ndim = 0;
  bool dense = true;  // one behind the other, in the machine's byte order

  [[nodiscard]] std::span<const std::int64_t> dims() const noexcept { return {shape.data(), ndim}; }

  // Takes the geometry of a view; returns it as a view of its own.
  void take(const TensorView& view) noexcept {
    ndim = view.shape.size();
    std::copy(view.shape.begin(), view.shape.end(), shape.begin());
    std::copy(view.strides.begin(), view.strides.end(), strides.begin());
    dense = is_contiguous(view) && (!view.swapped || view.dtype.bits <= 8);
  }
};

struct Facts {
  const TensorView& source;
  const TransferWish& wish;
  const Machine& machine;
  DType from;
  DType to;
  std::uint64_t count = 0;
  Side host{};
  Side device{};
  bool changes = false;  // elements are more than moved
  bool checked = false;  // all elements have to be seen before any is delivered
  bool chance = false;   // elements are rounded by their number, which a part of the host's pass does not know
  bool by_host = false;  // what is asked for needs the host
  bool counted = false;  // what is lost is asked for
  bool whole = false;    // the host casts all of it by itself, and permutes it then

  [[nodiscard]] bool converts() const noexcept { return from != to; }
  [[nodiscard]] std::uint64_t bytes_from() const noexcept { return count * std::max<std::size_t>(item_size(from), 1); }
  [[nodiscard]] std::uint64_t bytes_to() const noexcept { return count * std::max<std::size_t>(item_size(to), 1); }
  [[nodiscard]] bool narrows() const noexcept { return bytes_to() < bytes_from(); }
  // Towards the host: the device casts, since fewer bytes cross then, or no more where it is the better place.
  [[nodiscard]] bool device_narrows() const noexcept {
    return changes && !by_host && !checked && (narrows() || (chance && bytes_to() == bytes_from()));
  }
};

// Elements of some bits take whole bytes together.
std::uint64_t bytes_of(DType dtype, std::uint64_t count) noexcept {
  const auto bits = static_cast<std::uint64_t>(total_bits(dtype));
  return bits % 8 == 0 ? count * (bits / 8) : (count * bits + 7) / 8;
}

bool is_small(DType from, DType to, std::uint64_t count, const Machine& machine) noexcept {
  if (count > machine.small) {
    return false;  // no element of less than a byte is worth the overflow
  }
  return std::max(bytes_of(from, count), bytes_of(to, count)) <= machine.small;
}

std::int64_t require_shape(const TensorView& view) {
  if (view.shape.size() > max_ndim || view.strides.size() != view.shape.size()) {
    throw Error(Reason::malformed, "a view has one stride a dimension, and at most 64 dimensions");
  }
  const std::optional<std::int64_t> count = element_count(view.shape);
  if (!count) throw Error(Reason::malformed, "the shape has a negative dimension or too many elements");
  return *count;
}

// Kernels find elements by few numbers.
void require_few_axes(const TensorView& view, const char* role) {
  if (view.element_size() == 0) return;
  if (!extent(view)) {
    throw Error(Reason::malformed, std::string("the ") + role + "'s strides reach beyond what an address can be");
  }
  if (detail::places_of(view)) return;
  throw Error(Reason::unavailable,
              std::string("the ") + role + " in device memory has more than " +
                  std::to_string(detail::Places::most_axes) + " axes that do not continue one another in memory",
              "make it contiguous on the device first");
}

void require_unpadded(const TensorView& view) {
  if (item_size(view.dtype) != 0 || !view.padded) return;
  throw Error(Reason::unsupported_dtype, "padded elements of " + to_string(view.dtype) + " are not transferred",
              "pack them, or view them as bytes");
}

bool has_few_coefficients(const CastOptions& options) noexcept {
  return std::max(options.scale.values().size(), options.shift.values().size()) <= max_device_coefficients;
}

// What no kernel does, where nothing but a kernel is there to do it.
void require_kernel(const Facts& facts) {
  const auto refuse = [](const std::string& what) {
    throw Error(Reason::unavailable, "a cast on the device " + what,
                "transfer to the host, cast there, and transfer the result back");
  };
  if (facts.converts() && !is_device_castable(facts.from, facts.to)) {
    refuse("goes not from " + to_string(facts.from) + " to " + to_string(facts.to));
  }
  if (!has_few_coefficients(facts.wish.options)) {
    refuse("takes at most " + std::to_string(max_device_coefficients) + " numbers of scale or shift along an axis");
  }
}

Facts examine(const TensorView& source, const TransferWish& wish, const Machine& machine) {
  Facts facts{source, wish, machine, source.dtype, wish.to};
  facts.count = static_cast<std::uint64_t>(require_shape(source));
  const CastOptions& options = wish.options;
  const bool to_device = wish.direction == Direction::to_device;
  const bool to_swapped = wish.destination != nullptr && wish.destination->swapped;
  detail::require_permitted(source, wish.to, to_swapped, options.casting);
  if (options.transforms()) {
    require_valid(options);
    static_cast<void>(detail::require_axis(source.shape, options));
    detail::require_transformable(source.dtype, wish.to, options);
  }
  require_unpadded(source);
  if (wish.destination != nullptr) require_unpadded(*wish.destination);
  facts.changes = detail::converts(facts.from, facts.to, options);
  facts.checked = detail::watched_flags(facts.from, facts.to, options) != 0;
  facts.chance = facts.changes && options.rounding == Rounding::stochastic &&
                 (options.is_affine() || !is_exact(facts.from, facts.to));
  facts.counted = facts.checked || (options.report != nullptr && (facts.changes || detail::has_nan(facts.from)));
  const bool has_kernel = is_device_castable(facts.from, facts.to) && has_few_coefficients(options);
  facts.by_host = facts.changes ? !has_kernel : options.report != nullptr;
  // Towards the host, what the device does not narrow and the host cannot do chunk by chunk.
  const bool at_the_end = facts.changes && !facts.device_narrows() && (facts.chance || wish.deferred);
  const bool crosses = wish.direction != Direction::on_device;
  facts.whole =
      crosses && (facts.checked || (!to_device && at_the_end) || (wish.deferred && options.report != nullptr));

  // The source's axes as they cross: in the order of the result's, unless the host permutes all of it at the end.
  const detail::Permutation permutation(options, source.shape.size());
  std::array<std::int64_t, std::size_t{2} * max_ndim> geometry;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const bool permutes_at_the_end = wish.direction == Direction::to_host && facts.whole;
  const TensorView crossing = permutes_at_the_end ? source : permutation.arranged(source, geometry);
  Side from;
  Side to;
  from.take(crossing);
  to.take(wish.destination != nullptr ? TensorView(*wish.destination) : crossing);
  if (wish.destination == nullptr) to.dense = true;
  if (facts.count > 0) {
    if (!to_device) require_few_axes(crossing, "source");
    if (wish.direction != Direction::to_host && wish.destination != nullptr) {
      require_few_axes(*wish.destination, "destination");
    }
  }
  facts.host = to_device ? from : to;
  facts.device = to_device ? to : from;
  if (wish.direction == Direction::on_device) facts.device.dense = from.dense && to.dense;
  if (item_size(facts.from) == 0 && !(from.dense && to.dense)) {
    throw Error(Reason::malformed, "packed elements of " + to_string(facts.from) + " must be row-major",
                "pad them to a byte each");
  }
  if (wish.direction == Direction::on_device) require_kernel(facts);
  return facts;
}

std::string figure(double rate) {
  std::array<char, 32> text{};
  static_cast<void>(std::snprintf(text.data(), text.size(), "%.3g", rate / 1e9));
  return std::string(text.data()) + " GB/s";
}

// Source bytes a second that the host casts.
double host_rate(const Machine& machine) noexcept {
  return std::min(machine.host_cast * std::max(machine.cores, 1), machine.host_memory);
}

// Casting on the way into pinned slots, against shipping the wide elements.
bool host_beats_wire(const Facts& facts) noexcept {
  const auto wide = static_cast<double>(facts.bytes_from());
  const auto narrow = static_cast<double>(facts.bytes_to());
  const double wire = facts.machine.wire_to_device;
  return std::max(wide / host_rate(facts.machine), narrow / wire) < wide / wire;
}

class Planner {
 public:
  Planner(const Facts& facts, TransferPlan& plan, detail::Words words) noexcept
      : facts_(facts), plan_(plan), speaks_(words == detail::Words::all) {}

  void to_device() {
    const bool small = is_small(facts_.from, facts_.to, facts_.count, facts_.machine);
    const HostMemory memory = small ? HostMemory::pageable : facts_.wish.host;
    if (facts_.checked) {
      stage(Caster::host, "all elements are looked at before any is sent");
    } else if (facts_.by_host) {
      stage(Caster::host, "only the host does what is asked for");
    } else if (small && !facts_.chance) {
      stage(Caster::host, little_words());
    } else if (memory == HostMemory::coherent && facts_.host.dense) {
      reach(Caster::device, "the device reads this memory through the host's page tables");
    } else if (memory == HostMemory::pinned && facts_.host.dense) {
      from_pinned();
    } else if (facts_.bytes_to() <= facts_.bytes_from()) {
      stage(Caster::host, facts_.host.dense ? "the host has to copy pageable memory, and casts on the way"
                                            : "the host has to bring the elements into order, and casts on the way");
    } else {
      stage(Caster::device, "the narrow elements cross, and become wide on the device");
    }
  }

  void to_host() {
    const HostMemory memory = facts_.wish.host;
    const bool dense = facts_.host.dense;
    const bool narrows = facts_.device_narrows();
    if (facts_.wish.deferred) {
      if (!narrows || facts_.whole) return direct(Caster::host, "nobody waits: into pinned memory of its own");
      return reach(Caster::device, "nobody waits: a kernel writes the narrow elements into pinned memory of their own");
    }
    if (facts_.checked) {
      stage(Caster::host, "all elements are looked at before any is delivered");
    } else if (facts_.by_host || (facts_.whole && !narrows)) {
      stage(Caster::host, "only the host does what is asked for");
    } else if (memory == HostMemory::coherent && dense) {
      reach(Caster::device, "the device writes this memory through the host's page tables");
    } else if (memory == HostMemory::pinned && dense && !facts_.changes) {
      direct(Caster::host, "both sides are within reach of a copy engine");
    } else if (memory == HostMemory::pinned && dense && facts_.bytes_to() <= facts_.bytes_from()) {
      reach(Caster::device, "a kernel writes the pinned memory itself");
    } else if (narrows) {
      stage(Caster::device, "a kernel narrows before the wire");
    } else {
      stage(Caster::host, facts_.changes ? "the host has to copy out of pinned slots, and casts on the way"
                                         : "the host has to copy out of pinned slots");
    }
  }

  void on_device() {
    plan_.kernel = true;
    at_once(Route::on_device, Caster::device, "both are in the memory of one device: nothing crosses");
    plan_.wire = facts_.to;
    plan_.bytes_wire = 0;
    // What is there already is not touched before the check is over.
    if (facts_.checked && facts_.wish.destination != nullptr) plan_.launches = 2;
  }

 private:
  // Who does what the options say.
  enum class Caster : std::uint8_t { host, device };

  void from_pinned() {
    if (!facts_.changes && facts_.device.dense) {
      return direct(Caster::device, "both sides are within reach of a copy engine");
    }
    const bool host_casts = facts_.narrows() && !facts_.chance && host_beats_wire(facts_);
    const bool quarters = facts_.bytes_from() / 4 >= facts_.bytes_to();
    const std::uint64_t most = facts_.machine.small_pinned / (host_casts && quarters ? 4 : 1);
    if (facts_.bytes_from() <= most) return reach(Caster::device, small_words(most));
    if (host_casts) return stage(Caster::host, rates(" cores cast "));
    ship(Caster::device);
    plan_.route = Route::device_cast;
    plan_.copy_engine = plan_.kernel = true;
    if (facts_.chance) {
      say("the device rounds each element by its number");
    } else if (facts_.narrows()) {
      say(rates(" cores cast only "));
    } else {
      say(facts_.changes ? "the narrow elements cross, and become wide on the device"
                         : "a copy engine reads this memory, and a kernel puts the elements in their places");
    }
    cut(false);
  }

  void say(std::string_view because) {
    if (speaks_) plan_.because = because;
  }

  [[nodiscard]] std::string rates(const char* cores_cast) const {
    if (!speaks_) return {};
    return std::to_string(std::max(facts_.machine.cores, 1)) + cores_cast + figure(host_rate(facts_.machine)) +
           ", the wire takes " + figure(facts_.machine.wire_to_device);
  }

  [[nodiscard]] std::string little_words() const {
    if (!speaks_) return {};
    return "at most " + std::to_string(facts_.machine.small) + " B on either side: the host " +
           (facts_.changes ? "casts" : "copies") + " them, whatever memory they are in";
  }

  [[nodiscard]] std::string small_words(std::uint64_t most) const {
    if (!speaks_) return {};
    return "at most " + std::to_string(most) + " B: a kernel reads them over the wire";
  }

  // What crosses where one of them casts.
  [[nodiscard]] DType wire_of(Caster caster) const noexcept {
    const bool to_device = facts_.wish.direction == Direction::to_device;
    return (caster == Caster::host) == to_device ? facts_.to : facts_.from;
  }

  // One copy, of everything; scattered ones by a kernel.
  void direct(Caster caster, std::string_view because) {
    if (!facts_.device.dense) return reach(caster, because);
    plan_.copy_engine = true;
    at_once(Route::direct, caster, because);
  }

  // A kernel, over the wire.
  void reach(Caster caster, std::string_view because) {
    plan_.kernel = true;
    at_once(Route::mapped, caster, because);
  }

  void at_once(Route route, Caster caster, std::string_view because) {
    ship(caster);
    plan_.route = route;
    say(because);
    plan_.part = plan_.elements;
    plan_.chunks = 1;
    count();
  }

  // Through pinned slots. The host's own pass goes chunk by chunk, unless it has to know an element's number.
  void stage(Caster caster, std::string_view because) {
    ship(caster);
    plan_.staged = true;
    if (caster == Caster::host && facts_.chance) plan_.whole = true;
    const bool to_device = facts_.wish.direction == Direction::to_device;
    const bool works = plan_.device_casts || !facts_.device.dense;
    // Towards the host a kernel that has work writes the slots itself; towards the device it reads what was shipped or,
    // of few bytes, the slots: a launch and an event for each of them, where shipping takes up to seven calls.
    const bool reads_slots = to_device && works && plan_.bytes_wire <= facts_.machine.small_pinned;
    plan_.copy_engine = to_device ? !reads_slots : !works;
    plan_.kernel = works;
    plan_.route = !plan_.copy_engine ? Route::mapped : works ? Route::device_cast : Route::host_cast;
    say(because);
    cut(true);
    if (reads_slots && speaks_) plan_.because += "; " + small_words(facts_.machine.small_pinned);
  }

  // What crosses.
  void ship(Caster caster) {
    plan_.wire = wire_of(caster);
    plan_.device_casts = caster == Caster::device && facts_.changes;
    plan_.counts = facts_.counted && caster == Caster::device;
    plan_.elements = facts_.count;
    plan_.bytes_wire = bytes_of(plan_.wire, facts_.count);
    if (item_size(plan_.wire) == 0) plan_.elements = plan_.bytes_wire;
  }

  static constexpr std::uint64_t most_parts = 8;  // of a chunk

  // Multiples of a size that, of most elements, keeps what begins a chunk as aligned as what begins the tensor, and
  // what begins one of eight parts, too.
  [[nodiscard]] std::uint64_t chunk_bytes() const noexcept {
    constexpr std::uint64_t parts = 8;
    constexpr std::uint64_t least = std::uint64_t{512} << 10;
    constexpr std::uint64_t grain = std::uint64_t{64} << 10;
    const std::uint64_t part = (plan_.bytes_wire / parts + grain - 1) / grain * grain;
    return std::min(std::max(part, least), facts_.machine.chunk);
  }

  void cut(bool by_shape) {
    const std::uint64_t size = std::max<std::uint64_t>(item_size(plan_.wire), 1);
    if (size > facts_.machine.chunk) {
      throw Error(Reason::unsupported_dtype,
                  "an element of " + to_string(plan_.wire) + " is larger than a pinned slot");
    }
    const std::uint64_t chunk = std::max(chunk_bytes(), size);
    std::uint64_t part = chunk;
    // Chunks that nobody fills have nothing to begin early with.
    if (plan_.staged && plan_.bytes_wire > chunk) {
      while (plan_.parts < most_parts && part / 2 >= std::max(facts_.machine.first_chunk, size)) {
        part /= 2;
        plan_.parts *= 2;
      }
    }
    plan_.part = std::min(part / size, plan_.elements);
    // Coefficients along an axis are found by an element's place on it.
    const bool has_axis = facts_.wish.options.axis.has_value() && !plan_.device_casts;
    plan_.flat = !by_shape || plan_.whole || (facts_.host.dense && !has_axis);
    const auto most = static_cast<std::int64_t>(plan_.part);
    const std::uint64_t parts = plan_.flat
                                    ? (plan_.elements + plan_.part - 1) / plan_.part
                                    : static_cast<std::uint64_t>(detail::Slices(facts_.host.dims(), most).size());
    plan_.chunks = detail::Ramp(plan_.parts).chunks(parts);
    count();
  }

  void count() noexcept {
    plan_.copies = plan_.copy_engine ? plan_.chunks : 0;
    plan_.launches = plan_.kernel ? plan_.chunks : 0;
  }

  const Facts& facts_;
  TransferPlan& plan_;
  const bool speaks_;
};

// What happens, in order.
std::vector<Step> steps_of(const TransferPlan& plan) {
  const auto whole_bytes_of = [&](DType dtype) {
    return item_size(dtype) == 0 ? plan.elements : plan.elements * item_size(dtype);
  };
  std::vector<Step> steps;
  const auto pass = [&](DType from, DType to, std::string where) {
    const StepKind kind = from == to ? StepKind::copy : StepKind::cast;
    steps.push_back({kind, from, to, whole_bytes_of(from), whole_bytes_of(to), std::move(where)});
  };
  const auto ship = [&] {
    const std::string how =
        std::to_string(plan.copies) + (plan.copies == 1 ? " copy" : " copies") + " by a copy engine";
    steps.push_back({StepKind::ship, plan.wire, plan.wire, plan.bytes_wire, plan.bytes_wire, how});
  };
  const std::string strided = std::string(plan.strided ? ", strided" : "") + (plan.counts ? ", counted" : "");
  switch (plan.direction) {
    case Direction::to_device:
      if (plan.whole) pass(plan.from, plan.to, "on the host, all of it first");
      if (plan.staged) pass(plan.whole ? plan.to : plan.from, plan.wire, "on the host, into pinned slots");
      if (plan.copy_engine) ship();
      if (plan.kernel) {
        pass(plan.wire, plan.to,
             (plan.copy_engine ? "on the device" : "by a kernel that reads over the wire") + strided);
      }
      break;
    case Direction::to_host:
      if (plan.kernel) pass(plan.from, plan.wire, "by a kernel that writes over the wire" + strided);
      if (plan.copy_engine) ship();
      if (plan.staged) pass(plan.wire, plan.whole ? plan.wire : plan.to, "on the host, out of pinned slots");
      if (plan.whole) pass(plan.wire, plan.to, "on the host, all of it at the end");
      break;
    case Direction::on_device:
      pass(plan.from, plan.to, "on the device" + strided);
      break;
  }
  return steps;
}

}  // namespace

std::string_view to_string(HostMemory memory) noexcept {
  switch (memory) {
    case HostMemory::pageable:
      return "pageable";
    case HostMemory::pinned:
      return "pinned";
    case HostMemory::coherent:
      return "coherent";
  }
  return "unknown";
}

std::string_view to_string(Route route) noexcept {
  switch (route) {
    case Route::nothing:
      return "nothing";
    case Route::direct:
      return "direct";
    case Route::host_cast:
      return "host_cast";
    case Route::device_cast:
      return "device_cast";
    case Route::mapped:
      return "mapped";
    case Route::on_device:
      return "on_device";
  }
  return "unknown";
}

bool is_device_castable(DType from, DType to) noexcept {
  const DTypeInfo* const source = find(from);
  const DTypeInfo* const target = find(to);
  return source != nullptr && target != nullptr && source->castable && target->castable;
}

TransferPlan plan_transfer(const TensorView& source, const TransferWish& wish, const Machine& machine) {
  return detail::plan_transfer(source, wish, machine, detail::Words::all);
}

namespace detail {

bool is_small_transfer(const TensorView& source, DType to, const Machine& machine) noexcept {
  const std::optional<std::int64_t> count = element_count(source.shape);
  return count && is_small(source.dtype, to, static_cast<std::uint64_t>(*count), machine);
}

TransferPlan plan_transfer(const TensorView& source, const TransferWish& wish, const Machine& machine, Words words) {
  const Facts facts = examine(source, wish, machine);
  TransferPlan plan;
  plan.direction = wish.direction;
  plan.from = plan.wire = facts.from;
  plan.to = facts.to;
  if (facts.count == 0) {
    if (words == Words::all) plan.because = "there are no elements";
    return plan;
  }
  plan.whole = facts.whole;
  plan.strided = !facts.device.dense;
  Planner planner(facts, plan, words);
  switch (wish.direction) {
    case Direction::to_device:
      planner.to_device();
      break;
    case Direction::to_host:
      planner.to_host();
      break;
    case Direction::on_device:
      planner.on_device();
      break;
  }
  if (words == Words::all) plan.steps = steps_of(plan);
  return plan;
}

}  // namespace detail

std::string to_string(const TransferPlan& plan) {
  const char* const arrow = plan.direction == Direction::to_host ? " -> host " : " -> device ";
  std::string text = to_string(plan.from) + arrow + to_string(plan.to) + ": " + std::string(to_string(plan.route)) +
                     ", " + std::to_string(plan.bytes_wire) + " B over the wire";
  text += "\n  because   " + plan.because;
  for (const Step& step : plan.steps) {
    std::string subject(to_string(step.kind));
    subject.resize(10, ' ');
    text += "\n  " + subject + to_string(step.from);
    if (step.from != step.to) text += " -> " + to_string(step.to);
    text += ", " + step.how + ", reads " + std::to_string(step.bytes_read) + " B, writes " +
            std::to_string(step.bytes_written) + " B";
  }
  return text;
}

}  // namespace v0
}  // namespace halfway
