// Arrays whose memory is page-locked where it is: halfway.pin.
#pragma once

#include "py.h"

namespace halfway::python {

// Adds the functions that halfway/_pin.py calls to the module.
void init_pinning(PyObject* module);

}  // namespace halfway::python
