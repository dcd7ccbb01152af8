"""`python -m halfway demo`: what happens to data between NumPy and torch, shown on real data."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import classifier, device, exchange, table, timing
from .page import Page

__all__ = ["SECTIONS", "run"]


class Section(NamedTuple):
    """A part of the demo, chosen by its key."""

    key: str
    title: str
    needs: tuple[str, ...]
    """Modules without which it cannot run."""
    show: Callable[[Page, bool], None]
    """Called with the page and whether times are wanted."""


_BOTH = ("torch", "sklearn")
SECTIONS = (
    Section("a", "Which dtypes meet, and which need a cast", (), table.show),
    Section("b", "Implicit conversion: what happens if you say nothing", _BOTH, exchange.implicit),
    Section("c", "Explicit dtype: one pass, and what it lost", _BOTH, exchange.explicit),
    Section("d", "Copy or zero-copy, proven", _BOTH, exchange.zero_copy),
    Section("e", "Structured records and complex numbers", _BOTH, exchange.records_and_complex),
    Section("f", "A classifier, from NumPy to torch and back", _BOTH, classifier.show),
    Section("g", "To a GPU and back: which side casts, and what crosses the wire", ("torch",), device.show),
    Section("times", "Times on this machine, now", ("torch",), timing.show),
)

_PIP_NAMES = {"torch": "torch", "sklearn": "scikit-learn"}


def _missing(sections: Sequence[Section]) -> list[str]:
    missing = []
    for module in dict.fromkeys(module for section in sections for module in section.needs):
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module)
    return missing


def run(keys: Sequence[str] = (), *, times: bool = True) -> int:
    """Show the sections with these keys (all by default); 1 if a module they need is missing."""
    chosen = [section for section in SECTIONS if not keys or section.key in keys]
    if not times:
        chosen = [section for section in chosen if section.key != "times"]
    missing = _missing(chosen)
    page = Page()
    for section in chosen:
        if not set(section.needs) & set(missing):
            page.title(f"({section.key}) {section.title}")
            section.show(page, times)
    if missing:
        sys.stdout.flush()
        packages = " ".join(_PIP_NAMES[module] for module in missing)
        left_out = ", ".join(s.key for s in chosen if set(s.needs) & set(missing))
        print(f"halfway demo: left out {left_out}; it needs: pip install {packages}", file=sys.stderr)
        return 1
    return 0
