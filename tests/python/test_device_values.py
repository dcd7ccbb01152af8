"""Transfers to and from a device: the values are those of the host's casts, for every dtype, layout and option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.python.sim import Rig, bits, rig

import halfway

__all__ = ["rig"]

NAMES = [row.name for row in halfway.dtypes() if row.castable and row.torch and row.numpy]


def of(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Random patterns, NaNs and infinities among them."""
    generator = np.random.default_rng(seed)
    item = halfway.to_numpy(np.zeros(1), dtype, casting="unsafe").dtype
    if dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape))
    return np.frombuffer(generator.bytes(count * item.itemsize), item).reshape(shape).copy()


@pytest.mark.parametrize("source", NAMES)
def test_every_pair_as_the_host_casts_it(rig: Rig, source: str) -> None:
    x = of(source, (5, 7))
    there = rig.array(x)
    for target in NAMES:
        expected = halfway.to_numpy(x, target, casting="unsafe")
        sent = halfway.to_torch(x, target, device="cuda", casting="unsafe")
        assert type(sent) is rig.sim.Array
        assert bits(rig.values(sent)) == bits(expected), target
        got = halfway.to_numpy(there, target, casting="unsafe")
        assert got.dtype == expected.dtype
        assert bits(got) == bits(expected), target


LAYOUTS = {
    "contiguous": lambda x: x,
    "strided": lambda x: x[::2, ::3],
    "reversed": lambda x: x[::-1, ::-2],
    "transposed": lambda x: x.T,
    "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "big-endian": lambda x: x.astype(">f4"),
    "packed field": lambda x: packed(x),
    "misaligned": lambda x: misaligned(x),
    "empty": lambda x: x[:0],
    "scalar": lambda x: x[0, 0],
    "read-only": lambda x: readonly(x),
}


def packed(x: Any) -> Any:
    records = np.zeros(x.shape, [("a", "u1"), ("x", "f4"), ("b", "u2")])
    records["x"] = x
    return records["x"]


def misaligned(x: Any) -> Any:
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    raw[:] = np.frombuffer(x.tobytes(), np.uint8)
    return raw.view(x.dtype).reshape(x.shape)


def readonly(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "narrow": {"dtype": "bfloat16"},
    "wide": {"dtype": "float64"},
    "saturated": {"dtype": "float8_e4m3fn", "overflow": "saturate"},
    "permuted": {"permute": (1, 0)},
    "permuted and narrow": {"dtype": "float16", "permute": (1, 0)},
    "scaled": {"dtype": "bfloat16", "scale": 0.5, "shift": 1.0},
    "stochastic": {"dtype": "bfloat16", "rounding": "stochastic", "seed": 7},
}


