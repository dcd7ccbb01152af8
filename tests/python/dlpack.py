"""The structs of dlpack.h 1.3 and the C exchange table, through ctypes."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int32, c_int64, c_void_p
from typing import Any

READ_ONLY, IS_COPIED, PADDED = 1, 2, 4


class Version(Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]


class Device(Structure):
    _fields_ = [("type", c_int32), ("id", c_int32)]


class DataType(Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class DLTensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", Device),
        ("ndim", c_int32),
        ("dtype", DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]

    def dims(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shape and strides."""
        return tuple(self.shape[: self.ndim]), tuple(self.strides[: self.ndim])


class Legacy(Structure):
    _fields_ = [("tensor", DLTensor), ("context", c_void_p), ("deleter", CFUNCTYPE(None, c_void_p))]


class Managed(Structure):
    _fields_ = [
        ("version", Version),
        ("context", c_void_p),
        ("deleter", CFUNCTYPE(None, c_void_p)),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


SetError = CFUNCTYPE(None, c_void_p, c_char_p, c_char_p)
pythonapi = ctypes.PyDLL(None)  # keeps the GIL, and raises what a call has set


class Table(Structure):
    """DLPackExchangeAPI. What takes or gives Python objects is called with the GIL held."""

    _fields_ = [
        ("version", Version),
        ("previous", c_void_p),
        ("allocator", c_void_p),
        ("from_object", c_void_p),
        ("to_object", c_void_p),
        ("describe", c_void_p),
        ("current_stream", c_void_p),
    ]


def pointer_of(capsule: Any, name: str) -> int:
    pythonapi.PyCapsule_GetPointer.restype = c_void_p
    pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, c_char_p]
    return int(pythonapi.PyCapsule_GetPointer(capsule, name.encode()))


def name_of(capsule: Any) -> str:
    pythonapi.PyCapsule_GetName.restype = c_char_p
    pythonapi.PyCapsule_GetName.argtypes = [ctypes.py_object]
    return str(pythonapi.PyCapsule_GetName(capsule).decode())


def versioned(capsule: Any) -> Managed:
    """The struct in a capsule, which stays the capsule's."""
    return Managed.from_address(pointer_of(capsule, "dltensor_versioned"))


def legacy(capsule: Any) -> Legacy:
    return Legacy.from_address(pointer_of(capsule, "dltensor"))


class Exchange:
    """The exchange table of a type, its errors as Python exceptions."""

    def __init__(self, type_: type) -> None:
        capsule = type_.__dlpack_c_exchange_api__  # type: ignore[attr-defined]
        self.table = Table.from_address(pointer_of(capsule, "dlpack_exchange_api"))

    def from_object(self, obj: Any) -> Any:
        """A pointer to the struct, which the caller must release."""
        function = ctypes.PYFUNCTYPE(c_int, ctypes.py_object, POINTER(POINTER(Managed)))
        out = POINTER(Managed)()
        status = function(self.table.from_object)(obj, byref(out))
        assert status == 0
        return out

    def to_object(self, managed: Any) -> Any:
        """An object that owns the struct from now on; an error leaves it the caller's."""
        function = ctypes.PYFUNCTYPE(c_int, POINTER(Managed), POINTER(c_void_p))
        out = c_void_p()
        assert function(self.table.to_object)(managed, byref(out)) == 0
        assert out.value is not None
        result = ctypes.cast(out, ctypes.py_object).value
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(result))  # the reference that came with the pointer
        return result

    def describe(self, obj: Any) -> DLTensor:
        """The struct that describes an object's memory without owning it."""
        function = ctypes.PYFUNCTYPE(c_int, ctypes.py_object, POINTER(DLTensor))
        out = DLTensor()
        assert function(self.table.describe)(obj, byref(out)) == 0
        return out

    def current_stream(self, device_type: int, device_id: int) -> int | None:
        function = CFUNCTYPE(c_int, c_int, c_int32, POINTER(c_void_p))
        out = c_void_p(1)
        assert function(self.table.current_stream)(device_type, device_id, byref(out)) == 0
        return out.value

    def allocate(self, prototype: DLTensor) -> tuple[int, Any, list[tuple[int, str, str]]]:
        """Status, struct pointer and the errors that were reported."""
        errors: list[tuple[int, str, str]] = []

        def report(context: int, kind: bytes, message: bytes) -> None:
            errors.append((context, kind.decode(), message.decode()))

        function = CFUNCTYPE(c_int, POINTER(DLTensor), POINTER(POINTER(Managed)), c_void_p, SetError)
        out = POINTER(Managed)()
        status = function(self.table.allocator)(byref(prototype), byref(out), 4711, SetError(report))
        return status, out, errors


def release(managed: Any) -> None:
    managed.contents.deleter(ctypes.cast(managed, c_void_p))


def prototype(shape: tuple[int, ...], dtype: tuple[int, int, int], device: tuple[int, int] = (1, 0)) -> DLTensor:
    """What an allocator is given: no data, no strides."""
    dims = (c_int64 * max(len(shape), 1))(*shape)
    tensor = DLTensor(None, Device(*device), len(shape), DataType(*dtype), dims, None, 0)
    tensor.keep = dims
    return tensor
