"""The pictures of the benchmarks. matplotlib is imported when one is drawn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {
    "ok": ("#2a7f62", "target met"),
    "short": ("#c0392b", "short of its target"),
    None: ("#8aa0b4", "no target"),
}


def _matplotlib() -> tuple[Any, Any]:
    """matplotlib and its pyplot, set to write the same file for the same picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "halfway", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    return mpl, plt


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=110, metadata=metadata)
    _matplotlib()[1].close(figure)


def plot_ratios(path: Path, rows: Sequence[Mapping[str, Any]], title: str, caption: str) -> None:
    """Bars of ours over each rival, with quartiles; a black mark where the target is."""
    mpl, plt = _matplotlib()
    bars = [(row, entry) for row in rows for entry in row["ratios"] if entry["role"] == "rival"]
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.3 * len(bars) + 0.25 * len(rows)))
    y = 0.0
    heads: list[tuple[float, str]] = []
    labels: list[tuple[float, str]] = []
    for row in rows:
        entries = [entry for entry in row["ratios"] if entry["role"] == "rival"]
        if not entries:
            continue
        heads.append((y, f"{row['name']}:  {row['ours']}"))
        for entry in entries:
            y += 1
            ratio = entry["ratio"]
            middle = ratio["median"]
            error = [[middle - ratio["q1"]], [ratio["q3"] - middle]]
            met = entry.get("verdict")
            colour = COLOURS[met][0]
            axes.barh(y, middle, xerr=error, color=colour, height=0.7, ecolor="#333333", capsize=2)
            end = max(middle, ratio["q3"], entry.get("target", 0.0)) + 0.012
            axes.text(end, y, f"{middle:.2f}", va="center", fontsize=8)
            if "target" in entry:
                axes.plot([entry["target"]] * 2, [y - 0.45, y + 0.45], color="black", lw=2)
            labels.append((y, entry["against"]))
        y += 1.4
    axes.axvline(1.0, color="#666666", lw=1, ls="--")
    axes.set_xlim(0, None)
    axes.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize=8)
    for at, text in heads:
        axes.text(0.005, at, text, va="center", fontsize=8, fontweight="bold")
    axes.set_ylim(y - 0.8, -0.8)
    axes.set_xlabel("time of halfway / time of the rival (median and quartiles; black mark: target)")
    axes.set_title(title, fontsize=10)
    shown = {entry.get("verdict") for _, entry in bars}
    patches = [mpl.patches.Patch(color=colour, label=label) for met, (colour, label) in COLOURS.items() if met in shown]
    axes.legend(handles=patches, loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.005, caption, fontsize=7, color="#555555")
    figure.tight_layout(rect=(0, 0.015, 1, 1))
    _save(figure, path)


SHORT = {
    "bfloat16": "bf16",
    "float8_e4m3fn": "e4m3fn",
    "float8_e5m2": "e5m2",
    "bool": "bool",
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"{kind}int{bits}": f"{kind or 'i'}{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)},
}
MODE_COLOURS = {"out": "#1f5f8b", "fresh": "#d98032"}
MODE_LABELS = {"out": "into out=", "fresh": "fresh result"}


def plot_casts(path: Path, rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Left: time over the best rival's, a dot a pair, by size. Right: share of the floor at the largest size."""
    _, plt = _matplotlib()
    by_size: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        by_size.setdefault(row["size"], {}).setdefault(row["mode"], []).append(row["ratio"]["median"])
    sizes = sorted(size for size, modes in by_size.items() if len(modes) == len(MODE_LABELS)) or sorted(by_size)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 6), gridspec_kw={"width_ratios": [3, 2]})

    for shift, (mode, label) in zip((-0.18, 0.18), MODE_LABELS.items(), strict=True):
        colour = MODE_COLOURS[mode]
        for at, size in enumerate(sizes):
            ratios = sorted(by_size[size].get(mode, []))
            count = len(ratios)
            spots = [at + shift + 0.2 * ((index * 7 % count + 0.5) / count - 0.5) for index in range(count)]
            left.plot(spots, ratios, "o", color=colour, ms=4, alpha=0.55, mew=0, label=label if at == 0 else None)
            if ratios:
                middle = statistics.median(ratios)
                left.plot([at + shift - 0.15, at + shift + 0.15], [middle] * 2, color=colour, lw=2.5)
    left.axhline(1.0, color="#666666", lw=1, ls="--")
    left.set_yscale("log")
    ticks = [tick for power in range(-3, 4) for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)]
    values = [ratio for modes in by_size.values() for ratios in modes.values() for ratio in ratios]
    low, high = min(0.5, *values) / 1.2, max(1.2, *values) * 1.2
    left.set_yticks([tick for tick in ticks if low <= tick <= high])
    left.set_yticks([], minor=True)
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.set_ylim(low, high)
    left.set_xticks(range(len(sizes)), [_size(size) for size in sizes])
    left.set_xlabel("elements")
    left.set_ylabel("time of halfway / time of the best rival")
    left.set_title("Against torch, NumPy and ml_dtypes: a dot a pair, a bar the median", fontsize=10)
    left.grid(axis="y", color="#e4e4e4", lw=0.7)
    left.set_axisbelow(True)
    left.legend(loc="best", fontsize=8, framealpha=0.9, edgecolor="none")

    largest = max(row["size"] for row in rows)
    bars = [row for row in rows if row["size"] == largest and row["mode"] == "out"]
    _share_bars(right, bars)
    names = [f"{SHORT[row['source']]} \u2192 {SHORT[row['target']]}" for row in bars]
    right.set_yticks(range(len(bars)), names, fontsize=8)
    right.set_title(f"Share of the floor, {_size(largest)} elements into out=", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.008, caption, fontsize=7, color="#555555")
    figure.tight_layout(rect=(0, 0.025, 1, 1))
    _save(figure, path)


