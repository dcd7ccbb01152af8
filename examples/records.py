"""Structured NumPy records, field by field, as torch tensors over the records' own memory.

Run: python examples/records.py
"""

from __future__ import annotations

import numpy as np

import halfway


def main() -> None:
    # A log of sensor events, as np.fromfile or np.memmap would give it.
    layout = np.dtype([("time", "i8"), ("sensor", "i4"), ("position", "f4", (3,)), ("signal", "c8")], align=True)
    rng = np.random.default_rng(0)
    events = np.zeros(1000, layout)
    events["time"] = np.arange(1000) * 250
    events["sensor"] = rng.integers(0, 8, 1000)
    events["position"] = rng.normal(size=(1000, 3))
    events["signal"] = rng.normal(size=1000) + 1j * rng.normal(size=1000)

    parts = halfway.fields(events)
    for name, part in parts.items():
        how = "copied: " + ", ".join(part.reasons) if part.reasons else "a view of the records"
        print(f"{name:9} {part.dtype:10} {part.shape!s:10} {how}")

    # torch computes on the fields where they are; what it writes is in the records.
    position = halfway.to_torch(parts["position"])
    position -= position.mean(dim=0)
    print("centred by torch, seen by NumPy:", np.abs(events["position"].mean(axis=0)).max() < 1e-6)

    power = halfway.to_torch(parts["signal"]).abs().square()
    strongest = int(power.argmax())
    print("strongest signal at time", events["time"][strongest])


if __name__ == "__main__":
    main()
