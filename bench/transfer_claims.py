"""What is wanted of transfers on a GPU of the H100's class over PCIe, and what one run says of it.

The targets are known without a run: a row of `judge` whose figure is missing says "not measured".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.harness import claim

Result = Mapping[str, Any]
Row = Mapping[str, Any]
# A figure, and what it is of.
Found = tuple[float, str]

BLOCKING_CALL = 't.to("cuda", dtype)'
EXCESS = 3.0  # microseconds
COPY_ENGINE = "there.copy_(pinned, non_blocking=True)"
NOTHING = 1 << 20  # bytes: less than any temporary of a large tensor, more than a driver's own


def _rows(result: Result) -> list[Row]:
    return [*result.get("transfers", []), *result.get("latency", [])]


def _row(result: Result, table: str, name: str) -> Row | None:
    return next((row for row in result.get(table, []) if row["name"] == name), None)


def _ns(row: Row, statement: str) -> float | None:
    found = next((entry for entry in row["contenders"] if entry["statement"] == statement), None)
    return None if found is None else float(found["ns"]["median"])


def _against_blocking(memory: str) -> Callable[[Result], Found | None]:
    def value(result: Result) -> Found | None:
        """The least of 16 MiB and 1 GiB."""
        found = []
        for size in ("16 MiB", "1 GiB"):
            row = _row(result, "transfers", f"float32 -> bfloat16, {memory}, {size}")
            if row is None:
                return None
            ours, theirs = _ns(row, row["modes"]["blocking"]["ours"]), _ns(row, BLOCKING_CALL)
            if ours is None or theirs is None:
                return None
            found.append((theirs / ours, f"{size}: {ours / 1e6:.3f} ms against {theirs / 1e6:.3f} ms"))
        return min(found)

    return value


@dataclass(frozen=True)
class Cell:
    """A row in one of its modes, in nanoseconds: ours, and torch's fastest idiom in either mode."""

    row: Row
    mode: str
    ours: float
    theirs: float

    @property
    def excess(self) -> float:
        """By how many microseconds ours takes longer than 1.05 times theirs."""
        return (self.ours - 1.05 * self.theirs) / 1000


def cells(result: Result) -> Iterator[Cell]:
    for row in _rows(result):
        for mode, cell in row["modes"].items():
            ours, theirs = _ns(row, cell["ours"]), _ns(row, cell["torch"])
            if ours is not None and theirs is not None:
                yield Cell(row, mode, ours, theirs)


def above_the_bound(result: Result) -> list[Cell]:
    """Each cell that takes longer than it may, of which the target names the worst alone."""
    return [cell for cell in cells(result) if cell.excess > EXCESS]


def _worst_cell(result: Result) -> Found | None:
    """By how many microseconds a cell takes longer than 1.05 times the faster mode of torch."""
    worst = max(cells(result), key=lambda cell: cell.excess, default=None)
    # Of some of the cells the worst says nothing of the others, unless it is too slow already.
    whole = result.get("finished", False) and not result.get("left_out")
    if worst is None or not (worst.excess > EXCESS or whole):
        return None
    what = f"{worst.row['name']}, {worst.mode}"
    return worst.excess, f"{what}: {worst.ours / 1000:.1f} us against {worst.theirs / 1000:.1f} us"


def bound_ns(row: Row, floors: Mapping[str, Any]) -> dict[str, float] | None:
    """The least time that each way from pinned memory can take, in nanoseconds.

    `ship`: a copy engine takes the wide bytes. `cast`: the host casts while the narrow ones cross. `read`: a kernel
    reads the wide ones over the wire.
    """
    narrow = _ns(row, COPY_ENGINE)
    if narrow is None or "host_memory" not in floors:
        return None
    wide = narrow * row["bytes_wide"] / row["bytes_narrow"]
    rate = min(floors["host_cast"] * floors["threads"], floors["host_memory"])
    return {
        "ship": wide,
        "cast": max(row["bytes_source"] / rate * 1e9, narrow),
        "read": wide / max(floors["mapped_read"], 1e-9),
    }


def _of_the_bound(result: Result) -> Found | None:
    row = _row(result, "transfers", "float32 -> bfloat16, pinned, 1 GiB")
    if row is None:
        return None
    bounds = bound_ns(row, result.get("floors", {}))
    ours = _ns(row, row["ours"])
    if bounds is None or ours is None:
        return None
    strategy = min(bounds, key=lambda name: bounds[name])
    return bounds[strategy] / ours, f"{strategy}: {bounds[strategy] / 1e6:.3f} ms, halfway {ours / 1e6:.3f} ms"


