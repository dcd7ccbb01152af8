#include "permission.h"

#include <string>

namespace halfway {
inline namespace v0 {
namespace detail {
namespace {

std::string quoted(Casting casting) { return "casting='" + std::string(to_string(casting)) + "'"; }

// The least permissive level that allows the pair, as a hint.
std::string permission(DType from, DType to) {
  for (const Casting casting : {Casting::equiv, Casting::safe, Casting::same_kind}) {
    if (can_cast(from, to, casting)) return quoted(casting) + " allows it";
  }
  return quoted(Casting::unsafe) + " allows it, " + quoted(Casting::same_value) + " if no value changes";
}

void require_castable(DType dtype) {
  const DTypeInfo* const row = find(dtype);
  if (row != nullptr && row->castable) return;
  std::string message = to_string(dtype) + " is carried as it is, but never cast";
  std::string hint = "keep the dtype";
  if (dtype.lanes != 1) {
    message += ": its elements are vectors";
    hint = "view them as scalars, with a dimension more";
  } else if (row == nullptr) {
    message += ": it is no dtype that this library knows";
  }
  throw Error(Reason::unsupported_dtype, message, hint);
}

}  // namespace

void require_permitted(DType from, DType to, Casting casting, bool swaps) {
  if (from != to) {
    require_castable(from);
    require_castable(to);
    if (!can_cast(from, to, casting)) {
      throw CastError(quoted(casting) + " forbids " + to_string(from) + " to " + to_string(to), permission(from, to));
    }
  }
  if (swaps && casting == Casting::no) {
    throw CastError(quoted(casting) + " forbids a change of the byte order of " + to_string(from),
                    permission(from, from));
  }
}

void require_host(Device device, const char* role) {
  if (is_host(device)) return;
  throw Error(Reason::device,
              std::string("the ") + role + " is on DLPack device (" +
                  std::to_string(static_cast<std::int32_t>(device.type)) + ", " + std::to_string(device.id) +
                  "), which the host cannot address",
              "copy it to the host with its own library first");
}

}  // namespace detail
}  // namespace v0
}  // namespace halfway
