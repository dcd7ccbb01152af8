"""Zero-copy: the same address and layout, both sides writable, for every dtype two libraries share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.python import probe

import halfway
from halfway import ExchangeError

# NumPy's dtype and torch's name of it: everything that both have.
SHARED: dict[str, tuple[Any, str]] = {
    name: (np.dtype(name), name)
    for name in [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
} | {
    name: (np.dtype(getattr(ml_dtypes, name)), name)
    for name in [
        "bfloat16",
        "complex32",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    ]
}
# NumPy with ml_dtypes alone.
ONLY_NUMPY = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in [
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float4_e2m1fn",
        "int2",
        "int4",
        "uint2",
        "uint4",
    ]
}


def bits(array: Any) -> bytes:
    """The bytes of an array's elements in C order."""
    return np.ascontiguousarray(array).tobytes()


def torch_bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def random_array(dtype: Any, shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(7)
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    raw = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8)
    if dtype.itemsize == 1 and dtype in ONLY_NUMPY.values():
        raw &= 3  # sub-byte elements have no other bits
    return raw.view(dtype).reshape(shape)


def random_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    dtype = getattr(torch, name)
    generator = torch.Generator().manual_seed(7)
    count = int(np.prod(shape, dtype=np.int64))
    high = 2 if name == "bool" else 256
    raw = torch.randint(0, high, (count * dtype.itemsize,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


# Views with strides that every library can express.
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda x: x,
    "rows": lambda x: x[1:3],
    "columns": lambda x: x[:, 1:3],
    "steps": lambda x: x[::2, ::3],
    "transposed": lambda x: x.T,
    "element": lambda x: x[1:2, 2:3],
    "one dimension of one": lambda x: x[:, 1:2],
    "new axes": lambda x: x[None, :, None],
    "0-d": lambda x: x[1, 2, ...],
}


def same_layout(array: Any, tensor: torch.Tensor) -> None:
    assert tuple(array.shape) == tuple(tensor.shape)
    for dim, a, t in zip(array.shape, array.strides, tensor.stride(), strict=True):
        if dim > 1 and array.size:
            assert a == t * array.itemsize


def write_both(array: Any, tensor: torch.Tensor) -> None:
    """What one side writes the other reads."""
    first = (0,) * array.ndim
    before = bits(array[first])
    flipped = bytes(b ^ 1 for b in before)
    array[first] = np.frombuffer(flipped, array.dtype)[0]
    assert torch_bits(tensor[first]) == flipped
    tensor[first] = torch.frombuffer(bytearray(before), dtype=tensor.dtype)[0]
    assert bits(array[first]) == before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHARED)
def test_numpy_to_torch(name: str, layout: str, exchange_path: str) -> None:
    dtype, torch_name = SHARED[name]
    array = LAYOUTS[layout](random_array(dtype, (4, 6)))
    tensor = halfway.to_torch(array)
    assert type(tensor) is torch.Tensor
    assert tensor.dtype is getattr(torch, torch_name)
    assert tensor.data_ptr() == array.ctypes.data
    same_layout(array, tensor)
    assert torch_bits(tensor) == bits(array)
    write_both(array, tensor)
    assert halfway.to_torch(array, copy=False).data_ptr() == array.ctypes.data
    plan = halfway.explain(array)
    assert (plan.zero_copy, plan.reasons, plan.bytes_written) == (True, (), 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHARED)
