// A C library for the Python tests (ctypes): DLPack structs under a test's eye, exchange tables that misbehave, and
// releases from threads that Python never saw. It knows nothing of Python: capsules are made by the tests.
#include <dlpack/dlpack.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "runtime/structs.h"

#define PROBE extern "C" __attribute__((visibility("default")))

namespace {

using halfway_test::Legacy;
using halfway_test::Versioned;

// One exported struct: exactly one of the two is there.
struct Export {
  Versioned* versioned = nullptr;
  Legacy* legacy = nullptr;

  [[nodiscard]] int releases() const { return versioned != nullptr ? versioned->releases : legacy->releases; }
};

std::mutex g_mutex;
std::vector<Export*>& exports() {
  static auto* const all = new std::vector<Export*>;  // outlives every static: read while the process exits
  return *all;
}

Export* make_export(bool versioned) {
  auto* made = new Export;
  if (versioned) {
    made->versioned = new Versioned;
  } else {
    made->legacy = new Legacy;
  }
  const std::lock_guard lock(g_mutex);
  exports().push_back(made);
  return made;
}

halfway_test::Parts parts_of(Export& made) {
  return made.versioned != nullptr ? halfway_test::parts(*made.versioned) : halfway_test::parts(*made.legacy);
}

const std::vector<halfway_test::Row>& table(int accepted) {
  return accepted != 0 ? halfway_test::odd_structs() : halfway_test::wrong_structs();
}

struct Release {
  void* managed;
  bool versioned;
};

void release(const Release& task) {
  if (task.versioned) {
    auto* const managed = static_cast<DLManagedTensorVersioned*>(task.managed);
    managed->deleter(managed);
  } else {
    auto* const managed = static_cast<DLManagedTensor*>(task.managed);
    managed->deleter(managed);
  }
}

void* release_all(void* tasks) {
  for (const Release& task : *static_cast<std::vector<Release>*>(tasks)) release(task);
  return nullptr;
}

// --- exchange tables of a producer that is no Python code: each gives the struct set by probe_next

std::atomic<DLManagedTensorVersioned*> g_next{nullptr};

int give_next(void* /*object*/, DLManagedTensorVersioned** out) {
  *out = g_next.exchange(nullptr);
  return 0;
}
int give_nothing(void* /*object*/, DLManagedTensorVersioned** out) {
  *out = nullptr;
  return 0;
}
int fail_silently(void* /*object*/, DLManagedTensorVersioned** /*out*/) { return -1; }
int refuse_object(DLManagedTensorVersioned* /*managed*/, void** /*out*/) { return -1; }

constexpr DLPackExchangeAPI exchange_table(unsigned major, DLPackExchangeAPIHeader* previous,
                                           int (*give)(void*, DLManagedTensorVersioned**)) {
  DLPackExchangeAPI table{};
  table.header = {{major, 3}, previous};
  table.managed_tensor_from_py_object_no_sync = give;
  table.managed_tensor_to_py_object_no_sync = refuse_object;
  return table;
}

DLPackExchangeAPI g_good = exchange_table(1, nullptr, give_next);
DLPackExchangeAPI g_newer = exchange_table(2, &g_good.header, nullptr);
DLPackExchangeAPI g_too_new = exchange_table(2, nullptr, give_next);
DLPackExchangeAPI g_empty = exchange_table(1, nullptr, give_nothing);
DLPackExchangeAPI g_silent = exchange_table(1, nullptr, fail_silently);

}  // namespace

// --- structs

// The rows of tests/runtime/structs.h: accepted 0 for the wrong structs, 1 for the odd ones that must be taken.
PROBE int probe_row_count(int accepted) { return static_cast<int>(table(accepted).size()); }
PROBE const char* probe_row_name(int accepted, int row) { return table(accepted)[static_cast<std::size_t>(row)].name; }
PROBE int probe_row_defect(int accepted, int row) {
  return static_cast<int>(table(accepted)[static_cast<std::size_t>(row)].defect);
}
PROBE int probe_row_has_legacy(int accepted, int row) {
  return table(accepted)[static_cast<std::size_t>(row)].legacy ? 1 : 0;
}
PROBE Export* probe_row(int accepted, int row, int versioned) {
  Export* made = make_export(versioned != 0);
  table(accepted)[static_cast<std::size_t>(row)].build(parts_of(*made));
  return made;
}

