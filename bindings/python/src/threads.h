// num_threads and set_num_threads, and one thread only in the workers of a torch DataLoader.
#pragma once

#include "py.h"

namespace halfway::python {

// Whether this process is a worker of a torch DataLoader, started by whatever method. Never imports torch. The GIL must
// be held; a pending exception is kept. Costs some ten nanoseconds.
[[nodiscard]] bool in_data_loader_worker() noexcept;

// Makes the default number of threads 1 in such a process: there are as many of them as CPUs. (Forked ones have that
// default anyway; spawned ones look like any program.) What the process sets by set_num_threads wins. To be called
// before work that may use threads, with the GIL.
void limit_threads_in_workers() noexcept;

// Adds the functions to the module.
void init_threads(PyObject* module);

}  // namespace halfway::python
