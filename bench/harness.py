"""What the benchmarks share: interleaved rounds, statistics, the machine, JSON.

A *contender* is a statement that is run in a loop, its result thrown away each time. Contenders
of a row are run in turns, A B C A B C ..., in rounds of a fraction of a millisecond, so that
whatever else the machine does meets all of them alike. What counts is the ratio within a round;
reported are its median and quartiles over the rounds.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

Loop = Callable[[int], int]  # runs that often, returns nanoseconds

OVERHEAD = "callable(None)"  # a builtin that does nothing: the loop, the call and the discard


@dataclass(frozen=True)
class Contender:
    """A statement in a race. `role` is ours, plain (ours without an option), rival, floor or overhead."""

    statement: str
    role: str
    target: float | None = None  # of a rival: ours must take at most this share of its time
    door: str | None = None  # the library whose arrays it works on, where a row has several
    named: bool = False  # a claim is about this very statement: it runs to the end, however slow it is


@dataclass(frozen=True)
class Effort:
    """How long to measure: the length of a round of one contender, and the number of rounds.

    A length of 0 is one call, and no call is made to find that out.
    After `seconds` no further round begins, unless there are fewer than `least`. With `threads`,
    contenders keep threads of their own: a turn begins when those of the one before have come to
    rest (see `settle`), and with a call that does not count, which wakes its own. `screening` is
    how many rounds decide who runs on (see `run`); None: two with `threads`, else none.
    """

    round_ns: int
    rounds: int
    seconds: float = math.inf
    least: int = 3
    threads: bool = False
    screening: int | None = None


FULL = Effort(round_ns=200_000, rounds=1000)
QUICK = Effort(round_ns=20_000, rounds=9)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a sample."""

    q1: float
    median: float
    q3: float

    def to_dict(self, digits: int = 4) -> dict[str, float]:
        return {
            "q1": round(self.q1, digits),
            "median": round(self.median, digits),
            "q3": round(self.q3, digits),
        }


@dataclass
class Times:
    """Nanoseconds a call of each contender, one entry a round; by statement."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    def spread(self, statement: str) -> Spread:
        return spread(self.samples[statement])

    def best(self, statement: str) -> float:
        return min(self.samples[statement])

    def ratio(self, statement: str, other: str) -> Spread:
        """Time of `statement` over the time of `other`, round by round."""
        pairs = zip(self.samples[statement], self.samples[other], strict=True)
        return spread([ours / theirs for ours, theirs in pairs])


def spread(sample: Sequence[float]) -> Spread:
    if len(sample) < 2:
        return Spread(sample[0], sample[0], sample[0])
    q1, median, q3 = statistics.quantiles(sample, n=4, method="inclusive")
    return Spread(q1, median, q3)


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Least-squares slope of ys over xs."""
    return statistics.linear_regression(xs, ys).slope


def loop_of(statement: str, names: Mapping[str, Any]) -> Loop:
    """A loop around `statement`, whose names are looked up as a module's globals are."""
    source = (
        "def _loop(_count):\n"
        " _calls = _repeat(None, _count)\n"
        " _start = _clock()\n"
        " for _ in _calls:\n"
        f"  {statement}\n"
        " return _clock() - _start\n"
    )
    scope: dict[str, Any] = dict(names, _repeat=repeat, _clock=time.perf_counter_ns)
    exec(compile(source, f"<{statement}>", "exec"), scope)
    loop: Loop = scope["_loop"]
    return loop


SETTLE_STEP = 0.0005
SETTLE_LIMIT = 0.03


def settle() -> None:
    """Wait until no thread of this process computes, at most `SETTLE_LIMIT` seconds.

    OpenMP workers spin for milliseconds after a parallel region, and occupy a processor that the
    next contender is entitled to.
    """
    for _ in range(round(SETTLE_LIMIT / SETTLE_STEP)):
        start, busy = time.perf_counter_ns(), time.process_time_ns()
        time.sleep(SETTLE_STEP)
        busy = time.process_time_ns() - busy
        if busy * 4 < time.perf_counter_ns() - start:
            return


