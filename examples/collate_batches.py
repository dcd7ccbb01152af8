"""Samples of different length and kind into batches, in one pass each, for a torch DataLoader.

Run: python examples/collate_batches.py [WORKERS]
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import halfway


class Clips(Dataset[dict[str, Any]]):
    """Recordings as NumPy has them: big-endian floats, one length each, with a label and a name."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        signal = rng.normal(size=(2, 500 + index)).astype(">f4")
        return {"signal": signal, "label": index % 10, "name": f"clip {index}"}


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    # Floats become bfloat16 and short signals are filled up with zeros; labels stay what they are.
    collate = functools.partial(halfway.collate, dtype={float: "bfloat16"}, pad={"signal": 0})
    loader = DataLoader(Clips(), batch_size=16, num_workers=workers, collate_fn=collate)

    total = 0
    for batch in loader:
        signal, label = batch["signal"], batch["label"]
        print(signal.dtype, tuple(signal.shape), label.dtype, batch["name"][0], "...")
        total += signal.shape[0]
    print("every clip came:", total == 64)

    # The same memory for every batch: what an earlier call returned is an out=.
    clips = Clips()
    signal = torch.empty(16, 2, 600, dtype=torch.bfloat16)
    longest = {"signal": signal, "label": None, "name": None}
    for start in range(0, 64, 16):
        batch = halfway.collate([clips[i] for i in range(start, start + 16)], out=longest, pad={"signal": 0})
        total += batch["signal"] is signal
    print("one buffer for all batches:", total == 64 + 4)


if __name__ == "__main__":
    main()
