"""Modules that are no part of a package, loaded from their files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def load_module(path: Path, name: str | None = None) -> Any:
    """A new module of that file; nothing is kept in sys.modules. An extension module's name is not its file's."""
    spec = importlib.util.spec_from_file_location(name or path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_tool(name: str) -> Any:
    return load_module(ROOT / "tools" / f"{name}.py")
