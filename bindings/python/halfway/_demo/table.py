"""Section (a): the dtypes of both libraries, each exchange tried."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import halfway

from .page import Page

SAME = "same memory"
CAST = "needs a cast"
NONE = "no such dtype"


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data_ptr())


def _outcome(exchange: Callable[[Any], Any], source: Any) -> str:
    try:
        result = exchange(source)
    except halfway.ExchangeError as error:
        return CAST if error.reason == "unsupported_dtype" else error.reason
    except Exception as error:
        return type(error).__name__
    return SAME if _address(result) == _address(source) else "a copy"


def _numpy_array(row: halfway.DTypeRow) -> Any:
    if row.numpy is None:
        return None
    if row.numpy.startswith("ml_dtypes."):
        scalar = getattr(importlib.import_module("ml_dtypes"), row.name, None)
        return None if scalar is None else np.zeros(2, scalar)
    return np.zeros(2, row.numpy)


def _torch_tensor(torch: Any, row: halfway.DTypeRow) -> Any:
    dtype = getattr(torch, row.name, None)
    return None if dtype is None else torch.empty(2, dtype=dtype)


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def _row(torch: Any, row: halfway.DTypeRow) -> list[str]:
    array = _numpy_array(row)
    tensor = _torch_tensor(torch, row)
    attempts: list[tuple[Callable[[Any], Any], Any]] = [
        (torch.from_numpy, array),
        (halfway.to_torch, array),
        (lambda source: source.numpy(), tensor),
        (halfway.to_numpy, tensor),
    ]
    return [row.name, *(NONE if x is None else _outcome(exchange, x) for exchange, x in attempts)]


def show(page: Page, times: bool) -> None:
    """Try every dtype that has values in all four directions and say what became of it."""
    rows = halfway.dtypes()
    page.text(
        """Asked: an array of each dtype in the other library, without saying anything else. Each
        cell was tried just now; "same memory" means that the addresses are equal."""
    )
    page.line()
    torch = _torch()
    if torch is None:
        page.table(
            ("dtype", "NumPy", "torch"),
            [(row.name, row.numpy or NONE, row.torch or NONE) for row in rows if row.castable],
        )
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls complex32 experimental
            page.table(
                (
                    "dtype",
                    "torch.from_numpy",
                    "halfway.to_torch",
                    "Tensor.numpy",
                    "halfway.to_numpy",
                ),
                [_row(torch, row) for row in rows if row.castable],
            )
    page.line()
    page.text(
        f""""{NONE}": the library it comes from has none. "{CAST}": the library it goes to has none;
        say which dtype you want, as in halfway.to_torch(x, "float32"). bfloat16 and the float8
        formats live in NumPy as dtypes of the package ml_dtypes."""
    )
    page.heading("Refused by name, with the way out (also the hint of the error)")
    page.items((row.name, row.note) for row in rows if row.kind == "refused")
