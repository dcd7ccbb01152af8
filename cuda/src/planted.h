// Faults that tests plant into the engine, to see that they are noticed. They exist in the tests' own build of it only
// (HALFWAY_PLANTED_BUGS); elsewhere the conditions are constant and nothing is compiled of them.
#pragma once

#include <cstdint>

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

enum class Bug : std::uint8_t {
  none,
  drop_slot_wait,        // the host writes into a slot without waiting for its event
  reuse_slot_early,      // a slot's event is recorded before the work that reads it
  drop_filled_wait,      // a kernel does not wait for the copy of what it reads
  drop_scratch_wait,     // a copy does not wait for the kernel that reads what it overwrites
  release_early,         // a source is released when the work is enqueued, not when it is done
  forget_consumer_wait,  // the caller's stream goes on before the transfer is done
  forget_caller_order,   // the transfer begins before the caller's stream has come to it
  drop_drain_wait,       // the host reads a slot without waiting for the device to have written it
  forget_to_settle,      // after an error nobody waits for what is enqueued
  mark_early,            // the event that a cast's source is kept for is recorded before the cast
  drop_kept_wait,        // what is kept is let go without waiting for its event
  keep_counts,           // a tally does not start from zero
  drop_count_wait,       // counts are looked at before the kernels are done
  misnumber_elements,    // every chunk's elements are numbered from zero
};
inline constexpr int bug_count = static_cast<int>(Bug::misnumber_elements) + 1;

#if defined(HALFWAY_PLANTED_BUGS)
inline Bug planted_bug = Bug::none;
[[nodiscard]] inline bool has_bug(Bug bug) noexcept { return planted_bug == bug; }
#else
[[nodiscard]] constexpr bool has_bug(Bug /*bug*/) noexcept { return false; }
#endif

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
