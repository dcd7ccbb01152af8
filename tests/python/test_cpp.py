"""C++ against the installed package: where its parts are, the examples, and every C++ block of the documentation."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.python.loading import load_module
from tests.python.probe import ROOT
from tests.python.test_docs import PAGES

import halfway
from halfway.__main__ import main

BUILD = ROOT / "build" / "consumers"
BLOCK = re.compile(r"^```cpp *(\w*)\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
CMAKE = re.compile(r"^```cmake\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
HEADERS = {
    "npy.h": ROOT / "runtime" / "include" / "halfway" / "npy.h",
    "pybind11.h": ROOT / "bindings" / "cpp" / "include" / "halfway" / "pybind11.h",
}
ERROR_FLAGS = "-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"


# --- python -m halfway config


def config(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "halfway", "config", *options], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_config_says_where_the_parts_are(capsys):
    assert main(["config", "--cmakedir", "--libdir"]) == 0
    cmakedir, libdir = capsys.readouterr().out.splitlines()
    assert (Path(cmakedir) / "halfwayConfig.cmake").is_file()
    assert (Path(libdir) / "libhalfway_runtime.a").is_file()
    assert main(["config", "--includes"]) == 0
    includes = Path(capsys.readouterr().out.strip().removeprefix("-I"))
    assert main(["config", "--pkgconfigdir"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "halfway-runtime.pc").is_file()
    assert main(["config"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["cmakedir", "includes", "libdir", "pkgconfigdir"]

    # Every public header of the tree and no other is shipped.
    roots = [ROOT / "runtime" / "include", ROOT / "bindings" / "cpp" / "include"]
    if (Path(cmakedir) / "halfway-cuda-targets.cmake").exists():
        roots.append(ROOT / "cuda" / "include")
    public = {path.relative_to(root): path.read_text() for root in roots for path in root.rglob("*.h")}
    assert {path.relative_to(includes): path.read_text() for path in includes.rglob("*.h")} == public


def test_config_without_a_cpp_part_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(halfway, "__file__", str(tmp_path / "__init__.py"))
    assert main(["config"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no C++ part is installed here" in captured.err


def test_config_knows_its_options(capsys):
    assert main(["config", "--nonsense"]) == 2
    assert main(["config", "--help"]) == 0
    assert "halfway_DIR" in capsys.readouterr().out


# --- What is built


def snippets() -> list[tuple[str, str, str]]:
    """Name, kind and text of each block."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append((f"{page.stem.lower()}_{line}", match[1], match[2]))
    return found


SNIPPETS = snippets()
PROGRAM = """\
#undef NDEBUG
{includes}
#include <string_view>
{functions}
int main(int, char** arguments) {{
  const std::string_view name = arguments[1];
{calls}
  return 1;
}}
"""
FUNCTION = """\
static void {name}() {{
{body}
}}
"""
# The documentation's own words of CMake, where `app` is one of its programs.
PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(consumers LANGUAGES CXX)
set(PYBIND11_FINDPYTHON ON)
add_executable(plain plain.cpp)
{plain}
add_executable(libtorch torch.cpp)
{libtorch}
find_package(halfway CONFIG REQUIRED OPTIONAL_COMPONENTS cuda)
if(TARGET halfway::cuda)
  add_executable(cuda cuda.cpp)
  target_link_libraries(cuda PRIVATE halfway::cuda)
endif()
{modules}
"""
# Words by which a block is told from the others. Torch's own package, which wants a CUDA toolkit if its libtorch is for
# CUDA, is tried by tests/package.
CMAKE_BLOCKS = {
    "plain": "COMPONENTS runtime)",
    "libtorch": "libtorch_cpu.so",
    "modules": "pybind11_add_module",
    "torch_package": "find_package(Torch REQUIRED)",
}


def program(blocks: list[tuple[str, str]]) -> str:
    """One program of all blocks, since most of a small one's compile time are the headers."""
    lines = [line for _, text in blocks for line in text.splitlines() if line.startswith("#include")]
    functions = []
    for name, text in blocks:
        body = "\n".join(line for line in text.splitlines() if not line.startswith("#include"))
        functions.append(FUNCTION.format(name=name, body=textwrap.indent(body, "  ")))
    calls = [f'  if (name == "{name}") return {name}(), 0;' for name, _ in blocks]
    includes = "\n".join(dict.fromkeys(lines))
    return PROGRAM.format(includes=includes, functions="\n".join(functions), calls="\n".join(calls))


