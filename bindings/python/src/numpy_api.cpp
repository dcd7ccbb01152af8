#define HALFWAY_IMPORTS_NUMPY
#include "numpy_api.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "halfway/layout.h"

namespace halfway::python {
namespace {

// ml_dtypes by scalar type name. Rows: attribute of the module, our dtype.
struct MlRow {
  const char* name;
  DType dtype;
};
constexpr std::array<MlRow, 19> ml_rows{{
    {"bfloat16", bfloat16},
    {"complex32", complex32},
    {"float8_e3m4", float8_e3m4},
    {"float8_e4m3", float8_e4m3},
    {"float8_e4m3b11fnuz", float8_e4m3b11fnuz},
    {"float8_e4m3fn", float8_e4m3fn},
    {"float8_e4m3fnuz", float8_e4m3fnuz},
    {"float8_e5m2", float8_e5m2},
    {"float8_e5m2fnuz", float8_e5m2fnuz},
    {"float8_e8m0fnu", float8_e8m0fnu},
    {"float6_e2m3fn", float6_e2m3fn},
    {"float6_e3m2fn", float6_e3m2fn},
    {"float4_e2m1fn", float4_e2m1fn},
    {"int1", DType{TypeCode::int_, 1}},
    {"int2", DType{TypeCode::int_, 2}},
    {"int4", DType{TypeCode::int_, 4}},
    {"uint1", DType{TypeCode::uint, 1}},
    {"uint2", DType{TypeCode::uint, 2}},
    {"uint4", DType{TypeCode::uint, 4}},
}};

struct MlEntry {
  DType dtype;
  PyArray_Descr* descr;  // owned for the life of the process
};
std::vector<MlEntry> g_ml;
bool g_ml_loaded = false;

// NumPy's own dtypes by type number; bits == 0 where we have none.
std::array<DType, NPY_NTYPES_LEGACY> g_builtin;

struct KindRow {
  char letter;  // NumPy's dtype.kind
  TypeCode code;
};
constexpr std::array<KindRow, 5> kinds{{{'b', TypeCode::boolean},
                                        {'i', TypeCode::int_},
                                        {'u', TypeCode::uint},
                                        {'f', TypeCode::float_},
                                        {'c', TypeCode::complex}}};

// Descriptors of whole-byte dtypes by (type code, bits), for the path on which a look-up counts.
struct DescrSlot {
  PyArray_Descr* descr;  // owned for the life of the process
};
constexpr std::size_t code_count = static_cast<std::size_t>(TypeCode::float8_e8m0fnu) + 1;
std::array<std::array<DescrSlot, 5>, code_count> g_descrs;  // 8, 16, 32, 64 and 128 bits

DescrSlot* descr_slot(DType dtype) noexcept {
  // a power of two; std::has_single_bit is a call into libgcc on the x86-64 baseline
  const bool whole_bytes = dtype.bits >= 8 && (dtype.bits & (dtype.bits - 1)) == 0;
  if (dtype.code >= code_count || dtype.lanes != 1 || !whole_bytes) {
    return nullptr;
  }
  return &g_descrs[dtype.code][static_cast<std::size_t>(std::countr_zero(dtype.bits)) - 3];
}

void remember(DType dtype, PyArray_Descr* descr) noexcept {
  if (DescrSlot* slot = descr_slot(dtype); slot != nullptr && slot->descr == nullptr) {
    Py_INCREF(descr);
    slot->descr = descr;
  }
}

void load_builtin() {
  g_builtin.fill(DType{std::uint8_t{0}, 0, 0});
  for (int number = 0; number < NPY_NTYPES_LEGACY; ++number) {
    if (number == NPY_LONGDOUBLE || number == NPY_CLONGDOUBLE) {
      continue;  // no fixed format: 80 bits in 16 bytes here, other things elsewhere
    }
    PyArray_Descr* descr = PyArray_DescrFromType(number);
    if (descr == nullptr) {
      PyErr_Clear();
      continue;
    }
    for (const KindRow& row : kinds) {
      if (row.letter == descr->kind) {
        const DType dtype{row.code, static_cast<int>(PyDataType_ELSIZE(descr) * 8)};
        g_builtin[static_cast<std::size_t>(number)] = dtype;
        remember(dtype, descr);
      }
    }
    Py_DECREF(descr);
  }
}

// `import` false: only if ml_dtypes is loaded already.
bool load_ml_dtypes(bool import) {
  if (g_ml_loaded) {
    return true;
  }
  Ref module;
  if (import) {
    module = Ref::steal(PyImport_ImportModule("ml_dtypes"));
  } else {
    module = Ref::borrow(PyDict_GetItemString(PyImport_GetModuleDict(), "ml_dtypes"));
  }
  if (!module || (!import && is_initializing(module.get()))) {
    PyErr_Clear();
    return false;
  }
  std::vector<MlEntry> entries;
  for (const MlRow& row : ml_rows) {
    const Ref scalar = Ref::steal(PyObject_GetAttrString(module.get(), row.name));
    PyArray_Descr* descr = nullptr;
    if (!scalar || PyArray_DescrConverter(scalar.get(), &descr) == NPY_FAIL) {
      PyErr_Clear();  // an older ml_dtypes without this one
      continue;
    }
    entries.push_back({row.dtype, descr});
    remember(row.dtype, descr);
  }
  g_ml = std::move(entries);
  g_ml_loaded = true;
  register_on_first_use();
  return true;
}

// The first type number with this dtype (NumPy may have two of one format: long and long long), or -1.
int builtin_number(DType dtype) noexcept {
  for (std::size_t number = 0; number < g_builtin.size(); ++number) {
    if (g_builtin[number] == dtype) {
      return static_cast<int>(number);
    }
  }
  return -1;
}

const MlRow* ml_row(DType dtype) noexcept {
  for (const MlRow& row : ml_rows) {
    if (row.dtype == dtype) {
      return &row;
    }
  }
  return nullptr;
}

PyArray_Descr* ml_descr(DType dtype) {
  for (const MlEntry& entry : g_ml) {
    if (entry.dtype == dtype) {
      return entry.descr;
    }
  }
  return nullptr;
}

// numpy.ma.MaskedArray or a subclass.
bool is_masked(PyObject* array) noexcept {
  // numpy.ma need not be loaded: a masked array's class is then not there to be found.
  PyObject* mro = Py_TYPE(array)->tp_mro;
  for (Py_ssize_t i = 0; mro != nullptr && i < PyTuple_GET_SIZE(mro); ++i) {
    const auto* type = reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(mro, i));
    const char* dot = std::strrchr(type->tp_name, '.');
    if (std::strcmp(dot == nullptr ? type->tp_name : dot + 1, "MaskedArray") == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

void init_numpy() {
  if (PyArray_ImportNumPyAPI() < 0) {
    throw PythonError{};
  }
  load_builtin();
  load_ml_dtypes(false);
}

std::optional<DType> dtype_of(PyArray_Descr* descr) {
  const int number = descr->type_num;
  if (number >= 0 && number < NPY_NTYPES_LEGACY) {
    const DType dtype = g_builtin[static_cast<std::size_t>(number)];
    return dtype.bits == 0 ? std::nullopt : std::optional(dtype);
  }
  if (number < NPY_USERDEF || !load_ml_dtypes(false)) {
    return std::nullopt;
  }
  for (const MlEntry& entry : g_ml) {
    if (entry.descr->type_num == number) {
      return entry.dtype;
    }
  }
  return std::nullopt;
}

void throw_unsupported(PyArray_Descr* descr) {
  const std::string name = text_of(reinterpret_cast<PyObject*>(descr));
  struct Way {
    int number;
    const char* hint;
  };
  static constexpr std::array<Way, 9> ways{{
      {NPY_DATETIME, "take the counts with .view(\"int64\") and keep the unit yourself"},
      {NPY_TIMEDELTA, "take the counts with .view(\"int64\") and keep the unit yourself"},
      {NPY_LONGDOUBLE, "its format differs between machines: .astype(\"float64\") first"},
      {NPY_CLONGDOUBLE, "its format differs between machines: .astype(\"complex128\") first"},
      {NPY_OBJECT, "objects have no memory format: make a numeric array first, e.g. with .astype(\"float64\")"},
      {NPY_STRING, "encode the strings as numbers first, e.g. np.unique(x, return_inverse=True)[1]"},
      {NPY_UNICODE, "encode the strings as numbers first, e.g. np.unique(x, return_inverse=True)[1]"},
      {NPY_VSTRING, "encode the strings as numbers first, e.g. np.unique(x, return_inverse=True)[1]"},
      {NPY_VOID, "structured arrays: halfway.fields(x) gives each field; raw bytes: .view(\"uint8\")"},
  }};
  const char* hint = "see halfway.dtypes() for what can be exchanged";
  for (const Way& way : ways) {
    if (way.number == descr->type_num) {
      hint = way.hint;
    }
  }
  throw Error(Reason::unsupported_dtype, "NumPy dtype " + name + " cannot be exchanged", hint);
}

bool numpy_has_dtype(DType dtype) noexcept { return builtin_number(dtype) >= 0 || ml_row(dtype) != nullptr; }

std::string numpy_name(DType dtype) {
  if (builtin_number(dtype) >= 0) {
    return to_string(dtype);
  }
  const MlRow* row = ml_row(dtype);
  return row == nullptr ? std::string() : std::string("ml_dtypes.") + row->name;
}

PyArray_Descr* known_descr(DType dtype) noexcept {
  const DescrSlot* slot = descr_slot(dtype);
  return slot == nullptr ? nullptr : slot->descr;
}

PyArray_Descr* descr_for(DType dtype) {
  if (PyArray_Descr* known = known_descr(dtype); known != nullptr) {
    Py_INCREF(known);
    return known;
  }
  const int number = builtin_number(dtype);
  if (number >= 0) {
    return PyArray_DescrFromType(number);
  }
  if (PyArray_Descr* known = ml_descr(dtype); known != nullptr) {
    Py_INCREF(known);
    return known;
  }
  const MlRow* row = ml_row(dtype);
  if (row == nullptr) {
    throw Error(Reason::unsupported_dtype, "NumPy has no dtype for " + to_string(dtype), "keep it a halfway.Tensor");
  }
  if (!load_ml_dtypes(true) || ml_descr(dtype) == nullptr) {
    const char* wider = dtype == complex32 ? "complex64" : "float32";
    throw Error(Reason::unavailable, std::string("NumPy needs a newer ml_dtypes for ") + row->name,
                std::string("pip install --upgrade ml_dtypes, or pass dtype=\"") + wider + "\"");
  }
  PyArray_Descr* descr = ml_descr(dtype);
  Py_INCREF(descr);
  return descr;
}

void require_unmasked(PyObject* array) {
  if (!PyArray_CheckExact(array) && is_masked(array)) {
    throw Error(Reason::masked, "a masked array's mask cannot travel",
                "pass x.filled(value) for the values, and x.mask on its own");
  }
}

namespace {

void describe(PyArrayObject* array, DType dtype, TensorView& view) noexcept {
  static_assert(sizeof(npy_intp) == sizeof(std::int64_t));
  const auto ndim = static_cast<std::size_t>(PyArray_NDIM(array));
  view.data = PyArray_DATA(array);
  view.dtype = dtype;
  view.shape = {reinterpret_cast<const std::int64_t*>(PyArray_DIMS(array)), ndim};
  view.strides = {reinterpret_cast<const std::int64_t*>(PyArray_STRIDES(array)), ndim};
  view.strides_in_bytes = true;
  view.readonly = !PyArray_ISWRITEABLE(array);
  view.swapped = !PyArray_ISNBO(PyArray_DESCR(array)->byteorder);
  view.padded = is_padded_in_numpy(dtype);
}

}  // namespace

TensorView view_of_array(PyArrayObject* array) {
  require_unmasked(reinterpret_cast<PyObject*>(array));
  PyArray_Descr* descr = PyArray_DESCR(array);
  const std::optional<DType> dtype = dtype_of(descr);
  if (!dtype) {
    throw_unsupported(descr);
  }
  TensorView view;
  describe(array, *dtype, view);
  return view;
}

bool view_of_plain_array(PyObject* object, TensorView& view) noexcept {
  if (!PyArray_CheckExact(object)) {
    return false;
  }
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  const int number = PyArray_DESCR(array)->type_num;
  DType dtype;
  if (number >= 0 && number < NPY_NTYPES_LEGACY) {
    dtype = g_builtin[static_cast<std::size_t>(number)];
  } else {
    // those of ml_dtypes that have been met: no import from here
    const auto entry =
        std::find_if(g_ml.begin(), g_ml.end(), [&](const MlEntry& e) { return e.descr->type_num == number; });
    dtype = entry == g_ml.end() ? DType{std::uint8_t{0}, 0, 0} : entry->dtype;
  }
  if (dtype.bits < 8) {
    return false;
  }
  describe(array, dtype, view);
  return true;
}

PyObject* new_array(std::span<const std::int64_t> shape, DType dtype) {
  PyArray_Descr* descr = descr_for(dtype);
  PyObject* array = PyArray_NewFromDescr(&PyArray_Type, descr, static_cast<int>(shape.size()),
                                         reinterpret_cast<const npy_intp*>(shape.data()), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_ValueError) == 0) {
      throw PythonError{};
    }
    PyErr_Clear();
  }
  return array;
}

void require_whole_bytes(const TensorView& view) {
  if (view.element_size() == 0) {
    throw Error(Reason::unsupported_dtype, "NumPy has no packed " + to_string(view.dtype), "keep it a halfway.Tensor");
  }
}

PyObject* array_over(const TensorView& view, bool writable, PyObject* base) {
  Ref owner = Ref::steal(base);
  require_whole_bytes(view);
  PyArray_Descr* descr = descr_for(view.dtype);
  std::array<npy_intp, max_ndim> strides;  // NOLINT(cppcoreguidelines-pro-type-member-init): only ndim of them are read
  const std::int64_t unit = view.strides_in_bytes ? 1 : static_cast<std::int64_t>(view.element_size());
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    strides[i] = view.strides[i] * unit;
  }
  // NumPy must not be handed a null pointer (it would allocate); an empty array needs some address.
  static std::byte empty[16];
  void* data = view.data != nullptr ? const_cast<void*>(view.data) : empty;
  Ref array = Ref::steal(PyArray_NewFromDescr(&PyArray_Type, descr, view.ndim(),
                                              reinterpret_cast<const npy_intp*>(view.shape.data()), strides.data(),
                                              data, writable ? NPY_ARRAY_WRITEABLE : 0, nullptr));
  if (!array) {
    if (PyErr_ExceptionMatches(PyExc_ValueError) == 0) {
      throw PythonError{};
    }
    PyErr_Clear();  // NumPy before 2 has 32 dimensions, and all know no broadcast array of more than 2^63 bytes
    throw Error(Reason::malformed, "this NumPy has no arrays of so many dimensions or bytes");
  }
  if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array.get()), owner.release()) < 0) {
    throw PythonError{};
  }
  return array.release();
}

