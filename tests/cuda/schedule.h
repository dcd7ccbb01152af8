// One seeded run of the engine over the simulated device: several transfers of random tensors by random routes on the
// streams of a caller who changes, frees and reuses everything as soon as the contract lets him, under a schedule and
// with a fault that follow from the numbers given.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "rig.h"

namespace rig {

// ThreadSanitizer needs the streams' threads to see what orders them; elsewhere they only take time.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool sees_races = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool sees_races = true;
#else
inline constexpr bool sees_races = false;
#endif
#else
inline constexpr bool sees_races = false;
#endif

struct Run {
  std::set<std::string> routes;  // that were taken; asked for where there is no fault
  std::string wrong;             // what was noticed; empty: nothing
  std::uint64_t calls = 0;       // of the engine to the device
  int errors = 0;                // that were thrown
};

// `piece`: a transfer gets a thread for each so many bytes that the host reads and writes. By default a schedule's are
// too small for a second one, so that a seed always gives the same run.
class Schedule {
 public:
  Schedule(std::uint64_t seed, std::uint64_t fail_call, Fault fault, std::size_t piece = EngineSizes{}.piece)
      : random_(seed * 0x9E3779B97F4A7C15U + 12345),
        faulty_(fail_call != 0),
        coherent_(chance(8)),
        devices_(chance(5) ? 2 : 1),
        device_({.devices = devices_,
                 .memory = std::size_t{1} << 19,
                 .coherent = coherent_,
                 .seed = seed % 4 == 0 ? 0 : seed,
                 .threads = sees_races || seed % 16 == 0,
                 .fail_call = fail_call,
                 .fault = fault}),
        allocator_(device_) {
    EngineSizes sizes;
    sizes.machine.chunk = chance(2) ? 256 : 640;
    sizes.machine.first_chunk = chance(2) ? sizes.machine.chunk : 80;
    sizes.machine.small = chance(3) ? 700 : 0;
    sizes.machine.small_pinned = chance(3) ? 2000 : 0;
    sizes.machine.cores = chance(2) ? 1 : 64;  // slower and faster than the wire
    sizes.slots = 1 + static_cast<int>(random_() % 3);
    sizes.scratch = 1 + static_cast<int>(random_() % 2);
    sizes.piece = piece;
    engine_ = std::make_unique<Engine>(device_, sizes);
    for (int i = 0; i < 2; ++i) streams_.push_back({device_.make_stream(0), 0});
    if (devices_ > 1) streams_.push_back({device_.make_stream(1), 1});
  }
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  ~Schedule() = default;

  Run run() {
    const auto transfers = 1 + random_() % 5;
    for (std::uint64_t i = 0; i < transfers && run_.wrong.empty(); ++i) {
      try {
        switch (random_() % 5) {
          case 0:
          case 1:
            send();
            break;
          case 2:
          case 3:
            receive();
            break;
          default:
            cast_there();
            break;
        }
      } catch (const halfway::Error& error) {
        failed(error.what());
      } catch (const std::bad_alloc&) {
        failed("out of memory");
      }
      if (chance(4)) caught([&] { engine_->collect(); });
      if (chance(6)) caught([&] { engine_->trim(); });
    }
    settle();
    return run_;
  }

 private:
  struct CallersStream {
    void* handle;
    int device;
  };
  // What the caller will find, and when he has waited.
  struct Expected {
    std::unique_ptr<std::vector<std::byte>> found;
    std::vector<std::byte> bytes;
    std::string what;
  };
  struct Later {
    std::unique_ptr<halfway::cuda::detail::Deferred> pending;
    std::vector<std::byte> bytes;
    std::string what;
  };

  bool chance(unsigned one_in) { return random_() % one_in == 0; }

