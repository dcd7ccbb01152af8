"""The experiments behind the kernels' numbers (cuda/kernels/experiments/): runs them, and keeps what they print.

Their lines become the section `kernels` of the file that bench/transfer.py --tune writes of the same GPU on the same
day; where there is no such file, of one with that section alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.gpu_machine import nvcc
from tools.gpu_report import OVERDUE, SKIPPED, BuildFailed, CannotRun, Summary, last_line, run_logged

if TYPE_CHECKING:
    from tools.gpu_tests import Bundle

EXPERIMENTS = "halfway_kernel_experiments"
MEASURED = re.compile(r"^(.*?) +(\S+) us +(\S+) GB/s +(\S+)(?: +(.*?))? *$")
COPY = re.compile(r"^(\S+(?: \S+)*) +copy$")  # the first line of an experiment
DEVICE = re.compile(r"^(.+), \d+ multiprocessors, compute capability \d+\.\d+$")
RESERVED = 150.0  # seconds that are the benchmark's, whose own experiments take a minute


def number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def names_of(words: str, known: list[str]) -> tuple[str, str]:
    """The experiment and what varies, of a line's words before its numbers; `known`: experiments before.

    Both are columns, but either may be longer than its own, so that names are learnt from the lines of the copies.
    """
    copy = COPY.match(words)
    if copy is not None:
        return copy[1], "copy"
    for name in sorted(known, key=len, reverse=True):
        if words.startswith(name + " "):
            return name, words[len(name) :].strip()
    name, _, variant = words.partition("  ")
    return name, variant.strip()


def parsed(text: str) -> dict[str, Any]:
    """Of an output: `device`, `rows` (one a line of a variant), and `notes`, whatever else was said."""
    found: dict[str, Any] = {"device": None, "rows": [], "notes": []}
    known: list[str] = []
    for line in text.splitlines():
        measured, device = MEASURED.match(line), DEVICE.match(line)
        if measured is not None:
            name, variant = names_of(measured[1], known)
            known += [name] if name not in known else []
            microseconds, speed, share = (number(measured[i]) for i in (2, 3, 4))
            row = {"experiment": name, "variant": variant, "microseconds": microseconds, "gb_per_s": speed}
            found["rows"].append({**row, "share": share, "right": "WRONG" not in (measured[5] or "")})
        elif device is not None and found["device"] is None:
            found["device"] = device[1]
        elif line.strip():
            found["notes"].append(line.strip())
    return found


def run_experiments(bundle: Bundle, summary: Summary, build: bool, sources: object) -> dict[str, Any] | None:
    """What `parsed` finds, with the circumstances; None where nothing was measured, which has been said then."""
    start = time.monotonic()
    try:
        executable = bundle.experiments(build)
    except BuildFailed as error:
        if nvcc() is None:
            summary.skip(EXPERIMENTS, str(error))
        else:
            summary.fail(EXPERIMENTS, str(error))
        return None
    except CannotRun as error:
        summary.skip(EXPERIMENTS, str(error))
        return None
    finally:
        summary.pause(start)
    start = time.monotonic()
    log = bundle.results / "kernels.log"
    most = max(summary.left() - RESERVED, 1.0)
    status = run_logged([executable], log, dict(os.environ), None, most, shown=True)
    if status == SKIPPED:
        summary.skip(EXPERIMENTS, last_line(log))
        return None
    found = parsed(log.read_text(errors="replace"))
    seconds = time.monotonic() - start
    wrong = [f"{row['experiment']}, {row['variant']}" for row in found["rows"] if not row["right"]]
    if wrong:
        summary.fail(EXPERIMENTS, f"wrong results: {'; '.join(wrong)}")
    elif status == OVERDUE:
        summary.unended(EXPERIMENTS, f"not ended within its {most:.0f} s; {len(found['rows'])} lines are kept")
    elif status == 0 and not found["rows"]:
        summary.fail(EXPERIMENTS, f"it ended well, and none of its lines is understood; they are in {log}")
    else:
        summary.add(EXPERIMENTS, (int(status == 0), int(status != 0), 0), seconds)
    return {**found, "seconds": round(seconds), "status": status, "sources": sources} if found["rows"] else None


# --- the file


def slug(text: str) -> str:
    """As bench/harness.py names its files."""
    text = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*$", " ", text, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def compact(result: dict[str, Any]) -> str:
    """As bench/harness.py writes results of many rows: an entry of a list is a line."""

    def text(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n ]"
        return json.dumps(value)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {text(value)}" for key, value in result.items()) + "\n}\n"


def keep(folder: Path, found: dict[str, Any]) -> Path:
    """The result into the file of its GPU and day, beside what is in it of the engine's constants."""
    path = folder / f"tuning-{slug(found['device'] or '')}-{today()}.json"
    result: dict[str, Any] = {"benchmark": "transfer-tuning", "date": today(), "machine": {"gpu": found["device"]}}
    with contextlib.suppress(OSError, ValueError):  # there is none, or half of one
        result = json.loads(path.read_text(encoding="utf-8"))
    result["kernels"] = found["rows"]
    result["kernels_run"] = {name: value for name, value in found.items() if name != "rows"}
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(compact(result), encoding="utf-8")
    os.replace(partial, path)
    return path
