"""halfway.Tensor behind the buffer protocol."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tests.python.oracle import IN_NUMPY, NUMPY_NATIVE, numpy_dtype
from tests.python.strategies import layouts, readonly

import halfway

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


# --- the buffer protocol

PYBUF = {
    "SIMPLE": 0,
    "WRITABLE": 1,
    "FORMAT": 4,
    "ND": 8,
    "STRIDES": 0x18,
    "C_CONTIGUOUS": 0x38,
    "F_CONTIGUOUS": 0x58,
    "ANY_CONTIGUOUS": 0x98,
    "INDIRECT": 0x118,
    "FULL": 0x11D,
    "FULL_RO": 0x11C,
    "STRIDED_RO": 0x18,
    "CONTIG_RO": 8,
    "RECORDS": 0x1D,
}


class Buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    ]


def request(obj: Any, flags: int) -> dict[str, Any] | None:
    """What an exporter answers; None for BufferError."""
    buffer = Buffer()
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int]
    try:
        get(obj, ctypes.byref(buffer), flags)
    except (BufferError, ValueError):  # ndarray says ValueError
        assert not buffer.obj
        return None
    shape = tuple(buffer.shape[: buffer.ndim]) if buffer.shape else None
    strides = tuple(buffer.strides[: buffer.ndim]) if buffer.strides else None
    answer = {
        "buf": buffer.buf,
        "len": buffer.len,
        "itemsize": buffer.itemsize,
        "readonly": bool(buffer.readonly),
        "shape": shape,
        "strides": strides,
        "format": buffer.format,
        "suboffsets": bool(buffer.suboffsets),
    }
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    assert not buffer.obj
    return answer


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("kind", PYBUF)
@pytest.mark.parametrize("writable", [0, 1])
def test_buffer_requests_are_answered_as_numpy_does(layout, kind, writable):
    x = layouts()[layout]
    flags = PYBUF[kind] | writable
    ours = request(halfway.from_dlpack(x), flags)
    theirs = request(x, flags)
    if layout == "broadcast" and writable:
        return  # ours refuses what is read-only; so does NumPy's, one way or another
    assert (ours is None) == (theirs is None)
    if ours is None or theirs is None:
        return
    if x.size == 0:
        for answer in (ours, theirs):
            del answer["buf"]
    if x.size <= 1:  # steps that nobody takes
        for answer in (ours, theirs):
            answer["strides"] = answer["strides"] and "any"
    assert ours == theirs


@pytest.mark.parametrize("name", NUMPY_NATIVE)
def test_formats(name):
    x = np.arange(4).astype(name)
    view = memoryview(halfway.from_dlpack(x))
    assert np.asarray(view).dtype == x.dtype
    assert np.asarray(view).tolist() == x.tolist()
    assert view.itemsize == x.itemsize
    assert view.nbytes == x.nbytes
    assert view.readonly is False
    assert bytes(view) == x.tobytes()
    if x.dtype.char not in "eFD":  # whose items memoryview cannot unpack
        assert view.tolist() == x.tolist()


@pytest.mark.parametrize("name", [n for n in IN_NUMPY if n not in NUMPY_NATIVE])
def test_no_format_no_buffer(name):
    tensor = halfway.from_dlpack(np.zeros(3, numpy_dtype(name)))
    for flags in PYBUF.values():
        assert request(tensor, flags) is None
    with pytest.raises(BufferError, match=name):
        memoryview(tensor)


def test_buffers_of_strided_tensors():
    x = np.arange(12.0).reshape(3, 4)
    for view in (x, x.T, x[::-1, ::2], x[:, :0], x[:, ::-1].T):
        tensor = halfway.from_dlpack(view)
        assert memoryview(tensor).tolist() == view.tolist()
        assert memoryview(tensor).shape == view.shape
        assert bytes(tensor) == view.tobytes()
    writer: Any = memoryview(halfway.from_dlpack(x))
    writer[1, 2] = 99.0
    assert x[1, 2] == 99.0
    with pytest.raises(TypeError):
        memoryview(halfway.from_dlpack(readonly(x.copy())))[0, 0] = 1


def test_a_buffer_keeps_the_memory():
    x = np.arange(3.0)
    gone = weakref.ref(x)
    view = memoryview(halfway.from_dlpack(x))
    del x
    gc.collect()
    assert gone() is not None
    assert view.tolist() == [0, 1, 2]
    view.release()
    gc.collect()
    assert gone() is None
