"""What the benchmarks share: interleaved rounds, statistics, the machine, JSON and the plot.

A *contender* is a statement that is run in a loop, its result thrown away each time. Contenders
of a row are run in turns, A B C A B C ..., in rounds of a fraction of a millisecond, so that
whatever else the machine does meets all of them alike. What counts is the ratio within a round;
reported are its median and quartiles over the rounds.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from pathlib import Path
from typing import Any

Loop = Callable[[int], int]  # runs that often, returns nanoseconds

OVERHEAD = "callable(None)"  # a builtin that does nothing: the loop, the call and the discard


@dataclass(frozen=True)
class Contender:
    """A statement in a race. `role` is ours, rival, floor or overhead."""

    statement: str
    role: str
    target: float | None = None  # of a rival: ours must take at most this share of its time


@dataclass(frozen=True)
class Effort:
    """How long to measure: the length of a round of one contender, and the number of rounds."""

    round_ns: int
    rounds: int


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


def _calls_a_round(loop: Loop, round_ns: int) -> int:
    loop(3)  # whatever is looked up or imported at first use
    count = 1
    while True:
        taken = min(loop(count) for _ in range(3))
        if taken * 4 > round_ns or count >= 1_000_000:
            return max(1, count * round_ns // max(taken, 1))
        count *= 4


def race(loops: Mapping[str, Loop], effort: Effort) -> Times:
    """Run all loops in turns. The garbage collector rests meanwhile."""
    counts = {name: _calls_a_round(loop, effort.round_ns) for name, loop in loops.items()}
    times = Times({name: [] for name in loops})
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(effort.rounds):
            for name, loop in loops.items():
                times.samples[name].append(loop(counts[name]) / counts[name])
    finally:
        if collecting:
            gc.enable()
    return times


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


# --- where it was measured


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """The machine and the software, the load at this moment included."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
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


COLOURS = {
    "ok": ("#2a7f62", "target met"),
    "short": ("#c0392b", "short of its target"),
    None: ("#8aa0b4", "no target"),
}


def plot_ratios(path: Path, rows: Sequence[Mapping[str, Any]], title: str, caption: str) -> None:
    """Bars of ours over each rival, with quartiles; a black mark where the target is."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "halfway", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    bars = [(row, entry) for row in rows for entry in row["ratios"] if entry["role"] == "rival"]
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.3 * len(bars) + 0.25 * len(rows)))
    y = 0.0
    heads: list[tuple[float, str]] = []
    labels: list[tuple[float, str]] = []
    for row in rows:
        entries = [entry for entry in row["ratios"] if entry["role"] == "rival"]
        if not entries:
            continue
        heads.append((y, f"{row['name']}:  {row['ours']}"))
        for entry in entries:
            y += 1
            ratio = entry["ratio"]
            middle = ratio["median"]
            error = [[middle - ratio["q1"]], [ratio["q3"] - middle]]
            met = entry.get("verdict")
            colour = COLOURS[met][0]
            axes.barh(y, middle, xerr=error, color=colour, height=0.7, ecolor="#333333", capsize=2)
            end = max(middle, ratio["q3"], entry.get("target", 0.0)) + 0.012
            axes.text(end, y, f"{middle:.2f}", va="center", fontsize=8)
            if "target" in entry:
                axes.plot([entry["target"]] * 2, [y - 0.45, y + 0.45], color="black", lw=2)
            labels.append((y, entry["against"]))
        y += 1.4
    axes.axvline(1.0, color="#666666", lw=1, ls="--")
    axes.set_xlim(0, None)
    axes.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=8)
    for at, text in heads:
        axes.text(0.005, at, text, va="center", fontsize=8, fontweight="bold")
    axes.set_ylim(y - 0.8, -0.8)
    axes.set_xlabel("time of halfway / time of the rival (median and quartiles; black mark: target)")
    axes.set_title(title, fontsize=10)
    shown = {entry.get("verdict") for _, entry in bars}
    patches = [mpl.patches.Patch(color=colour, label=label) for met, (colour, label) in COLOURS.items() if met in shown]
    axes.legend(handles=patches, loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.005, caption, fontsize=7, color="#555555")
    figure.tight_layout(rect=(0, 0.015, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=110, metadata=metadata)
    plt.close(figure)
