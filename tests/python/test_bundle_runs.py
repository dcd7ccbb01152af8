"""How the bundle's tests and benchmark are run on another machine, with a driver and executables that are made up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.python.bundles import bench_of, bundle_of
from tools import gpu_machine, gpu_report, gpu_tests, gpu_torch

ROOT = Path(__file__).resolve().parents[2]

Summary = gpu_tests.Summary


@pytest.fixture(autouse=True)
def no_torch_to_compile_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of torch_cuda.h is left out everywhere, as one more that is skipped; test_bundle_torch.py has it."""
    monkeypatch.setattr(gpu_torch, "QUESTION", 'print(\'{"torch": "torch -1"}\')')


JUNIT = """<testsuite tests="3">
<testcase name="a"/><testcase name="b"><failure/></testcase><testcase name="c"><skipped/></testcase>
</testsuite>"""


@pytest.fixture
def driver(tmp_path: Path) -> Callable[..., str]:
    """driver(status, count): a library that answers as NVIDIA's driver would."""

    def make(status: int, count: int, version: int = 13000) -> str:
        source = tmp_path / "driver.c"
        library = tmp_path / f"driver-{status}-{count}-{version}.so"
        source.write_text(
            f"int cuInit(unsigned flags) {{ (void)flags; return {status}; }}\n"
            f"int cuDeviceGetCount(int* count) {{ *count = {count}; return 0; }}\n"
            f"int cuDriverGetVersion(int* version) {{ *version = {version}; return 0; }}\n"
            "int cuDeviceGetAttribute(int* value, int attribute, int device) {\n"
            "  (void)device; *value = attribute == 75 ? 9 : 0; return 0;\n}\n"
        )
        compiler = sysconfig.get_config_var("CC").split()[0]
        subprocess.run(
            [shutil.which(compiler) or "cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60
        )
        return str(library)

    return make


def test_without_a_driver_it_says_what_was_looked_for(monkeypatch, capsys):
    why = gpu_tests.missing_device("no_such_driver.so.1")
    assert why == "looked for NVIDIA's driver (no_such_driver.so.1), and there is none on this machine"
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: why)
    assert gpu_tests.main([]) == gpu_tests.SKIPPED == 77
    assert capsys.readouterr().out == f"gpu-test: nothing was run: {why}\n"
    for option in ("sanitize", "bench", "tune"):
        assert gpu_tests.main([f"--{option}"]) == 77
        assert capsys.readouterr().out == f"gpu-{option}: nothing was run: {why}\n"


