"""Bundles that are made up: executables and benchmarks that are scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import gpu_tests, gpu_tune


def executable(path: Path, script: str) -> None:
    """A shell script, which is asked to list its cases first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = --list_content ] && exit 0\n{script}\n')
    path.chmod(0o755)


def bundle_of(tmp_path: Path, script: str, experiments: str = "echo no device; exit 77") -> Path:
    """A bundle whose tests are one shell script and whose experiments are another."""
    root = tmp_path / "halfway-gpu"
    (root / "source" / "tests" / "python").mkdir(parents=True)
    for name in gpu_tests.EXECUTABLES:
        executable(root / "bin" / name, f"junit=${{2##*,}}\n{script}")
    executable(root / "bin" / gpu_tune.EXPERIMENTS, experiments)
    return root


def bench_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, experiments: str = "echo no device; exit 77"
) -> Path:
    """A bundle whose benchmark is a script, with a package that loads and a torch that sees a GPU."""
    root = bundle_of(tmp_path, "exit 1", experiments)
    (root / "source" / "bench").mkdir()
    (root / "source" / "bench" / "transfer.py").write_text(script)
    package = root / "python" / "halfway"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("WHERE = __file__\n")
    (package / "_core.so").touch()
    monkeypatch.setattr(gpu_tests, "missing_device", lambda: None)
    monkeypatch.setattr(gpu_tests, "HERE", root)
    answer = '{"torch": "torch 0", "device": "GPU of 1", "suffix": ".so"}'
    monkeypatch.setattr(gpu_tests, "QUESTION", f"print({answer!r})")
    return root
