"""The types that users see: programs under `mypy --strict`; stubs that say what the module is."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import halfway
from halfway import _core

PACKAGE = Path(halfway.__file__).parent
CACHE = Path(__file__).resolve().parents[2] / ".mypy_cache" / "user"  # torch's types are many
STUB = ast.parse((PACKAGE / "_core.pyi").read_text())

GOOD = """\
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import halfway
from halfway import Cast, CastError, ExchangeError, Report

x: NDArray[np.float64] = np.zeros(3)
t: torch.Tensor = torch.zeros(3)
own = halfway.from_dlpack(x)

reveal_type(halfway.to_torch(x))  # torch._tensor.Tensor
reveal_type(halfway.to_torch(t, "bfloat16", overflow="saturate"))  # torch._tensor.Tensor
reveal_type(halfway.to_torch(own, dtype=torch.bfloat16, copy=False))  # torch._tensor.Tensor
reveal_type(halfway.to_numpy(t, np.float32, lock_storage=True))  # NDARRAY
reveal_type(halfway.to_numpy(own, out=x))  # NDARRAY
reveal_type(halfway.cast(x, "float32"))  # NDARRAY
reveal_type(halfway.cast(np.float32(1), float))  # NDARRAY
reveal_type(halfway.cast(t, torch.float16))  # torch._tensor.Tensor
reveal_type(halfway.cast(torch.nn.Parameter(t), torch.float16))  # torch._tensor.Tensor
reveal_type(halfway.cast(own, Cast("bfloat16")))  # halfway._core.Tensor
reveal_type(own)  # halfway._core.Tensor
reveal_type(halfway.fields(x))  # dict[str, halfway._core.Tensor]
reveal_type(halfway.collate([x, x], "bfloat16", pad=0))  # torch._tensor.Tensor
reveal_type(halfway.collate([1.5, np.float32(2)], to="numpy"))  # NDARRAY
reveal_type(halfway.collate([t, own], to="halfway", overflow="raise"))  # halfway._core.Tensor
reveal_type(halfway.collate([{"x": x}], {float: "bf16"}))  # Any
reveal_type(own.shape)  # tuple[int, ...]
reveal_type(own.dtype)  # str
reveal_type(halfway.explain(x, to="numpy").reasons)  # tuple[str, ...]
reveal_type(halfway.explain(x).steps[0].bytes_read)  # int
reveal_type(halfway.dtypes()[0].bits)  # int | None
reveal_type(halfway.register_numpy_dtypes())  # int
reveal_type(halfway.memory.limit(1 << 20) + halfway.memory.trim())  # int
reveal_type(halfway.memory.stats().hits)  # int
reveal_type(halfway.num_threads())  # int
halfway.set_num_threads(2)
reveal_type(Cast(int, casting="safe", overflow="raise").overflow)  # LITERAL

report = Report()
halfway.to_torch(x, "f4", report=report, casting="same_value", non_blocking=True, device="cpu")
halfway.to_torch(x, device=torch.device("cpu"), allow_readonly=True)
halfway.to_torch(x, device=(1, 0), out=t)
reveal_type(report.nan)  # int
view: memoryview = memoryview(own)
np.from_dlpack(own)
np.asarray(own)


class Producer:
    def __dlpack__(self, **options: Any) -> Any:
        return x.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


reveal_type(halfway.from_dlpack(Producer()))  # halfway._core.Tensor
reveal_type(halfway.cast(Producer(), "int8"))  # halfway._core.Tensor

try:
    halfway.to_torch(x, copy=False)
except ExchangeError as error:
    reveal_type(error.reason)  # str
    reveal_type(error.reasons)  # tuple[str, ...]
    problem: BufferError = error
except CastError as lost:
    reveal_type(lost.index)  # tuple[int, ...] | None
    reveal_type(lost.report)  # halfway._core.Report | None
"""

BAD = """\
import numpy as np
import torch

import halfway

x = np.zeros(3)
halfway.to_torch([1.0, 2.0])
halfway.to_torch(x, casting="loose")
halfway.to_torch(x, overflow=True)
halfway.to_torch(x, colour=1)
halfway.to_torch(x, copy="yes")
halfway.to_torch(x, out=x)
halfway.to_numpy(x, device="cpu")
halfway.cast(x, "f4", out=torch.zeros(3))
halfway.cast(x, None)
halfway.cast(x)
halfway.explain(x, to="jax")
halfway.from_dlpack(x, "f4")
halfway.Cast("f4", "safe")
halfway.Cast("f4").dtype = "f8"
halfway.Report().nan = 3
halfway.Tensor().shape = ()
halfway.fields([1])
halfway.collate(3)
halfway.collate([x], to="jax")
halfway.collate([x], colour=1)
halfway.nothing()
halfway.memory.limit("1 GiB")


