"""What the loops written by hand are worth: each beside what the compiler makes of the same functors.

    python bench/steps.py                    everything; JSON in bench/results/
    python bench/steps.py --rows float64     the rows whose name contains "float64"
    python bench/steps.py --quick            seconds, for tests; writes no file

The contenders are in native/steps.cpp: a step in AVX2 (runtime/src/cast/tiers/avx2*.h), and the functors of
halfway/convert.h compiled for the same instruction set, in one loop and in the stages that all other pairs take. They
work on 1024 elements in the first-level cache, by turns, in several processes. A step that is not faster stands in the
table as it is: it is there for the loops past the caches, which steps are the only ones to have.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

from bench import harness, programs  # noqa: E402

PROGRAM = Path(os.environ.get("HALFWAY_BENCH_STEPS", ROOT / "build" / "bench" / "native" / "halfway_bench_steps"))
OURS = "step"
PROCESSES = 5
ROUNDS = 41

Result = dict[str, Any]
Times = dict[str, dict[str, list[float]]]  # nanoseconds an element, by row and role


def once(program: Path, rounds: int) -> Times:
    done = subprocess.run([str(program), str(rounds)], stdout=subprocess.PIPE, text=True, check=True)
    times: Times = {}
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        times.setdefault(entry["row"], {})[entry["role"]] = entry["ns"]
    return times


def judged(name: str, runs: Sequence[Mapping[str, list[float]]]) -> Result:
    """A row: how many times faster the step is than the fastest of the others, round by round."""
    others = [role for role in runs[0] if role != OURS]
    medians = {role: statistics.median(ns for run in runs for ns in run[role]) for role in runs[0]}
    rival = min(others, key=lambda role: medians[role])
    ratios = [theirs / ours for run in runs for ours, theirs in zip(run[OURS], run[rival], strict=True)]
    return {
        "name": name,
        "ns": {role: round(median, 4) for role, median in medians.items()},
        "rival": rival,
        "faster": harness.spread(ratios).to_dict(3),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = programs.parser("What the loops written by hand are worth.")
    options = parser.parse_args(arguments)
    needs = "a compiler for x86-64-v3"
    result = programs.begin("steps", PROGRAM, needs, ("halfway",), quick=options.quick)
    runs = [once(PROGRAM, 3 if options.quick else ROUNDS) for _ in range(1 if options.quick else PROCESSES)]
    chosen = programs.chosen(parser, list(runs[0]), options.rows)
    result["rows"] = [judged(name, [run[name] for run in runs]) for name in chosen]
    for row in result["rows"]:
        faster = row["faster"]
        times = ", ".join(f"{role} {ns:.3f}" for role, ns in row["ns"].items())
        print(f"{row['name']:44} {faster['median']:5.2f} [{faster['q1']:.2f}, {faster['q3']:.2f}]  ns: {times}")

    programs.deliver(result, options, complete=len(chosen) == len(runs[0]), write=harness.write_compact_json)


if __name__ == "__main__":
    main()
