"""What a user downloads and holds in memory: a loop for one more pair or instruction set is not for nothing."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import halfway

LIMIT = 25_000_000  # bytes; CONTRIBUTING.md has the budgets


def test_the_extension_module_keeps_to_its_budget() -> None:
    folder = Path(halfway.__file__).parent
    modules = [folder / f"_core{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    found = [module for module in modules if module.is_file()]
    assert found, f"no extension module _core in {folder}"
    size = found[0].stat().st_size
    assert size <= LIMIT, (
        f"{found[0].name} has {size / 1e6:.1f} MB, its budget is {LIMIT / 1e6:.0f} MB: "
        "was it built with debugging information, or do new loops cost so much?"
    )
