"""The closing table: exchanges timed against what the libraries offer themselves."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import halfway

from .page import Page

# Short measurements and many of them: on a busy machine most are then undisturbed.
_ROUNDS = 25
_SECONDS_A_MEASUREMENT = 0.001


class Way(NamedTuple):
    """One way to do what is asked."""

    name: str
    function: Callable[[], object]
    one_thread: bool = False
    """Whether torch is to use one thread only."""


def _groups(torch: Any) -> list[tuple[str, list[Way]]]:
    """What is asked, and the ways to do it, halfway's last."""
    ml_dtypes = importlib.import_module("ml_dtypes")
    array = np.zeros((64, 64), np.float32)
    tensor = torch.zeros(64, 64)
    array16 = np.zeros((64, 64), ml_dtypes.bfloat16)
    tensor16 = torch.zeros(64, 64, dtype=torch.bfloat16)
    wide = np.random.default_rng(0).normal(size=(1797, 64))
    groups = [
        (
            "NumPy -> torch, float32 (64, 64)",
            [
                Way("torch.tensor(a), a copy", lambda: torch.tensor(array)),
                Way("torch.from_dlpack(a)", lambda: torch.from_dlpack(array)),
                Way("torch.from_numpy(a)", lambda: torch.from_numpy(array)),
                Way("halfway.to_torch(a)", lambda: halfway.to_torch(array)),
            ],
        ),
        (
            "torch -> NumPy, float32 (64, 64)",
            [
                Way("np.from_dlpack(t)", lambda: np.from_dlpack(tensor)),
                Way("t.numpy()", tensor.numpy),
                Way("halfway.to_numpy(t)", lambda: halfway.to_numpy(tensor)),
            ],
        ),
        (
            "NumPy -> torch, bfloat16 (64, 64)",
            [
                Way(
                    "torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)",
                    lambda: torch.from_numpy(array16.view(np.int16)).view(torch.bfloat16),
                ),
                Way("halfway.to_torch(a)", lambda: halfway.to_torch(array16)),
            ],
        ),
        (
            "torch -> NumPy, bfloat16 (64, 64)",
            [
                Way(
                    "t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)",
                    lambda: tensor16.view(torch.int16).numpy().view(ml_dtypes.bfloat16),
                ),
                Way("halfway.to_numpy(t)", lambda: halfway.to_numpy(tensor16)),
            ],
        ),
    ]
    for name in ("float32", "bfloat16"):
        ways = _casts(torch, wide, name)
        groups.append((f"float64 -> {name} (1797, 64)", ways))
    return groups


def _casts(torch: Any, wide: Any, name: str) -> list[Way]:
    dtype = getattr(torch, name)

    def by_torch() -> Any:
        return torch.from_numpy(wide).to(dtype)

    ways = [Way(f"torch.tensor(a, dtype=torch.{name})", lambda: torch.tensor(wide, dtype=dtype))]
    if torch.get_num_threads() > 1:
        ways.append(Way(f"torch.from_numpy(a).to(torch.{name})", by_torch))
    ways.append(Way(f"torch.from_numpy(a).to(torch.{name}), 1 thread", by_torch, one_thread=True))
    ways.append(Way(f'halfway.to_torch(a, "{name}")', lambda: halfway.to_torch(wide, name)))
    return ways


@contextmanager
def _threads_of(torch: Any, way: Way) -> Iterator[None]:
    before = torch.get_num_threads()
    if way.one_thread:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def _calls(function: Callable[[], object]) -> int:
    """Calls that fill a measurement. First uses look things up, so the quickest of some counts."""
    quickest = min(_seconds(function, 3) for _ in range(5))
    return max(1, int(_SECONDS_A_MEASUREMENT / max(quickest, 1e-9)))


def _medians(torch: Any, ways: list[Way]) -> list[float]:
    """Seconds a call of each, the ways taking turns so that a busy machine disturbs all alike."""
    calls = [_calls(way.function) for way in ways]
    samples: list[list[float]] = [[] for _ in ways]
    for _ in range(_ROUNDS):
        for sample, way, count in zip(samples, ways, calls, strict=True):
            with _threads_of(torch, way):
                sample.append(_seconds(way.function, count))
    return [median(sample) for sample in samples]


def show(page: Page, times: bool) -> None:
    """Measure and print."""
    torch = importlib.import_module("torch")
    threads = torch.get_num_threads()
    page.text(
        f"""Medians of {_ROUNDS} rounds in which the ways take turns, on this machine, now; another
        machine gives other figures. torch converts with {threads} thread{"s" * (threads > 1)},
        halfway with one. The last column is a time divided by halfway's."""
    )
    busy = os.getloadavg()[0]
    if busy > (os.cpu_count() or 1) + 0.5:
        page.text(
            f"""This machine is busy (load {busy:.1f} on {os.cpu_count()} processors), which
            disturbs the times, those of several threads most."""
        )
    page.line()
    rows: list[tuple[str, str, str]] = []
    for asked, ways in _groups(torch):
        medians = _medians(torch, ways)
        rows.append((asked, "", ""))
        rows += [
            (f"  {way.name}", f"{seconds * 1e9:,.0f}", f"{seconds / medians[-1]:.2f}")
            for way, seconds in zip(ways, medians, strict=True)
        ]
    page.table(("", "ns a call", "of halfway's"), rows)
