"""The benchmark's door to torch's CUDA: without a GPU, what it asks of torch, and in which order."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from bench import gpu, transfer


def test_what_is_asked_of_torch_exists():
    """Without a GPU no call can be made; names and parameters can be looked at."""
    source = inspect.getsource(gpu.Cuda)
    for name in ("synchronize", "mem_get_info", "memory_allocated", "max_memory_allocated", "reset_peak_memory_stats"):
        assert f"torch.cuda.{name}" in source
        inspect.signature(getattr(torch.cuda, name)).bind()
    for name in ("get_device_properties", "get_device_name", "get_device_capability"):
        inspect.signature(getattr(torch.cuda, name)).bind(0)
    inspect.signature(torch.cuda.empty_cache).bind()
    assert {"record", "synchronize", "elapsed_time"} <= set(dir(torch.cuda.Event))


def test_the_door_passes_everything_on(monkeypatch):
    calls = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            calls.append("record")

        def synchronize(self) -> None:
            calls.append("wait")

        def elapsed_time(self, end: Any) -> float:
            assert isinstance(end, Event)
            return 1.5  # milliseconds

    answers: dict[str, Any] = {
        "synchronize": None,
        "Event": Event,
        "mem_get_info": (3, 80 << 30),
        "memory_allocated": 7,
        "max_memory_allocated": 11,
        "reset_peak_memory_stats": None,
        "empty_cache": None,
        "get_device_name": "NVIDIA H100 80GB HBM3",
        "get_device_capability": (9, 0),
        "get_device_properties": argparse.Namespace(multi_processor_count=132),
    }
    for name, value in answers.items():
        given = value if name == "Event" else lambda *_, value=value: value
        monkeypatch.setattr(torch.cuda, name, given)
    monkeypatch.setattr(torch, "empty", lambda size, **options: (size, options))
    device = gpu.Cuda()
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: calls.append("hold"), raising=False)
    assert device.elapsed(lambda: calls.append("call"), 2) == 1_500_000
    # The stream is kept busy for as long as the calls take that are timed by the host before.
    assert calls == ["call", "call", "hold", "record", "call", "call", "record", "wait"]
    monkeypatch.delattr(torch.cuda, "_sleep", raising=False)
    assert device.elapsed(lambda: calls.append("call"), 2) == 1_500_000
    device.synchronize()
    device.restart_peak()
    device.trim()
    assert (device.free(), device.allocated(), device.peak()) == (3, 7, 11)
    assert device.pinned(5) == (5, {"dtype": torch.uint8, "pin_memory": True})
    assert device.empty(5) == (5, {"dtype": torch.uint8, "device": "cuda"})
    about = device.about()
    assert (about["gpu"], about["compute_capability"], about["gpu_memory"]) == (
        "NVIDIA H100 80GB HBM3",
        "9.0",
        80 << 30,
    )
    assert device.on_host(torch.arange(6.0).reshape(2, 3), slice(4, 6)).tolist() == [4, 5]
    name = {"benchmark": "transfer", "machine": about, "date": "2026-01-02"}
    assert transfer.file_name(name) == "nvidia-h100-80gb-hbm3-2026-01-02.json"
    assert transfer.file_name(name | {"benchmark": "transfer-tuning"}).startswith("tuning-nvidia-h100")


def test_a_torch_without_an_exchange_table_is_refused_in_a_sentence(monkeypatch):
    class Tensor:
        pass

    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu.missing() is None
    monkeypatch.setattr(gpu.torch, "Tensor", Tensor)
    why = gpu.missing()
    assert why is not None
    assert "exchange table" in why
    assert f"torch {torch.__version__} has none" in why
    for name in gpu.TABLES:
        monkeypatch.setattr(Tensor, name, None, raising=False)
        assert gpu.missing() is None
        monkeypatch.delattr(Tensor, name)
