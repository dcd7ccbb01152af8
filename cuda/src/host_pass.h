// The host's part of a staged transfer, chunk by chunk: casts of runtime/ between a tensor of any layout and dense
// slots. Private to the engine.
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

class HostPass {
 public:
  // `host` is the source of a transfer to the device, or the destination of one to the host, and is borrowed, as what
  // the options borrow is. `options` are those of the cast, whose report starts from zero. throws: Error (permute)
  HostPass(const TransferPlan& plan, const MutableView& host, const CastOptions& options);
  ~HostPass() = default;
  HostPass(const HostPass&) = delete;
  HostPass& operator=(const HostPass&) = delete;

  // The elements of a chunk, in the order in which they cross.
  [[nodiscard]] halfway::detail::Slice range(std::uint64_t chunk) const noexcept;

  // The chunk's elements into a slot, or out of it. throws: what cast_into() throws
  void fill(std::uint64_t chunk, void* slot);
  void drain(std::uint64_t chunk, const void* slot);

 private:
  [[nodiscard]] MutableView part(std::uint64_t chunk);
  [[nodiscard]] CastOptions options_of(const halfway::detail::Slice& slice) const;
  template <class Data, class Cast>
  void run(std::uint64_t chunk, std::span<const std::int64_t> shape, Data* slot, const Cast& pass);

  const TransferPlan& plan_;
  const CastOptions& options_;
  const bool casts_;  // the options are about this pass, and not about a kernel's
  MutableView view_;
  std::array<std::int64_t, max_ndim> dims_;          // NOLINT(cppcoreguidelines-pro-type-member-init): as far as used
  std::array<std::int64_t, max_ndim> strides_;       // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<std::int64_t, max_ndim> part_shape_;    // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::array<std::int64_t, max_ndim> slot_strides_;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  std::int64_t axis_ = -1;                           // of the coefficients, in terms of the view
  halfway::detail::Slices slices_;
};

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
