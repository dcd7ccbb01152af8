"""The benchmark of C++ exchanges with libtorch: what it makes of a program's times, and its program where that is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.python.bench_script import run
from tests.python.probe import ROOT

SCRIPT = ROOT / "bench" / "cpp.py"
PROGRAM = Path(os.environ.get("HALFWAY_BENCH_CPP", ROOT / "build" / "bench" / "cpp" / "halfway_bench_cpp"))

# As Google Benchmark tells it, aggregates included. The times of a process are scaled: only ratios within one count.
STAND_IN = """\
#!{python}
import json, os, pathlib
count = pathlib.Path(__file__).with_suffix(".runs")
runs = int(count.read_text()) if count.exists() else 0
count.write_text(str(runs + 1))
times = {{
    "any/floor/owner": [10, 20, 30],
    "from_torch/ours/from_torch(t)": [40, 50, 60],
    "from_torch/rival/at::toDLPackVersioned(t)": [100, 100, 100],
    "to_torch/ours/to_torch(x)": [130, 90, 300],
    "to_torch/rival/torch::from_blob(x)": [100, 90, 120],
}}
benchmarks = [
    {{"run_name": name, "run_type": "iteration", "cpu_time": time * (1 + runs)}}
    for name, sample in times.items() for time in sample
]
benchmarks.append({{"run_name": "from_torch/ours/from_torch(t)", "run_type": "aggregate", "cpu_time": 1e9}})
print(json.dumps({{"benchmarks": benchmarks}}))
"""


def test_each_row_is_judged_by_the_ratio_within_a_process(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("HALFWAY_BENCH_CPP", str(program))
    path = tmp_path / "result.json"
    said = run(SCRIPT, "--quick", "--json", path)
    result: dict[str, Any] = json.loads(path.read_text())
    assert int(program.with_suffix(".runs").read_text()) == 2  # processes
    assert result["floor"]["statement"] == "owner"
    assert result["floor"]["ns"]["median"] == 25
    found = {row["name"]: (row["ratio"]["median"], row["verdict"]) for row in result["rows"]}
    assert found == {"from_torch": (0.5, "ok"), "to_torch": (1.3, "short")}
    for row in result["rows"]:
        assert [contender["role"] for contender in row["contenders"]] == ["ours", "rival"]
        assert row["name"] in said
    assert result["machine"]["cpu"]

    said = run(SCRIPT, "--quick", "--rows", "from")
    assert "from_torch" in said
    assert "to_torch" not in said


def test_a_program_that_is_not_there_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("HALFWAY_BENCH_CPP", str(tmp_path / "absent"))
    done = subprocess.run([sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "absent is not built: make bench BENCH=cpp" in done.stderr


@pytest.mark.skipif(not PROGRAM.exists(), reason=f"{PROGRAM} is not built: make bench BENCH=cpp")
def test_the_programs_rows_have_a_rival_each(tmp_path):
    path = tmp_path / "result.json"
    run(SCRIPT, "--quick", "--json", path)
    result = json.loads(path.read_text())
    assert len(result["rows"]) >= 4
    for row in result["rows"]:
        for contender in row["contenders"]:
            assert 0 < contender["ns"]["q1"] <= contender["ns"]["median"] <= contender["ns"]["q3"]
        assert row["verdict"] in ("ok", "short")
