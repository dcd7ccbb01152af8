#include "memory.h"

#include <cstddef>

#include "gil.h"
#include "halfway/allocator.h"
#include "release.h"

namespace halfway::python {
namespace {

namespace py = pybind11;

// The fields of MemoryStats in halfway/memory.py, in their order. What waits to be released counts as released.
py::tuple stats() {
  drain();
  const MemoryStats now = memory_stats();
  return py::make_tuple(now.in_use, now.peak_in_use, now.cached, now.limit, now.hits, now.misses);
}

std::size_t trim() {
  drain();
  const WithoutGil others_run(gil_release_bytes + 1);  // returning a gigabyte takes milliseconds
  return trim_memory();
}

std::size_t set_limit(std::size_t bytes) {
  const std::size_t previous = memory_limit();
  const WithoutGil others_run(gil_release_bytes + 1);
  set_memory_limit(bytes);
  return previous;
}

}  // namespace

void init_memory(py::module_& module) {
  module.def("_memory_stats", stats);
  module.def("_memory_trim", trim);
  module.def("_set_memory_limit", set_limit, py::arg("bytes"), py::pos_only());
}

}  // namespace halfway::python
