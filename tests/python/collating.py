"""Samples of all libraries and layouts, and the stack of single casts that a batch should be."""

from __future__ import annotations

import collections
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

import halfway
from halfway import Report

DTYPES = ("bool", "uint8", "int16", "int64", "float16", "float32", "float64", "complex64")
TARGETS = (*DTYPES, "bfloat16", "float8_e4m3fn", "uint16")


class Producer:
    """A DLPack producer of no library that anybody knows."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def values(draw: st.DrawFn, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    numbers = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 6, size=shape)
    if dtype == "complex64":
        return np.array(numbers + 1j * rng.normal(size=shape), dtype)
    return np.array(np.abs(numbers) % 200 if dtype == "uint8" else np.clip(numbers, -30000, 30000)).astype(dtype)


@st.composite
def one_sample(draw: st.DrawFn, shape: tuple[int, ...], dtype: str) -> tuple[Any, np.ndarray[Any, Any]]:
    """An array-like of some library and layout, and its values."""
    plain = values(draw, shape, dtype)
    array = plain.copy()
    layout = draw(st.sampled_from(["plain", "plain", "fortran", "gaps", "backwards", "swapped", "readonly"]))
    if layout == "fortran":
        array = np.array(array, order="F")
    elif layout == "gaps" and array.ndim:
        room = np.zeros((*array.shape[:-1], array.shape[-1] * 3), array.dtype)
        room[..., 1::3] = array
        array = room[..., 1::3]
    elif layout == "backwards" and array.ndim:
        array = np.ascontiguousarray(array[::-1])[::-1]
    elif layout == "swapped":
        array = array.astype(array.dtype.newbyteorder("S"))
    elif layout == "readonly":
        array.flags.writeable = False
    library = draw(st.sampled_from(["numpy", "numpy", "torch", "halfway", "producer", "scalar"]))
    if library == "scalar" and array.ndim == 0:
        return draw(st.sampled_from([plain[()], plain.item()])), plain
    simple = layout in ("plain", "gaps")
    if library == "torch" and simple:
        tensor = torch.from_numpy(array)
        if dtype.startswith("float") and draw(st.booleans()):
            tensor = tensor.requires_grad_()
        if dtype == "complex64" and draw(st.booleans()):
            return tensor.conj(), np.conjugate(plain)
        return tensor, plain
    if library == "halfway":
        return halfway.from_dlpack(array), plain
    if library == "producer" and layout == "plain":
        return Producer(array), plain
    return array, plain


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Any], list[np.ndarray[Any, Any]], str]:
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    mixed = draw(st.booleans())
    dtype = draw(st.sampled_from(DTYPES))
    made = [
        draw(one_sample(shape, draw(st.sampled_from(DTYPES)) if mixed else dtype))
        for _ in range(draw(st.integers(1, 6)))
    ]
    return [sample for sample, _ in made], [plain for _, plain in made], draw(st.sampled_from(TARGETS))


def stack(plains: list[np.ndarray[Any, Any]], dtype: str, report: Report | None = None, **cast: Any) -> bytes:
    """Each sample cast on its own, one behind the other."""
    singles = [halfway.to_numpy(np.array(plain), dtype, casting="unsafe", copy=True, **cast) for plain in plains]
    return b"".join(single.tobytes() for single in singles)


def add(reports: list[Report]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for report in reports:
        total.update(report.to_dict())
    return {name: total[name] for name in Report().to_dict()}


@st.composite
def transforms(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    """Fields of Cast that fit samples of this shape."""
    fields: dict[str, Any] = {}
    if draw(st.booleans()):
        fields["permute"] = tuple(draw(st.permutations(range(len(shape)))))
    numbers = st.floats(-4, 4, width=32)
    if shape and draw(st.booleans()):
        fields["axis"] = draw(st.integers(-len(shape), len(shape) - 1))
        fields["scale"] = [draw(numbers) for _ in range(shape[fields["axis"]])]
    elif draw(st.booleans()):
        fields["scale"] = draw(numbers)
    if draw(st.booleans()):
        fields["shift"] = draw(numbers)
    return fields


class Pair(NamedTuple):
    image: Any
    label: Any
