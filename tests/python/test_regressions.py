"""Inputs that once gave wrong bytes, freed memory or a wrong error; each test says what must hold."""

from __future__ import annotations

import ctypes
import gc
import threading
import types
from typing import Any

import numpy as np
import pytest
import torch
from tests.python import dlpack

import halfway
from halfway import Cast, ExchangeError, Report


def packed_int4() -> Any:
    """Eight int4 elements in four bytes."""
    capsule = halfway.from_dlpack(np.arange(8, dtype=np.int8)).__dlpack__(max_version=(1, 3))
    dlpack.versioned(capsule).tensor.dtype.bits = 4
    return halfway.from_dlpack(capsule)


def test_packed_elements_have_no_array() -> None:
    tensor = packed_int4()
    assert (tensor.dtype, tensor.nbytes) == ("int4", 4)
    for read in (np.asarray, halfway.to_numpy):
        with pytest.raises(ExchangeError) as caught:
            read(tensor)
        assert caught.value.reason == "unsupported_dtype"


def test_packed_elements_can_be_copied() -> None:
    tensor = packed_int4()
    capsule = tensor.__dlpack__(max_version=(1, 3), copy=True)
    data = dlpack.versioned(capsule).tensor.data
    assert data != tensor.data_ptr
    assert ctypes.string_at(data, 4) == ctypes.string_at(tensor.data_ptr, 4)


def test_the_shape_may_change_while_a_cast_runs() -> None:
    array = np.zeros((40, 500, 500))
    array[-1, -1, -1] = 0.1
    lost = np.array(array)
    stop = threading.Event()

    def reshape() -> None:
        while not stop.is_set():
            lost.shape = (10_000_000,)
            _ = [np.zeros((3, 4, 5)) for _ in range(8)]
            lost.shape = (40, 500, 500)

    thread = threading.Thread(target=reshape)
    thread.start()
    try:
        for _ in range(5):
            with pytest.raises(halfway.CastError) as caught:
                halfway.cast(lost, "float32", casting="same_value")
            assert caught.value.index in ((39, 499, 499), (9_999_999,))
            assert caught.value.value == "0.1"
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("exchange", [halfway.to_numpy, halfway.from_dlpack])
def test_parameters_may_change_their_storage(exchange: Any) -> None:
    module = torch.nn.Linear(500, 500).requires_grad_(False)
    expected = module.weight.detach().clone()
    view = exchange(module.weight)
    address = module.weight.data_ptr()
    module.half()
    gc.collect()
    assert module.weight.data_ptr() != address
    array = np.asarray(view)
    assert array.ctypes.data == address
    assert np.array_equal(array, expected.numpy())


def test_parameters_are_returned_as_they_are() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    assert halfway.to_torch(parameter, "float32") is parameter
    assert halfway.cast(parameter, "float32", copy=False) is parameter


def test_broadcast_sizes_do_not_overflow() -> None:
    tensor = halfway.from_dlpack(np.broadcast_to(np.float64(1), (2**59,)))
    assert tensor.nbytes == 2**62
    assert halfway.from_dlpack(torch.zeros(1).double().expand(2**59)).nbytes == 2**62
    with pytest.raises((BufferError, ValueError)):
        memoryview(halfway.from_dlpack(np.broadcast_to(np.complex128(1), (2**59,))))


def test_a_module_that_is_still_being_imported_is_not_remembered(run_python: Any) -> None:
    finished = run_python(
        """
        import importlib.machinery, sys, types
        fake = types.ModuleType("ml_dtypes")
        fake.__spec__ = importlib.machinery.ModuleSpec("ml_dtypes", None)
        fake.__spec__._initializing = True
        sys.modules["ml_dtypes"] = fake
        import halfway
        del sys.modules["ml_dtypes"]
        import numpy as np
        import ml_dtypes
        array = halfway.cast(np.ones(3), "bfloat16")
        assert array.dtype == np.dtype(ml_dtypes.bfloat16)
        assert halfway.from_dlpack(np.ones(2, ml_dtypes.bfloat16)).dtype == "bfloat16"
        """
    )
    finished.check()


@pytest.mark.parametrize("kind", [Cast, Report])
def test_objects_without_init_are_refused(kind: Any) -> None:
    hollow = kind.__new__(kind)
    keyword: dict[str, Any] = {"report": hollow} if kind is Report else {"dtype": hollow}
    with pytest.raises(TypeError, match="__init__"):
        halfway.to_torch(np.zeros(3), **keyword)


@pytest.mark.parametrize("device", [3, 13])
def test_host_memory_of_any_kind_is_cpu_memory_to_torch(device: int) -> None:
    array = np.arange(3.0)
    capsule = halfway.from_dlpack(array).__dlpack__(max_version=(1, 3))
    dlpack.versioned(capsule).tensor.device.type = device
    tensor = halfway.from_dlpack(capsule)
    assert halfway.explain(tensor).zero_copy
    assert halfway.to_torch(tensor).data_ptr() == array.ctypes.data


@pytest.mark.parametrize("device", [[1], {}, b"cpu", object(), 1.5, np.zeros(1)])
def test_a_device_of_no_kind_is_a_type_error(device: Any) -> None:
    with pytest.raises(TypeError, match="device"):
        halfway.to_torch(np.zeros(3), device=device)


def test_a_report_starts_from_zero_whatever_becomes_of_the_call() -> None:
    report = Report()
    halfway.cast(np.array([0.1]), "float32", report=report)
    assert report.count == 1
    with pytest.raises(halfway.CastError):
        halfway.cast(np.array([0.1]), "int8", report=report)
    assert report == Report()


def test_out_of_another_shape_is_named_before_anything_is_done() -> None:
    for call in (halfway.to_torch, halfway.explain):
        with pytest.raises(ExchangeError, match=r"\(4,\).*\(3,\)") as caught:
            call(np.zeros(3), out=torch.zeros(4, dtype=torch.float64))
        assert caught.value.reason == "out_mismatch"


def test_a_class_that_is_no_dtype_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="dtype must be"):
        halfway.to_torch(np.zeros(3), types.SimpleNamespace)
