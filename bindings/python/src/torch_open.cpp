// Tensors of torch, opened for reading: what their memory is, and whether it holds their values.
#include <algorithm>
#include <iterator>

#include "box.h"
#include "capsule.h"
#include "halfway/dlpack.h"
#include "halfway/layout.h"
#include "release.h"
#include "torch_api.h"

namespace halfway::python {
namespace {

// 1, 0, or -1 with a Python error or an answer that is no bool (of a torch function mode): then nothing is known.
int truth(PyObject* result) noexcept {
  const Ref owned = Ref::steal(result);
  return owned.get() == Py_True ? 1 : owned.get() == Py_False ? 0 : -1;
}

// The answer of a question about a tensor. What torch does not answer must not be taken for a no: the bytes would be
// taken for the values.
bool answer(int truth, const char* question) {
  if (truth < 0) {
    clear_foreign_error();
    throw Error(Reason::subclass, std::string("torch has no answer to the tensor's ") + question,
                "convert it to a plain tensor first");
  }
  return truth != 0;
}

// A name for look-ups, for the life of the process.
PyObject* interned(const char* name) { return checked(PyUnicode_InternFromString(name)).release(); }

bool attribute_is_true(PyObject* object, PyObject* name) {
  return answer(truth(PyObject_GetAttr(object, name)), PyUnicode_AsUTF8(name));
}

bool call_is_true(PyObject* object, PyObject* name) {
  return answer(truth(PyObject_CallMethodNoArgs(object, name)), PyUnicode_AsUTF8(name));
}

// While this lives, questions about a tensor are answered by torch itself: an active TorchFunctionMode neither sees nor
// answers them.
class WithoutTorchFunctions {
 public:
  explicit WithoutTorchFunctions(const TorchApi& api) {
    static PyObject* const enter = interned("__enter__");
    static PyObject* const exit = interned("__exit__");
    exit_name_ = exit;
    guard_ = checked(PyObject_CallNoArgs(api.without_functions));
    static_cast<void>(checked(PyObject_CallMethodNoArgs(guard_.get(), enter)));
  }
  ~WithoutTorchFunctions() {
    const SavedException saved;
    PyObject* const args[] = {guard_.get(), Py_None, Py_None, Py_None};
    if (!Ref::steal(PyObject_VectorcallMethod(exit_name_, args, std::size(args), nullptr))) {
      PyErr_Clear();
    }
  }
  WithoutTorchFunctions(const WithoutTorchFunctions&) = delete;
  WithoutTorchFunctions& operator=(const WithoutTorchFunctions&) = delete;

 private:
  PyObject* exit_name_ = nullptr;  // looked up where an exception may be thrown
  Ref guard_;
};

// Whether `type` replaces torch's dispatch: then a tensor's memory need not be its value. Parameters switch
// __torch_function__ off, which changes nothing about the memory.
bool has_own_dispatch(const TorchApi& api, PyTypeObject* type) {
  if (type == api.tensor_type) {
    return false;
  }
  const auto differs = [&](const char* name, const char* disabled_name) {
    const Ref own = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name));
    const Ref base = Ref::steal(PyObject_GetAttrString(reinterpret_cast<PyObject*>(api.tensor_type), name));
    const Ref disabled = Ref::steal(PyObject_GetAttrString(api.native, disabled_name));
    PyErr_Clear();
    if (!own || !base || own.get() == base.get() || own.get() == disabled.get()) {
      return false;
    }
    // bound class methods are made anew at each look-up: compare what they are bound from
    const Ref own_function = Ref::steal(PyObject_GetAttrString(own.get(), "__func__"));
    const Ref base_function = Ref::steal(PyObject_GetAttrString(base.get(), "__func__"));
    PyErr_Clear();
    return !own_function || !base_function || own_function.get() != base_function.get();
  };
  return differs("__torch_function__", "_disabled_torch_function_impl") ||
         differs("__torch_dispatch__", "_disabled_torch_dispatch_impl");
}

std::uint64_t address_of(const DLTensor& described) noexcept {
  return static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(described.data));
}

// Whether there are elements at an address that may be none: heaps lie above this on 64-bit systems; where one does
// not, the exact look that follows costs time alone.
bool has_suspicious_address(const DLTensor& described) noexcept {
  constexpr std::uint64_t suspicious = std::uint64_t{1} << 46;
  return address_of(described) < suspicious &&
         element_count({described.shape, static_cast<std::size_t>(described.ndim)}).value_or(1) != 0;
}

