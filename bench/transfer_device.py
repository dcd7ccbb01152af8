"""Rows of the transfer benchmark that begin on the device: casts there, images, and the way back to the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from bench import gpu, harness
from bench.cast_rows import Pair
from bench.harness import Contender, Effort, Loop
from bench.transfer_rows import (
    F32_BF16,
    FLOOR,
    KI,
    MI,
    SOURCES,
    TARGETS,
    Buffers,
    calls_of,
    checked,
    itemsize,
    listed,
    parts_of,
    synchronised,
    values_of,
)

import halfway

Row = dict[str, Any]

WIDE = 256 * MI  # bytes of the wider side of a cast on the device: beyond its caches


def on_the_device(statement: str, names: dict[str, Any], device: gpu.Device) -> Loop:
    """Calls one behind the other, by the device's clock."""
    call = calls_of([statement], names)[statement]
    return lambda count: device.elapsed(call, count)


def by_device(seconds: float, quick: bool) -> Effort:
    return Effort(round_ns=0, rounds=1) if quick else Effort(round_ns=5_000_000, rounds=25, seconds=seconds, least=5)


def compared(
    name: str,
    entrants: Sequence[Contender],
    loops: dict[str, Loop],
    peaks: dict[str, Any],
    effort: Effort,
) -> Row:
    """The fastest of ours against the fastest rival, and its share of the floor."""
    staying, times = harness.run(entrants, loops, effort)
    overall = harness.compare(staying, times)
    (floor,) = [contender.statement for contender in entrants if contender.role == "floor"]
    return {
        "name": name,
        **overall,
        "faster": times.ratio(overall["rival"], overall["ours"]).to_dict(),
        "floor": {"statement": floor, "share": times.ratio(floor, overall["ours"]).to_dict()},
        "contenders": listed(entrants, times, peaks),
    }


# --- casts: d is the source, o memory for the result, from_there and into_there as many bytes as both have, halved

CASTS = [
    Contender("halfway.cast(d, dtype, out=o)", "ours"),
    Contender("halfway.to_torch(d, dtype)", "ours"),
    Contender("o.copy_(d)", "rival"),
    Contender("d.to(dtype)", "rival"),
    Contender("into_there.copy_(from_there)", "floor"),
]


def cast_pairs() -> list[Pair]:
    return [Pair(source, target) for source in SOURCES for target in TARGETS if source != target]


def measure_cast(pair: Pair, device: gpu.Device, seconds: float, quick: bool) -> Row:
    """Memory to memory on the device; the floor is torch's copy of as many bytes."""
    source, target = itemsize(pair.source), itemsize(pair.target)
    elements = (8 * KI if quick else WIDE) // max(source, target)
    host = values_of(pair.source, min(elements, MI))
    d = device.empty(elements * source).view(getattr(torch, pair.source))
    d.view(-1, host.numel()).copy_(host)
    half = elements * (source + target) // 2
    names: dict[str, Any] = {
        "halfway": halfway,
        "d": d,
        "o": device.empty(elements * target).view(getattr(torch, pair.target)),
        "dtype": getattr(torch, pair.target),
        "from_there": device.empty(half),
        "into_there": device.empty(half),
    }
    calls = calls_of([contender.statement for contender in CASTS], names)

    def wanted(part: slice) -> torch.Tensor:
        return halfway.to_torch(device.on_host(d, part), getattr(torch, pair.target))

    peaks = checked(device, CASTS, calls, wanted, parts_of(elements))
    loops = {contender.statement: on_the_device(contender.statement, names, device) for contender in CASTS}
    row = compared(pair.name, CASTS, loops, peaks, by_device(seconds, quick))
    return {**row, "source": pair.source, "target": pair.target, "elements": elements, "bytes_moved": 2 * half}


# --- images: t is uint8 NHWC, on the device, or h on the host; o is memory for the result

