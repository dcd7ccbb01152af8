"""What the benchmarks against a floor share as scripts: options, the head and the end of a result, where it goes."""

from __future__ import annotations

import argparse
import gc
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from bench import floor, harness

import halfway

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2

Result = dict[str, Any]
Plot = Callable[[Path, Sequence[Mapping[str, Any]], str], None]  # to a file, of rows, with a caption


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="seconds, not minutes, on few elements; writes no file")
    made.add_argument("--json", type=Path, help="where the result goes (default: bench/results)")
    made.add_argument("--plot", type=Path, help="also plot ratios and shares (.svg, .png)")
    made.add_argument("--replot", type=Path, help="measure nothing: plot this result")
    made.add_argument("--rows", type=re.compile, default=re.compile(""), help="only rows whose name matches")
    made.add_argument("--threads", type=int, default=THREADS, help="for torch and halfway (default: %(default)s)")
    return made


def use_threads(count: int) -> int:
    """Give torch and halfway as many threads as are wanted and there; how many that is."""
    count = min(count, len(harness.processors()))
    torch.set_num_threads(count)
    set_ours = getattr(halfway, "set_num_threads", None)
    if set_ours is not None:
        set_ours(count)
    return count


def begin(benchmark: str, quick: bool, packages: Sequence[str], threads: int) -> Result:
    """The head of a result, printed; from here on the garbage collector has little to look through."""
    gc.collect()
    gc.freeze()  # torch's hundred thousand objects, which every race would look through again
    result: Result = {
        "benchmark": benchmark,
        "date": harness.today(),
        "quick": quick,
        "machine": harness.machine(packages),
        "settings": {"threads": use_threads(threads), "floor": floor.isa(), "gc": "disabled"},
        "seconds": time.monotonic(),  # `end` makes a duration of it
    }
    print(json.dumps({**result["machine"], **result["settings"]}, indent=1), flush=True)
    return result


def end(result: Result) -> Result:
    """`result` with what is known when all is measured, `seconds` as its last entry."""
    result["machine"]["load_average_at_the_end"] = harness.machine(())["load_average"]
    result["seconds"] = round(time.monotonic() - result.pop("seconds"))
    return result


def caption(result: Mapping[str, Any]) -> str:
    about = result["machine"]
    return (
        f"{about['cpu']}, {result['settings']['threads']} threads, {about['python']}, NumPy {about['numpy']}, "
        f"torch {about['torch']}, ml_dtypes {about['ml_dtypes']}, {result['date']}"
    )


def draw(path: Path, result: Mapping[str, Any], plot: Plot) -> None:
    plot(path, result["rows"], caption(result))
    print(path)


def replotted(made: argparse.ArgumentParser, options: argparse.Namespace, plot: Plot) -> bool:
    """Whether an earlier result was to be plotted, and was."""
    if not options.replot:
        return False
    if not options.plot:
        made.error("--replot needs --plot")
    draw(options.plot, json.loads(options.replot.read_text(encoding="utf-8")), plot)
    return True


def deliver(result: Result, options: argparse.Namespace, *, complete: bool, plot: Plot) -> None:
    """The file and the picture that were asked for; a complete result goes to bench/results."""
    name = f"{result['benchmark']}-{harness.slug(result['machine']['cpu'])}-{result['date']}.json"
    default = ROOT / "bench" / "results" / name if complete and not options.quick else None
    path = options.json or default
    if path is not None:
        harness.write_compact_json(path, result)
        print(f"\n{path}")
    if options.plot:
        draw(options.plot, result, plot)