def test_torch_to_numpy(name: str, layout: str, exchange_path: str) -> None:
    dtype, torch_name = SHARED[name]
    tensor = LAYOUTS[layout](random_tensor(torch_name, (4, 6)))
    for keywords in ({}, {"copy": False}, {"lock_storage": True}):
        array = halfway.to_numpy(tensor, **keywords)
        assert type(array) is np.ndarray
        assert array.dtype == dtype
        assert array.dtype.isnative
        assert array.ctypes.data == tensor.data_ptr()
        assert array.flags.writeable
        assert array.flags.aligned
        same_layout(array, tensor)
        assert bits(array) == torch_bits(tensor)
        write_both(array, tensor)
    assert halfway.explain(tensor, to="numpy").zero_copy


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*SHARED, *ONLY_NUMPY])
def test_numpy_and_halfway(name: str, layout: str) -> None:
    dtype = SHARED[name][0] if name in SHARED else ONLY_NUMPY[name]
    array = LAYOUTS[layout](random_array(dtype, (4, 6)))
    tensor = halfway.from_dlpack(array)
    assert tensor.data_ptr == array.ctypes.data
    assert tensor.shape == array.shape
    assert tensor.dtype == name
    assert not tensor.readonly
    assert tensor.reasons == ()
    assert tensor.nbytes == array.nbytes
    back = halfway.to_numpy(tensor)
    assert back.ctypes.data == array.ctypes.data
    assert back.dtype == array.dtype
    assert back.flags.writeable
    assert bits(back) == bits(array)
    for dim, a, b in zip(array.shape, array.strides, back.strides, strict=True):
        assert a == b or dim == 1
    assert np.asarray(tensor).ctypes.data == array.ctypes.data


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHARED)
def test_torch_and_halfway(name: str, layout: str, exchange_path: str) -> None:
    source = LAYOUTS[layout](random_tensor(SHARED[name][1], (4, 6)))
    tensor = halfway.from_dlpack(source)
    assert tensor.data_ptr == source.data_ptr()
    assert tensor.shape == tuple(source.shape)
    assert tensor.dtype == name
    assert not tensor.readonly
    back = halfway.to_torch(tensor)
    assert back.data_ptr() == source.data_ptr()
    assert back.dtype is source.dtype
    assert back.shape == source.shape
    assert torch_bits(back) == torch_bits(source)
    # and without halfway's functions
    assert torch.from_dlpack(tensor).data_ptr() == source.data_ptr()
    assert torch_bits(torch.from_dlpack(tensor)) == torch_bits(source)


@pytest.mark.parametrize("name", SHARED)
def test_through_capsules(name: str) -> None:
    """halfway's capsules in torch, torch's and NumPy's in halfway, versioned and legacy."""
    source = random_tensor(SHARED[name][1], (3, 4)).T
    for version in (None, (1, 0), (1, 3), (2, 0)):
        capsule = halfway.from_dlpack(source).__dlpack__(max_version=version)
        expected = probe.LEGACY if version is None else probe.VERSIONED
        assert probe.capsule_name(capsule) == expected
        taken = torch.from_dlpack(capsule)
        assert taken.data_ptr() == source.data_ptr()
        assert torch_bits(taken) == torch_bits(source)
        assert probe.capsule_name(capsule) == b"used_" + expected
    for version in (None, (1, 3)):
        capsule = source.__dlpack__(max_version=version)
        tensor = halfway.from_dlpack(capsule)
        assert tensor.data_ptr == source.data_ptr()
        assert tensor.readonly == (version is None)  # a legacy capsule cannot say


def test_complex32_travels_between_torch_and_halfway() -> None:
    source = random_tensor("complex32", (3, 4))
    tensor = halfway.from_dlpack(source)
    assert (tensor.data_ptr, tensor.dtype) == (source.data_ptr(), "complex32")
    assert halfway.to_torch(tensor).data_ptr() == source.data_ptr()
    array = halfway.to_numpy(source)
    assert array.ctypes.data == source.data_ptr()
    assert array.dtype == np.dtype(ml_dtypes.complex32)
    assert halfway.to_torch(array).data_ptr() == source.data_ptr()
    finite = np.array([1 + 2j, -0.5j], np.complex64)
    half = halfway.to_torch(finite, "complex32")
    assert halfway.to_numpy(half, "complex64").tolist() == finite.tolist()


@pytest.mark.parametrize("name", ["int1", "uint1"])
def test_dtypes_that_this_ml_dtypes_may_lack(name: str) -> None:
    dtype = getattr(ml_dtypes, name, None)
    row = {row.name: row for row in halfway.dtypes()}[name]
    assert row.numpy == f"ml_dtypes.{name}"
    if dtype is not None:
        array = np.zeros(3, dtype)
        assert halfway.from_dlpack(array).data_ptr == array.ctypes.data


def test_the_table_of_dtypes_is_what_happens() -> None:
    """dtypes() names the counterpart in NumPy and torch; the exchange agrees."""
    rows = {row.name: row for row in halfway.dtypes() if row.kind != "refused"}
    # newer versions of ml_dtypes have complex32
    in_both = {name for name, row in rows.items() if row.torch and row.numpy}
    assert in_both == set(SHARED) | {"complex32"}
    for name, (dtype, torch_name) in SHARED.items():
        assert rows[name].torch == f"torch.{torch_name}"
        assert rows[name].numpy in (dtype.name, f"ml_dtypes.{dtype.name}")
        assert rows[name].bits == dtype.itemsize * 8
    with_numpy_alone = {name for name, row in rows.items() if row.numpy and not row.torch}
    assert with_numpy_alone == set(ONLY_NUMPY) | {"int1", "uint1"}


# --- layouts that only one side can express


