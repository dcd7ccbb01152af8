"""Formatting, static analysis and types: one line a check, and the details of what failed.

The slow checks (clang-tidy, headers compiled alone) look at one file at a time and keep a stamp
under build/lint for each file that passed. The stamp's name is a hash of everything in the tree
that the verdict depends on: the file, all files of the tree it includes, the command, the tool's
version and its configuration.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAMPS = ROOT / "build" / "lint"
COMMANDS = STAMPS / "commands"
BIN = Path(sys.executable).parent
POOL = ThreadPoolExecutor(int(os.environ.get("JOBS", "2")))
LLVM_MAJOR = "14"  # formatting is that of this release

# The static analyzer's bound on explored states, a tenth of its default: template-heavy files take
# half a minute otherwise.
ANALYZER = [f"--extra-arg={word}" for word in ("-Xclang", "-analyzer-config", "-Xclang", "max-nodes=20000")]

CPP_SUFFIXES = {".h", ".hpp", ".cpp", ".cuh", ".cu"}
INCLUDE_DIRS = [
    ROOT / name
    for name in (
        "runtime/include",
        "runtime/src",
        "cuda/include",
        "cuda/src",
        "cuda",
        "bindings/python/src",
        "bindings/cpp/include",
        "tests",
    )
]
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
NOISE = re.compile(r"\d+ warnings? generated\.$")  # clang-tidy counts what it does not show
WARNINGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion"]
WARNINGS += ["-Wshadow", "-Werror"]
TYPED = ["bindings/python/halfway", "tests/python", "tests/exhaustive", "examples", "bench", "tools"]

Finding = str | None  # what a check has to say, None when it passed


def run(command: list[str | Path]) -> Finding:
    """Run a command in the tree's root; its output if it failed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.splitlines() if not NOISE.match(line)]
    return "\n".join(lines).strip() or f"exit status {done.returncode}"


@cache
def version(tool: str) -> str:
    return subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout


def llvm_tool(name: str) -> str:
    tool = shutil.which(f"{name}-{LLVM_MAJOR}") or shutil.which(name)
    if tool is None:
        sys.exit(f"lint: {name} is not installed: run `make setup`")
    if f"version {LLVM_MAJOR}." not in version(tool):
        print(f"  note: this {name} is not version {LLVM_MAJOR}, it may judge differently")
    return tool


@cache
def files() -> list[Path]:
    """What git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = {ROOT / name for name in listing.stdout.split("\0") if name}
    return sorted(path for path in paths if path.is_file())


def cpp_files() -> list[Path]:
    return [path for path in files() if path.suffix in CPP_SUFFIXES]


@cache
def includes(path: Path) -> frozenset[Path]:
    """The files of the tree that `path` includes itself, whatever the preprocessor's conditions."""
    found = set()
    for name in INCLUDE.findall(path.read_text()):
        for directory in (path.parent, *INCLUDE_DIRS):
            candidate = (directory / name).resolve()
            if candidate.is_file():
                found.add(candidate)
    return frozenset(found)


def stamp(path: Path, *context: str) -> Path:
    closure = {path}
    queue = [path]
    while queue:
        new = includes(queue.pop()) - closure
        closure |= new
        queue += new
    digest = hashlib.sha256("\0".join(context).encode())
    for member in sorted(closure):
        digest.update(f"\0{member}\0".encode() + member.read_bytes())
    return STAMPS / digest.hexdigest()


def per_file(jobs: list[tuple[Path, list[str | Path]]]) -> Finding:
    """Run each command unless its file's stamp exists; the findings of all."""
    live = {path for path, _ in jobs}
    todo = [(mark, command) for mark, command in jobs if not mark.exists()]
    STAMPS.mkdir(parents=True, exist_ok=True)

    def one(job: tuple[Path, list[str | Path]]) -> Finding:
        mark, command = job
        finding = run(command)
        if finding is None:
            mark.touch()
        return finding

    findings = [finding for finding in POOL.map(one, todo) if finding]
    used.update(live)
    return "\n".join(dict.fromkeys(findings)) or None


used: set[Path] = set()


def clang_format() -> Finding:
    return run([llvm_tool("clang-format"), "--dry-run", "-Werror", *cpp_files()])


def foreign_headers() -> list[str]:
    """What the adapters in bindings/cpp adapt to, and their users bring."""
    found = [sysconfig.get_path("include"), importlib.import_module("pybind11").get_include()]
    torch = importlib.util.find_spec("torch")  # not imported, which takes seconds
    if torch is not None and torch.origin is not None:
        found.append(str(Path(torch.origin).parent / "include"))
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        found.append(str(Path(nvcc).resolve().parents[1] / "include"))
    return found


def lacks(header: Path) -> str:
    """The library that an adapter's header is about, if its headers are not here."""
    needed = {"torch.h": ("ATen/core/Tensor.h", "libtorch"), "torch_cuda.h": ("cuda_runtime_api.h", "CUDA")}
    file, library = needed.get(header.name, ("", ""))
    here = any((Path(directory) / file).exists() for directory in foreign_headers())
    return "" if here else library