def test_a_driver_without_a_device(driver, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "answers error 100 to cuInit" in gpu_tests.missing_device(driver(100, 0))
    assert str(gpu_tests.missing_device(driver(0, 0))).endswith("knows none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert str(gpu_tests.missing_device(driver(0, 0))).endswith("knows none with CUDA_VISIBLE_DEVICES=7")
    assert gpu_tests.missing_device(driver(0, 1)) is None
    assert gpu_tests.architecture(driver(0, 1)) == "90-real"


def test_which_cuda_there_is(driver, tmp_path):
    assert gpu_tests.cuda_of_driver("no_such_driver.so.1") is None
    assert gpu_tests.cuda_of_driver(driver(0, 1, 12080)) == (12, 8)
    assert gpu_tests.cuda_of_driver(driver(0, 1, 13020)) == (13, 2)
    assert gpu_tests.cuda_of_nvcc(str(tmp_path / "none")) is None
    assert gpu_tests.cuda_of_nvcc("true") is None
    compiler = tmp_path / "nvcc"
    compiler.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.8, V12.8.93'\n")
    compiler.chmod(0o755)
    assert gpu_tests.cuda_of_nvcc(str(compiler)) == (12, 8)


def test_results_are_counted(tmp_path):
    path = tmp_path / "junit.xml"
    assert gpu_report.counts(path) == (0, 1, 0)  # it died before it could say anything
    path.write_text("<testsuite")
    assert gpu_report.counts(path) == (0, 1, 0)
    path.write_text("<testsuite/>")
    assert gpu_report.counts(path) == (0, 1, 0)
    path.write_text(JUNIT)
    assert gpu_report.counts(path) == (1, 1, 1)


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("echo '<s><testcase/><testcase/></s>' >$junit", 0, "6 passed, 0 failed, 2 skipped"),
        (f"echo '{JUNIT}' >$junit; echo what failed; exit 201", 1, "3 passed, 3 failed, 5 skipped"),
        ("echo '<s><testcase/></s>' >$junit; exit 139", 1, "3 passed, 3 failed, 2 skipped"),  # a crash afterwards
        ("kill -9 $$", 1, "0 passed, 3 failed, 2 skipped"),
        ("echo '<s/>' >$junit", 1, "0 passed, 3 failed, 2 skipped"),  # it found no test
        ("echo; echo 'skipped: no room'; exit 77", 77, "nothing was run: each line above says why"),
        ("exit 77", 77, "nothing was run: each line above says why"),
    ],
)
def test_executables_are_run_and_counted(tmp_path, monkeypatch, capsys, script, status, words):
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", bundle_of(tmp_path, script))
    assert gpu_tests.main([]) == status
    out = capsys.readouterr().out
    assert words in out.splitlines()[-1]
    assert ("what failed" in out) == ("what failed" in script)
    assert ("reports a failure or no test at all" in out) == ("<s/>" in script)
    assert out.count("not run: skipped: no room") == 3 * ("no room" in script)
    assert out.count("not run: it does not say why") == 3 * (script == "exit 77")
    assert "Python tests" in out
    assert "this bundle has none for a GPU" in out


def test_the_exhaustive_tests_come_last_and_have_the_time_that_is_left(tmp_path, monkeypatch, capsys):
    script = "echo '<s><testcase/></s>' >$junit; echo ${0##*/} $HALFWAY_GPU_SECONDS $HALFWAY_SEED >>$0.said"
    root = bundle_of(tmp_path, script + '; echo "swept float32-by-the-host 256 of 256 chunks"')
    (root / "source" / "tests" / "python" / "test_gpu_x.py").touch()
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    monkeypatch.setattr(gpu_tests, "QUESTION", 'print(\'{"torch": "torch 0"}\')')
    for name in ("HALFWAY_GPU_SECONDS", "HALFWAY_SEED"):
        monkeypatch.delenv(name, raising=False)
    assert gpu_tests.main([]) == 0
    said = {path.name.partition(".")[0]: path.read_text().split() for path in (root / "bin").glob("*.said")}
    assert set(said) == set(gpu_tests.EXECUTABLES)
    name, seconds, seed = said.pop(gpu_tests.EXHAUSTIVE)
    assert 0 < int(seconds) <= gpu_report.SECONDS - 30
    assert len(seed) == 8
    assert all(len(words) == 1 for words in said.values())
    out = capsys.readouterr().out
    assert out.index("Python tests") < out.index(f"HALFWAY_SEED={seed} repeats") < out.index(f"ok   {name}")
    assert out.count("swept float32-by-the-host 256 of 256 chunks") == 1


def test_a_sweep_that_is_incomplete_is_named_and_counted(tmp_path, monkeypatch, capsys):
    script = "echo '<s><testcase/></s>' >$junit; echo 'swept float32-to-float16     256 of 256 chunks, 9 compared'"
    script += "; echo 'swept float32-to-float8_e3m4 12 of 256 chunks, 5 compared, incomplete'; echo swept"
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", bundle_of(tmp_path, script))
    assert gpu_tests.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^     float32-to-float8_e3m4 +incomplete: 12 of 256 chunks, 5 compared$", out, re.MULTILINE)
    assert "swept float32-to-float16     256 of 256" in out
    assert out.splitlines()[-1].startswith("3 passed, 0 failed, 3 skipped")  # and the Python tests, and torch's


