"""What the casting levels allow, and what a refused cast leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from tests.python import oracle
from tests.python.oracle import (
    CASTABLE,
    COMPLEX,
    FLOATS,
    IN_NUMPY,
    INTEGERS,
    NUMPY_NATIVE,
    REALS,
    assert_bits,
    numpy_dtype,
    unsafe,
)

import halfway
from halfway import CastError, Report

# torch says so once a process, whichever test comes first
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

LEVELS = ("no", "equiv", "safe", "same_kind", "unsafe")
PAIRS = [(s, t) for s in REALS for t in REALS if s != t]
NARROW = [name for name in FLOATS if FLOATS[name].bits <= 16]


# --- casting levels


def allowed(source: Any, target: str, level: Any, to: Any = "numpy") -> bool:
    try:
        plan = halfway.explain(source, target, to=to, casting=level)
    except CastError as error:
        refused = error
    else:
        assert plan.dtype == target
        return True
    assert refused.report is None
    assert refused.index is None
    assert level in str(refused)
    return False


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", NUMPY_NATIVE)
def test_levels_are_numpys(source, level):
    x = np.zeros(2, source)
    for target in NUMPY_NATIVE:
        expected = np.can_cast(source, target, casting=level)
        assert allowed(x, target, level) is expected, target
        if expected:
            assert halfway.cast(x, target, casting=level).dtype == np.dtype(target)
        else:
            with pytest.raises(CastError):
                halfway.cast(x, target, casting=level)


def values_of(name: str) -> tuple[Fraction, Fraction, Fraction, set[str]]:
    """Largest and least nonzero magnitude, spacing at 1, and what else the dtype holds."""
    if name == "bool":
        return Fraction(1), Fraction(1), Fraction(1), {"zero"}
    if name in INTEGERS:
        low, high = INTEGERS[name]
        return Fraction(high), Fraction(1), Fraction(1), {"zero"} | ({"minus"} if low else set())
    form = FLOATS[COMPLEX.get(name, name)]
    others = {"nan"}
    others |= {"infinity"} if form.infinity else set()
    others |= {"minus"} if form.sign else set()
    others |= {"zero"} if form.mantissa_bits else set()
    others |= {"minus zero"} if form.negative_zero and form.sign else set()
    others |= {"imaginary"} if name in COMPLEX else set()
    least = form.magnitude(1) if form.mantissa_bits else form.magnitude(0)
    return form.magnitude(form.max_code), least, Fraction(1, 1 << form.mantissa_bits), others


def is_exact(source: str, target: str) -> bool:
    """Whether every value of one dtype is a value of the other, by the values that decide."""
    large, least, unit, others = values_of(source)
    t_large, t_least, _, t_others = values_of(target)
    if source in INTEGERS and target not in INTEGERS:
        if target == "bool" or not {"zero"} <= t_others or (INTEGERS[source][0] and "minus" not in t_others):
            return False
        component = COMPLEX.get(target, target)
        edges = (*INTEGERS[source], INTEGERS[source][1] - 1)
        return all(oracle.encode(v, component)[1] == 0 for v in edges)
    if target in ("bool", *INTEGERS):
        return others <= t_others and large <= t_large and source not in FLOATS
    if not others <= t_others or large > t_large or least < t_least:
        return False
    component = COMPLEX.get(target, target)
    return all(oracle.encode(float(v), component)[1] == 0 for v in (large, least, 1 + unit, least + least))


@pytest.mark.parametrize("source", CASTABLE)
def test_levels_of_the_other_dtypes(source):
    kinds = {"bool": 0, **{n: 2 - n.startswith("u") for n in INTEGERS}, **dict.fromkeys(FLOATS, 3)}
    kinds |= dict.fromkeys(COMPLEX, 4)
    x = torch.zeros(2, dtype=torch.complex32) if source == "complex32" else np.zeros(2, numpy_dtype(source))
    for target in CASTABLE:
        if source in NUMPY_NATIVE and target in NUMPY_NATIVE:
            continue
        same = source == target
        exact = same or is_exact(source, target)
        expected = {
            "no": same,
            "equiv": same,
            "safe": exact,
            "same_kind": exact or kinds[source] <= kinds[target],
            "unsafe": True,
            "same_value": True,
        }
        for level, answer in expected.items():
            assert allowed(x, target, level, to="halfway") is answer, (target, level)


def test_byte_order_counts_for_level_no():
    x = np.arange(3, dtype=">f4")
    with pytest.raises(CastError) as caught:
        halfway.to_torch(x, casting="no")
    assert "equiv" in caught.value.hint
    assert halfway.to_torch(x, casting="equiv").tolist() == [0, 1, 2]


# --- refusals leave nothing behind


def in_library(x: np.ndarray[Any, Any], library: str) -> Any:
    if library == "numpy":
        return x
    return torch.from_numpy(x) if library == "torch" else halfway.from_dlpack(x)


def out_arrays(dtype: str) -> Iterator[tuple[str, Any, np.ndarray[Any, Any]]]:
    """Destinations of three elements in every library and layout, with what is behind them."""
    plain = np.full(3, 7, dtype)
    yield "numpy", plain, plain
    strided = np.full(9, 7, dtype)
    yield "numpy", strided[::-3], strided
    swapped = np.full(3, 7, np.dtype(dtype).newbyteorder("S"))
    yield "numpy", swapped, swapped
    tensor = torch.full((3,), 7, dtype=getattr(torch, dtype))
    yield "torch", tensor, tensor.numpy()
    behind = np.full(3, 7, dtype)
    yield "halfway", halfway.from_dlpack(behind), behind


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("float16", {"overflow": "raise"}),
        ("float32", {"casting": "same_value"}),
        ("int16", {"casting": "unsafe", "overflow": "raise"}),
        ("int32", {"casting": "same_value"}),
        ("int32", {}),
        ("int32", {"casting": "safe"}),
    ],
)
def test_out_is_untouched_when_the_cast_fails(dtype, options):
    x = np.array([1.0, 2.0, 1e30])
    for library, out, behind in out_arrays(dtype):
        before = behind.tobytes()
        source = in_library(x, library)
        version = out._version if library == "torch" else 0
        with pytest.raises(CastError):
            halfway.cast(source, dtype, out=out, **options)
        assert behind.tobytes() == before
        assert library != "torch" or out._version == version


def test_out_is_written_when_nothing_is_lost():
    x = np.array([1.0, 2.0, -3.0])
    levels: list[dict[str, Any]] = [{"overflow": "raise"}, {"casting": "same_value"}, {}]
    for options in levels:
        for library, out, _ in out_arrays("float16"):
            source = in_library(x, library)
            assert halfway.cast(source, "float16", out=out, **options) is out
            assert np.asarray(out).tolist() == [1, 2, -3]


def test_index_is_in_the_sources_axes():
    x = np.zeros((3, 4, 5))
    x[2, 1, 3] = 1e300
    x[1, 3, 0] = -1e300
    for view in (x, x[::-1], x.transpose(2, 0, 1), x[:, ::-2, ::2], np.asfortranarray(x)):
        large = np.argwhere(np.abs(view) > 1)
        for out in (None, np.zeros(view.shape, "float32", order="F")):
            if not large.size:
                halfway.cast(view, "float32", overflow="raise", out=out)
                continue
            with pytest.raises(CastError) as caught:
                halfway.cast(view, "float32", overflow="raise", out=out)
            assert caught.value.index == tuple(large[0])
            assert float(caught.value.value or "") == view[tuple(large[0])]


def test_index_of_a_scalar_is_empty():
    with pytest.raises(CastError) as caught:
        halfway.cast(np.float64(1e300), "float32", overflow="raise")
    assert caught.value.index == ()


def test_index_counts_past_blocks_and_threads():
    for position in (0, 511, 512, 513, 99_999, 1_000_000):
        x = np.zeros(1_000_001)
        x[position] = 1e300
        with pytest.raises(CastError) as caught:
            halfway.cast(x, "bfloat16", overflow="raise")
        assert caught.value.index == (position,)
        assert caught.value.report is not None
        assert caught.value.report.count == x.size


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 15, 16, 31, 63, 64, 65, 511, 512, 513, 1023, 4097])
def test_every_length(n):
    x = np.random.default_rng(n).standard_normal(n) * 100
    for target in ("float32", "bfloat16", "float16", "float8_e5m2", "int8"):
        want, flags = oracle.convert(x, "float64", target, "default")
        guard = np.full(n + 2, 1, numpy_dtype(target))
        report = Report()
        halfway.cast(x, unsafe(target), out=guard[1:-1], report=report)
        assert_bits(guard[1:-1], want, x)
        assert guard[0] == guard[-1] == 1
        assert report.to_dict() == oracle.counts(flags)


def test_numpy_dtypes_are_complete():
    assert {np.dtype(n) for n in NUMPY_NATIVE} == {np.dtype(t) for t in "?bhilqBHILQefdFD"}, (
        "NumPy's numeric dtypes apart from longdouble"
    )
    assert set(IN_NUMPY) | {"complex32"} == {row.name for row in halfway.dtypes() if row.castable}
