#include "simulated_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "parallel/futex.h"
#include "simulated_kernels.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

using halfway::detail::futex_wait;
using halfway::detail::futex_wake;

SimulatedStream::SimulatedStream(Simulated& owner, int device, bool threaded)
    : owner_(owner), device_(device), threaded_(threaded), last_(new Work), first_(last_) {
  if (threaded) thread_ = std::thread([this] { work(); });
}

SimulatedStream::~SimulatedStream() {
  auto stop = std::make_unique<Work>();
  stop->kind = Work::Kind::stop;
  enqueue(std::move(stop));
  run_to(enqueued());
  if (threaded_) thread_.join();
  delete first_;
}

void SimulatedStream::enqueue(std::unique_ptr<Work> work) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.push_back({work->engine, work->kind == Work::Kind::wait ? work->mark : nullptr});
  ++enqueued_;
  if (work->kind == Work::Kind::pass) work->mark->index = enqueued_;
  Work* const added = work.release();
  // The stream's thread owns what is before: it does not look at `last_`, and frees nothing without a successor.
  last_->next.store(added, std::memory_order_release);
  last_ = added;
}

Mark& SimulatedStream::mark() noexcept {
  auto pass = std::make_unique<Work>();
  pass->kind = Work::Kind::pass;
  Mark* mark = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    mark = &marks_.emplace_back();
  }
  mark->stream = this;
  pass->mark = mark;
  enqueue(std::move(pass));
  return *mark;
}

std::uint64_t SimulatedStream::enqueued() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return enqueued_;
}

// Requires: the lock is held; nothing among them waits for what has not passed.
void SimulatedStream::let_go(std::uint64_t count) noexcept {
  for (std::uint64_t i = 0; i < count; ++i) waiting_.pop_front();
  let_go_ += count;
  if (!threaded_) {
    for (std::uint64_t i = 0; i < count; ++i) run_next();
    return;
  }
  const auto target = static_cast<std::uint32_t>(let_go_);
  permitted_.store(target, std::memory_order_relaxed);
  futex_wake(permitted_, 1);
  for (;;) {
    const std::uint32_t now = completed_.load(std::memory_order_relaxed);
    if (now == target) return;
    futex_wait(completed_, now);
  }
}

void SimulatedStream::run_to(std::uint64_t index) noexcept {
  for (;;) {
    Mark* first = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (let_go_ >= index) return;
      const std::uint64_t most = index - let_go_;
      std::uint64_t count = 0;
      while (count < most) {
        if (!may_go(waiting_[count])) {
          first = waiting_[count].waits_for;
          break;
        }
        ++count;
      }
      if (count > 0) let_go(count);
      if (first == nullptr) return;
    }
    first->stream->run_to(first->index);
  }
}

void SimulatedStream::work() noexcept {
  for (std::uint32_t done = 0; !stopped_; ++done) {
    while (permitted_.load(std::memory_order_relaxed) == done) futex_wait(permitted_, done);
    run_next();
    completed_.store(done + 1, std::memory_order_relaxed);
    futex_wake(completed_, 64);
  }
}

// Requires: there is a next piece, or will be in no time.
void SimulatedStream::run_next() noexcept {
  Work* next = nullptr;
  while (next == nullptr) next = first_->next.load(std::memory_order_acquire);
  delete first_;
  first_ = next;
  stopped_ = next->kind == Work::Kind::stop;
  execute(*next);
}

void SimulatedStream::execute(Work& work) noexcept {
  switch (work.kind) {
    case Work::Kind::stub:
    case Work::Kind::stop:
      return;
    case Work::Kind::pass:
      return work.mark->passed.store(1, std::memory_order_release);
    case Work::Kind::wait:
      // It has passed: nothing is let go before. This is the edge that orders the streams.
      while (work.mark->passed.load(std::memory_order_acquire) == 0) std::this_thread::yield();
      return;
    case Work::Kind::copy:
    case Work::Kind::convert:
    case Work::Kind::fill:
      break;
  }
  if (owner_.is_lost()) return;
  if (work.late) return owner_.lost_.store(true, std::memory_order_relaxed);
  for (const Work::Touched& touched : work.touched) {
    if (touched.generation != nullptr && touched.generation->load(std::memory_order_relaxed) != touched.expected) {
      return owner_.violate("the device came to memory that had been freed");
    }
  }
  switch (work.kind) {
    case Work::Kind::copy:
      std::memcpy(work.destination, work.payload.empty() ? work.source : work.payload.data(), work.bytes);
      return;
    case Work::Kind::fill:
      std::memset(work.destination, work.value, work.bytes);
      return;
    default:
      run_conversion(work.conversion);
      return;
  }
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