def _share_bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows' shares of the floor with their quartiles, from top to bottom."""
    limit = max(1.15, *(row["floor"]["share"]["median"] + 0.15 for row in rows)) if rows else 1.15
    box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    for at, row in enumerate(rows):
        share = row["floor"]["share"]
        error = [[share["median"] - share["q1"]], [share["q3"] - share["median"]]]
        style = {"color": MODE_COLOURS[row["mode"]], "ecolor": "#333333", "error_kw": {"lw": 1}, "height": 0.7}
        axes.barh(at, share["median"], xerr=error, **style)
        end = min(max(share["median"], share["q3"]) + 0.015, limit - 0.08)
        axes.text(end, at, f"{share['median']:.2f}", va="center", fontsize=7.5, bbox=box)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(1.0, color="#666666", lw=1, ls="--")
    axes.set_xlim(0, limit)
    axes.set_xlabel("time of the fastest bare sweep / time of halfway")


def plot_onepass(path: Path, rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Left: how many times faster than the best idiom, and than the usual chain. Right: shares of the floor."""
    _, plt = _matplotlib()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 1.8 + 0.32 * len(rows)), sharey=True)
    for at, row in enumerate(rows):
        faster = row["faster"]
        error = [[faster["median"] - faster["q1"]], [faster["q3"] - faster["median"]]]
        style = {"color": MODE_COLOURS[row["mode"]], "ecolor": "#333333", "error_kw": {"lw": 1}, "height": 0.7}
        left.barh(at, faster["median"] - 1, left=1, xerr=error, **style)  # on a logarithmic axis: from 1
        end = max(1.0, faster["median"], faster["q3"]) * 1.04
        left.text(end, at, f"{faster['median']:.1f}", va="center", fontsize=7.5)
        if "usual" in row:
            usual = row["usual"]["faster"]["median"]
            left.plot(usual, at, "D", color="#c0392b", ms=5)
            left.text(usual * 1.12, at - 0.1, f"{usual:.0f}", va="bottom", fontsize=7.5, color="#c0392b")
        if "hand" in row:
            left.plot(row["hand"]["faster"]["median"], at, "|", color="black", ms=14, mew=2)
    patches = [
        *(plt.Rectangle((0, 0), 1, 1, color=MODE_COLOURS[mode], label=MODE_LABELS[mode]) for mode in MODE_COLOURS),
        plt.Line2D([], [], color="#c0392b", marker="D", ms=5, ls="", label="against the usual chain"),
        plt.Line2D([], [], color="black", marker="|", ms=10, mew=2, ls="", label="against a kernel written by hand"),
    ]
    figure.legend(handles=patches, loc="lower right", ncols=4, fontsize=7.5, frameon=False)
    left.axvline(1.0, color="#666666", lw=1, ls="--")
    left.set_xscale("log")
    left.set_yticks(range(len(rows)), [row["name"].rsplit(", ", 1)[0] for row in rows], fontsize=8)
    left.set_xlabel("time of the best idiom of torch and NumPy / time of halfway")
    left.set_title("How many times faster", fontsize=10)
    left.margins(x=0.12)
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _share_bars(right, rows)
    right.set_title("Share of the floor", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.008, caption, fontsize=7, color="#555555")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    _save(figure, path)


def _size(size: int) -> str:
    for unit, name in ((1 << 20, "Mi"), (1 << 10, "Ki")):
        if size >= unit:
            return f"{size // unit} {name}"
    return str(size)
