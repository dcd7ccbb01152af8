"""halfway/npy.h beside NumPy: what either writes the other reads, and what NumPy refuses is refused."""

from __future__ import annotations

import ctypes
import io
import os
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib import format as npy_format
from tests.python.probe import LIBRARY

import halfway

_library = ctypes.CDLL(str(LIBRARY.with_name("halfway_npy.so")))
_library.npy_load.restype = None
_library.npy_load.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
_told = ctypes.create_string_buffer(4096)

NUMPY = [row.name for row in halfway.dtypes() if row.numpy is not None and "." not in row.numpy]
OURS = [row.name for row in halfway.dtypes() if row.numpy is not None and row.numpy.startswith("ml_dtypes.")]


def load(path: Path, *, dtype: str = "", to: Path | None = None, order: int = 0) -> str:
    """What C++ says of a file, which it saves again as `to`: see library.cpp."""
    _library.npy_load(bytes(path), dtype.encode(), b"" if to is None else bytes(to), order, _told, len(_told))
    return _told.value.decode()


def described(array: np.ndarray[Any, Any], name: str) -> str:
    """The same words of an array in NumPy."""
    order = "native" if array.dtype.isnative else "swapped"
    # NumPy has strides of 0 where there are no elements.
    layout = array if array.size else np.empty([max(dim, 1) for dim in array.shape], array.dtype)
    strides = [stride // array.itemsize for stride in layout.strides]
    shapes = ["(" + "".join(f"{number}," for number in numbers) + ")" for numbers in (array.shape, strides)]
    return f"{name} {order} {shapes[0]} {shapes[1]}"


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, np.ndarray[Any, Any]]:
    name = draw(st.sampled_from(NUMPY))
    dtype = np.dtype(name).newbyteorder(draw(st.sampled_from("<>")))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))
    data = np.random.default_rng(draw(st.integers(0, 99))).bytes(int(np.prod(shape)) * dtype.itemsize)
    array = np.frombuffer(data, dtype).reshape(shape, order=draw(st.sampled_from("CF")))
    if array.dtype == np.bool_:
        array = array.view("u1") % 2 == 1
    return name, array


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(made=arrays(), version=st.sampled_from([None, (1, 0), (2, 0), (3, 0)]), order=st.sampled_from([0, 1, 2]))
def test_what_numpy_saves_is_loaded_and_what_is_saved_numpy_loads(tmp_path, made, version, order):
    name, array = made
    path, again = tmp_path / "array.npy", tmp_path / "again.npy"
    with path.open("wb") as file:
        npy_format.write_array(file, array, version=version)
    stored = np.load(path)
    assert load(path, to=again, order=order) == described(stored, name)
    axes = list(range(stored.ndim))
    wanted = stored.transpose([axes, axes[::-1], axes[1:] + axes[:1]][order])
    assert same(np.load(again), wanted)
    # what is contiguous in either order is written as it is, anything else row-major
    assert np.load(again).flags.fnc == wanted.flags.fnc


@pytest.mark.parametrize("name", OURS)
def test_dtypes_of_ml_dtypes(tmp_path, name):
    """As V1 and V2: NumPy needs a view to say what they are, and so does the file's reader in C++."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    array = np.arange(256 if dtype.itemsize == 1 else 65536, dtype=f"u{dtype.itemsize}").view(dtype).reshape(4, -1)
    path, again = tmp_path / "array.npy", tmp_path / "again.npy"
    np.save(path, array)
    assert load(path) == "!opaque"
    assert load(path, dtype="float64") == "!dtype_mismatch"
    assert load(path, dtype=name, to=again) == described(array, name)
    loaded = np.load(again)
    assert loaded.dtype == f"V{dtype.itemsize}"
    assert same(loaded.view(dtype), array)


@pytest.mark.parametrize(
    ("array", "defect"),
    [
        (np.array([object()]), "objects"),
        (np.array(["text"]), "text"),
        (np.array([b"bytes"]), "text"),
        (np.zeros(2, "M8[ns]"), "dates"),
        (np.zeros(2, "m8[s]"), "dates"),
        (np.zeros(2, "i4,f8"), "structured"),
        (np.zeros(2, np.longdouble), "extended"),
        (np.zeros(2, np.clongdouble), "extended"),
        (np.zeros(2, "V7"), "opaque"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_numpy_saves_and_no_tensor_holds(tmp_path, array, defect):
    np.save(tmp_path / "array.npy", array)
    assert load(tmp_path / "array.npy") == f"!{defect}"


def test_archives_and_several_arrays_in_a_file(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    assert load(tmp_path / "arrays.npz") == "!magic"
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, np.zeros(2))
        np.save(file, np.zeros(2))
    assert load(tmp_path / "two.npy") == "!trailing_data"


def numpy_reads(data: bytes) -> np.ndarray[Any, Any] | None:
    try:
        return npy_format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception:
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_damaged_headers_are_what_numpy_makes_of_them_or_refused(tmp_path, version):
    """Every byte of a header changed to what could matter: what is loaded is what NumPy loads, element by element."""
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    made = io.BytesIO()
    npy_format.write_array(made, array, version=version)
    file = made.getvalue()
    header = len(file) - array.nbytes
    text = file.index(b"{")
    values = [*range(0x20, 0x7F), 0, 9, 10, 12, 13, 0x80, 0xC3, 0xFF]
    again = tmp_path / "again.npy"
    memory = os.memfd_create("array.npy")  # files on a disk would take a minute
    path = Path(f"/proc/self/fd/{memory}")
    accepted = 0
    # The padding is all alike: its first bytes stand for the rest.
    last = file.rindex(b"}") + 4
    for place in [*range(text), *range(text, last), header - 1]:
        for value in values if place >= text else range(256):
            damaged = file[:place] + bytes([value]) + file[place + 1 :]
            assert os.pwrite(memory, damaged, 0) == len(damaged)
            told = load(path)
            if told.startswith("!"):
                assert re.fullmatch("![a-z_]+", told), damaged
                continue
            accepted += 1
            theirs = numpy_reads(damaged)
            assert theirs is not None, damaged
            load(path, to=again)
            assert told == described(theirs, told.split()[0]), damaged
            assert same(np.load(again), theirs), damaged
    os.close(memory)
    assert accepted > last - text  # each byte by itself, at the least


def test_cut_files_are_refused(tmp_path):
    made = io.BytesIO()
    np.save(made, np.arange(3))
    path = tmp_path / "array.npy"
    for length in range(len(made.getvalue())):
        path.write_bytes(made.getvalue()[:length])
        assert load(path) in ("!magic", "!truncated_header", "!truncated_data"), length
