#include "capsule.h"

#include <cstring>

#include "box.h"
#include "halfway/dlpack.h"
#include "release.h"

namespace halfway::python {
namespace {

constexpr const char* versioned_name = "dltensor_versioned";
constexpr const char* legacy_name = "dltensor";
constexpr const char* used_versioned_name = "used_dltensor_versioned";
constexpr const char* used_legacy_name = "used_dltensor";

// What happens to a capsule that nobody consumed.
template <class Managed>
void destroy(PyObject* capsule, const char* name) noexcept {
  if (PyCapsule_IsValid(capsule, name) == 0) {
    return;
  }
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed != nullptr && managed->deleter != nullptr) {
    const SavedException saved;
    managed->deleter(managed);
  }
}
void destroy_versioned(PyObject* capsule) { destroy<DLManagedTensorVersioned>(capsule, versioned_name); }
void destroy_legacy(PyObject* capsule) { destroy<DLManagedTensor>(capsule, legacy_name); }

// Claim first, then build: from here on the capsule's own destructor does nothing.
template <class Managed>
Managed* claim(PyObject* capsule, const char* name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (managed == nullptr || PyCapsule_SetName(capsule, used_name) != 0) {
    throw PythonError{};
  }
  return managed;
}

void release_nothing(detail::Box* box) noexcept { detail::Box::free(box); }

Tensor mark_readonly(Tensor&& tensor) noexcept {
  detail::Box::of(tensor)->managed.flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
  return std::move(tensor);
}

[[noreturn]] void throw_unusable(PyObject* capsule) {
  if (is_dlpack_capsule(capsule)) {
    throw Error(Reason::consumed, "the DLPack capsule was already consumed", "ask the producer for a new capsule");
  }
  throw_type_error("expected a DLPack capsule");
}

}  // namespace

bool is_dlpack_capsule(PyObject* object) noexcept {
  if (!PyCapsule_CheckExact(object)) {
    return false;
  }
  const char* name = PyCapsule_GetName(object);
  if (name == nullptr) {
    PyErr_Clear();
    return false;
  }
  for (const char* known : {versioned_name, legacy_name, used_versioned_name, used_legacy_name}) {
    if (std::strcmp(name, known) == 0) {
      return true;
    }
  }
  return false;
}

Tensor tensor_from_capsule(PyObject* capsule, bool legacy_is_readonly) {
  if (PyCapsule_IsValid(capsule, versioned_name) != 0) {
    return import_managed(claim<DLManagedTensorVersioned>(capsule, versioned_name, used_versioned_name));
  }
  if (PyCapsule_IsValid(capsule, legacy_name) != 0) {
    Tensor tensor = import_managed(claim<DLManagedTensor>(capsule, legacy_name, used_legacy_name));
    return legacy_is_readonly ? mark_readonly(std::move(tensor)) : std::move(tensor);
  }
  throw_unusable(capsule);
}

Tensor peek_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, versioned_name) != 0) {
    auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, versioned_name));
    return detail::import_tensor(managed, release_nothing);
  }
  if (PyCapsule_IsValid(capsule, legacy_name) != 0) {
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, legacy_name));
    return mark_readonly(detail::import_tensor(managed, release_nothing));
  }
  throw_unusable(capsule);
}

Ref capsule_of(Tensor&& tensor, bool versioned) {
  if (versioned) {
    DLManagedTensorVersioned* managed = std::move(tensor).to_dlpack();
    PyObject* capsule = PyCapsule_New(managed, versioned_name, destroy_versioned);
    if (capsule == nullptr) {
      managed->deleter(managed);
    }
    return checked(capsule);
  }
  DLManagedTensor* managed = std::move(tensor).to_dlpack_legacy();
  PyObject* capsule = PyCapsule_New(managed, legacy_name, destroy_legacy);
  if (capsule == nullptr) {
    managed->deleter(managed);
  }
  return checked(capsule);
}

}  // namespace halfway::python
