"""What the benchmarks that run a C++ program have in common: their arguments, the head of a result, where it goes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import harness

RESULTS = Path(__file__).resolve().parent / "results"

Result = dict[str, Any]


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="seconds, not minutes; writes no file")
    made.add_argument("--json", type=Path, help="where the result goes (default: bench/results)")
    made.add_argument("--rows", default="", help="only rows whose name contains this")
    return made


def begin(benchmark: str, program: Path, needs: str, packages: Sequence[str], *, quick: bool) -> Result:
    """The head of a result, printed. Ends the process where the program is not built."""
    if not program.exists():
        sys.exit(f"{program} is not built: make bench BENCH={benchmark} (it needs {needs})")
    result: Result = {
        "benchmark": benchmark,
        "date": harness.today(),
        "quick": quick,
        "machine": harness.machine(packages),
    }
    print(json.dumps(result["machine"], indent=1))
    return result


def chosen(made: argparse.ArgumentParser, rows: Sequence[str], wanted: str) -> list[str]:
    """The rows whose name contains what is wanted; ends the process where none does."""
    found = [name for name in rows if wanted in name]
    if not found:
        made.error(f"no row matches {wanted!r}: " + "; ".join(rows))
    return found


def deliver(
    result: Result, options: argparse.Namespace, *, complete: bool, write: Callable[[Path, Result], None]
) -> None:
    """The file that was asked for; a complete result goes to bench/results."""
    result["machine"]["load_average_at_the_end"] = harness.machine(())["load_average"]
    name = f"{result['benchmark']}-{harness.slug(result['machine']['cpu'])}-{result['date']}.json"
    path = options.json or (RESULTS / name if complete and not options.quick else None)
    if path is not None:
        write(path, result)
        print(f"\n{path}")