def test_what_takes_too_long_is_ended_and_has_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "Summary", lambda: Summary(1.0))
    monkeypatch.setattr(gpu_tests, "EXECUTABLES", gpu_tests.EXECUTABLES[:1])
    root = bundle_of(tmp_path, "echo '<s><testcase/></s>' >$junit; echo begun; exec sleep 600")
    monkeypatch.setattr(gpu_tests, "HERE", root)
    assert gpu_tests.main([]) == 1
    out = capsys.readouterr().out
    assert "ended after 1 s" in out
    assert f"FAIL {gpu_tests.EXECUTABLES[0]}" in out


def test_what_does_not_run_here_is_built_or_says_what_that_takes(tmp_path, monkeypatch, capsys):
    root = bundle_of(tmp_path, "")
    for name in gpu_tests.EXECUTABLES:
        (root / "bin" / name).write_bytes(b"\x7fELF of another machine")
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    monkeypatch.setattr(gpu_tests.shutil, "which", lambda name: None if name != "cmake" else "/usr/bin/cmake")
    monkeypatch.setattr(gpu_machine, "NVCC", tmp_path / "no_nvcc")
    assert gpu_tests.main([]) == 1
    assert "building from source needs c++, nvcc, which this machine does not have" in capsys.readouterr().out


def test_a_python_without_a_gpu_is_said(tmp_path, monkeypatch, capsys):
    root = bundle_of(tmp_path, "echo '<s><testcase/></s>' >$junit")
    (root / "source" / "tests" / "python" / "test_gpu_x.py").touch()
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    monkeypatch.setattr(gpu_tests, "QUESTION", 'print(\'{"torch": "torch 0"}\')')
    assert gpu_tests.main([]) == 0
    assert f"no Python here has a torch that can use the GPU ({sys.executable}: torch 0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("available", "table", "answer"),
    [
        (False, "__dlpack_c_exchange_api__", "torch 2.8.0 sees no GPU"),
        (True, "nothing", "torch 2.8.0 has no DLPack exchange table"),
        (True, "__dlpack_c_exchange_api__", None),
        (True, "__c_dlpack_exchange_api__", None),
    ],
)
def test_a_torch_has_to_see_the_gpu_and_to_share_its_memory(tmp_path, available, table, answer):
    (tmp_path / "torch.py").write_text(
        f"__version__ = '2.8.0'\nclass Tensor: {table} = 1\n"
        f"class cuda: is_available = lambda: {available}; get_device_name = lambda index: 'GPU of 1'\n"
    )
    command = [sys.executable, "-c", gpu_tests.QUESTION]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    said = json.loads(done.stdout)
    assert said.get("device") == (None if answer else "GPU of 1")
    assert said["torch"].startswith(answer or "torch 2.8.0")


def test_the_python_tests_take_no_configuration_of_another_pytest(tmp_path, monkeypatch, capsys):
    root = bench_of(tmp_path, monkeypatch, "")
    monkeypatch.setattr(gpu_tests, "EXECUTABLES", ())
    tests = root / "source" / "tests" / "python"
    (root / "source" / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nminversion = "99"\naddopts = ["--no-such-option"]\n'
    )
    (tests / "conftest.py").write_text("import pytest\n@pytest.fixture\ndef found(): return 1\n")
    (tests / "test_gpu_x.py").write_text(
        "def test_x(found, request): assert request.config.getini('faulthandler_timeout') == 300\n"
    )
    assert gpu_tests.main([]) == 0, capsys.readouterr().out
    assert "1 passed, 0 failed, 1 skipped" in capsys.readouterr().out


def test_a_python_that_cannot_load_what_the_tests_need_is_said(tmp_path, monkeypatch, capsys):
    root = bundle_of(tmp_path, "echo '<s><testcase/></s>' >$junit")
    (root / "source" / "tests" / "python" / "test_gpu_x.py").touch()
    package = root / "third_party" / "python" / "halfway_of_another_python"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import halfway_missing_extension")
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    monkeypatch.setattr(gpu_tests, "QUESTION", 'print(\'{"torch": "torch 0", "device": "x", "suffix": ".so"}\')')
    monkeypatch.setattr(gpu_tests, "PACKAGES", ("pytest", package.name))
    assert gpu_tests.main([]) == 0
    out = capsys.readouterr().out
    assert f"not run: no {package.name} for {sys.executable}" in out
    assert "No module named 'halfway_missing_extension'" in out
    assert "3 passed, 0 failed, 2 skipped" in out


