"""The benchmark of transfers, run over a stand-in for a GPU: every statement and step that a real one runs.

No time is asserted. What torch does on a device is done by torch on the host, halfway's part by the simulated device.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from bench import gpu, transfer, transfer_claims, transfer_device, transfer_plot, transfer_rows
from bench.cast_rows import Pair
from bench.harness import Contender
from tests.python.bench_gpu import StandIn, is_spread, standing_in
from tests.python.loading import load_tool
from tools import gpu_tests

import halfway

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(transfer.__file__)
DTYPES = ("float32", "float64", "uint8", "int64", "bfloat16", "float16")
TABLES = ("transfers", "latency", "device", "images", "to_host")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "transfer.json"
    plot = path.with_suffix(".svg")
    with pytest.MonkeyPatch.context() as patch, standing_in() as device:
        patch.setitem(sys.modules, "cupy", None)  # as if it were not installed
        patch.setattr(gpu_tests, "fingerprint", lambda tree: f"of {tree}")  # in which other tests may leave files
        assert transfer.main(["--quick", "--json", str(path), "--plot", str(plot)], device) == 0
    assert plot.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


# --- a whole run


def test_it_names_the_machine_the_device_and_the_steps(result):
    for key in ("gpu", "cpu", "cores", "python", "numpy", "torch", "halfway", "load_average_at_the_end"):
        assert result["machine"][key], key
    assert result["date"]
    assert result["sources"] == f"of {ROOT}"
    steps = {entry["name"]: entry for entry in result["steps"]}
    assert list(steps) == [*transfer.STEPS, "claims", "picture"]
    cupy = steps.pop("cupy")
    assert cupy["status"] == "left out"
    assert "CuPy is not installed" in cupy["why"]
    assert {entry["status"] for entry in steps.values()} == {"ok"}
    assert result["left_out"] == []
    assert result["floors"]["device_copy"] > 0
    assert {"wire_to_device", "wire_to_host", "mapped_read", "mapped_write"} <= result["floors"].keys()
    assert re.fullmatch(r"measured .*, by the step floors", result["settings"]["planned_by"])


@pytest.mark.parametrize("fails", [False, True])
def test_figures_that_were_not_measured_are_not_said_to_be(device, tmp_path, monkeypatch, fails):
    def calibrate() -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setenv("HALFWAY_CALIBRATION", "0")
    monkeypatch.setattr(halfway, "calibrate", calibrate)
    path = tmp_path / "result.json"
    steps = "floors,cupy" if fails else "cupy"
    assert transfer.main(["--quick", "--json", str(path), "--steps", steps], device) == fails
    assert json.loads(path.read_text())["settings"]["planned_by"].startswith("assumed")


def test_every_cell_has_a_row(result):
    found = {(row["source"], row["target"], row["memory"], row["size"]) for row in result["transfers"]}
    assert len(found) == len(result["transfers"])
    assert found == {
        (source, target, memory, size)
        for source in DTYPES
        for target in ("bfloat16", "float16", "float32")
        for memory in ("pageable", "pinned")
        for size in (64 << 10, 16 << 20, 1 << 30)
    }
    # What there is no time for is the end of them: the largest, of which those of one source are together.
    sizes = [case.size for case in transfer_rows.other_cases()]
    assert sizes.index(1 << 30) == sizes.count(64 << 10) + sizes.count(16 << 20)
    assert [row["size"] for row in result["transfers"]][-len(sizes) :] == sizes
    assert min(row["elements"] for row in result["latency"]) == 1
    for row in [*result["transfers"], *result["latency"]]:
        assert list(row["modes"]) == ["blocking", "non-blocking"]
        entries = {entry["statement"]: entry for entry in row["contenders"]}
        assert len(entries) == len(row["contenders"])
        for mode, cell in row["modes"].items():
            assert entries[cell["ours"]]["role"] == "ours"
            assert entries[cell["ours"]]["door"] == entries[cell["rival"]]["door"] == mode
            assert entries[cell["torch"]]["role"] == "rival"
            rivals = [entry["ns"]["median"] for entry in entries.values() if entry["role"] == "rival"]
            assert entries[cell["torch"]]["ns"]["median"] <= max(rivals)
            assert all(is_spread(cell[key]) for key in ("ratio", "against_torch", "floor"))
            assert cell["returns_ns"] > 0
        for entry in entries.values():
            assert is_spread(entry["ns"])
            assert (entry["role"] == "floor") == ("peak" not in entry)
        assert ("staging" in " ".join(entries)) == (row["memory"] == "pageable")


def test_the_device_rows_are_complete(result):
    casts = {(row["source"], row["target"]) for row in result["device"]}
    assert casts == {(a, b) for a in DTYPES for b in ("bfloat16", "float16", "float32") if a != b}
    assert [row["name"] for row in result["images"]] == [case.name for case in transfer_device.IMAGE_CASES]
    assert [row["memory"] for row in result["to_host"]] == ["pinned", "pageable"]
    pageable = {entry["statement"] for entry in result["to_host"][1]["contenders"]}
    assert "h.copy_(staging.copy_(d.to(dtype)))" in pageable  # torch's best where there is pinned memory
    (from_host,) = [row for row in result["images"] if "pageable" in row["name"]]
    assert from_host["floor"]["statement"] == transfer_rows.FLOOR
    for table in TABLES[2:]:
        for row in result[table]:
            assert is_spread(row["faster"])
            assert is_spread(row["floor"]["share"])
            ours = [entry for entry in row["contenders"] if entry["role"] == "ours"]
            assert all(set(entry["peak"]) == {"torch", "device"} for entry in ours)


def test_all_targets_of_a_whole_run_are_judged(result):
    claims = {entry["name"]: entry for entry in result["claims"]}
    assert list(claims) == [target.name for target in transfer_claims.TARGETS]
    for entry in claims.values():
        assert entry["verdict"] in ("ok", "short"), entry
        assert entry["note"]


# --- what is said of device memory, on the simulated device


class OnDevice:
    """halfway, but that images() knows the dtype of the simulated device's arrays."""

    def __getattr__(self, name: str) -> Any:
        return getattr(halfway, name)

    def images(
        self, batch: Any, mean: Any, std: Any, dtype: Any, *, layout: str = "NHWC->NCHW", out: Any = None
    ) -> Any:
        scale = 1 / (255 * np.array(std))
        shift = -np.array(mean) / np.array(std)
        permute = (0, 3, 1, 2) if "->" in layout else None
        return halfway.to_torch(batch, dtype, scale=scale, shift=shift, axis=3, permute=permute, out=out)


