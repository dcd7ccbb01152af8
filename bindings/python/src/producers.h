// Foreign producers of DLPack: objects with an exchange table or __dlpack__, and the stream handshake of the array API
// standard where their memory is on a CUDA device.
#pragma once

#include <optional>

#include "libraries.h"
#include "py.h"

namespace halfway::python {

// Opens a producer; nothing for objects that are none. Device memory is ready on the consumer's stream then.
// throws: Error (device, malformed, unavailable; as import_managed), PythonError (whatever the producer raises)
[[nodiscard]] std::optional<Source> open_producer(PyObject* object, const Opening& opening);

// Whether the memory is on a device that there is, and ready on the consumer's stream. Unless `ordered` it is made so:
// what came without a handshake, as a capsule does, is ready on the legacy default stream. throws: Error (device,
// unavailable, capturing)
void require_ready(Source& source, const Opening& opening, bool ordered);

}  // namespace halfway::python
