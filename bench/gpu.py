"""What bench/transfer.py asks of a device: its clock, its memory, its name.

Behind it is torch's CUDA; tests have a stand-in.

device = gpu.Cuda()
nanoseconds = device.elapsed(lambda: o.copy_(d), 10)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

Call = Callable[[], object]

CYCLES = 2.0  # of a multiprocessor's clock in a nanosecond, at most
MOST_HELD = 100_000_000  # nanoseconds
SAMPLE = 0.0005  # seconds between two looks at a device's free memory


# By either name, of which the second is that of early adopters.
TABLES = ("__dlpack_c_exchange_api__", "__c_dlpack_exchange_api__")


class Device(Protocol):
    """A device as the benchmark sees it. All times are nanoseconds, all sizes bytes."""

    def about(self) -> dict[str, Any]:
        """What it is, as JSON: `gpu` is its name."""

    def synchronize(self) -> None:
        """Return when the device has done all that it was given."""

    def elapsed(self, call: Call, count: int) -> int:
        """How long `count` calls take on the device, one behind the other, however long the host takes to make them."""

    def pinned(self, size: int) -> torch.Tensor:
        """Page-locked memory of the host, as bytes."""

    def empty(self, size: int) -> torch.Tensor:
        """Memory of the device, as bytes."""

    def free(self) -> int:
        """Memory of the device that nobody has."""

    def allocated(self) -> int:
        """Memory that torch's tensors have."""

    def restart_peak(self) -> None:
        """Forget the largest `allocated` so far."""

    def peak(self) -> int:
        """The largest `allocated` since then."""

    def trim(self) -> None:
        """Give back what torch keeps for the next tensor."""

    def on_host(self, result: Any, part: slice) -> torch.Tensor:
        """A copy of some elements of a result, in row-major order, in the host's memory."""


class Cuda:
    """torch's current CUDA device."""

    def about(self) -> dict[str, Any]:
        properties = torch.cuda.get_device_properties(0)
        major, minor = torch.cuda.get_device_capability(0)
        return {
            "gpu": torch.cuda.get_device_name(0),
            "compute_capability": f"{major}.{minor}",
            "multiprocessors": properties.multi_processor_count,
            "gpu_memory": torch.cuda.mem_get_info()[1],
            "cuda_of_torch": torch.version.cuda,
        }

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def elapsed(self, call: Call, count: int) -> int:
        event: Callable[..., Any] = torch.cuda.Event
        begin, end = event(enable_timing=True), event(enable_timing=True)
        torch.cuda.synchronize()
        self._hold_back(call, count)
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        milliseconds: float = begin.elapsed_time(end)
        return round(milliseconds * 1e6)

    def _hold_back(self, call: Call, count: int) -> None:
        """Keep the stream busy while `count` calls are made, so that they begin one behind the other.

        Calls that take the host longer than the device would be timed by the host otherwise.
        """
        few = min(count, 3)
        clock = time.perf_counter_ns()
        for _ in range(few):
            call()
        nanoseconds = (time.perf_counter_ns() - clock) / few * count
        wait: Callable[[int], None] | None = getattr(torch.cuda, "_sleep", None)
        if wait is not None:
            wait(round(min(1.5 * nanoseconds + 50_000, MOST_HELD) * CYCLES))

    def pinned(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def empty(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device="cuda")

    def free(self) -> int:
        free: int = torch.cuda.mem_get_info()[0]
        return free

    def allocated(self) -> int:
        return torch.cuda.memory_allocated()

    def restart_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated()

    def trim(self) -> None:
        torch.cuda.empty_cache()

    def on_host(self, result: Any, part: slice) -> torch.Tensor:
        if isinstance(result, torch.Tensor):
            return result.reshape(-1)[part].cpu()
        return torch.from_numpy(result.ravel()[part].get())  # CuPy's


def missing() -> str | None:
    """Why there is no device to measure; None where there is one."""
    if torch.version.cuda is None:
        return f"looked for a GPU with torch {torch.__version__}, which is built without CUDA"
    if not torch.cuda.is_available():
        return f"looked for a GPU, and torch {torch.__version__} (CUDA {torch.version.cuda}) sees none"
    if not any(hasattr(torch.Tensor, name) for name in TABLES):
        return (
            f"looked for torch's DLPack exchange table, which halfway's results on the device come through, and torch "
            f"{torch.__version__} has none: torch 2.9 is the first that has"
        )
    return None


def peak_of(device: Device, call: Call) -> tuple[Any, dict[str, int]]:
    """A call's result, and the device memory that it takes at most while it runs, the result included.

    `torch` is what torch's tensors take; `device` is what is missing of the device's free memory, sampled while the
    call runs, with all that torch or another library kept for later.
    """
    device.synchronize()
    device.restart_peak()
    before, free = device.allocated(), device.free()
    least = free
    done = threading.Event()

    def watch() -> None:
        nonlocal least
        while not done.wait(SAMPLE):
            least = min(least, device.free())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = call()
        device.synchronize()
    finally:
        done.set()
        watcher.join()
    least = min(least, device.free())
    return result, {"torch": max(device.peak() - before, 0), "device": max(free - least, 0)}


def host_free() -> int:
    """Memory of the host that can be had without swapping; what Linux says, elsewhere a guess of 8 GiB."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 8 << 30
