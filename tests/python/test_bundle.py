"""What is in the bundle that carries the GPU tests to another machine, and which bundle is used.

The bundle itself takes nvcc minutes: here the rules are tested, on made-up files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.python.loading import load_tool

ROOT = Path(__file__).resolve().parents[2]

gpu_bundle = load_tool("gpu_bundle")
gpu_tests = load_tool("gpu_tests")


@pytest.fixture
def complete() -> dict[str, bytes]:
    names = [*gpu_bundle.NEEDED, "manifest.json", "python/halfway/_core.cpython-311-x86_64-linux-gnu.so"]
    return dict.fromkeys(names, b"x")


def test_a_complete_bundle_has_no_problems(complete):
    assert gpu_bundle.problems(complete, gpu_bundle.MOST_BYTES) == []


@pytest.mark.parametrize("name", [*gpu_bundle.NEEDED, "manifest.json"])
def test_what_is_missing_is_named(complete, name):
    del complete[name]
    assert gpu_bundle.problems(complete, 1) == [f"{name} is missing"]


@pytest.mark.parametrize(
    ("added", "size", "words"),
    [
        ("/etc/passwd", 1, "/etc/passwd is no place inside the bundle"),
        ("source/../../x", 1, "source/../../x is no place inside the bundle"),
        ("source/x", (40 << 20) + 1, "it has 41943041 bytes, more than 41943040"),
    ],
)
def test_a_bundle_stays_in_its_folder_and_in_its_size(complete, added, size, words):
    assert gpu_bundle.problems([*complete, added], size) == [words]


def test_the_extension_must_be_there(complete):
    names = [name for name in complete if "_core" not in name]
    assert gpu_bundle.problems(names, 1) == ["the extension module is missing"]


def test_files_name_no_folder_of_the_machine_that_made_them(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x7fELF /home/somebody/tree/tests/x.cpp\0")
    files = {"bin/a": tmp_path / "binary", "source/b": b"tests/x.cpp"}
    assert gpu_bundle.files_naming(Path("/home/somebody/tree"), files) == ["bin/a names /home/somebody/tree"]
    assert gpu_bundle.files_naming(Path("/home/nobody"), files) == []


def test_sources_are_complete_and_only_sources():
    found = gpu_bundle.sources()
    wanted = {name for name in gpu_bundle.NEEDED if name.startswith("source/")}
    assert wanted <= found.keys()
    assert "source/tools/gpu_tests.py" in found
    assert "source/bindings/python/halfway/__init__.py" in found
    assert not [name for name in found if name.endswith((".so", ".pyc")) or "__pycache__" in name]


def test_headers_of_boost_are_those_that_the_build_read():
    depfiles = """tests/main.cpp.o: #deps 3, deps mtime 1 (VALID)
    ../tests/main.cpp
    /usr/include/boost/test/unit_test.hpp
    /usr/include/stdio.h
    /opt/x/boost/config.hpp
"""
    assert gpu_bundle.headers_of_boost(depfiles) == {
        "third_party/include/boost/test/unit_test.hpp": Path("/usr/include/boost/test/unit_test.hpp"),
        "third_party/include/boost/config.hpp": Path("/opt/x/boost/config.hpp"),
    }


def test_an_archive_is_the_same_whenever_it_is_made(tmp_path, complete):
    complete["manifest.json"] = gpu_bundle.manifest(complete, {"version": "1"})
    first, second = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"
    gpu_bundle.write(first, complete)
    gpu_bundle.write(second, dict(reversed(complete.items())))
    assert first.read_bytes() == second.read_bytes()
    root = gpu_tests.unpacked(first, tmp_path / "there")
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(complete)
    assert os.access(root / "run", os.X_OK)
    assert not os.access(root / "manifest.json", os.X_OK)
    files = json.loads((root / "manifest.json").read_text())["files"]
    assert files["run"] == {"bytes": 1, "sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}
    with tarfile.open(first) as tar:
        assert {member.uname for member in tar.getmembers()} == {""}


def test_an_archive_is_unpacked_anew_when_it_changed(tmp_path, complete):
    archive = tmp_path / "bundle.tar.gz"
    gpu_bundle.write(archive, complete)
    root = gpu_tests.unpacked(archive, tmp_path / "there")
    (root / "left").write_text("here")
    assert (gpu_tests.unpacked(archive, tmp_path / "there") / "left").exists()
    gpu_bundle.write(archive, complete | {"source/new": b"y"})
    root = gpu_tests.unpacked(archive, tmp_path / "there")
    assert (root / "source" / "new").exists()
    assert not (root / "left").exists()


def test_the_bundle_has_what_its_python_tests_import(tmp_path):
    for name in gpu_bundle.required(gpu_tests.PACKAGES):
        for place, path in gpu_bundle.distribution(name).items():
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place).symlink_to(path)
    numpy = tmp_path / "installed"  # NumPy alone, as beside a torch
    numpy.mkdir()
    site = Path(np.__file__).parents[1]
    for found in site.glob("numpy*"):
        (numpy / found.name).symlink_to(found)
    for name in gpu_tests.PACKAGES:
        command = [sys.executable, "-S", "-c", gpu_tests.IMPORT, tmp_path / "third_party" / "python", name]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(numpy)}, check=True, timeout=120)


def test_what_a_distribution_needs_is_followed_for_this_python_only(monkeypatch):
    needs = {
        "a": ["b>=1", "numpy>=2", "older; python_version < '3'", "extra; extra == 'dev'"],
        "b": ["c; python_version >= '3'", "a"],
        "c": None,
    }
    monkeypatch.setattr(gpu_bundle.importlib.metadata, "requires", needs.__getitem__)
    assert gpu_bundle.required(["a"]) == ["a", "b", "c"]


def includes(path: Path) -> list[Path]:
    """The files of the tree that a source includes, as far as their names say where they are."""
    places = [path.parent, ROOT / "tests", ROOT / "tests" / "exhaustive", ROOT / "cuda", ROOT / "cuda" / "src"]
    found = re.findall(r'#include "([^"]+)"', path.read_text())
    return [(place / name).resolve() for name in found for place in places if (place / name).exists()]


def test_all_that_the_tests_of_a_device_are_made_of_is_in_the_fingerprint():
    waiting = [*(ROOT / "tests" / "cuda").glob("*.cpp"), *(ROOT / "tests" / "exhaustive").glob("*.cpp")]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += includes(path)
    places = [ROOT / name for name in gpu_tests.SOURCES]
    assert ROOT / "tests" / "runtime" / "reference.h" in seen
    assert [path for path in seen if not any(path.is_relative_to(place) for place in places)] == []


def test_all_that_a_fingerprint_is_of_exists():
    assert [name for name in gpu_tests.SOURCES if not (ROOT / name).exists()] == []
    assert {f"source/{name}" for name in gpu_tests.SOURCES if (ROOT / name).is_file()} <= gpu_bundle.sources().keys()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A source tree, with an archive in its place that was made of it."""
    tree = tmp_path / "tree"
    (tree / "cuda").mkdir(parents=True)
    (tree / "build").mkdir()
    (tree / "CMakeLists.txt").write_text("project")
    (tree / "cuda" / "engine.cpp").write_text("one")
    archive_of(tree, tree / "build" / "gpu-bundle.tar.gz")
    return tree


