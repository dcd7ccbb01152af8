"""Running a benchmark as its users do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any


def run(script: Path, *arguments: Any) -> str:
    """What it prints."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
