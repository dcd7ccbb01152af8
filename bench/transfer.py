"""What it costs to bring data to a GPU and back with a cast, against torch, CuPy and the copy engines.

    python bench/transfer.py                       everything, below 8 minutes; JSON in bench/results/
    python bench/transfer.py --steps hot,images    some steps alone
    python bench/transfer.py --seconds 200         within so many seconds: what does not fit is left out, and named
    python bench/transfer.py --tune                the experiments behind the shipped constants instead
    python bench/transfer.py --quick               seconds instead of minutes, on few elements
    python bench/transfer.py --replot RESULT.json --plot transfer.svg    the picture of an earlier run

A row holds halfway's call and the idioms of torch, blocking and not, and of CuPy where that is installed, on the same
memory, in turns; and a floor, which is a copy engine with the bytes of the narrower side. Every turn ends when the
device has done all of it, for blocking calls too, so that the two kinds are comparable; when a call returned is a
figure of its own. Casts on the device are timed by the device's clock, several behind one another. Before anything is
timed the first and the last 64 Ki elements of every result are compared with the host's cast (ours bit by bit; all
elements are what the tests compare), and the device memory that a call takes is measured.

The benchmark goes step by step. A step that lacks a tool or its memory says so, one that fails is recorded as failed,
and the next one begins. The result is written anew after each row or two, so that a run that is cut off leaves what it
had. Exit status: 0; 1 if a step failed; 77 without a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

from bench import gpu, harness, transfer_claims, transfer_device, transfer_plot, transfer_rows, transfer_tune  # noqa: E402
from bench.cast_rows import Pair  # noqa: E402
from tools import gpu_tests  # noqa: E402

import halfway  # noqa: E402

SKIPPED = 77
PACKAGES = ("numpy", "torch", "ml_dtypes", "cupy", "halfway")
SECONDS = 420.0  # of a whole run
MOST_FAILURES = 3  # rows of a step, after which the rest of it will hardly do better
SAVED = 3.0  # seconds between two writings of the result
LINK = "driver_version,pcie.link.gen.max,pcie.link.width.max,power.limit,clocks.max.sm"


class LeftOut(Exception):
    """A step is not run, and this is why."""


class Run:
    """One run of the benchmark: its result so far, its time, its device."""

    def __init__(self, device: gpu.Device, options: argparse.Namespace, path: Path | None) -> None:
        seconds: float = options.seconds
        self.device = device
        self.quick: bool = options.quick
        self.path = path
        self.begin = time.monotonic()
        self.deadline = self.begin + seconds
        self.saved = 0.0
        self.cupy: Any = None
        self._buffers: transfer_rows.Buffers | None = None
        self.result: dict[str, Any] = {
            "benchmark": "transfer",
            "date": harness.today(),
            "quick": self.quick,
            "sources": gpu_tests.fingerprint(ROOT),  # of the engine that was measured, as in a bundle's manifest
            "machine": {
                **device.about(),
                **harness.machine(PACKAGES),
                "halfway": halfway.__version__,  # whose package may be a folder, in the bundle
                "link": link(),
            },
            "settings": {
                "seconds": seconds,
                "gc": "disabled while timing",
                "threads": halfway.num_threads(),
                "threads_of_torch": torch.get_num_threads(),
                "planned_by": planned_by(),
            },
            "steps": [],
            "left_out": [],
            "notes": [],
            "finished": False,
        }

    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.0)

    def share(self, rows: int, most: float) -> float:
        """Seconds for the next of so many rows."""
        return min(self.left() / max(rows, 1), most)

    def note(self, text: str) -> None:
        self.result["notes"].append(text)
        print(f"  note: {text}", flush=True)

    def leave_out(self, name: str, why: str) -> None:
        self.result["left_out"].append({"name": name, "why": why})

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        self.result.setdefault(table, []).append(row)
        if time.monotonic() - self.saved > SAVED:
            self.save()

    def save(self) -> None:
        """Replace the file at once, so that nobody finds half of it."""
        self.result["seconds"] = round(time.monotonic() - self.begin)
        if self.result["benchmark"] == "transfer":
            with contextlib.suppress(Exception):  # nothing keeps what was measured from being written; see `measure`
                self.result["claims"] = transfer_claims.judge(self.result)
        if self.path is not None:
            partial = self.path.with_name(self.path.name + ".part")
            harness.write_compact_json(partial, self.result)
            os.replace(partial, self.path)
        self.saved = time.monotonic()

    def buffers(self) -> transfer_rows.Buffers:
        """Made when first needed."""
        if self._buffers is None:
            limit, why = transfer_rows.limits(self.device, self.quick)
            if why is not None:
                self.note(why)
            self._buffers = transfer_rows.Buffers(self.device, limit)
        return self._buffers

    def step(self, name: str, body: Callable[[Run], None]) -> None:
        """Run a step, whatever becomes of it."""
        print(f"\n{name}", flush=True)
        start = time.monotonic()
        entry: dict[str, Any] = {"name": name, "status": "ok"}
        try:
            if self.left() == 0:
                raise LeftOut("no time was left")
            body(self)
        except LeftOut as error:
            entry |= {"status": "left out", "why": str(error)}
        except Exception as error:  # the others may still say something
            traceback.print_exc()
            entry |= {"status": "failed", "why": f"{type(error).__name__}: {error}"}
        entry["seconds"] = round(time.monotonic() - start, 1)
        self.result["steps"].append(entry)
        if entry["status"] != "ok":
            print(f"  {entry['status']}: {entry['why']}", flush=True)
        self.save()


def planned_by() -> str:
    """Where the figures come from by which transfers are planned now."""
    return halfway.explain(torch.empty(1), device="cuda").machine


def link() -> str | None:
    """The driver and how the device is connected, by nvidia-smi where there is one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        command = [tool, f"--query-gpu={LINK}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return f"{LINK}: {done.stdout.strip().partition(chr(10))[0]}" if done.returncode == 0 else None


# --- for people


def print_transfer(row: Mapping[str, Any]) -> None:
    ns = {entry["statement"]: entry["ns"]["median"] for entry in row["contenders"]}
    cells = []
    for mode, cell in row["modes"].items():
        ratio = cell["against_torch"]
        cells.append(
            f"{mode} {harness.nanoseconds(ns[cell['ours']])} ({ratio['median']:.2f}x [{ratio['q1']:.2f}, "
            f"{ratio['q3']:.2f}], floor {cell['floor']['median']:.2f})"
        )
    torchs = row["modes"]["blocking"]["torch"]
    print(f"  {row['name']:40} {'  '.join(cells)}  torch {harness.nanoseconds(ns[torchs])} {torchs}", flush=True)


def print_row(row: Mapping[str, Any]) -> None:
    ns = {entry["statement"]: entry["ns"]["median"] for entry in row["contenders"]}
    faster = row["faster"]
    print(
        f"  {row['name']:60} {harness.nanoseconds(ns[row['ours']]):>10}  {faster['median']:.2f} times as fast "
        f"[{faster['q1']:.2f}, {faster['q3']:.2f}] as {row['rival']}"
        f"  share of the floor {row['floor']['share']['median']:.2f}",
        flush=True,
    )


def print_claims(claims: Sequence[Mapping[str, Any]]) -> None:
    """As harness.print_claims, with those that there is no figure for."""
    known = [entry for entry in claims if "value" in entry]
    if known:
        harness.print_claims(known)
    for entry in claims:
        if "value" not in entry:
            print(f"      {entry['name']:74} not measured  target {entry['bound']} {entry['target']:g}")


# --- the steps


def floors(run: Run) -> None:
    """The wire and the host by halfway.calibrate(), and the device's own copies."""
    kept = os.environ.get("HALFWAY_CALIBRATION")
    os.environ["HALFWAY_CALIBRATION"] = "0"  # the user's figures stay as they are
    try:
        measured = halfway.calibrate()
    finally:
        if kept is None:
            del os.environ["HALFWAY_CALIBRATION"]
        else:
            os.environ["HALFWAY_CALIBRATION"] = kept
    run.result["settings"]["planned_by"] = f"{planned_by()}, by the step floors"
    found: dict[str, Any] = {name: value for name, value in measured.items() if isinstance(value, float)}
    found["threads"] = halfway.num_threads()
    run.result["floors"] = found
    size = transfer_rows.QUICK_LIMIT if run.quick else transfer_device.WIDE
    source, destination = run.device.empty(size), run.device.empty(size)
    taken = [run.device.elapsed(lambda: destination.copy_(source), 10) / 10 for _ in range(4)]
    found["device_copy"] = 2 * size / min(taken) * 1e9  # read and written
    for name, value in found.items():
        print(f"  {name:16} {value / 1e9:8.1f} GB/s" if value > 1e6 else f"  {name:16} {value:8.2f}", flush=True)


Item = TypeVar("Item")


def rows(
    run: Run,
    table: str,
    items: Sequence[Item],
    name_of: Callable[[Item], str],
    measure: Callable[[Item, float], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], None],
    most: float,
) -> None:
    """A row each, within its share of the time and at most `most` seconds of turns. One that fails keeps no other."""
    failures: list[str] = []
    for number, item in enumerate(items):
        name = name_of(item)
        if run.left() == 0:
            run.leave_out(name, "no time was left")
            continue
        try:
            # What is checked and screened before takes about as long as the turns that count.
            row = measure(item, run.share(2 * (len(items) - number), most))
        except Exception as error:  # the next row may be measured all the same
            run.leave_out(name, f"{type(error).__name__}: {error}")
            print(f"  {name}: failed: {type(error).__name__}: {error}", flush=True)
            failures.append(name)
            if len(failures) > MOST_FAILURES:
                raise
            continue
        run.add(table, row)
        show(row)
        run.device.trim()
    if failures:
        raise RuntimeError("these rows failed: " + "; ".join(failures))


