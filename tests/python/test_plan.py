"""Plans: what they say, that they say it in the same words everywhere, and that they do nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import halfway
from halfway import Plan


def cases() -> dict[str, tuple[Any, dict[str, Any]]]:
    x = np.arange(6.0).reshape(2, 3)
    frozen = x.copy()
    frozen.flags.writeable = False
    z = torch.zeros(3, dtype=torch.complex64)
    return {
        "alias": (x, {}),
        "cast": (x, {"dtype": "bfloat16"}),
        "several reasons": (frozen[::-1, ::-1].T, {"dtype": "float32"}),
        "copy requested": (x[:0], {"copy": True}),
        "into out": (x, {"out": torch.zeros(2, 3)}),
        "resolve": (z.conj(), {"to": "numpy"}),
        "resolve and cast": (z.conj(), {"to": "numpy", "dtype": "complex128"}),
        "resolve into out": (z.conj(), {"to": "numpy", "out": np.zeros(3, np.complex64)}),
        "halfway": (np.arange(3, dtype=">i2"), {"to": "halfway"}),
        "scalar": (np.float32(1), {"dtype": "half", "to": "numpy"}),
        "capsule": (x.__dlpack__(), {"to": "halfway"}),
    }


@pytest.fixture(params=list(cases()))
def plan(request: pytest.FixtureRequest) -> Plan:
    x, options = cases()[request.param]
    return halfway.explain(x, **options)


def test_dict_says_what_the_attributes_say(plan):
    data = json.loads(json.dumps(plan.to_dict()))
    assert data.pop("source") == plan.source
    assert data.pop("dtype") == plan.dtype
    assert tuple(data.pop("shape")) == plan.shape
    assert tuple(data.pop("result_shape")) == plan.result_shape
    assert tuple(data.pop("reasons")) == plan.reasons
    steps = data.pop("steps")
    assert len(steps) == len(plan.steps) > 0
    for entry, step in zip(steps, plan.steps, strict=True):
        assert entry == step.to_dict()
        assert entry.pop("source") == step.source
        assert entry.pop("dtype") == step.dtype
        assert entry == {name: getattr(step, name) for name in ("kind", "bytes_read", "bytes_written", "how")}
    names = ("target", "zero_copy", "bytes_read", "bytes_written", "bytes_wire", "device", "because", "machine")
    names += ("unavailable",)
    assert data == {name: getattr(plan, name) for name in names}


def test_steps_lead_from_source_to_dtype(plan):
    dtype = plan.source
    for step in plan.steps:
        assert step.source == dtype
        dtype = step.dtype
    assert dtype == plan.dtype
    assert plan.zero_copy == (not plan.reasons) == (plan.steps[0].kind == "alias")
    assert plan.bytes_read == sum(step.bytes_read for step in plan.steps)
    assert plan.bytes_written == sum(step.bytes_written for step in plan.steps)


def test_text_holds_every_fact(plan):
    text = str(plan)
    first, *rest = text.splitlines()
    assert first.startswith(f"{plan.source} {plan.shape} -> {plan.target} {plan.dtype}: ")
    assert ("zero-copy" in first) == plan.zero_copy
    if plan.reasons:
        assert rest.pop(0).split(maxsplit=1) == ["because", ", ".join(plan.reasons)]
    assert [line.split()[0] for line in rest] == [step.kind for step in plan.steps]
    assert plan.target in repr(plan)
    assert text == str(plan)


def test_plans_are_read_only(plan):
    for name in ("zero_copy", "reasons", "steps", "bytes_read", "dtype"):
        with pytest.raises(AttributeError):
            setattr(plan, name, getattr(plan, name))
    with pytest.raises(AttributeError):
        plan.steps[0].kind = "copy"
    with pytest.raises(TypeError):
        type(plan)()


PINNED = {
    "alias": """\
float64 (2, 3) -> torch float64: zero-copy
  alias     float64, the same memory""",
    "cast": """\
float64 (2, 3) -> torch bfloat16: one pass
  because   dtype
  cast      float64 -> bfloat16, reads 48 B, writes 12 B""",
    "several reasons": """\
