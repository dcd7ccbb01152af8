"""Transfers on a real GPU, with torch: skipped where there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import halfway

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

NAMES = [row.name for row in halfway.dtypes() if row.castable and row.torch and row.numpy]
LARGE = 3_000_000  # elements: several slots


def of(dtype: str, count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(seed)
    if dtype == "bool":
        return generator.integers(0, 2, count).astype(bool)
    item = halfway.to_numpy(np.zeros(1), dtype, casting="unsafe").dtype
    return np.frombuffer(generator.bytes(count * item.itemsize), item).copy()


def same(a: Any, b: Any) -> bool:
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def on_host(tensor: Any) -> np.ndarray[Any, Any]:
    """By torch's own way."""
    return halfway.to_numpy(tensor.cpu())


@pytest.fixture(autouse=True)
def no_kept_figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HALFWAY_CALIBRATION", "0")
    yield
    torch.cuda.synchronize()


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("pinned", [False, True], ids=["pageable", "pinned"])
def test_every_pair_as_the_host_casts_it(source: str, pinned: bool) -> None:
    x = of(source, 1 << 17)
    given = torch.empty(x.size, dtype=getattr(torch, source), pin_memory=True) if pinned else None
    if given is not None:
        halfway.to_torch(x, out=given)
    there = halfway.to_torch(x, device="cuda")
    assert same(on_host(there), x)
    for target in NAMES:
        expected = halfway.to_numpy(x, target, casting="unsafe")
        sent = halfway.to_torch(x if given is None else given, target, device="cuda", casting="unsafe")
        assert same(on_host(sent), expected), target
        assert same(halfway.to_numpy(there, target, casting="unsafe"), expected), target


@pytest.mark.parametrize("bits", [8, 16])
def test_every_pattern_of_narrow_dtypes(bits: int) -> None:
    for row in halfway.dtypes():
        if row.bits == bits and row.name in NAMES and row.name != "bool":
            item = halfway.to_numpy(np.zeros(1), row.name, casting="unsafe").dtype
            x = np.arange(1 << bits, dtype=f"u{bits // 8}").view(item)
            for target in ("float32", "float64", "bfloat16", "float16"):
                expected = halfway.to_numpy(x, target, casting="unsafe")
                assert same(on_host(halfway.to_torch(x, target, device="cuda", casting="unsafe")), expected), row.name
                there = halfway.to_torch(x, device="cuda")
                assert same(halfway.to_numpy(there, target, casting="unsafe"), expected), row.name


def test_layouts() -> None:
    x = of("float32", 600 * 700).reshape(600, 700)
    for view in (x.T, x[::-1, ::3], x.astype(">f4"), np.broadcast_to(x[:, :1], x.shape), x[:0], x[0, 0]):
        assert same(on_host(halfway.to_torch(view, "bfloat16", device="cuda")), halfway.to_numpy(view, "bfloat16"))
    there = halfway.to_torch(x, device="cuda")
    out = np.zeros((600, 1400), ">f8")[:, ::2]
    assert halfway.to_numpy(there, out=out) is out
    np.testing.assert_array_equal(out, x)
    permuted = halfway.to_numpy(there, "float16", permute=(1, 0))
    assert same(permuted, halfway.to_numpy(x, "float16", permute=(1, 0)))


def test_a_transfer_is_in_the_order_of_torchs_stream() -> None:
    """A slow kernel before it, work on its result behind it, all without waiting, on a stream of our own."""
    x = of("float32", LARGE)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        there = torch.zeros(LARGE, device="cuda")
        torch.cuda._sleep(50_000_000)
        there += 1
        back = halfway.to_numpy(there)
        assert (back == 1).all()
        torch.cuda._sleep(50_000_000)
        halfway.to_torch(x, out=there, non_blocking=True)
        doubled = there * 2
    stream.synchronize()
    assert same(on_host(doubled), on_host(torch.from_numpy(x).cuda() * 2))


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float64"])
def test_pinned_sources_are_kept_until_they_are_read(dtype: str | None) -> None:
    x = of("float32", LARGE)
    given = torch.from_numpy(x).pin_memory()  # before the sleep: pinning memory may wait for the device
    torch.cuda._sleep(100_000_000)
    sent = halfway.to_torch(given, dtype, device="cuda", non_blocking=True)
    del given
    gc.collect()
    other = torch.full((LARGE,), -1.0).pin_memory()  # torch would hand out the same memory again
    assert same(on_host(sent), halfway.to_numpy(x, dtype))
    del other


def test_pin() -> None:
    x = of("float32", LARGE)
    with halfway.pin(x):
        assert len([s for s in halfway.explain(x, device="cuda").steps if s.kind == "ship"]) == 1
        sent = halfway.to_torch(x, device="cuda", non_blocking=True)
        with pytest.raises(halfway.ExchangeError) as caught, halfway.pin(x):
            pass
        assert caught.value.reason == "overlap"
    expected = x.copy()
    x[:] = -1
    assert same(on_host(sent), expected)


def test_pending() -> None:
    x = of("float32", LARGE)
    there = halfway.to_torch(x, device="cuda")
    torch.cuda._sleep(100_000_000)
    pending = halfway.to_numpy(there, "bfloat16", non_blocking=True)
    del there
    assert same(pending.result(), halfway.to_numpy(x, "bfloat16"))
    assert pending.ready()
    halfway.to_numpy(torch.ones(LARGE, device="cuda"), non_blocking=True)  # dropped


def test_a_tensor_of_ours_and_back() -> None:
    x = of("float16", LARGE)
    tensor = halfway.from_dlpack(x, device="cuda")
    assert tensor.device == "cuda:0"
    assert same(on_host(torch.from_dlpack(tensor)), x)
    assert halfway.to_torch(tensor).data_ptr() == tensor.data_ptr
    there = torch.from_numpy(x).cuda()
    assert halfway.from_dlpack(there).data_ptr == there.data_ptr()
    assert halfway.to_torch(there) is there
    assert halfway.to_torch(there, device=there.device) is there


def test_a_batch() -> None:
    samples = [of("float32", 5000, seed) for seed in range(32)]
    batch = halfway.collate(samples, "bfloat16", device="cuda")
    assert same(on_host(batch), halfway.collate(samples, "bfloat16", to="numpy"))


def test_nothing_of_the_arrays_size_is_taken_on_the_device() -> None:
    """Beside the result: two chunks."""
    x = of("float32", 1 << 24)
    halfway.to_torch(x[:10], device="cuda")
    torch.cuda.synchronize()
    free = torch.cuda.mem_get_info()[0]
    sent = halfway.to_torch(x, "float64", device="cuda")
    taken = free - torch.cuda.mem_get_info()[0]
    assert taken <= sent.nbytes + (20 << 20)  # x.nbytes is 64 MiB


def test_while_a_graph_is_captured() -> None:
    x = torch.ones(10).pin_memory()
    graph = torch.cuda.CUDAGraph()
    there = torch.zeros(10, device="cuda")
    with torch.cuda.graph(graph):
        there += 1
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.to_torch(x, out=there)
        there += 1
    assert caught.value.reason == "capturing"
    graph.replay()
    assert on_host(there).tolist() == [2] * 10


def test_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFWAY_CALIBRATION", str(tmp_path / "figures.json"))
    figures = halfway.calibrate()
    assert 1e8 < figures["wire_to_device"] < 1e12
    assert 1e8 < figures["wire_to_host"] < 1e12
    assert (tmp_path / "figures.json").exists()
    assert halfway.explain(np.ones(10), device="cuda").machine == f"measured {figures['measured']}"
