"""The benchmarks run and say what they should; no time is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench import harness

pytest.importorskip("torch")

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "exchange.py"

ROWS = {
    "numpy to torch",
    "torch to numpy",
    "bfloat16: torch to numpy",
    "bfloat16: numpy to torch",
    "numpy to halfway.Tensor",
    "torch to halfway.Tensor",
    "halfway.Tensor to torch",
    "halfway.Tensor to numpy",
    "numpy to torch, 1 MiB",
    "torch to numpy, 1 MiB",
}
TARGETS = {
    ("numpy to torch", "torch.from_numpy(a)"): 0.85,
    ("numpy to torch", "torch.from_dlpack(a)"): 0.40,
    ("torch to numpy", "t.numpy()"): 0.45,
    ("torch to numpy", "np.from_dlpack(t)"): 0.14,
    (
        "bfloat16: torch to numpy",
        "t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)",
    ): 0.30,
    (
        "bfloat16: numpy to torch",
        "torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)",
    ): 0.40,
    ("numpy to halfway.Tensor", "np.from_dlpack(a)"): 0.50,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "exchange.json"
    plot = path.with_suffix(".svg")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", path, "--plot", plot],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert plot.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def is_spread(entry: dict[str, float]) -> bool:
    values = [entry["q1"], entry["median"], entry["q3"]]
    return all(math.isfinite(value) for value in values) and values == sorted(values)


def test_it_names_the_machine_and_the_versions(result):
    for key in ("cpu", "cores", "system", "load_average", "python", "numpy", "torch", "ml_dtypes"):
        assert result["machine"][key], key
    assert result["date"]
    assert result["settings"]["rounds"] > 1


def test_every_row_has_ours_rivals_a_floor_and_the_overhead(result):
    assert {row["name"] for row in result["rows"]} == ROWS
    for row in [*result["rows"], *result["casts"]]:
        roles = [contender["role"] for contender in row["contenders"]]
        assert roles.count("ours") == 1
        assert roles.count("floor") == 1
        assert "rival" in roles
        assert ("overhead" in roles) == (not row.get("informative", False))
        for contender in row["contenders"]:
            assert is_spread(contender["ns"])
            assert 0 < contender["min_ns"] <= contender["ns"]["median"]
        compared = {entry["against"] for entry in row["ratios"]}
        others = {c["statement"] for c in row["contenders"] if c["role"] in ("rival", "floor")}
        assert compared == others


def test_the_targets_are_judged(result):
    found = {
        (row["name"], entry["against"]): entry for row in result["rows"] for entry in row["ratios"] if "target" in entry
    }
    assert TARGETS.items() <= {key: entry["target"] for key, entry in found.items()}.items()
    for entry in found.values():
        assert is_spread(entry["ratio"])
        met = entry["ratio"]["median"] <= entry["target"]
        assert entry["verdict"] == ("ok" if met else "short")


def test_dimensions_live_exports_and_the_import_are_measured(result):
    names = {row["name"] for row in result["slopes"]}
    assert names == {row["name"] for row in result["live"]}
    assert names == {name for name, _ in TARGETS}
    for row in result["slopes"]:
        assert row["ndims"] == [0, 1, 2, 4, 8, 16, 32]
        for contender in row["contenders"]:
            assert len(contender["ns"]) == len(row["ndims"])
            assert is_spread(contender["ns_per_dimension"])
        assert {entry["verdict"] for entry in row["differences"]} <= {"ok", "short"}
    for row in result["live"]:
        assert row["live"] == [0, 1_000, 100_000]
        assert {contender["role"] for contender in row["contenders"]} == {"ours", "rival"}
        for contender in row["contenders"]:
            assert contender["ratio_to_none_live"][0]["median"] == 1
    assert is_spread(result["import"]["added_ms"])
    assert result["import"]["target"] == 30
    assert result["import"]["loaded_too"] == []


def test_versions_are_found_by_what_is_imported(tmp_path, monkeypatch):
    about = tmp_path / "cupy_cuda13x-14.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: cupy-cuda13x\nVersion: 14.2.0\n")
    (about / "top_level.txt").write_text("cupy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert harness.machine(("cupy", "nothing_of_this_name"))["cupy"] == "14.2.0"
    assert harness.machine(("nothing_of_this_name",))["nothing_of_this_name"] is None
