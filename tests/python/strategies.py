"""Arrays and tensors of every dtype and layout, for hypothesis; their memory, read by address."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tests.python.oracle import COMPLEX, IN_NUMPY, NUMPY_NATIVE, numpy_dtype

import halfway

# Derandomised: a test run says something about the code, not about the day.
steady = settings(
    derandomize=True,
    deadline=None,
    max_examples=300,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

IN_TORCH = [
    name for name in (*IN_NUMPY, "complex32") if name not in ("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz")
]


@dataclass(frozen=True)
class Made:
    """A source, and what it holds in plain native memory."""

    array: Any
    values: np.ndarray[Any, Any]

    def __repr__(self) -> str:
        array = self.array
        if isinstance(array, torch.Tensor):
            bits = f"conj={array.is_conj()}, neg={array.is_neg()}, grad={array.requires_grad}"
            return f"torch {array.dtype} {tuple(array.shape)} strides {array.stride()} {bits}"
        flags = array.flags
        return (
            f"numpy {array.dtype.str} {array.dtype} {array.shape} strides {array.strides} "
            f"aligned={flags.aligned} writeable={flags.writeable}"
        )


def random_bytes(count: int, seed: int, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bytes at an address that is a multiple of 64, with room before and after."""
    rng = np.random.default_rng(seed)
    room = np.empty(count + 128, np.uint8)
    start = -room.ctypes.data % 64
    memory = room[start : start + count]
    memory[:] = rng.integers(0, 2 if dtype == np.bool_ else 256, count, dtype=np.uint8)
    return memory


