"""What an exchange with libtorch costs in C++: halfway/torch.h beside ATen's own functions.

    python bench/cpp.py                      everything; JSON in bench/results/
    python bench/cpp.py --rows from_torch    the rows whose name contains "from_torch"
    python bench/cpp.py --quick              seconds, for tests; writes no file

The contenders are in cpp/exchange.cpp, a program of Google Benchmark that runs their repetitions in random turns. It is
run several times, since the places of code and data, which differ from process to process, are worth a tenth of such
times. Each of ours has to be no slower than its rival, by the median over the processes. The floor is an owner
that is made and freed: every exchange has at least that.
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

PROGRAM = Path(os.environ.get("HALFWAY_BENCH_CPP", ROOT / "build" / "bench" / "cpp" / "halfway_bench_cpp"))
FLOOR = "any"  # the row that is the floor of all others
SLOWER = 1.0  # ours takes at most this share of the rival's time
PROCESSES = 9

Result = dict[str, Any]


def once(program: Path, *, quick: bool) -> dict[str, dict[str, Result]]:
    """Contenders by row and role, with their times in one process."""
    # Short repetitions in random turns: what the machine does otherwise meets all contenders alike.
    repetitions, seconds = (3, 0.001) if quick else (15, 0.01)
    command = [
        str(program),
        "--benchmark_format=json",
        "--benchmark_enable_random_interleaving=true",
        f"--benchmark_repetitions={repetitions}",
        f"--benchmark_min_time={seconds}",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows: dict[str, dict[str, Result]] = {}
    for run in json.loads(done.stdout)["benchmarks"]:
        if run["run_type"] == "iteration":
            row, role, statement = run["run_name"].split("/", 2)
            contender = rows.setdefault(row, {}).setdefault(role, {"statement": statement, "sample": []})
            contender["sample"].append(run["cpu_time"])
    return rows


def judged(name: str, runs: Sequence[Mapping[str, Result]]) -> Result:
    """A row: in each process the ratio of the medians, of which the median counts."""
    ratios = [statistics.median(run["ours"]["sample"]) / statistics.median(run["rival"]["sample"]) for run in runs]
    ratio = harness.spread(ratios)
    contenders = [
        {"role": role, "statement": runs[0][role]["statement"], "ns": ns_of(runs, role)} for role in ("ours", "rival")
    ]
    return {
        "name": name,
        "contenders": contenders,
        "ratio": ratio.to_dict(3),
        **harness.verdict(round(ratio.median, 3), SLOWER),
    }


def ns_of(runs: Sequence[Mapping[str, Result]], role: str) -> dict[str, float]:
    return harness.spread([time for run in runs for time in run[role]["sample"]]).to_dict(1)


def print_row(row: Result) -> None:
    ratio = row["ratio"]
    spread = f"{ratio['median']:.2f} [{ratio['q1']:.2f}, {ratio['q3']:.2f}]"
    print(f"\n{row['name']}: {spread} of the rival's time, wanted at most {row['target']:g}: {row['verdict']}")
    for contender in row["contenders"]:
        ns = contender["ns"]
        spread = f"{ns['median']:7.1f} ns [{ns['q1']:.1f}, {ns['q3']:.1f}]"
        print(f"  {contender['role']:6} {contender['statement']:66} {spread}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = programs.parser("What an exchange with libtorch costs in C++.")
    options = parser.parse_args(arguments)
    needs = "a libtorch and Google Benchmark"
    result = programs.begin("cpp", PROGRAM, needs, ("torch", "halfway"), quick=options.quick)
    runs = [once(PROGRAM, quick=options.quick) for _ in range(2 if options.quick else PROCESSES)]
    rows = [name for name in runs[0] if name != FLOOR]
    chosen = sorted(programs.chosen(parser, rows, options.rows))
    floors = [run[FLOOR] for run in runs]
    result["floor"] = {"statement": floors[0]["floor"]["statement"], "ns": ns_of(floors, "floor")}
    result["rows"] = [judged(name, [run[name] for run in runs]) for name in chosen]
    print(f"\nfloor: {result['floor']['statement']} {result['floor']['ns']['median']:.1f} ns")
    for row in result["rows"]:
        print_row(row)
    programs.deliver(result, options, complete=len(chosen) == len(rows), write=harness.write_json)


if __name__ == "__main__":
    main()
