"""C++ with libtorch: the training example against the installed package, and what `make matrix` would run."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
from tests.python.probe import ROOT

RESULT = re.compile(r"^(\w+): loss ([0-9.]+), test accuracy ([0-9.]+), (\d+) bytes copied$", re.MULTILINE)


def test_train_digits():
    folder = ROOT / "build" / "consumers" / "train_digits"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "train_digits.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    results = {name: (float(accuracy), int(copied)) for name, _, accuracy, copied in RESULT.findall(done.stdout)}
    assert set(results) == {"float32", "bfloat16"}
    assert results["float32"][0] >= 0.95
    assert abs(results["float32"][0] - results["bfloat16"][0]) <= 0.02
    assert results["float32"][1] == 0
    assert results["bfloat16"][1] == 1797 * 64 * 2  # every pixel once, labels never
    for name in results:
        predicted = np.load(folder / f"predictions_{name}.npy")
        assert predicted.dtype == np.int64
        assert predicted.shape == (397,)


def matrix(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "matrix.py"), *options], capture_output=True, text=True, check=False
    )


def test_the_matrix_lists_what_it_would_do():
    done = matrix("--dry-run", "--torch-index", "https://example.org/cpu")
    assert (done.returncode, done.stderr) == (0, "")
    oldest, newest = done.stdout.split("== ")[1:]
    minimum = re.search(r"torch>=([0-9.]+)", (ROOT / "pyproject.toml").read_text())
    assert minimum
    for text, torch in ((oldest, f"'torch=={minimum[1]}.*'"), (newest, "torch")):
        lines = text.splitlines()
        assert sum(f"--index-url https://example.org/cpu {torch}" in line for line in lines) == 1
        steps = ["-m venv", "--index-url", "--requirement", "--no-deps", "cmake -S", "cmake --build"]
        steps += ["ctest", "pytest", "rm -rf"]
        places = [next(i for i, line in enumerate(lines) if step in line) for step in steps]
        assert places == sorted(places)
        # an environment is gone before the next one is made
        assert lines[-1].startswith("rm -rf")


def test_the_matrix_builds_everything_for_the_older_string():
    """What links or includes libtorch, and the package that such programs link."""
    flag = "-D_GLIBCXX_USE_CXX11_ABI=0"
    lines = matrix("--dry-run", "--only", "oldest", "--old-abi").stdout.splitlines()
    for step in ("--no-deps", "cmake -S", "pytest"):
        (line,) = (line for line in lines if step in line)
        assert flag in line
    assert flag not in matrix("--dry-run").stdout


def test_the_matrix_knows_its_rows():
    done = matrix("--dry-run", "--only", "newest")
    assert done.returncode == 0
    assert done.stdout.count("== ") == 1
    done = matrix("--dry-run", "--only", "nonsense")
    assert done.returncode == 2
    assert "oldest" in done.stderr
