"""How tests are run: what hangs is ended and its log is kept (tools/run_lanes.py), and what fails fails at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.python.loading import ROOT, load_tool


@pytest.fixture(scope="module")
def run_lanes() -> Any:
    return load_tool("run_lanes")


@pytest.mark.parametrize("status", [0, 3])
def test_a_lane_that_ends(run_lanes: Any, tmp_path: Path, status: int) -> None:
    assert run_lanes.run(["sh", "-c", f"echo words; exit {status}"], tmp_path / "log") == status
    assert (tmp_path / "log").read_text() == "words\n"


def test_a_lane_that_hangs(run_lanes: Any, tmp_path: Path) -> None:
    """It and its children are ended, and Python among them says where it was."""
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    command = ["sh", "-c", '"$0" -X faulthandler -c "$1" & wait', sys.executable, code]
    assert run_lanes.run(command, tmp_path / "log", limit=3, grace=1) == 124
    log = (tmp_path / "log").read_text()
    assert 'File "<string>", line 1 in <module>' in log
    assert log.endswith("\nended after 3 s\n")
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the child lives")


@pytest.mark.parametrize("variable", ["CI", "BUILD_NUMBER"])
def test_large_arrays_that_differ_are_told_at_once(tmp_path: Path, variable: str) -> None:
    (tmp_path / "test_bytes.py").write_text("def test(): assert bytes(300_000) == bytes(range(250)) * 1_200\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.python.conftest", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {variable: "true", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "At index 1 diff" in done.stdout
