"""collate: the stack of single casts, from any libraries and layouts; trees; out=, pad=, report=; errors; ownership."""

# Wrong arguments are among the subjects:
# mypy: disable-error-code="arg-type,call-overload,list-item"

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import gc
import pickle
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.python.strategies import contents, steady
from torch.utils.data import DataLoader, Dataset, default_collate

import halfway
from halfway import Cast, CastError, ExchangeError, Report

DTYPES = ("bool", "uint8", "int16", "int64", "float16", "float32", "float64", "complex64")
TARGETS = (*DTYPES, "bfloat16", "float8_e4m3fn", "uint16")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    halfway.set_num_threads(0)


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


@steady
@given(batches(), st.sampled_from(["default", "saturate"]), st.sampled_from(["torch", "numpy", "halfway"]))
def test_a_batch_is_the_stack_of_single_casts(batch: Any, overflow: Any, to: Any) -> None:
    samples, plains, dtype = batch
    # A Python number has lost what its dtype was; the values are the same.
    plains = [
        np.asarray(sample) if isinstance(sample, bool | int | float | complex) else plain
        for sample, plain in zip(samples, plains, strict=True)
    ]
    report = Report()
    result = halfway.collate(samples, dtype, to=to, report=report, casting="unsafe", overflow=overflow)
    assert tuple(result.shape) == (len(samples), *plains[0].shape)
    assert contents(result) == stack(plains, dtype, overflow=overflow)
    expected = []
    for plain in plains:
        expected.append(Report())
        halfway.to_numpy(plain, dtype, casting="unsafe", overflow=overflow, copy=True, report=expected[-1])
    assert report.to_dict() == add(expected)

    out = np.empty(result.shape[::-1], halfway.to_numpy(np.zeros(1), dtype, casting="unsafe").dtype).T
    assert halfway.collate(tuple(samples), out=out, casting="unsafe", overflow=overflow) is out
    assert contents(out) == contents(result)


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


@steady
@given(st.data())
def test_samples_are_transformed_as_single_casts_transform(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
    real = [dtype for dtype in DTYPES if dtype != "complex64"]
    made = [data.draw(one_sample(shape, data.draw(st.sampled_from(real)))) for _ in range(data.draw(st.integers(1, 5)))]
    fields = data.draw(transforms(shape))
    samples = [sample for sample, _ in made]
    plains = [np.asarray(s) if isinstance(s, bool | int | float) else plain for s, plain in made]
    dtype = data.draw(st.sampled_from(["float32", "bfloat16", "float64", "int16", "uint8"]))
    result = halfway.collate(samples, dtype, casting="unsafe", **fields)
    assert contents(result) == stack(plains, dtype, **fields)
    permuted = [shape[axis] for axis in fields.get("permute", range(len(shape)))]
    assert tuple(result.shape) == (len(samples), *permuted)
    assert contents(halfway.collate(samples, Cast(dtype, casting="unsafe", **fields))) == contents(result)
    out = np.empty(result.shape[::-1], halfway.to_numpy(np.zeros(1), dtype, casting="unsafe").dtype).T
    assert halfway.collate(samples, out=out, casting="unsafe", **fields) is out
    assert contents(out) == contents(result)


@pytest.mark.parametrize("threads", [1, 2, 7])
@steady
@given(st.data())
def test_chance_goes_by_the_place_in_the_batch(threads: int, data: st.DataObject) -> None:
    halfway.set_num_threads(threads)
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    whole = values(data.draw, (data.draw(st.integers(1, 5)), *shape), "float64")
    fields = data.draw(transforms(shape))
    chance: dict[str, Any] = {
        "rounding": "stochastic",
        "seed": data.draw(st.integers(0, 2**64 - 1)),
        "casting": "unsafe",
    }
    above = dict(fields)
    if "permute" in fields:
        above["permute"] = (0, *(axis + 1 for axis in fields["permute"]))
    if "axis" in fields:
        above["axis"] = fields["axis"] % len(shape) + 1
    expected = halfway.to_numpy(whole, "bfloat16", **above, **chance)
    assert contents(halfway.collate(list(whole), "bfloat16", **fields, **chance)) == contents(expected)

    # Shorter samples leave the places of the others as they are. Zero is rounded to itself.
    ends = [shape[-1], *(data.draw(st.integers(0, shape[-1])) for _ in whole[1:])]
    ragged = [sample[..., :end] for sample, end in zip(whole, ends, strict=True)]
    for sample, end in zip(whole, ends, strict=True):
        sample[..., end:] = 0
    expected = halfway.to_numpy(whole, "bfloat16", **chance)
    assert contents(halfway.collate(ragged, "bfloat16", pad=0, **chance)) == contents(expected)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(("count", "shape"), [(3, (200, 333)), (900, (127,)), (20000, ())])
def test_large_batches_from_both_libraries(threads: int, count: int, shape: tuple[int, ...]) -> None:
    halfway.set_num_threads(threads)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for _ in range(count)]
    expected = torch.from_numpy(np.stack(arrays)).to(torch.float32)
    assert torch.equal(halfway.collate(arrays, "float32"), expected)
    assert torch.equal(halfway.collate([torch.as_tensor(a) for a in arrays], "float32"), expected)
    mixed = [a if i % 3 else torch.as_tensor(a) for i, a in enumerate(arrays)]
    out = torch.empty(count, *shape)
    assert halfway.collate(mixed, out=out) is out
    assert torch.equal(out, expected)


