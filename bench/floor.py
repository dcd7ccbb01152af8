"""The floor: how fast this machine moves the bytes of a cast, without casting (native/floor.cpp).

A variant reads and writes as many bytes as the cast does, each once, in one ascending sweep; with
plain or with non-temporal stores, on one thread or two. Repetitions are made in C, so a call by
ctypes (about a microsecond) is paid once a turn. The second thread exists before the clock starts.
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


def loop_of(source: int, destination: int, read: int, written: int, variant: Variant) -> Loop:
    """A sweep as a contender's loop. The caller keeps the memory alive."""

    def loop(count: int) -> int:
        start = time.perf_counter_ns()
        move(source, destination, read, written, variant, count)
        return time.perf_counter_ns() - start

    return loop