def test_negative_strides_stay_between_numpy_and_halfway() -> None:
    array = np.arange(24.0).reshape(4, 6)[::-1, ::-2]
    tensor = halfway.from_dlpack(array)
    assert tensor.data_ptr == array.ctypes.data
    assert tensor.strides == (-6, -2)
    back = halfway.to_numpy(tensor)
    assert back.ctypes.data == array.ctypes.data
    assert back.strides == array.strides
    assert np.from_dlpack(tensor).strides == array.strides
    assert halfway.to_torch(array).tolist() == array.tolist()


def test_broadcast_arrays() -> None:
    wide = np.lib.stride_tricks.as_strided(np.arange(3.0), (2, 3), (0, 8))
    tensor = halfway.to_torch(wide)
    assert tensor.data_ptr() == wide.ctypes.data
    assert tensor.stride() == (0, 1)
    expanded = torch.arange(3.0).expand(4, 3)
    array = halfway.to_numpy(expanded)
    assert array.strides == (0, 4)
    assert array.ctypes.data == expanded.data_ptr()


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3), (0, 0)])
@pytest.mark.parametrize("name", ["bool", "float64", "bfloat16", "float8_e5m2", "complex128"])
def test_empty_arrays(name: str, shape: tuple[int, ...], exchange_path: str) -> None:
    dtype, torch_name = SHARED[name]
    for array in (np.empty(shape, dtype), np.empty(shape, dtype)[::-1], np.empty(shape, dtype).T):
        tensor = halfway.to_torch(array)
        assert tuple(tensor.shape) == array.shape
        assert tensor.dtype is getattr(torch, torch_name)
        assert halfway.explain(array).zero_copy
        assert halfway.from_dlpack(array).shape == array.shape
    empty = torch.empty(shape, dtype=getattr(torch, torch_name))
    assert halfway.to_numpy(empty).shape == shape
    assert halfway.to_numpy(empty).dtype == dtype
    assert halfway.to_numpy(halfway.from_dlpack(empty)).shape == shape


def test_dimensions_of_one_with_any_stride(exchange_path: str) -> None:
    for stride in (8, 0, -8, 24, -(2**40), 3):
        array = np.lib.stride_tricks.as_strided(np.arange(3.0), (1, 3, 1), (stride, 8, stride))
        tensor = halfway.to_torch(array)
        assert tensor.data_ptr() == array.ctypes.data
        assert tensor.reshape(-1).tolist() == [0, 1, 2]
        assert halfway.from_dlpack(array).data_ptr == array.ctypes.data


@pytest.mark.parametrize("ndim", [1, 2, 31, 32, 63, 64])
def test_many_dimensions(ndim: int, exchange_path: str) -> None:
    shape = (1,) * (ndim - 1) + (2,)
    array = np.arange(2.0).reshape(shape)
    tensor = halfway.to_torch(array)
    assert tuple(tensor.shape) == shape
    assert tensor.data_ptr() == array.ctypes.data
    back = halfway.to_numpy(tensor)
    assert back.shape == shape
    assert back.ctypes.data == array.ctypes.data
    assert halfway.to_numpy(halfway.from_dlpack(tensor)).shape == shape


@pytest.mark.parametrize("ndim", [65, 66, 100, 2000])
def test_more_dimensions_than_numpy_has(ndim: int, exchange_path: str) -> None:
    tensor = torch.zeros((1,) * ndim)
    for function in (halfway.to_numpy, halfway.from_dlpack):
        with pytest.raises(ExchangeError) as caught:
            function(tensor)
        assert caught.value.reason == "malformed"
    assert halfway.to_torch(tensor) is tensor


def test_misaligned_memory_is_aliased_where_it_can_be() -> None:
    array = np.zeros(17, np.uint8)[1:].view(np.float64)
    assert not array.flags.aligned
    assert halfway.to_numpy(array) is array
    tensor = halfway.from_dlpack(array)
    assert tensor.data_ptr == array.ctypes.data
    back = halfway.to_numpy(tensor)
    assert back.ctypes.data == array.ctypes.data
    assert not back.flags.aligned
    copied = halfway.to_torch(tensor)
    assert copied.data_ptr() != array.ctypes.data


# --- array types


class PlainSubclass(np.ndarray[Any, Any]):
    pass


def test_plain_subclasses(exchange_path: str) -> None:
    base = np.arange(6.0).reshape(2, 3)
    for array in (base.view(PlainSubclass), base.view(np.matrix), base.view(np.recarray)):
        tensor = halfway.to_torch(array)
        assert tensor.data_ptr() == base.ctypes.data
        assert halfway.from_dlpack(array).data_ptr == base.ctypes.data
        assert halfway.to_numpy(array) is array