@pytest.mark.parametrize(
    ("samples", "dtype"),
    [
        ([1.5, 2.5], torch.float64),
        ([1, 2], torch.int64),
        ([True, False], torch.bool),
        ([1 + 2j, 3j], torch.complex128),
        ([np.float32(1), np.float32(2)], torch.float32),
        ([np.float64(1), 2.0], torch.float64),
        ([np.int8(-1), np.int8(2)], torch.int8),
        ([np.bool_(True), False], torch.bool),
        ([ml_dtypes.bfloat16(1.5), ml_dtypes.bfloat16(2)], torch.bfloat16),
        ([np.array(1, "i2"), torch.tensor(2, dtype=torch.int16)], torch.int16),
    ],
)
def test_scalars(samples: list[Any], dtype: torch.dtype) -> None:
    result = halfway.collate(samples)
    assert result.dtype == dtype
    assert result.tolist() == [np.asarray(sample).item() for sample in samples]


def test_as_torch_collates() -> None:
    """What torch's own default makes of NumPy arrays, tensors and numbers, where it makes tensors at all."""
    for samples in (
        [np.ones((2, 3), np.float32)] * 3,
        [torch.ones(2, dtype=torch.bfloat16)] * 2,
        [1, 2],
        [1.5, 2.5],
        [True, False],
        [np.float64(1), np.float64(2)],
        [{"x": np.ones(2), "y": 1}, {"x": np.zeros(2), "y": 2}],
    ):
        ours, theirs = halfway.collate(samples), default_collate(samples)
        pairs = [(ours[k], theirs[k]) for k in ours] if isinstance(ours, dict) else [(ours, theirs)]
        for mine, other in pairs:
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)


def test_halfway_results_say_why_they_are_copies() -> None:
    assert halfway.collate([np.ones(2)], to="halfway").reasons == ("copy_requested",)


def test_an_unusual_number_of_dimensions() -> None:
    deep = np.ones((1,) * 63)
    assert halfway.collate([deep, deep], to="numpy").shape == (2, *deep.shape)
    with pytest.raises(ExchangeError) as caught:
        halfway.collate([np.ones((1,) * 64)], to="halfway")
    assert caught.value.reason == "malformed"


# --- trees


class Leaf(NamedTuple):
    """Where a sample has an array."""

    shape: tuple[int, ...]
    dtype: str


class Pair(NamedTuple):
    image: Any
    label: Any


@dataclasses.dataclass
class Record:
    image: Any
    name: str
    extra: Any = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        if np.ndim(self.image) != 1:
            raise AssertionError("a sample has one dimension")


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("x",)
    x: Any