def headers() -> Finding:
    """Every public header compiles alone, with both compilers."""
    roots = [ROOT / "runtime" / "include", ROOT / "cuda" / "include", ROOT / "bindings" / "cpp" / "include"]
    include: list[str | Path] = [word for root in roots for word in ("-I", root)]
    include += [word for directory in foreign_headers() for word in ("-isystem", directory)]
    jobs: list[tuple[Path, list[str | Path]]] = []
    for header in (path for path in cpp_files() if any(path.is_relative_to(root) for root in roots)):
        if lacks(header):
            print(f"  note: {header.name} is not compiled, {lacks(header)} is not here")
            continue
        for compiler in ("g++", "clang++"):
            command = [
                compiler,
                *WARNINGS,
                *include,
                "-include",
                header,
                "-x",
                "c++",
                os.devnull,
            ]
            mark = stamp(header, version(compiler), *map(str, command))
            jobs.append((mark, command))
    return per_file(jobs)


def compile_commands() -> dict[Path, str]:
    """The commands of the preset `lint`, one a file, configured when CMake files or the sources changed.

    That preset is never built. The engine's sources are compiled for the simulated device too, where
    a planted fault is a variable and here a constant, and clang-tidy checks a file once for every
    command it knows: it is told of the first, what ships.
    """
    digest = hashlib.sha256(sys.executable.encode())
    for path in files():
        if path.name in ("CMakeLists.txt", "CMakePresets.json") or path.suffix == ".cmake":
            digest.update(path.read_bytes())
    digest.update("\0".join(str(path) for path in cpp_files()).encode())
    mark = STAMPS / f"configured-{digest.hexdigest()}"
    if not mark.exists():
        command = ["cmake", "--fresh", "--preset", "lint", f"-DPython_EXECUTABLE={sys.executable}"]
        finding = run([*command])
        if finding:
            sys.exit(f"lint: configuring failed\n{finding}")
        mark.touch()
    used.add(mark)
    entries = json.loads((STAMPS / "compile_commands.json").read_text())
    first = {entry["file"]: entry for entry in reversed(entries)}
    COMMANDS.mkdir(exist_ok=True)
    (COMMANDS / "compile_commands.json").write_text(json.dumps(list(first.values())))
    return {Path(file): entry["command"] for file, entry in first.items()}


def clang_tidy() -> Finding:
    # Of .venv: since release 21 checks skip what system headers declare, which takes a third of the time.
    tool = str(BIN / "clang-tidy")
    configuration = (ROOT / ".clang-tidy").read_text()
    checked = [ROOT / "runtime" / "src", ROOT / "cuda" / "src", ROOT / "bindings" / "python" / "src"]
    checked.append(ROOT / "tests" / "python" / "casters")  # which includes halfway/pybind11.h
    jobs: list[tuple[Path, list[str | Path]]] = []
    for path, command in sorted(compile_commands().items()):
        if any(path.is_relative_to(directory) for directory in checked):
            mark = stamp(path, version(tool), *ANALYZER, configuration, command)
            jobs.append((mark, [tool, "--quiet", *ANALYZER, "-p", COMMANDS, path]))
    return per_file(jobs)


def ruff_check() -> Finding:
    return run([BIN / "ruff", "check", "--quiet", "--output-format=concise", "."])


def ruff_format() -> Finding:
    return run([BIN / "ruff", "format", "--check", "--quiet", "."])


def mypy() -> Finding:
    python = [path for path in files() if path.suffix in (".py", ".pyi")]
    roots = [root for root in TYPED if any(path.is_relative_to(ROOT / root) for path in python)]
    return run([BIN / "mypy", "--no-error-summary", *roots])


def report(check: Callable[[], Finding], finding: Finding, seconds: float) -> bool:
    """Prints a check's line; whether it passed."""
    name = check.__name__.replace("_", "-")
    print(f"  {'FAIL' if finding else 'ok  '} {name:13} {seconds:6.1f} s", flush=True)
    if finding:
        print(finding, flush=True)
    return not finding


def timed(check: Callable[[], Finding]) -> tuple[Finding, float]:
    start = time.monotonic()
    return check(), time.monotonic() - start


def main() -> None:
    passed = [report(check, *timed(check)) for check in (clang_format, ruff_check, ruff_format)]
    types = POOL.submit(timed, mypy)  # one process, beside the others
    passed += [report(check, *timed(check)) for check in (headers, clang_tidy)]
    passed.append(report(mypy, *types.result()))
    if not all(passed):
        sys.exit(1)
    for old in STAMPS.iterdir():  # stamps of what no longer exists
        if re.fullmatch(r"(configured-)?[0-9a-f]{64}", old.name) and old not in used:
            old.unlink()


if __name__ == "__main__":
    main()
