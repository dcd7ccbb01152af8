"""Runs lanes of tests (targets of the Makefile) one after the other: one line each.

The log of the first that fails is shown, and the others are not run. The last line tells how many
tests of CTest and pytest and how many exhaustive sweeps passed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "logs"
SHOWN = 200  # lines of a failing lane's log
LIMIT = 1800  # seconds for a lane, several times what the longest takes: one that hangs must not hide its log
RESULTS = {
    "cpp": ROOT / "build" / "dev" / "junit.xml",
    "asan": ROOT / "build" / "asan" / "junit.xml",
    "tsan": ROOT / "build" / "tsan" / "junit.xml",
    "python": ROOT / "build" / "pytest.xml",
    "exhaustive-share": ROOT / "build" / "exhaustive-share.xml",
}


def counts(path: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a JUnit file."""
    passed = failed = skipped = 0
    for case in ET.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("disabled", "notrun"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def run(command: list[str], log: Path, limit: float = LIMIT, grace: float = 5) -> int:
    """Its exit status. At the limit, or when this process is told to end, the command's processes are ended."""
    with log.open("w") as stream:
        started = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return started.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGABRT)  # Python's show where they are
            time.sleep(grace)
            stream.write(f"\nended after {limit:.0f} s\n")
            return 124  # as timeout(1)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def terminate(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    signal.signal(signal.SIGTERM, terminate)
    LOGS.mkdir(parents=True, exist_ok=True)
    total = [0, 0, 0]
    begin = time.monotonic()
    status = 0
    for lane in sys.argv[1:]:
        if lane in RESULTS:
            RESULTS[lane].unlink(missing_ok=True)  # never count an earlier run
        log = LOGS / f"{lane}.log"
        start = time.monotonic()
        status = run([os.environ.get("MAKE", "make"), "--no-print-directory", lane], log)
        seconds = time.monotonic() - start
        summary = ""
        if lane in RESULTS and RESULTS[lane].exists():
            found = counts(RESULTS[lane])
            total = [a + b for a, b in zip(total, found, strict=True)]
            summary = "{} passed, {} failed, {} skipped".format(*found)
        verdict = "FAIL" if status else "ok  "
        print(f"{verdict} {lane:16} {seconds:6.1f} s  {summary}".rstrip(), flush=True)
        if status:
            lines = log.read_text(errors="replace").splitlines()
            print("\n".join(lines[-SHOWN:]))
            print(f"{lane} failed (exit status {status}); whole log: {log.relative_to(ROOT)}")
            break
    print(f"all lanes: {time.monotonic() - begin:.0f} s")
    print("{} passed, {} failed, {} skipped".format(*total))
    sys.exit(1 if status or total[1] else 0)


if __name__ == "__main__":
    main()
