#include "exchange.h"

#include <algorithm>
#include <string>
#include <vector>

#include "arguments.h"
#include "box.h"
#include "cast/permutation.h"
#include "devices.h"
#include "docs.h"
#include "exchange_device.h"
#include "exchange_fast.h"
#include "libraries.h"
#include "moving.h"
#include "numpy_api.h"
#include "plan_object.h"
#include "release.h"
#include "tensor_type.h"
#include "text.h"
#include "torch_api.h"
#include "torch_device.h"
#include "views.h"

namespace halfway::python {
namespace {

constexpr std::uint32_t to_torch_keywords =
    kw_dtype | kw_device | kw_copy | kw_out | kw_non_blocking | kw_allow_readonly | cast_keywords;
constexpr std::uint32_t to_numpy_keywords =
    kw_dtype | kw_copy | kw_out | kw_non_blocking | kw_lock_storage | cast_keywords;
constexpr std::uint32_t explain_keywords = to_torch_keywords | kw_lock_storage | kw_to;

// Same library, same dtype, same memory: the object itself, whatever it is.
bool is_identity(const Exchange& exchange) {
  const Arguments& arguments = exchange.arguments;
  const Source& source = exchange.source;
  return exchange.target->owns(arguments.x) && arguments.out == nullptr && arguments.copy != Copy::always &&
         !crosses(exchange) && !arguments.options.is_affine() && !arguments.options.permute &&
         (!arguments.dtype || (*arguments.dtype == source.view.dtype && !source.view.swapped));
}

// `explaining`: a capsule is kept, no stream waits, and the device need not be there.
Exchange prepare(const Library& target, const Arguments& arguments, bool explaining = false) {
  Exchange exchange{&target, arguments, {}, std::nullopt, {}};
  Wish wish;
  wish.target = target.target;
  if (arguments.out != nullptr) {
    exchange.out = open_out(target, arguments.out);
    const DType dtype = exchange.out->view.dtype;
    if (arguments.dtype && *arguments.dtype != dtype) {
      throw Error(Reason::out_mismatch,
                  "dtype=" + to_string(*arguments.dtype) + " was asked for, but out is " + to_string(dtype),
                  "leave dtype unset: out's own is the default");
    }
    exchange.arguments.dtype = dtype;
  }
  exchange.source = open_source(arguments.x, {.devices = true, .peek = explaining, .consumer = &target});
  Source& source = exchange.source;
  wish.device = result_device(exchange, explaining);
  exchange.plan.device = wish.device.value_or(source.view.device);
  if (is_identity(exchange)) {
    source.traits = {};
  }
  wish.dtype = exchange.arguments.dtype;
  wish.target.swapped = wish.target.swapped && !wish.dtype;
  wish.copy = arguments.copy;
  wish.allow_readonly = arguments.allow_readonly;
  wish.into_out = arguments.out != nullptr;
  wish.options = arguments.options;
  if (&target == &numpy_library()) {
    require_whole_bytes(source.view);
  }
  exchange.plan = plan(source.view, source.traits, wish);
  const std::vector<std::int64_t>& shape = exchange.plan.result_shape;
  if (exchange.out &&
      !std::equal(shape.begin(), shape.end(), exchange.out->view.shape.begin(), exchange.out->view.shape.end())) {
    throw Error(Reason::out_mismatch,
                "out has shape " + detail::tuple_text(exchange.out->view.shape) + ", but " +
                    (arguments.options.permute ? "the permuted x has " : "x has ") + detail::tuple_text(shape),
                arguments.options.permute ? "pass an out of the permuted shape" : "pass an out of x's shape");
  }
  if (wish.device) {
    plan_devices(exchange, explaining);
  }
  return exchange;
}

PyObject* write_into_out(Exchange& exchange) {
  const Source& out = *exchange.out;
  move_into(exchange.source.view, detail::writable(out.view), exchange.arguments.options);
  if (out.library == &torch_library()) {
    mark_written(torch(), exchange.arguments.out);
  }
  return Ref::borrow(exchange.arguments.out).release();
}

PyObject* write_fresh(Exchange& exchange) {
  const TensorView& view = exchange.source.view;
  const DType to = exchange.plan.to;
  const CastOptions& options = exchange.arguments.options;
  if (exchange.target == &numpy_library()) {
    return move_to_fresh_array(view, to, options);
  }
  return exchange.target->adopt(move_fresh(view, to, options), exchange.plan);
}

// torch's own .numpy(), which forbids resizing the storage while the array lives.
PyObject* lock_and_alias(Exchange& exchange) {
  PyObject* tensor = exchange.source.object.get();
  const TorchApi& api = torch();
  Ref viewed = Ref::borrow(tensor);
  const DType dtype = exchange.source.view.dtype;
  PyArray_Descr* descr = descr_for(dtype);
  const Ref owned = Ref::steal(reinterpret_cast<PyObject*>(descr));
  const bool foreign = descr->type_num >= NPY_USERDEF;  // torch's .numpy() knows NumPy's own dtypes alone
  if (foreign) {
    const std::string name = "int" + std::to_string(total_bits(dtype));
    const Ref integer = checked(PyObject_GetAttrString(api.module, name.c_str()));
    viewed = checked(PyObject_CallMethod(tensor, "view", "O", integer.get()));
  }
  Ref array = checked(PyObject_CallMethod(viewed.get(), "numpy", nullptr));
  if (foreign) {
    array = checked(PyObject_CallMethod(array.get(), "view", "O", owned.get()));
  }
  return array.release();
}

// Runs the plan, step by step.
PyObject* execute(Exchange& exchange) {
  for (const Step& step : exchange.plan.steps) {
    switch (step.kind) {
      case StepKind::resolve: {
        const Ref plain = resolve_torch(torch(), exchange.source.object.get());
        exchange.source = torch_library().open(plain.get());
        break;
      }
      case StepKind::copy:
      case StepKind::cast:
        if (crosses(exchange)) {
          return transfer(exchange);
        }
        if (!is_host(exchange.source.view.device)) {
          return cast_there(exchange);
        }
        return exchange.out ? write_into_out(exchange) : write_fresh(exchange);
      case StepKind::ship:
        return transfer(exchange);
      case StepKind::alias:
        break;
    }
  }
  if (crosses(exchange)) {
    return transfer(exchange);  // without elements: no step, and yet another memory
  }
  if (!exchange.plan.zero_copy && !is_host(exchange.source.view.device) &&
      (exchange.plan.steps.empty() || exchange.source.view.dtype != exchange.plan.to)) {
    return cast_there(exchange);  // likewise
  }
  hand_over(exchange);
  const detail::Permutation permutation(exchange.arguments.options, exchange.source.view.shape.size());
  if (exchange.arguments.lock_storage && exchange.source.library == &torch_library() &&
      exchange.target == &numpy_library()) {
    Ref array = Ref::steal(lock_and_alias(exchange));
    return permutation.moves() ? permuted_array(array.get(), permutation).release() : array.release();
  }
  if (permutation.moves()) {
    exchange.source = permuted(exchange.source, permutation);
  }
  return exchange.target->alias(exchange.source, exchange.plan);
}

PyObject* run(const Library& target, const Arguments& arguments) {
  if (arguments.options.report != nullptr) {
    *arguments.options.report = Report{};  // whatever becomes of the call
  }
  // nothing to do, whatever the array holds
  if (!arguments.dtype && arguments.extras == nullptr && arguments.out == nullptr && arguments.copy != Copy::always &&
      target.owns(arguments.x) &&
      (!arguments.device || (is_host(*arguments.device) && (&target == &numpy_library() ||
                                                            (&target == &torch_library() && !is_stand_in(arguments.x) &&
                                                             is_torch_on(arguments.x, "cpu")))))) {
    if (&target == &numpy_library()) {
      require_unmasked(arguments.x);
    }
    return Ref::borrow(arguments.x).release();
  }
  Exchange exchange = prepare(target, arguments);
  return is_identity(exchange) ? Ref::borrow(arguments.x).release() : execute(exchange);
}

// --- the functions

PyObject* to_torch(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  drain();
  return guarded([&]() -> PyObject* {
    if (PyObject* done = exchange_fast(Towards::torch, args, count, names); done != nullptr) {
      return done;
    }
    return run(torch_library(), parse_arguments("to_torch", to_torch_keywords, 1, 2, args, count, names));
  });
}

PyObject* to_numpy(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  drain();
  return guarded([&]() -> PyObject* {
    if (PyObject* done = exchange_fast(Towards::numpy, args, count, names); done != nullptr) {
      return done;
    }
    return run(numpy_library(), parse_arguments("to_numpy", to_numpy_keywords, 1, 2, args, count, names));
  });
}

PyObject* cast_function(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  drain();
  return guarded([&]() -> PyObject* {
    if (count == 2) {
      if (PyObject* done = exchange_fast(Towards::own, args, count, names); done != nullptr) {
        return done;
      }
    }
    const Arguments arguments =
        parse_arguments("cast", to_torch_keywords & ~std::uint32_t{kw_dtype}, 2, 2, args, count, names);
    if (!arguments.dtype) {
      throw_type_error("cast() needs a dtype, not None");
    }
    const Library* own = PyArray_IsScalar(arguments.x, Generic) ? &numpy_library() : library_of(arguments.x);
    return run(own != nullptr ? *own : halfway_library(), arguments);
  });
}

PyObject* from_dlpack_function(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  drain();
  return guarded([&]() -> PyObject* {
    if (is_fast_path_enabled() && count == 1 && names == nullptr) {
      if (PyArray_CheckExact(args[0])) {
        if (detail::Box* box = box_of_plain_array(args[0]); box != nullptr) {
          return wrap_tensor(detail::Box::wrap(box));
        }
      }
      const TorchApi* api = torch_if_loaded();
      DLTensor dl;
      if (api != nullptr && Py_IS_TYPE(args[0], api->tensor_type) && open_torch_fast(*api, args[0], dl) &&
          torch_takes(*api, dl.dtype)) {
        return wrap_tensor(import_managed(managed_from_torch(*api, args[0])));
      }
    }
    return run(halfway_library(), parse_arguments("from_dlpack", kw_device | kw_copy, 1, 1, args, count, names));
  });
}

PyObject* explain(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  drain();
  return guarded([&]() -> PyObject* {
    const Arguments arguments = parse_arguments("explain", explain_keywords, 1, 2, args, count, names);
    const Library& target = arguments.to == nullptr ? torch_library() : library_named(arguments.to);
    return plan_object(prepare(target, arguments, /*explaining=*/true).plan);
  });
}

template <auto Function>
constexpr PyCFunction as_c_function() {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(Function));
}

PyMethodDef functions[] = {
    {"to_torch", as_c_function<to_torch>(), METH_FASTCALL | METH_KEYWORDS, docs::to_torch},
    {"to_numpy", as_c_function<to_numpy>(), METH_FASTCALL | METH_KEYWORDS, docs::to_numpy},
    {"cast", as_c_function<cast_function>(), METH_FASTCALL | METH_KEYWORDS, docs::cast},
    {"from_dlpack", as_c_function<from_dlpack_function>(), METH_FASTCALL | METH_KEYWORDS, docs::from_dlpack},
    {"explain", as_c_function<explain>(), METH_FASTCALL | METH_KEYWORDS, docs::explain},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void init_exchange(PyObject* module) {
  init_arguments();
  if (PyModule_AddFunctions(module, functions) < 0) {
    throw PythonError{};
  }
}

}  // namespace halfway::python