def test_what_ours_says_of_device_memory_is_right(device):
    rig = device.rig
    pixels = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    numbers = np.linspace(-3, 3, 5000, dtype=np.float32)
    names = {"halfway": OnDevice(), "dtype": torch.bfloat16, "MEAN": transfer_device.MEAN, "STD": transfer_device.STD}
    names |= {"t": rig.array(pixels), "d": rig.array(numbers), "h": torch.empty(5000, dtype=torch.bfloat16)}

    def run(statement: str, wanted: Any, **more: Any) -> None:
        found = transfer_rows.calls_of([statement], names | more)[statement]()
        transfer_rows.require_right(statement, True, device.on_host(found, slice(None)), wanted.reshape(-1))

    narrow = torch.from_numpy(numbers).to(torch.bfloat16)
    for ours, _ in transfer_device.BACK.values():
        for statement in ours:
            run(statement, narrow)
    for contender in transfer_device.CASTS:
        if contender.role == "ours":
            run(contender.statement, narrow, o=rig.empty((5000,), "bfloat16"))
    for case in transfer_device.IMAGE_CASES:
        shape = (2, 3, 4, 6) if case.planes else pixels.shape
        layout = "NHWC->NCHW" if case.planes else "NHWC"
        wanted = halfway.to_torch(pixels, "bfloat16", permute=(0, 3, 1, 2))
        if case.normalised:
            wanted = halfway.images(pixels, transfer_device.MEAN, transfer_device.STD, layout=layout)
        for statement in case.ours:
            run(statement, wanted, o=rig.empty(shape, "bfloat16"), h=torch.from_numpy(pixels))


