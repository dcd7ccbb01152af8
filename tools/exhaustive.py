"""Runs the exhaustive cast tests: all of them, or a share that fits into some seconds.

Both parts, the C++ executable and tests/exhaustive/against_ml_dtypes.py, run with the library's
loops for each instruction set of this machine. A share takes the chunks in an order that the seed chooses,
HALFWAY_SEED or else the date, until its time is up, and at least one of each sweep.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
JOBS = int(os.environ.get("JOBS", "0")) or os.cpu_count() or 2
LINE = re.compile(r"(ok  |FAIL|skip) (\S+)\s*(.*)")
SECONDS = re.compile(r"([0-9.]+) s$")


class Results:
    """The lines of the sweeps, as test cases."""

    def __init__(self) -> None:
        self.suite = ET.Element("testsuite", name="exhaustive")
        self.counts = {"ok  ": 0, "FAIL": 0, "skip": 0}

    def add(self, verdict: str, name: str, text: str, details: list[str]) -> None:
        self.counts[verdict] += 1
        case = ET.SubElement(self.suite, "testcase", classname="exhaustive", name=name)
        found = SECONDS.search(text)
        if found:
            case.set("time", found[1])
        if verdict == "FAIL":
            ET.SubElement(case, "failure", message=text).text = "\n".join(details)
        elif verdict == "skip":
            ET.SubElement(case, "skipped", message=text)

    def read(self, lines: list[str], suffix: str = "") -> bool:
        """Add what a run printed; whether anything failed."""
        before = self.counts["FAIL"]
        found = [(i, LINE.match(line)) for i, line in enumerate(lines)]
        for i, match in found:
            if match:
                details = [line for line in lines[i + 1 : i + 12] if line.startswith("     ")]
                self.add(match[1], match[2] + suffix, match[3], details)
        return self.counts["FAIL"] > before

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ET.ElementTree(self.suite).write(path, encoding="unicode", xml_declaration=True)


def run(command: list[str], tier: str = "") -> tuple[int, list[str]]:
    """Run a command, showing its lines as they come."""
    environment = dict(os.environ)
    if tier:
        environment["HALFWAY_TIER"] = tier
    lines: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if not re.match(r"\d+ passed, ", line):
                print(line, end="", flush=True)
    return process.returncode, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="folder in which halfway_exhaustive was built")
    parser.add_argument("--seconds", type=int, default=0, help="a share that takes about as long; 0: everything")
    parser.add_argument("--junit", type=Path, help="where the results go")
    arguments = parser.parse_args()
    seed = os.environ.get("HALFWAY_SEED") or f"{datetime.date.today():%Y%m%d}"
    print(f"seed {seed}: HALFWAY_SEED={seed} repeats it", flush=True)

    program = str((ROOT / arguments.build / "tests" / "exhaustive" / "halfway_exhaustive").resolve())
    script = [sys.executable, str(ROOT / "tests" / "exhaustive" / "against_ml_dtypes.py"), "--seed", seed]
    listing = subprocess.run([program, "--list-tiers"], capture_output=True, text=True, check=True)
    tiers = listing.stdout.split("\n")[:-1]
    results = Results()
    begin = time.monotonic()

    def check(status: int, lines: list[str], name: str, suffix: str = "") -> None:
        # A run that says nothing of a failure and yet fails is one.
        if results.read(lines, suffix) != (status != 0) or not lines:
            results.add("FAIL", name, f"ended with status {status}", lines[-20:])
            print(f"FAIL {name}: ended with status {status}", flush=True)

    # 1. The C++ sweeps go through the tiers themselves. Two thirds of the time are theirs.
    command = [program, "--seed", seed, "--threads", str(JOBS)]
    if arguments.seconds:
        command += ["--seconds", str(max(arguments.seconds * 2 // 3, 1))]
    check(*run(command), "halfway_exhaustive")

    # 2. ml_dtypes. A whole run splits each tier among processes.
    left = max(arguments.seconds - (time.monotonic() - begin), 1) / len(tiers)
    runs: list[tuple[str, list[str], str]] = []
    for tier in tiers:
        if arguments.seconds:
            runs.append((tier, ["--seconds", f"{left * min(JOBS, len(tiers)):.1f}"], ""))
        else:
            runs += [(tier, ["--share", f"{i}/{JOBS}"], f"[{i}/{JOBS}]") for i in range(1, JOBS + 1)]
    with ThreadPoolExecutor(JOBS) as pool:
        done = list(pool.map(lambda one: run(script + one[1], one[0]), runs))
    for (tier, _, suffix), (status, lines) in zip(runs, done, strict=True):
        check(status, lines, f"{tier}/ml_dtypes".lstrip("/"), suffix)

    if arguments.junit:
        results.write(ROOT / arguments.junit)
    counts = results.counts
    print("{} passed, {} failed, {} skipped".format(counts["ok  "], counts["FAIL"], counts["skip"]))
    sys.exit(1 if counts["FAIL"] else 0)


if __name__ == "__main__":
    main()
