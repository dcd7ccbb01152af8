// The Python functions that exchange: to_torch, to_numpy, cast, from_dlpack, explain.
#pragma once

#include <optional>

#include "arguments.h"
#include "halfway/plan.h"
#include "libraries.h"
#include "py.h"

namespace halfway::python {

// An exchange, thought through but not begun.
struct Exchange {
  const Library* target;
  Arguments arguments;
  Source source;
  std::optional<Source> out;
  Plan plan;
};

// Adds the functions to the module.
void init_exchange(PyObject* module);

}  // namespace halfway::python