// Whether the tensor has elements and no memory behind them. Its data pointer is then NULL plus the storage offset: not
// NULL for a slice of a functional or zero tensor, nor of a storage that was resized to nothing.
bool lacks_memory(PyObject* tensor, const DLTensor& described) {
  const std::uint64_t address = address_of(described);
  if (!has_suspicious_address(described)) {
    return false;
  }
  if (address == 0) {
    return true;
  }
  const Ref offset = Ref::steal(PyObject_CallMethod(tensor, "storage_offset", nullptr));
  const std::int64_t elements = offset ? PyLong_AsLongLong(offset.get()) : -1;
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return true;
  }
  const auto item = static_cast<std::uint64_t>((described.dtype.bits * described.dtype.lanes + 7) / 8);
  return address == static_cast<std::uint64_t>(elements) * item;
}

[[noreturn]] void throw_no_storage(const std::string& what) {
  throw Error(Reason::no_storage, what + " has no memory of its own",
              "materialise it first; meta, fake and transformed tensors (torch.func, vmap) hold no values to exchange");
}

// What torch does not export, or exports with a NULL pointer.
void refuse_without_address(PyObject* tensor) {
  const Ref address = Ref::steal(PyObject_CallMethod(tensor, "data_ptr", nullptr));
  const Ref count = Ref::steal(address ? PyObject_CallMethod(tensor, "numel", nullptr) : nullptr);
  const bool without = !count || (PyObject_IsTrue(address.get()) == 0 && PyObject_IsTrue(count.get()) != 0);
  if (without || PyErr_Occurred() != nullptr) {
    clear_foreign_error();
    throw_no_storage("the tensor");
  }
}

// The refusals that a tensor's attributes name.
void refuse_by_attributes(const TorchApi& api, PyObject* tensor) {
  if (has_own_dispatch(api, Py_TYPE(tensor))) {
    throw Error(Reason::subclass,
                std::string("torch subclass ") + Py_TYPE(tensor)->tp_name +
                    " has its own dispatch, its memory need not be "
                    "its value",
                "convert it to a plain tensor first (its own method, or .as_subclass(torch.Tensor) if it is one)");
  }
  static PyObject* const is_nested = interned("is_nested");
  static PyObject* const is_quantized = interned("is_quantized");
  static PyObject* const is_meta = interned("is_meta");
  static PyObject* const layout_name = interned("layout");
  if (attribute_is_true(tensor, is_nested)) {
    throw Error(Reason::nested, "a nested tensor is no single array", "exchange the tensors of .unbind() one by one");
  }
  if (attribute_is_true(tensor, is_quantized)) {
    throw Error(Reason::quantized, "a quantized tensor's memory is not its value",
                "pass x.dequantize(), or x.int_repr() for the raw integers");
  }
  const Ref layout = Ref::steal(PyObject_GetAttr(tensor, layout_name));
  if (layout && layout.get() != api.strided) {
    throw Error(Reason::sparse, "a tensor of layout " + text_of(layout.get()) + " is no strided array",
                "pass x.to_dense(), or its indices() and values() one by one");
  }
  PyErr_Clear();
  if (attribute_is_true(tensor, is_meta)) {
    throw_no_storage("a meta tensor");
  }
  if (!is_torch_on(tensor, "cpu") && !is_torch_on(tensor, "cuda")) {
    const Ref device = checked(PyObject_GetAttrString(tensor, "device"));
    throw Error(Reason::device, "the tensor is on device " + text_of(device.get()) + ", which halfway does not know",
                "pass x.cpu()");
  }
}

}  // namespace

bool is_torch_on(PyObject* tensor, const char* type_wanted) {
  static PyObject* const device_name = interned("device");
  static PyObject* const type_name = interned("type");
  const Ref device = checked(PyObject_GetAttr(tensor, device_name));
  const Ref type = checked(PyObject_GetAttr(device.get(), type_name));
  return PyUnicode_Check(type.get()) && PyUnicode_CompareWithASCIIString(type.get(), type_wanted) == 0;
}

