"""A device for the GPU benchmark where there is none: torch's part on the host, ours on the simulated device."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from bench import gpu
from tests.python.sim import Rig, rig_in_use

import halfway
from halfway import _calibration

GIB = 1 << 30
ROOT = Path(__file__).resolve().parents[2]


class StandIn:
    """What `gpu.Cuda` does, on the host. Arrays of the simulated device are fetched from there."""

    def __init__(self, rig: Rig, free: int = 80 * GIB) -> None:
        self.rig = rig
        self.free_bytes = free
        self.taken = [0]  # what `allocated` answers, the last one for good
        self.locked: list[torch.Tensor] = []

    def about(self) -> dict[str, Any]:
        answers = {"multiprocessors": 1, "gpu_memory": self.free_bytes, "cuda_of_torch": "0.0"}
        return {"gpu": "NVIDIA Stand-In (R) 80GB", "compute_capability": "0.0", **answers}

    def synchronize(self) -> None:
        self.rig.check()

    def elapsed(self, call: gpu.Call, count: int) -> int:
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        return max(time.perf_counter_ns() - start, 1)

    def pinned(self, size: int) -> torch.Tensor:
        memory = torch.empty(size, dtype=torch.uint8)
        self.rig.device.pin(memory.data_ptr(), size)
        self.locked.append(memory)  # whose place must not be another's as long as it is locked
        return memory

    def empty(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def free(self) -> int:
        return self.free_bytes

    def allocated(self) -> int:
        return 0

    def restart_peak(self) -> None:
        pass

    def peak(self) -> int:
        return self.taken[0]

    def trim(self) -> None:
        pass

    def on_host(self, result: Any, part: slice) -> torch.Tensor:
        if not isinstance(result, torch.Tensor):
            result = halfway.to_torch(np.ascontiguousarray(self.rig.values(result)))
        flat: torch.Tensor = result.reshape(-1)[part].clone()
        return flat


def _on_the_host(value: object) -> object:
    return "cpu" if value == "cuda" else value


@contextmanager
def standing_in(**options: Any) -> Iterator[StandIn]:
    """torch's "cuda" is the host's memory, halfway's is the simulated device."""
    to, pin = torch.Tensor.to, torch.Tensor.clone

    def to_host(self: torch.Tensor, *args: Any, **keywords: Any) -> torch.Tensor:
        return to(self, *map(_on_the_host, args), **{name: _on_the_host(value) for name, value in keywords.items()})

    with (
        rig_in_use(memory=1 << 26) as rig,
        mock.patch.object(torch.Tensor, "to", to_host),
        mock.patch.object(torch.Tensor, "pin_memory", pin),
        mock.patch.object(_calibration, "_BYTES", 1 << 16),
    ):
        device = StandIn(rig, **options)
        try:
            yield device
        finally:
            for memory in device.locked:
                rig.device.unpin(memory.data_ptr())


def is_spread(entry: dict[str, float]) -> bool:
    values = [entry["q1"], entry["median"], entry["q3"]]
    return all(math.isfinite(value) and value > 0 for value in values) and values == sorted(values)