float64 (3, 2) -> torch float32: one pass
  because   dtype, negative_strides, readonly
  cast      float64 -> float32, reads 48 B, writes 24 B""",
    "copy requested": """\
float64 (0, 3) -> torch float64: one pass
  because   copy_requested
  copy      float64, reads 0 B, writes 0 B""",
    "resolve": """\
complex64 (3,) -> numpy complex64: one pass
  because   conj
  resolve   complex64, reads 24 B, writes 24 B""",
    "resolve and cast": """\
complex64 (3,) -> numpy complex128: two passes
  because   dtype, conj
  resolve   complex64, reads 24 B, writes 24 B
  cast      complex64 -> complex128, reads 24 B, writes 48 B""",
    "halfway": """\
int16 (3,) -> halfway int16: one pass
  because   byte_order
  copy      int16, reads 6 B, writes 6 B""",
    "scalar": """\
float32 () -> numpy float16: one pass
  because   dtype
  cast      float32 -> float16, reads 4 B, writes 2 B""",
}


@pytest.mark.parametrize("name", PINNED)
def test_text(name):
    x, options = cases()[name]
    assert str(halfway.explain(x, **options)) == PINNED[name]


def test_repr():
    x = np.zeros(3)
    assert repr(halfway.explain(x)) == "<halfway.Plan: float64 -> torch float64, zero-copy>"
    assert repr(halfway.explain(x, "f4", to="numpy")) == "<halfway.Plan: float64 -> numpy float32, one pass>"
    assert repr(halfway.explain(x, "f4").steps[0]) == "Step(cast, float64 -> float32)"


def test_explaining_does_nothing():
    x = np.arange(6.0)
    out = torch.full((6,), 7.0)
    version = out._version
    report = halfway.Report()
    halfway.cast(np.array([1e300, math.nan]), "float32", report=report)
    counts = report.to_dict()
    halfway.explain(x, "float32", out=out, report=report)
    halfway.explain(x, "float32", report=report, casting="same_value", overflow="raise")
    halfway.explain(np.array([0.1]), "float32", casting="same_value")
    halfway.explain(np.array([1e300]), "float32", overflow="raise")
    assert out.tolist() == [7.0] * 6
    assert out._version == version
    assert report.to_dict() == counts


def test_a_capsule_survives_being_explained():
    x = np.arange(3.0)
    capsule = halfway.from_dlpack(x).__dlpack__(max_version=(1, 0))
    for _ in range(2):
        assert halfway.explain(capsule).zero_copy
    assert halfway.to_torch(capsule).data_ptr() == x.ctypes.data
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.explain(capsule)
    assert caught.value.reason == "consumed"


def test_broadcast_arrays_of_any_size_have_plans():
    x = np.broadcast_to(np.float64(1), (2**20, 2**20, 2**18))
    plan = halfway.explain(x, allow_readonly=True)
    assert plan.zero_copy
    plan = halfway.explain(x, "bfloat16")
    assert plan.bytes_read == 2**61
    assert plan.bytes_written == 2**59
    assert halfway.to_torch(x, allow_readonly=True).shape == x.shape
    with pytest.raises(MemoryError):
        halfway.to_torch(x, "bfloat16")


def test_reasons_come_in_one_order():
    x = np.zeros(8, np.uint8)[1:].view(np.uint8)
    frozen = np.ndarray((2,), ">i2", buffer=bytearray(16), offset=9, strides=(-3,))
    frozen.flags.writeable = False
    plan = halfway.explain(frozen, "float32", copy=True)
    assert plan.reasons == (
        "dtype",
        "byte_order",
        "negative_strides",
        "fractional_strides",
        "misaligned",
        "readonly",
        "copy_requested",
    )
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.to_torch(frozen, "float32", copy=False)
    assert caught.value.reasons == plan.reasons[:-1]
    for reason in caught.value.reasons:
        assert reason in str(caught.value)
    assert halfway.explain(x).zero_copy
