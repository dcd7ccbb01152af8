"""How the kernels' experiments are run on another machine, and what is kept of their lines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bench import harness
from tests.python.bundles import bench_of, bundle_of
from tools import gpu_report, gpu_tests, gpu_tune

ROOT = Path(__file__).resolve().parents[2]

DEVICE = "NVIDIA H100 80GB HBM3, 132 multiprocessors, compute capability 9.0"


def line(
    name: str, what: str, microseconds: float, speed: float, share: float, remark: str = "", *, widths: Any = (40, 52)
) -> str:
    """As the experiments print it."""
    words = f"{name:<{widths[0]}} {what:<{widths[1]}}"
    return f"{words} {microseconds:9.1f} us {speed:8.1f} GB/s {share:6.3f} {remark}"


LONG = "channels: uint8 -> bfloat16, 3, scaled, misaligned"
WIDE = "256 threads, vectors of 16, 128 bytes ahead, 264 blocks"
ROWS = [
    ("dense: uint8 -> float32", "copy", 130.4, 2573.1, 1.0),
    ("dense: uint8 -> float32", "256 threads, vectors of 16, 32 bytes ahead", 128.0, 2621.4, 1.019),
    ("dense: uint8 -> float32", f"{WIDE}, 1048576 x 132 blocks", 128.0, 2621.4, 1.019),
    ("channels: uint8 -> bfloat16, 3", "copy", 131.0, 2500.0, 1.0),
    (LONG, "copy", 131.1, 2500.2, 1.0),
    (LONG, "as chosen", 12345678.9, 1.0, 0.001),
    (LONG, WIDE, 140.0, 2400.0, 0.9),
    ("an experiment whose name is long, too, beyond both", "copy", 1.0, 2.0, 1.0),
    ("mapped: read", "copy", 1209.5, 55.4, 1.0),
    ("mapped: read", WIDE, 1300.5, 51.6, 0.93),
    ("mapped: read far", "copy", 1209.5, 55.4, 1.0),
    ("mapped: read", "4 blocks", 1300.5, 51.6, 0.93),
    ("mapped: read far", "4 blocks, as the copy", 1300.5, 51.6, 0.93),
]


@pytest.mark.parametrize("widths", [(40, 52), (36, 44), (60, 60)])
def test_lines_are_parsed_whatever_is_longer_than_its_column(widths):
    lines = [DEVICE, *(line(*row, widths=widths) for row in ROWS), "", "every result was right"]
    found = gpu_tune.parsed("\n".join(lines))
    assert found["device"] == "NVIDIA H100 80GB HBM3"
    assert found["notes"] == ["every result was right"]
    assert [tuple(row.values()) for row in found["rows"]] == [(*row, True) for row in ROWS]
    assert list(found["rows"][0]) == ["experiment", "variant", "microseconds", "gb_per_s", "share", "right"]


@pytest.mark.parametrize("remark", ["WRONG", "WRONG counts"])
def test_a_wrong_result_is_marked(remark):
    (row,) = gpu_tune.parsed(line("group: new", "4 elements", 9.5, 3.0, 0.5, remark))["rows"]
    assert (row["experiment"], row["variant"], row["right"]) == ("group: new", "4 elements", False)
    (row,) = gpu_tune.parsed(line("group: new", "4 elements", 9.5, 3.0, float("inf"), "remarkable"))["rows"]
    assert (row["share"], row["right"]) == (None, True)


def test_the_lines_are_those_of_the_experiments():
    folder = ROOT / "cuda" / "kernels" / "experiments"
    text = "".join(path.read_text() for path in sorted(folder.iterdir()))
    (printed,) = re.findall(r'printf\("(%-\d+s.*?)\\n"', text)
    assert re.fullmatch(r"%-\d+s %-\d+s %9\.1f us %8\.1f GB/s %6\.3f %s", printed)
    assert '"%s, %d multiprocessors, compute capability %d.%d\\n"' in text
    assert 'print("copy", floor_, "")' in text  # the first line of an experiment, by which its name is known
    assert '"WRONG"' in text


def test_files_are_named_and_written_as_the_benchmarks_are(tmp_path):
    for name in ("NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX(TM) 4090 @ x", ""):
        assert gpu_tune.slug(name) == harness.slug(name)
    assert gpu_tune.today() == harness.today()
    result = {"a": 1, "b": [{"c": 2}, {"d": [3]}], "e": [], "f": {"g": [4]}}
    harness.write_compact_json(tmp_path / "x.json", result)
    assert gpu_tune.compact(result) == (tmp_path / "x.json").read_text()


# What the benchmark does with its file.
BENCH = f"""
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--folder") + 1])
folder.mkdir(exist_ok=True)
path = folder / "tuning-nvidia-h100-80gb-hbm3-{harness.today()}.json"
path.write_text(json.dumps({{"benchmark": "transfer-tuning", "experiments": [{{"name": "chunk"}}]}}))
"""


def printing(*lines: str, status: int = 0) -> str:
    return "cat <<'END'\n" + "\n".join(lines) + f"\nEND\nexit {status}"


def test_both_kinds_of_experiments_are_in_one_file(tmp_path, monkeypatch, capsys):
    script = printing(DEVICE, *(line(*row) for row in ROWS), "every result was right")
    root = bench_of(tmp_path, monkeypatch, BENCH, script)
    (root / "manifest.json").write_text('{"sources": "abc"}')
    assert gpu_tests.main(["--tune"]) == 0
    out = capsys.readouterr().out
    assert "2 passed, 0 failed, 0 skipped" in out
    assert line(*ROWS[0]) in out  # as it comes
    (path,) = (root / "results").glob("*.json")
    assert str(path) in out
    found = json.loads(path.read_text())
    assert found["experiments"] == [{"name": "chunk"}]
    assert len(found["kernels"]) == len(ROWS)
    assert found["kernels_run"]["device"] == "NVIDIA H100 80GB HBM3"
    assert (found["kernels_run"]["status"], found["kernels_run"]["sources"]) == (0, "abc")
    assert len(path.read_text().splitlines()) == len(ROWS) + 9


def test_without_a_benchmark_there_is_a_file_of_the_kernels_alone(tmp_path, monkeypatch, capsys):
    root = bench_of(tmp_path, monkeypatch, "", printing(DEVICE, line(*ROWS[0])))
    monkeypatch.setattr(gpu_tests, "QUESTION", 'print(\'{"torch": "no torch"}\')')
    assert gpu_tests.main(["--tune", "--results", str(tmp_path / "there")]) == 0
    assert "1 passed, 0 failed, 1 skipped" in capsys.readouterr().out
    (path,) = (tmp_path / "there").glob("*.json")
    found = json.loads(path.read_text())
    assert (found["benchmark"], found["machine"]["gpu"]) == ("transfer-tuning", "NVIDIA H100 80GB HBM3")
    assert len(found["kernels"]) == 1
    assert not list(root.rglob("*.part"))


def test_a_wrong_result_fails_and_is_named_and_the_rest_is_run(tmp_path, monkeypatch, capsys):
    root = bench_of(tmp_path, monkeypatch, BENCH, printing(DEVICE, line(*ROWS[0]), line(*ROWS[1], "WRONG"), status=1))
    assert gpu_tests.main(["--tune"]) == 1
    out = capsys.readouterr().out
    assert "1 passed, 1 failed, 0 skipped" in out
    assert f"wrong results: {', '.join(ROWS[1][:2])}\n" in out
    (path,) = (root / "results").glob("*.json")
    assert [row["right"] for row in json.loads(path.read_text())["kernels"]] == [True, False]


@pytest.mark.parametrize(
    ("experiments", "status", "words"),
    [
        ("echo no GPU to run on: none; exit 77", 0, "not run: no GPU to run on: none"),
        ("exit 1", 1, "1 passed, 1 failed, 0 skipped"),
        (printing("another format"), 1, "none of its lines is understood"),
    ],
)
def test_how_the_experiments_ended_is_told(tmp_path, monkeypatch, capsys, experiments, status, words):
    bench_of(tmp_path, monkeypatch, BENCH, experiments)
    assert gpu_tests.main(["--tune"]) == status
    out = capsys.readouterr().out
    assert words in out
    assert "ok   bench/transfer.py (GPU of 1)" in out


def test_what_has_not_ended_keeps_what_it_printed(tmp_path, monkeypatch, capsys):
    root = bench_of(tmp_path, monkeypatch, BENCH, f"echo '{DEVICE}'; echo '{line(*ROWS[0])}'; exec sleep 600")
    monkeypatch.setattr(gpu_tune, "RESERVED", gpu_report.SECONDS - 2)
    assert gpu_tests.main(["--tune"]) == 1
    assert "1 passed, 0 failed, 0 skipped, 1 not ended" in capsys.readouterr().out
    (path,) = (root / "results").glob("*.json")
    assert len(json.loads(path.read_text())["kernels"]) == 1


def test_without_the_experiments_that_is_said_and_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    root = bench_of(tmp_path, monkeypatch, BENCH)
    (root / "bin" / gpu_tune.EXPERIMENTS).unlink()
    for module in (gpu_tests, gpu_tune):
        monkeypatch.setattr(module, "nvcc", lambda: None)
    assert gpu_tests.main(["--tune"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^     {gpu_tune.EXPERIMENTS} +not run: building from source needs .*nvcc", out, re.MULTILINE)
    assert "1 passed, 0 failed, 1 skipped" in out


@pytest.mark.parametrize("status", [0, 1])
def test_experiments_that_do_not_load_here_are_built_here(tmp_path, monkeypatch, capsys, status):
    root = bundle_of(tmp_path, "")
    (root / "bin" / gpu_tune.EXPERIMENTS).write_bytes(b"\x7fELF of another machine")
    bundle = gpu_tests.Bundle(root, tmp_path / "results")
    made = []

    def make(targets: list[str], python: str | None) -> None:
        made.append(targets)
        if status:
            raise gpu_report.BuildFailed("building failed")

    monkeypatch.setattr(bundle, "make", make)
    monkeypatch.setattr(gpu_tune, "nvcc", lambda: "nvcc")
    summary = gpu_report.Summary()
    if status:
        assert gpu_tune.run_experiments(bundle, summary, False, None) is None
        assert re.search(r"^FAIL .* building failed$", capsys.readouterr().out, re.MULTILINE)
    else:
        assert bundle.experiments(False) == root / "build" / "cuda" / gpu_tune.EXPERIMENTS
    assert made == [[gpu_tune.EXPERIMENTS]]
