// A ring of slots, filled and emptied by several threads at a time in one parallel region: nothing is forked or joined
// between the chunks. Private to the engine; knows nothing of devices.
//
// A chunk goes through three steps. It is opened: its slot is waited for. Its pieces are processed, by as many threads
// as there are. It is closed, by whoever has processed the last of them: its slot is handed on. Pieces have numbers, in
// the order of the chunks, and threads take them in that order. So
//   - whoever waits, waits for pieces with lower numbers alone: for his chunk to be opened, by who took its first
//     piece; and, with the first piece of a chunk, for the chunk before it in the same slot to be closed. The lowest
//     piece waits for nobody, hence there is no deadlock, with whatever number of threads, one among them;
//   - what fails first, in the order of pieces, is the same with any number of threads: pieces above a failure are left
//     alone, those below it are brought to their end.
#pragma once

#include <cstdint>

#include "ramp.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// What is done with the chunks [0, chunks), whose pieces are numbered from 0, part by part. Steps are called on any
// thread of the region, those of different chunks at the same time; of one chunk `open` returns before pieces begin,
// and `close` begins when the last has returned, as memory has it too. `open` of a chunk begins when `close` of the
// chunk before it in its slot has returned.
class PipelineSteps {
 public:
  virtual ~PipelineSteps() = default;
  PipelineSteps(const PipelineSteps&) = delete;
  PipelineSteps& operator=(const PipelineSteps&) = delete;

  // May throw anything.
  virtual void open(std::uint64_t chunk) = 0;
  virtual void process(std::uint64_t chunk, std::uint64_t piece) = 0;
  virtual void close(std::uint64_t chunk) = 0;

 protected:
  PipelineSteps() = default;
};

struct PipelineShape {
  std::uint64_t chunks = 0;
  halfway::detail::Ramp ramp{};  // the parts of each
  std::uint64_t pieces = 1;      // of every part
  std::uint64_t slots = 1;       // chunk c is in slot c % slots
  int threads = 1;               // at most; 1: everything happens on the calling thread, in order
};

// Returns when all chunks are closed. throws: what a step threw, of several the one of the lowest piece (an exception
// of `close` counts as the chunk's last piece's); no step runs any more then, and some have not run. std::bad_alloc
void run_pipeline(PipelineSteps& steps, const PipelineShape& shape);

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
