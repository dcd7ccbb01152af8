"""How the test of halfway/torch_cuda.h is compiled on another machine, with a torch and a compiler that are made up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.python.bundles import bundle_of, executable
from tools import gpu_report, gpu_tests, gpu_torch

JUNIT = "<s><testcase/><testcase/><testcase><skipped/></testcase></s>"


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """A torch, with C++ headers and those of CUDA's runtime beside it."""
    folder = tmp_path / "site" / "torch"
    cuda = tmp_path / "site" / "nvidia" / "cu13" / "include"
    for header in (folder / "include/ATen/core/Tensor.h", cuda / "cuda_runtime_api.h", cuda / "crt/host_defines.h"):
        header.parent.mkdir(parents=True, exist_ok=True)
        header.touch()
    return folder


def answer(folder: Path, **changes: object) -> str:
    said = {"torch": "torch 2.9.0", "folder": str(folder), "version": [2, 9], "old_strings": False, **changes}
    return f"print({json.dumps(said)!r})"


@pytest.fixture
def bundle(tmp_path: Path, torch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle, on a machine whose compiler makes a test that passes, and notes how it was called."""
    root = bundle_of(tmp_path, "echo '<s><testcase/></s>' >$junit")
    (root / "lib").mkdir()
    for name in gpu_torch.ARCHIVES:
        (root / "lib" / name).touch()
    made = tmp_path / "made"
    executable(made, f"junit=${{2##*,}}\necho '{JUNIT}' >$junit")
    tools = tmp_path / "tools"
    executable(
        tools / "c++",
        f'for word; do [ "$word" = -fsyntax-only ] && exit 0; done\necho "$@" >{tmp_path}/called\n'
        f'while [ "$1" != -o ]; do shift; done; cp {made} "$2"',
    )
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    monkeypatch.setattr(gpu_tests, "QUESTION", 'print(\'{"torch": "torch 0"}\')')
    monkeypatch.setattr(gpu_torch, "QUESTION", answer(torch))
    return root


def test_it_is_compiled_and_linked_with_what_the_bundle_has(bundle, torch, tmp_path, capsys):
    assert gpu_tests.main([]) == 0
    out = capsys.readouterr().out
    assert "compiling the test of halfway/torch_cuda.h with torch 2.9.0" in out
    assert re.search(r"^ok   halfway/torch_cuda\.h +\S+ s  2 passed, 0 failed, 1 skipped$", out, re.MULTILINE)
    # The exhaustive tests take the time that is left.
    assert out.index("halfway/torch_cuda.h") < out.index(f"ok   {gpu_tests.EXHAUSTIVE}")
    called = (tmp_path / "called").read_text()
    source = f"{bundle}/source"
    for place in ("runtime/include", "cuda/include", "bindings/cpp/include", "tests"):
        assert f"-I{source}/{place} " in called
    cuda = torch.parent / "nvidia" / "cu13" / "include"
    for place in (bundle / "third_party/include", torch / "include", cuda):
        assert f"-isystem {place} " in called
    assert f"-include {source}/tests/main.cpp {source}/tests/torch/test_torch_cuda.cpp -o " in called
    archives = " ".join(str(bundle / "lib" / name) for name in gpu_torch.ARCHIVES)
    assert f"{archives} -L{torch}/lib -ltorch_cpu -lc10_cuda -lc10 " in called
    assert "-Wl,--exclude-libs,ALL" in called


def without(monkeypatch: pytest.MonkeyPatch, torch: Path, what: str) -> None:
    """Takes something away from the machine."""
    if what == "torch":
        monkeypatch.setattr(gpu_torch, "QUESTION", 'print(\'{"torch": "torch 2.9.0 sees no GPU"}\')')
    elif what == "python":
        monkeypatch.setattr(gpu_torch, "QUESTION", "raise SystemExit(1)")
    elif what == "newer torch":
        monkeypatch.setattr(gpu_torch, "QUESTION", answer(torch, version=[2, 5], torch="torch 2.5.1"))
    elif what == "newer strings":
        monkeypatch.setattr(gpu_torch, "QUESTION", answer(torch, old_strings=True))
    elif what == "headers of torch":
        (torch / "include/ATen/core/Tensor.h").unlink()
    elif what == "headers of CUDA":
        monkeypatch.setattr(gpu_torch, "headers_of_cuda", lambda torch: None)
    else:
        monkeypatch.setattr(gpu_torch, "compiler", lambda: None)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("torch", f"no Python here has a torch that can use the GPU ({sys.executable}: torch 2.9.0 sees no GPU)"),
        ("python", f"no Python here has a torch that can use the GPU ({sys.executable}: does not run)"),
        ("newer torch", "it takes torch 2.6, and there is torch 2.5.1"),
        ("newer strings", "torch 2.9.0 has the std::string of before C++11, for which the bundle has no libraries"),
        ("headers of torch", "torch 2.9.0 has no C++ headers (looked in "),
        ("headers of CUDA", "the headers of CUDA's runtime are neither beside torch nor in a toolkit here"),
        ("compiler", "no C++20 compiler, g++ 12 or clang 14, is here (looked for c++, g++, "),
    ],
)
def test_what_is_missing_is_said_in_a_sentence_and_the_rest_runs(bundle, torch, monkeypatch, capsys, what, words):
    without(monkeypatch, torch, what)
    assert gpu_tests.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^     halfway/torch_cuda\.h +not run: {re.escape(words)}", out, re.MULTILINE)
    assert out.splitlines()[-1].startswith("3 passed, 0 failed, 2 skipped")  # and the Python tests


def test_what_does_not_compile_has_failed(bundle, tmp_path, capsys):
    executable(tmp_path / "tools" / "c++", "[ $2 = -fsyntax-only ] && exit 0; echo torch.h: no such thing; exit 1")
    assert gpu_tests.main([]) == 1
    out = capsys.readouterr().out
    assert "torch.h: no such thing" in out
    log = bundle / "results" / "torch_cuda-build.log"
    assert re.search(rf"^FAIL halfway/torch_cuda.h +compiling it failed; the log is {log}$", out, re.MULTILINE)
    assert f"ok   {gpu_tests.EXHAUSTIVE}" in out


def test_a_compiler_that_does_not_end_is_ended(bundle, tmp_path, torch, capsys):
    executable(tmp_path / "tools" / "c++", "[ $2 = -fsyntax-only ] && exit 0; exec sleep 600")
    summary = gpu_report.Summary(1.0)
    gpu_torch.run_torch(gpu_tests.Bundle(bundle, bundle / "results"), summary, [sys.executable], False)
    assert "compiling it was not done in the time that was left" in capsys.readouterr().out
    assert summary.finish() == 1


@pytest.mark.parametrize(("uncounted", "least", "most"), [(30.0, 0.5, 30.0), (0.1, 0.1, 0.4)])
def test_what_comes_last_has_its_time_but_for_a_compiler_that_takes_long(
    bundle, tmp_path, monkeypatch, uncounted, least, most
):
    executable(tmp_path / "tools" / "c++", "[ $2 = -fsyntax-only ] && exit 0; sleep 0.5; exit 1")
    monkeypatch.setattr(gpu_torch, "UNCOUNTED", uncounted)
    summary = gpu_report.Summary()
    before = summary.deadline
    gpu_torch.run_torch(gpu_tests.Bundle(bundle, bundle / "results"), summary, [sys.executable], False)
    assert least <= summary.deadline - before < most


def test_a_case_that_fails_has_failed(bundle, tmp_path, capsys):
    executable(tmp_path / "made", "junit=${2##*,}\necho '<s><testcase><failure/></testcase></s>' >$junit; exit 201")
    assert gpu_tests.main([]) == 1
    assert re.search(r"^FAIL halfway/torch_cuda\.h .* 0 passed, 1 failed", capsys.readouterr().out, re.MULTILINE)


def test_libraries_for_another_driver_are_built_here(bundle, tmp_path, monkeypatch):
    there = gpu_tests.Bundle(bundle, tmp_path / "results")
    assert there.archives(False) == [bundle / "lib" / name for name in gpu_torch.ARCHIVES]
    made = []

    def make(targets: list[str], python: str | None) -> None:
        made.append(targets)
        there.build.mkdir()
        (there.build / "CMakeCache.txt").write_text("A:BOOL=ON\nCUDA_cudart_static_LIBRARY:FILEPATH=/cuda/lib/rt.a\n")

    monkeypatch.setattr(there, "make", make)
    monkeypatch.setattr(gpu_tests, "cuda_of_driver", lambda: (12, 8))
    (bundle / "manifest.json").write_text('{"cuda": "13.0"}')
    build = bundle / "build"
    expected = [
        build / "cuda" / "libhalfway_cuda.a",
        build / "runtime" / "libhalfway_runtime.a",
        Path("/cuda/lib/rt.a"),
    ]
    assert there.archives(False) == expected
    assert made == [["halfway_cuda"]]


def test_a_compiler_has_to_know_the_language(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_torch.compiler() is None
    executable(tmp_path / "c++", "exit 1")
    assert gpu_torch.compiler() is None
    executable(tmp_path / "g++-13", "exit 0")
    assert gpu_torch.compiler() == str(tmp_path / "g++-13")


def test_the_compiler_here_passes():
    assert gpu_torch.compiler() is not None


def test_headers_of_cuda_are_those_beside_torch_where_they_are_complete(torch, tmp_path, monkeypatch):
    assert gpu_torch.headers_of_cuda(torch) == torch.parent / "nvidia" / "cu13" / "include"
    (torch.parent / "nvidia/cu13/include/crt/host_defines.h").unlink()
    toolkit = tmp_path / "cuda"
    for header in ("cuda_runtime_api.h", "crt/host_defines.h"):
        (toolkit / "include" / header).parent.mkdir(parents=True, exist_ok=True)
        (toolkit / "include" / header).touch()
    executable(toolkit / "bin" / "nvcc", "")
    monkeypatch.setattr(gpu_torch, "nvcc", lambda: str(toolkit / "bin" / "nvcc"))
    assert gpu_torch.headers_of_cuda(torch) == toolkit / "include"


@pytest.mark.parametrize("available", [False, True])
def test_a_torch_is_asked_where_it_is(tmp_path, available):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "__version__ = '2.10.0+cu130'\ncompiled_with_cxx11_abi = lambda: True\n"
        f"class cuda: is_available = lambda: {available}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", gpu_torch.QUESTION]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    said = json.loads(done.stdout)
    if available:
        expected = {"folder": str(tmp_path / "torch"), "version": [2, 10], "old_strings": False}
        assert said == {"torch": "torch 2.10.0+cu130", **expected}
    else:
        assert said["torch"] == "torch 2.10.0+cu130 sees no GPU"
        assert "folder" not in said
