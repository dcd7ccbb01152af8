"""The rows of the one-pass benchmark: which data, and by which statements everybody brings them where they should be.

A row's data are made by a function of whether the run is a quick one. Sources and destinations, views of them, buffers
and constants in every dtype that anybody asks for exist before the clock starts. Here are strided memory, the other
byte order, records and stochastic rounding, and how a row is measured; images and batches have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np
import torch
from bench import by_hand, floor, harness, onepass_batches, onepass_images
from bench.cast_rows import KI, MI
from bench.harness import Contender, Effort, Loop
from bench.onepass_data import BF16_ULP, Case, Data, Names, names_of, names_with, near, neighbours, normal

import halfway

# --- strided float32 to bfloat16


def _strided(view: Callable[[Any], Any], shape: tuple[int, int], quick: bool, **more: Callable[[Names], Any]) -> Data:
    """`t` and `a` are the view of `whole` that is cast, `narrow` and `wide` buffers for whoever needs any."""
    rows, columns = (96, 128) if quick else shape
    whole = normal("float32", rows * columns).view(rows, columns)
    array = halfway.to_numpy(whole)
    a = view(array)
    wanted = torch.from_numpy(np.ascontiguousarray(a))
    o = torch.zeros(a.shape, dtype=torch.bfloat16)
    names = names_with(
        **names_of(o),
        a=a,
        whole=whole,
        narrow=torch.zeros(whole.shape, dtype=torch.bfloat16),
        wide=torch.zeros(a.shape),
    )
    for name, make in more.items():
        names[name] = make(names)
    return Data(names, whole.nbytes, near(wanted, BF16_ULP / 2), array)


def make_transposed(quick: bool) -> Data:
    return _strided(lambda x: x.T, (4096, 4096), quick, t=lambda names: names["whole"].T)


def make_columns(quick: bool) -> Data:
    return _strided(
        lambda x: x[:, ::2],
        (4096, 8192),
        quick,
        t=lambda names: names["whole"][:, ::2],
        pairs=lambda names: names["whole"].view(torch.int64),
        words=lambda names: torch.zeros(names["o"].shape, dtype=torch.int32),
    )


def make_reversed(quick: bool) -> Data:
    return _strided(
        lambda x: x[::-1],
        (4096, 4096),
        quick,
        backwards=lambda names: torch.arange(len(names["whole"]) - 1, -1, -1),
    )


STRIDED_OURS = "halfway.cast(a, kind, out=b)"
STRIDED_NUMPY = ('np.copyto(b, a, casting="unsafe")', "b[...] = a")

# --- the other byte order


def make_swapped(source: str, target: str, quick: bool) -> Data:
    elements = 4 * KI if quick else 16 * MI
    wide = normal(source, elements)
    native = halfway.to_numpy(wide)
    a = native.byteswap().view(native.dtype.newbyteorder())
    o = torch.zeros(elements, dtype=getattr(torch, target))
    w = np.zeros(elements, native.dtype)
    buffer = torch.from_numpy(w)
    names = names_with(
        **names_of(o),
        a=a,
        raw=torch.from_numpy(a.view(native.dtype)),
        w=w,
        wide=buffer,
        own=o if o.dtype == wide.dtype else torch.zeros(elements, dtype=wide.dtype),
    )
    rounding = BF16_ULP if target == "bfloat16" else 2.0**-24  # float64 by way of float32 is rounded twice
    return Data(names, a.nbytes, near(wide, rounding), a)


SWAPPED_RIVALS = (
    *STRIDED_NUMPY,
    "swap_copy(a, w, o, wide)",
    "swap_in_parts(a, w, o, wide)",
    "swap_in_place(a, w, o, wide)",
    "swap_storage(raw, o, own)",
)


def _swapped(source: str, target: str) -> Case:
    width = {"float32": "f4", "float64": "f8"}[source]
    return Case(
        f"big-endian {width} -> {target}, out",
        "out",
        lambda quick: make_swapped(source, target, quick),
        (STRIDED_OURS, "halfway.to_torch(a, dtype, out=o)"),
        SWAPPED_RIVALS,
    )


# --- a field of records

RECORD = np.dtype([("id", "i8"), ("value", "f8"), ("weight", "f8")])


def make_field(quick: bool) -> Data:
    count = 4 * KI if quick else 4 * MI
    records = np.zeros(count, RECORD)
    values = normal("float64", count)
    records["value"] = halfway.to_numpy(values)
    o = torch.zeros(count, dtype=torch.bfloat16)
    names = names_with(
        **names_of(o),
        a=records["value"],
        t=torch.from_numpy(records.view(np.float64).reshape(-1, 3))[:, 1],
        wide=torch.zeros(count, dtype=torch.float64),
    )
    return Data(names, records.nbytes, near(values, BF16_ULP), records)


# --- stochastic rounding


def make_stochastic(quick: bool) -> Data:
    elements = 64 * KI if quick else 16 * MI
    t = normal("float32", elements)
    a = halfway.to_numpy(t)
    o = torch.zeros(elements, dtype=torch.bfloat16)
    names = names_with(
        **names_of(o),
        t=t,
        a=a,
        f=a.view(np.uint32),
        f_t=t.view(torch.int32),
        bits_t=o.view(torch.int16),
        words=np.zeros(elements, np.uint32),
        words_t=torch.zeros(elements, dtype=torch.int32),
        torch_generator=torch.Generator().manual_seed(1),
        **{name: np.random.Generator(getattr(np.random, name)(1)) for name in GENERATORS},
    )
    names["bits"] = names["b"].view(np.uint16)
    return Data(names, a.nbytes, neighbours(t), a)


GENERATORS = ("SFC64", "Philox", "PCG64DXSM")
STOCHASTIC_RIVALS = (
    "integers_added(f, bits, SFC64, words)",
    *(f"integers_in_parts(f, bits, {name}, words)" for name in GENERATORS),
    *(f"raw_in_parts(f, bits, {name}, words)" for name in GENERATORS),
    "random_in_torch(f_t, bits_t, torch_generator, words_t)",
)

# --- all of them


def cases() -> list[Case]:
    """All rows."""
    return [
        *onepass_images.cases(),
        Case(
            "transposed f32 -> bfloat16, out",
            "out",
            make_transposed,
            (STRIDED_OURS, "halfway.to_torch(t, out=o)"),
            (
                *STRIDED_NUMPY,
                "o.copy_(t)",
                "o.T.copy_(whole)",
                "narrow_first(whole, narrow, o, torch.t)",
                "wide_first(t, wide, o)",
                "in_tiles(t, o)",
                "in_tiles(whole, o.T)",
                "transposed_bands(whole, o, narrow)",
            ),
        ),
        Case(
            "every second column f32 -> bfloat16, out",
            "out",
            make_columns,
            (STRIDED_OURS, "halfway.to_torch(t, out=o)"),
            (
                *STRIDED_NUMPY,
                "o.copy_(t)",
                "narrow_first(whole, narrow, o, lambda x: x[:, ::2])",
                "wide_first(t, wide, o)",
                "in_bands(t, o, wide)",
                "low_words(pairs, o, words)",
            ),
        ),
        Case(
            "reversed rows f32 -> bfloat16, out",
            "out",
            make_reversed,
            (STRIDED_OURS, "halfway.to_torch(a, out=o)"),
            (
                *STRIDED_NUMPY,
                "o.copy_(whole.flip(0))",
                "torch.index_select(narrow.copy_(whole), 0, backwards, out=o)",
                "o.copy_(torch.index_select(whole, 0, backwards, out=wide))",
                "o.index_copy_(0, backwards, narrow.copy_(whole))",
                "in_bands(whole, o, wide, flip=True)",
                "row_by_row(whole, o)",
            ),
        ),
        *(_swapped(source, target) for source in ("float32", "float64") for target in ("float32", "bfloat16")),
        Case(
            "field f8 of 24-byte records -> bfloat16, out",
            "out",
            make_field,
            (STRIDED_OURS, "halfway.to_torch(a, dtype, out=o)"),
            (*STRIDED_NUMPY, "o.copy_(t)", "wide_first(t, wide, o)", "field_in_parts(t, o, wide)"),
        ),
        Case(
            "stochastic f32 -> bfloat16, out",
            "out",
            make_stochastic,
            (
                'halfway.cast(t, dtype, rounding="stochastic", seed=1, out=o)',
                'halfway.cast(a, kind, rounding="stochastic", seed=1, out=b)',
            ),
            STOCHASTIC_RIVALS,
        ),
        *onepass_batches.cases(),
    ]


# --- one row

FULL = Effort(round_ns=2_000_000, rounds=25, seconds=6.0, least=7, threads=True)
QUICK = Effort(round_ns=5_000, rounds=3)


def _agree(case: Case, data: Data) -> None:
    """Every statement gives what it should, from a destination that does not hold it yet."""
    destination: torch.Tensor = data.names["o"]

    def tried(name: str, code: CodeType) -> None:
        destination.fill_(-77.0)
        found = eval(code, data.names)
        try:
            data.check(found if case.mode == "fresh" else destination)
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {name}: {error}") from None

    for statement in (*case.ours, *case.rivals, *case.usual):
        tried(statement, compile(statement, f"<{statement}>", "exec" if " = " in statement else "eval"))
    if data.hand:
        for variant in floor.VARIANTS:
            destination.fill_(-77.0)
            data.hand.normalise(variant)
            data.check(destination)


def _loops(case: Case, data: Data) -> dict[str, Loop]:
    destination: torch.Tensor = data.names["o"]
    loops = {statement: harness.loop_of(statement, data.names) for statement in (*case.ours, *case.rivals, *case.usual)}
    addresses = data.source.ctypes.data, destination.data_ptr()
    for variant in floor.VARIANTS:
        if data.hand:
            loops[by_hand.name_of(variant)] = data.hand.loop_of(variant)
        loops[variant.name] = floor.loop_of(*addresses, data.read, data.written, variant)
    return loops


def measure(case: Case, quick: bool) -> dict[str, Any]:
    data = case.make(quick)
    _agree(case, data)
    entrants = case.contenders(data)
    staying, times = harness.run(entrants, _loops(case, data), QUICK if quick else FULL)

    def best(role: str) -> str:
        return harness.fastest([c for c in staying if c.role == role], times).statement

    def faster(statement: str) -> Mapping[str, float]:
        """How many times faster ours is."""
        return times.ratio(statement, ours).to_dict(3)

    ours = best("ours")
    lowest = best("floor")
    result: dict[str, Any] = {
        "name": case.name,
        "mode": case.mode,
        "shape": list(data.names["o"].shape),
        "bytes_read": data.read,
        "bytes_written": data.written,
        **harness.compare(staying, times),
        "faster": faster(best("rival")),
    }
    for role in ("usual", "hand"):
        if any(contender.role == role for contender in staying):
            result[role] = {"statement": best(role), "faster": faster(best(role))}
    foreach: Sequence[Contender] = [c for c in staying if c.named]
    if foreach:
        statement = harness.fastest(foreach, times).statement
        result["foreach"] = {"statement": statement, "faster": faster(statement)}
    return {
        **result,
        "floor": {"statement": lowest, "share": times.ratio(lowest, ours).to_dict()},
        "contenders": harness.listed(entrants, times),
    }
