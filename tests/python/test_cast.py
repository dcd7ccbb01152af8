"""Casts against exact arithmetic, and against NumPy and ml_dtypes where the rules agree."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tests.python import oracle
from tests.python.oracle import (
    CASTABLE,
    COMPLEX,
    FLOATS,
    INTEGERS,
    NUMPY_REALS,
    REALS,
    assert_bits,
    bits_of,
    numpy_dtype,
    samples,
    unsafe,
)

import halfway
from halfway import Cast, CastError, Report

# torch says so once a process, whichever test comes first
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

LEVELS = ("no", "equiv", "safe", "same_kind", "unsafe")
PAIRS = [(s, t) for s in REALS for t in REALS if s != t]
NARROW = [name for name in FLOATS if FLOATS[name].bits <= 16]


def first_loss(flags: np.ndarray[Any, Any], mask: int) -> int | None:
    lost = np.flatnonzero(flags & mask)
    return int(lost[0]) if lost.size else None


# --- the reference itself: two independent ways to the same answer


@pytest.mark.parametrize("target", NARROW)
def test_the_two_references_agree(target):
    rng = np.random.default_rng(7)
    values = rng.choice(oracle.as_float64(samples("float64"), "float64"), 300)
    values = np.concatenate([values, rng.choice(oracle.table(target).midpoints, 100)])
    for overflow in ("default", "saturate"):
        codes, flags = oracle.table(target).encode(values, overflow)
        pairs = [oracle.encode(float(v), target, overflow) for v in values]
        assert list(zip(codes, flags, strict=True)) == pairs


@pytest.mark.parametrize("name", NARROW)
def test_reference_decodes_as_ml_dtypes(name):
    x = samples(name)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(oracle.as_float64(x, name), x.astype(np.float64))


# --- values and counts, all pairs


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_values_and_counts(source, target):
    x = samples(source)
    for overflow in ("default", "saturate"):
        report = Report()
        got = halfway.cast(x, unsafe(target, overflow), report=report)
        want, flags = oracle.convert(x, source, target, overflow)
        assert got.dtype == numpy_dtype(target)
        assert_bits(got, want, x)
        assert report.to_dict() == oracle.counts(flags)
        assert_bits(halfway.cast(x, unsafe(target, overflow)), want, x)  # without counting, other loops


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_raise_and_same_value_find_the_first_loss(source, target):
    x = samples(source)
    plain, flags = oracle.convert(x, source, target, "default")
    changed = oracle.OVERFLOW | oracle.INEXACT | oracle.NAN_LOST
    cases: list[tuple[dict[str, Any], int]] = [
        ({"casting": "unsafe", "overflow": "raise"}, oracle.OVERFLOW),
        ({"casting": "same_value"}, changed),
    ]
    for options, mask in cases:
        recipe = Cast(target, **options)
        report = Report()
        index = first_loss(flags, mask)
        if index is not None:
            with pytest.raises(CastError) as caught:
                halfway.cast(x, recipe, report=report)
            error = caught.value
            assert error.index == (index,)
            assert error.report is not None
            assert error.report.to_dict() == report.to_dict() == oracle.counts(flags)
            assert_is_text_of(error.value, x[index], source)
            assert f"{np.count_nonzero(flags & mask)} of {x.size}" in str(error)
        survivors = x[flags & mask == 0]
        assert_bits(halfway.cast(survivors, recipe), plain[flags & mask == 0], survivors)


def assert_is_text_of(text: str | None, value: Any, name: str) -> None:
    assert text is not None
    if name == "bool":
        assert text == str(bool(value))
    elif name in INTEGERS:
        assert int(text) == int(value)
    else:
        with np.errstate(all="ignore"):
            number = float(value)
            back = np.array([float(text)]).astype(numpy_dtype(name))[0]
        assert (math.isnan(number) and text == "nan") or float(back) == number


@pytest.mark.parametrize("source", REALS)
def test_same_dtype_copies_bits_and_counts_nan(source):
    x = samples(source)
    report = Report()
    got = halfway.cast(x, source, copy=True, report=report)
    assert got is not x
    assert_bits(got, bits_of(x), x)
    values = x if source in INTEGERS else oracle.as_float64(x, source)
    assert report.to_dict() == {**dict.fromkeys(report.to_dict(), 0), "count": x.size} | {
        "nan": int(np.count_nonzero(np.isnan(values)))
    }


CANONICAL_NAN = {name: FLOATS[name].nan_code for name in FLOATS}


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", FLOATS)
def test_every_nan_becomes_the_canonical_one(source, target):
    if source == target:
        return
    form = FLOATS[source]
    unsigned = np.dtype(f"u{form.bits // 8}")
    patterns = {form.nan_code}
    if form.sign:
        for code in (form.max_code + 1 + form.infinity, form.sign_bit - 1):
            if form.negative_zero:
                patterns |= {code, code | form.sign_bit}
    x = np.array(sorted(patterns), dtype=unsigned).view(numpy_dtype(source))
    x = x[np.isnan(oracle.as_float64(x, source))]
    assert x.size
    for overflow in ("default", "saturate", "raise"):
        got = bits_of(halfway.cast(x, unsafe(target, overflow)))
        assert set(got.tolist()) == {CANONICAL_NAN[target]}


# --- one rounding


@pytest.mark.parametrize("target", NARROW)
def test_every_midpoint_and_its_neighbours(target):
    middles = oracle.table(target).midpoints
    x = np.concatenate([middles, np.nextafter(middles, 0), np.nextafter(middles, np.inf)])
    x = np.concatenate([x, -x])
    want, flags = oracle.table(target).encode(x, "default")
    report = Report()
    got = halfway.cast(x, unsafe(target), report=report)
    assert_bits(got, want.astype(bits_of(got).dtype), x)
    assert report.to_dict() == oracle.counts(flags)


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", ["int64", "uint64", "float64"])
def test_rounding_against_fractions(source, target):
    rng = np.random.default_rng(11)
    form = FLOATS[target]
    numbers: list[int | float] = []
    for _ in range(400):
        code = int(rng.integers(0, form.max_code, dtype=np.uint64))
        middle = (form.magnitude(code) + form.magnitude(code + 1)) / 2
        if source == "float64":
            if form.bits == 64:
                continue
            numbers += [
                float(middle),
                math.nextafter(float(middle), 0),
                math.nextafter(float(middle), math.inf),
            ]
        else:
            bits = int(rng.integers(form.mantissa_bits + 2, 64))
            head = int(rng.integers(1 << form.mantissa_bits, 2 << form.mantissa_bits, dtype=np.uint64))
            tie = ((2 * head + 1) << (bits - form.mantissa_bits - 2)) if bits > form.mantissa_bits + 1 else head
            numbers += [tie - 1, tie, tie + 1]
    if source == "int64":
        numbers = [n for n in numbers if abs(n) < 2**63]
    if source != "uint64":
        numbers += [-n for n in numbers]
    x = np.array(numbers, dtype=source)
    report = Report()
    got = bits_of(halfway.cast(x, unsafe(target), report=report))
    pairs = [oracle.encode(n, target) for n in x.tolist()]
    wrong = [(n, hex(g), hex(w)) for n, g, (w, _) in zip(x.tolist(), got, pairs, strict=True) if g != w]
    assert not wrong, wrong[:5]
    assert report.to_dict() == oracle.counts(np.array([flags for _, flags in pairs], dtype=int))


def test_no_detour_through_float32():
    # 1 + 2^-8 + 2^-40: float32 drops the last term, which leaves a tie that rounds down.
    assert bits_of(halfway.cast(np.array([1 + 2**-8 + 2**-40]), "bfloat16"))[0] == 0x3F81
    # 2^31 + 2^23 + 1 into bfloat16: the same tie, made of integers
    x = np.array([2**31 + 2**23 + 1, 2**31 + 2**23], dtype=np.int64)
    assert bits_of(halfway.cast(x, "bfloat16")).tolist() == [0x4F01, 0x4F00]
    # 2^63 + 1025 into float64 is just above a tie
    y = np.array([2**63 + 1024, 2**63 + 1025], dtype=np.uint64)
    assert [int(v) for v in halfway.cast(y, "float64")] == [2**63, 2**63 + 2048]


# --- differential, where the rules agree


@contextmanager
def quiet() -> Iterator[None]:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def assert_same_apart_from_nan(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], target: str) -> None:
    assert got.dtype == want.dtype
    nan = np.isnan(got)
    assert np.array_equal(nan, np.isnan(want))
    assert np.array_equal(bits_of(got)[~nan], bits_of(want)[~nan])
    assert set(bits_of(got)[nan].tolist()) <= {FLOATS[target].nan_code}


@pytest.mark.parametrize("target", ["float16", "float32", "float64"])
@pytest.mark.parametrize("source", NUMPY_REALS)
def test_floats_agree_with_numpy(source, target):
    if source == target:
        return
    x = samples(source)
    with quiet():
        want = x.astype(target)
    assert_same_apart_from_nan(halfway.cast(x, unsafe(target)), want, target)


@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["bool", *INTEGERS])
def test_integers_wrap_as_in_numpy(source, target):
    x = samples(source)
    np.testing.assert_array_equal(halfway.cast(x, unsafe(target)), x.astype(target))


@pytest.mark.parametrize("target", [name for name in NARROW if name != "float16"])
def test_float32_to_narrow_floats_agrees_with_ml_dtypes(target):
    x = samples("float32")
    if target == "float8_e8m0fnu":
        x = x[x >= 2.0**-126]  # for what is smaller, ml_dtypes 0.5 takes the exponent after halving
    with quiet():
        want = x.astype(numpy_dtype(target))
    assert_same_apart_from_nan(halfway.cast(x, unsafe(target)), want, target)


@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["float16", "float32", "float64", "bfloat16"])
def test_floats_in_range_truncate_as_in_numpy(source, target):
    x = samples(source)
    values = oracle.as_float64(x, source)
    low, high = INTEGERS[target]
    with quiet():
        inside = (np.trunc(values) >= float(low)) & (np.trunc(values) < float(high + 1))
        x = x[inside]
        np.testing.assert_array_equal(halfway.cast(x, unsafe(target)), x.astype(target))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_agrees_with_torch(dtype):
    x = samples("float32")
    ours = halfway.to_torch(x, dtype)
    theirs = torch.from_numpy(x).to(dtype)
    nan = torch.isnan(theirs)
    assert torch.equal(torch.isnan(ours), nan)
    assert torch.equal(ours[~nan].view(torch.int16), theirs[~nan].view(torch.int16))


# --- where the rules differ on purpose


def test_floats_out_of_range_saturate_into_integers():
    x = np.array([np.inf, -np.inf, np.nan, 3e9, -3e9, 1e30, -1e30, 2.0**63, 255.999, -0.999])
    assert halfway.cast(x, unsafe("int32")).tolist() == [
        2147483647,
        -2147483648,
        0,
        2147483647,
        -2147483648,
        2147483647,
        -2147483648,
        2147483647,
        255,
        0,
    ]
    assert halfway.cast(x, unsafe("uint8")).tolist() == [255, 0, 0, 255, 0, 255, 0, 255, 255, 0]
    assert halfway.cast(x, unsafe("int64"))[7] == 2**63 - 1
    assert halfway.cast(x, unsafe("uint64")).tolist()[:6] == [
        2**64 - 1,
        0,
        0,
        3 * 10**9,
        0,
        2**64 - 1,
    ]


def test_fp8_without_infinity_overflows_to_nan_unless_asked():
    x = np.array([464.0, 464.00001, 1e9, np.inf, -np.inf, np.nan])
    by_format = bits_of(halfway.cast(x, unsafe("float8_e4m3fn"))).tolist()
    assert by_format == [0x7E, 0x7F, 0x7F, 0x7F, 0x7F, 0x7F]
    saturated = bits_of(halfway.cast(x, unsafe("float8_e4m3fn", "saturate"))).tolist()
    assert saturated == [0x7E, 0x7E, 0x7E, 0x7E, 0xFE, 0x7F]


def test_e8m0_rules():
    x = np.array(
        [
            0.0,
            -0.0,
            -1.0,
            2.0**-127,
            2.0**-128,
            5e-324,
            1.5,
            1.4999,
            2.0**127,
            1.5 * 2.0**127,
            np.inf,
        ]
    )
    for overflow, last in (("default", 0xFF), ("saturate", 0xFE)):
        got = bits_of(halfway.cast(x, unsafe("float8_e8m0fnu", overflow))).tolist()
        assert got == [0xFF, 0xFF, 0xFF, 0, 0, 0, 128, 127, 254, last, last]


@pytest.mark.parametrize("target", FLOATS)
def test_signed_zero(target):
    form = FLOATS[target]
    if not form.sign or target == "float64":
        return
    got = bits_of(halfway.cast(np.array([0.0, -0.0, -5e-324]), unsafe(target))).tolist()
    minus = form.sign_bit if form.negative_zero else 0
    assert got == [0, minus, minus]


def test_bool():
    x = np.array([0.0, -0.0, 0.1, -3.0, np.nan, np.inf, 5e-324])
    assert halfway.cast(x, unsafe("bool")).tolist() == [False, False, True, True, True, True, True]
    assert halfway.cast(np.array([False, True]), "bfloat16").astype(float).tolist() == [0.0, 1.0]


def test_bool_bytes_other_than_0_and_1_are_true():
    x = np.arange(256, dtype=np.uint8).view(np.bool_)
    got = halfway.cast(x, "int32")
    assert got.tolist() == [0] + [1] * 255
    assert bits_of(halfway.cast(x, "float64")).tolist() == [0] + [0x3FF0000000000000] * 255


@pytest.mark.parametrize("flush", [True, False])
def test_subnormals_survive_whatever_mode_the_thread_is_in(flush):
    x64 = samples("float64")
    x32 = samples("float32")
    want = {t: oracle.convert(x64, "float64", t, "default") for t in ("float32", "bfloat16", "float16", "bool")}
    tiny = {t: oracle.convert(x32, "float32", t, "default") for t in ("float64", "bfloat16", "int8")}
    if not torch.set_flush_denormal(flush):
        pytest.fail("this processor cannot flush subnormals, so the test says nothing")
    try:
        for x, expected in ((x64, want), (x32, tiny)):
            for target, (bits, flags) in expected.items():
                report = Report()
                assert_bits(halfway.cast(x, unsafe(target), report=report), bits, x)
                assert report.to_dict() == oracle.counts(flags)
        least = torch.tensor([2.0**-149])
        assert (least * 1.0 == 0).item() is flush  # the mode is the caller's again
    finally:
        torch.set_flush_denormal(False)


# --- complex numbers


def complex_samples(name: str) -> torch.Tensor:
    """Pairs of components of every kind, as a torch tensor (which knows complex32)."""
    component = COMPLEX[name]
    rng = np.random.default_rng(5)
    parts = rng.choice(samples(component), 6000).astype(component)
    parts[:40] = [0, -0.0] * 20  # zero imaginary parts too
    parts[40:80] = [np.inf, -np.inf, 1, np.nan] * 10
    parts[1:400:2] = 0
    dtype = getattr(torch, component)
    return torch.view_as_complex(torch.tensor(parts, dtype=dtype).reshape(-1, 2))


def components(x: torch.Tensor) -> np.ndarray[Any, Any]:
    return torch.view_as_real(x).contiguous().numpy()


@pytest.mark.parametrize("target", CASTABLE)
@pytest.mark.parametrize("source", COMPLEX)
def test_complex_sources(source, target):
    if source == target:
        return
    x = complex_samples(source)
    parts = components(x)
    real, imaginary = np.ascontiguousarray(parts[:, 0]), np.ascontiguousarray(parts[:, 1])
    own = COMPLEX[source]
    for overflow in ("default", "saturate"):
        report = Report()
        if target in COMPLEX:
            got = components(halfway.to_torch(x, unsafe(target, overflow), report=report)).reshape(-1)
            component = COMPLEX[target]
            if component == own:
                want, flags = bits_of(parts.reshape(-1)), np.zeros(parts.size, int)
            else:
                want, flags = oracle.convert(parts.reshape(-1), own, component, overflow)
            flags = flags.reshape(-1, 2)[:, 0] | flags.reshape(-1, 2)[:, 1]
        else:
            got = halfway.to_numpy(x, unsafe(target, overflow), report=report)
            if target == own:
                want = bits_of(real).copy()
                want[np.isnan(real)] = FLOATS[own].nan_code
                flags = np.where(np.isnan(real), oracle.NAN, 0)
                if overflow == "saturate":  # the dtype changes, so this is a cast: infinities are clamped
                    infinite = np.isinf(real)
                    flags[infinite] = oracle.INEXACT
                    want[infinite] -= want.dtype.type(1)
            else:
                want, flags = oracle.convert(real, own, target, overflow)
            if target == "bool":
                want = ((real != 0) | (imaginary != 0)).astype(np.uint8)
            flags = flags | np.where(np.isnan(imaginary), oracle.NAN, np.where(imaginary != 0, oracle.INEXACT, 0))
        assert_bits(got, want, parts.reshape(-1) if target in COMPLEX else real)
        assert report.to_dict() == oracle.counts(flags)


@pytest.mark.parametrize("target", COMPLEX)
@pytest.mark.parametrize("source", REALS)
def test_real_to_complex(source, target):
    x = samples(source)
    component = COMPLEX[target]
    report = Report()
    got = halfway.to_torch(x, unsafe(target), report=report)
    parts = components(got)
    if source == component:
        want = bits_of(x).copy()
        nan = np.isnan(x)
        want[nan] = FLOATS[source].nan_code
        flags = np.where(nan, oracle.NAN, 0)
    else:
        want, flags = oracle.convert(x, source, component, "default")
    assert_bits(np.ascontiguousarray(parts[:, 0]), want, x)
    assert not bits_of(parts[:, 1]).any()
    assert report.to_dict() == oracle.counts(flags)


def test_complex_to_real_needs_permission():
    x = np.array([1 + 2j, 3 + 0j])
    with pytest.raises(CastError) as caught:
        halfway.cast(x, "float64")
    assert caught.value.report is None
    assert caught.value.index is None
    assert caught.value.value is None
    assert "unsafe" in caught.value.hint
    assert halfway.cast(x, "float64", casting="unsafe").tolist() == [1.0, 3.0]
    with pytest.raises(CastError) as caught:
        halfway.cast(x, "float64", casting="same_value")
    assert caught.value.index == (0,)
    assert caught.value.value is not None
    assert complex(caught.value.value) == 1 + 2j
    assert halfway.cast(x[1:], "float32", casting="same_value").tolist() == [3.0]
    lost = np.array([complex(0, math.nan)])
    with pytest.raises(CastError):
        halfway.cast(lost, "float32", casting="same_value")