class Own(halfway.Cast): ...
"""


def mypy(program: str, folder: Path) -> list[str]:
    """What mypy says about a program that uses the installed package."""
    (folder / "program.py").write_text(program)
    (folder / "empty.ini").write_text("[mypy]\n")
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "mypy", "--strict", "--no-error-summary", "--config-file", "empty.ini"),
            *("--python-executable", sys.executable, "--cache-dir", str(CACHE)),
            "program.py",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Both programs in one run: reading torch's types takes most of it."""
    folder = tmp_path_factory.mktemp("user")
    good = len(GOOD.splitlines())
    lines = mypy(GOOD + "\n" + BAD, folder)
    first: list[str] = []
    second: list[str] = []
    for line in lines:
        match = re.match(r"program\.py:(\d+): (.*)", line)
        assert match, line
        number = int(match[1])
        if number <= good:
            first.append(f"{number}: {match[2]}")
        else:
            second.append(f"{number - good - 1}: {match[2]}")
    return first, second


def test_a_users_program_is_clean(verdicts):
    expected = {}
    for number, line in enumerate(GOOD.splitlines(), 1):
        if line.lstrip().startswith("reveal_type"):
            expected[number] = line.rpartition("# ")[2]
    revealed = {}
    for line in verdicts[0]:
        number, _, text = line.partition(": ")
        assert text.startswith("note: Revealed type is "), line
        revealed[int(number)] = text.removeprefix("note: Revealed type is ").strip('"')
    assert revealed.keys() == expected.keys()
    for number, type_ in expected.items():
        got = revealed[number].replace("builtins.", "").replace("Union[", "").replace("?", "")
        if type_ == "NDARRAY":
            assert got.startswith("numpy.ndarray["), (number, got)
        elif type_ == "LITERAL":
            assert "Literal['raise']" in got, (number, got)
        else:
            assert got.replace("], None]", "] | None") == type_, number


def test_wrong_programs_are_found(verdicts):
    wrong = {int(line.partition(":")[0]) for line in verdicts[1] if ": error: " in f" {line}"}
    lines = BAD.splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.startswith(("halfway.", "class "))}
    assert wrong == expected, [lines[n - 1] for n in wrong ^ expected]


# --- the stub says what the module is


def classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef) and hasattr(_core, node.name)}


def functions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def test_names():
    typing_only = {"_Producer", "_CastFields", "_DTypeRow"}
    declared = {node.name for node in STUB.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    present = {name for name in vars(_core) if not name.startswith("__")}
    assert declared - typing_only == present


def shape(function: ast.FunctionDef) -> list[tuple[str, str, Any]]:
    """Name, kind and default of each parameter of a stub."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    found = []
    for index, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
        kind = "positional" if index < len(arguments.posonlyargs) else "either"
        found.append((argument.arg, kind, value(default)))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((argument.arg, "keyword", value(default)))
    if arguments.kwarg:
        found.append((arguments.kwarg.arg, "rest", inspect.Parameter.empty))
    return found


def value(default: ast.expr | None) -> Any:
    return inspect.Parameter.empty if default is None else ast.literal_eval(default)


KINDS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "rest",
}


def runtime_shape(function: Any) -> list[tuple[str, str, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, KINDS[p.kind], p.default) for p in parameters]


@pytest.mark.parametrize("name", [n for n in functions(STUB.body) if not n.startswith("_")])
def test_function_signatures(name):
    overloads = [n for n in STUB.body if isinstance(n, ast.FunctionDef) and n.name == name]
    for overload in overloads:
        assert shape(overload) == runtime_shape(getattr(_core, name))


@pytest.mark.parametrize("name", classes())
def test_class_members(name):
    node = classes()[name]
    type_ = getattr(_core, name)
    stubs = functions(node.body)
    declared = set(stubs)
    declared |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    members = {n for n in vars(type_) if not n.startswith("_")}
    assert {n for n in declared if not n.startswith("_")} == members
    for method in declared:
        assert hasattr(type_, method), method
    for method, stub in stubs.items():
        is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in stub.decorator_list)
        if is_property:
            assert not callable(getattr(type_, method))
        elif method in ("__init__", "__array__", "__dlpack__", "__dlpack_device__", "to_dict"):
            if method == "to_dict":
                assert [p[0] for p in shape(stub)] == ["self"]
                continue
            target = type_ if method == "__init__" else getattr(type_, method)
            got = runtime_shape(target)
            want = shape(stub)[1:]
            assert [p for p in got if p[0] != "self"] == want, method


def test_cast_fields_are_the_keywords_of_cast():
    node = next(n for n in STUB.body if isinstance(n, ast.ClassDef) and n.name == "_CastFields")
    fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    parameters = inspect.signature(halfway.Cast).parameters
    assert fields == {n for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def test_the_package_is_marked_typed():
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()
