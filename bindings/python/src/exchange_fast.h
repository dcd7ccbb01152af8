// The common exchanges, without a Plan and without an allocation that is not the result.
//
// Which calls: x alone, with a dtype (a Cast too), with out=, or with both; x and out exact ndarrays, plain
// torch.Tensors (not requiring grad where that matters, not lazily negated or conjugated) or halfway.Tensors, in host
// memory. Everything else, and all that is refused before the cast itself, is left to the general path: what it would
// answer is what this answers, and a test compares the two.
#pragma once

#include <cstdint>

#include "py.h"

namespace halfway::python {

enum class Towards : std::uint8_t { torch, numpy, own };  // own: the library of x

// The result of a vectorcall, or nullptr without a Python error: the general path has to decide.
// throws: CastError and Error as cast_into() throws them; Error (malformed) when torch refuses the result; PythonError
[[nodiscard]] PyObject* exchange_fast(Towards towards, PyObject* const* args, Py_ssize_t count, PyObject* names);

// For tests: how many calls were answered here, and the general path for everything.
[[nodiscard]] std::uint64_t fast_exchanges() noexcept;
[[nodiscard]] bool is_fast_path_enabled() noexcept;
void set_fast_path_enabled(bool enabled) noexcept;

}  // namespace halfway::python
