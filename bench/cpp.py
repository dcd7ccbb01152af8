"""What an exchange with libtorch costs in C++: halfway/torch.h beside ATen's own functions.

    python bench/cpp.py                      everything; JSON in bench/results/
    python bench/cpp.py --rows from_torch    the rows whose name contains "from_torch"
    python bench/cpp.py --quick              seconds, for tests; writes no file

The contenders are in cpp/exchange.cpp, a program of Google Benchmark that runs their repetitions in random turns. Each
of ours has to be no slower than its rival, by the medians of the repetitions. The floor is an owner that is made and
freed: every exchange has at least that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

from bench import harness  # noqa: E402

PROGRAM = Path(os.environ.get("HALFWAY_BENCH_CPP", ROOT / "build" / "bench" / "cpp" / "halfway_bench_cpp"))
FLOOR = "any"  # the row that is the floor of all others
SLOWER = 1.0  # ours takes at most this share of the rival's time

Result = dict[str, Any]


def measured(program: Path, *, quick: bool) -> dict[str, dict[str, Result]]:
    """Contenders by row and role, with their times."""
    # Short repetitions, many of them: what the machine does otherwise meets all contenders alike.
    options = ["--benchmark_repetitions=3", "--benchmark_min_time=0.001"]
    if not quick:
        options = ["--benchmark_repetitions=101", "--benchmark_min_time=0.01"]
    done = subprocess.run(
        [str(program), "--benchmark_format=json", "--benchmark_enable_random_interleaving=true", *options],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    samples: dict[str, list[float]] = {}
    for run in json.loads(done.stdout)["benchmarks"]:
        if run["run_type"] == "iteration":
            samples.setdefault(run["run_name"], []).append(run["cpu_time"])
    rows: dict[str, dict[str, Result]] = {}
    for name, sample in samples.items():
        row, role, statement = name.split("/", 2)
        spread = harness.spread(sample).to_dict(1)
        rows.setdefault(row, {})[role] = {"statement": statement, "ns": spread, "min_ns": round(min(sample), 1)}
    return rows


def judged(name: str, contenders: Mapping[str, Result], floor: Result) -> Result:
    ours, rival = contenders["ours"]["ns"]["median"], contenders["rival"]["ns"]["median"]
    ratio = round(ours / rival, 3)
    return {
        "name": name,
        "contenders": [{"role": role, **contenders[role]} for role in ("ours", "rival")],
        "ratio": ratio,
        "over_floor_ns": round(ours - floor["ns"]["median"], 1),
        **harness.verdict(ratio, SLOWER),
    }


def print_row(row: Result) -> None:
    print(
        f"\n{row['name']}: {row['ratio']:.2f} of the rival's time, wanted at most {row['target']:g}: {row['verdict']}"
    )
    for contender in row["contenders"]:
        ns = contender["ns"]
        spread = f"{ns['median']:7.1f} ns [{ns['q1']:.1f}, {ns['q3']:.1f}]"
        print(f"  {contender['role']:6} {contender['statement']:66} {spread}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What an exchange with libtorch costs in C++.")
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; writes no file")
    parser.add_argument("--json", type=Path, help="where the result goes (default: bench/results)")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    options = parser.parse_args(arguments)
    if not PROGRAM.exists():
        sys.exit(f"{PROGRAM} is not built: make bench BENCH=cpp (it needs a libtorch and Google Benchmark)")

    result: Result = {
        "benchmark": "cpp",
        "date": harness.today(),
        "quick": options.quick,
        "machine": harness.machine(("torch", "halfway")),
    }
    print(json.dumps(result["machine"], indent=1))
    rows = measured(PROGRAM, quick=options.quick)
    floor = rows.pop(FLOOR)["floor"]
    chosen = {name: contenders for name, contenders in rows.items() if options.rows in name}
    if not chosen:
        parser.error(f"no row matches {options.rows!r}: " + "; ".join(rows))
    result["floor"] = floor
    result["rows"] = [judged(name, contenders, floor) for name, contenders in chosen.items()]
    print(f"\nfloor: {floor['statement']} {floor['ns']['median']:.1f} ns")
    for row in result["rows"]:
        print_row(row)
    result["machine"]["load_average_at_the_end"] = harness.machine(())["load_average"]

    name = f"cpp-{harness.slug(result['machine']['cpu'])}-{result['date']}.json"
    complete = not options.quick and len(chosen) == len(rows)
    path = options.json or (ROOT / "bench" / "results" / name if complete else None)
    if path is not None:
        harness.write_json(path, result)
        print(f"\n{path}")


if __name__ == "__main__":
    main()