@st.composite
def trees(draw: st.DrawFn, depth: int = 2) -> Any:
    """What a sample looks like: shapes and dtypes at the leaves."""
    kinds = ["leaf", "leaf", "text"] + (["dict", "list", "tuple", "pair"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "leaf":
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
        return Leaf(shape, draw(st.sampled_from(("float64", "int32", "bool"))))
    if kind == "text":
        return "text"
    if kind == "pair":
        return Pair(draw(trees(depth - 1)), draw(trees(depth - 1)))
    entries = draw(st.lists(trees(depth - 1), min_size=1, max_size=3))
    if kind == "dict":
        return {draw(st.sampled_from([f"k{i}", i])): entry for i, entry in enumerate(entries)}
    return [entries] if kind == "list" else {"tuple": entries}


def grow(tree: Any, index: int) -> Any:
    if isinstance(tree, Leaf):
        return np.array(np.arange(np.prod(tree.shape, dtype=int)).reshape(tree.shape) + index).astype(tree.dtype)
    if tree == "text":
        return f"text {index}"
    if isinstance(tree, Pair):
        return Pair(grow(tree.image, index), grow(tree.label, index))
    if isinstance(tree, dict):
        return {key: grow(entry, index) for key, entry in tree.items()}
    return [grow(entry, index) for entry in tree]


def check(tree: Any, result: Any, samples: list[Any], floats: str | None) -> None:
    """The result against each leaf stacked on its own."""
    if isinstance(tree, Leaf):
        dtype = floats if floats and tree.dtype == "float64" else tree.dtype
        expected = halfway.to_torch(np.stack(samples), dtype)
        assert result.dtype == expected.dtype
        assert torch.equal(result, expected)
    elif tree == "text":
        assert result == samples
    elif isinstance(tree, dict):
        assert type(result) is dict
        assert list(result) == list(tree)
        for key, entry in tree.items():
            check(entry, result[key], [sample[key] for sample in samples], floats)
    else:
        assert type(result) is type(tree)
        assert len(result) == len(tree)
        for i, entry in enumerate(tree):
            check(entry, result[i], [sample[i] for sample in samples], floats)


@steady
@given(trees(), st.integers(1, 4))
def test_trees(tree: Any, count: int) -> None:
    samples = [grow(tree, index) for index in range(count)]
    check(tree, halfway.collate(samples), samples, None)
    result = halfway.collate(samples, {float: "bfloat16"})
    check(tree, result, samples, "bfloat16")
    again = halfway.collate(samples, out=result)  # an earlier result is an out
    check(tree, again, samples, "bfloat16")
    for old, new in zip(leaves(result), leaves(again), strict=True):
        assert old is new


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, str):
        return []
    entries = tree.values() if isinstance(tree, dict) else tree
    return [leaf for entry in entries for leaf in leaves(entry)]


def test_dataclasses_and_other_containers() -> None:
    records = [Record(np.full(3, float(i)), f"r{i}") for i in range(2)]
    for record in records:
        record.extra = (1, 2.5)
    batch = halfway.collate(records, {"image": "bfloat16"})
    assert type(batch) is Record
    assert batch.image.dtype == torch.bfloat16
    assert batch.image.shape == (2, 3)
    assert list(batch.name) == ["r0", "r1"]
    assert batch.extra[1].tolist() == [2.5, 2.5]
    assert records[0].image.shape == (3,)  # the samples are as they were
    assert halfway.collate(records, out=batch).image is batch.image

    assert halfway.collate([Slotted(1), Slotted(2)]).x.tolist() == [1, 2]
    ordered = [collections.OrderedDict(a=1, b=2.0), types.MappingProxyType({"b": 1.0, "a": 3})]
    with pytest.raises(ValueError, match="mappingproxy"):
        halfway.collate(ordered)
    assert list(halfway.collate(ordered[:1])) == ["a", "b"]
    assert halfway.collate([{"a": 1, "b": 2}, {"b": 3, "a": 4}])["a"].tolist() == [1, 4]
    assert halfway.collate([b"x", b"y"]) == [b"x", b"y"]


SAMPLES = [{"image": np.ones((2, 2)), "label": i, "box": (0.5, np.float32(1)), "name": "n"} for i in range(3)]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, ("float64", "int64", "float64", "float32")),
        ({}, ("float64", "int64", "float64", "float32")),
        ({float: "bf16"}, ("bfloat16", "int64", "bfloat16", "bfloat16")),
        ({float: "bf16", int: "f4"}, ("bfloat16", "float32", "bfloat16", "bfloat16")),
        ({"image": "f2"}, ("float16", "int64", "float64", "float32")),
        ({"image": None, float: "f2"}, ("float64", "int64", "float16", "float16")),
        ({"box": ("f2", None)}, ("float64", "int64", "float16", "float32")),
        ({"box": [None, torch.bfloat16], float: "f2"}, ("float16", "int64", "float64", "bfloat16")),
        ({"box": {0: "f2"}}, ("float64", "int64", "float16", "float32")),
        ({"box": {float: "f2"}, "label": "uint8"}, None),
        ({"label": Cast("uint8", casting="unsafe")}, ("float64", "uint8", "float64", "float32")),
        ("f8", ("float64", "float64", "float64", "float64")),
        (Cast("bf16", overflow="saturate"), ("bfloat16",) * 4),
    ],
)
def test_dtypes_of_trees(dtype: Any, expected: tuple[str, ...] | None) -> None:
    if expected is None:
        with pytest.raises(CastError):
            halfway.collate(SAMPLES, dtype)
        return
    batch = halfway.collate(SAMPLES, dtype)
    found = (batch["image"], batch["label"], *batch["box"])
    assert tuple(str(tensor.dtype).removeprefix("torch.") for tensor in found) == expected