# --- a driver that is older than the bundle


def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: str | None, compiler: tuple[int, int] | None) -> Path:
    """A bundle that was built with a CUDA, on a machine whose driver is for 12.8; what is prebuilt passes."""
    root = bundle_of(tmp_path, "echo '<s><testcase/></s>' >$junit; echo >>$0.ran")
    (root / "manifest.json").write_text(json.dumps({"cuda": cuda} if cuda else {}))
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    monkeypatch.setattr(gpu_tests, "cuda_of_driver", lambda: (12, 8))
    monkeypatch.setattr(gpu_tests, "cuda_of_nvcc", lambda path: compiler)
    monkeypatch.setattr(gpu_tests, "nvcc", lambda: None if compiler is None else "/cuda/nvcc")
    monkeypatch.setattr(gpu_tests, "architecture", lambda: "90-real")
    cmake = tmp_path / "tools" / "cmake"
    cmake.parent.mkdir()
    cmake.write_text(
        f'#!/bin/sh\n[ "$1" = --build ] || exit 0\nmkdir -p {root}/build/tests/cuda\n'
        f"cp {root}/bin/halfway_test_* {root}/build/tests/cuda\n"
    )
    (tmp_path / "tools" / "c++").touch()
    for path in cmake.parent.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{cmake.parent}:{os.environ['PATH']}")
    return root


@pytest.mark.parametrize(("cuda", "where"), [("12.9", "bin"), (None, "bin"), ("13.0", "build/tests/cuda")])
def test_what_this_driver_does_not_run_is_built_here(tmp_path, monkeypatch, capsys, cuda, where):
    root = older(tmp_path, monkeypatch, cuda, (12, 8))
    assert gpu_tests.main([]) == 0
    assert len(list((root / where).glob("*.ran"))) == len(gpu_tests.EXECUTABLES)
    assert len(list(root.rglob("*.ran"))) == len(gpu_tests.EXECUTABLES)
    assert ("building the C++ tests here" in capsys.readouterr().out) == (where != "bin")


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        (None, "built with CUDA 13.0; building from source needs nvcc, which this machine does not have"),
        ((13, 0), "the driver is for CUDA 12.8, and nvcc here (/cuda/nvcc) is of CUDA 13.0: a newer driver is needed"),
    ],
)
def test_without_a_compiler_for_this_driver_nothing_is_run(tmp_path, monkeypatch, capsys, compiler, words):
    root = older(tmp_path, monkeypatch, "13.0", compiler)
    assert gpu_tests.main([]) == 77
    out = capsys.readouterr().out
    assert re.search(r"^     C\+\+ tests +not run: the driver is for CUDA 12.8, and ", out, re.MULTILINE)
    assert words in out
    assert not list(root.rglob("*.ran"))


def test_a_package_that_this_driver_does_not_run_is_built_here(tmp_path, monkeypatch):
    root = older(tmp_path, monkeypatch, "13.0", (12, 8))
    (root / "python" / "halfway").mkdir(parents=True)
    (root / "python" / "halfway" / "__init__.py").touch()
    (root / "python" / "halfway" / "_core.so").touch()
    bundle = gpu_tests.Bundle(root, tmp_path / "results")
    made = []

    def make(targets: list[str], python: str | None) -> None:
        made.append(targets)
        (root / "source" / "bindings" / "python" / "halfway").mkdir(parents=True)
        (root / "build" / "bindings" / "python").mkdir(parents=True)
        (root / "build" / "bindings" / "python" / "_core.so").touch()

    monkeypatch.setattr(bundle, "make", make)
    assert bundle.package(sys.executable, ".so", False) == root / "python-here"
    assert made == [["_core", "halfway_probe"]]
    (root / "manifest.json").write_text("{}")
    assert bundle.package(sys.executable, ".so", False) == root / "python"


