"""Exact reference arithmetic for casts, independent of the library and of every other library.

`encode` and `to_integer` work on one number as a `fractions.Fraction`; `Table` does the same for
whole arrays of doubles by searching the sorted list of a format's values. Both also say what was
lost, as a set of flags.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

import ml_dtypes
import numpy as np

from halfway import Cast

NAN, OVERFLOW, UNDERFLOW, INEXACT, NAN_LOST = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class Format:
    """A binary floating-point format of at most 64 bits."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    max_code: int
    nan_code: int
    infinity: bool = True
    negative_zero: bool = True
    sign: bool = True

    @property
    def bits(self) -> int:
        return self.exponent_bits + self.mantissa_bits + self.sign

    @property
    def min_exponent(self) -> int:
        return 1 - self.bias if self.mantissa_bits else -self.bias

    @property
    def sign_bit(self) -> int:
        return 1 << (self.bits - 1) if self.sign else 0

    def magnitude(self, code: int) -> Fraction:
        """The value of a pattern without sign, as if every pattern were finite."""
        exponent, mantissa = divmod(code, 1 << self.mantissa_bits)
        if not self.mantissa_bits:
            return Fraction(2) ** (exponent - self.bias)
        if exponent == 0:
            return mantissa * Fraction(2) ** (self.min_exponent - self.mantissa_bits)
        return ((1 << self.mantissa_bits) + mantissa) * Fraction(2) ** (exponent - self.bias - self.mantissa_bits)

    def decode(self, pattern: int) -> float:
        """The value of a pattern; every format here is a subset of double."""
        code = pattern & ~self.sign_bit
        negative = bool(pattern & self.sign_bit)
        if code > self.max_code:
            first = self.infinity and code == self.max_code + 1
            value = math.inf if first else math.nan
        elif negative and code == 0 and not self.negative_zero:
            value = math.nan
        else:
            value = float(self.magnitude(code))
        return math.copysign(value, -1.0) if negative else value


FLOATS = {
    "float16": Format(5, 10, 15, 0x7BFF, 0x7FFF),
    "bfloat16": Format(8, 7, 127, 0x7F7F, 0x7FFF),
    "float32": Format(8, 23, 127, 0x7F7FFFFF, 0x7FFFFFFF),
    "float64": Format(11, 52, 1023, 0x7FEFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF),
    "float8_e3m4": Format(3, 4, 3, 0x6F, 0x7F),
    "float8_e4m3": Format(4, 3, 7, 0x77, 0x7F),
    "float8_e4m3b11fnuz": Format(4, 3, 11, 0x7F, 0x80, infinity=False, negative_zero=False),
    "float8_e4m3fn": Format(4, 3, 7, 0x7E, 0x7F, infinity=False),
    "float8_e4m3fnuz": Format(4, 3, 8, 0x7F, 0x80, infinity=False, negative_zero=False),
    "float8_e5m2": Format(5, 2, 15, 0x7B, 0x7F),
    "float8_e5m2fnuz": Format(5, 2, 16, 0x7F, 0x80, infinity=False, negative_zero=False),
    "float8_e8m0fnu": Format(8, 0, 127, 0xFE, 0xFF, infinity=False, sign=False),
}
INTEGERS = {
    f"{prefix}int{bits}": (0, 2**bits - 1) if prefix else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for prefix in ("", "u")
    for bits in (8, 16, 32, 64)
}
REALS = ("bool", *INTEGERS, *FLOATS)
COMPLEX = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}
CASTABLE = (*REALS, *COMPLEX)
NUMPY_REALS = ("bool", *INTEGERS, "float16", "float32", "float64")
NUMPY_NATIVE = (*NUMPY_REALS, "complex64", "complex128")
IN_NUMPY = (*REALS, "complex64", "complex128")


def numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(name if name in NUMPY_NATIVE else getattr(ml_dtypes, name))


def bits_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bit patterns of an array, as unsigned integers of the component's size."""
    array = np.ascontiguousarray(array)
    size = array.dtype.itemsize // (2 if array.dtype.kind == "c" else 1)
    return array.view(f"u{size}")


# --- one number


