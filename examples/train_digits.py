"""Train on NumPy data: one cast in, no copies out.

Run: python examples/train_digits.py [dtype]      needs scikit-learn for its digits
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits

import halfway


def main() -> None:
    dtype = getattr(torch, sys.argv[1] if len(sys.argv) > 1 else "float32")
    images, labels = load_digits(return_X_y=True)  # float64 and int64, in NumPy
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    train, test = slice(0, 1400), slice(1400, None)

    # One pass from float64, whatever the model computes in. Pixels are 0 to 16: nothing is lost.
    recipe = halfway.Cast(dtype, casting="same_value")
    x = halfway.to_torch(images[train], recipe)
    y = halfway.to_torch(labels[train], copy=False)  # int64 as it is: shared or an error

    torch.manual_seed(0)
    torch.set_num_threads(1)  # small matrices: more threads only wait for each other
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(30):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()

    with torch.no_grad():
        scores = halfway.to_numpy(model(halfway.to_torch(images[test], recipe)))
    accuracy = (scores.argmax(axis=1) == labels[test]).mean()
    print(f"{dtype}: scores came back as NumPy {scores.dtype}, test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
