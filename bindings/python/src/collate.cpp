#include "collate.h"

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arguments.h"
#include "collation.h"
#include "devices.h"
#include "docs.h"
#include "exchange_device.h"
#include "halfway/layout.h"
#include "libraries.h"
#include "moving.h"
#include "numpy_api.h"
#include "release.h"
#include "samples.h"
#include "torch_api.h"
#include "views.h"

namespace halfway::python {
namespace {

// What is asked for each kind of values: a tuple in this order.
constexpr std::array<const char*, 4> kind_names{"bool", "int", "float", "complex"};

// Of a tuple by kind the entry for this dtype; anything else is for all kinds.
PyObject* for_kind(PyObject* choice, DType dtype) noexcept {
  if (!PyTuple_Check(choice) || PyTuple_GET_SIZE(choice) != static_cast<Py_ssize_t>(kind_names.size())) {
    return choice;
  }
  const DTypeInfo* row = find(dtype);
  switch (row == nullptr ? Kind::opaque : row->kind) {
    case Kind::boolean:
      return PyTuple_GET_ITEM(choice, 0);
    case Kind::unsigned_integer:
    case Kind::signed_integer:
      return PyTuple_GET_ITEM(choice, 1);
    case Kind::floating:
      return PyTuple_GET_ITEM(choice, 2);
    case Kind::complex:
      return PyTuple_GET_ITEM(choice, 3);
    case Kind::opaque:
      break;
  }
  return Py_None;
}

// The keywords of a call, read again for each batch, whose dtype may be another.
struct Keywords {
  PyObject* const* values;
  PyObject* names;  // a tuple, or nullptr

