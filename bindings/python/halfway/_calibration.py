"""What the planner of transfers knows of this machine: measured once, kept in a file."""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._core import _calibrate, _device_index

if TYPE_CHECKING:
    from ._core import _Device

__all__ = ["calibrate", "load"]

_RATES = ("wire_to_device", "wire_to_host", "host_cast", "host_memory")
_SHARES = ("mapped_read", "mapped_write")
_BYTES = 64 << 20


def _file(device: str) -> Path | None:
    """Where the figures of a device are kept; None if HALFWAY_CALIBRATION=0 says nowhere."""
    chosen = os.environ.get("HALFWAY_CALIBRATION", "")
    if chosen:
        return None if chosen == "0" else Path(chosen)
    import platform  # here and below: not for everybody who imports halfway

    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{platform.node()}-{device}").strip("-").lower()
    return Path(cache) / "halfway" / f"{name}.json"


def load(device: str) -> dict[str, Any] | None:
    """What was measured for a device of that name; None where there is nothing, or nothing that makes sense."""
    import json

    try:
        file = _file(device)
        figures = json.loads(file.read_text()) if file is not None else None
        if not isinstance(figures, dict) or figures.get("device") != device:
            return None
        found: dict[str, Any] = {name: float(figures[name]) for name in (*_RATES, *_SHARES)}
        if not all(math.isfinite(value) and value > 0 for value in found.values()):
            return None
        if any(found[name] > 1 for name in _SHARES) or not re.fullmatch(r"\d{4}-\d\d-\d\d", figures["measured"]):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {**found, "measured": figures["measured"]}


def _save(device: str, figures: dict[str, Any]) -> Path | None:
    """Replaces the file at once, so that no reader sees half of it; None where it cannot be written."""
    import json
    import tempfile

    file = _file(device)
    if file is None:
        return None
    written: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=file.name, delete=False) as stream:
            written = stream.name
            json.dump({"device": device, **figures}, stream, indent=1)
        os.replace(written, file)
    except OSError:
        if written is not None:
            with contextlib.suppress(OSError):
                os.unlink(written)
        return None
    return file


def calibrate(device: _Device = "cuda") -> dict[str, Any]:
    """Measures what transfers are planned from: how fast the wire is, and how fast this machine casts.

    Best on an idle machine; takes 64 MiB of page-locked and of device memory and 256 MiB of the host's meanwhile. The
    figures hold for this process from now on, and later processes read them from a file when they first use a device:
    one for each machine and kind of device in ``$XDG_CACHE_HOME/halfway`` (``~/.cache/halfway``).
    ``HALFWAY_CALIBRATION=path`` names another file, ``HALFWAY_CALIBRATION=0`` none. Without a file, or with one that
    makes no sense, plans are made of assumed figures, and say so. Nothing else ever measures. One process plans by
    the figures of one device, the one that it used first or measured last.

    Args:
        device: a CUDA device, as in to_torch.

    Returns:
        dict: ``wire_to_device``, ``wire_to_host`` (bytes a second, copy engines), ``mapped_read``, ``mapped_write``
        (the shares of it that kernels reach), ``host_cast`` (source bytes a second that a core casts), ``host_memory``
        (that all cores cast out of memory into page-locked slots), ``measured`` (the date), ``device`` (its name) and
        ``file`` (where they are kept, or None).

    Raises:
        ExchangeError: ``unavailable`` without a CUDA device, ``device`` for one that is none.

    Example:
        >>> import halfway
        >>> def set_up() -> None:           # once, on a machine with a GPU
        ...     figures = halfway.calibrate()
        ...     print(figures["wire_to_device"] / 1e9, "GB/s, kept in", figures["file"])
    """
    name, figures = _calibrate(_device_index(device), _BYTES)
    file = _save(name, figures)
    return {**figures, "device": name, "file": None if file is None else str(file)}