// A struct over `data`. `strides` may be NULL. `flags` are those of a versioned struct.
PROBE Export* probe_make(int versioned, void* data, int ndim, const std::int64_t* shape, const std::int64_t* strides,
                         int code, int bits, int lanes, int device_type, std::uint64_t byte_offset,
                         std::uint64_t flags) {
  Export* made = make_export(versioned != 0);
  const halfway_test::Parts parts = parts_of(*made);
  const auto dims = static_cast<std::size_t>(ndim);
  std::vector<std::int64_t> steps(dims);
  if (strides != nullptr) steps.assign(strides, strides + dims);
  parts.set(std::vector<std::int64_t>(shape, shape + dims), steps);
  if (strides == nullptr) parts.tensor.strides = nullptr;
  parts.tensor.data = data;
  parts.tensor.dtype = {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits),
                        static_cast<std::uint16_t>(lanes)};
  parts.tensor.device = {static_cast<DLDeviceType>(device_type), 0};
  parts.tensor.byte_offset = byte_offset;
  if (parts.flags != nullptr) *parts.flags = flags;
  return made;
}

PROBE void* probe_managed(Export* made) {
  return made->versioned != nullptr ? static_cast<void*>(&made->versioned->managed) : &made->legacy->managed;
}
PROBE int probe_releases(const Export* made) { return made->releases(); }
PROBE void probe_clear_deleter(Export* made) {
  if (made->versioned != nullptr) {
    made->versioned->managed.deleter = nullptr;
  } else {
    made->legacy->managed.deleter = nullptr;
  }
}

// A struct of that major version of which only version, manager_ctx and deleter can be read: from `flags` on it lies in
// a page that faults. `releases` is counted in the Export that is returned through `made`.
PROBE void* probe_unreadable(unsigned major, Export** made) {
  *made = make_export(true);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const pages = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  auto* const edge = static_cast<std::byte*>(pages) + page;
  auto* const managed = reinterpret_cast<DLManagedTensorVersioned*>(edge - offsetof(DLManagedTensorVersioned, flags));
  managed->version = {major, 0};
  managed->manager_ctx = (*made)->versioned;
  managed->deleter = (*made)->versioned->managed.deleter;
  if (::mprotect(edge, page, PROT_NONE) != 0) return nullptr;
  return managed;
}

// Writes "releases: 1 1 ...", one number a struct in the order they were made, to `fd` when the process exits, after
// the interpreter has gone.
PROBE void probe_report_at_exit(int fd) {
  static int target = -1;
  target = fd;
  static const int registered = std::atexit([] {
    std::string text = "releases:";
    for (const Export* made : exports()) text += " " + std::to_string(made->releases());
    text += "\n";
    const ssize_t written = ::write(target, text.data(), text.size());
    static_cast<void>(written);
  });
  static_cast<void>(registered);
}

// --- releases

// Calls the deleters from `threads` new threads, which take turns in the list, and joins them.
PROBE int probe_release_on_threads(void* const* managed, int count, int versioned, int threads) {
  std::vector<std::vector<Release>> shares(static_cast<std::size_t>(threads));
  for (int i = 0; i < count; ++i) {
    shares[static_cast<std::size_t>(i % threads)].push_back({managed[i], versioned != 0});
  }
  std::vector<pthread_t> running(shares.size());
  int failed = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    failed |= ::pthread_create(&running[i], nullptr, release_all, &shares[i]);
  }
  for (const pthread_t thread : running) failed |= ::pthread_join(thread, nullptr);
  return failed;
}

