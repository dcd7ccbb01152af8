"""Runs what needs a GPU, from a bundle that tools/gpu_bundle.py made, in less than 8 minutes.

That is the tests, C++ and Python; with --sanitize the C++ ones under compute-sanitizer; with --bench the benchmark of
the transfers; with --tune the experiments behind the numbers of the kernels and of the transfer engine.

Needs no network, no setup and nothing but Python 3.8: the bundle has the executables. What does not
run or load here (an older C library, another Python, a driver for an older CUDA) is built here from
the bundle's own sources, where there are CMake, a C++ compiler and nvcc.

Exit status: 0 all passed; 1 something failed, did not end or could not be built; 77 nothing ran,
because there is no GPU or what was asked for cannot run here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to be run as a script, from any folder
from tools import gpu_torch, gpu_tune
from tools.gpu_machine import (
    QUESTION,
    architecture,
    cuda_of_driver,
    cuda_of_nvcc,
    missing_device,
    nvcc,
)
from tools.gpu_report import OVERDUE, SKIPPED, BuildFailed, CannotRun, Summary, run_logged, run_suite

HERE = Path(__file__).resolve().parents[1]  # of a bundle, or of a source tree
EXECUTABLES = ("halfway_test_gpu_cases", "halfway_test_gpu_streams", "halfway_test_gpu_exhaustive")
EXHAUSTIVE = EXECUTABLES[-1]  # takes the time that the others leave
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
# What runs under them: the shorter first, whose time the other has too where it is not needed.
SANITIZED = (EXECUTABLES[1], EXECUTABLES[0])
# Cases that cannot run under them, and under which.
NOT_SANITIZED = {
    # The child has the tool's threads no more.
    "gpu_streams/a_forked_child_is_refused_and_may_let_go": SANITIZERS,
    # Calls that fail on purpose are findings.
    "gpu_streams/errors_leave_nothing_behind": SANITIZERS,
    # The tools take some device memory of their own.
    "gpu_streams/a_transfer_takes_no_more_device_memory_than_its_result": SANITIZERS,
    # Kernels launched by several threads at a time: "Internal Sanitizer Error: Detected a failure to track a kernel
    # launch" (compute-sanitizer 2025.3 on an H100). What it looks for is inside a kernel, whose threads these are not.
    "gpu_streams/threads_with_streams_of_their_own": ("racecheck",),
    # A call under it waits for all that the stream was given before, and these hold the stream back.
    "gpu_streams/a_transfer_keeps_its_place_in_the_callers_stream": ("initcheck",),
    "gpu_streams/a_cast_on_the_device_keeps_its_place_and_its_source": ("initcheck",),
    "gpu_streams/a_result_that_is_under_way": ("initcheck",),
}
PACKAGES = ("pytest", "ml_dtypes")  # what the Python tests import beside NumPy and torch
# What the tests and what they test are made of.
SOURCES = [
    *("CMakeLists.txt", "CMakePresets.json", "pyproject.toml", "bindings", "cmake", "cuda", "runtime"),
    *("bench", "tests/CMakeLists.txt", "tests/main.cpp", "tests/cuda", "tests/exhaustive", "tests/python"),
    *("tests/runtime", "tests/torch", "tools/gpu_bundle.py", "tools/gpu_machine.py", "tools/gpu_report.py"),
    *("tools/gpu_tests.py", "tools/gpu_torch.py", "tools/gpu_tune.py"),
]

# pyproject.toml is for the pytest that it names, which may not be this one.
PYTEST_OPTIONS = ["-c", os.devnull, "--rootdir=.", "--import-mode=importlib", "-o", "faulthandler_timeout=300"]
PYTEST_OPTIONS += ["--quiet", "-p", "no:cacheprovider"]
# The bundle's own packages come last: what is installed wins.
IMPORT = "import importlib, sys; sys.path.append(sys.argv[1]); importlib.import_module(sys.argv[2])"
PYTEST = "import sys; sys.path.append(sys.argv.pop(1)); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
SCRIPT = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def is_source(relative: Path) -> bool:
    """Whether a file of a source folder is a source, rather than what a build, Python or a benchmark left there."""
    return not {"__pycache__", "results"} & set(relative.parts) and relative.suffix not in (".pyc", ".so")


def fingerprint(tree: Path) -> str:
    """SHA-256 over the names and contents of a tree's SOURCES."""
    found = hashlib.sha256()
    for name in SOURCES:
        path = tree / name
        files = path.rglob("*") if path.is_dir() else [path]
        for file in sorted(files, key=Path.as_posix):  # Python's versions differ in how they order paths
            relative = file.relative_to(tree)
            if file.is_file() and is_source(relative):
                data = file.read_bytes()
                found.update(f"{relative.as_posix()}\0{len(data)}\0".encode())
                found.update(data)
    return found.hexdigest()


