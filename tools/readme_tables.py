"""Writes the tables of README.md and docs/errors.md that the code is the source of.

usage: readme_tables.py [--check]    with --check nothing is written, and stale tables are an error

Tables stand between <!-- table: NAME --> and <!-- end -->. The table `measured` takes the name of a
file in bench/results/; `cast times` and `cast claims` are of the newest result of bench/cast.py there,
`onepass times` and `onepass claims` of bench/onepass.py, `cpp times` of bench/cpp.py, `steps times` of bench/steps.py,
`transfer times`, `transfer claims` and `transfer slower` of bench/transfer.py. That needs a GPU: without a result its
targets stand there as not measured.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import halfway

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder
from bench import transfer_claims  # noqa: E402


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def code(names: tuple[str, ...] | str | None) -> str:
    if isinstance(names, str):
        names = (names,)
    return ", ".join(f"`{name}`" for name in names or ()) or "-"


def quartiles(ratio: dict[str, float], digits: int) -> str:
    """The median of a ratio, and the quartiles in brackets."""
    median, q1, q3 = (f"{ratio[name]:.{digits}f}" for name in ("median", "q1", "q3"))
    return f"{median} ({q1} to {q3})"


def dtypes() -> str:
    """What can be cast, row by row; what travels as bytes, in one row a family."""
    rows = [
        [
            code(row.name),
            code(row.aliases) if row.aliases else "",
            code(row.numpy),
            code(row.torch),
        ]
        for row in halfway.dtypes()
        if row.castable
    ]
    return table(["dtype", "also called", "NumPy", "torch"], rows)


def carried() -> str:
    exchanged = [row for row in halfway.dtypes() if row.kind != "refused"]
    names = tuple(row.name for row in exchanged if not row.castable)
    return f"Carried as bytes, never cast: {code(names)}.\n"


def refused() -> str:
    rows = [[f"`{row.name}`", row.note] for row in halfway.dtypes() if row.kind == "refused"]
    return table(["refused", "the way out"], rows)


def reasons() -> str:
    """The vocabulary of runtime/src/error.cpp."""
    source = (ROOT / "runtime" / "src" / "error.cpp").read_text()
    found = re.findall(r'\{Reason::\w+,\s*"(\w+)",\s*"([^"]+)"\}', source)
    return table(["reason", "what it says"], [[code(name), sentence] for name, sentence in found])


def measured(name: str) -> str:
    """A result of bench/exchange.py: time of halfway / time of the rival."""
    result = json.loads((ROOT / "bench" / "results" / name).read_text())
    machine = result["machine"]
    rows = []
    for row in [*result["rows"], *result["casts"]]:
        for entry in row["ratios"]:
            if entry["role"] == "rival":
                spread = quartiles(entry["ratio"], 2)
                rows.append([row["name"], code(row["ours"]), code(entry["against"]), spread])
    header = ["exchange", "halfway", "against", "time of halfway / time of the other (quartiles)"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['python']}, "
        f"NumPy {machine['numpy']}, torch {machine['torch']}, {result['date']}; below 1 halfway "
        f"is faster. All of it: [{name}](bench/results/{name}).\n\n"
        + table(header, rows)
        + f"\n`import halfway` adds {result['import']['added_ms']['median']:.1f} ms to "
        "`import numpy`.\n"
    )


# --- benchmarks against a floor

RESULTS = ROOT / "bench" / "results"
Result = dict[str, Any]
Found = tuple[str, Result]  # a file's name and its content


def not_measured(benchmark: str) -> str:
    return f"Not measured yet: `make bench BENCH={benchmark}` does.\n"


def newest(benchmark: str, folder: Path = RESULTS) -> Found | None:
    """The newest result of a benchmark, by the date in it."""
    results = [(path.name, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    found = [(name, result) for name, result in results if result.get("benchmark") == benchmark]
    return max(found, key=lambda entry: entry[1]["date"]) if found else None


def where(result: Result) -> str:
    machine = result["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {result['settings']['threads']} threads, {machine['system']}, "
        f"{machine['python']}, NumPy {machine['numpy']}, torch {machine['torch']}, ml_dtypes {machine['ml_dtypes']}, "
        f"{result['date']}."
    )


def picture(what: str, path: str) -> str:
    return f"\n![{what}]({path})\n" if (ROOT / path).exists() else ""


VERDICTS = {"ok": "met", "short": "**not met**", "not measured": ""}


def claims(result: Result) -> str:
    """Targets and what was measured, those that were not met included, and what the floor would reach."""
    header = ["target", "measured", "wanted", ""]
    rows = [
        [
            entry["name"].replace("|", "\\|"),
            f"{entry['value']:.2f}" if "value" in entry else "not measured",
            f"{entry['bound']} {entry['target']:g}",
            VERDICTS[entry["verdict"]],
        ]
        for entry in result["claims"]
    ]
    if any("floor" in entry for entry in result["claims"]):
        header.append("the floor's")
        for row, entry in zip(rows, result["claims"], strict=True):
            row.append(f"{entry['floor']:.2f}" if "floor" in entry else "")
    return table(header, rows)


# --- casts

CAST_SIZES = {32: "32", 1 << 10: "1 Ki", 1 << 20: "1 Mi", 1 << 26: "64 Mi"}


def cast_times(found: Found | None) -> str:
    """Per pair: time of halfway / time of the best rival at some sizes, and the share of the floor."""
    if found is None:
        return not_measured("cast")
    name, result = found
    pairs: dict[str, dict[tuple[str, int], Result]] = {}
    for row in result["rows"]:
        pairs.setdefault(f"`{row['source']}` to `{row['target']}`", {})[row["mode"], row["size"]] = row

    def ratio(row: Result | None) -> str:
        return f"{row['ratio']['median']:.2f}" if row else "-"

    def share(row: Result | None) -> str:
        return f"{row['floor']['share']['median']:.2f}" if row else "-"

    rows = []
    for pair, cells in pairs.items():
        times = [f"{ratio(cells.get(('out', size)))} / {ratio(cells.get(('fresh', size)))}" for size in CAST_SIZES]
        rows.append([pair, *times, share(cells.get(("out", max(CAST_SIZES))))])
    return (
        f"{where(result)} Time of halfway / time of the best idiom of torch, NumPy and ml_dtypes, into `out=` / into "
        "fresh memory, by number of elements; below 1 halfway is faster. The floor moves the same bytes without "
        "casting; 1 would be its speed. "
        f"All of it: [{name}](bench/results/{name}).\n\n"
        + table(["cast", *CAST_SIZES.values(), "share of the floor, 64 Mi"], rows)
        + special_values(result)
        + picture("time against the best rival, and share of the floor", "docs/cast.svg")
    )


def special_values(result: Result) -> str:
    """Per pair of values that casts may have to take care of: the ratio, and the share of the floor."""
    rows = [
        [
            f"`{row['source']}` to `{row['target']}`",
            row["values"],
            f"{row['ratio']['median']:.2f}",
            f"{row['floor']['share']['median']:.2f}",
        ]
        for row in result.get("values", [])
    ]
    heading = "\nThe same for values that a cast may have to take care of, 1 Mi into `out=`:\n\n"
    return heading + table(["cast", "of", "time / best rival's", "share of the floor"], rows) if rows else ""


def cast_claims(found: Found | None) -> str:
    return claims(found[1]) if found else not_measured("cast")


# --- one pass


def onepass_times(found: Found | None) -> str:
    """Per row: our time, how many times faster than the best idiom, and the share of the floor."""
    if found is None:
        return not_measured("onepass")
    name, result = found
    rows = []
    for row in result["rows"]:
        ns = next(entry["ns"]["median"] for entry in row["contenders"] if entry["statement"] == row["ours"])
        spread = quartiles(row["faster"], 1)
        share = f"{row['floor']['share']['median']:.2f}"
        rows.append([row["name"], f"{ns / 1e6:.2f} ms", spread, code(row["rival"]), share])
    header = ["row", "halfway", "times faster than the best idiom (quartiles)", "which was", "share of the floor"]
    return (
        f"{where(result)} The floor moves the cache lines of source and result without a cast; 1 would be its speed. "
        f"All of it: [{name}](bench/results/{name}).\n\n"
        + table(header, rows)
        + picture("times faster than the best idiom, and share of the floor", "docs/onepass.svg")
    )


def onepass_claims(found: Found | None) -> str:
    return claims(found[1]) if found else not_measured("onepass")


# --- C++


def cpp_times(found: Found | None) -> str:
    """Per exchange: our time, and that over the time of torch's own function."""
    if found is None:
        return not_measured("cpp")
    name, result = found
    machine = result["machine"]
    rows = []
    for row in result["rows"]:
        by_role = {entry["role"]: entry for entry in row["contenders"]}
        ours, rival = by_role["ours"], by_role["rival"]
        spread = quartiles(row["ratio"], 2)
        time = f"{ours['ns']['median']:.0f} ns"
        rows.append([code(ours["statement"]), time, code(rival["statement"]), spread, VERDICTS[row["verdict"]]])
    header = [
        "halfway",
        "",
        "against",
        "time of halfway / time of the other (quartiles)",
        f"wanted: <= {ratio_wanted(result)}",
    ]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, torch {machine['torch']}, {result['date']}; "
        f"an owner made and freed, the floor, takes {result['floor']['ns']['median']:.0f} ns. "
        f"All of it: [{name}](bench/results/{name}).\n\n" + table(header, rows)
    )


