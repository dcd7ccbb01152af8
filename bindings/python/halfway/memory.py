"""The memory of results: a bounded pool that hands freed memory out again.

Most of the time that a fresh large result takes goes into the page faults of its first use. So memory of 64 KiB and
more that halfway allocated for a result (``cast``, ``to_torch``, ``to_numpy`` and others where they copy or cast) is
kept when the last tensor, array or view of it is gone, and serves later results of the same or a slightly smaller
size. Which library the result was in, and on what thread it died, makes no difference. Zero-copy results hold the
memory of their source and take no part in this.

What is kept is bounded by ``limit()``; memory that nobody asked for in 10 seconds is returned to the system when the
pool is next used. There is no thread in the background: a program that stops making results calls ``trim()``.

Example:
    >>> import numpy as np, halfway
    >>> x = np.zeros((1024, 1024))
    >>> first = halfway.to_torch(x, "float32")
    >>> address = first.data_ptr()
    >>> del first
    >>> halfway.to_torch(x, "float32").data_ptr() == address  # the same 4 MiB, without page faults
    True
"""

from __future__ import annotations

import operator
import sys
from typing import NamedTuple, SupportsIndex

from . import _core

__all__ = ["MemoryStats", "limit", "stats", "trim"]


class MemoryStats(NamedTuple):
    """The pool's figures at one moment, from ``stats()``. Results smaller than 64 KiB count nowhere.

    Example:
        >>> import halfway
        >>> figures = halfway.memory.stats()
        >>> figures.cached <= figures.limit
        True
    """

    in_use: int
    """Bytes that results hold."""
    peak_in_use: int
    """The most bytes that results have held at one time in this process."""
    cached: int
    """Bytes that are kept for results to come; at most ``limit``."""
    limit: int
    """The most bytes that may be kept."""
    hits: int
    """Results that were given kept memory."""
    misses: int
    """Results that were given fresh memory of the system."""


def stats() -> MemoryStats:
    """What the pool holds and how often it helped.

    Returns:
        MemoryStats: a named tuple.

    Example:
        >>> import numpy as np, halfway
        >>> freed = halfway.memory.trim()  # so that no block of about this size is recycled, which counts as it is
        >>> before = halfway.memory.stats()
        >>> result = halfway.cast(np.zeros(1 << 20), "bfloat16")
        >>> after = halfway.memory.stats()
        >>> after.in_use - before.in_use == result.nbytes == 2 << 20
        True
        >>> after.hits + after.misses - before.hits - before.misses
        1
    """
    return MemoryStats(*_core._memory_stats())


def trim() -> int:
    """Return everything that is kept to the operating system. Results that live keep their memory.

    Returns:
        int: the bytes returned.

    The GIL is released meanwhile; safe on any thread.

    Example:
        >>> import numpy as np, halfway
        >>> del_me = halfway.cast(np.zeros(1 << 20), "float32")
        >>> del del_me
        >>> halfway.memory.trim() >= 4 << 20
        True
        >>> halfway.memory.stats().cached
        0
    """
    return _core._memory_trim()


def limit(bytes: SupportsIndex | None = None) -> int:
    """The most bytes that may be kept; with an argument, set it.

    It starts as the environment variable ``HALFWAY_MEMORY_LIMIT`` says (bytes, a decimal number), else as 1 GiB or an
    eighth of the memory that this process may have, whichever is less: the machine's, or its control group's limit if
    that is lower. It bounds what is kept, not what results take.

    Args:
        bytes: the new limit; 0 keeps nothing. What is kept beyond it is returned to the system at once.

    Returns:
        int: the limit that was in force before the call.

    Raises:
        TypeError: not an integer.
        ValueError: negative, or beyond ``sys.maxsize``.

    Example:
        >>> import halfway
        >>> before = halfway.memory.limit(256 << 20)  # keep at most 256 MiB
        >>> halfway.memory.limit()
        268435456
        >>> halfway.memory.limit(before)
        268435456
    """
    if bytes is None:
        return _core._memory_stats()[3]
    try:
        value = operator.index(bytes)
    except TypeError:
        raise TypeError(f"limit() takes a number of bytes, not {type(bytes).__name__}") from None
    if not 0 <= value <= sys.maxsize:
        raise ValueError(f"a limit is from 0 to {sys.maxsize} bytes, not {value}")
    return _core._set_memory_limit(value)
