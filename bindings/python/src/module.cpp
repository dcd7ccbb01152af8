// The extension module halfway._core.
#include <pybind11/pybind11.h>

#include "collate.h"
#include "devices.h"
#include "docs.h"
#include "exchange.h"
#include "exchange_fast.h"
#include "halfway/dtype.h"
#include "memory.h"
#include "numpy_api.h"
#include "pending.h"
#include "pinning.h"
#include "plan_object.h"
#include "recipe.h"
#include "release.h"
#include "tensor_type.h"
#include "threads.h"
#include "torch_api.h"

namespace {

namespace py = pybind11;
namespace hp = halfway::python;

// The rows behind halfway.dtypes().
py::list dtype_rows() {
  constexpr const char* kinds[] = {"boolean", "unsigned_integer", "signed_integer", "floating", "complex", "opaque"};
  py::list rows;
  for (const halfway::DTypeInfo& info : halfway::dtypes()) {
    py::list aliases;
    for (const std::string_view alias : info.aliases) {
      aliases.append(std::string(alias));
    }
    py::dict row;
    row["name"] = std::string(info.name);
    row["aliases"] = py::tuple(aliases);
    row["kind"] = kinds[static_cast<int>(info.kind)];
    row["code"] = static_cast<int>(info.dtype.code);
    row["bits"] = static_cast<int>(info.dtype.bits);
    row["castable"] = info.castable;
    row["numpy"] = hp::numpy_name(info.dtype);
    row["torch"] = hp::torch_has_dtype(info.dtype);
    rows.append(row);
  }
  return rows;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  try {
    py::options options;
    options.disable_function_signatures();  // the docstrings have their own
    module.doc() = "C++ core of halfway; use the package, not this module.";
    hp::init_errors();
    hp::init_numpy();
    hp::init_release();
    hp::init_recipe(module.ptr());
    hp::init_plan(module.ptr());
    hp::init_tensor_type(module.ptr());
    hp::init_exchange(module.ptr());
    hp::init_collate(module.ptr());
    hp::init_pending(module.ptr());
    hp::init_device(module.ptr());
    hp::init_pinning(module.ptr());
    hp::init_memory(module);
    hp::init_threads(module.ptr());
    module.attr("__version__") = HALFWAY_VERSION;
    module.def("_dtype_rows", dtype_rows);
    module.def("_pending_releases", hp::pending_releases);
    module.def("_fast_exchanges", hp::fast_exchanges);
    module.def("_set_fast_path_enabled", hp::set_fast_path_enabled);
    module.def("_set_torch_table_enabled", [](bool enabled) {
      try {
        hp::set_torch_table_enabled(enabled);
      } catch (...) {
        hp::translate_current_exception();
        throw py::error_already_set();
      }
    });
    module.def("register_numpy_dtypes", hp::register_with_numpy, hp::docs::register_numpy_dtypes);
  } catch (const py::error_already_set&) {
    throw;
  } catch (...) {
    hp::translate_current_exception();
    throw py::error_already_set();
  }
}