def cmake_blocks() -> dict[str, str]:
    """By name, `app` being called like its block."""
    found = {}
    for text in CMAKE.findall((ROOT / "docs" / "cpp.md").read_text()):
        (name,) = (name for name, words in CMAKE_BLOCKS.items() if words in text)
        assert name not in found
        found[name] = re.sub(r"\bapp\b", name, text)
    return found


def project() -> dict[str, str]:
    """The files of a project of all blocks."""
    files = {
        "plain.cpp": program([(name, text) for name, kind, text in SNIPPETS if kind == ""]),
        "torch.cpp": program([(name, text) for name, kind, text in SNIPPETS if kind == "torch"]),
        "cuda.cpp": program([(name, text) for name, kind, text in SNIPPETS if kind == "cuda"]),
    }
    for _, kind, text in SNIPPETS:
        if kind == "module":
            match = re.search(r"PYBIND11_MODULE\((\w+)", text)
            assert match
            files[f"{match[1]}.cpp"] = text
    files["CMakeLists.txt"] = PROJECT.format(**cmake_blocks())
    return files


def write_if_other(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def build(name: str, source: Path, *options: str) -> Path:
    """A project's build folder; nothing is done twice, by several workers neither."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pybind11 = subprocess.run(
            [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
        )
        commands = [
            [
                *("cmake", "-G", "Ninja", "-S", str(source), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Debug"),
                *(f"-Dhalfway_DIR={config('--cmakedir').strip()}", f"-Dpybind11_DIR={pybind11.stdout.strip()}"),
                *(
                    f"-DPython_EXECUTABLE={sys.executable}",
                    f"-DCMAKE_CXX_FLAGS={os.environ.get('CXXFLAGS', '')} {ERROR_FLAGS}",
                    *options,
                ),
            ],
            ["cmake", "--build", str(folder)],
        ]
        for command in commands:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    # train_digits, which takes a minute to compile, has a test of its own.
    return build("examples", ROOT / "examples", "-DCMAKE_DISABLE_FIND_PACKAGE_Libtorch=ON")


@pytest.fixture(scope="session")
def documented() -> Path:
    source = BUILD / "documented-source"
    source.mkdir(parents=True, exist_ok=True)
    files = project()
    for name, text in files.items():
        write_if_other(source / name, text)
    for path in source.iterdir():
        if path.name not in files:
            path.unlink()
    return build("documented", source, f"-DTORCH={Path(torch.__file__).parent}")


def load(folder: Path, name: str) -> Any:
    path = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    return load_module(path, name)


# --- The documentation


def test_there_are_blocks_of_every_kind():
    assert {kind for _, kind, _ in SNIPPETS} == {"", "cuda", "module", "torch"}
    assert any(name.startswith("readme_") for name, _, _ in SNIPPETS)


def test_every_cmake_block_is_run():
    assert set(cmake_blocks()) == set(CMAKE_BLOCKS)


def code_lines(text: str) -> list[str]:
    """Without comments, spaces as one."""
    lines = [" ".join(line.partition("//")[0].split()) for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("name", HEADERS)
def test_a_headers_example_is_code_of_the_documentation(name):
    lines = HEADERS[name].read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("//   "))
    example = []
    while lines[begin].startswith("//   ") or (lines[begin] == "//" and lines[begin + 1].startswith("//   ")):
        example.append(lines[begin][2:])
        begin += 1
    run = {line.removeprefix("static ") for _, _, text in SNIPPETS for line in code_lines(text)}
    missing = [line for line in code_lines("\n".join(example)) if line not in run]
    # The module's name is the page's.
    assert [line for line in missing if not line.startswith("PYBIND11_MODULE")] == []


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind, _ in SNIPPETS if kind != "module"])
def test_block(documented, name, kind, tmp_path):
    path = documented / {"": "plain", "torch": "libtorch"}.get(kind, kind)
    if not path.exists():
        pytest.skip("the package was built without the CUDA backend, or there is no CUDA toolkit to link it with")
    done = subprocess.run([path, name], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    if name.startswith("cpp_") and (tmp_path / "half.npy").exists():
        assert np.load(tmp_path / "half.npy").view(ml_dtypes.bfloat16).tolist() == [[1, 2], [3, 4]]


def test_documented_module(documented):
    module = load(documented, "documented")
    assert torch.equal(module.doubled(np.eye(2, dtype="f4")), 2 * torch.eye(2))
    assert torch.equal(module.to_bfloat16(np.ones((2, 2))), torch.ones(2, 2, dtype=torch.bfloat16))
    with pytest.raises(TypeError) as raised:
        module.doubled(np.zeros(3))
    assert str(raised.value) in " ".join((ROOT / "docs" / "cpp.md").read_text().split())
    assert [module.points(np.zeros(shape, "f4")) for shape in (3, (2, 3))] == [1, 2]
    with pytest.raises(TypeError, match="2 dimensions are wanted, not 3"):
        module.points(np.zeros((1, 2, 3)))


# --- The examples


def test_embed_plain(examples):
    done = subprocess.run([examples / "embed_plain"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        "frames back: 3 of 3",
        "frames back while one is lent: 2 of 3",
        "frames back: 3 of 3",
    ]
    count, inexact = map(int, re.findall(r"\d+", done.stdout.splitlines()[0]))
    assert count == 48 * 64 * 3
    assert 0 < inexact <= count


def test_plugin(examples):
    plugin = load(examples, "plugin")
    for values in (
        np.array([3.0, 4.0]),
        torch.tensor([3, 4]),
        np.array([3, 4], ">i2")[::-1],
        halfway.from_dlpack(np.array([3.0, 4.0])),
    ):
        assert plugin.rms(values) == pytest.approx(np.sqrt(12.5))
    table = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")
    for centred in (table.copy(), torch.from_numpy(table.copy()), np.asfortranarray(table)):
        assert plugin.centre(centred) is None
        assert np.allclose(np.asarray(centred), table - table.mean(0), atol=1e-6)
    with pytest.raises(TypeError, match=r"^numpy.ndarray: dtype float32 is wanted, not float64$"):
        plugin.centre(np.eye(2))
    similar = plugin.cosine(np.eye(2), torch.eye(2))
    assert torch.equal(similar, torch.eye(2))
    with pytest.raises(ValueError, match="rows of a and b differ in length"):
        plugin.cosine(np.eye(2), np.eye(3))

    lookup = plugin.Lookup(table)
    row = lookup.row(2)
    assert row.flags.writeable is False
    assert np.shares_memory(row, table)
    kept = table.copy()
    del lookup, table
    assert row.tolist() == kept[2].tolist()


def configured(source: Path, folder: Path, *options: str) -> str:
    """What CMake says of a project in which no package finds a CUDA toolkit."""
    done = subprocess.run(
        [
            *("cmake", "-G", "Ninja", "-S", str(source), "-B", str(folder)),
            *(f"-Dhalfway_DIR={config('--cmakedir').strip()}", f"-DPython_EXECUTABLE={sys.executable}"),
            *(f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("CUDA", "CUDAToolkit", "pybind11")),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_examples_need_no_cuda_toolkit(tmp_path):
    said = configured(ROOT / "examples", tmp_path)
    assert "train_digits is left out" not in said
    assert "train_digits" in (tmp_path / "build.ninja").read_text()


def test_what_the_examples_leave_out_is_said(tmp_path):
    said = configured(ROOT / "examples", tmp_path / "a", "-DCMAKE_DISABLE_FIND_PACKAGE_Libtorch=ON")
    assert "No libtorch >= 2.6: train_digits is left out" in said
    alone = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", alone)
    said = configured(alone, tmp_path / "b")
    assert "No FindLibtorch.cmake: train_digits is left out" in said
    assert "embed_plain" in (tmp_path / "b" / "build.ninja").read_text()


# --- pkg-config


def test_pkg_config_of_the_wheel(tmp_path):
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    environment = os.environ | {"PKG_CONFIG_PATH": config("--pkgconfigdir").strip()}
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "halfway-runtime"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    includes, libdir = config("--includes").strip(), config("--libdir").strip()
    flags = [os.path.normpath(flag) if flag.startswith("-") else flag for flag in found.stdout.split()]
    assert os.path.realpath(includes[2:]) in [os.path.realpath(flag[2:]) for flag in flags if flag.startswith("-I")]
    assert os.path.realpath(libdir) in [os.path.realpath(flag[2:]) for flag in flags if flag.startswith("-L")]