def transfers(run: Run, table: str, cases: Sequence[transfer_rows.Case]) -> None:
    buffers = run.buffers()
    fitting = [case for case in cases if case.size <= buffers.limit or run.quick]
    for case in cases:
        if case not in fitting:
            run.leave_out(case.name, "not enough memory is free")

    def measure(case: transfer_rows.Case, seconds: float) -> Mapping[str, Any]:
        return transfer_rows.measure(case, buffers, run.device, seconds, run.quick, run.cupy)

    rows(run, table, fitting, lambda case: case.name, measure, print_transfer, 2.0)


def hot(run: Run) -> None:
    transfers(run, "transfers", transfer_rows.hot_cases())


def others(run: Run) -> None:
    transfers(run, "transfers", transfer_rows.other_cases())


def latency(run: Run) -> None:
    transfers(run, "latency", transfer_rows.small_cases())


def casts(run: Run) -> None:
    def measure(pair: Pair, seconds: float) -> Mapping[str, Any]:
        return transfer_device.measure_cast(pair, run.device, seconds, run.quick)

    rows(run, "device", transfer_device.cast_pairs(), lambda pair: pair.name, measure, print_row, 1.0)


def images(run: Run) -> None:
    def measure(case: transfer_device.ImageCase, seconds: float) -> Mapping[str, Any]:
        notes: list[str] = []
        row = transfer_device.measure_images(case, run.device, seconds, run.quick, notes, not run.quick)
        for text in notes:
            run.note(f"{case.name}: {text}")
        return row

    rows(run, "images", transfer_device.IMAGE_CASES, lambda case: case.name, measure, print_row, 2.0)