@pytest.mark.parametrize("mode", ["r+", "c", "w+"])
def test_writable_memmaps(mode: Any, tmp_path: Any, exchange_path: str) -> None:
    path = tmp_path / "data"
    np.arange(6, dtype=np.float32).tofile(path)
    mapped = np.memmap(path, np.float32, mode, shape=(2, 3))
    tensor = halfway.to_torch(mapped)
    assert tensor.data_ptr() == mapped.ctypes.data
    tensor[1, 2] = 42
    assert mapped[1, 2] == 42
    assert halfway.from_dlpack(mapped).data_ptr == mapped.ctypes.data
    address = mapped.ctypes.data
    del mapped
    assert halfway.to_numpy(tensor)[1, 2] == 42
    assert tensor.data_ptr() == address
    if mode != "c":
        halfway.to_numpy(tensor)[0, 0] = 7
        assert np.fromfile(path, np.float32)[0] == 7


def test_readonly_memmaps(tmp_path: Any) -> None:
    path = tmp_path / "data"
    np.arange(6, dtype=np.float32).tofile(path)
    mapped = np.memmap(path, np.float32, "r")
    tensor = halfway.to_torch(mapped)
    assert tensor.data_ptr() != mapped.ctypes.data
    tensor[0] = 1  # a copy: writing must not fault
    assert halfway.from_dlpack(mapped).readonly
    assert halfway.to_numpy(halfway.from_dlpack(mapped)).ctypes.data == mapped.ctypes.data


@pytest.mark.parametrize("scalar", [np.float32(1.5), np.int64(-3), np.bool_(True), ml_dtypes.bfloat16(2)])
def test_numpy_scalars_are_0d_arrays(scalar: Any, exchange_path: str) -> None:
    tensor = halfway.to_torch(scalar)
    assert tensor.shape == ()
    assert tensor.item() == scalar
    assert halfway.to_numpy(scalar).shape == ()
    assert halfway.to_numpy(scalar).dtype == np.asarray(scalar).dtype
    assert halfway.from_dlpack(scalar).shape == ()


class PlainTorchSubclass(torch.Tensor):
    pass


def test_plain_torch_subclasses(exchange_path: str) -> None:
    base = torch.arange(6.0)
    parameter = torch.nn.Parameter(base, requires_grad=False)
    for tensor in (base.as_subclass(PlainTorchSubclass), parameter, torch.nn.Buffer(base)):
        array = halfway.to_numpy(tensor)
        assert array.ctypes.data == base.data_ptr()
        assert halfway.from_dlpack(tensor).data_ptr == base.data_ptr()
        assert halfway.to_torch(tensor) is tensor


def test_inference_tensors(exchange_path: str) -> None:
    with torch.inference_mode():
        tensor = torch.arange(3.0)
        assert halfway.to_numpy(tensor).ctypes.data == tensor.data_ptr()
    array = halfway.to_numpy(tensor)
    assert array.ctypes.data == tensor.data_ptr()
    halfway.to_torch(np.ones(3, np.float32), out=tensor)
    assert array.tolist() == [1, 1, 1]


def test_a_view_of_a_copy_on_write_tensor_does_not_write_to_its_twin(exchange_path: str) -> None:
    for function in (halfway.to_numpy, lambda t: np.asarray(halfway.from_dlpack(t))):
        for written, other in ((0, 1), (1, 0)):
            original = torch.ones(3)
            pair = (original, torch._lazy_clone(original))
            array = function(pair[written])
            array[0] = 5
            assert pair[written].tolist() == [5, 1, 1]
            assert pair[other].tolist() == [1, 1, 1]


# --- identity, copies, out


def test_nothing_to_do_gives_the_object_itself(exchange_path: str) -> None:
    array, tensor = np.zeros(3, ">i2"), torch.zeros(3, requires_grad=True)
    own = halfway.from_dlpack(np.zeros(3))
    assert halfway.to_numpy(array) is array
    assert halfway.to_torch(tensor) is tensor
    assert halfway.to_torch(tensor, device="cpu") is tensor
    assert halfway.to_torch(tensor, "float32", copy=False) is tensor
    assert halfway.from_dlpack(own) is own
    assert halfway.cast(tensor, torch.float32) is tensor
    assert halfway.cast(own, "float64") is own
    native = halfway.cast(array, np.int16)  # asked for by name: the machine's byte order
    assert native is not array
    assert native.dtype.isnative