def archive_of(tree: Path, archive: Path) -> None:
    about: dict[str, object] = {"sources": gpu_tests.fingerprint(tree)}
    gpu_bundle.write(archive, {"manifest.json": gpu_bundle.manifest({}, about)})


def test_a_fingerprint_is_of_names_and_contents_of_sources(checkout):
    source = checkout / "cuda" / "engine.cpp"
    first = gpu_tests.fingerprint(checkout)
    (checkout / "cuda" / "__pycache__").mkdir()
    for name in ("cuda/__pycache__/x", "cuda/x.so", "build/x", "x"):
        (checkout / name).touch()
    assert gpu_tests.fingerprint(checkout) == first
    source.write_text("two")
    second = gpu_tests.fingerprint(checkout)
    source.rename(checkout / "cuda" / "other.cpp")
    assert len({first, second, gpu_tests.fingerprint(checkout)}) == 3


def test_a_bundle_of_these_sources_is_used_as_it_is(checkout, monkeypatch):
    monkeypatch.setenv("MAKE", "false")
    archive = checkout / "build" / "gpu-bundle.tar.gz"
    root, why = gpu_tests.current(archive, checkout)
    assert (root, why) == (checkout / "build" / "gpu-test" / "halfway-gpu", "")


@pytest.mark.parametrize("before", ["of other sources", "without a fingerprint", "missing"])
def test_any_other_bundle_is_made_anew(checkout, tmp_path, monkeypatch, capsys, before):
    archive = checkout / "build" / "gpu-bundle.tar.gz"
    if before == "of other sources":
        (checkout / "cuda" / "engine.cpp").write_text("two")
    elif before == "without a fingerprint":
        gpu_bundle.write(archive, {"manifest.json": b"{}"})
    else:
        archive.unlink()
    archive_of(checkout, tmp_path / "new.tar.gz")
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\n[ "$1 $PWD" = "gpu-bundle {checkout}" ] && cp {tmp_path}/new.tar.gz {archive}\n')
    make.chmod(0o755)
    monkeypatch.setenv("MAKE", str(make))
    monkeypatch.setattr(gpu_tests, "nvcc", lambda: "nvcc")
    root, why = gpu_tests.current(archive, checkout)
    assert why == ""
    assert gpu_tests.recorded(root) == gpu_tests.fingerprint(checkout)
    assert "making it anew" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "nvcc", "words"),
    [
        ("true", None, "was made of other sources than"),
        ("true", None, "needs nvcc, which this machine does not have"),
        ("false", "nvcc", "could not be made"),
        ("true", "nvcc", "have changed since"),  # what was made is of other sources again
    ],
)
def test_a_bundle_of_other_sources_is_refused_where_none_can_be_made(checkout, monkeypatch, capsys, make, nvcc, words):
    (checkout / "cuda" / "engine.cpp").write_text("two")
    monkeypatch.setenv("MAKE", make)
    monkeypatch.setattr(gpu_tests, "nvcc", lambda: nvcc)
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", checkout)
    assert gpu_tests.main(["--archive", str(checkout / "build" / "gpu-bundle.tar.gz")]) == 1
    assert words in capsys.readouterr().out.splitlines()[-1]


def test_an_archive_elsewhere_is_compared_and_not_made(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_tests, "nvcc", lambda: "nvcc")
    elsewhere = tmp_path / "bundle.tar.gz"
    assert gpu_tests.current(elsewhere, None) == (None, f"there is no {elsewhere}")
    archive_of(checkout, elsewhere)
    (checkout / "cuda" / "engine.cpp").write_text("two")
    root, why = gpu_tests.current(elsewhere, checkout)
    assert root is None
    assert "was made of other sources than" in why
    assert gpu_tests.current(elsewhere, None)[0] == tmp_path / "gpu-test" / "halfway-gpu"