  template <class F>
  void caught(F call) {
    try {
      call();
    } catch (const halfway::Error& error) {
      failed(error.what());
    } catch (const std::bad_alloc&) {
      failed("out of memory");
    }
  }
  void failed(const char* what) {
    ++run_.errors;
    if (!faulty_) say(std::string("an error without a fault: ") + what);
  }
  void say(std::string what) {
    if (run_.wrong.empty()) run_.wrong = std::move(what);
  }

  DType any_dtype() {
    constexpr std::array<DType, 10> some{halfway::float32,   halfway::float64, halfway::float16, halfway::bfloat16,
                                         halfway::uint8,     halfway::int64,   halfway::boolean, halfway::float8_e4m3fn,
                                         halfway::complex64, halfway::int32};
    return some[random_() % some.size()];
  }

  std::vector<std::int64_t> any_shape() {
    switch (random_() % 4) {
      case 0:
        return {chance(12) ? 0 : static_cast<std::int64_t>(random_() % 900)};
      case 1:
        return {1 + static_cast<std::int64_t>(random_() % 9), 1 + static_cast<std::int64_t>(random_() % 90)};
      case 2:
        return {2, 1 + static_cast<std::int64_t>(random_() % 20), 3, 1 + static_cast<std::int64_t>(random_() % 5)};
      default:
        return {1 + static_cast<std::int64_t>(random_() % 300), 3};
    }
  }

  halfway::CastOptions any_options(DType from, DType to, std::size_t ndim) {
    halfway::CastOptions options{.casting = halfway::Casting::unsafe};
    if (chance(3)) options.overflow = halfway::Overflow::saturate;
    if (chance(8)) options.overflow = halfway::Overflow::raise;
    if (chance(4)) options.report = &report_;
    const bool real = from.code != 5 && to.code != 5;
    if (real && chance(6)) options.scale = 0.5;
    const halfway::DTypeInfo* const target = halfway::find(to);
    if (real && target->kind == halfway::Kind::floating && chance(10)) {
      options.rounding = halfway::Rounding::stochastic;
      options.seed = 42;
    }
    if (ndim > 1 && chance(6)) {
      permutation_.resize(ndim);
      for (std::size_t i = 0; i < ndim; ++i) permutation_[i] = static_cast<std::int64_t>(ndim - 1 - i);
      options.permute = permutation_;
    }
    return options;
  }

  // What the host makes of it. An overflow that it would refuse is let pass: errors are of faults here.
  Tensor reference(const arrays::Array& array, DType to, halfway::CastOptions& options) {
    try {
      Tensor expected = halfway::cast(array.view(), to, options);
      counted_ = report_;
      return expected;
    } catch (const halfway::CastError&) {
      options.overflow = halfway::Overflow::by_format;
      return reference(array, to, options);
    }
  }

  // Behind a call that was asked for a report.
  void check_counts(const halfway::CastOptions& options, const std::string& what) {
    if (options.report != nullptr && report_ != counted_ && !device_.is_lost()) say(what + ": other counts");
  }

  // Host memory with random elements, held by somebody.
  Held& hold(const arrays::Array& array) {
    Held& held = *held_.emplace_back(std::make_unique<Held>());
    held.device = &device_;
    held.host = array.memory;
    held.memory = held.host.data();
    held.bytes = held.host.size();
    held.pinned = chance(2);
    if (held.pinned && held.bytes > 0) device_.pin(held.memory, held.bytes);
    held.pinned = held.pinned && held.bytes > 0;
    return held;
  }

  void note(const halfway::TransferPlan& plan, std::uint64_t calls_before) {
    constexpr std::array directions{"to_device ", "to_host ", ""};
    run_.routes.insert(directions[static_cast<std::size_t>(plan.direction)] + std::string(to_string(plan.route)) +
                       (plan.staged ? " staged" : "") + (plan.whole ? " whole" : "") +
                       (plan.strided ? " strided" : ""));
    planning_ += device_.calls() - calls_before;
  }

