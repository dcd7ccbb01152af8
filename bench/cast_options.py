"""What a report and `same_value` cost: against the plain cast, and against counting in torch.

torch.compile is not among the ways of counting: it takes the cast there and back for no change and
finds nothing inexact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bench import harness
from bench.cast_rows import (
    F32_BF16,
    F32_F16,
    HUGE,
    MI,
    MODES,
    OURS,
    Data,
    Mode,
    Pair,
    data_of,
    effort_of,
    repeated,
    size_name,
)
from bench.harness import Contender, Effort

import halfway

Counts = tuple[int, int, int, int]  # nan, overflow, underflow, inexact

# Elements. The smaller is the most that torch gives to one thread, and its temporaries stay in the second-level cache;
# the larger is worth two threads.
CHUNKS = (32 << 10, 512 << 10)


def count_as_written(t: torch.Tensor, o: torch.Tensor) -> Counts:
    """The definitions, word by word."""
    o.copy_(t)
    back = o.to(t.dtype)
    finite, kept = torch.isfinite(t), torch.isfinite(back)
    nan = torch.isnan(t).sum()
    overflow = (finite & ~kept).sum()
    underflow = ((t != 0) & (back == 0)).sum()
    inexact = (finite & kept & (back != t)).sum()
    return int(nan), int(overflow), int(underflow), int(inexact)


def _few_passes(t: torch.Tensor, back: torch.Tensor) -> Counts:
    """The same by differences of counts: NaN differs from itself, and counts as nonzero on both sides."""
    nan = t.numel() - int(torch.count_nonzero(t == t))
    overflow = int(torch.count_nonzero(torch.isinf(back))) - int(torch.count_nonzero(torch.isinf(t)))
    underflow = int(torch.count_nonzero(t)) - int(torch.count_nonzero(back))
    changed = int(torch.count_nonzero(back != t))
    return nan, overflow, underflow, changed - nan - overflow


def count_by_differences(t: torch.Tensor, o: torch.Tensor) -> Counts:
    """Fewest passes over the whole array."""
    o.copy_(t)
    return _few_passes(t, o.to(t.dtype))


def _parts(t: torch.Tensor, chunk: int) -> tuple[torch.Tensor, ...]:
    """Parts of about equal size, `chunk` elements at most."""
    return t.chunk(-(-t.numel() // chunk))


def count_in_chunks(t: torch.Tensor, o: torch.Tensor, chunk: int) -> Counts:
    """Fewest passes, chunk by chunk in the cache."""
    nan = overflow = underflow = inexact = 0
    for part, narrow in zip(_parts(t, chunk), _parts(o, chunk), strict=True):
        narrow.copy_(part)
        counts = _few_passes(part, narrow.to(part.dtype))
        nan += counts[0]
        overflow += counts[1]
        underflow += counts[2]
        inexact += counts[3]
    return nan, overflow, underflow, inexact


def count_in_place(t: torch.Tensor, o: torch.Tensor, chunk: int) -> Counts:
    """Fewest passes, chunk by chunk, and every temporary in memory that is there already."""
    back_all = torch.empty(chunk, dtype=t.dtype)
    flags_all = torch.empty(chunk, dtype=torch.bool)
    infinity = float("inf")
    nan = overflow = underflow = inexact = 0
    for part, narrow in zip(_parts(t, chunk), _parts(o, chunk), strict=True):
        back, flags = back_all[: part.numel()], flags_all[: part.numel()]
        narrow.copy_(part)
        back.copy_(narrow)
        missing = part.numel() - int(torch.count_nonzero(torch.eq(part, part, out=flags)))
        changed = int(torch.count_nonzero(torch.ne(back, part, out=flags)))
        underflow += int(torch.count_nonzero(part)) - int(torch.count_nonzero(back))
        beyond = int(torch.count_nonzero(torch.eq(back.abs_(), infinity, out=flags)))
        beyond -= int(torch.count_nonzero(torch.eq(torch.abs(part, out=back), infinity, out=flags)))
        nan += missing
        overflow += beyond
        inexact += changed - missing - beyond
    return nan, overflow, underflow, inexact


COUNTING = {  # by statement
    "count_as_written(t, o)": count_as_written,
    "count_by_differences(t, o)": count_by_differences,
    **{f"count_in_chunks(t, o, {chunk})": count_in_chunks for chunk in CHUNKS},
    **{f"count_in_place(t, o, {chunk})": count_in_place for chunk in CHUNKS},
}


@dataclass(frozen=True)
class OptionCase:
    """A row: an option of a cast of 64 Mi elements, torch to torch, against the cast without it."""

    option: str
    pair: Pair
    mode: Mode

    @property
    def name(self) -> str:
        return f"{self.option}, {self.pair.name}, {self.mode}, {size_name(HUGE)}"


def option_cases() -> list[OptionCase]:
    return [
        *(OptionCase("report", pair, "out") for pair in (F32_BF16, F32_F16)),
        *(OptionCase("same_value", F32_BF16, mode) for mode in MODES),
    ]


def _report_data(pair: Pair, elements: int) -> Data:
    """A value of each kind that is counted, in every thousand."""
    data = data_of(pair, elements)
    for at, value in enumerate((float("nan"), 3.4028e38, 1e-45, float("inf"))):
        data.t[at::1000] = value
    return data


def _agree(pair: Pair, elements: int, names: dict[str, Any]) -> None:
    """Every way of counting finds the same, in so many elements; `names` learns what their statements use."""
    data = _report_data(pair, elements)
    small = {**data.names("torch"), **{count.__name__: count for count in COUNTING.values()}}
    report = halfway.Report()
    halfway.cast(data.t, data.o.dtype, out=data.o, report=report)
    wanted = (report.nan, report.overflow, report.underflow, report.inexact)
    for statement in COUNTING:
        found = eval(statement, small)
        if found != wanted:
            raise AssertionError(f"{statement} finds {found}, the report {wanted}")
    names.update({count.__name__: count for count in COUNTING.values()}, report=report)


def _surviving(pair: Pair, elements: int) -> Data:
    """Values of the source's dtype that the target has too."""
    block = data_of(Pair(pair.source, pair.target), min(elements, MI)).t
    kept = block.to(getattr(torch, pair.target)).to(block.dtype)
    return Data(repeated(kept, elements), torch.zeros(elements, dtype=getattr(torch, pair.target)))