namespace {

// What the table says, in `out`: host memory of plain elements.
bool describe_fast(const TorchApi& api, PyObject* tensor, DLTensor& out) noexcept {
  if (api.table->dltensor_from_py_object_no_sync(tensor, &out) != 0) {
    PyErr_Clear();
    return false;
  }
  return out.device.device_type == kDLCPU && out.dtype.lanes == 1 && out.ndim <= max_ndim;
}

// Whether the description leaves something to ask the tensor.
bool leaves_questions(const DLTensor& described) noexcept {
  return described.dtype.code == kDLComplex || (described.dtype.bits == 8 && described.dtype.code <= kDLUInt) ||
         has_suspicious_address(described);
}

bool answers_questions(const TorchApi& api, PyObject* tensor, const DLTensor& described) noexcept {
  if (described.dtype.code == kDLComplex && truth(api.is_conj(tensor, nullptr)) != 0) {
    PyErr_Clear();
    return false;
  }
  if (described.dtype.bits == 8 && described.dtype.code <= kDLUInt) {
    // int1-7 and uint1-7 are exported as if they were 8-bit integers
    const Ref dtype = Ref::steal(api.dtype->get(tensor, api.dtype->closure));
    const std::optional<DType> known = dtype ? dtype_of_torch(api, dtype.get()) : std::nullopt;
    if (!known || known->code != described.dtype.code) {
      PyErr_Clear();
      return false;
    }
  }
  return !lacks_memory(tensor, described);
}

bool is_same(const DLTensor& a, const DLTensor& b) noexcept {
  return a.data == b.data && a.byte_offset == b.byte_offset && a.dtype.code == b.dtype.code &&
         a.dtype.bits == b.dtype.bits;
}

}  // namespace

bool open_torch_fast(const TorchApi& api, std::span<PlainTorch> tensors) noexcept {
  if (api.table == nullptr || api.table->dltensor_from_py_object_no_sync == nullptr || api.requires_grad == nullptr ||
      api.is_neg == nullptr || api.is_conj == nullptr || api.dtype == nullptr) {
    return false;
  }
  // The table exports tensors that require grad and that are lazily negated or conjugated as if they were plain. torch
  // lets go of the GIL to answer is_neg and is_conj, so all questions come first.
  for (const PlainTorch& plain : tensors) {
    if ((!plain.may_require_grad && truth(api.requires_grad->get(plain.tensor, api.requires_grad->closure)) != 0) ||
        truth(api.is_neg(plain.tensor, nullptr)) != 0) {
      PyErr_Clear();
      return false;
    }
  }
  bool asked = false;
  for (PlainTorch& plain : tensors) {
    if (!describe_fast(api, plain.tensor, plain.described)) {
      return false;
    }
    asked = asked || leaves_questions(plain.described);
  }
  if (!asked) {
    return true;
  }
  for (const PlainTorch& plain : tensors) {
    const DLTensor& described = plain.described;
    if (leaves_questions(described) && !answers_questions(api, plain.tensor, described)) {
      return false;
    }
  }
  return std::all_of(tensors.begin(), tensors.end(), [&](PlainTorch& plain) {
    const DLTensor before = plain.described;
    return describe_fast(api, plain.tensor, plain.described) && is_same(before, plain.described);
  });
}

bool open_torch_fast(const TorchApi& api, PyObject* tensor, DLTensor& out) noexcept {
  PlainTorch plain{tensor};
  if (!open_torch_fast(api, {&plain, 1})) {
    return false;
  }
  out = plain.described;
  return true;
}

TensorView view_of_described(const DLTensor& described) noexcept {
  const auto ndim = static_cast<std::size_t>(described.ndim);
  TensorView view;
  view.data = static_cast<const std::byte*>(described.data) + described.byte_offset;
  view.dtype = {described.dtype.code, described.dtype.bits, described.dtype.lanes};
  view.shape = {described.shape, ndim};
  view.strides = {described.strides, ndim};
  view.readonly = false;
  return view;
}