  void send() {
    const DType from = any_dtype();
    const DType to = chance(4) ? from : any_dtype();
    const auto shape = any_shape();
    arrays::Array array =
        chance(3) ? arrays::random_layout(random_, from, positive(shape), true) : arrays::contiguous(from, shape);
    arrays::fill_random(random_, array);
    halfway::CastOptions options = any_options(from, to, array.shape.size());
    const Tensor expected = reference(array, to, options);
    const CallersStream stream = streams_[random_() % streams_.size()];
    Held& held = hold(array);
    MutableView view = array.mutable_view();
    view.data = static_cast<std::byte*>(held.memory) + array.first;

    TransferOptions transfer{.device = stream.device,
                             .dtype = to,
                             .stream = stream.handle,
                             .non_blocking = chance(2),
                             .cast = options,
                             .allocator = chance(8) ? nullptr : &allocator_};
    arrays::Array target = any_layout(to, positive(halfway::result_shape(array.shape, options)), false);
    const bool into = chance(3) && array.count() > 0 && !target.memory.empty();
    Tensor there;
    if (into) there = allocator_.image(target, stream.handle, stream.device);
    if (!faulty_) {
      const std::uint64_t before = device_.calls();
      const MutableView destination = into ? there.mutable_view() : MutableView();
      note(engine_->plan_to_device(view, transfer, into ? &destination : nullptr), before);
    }
    const bool hand_over = chance(2) && !view.swapped && !view.strides_in_bytes;
    const std::string what = "to_device " + to_string(from) + " -> " + to_string(to) + arrays::to_string(array.shape);
    const auto call = [&](const TensorView& seen, Tensor owner) {
      if (into) {
        engine_->to_device_into(seen, std::move(owner), there.mutable_view(), transfer);
      } else {
        there = engine_->to_device(seen, std::move(owner), transfer);
      }
    };
    try {
      if (hand_over) {
        Tensor owner = Tensor::adopt(view, &held, Held::release);
        if (chance(2)) owner = halfway::from_dlpack(std::move(owner).to_dlpack());
        const TensorView seen = owner.view();
        call(seen, std::move(owner));
      } else {
        call(view, Tensor());
      }
    } catch (...) {
      if (!hand_over) Held::release(&held);
      throw;
    }
    check_counts(options, what);
    // What was only lent may be changed at once, and so may pageable memory that was handed over and is free again.
    if (!hand_over) Held::release(&held);
    if (into) {
      expect_image(there, target, expected, stream, what);
    } else {
      expect(there, expected, stream, what);
    }
  }

  // As expect(), of a destination of any layout: its elements are new, everything else is as it was.
  void expect_image(Tensor& there, arrays::Array& target, const Tensor& expected, const CallersStream& stream,
                    const std::string& what) {
    halfway::cast_into(expected.view(), target.mutable_view(), {.casting = halfway::Casting::equiv});
    auto found = std::make_unique<std::vector<std::byte>>(target.memory.size());
    const void* const first = static_cast<const std::byte*>(there.view().data) - target.first;
    device_.read(found->data(), first, found->size(), stream.handle);
    expected_.push_back({std::move(found), target.memory, what + " into " + arrays::to_string(target)});
    there.reset();
  }

  // Any layout that a Tensor can have.
  arrays::Array any_layout(DType dtype, const std::vector<std::int64_t>& shape, bool broadcasts) {
    for (int i = 0; i < 8; ++i) {
      arrays::Array array = arrays::random_layout(random_, dtype, shape, broadcasts);
      if (!array.swapped && array.whole_strides.size() == shape.size() && array.strides != array.whole_strides) {
        return array;
      }
    }
    return arrays::contiguous(dtype, shape);
  }