def to_host(run: Run) -> None:
    def measure(memory: str, seconds: float) -> Mapping[str, Any]:
        return transfer_device.measure_back(memory, run.buffers(), run.device, seconds, run.quick)

    rows(run, "to_host", list(transfer_device.BACK), lambda memory: f"to {memory} memory", measure, print_row, 5.0)


def cupy(run: Run) -> None:
    """CuPy as a contender, if it is there and works."""
    try:
        found = importlib.import_module("cupy")
        found.asarray([1.0]).astype("float16").get()
    except ImportError:
        raise LeftOut("CuPy is not installed, so it is no contender") from None
    except Exception as error:  # a CuPy for another CUDA, for one
        raise LeftOut(f"CuPy does not work here ({type(error).__name__}: {error}), so it is no contender") from error
    run.cupy = found


# In the order of what they are worth, should the time not suffice.
STEPS: dict[str, Callable[[Run], None]] = {
    "cupy": cupy,
    "floors": floors,
    "hot": hot,
    "casts": casts,
    "images": images,
    "to_host": to_host,
    "latency": latency,
    "others": others,
}


def measure(run: Run, names: Sequence[str]) -> dict[str, Any]:
    print(json.dumps(run.result["machine"], indent=1), flush=True)
    gc.collect()
    gc.freeze()  # torch's hundred thousand objects, which every race would look through again
    for name in names:
        run.step(name, STEPS[name])
    missing = [name for name in STEPS if name not in names]
    for name in missing:
        run.leave_out(name, "this step was not asked for")
    run.result["machine"]["load_average_at_the_end"] = harness.machine(())["load_average"]
    run.result["finished"] = True
    run.deadline = math.inf  # however late it is
    run.step("claims", lambda run: print_claims(transfer_claims.judge(run.result)))
    return run.result


