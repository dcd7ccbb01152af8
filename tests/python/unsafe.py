"""Tensors whose memory is not their value, and what an exchange may make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import halfway
from halfway import CastError, ExchangeError


def values(made: Any) -> Any:
    """The values of whatever an exchange gave, as a NumPy array of float64 or complex128."""
    if isinstance(made, torch.Tensor):
        made = made.resolve_neg().resolve_conj()
        made = made.detach().to(torch.complex128 if made.is_complex() else torch.float64).numpy()
    elif isinstance(made, halfway.Tensor):
        return values(halfway.to_torch(made, copy=True))
    return np.asarray(made).astype(np.complex128 if np.iscomplexobj(made) else np.float64)


def out_of(tensor: torch.Tensor, function: Callable[..., Any], make: Callable[..., Any]) -> Any:
    try:
        shape = tuple(int(dim) for dim in tensor.shape)
    except Exception:  # nested and uninitialised tensors have none
        shape = (3,)
    return function(tensor, out=make(shape))


# Everything that may read a tensor's memory.
READERS: dict[str, Callable[[Any], Any]] = {
    "to_numpy": halfway.to_numpy,
    "to_numpy copy": lambda x: halfway.to_numpy(x, copy=True),
    "to_numpy never": lambda x: halfway.to_numpy(x, copy=False),
    "to_numpy locked": lambda x: halfway.to_numpy(x, lock_storage=True),
    "to_numpy float64": lambda x: halfway.to_numpy(x, "float64"),
    "to_numpy complex128": lambda x: halfway.to_numpy(x, "complex128", casting="unsafe"),
    "to_numpy out": lambda x: out_of(x, halfway.to_numpy, lambda s: np.zeros(s, np.complex128)),
    "to_torch copy": lambda x: halfway.to_torch(x, copy=True),
    "to_torch float64": lambda x: halfway.to_torch(x, torch.float64),
    "to_torch out": lambda x: out_of(x, halfway.to_torch, lambda s: torch.zeros(s, dtype=torch.complex128)),
    "cast": lambda x: halfway.cast(x, "float64"),
    "cast complex": lambda x: halfway.cast(x, "complex128"),
    "from_dlpack": halfway.from_dlpack,
    "from_dlpack copy": lambda x: halfway.from_dlpack(x, copy=True),
    "from_dlpack never": lambda x: halfway.from_dlpack(x, copy=False),
}


def attempt(function: Callable[..., Any], *args: Any) -> tuple[Any, ExchangeError | None]:
    """What a function returns, or why it refuses."""
    try:
        return function(*args), None
    except ExchangeError as error:
        return None, error
    except CastError:
        return None, None


def check(tensor: Any, expected: Any) -> set[str]:
    """Every reader gives `expected` or refuses. Returns the reasons of those that refused."""
    reasons: set[str] = set()
    for name, read in READERS.items():
        made, error = attempt(read, tensor)
        if error is not None:
            reasons.update(error.reasons)
            assert "Exception raised from" not in str(error)
        if made is None:
            continue  # refused, or complex to real without casting="unsafe"
        assert expected is not None, name
        assert made is tensor or not isinstance(made, torch.Tensor) or not made.is_conj()
        assert made is tensor or not isinstance(made, torch.Tensor) or not made.is_neg()
        found = values(made)
        assert found.shape == np.shape(expected), name
        np.testing.assert_array_equal(found, expected, name)
    return reasons


def refused(tensor: Any) -> set[str]:
    """Every reader refuses."""
    return check(tensor, None)


def reals() -> torch.Tensor:
    return torch.tensor([[1.5, -2.0, 0.25], [0.0, 3.0, -7.5]])


def complexes() -> torch.Tensor:
    return torch.tensor([[1 + 2j, 3 - 4j, -5j], [0.5 + 0j, -1 - 1j, 2j]])


class FunctionOnly(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})
