"""The dtype table: complete, consistent, and true."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.python.oracle import FLOATS, INTEGERS, numpy_dtype

import halfway
from halfway import Cast, DTypeRow, ExchangeError

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

ROWS = halfway.dtypes()
KNOWN = [row for row in ROWS if row.kind != "refused"]
REFUSED = [row for row in ROWS if row.kind == "refused"]
TORCH = sorted({v for v in vars(torch).values() if isinstance(v, torch.dtype)}, key=str)


def torch_names(row: DTypeRow) -> list[str]:
    return row.torch.split(", ") if row.torch else []


def test_every_numpy_scalar_type_has_a_row():
    known = {row.numpy for row in KNOWN}
    refused = {row.numpy for row in REFUSED}
    for scalar in set(np.sctypeDict.values()):
        if scalar.__module__ != "numpy":
            continue  # ml_dtypes registers its own there
        dtype = np.dtype(scalar)
        places = (dtype.name in known) + (f"numpy.{scalar.__name__}" in refused)
        assert places == 1, scalar


def test_every_numpy_dtype_class_has_a_row():
    known = {row.numpy for row in KNOWN}
    refused = {str(row.numpy).rpartition(".")[2] for row in REFUSED}
    for name in np.dtypes.__all__:
        if not name.endswith("DType"):
            continue  # functions
        try:
            dtype = getattr(np.dtypes, name)()
        except TypeError:
            continue  # made from other arguments
        assert {dtype.name, dtype.type.__name__, name} & (known | refused), name


def test_every_torch_dtype_has_exactly_one_row():
    for dtype in TORCH:
        rows = [row for row in ROWS if str(dtype) in torch_names(row)]
        assert len(rows) == 1, dtype


def test_refused_torch_dtypes_exist_or_existed():
    # every name is torch's own, in this release or (removed ones) in one that is supported
    removed: set[str] = set()
    for row in ROWS:
        for name in torch_names(row):
            assert name.startswith("torch.")
            assert hasattr(torch, name.removeprefix("torch.")) or name in removed


def test_every_ml_dtype_has_a_row():
    named = {row.numpy for row in KNOWN}
    for name in set(ml_dtypes.__all__) - {"bcomplex32"}:  # DLPack has no code for it
        scalar = getattr(ml_dtypes, name)
        if isinstance(scalar, type) and issubclass(scalar, np.generic):
            assert f"ml_dtypes.{name}" in named


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.name)
def test_names_mean_the_dtype(row):
    for name in (row.name, *row.aliases):
        assert Cast(name).dtype == row.name
    if row.numpy is not None:
        scalar = row.numpy.removeprefix("ml_dtypes.")
        dtype = np.dtype(getattr(ml_dtypes, scalar) if "." in row.numpy else scalar)
        assert Cast(dtype).dtype == row.name
        assert halfway.from_dlpack(np.zeros(2, dtype)).dtype == row.name
        assert dtype.itemsize * 8 == max(row.bits, 8)
    if row.torch is not None:
        dtype = getattr(torch, row.torch.removeprefix("torch."))
        assert Cast(dtype).dtype == row.name
        assert halfway.from_dlpack(torch.zeros(2, dtype=dtype)).dtype == row.name
        assert dtype.itemsize * 8 == row.bits


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.name)
def test_names_are_read_as_numpy_reads_them(row):
    for name in (row.name, *row.aliases):
        try:
            theirs = np.dtype(name)
        except TypeError:
            continue
        if theirs == np.longdouble:
            assert name == "f16"  # there 16 bytes, which are refused anyway; here 16 bits
        else:
            assert theirs == numpy_dtype(row.name)


def test_no_name_means_two_dtypes():
    names = [name for row in KNOWN for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    codes = [(row.code, row.bits) for row in KNOWN]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.name)
def test_castable_means_castable(row):
    x = np.ones(2, np.float32)
    if row.castable:
        assert halfway.cast(halfway.from_dlpack(x), Cast(row.name, casting="unsafe")).dtype == row.name
        assert row.numpy or row.note
    else:
        assert row.note
        with pytest.raises(ExchangeError) as caught:
            halfway.cast(halfway.from_dlpack(x), Cast(row.name, casting="unsafe"))
        assert caught.value.reason == "unsupported_dtype"


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.name)
def test_libraries_without_the_dtype_are_told_apart(row):
    if not row.castable:
        return
    source = halfway.cast(halfway.from_dlpack(np.ones(2, np.float32)), Cast(row.name, casting="unsafe"))
    for function, has in ((halfway.to_torch, row.torch), (halfway.to_numpy, row.numpy)):
        if has:
            assert str(function(source).dtype).removeprefix("torch.") == row.name
        else:
            with pytest.raises(ExchangeError) as caught:
                function(source)
            assert caught.value.reason == "unsupported_dtype"
            assert caught.value.hint


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_refused_rows_name_the_way_out(row):
    assert row.note
    assert not row.castable
    assert row.bits is row.code is None
    assert (row.numpy is None) != (row.torch is None)


ARRAYS = {
    "longdouble": np.zeros(2, np.longdouble),
    "clongdouble": np.zeros(2, np.clongdouble),
    "datetime64": np.zeros(2, "M8[s]"),
    "timedelta64": np.zeros(2, "m8[s]"),
    "object": np.zeros(2, object),
    "str": np.array(["a"]),
    "bytes": np.array([b"a"]),
    "StringDType": np.array(["a"], np.dtypes.StringDType()),
    "void": np.zeros(2, "V3"),
}


def test_refused_numpy_dtypes_are_refused():
    assert set(ARRAYS) == {row.name for row in REFUSED if row.numpy}
    for x in ARRAYS.values():
        for function in (halfway.to_torch, halfway.from_dlpack, halfway.explain):
            with pytest.raises(ExchangeError) as caught:
                function(x)
            assert caught.value.reason == "unsupported_dtype"
            assert caught.value.hint


def test_the_ways_out_lead_out():
    assert halfway.to_torch(ARRAYS["longdouble"].astype("float64")).dtype == torch.float64
    assert halfway.to_torch(ARRAYS["clongdouble"].astype("complex128")).dtype == torch.complex128
    for name in ("datetime64", "timedelta64"):
        assert halfway.to_torch(ARRAYS[name].view("int64")).dtype == torch.int64
    assert halfway.to_torch(ARRAYS["void"].view("uint8")).dtype == torch.uint8
    half = torch.zeros(2, dtype=torch.complex32)
    assert halfway.to_numpy(half, "complex64").dtype == np.complex64
    for name in ("bits8", "int3", "uint7", "float4_e2m1fn_x2"):
        dtype = getattr(torch, name)
        raw = torch.zeros(2, dtype=torch.uint8)
        refused = raw.view(dtype)
        with pytest.raises(ExchangeError) as caught:
            halfway.to_numpy(refused)
        assert caught.value.reason == "unsupported_dtype"
        assert halfway.to_numpy(refused.view(torch.uint8)).dtype == np.uint8


def test_kinds():
    by_name = {row.name: row for row in KNOWN}
    for name in INTEGERS:
        kind = "unsigned_integer" if name.startswith("u") else "signed_integer"
        assert by_name[name].kind == kind
    for name, form in FLOATS.items():
        assert by_name[name].kind == "floating"
        assert by_name[name].bits == form.bits
    assert by_name["bool"].kind == "boolean"
    assert by_name["complex64"].kind == "complex"
