"""The simulated device (simulated/module.cpp): its arrays stand in for torch's tensors on a device."""

from __future__ import annotations

import gc
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.python.loading import load_module
from tests.python.probe import LIBRARY

import halfway
from halfway import _core

PATH = LIBRARY.parent / f"_halfway_sim{sysconfig.get_config_var('EXT_SUFFIX')}"


def load() -> ModuleType:
    if not PATH.exists():
        pytest.skip("the simulated device is not built here: it needs Linux, pybind11 and Python's headers")
    if "_halfway_sim" not in sys.modules:
        sys.modules["_halfway_sim"] = load_module(PATH, "_halfway_sim")
    return sys.modules["_halfway_sim"]


_ROWS = {row["name"]: row for row in _core._dtype_rows()}


def name_of(dtype: Any) -> str:
    """halfway's name of a NumPy dtype."""
    return halfway.from_dlpack(np.zeros(1, np.dtype(dtype).newbyteorder("="))).dtype


def numpy_dtype(code: int, bits: int) -> np.dtype[Any]:
    for row in _ROWS.values():
        if (row["code"], row["bits"]) == (code, bits):
            return np.asarray(halfway.to_numpy(np.zeros(1, np.float32), row["name"], casting="unsafe")).dtype
    raise AssertionError((code, bits))


class Rig:
    """A simulated device in use."""

    def __init__(self, **options: Any) -> None:
        self.sim: Any = load()
        self.device = self.sim.Device(**options)

    def array(self, values: Any, *, stream: int = 0, device: int = 0) -> Any:
        """Device memory whose values arrive on a stream."""
        values = np.asarray(values, order="C")
        row = _ROWS[name_of(values.dtype)]
        made = self.device.array(values.shape, row["code"], row["bits"], device, stream)
        made.write(values.tobytes(), stream)
        return made

    def empty(self, shape: tuple[int, ...], dtype: str, *, stream: int = 0, device: int = 0) -> Any:
        row = _ROWS[dtype]
        return self.device.array(shape, row["code"], row["bits"], device, stream)

    def values(self, array: Any, *, stream: int | None = None) -> np.ndarray[Any, Any]:
        """What is in device memory behind everything on a stream: that of the array, if none is said."""
        dtype = numpy_dtype(*array.dtype)
        memory = np.frombuffer(bytearray(array.read(stream)), np.uint8)
        strides = [stride * dtype.itemsize for stride in array.strides]
        if memory.size == 0:
            return np.zeros(array.shape, dtype)
        return np.ndarray(tuple(array.shape), dtype, memory.data, -array.low, tuple(strides))

    def check(self) -> None:
        """Nothing that no correct engine does."""
        assert self.device.violation == ""


@contextmanager
def rig_in_use(**options: Any) -> Iterator[Rig]:
    rig = Rig(**options)
    rig.device.use()
    _core._set_device_backend(rig.device.backend())
    _core._set_torch_stand_in(rig.sim.Array)
    try:
        yield rig
    finally:
        _core._set_torch_stand_in(None)
        _core._set_device_backend(None)
        rig.sim.reset()
        halfway.from_dlpack(np.zeros(1))  # lets go of what other threads left behind


def check_nothing_is_left(rig: Rig) -> None:
    """Once the engine is gone, everything that it made is, and everything that it was handed."""
    nothing = {"blocks": 0, "streams": 0, "events": 0, "registrations": 0, "arrays": 0}
    if rig.device.live() != nothing:
        gc.collect()  # only now: with torch loaded it takes its time
    assert rig.device.live() == nothing
    rig.check()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with rig_in_use() as made:
        yield made
    check_nothing_is_left(made)


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()
