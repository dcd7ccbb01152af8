"""What it costs to bring data from where they are to where a model wants them: one pass against the usual several.

    python bench/onepass.py                          everything; JSON in bench/results/
    python bench/onepass.py --rows "NHWC|transposed" the rows whose name matches
    python bench/onepass.py --quick                  seconds instead of minutes, for tests
    python bench/onepass.py --plot onepass.svg       how much faster, and the shares of the floor, as a picture
    python bench/onepass.py --replot RESULT.json --plot onepass.svg    the picture of an earlier run

Images are normalised and permuted, whole, cropped or one sample each, transposed and strided memory is cast, so are the
other byte order and a field of records; samples are stacked, of one length or padded, trees of them too, and values
rounded by chance. A row holds ours, the best idioms of torch and NumPy that were found (onepass_images.py,
onepass_batches.py, onepass_rows.py, onepass_idioms.py), the chain of calls that most programs have where that is
another, a kernel written by hand for whole images, and the floor (floor.py). All of them are checked against the exact
result before they are timed, and take their turns as in cast.py; a turn is 2 ms of calls, or one call that takes
longer. Some rows have targets (onepass_claims.py), the others are there to be looked up.

The floor moves the cache lines that hold the source's elements: of every second column that is the whole array.
Of a list of samples it moves the elements' bytes, as if they were one array.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

from bench import cli, harness, onepass_claims, onepass_rows, plots  # noqa: E402
from bench.onepass_data import Case  # noqa: E402

PACKAGES = ("numpy", "torch", "ml_dtypes", "halfway")


def print_row(row: Mapping[str, Any]) -> None:
    entries = {entry["statement"]: entry["ns"]["median"] for entry in row["contenders"]}
    print(f"\n{row['name']}: {harness.nanoseconds(entries[row['ours']])}, {row['ours']}")
    against = {"rival": {"statement": row["rival"], "faster": row["faster"]}}
    against |= {role: row[role] for role in ("usual", "hand", "foreach") if role in row}
    for role, entry in against.items():
        faster, statement = entry["faster"], entry["statement"]
        print(
            f"  {role:8} {harness.nanoseconds(entries[statement]):>9}"
            f"  {faster['median']:7.2f} times as long [{faster['q1']:.2f}, {faster['q3']:.2f}]  {statement}"
        )
    lowest = row["floor"]["statement"]
    share = row["floor"]["share"]["median"]
    print(f"  floor    {harness.nanoseconds(entries[lowest]):>9}  share {share:.2f}  {lowest}", flush=True)


def measure(rows: Sequence[Case], threads: int, quick: bool) -> dict[str, Any]:
    """Everything about the chosen rows, printed as it comes."""
    result = cli.begin("onepass", quick, PACKAGES, threads)
    result["rows"] = []
    for case in rows:
        result["rows"].append(onepass_rows.measure(case, quick))
        print_row(result["rows"][-1])
    result["claims"] = onepass_claims.judge(result["rows"])
    harness.print_claims(result["claims"])
    return cli.end(result)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = cli.parser("What one pass costs, against the several that torch and NumPy take, and the floor.")
    options = parser.parse_args(arguments)
    if cli.replotted(parser, options, plots.plot_onepass):
        return
    everything = onepass_rows.cases()
    rows = [case for case in everything if options.rows.search(case.name)]
    if not rows:
        parser.error("no row matches; names look like: " + everything[0].name)
    result = measure(rows, options.threads, options.quick)
    cli.deliver(result, options, complete=len(rows) == len(everything), plot=plots.plot_onepass)


if __name__ == "__main__":
    main()
