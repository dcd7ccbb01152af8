"""The benchmark of the steps: what it makes of a program's times, and its program where that is."""

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

SCRIPT = ROOT / "bench" / "steps.py"
PROGRAM = Path(os.environ.get("HALFWAY_BENCH_STEPS", ROOT / "build" / "bench" / "native" / "halfway_bench_steps"))

# In the second round everything takes twice as long: only ratios within one count.
STAND_IN = """\
#!{python}
import json
times = {{
    "a -> b": {{"step": [1, 2, 1], "functors, one loop": [4, 8, 3], "functors, two stages": [3, 6, 3]}},
    "c -> d": {{"step": [2, 4, 2], "functors, one loop": [1, 2, 1]}},
}}
for row, roles in times.items():
    for role, ns in roles.items():
        print(json.dumps({{"row": row, "role": role, "ns": ns}}))
"""


def test_a_row_is_the_ratio_to_the_fastest_other_round_by_round(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("HALFWAY_BENCH_STEPS", str(program))
    path = tmp_path / "result.json"
    said = run(SCRIPT, "--quick", "--json", path)
    result: dict[str, Any] = json.loads(path.read_text())
    found = {row["name"]: (row["rival"], row["faster"]["median"], row["ns"]["step"]) for row in result["rows"]}
    assert found == {"a -> b": ("functors, two stages", 3, 1), "c -> d": ("functors, one loop", 0.5, 2)}
    assert "a -> b" in said
    assert result["machine"]["cpu"]
    assert "c -> d" not in run(SCRIPT, "--quick", "--rows", "a ->")


def test_every_step_has_a_row():
    if not PROGRAM.exists():
        pytest.skip(f"{PROGRAM} is not built: make bench BENCH=steps")
    tried = subprocess.run([PROGRAM, "1"], capture_output=True, text=True, check=False)
    if "no x86-64-v3" in tried.stderr:
        pytest.skip(tried.stderr)
    said = run(SCRIPT, "--quick")
    for row in ("float64 -> float16", "uint8 -> float32, scaled", "float32 -> bfloat16, counted", "Philox"):
        assert row in said