def steps_times(found: Found | None) -> str:
    """Per step: nanoseconds an element, those of the functors, and how many times faster it is."""
    if found is None:
        return not_measured("steps")
    name, result = found
    machine = result["machine"]
    rows = []
    for row in result["rows"]:
        spread = quartiles(row["faster"], 1)
        rows.append([row["name"], f"{row['ns']['step']:.2f}", f"{row['ns'][row['rival']]:.2f}", spread])
    header = ["loop", "step", "the functors, at best", "times faster (quartiles)"]
    return (
        f"{machine['cpu']}, {machine['system']}, {result['date']}; nanoseconds an element of 1024 in the "
        f"first-level cache, one thread. All of it: [{name}](../bench/results/{name}).\n\n" + table(header, rows)
    )


def ratio_wanted(result: Result) -> str:
    wanted = {f"{row['target']:g}" for row in result["rows"]}
    assert len(wanted) == 1
    return wanted.pop()


# --- transfers

NO_GPU = "Not measured: no GPU was at hand. `make gpu-bench` measures on a machine that has one.\n"


def rows_to_device(result: Result) -> list[Result]:
    """Those that a run measured."""
    return [*result.get("transfers", []), *result.get("latency", [])]


def left_out(result: Result) -> str:
    """What a run did not measure and why, each reason once; nothing where it measured all of it."""
    why: dict[str, list[str]] = {}
    for entry in result["left_out"]:
        why.setdefault(entry["why"], []).append(entry["name"])
    for step in result["steps"]:
        if step["status"] == "left out":  # none of its rows is named
            why.setdefault(step["why"], []).append(f"the step `{step['name']}`")
    found = [f"{'; '.join(names)} ({reason})" for reason, names in why.items()]
    measured = len(rows_to_device(result))
    return f"\nTo the device {measured} rows were measured. Left out: {'. '.join(found)}.\n" if found else ""


