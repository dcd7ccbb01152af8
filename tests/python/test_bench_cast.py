"""The cast benchmark runs, judges what it should, and its floor moves the bytes; no time is asserted."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from bench import cast, cast_claims, cast_options, cast_rows, floor, harness
from bench.harness import Contender, Effort
from tests.python import bench_script
from tests.python.loading import load_tool

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "cast.py"
run_script = partial(bench_script.run, SCRIPT)
KI, MI = 1 << 10, 1 << 20

NARROW = ("float32", "float16", "bfloat16")
HOT = {
    *((a, b) for a in ("float32", "float64", "float16", "bfloat16", "uint8", "int64") for b in NARROW if a != b),
    ("float32", "float8_e4m3fn"),
    ("float32", "float8_e5m2"),
    *((a, b) for a in ("float8_e4m3fn", "float8_e5m2") for b in ("float32", "bfloat16")),
    ("int64", "int32"),
    ("int32", "int64"),
    ("float32", "float64"),
    ("bool", "float32"),
}
NEAR_FLOOR = {
    ("float32", "float16"),
    ("float16", "float32"),
    ("float32", "bfloat16"),
    ("bfloat16", "float32"),
    ("float64", "float32"),
    ("uint8", "float32"),
}
RIVAL_SIZES = ("1", "32", "1 Ki", "32 Ki", "1 Mi", "64 Mi")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "cast.json"
    plot = path.with_suffix(".svg")
    printed = run_script("--quick", "--json", path, "--plot", plot)
    assert plot.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for claim in loaded["claims"]:
        assert claim["name"] in printed
    return loaded


def is_spread(entry: dict[str, float]) -> bool:
    values = [entry["q1"], entry["median"], entry["q3"]]
    return all(math.isfinite(value) and value > 0 for value in values) and values == sorted(values)


# --- the result


def test_it_names_the_machine_the_versions_and_the_threads(result):
    for key in ("cpu", "cores", "system", "load_average", "python", "numpy", "torch", "ml_dtypes", "halfway"):
        assert result["machine"][key], key
    assert result["date"]
    assert result["quick"] is True
    assert result["settings"]["threads"] in (1, 2)
    assert result["settings"]["floor"] in ("avx512f", "avx2", "sse2", "portable")


def test_every_hot_pair_has_a_row_at_every_size_in_both_modes(result):
    found = {(row["source"], row["target"], row["mode"], row["size"]) for row in result["rows"]}
    assert len(found) == len(result["rows"])
    wanted = {
        (*pair, mode, size)
        for pair in HOT
        for mode in ("out", "fresh")
        for size in (1, 32, KI, 32 * KI, 256 * KI, MI, 64 * MI)
    }
    wanted |= {(*pair, "out", 16 * MI) for pair in NEAR_FLOOR}
    wanted |= {("float32", "bfloat16", "out", size) for size in (16 * KI, 64 * KI)}
    wanted |= {("float32", "float16", "out", 4 * MI), ("float16", "bfloat16", "out", 4 * MI)}
    wanted |= {("float32", "float8_e4m3fn", "out", 4 * MI)}
    assert found == wanted


def test_every_row_compares_both_doors_all_rivals_and_the_floor(result):
    for row in result["rows"]:
        entries = {entry["statement"]: entry for entry in row["contenders"]}
        assert len(entries) == len(row["contenders"])
        for entry in entries.values():
            assert is_spread(entry["ns"])
            assert 0 < entry["min_ns"] <= entry["ns"]["median"]
            assert entry["rounds"] >= 2
        doors = [entry["door"] for entry in entries.values() if entry["role"] == "ours"]
        assert doors == ["torch", "numpy"]
        rivals = {entry["statement"] for entry in entries.values() if entry["role"] == "rival"}
        if row["mode"] == "out":
            assert rivals == {"o.copy_(t)", 'np.copyto(b, a, casting="unsafe")', "b[...] = a"}
        else:
            assert {"t.to(dtype)", "a.astype(dtype)"} <= rivals
        assert [s for s, entry in entries.items() if entry["role"] == "floor"] == [
            "move, plain, 1 thread",
            "move, non-temporal, 1 thread",
            "move, plain, 2 threads",
            "move, non-temporal, 2 threads",
        ]
        assert entries[row["ours"]]["role"] == "ours"
        assert is_spread(row["ratio"])
        assert is_spread(row["floor"]["share"])
        for role, chosen in (("ours", row["ours"]), ("rival", row["rival"]), ("floor", row["floor"]["statement"])):
            medians = [entry["ns"]["median"] for entry in entries.values() if entry["role"] == role]
            assert entries[chosen]["ns"]["median"] == min(medians)
        for door, compared in row["doors"].items():
            assert entries[compared["ours"]]["door"] == entries[compared["rival"]]["door"] == door
            assert is_spread(compared["ratio"])
        widths = row["bytes_read"] / row["elements"], row["bytes_written"] / row["elements"]
        assert widths == tuple(cast_itemsize(row[key]) for key in ("source", "target"))


def cast_itemsize(name: str) -> int:
    import torch

    return getattr(torch, name).itemsize


def test_options_are_compared_with_the_plain_cast_and_with_counting_in_torch(result):
    rows = {(row["option"], row["source"], row["target"], row["mode"]): row for row in result["options"]}
    assert set(rows) == {
        ("report", "float32", "bfloat16", "out"),
        ("report", "float32", "float16", "out"),
        ("same_value", "float32", "bfloat16", "out"),
        ("same_value", "float32", "bfloat16", "fresh"),
    }
    for (option, *_), row in rows.items():
        assert is_spread(row["plain"]["ratio"])
        assert row["plain"]["statement"] in {entry["statement"] for entry in row["contenders"]}
        assert ("faster" in row) == (option == "report")


def test_special_values_have_rows_of_their_own(result):
    assert [row["name"] for row in result["values"]] == [case.name for case in cast_rows.value_cases()]
    assert {row["values"] for row in result["values"]} == set(cast_rows.VALUES)
    for row in result["values"]:
        assert is_spread(row["ratio"])
        assert is_spread(row["floor"]["share"])
        assert set(row["doors"]) == {"torch", "numpy"}


def test_rows_of_special_values_are_measured_on_them(monkeypatch):
    import torch

    seen: dict[str, Any] = {}

    def spy(case: cast_rows.Case, data: cast_rows.Data, quick: bool) -> dict[str, Any]:
        seen[case.name] = data.t
        return {"name": case.name}

    monkeypatch.setattr(cast_rows, "measure", spy)
    monkeypatch.setattr(cast, "print_row", lambda row: None)
    cast.measure([], cast_rows.value_cases(), [], 1, False)
    assert len(seen) == len(cast_rows.value_cases())

    def share_of(values: str, source: str, is_special: Callable[[Any], Any]) -> list[float]:
        found = [t for name, t in seen.items() if name.startswith(f"{source} of {values} ->")]
        assert found
        return [float(is_special(t).float().mean()) for t in found]

    def is_tiny(wide: str, limit: float) -> Callable[[Any], Any]:
        return lambda t: (t.to(getattr(torch, wide)).abs() > 0) & (t.to(getattr(torch, wide)).abs() < limit)

    assert set(share_of("whole numbers", "float64", lambda t: t == t.round())) == {1.0}
    assert all(0.01 < share < 0.02 for share in share_of("a few whole numbers", "float64", lambda t: t == t.round()))
    for source in ("float64", "float32"):
        assert all(0.09 < share < 0.11 for share in share_of("numbers and NaN", source, torch.isnan))
    assert all(share > 0.99 for share in share_of("large numbers", "int64", lambda t: t.abs() > 2**53))
    assert all(share > 0.9 for share in share_of("subnormal numbers", "float16", is_tiny("float32", 2.0**-14)))
    assert all(share > 0.9 for share in share_of("tiny numbers", "float64", is_tiny("float64", 2.0**-126)))


def expected_claims() -> dict[str, tuple[str, float]]:
    claims: dict[str, tuple[str, float]] = {}
    for mode in ("out", "fresh"):
        for size in RIVAL_SIZES:
            claims[f"{mode}, {size}: time / best rival's, median of the hot pairs"] = ("<=", 0.8)
            claims[f"{mode}, {size}: time / best rival's, worst hot pair"] = ("<=", 1.1)
    for source, target in NEAR_FLOOR:
        claims[f"{source} -> {target}, out: share of the floor from 64 MiB moved"] = (">=", 0.85)
        claims[f"{source} -> {target}, out: share of the floor, 256 Ki"] = (">=", 0.6)
    for size in ("64 Mi", "256 Ki"):
        claims[f"other hot pairs, out: share of the floor, {size}"] = (">=", 0.5)
    return claims | {
        "float32 -> bfloat16, out, 64 Mi: time / copy_": ("<=", 0.85),
        "float32 -> bfloat16, fresh, 64 Mi: time / torch .to": ("<=", 0.25),
        "float32 -> bfloat16, out, 32: time / copy_": ("<=", 0.65),
        "float32 -> float16, out, 4 Mi: times faster than numpy": (">=", 8),
        "float16 -> bfloat16, out, 4 Mi: times faster than torch": (">=", 8),
        "float32 -> float8_e4m3fn, out, 4 Mi: times faster than torch": (">=", 4),
        "float32 -> bfloat16, out: most time an element from 16 Ki to 1 Mi / that at 16 Ki": ("<=", 1.3),
        "report, float32 -> bfloat16, out, 64 Mi: time / plain cast": ("<=", 1.15),
        "report, float32 -> float16, out, 64 Mi: time / plain cast": ("<=", 1.15),
        "report, float32 -> bfloat16, out, 64 Mi: times faster than counting in torch": (">=", 25),
        "report, float32 -> float16, out, 64 Mi: times faster than counting in torch": (">=", 25),
        "same_value, float32 -> bfloat16, out, 64 Mi: time / plain cast": ("<=", 1.9),
        "same_value, float32 -> bfloat16, fresh, 64 Mi: time / plain cast": ("<=", 1.15),
    }


def test_every_target_is_judged(result):
    assert {c["name"]: (c["bound"], c["target"]) for c in result["claims"]} == expected_claims()
    for claim in result["claims"]:
        value, target = claim["value"], claim["target"]
        met = value <= target if claim["bound"] == "<=" else value >= target
        assert claim["verdict"] == ("ok" if met else "short")


def test_claims_follow_from_the_rows(result):
    rows = copy.deepcopy(result["rows"])
    for row in rows:
        row["ratio"]["median"] = 0.5
        row["floor"]["share"]["median"] = 0.9
        for door in row["doors"].values():
            door["ratio"]["median"] = 0.1

    def verdicts() -> dict[str, dict[str, Any]]:
        return {claim["name"]: claim for claim in cast_claims.judge(rows, [])}

    def row_of(name: str) -> dict[str, Any]:
        return next(row for row in rows if row["name"] == name)

    flat = "float32 -> bfloat16, out: most time an element from 16 Ki to 1 Mi / that at 16 Ki"
    assert {name for name, claim in verdicts().items() if claim["verdict"] == "short"} <= {flat}
    row_of("uint8 -> bfloat16, fresh, 1 Ki")["ratio"]["median"] = 1.2
    row_of("uint8 -> float32, out, 16 Mi")["floor"]["share"]["median"] = 0.84
    row_of("float16 -> bfloat16, out, 4 Mi")["doors"]["torch"]["ratio"]["median"] = 1 / 7
    row_of("int64 -> int32, out, 64 Mi")["floor"]["share"]["median"] = 0.4
    found = verdicts()
    short = {name: claim.get("note") for name, claim in found.items() if claim["verdict"] == "short"}
    short.pop(flat, None)
    assert short == {
        "fresh, 1 Ki: time / best rival's, worst hot pair": "uint8 -> bfloat16, fresh, 1 Ki",
        "uint8 -> float32, out: share of the floor from 64 MiB moved": "uint8 -> float32, out, 16 Mi",
        "float16 -> bfloat16, out, 4 Mi: times faster than torch": None,
        "other hot pairs, out: share of the floor, 64 Mi": "int64 -> int32, out, 64 Mi",
    }
    assert found["fresh, 1 Ki: time / best rival's, median of the hot pairs"]["value"] == 0.5
    assert found["float16 -> bfloat16, out, 4 Mi: times faster than torch"]["value"] == 7
    for size, factor in ((16 * KI, 1.0), (64 * KI, 1.1), (256 * KI, 1.4), (MI, 0.7)):
        row = row_of(f"float32 -> bfloat16, out, {cast_rows.size_name(size)}")
        entry = next(entry for entry in row["contenders"] if entry["statement"] == row["ours"])
        entry["ns"]["median"] = factor * row["elements"]
    assert verdicts()[flat]["value"] == 1.4
    del rows[rows.index(row_of("bool -> float32, out, 32"))]
    missing = set(found) - set(verdicts())
    assert missing == {
        f"out, 32: time / best rival's, {what}" for what in ("median of the hot pairs", "worst hot pair")
    }


def test_rows_and_sizes_are_chosen(tmp_path):
    path = tmp_path / "some.json"
    run_script("--quick", "--rows", "^float32 -> bfloat16, out", "--sizes", "32,1Ki", "--json", path)
    some = json.loads(path.read_text(encoding="utf-8"))
    assert [row["name"] for row in some["rows"]] == ["float32 -> bfloat16, out, 32", "float32 -> bfloat16, out, 1 Ki"]
    assert [claim["name"] for claim in some["claims"]] == ["float32 -> bfloat16, out, 32: time / copy_"]
    assert some["options"] == []


# --- the race


def test_rounds_end_with_the_time_but_not_before_the_least():
    calls = []

    def loop(count: int) -> int:
        calls.append(count)
        return 1000 * count

    times = harness.race({"a": loop, "b": loop}, Effort(round_ns=1, rounds=50, seconds=0.0, least=3))
    assert {name: len(sample) for name, sample in times.samples.items()} == {"a": 3, "b": 3}
    calls.clear()
    harness.race({"a": loop}, Effort(round_ns=20_000, rounds=4, threads=True))
    assert calls[-8:] == [1, 20] * 4
    calls.clear()
    harness.race({"a": loop}, Effort(round_ns=0, rounds=4, threads=True))
    assert calls == [1] * 4


@pytest.mark.parametrize("late", range(8))
def test_one_late_call_does_not_make_rounds_short(late):
    calls = []

    def loop(count: int) -> int:
        calls.append(count)
        return 1000 * count + (50_000 if len(calls) == late + 1 else 0)

    harness.race({"a": loop}, Effort(round_ns=20_000, rounds=4, threads=True))
    assert calls[-8:] == [1, 20] * 4


def test_the_slow_go_no_further_where_rounds_are_dear():
    loops = {name: (lambda count, ns=ns: ns * count) for name, ns in (("we", 900), ("fast", 100), ("slow", 300))}
    entrants = [Contender("we", "ours", door="torch"), Contender("fast", "rival", door="torch")]
    entrants.append(Contender("slow", "rival", door="torch"))
    staying, times = harness.run(entrants, loops, Effort(round_ns=1, rounds=5, threads=True))
    assert [contender.statement for contender in staying] == ["we", "fast"]
    assert {name: len(sample) for name, sample in times.samples.items()} == {"we": 5, "fast": 5, "slow": 2}
    assert harness.compare(staying, times)["ratio"]["median"] == 9
    staying, _ = harness.run(entrants, loops, Effort(round_ns=1, rounds=5))
    assert len(staying) == 3


def test_a_statement_that_a_claim_names_runs_to_the_end():
    loops = {name: (lambda count, ns=ns: ns * count) for name, ns in (("we", 900), ("fast", 100), ("slow", 300))}
    entrants = [Contender("we", "ours"), Contender("fast", "rival"), Contender("slow", "rival", named=True)]
    staying, times = harness.run(entrants, loops, Effort(round_ns=1, rounds=5, threads=True))
    assert staying == entrants
    assert {name: len(sample) for name, sample in times.samples.items()} == {"we": 5, "fast": 5, "slow": 5}
    assert harness.compare(staying, times)["rival"] == "fast"


@pytest.mark.parametrize("elements", [1, 4, 4096, MI, 3 * MI])
def test_data_are_what_the_names_say(elements):
    data = cast_rows.data_of(cast_rows.F32_BF16, elements)
    names = data.names("numpy")
    assert data.t.numel() == data.o.numel() == elements
    assert names["a"].ctypes.data == data.t.data_ptr()
    assert names["b"].ctypes.data == data.o.data_ptr()
    assert names["b"].dtype.name == "bfloat16"
    first = cast_rows.data_of(cast_rows.F32_BF16, min(elements, MI)).t
    assert bool((data.t.view(-1, len(first)) == first).all())


@pytest.mark.parametrize("statement", cast_options.COUNTING)
def test_counting_in_torch_finds_what_there_is(statement):
    import torch

    t = torch.full((100_000,), 1.0)
    t[5:12] = float("nan")
    t[20:25] = 1e30  # too large for float16
    t[30:33] = -1e-30  # vanishes there, and is counted as inexact too
    t[40:42] = 1.0001
    t[50:60] = float("-inf")
    o = torch.empty(100_000, dtype=torch.float16)
    names = {count.__name__: count for count in cast_options.COUNTING.values()}
    assert eval(statement, names | {"t": t, "o": o}) == (7, 5, 3, 5)
    assert o[0] == 1
    assert o.isinf().sum() == 15


# --- the floor

RATIOS = [(1, 1), (2, 1), (4, 1), (8, 1), (12, 1), (1, 2), (1, 4), (1, 8)]
GUARD = 64


def aligned(size: int, offset: int) -> np.ndarray:
    """Zeros at an address that is `offset` beyond a multiple of 64."""
    memory = np.zeros(size + 64 + offset, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    return memory[start : start + size]


@pytest.fixture(scope="module", autouse=True)
def _floor_is_built():
    assert floor.LIBRARY.is_file(), "tools/cmake_build.sh bench halfway_floor builds it; `make python` does"


@pytest.mark.parametrize("variant", floor.VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize(("read", "write"), RATIOS)
def test_a_sweep_writes_every_byte_and_no_other(read, write, variant):
    for units in (1, 2, 31, 64, 65, 127, 128, 193, 1000, 5000):
        for offset in (0, 1, 4, 16):
            source = np.full(units * read, 0xA5, np.uint8)
            whole = aligned(units * write + 2 * GUARD, offset)
            target = whole[GUARD:-GUARD]
            floor.move(source.ctypes.data, target.ctypes.data, source.size, target.size, variant, repetitions=3)
            assert (target == 0xA5).all()
            assert not whole[:GUARD].any()
            assert not whole[-GUARD:].any()
            assert (source == 0xA5).all()


@pytest.mark.parametrize("variant", floor.VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize(("read", "write"), RATIOS)
def test_a_sweep_reads_every_byte(read, write, variant):
    units = 421  # for two threads, in whole registers and a rest
    source = np.zeros(units * read, np.uint8)
    target = aligned(units * write, 8)
    for at in range(source.size):
        source[at] = 1
        floor.move(source.ctypes.data, target.ctypes.data, source.size, target.size, variant)
        assert target.sum() == write, at
        source[at] = 0


def test_equal_counts_are_a_copy():
    source = np.random.default_rng(1).integers(0, 256, 100_001, np.uint8)
    for variant in floor.VARIANTS:
        target = np.zeros_like(source)
        floor.move(source.ctypes.data, target.ctypes.data, source.size, target.size, variant)
        assert (source == target).all()


@pytest.mark.parametrize("counts", [(3, 1), (3, 2), (16, 1), (1, 12), (1, 16), (0, 4), (4, 0)])
def test_other_proportions_are_refused(counts):
    memory = np.zeros(16, np.uint8)
    with pytest.raises(ValueError, match="no sweep"):
        floor.move(memory.ctypes.data, memory.ctypes.data, *counts, floor.VARIANTS[0])
    with pytest.raises(ValueError, match="3 threads"):
        floor.move(memory.ctypes.data, memory.ctypes.data, 8, 8, floor.Variant(non_temporal=False, threads=3))


COUNTS = [
    (2105148, 2083328),
    (2083328, 2105148),
    (7864320, 14155776),
    (1050624, 854016),
    (1000, 130),
    (3, 2),
    (200, 129),
]


@pytest.mark.parametrize(("read", "written"), COUNTS)
def test_other_proportions_are_two_sweeps_over_the_same_bytes(read, written):
    parts = floor.parts_of(read, written)
    totals = [sum(counts) for counts in zip(*parts, strict=True)]
    assert min(totals) == min(read, written)
    larger = max(read, written)
    assert larger - 4 * floor.LINE < max(totals) <= larger
    assert (totals[0] > totals[1]) == (read > written) or totals[0] == totals[1]
    for part in parts[:-1]:
        assert all(count % floor.LINE == 0 for count in part)
    source = np.full(read, 0xA5, np.uint8)
    for variant in floor.VARIANTS:
        whole = aligned(written + 2 * GUARD, 1)
        target = whole[GUARD:-GUARD]
        assert floor.loop_of(source.ctypes.data, target.ctypes.data, read, written, variant)(2) > 0
        assert (target[: totals[1]] == 0xA5).all()
        assert not target[totals[1] :].any()
        assert not whole[:GUARD].any()
        assert not whole[-GUARD:].any()


@pytest.mark.parametrize("counts", [(1, 1), (2, 1), (1, 8), (12, 1), (16, 1), (17, 2), (0, 4)])
def test_what_one_sweep_does_or_none_is_one_part(counts):
    assert floor.parts_of(*counts) == [counts]


# --- the tables of README.md


def test_tables_come_from_the_newest_result(result, tmp_path):
    tables = load_tool("readme_tables")
    assert tables.newest("cast", tmp_path) is None
    assert tables.cast_times(None) == tables.cast_claims(None) == tables.not_measured("cast")
    for name, date in (("cast-z-2026-01-01.json", "2026-01-01"), ("cast-a-2026-02-01.json", "2026-02-01")):
        (tmp_path / name).write_text(json.dumps({**result, "date": date}), encoding="utf-8")
    found = tables.newest("cast", tmp_path)
    assert found[0] == "cast-a-2026-02-01.json"

    times = tables.cast_times(found)
    assert times.count("\n| `") == len(HOT) + len(result["values"])
    for row in result["values"]:
        assert f"| `{row['source']}` to `{row['target']}` | {row['values']} | {row['ratio']['median']:.2f} |" in times
    row = next(row for row in result["rows"] if row["name"] == "float32 -> bfloat16, out, 1 Ki")
    line = next(line for line in times.splitlines() if line.startswith("| `float32` to `bfloat16`"))
    assert f"{row['ratio']['median']:.2f} / " in line.split("|")[3]
    claims = tables.cast_claims(found)
    assert len(claims.splitlines()) == 2 + len(result["claims"])
    assert claims.count("**not met**") == sum(claim["verdict"] == "short" for claim in result["claims"])
