#include "exchange_fast.h"

#include <algorithm>
#include <array>
#include <span>

#include "arguments.h"
#include "box.h"
#include "libraries.h"
#include "moving.h"
#include "numpy_api.h"
#include "recipe.h"
#include "tensor_type.h"
#include "torch_api.h"
#include "views.h"

namespace halfway::python {
namespace {

bool g_enabled = true;
std::uint64_t g_count = 0;

enum class Kind : std::uint8_t { other, numpy, torch, own };

Kind kind_of(PyObject* object, const TorchApi* api) noexcept {
  if (PyArray_CheckExact(object)) {
    return Kind::numpy;
  }
  if (api != nullptr && Py_IS_TYPE(object, api->tensor_type)) {
    return Kind::torch;
  }
  return is_tensor(object) ? Kind::own : Kind::other;
}

bool view_of_own(PyObject* object, TensorView& view) noexcept {
  view = tensor_object(object).tensor.view();
  return view.device.type == DeviceType::cpu && view.dtype.lanes == 1 && view.dtype.bits >= 8;
}

// x and out as views. They are valid until the GIL is let go of.
struct Opened {
  TensorView x;
  TensorView out;
};

bool open(const PlainCall& call, Kind x_kind, Kind out_kind, const TorchApi* api, Opened& opened) noexcept {
  // torch's first: questions about tensors let go of the GIL
  std::array<PlainTorch, 2> tensors;
  std::size_t count = 0;
  if (x_kind == Kind::torch) {
    tensors[count++] = {.tensor = call.x, .may_require_grad = true};
  }
  if (out_kind == Kind::torch) {
    tensors[count++] = {.tensor = call.out};
  }
  const std::span<PlainTorch> asked = std::span(tensors).first(count);
  if (count > 0 && (!open_torch_fast(*api, asked) || !std::all_of(asked.begin(), asked.end(), [&](const auto& plain) {
        return torch_takes(*api, plain.described.dtype);
      }))) {
    return false;
  }
  if (x_kind == Kind::torch) {
    opened.x = view_of_described(tensors[0].described);
  } else if (!(x_kind == Kind::numpy ? view_of_plain_array(call.x, opened.x) : view_of_own(call.x, opened.x))) {
    return false;
  }
  if (out_kind == Kind::torch) {
    opened.out = view_of_described(tensors[count - 1].described);
    return true;
  }
  return out_kind == Kind::other ||
         (out_kind == Kind::numpy ? view_of_plain_array(call.out, opened.out) : view_of_own(call.out, opened.out));
}

bool torch_takes_dtype(const TorchApi& api, DType dtype) noexcept {
  return torch_takes(api, {dtype.code, dtype.bits, dtype.lanes});
}

// What x is when its dtype is the one that is wanted, where its memory serves another library as it stands.
PyObject* alias(Kind target, PyObject* x, Kind x_kind, const TorchApi* api) {
  if (target == Kind::torch && x_kind == Kind::numpy && api->table != nullptr) {
    detail::Box* box = box_of_plain_array(x);
    if (box != nullptr && torch_takes(*api, box->tensor().dtype)) {
      return torch_from_box(*api, box);
    }
    if (box != nullptr) {
      box->drop();
    }
  }
  if (target == Kind::numpy && x_kind == Kind::torch) {
    DLTensor described;
    if (open_torch_fast(*api, x, described)) {
      const TensorView view = view_of_described(described);
      if (known_descr(view.dtype) != nullptr) {
        return array_over(view, true, Ref::borrow(x).release());
      }
    }
  }
  return nullptr;
}

PyObject* write_into_out(const PlainCall& call, Kind out_kind, const TorchApi* api, const Opened& opened,
                         const CastOptions& options) {
  const TensorView& x = opened.x;
  const TensorView& out = opened.out;
  if (out.readonly || !std::equal(x.shape.begin(), x.shape.end(), out.shape.begin(), out.shape.end())) {
    return nullptr;
  }
  move_into(x, detail::writable(out), options);
  if (out_kind == Kind::torch) {
    mark_written(*api, call.out);
  }
  return Ref::borrow(call.out).release();
}

PyObject* write_fresh(Kind target, const TorchApi* api, const TensorView& x, DType dtype, const CastOptions& options) {
  if (target == Kind::numpy) {
    return known_descr(dtype) == nullptr ? nullptr : move_to_fresh_array(x, dtype, options);
  }
  if (target == Kind::torch) {
    if (api->table == nullptr || !torch_takes_dtype(*api, dtype)) {
      return nullptr;
    }
    Tensor fresh = move_fresh(x, dtype, options);
    return torch_from_box(*api, reinterpret_cast<detail::Box*>(std::move(fresh).to_dlpack()));
  }
  return wrap_tensor(move_fresh(x, dtype, options), {Reason::dtype});
}

PyObject* exchange(Towards towards, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PlainCall call;
  if (!g_enabled || !read_plain_call(args, count, names, call)) {
    return nullptr;
  }
  const TorchApi* api = torch_if_loaded();
  if (api == nullptr && towards == Towards::torch) {
    return nullptr;  // the arguments are looked at before torch is imported
  }
  const Kind x_kind = kind_of(call.x, api);
  const Kind target = towards == Towards::torch ? Kind::torch : towards == Towards::numpy ? Kind::numpy : x_kind;
  if (x_kind == Kind::other) {
    return nullptr;
  }
  if (call.dtype == nullptr && towards == Towards::own) {
    return nullptr;  // cast() wants a dtype
  }
  if (call.dtype == nullptr && call.out == nullptr) {
    return alias(target, call.x, x_kind, api);
  }
  CastOptions options;
  DType dtype;
  if (call.dtype == nullptr) {
    // out's
  } else if (const Recipe* recipe = recipe_of(call.dtype); recipe != nullptr) {
    if (recipe->extras != nullptr) {
      return nullptr;
    }
    dtype = recipe->dtype;
    options.casting = recipe->casting;
    options.overflow = recipe->overflow;
  } else if (const DType* known = known_dtype(call.dtype); known != nullptr) {
    dtype = *known;
  } else {
    return nullptr;  // met for the first time, or no dtype
  }
  Opened opened;
  if (call.out != nullptr) {
    const Kind out_kind = kind_of(call.out, api);
    if (out_kind != target || !open(call, x_kind, out_kind, api, opened) ||
        (call.dtype != nullptr && dtype != opened.out.dtype)) {
      return nullptr;
    }
    return write_into_out(call, out_kind, api, opened, options);
  }
  if (!open(call, x_kind, Kind::other, api, opened) || dtype.bits < 8) {
    return nullptr;
  }
  if (dtype == opened.x.dtype) {
    return alias(target, call.x, x_kind, api);
  }
  return write_fresh(target, api, opened.x, dtype, options);
}

}  // namespace

PyObject* exchange_fast(Towards towards, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* done = exchange(towards, args, count, names);
  g_count += done != nullptr ? 1 : 0;
  return done;
}

std::uint64_t fast_exchanges() noexcept { return g_count; }
bool is_fast_path_enabled() noexcept { return g_enabled; }
void set_fast_path_enabled(bool enabled) noexcept { g_enabled = enabled; }

}  // namespace halfway::python
