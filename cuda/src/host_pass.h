// The host's share of a staged transfer, piece by piece of each part of a chunk: casts of runtime/ between a tensor of
// any layout and dense slots. Private to the engine.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "halfway/cast.h"
#include "halfway/plan.h"
#include "slices.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

// Threads: const, so that pieces may be cast by several threads at a time.
class HostPass {
 public:
  // `host` is the source of a transfer to the device, or the destination of one to the host, and is borrowed, as what
  // the options borrow is. `options` are those of the cast. Pieces are of about `piece_bytes` that are read and written
  // together; 0: a part is one piece. throws: Error (permute)
  HostPass(const TransferPlan& plan, const MutableView& host, const CastOptions& options, std::size_t piece_bytes = 0);
  ~HostPass() = default;
  HostPass(const HostPass&) = delete;
  HostPass& operator=(const HostPass&) = delete;

  // The elements of a part, in the order in which they cross; none beyond the last.
  [[nodiscard]] halfway::detail::Slice range(std::uint64_t part) const noexcept;
  // Elements before a part: all of them beyond the last.
  [[nodiscard]] std::uint64_t first(std::uint64_t part) const noexcept;
  // Of every part; some of the last may be empty where a part is smaller than others.
  [[nodiscard]] std::uint64_t pieces() const noexcept { return pieces_; }
  // Whether the pieces count for the options' report.
  [[nodiscard]] bool counts() const noexcept { return casts_ && options_.report != nullptr; }

  // A piece of the part's elements into a slot, or out of it; `dense` is where the part begins there. Returns what was
  // counted. throws: what cast_into() throws
  Report fill(std::uint64_t part, std::uint64_t piece, void* dense) const;
  Report drain(std::uint64_t part, std::uint64_t piece, const void* dense) const;

 private:
  [[nodiscard]] halfway::detail::Slice piece_of(const halfway::detail::Slice& part, std::uint64_t piece) const noexcept;
  [[nodiscard]] CastOptions options_of(const halfway::detail::Slice& slice) const;
  template <class Byte, class Cast>
  Report run(std::uint64_t part, std::uint64_t piece, Byte* dense, const Cast& pass) const;

  const TransferPlan& plan_;
  const CastOptions& options_;
  const bool casts_;  // the options are about this pass, and not about a kernel's
  MutableView view_;
  std::array<std::int64_t, max_ndim> dims_;     // NOLINT(cppcoreguidelines-pro-type-member-init): as far as used
  std::array<std::int64_t, max_ndim> strides_;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::int64_t axis_ = -1;                      // of the coefficients, in terms of the view
  halfway::detail::Slices slices_;
  std::uint64_t pieces_ = 1;
  std::int64_t piece_ = 0;  // the most elements of a piece, where there are several
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
