"""Runs the C++ adapter's tests and the Python tests with the oldest supported and the newest torch, one at a time.

usage: matrix.py [--only oldest|newest] [--dry-run [--old-abi]] [--keep] [--torch-index URL]

Each torch gets an environment of its own under build/matrix, which is removed when its row is done: a torch with CUDA
takes 5 GB. `--torch-index https://download.pytorch.org/whl/cpu` takes builds for the CPU, a tenth of that size; all
else comes from pip's usual index. The oldest torch is the one that pyproject.toml asks for at least.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("build") / "matrix"
JOBS = os.environ.get("JOBS", "2")

# Most releases until 2.6 were built for the older std::string. Then everything that meets libtorch is, too: the
# package, the programs of the Python tests, which link its archive, and the C++ tests, with Boost.Test, which is
# installed for the newer one, compiled in.
OLD_ABI = "-D_GLIBCXX_USE_CXX11_ABI=0"


@dataclass(frozen=True)
class Row:
    name: str
    torch: str  # as pip takes it


@dataclass(frozen=True)
class Step:
    command: list[str]
    environment: dict[str, str]

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.environment.items()), shlex.join(self.command)])


def rows() -> list[Row]:
    found = re.search(r"torch>=([0-9.]+)", (ROOT / "pyproject.toml").read_text())
    assert found, "pyproject.toml does not say which torch it needs"
    return [Row("oldest", f"torch=={found[1]}.*"), Row("newest", "torch")]


def step(*command: str | Path, **environment: str) -> Step:
    return Step([str(word) for word in command], environment)


def python_of(row: Row) -> str:
    return str(FOLDER / row.name / "venv" / "bin" / "python")


def pip_install(row: Row) -> tuple[str, ...]:
    return (python_of(row), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def setup(row: Row, index: str | None) -> Iterator[Step]:
    """Makes the environment, torch first: what asks for a torch later is satisfied by it."""
    yield step(sys.executable, "-m", "venv", FOLDER / row.name / "venv")
    yield step(*pip_install(row), *(["--index-url", index] if index else []), row.torch)
    yield step(*pip_install(row), "--requirement", FOLDER / "requirements.txt")


def package(row: Row, *, old_abi: bool) -> Iterator[Step]:
    """Installs halfway, from a build folder of its own: the usual one may be for another std::string."""
    settings = {"build-dir": f"{FOLDER / row.name}/package"}
    if old_abi:
        settings |= {f"cmake.define.CMAKE_{language}_FLAGS": OLD_ABI for language in ("CXX", "CUDA")}
    yield step(
        *(*pip_install(row), "--no-build-isolation", "--no-deps", "--force-reinstall"),
        *(f"--config-settings={name}={value}" for name, value in settings.items()),
        ".",
        CMAKE_BUILD_PARALLEL_LEVEL=JOBS,
    )


def tests(row: Row, *, old_abi: bool) -> Iterator[Step]:
    python = python_of(row)
    build = FOLDER / row.name / "build"
    abi = [f"-DCMAKE_CXX_FLAGS={OLD_ABI}", "-DHALFWAY_TESTS_BOOST_INCLUDED=ON"] if old_abi else []
    targets = ("halfway_torch_tests", "halfway_probe", "halfway_npy")
    yield step(
        *("cmake", "-S", ".", "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", "-DHALFWAY_TESTS=ON"),
        *("-DHALFWAY_TORCH=ON", "-DHALFWAY_CUDA=OFF", f"-DPython_EXECUTABLE={ROOT / python}", *abi),
    )
    yield step("cmake", "--build", build, "-j", JOBS, "--target", *targets)
    yield step("ctest", "--test-dir", build, "-R", "^torch_", "--output-on-failure", "--no-tests=error")
    probe = str(ROOT / build / "probe" / "halfway_probe.so")
    flags = {"CXXFLAGS": OLD_ABI} if old_abi else {}
    yield step(python, "-m", "pytest", "--quiet", "tests/python", HALFWAY_PROBE=probe, **flags)


def has_old_abi(row: Row) -> bool:
    """What the installed torch says of itself."""
    question = "import torch; print(torch.compiled_with_cxx11_abi())"
    done = subprocess.run([python_of(row), "-c", question], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "False"


def run(steps: Iterable[Step]) -> bool:
    """Every step until one fails; whether none did."""
    for todo in steps:
        print(todo, flush=True)
        done = subprocess.run(todo.command, cwd=ROOT, env={**os.environ, **todo.environment}, check=False)
        if done.returncode != 0:
            print(f"matrix: failed: {todo}", file=sys.stderr)
            return False
    return True


def main() -> None:
    every = rows()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[row.name for row in every], help="one row")
    parser.add_argument("--dry-run", action="store_true", help="list the commands and do nothing")
    parser.add_argument(
        "--old-abi", action="store_true", help="with --dry-run: as of a torch for the older std::string"
    )
    parser.add_argument("--keep", action="store_true", help="do not remove environments and builds")
    parser.add_argument("--torch-index", metavar="URL", help="where torch comes from")
    options = parser.parse_args()

    failed = False
    for row in every:
        if options.only not in (None, row.name):
            continue
        print(f"== {row.name}: {row.torch}", flush=True)
        remove = step("rm", "-rf", FOLDER / row.name)
        if options.dry_run:
            todo = (*package(row, old_abi=options.old_abi), *tests(row, old_abi=options.old_abi))
            print(*setup(row, options.torch_index), *todo, sep="\n")
        else:
            (ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
            asked = subprocess.run(
                [sys.executable, "tools/requirements.py"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            (ROOT / FOLDER / "requirements.txt").write_text(asked.stdout)
            passed = run(setup(row, options.torch_index))
            if passed:
                old_abi = has_old_abi(row)
                passed = run(package(row, old_abi=old_abi)) and run(tests(row, old_abi=old_abi))
            failed = failed or not passed
        if not options.keep:
            print(remove, flush=True)
            if not options.dry_run:
                subprocess.run(remove.command, cwd=ROOT, check=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