IMAGES, HEIGHT, WIDTH, CHANNELS = 256, 224, 224, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchs_normalised(t: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """What torch.compile makes one kernel of, as of the two that follow."""
    return torch.addcmul(shift, t.float(), scale).to(torch.bfloat16)


def torchs_normalised_planes(t: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torchs_normalised(t.permute(0, 3, 1, 2), scale, shift).contiguous()


def torchs_planes(t: torch.Tensor) -> torch.Tensor:
    return t.permute(0, 3, 1, 2).to(torch.bfloat16).contiguous()


@dataclass(frozen=True)
class ImageCase:
    """A row: how the result comes to be, and how torch's users have it."""

    name: str
    ours: Sequence[str]
    rivals: Sequence[str]
    normalised: bool
    planes: bool  # NCHW, else NHWC as the source
    function: Callable[..., torch.Tensor]  # `compiled` is what torch.compile makes of it
    compiled: Sequence[str]  # rivals, too, where it makes anything
    from_host: bool = False


PLANES = "t.permute(0, 3, 1, 2)"
STAGED_IMAGES = 'staging.copy_(h).to("cuda", non_blocking=True)'
PERMUTED = ImageCase(
    "u8 NHWC -> bfloat16 NCHW",
    ["halfway.cast(t, dtype, permute=(0, 3, 1, 2), out=o)", "halfway.to_torch(t, dtype, permute=(0, 3, 1, 2))"],
    [
        f"o.copy_({PLANES})",
        f"{PLANES}.to(dtype, memory_format=torch.contiguous_format)",
        f"{PLANES}.to(dtype).contiguous()",
        f"{PLANES}.contiguous().to(dtype)",
    ],
    normalised=False,
    planes=True,
    function=torchs_planes,
    compiled=["compiled(t)"],
)
NORMALISED = ImageCase(
    "u8 -> bfloat16, normalised",
    [
        "halfway.images(t, MEAN, STD, dtype, layout='NHWC', out=o)",
        "halfway.images(t, MEAN, STD, dtype, layout='NHWC')",
    ],
    [
        "torch.addcmul(shift, t.float(), scale).to(dtype)",
        "t.to(dtype).mul_(scale16).add_(shift16)",
        "torch.addcmul(shift16, t.to(dtype), scale16)",
        "torch.addcmul(shift16, o.copy_(t), scale16, out=o)",
    ],
    normalised=True,
    planes=False,
    function=torchs_normalised,
    compiled=["compiled(t, scale, shift)"],
)
NORMALISED_PLANES = ImageCase(
    "u8 NHWC -> bfloat16 NCHW, normalised",
    ["halfway.images(t, MEAN, STD, dtype, out=o)", "halfway.images(t, MEAN, STD, dtype)"],
    [
        f"torch.addcmul(shift, {PLANES}.float(), scale).to(dtype).contiguous()",
        f"torch.addcmul(shift16, {PLANES}.to(dtype), scale16).contiguous()",
        f"o.copy_({PLANES}).mul_(scale16).add_(shift16)",
        f"torch.addcmul(shift16, o.copy_({PLANES}), scale16, out=o)",
        f"o.copy_(torch.addcmul(shift, {PLANES}.float(), scale))",
    ],
    normalised=True,
    planes=True,
    function=torchs_normalised_planes,
    compiled=["compiled(t, scale, shift)"],
)
FROM_HOST = ImageCase(
    "u8 NHWC, pageable -> bfloat16 NCHW on the device, normalised",
    ["halfway.images(h, MEAN, STD, dtype, out=o)"],
    [
        'torch.addcmul(shift16, h.to("cuda").permute(0, 3, 1, 2).to(dtype), scale16).contiguous()',
        'torch.addcmul(shift16, o.copy_(h.to("cuda").permute(0, 3, 1, 2)), scale16, out=o)',
        f"torch.addcmul(shift16, o.copy_({STAGED_IMAGES}.permute(0, 3, 1, 2)), scale16, out=o)",
    ],
    normalised=True,
    planes=True,
    function=torchs_normalised_planes,
    compiled=['compiled(h.to("cuda"), scale, shift)', f"compiled({STAGED_IMAGES}, scale, shift)"],
    from_host=True,
)
IMAGE_CASES = (PERMUTED, NORMALISED, NORMALISED_PLANES, FROM_HOST)


@dataclass
class Compiled:
    """torch.compile's kernels, where it can make any: a note says why not."""

    notes: list[str] = field(default_factory=list)

    def made(self, case: ImageCase, names: dict[str, Any]) -> Callable[..., torch.Tensor] | None:
        """The case's function, compiled for the arguments that its first statement has."""
        try:
            made: Callable[..., torch.Tensor] = torch.compile(case.function, dynamic=False)
            eval(case.compiled[0], {**names, "compiled": made})
        except Exception as error:  # whatever its compilers say
            said = str(error).strip().partition("\n")[0]
            self.notes.append(f"torch.compile is no contender: {type(error).__name__}: {said}")
            return None
        return made


def measure_images(
    case: ImageCase, device: gpu.Device, seconds: float, quick: bool, notes: list[str], compiles: bool = True
) -> Row:
    """A row of images. Torch's best is in whatever arithmetic, compiled or not."""
    count = 2 if quick else IMAGES
    shape = (count, HEIGHT // 8, WIDTH // 8, CHANNELS) if quick else (count, HEIGHT, WIDTH, CHANNELS)
    elements = shape[0] * shape[1] * shape[2] * shape[3]
    host = values_of("uint8", elements).reshape(shape)
    t = device.empty(elements).reshape(shape)
    t.copy_(host)
    planes = (shape[0], shape[3], shape[1], shape[2])
    o = device.empty(2 * elements).view(torch.bfloat16).reshape(planes if case.planes else shape)
    scale = torch.tensor([1 / (255 * std) for std in STD])
    shift = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)])
    if case.planes:
        scale, shift = scale.reshape(3, 1, 1), shift.reshape(3, 1, 1)

    def there(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        memory = device.empty(values.numel() * dtype.itemsize).view(dtype).reshape(values.shape)
        return memory.copy_(values)

    names: dict[str, Any] = {"halfway": halfway, "torch": torch, "MEAN": MEAN, "STD": STD, "dtype": torch.bfloat16}
    staging = device.pinned(elements).reshape(shape)
    names |= {"h": host, "t": t, "o": o, "staging": staging}
    for name, values in (("scale", scale), ("shift", shift)):
        names |= {name: there(values, torch.float32), f"{name}16": there(values, torch.bfloat16)}
    rivals = list(case.rivals)
    if compiles:
        compiler = Compiled()
        made = compiler.made(case, names)
        notes += compiler.notes
        if made is not None:
            names["compiled"] = made
            rivals += case.compiled
    entrants = [Contender(statement, "ours") for statement in case.ours]
    entrants += [Contender(statement, "rival") for statement in rivals]
    if case.from_host:  # the bytes of the source, by a copy engine
        names |= {"pinned": staging, "there": device.empty(elements).reshape(shape)}
        entrants.append(Contender(FLOOR, "floor"))
    else:
        moved = 3 * elements // 2
        names |= {"from_there": device.empty(moved), "into_there": device.empty(moved)}
        entrants.append(Contender("into_there.copy_(from_there)", "floor"))
    calls = calls_of([contender.statement for contender in entrants], names)
    if case.normalised:
        right = halfway.images(host, MEAN, STD, "bfloat16", layout="NHWC->NCHW" if case.planes else "NHWC")
    else:
        right = halfway.to_torch(host, "bfloat16", permute=(0, 3, 1, 2))
    peaks = checked(device, entrants, calls, lambda part: right.reshape(-1)[part], parts_of(elements))
    loops = {}
    for contender in entrants:
        make = synchronised if case.from_host else on_the_device
        loops[contender.statement] = make(contender.statement, names, device)
    row = compared(case.name, entrants, loops, peaks, by_device(seconds, quick))
    return {**row, "elements": elements, "shape": list(shape)}


# --- the way back: d is on the device, h is memory of the host for the result

STAGED_BACK = "h.copy_(staging.copy_(d.to(dtype)))"  # by pinned memory that is there already
BACK = {
    "pinned": (
        ["halfway.to_torch(d, out=h)"],
        ["h.copy_(d.to(dtype), non_blocking=True)", "h.copy_(d)"],
    ),
    "pageable": (
        ["halfway.to_torch(d, dtype, device='cpu')", "halfway.to_torch(d, out=h)"],
        ["d.to(dtype).cpu()", 'd.to("cpu", dtype)', "d.cpu().to(dtype)", "h.copy_(d.to(dtype))", STAGED_BACK],
    ),
}
BACK_FLOOR = "pinned.copy_(narrow, non_blocking=True)"


def measure_back(memory: str, buffers: Buffers, device: gpu.Device, seconds: float, quick: bool) -> Row:
    """float32 on the device to bfloat16 on the host; the floor is a copy engine with the narrow bytes alone."""
    elements = buffers.limit // itemsize("float32")
    source, target = F32_BF16.source, F32_BF16.target
    d = buffers.there(source, elements)
    d.copy_(buffers.source("pageable", source, elements))
    size = elements * itemsize(target)
    narrow = device.empty(size)
    pinned = buffers.staging("uint8", size)
    h = buffers.staging(target, elements) if memory == "pinned" else torch.empty(elements, dtype=torch.bfloat16)
    names: dict[str, Any] = {"halfway": halfway, "d": d, "h": h, "dtype": torch.bfloat16, "narrow": narrow}
    names |= {"pinned": pinned, "staging": buffers.staging(target, elements)}
    ours, rivals = BACK[memory]
    entrants = [Contender(statement, "ours") for statement in ours]
    entrants += [Contender(statement, "rival") for statement in rivals]
    entrants.append(Contender(BACK_FLOOR, "floor"))
    calls = calls_of([contender.statement for contender in entrants], names)
    for contender in entrants:
        if contender.role == "ours":
            calls[contender.statement]()  # the engine's own chunks are made now, and kept
    host = buffers.source("pageable", source, elements)
    peaks = checked(
        device, entrants, calls, lambda part: halfway.to_torch(host[part], torch.bfloat16), parts_of(elements)
    )
    loops = {c.statement: synchronised(c.statement, names, device) for c in entrants}
    effort = Effort(round_ns=0, rounds=1) if quick else Effort(round_ns=0, rounds=15, seconds=seconds, screening=1)
    row = compared(f"{F32_BF16.name} to {memory} memory", entrants, loops, peaks, effort)
    return {**row, "memory": memory, "elements": elements, "bytes_narrow": size}
