// The way between the host and one device: its streams, its ring, its events, and what the device still reads.
//
// A transfer's work goes to the caller's own stream, which orders it: no event between streams, whose price on the
// device is that of a small transfer. Only of several chunks, which threads may enqueue and which cross while others
// are cast, do two streams of the channel do it: the caller's is ordered before them by follow() and behind them by
// lead(); nothing else relates the three.
//
// The caller may destroy his stream at any time: what is kept, and slots, are guarded by events, and an event outlives
// the stream that it was recorded on.
//
// After an error settle() waits for whatever the transfer enqueued. Only then may memory be freed that this work used:
// it is what every failing transfer does before anything of it is released.
#pragma once

#include <list>
#include <mutex>
#include <utility>
#include <vector>

#include "counting.h"
#include "device.h"
#include "halfway/tensor.h"
#include "staging.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Tensors that are kept until an event has passed. In lists: a node is made before anything is enqueued, and moving it
// about needs no memory, so that keeping and letting go cannot fail.
struct Kept {
  Event event = nullptr;
  Tensor first{};
  Tensor second{};
};
using KeptList = std::list<Kept>;

// Where a transfer's work is enqueued.
struct Lanes {
  Stream copies = nullptr;
  Stream kernels = nullptr;
};

class Channel {
 public:
  Channel(Backend& backend, int device, StagingSizes sizes);
  ~Channel();  // release() before
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

  // --- All of what follows: the lock is held, and the device is current.

  // Asked once, then known. throws: Error
  [[nodiscard]] const DeviceTraits& traits();

  [[nodiscard]] Ring& ring() noexcept { return ring_; }
  [[nodiscard]] Counting& counting() noexcept { return counting_; }

  // The channel's own two streams, which begin behind what the caller's stream has been given so far. throws: Error
  [[nodiscard]] Lanes follow(Stream caller);
  // The caller's stream goes on behind what `last` has been given so far; the event says when that is done, and is to
  // be given back. throws: Error
  [[nodiscard]] Event lead(Stream last, Stream caller);
  // An event that says when what a stream has been given so far is done; to be given back. throws: Error
  [[nodiscard]] Event mark(Stream stream);
  void give_back(Event event) noexcept { spare_.push_back(event); }  // room was made when it was made

  // Waits for what a stream has been given so far. throws: Error
  void await(Stream stream);

  // Waits for everything that was enqueued on the two streams and on the caller's, so that nothing of his transfer uses
  // any memory any more. If the device does not even answer that, it is lost: nothing runs on it then.
  void settle(Stream caller) noexcept;
  // The same where the caller's stream may be gone: waits for all that the device was given.
  void settle_device() noexcept;

  // Keeps the node's tensors until its event has passed, and gives that back then. `node` is a list of one.
  void keep(KeptList& node) noexcept { kept_.splice(kept_.end(), node); }
  // The tensors whose events have passed. They are to be released when the lock is not held: releasing may run
  // anybody's code.
  [[nodiscard]] KeptList collect() noexcept;

  // Waits for everything that was enqueued, on whichever stream. Returns what was kept for it.
  [[nodiscard]] KeptList finish() noexcept;

  // Waits, and frees everything. Returns what was kept.
  [[nodiscard]] KeptList release() noexcept;

 private:
  // Makes the streams, if they are missing. throws: Error
  void prepare();
  Event take_event();
  void settle_own() noexcept;
  bool is_done(Event event) noexcept;

  Backend& backend_;
  const int device_;
  std::mutex mutex_;  // guards everything below
  Ring ring_;
  Counting counting_;
  Stream copies_ = nullptr;
  Stream kernels_ = nullptr;
  bool has_traits_ = false;
  DeviceTraits traits_;
  std::size_t events_ = 0;  // made
  std::vector<Event> spare_;
  KeptList kept_;
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
