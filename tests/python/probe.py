"""The C library of the Python tests (native/probe.cpp) and DLPack capsules made of its structs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import halfway

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(os.environ.get("HALFWAY_PROBE", ROOT / "build" / "dev" / "probe" / "halfway_probe.so"))

VERSIONED = b"dltensor_versioned"
LEGACY = b"dltensor"
EXCHANGE_TABLE = b"dlpack_exchange_api"

READ_ONLY, IS_COPIED, PADDED = 1, 2, 4
CPU, CUDA, CUDA_HOST = 1, 2, 3
INT, UINT, FLOAT, BFLOAT, COMPLEX, BOOL = 0, 1, 2, 4, 5, 6

_python = ctypes.pythonapi
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_python.PyCapsule_GetName.restype = ctypes.c_char_p
_python.PyCapsule_GetName.argtypes = [ctypes.py_object]
_python.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
_python.PyCapsule_SetDestructor.argtypes = [ctypes.py_object, ctypes.c_void_p]

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "probe_row_count": (ctypes.c_int, [ctypes.c_int]),
    "probe_row_name": (ctypes.c_char_p, [ctypes.c_int] * 2),
    "probe_row_defect": (ctypes.c_int, [ctypes.c_int] * 2),
    "probe_row_has_legacy": (ctypes.c_int, [ctypes.c_int] * 2),
    "probe_row": (ctypes.c_void_p, [ctypes.c_int] * 3),
    "probe_make": (
        ctypes.c_void_p,
        [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        + [ctypes.c_int] * 4
        + [ctypes.c_uint64] * 2,
    ),
    "probe_managed": (ctypes.c_void_p, [ctypes.c_void_p]),
    "probe_releases": (ctypes.c_int, [ctypes.c_void_p]),
    "probe_clear_deleter": (None, [ctypes.c_void_p]),
    "probe_unreadable": (ctypes.c_void_p, [ctypes.c_uint, ctypes.c_void_p]),
    "probe_report_at_exit": (None, [ctypes.c_int]),
    "probe_release_on_threads": (ctypes.c_int, [ctypes.c_void_p] + [ctypes.c_int] * 3),
    "probe_release_at_exit": (None, [ctypes.c_void_p]),
    "probe_release_later": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint]),
    "probe_table": (ctypes.c_void_p, [ctypes.c_char_p]),
    "probe_next": (None, [ctypes.c_void_p]),
    "probe_table_from_object": (ctypes.c_int, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]),
    "probe_table_to_object": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
    "probe_table_describe": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p],
    ),
    "probe_table_allocate": (
        ctypes.c_void_p,
        [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int],
    ),
    "probe_data": (ctypes.c_void_p, [ctypes.c_void_p]),
    "probe_flags": (ctypes.c_uint64, [ctypes.c_void_p]),
}


class Library:
    """The functions of native/probe.cpp."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
            setattr(self, name.removeprefix("probe_"), function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


if not LIBRARY.exists():
    raise FileNotFoundError(f"{LIBRARY} is not built: run `make build`")
with_gil = Library(ctypes.PyDLL(str(LIBRARY)))  # the caller keeps the GIL
without_gil = Library(ctypes.CDLL(str(LIBRARY)))  # the caller lets go of it


class Export:
    """A struct of the probe, and how often it was released."""

    def __init__(self, handle: int, *, versioned: bool, data: Any = None, managed: int = 0) -> None:
        self.handle = handle
        self.versioned = versioned
        self.data = data  # keeps the memory alive
        self.managed: int = managed or with_gil.managed(handle)

    @property
    def releases(self) -> int:
        return int(with_gil.releases(self.handle))

    def capsule(self, name: bytes | None = None) -> Any:
        """A new capsule of the struct; without a destructor."""
        name = name if name is not None else VERSIONED if self.versioned else LEGACY
        return new_capsule(self.managed, name)

    def set_deleter(self, deleter: Any) -> None:
        """Replace the deleter of a versioned struct; it follows version and manager_ctx."""
        pointers = (ctypes.c_void_p * 3).from_address(self.managed)
        pointers[2] = ctypes.cast(deleter, ctypes.c_void_p).value

    def without_deleter(self) -> Export:
        with_gil.clear_deleter(self.handle)
        return self


class Producer:
    """An object with __dlpack__, over one export."""

    def __init__(self, export: Export) -> None:
        self.export = export

    def __dlpack__(self, **keywords: Any) -> Any:
        self.keywords = keywords
        return self.export.capsule()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0)


