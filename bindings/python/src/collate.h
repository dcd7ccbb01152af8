// halfway._core._collate: the batches of a call, filled in one go.
#pragma once

#include "py.h"

namespace halfway::python {

// Adds the function to the module.
void init_collate(PyObject* module);

}  // namespace halfway::python
