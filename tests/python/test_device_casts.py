"""Casts and copies within the memory of a device: values, layouts, streams, owners, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.python.sim import Rig, bits, check_nothing_is_left, rig, rig_in_use
from tests.python.test_device_values import NAMES, of

import halfway
from halfway import _core

__all__ = ["rig"]


@pytest.mark.parametrize("source", NAMES)
def test_every_pair_as_the_host_casts_it(rig: Rig, source: str) -> None:
    x = of(source, (5, 7))
    there = rig.array(x)
    for target in NAMES:
        if source.startswith("complex") != target.startswith("complex"):
            continue
        before = rig.device.counters()["bytes_wire"]
        made = halfway.to_torch(there, target, casting="unsafe")
        assert type(made) is rig.sim.Array
        assert bits(rig.values(made)) == bits(halfway.to_numpy(x, target, casting="unsafe")), target
        assert rig.device.counters()["bytes_wire"] == before


LAYOUTS = {
    "transposed": lambda a: a.view(0, [9, 6], [1, 9]),
    "strided": lambda a: a.view(2, [3, 3], [18, 3]),
    "reversed": lambda a: a.view(53, [6, 9], [-9, -1]),
    "broadcast": lambda a: a.view(4, [5, 9], [0, 1]),
    "scalar": lambda a: a.view(7, [], []),
    "empty": lambda a: a.view(0, [0, 9], [9, 1]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(rig: Rig, layout: str) -> None:
    """Of sources and of results, on the device and towards the host."""
    x = of("float32", (6, 9))
    view = LAYOUTS[layout](rig.array(x))
    values = rig.values(view).copy()
    for keywords in ({}, {"dtype": "bfloat16"}, {"dtype": "float64", "scale": 2.0, "shift": 1.0}):
        expected = halfway.to_numpy(values, copy=True, **keywords)
        assert bits(halfway.to_numpy(view, **keywords)) == bits(expected)
        copied = halfway.to_torch(view, copy=True, **keywords)
        assert copied.data_ptr != view.data_ptr or values.size == 0
        assert bits(rig.values(copied)) == bits(expected)
    if layout not in ("broadcast", "empty"):
        fill = of("float32", values.shape, seed=1)
        assert halfway.to_torch(fill, out=view) is view
        assert bits(rig.values(view)) == bits(fill)
        halfway.to_torch(rig.array(values), out=view)
        assert bits(rig.values(view)) == bits(values)


def test_permuted(rig: Rig) -> None:
    x = of("float32", (6, 9))
    made = halfway.to_torch(rig.array(x), "float16", permute=(1, 0))
    assert bits(rig.values(made)) == bits(halfway.to_numpy(x, "float16", permute=(1, 0)))


def test_plans_say_so(rig: Rig) -> None:
    there = rig.array(of("float32", (6, 9)))
    plan = halfway.explain(there, "bfloat16")
    assert (plan.device, plan.bytes_wire, plan.reasons) == ("cuda:0", 0, ("dtype",))
    assert plan.because.startswith("on_device")
    assert "one pass" in str(plan)
    before = rig.device.counters()
    halfway.to_torch(there, "bfloat16")
    after = rig.device.counters()
    assert {name: after[name] - before[name] for name in after} == {"copies": 0, "launches": 1, "bytes_wire": 0}
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.to_torch(there, "bfloat16", copy=False)
    assert caught.value.reasons == ("dtype",)


@pytest.mark.parametrize("keywords", [{"overflow": "raise"}, {"casting": "same_value"}], ids=str)
@pytest.mark.parametrize(("made", "launches"), [("fresh", 1), ("ours", 1), ("out", 2)])
def test_what_is_checked_is_one_pass_into_fresh_memory(rig: Rig, keywords: Any, made: str, launches: int) -> None:
    x = np.arange(54, dtype=np.float32).reshape(6, 9)
    there = rig.array(x)
    out = rig.empty(x.shape, "float16")
    calls: dict[str, Callable[[], Any]] = {
        "fresh": lambda: halfway.to_torch(there, "float16", **keywords),
        "ours": lambda: halfway.cast(halfway.from_dlpack(there), "float16", **keywords),
        "out": lambda: halfway.to_torch(there, out=out, **keywords),
    }
    before = rig.device.counters()["launches"]
    arrived = calls[made]()
    assert rig.device.counters()["launches"] - before == launches
    if made != "ours":
        assert bits(rig.values(arrived)) == bits(x.astype(np.float16))
    lossy = rig.array(np.full((6, 9), 1e6, np.float32))
    with pytest.raises(halfway.CastError):
        halfway.to_torch(lossy, "float16", **keywords)


def test_of_a_tensor_of_ours(rig: Rig) -> None:
    x = of("float32", (6, 9))
    tensor = halfway.from_dlpack(x, device="cuda")
    narrow = halfway.cast(tensor, "bfloat16")
    assert (narrow.device, narrow.dtype) == ("cuda:0", "bfloat16")
    assert bits(halfway.to_numpy(narrow)) == bits(halfway.to_numpy(x, "bfloat16"))
    copied = halfway.from_dlpack(tensor.__dlpack__(copy=True, max_version=(1, 0)))
    assert copied.data_ptr != tensor.data_ptr
    assert bits(halfway.to_numpy(copied)) == bits(x)
    assert bits(rig.values(halfway.to_torch(tensor, "float16"))) == bits(halfway.to_numpy(x, "float16"))


def test_on_the_consumers_stream(rig: Rig) -> None:
    """Values that arrive late, on another stream; the result is used on the consumer's."""
    _core._set_torch_stand_in(None)
    x = of("float32", (600, 90))
    late = rig.device.stream()
    rig.device.set_stream(late)
    tensor = halfway.from_dlpack(rig.array(x, stream=late))
    narrow = halfway.cast(tensor, "float16")
    assert bits(halfway.to_numpy(narrow)) == bits(halfway.to_numpy(x, "float16"))


