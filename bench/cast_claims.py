"""What is claimed of the casts' speed, judged on the rows of one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from bench.cast_rows import (
    CLAIM_SIZE,
    F16_BF16,
    F32_BF16,
    F32_E4M3,
    F32_F16,
    FLAT_SIZES,
    FLOOR_SIZE,
    HOT,
    HUGE,
    LARGE,
    MODES,
    NEAR_FLOOR,
    RIVAL_SIZES,
    Pair,
    size_name,
)
from bench.harness import claim

Row = Mapping[str, Any]
Rows = Mapping[tuple[Pair, str, int], Row]

MEDIAN_OF_RIVAL, WORST_OF_RIVAL = 0.80, 1.10
FLOOR_FROM_64_MIB, FLOOR_IN_CACHE, FLOOR_OF_OTHERS = 0.85, 0.60, 0.50
FLAT = 1.3


def _of(rows: Rows, pairs: Iterable[Pair], mode: str, sizes: Sequence[int]) -> list[Row]:
    """The rows asked for, or none unless all are there."""
    keys = [(pair, mode, size) for pair in pairs for size in sizes]
    return [rows[key] for key in keys] if all(key in rows for key in keys) else []


def _ratio(row: Row) -> float:
    value: float = row["ratio"]["median"]
    return value


def _share(row: Row) -> float:
    value: float = row["floor"]["share"]["median"]
    return value


def _door(row: Row, door: str) -> float:
    value: float = row["doors"][door]["ratio"]["median"]
    return value


def _against_rivals(rows: Rows) -> list[dict[str, Any]]:
    claims = []
    for mode in MODES:
        for size in RIVAL_SIZES:
            found = _of(rows, HOT, mode, [size])
            if not found:
                continue
            where = f"{mode}, {size_name(size)}: time / best rival's"
            median = statistics.median(map(_ratio, found))
            worst = max(found, key=_ratio)
            claims.append(claim(f"{where}, median of the hot pairs", median, "<=", MEDIAN_OF_RIVAL))
            claims.append(claim(f"{where}, worst hot pair", _ratio(worst), "<=", WORST_OF_RIVAL, worst["name"]))
    return claims


def _against_the_floor(rows: Rows) -> list[dict[str, Any]]:
    claims = []

    def least(name: str, pairs: Iterable[Pair], sizes: Sequence[int], target: float) -> None:
        found = _of(rows, pairs, "out", sizes)
        if found:
            worst = min(found, key=_share)
            claims.append(claim(name, _share(worst), ">=", target, worst["name"]))

    for pair in NEAR_FLOOR:
        name = f"{pair.name}, out: share of the floor"
        least(f"{name} from 64 MiB moved", [pair], [LARGE, HUGE], FLOOR_FROM_64_MIB)
        least(f"{name}, {size_name(FLOOR_SIZE)}", [pair], [FLOOR_SIZE], FLOOR_IN_CACHE)
    others = [pair for pair in HOT if pair not in NEAR_FLOOR]
    for size in (HUGE, FLOOR_SIZE):
        least(f"other hot pairs, out: share of the floor, {size_name(size)}", others, [size], FLOOR_OF_OTHERS)
    return claims


def _single(rows: Rows) -> list[dict[str, Any]]:
    claims = []

    def one(
        name: str,
        key: tuple[Pair, str, int],
        value: Callable[[Row], float],
        bound: Literal["<=", ">="],
        target: float,
    ) -> None:
        if key in rows:
            claims.append(claim(name, value(rows[key]), bound, target))

    def door(library: str) -> Callable[[Row], float]:
        return lambda row: _door(row, library)

    def times_faster(library: str) -> Callable[[Row], float]:
        return lambda row: 1 / _door(row, library)

    large, small = size_name(HUGE), size_name(CLAIM_SIZE)
    one(f"{F32_BF16.name}, out, {large}: time / copy_", (F32_BF16, "out", HUGE), door("torch"), "<=", 0.85)
    one(f"{F32_BF16.name}, fresh, {large}: time / torch .to", (F32_BF16, "fresh", HUGE), door("torch"), "<=", 0.25)
    one(f"{F32_BF16.name}, out, 32: time / copy_", (F32_BF16, "out", 32), door("torch"), "<=", 0.65)
    for pair, library, target in ((F32_F16, "numpy", 8), (F16_BF16, "torch", 8), (F32_E4M3, "torch", 4)):
        name = f"{pair.name}, out, {small}: times faster than {library}"
        one(name, (pair, "out", CLAIM_SIZE), times_faster(library), ">=", target)
    return claims


def _flat(rows: Rows) -> list[dict[str, Any]]:
    found = _of(rows, [F32_BF16], "out", FLAT_SIZES)
    if not found:
        return []

    def an_element(row: Row, statement: str) -> float:
        entry = next(entry for entry in row["contenders"] if entry["statement"] == statement)
        ns: float = entry["ns"]["median"] / row["elements"]
        return ns

    each = [an_element(row, row["ours"]) for row in found]
    floors = [an_element(row, row["floor"]["statement"]) for row in found]
    note = ", ".join(f"{size_name(size)}: {ns:.4f} ns" for size, ns in zip(FLAT_SIZES, each, strict=True))
    note += f"; largest / smallest {max(each) / min(each):.2f}"
    name = f"{F32_BF16.name}, out: most time an element from 16 Ki to 1 Mi / that at 16 Ki"
    return [{**claim(name, max(each) / each[0], "<=", FLAT, note), "floor": round(max(floors) / floors[0], 3)}]


def _options(options: Sequence[Row]) -> list[dict[str, Any]]:
    limits = {("report", "out"): 1.15, ("same_value", "fresh"): 1.15, ("same_value", "out"): 1.9}
    claims = []
    for row in options:
        target = limits[row["option"], row["mode"]]
        claims.append(claim(f"{row['name']}: time / plain cast", row["plain"]["ratio"]["median"], "<=", target))
        if "faster" in row:
            name = f"{row['name']}: times faster than counting in torch"
            claims.append(claim(name, row["faster"]["median"], ">=", 25, row["rival"]))
    return claims


def judge(rows: Sequence[Row], options: Sequence[Row]) -> list[dict[str, Any]]:
    """All claims that these rows can tell about."""
    table = {(Pair(row["source"], row["target"]), row["mode"], row["size"]): row for row in rows}
    return [
        *_against_rivals(table),
        *_against_the_floor(table),
        *_single(table),
        *_flat(table),
        *_options(options),
    ]
