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
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

from bench import cast_claims, cast_options, cast_rows, cli, harness, plots  # noqa: E402

PACKAGES = ("numpy", "torch", "ml_dtypes", "halfway")


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


def measure(
    rows: Sequence[cast_rows.Case],
    values: Sequence[cast_rows.Case],
    options: Sequence[cast_options.OptionCase],
    threads: int,
    quick: bool,
) -> dict[str, Any]:
    """Everything about the chosen rows, printed as it comes."""
    result = cli.begin("cast", quick, PACKAGES, threads)

    def elements_of(size: int) -> int:
        return min(size, cast_rows.QUICK_LIMIT) if quick else size

    for key, cases in (("rows", rows), ("values", values)):
        result[key] = []
        data = None
        shown = None
        for case in cases:
            if shown != (case.pair, case.size, case.values):  # the modes of a size share their arrays
                data = None  # before the next are made
                data = cast_rows.data_of(case.pair, elements_of(case.size), case.values)
                shown = (case.pair, case.size, case.values)
            assert data is not None
            result[key].append(cast_rows.measure(case, data, quick))
            print_row(result[key][-1])
    data = None
    result["options"] = []
    for option in options:
        result["options"].append(cast_options.measure_option(option, elements_of(cast_rows.HUGE), quick))
        print_option(result["options"][-1])
    result["claims"] = cast_claims.judge(result["rows"], result["options"])
    harness.print_claims(result["claims"])
    return cli.end(result)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = cli.parser("What a cast costs, against the libraries' own ways and the floor.")
    parser.add_argument("--sizes", type=parse_sizes, help="only rows of these sizes: 32,1Ki,64Mi")
    options = parser.parse_args(arguments)
    if cli.replotted(parser, options, plots.plot_casts):
        return

    everything = cast_rows.cases()

    def chosen(cases: Sequence[cast_rows.Case]) -> list[cast_rows.Case]:
        sizes = options.sizes
        return [case for case in cases if options.rows.search(case.name) and (sizes is None or case.size in sizes)]

    rows, values = chosen(everything), chosen(cast_rows.value_cases())
    special = [
        case
        for case in cast_options.option_cases()
        if options.rows.search(case.name) and (options.sizes is None or cast_rows.HUGE in options.sizes)
    ]
    if not rows and not values and not special:
        parser.error("no row matches; names look like: " + everything[0].name)
    result = measure(rows, values, special, options.threads, options.quick)
    cli.deliver(result, options, complete=len(rows) == len(everything), plot=plots.plot_casts)


if __name__ == "__main__":
    main()