class Bundle:
    """An unpacked bundle, and what was built of it here."""

    def __init__(self, root: Path, results: Path) -> None:
        self.root = root
        self.results = results
        self.build = root / "build"
        results.mkdir(parents=True, exist_ok=True)

    def runs(self, executable: Path, statuses: tuple[int, ...] = (0,)) -> bool:
        """Whether this machine can load it. Listing its cases needs no GPU."""
        try:
            done = subprocess.run(
                [executable, "--list_content"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
        except OSError:
            return False
        return done.returncode in statuses

    def too_new(self) -> str | None:
        """Why this driver runs nothing that the bundle has built; None where nothing speaks against it.

        A driver runs what was built with any CUDA up to the major version that it is for.
        """
        driver, built_with = cuda_of_driver(), recorded(self.root, "cuda")
        if driver is None or not isinstance(built_with, str) or int(built_with.partition(".")[0]) <= driver[0]:
            return None
        return f"the driver is for CUDA {driver[0]}.{driver[1]}, and the bundle was built with CUDA {built_with}"

    def make(self, targets: list[str], python: str | None) -> None:
        """Build targets from the sources.

        Raises:
            BuildFailed: that failed, or the tools are missing.
            CannotRun: nothing that could be built here would run with this driver.
        """
        compiler = nvcc()
        tools = {"cmake": shutil.which("cmake"), "c++": shutil.which("c++"), "nvcc": compiler}
        missing = [name for name, path in tools.items() if path is None]
        too_new = self.too_new()
        if missing:
            why = f"building from source needs {', '.join(missing)}, which this machine does not have"
            raise BuildFailed(why) if too_new is None else CannotRun(f"{too_new}; {why}")
        driver, found = cuda_of_driver(), cuda_of_nvcc(str(compiler))
        if driver is not None and found is not None and found[0] > driver[0]:
            raise CannotRun(
                f"the driver is for CUDA {driver[0]}.{driver[1]}, and nvcc here ({compiler}) is of CUDA "
                f"{found[0]}.{found[1]}: a newer driver is needed"
            )
        print(
            "building the C++ tests here" if python is None else f"building the extension for {python} here", flush=True
        )
        third_party = self.root / "third_party"
        options: dict[str, object] = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_CUDA_COMPILER": tools["nvcc"],
            "DLPackHeader_INCLUDE_DIR": third_party / "include",
            "HALFWAY_BOOST_INCLUDE_DIR": third_party / "include",
            "HALFWAY_CUDA": "ON",
            "HALFWAY_CUDA_ARCHITECTURES": architecture(),
            "HALFWAY_INSTALL": "OFF",
            "HALFWAY_PYTHON": "OFF" if python is None else "ON",
            "HALFWAY_TESTS": "ON",
            "HALFWAY_TESTS_STANDALONE": "ON",
        }
        if python is not None:
            options["Python_EXECUTABLE"] = python
            options["pybind11_DIR"] = third_party / "pybind11" / "share" / "cmake" / "pybind11"
        log = self.results / "build.log"
        configure = ["cmake", "-S", str(self.root / "source"), "-B", str(self.build)]
        configure += ["-G", "Ninja"] if shutil.which("ninja") else []
        configure += [f"-D{name}={value}" for name, value in options.items()]
        build = ["cmake", "--build", str(self.build), "-j", str(os.cpu_count() or 2), "--target", *targets]
        with log.open("w") as stream:
            for command in (configure, build):
                done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
                if done.returncode != 0:
                    stream.flush()
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
                    raise BuildFailed(f"building failed; the log is {log}, and ends\n{tail}")

    def executables(self, build: bool) -> list[Path]:
        """The C++ tests, built here where they have to be. Raises what `make` raises."""
        found = [self.root / "bin" / name for name in EXECUTABLES]
        if not build and self.too_new() is None and all(self.runs(path) for path in found):
            return found
        self.make(["halfway_gpu_tests"], None)
        return [self.build / "tests" / "cuda" / name for name in EXECUTABLES]

    def experiments(self, build: bool) -> Path:
        """The experiments behind the kernels' numbers, built here where they have to be. Raises what `make` raises."""
        found = self.root / "bin" / gpu_tune.EXPERIMENTS
        # For it `--list_content` is a word that no experiment's name has: what can be loaded says so soon.
        if not build and self.too_new() is None and self.runs(found, (0, SKIPPED)):
            return found
        self.make([gpu_tune.EXPERIMENTS], None)
        return self.build / "cuda" / gpu_tune.EXPERIMENTS

    def archives(self, build: bool) -> list[Path]:
        """What is linked with to use halfway::cuda in C++, built here where it has to be. Raises what `make` raises."""
        found = [self.root / "lib" / name for name in gpu_torch.ARCHIVES]
        if not build and self.too_new() is None and all(path.exists() for path in found):
            return found
        self.make(["halfway_cuda"], None)
        cache = (self.build / "CMakeCache.txt").read_text()
        runtime = re.search(r"^CUDA_cudart_static_LIBRARY:\w+=(.*)$", cache, re.MULTILINE)
        built = [self.build / "cuda" / gpu_torch.ARCHIVES[0], self.build / "runtime" / gpu_torch.ARCHIVES[1]]
        return [*built, Path(runtime[1] if runtime else "libcudart_static.a")]

    def package(self, python: str, suffix: str, build: bool) -> Path:
        """A folder with the package `halfway` for an interpreter, built here where it has to be.

        Raises what `make` raises.
        """
        package = self.root / "python"
        loads = [python, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import halfway", str(package)]
        fits = (package / "halfway" / f"_core{suffix}").exists() and self.too_new() is None
        if not build and fits and subprocess.run(loads, capture_output=True, check=False).returncode == 0:
            return package
        self.make(["_core", "halfway_probe"], python)
        package = self.root / "python-here"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(self.root / "source" / "bindings" / "python" / "halfway", package / "halfway")
        shutil.copy2(self.build / "bindings" / "python" / f"_core{suffix}", package / "halfway")
        return package


def built(bundle: Bundle, summary: Summary, build: bool) -> list[Path]:
    """The C++ tests; none where there are none for this machine, which has been said then."""
    start = time.monotonic()
    try:
        return bundle.executables(build)
    except BuildFailed as error:
        summary.fail("C++ tests", str(error))
    except CannotRun as error:
        summary.skip("C++ tests", str(error))
    finally:
        summary.pause(start)
    return []


def run_cpp(bundle: Bundle, summary: Summary, executables: list[Path]) -> None:
    for executable in executables:
        junit = bundle.results / f"{executable.name}.xml"
        environment = dict(os.environ)
        if executable.name == EXHAUSTIVE:
            # Once the time is up it begins nothing, and ends within seconds.
            environment.setdefault("HALFWAY_GPU_SECONDS", str(max(int(summary.left()) - 30, 1)))
            environment.setdefault("HALFWAY_SEED", time.strftime("%Y%m%d", time.gmtime()))
            print(f"     HALFWAY_SEED={environment['HALFWAY_SEED']} repeats what follows", flush=True)
        command: list[str | Path] = [executable, "--color_output=no", f"--logger=HRF,error:JUNIT,error,{junit}"]
        run_suite(summary, executable.name, command, junit, environment)
        if executable.name == EXHAUSTIVE:
            said = junit.with_suffix(".log").read_text(errors="replace")
            for line in re.finditer(r"^swept (\S+) +(.*?)(, incomplete)?$", said, re.MULTILINE):
                if line[3]:
                    summary.skip(line[1], line[2], "incomplete")
                else:
                    print(f"     {line[0]}", flush=True)


class Interpreter:
    """A Python whose torch sees the GPU, the package for it, and what it is told of both."""

    def __init__(self, bundle: Bundle, python: str, device: str, package: Path) -> None:
        self.python = python
        self.device = device
        self.modules = bundle.root / "third_party" / "python"
        self.source = bundle.root / "source"
        prebuilt = bundle.root / "bin" / "halfway_probe.so"
        here = bundle.build / "probe" / "halfway_probe.so"
        self.environment = dict(os.environ)
        path = [str(package), str(self.source), self.environment.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(path)
        self.environment["HALFWAY_PROBE"] = str(here if here.exists() else prebuilt)


def interpreter(
    bundle: Bundle, summary: Summary, what: str, pythons: list[str], packages: tuple[str, ...], build: bool
) -> Interpreter | None:
    """The first Python that will do, with these packages installed or in the bundle; else why `what` does not run."""
    seen = []
    for python in pythons:
        done = subprocess.run([python, "-c", QUESTION], capture_output=True, text=True, check=False)
        answer: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {"torch": "does not run"}
        if "device" in answer:
            break
        seen.append(f"{python}: {answer['torch']}")
    else:
        summary.skip(what, f"no Python here has a torch that can use the GPU ({'; '.join(seen)})")
        return None
    modules = bundle.root / "third_party" / "python"
    for name in packages:
        done = subprocess.run([python, "-c", IMPORT, modules, name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().rpartition("\n")[2]
            summary.skip(what, f"no {name} for {python}, nor does the bundle's load there ({said})")
            return None
    start = time.monotonic()
    try:
        return Interpreter(bundle, python, answer["device"], bundle.package(python, answer["suffix"], build))
    except BuildFailed as error:
        summary.fail(what, str(error))
    except CannotRun as error:
        summary.skip(what, str(error))
    finally:
        summary.pause(start)
    return None


def run_python(bundle: Bundle, summary: Summary, pythons: list[str], build: bool) -> None:
    tests = sorted((bundle.root / "source" / "tests" / "python").glob("test_gpu*.py"))
    if not tests:
        return summary.skip("Python tests", "this bundle has none for a GPU (tests/python/test_gpu*.py)")
    there = interpreter(bundle, summary, "Python tests", pythons, PACKAGES, build)
    if there is None:
        return None
    junit = bundle.results / "python.xml"
    command: list[str | Path] = [there.python, "-c", PYTEST, there.modules]
    command += [*PYTEST_OPTIONS, f"--junitxml={junit}", *tests]
    return run_suite(summary, f"Python tests ({there.device})", command, junit, there.environment, there.source)


def run_bench(
    bundle: Bundle, summary: Summary, pythons: list[str], build: bool, folder: Path, options: list[str]
) -> None:
    """bench/transfer.py; a result goes to `folder`, whatever became of the steps."""
    there = interpreter(bundle, summary, "bench/transfer.py", pythons, (), build)
    if there is None:
        return None
    start = time.monotonic()
    command: list[str | Path] = [there.python, "-c", SCRIPT, there.modules, there.source / "bench" / "transfer.py"]
    command += ["--folder", folder.resolve(), "--seconds", str(max(int(summary.left()) - 60, 1)), *options]
    log = bundle.results / "bench.log"
    status = run_logged(command, log, there.environment, there.source, summary.left(), shown=True)
    if status == SKIPPED:
        return summary.skip("bench/transfer.py", "it says why above")
    return summary.add(
        f"bench/transfer.py ({there.device})", (int(status == 0), int(status != 0), 0), time.monotonic() - start
    )


def run_sanitizer(
    bundle: Bundle, summary: Summary, command: list[str | Path], name: str, log: Path, seconds: float
) -> None:
    """Some of the C++ tests, shortened, under a tool; its findings count, and so do the tests'."""
    start = time.monotonic()
    status = run_logged(command, log, {**os.environ, "HALFWAY_GPU_QUICK": "1"}, seconds=seconds)
    said = log.read_text(errors="replace")
    marked = [line.strip("= ") for line in said.splitlines() if line.startswith("=========")]
    if "Device not supported" in said:
        return summary.skip(name, "compute-sanitizer does not support this device here")
    if status == SKIPPED:
        return summary.skip(name, next((line for line in said.splitlines() if line.startswith("skipped")), "no reason"))
    if status == OVERDUE and not [line for line in marked if line != "COMPUTE-SANITIZER"]:
        entered = re.findall(r'Entering test case "(\w+)"', said)
        where = f" of {entered[-1]}" if entered else ""
        return summary.unended(
            name, f"not ended within its {seconds:.0f} s, in the middle{where}; nothing was found until then"
        )
    summary.add(name, (int(status == 0), int(status != 0), 0), time.monotonic() - start)
    for line in marked:
        if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line:
            print(f"     {line}", flush=True)
    return None


def left_out(check: str) -> list[str]:
    """The cases that do not run under a tool."""
    return [case for case, tools in NOT_SANITIZED.items() if check in tools]


def run_sanitizers(bundle: Bundle, summary: Summary, executables: list[Path]) -> None:
    """Each tool of compute-sanitizer in turn, which have equal parts of the time, as have the executables of a tool."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        return summary.skip("compute-sanitizer", "looked for it in PATH and /usr/local/cuda/bin, and it is not there")
    paths = {path.name: path for path in executables}
    for tools, check in zip(range(len(SANITIZERS), 0, -1), SANITIZERS):  # noqa: B905 (Python 3.8 has no strict)
        end = time.monotonic() + summary.left() / tools
        for left, executable in zip(range(len(SANITIZED), 0, -1), SANITIZED):  # noqa: B905
            subject = executable.replace("halfway_test_", "")
            command: list[str | Path] = [tool, "--tool", check, "--error-exitcode", "1", paths[executable]]
            command += ["--color_output=no", "--log_level=test_suite"]
            command += [f"--run_test=!{case}" for case in left_out(check) if case.startswith(f"{subject}/")]
            log = bundle.results / f"{check}-{subject}.log"
            seconds = max((end - time.monotonic()) / left, 1.0)
            run_sanitizer(bundle, summary, command, f"{check} of {subject}", log, seconds)
    return None


def unpacked(archive: Path, directory: Path) -> Path:
    """The bundle of an archive, unpacked anew where the archive changed."""
    mark = directory / ".unpacked"
    state = archive.stat()
    key = f"{state.st_size} {state.st_mtime_ns}"
    root = directory / "halfway-gpu"
    if not (mark.exists() and mark.read_text() == key):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(directory, filter="data")
            else:
                tar.extractall(directory)
        mark.write_text(key)
    return root


def recorded(root: Path, name: str = "sources") -> object:
    """What an unpacked bundle's manifest says, by default the fingerprint of its sources; None where it does not."""
    try:
        return json.loads((root / "manifest.json").read_text()).get(name)
    except (OSError, ValueError):
        return None


def current(archive: Path, tree: Path | None) -> tuple[Path | None, str]:
    """The bundle of an archive, unpacked, and made anew first where it is missing or not of this tree's sources.

    `tree`: None where the tool is not in a source tree; any archive will do then. Without a bundle: why.
    """
    directory = archive.parent / "gpu-test"
    reason = f"there is no {archive}"
    if archive.exists():
        root = unpacked(archive, directory)
        if tree is None or recorded(root) == fingerprint(tree):
            return root, ""
        reason = f"{archive} was made of other sources than {tree} has"
    if tree is None:
        return None, reason
    if archive.resolve() != (tree / "build" / "gpu-bundle.tar.gz").resolve():
        return None, f"{reason}; `make gpu-bundle` makes build/gpu-bundle.tar.gz"
    if nvcc() is None:
        return None, (
            f"{reason}, and making it needs nvcc, which this machine does not have; copy there what `make gpu-bundle` "
            "makes of the same sources elsewhere, or unpack it and start halfway-gpu/run, which compares nothing"
        )
    print(f"{reason}: making it anew", flush=True)
    command = [os.environ.get("MAKE", "make"), "gpu-bundle"]
    if subprocess.run(command, cwd=tree, check=False).returncode != 0 or not archive.exists():
        return None, f"{reason}, and it could not be made"
    root = unpacked(archive, directory)
    if recorded(root) != fingerprint(tree):
        return None, f"{archive} was made anew, and the sources of {tree} have changed since"
    return root, ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="the bundle, to be unpacked; default: what this script is in")
    parser.add_argument("--results", type=Path, help="where logs and JUnit files go")
    parser.add_argument("--python", action="append", default=[], help="an interpreter to try first, for Python tests")
    parser.add_argument("--build", action="store_true", help="build from the bundle's sources in any case")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--sanitize", action="store_true", help="run the C++ tests under compute-sanitizer instead")
    instead.add_argument("--bench", action="store_true", help="run bench/transfer.py instead")
    instead.add_argument(
        "--tune", action="store_true", help="run the experiments behind the kernels' and the engine's numbers instead"
    )
    options = parser.parse_args(arguments)
    benches = options.bench or options.tune
    names = {"gpu-sanitize": options.sanitize, "gpu-bench": options.bench, "gpu-tune": options.tune}
    name = next((name for name, chosen in names.items() if chosen), "gpu-test")

    why = missing_device()
    if why is not None:
        print(f"{name}: nothing was run: {why}")
        return SKIPPED
    root: Path | None = HERE
    tree = HERE if (HERE / "CMakeLists.txt").exists() else None
    if options.archive is not None:
        root, why = current(options.archive, tree)
    if root is None:
        print(f"{name}: {why}")
        return 1
    bundle = Bundle(root, options.results or root / "results")
    summary = Summary()
    pythons = [*options.python, sys.executable]
    if benches:
        folder = options.results or (tree / "bench" / "results" if tree is not None else bundle.results)
        found = gpu_tune.run_experiments(bundle, summary, options.build, recorded(root)) if options.tune else None
        if found is not None:
            print(gpu_tune.keep(folder, found), flush=True)
        run_bench(bundle, summary, pythons, options.build, folder, ["--tune"] if options.tune else [])
        if found is not None:  # the benchmark has written its file anew
            gpu_tune.keep(folder, found)
        return summary.finish()
    executables = built(bundle, summary, options.build)
    if options.sanitize:
        if executables:
            run_sanitizers(bundle, summary, executables)
        return summary.finish()
    last = [path for path in executables if path.name == EXHAUSTIVE]
    run_cpp(bundle, summary, [path for path in executables if path not in last])
    run_python(bundle, summary, pythons, options.build)
    gpu_torch.run_torch(bundle, summary, pythons, options.build)
    run_cpp(bundle, summary, last)
    return summary.finish()


if __name__ == "__main__":
    sys.exit(main())
