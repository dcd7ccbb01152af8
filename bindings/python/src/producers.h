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

// Whether the memory is on a device that there is. Its values are ready on the stream `ready`, behind which the
// consumer's is put. throws: Error (device, unavailable, capturing)
void require_ready(Source& source, const Opening& opening, void* ready);

}  // namespace halfway::python
