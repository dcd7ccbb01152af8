"""Which instruction set casts use, as the environment variable HALFWAY_TIER says."""

from __future__ import annotations

import os
import subprocess
import sys

PRELUDE = """
import hashlib
import numpy as np
import halfway
x = np.random.default_rng(0).integers(0, 2**32, 100_003, dtype=np.uint32).view(np.float32)
"""


def run_with(tier: str | None, code: str) -> str:
    """What the code prints in an interpreter with that HALFWAY_TIER; None: without one."""
    environment = {name: value for name, value in os.environ.items() if name != "HALFWAY_TIER"}
    if tier is not None:
        environment["HALFWAY_TIER"] = tier
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_unknown_tier_is_refused_by_casts_alone():
    text = run_with(
        "nonsense",
        """
assert np.shares_memory(halfway.to_numpy(halfway.from_dlpack(x)), x)
for _ in range(2):
    try:
        halfway.cast(x, "bfloat16")
    except halfway.ExchangeError as error:
        print(error)
assert np.shares_memory(halfway.to_numpy(halfway.from_dlpack(x)), x)
""",
    )
    assert text.count("HALFWAY_TIER=nonsense") == 2
    assert "choose one of" in text
    assert "baseline" in text or "neon" in text


def test_every_tier_gives_the_same_bits():
    code = """
for target in ("float16", "bfloat16", "float8_e4m3fn", "int32"):
    report = halfway.Report()
    result = halfway.cast(x, halfway.Cast(target, casting="unsafe"), report=report)
    print(target, hashlib.sha256(result.tobytes()).hexdigest(), report.to_dict())
"""
    by_default = run_with(None, code)
    assert by_default.count("float") == 3
    oldest = "neon" if os.uname().machine in ("aarch64", "arm64") else "baseline"
    assert run_with(oldest, code) == by_default
    assert run_with("", code) == by_default