def measure_option(case: OptionCase, elements: int, quick: bool) -> dict[str, Any]:
    plain = Contender(OURS[case.mode, "torch"], "plain")
    option = "report=report" if case.option == "report" else 'casting="same_value"'
    ours = Contender(f"{plain.statement[:-1]}, {option})", "ours")
    entrants: Sequence[Contender] = [ours, plain]
    if case.option == "report":
        data = _report_data(case.pair, elements)
        names = data.names("torch")
        _agree(case.pair, min(elements, MI), names)
        entrants = [*entrants, *(Contender(statement, "rival") for statement in COUNTING)]
    else:
        data = _surviving(case.pair, elements)
        names = data.names("torch")
    loops = {c.statement: harness.loop_of(c.statement, names) for c in entrants}
    effort = effort_of(elements, quick)
    if not quick:
        effort = Effort(effort.round_ns, rounds=25, seconds=5.0, least=7, threads=True)
    staying, times = harness.run(entrants, loops, effort)
    result: dict[str, Any] = {
        "name": case.name,
        "option": case.option,
        "source": case.pair.source,
        "target": case.pair.target,
        "mode": case.mode,
        "size": HUGE,
        "elements": elements,
        "ours": ours.statement,
        "plain": {"statement": plain.statement, "ratio": times.ratio(ours.statement, plain.statement).to_dict()},
    }
    if case.option == "report":
        compared = harness.compare(staying, times)
        result["rival"] = compared["rival"]
        result["faster"] = times.ratio(compared["rival"], ours.statement).to_dict(2)
    return {**result, "contenders": harness.listed(entrants, times)}
