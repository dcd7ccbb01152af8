"""What a row of the one-pass benchmark is made of: its data, the statements over them, and what a right result is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
import torch
from bench import by_hand, floor, onepass_idioms
from bench.cast_rows import MI, Pair, data_of
from bench.harness import Contender

import halfway

Mode = Literal["out", "fresh"]
Names = dict[str, Any]
Check = Callable[[Any], None]  # of what a statement gave; raises AssertionError for a wrong result

BF16_ULP = torch.finfo(torch.bfloat16).eps  # of 1; half of it is the most that one rounding changes, relatively


@dataclass(frozen=True)
class Data:
    """What the statements of a row use. `o` among the names is the destination, a torch tensor.

    Where results are trees, and always fresh, `o` is as much memory as all their leaves together.
    """

    names: Names
    read: int  # bytes of the cache lines that hold the source's elements: memory moves whole lines
    check: Check
    source: np.ndarray  # memory for the floor to read, at least `read` bytes
    hand: by_hand.Images | None = None

    @property
    def written(self) -> int:
        destination: torch.Tensor = self.names["o"]
        return destination.nbytes


@dataclass(frozen=True)
class Case:
    """A row.

    `usual` is the chain of calls that is found in most programs, where that is not among the best idioms; `foreach`
    are those rivals that a target is about, however slow they are.
    """

    name: str
    mode: Mode
    make: Callable[[bool], Data]
    ours: tuple[str, ...]
    rivals: tuple[str, ...]
    usual: tuple[str, ...] = ()
    foreach: tuple[str, ...] = ()

    def contenders(self, data: Data) -> list[Contender]:
        hand = [Contender(by_hand.name_of(variant), "hand") for variant in floor.VARIANTS if data.hand]
        return [
            *(Contender(statement, "ours") for statement in self.ours),
            *(Contender(statement, "rival", named=statement in self.foreach) for statement in self.rivals),
            *(Contender(statement, "usual") for statement in self.usual),
            *hand,
            *(Contender(variant.name, "floor") for variant in floor.VARIANTS),
        ]


# --- what a right result is


def near(wanted: torch.Tensor, relative: float, absolute: float = 0.0, dtype: torch.dtype | None = None) -> Check:
    """Within the roundings that a contender makes, one or several; `wanted` is exact, or nearly.

    `dtype` is the result's, where that is not given by a destination.
    """

    def check(result: Any) -> None:
        found: torch.Tensor = halfway.to_torch(result)
        if found.shape != wanted.shape:
            raise AssertionError(f"the shape is {tuple(found.shape)}, not {tuple(wanted.shape)}")
        if dtype not in (None, found.dtype):
            raise AssertionError(f"the dtype is {found.dtype}, not {dtype}")
        for at in range(0, wanted.numel(), MI):
            exact = wanted.view(-1)[at : at + MI].double()
            some = found.reshape(-1)[at : at + MI].double()
            error = (some - exact).abs() - exact.abs() * relative - absolute
            if not bool((error <= 0).all()):
                raise AssertionError(f"off by {float(error.max()):g} more than roundings explain")

    return check


def neighbours(wanted: torch.Tensor) -> Check:
    """Stochastic rounding: one of the two neighbours, and no bias."""
    close = near(wanted, BF16_ULP)

    def check(found: torch.Tensor) -> None:
        close(found)
        error = (found.double() - wanted.double()) / wanted.double().abs()
        bias, spread = float(error.mean()), float(error.std()) / error.numel() ** 0.5
        if abs(bias) > 6 * spread:
            raise AssertionError(f"the mean error is {bias:g}, of which chance explains {spread:g}")
        if spread == 0:
            raise AssertionError("nothing was rounded")

    return check


def leaves(checks: Mapping[str, Check]) -> Check:
    """A dict of results, each of which is right."""

    def check(found: Any) -> None:
        if not isinstance(found, dict) or found.keys() != checks.keys():
            raise AssertionError(f"no dict of {', '.join(checks)}: {found}")
        for name, of_leaf in checks.items():
            if not isinstance(found[name], torch.Tensor):
                raise AssertionError(f"{name}: no tensor")
            try:
                of_leaf(found[name])
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None

    return check


# --- names for statements


def names_with(**names: Any) -> Names:
    """Those given, the libraries, and all idioms."""
    idioms = {name: value for name, value in vars(onepass_idioms).items() if callable(value)}
    libraries = {"halfway": halfway, "np": np, "torch": torch, "ml_dtypes": ml_dtypes}
    return {**idioms, **libraries, "default_collate": torch.utils.data.default_collate, **names}


def names_of(o: torch.Tensor) -> Names:
    """The destination: `o` in torch, `b` in NumPy, and the dtype in both."""
    b = halfway.to_numpy(o)
    return {"o": o, "b": b, "dtype": o.dtype, "kind": b.dtype}


def normal(dtype: str, elements: int) -> torch.Tensor:
    """N(0, 1), a million values and their repetitions."""
    return data_of(Pair(dtype, "bfloat16"), elements).t
