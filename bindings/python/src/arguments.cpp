#include "arguments.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

#include "devices.h"

namespace halfway::python {
namespace {

bool parse_flag(PyObject* value, const char* name) {
  if (!PyBool_Check(value)) {
    throw_type_error(std::string(name) + " must be True or False, not " + Py_TYPE(value)->tp_name);
  }
  return value == Py_True;
}

Copy parse_copy(PyObject* value) {
  if (value == Py_None) {
    return Copy::if_needed;
  }
  if (!PyBool_Check(value)) {
    throw_type_error(std::string("copy must be True, False or None, not ") + Py_TYPE(value)->tp_name);
  }
  return value == Py_True ? Copy::always : Copy::never;
}

struct Call {
  Arguments arguments;
  PyObject* dtype = nullptr;
  PyObject* report = nullptr;
  PyObject* casting = nullptr;
  PyObject* overflow = nullptr;
  ExtraObjects extras;
  bool extras_given = false;
  bool copy_given = false;
};

// Remembers one of the keywords that become Extras.
template <PyObject* ExtraObjects::*field>
void read_extra(Call& call, PyObject* value) {
  call.extras.*field = value;
  call.extras_given = true;
}

struct Row {
  Keyword keyword;
  const char* name;
  void (*read)(Call& call, PyObject* value);
};
constexpr std::array<Row, 17> rows{{
    {kw_dtype, "dtype", [](Call& call, PyObject* value) { call.dtype = value; }},
    {kw_device, "device", [](Call& call, PyObject* value) { call.arguments.device = parse_device(value); }},
    {kw_copy, "copy",
     [](Call& call, PyObject* value) {
       call.arguments.copy = parse_copy(value);
       call.copy_given = value != Py_None;
     }},
    {kw_out, "out", [](Call& call, PyObject* value) { call.arguments.out = value == Py_None ? nullptr : value; }},
    {kw_non_blocking, "non_blocking",
     [](Call& call, PyObject* value) { call.arguments.non_blocking = parse_flag(value, "non_blocking"); }},
    {kw_allow_readonly, "allow_readonly",
     [](Call& call, PyObject* value) { call.arguments.allow_readonly = parse_flag(value, "allow_readonly"); }},
    {kw_lock_storage, "lock_storage",
     [](Call& call, PyObject* value) { call.arguments.lock_storage = parse_flag(value, "lock_storage"); }},
    {kw_report, "report", [](Call& call, PyObject* value) { call.report = value == Py_None ? nullptr : value; }},
    {kw_casting, "casting", [](Call& call, PyObject* value) { call.casting = value; }},
    {kw_overflow, "overflow", [](Call& call, PyObject* value) { call.overflow = value; }},
    {kw_to, "to", [](Call& call, PyObject* value) { call.arguments.to = value; }},
    {kw_rounding, "rounding", read_extra<&ExtraObjects::rounding>},
    {kw_seed, "seed", read_extra<&ExtraObjects::seed>},
    {kw_scale, "scale", read_extra<&ExtraObjects::scale>},
    {kw_shift, "shift", read_extra<&ExtraObjects::shift>},
    {kw_axis, "axis", read_extra<&ExtraObjects::axis>},
    {kw_permute, "permute", read_extra<&ExtraObjects::permute>},
}};

std::array<PyObject*, rows.size()> g_names;

const Row* row_of(PyObject* name) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (g_names[i] == name) {
      return &rows[i];
    }
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (PyUnicode_Compare(g_names[i], name) == 0) {
      return &rows[i];
    }
  }
  return nullptr;
}

// dtype, the Cast fields and the report, once all are known.
void read_recipe(Call& call) {
  Arguments& arguments = call.arguments;
  if (call.dtype != nullptr && call.dtype != Py_None) {
    if (const Recipe* recipe = recipe_of(call.dtype); recipe != nullptr) {
      if (call.casting != nullptr || call.overflow != nullptr || call.extras_given) {
        throw_type_error(
            "dtype is a halfway.Cast, which already says casting, overflow and the other fields: pass one or the "
            "other");
      }
      arguments.dtype = recipe->dtype;
      arguments.options.casting = recipe->casting;
      arguments.options.overflow = recipe->overflow;
      arguments.extras = recipe->extras;
    } else {
      arguments.dtype = parse_dtype(call.dtype, /*or_cast=*/true);
    }
  }
  if (call.casting != nullptr) {
    arguments.options.casting = parse_casting(call.casting);
  }
  if (call.overflow != nullptr) {
    arguments.options.overflow = parse_overflow(call.overflow);
  }
  if (call.extras_given) {
    arguments.extras = parse_extras(call.extras);
  }
  if (arguments.extras != nullptr) {
    apply(*arguments.extras, arguments.options);
  }
  if (call.report != nullptr) {
    arguments.options.report = &report_of(call.report);
  }
}

}  // namespace

