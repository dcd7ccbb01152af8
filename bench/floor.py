"""The floor: how fast this machine moves the bytes of a cast, without casting (native/floor.cpp).

A variant reads and writes as many bytes as the cast does, each once, in one ascending sweep; with
plain or with non-temporal stores, on one thread or two. Repetitions are made in C, so a call by
ctypes (about a microsecond) is paid once a turn; where two sweeps are needed (see `parts_of`), twice
a repetition. The second thread exists before the clock starts.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.harness import Loop

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = Path(os.environ.get("HALFWAY_FLOOR", ROOT / "build" / "bench" / "floor" / "halfway_floor.so"))


@dataclass(frozen=True)
class Variant:
    """One way to move bytes."""

    non_temporal: bool
    threads: int

    @property
    def name(self) -> str:
        stores = "non-temporal" if self.non_temporal else "plain"
        return f"move, {stores}, {self.threads} thread{'s' if self.threads > 1 else ''}"


LINE = 64  # bytes of a cache line
VARIANTS = tuple(Variant(non_temporal, threads) for threads in (1, 2) for non_temporal in (False, True))


@cache
def library() -> ctypes.CDLL:
    if not LIBRARY.is_file():
        raise SystemExit(f"{LIBRARY} is not there: `make bench` builds it, or tools/cmake_build.sh bench halfway_floor")
    loaded = ctypes.CDLL(str(LIBRARY))
    move = loaded.halfway_floor_move
    move.restype = ctypes.c_int
    move.argtypes = [
        ctypes.c_void_p,  # source
        ctypes.c_void_p,  # destination
        ctypes.c_size_t,  # bytes read
        ctypes.c_size_t,  # bytes written
        ctypes.c_int,  # non-temporal stores
        ctypes.c_int,  # threads
        ctypes.c_size_t,  # repetitions
    ]
    loaded.halfway_floor_isa.restype = ctypes.c_char_p
    return loaded


def isa() -> str:
    """The instruction set that the sweeps use on this machine."""
    name: bytes = library().halfway_floor_isa()
    return name.decode()


def move(source: int, destination: int, read: int, written: int, variant: Variant, repetitions: int = 1) -> None:
    """Read `read` bytes at address `source`, write `written` at `destination`; one is 1, 2, 4 or 8 times the other."""
    status = library().halfway_floor_move(
        source, destination, read, written, variant.non_temporal, variant.threads, repetitions
    )
    if status != 0:
        raise ValueError(f"no sweep reads {read} bytes and writes {written} on {variant.threads} threads")


def parts_of(read: int, written: int) -> list[tuple[int, int]]:
    """What sweeps, one after the other, read and write so that it is as much in all.

    One sweep, where there is one of this proportion. Otherwise two, of the next powers of two below and above it. The
    first ends at a multiple of a cache line on either side, for which less than four lines of the larger count are
    given up.
    """
    larger, smaller = max(read, written), min(read, written)
    if smaller == 0 or larger % smaller == 0 or larger > 8 * smaller:
        return [(read, written)]
    below = 1 << ((larger // smaller).bit_length() - 1)
    units = (larger // below - smaller) // LINE * LINE  # of the smaller count, that go at twice the proportion
    parts = [(2 * below * units, units), (below * (smaller - units), smaller - units)]
    return [(a, b) if read > written else (b, a) for a, b in parts if b]


def loop_of(source: int, destination: int, read: int, written: int, variant: Variant) -> Loop:
    """Sweeps as a contender's loop. The caller keeps the memory alive."""
    parts = parts_of(read, written)
    (first_read, first_written), *rest = parts
    sweeps = [(source, destination, first_read, first_written)]
    sweeps += [(source + first_read, destination + first_written, *part) for part in rest]

    def loop(count: int) -> int:
        # Repeated by itself, a part of what is moved would stay in a smaller cache than all of it.
        rounds, repetitions = (count, 1) if rest else (1, count)
        start = time.perf_counter_ns()
        for _ in range(rounds):
            for sweep in sweeps:
                move(*sweep, variant, repetitions)
        return time.perf_counter_ns() - start

    return loop
