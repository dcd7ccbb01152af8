"""The experiments behind the constants of the transfer engine: what ships, and what is best here.

    python bench/transfer.py --tune

An experiment runs one statement with one constant at several values, in turns. Recommended is the first value, in the
order given (the cheapest first), whose median is within `WITHIN` of the best. Constants are changed for the engine of
this process alone (`halfway._core._tune_engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from bench import gpu, harness
from bench.cast_rows import Pair
from bench.harness import Effort, Loop, Times
from bench.transfer_rows import F32_BF16, F64_BF16, KI, MI, OURS, U8_BF16, Buffers, Memory, itemsize, synchronised

import halfway
from halfway import _core

WITHIN = 1.02
LARGE = 256 * MI  # bytes of the source

Setting = Mapping[str, float]


@dataclass(frozen=True)
class Experiment:
    """One question. A setting's `threads` are halfway's, all else are constants of the engine."""

    name: str
    where: str  # the number that it decides
    settings: tuple[Setting, ...]
    shipped: Setting
    memory: Memory = "pageable"
    size: int = LARGE
    pair: Pair = F32_BF16


NEVER, ALWAYS = 0, 1 << 40  # bytes up to which a transfer counts as small
HOST_CASTS = {"host_cast": 1e15, "host_memory": 1e15}
DEVICE_CASTS = {"host_cast": 1e6, "host_memory": 1e6}
STAGING = "cuda/src/staging.h, StagingSizes; runtime/include/halfway/plan.h, Machine::chunk"
SMALL_SIZES = (KI, 4 * KI, 16 * KI, 32 * KI, 64 * KI, 256 * KI, MI)


def thread_counts() -> list[int]:
    """Powers of two up to what there is, and that."""
    most = halfway.num_threads()
    return sorted({1 << power for power in range(most.bit_length()) if 1 << power <= most} | {most})


def experiments() -> tuple[Experiment, ...]:
    ring = tuple(
        {"chunk": chunk, "slots": slots}
        for slots in (2, 3, 4, 6, 8)
        for chunk in (512 * KI, MI, 2 * MI, 4 * MI, 8 * MI, 16 * MI)
    )
    pieces = tuple({"piece": size * KI} for size in (96, 192, 384, 768))
    staged, read = {"small": ALWAYS}, {"small": NEVER, "small_pinned": ALWAYS}
    shipped = {"small": NEVER, "small_pinned": NEVER}
    small = [
        Experiment(
            f"pageable and small: asked about or not, {size >> 10} KiB",
            "runtime/include/halfway/plan.h, Machine::small",
            (staged, {"small": NEVER}),
            staged if size <= 32 * KI else {"small": NEVER},
            size=size,
        )
        for size in SMALL_SIZES
    ] + [
        Experiment(
            f"pinned and small: cast on the host, read by a kernel, or shipped and cast, {size >> 10} KiB",
            "runtime/include/halfway/plan.h, Machine::small and small_pinned",
            (staged, read, shipped),
            staged if size <= 32 * KI else read,
            "pinned",
            size,
        )
        for size in (*SMALL_SIZES, 4 * MI, 16 * MI)
    ]
    slots = [
        Experiment(
            f"pageable and widened: read out of the slots by kernels, or shipped and cast, {size >> 20} MiB",
            "runtime/include/halfway/plan.h, Machine::small_pinned",
            (read, shipped),
            read if size <= 16 * MI else shipped,
            size=size,
            pair=U8_BF16,
        )
        for size in (MI, 4 * MI, 16 * MI, 64 * MI)
    ]
    ways = (read, {**shipped, **DEVICE_CASTS}, {**shipped, **HOST_CASTS})
    quarters = [
        Experiment(
            f"pinned float64 as bfloat16: read by a kernel, or cast on the host, {size >> 10} KiB",
            "runtime/src/plan_transfer.cpp, the route of pinned sources",
            (read, ways[2]),
            read if size <= 4 * MI else ways[2],
            "pinned",
            size,
            F64_BF16,
        )
        for size in (256 * KI, MI, 4 * MI, 16 * MI)
    ]
    firsts = [
        Experiment(
            f"the first chunk through slots, {size >> 20} MiB",
            "runtime/include/halfway/plan.h, Machine::first_chunk",
            tuple({"first_chunk": first} for first in (64 * KI, 128 * KI, 256 * KI, 512 * KI, MI, ALWAYS)),
            {"first_chunk": 256 * KI},
            size=size,
        )
        for size in (2 * MI, 16 * MI, LARGE)
    ]
    return (
        Experiment("chunk and slots of the ring", STAGING, ring, {"chunk": 8 * MI, "slots": 4}),
        Experiment("bytes of a thread's piece", "cuda/src/staging.h, StagingSizes::piece", pieces, {"piece": 96 * KI}),
        Experiment(
            "chunks of device memory between the copy engine and the kernel",
            "cuda/src/staging.h, StagingSizes::scratch",
            tuple({"scratch": count, **DEVICE_CASTS} for count in (1, 2, 3, 4)),
            {"scratch": 2, **DEVICE_CASTS},
            "pinned",
        ),
        Experiment(
            "pinned and wide: mapped reads, ship and cast, or cast on the host",
            "runtime/src/plan_transfer.cpp, the route of pinned sources",
            ways,
            ways[1],
            "pinned",
        ),
        *small,
        *slots,
        *quarters,
        *firsts,
        Experiment(
            "threads that cast",
            "runtime/include/halfway/parallel.h, num_threads()",
            tuple({"threads": count} for count in thread_counts()),
            {"threads": halfway.num_threads()},
        ),
    )


@dataclass
class Tuned:
    """The engine and the threads of this process as a setting says, until the next one or the end."""

    active: Setting | None = None
    threads: int = field(default_factory=halfway.num_threads)

    def use(self, setting: Setting) -> None:
        if setting == self.active:
            return
        constants = {name: value for name, value in setting.items() if name != "threads"}
        _core._tune_engine(constants or None)
        halfway.set_num_threads(int(setting.get("threads", self.threads)))
        self.active = setting

    def __enter__(self) -> Tuned:
        return self

    def __exit__(self, *error: object) -> None:
        _core._tune_engine(None)
        halfway.set_num_threads(self.threads)


def label(setting: Setting) -> str:
    """`chunk=1048576, slots=4`; without the figures that only force a route."""
    words = {NEVER: "never", ALWAYS: "always"}
    forced = "host casts" if setting.get("host_cast", 0) > 1e12 else "device casts" if "host_cast" in setting else ""
    parts = [
        f"{name}={words.get(int(value), f'{value:g}') if name == 'small' else int(value)}"
        for name, value in setting.items()
        if not name.startswith("host_")
    ]
    return ", ".join([*parts, *filter(None, [forced])])


def recommended(settings: tuple[Setting, ...], times: Times) -> Setting:
    medians = {label(setting): times.spread(label(setting)).median for setting in settings}
    limit = WITHIN * min(medians.values())
    return next(setting for setting in settings if medians[label(setting)] <= limit)


def measure(
    experiment: Experiment, buffers: Buffers, device: gpu.Device, seconds: float, quick: bool
) -> dict[str, Any]:
    """One experiment as a row: every setting's time, the best, the recommended, and what ships."""
    source = experiment.pair.source
    elements = max(min(experiment.size, buffers.limit) // itemsize(source), 1)
    t = buffers.source(experiment.memory, source, elements)
    names = {"halfway": halfway, "t": t, "dtype": getattr(torch, experiment.pair.target)}
    statement = OURS["blocking"]
    plain = synchronised(statement, names, device)
    with ExitStack() as stack:
        tuned = stack.enter_context(Tuned())

        def with_setting(setting: Setting) -> Loop:
            def loop(count: int) -> int:
                changed = setting != tuned.active
                tuned.use(setting)
                if changed:
                    plain(1)  # the ring's memory is made here
                return plain(count)

            return loop

        loops: dict[str, Loop] = {label(setting): with_setting(setting) for setting in experiment.settings}
        # An engine is made for each turn, so turns are long and few.
        turns = Effort(round_ns=30_000_000, rounds=7, seconds=seconds, least=2)
        effort = Effort(round_ns=0, rounds=1) if quick else turns
        times = harness.race(loops, effort)
    best = min(loops, key=lambda name: times.spread(name).median)
    chosen = label(recommended(experiment.settings, times))
    shipped = label(experiment.shipped)
    return {
        "name": experiment.name,
        "where": experiment.where,
        "statement": statement,
        "memory": experiment.memory,
        "bytes": elements * itemsize(source),
        "best": best,
        "recommended": chosen,
        "shipped": shipped,
        "shipped_over_best": times.ratio(shipped, best).to_dict() if shipped in loops else None,
        "settings": [
            {"setting": name, "ns": times.spread(name).to_dict(0), "rounds": len(times.samples[name])} for name in loops
        ],
    }


def print_row(row: Mapping[str, Any]) -> None:
    ns: Callable[[str], str] = lambda name: harness.nanoseconds(  # noqa: E731
        next(entry["ns"]["median"] for entry in row["settings"] if entry["setting"] == name)
    )
    print(f"  best {row['best']} ({ns(row['best'])}); recommended {row['recommended']} ({ns(row['recommended'])})")
    ratio = row["shipped_over_best"]
    shipped = f"{ns(row['shipped'])}, {ratio['median']:.2f}x of the best" if ratio else "not among the settings"
    print(f"  shipped {row['shipped']} ({shipped}): {row['where']}", flush=True)
