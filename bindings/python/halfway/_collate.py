"""Samples, or trees of them, into batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from ._core import _collate

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from ._core import Report, Tensor, _CastFields, _Device, _DType, _Library, _Source

    _Array: TypeAlias = _Source | complex
    _Pad: TypeAlias = _Source | complex | None

__all__ = ["collate"]

KINDS = (bool, int, float, complex)

# What a walk leaves behind: the part of the result that it is about, from the results of all batches.
_Build: TypeAlias = Callable[[list[Any]], Any]


@overload
def collate(
    samples: Sequence[_Array],
    /,
    dtype: _DType | None = None,
    *,
    to: Literal["torch"] = "torch",
    device: _Device = None,
    out: None = None,
    pad: _Pad = None,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> torch.Tensor: ...
@overload
def collate(
    samples: Sequence[_Array],
    /,
    dtype: _DType | None = None,
    *,
    to: Literal["numpy"],
    device: _Device = None,
    out: None = None,
    pad: _Pad = None,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> NDArray[Any]: ...
@overload
def collate(
    samples: Sequence[_Array],
    /,
    dtype: _DType | None = None,
    *,
    to: Literal["halfway"],
    device: _Device = None,
    out: None = None,
    pad: _Pad = None,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> Tensor: ...
@overload
def collate(
    samples: Sequence[Any],
    /,
    dtype: _DType | Mapping[Any, Any] | Sequence[Any] | None = None,
    *,
    to: _Library = "torch",
    device: _Device = None,
    out: Any = None,
    pad: Any = None,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> Any: ...
def collate(
    samples: Sequence[Any],
    /,
    dtype: _DType | Mapping[Any, Any] | Sequence[Any] | None = None,
    *,
    to: _Library = "torch",
    device: _Device = None,
    out: Any = None,
    pad: Any = None,
    report: Report | None = None,
    **cast: Unpack[_CastFields],
) -> Any:
    """Many samples into one batch: stacked and cast in one pass, into one buffer.

    Args:
        samples: a list or tuple of samples of one structure. A sample is an array (anything that to_torch takes) or a
            number, or a tree of them: dict (or another mapping), list, tuple, namedtuple, dataclass. The arrays at one
            place of the tree have one shape; they may differ in library, layout and byte order, and, where dtype= or
            out= says what they become, in dtype. Python's bool, int, float and complex are bool, int64, float64 and
            complex128. Strings and bytes are no numbers: they come back as a list of them.
        dtype: what the batch should hold. None keeps each array's own dtype; a dtype or a Cast is for all; a mapping
            chooses. Its keys bool, int, float and complex (the types) choose by the kind of the samples' values, any
            others are the keys (field names, positions) of the tree, where values choose for what is below. Where both
            apply the tree's key wins; what nothing chooses for stays as it is. A list or tuple chooses for each entry
            of a list or tuple.
        to: "torch", "numpy" or "halfway": whose arrays fresh batches are.
        device: where fresh batches are: None or the CPU, or a CUDA device as in to_torch. The batch is made on the
            host, in the pool's memory, and transferred from there as it is: it crosses in the batch's dtype.
        out: what to write into: an array of any of these libraries, its first axis one entry a sample; for trees, a
            tree of them, as an earlier result is. None anywhere in it stands for fresh memory. Its dtype is the
            default.
        pad: a number that fills up the last axis of samples that are shorter there than the longest, or than out;
            chosen as dtype is. It has to be a value of the batch's dtype; floats are rounded.
        report: a Report to fill with what all casts lost; padding does not count.
        **cast: the fields of Cast. scale=, shift=, axis= and permute= speak of one sample, whose axes are those that it
            has in ``samples``; pad= fills up the last axis of the permuted one. With rounding="stochastic" an element
            takes the chance of its place in the batch: the bits are those of one cast of the stacked array. Where
            dtype= has a Cast, nothing else may be said; a tree whose arrays want different fields gets a Cast for each.

    Returns:
        The batch, its first axis the samples: torch.Tensor (or as to= and out= say), C-contiguous. For trees, the
        same tree of batches: mappings become dict, dataclasses are copies of the first sample with their fields
        replaced.

    Raises:
        ExchangeError: ``nested`` for samples of different shapes, ``dtype`` for different dtypes that nothing is said
            about, ``out_mismatch``, ``overlap``, ``unavailable`` without the device; and as to_torch. Messages name
            the sample: ``samples[3]['image']``.
        CastError: as to_torch; its index has the sample's number in front of the place in the sample's own axes.
        TypeError, ValueError: wrong arguments, no samples, trees of different structure.

    Every array of a tree is checked before the first is written: whatever is raised, out is untouched. The GIL is
    released for large batches. Without torch, to="numpy" works. Memory comes from the pool.
    Tensors that require grad are read; the batch has no history. To know how long padded
    samples were, take their lengths before: ``[len(sample) for sample in samples]``.

    Example:
        >>> import numpy as np, halfway
        >>> samples = [{"x": np.arange(i + 1.0), "label": i, "name": f"no. {i}"} for i in range(2)]
        >>> halfway.collate(samples, {float: "bfloat16"}, pad=0)
        {'x': tensor([[0., 0.],
                [0., 1.]], dtype=torch.bfloat16), 'label': tensor([0, 1]), 'name': ['no. 0', 'no. 1']}
    """
    if not isinstance(samples, list | tuple):
        raise TypeError(f"collate() takes a list or tuple of samples, not {type(samples).__name__}")
    batches: list[tuple[str, Any, Any, Any, Any]] = []
    build = _walk(tuple(samples), "", dtype, out, pad, batches)  # others may change the list meanwhile
    # Without arrays there is still somebody to say which arguments are wrong.
    return build(_collate(batches, to, device=device, report=report, **cast))


def _walk(samples: Sequence[Any], path: str, dtype: Any, out: Any, pad: Any, batches: list[Any]) -> _Build:
    """Adds the batches at and below one place of the tree."""
    first = samples[0] if samples else None
    if isinstance(first, str | bytes):
        for index, sample in enumerate(samples):
            if not isinstance(sample, type(first)):
                raise ValueError(_differs(index, path, _described(sample), _described(first)))
        return lambda _: list(samples)
    names = _entries(first)
    if names is None:
        number = len(batches)
        batches.append((path, samples, _at_array(dtype, path, "dtype"), out, _at_array(pad, path, "pad")))
        return lambda results: results[number]

    columns = _columns(samples, names, path)
    dtypes = _below(dtype, names, first, path, "dtype")
    pads = _below(pad, names, first, path, "pad")
    outs = _outs(out, names, first, path)
    builds = [
        _walk(column, f"{path}{_step(name, first)}", dtypes[name], outs[name], pads[name], batches)
        for column, name in zip(columns, names, strict=True)
    ]
    return lambda results: _rebuilt(first, names, [build(results) for build in builds])


def _columns(samples: Sequence[Any], names: dict[Any, Any], path: str) -> list[list[Any]]:
    """What the samples have in each entry of the first, whose names these are."""
    first = samples[0]
    # Without a call for each sample, where nothing that is asked for could run code of its own.
    kind = type(first)
    is_plain = kind in (dict, list, tuple) or (issubclass(kind, tuple) and kind.__iter__ is tuple.__iter__)
    if is_plain and set(map(type, samples)) == {kind} and set(map(len, samples)) == {len(names)}:
        if kind is not dict:
            with suppress(ValueError):  # a list has changed since
                return [list(column) for column in zip(*samples, strict=True)]
        else:
            with suppress(KeyError):  # which one has it not is found out below
                return [list(map(itemgetter(name), samples)) for name in names]
    columns: list[list[Any]] = [[] for _ in names]
    for index, sample in enumerate(samples):
        entries = _entries(sample)
        if entries is None or type(sample) is not type(first):
            raise ValueError(_differs(index, path, _described(sample), _described(first)))
        if entries.keys() != names.keys():
            raise ValueError(_differs(index, path, _keys(entries, first), _keys(names, first)))
        for column, name in zip(columns, names, strict=True):
            column.append(entries[name])
    return columns


def _is_record(tree: Any) -> bool:
    return hasattr(type(tree), "__dataclass_fields__")


def _entries(tree: Any) -> dict[Any, Any] | None:
    """The entries of a container by key, field name or position; None for anything else."""
    if isinstance(tree, Mapping):
        return dict(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return dict(zip(tree._fields, tree, strict=True))
    if isinstance(tree, list | tuple):
        return dict(enumerate(tree))
    if _is_record(tree):
        from dataclasses import fields  # whoever made the tree has imported it already

        return {field.name: getattr(tree, field.name) for field in fields(tree)}
    return None


def _rebuilt(first: Any, names: dict[Any, Any], values: list[Any]) -> Any:
    if isinstance(first, Mapping):
        return dict(zip(names, values, strict=True))
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*values)
    if isinstance(first, list):
        return values
    if isinstance(first, tuple):
        return tuple(values)
    # Not by its own __init__: what that and __post_init__ check is about a sample, not about a batch.
    record = object.__new__(type(first))
    attributes = getattr(first, "__dict__", None)
    if attributes is not None:
        record.__dict__.update(attributes)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(record, name, value)
    return record


def _step(name: Any, tree: Any) -> str:
    """How the way to an entry is spelled: ['image'], [0], .image."""
    named = _is_record(tree) or hasattr(tree, "_fields")
    return f".{name}" if named else f"[{name!r}]"


def _described(tree: Any) -> str:
    return f"is of type {type(tree).__name__}"


def _keys(names: Mapping[Any, Any], tree: Any) -> str:
    if isinstance(tree, Mapping):
        return f"has the keys {sorted(names, key=repr)}"
    return f"has {len(names)} entries"


def _differs(index: int, path: str, what: str, expected: str) -> str:
    return f"samples[{index}]{path} {what}, but samples[0]{path} {expected}"


def _below(choice: Any, names: Mapping[Any, Any], tree: Any, path: str, argument: str) -> dict[Any, Any]:
    """What is chosen for each entry of a container."""
    if isinstance(choice, Mapping):
        kinds = {key: value for key, value in choice.items() if isinstance(key, type)}
        unknown = [key for key in choice if key not in names and not isinstance(key, type)]
        if unknown:
            raise ValueError(f"{argument}= has the key {unknown[0]!r}, which samples[0]{path} has not")
        return {name: choice.get(name, kinds or None) for name in names}
    if isinstance(choice, list | tuple):
        if not isinstance(tree, list | tuple) or len(choice) != len(names):
            raise ValueError(
                f"{argument}= is a {type(choice).__name__} of {len(choice)}, but samples[0]{path} "
                + (f"has {len(names)} entries" if isinstance(tree, list | tuple) else _described(tree))
            )
        return dict(zip(names, choice, strict=True))
    return dict.fromkeys(names, choice)


def _at_array(choice: Any, path: str, argument: str) -> Any:
    """What is chosen for an array: for all kinds, or a tuple of one for each."""
    if isinstance(choice, Mapping):
        for key in choice:
            if isinstance(key, type) and key not in KINDS:
                raise ValueError(
                    f"{argument}= has the key {key.__name__}: classes that choose by the kind of the values are bool, "
                    "int, float and complex"
                )
            if key not in KINDS:
                raise ValueError(
                    f"{argument}= has the key {key!r}, but samples[0]{path} is no container; "
                    "the types bool, int, float and complex choose by the kind of its values"
                )
        return tuple(choice.get(kind) for kind in KINDS)
    if isinstance(choice, list | tuple):
        raise ValueError(f"{argument}= is a {type(choice).__name__}, but samples[0]{path} is no container")
    return choice


def _outs(out: Any, names: Mapping[Any, Any], tree: Any, path: str) -> dict[Any, Any]:
    if out is None:
        return dict.fromkeys(names)
    entries = _entries(out)
    if entries is None or isinstance(out, Mapping) != isinstance(tree, Mapping) or entries.keys() != names.keys():
        raise ValueError(
            f"out{path} is no tree like samples[0]{path}: it "
            + (_described(out) if entries is None else _keys(entries, out))
            + f", and the sample {_described(tree)} and {_keys(names, tree)}"
        )
    return entries