# --- under compute-sanitizer


def sanitizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A bundle, and a compute-sanitizer that is a shell script: $2 is what it checks."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", bundle_of(tmp_path, ""))
    monkeypatch.setattr(gpu_tests.shutil, "which", lambda name: str(tool))


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("true", 0, "8 passed, 0 failed, 0 skipped"),
        ("echo Device not supported", 77, "nothing was run: each line above says why"),
        ("echo Device not supported; exit 1", 77, "nothing was run: each line above says why"),
        ("[ $2 = memcheck ] || echo Device not supported", 0, "2 passed, 0 failed, 6 skipped"),
        ("[ $2 = racecheck ] && exit 1; echo Device not supported", 1, "0 passed, 2 failed, 6 skipped"),
        ("[ ${5##*_} = cases ] && exit 201; true", 1, "4 passed, 4 failed, 0 skipped"),
        ("echo skipped: no room; echo ========= ERROR SUMMARY: 0 errors; exit 77", 77, "nothing was run"),
    ],
)
def test_sanitizers_pass_only_where_they_run(tmp_path, monkeypatch, capsys, script, status, words):
    sanitizer(tmp_path, monkeypatch, script)
    assert gpu_tests.main(["--sanitize"]) == status
    assert words in capsys.readouterr().out.splitlines()[-1]


def test_without_sanitizers_nothing_is_run(tmp_path, monkeypatch, capsys):
    sanitizer(tmp_path, monkeypatch, "")
    monkeypatch.setattr(gpu_tests.shutil, "which", lambda name: None)
    assert gpu_tests.main(["--sanitize"]) == 77
    out = capsys.readouterr().out
    assert "compute-sanitizer" in out
    assert "not run: looked for it in PATH and /usr/local/cuda/bin" in out
    assert out.endswith("nothing was run: each line above says why\n")


def test_sanitizers_have_equal_parts_of_the_time_and_a_verdict_each(tmp_path, monkeypatch, capsys):
    sanitizer(tmp_path, monkeypatch, "")
    parts: list[float] = []
    ran: list[tuple[str, str]] = []
    endings = {  # (check, executable): status and log
        ("racecheck", "gpu_cases"): (
            124,
            '========= COMPUTE-SANITIZER\nEntering test case "one"\nEntering test case "two"',
        ),
        ("initcheck", "gpu_streams"): (
            124,
            "========= COMPUTE-SANITIZER\n========= Uninitialized __global__ memory read",
        ),
    }

    def run_logged(command: list[Any], log: Path, environment: dict[str, str], *, seconds: float) -> int:
        assert command[:2] == [str(tmp_path / "compute-sanitizer"), "--tool"]
        assert environment["HALFWAY_GPU_QUICK"] == "1"
        ran.append((command[2], command[5].name.replace("halfway_test_", "")))
        omitted = [word.partition("!")[2] for word in map(str, command) if word.startswith("--run_test=!")]
        assert omitted == (gpu_tests.left_out(ran[-1][0]) if ran[-1][1] == "gpu_streams" else [])
        parts.append(seconds)
        status, said = endings.get(ran[-1], (0, "========= ERROR SUMMARY: 0 errors"))
        log.write_text(said)
        return status

    monkeypatch.setattr(gpu_tests, "run_logged", run_logged)
    monkeypatch.setattr(Summary, "left", lambda self: 80.0)
    assert gpu_tests.main(["--sanitize"]) == 1
    assert ran == [(check, name) for check in gpu_tests.SANITIZERS for name in ("gpu_streams", "gpu_cases")]
    # A tool has its part of what is left, which the stand-in uses nothing of; an executable has its part of that.
    assert parts == pytest.approx([10, 20, 80 / 6, 80 / 3, 20, 40, 40, 80], abs=0.5)
    out = capsys.readouterr().out
    verdicts = {tuple(found): verdict for verdict, *found in re.findall(r"^(\S+) +(\w+) of (\w+)", out, re.MULTILINE)}
    assert verdicts == {
        run: "LATE" if run == ("racecheck", "gpu_cases") else "FAIL" if run in endings else "ok" for run in ran
    }
    assert "not ended within its 27 s, in the middle of two; nothing was found until then" in out
    assert "6 passed, 1 failed, 0 skipped, 1 not ended" in out
    assert out.count("ERROR SUMMARY: 0 errors") == 6


