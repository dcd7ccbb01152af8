"""Section (g): transfers to and from a GPU; without one, what they would do."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import halfway

from .page import Page

_ROUNDS = 10


def _milliseconds(torch: Any, call: Callable[[], object]) -> float:
    times = []
    call()
    for _ in range(_ROUNDS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)


def _transfers(page: Page, torch: Any, times: bool) -> None:
    page.heading("Transferred, and compared with the cast on the host")
    names: dict[str, Any] = {"halfway": halfway, "torch": torch, "np": np}
    page.run(
        """
        batch = np.random.default_rng(0).normal(size=(4096, 1024)).astype(np.float32)
        there = halfway.to_torch(batch, "bfloat16", device="cuda")
        there.device, there.dtype
        bool((there.cpu() == halfway.to_torch(batch, "bfloat16")).all())
        back = halfway.to_numpy(there, "float32")
        bool((back == halfway.to_numpy(halfway.to_torch(batch, "bfloat16"), "float32")).all())
        pending = halfway.to_numpy(there, "float32", non_blocking=True)
        bool((pending.result() == back).all())
        """,
        names,
    )
    if not times:
        return
    page.heading("Times, in milliseconds")
    batch = names["batch"]
    host = torch.from_numpy(batch)
    there = names["there"]
    ways: list[tuple[str, Callable[[], object]]] = [
        ('t.to("cuda", torch.bfloat16)', lambda: host.to("cuda", torch.bfloat16)),
        ('t.to(torch.bfloat16).to("cuda")', lambda: host.to(torch.bfloat16).to("cuda")),
        ('halfway.to_torch(a, "bfloat16", device="cuda")', lambda: halfway.to_torch(batch, "bfloat16", device="cuda")),
        ("t.float().cpu().numpy()", lambda: there.float().cpu().numpy()),
        ('halfway.to_numpy(t, "float32")', lambda: halfway.to_numpy(there, "float32")),
    ]
    page.table(
        ("float32 <-> bfloat16 (4096, 1024)", "ms"), [(name, f"{_milliseconds(torch, f):.2f}") for name, f in ways]
    )


def show(page: Page, times: bool) -> None:
    """The plans of transfers; where there is a device, the transfers too."""
    torch = importlib.import_module("torch")
    page.text(
        """What is narrowed is narrowed before the wire, what is widened is widened behind it, and neither side gets a
        copy of the array's size. The plan says which side casts, why, and how many bytes cross."""
    )
    names: dict[str, Any] = {"halfway": halfway, "np": np}
    page.run("images = np.zeros((256, 3, 224, 224), np.float32)", names)
    narrowed = halfway.explain(names["images"], "bfloat16", device="cuda")
    widened = halfway.explain(names["images"].astype(np.uint8), "float32", device="cuda")
    page.heading('halfway.explain(images, "bfloat16", device="cuda")')
    _plan(page, narrowed)
    page.heading('halfway.explain(images.astype("uint8"), "float32", device="cuda")')
    _plan(page, widened)
    page.line()
    if narrowed.unavailable:
        page.text(f"Nothing was transferred: {narrowed.unavailable}.")
    else:
        _transfers(page, torch, times)


def _plan(page: Page, plan: halfway.Plan) -> None:
    page.items(
        [
            ("reasons", ", ".join(plan.reasons)),
            *((step.kind, f"{_dtypes(step)}, {step.how}: {step.bytes_written:,} B") for step in plan.steps),
            ("chosen", plan.because),
            ("wire", f"{plan.bytes_wire:,} B"),
            ("figures", plan.machine),
        ]
    )


def _dtypes(step: halfway.Step) -> str:
    return step.dtype if step.source == step.dtype else f"{step.source} -> {step.dtype}"