def engine_of(result: Result) -> str:
    """Which engine a run measured. The tree's may be a later one, of which the figures say nothing."""
    found = result.get("sources")
    if found is None:
        return f"Measured with the engine of {result['date']}; the result does not name its sources."
    return f"Measured with the engine whose sources have the fingerprint `{found[:16]}`."


def beside_cupy(result: Result) -> str:
    """What calls that wait take beside CuPy's fastest idiom, over all rows that have one."""
    shares = [row["modes"]["blocking"].get("cupy") for row in rows_to_device(result)]
    ratios = sorted(share["ratio"]["median"] for share in shares if share)
    if not ratios:
        return ""
    statement = next(share["statement"] for share in shares if share)
    return (
        f"\n{len(ratios)} of the rows, none of bfloat16, have CuPy beside them: calls that wait took {ratios[0]:.2f} "
        f"to {ratios[-1]:.2f} of the time of its fastest idiom ({code(statement)} and the like), "
        f"{statistics.median(ratios):.2f} in the middle.\n"
    )


def transfer_times(found: Found | None) -> str:
    """Per pair and kind of memory, at the largest size: our times, and those over torch's faster mode."""
    if found is None:
        return NO_GPU
    name, result = found
    machine = result["machine"]
    largest: dict[tuple[str, str, str], Result] = {}
    for row in result.get("transfers", []):
        key = row["source"], row["target"], row["memory"]
        if key not in largest or row["size"] > largest[key]["size"]:
            largest[key] = row
    rows = []
    for row in largest.values():
        ns = {entry["statement"]: entry["ns"]["median"] for entry in row["contenders"]}
        cells = []
        for cell in row["modes"].values():
            cells.append(f"{ns[cell['ours']] / 1e6:.2f} ms, {cell['against_torch']['median']:.2f}")
        share = max(cell["floor"]["median"] for cell in row["modes"].values())
        rows.append([row["name"], *cells, code(row["modes"]["blocking"]["torch"]), f"{share:.2f}"])
    header = ["row", "blocking", "non-blocking", "torch's fastest idiom", "share of the copy engine's speed"]
    return (
        f"{machine['gpu']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['python']}, "
        f"torch {machine['torch']} (CUDA {machine['cuda_of_torch']}), {result['date']}. Time of halfway, and that over "
        "the time of torch's fastest idiom in either mode; below 1 halfway is faster. The copy engine moves the bytes "
        f"of the narrower side alone. All of it: [{name}](bench/results/{name}).\n\n"
        f"{engine_of(result)} Later changes are not measured.\n\n"
        + table(header, rows)
        + left_out(result)
        + beside_cupy(result)
        + picture("transfers against torch", "docs/transfer.svg")
    )


