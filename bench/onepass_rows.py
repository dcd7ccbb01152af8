"""The rows of the one-pass benchmark: which data, and by which statements everybody brings them where they should be.

A row's data are made by a function of whether the run is a quick one. Sources and destinations, views of them, buffers
and constants in every dtype that anybody asks for exist before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, Literal

import ml_dtypes
import numpy as np
import torch
from bench import by_hand, floor, harness, onepass_idioms
from bench.cast_rows import KI, MI, Pair, data_of
from bench.harness import Contender, Effort, Loop

import halfway

Mode = Literal["out", "fresh"]
Names = dict[str, Any]
Check = Callable[[torch.Tensor], None]  # raises AssertionError for a wrong result

BF16_ULP = 2.0**-7  # of 1; half of it is the most that one rounding to nearest changes, relatively


@dataclass(frozen=True)
class Data:
    """What the statements of a row use. `o` among the names is the destination, a torch tensor."""

    names: Names
    read: int  # bytes of the cache lines that hold the source's elements: memory moves whole lines
    check: Check
    source: np.ndarray  # memory for the floor to read, at least `read` bytes
    hand: by_hand.Images | None = None

    @property
    def written(self) -> int:
        destination: torch.Tensor = self.names["o"]
        return destination.nbytes


@dataclass(frozen=True)
class Case:
    """A row. `usual` is the chain of calls that is found in most programs, where that is not among the best idioms."""

    name: str
    mode: Mode
    make: Callable[[bool], Data]
    ours: tuple[str, ...]
    rivals: tuple[str, ...]
    usual: tuple[str, ...] = ()

    def contenders(self, data: Data) -> list[Contender]:
        hand = [Contender(by_hand.name_of(variant), "hand") for variant in floor.VARIANTS if data.hand]
        return [
            *(Contender(statement, "ours") for statement in self.ours),
            *(Contender(statement, "rival", named=statement in FOREACH) for statement in self.rivals),
            *(Contender(statement, "usual") for statement in self.usual),
            *hand,
            *(Contender(variant.name, "floor") for variant in floor.VARIANTS),
        ]


# --- what a right result is


def near(wanted: torch.Tensor, relative: float, absolute: float = 0.0) -> Check:
    """Within the roundings that a contender makes, one or several; `wanted` is exact, or nearly."""

    def check(found: torch.Tensor) -> None:
        if found.shape != wanted.shape:
            raise AssertionError(f"the shape is {tuple(found.shape)}, not {tuple(wanted.shape)}")
        for at in range(0, wanted.numel(), MI):
            exact = wanted.view(-1)[at : at + MI].double()
            some = found.reshape(-1)[at : at + MI].double()
            error = (some - exact).abs() - exact.abs() * relative - absolute
            if not bool((error <= 0).all()):
                raise AssertionError(f"off by {float(error.max()):g} more than roundings explain")

    return check


def neighbours(wanted: torch.Tensor) -> Check:
    """Stochastic rounding: one of the two neighbours, and no bias."""
    close = near(wanted, BF16_ULP)

    def check(found: torch.Tensor) -> None:
        close(found)
        error = (found.double() - wanted.double()) / wanted.double().abs()
        bias, spread = float(error.mean()), float(error.std()) / error.numel() ** 0.5
        if abs(bias) > 6 * spread:
            raise AssertionError(f"the mean error is {bias:g}, of which chance explains {spread:g}")
        if spread == 0:
            raise AssertionError("nothing was rounded")

    return check


def _names(**names: Any) -> Names:
    """Names for statements: those given, the libraries, and all idioms."""
    idioms = {name: value for name, value in vars(onepass_idioms).items() if callable(value)}
    return {**idioms, "halfway": halfway, "np": np, "torch": torch, "ml_dtypes": ml_dtypes, **names}


def _arrays(o: torch.Tensor) -> Names:
    """The destination: `o` in torch, `b` in NumPy, and the dtype in both."""
    b = halfway.to_numpy(o)
    return {"o": o, "b": b, "dtype": o.dtype, "kind": b.dtype}


def _normal(dtype: str, elements: int) -> torch.Tensor:
    """N(0, 1), a million values and their repetitions."""
    return data_of(Pair(dtype, "bfloat16"), elements).t


# --- images

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def make_images(quick: bool) -> Data:
    shape = (2, 32, 48, 3) if quick else (64, 224, 224, 3)
    photos = np.random.default_rng(2026).integers(0, 256, shape, np.uint8)
    mean, std = np.array(MEAN), np.array(STD)
    scale, shift = 1 / (255 * std), -mean / std
    t = torch.from_numpy(photos)
    o = torch.zeros((shape[0], 3, *shape[1:3]), dtype=torch.bfloat16)
    wanted = (photos * scale + shift).transpose(0, 3, 1, 2).astype(np.float32)

    def tensor(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(values).to(dtype)

    by_channel = {"scale": scale, "shift": shift}
    constants: Names = {}
    for name, values in by_channel.items():
        for suffix, dtype in (("32", torch.float32), ("16", torch.bfloat16)):
            last = tensor(values, dtype)
            constants[f"{name}{suffix}"] = last.view(1, 3, 1, 1)
            constants[f"{name}_last{suffix}"] = last
            constants[f"{name}_image{suffix}"] = last.expand(*shape[1:]).contiguous()
        constants[f"{name}_list"] = values.tolist()
    values = np.arange(256)[:, None] * scale + shift
    tables = [tensor(values[:, channel].copy(), torch.bfloat16) for channel in range(3)]
    names = _names(
        **_arrays(o),
        **constants,
        **by_channel,
        photos=photos,
        t=t,
        mean=mean,
        std=std,
        mean_t=tensor(mean, torch.float32).view(3, 1, 1),
        std_t=tensor(std, torch.float32).view(3, 1, 1),
        wide=torch.zeros(shape),
        narrow=torch.zeros(shape, dtype=torch.bfloat16),
        tables=[halfway.to_numpy(table).view(np.uint16) for table in tables],
        tables_t=tables,
        # Compiling takes half a minute and a C++ compiler, which is nothing for a quick run.
        compiled=onepass_idioms.normalised if quick else torch.compile(onepass_idioms.normalised),
    )
    names["bits"] = names["b"].view(np.uint16)
    hand = by_hand.Images(photos, names["bits"], scale.astype(np.float32), shift.astype(np.float32))
    # bfloat16 arithmetic rounds the byte's product, the sum and the constants, all of them below 4.5.
    return Data(
        names, photos.nbytes, near(torch.from_numpy(np.ascontiguousarray(wanted)), BF16_ULP, 6 * BF16_ULP), photos, hand
    )


IMAGES_INTO = (
    "in_place(t, o, scale32, shift32)",
    "in_place(t, o, scale16, shift16)",
    "in_place_addcmul(t, o, scale16, shift16)",
    "image_by_image(t, o, scale16[0], shift16[0])",
    "channel_by_channel(t, o, scale_list, shift_list)",
    "channels_last(t, o, scale_last32, shift_last32, wide)",
    "channels_last_images(t, o, scale_image32, shift_image32, wide)",
    "narrow_then_permute(t, o, scale_image16, shift_image16, narrow)",
    "from_a_table(photos, bits, tables)",
    "from_a_torch_table(t, o, tables_t)",
)
IMAGES_FRESH = (
    "t.permute(0, 3, 1, 2).to(torch.bfloat16).mul_(scale16).add_(shift16).contiguous()",
    "torch.addcmul(shift32, t.permute(0, 3, 1, 2).float(), scale32).to(torch.bfloat16).contiguous()",
    "torch.addcmul(shift16, t.permute(0, 3, 1, 2).to(torch.bfloat16), scale16).contiguous()",
    "in_place(t, torch.empty_like(o), scale16, shift16)",
    "channel_by_channel(t, torch.empty_like(o), scale_list, shift_list)",
    "narrow_then_permute(t, torch.empty_like(o), scale_image16, shift_image16, narrow)",
    "from_a_table(photos, np.empty_like(bits), tables).view(kind)",
    "compiled(t, scale32, shift32)",
)
IMAGES_USUAL = (
    "usual(photos, mean_t, std_t)",
    "usual_contiguous(photos, mean_t, std_t)",
    "to_tensor_and_normalize(photos, mean_t, std_t)",
)

# --- strided float32 to bfloat16


def _strided(view: Callable[[Any], Any], shape: tuple[int, int], quick: bool, **more: Callable[[Names], Any]) -> Data:
    """`t` and `a` are the view of `whole` that is cast, `narrow` and `wide` buffers for whoever needs any."""
    rows, columns = (96, 128) if quick else shape
    whole = _normal("float32", rows * columns).view(rows, columns)
    array = halfway.to_numpy(whole)
    a = view(array)
    wanted = torch.from_numpy(np.ascontiguousarray(a))
    o = torch.zeros(a.shape, dtype=torch.bfloat16)
    names = _names(
        **_arrays(o),
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
    wide = _normal(source, elements)
    native = halfway.to_numpy(wide)
    a = native.byteswap().view(native.dtype.newbyteorder())
    o = torch.zeros(elements, dtype=getattr(torch, target))
    w = np.zeros(elements, native.dtype)
    buffer = torch.from_numpy(w)
    names = _names(
        **_arrays(o),
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
    values = _normal("float64", count)
    records["value"] = halfway.to_numpy(values)
    o = torch.zeros(count, dtype=torch.bfloat16)
    names = _names(
        **_arrays(o),
        a=records["value"],
        t=torch.from_numpy(records.view(np.float64).reshape(-1, 3))[:, 1],
        wide=torch.zeros(count, dtype=torch.float64),
    )
    return Data(names, records.nbytes, near(values, BF16_ULP), records)


# --- batches


def make_batch(dtype: str, count: int, elements: int, quick: bool) -> Data:
    if quick:
        count, elements = min(count, 8), min(elements, 128)
    whole = _normal(dtype, count * elements).view(count, elements)
    tensors = [sample.clone() for sample in whole]  # memory of their own, as samples have
    o = torch.zeros(whole.shape, dtype=torch.bfloat16)
    names = _names(
        **_arrays(o),
        tensors=tensors,
        samples=[halfway.to_numpy(tensor) for tensor in tensors],
        rows=list(o.unbind()),
        default_collate=torch.utils.data.default_collate,
    )
    return Data(names, whole.nbytes, near(whole, BF16_ULP), halfway.to_numpy(whole))


COLLATE_FRESH = (
    "halfway.collate(samples, dtype)",
    "halfway.collate(tensors, dtype)",
)
COLLATE_OUT = (
    "halfway.collate(samples, out=o)",
    "halfway.collate(tensors, out=o)",
)
BATCH_FRESH = (
    "torch.stack(tensors).to(dtype)",
    "torch.stack([tensor.to(dtype) for tensor in tensors])",
    "default_collate(samples).to(dtype)",
    "np.stack(samples).astype(kind)",
    "np.stack(samples, dtype=kind, casting='unsafe')",
    "torch.from_numpy(np.stack(samples)).to(dtype)",
    "foreach_into_fresh(tensors, dtype)",
    "copies_into_fresh(tensors, dtype)",
)
FOREACH = ("torch._foreach_copy_(rows, tensors)", "torch._foreach_copy_(list(o.unbind()), tensors)")
BATCH_OUT = (
    *FOREACH,
    "copies_into(rows, tensors)",
    "o.copy_(torch.stack(tensors))",
    "np.stack(samples, out=b, casting='unsafe')",
)

# --- stochastic rounding


def make_stochastic(quick: bool) -> Data:
    elements = 64 * KI if quick else 16 * MI
    t = _normal("float32", elements)
    a = halfway.to_numpy(t)
    o = torch.zeros(elements, dtype=torch.bfloat16)
    names = _names(
        **_arrays(o),
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


def _batches(name: str, dtype: str, count: int, elements: int) -> list[Case]:
    def make(quick: bool) -> Data:
        return make_batch(dtype, count, elements, quick)

    return [
        Case(f"{name}, fresh", "fresh", make, COLLATE_FRESH, BATCH_FRESH),
        Case(f"{name}, out", "out", make, COLLATE_OUT, BATCH_OUT),
    ]


LARGE_BATCH, SMALL_BATCH = "collate 64 x 1 MiB f32 -> bfloat16", "collate 1024 x 128 f64 -> bfloat16"


def cases() -> list[Case]:
    """All rows."""
    return [
        Case(
            "u8 NHWC -> bfloat16 NCHW, normalised, fresh",
            "fresh",
            make_images,
            ('halfway.images(photos, mean, std, "bfloat16", layout="NHWC->NCHW")',),
            IMAGES_FRESH,
            IMAGES_USUAL,
        ),
        Case(
            "u8 NHWC -> bfloat16 NCHW, normalised, out",
            "out",
            make_images,
            ("halfway.to_torch(photos, scale=scale, shift=shift, axis=3, permute=(0, 3, 1, 2), out=o)",),
            IMAGES_INTO,
        ),
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
        *_batches(LARGE_BATCH, "float32", 64, 256 * KI),
        *_batches(SMALL_BATCH, "float64", 1024, 128),
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
            data.check(halfway.to_torch(found) if case.mode == "fresh" else destination)
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
