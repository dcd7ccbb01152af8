"""bfloat16 weights out of torch into NumPy and back, without a conversion or a copy.

Run: python examples/bfloat16_roundtrip.py
"""

from __future__ import annotations

import numpy as np
import torch

import halfway


def main() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 256, bias=False, dtype=torch.bfloat16)
    weights = layer.weight.detach()

    array = halfway.to_numpy(weights)
    print(f"torch {weights.dtype} -> NumPy {array.dtype}: the same memory:", end=" ")
    print(array.ctypes.data == weights.data_ptr())

    # NumPy computes on it: prune the smallest half of the weights, in place.
    threshold = np.median(np.abs(array.astype(np.float32)))
    array[np.abs(array.astype(np.float32)) < threshold] = 0
    print(f"pruned in NumPy, zero in torch: {(weights == 0).float().mean():.0%} of the weights")

    # And back: what came from torch's memory is torch's memory.
    back = halfway.to_torch(array)
    print("back in torch, the same memory:", back.data_ptr() == weights.data_ptr())

    # Narrower still: what would 8 bits cost? Counted in the pass that casts.
    report = halfway.Report()
    narrow = halfway.to_torch(array, "float8_e4m3fn", overflow="saturate", report=report)
    print(f"to {narrow.dtype}: {report}")


if __name__ == "__main__":
    main()