def encode(value: float | int, name: str, overflow: str = "default") -> tuple[int, int]:
    """The pattern and the flags of a number in a float format."""
    form = FLOATS[name]
    saturate = overflow == "saturate"
    if isinstance(value, float) and math.isnan(value):
        return form.nan_code, NAN
    negative = math.copysign(1.0, value) < 0 if isinstance(value, float) else value < 0
    if not form.sign and (negative or value == 0):
        return form.nan_code, INEXACT
    if isinstance(value, float) and math.isinf(value):
        code, flags = form.max_code + 1, 0 if form.infinity and not saturate else INEXACT
    else:
        exact = abs(Fraction(value))
        code = _round(exact, form)
        rounded = form.magnitude(code)
        if code > form.max_code:
            flags = OVERFLOW
        else:
            flags = INEXACT if rounded != exact else 0
            flags |= UNDERFLOW if rounded == 0 != exact else 0
    if code > form.max_code:
        if not saturate and not form.infinity:
            return form.nan_code, flags
        code = form.max_code if saturate else form.max_code + 1
    if negative and (code or form.negative_zero):
        code |= form.sign_bit
    return code, flags


def _round(exact: Fraction, form: Format) -> int:
    """The code nearest to a magnitude, ties to even, with an exponent that has no upper end."""
    if exact == 0:
        return 0
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if Fraction(2) ** exponent > exact:
        exponent -= 1
    if not form.mantissa_bits:
        up = exact >= Fraction(3, 2) * Fraction(2) ** exponent  # ties go up
        return max(0, exponent + up + form.bias)
    exponent = max(exponent, form.min_exponent)
    units = round(exact / Fraction(2) ** (exponent - form.mantissa_bits))  # half to even
    return ((exponent - form.min_exponent) << form.mantissa_bits) + units


def to_integer(value: float | int, name: str, overflow: str = "default") -> tuple[int, int]:
    """The integer and the flags of a number in an integer dtype, or in bool."""
    if isinstance(value, float) and math.isnan(value):
        return (1 if name == "bool" else 0), NAN | NAN_LOST
    if name == "bool":
        return int(value != 0), 0 if value in (0, 1) else INEXACT
    low, high = INTEGERS[name]
    if isinstance(value, float):
        if math.isinf(value):
            return (high if value > 0 else low), INEXACT
        whole = math.trunc(value)
        if not low <= whole <= high:
            return (high if value > 0 else low), OVERFLOW
        flags = INEXACT if whole != value else 0
        return whole, flags | (UNDERFLOW if whole == 0 != value else 0)
    if low <= value <= high:
        return value, 0
    if overflow == "saturate":
        return (high if value > 0 else low), OVERFLOW
    return (value - low) % (high - low + 1) + low, OVERFLOW


# --- arrays


