"""What is wanted of transfers on a GPU, judged on results that are made up."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

pytest.importorskip("torch")

from bench import transfer_claims, transfer_device, transfer_rows
from tests.python.loading import ROOT, load_tool


def row_of(name: str, ns: dict[str, float], **more: Any) -> dict[str, Any]:
    contenders = [{"statement": text, "role": "ours", "ns": {"median": value}} for text, value in ns.items()]
    return {"name": name, "contenders": contenders, **more}


def made_up(ours: float = 1e6, theirs: float = 4e6, floor: float = 0.95e6) -> dict[str, Any]:
    """A result in which ours takes `ours` ns in each cell, torch `theirs`."""

    def cells(case: transfer_rows.Case) -> dict[str, Any]:
        cell = {"ours": "ours", "torch": transfer_claims.BLOCKING_CALL}
        ns = {"ours": ours, transfer_claims.BLOCKING_CALL: theirs, transfer_rows.FLOOR: floor}
        sizes = {"bytes_wide": 4, "bytes_narrow": 2, "bytes_source": 4}
        modes = {"blocking": cell, "non-blocking": cell}
        return row_of(case.name, ns, size=case.size, modes=modes, ours="ours", **sizes)

    def ratios(name: str, value: float) -> dict[str, Any]:
        spread = {"median": value}
        entry = {"statement": "ours", "role": "ours", "ns": spread, "peak": {"torch": 0, "device": 0}}
        found = {"name": name, "ours": "ours", "rival": "rival", "faster": spread, "contenders": [entry]}
        return {**found, "floor": {"share": spread}}

    return {
        "floors": {"host_cast": 1e9, "host_memory": 1e12, "threads": 16, "mapped_read": 0.5},
        "transfers": [cells(case) for case in [*transfer_rows.hot_cases(), *transfer_rows.other_cases()]],
        "latency": [],
        "device": [ratios(pair.name, 2.0) for pair in transfer_device.cast_pairs()],
        "images": [ratios(case.name, 3.0) for case in transfer_device.IMAGE_CASES],
        "to_host": [ratios(f"float32 -> bfloat16 to {memory} memory", 0.9) for memory in ("pinned", "pageable")],
        "left_out": [],
        "finished": True,
    }


def verdicts(result: dict[str, Any]) -> list[str]:
    return [entry["verdict"] for entry in transfer_claims.judge(result)]


def value_of(result: dict[str, Any], words: str) -> Any:
    (entry,) = [entry for entry in transfer_claims.judge(result) if words in entry["name"]]
    return entry.get("value")


def test_the_statements_that_targets_name_are_timed():
    for memory in transfer_rows.MEMORIES:
        case = transfer_rows.Case(transfer_rows.F32_BF16, memory, 4096)
        timed = {contender.statement: contender for contender in transfer_rows.contenders(case)}
        assert timed[transfer_claims.BLOCKING_CALL].named  # it is never screened out
        assert [name for name, contender in timed.items() if contender.role == "floor"] == [transfer_claims.COPY_ENGINE]


def test_without_figures_nothing_is_claimed():
    assert set(verdicts({})) == {"not measured"}
    assert all("value" not in entry for entry in transfer_claims.judge({}))


def test_targets_are_met_and_missed():
    assert verdicts(made_up(theirs=6e6)).count("short") == 0
    slow = made_up(ours=5e6)
    assert value_of(slow, "pageable float32 -> bfloat16: times") == 0.8
    assert value_of(slow, "worst cell") == 800  # 5 ms against 1.05 times 4 ms
    assert verdicts(slow)[:4] == ["short"] * 4


@pytest.mark.parametrize(
    ("rate", "mapped", "bound"),
    [
        (1e3, 0.5, 1e6),  # a slow host: the wide bytes are shipped, twice the floor's time
        (1e12, 0.5, 0.5e6),  # a fast one: the narrow bytes alone
        (4 / 0.75e-3, 0.5, 0.75e6),  # one that takes longer than the narrow bytes
    ],
)
def test_the_bound_is_that_of_the_best_way(rate, mapped, bound):
    floors = {"host_cast": rate, "host_memory": rate, "threads": 1, "mapped_read": mapped}
    result = made_up(floor=0.5e6) | {"floors": floors}
    assert value_of(result, "best strategy's bound") == pytest.approx(bound / 1e6, abs=1e-3)


def test_the_worst_cell_of_some_says_nothing_unless_it_is_too_slow():
    some = made_up() | {"left_out": [{"name": "x", "why": "y"}]}
    assert value_of(some, "worst cell") is None
    assert value_of(made_up() | {"finished": False}, "worst cell") is None
    assert value_of(made_up(ours=5e6) | {"left_out": some["left_out"]}, "worst cell") == 800


def test_each_cell_above_the_bound_is_named_and_listed():
    tables = load_tool("readme_tables")
    result = made_up()
    assert transfer_claims.above_the_bound(result) == []
    rows = len(result["transfers"])
    fine = tables.transfer_slower(("x.json", result))
    assert fine.startswith(f"Of {rows} rows 0 took longer than 1.05 times")
    assert "|" not in fine
    wanted = {
        ("float64 -> float32, pinned, 16 MiB", "non-blocking"),
        ("uint8 -> float16, pageable, 64 KiB", "blocking"),
        ("uint8 -> float16, pageable, 1 GiB", "blocking"),
    }
    for row in result["transfers"]:
        row["contenders"].append({"statement": "slow", "role": "ours", "ns": {"median": 1.05 * 4e6 + 3001}})
        row["contenders"].append({"statement": "just fine", "role": "ours", "ns": {"median": 1.05 * 4e6 + 2999}})
        for mode, cell in row["modes"].items():
            slow = (row["name"], mode) in wanted
            row["modes"] = row["modes"] | {mode: cell | {"ours": "slow" if slow else "just fine"}}
    assert {(cell.row["name"], cell.mode) for cell in transfer_claims.above_the_bound(result)} == wanted
    found = tables.transfer_slower(("x.json", result))
    assert f"Of {rows} rows 2 took longer than" in found
    assert "3 us where they block, and 1 where they do not: halfway / torch, in us." in found
    assert "| float64 -> float32 |  |  |  | 16 MiB: 4203.0 / 4000.0 |" in found
    assert "| uint8 -> float16 | 64 KiB: 4203.0 / 4000.0<br>1 GiB: 4203.0 / 4000.0 |  |  |  |" in found
    assert found.count("\n| ") == 4
    assert "not measured" in tables.transfer_slower(None).lower()


def test_each_table_that_is_missing_takes_its_targets_along():
    whole = made_up()
    for table, count in (("transfers", 4), ("device", 2), ("images", 4), ("to_host", 2)):
        some = copy.deepcopy(whole)
        some[table] = []
        assert verdicts(some).count("not measured") == count, table


def test_memory_that_a_call_takes_on_the_device_is_held_against_it():
    result = made_up()
    result["to_host"][1]["contenders"][0]["peak"] = {"torch": 0, "device": 512 << 20}
    assert value_of(result, "MiB of device memory") == 512


def test_the_row_of_images_from_pageable_memory_is_judged():
    result = made_up()
    (row,) = [row for row in result["images"] if "pageable" in row["name"]]
    row["faster"] = {"median": 1.36}
    (claim,) = [entry for entry in transfer_claims.judge(result) if "NHWC, pageable" in entry["name"]]
    assert (claim["value"], claim["verdict"], claim["note"]) == (1.36, "short", "rival")


RESULTS = [path for path in (ROOT / "bench" / "results").glob("*.json") if '"transfer"' in path.read_text()[:100]]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_result_that_is_committed_has_the_claims_of_its_own_rows(path):
    result = json.loads(path.read_text())
    assert result["benchmark"] == "transfer"
    assert result["claims"] == transfer_claims.judge(result)


def test_the_newest_result_is_found_by_what_is_in_it(tmp_path):
    tables = load_tool("readme_tables")
    assert tables.newest("transfer", tmp_path) is None
    for name, kind, date in (
        ("a", "transfer", "2026-01-02"),
        ("b", "transfer", "2026-01-01"),
        ("c", "cast", "2026-02-01"),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps({"benchmark": kind, "date": date}))
    assert tables.newest("transfer", tmp_path)[0] == "a.json"