@pytest.mark.parametrize("shape", [(6, 6), (300, 901)], ids=["small", "several slots"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_options(rig: Rig, layout: str, shape: tuple[int, ...]) -> None:
    x = LAYOUTS[layout](of("float32", shape))
    there = rig.array(np.asarray(x, np.float32))
    for option, given in OPTIONS.items():
        keywords = {name: value for name, value in given.items() if name != "permute" or np.ndim(x) == 2}
        expected = halfway.to_numpy(x, copy=True, **keywords)
        native = expected.astype(expected.dtype.newbyteorder("="))
        sent = halfway.to_torch(x, device="cuda", **keywords)
        assert tuple(sent.shape) == expected.shape
        assert bits(rig.values(sent)) == bits(native), option
        assert bits(halfway.to_numpy(there, **keywords)) == bits(native), option


@pytest.mark.parametrize("library", ["numpy", "torch", "halfway", "dlpack"])
def test_sources_of_every_library(rig: Rig, library: str) -> None:
    x = of("float32", (3, 4))
    source: Any = {
        "numpy": lambda: x,
        "torch": lambda: torch.from_numpy(x.copy()),
        "halfway": lambda: halfway.from_dlpack(x),
        "dlpack": lambda: x.__dlpack__(),
    }[library]()
    sent = halfway.to_torch(source, "float16", device="cuda")
    assert bits(rig.values(sent)) == bits(halfway.to_numpy(x, "float16"))


def test_a_lazily_conjugated_tensor_crosses_as_its_value(rig: Rig) -> None:
    z = torch.tensor([1 + 2j, 3 - 1j]).conj()
    assert rig.values(halfway.to_torch(z, device="cuda")).tolist() == z.tolist()


@pytest.mark.parametrize("device", ["cuda", "cuda:0", (2, 0), torch.device("cuda"), torch.device("cuda", 0)])
def test_the_device_by_any_name(rig: Rig, device: Any) -> None:
    assert halfway.to_torch(np.ones(3), device=device).device == 0
    assert halfway.from_dlpack(np.ones(3), device=device).device == "cuda:0"
    assert halfway.explain(np.ones(3), device=device).device == "cuda:0"


def test_without_an_index_it_is_the_current_device() -> None:
    from tests.python.sim import rig_in_use

    with rig_in_use(devices=2) as rig:
        rig.device.set_device(1)
        assert halfway.to_torch(np.ones(3), device="cuda").device == 1
        assert halfway.to_torch(np.ones(3), device="cuda:0").device == 0
        with pytest.raises(halfway.ExchangeError, match="there is no CUDA device 2") as caught:
            halfway.to_torch(np.ones(3), device="cuda:2")
        assert caught.value.reason == "device"
        rig.device.set_device(0)


def test_out_on_either_side(rig: Rig) -> None:
    x = of("float32", (4, 5))
    out = rig.empty((4, 5), "bfloat16")
    assert halfway.to_torch(x, out=out) is out
    assert bits(rig.values(out)) == bits(halfway.to_numpy(x, "bfloat16"))
    back = np.zeros((4, 10), ">f4")[:, ::2]
    assert halfway.to_numpy(out, out=back) is back
    np.testing.assert_array_equal(back, halfway.to_numpy(x, "bfloat16").astype(np.float32))
    tensor = torch.zeros(4, 5)
    assert halfway.to_torch(out, out=tensor) is tensor
    np.testing.assert_array_equal(tensor.numpy(), back)


def test_outs_that_do_not_fit(rig: Rig) -> None:
    x = np.ones((4, 5), np.float32)
    for out, keywords, reason in [
        (rig.empty((5, 4), "float32"), {}, "out_mismatch"),
        (rig.empty((4, 5), "float32"), {"dtype": "float16"}, "out_mismatch"),
        (rig.empty((4, 5), "float32"), {"device": "cpu"}, "out_mismatch"),
        (rig.empty((4, 5), "float32"), {"device": "cuda:0"}, None),
    ]:
        before = bits(rig.values(out))
        if reason is None:
            halfway.to_torch(x, out=out, **keywords)
            continue
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.to_torch(x, out=out, **keywords)
        assert caught.value.reason == reason
        assert bits(rig.values(out)) == before


def test_what_is_there_already_stays(rig: Rig) -> None:
    there = rig.array(np.arange(4, dtype=np.float32))
    before = rig.device.counters()
    assert halfway.to_torch(there) is there
    assert halfway.to_torch(there, device="cuda") is there
    assert halfway.to_torch(there, "float32", device="cuda:0") is there
    tensor: Any = halfway.from_dlpack(there)
    assert tensor.data_ptr == there.data_ptr
    assert halfway.to_torch(tensor).data_ptr == there.data_ptr
    assert halfway.from_dlpack(tensor, device="cuda") is tensor
    assert rig.device.counters() == before


def test_to_the_host_by_name(rig: Rig) -> None:
    x = of("float32", (3, 4))
    there = rig.array(x)
    arrived = halfway.to_torch(there, device="cpu")
    assert type(arrived) is torch.Tensor
    assert bits(arrived.numpy()) == bits(x)
    tensor = halfway.from_dlpack(there, device="cpu")
    assert tensor.device == "cpu"
    assert tensor.reasons == ("device",)
    assert bits(np.asarray(tensor)) == bits(x)
    assert bits(halfway.cast(there, "float16", device="cpu").numpy()) == bits(halfway.to_numpy(x, "float16"))


def test_copy_false_names_the_device(rig: Rig) -> None:
    for call in (
        lambda: halfway.to_torch(np.ones(3), "float16", device="cuda", copy=False),
        lambda: halfway.to_numpy(rig.array(np.ones(3)), "float16", copy=False),
        lambda: halfway.explain(np.ones(3), "float16", device="cuda", copy=False),
    ):
        with pytest.raises(halfway.ExchangeError) as caught:
            call()
        assert caught.value.reasons == ("dtype", "device")
        assert "cuda:0" in str(caught.value)


def test_numpy_has_no_arrays_on_devices(rig: Rig) -> None:
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.cast(np.ones(3), "float16", device="cuda")
    assert caught.value.reason == "device"
    assert "to_torch" in caught.value.hint


def test_reports_and_checks(rig: Rig) -> None:
    x = np.array([1.0, 70000.0, 1e-9, np.nan])
    for cross in (
        lambda **k: halfway.to_torch(x, "float16", device="cuda", **k),
        lambda **k: halfway.to_numpy(rig.array(x), "float16", **k),
    ):
        report = halfway.Report()
        cross(report=report)
        assert (report.count, report.nan, report.overflow, report.underflow) == (4, 1, 1, 1)
        for keywords in ({"overflow": "raise"}, {"casting": "same_value"}):
            with pytest.raises(halfway.CastError) as caught:
                cross(**keywords)
            assert caught.value.index == (1,)
    out = rig.empty((4,), "float16")
    before = bits(rig.values(out))
    with pytest.raises(halfway.CastError):
        halfway.to_torch(x, out=out, overflow="raise")
    assert bits(rig.values(out)) == before
    with pytest.raises(halfway.CastError) as caught:
        halfway.to_torch(x, "int8", device="cuda")
    assert caught.value.report is None