  // On the caller's stream: he may change the source behind the call, and what he hands over is not freed before its
  // last read, however it is freed.
  void cast_there() {
    const DType from = any_dtype();
    const DType to = chance(4) ? from : any_dtype();
    arrays::Array array = any_layout(from, positive(any_shape()), true);
    arrays::fill_random(random_, array);
    halfway::CastOptions options = any_options(from, to, array.shape.size());
    const Tensor expected = reference(array, to, options);
    const CallersStream stream = streams_[random_() % streams_.size()];
    const TransferOptions transfer{
        .dtype = to, .stream = stream.handle, .cast = options, .allocator = chance(8) ? nullptr : &allocator_};
    arrays::Array target = any_layout(to, positive(halfway::result_shape(array.shape, options)), false);
    const bool into = chance(2);
    Tensor there;
    if (into) there = allocator_.image(target, stream.handle, stream.device);
    Tensor source = allocator_.image(array, stream.handle, stream.device);
    Held& held = *allocator_.made.back();
    const bool hand_over = chance(2);
    if (hand_over && chance(2)) {
      device_.finish(stream.handle);
      held.freed = true;
    }
    if (!faulty_) {
      const MutableView destination = into ? there.mutable_view() : MutableView();
      note(engine_->plan_on_device(source.view(), transfer, into ? &destination : nullptr), device_.calls());
    }
    const TensorView view = source.view();
    Tensor owner = hand_over ? std::move(source) : Tensor();
    if (into) {
      engine_->cast_on_device_into(view, std::move(owner), there.mutable_view(), transfer);
    } else {
      there = engine_->cast_on_device(view, std::move(owner), transfer);
    }
    const std::string what = "on the device " + to_string(from) + " -> " + to_string(to) + arrays::to_string(array);
    check_counts(options, what);
    if (!hand_over) device_.fill(held.memory, held.bytes, 0x55, stream.handle);
    if (into) {
      expect_image(there, target, expected, stream, what);
    } else {
      expect(there, expected, stream, what);
    }
  }

  // Behind the call on the caller's stream: the result is read, and freed.
  void expect(Tensor& there, const Tensor& expected, const CallersStream& stream, const std::string& what) {
    auto bytes = bytes_of(expected.view());
    auto found = std::make_unique<std::vector<std::byte>>(bytes.size());
    device_.read(found->data(), there.view().data, found->size(), stream.handle);
    expected_.push_back({std::move(found), std::move(bytes), what});
    if (chance(2)) {
      there.reset();
    } else {
      kept_.push_back(std::move(there));
    }
  }

  void receive() {
    const DType from = any_dtype();
    const DType to = chance(4) ? from : any_dtype();
    arrays::Array array = arrays::contiguous(from, any_shape());
    if (chance(3)) array = any_layout(from, positive(array.shape), true);
    arrays::fill_random(random_, array);
    halfway::CastOptions options = any_options(from, to, array.shape.size());
    const Tensor expected = reference(array, to, options);
    const std::vector<std::byte> bytes = bytes_of(expected.view());
    const CallersStream stream = streams_[random_() % streams_.size()];
    Tensor source = allocator_.image(array, stream.handle, stream.device);
    const Held& held = *allocator_.made.back();
    const TransferOptions transfer{.dtype = to, .stream = stream.handle, .non_blocking = chance(2), .cast = options};
    if (!faulty_) {
      const std::uint64_t before = device_.calls();
      note(engine_->plan_to_host(source.view(), transfer), before);
    }
    const std::string what = "to_host " + to_string(from) + " -> " + to_string(to) + arrays::to_string(array.shape);
    switch (random_() % 3) {
      case 0: {
        const Tensor here = engine_->to_host(source.view(), transfer);
        if (bytes_of(here.view()) != bytes) say(what + ": other bytes");
        check_counts(options, what);
        break;
      }
      case 1: {
        const auto dims = halfway::result_shape(array.shape, options);
        arrays::Array target = chance(2) && !array.shape.empty()
                                   ? arrays::random_layout(random_, to, positive(dims), false)
                                   : arrays::contiguous(to, dims);
        if (target.shape != dims) target = arrays::contiguous(to, dims);
        const bool pinned = chance(2) && !target.memory.empty();
        if (pinned) device_.pin(target.memory.data(), target.memory.size());
        try {
          if (!faulty_) {
            const std::uint64_t before = device_.calls();
            const MutableView into = target.mutable_view();
            note(engine_->plan_to_host(source.view(), transfer, &into), before);
          }
          engine_->to_host_into(source.view(), target.mutable_view(), transfer);
        } catch (...) {
          if (pinned) device_.unpin(target.memory.data());
          throw;
        }
        if (pinned) device_.unpin(target.memory.data());
        check_counts(options, what);
        const Tensor dense = halfway::cast(target.view(), to, {.casting = halfway::Casting::equiv});
        if (bytes_of(dense.view()) != bytes) say(what + " into " + arrays::to_string(target) + ": other bytes");
        break;
      }
      default: {
        halfway::CastOptions plain = options;
        plain.permute.reset();
        plain.report = nullptr;
        const Tensor simple = halfway::cast(array.view(), to, plain);
        TransferOptions later = transfer;
        later.cast = plain;
        Later pending{engine_->to_host_later(source.share(), later), bytes_of(simple.view()), what + " later"};
        // The caller's stream is behind the transfer: what it does next to the memory comes after.
        device_.fill(held.memory, held.bytes, 0x55, stream.handle);
        if (chance(6)) break;  // nobody asks for it
        later_.push_back(std::move(pending));
        if (chance(2)) collect_later();
        break;
      }
    }
  }

