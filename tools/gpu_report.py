"""How tools/gpu_tests.py runs something and says what came of it, in lines for people and as an exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path

SKIPPED = 77
OVERDUE = 124
SECONDS = 450.0  # of all that one call runs, what is built here aside


class CannotRun(Exception):
    """Something cannot run on this machine, and this is why."""


class BuildFailed(Exception):
    """Something could not be built here, and this is why."""


def counts(path: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a JUnit file; one failed where there is none, or nothing in it."""
    try:
        cases = list(ET.parse(path).iter("testcase"))
    except (OSError, ET.ParseError):
        return 0, 1, 0
    if not cases:
        return 0, 1, 0
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return len(cases) - failed - skipped, failed, skipped


class Summary:
    """What ran, in lines for people and as an exit status; and the time that is left to run more."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.total = [0, 0, 0]
        self.late = 0
        self.begin = time.monotonic()
        self.deadline = self.begin + seconds

    def left(self) -> float:
        """Seconds; a little of them even when all is used up, so that what comes next ends by itself or is ended."""
        return max(self.deadline - time.monotonic(), 1.0)

    def pause(self, since: float) -> None:
        """What was done since then is not counted."""
        self.deadline += time.monotonic() - since

    def add(self, name: str, found: tuple[int, int, int], seconds: float) -> None:
        self.total = [a + b for a, b in zip(self.total, found)]  # noqa: B905 (Python 3.8 has no strict)
        verdict = "FAIL" if found[1] else "ok  "
        words = "{} passed, {} failed, {} skipped".format(*found)
        print(f"{verdict} {name:28} {seconds:6.1f} s  {words}", flush=True)

    def fail(self, name: str, why: str) -> None:
        self.total[1] += 1
        print(f"FAIL {name:28} {why}", flush=True)

    def skip(self, name: str, why: str, what: str = "not run") -> None:
        self.total[2] += 1
        print(f"     {name:28} {what}: {why}", flush=True)

    def unended(self, name: str, why: str) -> None:
        """Neither passed nor failed, for want of time."""
        self.late += 1
        print(f"LATE {name:28} {why}", flush=True)

    def finish(self) -> int:
        found = "{} passed, {} failed, {} skipped".format(*self.total)
        if self.late:
            found += f", {self.late} not ended"
        print(f"{found}, {time.monotonic() - self.begin:.0f} s")
        if self.total[1] or self.late:
            return 1
        if self.total[0]:
            return 0
        print("nothing was run: each line above says why")
        return SKIPPED


def run_logged(
    command: list[str | Path],
    log: Path,
    environment: dict[str, str],
    directory: Path | None = None,
    seconds: float = SECONDS,
    shown: bool = False,
) -> int:
    """Runs a command with its output in a file, whose end is shown if it fails; with `shown` all of it, as it comes.

    Its status is OVERDUE where it was ended because the seconds were over.
    """
    late = False

    def end() -> None:  # and what it started: a sanitizer starts the tests
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)

    def be_late() -> None:
        nonlocal late
        late = True
        end()

    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(log.open("w"))
        running = stack.enter_context(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE if shown else stream,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        )
        timer = threading.Timer(seconds, be_late)
        timer.start()
        try:
            for line in running.stdout or ():
                stream.write(line)
                print(line, end="", flush=True)
            status = running.wait()
        except BaseException:
            end()
            raise
        finally:
            timer.cancel()
    if late:
        status = OVERDUE
        print(f"ended after {seconds:.0f} s", flush=True)
    if status not in (0, SKIPPED) and not shown:
        print("\n".join(log.read_text(errors="replace").splitlines()[-60:]), flush=True)
    return status


def last_line(log: Path) -> str:
    """Of a command that ran nothing: why."""
    return log.read_text(errors="replace").strip().rpartition("\n")[2] or "it does not say why"


def run_suite(
    summary: Summary,
    name: str,
    command: list[str | Path],
    junit: Path,
    environment: dict[str, str],
    directory: Path | None = None,
) -> None:
    """Runs tests that report to a JUnit file; their output goes beside it."""
    junit.unlink(missing_ok=True)
    start = time.monotonic()
    log = junit.with_suffix(".log")
    status = run_logged(command, log, environment, directory, summary.left())
    if status == SKIPPED:
        return summary.skip(name, last_line(log))
    passed, failed, skipped = counts(junit)
    if status != 0:  # perhaps it ended before it could say what failed
        failed = max(failed, 1)
    elif failed:  # its status says otherwise
        print(f"{name} ended without an error, but {junit} reports a failure or no test at all", flush=True)
    return summary.add(name, (passed, failed, skipped), time.monotonic() - start)
