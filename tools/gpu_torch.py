"""Compiles the test of halfway/torch_cuda.h against the torch of a Python here, and runs it.

The header is an adapter that users compile with their own torch, and no build of its test fits another one. So the
bundle has the static libraries that it is linked with, CUDA's runtime among them, and Boost's headers: what it takes
here is a C++ compiler, torch's headers, and those of CUDA's runtime, from the toolkit or beside torch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.gpu_machine import nvcc
from tools.gpu_report import OVERDUE, BuildFailed, CannotRun, Summary, run_logged, run_suite

if TYPE_CHECKING:
    from tools.gpu_tests import Bundle

NAME = "halfway/torch_cuda.h"
TEST = "halfway_test_torch_cuda"
ARCHIVES = ("libhalfway_cuda.a", "libhalfway_runtime.a", "libcudart_static.a")  # in this order they are linked
COMPILERS = ("c++", "g++", "g++-15", "g++-14", "g++-13", "g++-12", "clang++")
OLDEST = (2, 6)  # of torch
UNCOUNTED = 30.0  # seconds of compiling that nothing else has less time for; the tests that come last end that early
# Asked of an interpreter: where its torch is, of which version and std::string, or why that torch does not do.
QUESTION = """
import json
answer = {}
try:
    import torch
    answer["torch"] = "torch " + torch.__version__
    answer["folder"] = torch.__path__[0]
    answer["version"] = [int(part) for part in torch.__version__.split(".")[:2]]
    answer["old_strings"] = not torch.compiled_with_cxx11_abi()
    if not torch.cuda.is_available():
        answer["torch"] += " sees no GPU"
        del answer["folder"]
except Exception as error:
    answer.setdefault("torch", "no torch (%s)" % error)
print(json.dumps(answer))
"""
# What halfway's headers need of a compiler and of its library.
PROBE = """
#include <ranges>
#include <span>
#if defined(__clang__) ? __clang_major__ < 14 : __GNUC__ < 12
#error too old
#endif
"""


def compiler() -> str | None:
    """A C++20 compiler, where this machine has one."""
    for name in COMPILERS:
        path = shutil.which(name)
        if path is not None:
            command = [path, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
            if subprocess.run(command, input=PROBE, capture_output=True, text=True, check=False).returncode == 0:
                return path
    return None


def headers_of_cuda(torch: Path) -> Path | None:
    """A folder with the headers of CUDA's runtime: beside a torch, whose CUDA they are of, or of the toolkit."""
    tools = nvcc()
    places = [torch.parent / "nvidia" / "cu13" / "include", torch.parent / "nvidia" / "cuda_runtime" / "include"]
    places += [] if tools is None else [Path(tools).resolve().parents[1] / "include"]
    places += [Path("/usr/local/cuda/include"), torch.parent / "triton" / "backends" / "nvidia" / "include"]
    # Wheels spread CUDA's headers: those of the runtime alone are not enough.
    needed = ("cuda_runtime_api.h", "crt/host_defines.h")
    return next((place for place in places if all((place / name).exists() for name in needed)), None)


def command_of(
    compiler: str, bundle: Bundle, torch: Path, cuda: Path, archives: list[Path], into: Path
) -> list[str | Path]:
    """Compiles and links the test, with Boost.Test in it: one source, since reading the headers is what takes long."""
    source = bundle.root / "source"
    own = ("runtime/include", "cuda/include", "bindings/cpp/include", "tests")
    others = (
        bundle.root / "third_party" / "include",
        torch / "include",
        torch / "include" / "torch" / "csrc" / "api" / "include",
        cuda,
    )
    libraries = torch / "lib"
    command: list[str | Path] = [compiler, "-std=c++20", "-O0", "-g1", "-fPIC", "-DHALFWAY_BOOST_INCLUDED"]
    command += [f"-I{source / name}" for name in own]
    for place in others:
        command += ["-isystem", place]
    command += ["-include", source / "tests" / "main.cpp", source / "tests" / "torch" / "test_torch_cuda.cpp"]
    command += ["-o", into, *archives, f"-L{libraries}", "-ltorch_cpu", "-lc10_cuda", "-lc10"]
    # Torch has a runtime of CUDA's itself, which must not find this one's functions in the place of its own. What its
    # libraries need of other wheels they find when they are loaded.
    command += ["-Wl,--exclude-libs,ALL", "-Wl,--allow-shlib-undefined", f"-Wl,-rpath,{libraries}"]
    return [*command, "-ldl", "-lrt", "-lpthread"]


def torch_of(pythons: list[str]) -> dict[str, Any]:
    """What the first Python says whose torch sees the GPU.

    Raises:
        CannotRun: none does.
    """
    seen = []
    for python in pythons:
        done = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, check=False)
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"torch": "does not run"}
        if "folder" in answer:
            return answer
        seen.append(f"{python}: {answer['torch']}")
    raise CannotRun(f"no Python here has a torch that can use the GPU ({'; '.join(seen)})")


def built(bundle: Bundle, summary: Summary, pythons: list[str], build: bool) -> Path:
    """The test's executable.

    Raises:
        CannotRun: something that it takes is not here.
        BuildFailed: it was all here.
    """
    found = torch_of(pythons)
    torch = Path(found["folder"])
    if tuple(found["version"]) < OLDEST:
        raise CannotRun(f"it takes torch {OLDEST[0]}.{OLDEST[1]}, and there is {found['torch']}")
    if found["old_strings"]:
        raise CannotRun(f"{found['torch']} has the std::string of before C++11, for which the bundle has no libraries")
    if not (torch / "include" / "ATen" / "core" / "Tensor.h").exists():
        raise CannotRun(f"{found['torch']} has no C++ headers (looked in {torch / 'include'})")
    cxx = compiler()
    if cxx is None:
        raise CannotRun(f"no C++20 compiler, g++ 12 or clang 14, is here (looked for {', '.join(COMPILERS)})")
    cuda = headers_of_cuda(torch)
    if cuda is None:
        raise CannotRun(
            "the headers of CUDA's runtime are neither beside torch nor in a toolkit here (cuda_runtime_api.h)"
        )
    start = time.monotonic()
    try:
        archives = bundle.archives(build)
    finally:
        summary.pause(start)
    into = bundle.build / TEST
    into.parent.mkdir(parents=True, exist_ok=True)
    print(f"compiling the test of {NAME} with {found['torch']}", flush=True)
    log = bundle.results / "torch_cuda-build.log"
    start = time.monotonic()
    status = run_logged(
        command_of(cxx, bundle, torch, cuda, archives, into), log, dict(os.environ), None, summary.left()
    )
    summary.pause(max(start, time.monotonic() - UNCOUNTED))
    if status != 0:
        why = "was not done in the time that was left" if status == OVERDUE else "failed"
        raise BuildFailed(f"compiling it {why}; the log is {log}")
    return into


def run_torch(bundle: Bundle, summary: Summary, pythons: list[str], build: bool) -> None:
    """The cases of the header's test; in a sentence, why there are none."""
    try:
        executable = built(bundle, summary, pythons, build)
    except BuildFailed as error:
        return summary.fail(NAME, str(error))
    except CannotRun as error:
        return summary.skip(NAME, str(error))
    junit = bundle.results / f"{TEST}.xml"
    command: list[str | Path] = [executable, "--color_output=no", f"--logger=HRF,error:JUNIT,error,{junit}"]
    return run_suite(summary, NAME, command, junit, dict(os.environ))
