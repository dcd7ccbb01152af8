// What transfers and casts on a device ask of their tensors, before anything is enqueued. Private to the engine.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cast/operands.h"
#include "cast/permutation.h"
#include "device.h"
#include "halfway/error.h"
#include "halfway/layout.h"
#include "halfway/tensor.h"
#include "text.h"

namespace halfway {
inline namespace v0 {
namespace cuda {
namespace detail {

inline void require_on_device(const TensorView& view, const char* role) {
  if (view.device.type == DeviceType::cuda) return;
  throw Error(Reason::device, std::string("the ") + role + " is not in the memory of a CUDA device");
}

inline void require_on_host(const TensorView& view, const char* role) {
  if (is_host(view.device)) return;
  throw Error(Reason::device, std::string("the ") + role + " is not in host memory");
}

// throws: Error (capturing; unavailable)
inline void require_no_capture(Backend& backend, Stream stream) {
  bool capturing = false;
  require(backend, backend.is_capturing(stream, capturing), "looking at the caller's stream");
  if (!capturing) return;
  throw Error(Reason::capturing, "a CUDA graph is being captured from this stream",
              "transfer before the capture, into memory that the graph uses");
}

inline void require_storage(const TensorView& view, const char* role) {
  if (view.data == nullptr && element_count(view.shape).value_or(0) > 0) {
    throw Error(Reason::no_storage, std::string("the ") + role + "'s data pointer is null");
  }
}

inline void require_result(const std::vector<std::int64_t>& shape, const MutableView& destination) {
  if (destination.readonly) throw Error(Reason::readonly, "the destination is read-only");
  if (!std::equal(shape.begin(), shape.end(), destination.shape.begin(), destination.shape.end()) ||
      destination.strides.size() != destination.shape.size()) {
    throw Error(Reason::out_mismatch, "the destination's shape " + halfway::detail::tuple_text(destination.shape) +
                                          " is not the result's, " + halfway::detail::tuple_text(shape));
  }
  require_storage(destination, "destination");
}

inline void require_disjoint_elements(const MutableView& destination) {
  if (!may_self_overlap(destination)) return;
  throw Error(Reason::overlap, "elements of the destination share memory with each other",
              "write into a contiguous tensor");
}

// Each thread reads an element and writes its image: into the same place, or nowhere near any source.
inline void require_apart(const TensorView& source, const MutableView& destination, const CastOptions& options) {
  std::array<std::int64_t, std::size_t{2} * max_ndim> geometry;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const halfway::detail::Permutation permutation(options, source.shape.size());
  if (halfway::detail::has_same_places(permutation.arranged(source, geometry), destination)) return;
  if (!may_overlap(source, destination)) return;
  throw Error(Reason::overlap, "the destination shares memory with the source",
              "cast into other memory, or into a view with the source's start, strides and item size");
}

}  // namespace detail
}  // namespace cuda
}  // namespace v0
}  // namespace halfway
