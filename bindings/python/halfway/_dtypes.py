"""The dtype table as Python rows."""

from __future__ import annotations

from typing import NamedTuple

from . import _core

__all__ = ["DTypeRow", "dtypes"]


class DTypeRow(NamedTuple):
    """One dtype and what can be done with it.

    Example:
        >>> import halfway
        >>> [row.name for row in halfway.dtypes() if "bf16" in row.aliases]
        ['bfloat16']
    """

    name: str
    """The name, accepted wherever a dtype is."""
    aliases: tuple[str, ...]
    """Other accepted names."""
    kind: str
    """``boolean``, ``unsigned_integer``, ``signed_integer``, ``floating``, ``complex``, ``opaque``."""
    bits: int | None
    """Bits of an element; None where it varies."""
    code: int | None
    """DLPack type code; None where DLPack has none."""
    castable: bool
    """Whether values can be cast from and to it; otherwise its bytes only travel."""
    numpy: str | None
    """What NumPy calls it (``ml_dtypes.`` where that package has it), or None."""
    torch: str | None
    """What torch calls it, or None where torch has none or takes none through DLPack.

    For refused ones, all names."""
    note: str
    """What to know; for a dtype that is refused, the way out."""


_REFUSED = (
    (
        "longdouble",
        "numpy.longdouble",
        "its format differs between machines: .astype('float64') first",
    ),
    (
        "clongdouble",
        "numpy.clongdouble",
        "its format differs between machines: .astype('complex128') first",
    ),
    (
        "datetime64",
        "numpy.datetime64",
        "take the counts with .view('int64') and keep the unit yourself",
    ),
    (
        "timedelta64",
        "numpy.timedelta64",
        "take the counts with .view('int64') and keep the unit yourself",
    ),
    ("object", "numpy.object_", "objects have no memory format: make a numeric array first"),
    ("str", "numpy.str_", "encode the strings as numbers first"),
    ("bytes", "numpy.bytes_", "encode the strings as numbers first"),
    ("StringDType", "numpy.dtypes.StringDType", "encode the strings as numbers first"),
    ("void", "numpy.void", "structured arrays: halfway.fields(x); raw bytes: .view('uint8')"),
)
_REFUSED_TORCH = (
    (
        "quint8, qint8, qint32",
        ("quint8", "qint8", "qint32"),
        "x.dequantize(), or x.int_repr() for the integers",
    ),
    ("quint4x2, quint2x4", ("quint4x2", "quint2x4"), "x.dequantize()"),
    (
        "bits8, bits16 ...",
        ("bits1x8", "bits2x4", "bits4x2", "bits8", "bits16"),
        "x.view(torch.uint8)",
    ),
    ("float4_e2m1fn_x2", ("float4_e2m1fn_x2",), "two values in a byte: x.view(torch.uint8)"),
    (
        "int1 ... int7",
        tuple(f"int{bits}" for bits in range(1, 8)),
        "shell dtypes without values: x.view(torch.uint8)",
    ),
    (
        "uint1 ... uint7",
        tuple(f"uint{bits}" for bits in range(1, 8)),
        "shell dtypes without values: x.view(torch.uint8)",
    ),
    ("bcomplex32", ("bcomplex32",), "DLPack has no code for it: x.to(torch.complex64)"),
)


def _note(row: _core._DTypeRow) -> str:
    if not row["castable"]:
        return "travels as bytes, is not cast"
    if row["name"] == "complex32":
        return "in NumPy with ml_dtypes >= 0.6; else to_numpy(x, 'complex64')"
    return ""


def _row(row: _core._DTypeRow) -> DTypeRow:
    return DTypeRow(
        name=row["name"],
        aliases=row["aliases"],
        kind=row["kind"],
        bits=row["bits"],
        code=row["code"],
        castable=row["castable"],
        numpy=row["numpy"] or None,
        torch=f"torch.{row['name']}" if row["torch"] else None,
        note=_note(row),
    )


def dtypes() -> tuple[DTypeRow, ...]:
    """Every dtype of NumPy, torch and DLPack: what it is called and what can be done with it.

    Rows with ``kind == "refused"`` cannot be exchanged; their ``note`` is the way out.

    Returns:
        tuple: rows in the order of the C++ table, then the refused ones.

    Example:
        >>> import halfway
        >>> {row.name: row.numpy for row in halfway.dtypes()}["bfloat16"]
        'ml_dtypes.bfloat16'
    """
    rows = [_row(row) for row in _core._dtype_rows()]
    rows += [DTypeRow(name, (), "refused", None, None, False, numpy, None, note) for name, numpy, note in _REFUSED]
    for label, names, note in _REFUSED_TORCH:
        torch = ", ".join(f"torch.{name}" for name in names)
        rows.append(DTypeRow(label, (), "refused", None, None, False, None, torch, note))
    return tuple(rows)