# --- the tables of README.md


def test_the_tables_have_the_rows_with_and_without_a_result(result):
    tables = load_tool("readme_tables")
    without = tables.transfer_targets(None)
    assert without.count("| not measured |") == len(transfer_claims.TARGETS)
    assert "met" not in without
    assert "not measured" in tables.transfer_times(None).lower()
    found = ("gpu-2026-01-02.json", result)
    times = tables.transfer_times(found)
    assert "NVIDIA Stand-In" in times
    assert times.count("1 GiB") == 36  # of each pair and kind of memory the largest size
    targets = tables.transfer_targets(found)
    assert targets.count("met |") + targets.count("**not met** |") >= len(transfer_claims.TARGETS)


def test_the_tables_name_what_was_left_out_and_why(result):
    tables = load_tool("readme_tables")
    assert "Left out: the step `cupy` (CuPy is not installed, so it is no contender).\n" in tables.left_out(result)
    rows = [{"name": name, "why": "no time was left"} for name in ("a, 64 KiB", "b, 1 GiB")]
    some = result | {"left_out": [*rows, {"name": "c", "why": "MemoryError: none"}], "steps": []}
    said = tables.left_out(some)
    measured = len(result["transfers"]) + len(result["latency"])
    assert f"{measured} rows were measured. Left out: a, 64 KiB; b, 1 GiB (no time was left). c (Mem" in said
    assert said in tables.transfer_times(("gpu-2026-01-02.json", some))
    assert tables.left_out(result | {"steps": []}) == ""


def test_the_tables_name_cupy_where_it_was_a_contender(result):
    tables = load_tool("readme_tables")
    assert tables.beside_cupy(result) == ""
    ratios = iter([0.5, 0.25, 1.5])
    rows = [row | {"modes": {"blocking": {}}} for row in result["transfers"]]
    for row in rows[:3]:
        row["modes"]["blocking"]["cupy"] = {"statement": "cupy.asarray(a)", "ratio": {"median": next(ratios)}}
    said = tables.beside_cupy({"transfers": rows})
    assert "3 of the rows, none of bfloat16, have CuPy beside them" in said
    assert (
        "took 0.25 to 1.50 of the time of its fastest idiom (`cupy.asarray(a)` and the like), 0.50 in the mid" in said
    )


def test_the_tables_say_which_engine_was_measured(result):
    tables = load_tool("readme_tables")
    named = result | {"sources": "0123456789abcdef" * 4, "date": "2026-01-02"}
    later = "Later changes are not measured.\n"
    fingerprint = f"Measured with the engine whose sources have the fingerprint `0123456789abcdef`. {later}"
    assert fingerprint in tables.transfer_times(("x.json", named))
    del named["sources"]
    date = f"Measured with the engine of 2026-01-02; the result does not name its sources. {later}"
    assert date in tables.transfer_times(("x.json", named))


# --- a run that is not quick


