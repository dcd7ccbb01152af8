"""explain() says what happens: the plan of a transfer against the simulated device's own counters."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from tests.python.sim import Rig, bits, rig, rig_in_use

import halfway

__all__ = ["rig"]

DTYPES = ["float32", "float64", "float16", "bfloat16", "uint8", "int64", "float8_e4m3fn", "complex64", "bool"]


def random_case(draw: random.Random) -> tuple[Any, dict[str, Any]]:
    """A host array of any layout, and what is asked for."""
    shape = draw.choice([(), (0,), (1,), (7,), (300,), (300, 300), (2, 300, 40), (40, 0, 2), (3, 1, 5)])
    x: Any = np.ones(shape, draw.choice(["f4", "f8", "f2", "u1", "i8", "c8", "?", ">f4"]))
    if draw.random() < 0.3 and x.ndim:
        x = x[:: draw.choice([-1, 2, 3])]
    options: dict[str, Any] = {"casting": "unsafe"}
    if draw.random() < 0.8:
        options["dtype"] = draw.choice(DTYPES)
    if draw.random() < 0.3:
        options["permute"] = tuple(draw.sample(range(x.ndim), x.ndim))
    real = x.dtype.kind != "c" and options.get("dtype") != "complex64"
    if draw.random() < 0.2 and real:
        options["scale"] = 2.0
    if draw.random() < 0.2:
        options["overflow"] = draw.choice(["saturate", "raise"])
    return x, options


def change(rig: Rig, call: Any) -> dict[str, int]:
    before = rig.device.counters()
    call()
    return {name: count - before[name] for name, count in rig.device.counters().items()}


def check(plan: halfway.Plan, counted: dict[str, int]) -> None:
    assert plan.bytes_wire == counted["bytes_wire"]
    shipped = [int(step.how.split()[0]) for step in plan.steps if step.kind == "ship"]
    assert counted["copies"] == sum(shipped)
    assert (counted["launches"] > 0) == any("kernel" in step.how or "on the device" in step.how for step in plan.steps)


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_is_what_happens(seed: int) -> None:
    draw = random.Random(seed)
    with rig_in_use(coherent=draw.random() < 0.2) as rig:
        for _ in range(5):
            x, options = random_case(draw)
            is_pinned = draw.random() < 0.4 and x.nbytes > 0
            with halfway.pin(x) if is_pinned else halfway.pin(x[:0] if x.ndim else x.reshape(1)[:0]):
                plan = halfway.explain(x, device="cuda", **options)
                check(plan, change(rig, lambda: halfway.to_torch(x, device="cuda", **options)))  # noqa: B023
            assert plan.device == "cuda:0"
            assert "device" in plan.reasons
            assert not plan.zero_copy
            assert plan.unavailable == ""
            there = rig.array(x.astype(x.dtype.newbyteorder("=")))
            plan = halfway.explain(there, to="numpy", **options)
            check(plan, change(rig, lambda: halfway.to_numpy(there, **options)))  # noqa: B023
            assert plan.device == "cpu"
            later = halfway.explain(there, to="numpy", non_blocking=True, **options)
            check(later, change(rig, lambda: halfway.to_numpy(there, non_blocking=True, **options).result()))  # noqa: B023


def test_into_memory_that_is_there(rig: Rig) -> None:
    there = rig.array(np.ones((300, 900), np.float32))
    out = np.zeros((300, 1800), np.float16)[:, ::2]
    plan = halfway.explain(there, to="numpy", out=out)
    check(plan, change(rig, lambda: halfway.to_numpy(there, out=out)))
    target = rig.empty((300, 900), "bfloat16")
    plan = halfway.explain(np.ones((300, 900)), out=target)
    check(plan, change(rig, lambda: halfway.to_torch(np.ones((300, 900)), out=target)))
    assert plan.device == "cuda:0"


def test_explaining_does_nothing(rig: Rig) -> None:
    x = np.ones((300, 900), np.float32)
    capsule = x.__dlpack__()
    counted = change(rig, lambda: halfway.explain(capsule, "float16", device="cuda"))
    assert counted == {"copies": 0, "launches": 0, "bytes_wire": 0}
    assert "allocate" not in rig.device.log
    halfway.to_torch(capsule, device="cuda")  # not consumed before


def test_what_stays_on_its_device_crosses_nothing(rig: Rig) -> None:
    plan = halfway.explain(rig.array(np.ones(4)))
    assert (plan.zero_copy, plan.bytes_wire, plan.device, plan.because) == (True, 0, "cuda:0", "")


def test_what_is_said_of_a_transfer(rig: Rig) -> None:
    plan = halfway.explain(np.ones((300, 900)), "bfloat16", device="cuda")
    text = str(plan)
    assert f"{plan.bytes_wire} B over the wire" in text
    assert "on cuda:0" in text
    assert plan.because in text
    assert plan.machine.startswith("assumed")
    assert plan.machine in text
    assert json.loads(json.dumps(plan.to_dict()))["because"] == plan.because
    assert [step.kind for step in plan.steps] == ["cast", "ship"]
    assert plan.bytes_wire == 300 * 900 * 2  # narrowed before the wire


# --- batches


def test_a_batch_on_the_device(rig: Rig) -> None:
    samples = [np.full((3, 4), i, np.float32)[::-1] for i in range(5)]
    batch = halfway.collate(samples, "bfloat16", device="cuda", scale=0.5, permute=(1, 0))
    assert type(batch) is rig.sim.Array
    expected = halfway.collate(samples, "bfloat16", to="numpy", scale=0.5, permute=(1, 0))
    assert bits(rig.values(batch)) == bits(expected)
    assert rig.device.counters()["bytes_wire"] == expected.nbytes
    tree = halfway.collate([{"x": s, "y": i, "name": "a"} for i, s in enumerate(samples)], device="cuda:0")
    assert rig.values(tree["y"]).tolist() == [0, 1, 2, 3, 4]
    assert bits(rig.values(tree["x"])) == bits(np.stack(samples))
    assert tree["name"] == ["a"] * 5
    assert halfway.collate(samples, to="halfway", device="cuda").device == "cuda:0"
    assert type(halfway.collate(samples, device="cpu")) is torch.Tensor


def test_batches_that_cannot_be(rig: Rig) -> None:
    samples = [np.ones(3), np.ones(3)]
    for keywords, reason in [
        ({"to": "numpy", "device": "cuda"}, "device"),
        ({"out": np.zeros((2, 3)), "device": "cuda"}, "out_mismatch"),
        ({"out": rig.empty((2, 3), "float64")}, "device"),
        ({"device": "cuda:3"}, "device"),
    ]:
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.collate(samples, **keywords)
        assert caught.value.reason == reason
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.collate([rig.array(np.ones(3)), np.ones(3)])
    assert caught.value.reason == "device"
    assert "samples[0]" in str(caught.value)
