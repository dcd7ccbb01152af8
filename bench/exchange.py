"""What an exchange costs: NumPy <-> torch <-> halfway, against the libraries' own ways.

    python bench/exchange.py                    everything; JSON in bench/results/
    python bench/exchange.py --rows numpy       the rows whose name contains "numpy"
    python bench/exchange.py --quick            seconds instead of minutes, for tests
    python bench/exchange.py --plot ratios.svg  the ratios as a picture

Every result is thrown away in the timed loop, so times include its end. Loop overhead is a row
of its own and is not subtracted. The array has 8 x 16 elements where nothing else is said.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from bench import harness, plots  # noqa: E402
from bench.harness import Contender, Effort  # noqa: E402

import halfway  # noqa: E402

Names = dict[str, Any]

TORCH_FLOOR = Contender("t.data", "floor")  # torch's cheapest way to make and free a tensor object
NUMPY_FLOOR = Contender("a.view()", "floor")  # NumPy's, to make and free an array over memory
OVERHEAD = Contender(harness.OVERHEAD, "overhead")

SHAPE = (8, 16)
NDIMS = (0, 1, 2, 4, 8, 16, 32)
LIVE = (0, 1_000, 100_000)
IMPORT_LIMIT_MS = 30.0
PACKAGES = ("numpy", "torch", "ml_dtypes", "halfway")


@dataclass(frozen=True)
class Row:
    """One question: ours against its rivals, on the names that `setup` makes for a shape."""

    name: str
    setup: Callable[[tuple[int, ...]], Names]
    ours: str
    rivals: tuple[tuple[str, float | None], ...]  # statement, target
    floor: Contender
    shape: tuple[int, ...] = SHAPE
    per_dimension: bool = False

    def contenders(self) -> list[Contender]:
        rivals = [Contender(statement, "rival", target) for statement, target in self.rivals]
        return [Contender(self.ours, "ours"), *rivals, self.floor, OVERHEAD]


def _names(a: Any, t: Any) -> Names:
    return {"halfway": halfway, "np": np, "torch": torch, "ml_dtypes": ml_dtypes, "a": a, "t": t}


def float32(shape: tuple[int, ...]) -> Names:
    return _names(np.ones(shape, np.float32), torch.ones(shape))


def bfloat16(shape: tuple[int, ...]) -> Names:
    return _names(np.ones(shape, ml_dtypes.bfloat16), torch.ones(shape, dtype=torch.bfloat16))


def own(shape: tuple[int, ...]) -> Names:
    names = float32(shape)
    return {**names, "x": halfway.from_dlpack(names["a"])}


FROM_NUMPY = (
    ("torch.from_numpy(a)", 0.85),
    ("torch.from_dlpack(a)", 0.40),
    ("torch.as_tensor(a)", None),
)
TO_NUMPY = (("t.numpy()", 0.45), ("np.from_dlpack(t)", 0.14), ("np.asarray(t)", None))
MEBIBYTE = (512, 512)  # float32

ROWS = (
    Row("numpy to torch", float32, "halfway.to_torch(a)", FROM_NUMPY, TORCH_FLOOR, SHAPE, True),
    Row("torch to numpy", float32, "halfway.to_numpy(t)", TO_NUMPY, NUMPY_FLOOR, SHAPE, True),
    Row(
        "bfloat16: torch to numpy",
        bfloat16,
        "halfway.to_numpy(t)",
        (("t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)", 0.30),),
        NUMPY_FLOOR,
        per_dimension=True,
    ),
    Row(
        "bfloat16: numpy to torch",
        bfloat16,
        "halfway.to_torch(a)",
        (("torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)", 0.40),),
        TORCH_FLOOR,
        per_dimension=True,
    ),
    Row(
        "numpy to halfway.Tensor",
        float32,
        "halfway.from_dlpack(a)",
        (("np.from_dlpack(a)", 0.50),),
        NUMPY_FLOOR,
        per_dimension=True,
    ),
    Row(
        "torch to halfway.Tensor",
        float32,
        "halfway.from_dlpack(t)",
        (("torch.from_dlpack(t)", None), ("np.from_dlpack(t)", None)),
        TORCH_FLOOR,
    ),
    Row(
        "halfway.Tensor to torch",
        own,
        "halfway.to_torch(x)",
        (("torch.from_dlpack(x)", None),),
        TORCH_FLOOR,
    ),
    Row(
        "halfway.Tensor to numpy",
        own,
        "halfway.to_numpy(x)",
        (("np.asarray(x)", None), ("np.from_dlpack(x)", None)),
        NUMPY_FLOOR,
    ),
    Row("numpy to torch, 1 MiB", float32, "halfway.to_torch(a)", FROM_NUMPY, TORCH_FLOOR, MEBIBYTE),
    Row("torch to numpy, 1 MiB", float32, "halfway.to_numpy(t)", TO_NUMPY, NUMPY_FLOOR, MEBIBYTE),
)


def measure_row(row: Row, effort: Effort) -> dict[str, Any]:
    names = row.setup(row.shape)
    contenders = row.contenders()
    loops = {c.statement: harness.loop_of(c.statement, names) for c in contenders}
    result = harness.row_result(row.name, contenders, harness.race(loops, effort))
    return {**result, "shape": list(row.shape)}


# --- per dimension


def _shape_of(ndim: int) -> tuple[int, ...]:
    """Dense shapes: dimensions of size two, with ones between them beyond 16."""
    return (2,) * ndim if ndim <= 16 else (2, 1) * (ndim // 2)


def measure_slope(row: Row, effort: Effort) -> dict[str, Any]:
    """Nanoseconds a dimension, ours against every rival: the least-squares line of each round."""
    contenders = [c for c in row.contenders() if c.role != "overhead"]
    statements = [c.statement for c in contenders]
    loops: dict[str, harness.Loop] = {}
    for ndim in NDIMS:
        names = row.setup(_shape_of(ndim))
        for statement in statements:
            loops[f"{ndim}: {statement}"] = harness.loop_of(statement, names)
    shorter = Effort(effort.round_ns // 2, effort.rounds)
    times = harness.race(loops, shorter)

    def curve(statement: str) -> list[list[float]]:
        return [times.samples[f"{ndim}: {statement}"] for ndim in NDIMS]

    slopes = {
        statement: [harness.slope(NDIMS, ys) for ys in zip(*curve(statement), strict=True)] for statement in statements
    }
    ours = slopes[row.ours]
    result: dict[str, Any] = {"name": row.name, "ours": row.ours, "ndims": list(NDIMS)}
    result["contenders"] = [
        {
            "statement": c.statement,
            "role": c.role,
            "ns": [round(statistics.median(sample), 1) for sample in curve(c.statement)],
            "ns_per_dimension": harness.spread(slopes[c.statement]).to_dict(2),
        }
        for c in contenders
    ]
    result["differences"] = []
    for statement, _ in row.rivals:
        pairs = zip(ours, slopes[statement], strict=True)
        difference = harness.spread([mine - theirs for mine, theirs in pairs])
        entry = {"against": statement, "ns_per_dimension": difference.to_dict(2)}
        result["differences"].append({**entry, **harness.verdict(difference.median, 0.0)})
    return result


# --- live exports


def measure_live(row: Row, effort: Effort) -> dict[str, Any]:
    """The same race while other exports are alive; the states take turns, several times each."""
    names = row.setup(row.shape)
    statements = [row.ours, row.rivals[0][0]]
    loops = {statement: harness.loop_of(statement, names) for statement in statements}
    export = eval(f"lambda: {row.ours}", names)
    turns = max(1, min(10, effort.rounds // 9))
    share = Effort(effort.round_ns, max(3, effort.rounds // turns))
    samples: dict[int, harness.Times] = {
        live: harness.Times({statement: [] for statement in statements}) for live in LIVE
    }
    medians: dict[str, list[list[float]]] = {statement: [] for statement in statements}
    for _ in range(turns):
        for live in LIVE:
            keep = [export() for _ in range(live)]
            times = harness.race(loops, share)
            del keep
            for statement in statements:
                samples[live].samples[statement] += times.samples[statement]
        for statement in statements:
            recent = [samples[live].samples[statement][-share.rounds :] for live in LIVE]
            medians[statement].append([statistics.median(sample) for sample in recent])
    return {
        "name": row.name,
        "live": list(LIVE),
        "contenders": [
            {
                "statement": statement,
                "role": "ours" if statement == row.ours else "rival",
                "ns": [samples[live].spread(statement).to_dict(1) for live in LIVE],
                "ratio_to_none_live": [
                    harness.spread([turn[i] / turn[0] for turn in medians[statement]]).to_dict()
                    for i in range(len(LIVE))
                ],
            }
            for statement in statements
        ],
    }


# --- import

IMPORT_CODE = """
import sys, time
{first}
start = time.perf_counter_ns()
{second}
taken = time.perf_counter_ns() - start
print(taken, *(name for name in ("torch", "ml_dtypes") if name in sys.modules))
"""


def measure_import(repetitions: int) -> dict[str, Any]:
    """Fresh interpreters in turns: nothing, NumPy, NumPy and halfway."""
    programs = {
        "nothing": IMPORT_CODE.format(first="", second=""),
        "numpy": IMPORT_CODE.format(first="import numpy", second=""),
        "numpy and halfway": IMPORT_CODE.format(first="import numpy", second="import halfway"),
    }

    def run_one(program: str) -> tuple[float, float, list[str]]:
        start = time.perf_counter_ns()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        wall = (time.perf_counter_ns() - start) / 1e6
        taken, *modules = done.stdout.split()
        return wall, int(taken) / 1e6, modules

    for program in programs.values():
        run_one(program)  # byte code and the file cache
    walls: dict[str, list[float]] = {name: [] for name in programs}
    inside: list[float] = []
    loaded: set[str] = set()
    for _ in range(repetitions):
        for name, program in programs.items():
            wall, taken, modules = run_one(program)
            walls[name].append(wall)
            if name == "numpy and halfway":
                inside.append(taken)
                loaded.update(modules)
    pairs = zip(walls["numpy and halfway"], walls["numpy"], strict=True)
    difference = harness.spread([both - alone for both, alone in pairs])
    return {
        "wall_ms": {name: harness.spread(sample).to_dict(2) for name, sample in walls.items()},
        "added_ms": difference.to_dict(2),
        "statement_ms": harness.spread(inside).to_dict(2),
        "loaded_too": sorted(loaded),
        **harness.verdict(difference.median, IMPORT_LIMIT_MS),
    }


# --- copies


def measure_cast(effort: Effort) -> dict[str, Any]:
    """float64 -> float32 of 1 Mi elements; no target. The floor moves as many bytes."""
    elements = 1 << 20
    names = _names(np.linspace(-1.0, 1.0, elements), None)
    names["source"] = np.zeros(6 << 20, np.uint8)
    names["copy"] = np.ones(6 << 20, np.uint8)
    contenders = [
        Contender('halfway.to_torch(a, "float32")', "ours"),
        Contender("torch.from_numpy(a).float()", "rival"),
        Contender("torch.from_numpy(a.astype(np.float32))", "rival"),
        Contender("np.copyto(copy, source)", "floor"),
    ]
    loops = {c.statement: harness.loop_of(c.statement, names) for c in contenders}
    rounds = Effort(effort.round_ns, max(3, effort.rounds // 8))
    result = harness.row_result("float64 to float32, 1 Mi", contenders, harness.race(loops, rounds))
    return {**result, "shape": [elements], "informative": True}


# --- for people


def print_slope(result: Mapping[str, Any]) -> None:
    print(f"\n{result['name']}, ndim {', '.join(map(str, result['ndims']))}")
    differences = {entry["against"]: entry for entry in result["differences"]}
    for contender in result["contenders"]:
        statement = contender["statement"]
        times = " ".join(f"{value:6.0f}" for value in contender["ns"])
        text = f"  {contender['role']:6} {statement:54} {times}"
        text += f"  {contender['ns_per_dimension']['median']:7.2f} ns/dim"
        if statement in differences:
            text += f"  no steeper: {differences[statement]['verdict']}"
        print(text)


def print_live(result: Mapping[str, Any]) -> None:
    print(f"\n{result['name']}, live exports {', '.join(map(str, result['live']))}")
    for contender in result["contenders"]:
        ratios = ", ".join(f"{entry['median']:.3f}x" for entry in contender["ratio_to_none_live"])
        print(f"  {contender['role']:6} {contender['statement']:54} {ratios}")


def print_import(result: Mapping[str, Any]) -> None:
    added = result["added_ms"]
    loaded = ", ".join(result["loaded_too"]) or "neither torch nor ml_dtypes"
    print(f"\nimport halfway, on top of numpy ({result['wall_ms']['numpy']['median']:.0f} ms)")
    print(
        f"  adds {added['median']:.1f} ms [{added['q1']:.1f}, {added['q3']:.1f}] to the process, "
        f"the statement itself {result['statement_ms']['median']:.1f} ms; target "
        f"{result['target']:.0f} ms: {result['verdict']}; it imports {loaded}"
    )


def measure(rows: Sequence[Row], quick: bool) -> dict[str, Any]:
    """Everything about the chosen rows, printed as it comes."""
    effort = harness.QUICK if quick else harness.FULL
    result: dict[str, Any] = {
        "benchmark": "exchange",
        "date": harness.today(),
        "quick": quick,
        "machine": harness.machine(PACKAGES),
        "settings": {"round_ns": effort.round_ns, "rounds": effort.rounds, "gc": "disabled"},
    }
    print(json.dumps(result["machine"], indent=1))
    result["rows"] = []
    for row in rows:
        result["rows"].append(measure_row(row, effort))
        harness.print_row(result["rows"][-1])
    result["slopes"] = []
    result["live"] = []
    for row in rows:
        if row.per_dimension:
            result["slopes"].append(measure_slope(row, effort))
            print_slope(result["slopes"][-1])
            result["live"].append(measure_live(row, effort))
            print_live(result["live"][-1])
    result["import"] = measure_import(3 if quick else 31)
    print_import(result["import"])
    result["casts"] = [measure_cast(effort)]
    harness.print_row(result["casts"][-1])
    print("  (informative)")
    result["machine"]["load_average_at_the_end"] = harness.machine(())["load_average"]
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What an exchange costs, against the libraries' own ways.")
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; writes no file")
    parser.add_argument("--json", type=Path, help="where the result goes (default: bench/results)")
    parser.add_argument("--plot", type=Path, help="also plot the ratios (.svg, .png)")
    parser.add_argument("--rows", default="", help="only rows whose name contains one of a,b,...")
    options = parser.parse_args(arguments)
    wanted = options.rows.split(",")
    rows = [row for row in ROWS if any(part.strip() in row.name for part in wanted)]
    if not rows:
        parser.error(f"no row matches {options.rows!r}: " + "; ".join(row.name for row in ROWS))
    result = measure(rows, options.quick)

    name = f"exchange-{harness.slug(result['machine']['cpu'])}-{result['date']}.json"
    complete = not options.quick and len(rows) == len(ROWS)
    path = options.json or (ROOT / "bench" / "results" / name if complete else None)
    if path is not None:
        harness.write_json(path, result)
        print(f"\n{path}")
    if options.plot:
        about = result["machine"]
        caption = (
            f"{about['cpu']}, {about['cores']} cores, {about['python']}, NumPy {about['numpy']}, "
            f"torch {about['torch']}, {result['date']}"
        )
        plots.plot_ratios(options.plot, result["rows"], "What an exchange costs", caption)
        print(options.plot)


if __name__ == "__main__":
    main()