def test_a_run_that_is_not_quick(device, monkeypatch, tmp_path):
    """As on a GPU, but for the sizes and the time: screening, compiled rivals, the least number of rounds."""
    monkeypatch.setattr(transfer.Run, "share", lambda self, rows, most: 0.001)
    monkeypatch.setattr(transfer_rows, "limits", lambda device, quick: (1 << 18, None))
    monkeypatch.setattr(transfer_rows, "SIZES", (1 << 12, 1 << 18))  # across the wire: 64 KiB at most, and more
    monkeypatch.setattr(transfer_device, "WIDE", 1 << 17)
    for name, value in (("IMAGES", 1), ("HEIGHT", 16), ("WIDTH", 16)):
        monkeypatch.setattr(transfer_device, name, value)
    monkeypatch.setattr(transfer_device, "cast_pairs", lambda: [transfer_rows.F32_BF16])
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    path = tmp_path / "result.json"
    steps = "hot,casts,images,to_host"
    assert transfer.main(["--json", str(path), "--steps", steps], device) == 0
    found = json.loads(path.read_text())
    assert [row["name"] for row in found["transfers"]] == [case.name for case in transfer_rows.hot_cases()]
    assert found["quick"] is False
    for row in found["images"]:
        compiled = [entry["statement"] for entry in row["contenders"] if entry["statement"].startswith("compiled(")]
        assert len(compiled) == (2 if "pageable" in row["name"] else 1), row["name"]
    for row in found["transfers"]:
        rounds = {entry["role"]: entry["rounds"] for entry in row["contenders"] if entry["role"] in ("ours", "floor")}
        assert rounds["ours"] == rounds["floor"] >= 3
        # However slow: a target is about it.
        (blocking,) = [e for e in row["contenders"] if e["statement"] == transfer_claims.BLOCKING_CALL]
        assert blocking["rounds"] == rounds["ours"]
    assert path.with_suffix(".svg").exists()


# --- what may go wrong on the way


def run_of(device: StandIn, path: Path | None = None, **options: Any) -> transfer.Run:
    given = argparse.Namespace(**{"quick": True, "seconds": 100.0} | options)
    return transfer.Run(device, given, path)


@pytest.fixture
def device() -> Any:
    with standing_in() as made:
        yield made


def test_a_step_that_fails_is_recorded_and_the_next_one_runs(device, tmp_path, monkeypatch, capsys):
    def fails(run: transfer.Run) -> None:
        run.add("device", {"name": "before"})
        raise RuntimeError("CUDA error: no luck")

    monkeypatch.setattr(transfer, "STEPS", {"bad": fails, "good": lambda run: run.add("images", {"name": "after"})})
    path = tmp_path / "result.json"
    assert transfer.main(["--quick", "--json", str(path), "--steps", "bad,good"], device) == 1
    found = json.loads(path.read_text())
    steps = [(entry["name"], entry["status"]) for entry in found["steps"]]
    assert steps == [("bad", "failed"), ("good", "ok"), ("claims", "ok"), ("picture", "failed")]  # of no row
    assert "CUDA error: no luck" in found["steps"][0]["why"]
    assert [found["device"], found["images"]] == [[{"name": "before"}], [{"name": "after"}]]
    assert "failed: RuntimeError: CUDA error: no luck" in capsys.readouterr().out


def test_a_run_that_is_cut_off_leaves_what_it_had(device, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "SAVED", 0)
    rows = iter(range(100))

    def measure(*_: object) -> Any:
        if next(rows) == 5:
            raise KeyboardInterrupt
        return {"name": "row", "modes": {}}

    monkeypatch.setattr(transfer_rows, "measure", measure)
    monkeypatch.setattr(transfer, "print_transfer", lambda row: None)
    path = tmp_path / "result.json"
    with pytest.raises(KeyboardInterrupt):
        transfer.main(["--quick", "--json", str(path), "--steps", "hot"], device)
    found = json.loads(path.read_text())
    assert len(found["transfers"]) == 5
    assert found["finished"] is False
    assert len(found["claims"]) == len(transfer_claims.TARGETS)
    assert list(tmp_path.iterdir()) == [path]


def test_targets_that_cannot_be_judged_keep_nothing_from_being_written(device, tmp_path, monkeypatch):
    def fails(result: Any) -> Any:
        raise KeyError("modes")

    monkeypatch.setattr(transfer_claims, "judge", fails)
    path = tmp_path / "result.json"
    assert transfer.main(["--quick", "--json", str(path), "--steps", "to_host"], device) == 1
    found = json.loads(path.read_text())
    assert len(found["to_host"]) == 2
    assert {entry["name"]: entry["status"] for entry in found["steps"]}["claims"] == "failed"


