"""The rows of the cast benchmark: which pairs and sizes, on which data, against whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from bench import floor, harness
from bench.harness import Contender, Effort, Loop

import halfway

Mode = Literal["out", "fresh"]
MODES: tuple[Mode, ...] = ("out", "fresh")
KI, MI = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Pair:
    """A source and a target dtype."""

    source: str
    target: str

    @property
    def name(self) -> str:
        return f"{self.source} -> {self.target}"


def _pairs() -> tuple[Pair, ...]:
    halves = [
        Pair(source, target)
        for target in ("float32", "float16", "bfloat16")
        for source in ("float32", "float64", "float16", "bfloat16", "uint8", "int64")
        if source != target
    ]
    eights = ("float8_e4m3fn", "float8_e5m2")
    return (
        *halves,
        *(Pair("float32", eight) for eight in eights),
        *(Pair(eight, target) for eight in eights for target in ("float32", "bfloat16")),
        Pair("int64", "int32"),
        Pair("int32", "int64"),
        Pair("float32", "float64"),
        Pair("bool", "float32"),
    )


HOT = _pairs()
F32_F16, F32_BF16, F16_BF16 = (
    Pair("float32", "float16"),
    Pair("float32", "bfloat16"),
    Pair("float16", "bfloat16"),
)
F32_E4M3 = Pair("float32", "float8_e4m3fn")
# Those whose time is the memory's: the engine has to come close to the floor.
NEAR_FLOOR = (
    F32_F16,
    Pair("float16", "float32"),
    F32_BF16,
    Pair("bfloat16", "float32"),
    Pair("float64", "float32"),
    Pair("uint8", "float32"),
)

RIVAL_SIZES = (1, 32, KI, 32 * KI, MI, 64 * MI)
FLOOR_SIZE = 256 * KI  # in the caches
LARGE, HUGE = 16 * MI, 64 * MI  # 64 MiB and more are moved
FLAT_SIZES = (16 * KI, 64 * KI, 256 * KI, MI)
CLAIM_SIZE = 4 * MI
SIZES = tuple(sorted({*RIVAL_SIZES, FLOOR_SIZE}))
ONLY_OUT = {  # sizes beyond those of every pair
    16 * KI: (F32_BF16,),
    64 * KI: (F32_BF16,),
    CLAIM_SIZE: (F32_F16, F16_BF16, F32_E4M3),
    LARGE: NEAR_FLOOR,
}
QUICK_LIMIT = 4096  # elements, of a quick run


def size_name(size: int) -> str:
    for unit, name in ((MI, "Mi"), (KI, "Ki")):
        if size >= unit:
            return f"{size // unit} {name}"
    return str(size)


@dataclass(frozen=True)
class Case:
    """A row: a pair, into `out=` or into fresh memory, for so many elements."""

    pair: Pair
    mode: Mode
    size: int
    values: str = ""  # other than the usual ones: a key of VALUES

    @property
    def name(self) -> str:
        of = f" of {self.values}" if self.values else ""
        return f"{self.pair.source}{of} -> {self.pair.target}, {self.mode}, {size_name(self.size)}"


def cases() -> list[Case]:
    """All rows, those of one pair and size together."""
    found = []
    for pair in HOT:
        for size in sorted({*SIZES, *ONLY_OUT}):
            if size in SIZES:
                found += [Case(pair, mode, size) for mode in MODES]
            elif pair in ONLY_OUT[size]:
                found.append(Case(pair, "out", size))
    return found


def value_cases() -> list[Case]:
    """Rows of values that casts may have to take care of. No claim is about them."""
    pairs = {
        "whole numbers": (("float64", "float16"), ("float64", "bfloat16"), ("float64", "float8_e4m3fn")),
        "a few whole numbers": (("float64", "float16"),),
        "numbers and NaN": (
            ("float64", "float32"),
            ("float64", "float16"),
            ("float64", "bfloat16"),
            ("float32", "float16"),
            ("float32", "bfloat16"),
        ),
        "large numbers": (("int64", "float32"), ("int64", "bfloat16")),
        "subnormal numbers": (("float16", "float32"), ("float16", "bfloat16")),
        "tiny numbers": (("float64", "bfloat16"),),
    }
    return [Case(Pair(*pair), "out", MI, values) for values in VALUES for pair in pairs[values]]


# --- data

# A million values each, by what they are.
VALUES: dict[str, Callable[[torch.Generator], torch.Tensor]] = {
    "whole numbers": lambda random: torch.randint(-1000, 1000, (MI,), generator=random).double(),
    "a few whole numbers": lambda random: torch.where(  # one in 64, among others
        torch.rand(MI, generator=random) < 1 / 64, 1.0, torch.randn(MI, generator=random, dtype=torch.float64)
    ),
    "numbers and NaN": lambda random: torch.where(  # one in ten
        torch.rand(MI, generator=random) < 0.1, torch.nan, torch.randn(MI, generator=random, dtype=torch.float64)
    ),
    "large numbers": lambda random: torch.randint(-(1 << 62), 1 << 62, (MI,), generator=random),
    "subnormal numbers": lambda random: torch.randn(MI, generator=random) * 2.0**-16,  # in float16, most of them
    "tiny numbers": lambda random: torch.randn(MI, generator=random, dtype=torch.float64) * 2.0**-128,  # as float32
}


@cache
def _block(dtype: str, values: str = "") -> torch.Tensor:
    """A million values: N(0, 1) as floats, small integers, coin flips, or some of VALUES."""
    random = torch.Generator().manual_seed(2026)
    kind = getattr(torch, dtype)
    if values:
        return VALUES[values](random).to(kind)
    if kind.is_floating_point:
        return torch.randn(MI, generator=random, dtype=torch.float64).to(kind)
    low, high = {"bool": (0, 2), "uint8": (0, 256)}.get(dtype, (-1000, 1000))
    return torch.randint(low, high, (MI,), generator=random).to(kind)


def repeated(block: torch.Tensor, elements: int) -> torch.Tensor:
    """The first elements of `block`, or a whole number of repetitions of it, in memory of their own."""
    if elements <= block.numel():
        return block[:elements].clone()
    made = torch.empty(elements, dtype=block.dtype)
    made.view(torch.uint8).view(-1, block.numel() * block.itemsize).copy_(block.view(torch.uint8))
    return made


@dataclass(frozen=True)
class Data:
    """Source and destination of a row; the NumPy arrays are the tensors' memory."""

    t: torch.Tensor
    o: torch.Tensor

    def names(self, door: str) -> dict[str, Any]:
        """What the statements of a door use; `dtype` is that library's own object."""
        names: dict[str, Any] = {"halfway": halfway, "np": np}
        if door == "torch":
            return {**names, "t": self.t, "o": self.o, "dtype": self.o.dtype}
        b = halfway.to_numpy(self.o)
        return {**names, "a": halfway.to_numpy(self.t), "b": b, "dtype": b.dtype}

    def floor_loops(self) -> dict[str, Loop]:
        source, destination = self.t.data_ptr(), self.o.data_ptr()
        sizes = self.t.nbytes, self.o.nbytes
        return {variant.name: floor.loop_of(source, destination, *sizes, variant) for variant in floor.VARIANTS}


