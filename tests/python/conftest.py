"""Fixtures that the tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.python.probe import LIBRARY, ROOT

import halfway
from halfway import _core

# Where these are set, pytest shows the whole difference of what a test found unequal, line by line: of an array's bytes
# that takes hours.
for _name in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_name, None)


@pytest.fixture(params=["table", "capsule"])
def exchange_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test twice: with torch's C exchange table, and with DLPack capsules alone."""
    _core._set_torch_table_enabled(request.param == "table")
    yield request.param
    _core._set_torch_table_enabled(True)


@pytest.fixture
def drain() -> Callable[[], None]:
    """Releases what other threads left behind; any exchange does."""

    def release() -> None:
        halfway.from_dlpack(np.zeros(1))
        assert _core._pending_releases() == 0

    return release


@dataclass
class Finished:
    """How an interpreter ended, and what it wrote to stdout and stderr together."""

    status: int
    output: str

    def check(self, expected: str = "") -> None:
        assert (self.status, self.output) == (0, expected)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {
        "PYTHONPATH": path,
        "HALFWAY_PROBE": str(LIBRARY),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


@pytest.fixture(scope="session")
def run_python() -> Callable[..., Finished]:
    """Runs code in an interpreter of its own: run_python(code, *options)."""

    def run(code: str, *options: str) -> Finished:
        done = subprocess.run(
            [sys.executable, *options, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
            env=_environment(),
        )
        return Finished(done.returncode, done.stdout)

    return run


# Starting an interpreter with torch takes seconds, forking one milliseconds: the child runs the code at module level,
# falls off its end, and finalizes as any interpreter does. What torch brings is frozen: collecting it at the end of
# each child would copy all its pages. (So with torch, cycles through __main__ are not collected at the end.)
_NURSERY = """
import faulthandler, gc, json, os, signal, sys
import numpy as np
import ml_dtypes
if sys.argv[3] == "torch":
    import torch
import halfway
from halfway import _core
from tests.python import probe

requests = os.fdopen(int(sys.argv[1]), "r")
answers = os.fdopen(int(sys.argv[2]), "w")
# A process that hangs, a child's child too, shows where and ends: else the one who reads its output waits for ever.
os.register_at_fork(after_in_child=lambda: signal.alarm(60))
if sys.argv[3] == "torch":
    gc.collect()
    gc.freeze()
for line in requests:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        requests.close()
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        faulthandler.register(signal.SIGALRM, chain=True)
        break
    os.close(writer)
    with os.fdopen(reader, "r", errors="replace") as output:
        text = output.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, text]), file=answers, flush=True)
else:
    os._exit(0)
code = json.loads(line)
del requests, answers, line, reader, writer, child, output, text, status
exec(compile(code, "scenario", "exec"))
"""


class Nursery:
    def __init__(self, *, torch: bool) -> None:
        ours, theirs = os.pipe()
        answers, replies = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", "output = text = status = None\n" + _NURSERY),
                *(str(ours), str(replies), "torch" if torch else "none"),
            ],
            pass_fds=(ours, replies),
            env=_environment(),
        )
        os.close(ours)
        os.close(replies)
        self._requests = os.fdopen(theirs, "w")
        self._answers = os.fdopen(answers, "r")

    def run(self, code: str) -> Finished:
        print(json.dumps(textwrap.dedent(code)), file=self._requests, flush=True)
        status, output = json.loads(self._answers.readline())
        return Finished(status, output)

    def close(self) -> None:
        self._requests.close()
        self._answers.close()
        self._process.wait(timeout=60)


def _nursery(*, torch: bool) -> Iterator[Callable[[str], Finished]]:
    nursery = Nursery(torch=torch)
    yield nursery.run
    nursery.close()


@pytest.fixture(scope="session")
def fork_python() -> Iterator[Callable[[str], Finished]]:
    """Runs code in a fork of an interpreter that has imported NumPy (np), torch, halfway and probe."""
    yield from _nursery(torch=True)


@pytest.fixture(scope="session")
def fork_python_without_torch() -> Iterator[Callable[[str], Finished]]:
    """As fork_python, but nothing has imported torch; its children end sooner."""
    yield from _nursery(torch=False)


@pytest.fixture(scope="session")
def vocabulary() -> tuple[str, ...]:
    """The reasons, read from the enumeration in error.h."""
    return _enumerators("Reason", ROOT / "runtime" / "include" / "halfway" / "error.h")


@pytest.fixture(scope="session")
def defects() -> tuple[str, ...]:
    """The defects, read from the enumeration in validate.h."""
    return _enumerators("Defect", ROOT / "runtime" / "include" / "halfway" / "validate.h")


def _enumerators(name: str, header: Any) -> tuple[str, ...]:
    text = header.read_text()
    body = text.split(f"enum class {name} ", 1)[1].split("{", 1)[1].split("};", 1)[0]
    lines = (line.split("//", 1)[0] for line in body.splitlines())
    return tuple(word.strip() for line in lines for word in line.split(",") if word.strip())
