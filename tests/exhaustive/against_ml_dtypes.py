"""Casts to the 8-bit floats against ml_dtypes, which rounds with another author's code.

Compared are every float32 pattern, and doubles made of them by filling the lower digits. What
differs by intention, and is asserted as it is:

* NaN: ml_dtypes keeps signs and payloads where it can, this library writes one pattern.
* float64: ml_dtypes rounds to float32 first, then once more, and is wrong where that makes a tie.
  Given the float32 that is rounded to odd instead, which never makes one, it rounds correctly.
* float8_e8m0fnu: between 2^-127 and 1.5 * 2^-127 ml_dtypes gives 2^-126, this library the nearest.

There is no saturating cast in ml_dtypes. The library's loops are those that HALFWAY_TIER says.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

import halfway

Array = npt.NDArray[Any]

CANONICAL_NAN = {
    "float8_e3m4": 0x7F,
    "float8_e4m3": 0x7F,
    "float8_e4m3b11fnuz": 0x80,
    "float8_e4m3fn": 0x7F,
    "float8_e4m3fnuz": 0x80,
    "float8_e5m2": 0x7F,
    "float8_e5m2fnuz": 0x80,
    "float8_e8m0fnu": 0xFF,
}
CHUNK = 1 << 20
CHUNKS = (1 << 32) // CHUNK
SHOWN = 8


def wanted(x: Array, name: str) -> Array:
    """The patterns that `x` should be cast to: those of ml_dtypes, but for what this module names."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    with np.errstate(all="ignore"):
        image = x.astype(dtype)
        patterns: Array = image.view(np.uint8)
        if name == "float8_e8m0fnu":
            nearest = (x > 2.0**-127) & (x < 1.5 * 2.0**-127)
            if not (patterns[nearest] == 1).all():
                raise AssertionError("ml_dtypes no longer rounds the lowest e8m0 interval up: compare it as it is")
            patterns[nearest] = 0
    table = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    patterns[np.isnan(table)[patterns]] = CANONICAL_NAN[name]
    return patterns


def rounded_to_odd(x: Array) -> Array:
    """Doubles as float32: towards zero, with the last bit set where that is not exact."""
    with np.errstate(all="ignore"):
        nearest = x.astype(np.float32)
        bits = nearest.view(np.uint32)
        bits -= np.abs(nearest.astype(np.float64)) > np.abs(x)
    exact = (nearest == x) | np.isnan(x)
    bits[~exact] |= 1
    return nearest


def mismatches(x: Array, name: str) -> list[str]:
    """A line for each element that is cast to something else."""
    dtype = np.dtype(getattr(ml_dtypes, name))
    got: Array = halfway.cast(x, halfway.Cast(dtype, casting="unsafe")).view(np.uint8)
    if x.dtype == np.float64:
        with np.errstate(all="ignore"):
            twice = x.astype(np.float32).astype(dtype).view(np.uint8)
            if not np.array_equal(x.astype(dtype).view(np.uint8), twice):
                raise AssertionError("ml_dtypes no longer rounds doubles twice: compare them as they are")
        want = wanted(rounded_to_odd(x), name)
    else:
        want = wanted(x, name)
    if np.array_equal(got, want):
        return []
    bits = x.view(f"u{x.itemsize}")
    return [
        f"{x.dtype} {bits[i]:#x} to {name}: got {got[i]:#x}, wanted {want[i]:#x} by ml_dtypes"
        for i in np.flatnonzero(got != want)
    ]


def chunk_of_floats(chunk: int) -> Array:
    return (np.arange(CHUNK, dtype=np.uint32) + np.uint32(chunk * CHUNK)).view(np.float32)


def chunk_of_doubles(chunk: int, seed: int) -> Array:
    """Every 64th float32 of a chunk as a double with lower digits: random, or one unit off."""
    x = chunk_of_floats(chunk)[::64]
    with np.errstate(all="ignore"):
        bits = x.astype(np.float64).view(np.uint64)
    rng = np.random.default_rng([seed, chunk])
    low = rng.integers(0, 1 << 29, x.size, dtype=np.uint64)
    choice = rng.integers(0, 4, x.size)
    finite = np.isfinite(x)
    bits = np.where(finite & (choice == 0), bits + low, bits)
    bits = np.where(finite & (choice == 1), bits + np.uint64(1), bits)
    below = finite & (choice == 2) & (x != 0)
    return np.where(below, bits - np.uint64(1), bits).view(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", default="1/1", metavar="K/N", help="the K-th of N shares (1/1: everything)")
    parser.add_argument("--seed", type=int, default=0, help="which chunks make a share")
    parser.add_argument("--seconds", type=float, default=0, help="begin no chunk after that (0: no limit)")
    arguments = parser.parse_args()
    share, shares = (int(word) for word in arguments.share.split("/"))
    if not 1 <= share <= shares:
        parser.error(f"there is no share {arguments.share}")

    prefix = f"{os.environ['HALFWAY_TIER']}/" if os.environ.get("HALFWAY_TIER") else ""
    begin = time.monotonic()
    passed = failed = 0
    for position, name in enumerate(CANONICAL_NAN):
        start = time.monotonic()
        order = random.Random(f"{arguments.seed} {name}").sample(range(CHUNKS), CHUNKS)
        picked = order[share - 1 :: shares] or order[:1]
        slot = max(begin + arguments.seconds - start, 0) / (len(CANONICAL_NAN) - position)
        checked = done = 0
        wrong: list[str] = []
        for chunk in picked:
            if arguments.seconds and done and time.monotonic() - start > slot:
                break
            for x in (chunk_of_floats(chunk), chunk_of_doubles(chunk, arguments.seed)):
                wrong += mismatches(x, name)
                checked += x.size
            done += 1
        verdict = "FAIL" if wrong else "ok  "
        failed += bool(wrong)
        passed += not wrong
        title = f"{prefix}ml_dtypes-{name}"
        print(
            f"{verdict} {title:34} {checked:13} checked, {len(wrong)} wrong, {done} of {CHUNKS} chunks, "
            f"{time.monotonic() - start:.1f} s"
        )
        for line in itertools.islice(wrong, SHOWN):
            print(f"     {line}")
        sys.stdout.flush()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