def _faster(table: str, name: str) -> Callable[[Result], Found | None]:
    def value(result: Result) -> Found | None:
        row = _row(result, table, name)
        return None if row is None else (row["faster"]["median"], row["rival"])

    return value


def _of_the_copy_engine(result: Result) -> Found | None:
    row = _row(result, "to_host", "float32 -> bfloat16 to pinned memory")
    return None if row is None else (row["floor"]["share"]["median"], row["ours"])


def _taken_on_the_device(result: Result) -> Found | None:
    """MiB; by torch's tensors or anybody."""
    rows = result.get("to_host", [])
    found = [
        (max(entry["peak"].values()) / (1 << 20), f"{row['name']}: {entry['statement']}")
        for row in rows
        for entry in row["contenders"]
        if entry["role"] == "ours" and "peak" in entry
    ]
    return max(found) if len(rows) == 2 else None


HALVES = ("bfloat16", "float16")
CAST_FROM = ("uint8", "int64", "float64")


def _worst_cast(value_of: Callable[[Row], float]) -> Callable[[Result], Found | None]:
    def value(result: Result) -> Found | None:
        found = []
        for source in CAST_FROM:
            for target in HALVES:
                row = _row(result, "device", f"{source} -> {target}")
                if row is None:
                    return None
                found.append((value_of(row), row["name"]))
        return min(found)

    return value


@dataclass(frozen=True)
class Target:
    """A figure that is wanted."""

    name: str
    bound: Literal["<=", ">="]
    target: float
    value: Callable[[Result], Found | None]


TARGETS = (
    Target(
        "pageable float32 -> bfloat16: times faster than torch's blocking call", ">=", 3, _against_blocking("pageable")
    ),
    Target("worst cell: microseconds beyond 1.05 times the faster mode of torch", "<=", EXCESS, _worst_cell),
    Target("pinned float32 -> bfloat16: times faster than torch's blocking call", ">=", 5, _against_blocking("pinned")),
    Target("pinned float32 -> bfloat16, 1 GiB: share of the best strategy's bound", ">=", 0.9, _of_the_bound),
    Target(
        "uint8 NHWC, pageable -> bfloat16 NCHW on the device, normalised: times faster than torch's best",
        ">=",
        2,
        _faster("images", "u8 NHWC, pageable -> bfloat16 NCHW on the device, normalised"),
    ),
    Target(
        "uint8 -> bfloat16 normalised on the device: times faster than torch's best",
        ">=",
        2,
        _faster("images", "u8 -> bfloat16, normalised"),
    ),
    Target(
        "uint8 NHWC -> bfloat16 NCHW normalised on the device: times faster than torch's best",
        ">=",
        2,
        _faster("images", "u8 NHWC -> bfloat16 NCHW, normalised"),
    ),
    Target(
        "uint8 NHWC -> bfloat16 NCHW on the device: times faster than torch's best",
        ">=",
        2,
        _faster("images", "u8 NHWC -> bfloat16 NCHW"),
    ),
    Target("device to pinned host, float32 -> bfloat16: share of the copy engine", ">=", 0.85, _of_the_copy_engine),
    Target(
        "device to host, float32 -> bfloat16: MiB of device memory taken", "<=", NOTHING >> 20, _taken_on_the_device
    ),
    Target(
        "device casts from uint8, int64, float64 to half types: times faster than torch, worst",
        ">=",
        1.1,
        _worst_cast(lambda row: float(row["faster"]["median"])),
    ),
    Target(
        "device casts from uint8, int64, float64 to half types: share of the device copy rate, worst",
        ">=",
        0.85,
        _worst_cast(lambda row: float(row["floor"]["share"]["median"])),
    ),
)


def judge(result: Result) -> list[dict[str, Any]]:
    """Every target with its figure; with verdict "not measured", and without a value, where there is none."""
    claims = []
    for target in TARGETS:
        found = target.value(result)
        if found is None:
            head = {"name": target.name, "bound": target.bound, "target": target.target}
            claims.append({**head, "verdict": "not measured"})
        else:
            claims.append(claim(target.name, found[0], target.bound, target.target, found[1]))
    return claims