def data_of(pair: Pair, elements: int, values: str = "") -> Data:
    return Data(
        repeated(_block(pair.source, values), elements),
        torch.zeros(elements, dtype=getattr(torch, pair.target)),
    )


# --- contenders

OURS = {
    ("out", "torch"): "halfway.cast(t, dtype, out=o)",
    ("out", "numpy"): "halfway.cast(a, dtype, out=b)",
    ("fresh", "torch"): "halfway.to_torch(t, dtype)",
    ("fresh", "numpy"): "halfway.cast(a, dtype)",
}
RIVALS = {
    ("out", "torch"): ("o.copy_(t)",),
    ("out", "numpy"): ('np.copyto(b, a, casting="unsafe")', "b[...] = a"),
    ("fresh", "torch"): ("t.to(dtype)",),
    ("fresh", "numpy"): ("a.astype(dtype)",),
}
METHODS = {  # torch's own shorthands
    "float16": "t.half()",
    "bfloat16": "t.bfloat16()",
    "float32": "t.float()",
    "float64": "t.double()",
    "int32": "t.int()",
    "int64": "t.long()",
}
DOORS = ("torch", "numpy")
FLOORS = tuple(Contender(variant.name, "floor") for variant in floor.VARIANTS)


def contenders(case: Case) -> list[Contender]:
    found = []
    for door in DOORS:
        found.append(Contender(OURS[case.mode, door], "ours", door=door))
        statements = RIVALS[case.mode, door]
        if (case.mode, door) == ("fresh", "torch") and case.pair.target in METHODS:
            statements = (*statements, METHODS[case.pair.target])
        found += [Contender(statement, "rival", door=door) for statement in statements]
    return [*found, *FLOORS]


# --- one row

THREADED = 32 * KI  # beyond this many elements torch uses its threads, and halfway where enough bytes are moved


def effort_of(elements: int, quick: bool) -> Effort:
    if quick:
        return Effort(round_ns=5_000, rounds=3)
    if elements <= THREADED:
        return Effort(round_ns=200_000, rounds=120)
    if elements <= CLAIM_SIZE:
        return Effort(round_ns=2_000_000, rounds=25, seconds=0.8, least=7, threads=True)
    return Effort(round_ns=0, rounds=15, seconds=2.0, least=5, threads=True)


def measure(case: Case, data: Data, quick: bool) -> dict[str, Any]:
    entrants = contenders(case)
    names = {door: data.names(door) for door in DOORS}
    loops = data.floor_loops()
    for contender in entrants:
        if contender.door:
            loops[contender.statement] = harness.loop_of(contender.statement, names[contender.door])
    elements = data.t.numel()
    staying, times = harness.run(entrants, loops, effort_of(elements, quick))
    overall = harness.compare(staying, times)
    floor_of_row = harness.fastest([c for c in staying if c.role == "floor"], times).statement
    return {
        "name": case.name,
        "source": case.pair.source,
        "target": case.pair.target,
        "mode": case.mode,
        "size": case.size,
        "values": case.values,
        "elements": elements,
        "bytes_read": data.t.nbytes,
        "bytes_written": data.o.nbytes,
        **overall,
        "doors": {door: harness.compare(staying, times, door) for door in DOORS},
        "floor": {"statement": floor_of_row, "share": times.ratio(floor_of_row, overall["ours"]).to_dict()},
        "contenders": harness.listed(entrants, times),
    }
