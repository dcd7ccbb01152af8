// What halfway/memory.py is made of.
#pragma once

#include <pybind11/pybind11.h>

namespace halfway::python {

// Adds _memory_stats, _memory_trim and _set_memory_limit to the module.
void init_memory(pybind11::module_& module);

}  // namespace halfway::python
