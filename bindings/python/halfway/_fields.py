"""Structured arrays, field by field."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._core import Tensor, from_dlpack
from ._errors import ExchangeError

__all__ = ["fields"]


def fields(structured: np.ndarray[Any, Any], /) -> dict[str, Tensor]:
    """Each field of a structured array as a tensor.

    A field is a strided view of the array's memory where its stride is a whole number of elements
    and its bytes are in the machine's order; else it is copied, and the tensor's ``reasons`` say
    why (``fractional_strides``, ``byte_order``). Fields with a subarray shape get its dimensions at the end.

    Args:
        structured: an array with named fields, of any shape.

    Returns:
        dict: field name to halfway.Tensor, in the order of the fields.

    Raises:
        TypeError: not a NumPy array.
        ExchangeError: ``unsupported_dtype`` for an array without fields or a field that cannot be
            exchanged, ``nested`` for a field that is itself structured. The message names the field.

    Example:
        >>> import numpy as np, halfway
        >>> records = np.array([(1, 2.0), (3, 4.0)], dtype=[("label", "i8"), ("x", "f8")])
        >>> parts = halfway.fields(records)
        >>> parts["x"]
        halfway.Tensor(shape=(2,), dtype=float64)
        >>> halfway.to_torch(parts["label"])
        tensor([1, 3])
    """
    if not isinstance(structured, np.ndarray):
        raise TypeError(f"fields() takes a structured NumPy array, not {type(structured).__name__}")
    names = structured.dtype.names
    if names is None:
        raise ExchangeError(
            f"an array of {structured.dtype} has no fields",
            ("unsupported_dtype",),
            "exchange it as it is with to_torch, to_numpy or from_dlpack",
        )
    parts: dict[str, Tensor] = {}
    for name in names:
        field = structured[name]
        if field.dtype.names is not None:
            raise ExchangeError(
                f"field {name!r} is itself structured",
                ("nested",),
                f"take it apart on its own: halfway.fields(x[{name!r}])",
            )
        try:
            parts[name] = from_dlpack(field)
        except ExchangeError as error:
            raise ExchangeError(f"field {name!r}: {error.args[0]}", error.reasons, error.hint) from None
    return parts