  void collect_later() {
    for (Later& later : later_) {
      caught([&] {
        if (chance(4)) static_cast<void>(later.pending->ready());
        const Tensor here = later.pending->result();
        if (bytes_of(here.view()) != later.bytes && !device_.is_lost()) say(later.what + ": other bytes");
      });
    }
    later_.clear();
  }

  static std::vector<std::int64_t> positive(std::vector<std::int64_t> shape) {
    for (std::int64_t& dim : shape) dim = std::max<std::int64_t>(dim, 1);
    return shape;
  }

  void settle() {
    collect_later();
    for (const CallersStream& stream : streams_) device_.finish(stream.handle);
    if (!device_.is_lost()) {
      for (const Expected& expected : expected_) {
        if (*expected.found != expected.bytes) say(expected.what + ": other bytes");
      }
    }
    kept_.clear();
    engine_.reset();
    for (const CallersStream& stream : streams_) device_.finish(stream.handle);
    for (const auto& held : held_) {
      if (held->released != 1) say("a source was released " + std::to_string(held->released) + " times");
    }
    for (const auto& held : allocator_.made) {
      if (held->released != 1) say("a tensor on the device was released " + std::to_string(held->released) + " times");
    }
    if (device_.violation() != nullptr) say(device_.violation());
    if (device_.live_blocks() != 0) say(std::to_string(device_.live_blocks()) + " blocks of memory leaked");
    if (device_.live_streams() != 0) say("streams leaked");
    if (device_.live_events() != 0) say("events leaked");
    run_.calls = device_.calls() - planning_;
  }

  std::mt19937_64 random_;
  const bool faulty_;
  const bool coherent_;
  const int devices_;
  std::vector<std::unique_ptr<Held>> held_;
  halfway::Report report_;
  halfway::Report counted_;  // by the host
  std::vector<std::int64_t> permutation_;
  Simulated device_;
  StreamOrdered allocator_;
  std::unique_ptr<Engine> engine_;
  std::vector<CallersStream> streams_;
  std::vector<Tensor> kept_;
  std::vector<Expected> expected_;
  std::vector<Later> later_;
  std::uint64_t planning_ = 0;
  Run run_;
};

inline Run run_schedule(std::uint64_t seed, std::uint64_t fail_call = 0, Fault fault = Fault::refused,
                        std::size_t piece = EngineSizes{}.piece) {
  Schedule schedule(seed, fail_call, fault, piece);
  return schedule.run();
}

inline constexpr std::size_t small_piece = 64;

}  // namespace rig