def test_kinds() -> None:
    choice = {bool: "uint8", int: "int8", float: "f2", complex: "complex64"}
    for dtype, expected in (("?", "uint8"), ("u4", "int8"), ("i2", "int8"), ("f4", "float16"), ("c16", "complex64")):
        result = halfway.collate([np.ones(2, dtype)], choice, casting="unsafe", to="numpy")
        assert result.dtype.name == expected
    assert halfway.collate([np.ones(1, ml_dtypes.bfloat16)], choice).dtype == torch.float16


# --- padding


def test_padding() -> None:
    tokens = [np.arange(n) for n in (3, 0, 5)]
    assert halfway.collate(tokens, pad=-100).tolist() == [
        [0, 1, 2, -100, -100],
        [-100] * 5,
        [0, 1, 2, 3, 4],
    ]
    out = np.zeros((3, 7), ">i4")
    assert halfway.collate(tokens, out=out, pad=np.int64(9), casting="unsafe") is out
    assert out.tolist() == [[0, 1, 2, 9, 9, 9, 9], [9] * 7, [0, 1, 2, 3, 4, 9, 9]]
    report = Report()
    result = halfway.collate([np.ones((2, n)) for n in (1, 2)], "bf16", pad=float("nan"), report=report)
    assert result.isnan().sum() == 2
    assert report.count == 6
    assert report.nan == 0
    # By kind and by key, as dtypes; where nothing is ragged it does not matter what it is.
    samples = [{"ids": np.arange(n), "w": np.ones(n), "label": np.uint8(1)} for n in (1, 2)]
    batch = halfway.collate(samples, pad={int: -1, float: 0.5})
    assert batch["ids"].tolist() == [[0, -1], [0, 1]]
    assert batch["w"].tolist() == [[1, 0.5], [1, 1]]
    assert halfway.collate(samples, pad={"ids": 7, float: torch.tensor(2)})["w"].tolist() == [[1, 2], [1, 1]]
    assert halfway.collate(samples, pad=-1)["label"].tolist() == [1, 1]
    with pytest.raises(ExchangeError, match=r"samples\[1\]\['w'\]"):
        halfway.collate(samples, pad={int: -1})