// None, "cpu", "cuda", "cuda:1", a torch.device, a pair as __dlpack_device__ gives it.
std::optional<Device> parse_device(PyObject* value) {
  constexpr const char* kinds = "device must be a name, a torch.device or a (device_type, device_id) pair";
  if (value == Py_None) {
    return std::nullopt;
  }
  std::string text;
  if (PyTuple_Check(value)) {
    int type = 0;
    int id = 0;
    if (PyArg_ParseTuple(value, "ii", &type, &id) == 0) {
      PyErr_Clear();
      throw_type_error(kinds);
    }
    if (type == static_cast<int>(DeviceType::cpu)) {
      return Device{};
    }
    if (type == static_cast<int>(DeviceType::cuda) && id >= 0) {
      return Device{DeviceType::cuda, id};
    }
    text = "(" + std::to_string(type) + ", " + std::to_string(id) + ")";
  } else if (!PyUnicode_Check(value) && std::strcmp(Py_TYPE(value)->tp_name, "torch.device") != 0) {
    throw_type_error(kinds);
  } else {
    text = text_of(value);
    if (text == "cpu" || text == "cpu:0") {
      return Device{};
    }
    if (text == "cuda") {
      return Device{DeviceType::cuda, any_index};
    }
    std::int32_t id = 0;
    const std::string_view digits = std::string_view(text).substr(std::min<std::size_t>(text.size(), 5));
    if (text.starts_with("cuda:") && !digits.empty() && digits.front() != '-') {
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
      if (error == std::errc() && end == digits.data() + digits.size()) {
        return Device{DeviceType::cuda, id};
      }
    }
  }
  throw Error(Reason::unavailable, "device " + text + R"( is not available: halfway knows "cpu", "cuda" and "cuda:N")",
              "leave device unset and move the result with its own library");
}

void init_arguments() {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    g_names[i] = checked(PyUnicode_InternFromString(rows[i].name)).release();
  }
}

bool read_plain_call(PyObject* const* args, Py_ssize_t count, PyObject* names, PlainCall& call) noexcept {
  static_assert(rows[0].keyword == kw_dtype && rows[3].keyword == kw_out);
  if (count < 1 || count > 2) {
    return false;
  }
  call.x = args[0];
  PyObject* dtype = count == 2 ? args[1] : nullptr;
  PyObject* out = nullptr;
  const Py_ssize_t keywords = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < keywords; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    if (name == g_names[3]) {
      out = args[count + i];
    } else if (name == g_names[0] && dtype == nullptr) {
      dtype = args[count + i];
    } else {
      return false;
    }
  }
  call.dtype = dtype == Py_None ? nullptr : dtype;
  call.out = out == Py_None ? nullptr : out;
  return true;
}

Arguments parse_arguments(const char* function, std::uint32_t accepted, Py_ssize_t required, Py_ssize_t positional,
                          PyObject* const* args, Py_ssize_t count, PyObject* names) {
  if (count < required || count > positional) {
    const Py_ssize_t wanted = count < required ? required : positional;
    throw_type_error(std::string(function) + "() takes " +
                     (required == positional ? "exactly "
                      : count < required     ? "at least "
                                             : "at most ") +
                     std::to_string(wanted) + " positional argument" + (wanted == 1 ? "" : "s") + " (" +
                     std::to_string(count) + " given)");
  }
  Call call;
  call.arguments.x = args[0];
  if (count > 1) {
    call.dtype = args[1];
  }
  const Py_ssize_t keywords = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < keywords; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    const Row* row = row_of(name);
    if (row == nullptr || (accepted & row->keyword) == 0) {
      throw_type_error(std::string(function) + "() got an unexpected keyword argument '" + text_of(name) + "'");
    }
    if (row->keyword == kw_dtype && call.dtype != nullptr) {
      throw_type_error(std::string(function) + "() got multiple values for argument 'dtype'");
    }
    row->read(call, args[count + i]);
  }
  read_recipe(call);
  if (call.arguments.out != nullptr && call.copy_given) {
    throw_type_error("out= and copy= exclude each other: the result is always written into out");
  }
  return call.arguments;
}

}  // namespace halfway::python