def _calls_a_round(loop: Loop, round_ns: int) -> int:
    if round_ns == 0:
        return 1
    loop(1)  # whatever is looked up or imported at first use
    # A single call may come late: threads that start, the system.
    if min(loop(1) for _ in range(3)) > round_ns:
        return 1
    count = 1
    while True:
        taken = min(loop(count) for _ in range(3))
        if taken * 4 > round_ns or count >= 1_000_000:
            return max(1, count * round_ns // max(taken, 1))
        count *= 4


def race(loops: Mapping[str, Loop], effort: Effort) -> Times:
    """Run all loops in turns, all equally often. The garbage collector rests meanwhile."""
    counts = {name: _calls_a_round(loop, effort.round_ns) for name, loop in loops.items()}
    times = Times({name: [] for name in loops})
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for made in range(effort.rounds):
            if made >= effort.least and time.perf_counter() - start > effort.seconds:
                break
            for name, loop in loops.items():
                if effort.threads:
                    settle()
                    if counts[name] > 1:
                        loop(1)
                times.samples[name].append(loop(counts[name]) / counts[name])
    finally:
        if collecting:
            gc.enable()
    return times


SCREENED = 2.0  # who takes more than this share of the fastest of its kind, runs no further


def fastest(entrants: Sequence[Contender], times: Times) -> Contender:
    return min(entrants, key=lambda contender: times.spread(contender.statement).median)


def run(entrants: Sequence[Contender], loops: Mapping[str, Loop], effort: Effort) -> tuple[list[Contender], Times]:
    """A race, and who took part to the end.

    Where rounds are dear, few are run first, after which ours goes on with the fastest and those that
    claims name: the others who took more than `SCREENED` times as long as the fastest of their role
    and door keep the times of these rounds.
    """
    staying = list(entrants)
    early = Times()
    screening = effort.screening if effort.screening is not None else 2 * effort.threads
    if screening:
        early = race(loops, Effort(effort.round_ns, rounds=screening, threads=effort.threads))
        best: dict[tuple[str, str | None], float] = {}
        for contender in entrants:
            key = (contender.role, contender.door)
            best[key] = min(early.best(contender.statement), best.get(key, float("inf")))
        staying = [
            contender
            for contender in entrants
            if contender.named
            or contender.role in ("ours", "plain")
            or early.best(contender.statement) <= SCREENED * best[contender.role, contender.door]
        ]
    times = race({c.statement: loops[c.statement] for c in staying}, effort)
    return staying, Times({**early.samples, **times.samples})


def listed(entrants: Sequence[Contender], times: Times) -> list[dict[str, Any]]:
    """Every contender's times, as JSON."""
    entries = []
    for contender in entrants:
        sample = times.samples[contender.statement]
        digits = 1 if min(sample) < 10_000 else 0
        entry: dict[str, Any] = {"statement": contender.statement, "role": contender.role}
        if contender.door:
            entry["door"] = contender.door
        entry["ns"] = spread(sample).to_dict(digits)
        entry["min_ns"] = round(min(sample), digits)
        entry["rounds"] = len(sample)
        entries.append(entry)
    return entries


def compare(staying: Sequence[Contender], times: Times, door: str | None = None) -> dict[str, Any]:
    """The fastest of ours against the fastest rival, of one door or of all."""

    def best(role: str) -> str:
        found = [c for c in staying if c.role == role and door in (None, c.door)]
        return fastest(found, times).statement

    ours, rival = best("ours"), best("rival")
    return {"ours": ours, "rival": rival, "ratio": times.ratio(ours, rival).to_dict()}


def row_result(name: str, contenders: Sequence[Contender], times: Times) -> dict[str, Any]:
    """One row of a table, as JSON: every contender's times, ours against every other."""
    ours = next(c.statement for c in contenders if c.role == "ours")
    result: dict[str, Any] = {"name": name, "ours": ours, "contenders": [], "ratios": []}
    for contender in contenders:
        statement = contender.statement
        entry: dict[str, Any] = {"statement": statement, "role": contender.role}
        entry["ns"] = times.spread(statement).to_dict(1)
        entry["min_ns"] = round(times.best(statement), 1)
        result["contenders"].append(entry)
        if contender.role in ("rival", "floor"):
            ratio = times.ratio(ours, statement)
            result["ratios"].append(
                {
                    "against": statement,
                    "role": contender.role,
                    "ratio": ratio.to_dict(),
                    **verdict(ratio.median, contender.target),
                }
            )
    return result


def verdict(value: float, target: float | None) -> dict[str, Any]:
    """Whether a target was met; nothing where there is none."""
    if target is None:
        return {}
    return {"target": target, "verdict": "ok" if value <= target else "short"}


def claim(name: str, value: float, bound: Literal["<=", ">="], target: float, note: str = "") -> dict[str, Any]:
    """`value` is judged as it is written down."""
    value = round(value, 3)
    met = value <= target if bound == "<=" else value >= target
    result = {"name": name, "value": value, "bound": bound, "target": target, "verdict": "ok" if met else "short"}
    return {**result, "note": note} if note else result


# --- where it was measured


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _version_of(package: str) -> str | None:
    """Of an installed package, by the name it is imported by: CuPy's distributions have that of a CUDA in theirs."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # then the files of all distributions are read
        names = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.version(names[0]) if names else None


def processors() -> set[int]:
    """Those that this process may run on."""
    return os.sched_getaffinity(0)


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """The machine and the software, the load at this moment included."""
    return {
        "cpu": _cpu_model(),
        "cores": len(processors()),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{package: _version_of(package) for package in packages},
    }


def today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def slug(text: str) -> str:
    """A CPU's name as part of a file's: "Intel(R) Xeon(R) Processor" is intel-xeon."""
    text = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*$", " ", text, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write_compact_json(path: Path, result: Mapping[str, Any]) -> None:
    """As `write_json`, with each entry of a list on one line: for hundreds of rows."""

    def text(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n ]"
        return json.dumps(value)

    lines = [f" {json.dumps(key)}: {text(value)}" for key, value in result.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


# --- for people


def nanoseconds(value: float) -> str:
    if value < 10_000:
        return f"{value:.0f} ns"
    return f"{value / 1000:.1f} us" if value < 1_000_000 else f"{value / 1e6:.2f} ms"


def print_row(row: Mapping[str, Any]) -> None:
    ratios = {entry["against"]: entry for entry in row["ratios"]}
    print(f"\n{row['name']}")
    for contender in row["contenders"]:
        statement = contender["statement"]
        times = f"{nanoseconds(contender['ns']['median'])} (min {nanoseconds(contender['min_ns'])})"
        text = f"  {contender['role']:8} {statement:54} {times:>28}"
        if statement in ratios:
            ratio = ratios[statement]
            quartiles = ratio["ratio"]
            text += f"  {quartiles['median']:.3f}x [{quartiles['q1']:.3f}, {quartiles['q3']:.3f}]"
            if "target" in ratio:
                text += f"  target {ratio['target']:.2f}x: {ratio['verdict']}"
        print(text)


def print_claims(claims: Sequence[Mapping[str, Any]]) -> None:
    print()
    for entry in claims:
        note = f"  ({entry['note']})" if "note" in entry else ""
        print(
            f"{entry['verdict']:5} {entry['name']:74} {entry['value']:7.3f}"
            f"  target {entry['bound']} {entry['target']:g}{note}"
        )
    met = sum(entry["verdict"] == "ok" for entry in claims)
    print(f"{met} of {len(claims)} targets met")
