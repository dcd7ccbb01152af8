"""Makes build/gpu-bundle.tar.gz: the tests and the benchmark that need a GPU, for a machine that may have nothing else.

In it, under halfway-gpu/:

  run, tools/         what runs the tests there (`./run --help`)
  bin/                the C++ tests for sm_80, sm_90, sm_100 and PTX for what comes later, and the kernels' experiments
                      for sm_90 and as PTX. They need the C library, and nothing of Boost, CUDA's toolkit or the C++
                      library
  lib/                the static libraries of halfway::cuda with CUDA's runtime, for the test of torch_cuda.h, which is
                      compiled there
  python/             the package, with the extension for the Python that made the bundle
  third_party/        headers to build all of it anew: Boost.Test's, DLPack's, pybind11; pytest and ml_dtypes for
                      the Python that made the bundle, with what they need except NumPy
  source/             the sources, bench/transfer.py among them
  manifest.json       every file with its size and SHA-256, the version, the CUDA it was built with, what the
                      executables need, and a fingerprint of the sources, by which `make gpu-test` knows a bundle
                      of another tree

Building it needs nvcc and no GPU.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # to be run as a script, from any folder
from tools import gpu_machine, gpu_tests, gpu_torch, gpu_tune  # noqa: E402

BUILD = ROOT / "build" / "gpu"
ARCHIVE = ROOT / "build" / "gpu-bundle.tar.gz"
NAME = "halfway-gpu"
MOST_BYTES = 40 << 20
SOURCES = ["CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "pyproject.toml"]
SOURCES += ["bench", "bindings", "cmake", "cuda", "runtime", "tests", "tools"]
EXECUTABLES = (*gpu_tests.EXECUTABLES, gpu_tune.EXPERIMENTS)
RUNNERS = ("gpu_machine.py", "gpu_report.py", "gpu_tests.py", "gpu_torch.py", "gpu_tune.py")
# What must be in it, whatever else is.
NEEDED = (
    "run",
    *(f"tools/{name}" for name in RUNNERS),
    *(f"bin/{name}" for name in EXECUTABLES),
    *(f"lib/{name}" for name in gpu_torch.ARCHIVES),
    "bin/halfway_probe.so",
    "python/halfway/__init__.py",
    "source/CMakeLists.txt",
    "source/bench/transfer.py",
    "source/cuda/kernels/general.cu",
    "source/tests/cuda/device_cases.cpp",
    "source/tests/python/conftest.py",
    "source/tests/torch/test_torch_cuda.cpp",
    "source/tools/gpu_tests.py",
    "third_party/include/boost/test/included/unit_test.hpp",
    "third_party/include/dlpack/dlpack.h",
    "third_party/pybind11/include/pybind11/pybind11.h",
    "third_party/pybind11/share/cmake/pybind11/pybind11Config.cmake",
    *(f"third_party/python/{name}/__init__.py" for name in gpu_tests.PACKAGES),
)
RUN = """#!/bin/sh
# Runs the GPU tests or the benchmark of this folder: ./run --help
exec "${PYTHON:-python3}" "$(dirname "$0")/tools/gpu_tests.py" "$@"
"""

Files = dict[str, Path | bytes]  # by their place in the bundle


def tree(directory: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """The files of a folder that are sources, or part of a package."""
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if path.is_file() and gpu_tests.is_source(relative):
            yield f"{prefix}/{relative}", path


def sources() -> Files:
    files: Files = {}
    for name in SOURCES:
        path = ROOT / name
        files.update(tree(path, f"source/{name}") if path.is_dir() else [(f"source/{name}", path)])
    return files


def headers_of_boost(depfiles: str) -> Files:
    """Of the headers that a build read (`ninja -t deps`), those of Boost."""
    found: Files = {}
    for match in re.finditer(r"^\s+(\S*?/)(boost/\S+)$", depfiles, re.MULTILINE):
        found[f"third_party/include/{match[2]}"] = Path(match[1]) / match[2]
    return found


def required(names: Iterable[str], without: str = "numpy") -> list[str]:
    """These distributions and all that they need with this Python, but for one that the other machine has."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in (*found, without):
            continue
        found.append(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sorted(found)


def distribution(name: str) -> Files:
    """A distribution that is installed here, licence included."""
    files: Files = {}
    for entry in importlib.metadata.files(name) or []:
        if entry.suffix != ".pyc" and ".." not in entry.parts:
            files[f"third_party/python/{entry}"] = Path(str(entry.locate()))
    return files


def cache_entry(name: str) -> str:
    match = re.search(rf"^{name}:\w+=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE)
    if match is None:
        sys.exit(f"gpu-bundle: the build does not say its {name}")
    return match[1]


def needs(executable: Path) -> dict[str, object]:
    """The shared libraries of an executable, and the newest symbols of the C library that it uses."""
    text = subprocess.run(["objdump", "-p", executable], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", text)}
    return {
        "libraries": re.findall(r"NEEDED\s+(\S+)", text),
        "glibc": ".".join(map(str, max(versions, default=(0,)))),
    }


def content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def manifest(files: Files, about: dict[str, object]) -> bytes:
    entries = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in ((name, content(source)) for name, source in sorted(files.items()))
    }
    return (json.dumps(about | {"files": entries}, indent=1) + "\n").encode()


def problems(names: Iterable[str], size: int) -> list[str]:
    """What is wrong with a bundle of these files and this many bytes."""
    present = set(names)
    found = [f"{name} is missing" for name in (*NEEDED, "manifest.json") if name not in present]
    if not any(re.fullmatch(r"python/halfway/_core\..*\.so", name) for name in present):
        found.append("the extension module is missing")
    found += [
        f"{name} is no place inside the bundle"
        for name in sorted(present)
        if name.startswith("/") or ".." in Path(name).parts
    ]
    if size > MOST_BYTES:
        found.append(f"it has {size} bytes, more than {MOST_BYTES}")
    return found


def files_naming(directory: Path, files: Files) -> list[str]:
    """The files that name a folder of the machine that made them."""
    needle = os.fsencode(directory)
    return [f"{name} names {directory}" for name, source in sorted(files.items()) if needle in content(source)]


def is_executable(name: str) -> bool:
    return name == "run" or name.startswith("bin/") or name.endswith(".sh")


def write(archive: Path, files: Files) -> None:
    """The same files give the same bytes, whoever packs them and when."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0, filename="") as out,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, source in sorted(files.items()):
            data = content(source)
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size = len(data)
            entry.mode = 0o755 if is_executable(name) else 0o644
            tar.addfile(entry, io.BytesIO(data))


def built() -> Files:
    """What the preset `gpu` builds."""
    script = ROOT / "tools" / "cmake_build.sh"
    for target in ("halfway_gpu_tests", gpu_tune.EXPERIMENTS, "_core", "halfway_probe"):
        if subprocess.run([script, "gpu", target], cwd=ROOT, check=False).returncode != 0:
            sys.exit("gpu-bundle: the build failed; its log is build/gpu/build.log")
    core = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    binaries = {f"bin/{name}": BUILD / "tests" / "cuda" / name for name in gpu_tests.EXECUTABLES}
    binaries[f"bin/{gpu_tune.EXPERIMENTS}"] = BUILD / "cuda" / gpu_tune.EXPERIMENTS
    archives = (BUILD / "cuda", BUILD / "runtime", Path(cache_entry("CUDA_cudart_static_LIBRARY")).parent)
    binaries |= {f"lib/{name}": place / name for name, place in zip(gpu_torch.ARCHIVES, archives, strict=True)}
    binaries["bin/halfway_probe.so"] = BUILD / "probe" / "halfway_probe.so"
    binaries[f"python/halfway/{core}"] = BUILD / "bindings" / "python" / core
    strip = shutil.which("strip")
    files: Files = {}
    for name, path in binaries.items():
        stripped = BUILD / "stripped" / name
        stripped.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, stripped)
        if strip is not None:
            option = "--strip-debug" if stripped.suffix == ".a" else "--strip-unneeded"  # archives are linked with
            subprocess.run([strip, option, stripped], check=True)
        files[name] = stripped
    return files


def main() -> None:
    made_of = gpu_tests.fingerprint(ROOT)
    files: Files = {"run": RUN.encode(), **{f"tools/{name}": ROOT / "tools" / name for name in RUNNERS}}
    files |= built()
    files |= dict(tree(ROOT / "bindings" / "python" / "halfway", "python/halfway"))
    files |= sources()
    deps = subprocess.run(["ninja", "-C", BUILD, "-t", "deps"], capture_output=True, text=True, check=True).stdout
    files |= headers_of_boost(deps)
    dlpack = Path(cache_entry("DLPackHeader_INCLUDE_DIR"))
    files["third_party/include/dlpack/dlpack.h"] = dlpack / "dlpack" / "dlpack.h"
    pybind11 = Path(cache_entry("pybind11_DIR")).parents[2]
    for part in ("include", "share/cmake"):
        files |= dict(tree(pybind11 / part, f"third_party/pybind11/{part}"))
    for name in required(gpu_tests.PACKAGES):
        files |= distribution(name)
    if gpu_tests.fingerprint(ROOT) != made_of:
        sys.exit("gpu-bundle: the sources changed while they were built; make it again")
    cuda = gpu_machine.cuda_of_nvcc(cache_entry("CMAKE_CUDA_COMPILER"))
    if cuda is None:
        sys.exit("gpu-bundle: the CUDA compiler does not say of which CUDA it is")
    about: dict[str, object] = {
        "cuda": f"{cuda[0]}.{cuda[1]}",
        "version": re.findall(r"project\(halfway VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[0],
        "cuda_architectures": cache_entry("HALFWAY_CUDA_ARCHITECTURES").split(";"),
        "extension_suffix": sysconfig.get_config_var("EXT_SUFFIX"),
        "sources": made_of,
        "needs": {name: needs(BUILD / "stripped" / f"bin/{name}") for name in EXECUTABLES},
    }
    files["manifest.json"] = manifest(files, about)
    partial = ARCHIVE.with_suffix(".part")
    write(partial, files)
    size = partial.stat().st_size
    wrong = problems(files, size) + files_naming(ROOT, files)
    if wrong:
        sys.exit("gpu-bundle: " + "; ".join(wrong))
    os.replace(partial, ARCHIVE)
    print(f"gpu-bundle: {ARCHIVE.relative_to(ROOT)}, {len(files)} files, {size / (1 << 20):.1f} MiB")


if __name__ == "__main__":
    main()