def test_what_the_time_does_not_suffice_for_is_named(device, tmp_path):
    path = tmp_path / "result.json"
    assert transfer.main(["--quick", "--seconds", "0", "--json", str(path)], device) == 0
    found = json.loads(path.read_text())
    left_out = [entry for entry in found["steps"] if entry["name"] in transfer.STEPS]
    assert {(entry["status"], entry["why"]) for entry in left_out} == {("left out", "no time was left")}
    assert {entry["verdict"] for entry in found["claims"]} == {"not measured"}


def test_rows_that_fail_are_named_and_the_step_has_failed(device, monkeypatch, tmp_path):
    original = transfer_rows.measure

    def measure(case: transfer_rows.Case, *more: Any) -> Any:
        if case.size == 16 << 20:
            raise MemoryError("none left")
        return original(case, *more)

    monkeypatch.setattr(transfer_rows, "measure", measure)
    path = tmp_path / "result.json"
    assert transfer.main(["--quick", "--json", str(path), "--steps", "hot"], device) == 1
    found = json.loads(path.read_text())
    named = {entry["name"]: entry["why"] for entry in found["left_out"]}
    assert named["float32 -> bfloat16, pinned, 16 MiB"] == "MemoryError: none left"
    assert len(found["transfers"]) == 4


def test_a_step_whose_rows_all_fail_is_given_up(device, monkeypatch):
    tried = []

    def measure(pair: Pair, *_: object) -> Any:
        tried.append(pair)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(transfer_device, "measure_cast", measure)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        transfer.casts(run_of(device))
    assert len(tried) == transfer.MOST_FAILURES + 1


@pytest.mark.parametrize(
    ("host", "there", "limit"),
    [(128, 80, 1 << 30), (8, 80, 1 << 30), (7, 80, 512 << 20), (128, 1, 128 << 20), (1e-3, 80, 16 << 20)],
)
def test_cells_are_as_large_as_the_memory_that_is_free(device, monkeypatch, host, there, limit):
    monkeypatch.setattr(gpu, "host_free", lambda: int(host * (1 << 30)))
    device.free_bytes = there << 30
    found, why = transfer_rows.limits(device, quick=False)
    assert found == limit
    assert (why is None) == (limit == 1 << 30)
    assert transfer_rows.limits(device, quick=True)[0] == transfer_rows.QUICK_LIMIT


def test_cells_beyond_that_are_left_out(device, monkeypatch):
    monkeypatch.setattr(transfer_rows, "limits", lambda device, quick: (16 << 20, "no cell beyond 16 MiB"))
    monkeypatch.setattr(transfer_rows, "measure", lambda case, *_: {"name": case.name, "modes": {}})
    monkeypatch.setattr(transfer, "print_transfer", lambda row: None)
    run = run_of(device, quick=False)
    transfer.hot(run)
    assert run.result["notes"] == ["no cell beyond 16 MiB"]
    assert [entry["name"] for entry in run.result["left_out"]] == [
        f"float32 -> bfloat16, {memory}, 1 GiB" for memory in ("pageable", "pinned")
    ]
    assert len(run.result["transfers"]) == 4


def test_pinned_rows_come_from_pinned_memory(device):
    buffers = transfer_rows.Buffers(device, 1 << 20)
    kinds = {
        memory: {step.kind for step in halfway.explain(buffers.source(memory, "float32", 1 << 18), device="cuda").steps}
        for memory in transfer_rows.MEMORIES
    }
    assert kinds["pinned"] < kinds["pageable"]  # which has to be staged


def test_wrong_results_are_not_timed(device):
    wanted = torch.arange(8.0).to(torch.bfloat16)
    transfer_rows.require_right("x", True, wanted.clone(), wanted)
    off = wanted.view(torch.int16) + torch.tensor([0, 0, 0, 0, 0, 0, 0, 1], dtype=torch.int16)
    transfer_rows.require_right("x", False, off.view(torch.bfloat16), wanted)
    for exact, found in ((True, off.view(torch.bfloat16)), (False, wanted + 1), (False, wanted.float())):
        with pytest.raises(AssertionError, match="x gives"):
            transfer_rows.require_right("x", exact, found, wanted)

    entrants = [Contender("t.to(dtype)", "ours")]
    calls = {"t.to(dtype)": lambda: torch.zeros(100, dtype=torch.bfloat16)}
    t = torch.zeros(100)
    t[-1] = 1  # only the end differs
    with pytest.raises(AssertionError, match="wrong values"):
        transfer_rows.checked(
            device, entrants, calls, lambda part: t[part].to(torch.bfloat16), transfer_rows.parts_of(100, 10)
        )


