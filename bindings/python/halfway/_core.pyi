"""Types of the C++ core. The package `halfway` re-exports what is public."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, SupportsFloat, SupportsIndex, TypeAlias, final, overload

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from typing_extensions import Buffer, CapsuleType, TypedDict, Unpack

__version__: str

_Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe", "same_value"]
_Overflow: TypeAlias = Literal["default", "saturate", "raise"]
_Rounding: TypeAlias = Literal["nearest", "stochastic"]
_Coefficients: TypeAlias = float | SupportsFloat | Sequence[SupportsFloat] | NDArray[Any] | torch.Tensor | None
_Library: TypeAlias = Literal["torch", "numpy", "halfway"]
_Device: TypeAlias = str | torch.device | tuple[int, int] | None
_DType: TypeAlias = DTypeLike | torch.dtype | Cast

class _Producer(Protocol):
    def __dlpack__(self) -> Any: ...

_Source: TypeAlias = NDArray[Any] | np.generic | torch.Tensor | Tensor | _Producer | CapsuleType

class _CastFields(TypedDict, total=False):
    casting: _Casting
    overflow: _Overflow
    rounding: _Rounding
    seed: SupportsIndex | None
    scale: _Coefficients
    shift: _Coefficients
    axis: SupportsIndex | None
    permute: Sequence[SupportsIndex] | None

class _DTypeRow(TypedDict):
    name: str
    aliases: tuple[str, ...]
    kind: str
    code: int
    bits: int
    castable: bool
    numpy: str
    torch: bool

@final
class Cast:
    def __init__(
        self,
        dtype: _DType,
        *,
        casting: _Casting = "same_kind",
        overflow: _Overflow = "default",
        rounding: _Rounding = "nearest",
        seed: SupportsIndex | None = None,
        scale: _Coefficients = None,
        shift: _Coefficients = None,
        axis: SupportsIndex | None = None,
        permute: Sequence[SupportsIndex] | None = None,
    ) -> None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def casting(self) -> _Casting: ...
    @property
    def overflow(self) -> _Overflow: ...
    @property
    def rounding(self) -> _Rounding: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def scale(self) -> float | tuple[float, ...] | None: ...
    @property
    def shift(self) -> float | tuple[float, ...] | None: ...
    @property
    def axis(self) -> int | None: ...
    @property
    def permute(self) -> tuple[int, ...] | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

class Report:
    def __init__(self) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def nan(self) -> int: ...
    @property
    def overflow(self) -> int: ...
    @property
    def underflow(self) -> int: ...
    @property
    def inexact(self) -> int: ...
    def to_dict(self) -> dict[str, int]: ...
    def __eq__(self, other: object, /) -> bool: ...

class Step:
    @property
    def kind(self) -> Literal["alias", "resolve", "copy", "cast", "ship"]: ...
    @property
    def source(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def how(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...

class Plan:
    @property
    def zero_copy(self) -> bool: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...
    @property
    def source(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def result_shape(self) -> tuple[int, ...]: ...
    @property
    def target(self) -> _Library: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def bytes_wire(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def because(self) -> str: ...
    @property
    def machine(self) -> str: ...
    @property
    def unavailable(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...

@final
class Pending:
    def ready(self) -> bool: ...
    def result(self) -> NDArray[Any]: ...

class Tensor(Buffer):
    __dlpack_c_exchange_api__: CapsuleType
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def data_ptr(self) -> int: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def __array__(self, dtype: DTypeLike | None = None, /, *, copy: bool | None = None) -> NDArray[Any]: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

def to_torch(
    x: _Source,
    /,
    dtype: _DType | None = None,
    *,
    device: _Device = None,
    copy: bool | None = None,
    out: torch.Tensor | None = None,
    non_blocking: bool = False,
    allow_readonly: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> torch.Tensor: ...
@overload
def to_numpy(
    x: _Source,
    /,
    dtype: _DType | None = None,
    *,
    copy: bool | None = None,
    out: NDArray[Any] | None = None,
    non_blocking: Literal[False] = False,
    lock_storage: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> NDArray[Any]: ...
@overload
def to_numpy(
    x: _Source,
    /,
    dtype: _DType | None = None,
    *,
    copy: bool | None = None,
    out: NDArray[Any] | None = None,
    non_blocking: bool = False,
    lock_storage: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> Any: ...  # a Pending of arrays on a device, an ndarray of others: types do not say where an array is
@overload
def cast(
    x: NDArray[Any] | np.generic,
    dtype: _DType,
    /,
    *,
    device: _Device = None,
    copy: bool | None = None,
    out: NDArray[Any] | None = None,
    non_blocking: bool = False,
    allow_readonly: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> NDArray[Any]: ...
@overload
def cast(  # type: ignore[overload-overlap]  # tensors are producers too, and come first
    x: torch.Tensor,
    dtype: _DType,
    /,
    *,
    device: _Device = None,
    copy: bool | None = None,
    out: torch.Tensor | None = None,
    non_blocking: bool = False,
    allow_readonly: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> torch.Tensor: ...
@overload
def cast(
    x: Tensor | _Producer | CapsuleType,
    dtype: _DType,
    /,
    *,
    device: _Device = None,
    copy: bool | None = None,
    out: Tensor | None = None,
    non_blocking: bool = False,
    allow_readonly: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> Tensor: ...
def from_dlpack(x: _Source, /, *, device: _Device = None, copy: bool | None = None) -> Tensor: ...
def explain(
    x: _Source,
    /,
    dtype: _DType | None = None,
    *,
    to: _Library = "torch",
    device: _Device = None,
    copy: bool | None = None,
    out: torch.Tensor | NDArray[Any] | Tensor | None = None,
    non_blocking: bool = False,
    allow_readonly: bool = False,
    lock_storage: bool = False,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> Plan: ...
def register_numpy_dtypes() -> int: ...
def num_threads() -> int: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
def _collate(batches: list[tuple[str, Any, Any, Any, Any]], to: str, /, **keywords: Any) -> list[Any]: ...
def _dtype_rows() -> list[_DTypeRow]: ...
def _memory_stats() -> tuple[int, int, int, int, int, int]: ...
def _memory_trim() -> int: ...
def _set_memory_limit(bytes: int, /) -> int: ...
def _pending_releases() -> int: ...
def _fast_exchanges() -> int: ...
def _set_fast_path_enabled(enabled: bool, /) -> None: ...
def _set_torch_table_enabled(enabled: bool, /) -> None: ...
def _device_index(device: _Device, /) -> int: ...
def _calibrate(index: int, bytes: int, /) -> tuple[str, dict[str, Any]]: ...
def _register_pinned(array: _Source, /) -> tuple[int | None, object]: ...
def _unregister_pinned(address: int, /) -> None: ...
def _set_device_backend(capsule: CapsuleType | None, /) -> None: ...
def _set_torch_stand_in(type: type | None, /) -> None: ...
def _tune_engine(constants: dict[str, float] | None, /) -> None: ...
