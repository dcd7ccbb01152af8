// halfway.Plan: the runtime's plan as a Python object.
#pragma once

#include "halfway/plan.h"
#include "py.h"

namespace halfway::python {

// A new halfway.Plan. throws PythonError
[[nodiscard]] PyObject* plan_object(const Plan& plan);

// Adds Plan and Step to the module.
void init_plan(PyObject* module);

}  // namespace halfway::python
