// halfway.Pending: the result of a transfer that may be under way.
#pragma once

#include <memory>

#include "devices.h"
#include "libraries.h"
#include "py.h"
#include "recipe.h"

namespace halfway::python {

// A result that is there already. throws PythonError
[[nodiscard]] PyObject* pending_object(Ref result);

// A result that becomes an array of `target`. `extras` is what the cast borrows. throws PythonError
[[nodiscard]] PyObject* pending_object(std::unique_ptr<DeferredResult> deferred, const Library& target,
                                       const Plan& plan, std::shared_ptr<const Extras> extras);

// Makes the type and adds it to the module as `Pending`.
void init_pending(PyObject* module);

}  // namespace halfway::python