int register_with_numpy() {
  if (!load_ml_dtypes(true)) {
    return 0;
  }
  const Ref module = Ref::steal(PyImport_ImportModule("numpy.dtypes"));
  const Ref function = module ? Ref::steal(PyObject_GetAttrString(module.get(), "register_dlpack_dtype")) : Ref{};
  if (!function) {
    PyErr_Clear();
    return 0;
  }
  int registered = 0;
  for (const MlEntry& entry : g_ml) {
    if (entry.dtype.bits % 8 != 0) {
      continue;
    }
    const Ref result =
        Ref::steal(PyObject_CallFunction(function.get(), "(ii)O", static_cast<int>(entry.dtype.code),
                                         static_cast<int>(entry.dtype.bits), reinterpret_cast<PyObject*>(entry.descr)));
    if (result) {
      ++registered;
    } else {
      PyErr_Clear();  // somebody registered another dtype under this code
    }
  }
  return registered;
}

void register_on_first_use() {
  static bool done = false;
  if (done) {
    return;
  }
  done = true;
  const char* setting = std::getenv("HALFWAY_REGISTER");  // NOLINT(concurrency-mt-unsafe): read once
  if (setting == nullptr || std::strcmp(setting, "0") != 0) {
    register_with_numpy();
  }
}

}  // namespace halfway::python