@dataclass(frozen=True)
class Table:
    """All values of a format of at most 16 bits, sorted."""

    form: Format

    @cached_property
    def decoded(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        patterns = range(1 << (8 if self.form.bits == 8 else 16))
        return np.array([self.form.decode(code) for code in patterns])

    @cached_property
    def ladder(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The finite magnitudes, and the one that would come next."""
        return np.array([float(self.form.magnitude(c)) for c in range(self.form.max_code + 2)])

    @cached_property
    def midpoints(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return (self.ladder[1:] + self.ladder[:-1]) / 2

    def encode(
        self, values: np.ndarray[Any, np.dtype[np.float64]], overflow: str
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        form = self.form
        saturate = overflow == "saturate"
        magnitude = np.abs(values)
        # 1. the two neighbours and the middle between them
        high = np.searchsorted(self.ladder, magnitude).clip(0, len(self.ladder) - 1)
        low = np.maximum(high - 1, 0)
        middle = self.midpoints[low]
        ties_up = (high % 2 == 0) if form.mantissa_bits else np.full(high.shape, True)
        up = (magnitude > middle) | ((magnitude == middle) & ties_up) | (self.ladder[high] <= magnitude)
        code = np.where(up, high, low)
        # 2. what was lost
        with np.errstate(invalid="ignore"):
            is_nan, is_infinite = np.isnan(values), np.isinf(values)
        beyond = code > form.max_code
        changed = self.ladder[code] != magnitude
        flags = np.where(beyond, OVERFLOW, np.where(changed, INEXACT, 0))
        flags |= np.where(changed & (self.ladder[code] == 0), UNDERFLOW, 0)
        flags = np.where(is_infinite, 0 if form.infinity and not saturate else INEXACT, flags)
        # 3. the pattern
        beyond |= is_infinite
        if saturate:
            code = np.where(beyond, form.max_code, code)
        else:
            code = np.where(beyond, form.max_code + 1 if form.infinity else form.nan_code, code)
        becomes_nan = beyond & (not saturate and not form.infinity)
        negative = np.signbit(values) & ~becomes_nan & ((code != 0) | form.negative_zero)
        code = np.where(negative, code | form.sign_bit, code)
        without_image = is_nan
        if not form.sign:
            hopeless = ~is_nan & ((values == 0) | np.signbit(values))
            flags = np.where(hopeless, INEXACT, flags)
            without_image = is_nan | hopeless
        code = np.where(without_image, form.nan_code, code)
        return code, np.where(is_nan, NAN, flags)


@cache
def table(name: str) -> Table:
    return Table(FLOATS[name])


def as_float64(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The exact values of an array of any real dtype but int64 and uint64."""
    if name in FLOATS and FLOATS[name].bits <= 16:
        return table(name).decoded[bits_of(array)]
    with np.errstate(all="ignore"):
        return array.astype(np.float64)


def convert(
    array: np.ndarray[Any, Any], source: str, target: str, overflow: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Patterns and flags of a one-dimensional array of a real dtype, cast to another real dtype."""
    if source in ("int64", "uint64"):
        return _convert_one_by_one(array, target, overflow)
    values = as_float64(array, source)
    with np.errstate(all="ignore"):
        if target in INTEGERS:
            return _to_integers(values, target, overflow, wraps=source in ("bool", *INTEGERS))
        if target == "bool":
            flags = np.where((values == 0) | (values == 1), 0, INEXACT)
            return (values != 0).astype(np.uint8), np.where(np.isnan(values), NAN | NAN_LOST, flags)
        if FLOATS[target].bits <= 16:
            codes, flags = table(target).encode(values, overflow)
            return codes.astype(f"u{FLOATS[target].bits // 8}"), flags
        return _to_wide_floats(values, target, overflow)


def _convert_one_by_one(
    array: np.ndarray[Any, Any], target: str, overflow: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    function = encode if target in FLOATS else to_integer
    pairs = [function(int(value), target, overflow) for value in array]
    size = numpy_dtype(target).itemsize
    patterns = np.array([pattern % (1 << 8 * size) for pattern, _ in pairs], dtype=f"u{size}")
    return patterns, np.array([flags for _, flags in pairs])


def _to_integers(
    values: np.ndarray[Any, np.dtype[np.float64]], target: str, overflow: str, *, wraps: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    low, high = INTEGERS[target]
    whole = np.trunc(values)
    fits = (whole >= float(low)) & (whole < float(high + 1))
    wide = np.uint64 if target == "uint64" else np.int64
    inside = np.where(fits, whole, 0).astype(wide)
    clamped = np.where(np.isnan(values), 0, np.where(values > 0, wide(high), wide(low)))
    result = np.where(fits, inside, clamped).astype(target)
    if wraps and overflow == "default":
        result = values.astype(np.int64).astype(target)
    flags = np.where(whole != values, INEXACT, 0) | np.where((whole == 0) & (values != 0), UNDERFLOW, 0)
    flags = np.where(fits, flags, np.where(np.isinf(values), INEXACT, OVERFLOW))
    return bits_of(result), np.where(np.isnan(values), NAN | NAN_LOST, flags)


def _to_wide_floats(
    values: np.ndarray[Any, np.dtype[np.float64]], target: str, overflow: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """To float32 or float64: NumPy rounds once, and the doubles are exact."""
    form = FLOATS[target]
    rounded = values.astype(target)
    back = rounded.astype(np.float64)
    beyond = np.isinf(rounded) & np.isfinite(values)
    flags = np.where(beyond, OVERFLOW, np.where(back != values, INEXACT, 0))
    flags |= np.where((back == 0) & (values != 0), UNDERFLOW, 0)
    patterns = bits_of(rounded).copy()
    if overflow == "saturate":
        flags = np.where(np.isinf(values), INEXACT, flags)
        patterns[np.isinf(rounded)] = form.max_code
        patterns[np.isinf(rounded) & (values < 0)] |= patterns.dtype.type(form.sign_bit)
    patterns[np.isnan(values)] = form.nan_code
    return patterns, np.where(np.isnan(values), NAN, flags)


def counts(flags: np.ndarray[Any, Any]) -> dict[str, int]:
    """What a Report counts for these elements."""
    return {
        "count": int(flags.size),
        "nan": int(np.count_nonzero(flags & NAN)),
        "overflow": int(np.count_nonzero(flags & OVERFLOW)),
        "underflow": int(np.count_nonzero(flags & UNDERFLOW)),
        "inexact": int(np.count_nonzero(flags & INEXACT)),
    }


# --- numbers worth casting


@cache
def samples(name: str) -> np.ndarray[Any, Any]:
    """All patterns of 8 and 16 bits; of more, those near every boundary, and random ones."""
    dtype = numpy_dtype(name)
    if name == "bool":
        return np.array([False, True])
    if dtype.itemsize <= 2:
        return np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    rng = np.random.default_rng(len(name))
    random = rng.integers(0, 256, 2000 * dtype.itemsize, dtype=np.uint8).view(dtype)
    if name in INTEGERS:
        low, high = INTEGERS[name]
        near = {sign * 2**k + d for k in range(65) for d in range(-3, 4) for sign in (-1, 1)}
        near |= {sign * value for value in _halfway_integers() for sign in (-1, 1)}
        edges = sorted(value for value in near if low <= value <= high)
        shifted = random[:500] >> rng.integers(0, dtype.itemsize * 8, 500).astype(dtype)
        return np.concatenate([np.array(edges, dtype=dtype), shifted, random[:200]])
    powers = np.ldexp(1.0, np.arange(-1080, 1024, 7 if name == "float64" else 3))
    small = np.ldexp(1.0, np.arange(-160, 130))
    whole = np.array([0.0, 0.5, 1.0, 1.5, 2.5, *(2.0**k for k in (7, 8, 15, 16, 31, 32, 63, 64))])
    middles = [table(t).midpoints for t in FLOATS if FLOATS[t].bits == 8]
    middles += [table("float16").midpoints[::97], table("bfloat16").midpoints[::97]]
    with np.errstate(over="ignore"):
        middles.append(np.nextafter(np.float32(1), np.float32(2)) * small)
        values = np.concatenate([powers, small, whole, whole - 1, whole - 0.5, whole + 0.5, *middles])
        values = np.concatenate([values, -values]).astype(dtype)
        near_values = [
            values,
            np.nextafter(values, dtype.type(0)),
            np.nextafter(values, dtype.type(np.inf)),
        ]
    limits = np.array([np.inf, -np.inf, np.nan, -np.nan], dtype=dtype)
    largest = np.array([FLOATS[name].max_code, 1, FLOATS[name].max_code + 2], dtype=f"u{dtype.itemsize}")
    return np.concatenate([*near_values, limits, largest.view(dtype), -largest.view(dtype), random])


def _halfway_integers() -> list[int]:
    """Integers half way between two values of a float format, and their neighbours."""
    found = []
    for name in ("bfloat16", "float16", "float32", "float64", "float8_e5m2", "float8_e8m0fnu"):
        kept = FLOATS[name].mantissa_bits + 1
        for length in (kept + 1, kept + 2, 33, 62, 63, 64):
            if length <= kept:
                continue
            for head in ((1 << kept) - 1, (1 << kept) - 2, 1 << (kept - 1), (1 << (kept - 1)) + 1):
                middle = (head << (length - kept)) + (1 << (length - kept - 1))
                found += [middle - 1, middle, middle + 1]
    return found


def unsafe(target: str, overflow: Any = "default") -> Cast:
    return Cast(target, casting="unsafe", overflow=overflow)


def assert_bits(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> None:
    patterns = bits_of(got)
    wrong = np.flatnonzero(patterns != want)
    assert wrong.size == 0, [(x[i], hex(patterns[i]), hex(want[i])) for i in wrong[:5]]
