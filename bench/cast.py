"""What a cast costs: every hot pair, from 1 to 64 Mi elements, into `out=` and into fresh memory.

    python bench/cast.py                          everything; JSON in bench/results/
    python bench/cast.py --rows "bfloat16, out"   the rows whose name matches
    python bench/cast.py --sizes 32,1Mi           the rows of these sizes
    python bench/cast.py --quick                  seconds instead of minutes, for tests
    python bench/cast.py --plot cast.svg          the ratios and the shares of the floor as a picture
    python bench/cast.py --replot RESULT.json --plot cast.svg    the picture of an earlier run

A row holds halfway's two doors (torch's arrays, NumPy's arrays), the idioms of torch and of NumPy
with ml_dtypes, and the floor: plain and non-temporal sweeps that move the same bytes, on one thread
and two (see floor.py). The arrays of both doors are views of the same memory, made beforehand, and
so are the dtype objects. A row's ratio is the faster of our doors over the fastest rival, its share
of the floor is the time of the fastest sweep over ours; both are formed round by round. Each door
is also held against its own library alone.

Two threads for everybody who has any. What is fair about the turns:

- up to 32 Ki elements nobody uses a second thread, and contenders follow each other at once;
- beyond, the worker threads of torch (OpenMP) spin for milliseconds after each call, on the
  processor that the next contender is entitled to. So a turn waits until the process is at rest
  (harness.settle), and its first call, which finds sleeping workers and cold caches, does not
  count. A turn is 2 ms of calls; up to 4 Mi elements that is many;
- beyond 4 Mi elements a turn is one call: waking a thread takes nothing there;
- where rounds are dear, rivals and sweeps that took more than twice as long as the fastest of
  their kind in two preliminary rounds go no further; their times are kept.

A fresh result is thrown away in the timed loop: who has a pool may use it, who has none pays
the operating system for the pages.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

import torch  # noqa: E402
from bench import cast_claims, cast_options, cast_rows, floor, harness, plots  # noqa: E402

import halfway  # noqa: E402

PACKAGES = ("numpy", "torch", "ml_dtypes", "halfway")
THREADS = 2


def use_threads(count: int) -> int:
    """Give torch and halfway as many threads as are wanted and there; how many that is."""
    count = min(count, len(harness.processors()))
    torch.set_num_threads(count)
    set_ours = getattr(halfway, "set_num_threads", None)
    if set_ours is not None:
        set_ours(count)
    return count


def parse_size(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*(Ki|Mi|)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; sizes are written as 32, 1Ki or 64Mi")
    return int(found[1]) * {"": 1, "Ki": cast_rows.KI, "Mi": cast_rows.MI}[found[2]]


def parse_sizes(text: str) -> list[int]:
    return [parse_size(part) for part in text.split(",")]


# --- for people


def print_row(row: Mapping[str, Any]) -> None:
    ns = {entry["statement"]: entry["ns"]["median"] for entry in row["contenders"]}
    ratio, share = row["ratio"], row["floor"]["share"]
    print(
        f"{row['name']:36} {harness.nanoseconds(ns[row['ours']]):>9} {row['ours']:29}"
        f" {harness.nanoseconds(ns[row['rival']]):>9} {row['rival']:34}"
        f" {ratio['median']:6.3f}x [{ratio['q1']:.3f}, {ratio['q3']:.3f}]"
        f"  torch {row['doors']['torch']['ratio']['median']:.2f}x numpy {row['doors']['numpy']['ratio']['median']:.2f}x"
        f"  floor {share['median']:.2f}",
        flush=True,
    )


def print_option(row: Mapping[str, Any]) -> None:
    text = f"{row['name']:48} {row['plain']['ratio']['median']:.3f}x of the plain cast"
    if "faster" in row:
        text += f", {row['faster']['median']:.1f} times faster than {row['rival']}"
    print(text, flush=True)


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


def measure(
    rows: Sequence[cast_rows.Case], options: Sequence[cast_options.OptionCase], threads: int, quick: bool
) -> dict[str, Any]:
    """Everything about the chosen rows, printed as it comes."""
    begin = time.monotonic()
    gc.collect()
    gc.freeze()  # torch's hundred thousand objects, which every race would look through again
    result: dict[str, Any] = {
        "benchmark": "cast",
        "date": harness.today(),
        "quick": quick,
        "machine": harness.machine(PACKAGES),
        "settings": {"threads": use_threads(threads), "floor": floor.isa(), "gc": "disabled"},
    }
    print(json.dumps({**result["machine"], **result["settings"]}, indent=1), flush=True)

    def elements_of(size: int) -> int:
        return min(size, cast_rows.QUICK_LIMIT) if quick else size

    result["rows"] = []
    data = None
    shown = None
    for case in rows:
        if shown != (case.pair, case.size):  # the modes of a size share their arrays
            data = None  # before the next are made
            data = cast_rows.data_of(case.pair, elements_of(case.size))
            shown = (case.pair, case.size)
        assert data is not None
        result["rows"].append(cast_rows.measure(case, data, quick))
        print_row(result["rows"][-1])
    data = None
    result["options"] = []
    for option in options:
        result["options"].append(cast_options.measure_option(option, elements_of(cast_rows.HUGE), quick))
        print_option(result["options"][-1])
    result["claims"] = cast_claims.judge(result["rows"], result["options"])
    print_claims(result["claims"])
    result["machine"]["load_average_at_the_end"] = harness.machine(())["load_average"]
    result["seconds"] = round(time.monotonic() - begin)
    return result


def draw(path: Path, result: Mapping[str, Any]) -> None:
    about = result["machine"]
    caption = (
        f"{about['cpu']}, {result['settings']['threads']} threads, {about['python']}, NumPy {about['numpy']}, "
        f"torch {about['torch']}, ml_dtypes {about['ml_dtypes']}, {result['date']}"
    )
    plots.plot_casts(path, result["rows"], caption)
    print(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What a cast costs, against the libraries' own ways and the floor.")
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes, on few elements; writes no file")
    parser.add_argument("--json", type=Path, help="where the result goes (default: bench/results)")
    parser.add_argument("--plot", type=Path, help="also plot ratios and shares (.svg, .png)")
    parser.add_argument("--replot", type=Path, help="measure nothing: plot this result")
    parser.add_argument("--rows", type=re.compile, default=re.compile(""), help="only rows whose name matches")
    parser.add_argument("--sizes", type=parse_sizes, help="only rows of these sizes: 32,1Ki,64Mi")
    parser.add_argument("--threads", type=int, default=THREADS, help="for torch and halfway (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.replot:
        if not options.plot:
            parser.error("--replot needs --plot")
        draw(options.plot, json.loads(options.replot.read_text(encoding="utf-8")))
        return

    everything = cast_rows.cases()
    rows = [
        case
        for case in everything
        if options.rows.search(case.name) and (options.sizes is None or case.size in options.sizes)
    ]
    special = [
        case
        for case in cast_options.option_cases()
        if options.rows.search(case.name) and (options.sizes is None or cast_rows.HUGE in options.sizes)
    ]
    if not rows and not special:
        parser.error("no row matches; names look like: " + everything[0].name)
    result = measure(rows, special, options.threads, options.quick)

    name = f"cast-{harness.slug(result['machine']['cpu'])}-{result['date']}.json"
    complete = not options.quick and len(rows) == len(everything)
    path = options.json or (ROOT / "bench" / "results" / name if complete else None)
    if path is not None:
        harness.write_compact_json(path, result)
        print(f"\n{path}")
    if options.plot:
        draw(options.plot, result)


if __name__ == "__main__":
    main()