@st.composite
def strided(draw: st.DrawFn, itemsize: int, negative: bool, fractional: bool) -> tuple[Any, ...]:
    """Shape, byte strides, offset of the first element, bytes of memory."""
    ndim = draw(st.integers(0, 8))
    sizes = st.one_of(st.integers(1, 4 if ndim < 6 else 2), st.sampled_from([0, 1, 1, 2, 3]))
    shape = tuple(draw(sizes) for _ in range(ndim))
    order = draw(st.permutations(range(ndim)))
    strides = [0] * ndim
    reach = itemsize + (draw(st.sampled_from([0, 0, 1, itemsize // 2 + 1])) if fractional else 0)
    offset = 0
    for axis in reversed(order):
        way = draw(st.sampled_from(["plain", "plain", "plain", "gap", "back", "broadcast"]))
        step = reach * 2 if way == "gap" else 0 if way == "broadcast" else reach
        extent = max(shape[axis] - 1, 0) * step
        if way == "back" and negative:
            offset += extent
            step = -step
        strides[axis] = step
        reach = max(reach, extent + reach)
    return shape, tuple(strides), offset, reach + itemsize


@st.composite
def numpy_arrays(draw: st.DrawFn, names: tuple[str, ...] = IN_NUMPY) -> Made:
    """An array over memory of its own: any strides, byte order, alignment, writable or not."""
    name = draw(st.sampled_from(names))
    dtype = numpy_dtype(name)
    shape, strides, offset, size = draw(strided(dtype.itemsize, negative=True, fractional=True))
    misaligned = draw(st.sampled_from([0, 0, 0, 1, 2]))
    swapped = draw(st.booleans()) and dtype.itemsize > 1 and name in NUMPY_NATIVE
    writable = draw(st.sampled_from([True, True, True, False]))
    memory = random_bytes(size + misaligned, draw(st.integers(0, 99)), dtype)
    if swapped:
        dtype = dtype.newbyteorder("S")
    array: np.ndarray[Any, Any] = np.ndarray(
        shape, dtype, buffer=memory.data, offset=offset + misaligned, strides=strides
    )
    array.flags.writeable = writable
    native = array.byteswap().view(dtype.newbyteorder("S")) if swapped else array.copy()
    return Made(array, np.array(native, order="C"))


@st.composite
def torch_tensors(draw: st.DrawFn, lazy: bool = True) -> Made:
    """A tensor over memory of its own: any strides, and what torch defers (conj, neg)."""
    name = draw(st.sampled_from(IN_TORCH))
    dtype = getattr(torch, name)
    plain = np.dtype([("re", "<f2"), ("im", "<f2")]) if name == "complex32" else numpy_dtype(name)
    shape, strides, offset, size = draw(strided(plain.itemsize, negative=False, fractional=False))
    assert offset == 0
    memory = random_bytes(-(-size // plain.itemsize) * plain.itemsize, draw(st.integers(0, 99)), plain)
    steps = tuple(stride // plain.itemsize for stride in strides)
    if name == "complex32":  # torch conjugates through float32, which makes signalling NaNs quiet
        halves = memory.view(np.uint16)
        halves[(halves & 0x7FFF) > 0x7C00] |= 0x0200
    tensor = torch.from_numpy(memory).view(dtype).as_strided(shape, steps)
    values = np.ndarray(shape, plain, buffer=memory.data, strides=strides).copy()
    if not lazy:
        return Made(tensor, values)
    if dtype.is_complex and draw(st.booleans()):
        tensor = tensor.conj()
        values = conjugated(values)
    if draw(st.integers(0, 5)) == 0 and dtype.is_complex and name != "complex32":
        tensor = tensor.imag  # after conj(), a lazily negated view
        values = np.array(values.imag)
    if draw(st.integers(0, 4)) == 0 and (dtype.is_floating_point or dtype.is_complex) and plain.itemsize > 1:
        tensor = tensor.detach().requires_grad_() if tensor.dtype.is_floating_point else tensor
    return Made(tensor, values)


def conjugated(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.names:
        result = values.copy()
        result["im"] = -result["im"]
        return result
    return np.conjugate(values)


# --- memory, read by address


def name_of(result: Any) -> str:
    if isinstance(result, np.ndarray):
        return result.dtype.name
    return str(result.dtype).removeprefix("torch.")


def address_of(result: Any) -> int:
    if isinstance(result, np.ndarray):
        return result.ctypes.data
    return result.data_ptr() if isinstance(result, torch.Tensor) else int(result.data_ptr)


def contents(result: Any) -> bytes:
    """The elements of a result, row-major and native, by its pointer, shape and strides."""
    name = name_of(result)
    item = 4 if name == "complex32" else numpy_dtype(name).itemsize
    if isinstance(result, np.ndarray):
        strides = result.strides
        swapped = not result.dtype.isnative
    else:
        steps = result.stride() if isinstance(result, torch.Tensor) else result.strides
        strides = tuple(step * item for step in steps)
        swapped = False
    shape = tuple(result.shape)
    if 0 in shape:
        return b""
    reaches = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    low = sum(min(reach, 0) for reach in reaches)
    high = sum(max(reach, 0) for reach in reaches) + item
    memory = (ctypes.c_char * (high - low)).from_address(address_of(result) + low)
    raw = np.ndarray(shape, f"V{item}", buffer=memory, offset=-low, strides=strides).copy()
    if swapped:
        component = item // 2 if name in COMPLEX else item
        raw = raw.view(f"u{component}") if raw.ndim else raw.reshape(1).view(f"u{component}")
        raw = raw.byteswap()
    return raw.tobytes()


def library_of(result: Any) -> str:
    if isinstance(result, np.ndarray):
        return "numpy"
    return "torch" if isinstance(result, torch.Tensor) else "halfway"


EXCHANGE: dict[str, Callable[..., Any]] = {
    "torch": halfway.to_torch,
    "numpy": halfway.to_numpy,
    "halfway": halfway.from_dlpack,
}


def readonly(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


def layouts(dtype: Any = "float64") -> dict[str, np.ndarray[Any, Any]]:
    x = np.arange(24).astype(dtype).reshape(2, 3, 4)
    return {
        "contiguous": x,
        "fortran": np.asfortranarray(x),
        "permuted": x.transpose(1, 0, 2),
        "sliced": x[:, ::2, 1:],
        "negative": x[::-1, :, ::-1],
        "broadcast": np.broadcast_to(x[:1], (5, 3, 4)),
        "scalar": x[1, 1, 1, ...],
        "empty": x[:, :0],
        "one element": x[:1, :1, :1],
        "readonly": readonly(x.copy()),
    }
