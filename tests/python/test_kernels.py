"""The CUDA kernels' machine code: which of it is shipped, and that its gate (tools/kernel_gate.py) closes."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from typing import Any

import numpy as np
import pytest
from tests.python.probe import ROOT

import halfway
from halfway import _core


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("kernel_gate")


def test_every_architecture_is_shipped(gate: Any) -> None:
    if "has no CUDA part" in (halfway.explain(np.ones(3), device="cuda").unavailable or ""):
        pytest.skip("this build has no CUDA part")
    dump = gate.find_tool("cuobjdump")
    if dump is None:
        pytest.skip("there is no cuobjdump")

    def shipped(form: str) -> set[str]:
        listed = subprocess.run([dump, form, _core.__file__], capture_output=True, text=True, check=True)
        return set(re.findall(r"\.(sm_\d+)\.", listed.stdout))

    wanted = {f"sm_{architecture}" for architecture in gate.ARCHITECTURES}
    assert shipped("--list-elf") == wanted
    assert shipped("--list-ptx") == {f"sm_{max(gate.ARCHITECTURES)}"}


def kernels(gate: Any) -> list[Any]:
    """As tests/cuda/kernels.json has them."""
    reference = json.loads(gate.REFERENCE.read_text())
    made = []
    for architecture in gate.ARCHITECTURES:
        for name, figures in reference[f"sm_{architecture}"].items():
            kernel = gate.Kernel(*name.split(": ")[:1], architecture, name.split(": ")[1])
            kernel.registers = figures["registers"]
            kernel.vectors = (figures["loads"], figures["stores"])
            kernel.packed = figures["packed"]
            made.append(kernel)
    return made


def version(gate: Any) -> str:
    found = re.search(r'"nvcc": "([0-9.]+)"', gate.REFERENCE.read_text())
    assert found
    return found[1]


def test_what_is_as_it_was_passes(gate: Any) -> None:
    assert gate.compare(kernels(gate), version(gate), True) == []


@pytest.mark.parametrize("figure", ["registers", "loads", "stores", "packed"])
def test_one_figure_that_is_worse_is_named(gate: Any, figure: str) -> None:
    changed = kernels(gate)
    named = ("fused", "float32 -> bfloat16", 90)
    kernel = next(k for k in changed if (k.source, k.name, k.architecture) == named)
    if figure == "registers":
        kernel.registers += 1
    elif figure == "packed":
        kernel.packed -= 1
    else:
        less = tuple(count - (name == figure) for name, count in zip(("loads", "stores"), kernel.vectors, strict=True))
        kernel.vectors = less
    (wrong,) = gate.compare(changed, version(gate), True)
    assert wrong.startswith("sm_90: fused: float32 -> bfloat16 has ")
    # Another compiler makes other code; PTX has other numbers of accesses.
    assert gate.compare(changed, "0.0", True) == []
    assert bool(gate.compare(changed, version(gate), False)) == (figure == "registers")


def test_a_kernel_that_is_missing_is_named(gate: Any) -> None:
    left = [k for k in kernels(gate) if not (k.name == "copy" and k.architecture == 80)]
    (wrong,) = gate.compare(left, version(gate), True)
    assert "fused: copy" in wrong


@pytest.mark.parametrize("which", [0, 1])
def test_code_without_vectors_or_packed_conversions_is_found(gate: Any, which: int) -> None:
    kernel = gate.Kernel("fused", 90, "float32 -> bfloat16", code="LDG.E.64 R2; STG.E.64 R2; ld.global.v2.f32")
    gate.examine(kernel, which)
    assert kernel.findings == ["no loads of 128 bits", "no stores of 128 bits", "no packed conversion of bfloat16"]
    single = gate.Kernel("transpose", 90, "float32 -> bfloat16", code="LDG.E R2; STG.E.U16 R2; ld.global.f32")
    gate.examine(single, which)
    assert single.findings == ["no packed conversion of bfloat16"]
    spilling = gate.Kernel("general", 90, "float", spills=8, stack=16, registers=129)
    gate.examine(spilling, which)
    assert len(spilling.findings) == 3


def test_the_guide_lists_the_numbers_that_are_not_measured() -> None:
    blocks = (ROOT / "cuda" / "kernels" / "tuning.h").read_text().split("\n\n")
    bare = [block for block in blocks if "Not measured" in block]
    numbers = {
        name for block in bare for name in re.findall(r"^(?:inline constexpr \S+|using) (\w+) =", block, re.MULTILINE)
    }
    guide = (ROOT / "docs" / "transfer.md").read_text().split("Not measured of these numbers:\n\n")[1]
    assert set(re.findall(r"^\| `(\w+)`.* \| .* \| .* \|$", guide.split("\n\n")[0], re.MULTILINE)) == numbers
    assert "smallest_plane" in numbers
