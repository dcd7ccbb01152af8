"""Structured arrays, field by field."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.python.oracle import IN_NUMPY, NUMPY_NATIVE, numpy_dtype
from tests.python.strategies import contents, random_bytes, steady

import halfway
from halfway import ExchangeError


@st.composite
def records(draw: st.DrawFn) -> np.ndarray:
    """A structured array of any fields, in packed or aligned records, strided."""
    names = draw(st.lists(st.sampled_from(IN_NUMPY), min_size=1, max_size=5))
    entries = []
    for index, name in enumerate(names):
        dtype = numpy_dtype(name)
        if name in NUMPY_NATIVE and draw(st.booleans()):
            dtype = dtype.newbyteorder("S")
        shape = draw(st.sampled_from([(), (), (2,), (2, 3)]))
        entries.append((f"f{index}", dtype, shape))
    dtype = np.dtype(entries, align=draw(st.booleans()))
    count = draw(st.integers(0, 6))
    memory = random_bytes(count * dtype.itemsize, draw(st.integers(0, 9)), np.dtype(np.uint8))
    array = memory.view(dtype)
    for name in dtype.names or ():
        if dtype[name].base == np.bool_:
            array[name] = array[name].view(np.uint8) & 1
    if draw(st.booleans()):
        array = array[::2]
    if draw(st.booleans()):
        array = array[::-1]
    array.flags.writeable = draw(st.booleans())
    return array


@steady
@given(array=records())
def test_views_where_strides_allow_and_copies_that_say_so(array):
    parts = halfway.fields(array)
    assert list(parts) == list(array.dtype.names)
    for name, part in parts.items():
        field = array[name]
        expected = set()
        if not field.dtype.isnative:
            expected.add("byte_order")
        real = [s for n, s in zip(field.shape, field.strides, strict=True) if n > 1]
        if field.size and any(stride % field.dtype.itemsize for stride in real):
            expected.add("fractional_strides")
        assert set(part.reasons) == expected
        assert part.shape == field.shape
        native = field.byteswap().view(field.dtype.newbyteorder("S"))
        plain = np.array(field if field.dtype.isnative else native, order="C")
        assert contents(part) == plain.tobytes()
        if field.size:
            assert (part.data_ptr == field.ctypes.data) == (not expected)
        if not expected:
            assert part.readonly is not array.flags.writeable


def test_aligned_records_are_written_through():
    array = np.zeros(3, np.dtype([("label", "i4"), ("x", "f4", (2,)), ("weight", "f8")], align=True))
    parts = halfway.fields(array)
    assert {name: part.reasons for name, part in parts.items()} == {
        "label": (),
        "x": (),
        "weight": (),
    }
    assert parts["x"].shape == (3, 2)
    assert parts["label"].strides == (6,)
    halfway.to_torch(parts["x"])[1, 1] = 5
    halfway.to_torch(parts["label"]).fill_(7)
    np.asarray(parts["weight"])[2] = 0.5
    assert array["label"].tolist() == [7, 7, 7]
    assert array["x"].tolist() == [[0, 0], [0, 5], [0, 0]]
    assert array["weight"].tolist() == [0, 0, 0.5]


def test_the_fields_keep_the_array():
    parts = halfway.fields(np.array([(1, 2.5), (3, 4.5)], "i8,f8"))
    assert halfway.to_torch(parts["f1"]).tolist() == [2.5, 4.5]
    assert torch.utils.dlpack.from_dlpack(parts["f0"]).tolist() == [1, 3]


def test_shapes():
    assert halfway.fields(np.zeros((), "i4,f4"))["f1"].shape == ()
    assert halfway.fields(np.zeros((2, 3), "i4,f4"))["f1"].shape == (2, 3)
    assert halfway.fields(np.zeros((2, 3), [("a", "i4", (4, 5))]))["a"].shape == (2, 3, 4, 5)
    assert halfway.fields(np.zeros(0, "i4,f8"))["f1"].shape == (0,)
    assert halfway.fields(np.zeros(2, [])) == {}
    record = np.zeros(2, "i4,f4").view(np.recarray)
    assert halfway.fields(record)["f0"].shape == (2,)


def test_names_of_any_kind():
    array = np.zeros(2, [("", "i4"), ("größe", "f4"), ("a b", "?")])
    assert list(halfway.fields(array)) == list(array.dtype.names or ())


def test_bfloat16_fields():
    array = np.ones(3, np.dtype([("a", ml_dtypes.bfloat16), ("b", "i2")]))
    tensor = halfway.to_torch(halfway.fields(array)["a"])
    assert tensor.dtype == torch.bfloat16
    assert tensor.stride() == (2,)
    assert tensor.data_ptr() == array.ctypes.data


def test_nested_records_are_taken_apart_one_level_at_a_time():
    array = np.zeros(2, [("id", "i4"), ("at", [("x", "f4"), ("y", "f4")])])
    with pytest.raises(ExchangeError, match="'at'") as caught:
        halfway.fields(array)
    assert caught.value.reason == "nested"
    assert "halfway.fields(x['at'])" in caught.value.hint
    inner = halfway.fields(array["at"])
    assert list(inner) == ["x", "y"]
    assert inner["y"].strides == (3,)


@pytest.mark.parametrize("dtype", ["S3", "U2", "O", "M8[s]", "m8[ms]", "V5", "longdouble"])
def test_fields_that_cannot_be_exchanged(dtype):
    with pytest.raises(ExchangeError, match="field 'b'") as caught:
        halfway.fields(np.zeros(2, [("a", "i4"), ("b", dtype)]))
    assert caught.value.reason == "unsupported_dtype"
    assert caught.value.hint


def test_what_has_no_fields():
    with pytest.raises(ExchangeError) as caught:
        halfway.fields(np.zeros(3))
    assert caught.value.reason == "unsupported_dtype"
    assert caught.value.hint
    others: list[Any] = [[1], None, torch.zeros(3), np.zeros(2, "i4,f4")[0]]
    for other in others:
        with pytest.raises(TypeError):
            halfway.fields(other)
    with pytest.raises(ExchangeError) as caught:
        halfway.fields(np.ma.zeros(2, "i4,f4"))
    assert caught.value.reason == "masked"


def test_the_array_itself_is_refused_with_the_way_out():
    for function in (halfway.to_torch, halfway.from_dlpack, halfway.explain):
        with pytest.raises(ExchangeError) as caught:
            function(np.zeros(2, "i4,f4"))
        assert caught.value.reason == "unsupported_dtype"
        assert "halfway.fields" in caught.value.hint