def test_memory_is_measured_while_a_call_runs(device):
    def takes() -> str:
        device.taken[0] = 5
        device.free_bytes -= 100
        transfer.time.sleep(0.05)
        device.free_bytes += 100
        return "result"

    assert gpu.peak_of(device, takes) == ("result", {"torch": 5, "device": 100})


class Cupy:
    """As much of CuPy as the benchmark asks for."""

    class Array:
        def __init__(self, values: Any) -> None:
            self.values = values

        def astype(self, kind: str) -> Cupy.Array:
            return Cupy.Array(self.values.astype(kind))

        def ravel(self) -> Any:
            return self

        def __getitem__(self, part: slice) -> Cupy.Array:
            return Cupy.Array(self.values.ravel()[part])

        def get(self) -> Any:
            return self.values

    @staticmethod
    def asarray(values: Any) -> Cupy.Array:
        return Cupy.Array(np.array(values))


def test_cupy_takes_part_where_it_has_the_dtypes(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", Cupy)
    monkeypatch.setattr(StandIn, "on_host", lambda self, result, part: on_host(self, result, part))
    run = run_of(device)
    transfer.cupy(run)

    def on_host(self: StandIn, result: Any, part: slice) -> Any:
        if isinstance(result, Cupy.Array):
            return gpu.Cuda().on_host(result, part)
        if not isinstance(result, torch.Tensor):
            result = halfway.to_torch(self.rig.values(result))
        return result.reshape(-1)[part].clone()

    case = transfer_rows.Case(Pair("float32", "float16"), "pageable", 4096)
    row = transfer_rows.measure(case, run.buffers(), device, 1.0, True, run.cupy)
    assert row["modes"]["blocking"]["cupy"]["statement"] in transfer_rows.CUPY
    assert (
        "cupy"
        not in transfer_rows.measure(
            transfer_rows.Case(transfer_rows.F32_BF16, "pageable", 4096), run.buffers(), device, 1.0, True, run.cupy
        )["modes"]["blocking"]
    )


def test_a_compiler_that_fails_is_said(monkeypatch):
    def fails(*_: object, **__: object) -> Any:
        raise RuntimeError("Cannot find a working triton installation\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    compiled = transfer_device.Compiled()
    assert compiled.made(transfer_device.PERMUTED, {"t": torch.zeros(1, 1, 1, 3)}) is None
    assert compiled.notes == ["torch.compile is no contender: RuntimeError: Cannot find a working triton installation"]


# --- what is said where it cannot run


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_what_was_looked_for():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (77, "")
    assert done.stdout.startswith("transfer: nothing was measured: looked for a GPU")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--steps", "hot,cold"], ["--replot", "x.json"]])
def test_wrong_usage_is_said(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        transfer.main(arguments)
    assert caught.value.code == 2
    assert (
        "there is no step 'cold'; there are cupy, floors" in (said := capsys.readouterr().err) or "needs --plot" in said
    )


def test_a_result_is_drawn_later_and_elsewhere(result, tmp_path, capsys, monkeypatch):
    path = tmp_path / "result.json"
    picture = tmp_path / "picture.svg"
    path.write_text(json.dumps({key: value for key, value in result.items() if key not in TABLES[1:]}))
    assert transfer.main(["--replot", str(path), "--plot", str(picture)]) == 0  # whatever tables it has
    assert "Stand-In" in picture.read_text()

    def fails(*_: object) -> None:
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr(transfer_plot, "plot", fails)
    with pytest.raises(SystemExit):
        transfer.main(["--replot", str(path), "--plot", str(picture)])
    assert "no picture was drawn (No module named 'matplotlib')" in capsys.readouterr().err