// Calls the deleter when the process exits, after the interpreter has gone.
PROBE void probe_release_at_exit(void* managed) {
  static std::vector<Release>* const late = new std::vector<Release>;
  static const int registered = std::atexit([] {
    for (const Release& task : *late) release(task);
  });
  static_cast<void>(registered);
  late->push_back({managed, true});
}

// Calls the deleter from a thread that nobody waits for, after `microseconds`.
PROBE int probe_release_later(void* managed, unsigned microseconds) {
  struct Late {
    Release task;
    unsigned microseconds;
  };
  pthread_t thread{};
  return ::pthread_create(
      &thread, nullptr,
      [](void* argument) -> void* {
        auto* const late = static_cast<Late*>(argument);
        ::usleep(late->microseconds);
        release(late->task);
        delete late;
        return nullptr;
      },
      new Late{{managed, true}, microseconds});
}

// --- exchange tables

// "good", "newer" (major 2, whose prev_api is good), "too_new" (major 2 alone), "empty" (success without a struct),
// "silent" (failure without a Python error); else NULL.
PROBE void* probe_table(const char* kind) {
  struct Row {
    const char* name;
    DLPackExchangeAPI* table;
  };
  for (const Row& row : {Row{"good", &g_good}, Row{"newer", &g_newer}, Row{"too_new", &g_too_new},
                         Row{"empty", &g_empty}, Row{"silent", &g_silent}}) {
    if (std::strcmp(row.name, kind) == 0) return row.table;
  }
  return nullptr;
}
// What the next exchange by one of these tables gives.
PROBE void probe_next(void* managed) { g_next = static_cast<DLManagedTensorVersioned*>(managed); }

// The functions of any table. The GIL must be held.
PROBE int probe_table_from_object(const void* table, void* object, void** out) {
  return static_cast<const DLPackExchangeAPI*>(table)->managed_tensor_from_py_object_no_sync(
      object, reinterpret_cast<DLManagedTensorVersioned**>(out));
}
PROBE int probe_table_to_object(const void* table, void* managed, void** out) {
  return static_cast<const DLPackExchangeAPI*>(table)->managed_tensor_to_py_object_no_sync(
      static_cast<DLManagedTensorVersioned*>(managed), out);
}
// Address, ndim, and first dimension of what the table describes; -1 when it refuses.
PROBE int probe_table_describe(const void* table, void* object, void** data, int* ndim) {
  DLTensor tensor{};
  const int status = static_cast<const DLPackExchangeAPI*>(table)->dltensor_from_py_object_no_sync(object, &tensor);
  *data = tensor.data;
  *ndim = tensor.ndim;
  return status;
}

// Allocates by the table: a struct of float32 (2, 3) on `device_type`, or NULL with the kind of error in `kind`.
PROBE void* probe_table_allocate(const void* table, int device_type, int ndim, char* kind, int capacity) {
  static std::int64_t shape[2] = {2, 3};
  DLTensor prototype{};
  prototype.device = {static_cast<DLDeviceType>(device_type), 0};
  prototype.dtype = {kDLFloat, 32, 1};
  prototype.ndim = ndim;
  prototype.shape = shape;
  struct Context {
    char* kind;
    int capacity;
  } context{kind, capacity};
  DLManagedTensorVersioned* out = nullptr;
  const int status = static_cast<const DLPackExchangeAPI*>(table)->managed_tensor_allocator(
      &prototype, &out, &context, [](void* raw, const char* name, const char* /*message*/) {
        const auto* const into = static_cast<Context*>(raw);
        std::snprintf(into->kind, static_cast<std::size_t>(into->capacity), "%s", name);
      });
  return status == 0 ? out : nullptr;
}
PROBE void* probe_data(const void* managed) {
  return static_cast<const DLManagedTensorVersioned*>(managed)->dl_tensor.data;
}
PROBE std::uint64_t probe_flags(const void* managed) {
  return static_cast<const DLManagedTensorVersioned*>(managed)->flags;
}