@pytest.mark.parametrize("seed", range(6))
def test_foreign_sources_are_kept_until_they_are_read(seed: int) -> None:
    with rig_in_use(seed=seed) as rig:
        _core._set_torch_stand_in(None)
        x = of("float32", (600, 90))
        narrow = halfway.cast(rig.array(x), "float16")  # the source is let go of at once
        assert bits(halfway.to_numpy(narrow)) == bits(halfway.to_numpy(x, "float16"))
        del narrow
    check_nothing_is_left(rig)


def test_in_a_graph(rig: Rig) -> None:
    """One launch on the stream that is captured, and nothing else."""
    mine = rig.device.stream()
    rig.device.set_stream(mine)
    there = rig.array(of("float32", (6, 9)), stream=mine)
    out = rig.empty((6, 9), "float16", stream=mine)
    rig.device.finish(mine)
    rig.device.set_capturing(mine, True)
    halfway.to_torch(there, out=out)
    rig.device.set_capturing(mine, False)
    assert bits(rig.values(out)) == bits(halfway.to_numpy(rig.values(there), "float16"))


def test_counts_checks_and_chance_are_the_hosts(rig: Rig) -> None:
    values = of("float32", (6, 9))
    values[2, 5] = 1e6
    there = rig.array(values)
    options: list[dict[str, Any]] = [{}, {"rounding": "stochastic", "seed": 1}, {"scale": 0.3, "shift": 2.0}]
    for keywords in options:
        expected, counted = halfway.Report(), halfway.Report()
        host: Any = halfway.to_numpy(values, "float16", report=expected, **keywords)
        result = halfway.to_torch(there, "float16", report=counted, **keywords)
        assert bits(rig.values(result)) == bits(host)
        assert (counted.count, counted.nan, counted.overflow, counted.underflow, counted.inexact) == (
            expected.count,
            expected.nan,
            expected.overflow,
            expected.underflow,
            expected.inexact,
        )
    out = rig.empty((9, 6), "float16")
    before: Any = bits(rig.values(out))
    checks: list[dict[str, Any]] = [{"overflow": "raise"}, {"casting": "same_value"}]
    for check in checks:
        with pytest.raises(halfway.CastError) as wanted:
            halfway.to_numpy(values, "float16", permute=(1, 0), **check)
        with pytest.raises(halfway.CastError) as caught:
            halfway.to_torch(there, out=out, permute=(1, 0), **check)
        assert str(caught.value) == str(wanted.value)
        assert caught.value.index == wanted.value.index
        assert bits(rig.values(out)) == before


def test_what_may_not_share_memory(rig: Rig) -> None:
    there = rig.array(of("float32", (6, 9)))
    before: Any = bits(rig.values(there))
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.to_torch(there.view(0, [6, 8], [9, 1]), out=there.view(1, [6, 8], [9, 1]))
    assert caught.value.reason == "overlap"
    assert bits(rig.values(there)) == before


def test_any_call_may_be_refused() -> None:
    x = of("float32", (6, 9))

    def run(rig: Rig) -> None:
        out = rig.empty((6, 9), "float64")
        halfway.to_torch(rig.array(x), out=out)
        tensor = halfway.cast(halfway.from_dlpack(rig.array(x)), "float16")
        assert bits(halfway.to_numpy(tensor)) == bits(halfway.to_numpy(x, "float16"))
        assert bits(rig.values(out)) == bits(x.astype(float))

    with rig_in_use() as rig, np.errstate(invalid="ignore"):
        run(rig)
        calls = rig.device.calls
    for k in range(1, calls + 1):
        with rig_in_use(fail_call=k) as rig:
            try:
                run(rig)
            except halfway.ExchangeError as error:
                assert error.reason == "unavailable"
        check_nothing_is_left(rig)