def test_what_has_not_ended_has_not_passed(tmp_path, monkeypatch, capsys):
    sanitizer(tmp_path, monkeypatch, "echo ========= COMPUTE-SANITIZER; exec sleep 600")
    monkeypatch.setattr(gpu_tests, "Summary", lambda: Summary(0.5))
    monkeypatch.setattr(gpu_tests, "SANITIZERS", ("memcheck",))
    assert gpu_tests.main(["--sanitize"]) == 1
    assert "0 passed, 0 failed, 0 skipped, 2 not ended" in capsys.readouterr().out


def test_the_cases_that_a_sanitizer_does_not_run_exist():
    for name, tools in gpu_tests.NOT_SANITIZED.items():
        assert tools
        assert set(tools) <= set(gpu_tests.SANITIZERS)
        suite, case = name.split("/")
        text = (ROOT / "tests" / "cuda" / f"{suite}.cpp").read_text()
        assert f"BOOST_AUTO_TEST_SUITE({suite})" in text
        assert f"BOOST_AUTO_TEST_CASE({case})" in text


def test_most_cases_run_under_most_sanitizers():
    assert [len(gpu_tests.left_out(check)) for check in gpu_tests.SANITIZERS] == [3, 4, 6, 3]


# --- the benchmark


def test_the_benchmark_runs_with_the_bundles_package_within_the_time(tmp_path, monkeypatch, capsys):
    script = "import sys, halfway; print(sys.argv[1:], halfway.WHERE, flush=True)"
    root = bench_of(tmp_path, monkeypatch, script)
    assert gpu_tests.main(["--bench"]) == 0
    out = capsys.readouterr().out
    given = re.search(rf"\['--folder', '{root}/results', '--seconds', '(\d+)'\]", out)
    assert given is not None
    assert 0 < int(given[1]) <= gpu_report.SECONDS - 60
    assert f"{root}/python/halfway/__init__.py" in out
    assert "ok   bench/transfer.py (GPU of 1)" in out
    assert (root / "results" / "bench.log").read_text() in out
    assert gpu_tests.main(["--tune", "--results", str(tmp_path / "there")]) == 0
    out = capsys.readouterr().out
    assert f"['--folder', '{tmp_path}/there'" in out
    assert "'--tune']" in out


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("raise SystemExit(1)", 1, "0 passed, 1 failed, 0 skipped"),
        ("raise RuntimeError('no luck')", 1, "0 passed, 1 failed, 0 skipped"),
        ("print('why not'); raise SystemExit(77)", 77, "nothing was run"),
    ],
)
def test_how_the_benchmark_ended_is_told(tmp_path, monkeypatch, capsys, script, status, words):
    bench_of(tmp_path, monkeypatch, script)
    assert gpu_tests.main(["--bench"]) == status
    assert words in capsys.readouterr().out


def test_a_benchmark_that_does_not_end_is_ended(tmp_path, monkeypatch, capsys):
    bench_of(tmp_path, monkeypatch, "import time; print('step one', flush=True); time.sleep(600)")
    monkeypatch.setattr(gpu_tests, "Summary", lambda: Summary(2.0))
    assert gpu_tests.main(["--bench"]) == 1
    assert "ended after" in capsys.readouterr().out


def test_without_a_torch_that_sees_the_gpu_nothing_is_measured(tmp_path, monkeypatch, capsys):
    bench_of(tmp_path, monkeypatch, "")
    monkeypatch.setattr(gpu_tests, "QUESTION", 'print(\'{"torch": "no torch (none here)"}\')')
    assert gpu_tests.main(["--bench"]) == 77
    assert "no Python here has a torch that can use the GPU" in capsys.readouterr().out