def tune(run: Run) -> dict[str, Any]:
    run.result["benchmark"] = "transfer-tuning"
    print(json.dumps(run.result["machine"], indent=1), flush=True)
    for experiment in transfer_tune.experiments():

        def body(run: Run, experiment: transfer_tune.Experiment = experiment) -> None:
            row = transfer_tune.measure(experiment, run.buffers(), run.device, run.share(6, 30.0), run.quick)
            run.add("experiments", row)
            transfer_tune.print_row(row)

        run.step(experiment.name, body)
    run.result["finished"] = True
    run.save()
    return run.result


def parse_steps(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in STEPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no step {unknown[0]!r}; there are {', '.join(STEPS)}")
    return names


def file_name(result: Mapping[str, Any]) -> str:
    kind = "tuning-" if result["benchmark"] == "transfer-tuning" else ""
    return f"{kind}{harness.slug(result['machine']['gpu'])}-{result['date']}.json"


def draw(path: Path, result: Mapping[str, Any]) -> None:
    try:
        transfer_plot.plot(path, result)
    except ImportError as error:
        raise LeftOut(f"no picture was drawn ({error}); --replot draws it elsewhere") from error
    print(path)


def main(arguments: Sequence[str] | None = None, device: gpu.Device | None = None) -> int:
    parser = argparse.ArgumentParser(description="What a transfer with a cast costs, against torch, CuPy and the wire.")
    parser.add_argument(
        "--quick", action="store_true", help="seconds, not minutes, on few elements; no file by default"
    )
    parser.add_argument("--json", type=Path, help="where the result goes (default: bench/results)")
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "results", help="of a file named by the GPU")
    parser.add_argument("--plot", type=Path, help="also plot it (.svg, .png)")
    parser.add_argument("--replot", type=Path, help="measure nothing: plot this result")
    parser.add_argument("--steps", type=parse_steps, default=list(STEPS), help=f"only these of {','.join(STEPS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="begin nothing later (default: %(default)g)")
    parser.add_argument("--tune", action="store_true", help="the experiments behind the shipped constants instead")
    options = parser.parse_args(arguments)
    if options.replot:
        if not options.plot:
            parser.error("--replot needs --plot")
        try:
            draw(options.plot, json.loads(options.replot.read_text(encoding="utf-8")))
        except LeftOut as error:
            parser.error(str(error))
        return 0
    if device is None:
        why = gpu.missing()
        if why is not None:
            print(f"transfer: nothing was measured: {why}")
            return SKIPPED
        device = gpu.Cuda()
    run = Run(device, options, options.json)
    complete = options.steps == list(STEPS) and not options.quick
    if run.path is None and (complete or options.tune) and not options.quick:
        if options.tune:
            run.result["benchmark"] = "transfer-tuning"
        run.path = options.folder / file_name(run.result)
    result = tune(run) if options.tune else measure(run, options.steps)
    if run.path is not None:
        print(f"\n{run.path}")
    picture = options.plot or (run.path.with_suffix(".svg") if run.path is not None else None)
    if picture is not None and not options.tune:
        run.step("picture", lambda run: draw(picture, run.result))
    return 1 if any(entry["status"] == "failed" for entry in result["steps"]) else 0


if __name__ == "__main__":
    sys.exit(main())
