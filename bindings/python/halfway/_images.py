"""Batches of images, normalised on their way to the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, TypeAlias

import numpy as np

from ._core import Cast, Report, from_dlpack, to_numpy, to_torch

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ._core import _DType, _Source

__all__ = ["images"]

_Channels: TypeAlias = "SupportsFloat | Sequence[SupportsFloat] | NDArray[Any] | torch.Tensor"


@functools.lru_cache(maxsize=64)
def _parse_layout(layout: str) -> tuple[str, str]:
    """The axes before and after, e.g. ("NHWC", "NCHW"); equal where the layout has no arrow."""
    before, arrow, after = layout.partition("->")
    before, after = before.strip(), after.strip() if arrow else before.strip()
    if "C" not in before or len(set(before)) != len(before) or sorted(before) != sorted(after):
        case = "; letters are upper-case" if layout != layout.upper() else ""
        raise ValueError(
            f"layout={layout!r} is not two orders of the same axes, one of them C, such as 'NHWC->NCHW'{case}"
        )
    return before, after


def _per_channel(values: _Channels, name: str, channels: int) -> NDArray[np.float64]:
    # an array of any library, in any floating-point mode, or what NumPy makes one of
    given: Any = values
    array = to_numpy(given, np.float64) if hasattr(given, "dtype") else np.asarray(given, dtype=np.float64)
    if array.ndim > 1 or array.size not in (1, channels):
        raise ValueError(f"{name} has shape {array.shape}, but the images have {channels} channels")
    return array


def _fits_float32(values: NDArray[np.float64]) -> bool:
    return bool((np.abs(values) < float.fromhex("0x1.ffffffp127")).all())  # what rounds to infinity


# NumPy's small arrays cost several times what the cast's call does, and pipelines normalise by the same numbers again
# and again. By their bytes: numbers that are equal need not be the same (zeros of either sign), and arrays may change.
@functools.lru_cache(maxsize=64, typed=True)
def _recipe(
    mean: bytes,
    std: bytes,
    channels: int,
    before: str,
    after: str,
    dtype: _DType,
    overflow: Literal["default", "saturate", "raise"],
    rounding: Literal["nearest", "stochastic"],
    seed: int | None,
) -> Cast:
    means = np.broadcast_to(np.frombuffer(mean), (channels,))
    deviations = np.broadcast_to(np.frombuffer(std), (channels,))
    if not (np.isfinite(means).all() and np.isfinite(deviations).all() and (deviations != 0).all()):
        raise ValueError("mean and std must be finite, and std not zero")
    with np.errstate(all="ignore"):
        scale = 1.0 / (255.0 * deviations)
        shift = -means / deviations
    if not (_fits_float32(scale) and _fits_float32(shift)):
        raise ValueError(
            "std is too small: 1 / (255 * std) and mean / std have to be numbers of float32, in which uint8 is computed"
        )
    return Cast(
        dtype,
        overflow=overflow,
        rounding=rounding,
        seed=seed,
        scale=scale,
        shift=shift,
        axis=before.index("C"),
        permute=[before.index(letter) for letter in after] if before != after else None,
    )


def images(
    batch: _Source,
    mean: _Channels,
    std: _Channels,
    dtype: _DType = "bfloat16",
    *,
    layout: str = "NHWC->NCHW",
    out: torch.Tensor | None = None,
    report: Report | None = None,
    overflow: Literal["default", "saturate", "raise"] = "default",
    rounding: Literal["nearest", "stochastic"] = "nearest",
    seed: int | None = None,
) -> torch.Tensor:
    """Bytes of images to normalised floats in the order that the model wants, in one pass.

    Each value becomes (byte / 255 - mean) / std of its channel, as byte * scale + shift with scale = 1 / (255 * std)
    and shift = -mean / std formed in double.

    Args:
        batch: uint8 pixels: a NumPy array, a torch tensor or anything else that to_torch takes; any strides.
        mean: one number for each channel, or one for all, in units of the full range (0 to 1).
        std: likewise.
        dtype: of the result.
        layout: the batch's axes, ``->``, the result's; a letter an axis, C the channels. Without an arrow the order
            stays. A first N may be absent from the batch, which then is a single image.
        out: a torch tensor of the result's shape to write into; it is returned.
        report: as in to_torch.
        overflow: as in Cast.
        rounding: as in Cast.
        seed: as in Cast.

    Returns:
        torch.Tensor: row-major in the layout's second order.

    Raises:
        TypeError: the batch is not of uint8.
        ValueError: the layout does not fit, mean or std do not fit the channels, a std is zero or so small that a
            quotient exceeds float32.
        ExchangeError, CastError: as to_torch.

    Example:
        >>> import numpy as np, halfway
        >>> photos = np.full((2, 4, 4, 3), 255, dtype=np.uint8)
        >>> batch = halfway.images(photos, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25))
        >>> batch.shape
        torch.Size([2, 3, 4, 4])
        >>> batch[0, :, 0, 0]
        tensor([1., 1., 2.], dtype=torch.bfloat16)
    """
    before, after = _parse_layout(layout)
    source = batch if hasattr(batch, "shape") and hasattr(batch, "dtype") else from_dlpack(batch)
    shape = tuple(source.shape)
    name = str(source.dtype).removeprefix("torch.")
    if name != "uint8":
        raise TypeError(
            f"images() takes uint8 pixels, not {name}: for others there are scale= and shift= of to_torch()"
        )
    if len(shape) == len(before) - 1 and before[0] == "N" and after[0] == "N":
        before, after = before[1:], after[1:]
    if len(shape) != len(before):
        raise ValueError(f"layout={layout!r} does not fit a batch of shape {shape}")
    channels = shape[before.index("C")]
    numbers = _per_channel(mean, "mean", channels).tobytes(), _per_channel(std, "std", channels).tobytes()
    choices = dtype, overflow, rounding, seed
    make: Callable[..., Cast] = _recipe
    try:
        hash(choices)
    except TypeError:  # which Cast words better
        make = _recipe.__wrapped__
    return to_torch(source, make(*numbers, channels, before, after, *choices), out=out, report=report)
