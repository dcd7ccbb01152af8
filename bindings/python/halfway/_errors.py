"""The two exceptions of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halfway import Report

__all__ = ["CastError", "ExchangeError"]


def _with_hint(message: str, hint: str) -> str:
    return f"{message}; {hint}" if hint else message


class ExchangeError(BufferError, ValueError):
    """An exchange that is impossible, or that ``copy=False`` forbids.

    Attributes:
        reason: the first reason, a word of the closed vocabulary (``"readonly"``, ``"dtype"``, ...).
        reasons: every reason, as a tuple.
        hint: the way out, or an empty string.

    Example:
        >>> import numpy as np, halfway
        >>> try:
        ...     halfway.to_numpy(np.zeros(3), "float32", copy=False)
        ... except halfway.ExchangeError as error:
        ...     print(error.reason, error.reasons)
        dtype ('dtype',)
    """

    reason: str
    reasons: tuple[str, ...]
    hint: str

    def __init__(self, message: str, reasons: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, reasons, hint)
        self.reasons = tuple(reasons)
        self.reason = self.reasons[0] if self.reasons else ""
        self.hint = hint

    def __str__(self) -> str:
        reasons = ", ".join(self.reasons)
        return _with_hint(f"{reasons}: {self.args[0]}" if reasons else str(self.args[0]), self.hint)


class CastError(ValueError):
    """A cast that the level forbids, or that met a value which must not be lost.

    Attributes:
        report: the counts up to the failure's end of pass, or None when the level forbids the pair.
        index: where the first lost value is, in the source's axes; None when the level forbids.
        value: that value as text, or None.
        hint: the way out, or an empty string.

    Example:
        >>> import numpy as np, halfway
        >>> try:
        ...     halfway.cast(np.array([1.0, 0.1]), "float32", casting="same_value")
        ... except halfway.CastError as error:
        ...     print(error.index, error.value, error.report.inexact)
        (1,) 0.1 1
    """

    report: Report | None
    index: tuple[int, ...] | None
    value: str | None
    hint: str

    def __init__(
        self,
        message: str,
        hint: str = "",
        report: Report | None = None,
        index: tuple[int, ...] | None = None,
        value: str | None = None,
    ) -> None:
        super().__init__(message, hint, report, index, value)
        self.hint = hint
        self.report = report
        self.index = index
        self.value = value

    def __str__(self) -> str:
        return _with_hint(str(self.args[0]), self.hint)
