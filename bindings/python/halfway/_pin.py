"""Memory that is page-locked where it is."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ._core import _register_pinned, _unregister_pinned

if TYPE_CHECKING:
    from ._core import _Source

__all__ = ["pin"]

_Array = TypeVar("_Array", bound="_Source")


class pin(Generic[_Array]):
    """Page-locks an array's memory in place while a ``with`` block runs.

    Devices read page-locked memory themselves: transfers from it pass through no other memory, and with
    ``non_blocking=True`` they return before it has been read. Locking costs far more than one copy. It is worth its
    while for memory that is transferred many times.

    Args:
        array: a NumPy array, a torch tensor on the host or anything else that to_torch takes, but a capsule. Of any
            strides; locked is what lies between its first and its last byte, in whole pages of the system. It must be
            writable: drivers lock no read-only mappings.

    Returns:
        A context manager that gives the array. It may be entered again after it was left.

    Raises:
        ExchangeError: ``unavailable`` without a CUDA device; ``overlap`` where the memory is locked already (by
            another pin, or by its own library), and where the driver refuses a page that it shares with locked memory;
            ``readonly``; ``device`` for memory that is not the host's.
        TypeError: no array; a NumPy scalar.
        RuntimeError: entered twice.

    At the end of the block all transfers that were begun are waited for, then the memory is unlocked. The array is kept
    alive meanwhile.

    Example:
        >>> import numpy as np, halfway
        >>> def send(batches, device="cuda"):
        ...     buffer = np.empty((256, 1024), np.float32)
        ...     with halfway.pin(buffer):
        ...         for values in batches:
        ...             buffer[:] = values
        ...             yield halfway.to_torch(buffer, "bfloat16", device=device)
    """

    def __init__(self, array: _Array) -> None:
        self._array = array
        self._address: int | None = None
        self._keeper: object = None
        self._entered = False

    def __enter__(self) -> _Array:
        """Lock the memory."""
        if self._entered:
            raise RuntimeError("this pin has been entered already: make another one")
        self._address, self._keeper = _register_pinned(self._array)
        self._entered = True
        return self._array

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for all transfers, and unlock it."""
        address, self._address, self._entered = self._address, None, False
        try:
            if address is not None:
                _unregister_pinned(address)
        finally:
            self._keeper = None
