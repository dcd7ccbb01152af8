"""The cells of the transfer benchmark: which pairs, memory and sizes, against which idioms, and how one is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from bench import gpu, harness
from bench.cast_rows import Pair
from bench.harness import Contender, Effort, Loop, Times
from bench.transfer_claims import BLOCKING_CALL, COPY_ENGINE

import halfway

KI, MI, GI = 1 << 10, 1 << 20, 1 << 30
Memory = Literal["pageable", "pinned"]
MEMORIES: tuple[Memory, ...] = ("pageable", "pinned")
MODES = ("blocking", "non-blocking")

SOURCES = ("float32", "uint8", "int64", "float64", "bfloat16", "float16")
TARGETS = ("bfloat16", "float16", "float32")
SIZES = (64 * KI, 16 * MI, GI)
SMALL = (4, 64, KI, 4 * KI, 16 * KI)  # beside those: one float32 and more
F32_BF16 = Pair("float32", "bfloat16")
F32_F32 = Pair("float32", "float32")
F64_BF16 = Pair("float64", "bfloat16")
U8_BF16 = Pair("uint8", "bfloat16")
QUICK_LIMIT = 16 * KI  # bytes, of a quick run
DIFFERENT = 2.0**-5  # how far the idioms of others may be off: some scale and shift in bfloat16


def size_name(size: int) -> str:
    for unit, name in ((GI, "GiB"), (MI, "MiB"), (KI, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


@dataclass(frozen=True)
class Case:
    """A row. `size` is the bytes of its wider side."""

    pair: Pair
    memory: Memory
    size: int

    @property
    def name(self) -> str:
        return f"{self.pair.name}, {self.memory}, {size_name(self.size)}"

    def elements(self, limit: int) -> int:
        """How many, where no side may have more than `limit` bytes; at least one."""
        return max(min(self.size, limit) // max(map(itemsize, (self.pair.source, self.pair.target))), 1)


def itemsize(dtype: str) -> int:
    size: int = getattr(torch, dtype).itemsize
    return size


def hot_cases() -> list[Case]:
    """The commonest cast, which most is said of."""
    return [Case(F32_BF16, memory, size) for memory in MEMORIES for size in SIZES]


def small_cases() -> list[Case]:
    return [Case(pair, memory, size) for pair in (F32_BF16, F32_F32) for memory in MEMORIES for size in SMALL]


def other_cases() -> list[Case]:
    """The rest, those of one source together; the largest, which take nearly all of the time, behind all others.

    So what there is no time for are some of the largest, and a pair has its other sizes all the same.
    """
    return [
        Case(Pair(source, target), memory, size)
        for sizes in (SIZES[:-1], SIZES[-1:])
        for source in SOURCES
        for target in TARGETS
        for memory in MEMORIES
        for size in sizes
        if Pair(source, target) != F32_BF16
    ]


# --- data


def values_of(dtype: str, count: int) -> torch.Tensor:
    """N(0, 1) as floats, small integers; the same for every run."""
    random = torch.Generator().manual_seed(2026)
    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(count, generator=random).to(kind)
    low, high = (0, 256) if dtype == "uint8" else (-1000, 1000)
    return torch.randint(low, high, (count,), generator=random).to(kind)


TILE = MI  # elements, repeated


class Buffers:
    """The memory that the cells share: pageable, pinned and staging memory of the host, and some of the device.

    Each is as large as the largest cell's wider side, `limit` bytes.
    """

    def __init__(self, device: gpu.Device, limit: int) -> None:
        self.limit = limit
        self._host = {"pageable": torch.empty(limit, dtype=torch.uint8), "pinned": device.pinned(limit)}
        self._staging = device.pinned(limit)
        self._there = device.empty(limit)
        self._filled: dict[str, str] = {}

    def source(self, memory: str, dtype: str, elements: int) -> torch.Tensor:
        """Values of a dtype in the host's memory."""
        whole = self._host[memory][: self.limit // itemsize(dtype) * itemsize(dtype)].view(getattr(torch, dtype))
        if self._filled.get(memory) != dtype:
            tile = values_of(dtype, min(TILE, whole.numel()))
            repeated = whole.numel() // tile.numel() * tile.numel()
            whole[:repeated].view(-1, tile.numel()).copy_(tile)
            whole[repeated:].copy_(tile[: whole.numel() - repeated])
            self._filled[memory] = dtype
        return whole[:elements]

    def staging(self, dtype: str, elements: int) -> torch.Tensor:
        return self._staging[: elements * itemsize(dtype)].view(getattr(torch, dtype))

    def there(self, dtype: str, elements: int) -> torch.Tensor:
        return self._there[: elements * itemsize(dtype)].view(getattr(torch, dtype))


def limits(device: gpu.Device, quick: bool) -> tuple[int, str | None]:
    """The bytes that the wider side of a cell may have here, and why that is less than the largest cell has.

    Three buffers on the host beside what the idioms make, of which torch keeps what is pinned; on the device a buffer,
    two results, and what the idioms need in between.
    """
    if quick:
        return QUICK_LIMIT, None
    host, there = gpu.host_free() // 8, device.free() // 8
    if min(host, there) >= max(SIZES):
        return max(SIZES), None
    limit = 16 * MI
    while limit * 2 <= min(host, there):
        limit *= 2
    return limit, (
        f"no cell beyond {size_name(limit)}: eight times as much memory is needed, and {size_name(8 * host)} of the "
        f"host's and {size_name(8 * there)} of the device's is free"
    )


# --- contenders

# The libraries' own ways. t: the source; dtype: the target; staging: pinned memory that is there already.
TO_DEVICE = {
    "blocking": [
        BLOCKING_CALL,
        't.to("cuda").to(dtype)',
        't.to(dtype).to("cuda")',
    ],
    "non-blocking": [
        't.to("cuda", dtype, non_blocking=True)',
        't.to("cuda", non_blocking=True).to(dtype)',
    ],
}
ONLY_PAGEABLE = 't.pin_memory().to("cuda", non_blocking=True).to(dtype)'
STAGED = 'staging.copy_(t).to("cuda", non_blocking=True).to(dtype)'
OURS = {
    "blocking": 'halfway.to_torch(t, dtype, device="cuda")',
    "non-blocking": 'halfway.to_torch(t, dtype, device="cuda", non_blocking=True)',
}
CUPY = ["cupy.asarray(a).astype(kind)", "cupy.asarray(a.astype(kind))"]
FLOOR = COPY_ENGINE  # the bytes of the narrower side, by a copy engine


def contenders(case: Case, cupy: Any = None) -> list[Contender]:
    """Ours, torch's, CuPy's where it is there and has both dtypes, and the floor. The door is the mode."""
    changes = case.pair.source != case.pair.target
    found = [Contender(OURS[mode], "ours", door=mode) for mode in MODES]
    for mode in MODES:
        statements = TO_DEVICE[mode] if changes else TO_DEVICE[mode][:1]
        found += [
            Contender(statement, "rival", door=mode, named=statement == BLOCKING_CALL) for statement in statements
        ]
    if case.memory == "pageable":
        found += [Contender(statement, "rival", door="non-blocking") for statement in (ONLY_PAGEABLE, STAGED)]
    if cupy is not None and "bfloat16" not in (case.pair.source, case.pair.target):
        statements = CUPY if changes else CUPY[:1]
        found += [Contender(statement, "cupy", door="blocking") for statement in statements]
    return [*found, Contender(FLOOR, "floor")]


def synchronised(statement: str, names: Mapping[str, Any], device: gpu.Device) -> Loop:
    """A loop in which the device has done what it was given before the next call begins."""
    return harness.loop_of(f"{statement}; synchronize()", {**names, "synchronize": device.synchronize})


def returning(call: Callable[[], object], device: gpu.Device, calls: int) -> float:
    """Nanoseconds until a call returns, whatever the device does then: the median of some."""
    taken = []
    for _ in range(calls):
        device.synchronize()
        clock = time.perf_counter_ns()
        result = call()
        taken.append(time.perf_counter_ns() - clock)
        device.synchronize()
        del result
    return harness.spread(taken).median


@dataclass(frozen=True)
class Checked:
    """A contender's result is right, and this is the device memory that it took."""

    peak: dict[str, int]


def parts_of(elements: int, most: int = 64 * KI) -> list[slice]:
    """Both ends, of as many elements as are quickly compared."""
    return [slice(0, min(most, elements)), slice(max(elements - most, 0), elements)]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(torch.uint8) if tensor.numel() else tensor


def require_right(statement: str, exact: bool, found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Ours has the bits of the host's cast, others are near.

    Raises:
        AssertionError: what `statement` gives is wrong.
    """
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        raise AssertionError(f"{statement} gives {found.dtype} {tuple(found.shape)}, not {wanted.dtype}")
    if exact:
        right = torch.equal(bits(found), bits(wanted))
    else:
        a, b = found.double(), wanted.double()
        right = bool(((a - b).abs() <= DIFFERENT * (1 + b.abs())).all())
    if not right:
        raise AssertionError(f"{statement} gives wrong values")


def checked(
    device: gpu.Device,
    entrants: Sequence[Contender],
    calls: Mapping[str, Callable[[], Any]],
    wanted: Callable[[slice], torch.Tensor],
    parts: Sequence[slice],
) -> dict[str, Checked]:
    """Each contender but the floor called once, its result compared in some parts, its memory measured.

    `wanted` gives a part of the right result, on the host; parts are of its elements in row-major order.
    """
    found = {}
    for contender in entrants:
        if contender.role == "floor":
            continue
        statement = contender.statement
        result, peak = gpu.peak_of(device, calls[statement])
        for part in parts:
            require_right(statement, contender.role == "ours", device.on_host(result, part), wanted(part))
        found[statement] = Checked(peak)
        del result
    return found


def calls_of(statements: Sequence[str], names: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    return {text: eval(f"lambda: {text}", dict(names)) for text in statements}


def effort_of(size: int, seconds: float, quick: bool) -> Effort:
    """Within about these seconds, more where a few rounds take longer."""
    if quick:
        return Effort(round_ns=0, rounds=1, screening=1)
    if size <= 64 * KI:
        return Effort(round_ns=500_000, rounds=60, seconds=seconds, least=7)
    return Effort(round_ns=0, rounds=25, seconds=seconds, least=3, screening=1)


def listed(entrants: Sequence[Contender], times: Times, peaks: Mapping[str, Checked]) -> list[dict[str, Any]]:
    """As harness.listed, with the device memory that each took."""
    entries = harness.listed(entrants, times)
    for entry in entries:
        if entry["statement"] in peaks:
            entry["peak"] = peaks[entry["statement"]].peak
    return entries


def best(staying: Sequence[Contender], times: Times, role: str, door: str | None = None) -> str | None:
    """The fastest of a role, and of a door where one is given."""
    found = [c for c in staying if c.role == role and door in (None, c.door)]
    return harness.fastest(found, times).statement if found else None


def measure(
    case: Case, buffers: Buffers, device: gpu.Device, seconds: float, quick: bool, cupy: Any = None
) -> dict[str, Any]:
    """One row: every contender checked, then all of them in turns."""
    source, target = case.pair.source, case.pair.target
    elements = case.elements(buffers.limit)
    t = buffers.source(case.memory, source, elements)
    narrow = min(source, target, key=itemsize)
    moved = elements * itemsize(narrow)
    names: dict[str, Any] = {
        "halfway": halfway,
        "t": t,
        "dtype": getattr(torch, target),
        "staging": buffers.staging(narrow, elements),
        "pinned": buffers.staging("uint8", moved),
        "there": buffers.there("uint8", moved),
    }
    entrants = contenders(case, cupy)
    if cupy is not None:
        names |= {"cupy": cupy, "kind": target, "a": t.numpy() if source != "bfloat16" else None}
    statements = [contender.statement for contender in entrants]
    calls = calls_of(statements, names)
    peaks = checked(
        device, entrants, calls, lambda part: halfway.to_torch(t[part], getattr(torch, target)), parts_of(elements)
    )
    loops = {statement: synchronised(statement, names, device) for statement in statements}
    staying, times = harness.run(entrants, loops, effort_of(elements * itemsize(narrow), seconds, quick))
    modes = {}
    torchs = best(staying, times, "rival")
    assert torchs is not None
    for mode in MODES:
        ours, rival = OURS[mode], best(staying, times, "rival", mode)
        assert rival is not None
        modes[mode] = {
            "ours": ours,
            "rival": rival,
            "ratio": times.ratio(ours, rival).to_dict(),
            "torch": torchs,  # of either mode
            "against_torch": times.ratio(ours, torchs).to_dict(),
            "floor": times.ratio(FLOOR, ours).to_dict(),  # its share
            "returns_ns": round(returning(calls[ours], device, 1 if quick else 5), 1),
        }
        if (other := best(staying, times, "cupy", mode)) is not None:
            modes[mode]["cupy"] = {"statement": other, "ratio": times.ratio(ours, other).to_dict()}
    fastest = min(MODES, key=lambda mode: times.spread(OURS[mode]).median)
    return {
        "name": case.name,
        "source": source,
        "target": target,
        "memory": case.memory,
        "size": case.size,
        "elements": elements,
        "bytes_wide": elements * max(itemsize(source), itemsize(target)),
        "bytes_narrow": moved,
        "bytes_source": elements * itemsize(source),
        "ours": OURS[fastest],
        "modes": modes,
        "contenders": listed(entrants, times, peaks),
    }