def make(
    data: np.ndarray[Any, Any] | int,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    dtype: tuple[int, int, int] = (FLOAT, 32, 1),
    *,
    versioned: bool = True,
    device: int = CPU,
    byte_offset: int = 0,
    flags: int = 0,
) -> Export:
    """A struct over an array's memory or an address; dtype is DLPack's (code, bits, lanes)."""
    integers = ctypes.c_int64 * max(len(shape), 1)
    handle = with_gil.make(
        int(versioned),
        data if isinstance(data, int) else data.ctypes.data,
        len(shape),
        integers(*shape),
        None if strides is None else integers(*strides),
        *dtype,
        device,
        byte_offset,
        flags,
    )
    return Export(handle, versioned=versioned, data=data)


def floats(count: int = 6, *, versioned: bool = True, flags: int = 0) -> Export:
    """float32 0, 1, 2, ... of one dimension."""
    return make(np.arange(count, dtype=np.float32), (count,), versioned=versioned, flags=flags)


def unreadable(major: int) -> Export:
    """A struct of which only version, manager_ctx and deleter can be read."""
    handle = ctypes.c_void_p()
    managed = with_gil.unreadable(major, ctypes.byref(handle))
    assert managed is not None
    assert handle.value is not None
    return Export(handle.value, versioned=True, managed=managed)


def rows(*, accepted: bool) -> list[tuple[str, int, int, bool]]:
    """(name, index, defect, whether legacy structs can be like this) of tests/runtime/structs.h."""
    a = int(accepted)
    return [
        (
            with_gil.row_name(a, row).decode(),
            row,
            with_gil.row_defect(a, row),
            bool(with_gil.row_has_legacy(a, row)),
        )
        for row in range(with_gil.row_count(a))
    ]


def row(index: int, *, accepted: bool, versioned: bool) -> Export:
    return Export(with_gil.row(int(accepted), index, int(versioned)), versioned=versioned)


_names: list[bytes] = []  # capsules borrow their names


def new_capsule(pointer: int, name: bytes | None) -> Any:
    if name is not None:
        _names.append(name)
    return _python.PyCapsule_New(pointer, name, None)


def capsule_name(capsule: Any) -> bytes | None:
    name: bytes | None = _python.PyCapsule_GetName(capsule)
    return name


def claim(capsule: Any) -> int:
    """Consume a capsule as a DLPack consumer does: rename it and take what it holds."""
    name = capsule_name(capsule)
    assert name in (VERSIONED, LEGACY)
    pointer: int = _python.PyCapsule_GetPointer(capsule, name)
    used = b"used_" + name
    _names.append(used)
    assert _python.PyCapsule_SetName(capsule, used) == 0
    return pointer


def exchange_table(kind: str) -> Any:
    """The capsule of one of the probe's exchange tables, for __dlpack_c_exchange_api__."""
    return new_capsule(with_gil.table(kind.encode()), EXCHANGE_TABLE)


def table_of(type_: type) -> int:
    """The address of the exchange table that a type offers."""
    capsule = type_.__dlpack_c_exchange_api__  # type: ignore[attr-defined]
    pointer: int = _python.PyCapsule_GetPointer(capsule, EXCHANGE_TABLE)
    return pointer


def export_by_table(table: int, obj: Any) -> int:
    """The DLManagedTensorVersioned* that a table makes of an object."""
    out = ctypes.c_void_p()
    assert with_gil.table_from_object(table, obj, ctypes.byref(out)) == 0
    assert out.value is not None
    return out.value


def import_by_table(table: int, managed: int) -> Any:
    """The object that a table makes of a struct."""
    out = ctypes.c_void_p()
    if with_gil.table_to_object(table, managed, ctypes.byref(out)) != 0:
        raise BufferError("refused")  # not reached where a Python error is set: PyDLL raises that
    assert out.value is not None
    result = ctypes.cast(out, ctypes.py_object).value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(result))  # `out` was an owned reference
    return result


def release_on_threads(managed: Sequence[int], *, threads: int = 1, keep_gil: bool = False) -> None:
    """Call the deleters of versioned structs on threads that Python does not know; join them."""
    library = with_gil if keep_gil else without_gil
    pointers = (ctypes.c_void_p * len(managed))(*managed)
    assert library.release_on_threads(pointers, len(managed), 1, threads) == 0


# What takes a producer.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "from_dlpack": halfway.from_dlpack,
    "to_numpy": halfway.to_numpy,
    "to_torch": halfway.to_torch,
    "to_torch cast": lambda x: halfway.to_torch(x, "float32"),
    "cast": lambda x: halfway.cast(x, "float64"),
}