@pytest.mark.parametrize(("pad", "dtype"), [(0.5, "i4"), (-1, "u1"), (1e9, "f2"), (float("nan"), "i8"), (1j, "f4")])
def test_a_pad_that_the_dtype_lacks(pad: Any, dtype: str) -> None:
    with pytest.raises(CastError, match="pad"):
        halfway.collate([np.ones(1), np.ones(2)], dtype, pad=pad, casting="unsafe")


# --- errors


def moved(array: Any) -> Any:
    array.flags.writeable = False
    return array


X = np.ones(3)


@pytest.mark.parametrize(
    ("call", "reason", "words"),
    [
        (lambda: halfway.collate([X, X, np.ones(4)]), "nested", ["samples[2]", "(4,)", "(3,)", "pad="]),
        (lambda: halfway.collate([X, np.ones((3, 1))], pad=0), "nested", ["samples[1]", "(3, 1)", "last axis alone"]),
        (lambda: halfway.collate([X, torch.ones(3)]), "dtype", ["samples[1] is float32", "float64", "dtype="]),
        (lambda: halfway.collate([{"a": 1}, {"a": 2.5}]), "dtype", ["samples[1]['a']"]),
        (lambda: halfway.collate([X], out=torch.ones(2, 3)), "out_mismatch", ["out has", "(2, 3)", "(1, 3)"]),
        (lambda: halfway.collate([X], "f2", out=torch.ones(1, 3)), "out_mismatch", ["float16", "float32"]),
        (lambda: halfway.collate([X], out=moved(np.ones((1, 3)))), "readonly", ["out"]),
        (lambda: halfway.collate([X], out=torch.ones(1, 3, requires_grad=True)), "requires_grad", ["out"]),
        (lambda: halfway.collate([X], out=X[None]), None, []),
        (lambda: halfway.collate([X, X], out=np.broadcast_to(X, (2, 3))), "readonly", []),
        (lambda: halfway.collate([X[::-1]], out=X[None]), "overlap", ["samples[0]"]),
        (lambda: halfway.collate([X, np.ones(3, "M8[s]")]), "unsupported_dtype", ["samples[1]: ", "int64"]),
        (lambda: halfway.collate([X, X], "f2", permute=(1, 0)), "permute", ["samples[0]: ", "2 axes", "name each"]),
        (lambda: halfway.collate([X], "f2", permute=(1,)), "permute", ["samples[0]: ", "axis 1"]),
        (
            lambda: halfway.collate([X], "f2", scale=[1, 2], axis=0),
            "affine",
            ["samples[0]: ", "2 numbers", "3 indices"],
        ),
        (lambda: halfway.collate([X], "f2", scale=[1, 2, 3], axis=1), "affine", ["samples[0]: ", "axis=1"]),
        (lambda: halfway.collate([{"a": X, "b": 1}], permute=(0,)), "permute", ["samples[0]['b']: ", "has 0"]),
        (lambda: halfway.collate([X, X + 0j], "c8", scale=2), "unsupported_dtype", ["complex"]),
        (lambda: halfway.collate([np.ma.masked_array(X)]), "masked", ["samples[0]: "]),
        (lambda: halfway.collate([X, torch.ones(3, device="meta")]), "no_storage", ["samples[1]: "]),
        (lambda: halfway.collate([torch.ones(3).to_sparse()]), "sparse", ["samples[0]: "]),
        (lambda: halfway.collate([np.ones(3, ml_dtypes.int4)]), "unsupported_dtype", ["int4"]),
        (lambda: halfway.collate([X], "float8_e3m4"), "unsupported_dtype", ["torch has no dtype float8_e3m4"]),
        (lambda: halfway.collate([{"a": X, "b": 1}] * 2, out={"a": A, "b": A[0, :2]}), "out_mismatch", ["out['a']"]),
        (lambda: halfway.collate([{"a": X, "b": X}], out={"a": A, "b": A}), "overlap", ["out['a']", "out['b']"]),
        (lambda: halfway.collate([{"a": X, "b": A[0]}], out={"a": A, "b": None}), "overlap", ["samples[0]['b']"]),
    ],
)
def test_reasons(call: Any, reason: str | None, words: list[str]) -> None:
    if reason is None:
        call()  # a sample that is its own row
        return
    with pytest.raises(ExchangeError) as caught:
        call()
    assert caught.value.reason == reason
    for word in words:
        assert word in str(caught.value)