TorchSource open_torch(const TorchApi& api, PyObject* tensor) {
  static PyObject* const dtype_name = interned("dtype");
  static PyObject* const requires_grad = interned("requires_grad");
  static PyObject* const is_neg = interned("is_neg");
  static PyObject* const is_conj = interned("is_conj");
  static PyObject* const is_zero = interned("_is_zerotensor");
  static PyObject* const detach = interned("detach");
  const WithoutTorchFunctions plain(api);
  refuse_by_attributes(api, tensor);
  const Ref dtype_object = Ref::steal(PyObject_GetAttr(tensor, dtype_name));
  PyErr_Clear();
  const std::optional<DType> dtype = dtype_object ? dtype_of_torch(api, dtype_object.get()) : std::nullopt;
  if (!dtype) {
    throw Error(
        Reason::unsupported_dtype,
        "torch dtype " + (dtype_object ? text_of(dtype_object.get()) : std::string("?")) + " cannot be exchanged",
        "see halfway.dtypes(); shell dtypes hold raw bytes: x.view(torch.uint8)");
  }
  TorchSource source;
  // torch's own getters, where they are known: a subclass may have attributes of the same names
  source.traits.requires_grad =
      api.requires_grad != nullptr
          ? answer(truth(api.requires_grad->get(tensor, api.requires_grad->closure)), "requires_grad")
          : attribute_is_true(tensor, requires_grad);
  source.traits.neg =
      api.is_neg != nullptr ? answer(truth(api.is_neg(tensor, nullptr)), "is_neg") : call_is_true(tensor, is_neg);
  source.traits.conj =
      api.is_conj != nullptr ? answer(truth(api.is_conj(tensor, nullptr)), "is_conj") : call_is_true(tensor, is_conj);
  if (call_is_true(tensor, is_zero)) {
    throw_no_storage("a zero tensor of automatic differentiation");
  }
  const bool has_table = api.table != nullptr && api.table->dltensor_from_py_object_no_sync != nullptr;
  source.object = Ref::borrow(tensor);
  DLTensor described{};
  if (has_table) {
    if (api.table->dltensor_from_py_object_no_sync(tensor, &described) != 0) {
      clear_foreign_error();
      throw_no_storage("the tensor");
    }
    if (!Py_IS_TYPE(tensor, api.tensor_type)) {
      // Parameters change their storage as a matter of course (module.half(), .data = ...): what is exchanged is a
      // tensor of our own on the storage of now, as .numpy() does it. A dispatch mode may forbid it, or answer with a
      // fake.
      Ref own = Ref::steal(PyObject_CallMethodNoArgs(tensor, detach));
      DLTensor same{};
      if (own && PyObject_TypeCheck(own.get(), api.tensor_type) != 0 &&
          api.table->dltensor_from_py_object_no_sync(own.get(), &same) == 0 && same.data == described.data) {
        source.object = std::move(own);
        described = same;
      }
      clear_foreign_error();
    }
  } else {
    source.object = Ref::steal(PyObject_CallMethodNoArgs(tensor, detach));
    if (!source.object) {
      clear_foreign_error();
      throw_no_storage("the tensor");
    }
    refuse_without_address(source.object.get());
    source.held = import_managed(managed_from_torch(api, source.object.get()));
    described = detail::Box::of(source.held)->tensor();
  }
  source.view = view_of_described(described);
  source.view.dtype = *dtype;
  source.view.device = {static_cast<DeviceType>(described.device.device_type), described.device.device_id};
  if (lacks_memory(tensor, described)) {
    throw_no_storage("the tensor");
  }
  if (described.dtype.code != dtype->code || described.dtype.bits != dtype->bits || described.dtype.lanes != 1) {
    throw Error(Reason::unsupported_dtype,
                "torch describes its " + text_of(dtype_object.get()) + " memory as " +
                    to_string(DType{described.dtype.code, described.dtype.bits, described.dtype.lanes}));
  }
  return source;
}

DLManagedTensorVersioned* managed_from_torch(const TorchApi& api, PyObject* tensor) {
  if (api.table != nullptr) {
    DLManagedTensorVersioned* managed = nullptr;
    if (api.table->managed_tensor_from_py_object_no_sync(tensor, &managed) != 0) {
      clear_foreign_error();
      throw_no_storage("the tensor");
    }
    return managed;
  }
  const Ref capsule = Ref::steal(
      PyObject_CallMethod(api.native, api.versioned_capsules ? "_to_dlpack_versioned" : "_to_dlpack", "O", tensor));
  if (!capsule) {
    clear_foreign_error();
    throw_no_storage("the tensor");
  }
  Tensor held = tensor_from_capsule(capsule.get(), /*legacy_is_readonly=*/false);
  return std::move(held).to_dlpack();
}

Ref resolve_torch(const TorchApi& api, PyObject* tensor) {
  const WithoutTorchFunctions plain(api);
  Ref result = Ref::borrow(tensor);
  for (const char* step : {"detach", "resolve_conj", "resolve_neg"}) {
    result = Ref::steal(PyObject_CallMethod(result.get(), step, nullptr));
    if (!result) {
      clear_foreign_error();
      throw Error(Reason::subclass, std::string("torch refuses .") + step + "() of the tensor",
                  "an active TorchDispatchMode (FakeTensorMode, for one) may forbid it: exchange outside of it");
    }
  }
  return result;
}

}  // namespace halfway::python