  [[nodiscard]] Arguments read(PyObject* samples, PyObject* dtype) const {
    const std::size_t count = names == nullptr ? 0 : static_cast<std::size_t>(PyTuple_GET_SIZE(names));
    std::vector<PyObject*> args{samples, dtype};
    args.insert(args.end(), values, values + count);
    return parse_arguments("collate", kw_dtype | kw_device | cast_keywords, 1, 2, args.data(), 2, names);
  }
};

// One batch: samples of arrays, and where they go.
class Batch {
 public:
  // `item`: (path, samples, dtype, out, pad), each of dtype and pad for all kinds or a tuple of one for each
  Batch(PyObject* item, const Library& target, const Keywords& keywords)
      : target_(target), samples_(field(item, 1), text_of(field(item, 0))) {
    if (samples_.views().empty()) {
      throw_value_error("there are no samples: a batch of none has no shape");
    }
    const DType first = samples_.views().front().dtype;
    const Arguments arguments = keywords.read(field(item, 1), for_kind(field(item, 2), first));
    options_.cast = arguments.options;
    extras_ = arguments.extras;
    if (PyObject* out = field(item, 3); out != Py_None) {
      if (arguments.device && !is_host(*arguments.device)) {
        throw Error(Reason::out_mismatch,
                    "out" + samples_.path() + " is in host memory, and a batch on a device was asked for",
                    "pass out= or device=, not both");
      }
      open_out_of(out, arguments.dtype);
    } else {
      dtype_ = arguments.dtype ? *arguments.dtype : samples_.common_dtype();
      require_target();
    }
    if (PyObject* pad = for_kind(field(item, 4), first); pad != Py_None) {
      open_pad(pad);
    }
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch() = default;

  // Whether shapes and dtypes fit. throws: as collate() of the runtime
  void fit() {
    const detail::CollationNames names{samples_.path(), "out"};
    if (destination_) {
      collation_.emplace(samples_.views(), destination_->view(), options_, names);
    } else {
      collation_.emplace(samples_.views(), dtype_, options_, names);
    }
  }

  [[nodiscard]] std::int64_t bytes() const noexcept { return collation_->bytes(); }
  [[nodiscard]] const Samples& samples() const noexcept { return samples_; }
  [[nodiscard]] const MutableView* destination() const noexcept {
    return destination_ ? &destination_->view() : nullptr;
  }

  // In this order, each for all batches of a call. The GIL need not be held.
  void check() {
    if (destination_) {
      collation_->check();
    }
  }
  void write_fresh() {
    if (!destination_) {
      fresh_ = collation_->allocate(default_allocator());
      collation_->write_fresh(fresh_.mutable_view());
    }
  }
  void write_into_out() noexcept {
    if (destination_) {
      collation_->write();
    }
  }

  // The batch in the memory of a device, if one is said: the host's has been read then.
  void send(const std::optional<Device>& device) {
    if (!device || destination_) {
      return;
    }
    Plan plan;
    plan.reasons = {Reason::device};
    const TensorView view = fresh_.view();
    there_ = Ref::steal(send_to(target_, view, view.dtype, view.shape, *device, plan));
    fresh_.reset();
  }

  [[nodiscard]] PyObject* result() {
    if (there_) {
      return there_.release();
    }
    if (destination_) {
      if (out_->library == &torch_library()) {
        mark_written(torch(), out_->object.get());
      }
      return Ref::borrow(given_.get()).release();
    }
    Plan plan;
    plan.reasons = {Reason::copy_requested};
    return target_.adopt(std::move(fresh_), plan);
  }

 private:
  static PyObject* field(PyObject* item, Py_ssize_t index) noexcept { return PyTuple_GET_ITEM(item, index); }

  void open_out_of(PyObject* object, const std::optional<DType>& dtype) {
    const Library* library = library_of(object);
    if (library == nullptr) {
      throw_type_error("out" + samples_.path() + " must be a NumPy array, a torch tensor or a halfway.Tensor, not " +
                       Py_TYPE(object)->tp_name);
    }
    given_ = Ref::borrow(object);
    out_ = open_out(*library, object, "out" + samples_.path());
    const TensorView& view = out_->view;
    if (!is_host(view.device)) {
      throw Error(Reason::device, "out" + samples_.path() + " is on " + to_string(view.device) + ", not in host memory",
                  "leave out unset and say device=");
    }
    dtype_ = view.dtype;
    if (dtype && *dtype != dtype_) {
      throw Error(
          Reason::out_mismatch,
          "dtype=" + to_string(*dtype) + " was asked for, but out" + samples_.path() + " is " + to_string(dtype_),
          "leave dtype unset: out's own is the default");
    }
    destination_.emplace(detail::writable(view));
  }

  void require_target() const {
    const Target& target = target_.target;
    if (target.has_dtype != nullptr && !target.has_dtype(dtype_)) {
      throw Error(Reason::unsupported_dtype,
                  std::string(target.title.empty() ? target.name : target.title) + " has no dtype " + to_string(dtype_),
                  "ask for another dtype with dtype=");
    }
  }

  void open_pad(PyObject* object) {
    TensorView view;
    if (!view_of_scalar(object, pad_value_, view)) {
      pad_ = open_source(object);
      view = pad_->view;
    }
    if (element_count(view.shape) != std::optional<std::int64_t>(1)) {
      throw_value_error("pad must be one value, not an array of several");
    }
    view.shape = {};
    view.strides = {};
    options_.pad = view;
  }

  const Library& target_;
  Samples samples_;
  CollateOptions options_;
  std::shared_ptr<const Extras> extras_;  // what the options borrow
  ScalarValue pad_value_{};
  std::optional<Source> pad_;
  DType dtype_{};
  Ref given_;  // out
  std::optional<Source> out_;
  std::optional<OwnGeometry<MutableView>> destination_;
  std::optional<detail::Collation> collation_;
  Tensor fresh_;
  Ref there_;  // on a device
};

// No out shares memory with another one, nor with another batch's samples: filling one would change the other.
void require_apart(const std::deque<Batch>& batches) {
  for (const Batch& written : batches) {
    const MutableView* destination = written.destination();
    if (destination == nullptr) {
      continue;
    }
    for (const Batch& other : batches) {
      if (&other == &written) {
        continue;
      }
      if (other.destination() != nullptr && may_overlap(*destination, *other.destination())) {
        throw Error(Reason::overlap,
                    "out" + written.samples().path() + " shares memory with out" + other.samples().path(),
                    "pass memory of its own for each");
      }
      const std::span<const TensorView> views = other.samples().views();
      for (std::size_t i = 0; i < views.size(); ++i) {
        if (may_overlap(views[i], *destination)) {
          throw Error(Reason::overlap,
                      "out" + written.samples().path() + " shares memory with " + other.samples().name(i),
                      "collate into other memory");
        }
      }
    }
  }
}

// Before anything is opened, which may consume it.
void require_torch() {
  try {
    static_cast<void>(torch());
  } catch (const Error& error) {
    throw Error(error.reason(), error.message(), "to=\"numpy\" makes NumPy arrays; " + error.hint());
  }
}

// Where the batches are to be; nothing: in host memory. throws: Error (unavailable, device)
std::optional<Device> device_of(const Arguments& arguments, const Library& target) {
  if (!arguments.device || is_host(*arguments.device)) {
    return std::nullopt;
  }
  const Device device = require_device(*arguments.device);
  require_on_devices(target, device);
  return device;
}

Ref fill(PyObject* items, const Library& target, const Keywords& keywords) {
  const Arguments common = keywords.read(items, Py_None);
  const std::optional<Device> device = device_of(common, target);
  if (common.options.report != nullptr) {
    *common.options.report = Report{};  // whatever becomes of the call
  }
  const Py_ssize_t count = PyList_GET_SIZE(items);
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (&target == &torch_library() && PyTuple_GET_ITEM(PyList_GET_ITEM(items, i), 3) == Py_None) {
      require_torch();
      break;
    }
  }
  std::deque<Batch> batches;  // not moved: they point into themselves
  for (Py_ssize_t i = 0; i < count; ++i) {
    batches.emplace_back(PyList_GET_ITEM(items, i), target, keywords);
  }
  std::int64_t bytes = 0;
  for (Batch& batch : batches) {
    batch.fit();
    bytes = std::max(bytes, bytes + std::min(batch.bytes(), gil_release_bytes + 1));
  }
  if (count > 1) {
    require_apart(batches);
  }
  unlocked(bytes, [&batches] {
    for (Batch& batch : batches) {
      batch.check();
    }
    for (Batch& batch : batches) {
      batch.write_fresh();
    }
    for (Batch& batch : batches) {
      batch.write_into_out();
    }
  });
  for (Batch& batch : batches) {
    batch.send(device);
  }
  Ref results = checked(PyList_New(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyList_SET_ITEM(results.get(), i, batches[static_cast<std::size_t>(i)].result());
  }
  return results;
}

PyObject* collate(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  drain();
  return guarded([&]() -> PyObject* {
    if (count != 2 || !PyList_CheckExact(args[0])) {
      throw_type_error("_collate() takes a list of batches and the name of a library");
    }
    return fill(args[0], library_named(args[1]), {args + count, names}).release();
  });
}

PyMethodDef functions[] = {
    {"_collate", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(collate)), METH_FASTCALL | METH_KEYWORDS,
     nullptr},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

void init_collate(PyObject* module) {
  if (PyModule_AddFunctions(module, functions) < 0) {
    throw PythonError{};
  }
}

}  // namespace halfway::python