@pytest.mark.parametrize("name", list(SHARED))
def test_copies_share_nothing(name: str, exchange_path: str) -> None:
    dtype, torch_name = SHARED[name]
    array, tensor = random_array(dtype, (4, 6)).T, random_tensor(torch_name, (4, 6)).T
    for source, pointer in ((array, array.ctypes.data), (tensor, tensor.data_ptr())):
        expected = bits(source) if source is array else torch_bits(tensor)
        as_numpy = halfway.to_numpy(source, copy=True)
        as_torch = halfway.to_torch(source, copy=True)
        own = halfway.from_dlpack(source, copy=True)
        assert pointer not in (as_numpy.ctypes.data, as_torch.data_ptr(), own.data_ptr)
        assert bits(as_numpy) == torch_bits(as_torch) == expected
        assert bits(halfway.to_numpy(own)) == expected
        assert own.reasons == ("copy_requested",)
        assert as_numpy.flags.writeable
        assert as_numpy.flags.c_contiguous
        assert as_torch.is_contiguous()


def test_out_is_returned_and_written(exchange_path: str) -> None:
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    for out in (np.zeros((2, 3)), np.zeros((3, 2), ">f8").T, np.zeros((2, 3))[::-1, ::-1]):
        assert halfway.to_numpy(source, out=out) is out
        assert (out == source).all()
    for tensor in (torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.float64).T):
        version = tensor._version
        assert halfway.to_torch(source, out=tensor) is tensor
        assert tensor.tolist() == source.tolist()
        assert tensor._version > version  # automatic differentiation knows


def test_writing_into_out_of_a_saved_tensor_is_noticed() -> None:
    weight = torch.ones(3, requires_grad=True)
    data = torch.ones(3)
    loss = (weight * data).sum()
    halfway.to_torch(np.zeros(3, np.float32), out=data)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_locked_storage_cannot_be_resized() -> None:
    for name in ("float32", "bfloat16", "float8_e4m3fn", "bool"):
        tensor = random_tensor(SHARED[name][1], (8,))
        array = halfway.to_numpy(tensor, lock_storage=True)
        assert array.ctypes.data == tensor.data_ptr()
        with pytest.raises(RuntimeError, match="resiz"):
            tensor.resize_(1000)
    tensor = torch.zeros(8)
    halfway.to_numpy(tensor)
    tensor.resize_(1000)


# --- other producers and consumers


class Wrapped:
    """A producer that halfway knows nothing of."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.inner.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()


@pytest.mark.parametrize("name", list(SHARED))
def test_foreign_producers(name: str, exchange_path: str) -> None:
    source = random_tensor(SHARED[name][1], (3, 4)).T
    producer = Wrapped(source)
    assert halfway.to_torch(producer).data_ptr() == source.data_ptr()
    assert halfway.to_numpy(producer).ctypes.data == source.data_ptr()
    assert halfway.to_numpy(producer).flags.writeable
    assert halfway.from_dlpack(producer).data_ptr == source.data_ptr()
    assert bits(halfway.to_numpy(producer)) == torch_bits(source)
    assert isinstance(halfway.cast(producer, "float32", casting="unsafe"), halfway.Tensor)


def test_numpys_readonly_flag_crosses() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    producer = Wrapped(array)
    assert halfway.from_dlpack(producer).readonly
    assert not halfway.to_numpy(producer).flags.writeable
    assert not np.asarray(halfway.from_dlpack(array)).flags.writeable
    copied = halfway.to_torch(producer)
    assert copied.data_ptr() != array.ctypes.data
    aliased = halfway.to_torch(producer, allow_readonly=True)
    assert aliased.data_ptr() == array.ctypes.data
    assert halfway.from_dlpack(producer).readonly  # the flag was not lost for others


def test_the_exchange_table_of_halfway() -> None:
    table = probe.table_of(halfway.Tensor)
    array = np.arange(6.0).reshape(2, 3)[:, ::2]
    own = halfway.from_dlpack(array)
    managed = probe.export_by_table(table, own)
    again = probe.import_by_table(table, managed)
    assert isinstance(again, halfway.Tensor)
    assert again.data_ptr == array.ctypes.data
    assert again.strides == own.strides
    with pytest.raises(TypeError):
        probe.export_by_table(table, array)


def test_round_trips_end_where_they_began(exchange_path: str) -> None:
    array = np.arange(24.0).reshape(4, 6)[::2, 1::2]
    current: Any = array
    steps: Iterator[Callable[[Any], Any]] = itertools.cycle(
        (halfway.to_torch, halfway.from_dlpack, halfway.to_numpy, halfway.from_dlpack)
    )
    for step in itertools.islice(steps, 40):
        current = step(current)
    current = halfway.to_numpy(current)
    assert current.ctypes.data == array.ctypes.data
    assert current.strides == array.strides
    current[0, 0] = -1
    assert array[0, 0] == -1
