// Letting go of Python objects and foreign DLPack structs on any thread.
//
// Rule (`release` of every box made by the bindings): with a current Python thread state the release happens at once
// and keeps a pending exception. Without one the box goes on a lock-free list, drained by the next halfway call, by one
// pending call of the interpreter (the main thread runs it; before CPython 3.12 one that another thread asked for may
// have to wait until the main thread next lets go of the GIL), and at exit. Nothing ever waits for the GIL. Without a
// thread state while the interpreter finalizes, the box leaks: attaching then would abort the process.
#pragma once

#include "box.h"
#include "py.h"

namespace halfway::python {

// For boxes whose `context` is a PyObject that this box owns a reference to.
void release_object(detail::Box* box) noexcept;

// For boxes whose `context` is a DLManagedTensorVersioned* or DLManagedTensor*; `deleter` of it is called.
void release_managed(detail::Box* box) noexcept;
void release_managed_legacy(detail::Box* box) noexcept;

// Takes ownership of a foreign struct, to be released by the rule above; also on failure (throws), at once.
// throws: Error (version, malformed, unsupported_dtype), std::bad_alloc
[[nodiscard]] Tensor import_managed(DLManagedTensorVersioned* managed);
[[nodiscard]] Tensor import_managed(DLManagedTensor* managed);

// Releases what other threads left. The GIL must be held. Cheap when there is nothing.
void drain() noexcept;

// Registers the drain at interpreter exit.
void init_release();

// Number of boxes that wait for a drain: for tests.
[[nodiscard]] std::size_t pending_releases() noexcept;

}  // namespace halfway::python