A = np.ones((1, 3))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: halfway.collate(), TypeError, []),
        (lambda: halfway.collate(np.ones((2, 2))), TypeError, ["list or tuple", "ndarray"]),
        (lambda: halfway.collate({"a": 1}), TypeError, ["dict"]),
        (lambda: halfway.collate([]), ValueError, ["no samples"]),
        (lambda: halfway.collate([None]), TypeError, ["samples[0]", "NoneType"]),
        (lambda: halfway.collate([X, None]), TypeError, ["samples[1]", "NoneType"]),
        (lambda: halfway.collate([{"a": (1, object())}]), TypeError, ["samples[0]['a'][1]", "object"]),
        (lambda: halfway.collate([X, "text"]), TypeError, ["samples[1]", "str"]),
        (lambda: halfway.collate([X, [1.0]]), TypeError, ["samples[1]", "list"]),
        (lambda: halfway.collate(["text", X]), ValueError, ["samples[1] is of type ndarray", "str"]),
        (lambda: halfway.collate([[X], (X,)]), ValueError, ["samples[1] is of type tuple", "list"]),
        (lambda: halfway.collate([[X], X]), ValueError, ["samples[1] is of type ndarray", "list"]),
        (lambda: halfway.collate([[1, 2], [1]]), ValueError, ["samples[1] has 1 entries", "2"]),
        (
            lambda: halfway.collate([{"a": {"b": 1}}, {"a": {"c": 1}}]),
            ValueError,
            ["samples[1]['a'] has", "'c'", "'b'"],
        ),
        (lambda: halfway.collate([Pair(1, X), Pair(1, None)]), TypeError, ["samples[1].label"]),
        (lambda: halfway.collate([1, 2**63]), ValueError, ["9223372036854775808", "int64"]),
        (lambda: halfway.collate([{"a": 1}], {"b": "f4"}), ValueError, ["dtype=", "'b'", "samples[0]"]),
        (lambda: halfway.collate([{"a": 1}], {"a": {"b": "f4"}}), ValueError, ["'b'", "samples[0]['a']"]),
        (lambda: halfway.collate([X], {"float": "f4"}), ValueError, ["'float'", "types bool, int"]),
        (lambda: halfway.collate([X], {np.float64: "f4"}), ValueError, ["float64"]),
        (lambda: halfway.collate([X], ("f4",)), ValueError, ["tuple", "no container"]),
        (lambda: halfway.collate([[1, 2]], ("f4",)), ValueError, ["tuple of 1", "2 entries"]),
        (lambda: halfway.collate([{"a": 1}], ("f4",)), ValueError, ["tuple of 1", "dict"]),
        (lambda: halfway.collate([{"a": 1}], pad={"b": 0}), ValueError, ["pad=", "'b'"]),
        (lambda: halfway.collate([X], pad=[0]), ValueError, ["pad="]),
        (lambda: halfway.collate([X], pad=np.zeros(2)), ValueError, ["one value"]),
        (lambda: halfway.collate([X], pad="x"), TypeError, ["str"]),
        (lambda: halfway.collate([{"a": 1}], out=A), ValueError, ["out is no tree", "ndarray", "dict"]),
        (lambda: halfway.collate([{"a": 1}], out={"b": A}), ValueError, ["'b'", "'a'"]),
        (lambda: halfway.collate([X], out=[A]), TypeError, ["out must be", "list"]),
        (lambda: halfway.collate([X], out=torch), TypeError, ["out must be", "module"]),
        (lambda: halfway.collate([X], to="jax"), ValueError, ["'jax'", "'torch'"]),
        (lambda: halfway.collate([X], to=None), TypeError, ["to", "NoneType"]),
        (lambda: halfway.collate([X], 7), TypeError, ["dtype", "int"]),
        (lambda: halfway.collate([X], "floaty"), ValueError, ["'floaty'"]),
        (lambda: halfway.collate([X], colour=1), TypeError, ["collate()", "'colour'"]),
        (lambda: halfway.collate(["a"], colour=1), TypeError, ["collate()", "'colour'"]),
        (lambda: halfway.collate([X], copy=True), TypeError, ["'copy'"]),
        (lambda: halfway.collate([X], report=3), TypeError, ["report"]),
        (lambda: halfway.collate([X], Cast("f4"), casting="safe"), TypeError, ["Cast"]),
        (lambda: halfway.collate([X], "f4", casting="loose"), ValueError, ["'loose'"]),
        (lambda: halfway.collate([X], Cast("f4"), permute=(0,)), TypeError, ["Cast"]),
        (lambda: halfway.collate([X], "f2", scale=[1, 2, 3]), ValueError, ["axis="]),
        (lambda: halfway.collate([X], "f2", rounding="stochastic"), ValueError, ["seed="]),
    ],
)
def test_wrong_arguments(call: Any, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert not isinstance(caught.value, ExchangeError)
    for word in words:
        assert word in str(caught.value)


def test_levels_and_losses_name_the_sample() -> None:
    with pytest.raises(CastError) as caught:
        halfway.collate([X, X.astype("c8")], "f4")
    assert caught.value.report is None
    assert "samples[1]: " in str(caught.value)
    x = np.ones((2, 3))
    x[1, 2] = 0.1
    report = Report()
    with pytest.raises(CastError) as caught:
        halfway.collate([{"x": np.ones((2, 3))}, {"x": x}], "f4", casting="same_value", report=report)
    error = caught.value
    assert error.index == (1, 1, 2)
    assert error.value == "0.1"
    assert "samples[1]['x']" in str(error)
    assert error.report == report
    assert report.to_dict() == {
        "count": 12,
        "nan": 0,
        "overflow": 0,
        "underflow": 0,
        "inexact": 1,
    }


def test_every_out_is_untouched_when_one_batch_is_refused() -> None:
    good, bad = np.ones(3), np.array([1, 1e300, 1])
    samples = [{"a": good, "b": good, "c": 1}, {"a": good, "b": bad, "c": 2}]

    def outs() -> dict[str, Any]:
        return {
            "a": torch.zeros(2, 3),
            "b": np.zeros((2, 3), "f4"),
            "c": halfway.from_dlpack(np.zeros(2, "i8")),
        }

    for keywords, change in (
        ({"overflow": "raise"}, {}),
        ({"casting": "same_value"}, {}),
        ({"overflow": "raise"}, {"b": None}),
        ({"casting": "safe"}, {}),
    ):
        out = {**outs(), **change}
        dtype = {"b": "f4"} if change else None
        with pytest.raises(CastError):
            halfway.collate(samples, dtype, out=out, **keywords)
        for tensor in out.values():
            assert tensor is None or not np.asarray(tensor).any()
    with pytest.raises(ExchangeError):
        halfway.collate([*samples, {"a": good, "b": np.ones(4), "c": 1}], out=outs())
    out = outs()
    result = halfway.collate(samples, out=out)
    assert result["c"] is out["c"]
    assert np.asarray(out["c"]).tolist() == [1, 2]
    assert np.isinf(out["b"][1, 1])


def test_a_report_starts_from_zero_and_sums_up() -> None:
    report = Report()
    for _ in range(2):
        halfway.collate([{"a": np.array([0.1]), "b": np.array([[1e300]])}] * 3, "f4", report=report)
        assert report.to_dict() == {"count": 6, "nan": 0, "overflow": 3, "underflow": 0, "inexact": 3}
    halfway.collate(["text"], report=report)
    assert report.count == 0


# --- ownership


def test_samples_are_released() -> None:
    class Array(np.ndarray[Any, Any]):
        pass

    arrays: list[Any] = [np.ones(5).view(Array) for _ in range(3)]
    watched = [weakref.ref(a) for a in arrays]
    tensors = [torch.ones(5, dtype=torch.float64) for _ in range(3)]
    watched += [weakref.ref(t) for t in tensors]
    result = halfway.collate([*arrays, *tensors, Producer(np.ones(5))], "f4")
    del arrays, tensors
    gc.collect()
    assert [w() for w in watched] == [None] * 6
    assert result.tolist() == [[1.0] * 5] * 7


def test_samples_are_released_when_refused() -> None:
    tensors = [torch.ones(5), torch.ones(6)]
    watched = [weakref.ref(t) for t in tensors]
    with pytest.raises(ExchangeError):
        halfway.collate([*tensors, Producer(np.ones(5, "f4"))])
    del tensors
    gc.collect()
    assert [w() for w in watched] == [None, None]


def test_a_result_outlives_everything() -> None:
    result = halfway.collate([np.arange(3)], to="numpy")
    view = result[0]
    del result
    gc.collect()
    assert view.tolist() == [0, 1, 2]


def test_a_capsule_is_consumed() -> None:
    capsule = np.ones(2).__dlpack__()
    assert halfway.collate([capsule]).tolist() == [[1, 1]]
    with pytest.raises(ExchangeError) as caught:
        halfway.collate([np.ones(2), capsule])
    assert caught.value.reason == "consumed"
    assert "samples[1]: " in str(caught.value)


def test_out_of_torch_counts_as_written() -> None:
    out = torch.zeros(1, 2)
    weight = torch.ones(1, 2, requires_grad=True)
    loss = (out * weight).sum()
    halfway.collate([np.ones(2, "f4")], out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_list_may_change_meanwhile() -> None:
    """Other threads may empty the list, and reshape the arrays, while the GIL is released."""
    arrays = [np.ones((512, 512)) for _ in range(8)]
    samples = list(arrays)
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            for array in arrays:
                array.shape = (256, 1024)
                array.shape = (512, 512)
            samples.clear()
            samples.extend(arrays)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(30):
            # It may be empty, or one of them has its other shape.
            with contextlib.suppress(ExchangeError, ValueError):
                assert (halfway.collate(samples, "f4") == 1).all()
    finally:
        stop.set()
        thread.join()


def test_producers_exceptions_pass() -> None:
    class Bad:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

        def __dlpack__(self, **keywords: Any) -> Any:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        halfway.collate([np.ones(1), Bad()])


# --- in a DataLoader


class Data(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": np.full((8, 1000), index, np.float64), "label": index, "tokens": np.arange(index % 3 + 1)}


@pytest.mark.parametrize("workers", [0, 2])
def test_as_collate_fn(workers: int) -> None:
    collate = functools.partial(halfway.collate, dtype={float: "bfloat16"}, pad={"tokens": -1})
    assert pickle.loads(pickle.dumps(collate)).keywords == collate.keywords
    loader = DataLoader(
        Data(),
        batch_size=4,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context="fork" if workers else None,
    )
    seen = []
    for batch in loader:
        assert batch["x"].dtype == torch.bfloat16
        assert batch["x"].shape == (4, 8, 1000)
        assert (batch["x"][:, 3, 7].long() == batch["label"]).all()
        seen += batch["label"].tolist()
        assert batch["tokens"].shape == (4, 3)
    assert seen == list(range(12))


def test_without_torch(fork_python_without_torch: Any) -> None:
    done = fork_python_without_torch(
        """
        import sys
        sys.modules["torch"] = None
        result = halfway.collate([np.arange(2), np.arange(2)], "f4", to="numpy")
        assert result.dtype == np.float32 and result.shape == (2, 2)
        assert halfway.collate([[1, 2.5], [3, 4.5]], to="halfway")[1].dtype == "float64"
        out = np.zeros((1, 2))
        assert halfway.collate([np.arange(2)], out=out) is out and out.tolist() == [[0, 1]]
        try:
            halfway.collate([np.arange(2)])
        except halfway.ExchangeError as error:
            assert error.reason == "unavailable" and 'to="numpy"' in str(error), error
        else:
            raise AssertionError
        print("fine")
        """
    )
    assert (done.status, done.output) == (0, "fine\n")
