"""NumPy and torch meet halfway: zero-copy where the dtype agrees, one pass where it does not.

Example:
    >>> import numpy as np, halfway
    >>> tensor = halfway.to_torch(np.ones((2, 2), dtype=np.float32))
    >>> halfway.to_numpy(tensor).dtype
    dtype('float32')
"""

from __future__ import annotations

from . import memory
from ._calibration import calibrate
from ._collate import collate
from ._core import (
    Cast,
    Pending,
    Plan,
    Report,
    Step,
    Tensor,
    cast,
    explain,
    from_dlpack,
    num_threads,
    register_numpy_dtypes,
    set_num_threads,
    to_numpy,
    to_torch,
)
from ._core import (
    __version__ as __version__,
)
from ._dtypes import DTypeRow, dtypes
from ._errors import CastError, ExchangeError
from ._fields import fields
from ._images import images
from ._pin import pin

__all__ = [
    "Cast",
    "CastError",
    "DTypeRow",
    "ExchangeError",
    "Pending",
    "Plan",
    "Report",
    "Step",
    "Tensor",
    "calibrate",
    "cast",
    "collate",
    "dtypes",
    "explain",
    "fields",
    "from_dlpack",
    "images",
    "memory",
    "num_threads",
    "pin",
    "register_numpy_dtypes",
    "set_num_threads",
    "to_numpy",
    "to_torch",
]

for _public in (Cast, CastError, ExchangeError, Pending, Plan, Report, Step, Tensor):
    _public.__module__ = "halfway"
del _public
