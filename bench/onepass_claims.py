"""What is claimed of casts that rearrange, scale, stack or round by chance, judged on the rows of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.harness import claim
from bench.onepass_batches import LARGE_BATCH, SMALL_BATCH

Row = Mapping[str, Any]

# By row: what ours is held against, and the least that is wanted. Against `rival`, `usual`, `foreach` it is how many
# times faster ours is, against `hand` and `floor` the share of their speed.
IMAGES = "u8 NHWC -> bfloat16 NCHW, normalised"
TARGETS: Mapping[str, Mapping[str, float]] = {
    f"{IMAGES}, fresh": {"usual": 15, "rival": 4},
    f"{IMAGES}, out": {"rival": 4, "hand": 0.7},
    "transposed f32 -> bfloat16, out": {"rival": 4, "floor": 0.5},
    "every second column f32 -> bfloat16, out": {"rival": 2, "floor": 0.65},
    "reversed rows f32 -> bfloat16, out": {"rival": 2, "floor": 0.65},
    **{
        f"big-endian {source} -> {target}, out": {"rival": 2, "floor": 0.8}
        for source in ("f4", "f8")
        for target in ("float32", "bfloat16")
    },
    "field f8 of 24-byte records -> bfloat16, out": {"rival": 1.5},
    "stochastic f32 -> bfloat16, out": {"rival": 4},
    f"{LARGE_BATCH}, fresh": {"rival": 5},
    f"{LARGE_BATCH}, out": {"foreach": 1},
    f"{SMALL_BATCH}, fresh": {"rival": 1.5},
}
WORDS = {
    "usual": "times faster than the usual chain",
    "rival": "times faster than the best idiom",
    "foreach": "times faster than torch._foreach_copy_",
    "hand": "share of the hand-written kernel's speed",
    "floor": "share of the floor",
}


def value_of(row: Row, against: str) -> float:
    """The median that a target is about."""
    if against == "floor":
        share: float = row["floor"]["share"]["median"]
        return share
    faster: float = (row["faster"] if against == "rival" else row[against]["faster"])["median"]
    return faster


def judge(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The targets of these rows, in their order.

    The note names whom ours was held against; `floor`, of targets that say how many times faster ours is, says how many
    times faster the floor was.
    """
    claims = []
    for row in rows:
        for against, target in TARGETS.get(row["name"], {}).items():
            note = row["rival"] if against == "rival" else row[against]["statement"]
            value = value_of(row, against)
            judged = claim(f"{row['name']}: {WORDS[against]}", value, ">=", target, note)
            if against not in ("hand", "floor"):
                judged["floor"] = round(value / value_of(row, "floor"), 3)
            claims.append(judged)
    return claims
