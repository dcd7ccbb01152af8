// The arguments of the exchange functions, read from a vectorcall.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "halfway/plan.h"
#include "py.h"
#include "recipe.h"

namespace halfway::python {

// Keywords, as bits: each function names those it takes.
enum Keyword : std::uint32_t {
  kw_dtype = 1U << 0U,
  kw_device = 1U << 1U,
  kw_copy = 1U << 2U,
  kw_out = 1U << 3U,
  kw_non_blocking = 1U << 4U,
  kw_allow_readonly = 1U << 5U,
  kw_lock_storage = 1U << 6U,
  kw_report = 1U << 7U,
  kw_casting = 1U << 8U,
  kw_overflow = 1U << 9U,
  kw_to = 1U << 10U,
  kw_rounding = 1U << 11U,
  kw_seed = 1U << 12U,
  kw_scale = 1U << 13U,
  kw_shift = 1U << 14U,
  kw_axis = 1U << 15U,
  kw_permute = 1U << 16U,
};

// Those of every function that casts.
inline constexpr std::uint32_t cast_keywords =
    kw_casting | kw_overflow | kw_rounding | kw_seed | kw_scale | kw_shift | kw_axis | kw_permute | kw_report;

struct Arguments {
  PyObject* x = nullptr;  // borrowed, as everything here
  std::optional<DType> dtype;
  CastOptions options{};                 // borrows from `extras`
  std::shared_ptr<const Extras> extras;  // nullptr: none
  Copy copy = Copy::if_needed;
  PyObject* out = nullptr;
  PyObject* to = nullptr;
  bool allow_readonly = false;
  bool lock_storage = false;
  std::optional<Device> device;  // of the result, its index perhaps `any_index`
  bool non_blocking = false;
};

// Reads a call of `function` with at most `positional` positional arguments (x, then dtype), `required` of them
// required, and the keywords in `accepted`. throws: PythonError (TypeError, ValueError), Error (unavailable: a device
// that is neither the CPU nor CUDA's; unsupported_dtype)
[[nodiscard]] Arguments parse_arguments(const char* function, std::uint32_t accepted, Py_ssize_t required,
                                        Py_ssize_t positional, PyObject* const* args, Py_ssize_t count,
                                        PyObject* names);

// A call of the common shape: x, and nothing else than dtype and out.
struct PlainCall {
  PyObject* x = nullptr;
  PyObject* dtype = nullptr;  // nullptr: not given, or None
  PyObject* out = nullptr;    // likewise
};

// Reads a call of at most `x, dtype` and the keywords dtype and out, spelled by interned names as the interpreter does;
// false: parse_arguments() has to read it, or to refuse it.
[[nodiscard]] bool read_plain_call(PyObject* const* args, Py_ssize_t count, PyObject* names, PlainCall& call) noexcept;

// What device= says; nothing for None. throws: PythonError (TypeError), Error (unavailable)
[[nodiscard]] std::optional<Device> parse_device(PyObject* value);

// Interns the keyword names.
void init_arguments();

}  // namespace halfway::python