def transfer_targets(found: Found | None) -> str:
    result = found[1] if found else {}
    return claims(result if "claims" in result else {"claims": transfer_claims.judge(result)})


def transfer_slower(found: Found | None) -> str:
    """Each cell above the bound that the target of the worst cell is about: a row a pair."""
    if found is None:
        return NO_GPU
    result = found[1]
    above = transfer_claims.above_the_bound(result)
    pairs: dict[str, dict[tuple[str, str], list[str]]] = {}
    for cell in sorted(above, key=lambda cell: int(cell.row["size"])):
        pair, memory, size = cell.row["name"].split(", ")
        times = f"{size}: {cell.ours / 1e3:.1f} / {cell.theirs / 1e3:.1f}"
        pairs.setdefault(pair, {}).setdefault((memory, cell.mode), []).append(times)
    columns = [(memory, mode) for memory in ("pageable", "pinned") for mode in ("blocking", "non-blocking")]
    blocking = sum(cell.mode == "blocking" for cell in above)
    measured = len(rows_to_device(result))
    said = (
        f"Of {measured} rows {blocking} took longer than 1.05 times torch's fastest idiom in either mode and "
        f"{transfer_claims.EXCESS:g} us where they block, and {len(above) - blocking} where they do not"
    )
    if not above:
        return f"{said}.\n"
    cells = [[name, *("<br>".join(entries.get(column, [])) for column in columns)] for name, entries in pairs.items()]
    return f"{said}: halfway / torch, in us.\n\n" + table(["cast", *map(", ".join, columns)], cells)


BENCHMARKS = {
    "cast": {"times": cast_times, "claims": cast_claims},
    "onepass": {"times": onepass_times, "claims": onepass_claims},
    "cpp": {"times": cpp_times},
    "steps": {"times": steps_times},
    "transfer": {"times": transfer_times, "claims": transfer_targets, "slower": transfer_slower},
}
MAKERS = {"dtypes": dtypes, "carried": carried, "refused": refused, "reasons": reasons}
BLOCK = re.compile(r"(<!-- table: (\w+)(?: (\S+))? -->\n).*?(<!-- end -->\n)", re.DOTALL)


def render(text: str) -> str:
    """`text` with each marked table as the code has it now."""

    def fresh(match: re.Match[str]) -> str:
        if match[2] == "measured":
            made = measured(match[3])
        elif match[2] in BENCHMARKS:
            made = BENCHMARKS[match[2]][match[3]](newest(match[2]))
        else:
            made = MAKERS[match[2]]()
        return f"{match[1]}{made}{match[4]}"

    return BLOCK.sub(fresh, text)


def main() -> int:
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        fresh = render(text)
        if fresh != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(fresh)
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'stale' if '--check' in sys.argv else 'written'}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
