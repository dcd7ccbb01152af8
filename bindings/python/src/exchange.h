// The Python functions that exchange: to_torch, to_numpy, cast, from_dlpack, explain.
#pragma once

#include "py.h"

namespace halfway::python {

// Adds the functions to the module.
void init_exchange(PyObject* module);

}  // namespace halfway::python
