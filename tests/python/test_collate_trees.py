"""collate: trees of samples, and what is chosen for their parts."""

from __future__ import annotations

import collections
import dataclasses
import types
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.python.collating import Pair
from tests.python.strategies import steady

import halfway
from halfway import Cast, CastError


class Leaf(NamedTuple):
    """Where a sample has an array."""

    shape: tuple[int, ...]
    dtype: str


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


def test_keys_in_any_order_and_mappings_with_defaults() -> None:
    batch = halfway.collate([{"a": 1, "b": 2.5}, {"b": 3.5, "a": 4}])
    assert batch["a"].tolist() == [1, 4]
    assert batch["b"].tolist() == [2.5, 3.5]
    filled = collections.defaultdict(int, a=1, b=2)
    other = collections.defaultdict(int, a=1, c=2)
    with pytest.raises(ValueError, match=r"samples\[1\] has the keys \['a', 'c'\]"):
        halfway.collate([filled, other])
    assert set(filled) == {"a", "b"}
    assert set(other) == {"a", "c"}
