"""The picture of bench/transfer.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import plots

COLOURS = {"blocking": "#1f5f8b", "non-blocking": "#d98032"}


def caption(result: Mapping[str, Any]) -> str:
    about = result["machine"]
    return (
        f"{about['gpu']}, {about['cpu']}, {about['cores']} cores, {about['python']}, torch {about['torch']}, "
        f"{result['date']}"
    )


def plot(path: Path, result: Mapping[str, Any]) -> None:
    """Left: time over the faster mode of torch's, the largest size of each pair. Right: times as fast as torch."""
    _, plt = plots._matplotlib()
    rows = largest(result.get("transfers", []))
    others = [row for table in ("device", "images", "to_host") for row in result.get(table, [])]
    height = 1.8 + 0.2 * max(2 * len(rows), len(others), 6)
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, height))
    for at, row in enumerate(rows):
        for shift, (mode, cell) in zip((-0.2, 0.2), row["modes"].items(), strict=True):
            ratio = cell["against_torch"]
            error = [[ratio["median"] - ratio["q1"]], [ratio["q3"] - ratio["median"]]]
            label = mode if at == 0 else None
            left.barh(at + shift, ratio["median"], height=0.38, xerr=error, color=COLOURS[mode], label=label)
            left.text(ratio["q3"] + 0.02, at + shift, f"{ratio['median']:.2f}", va="center", fontsize=7)
    left.axvline(1.0, color="#666666", lw=1, ls="--")
    left.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=7.5)
    left.set_ylim(len(rows) - 0.4, -0.6)
    left.set_xlim(0, None)
    left.set_xlabel("time of halfway / time of torch's fastest idiom in either mode")
    left.set_title("To the device", fontsize=10)
    if rows:
        left.legend(loc="best", fontsize=8, frameon=False)
    for at, row in enumerate(others):
        faster = row["faster"]
        right.barh(at, faster["median"], height=0.7, color="#2a7f62")
        share = f", {row['floor']['share']['median']:.2f} of the floor" if "floor" in row else ""
        right.text(faster["median"] + 0.03, at, f"{faster['median']:.2f}{share}", va="center", fontsize=7)
    right.axvline(1.0, color="#666666", lw=1, ls="--")
    right.set_yticks(range(len(others)), [row["name"] for row in others], fontsize=7.5)
    right.set_ylim(len(others) - 0.4, -0.6)
    right.margins(x=0.3)
    right.set_xlim(0, None)
    right.set_xlabel("time of torch's fastest idiom / time of halfway")
    right.set_title("On the device and back", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.008, caption(result), fontsize=7, color="#555555")
    figure.tight_layout(rect=(0, 0.025, 1, 1))
    plots._save(figure, path)


def largest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of each pair and memory the row of the largest size."""
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = row["source"], row["target"], row["memory"]
        if key not in found or row["size"] > found[key]["size"]:
            found[key] = row
    return list(found.values())
