"""Writes the tables of README.md and docs/errors.md that the code is the source of.

usage: readme_tables.py [--check]    with --check nothing is written, and stale tables are an error

Tables stand between <!-- table: NAME --> and <!-- end -->. The table `measured` takes the name of a
file in bench/results/.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import halfway

ROOT = Path(__file__).resolve().parents[1]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def code(names: tuple[str, ...] | str | None) -> str:
    if isinstance(names, str):
        names = (names,)
    return ", ".join(f"`{name}`" for name in names or ()) or "-"


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
                ratio = entry["ratio"]
                spread = f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
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


MAKERS = {"dtypes": dtypes, "carried": carried, "refused": refused, "reasons": reasons}
BLOCK = re.compile(r"(<!-- table: (\w+)(?: (\S+))? -->\n).*?(<!-- end -->\n)", re.DOTALL)


def render(text: str) -> str:
    """`text` with each marked table as the code has it now."""

    def fresh(match: re.Match[str]) -> str:
        made = measured(match[3]) if match[2] == "measured" else MAKERS[match[2]]()
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
