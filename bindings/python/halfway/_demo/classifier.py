"""Section (f): a classifier trained in torch on NumPy's memory, in float32 and in bfloat16."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import halfway

from .page import Page

_SEED = 0
_EPOCHS = 40
_BATCH = 64


def _split() -> tuple[Any, Any, Any, Any]:
    """Training images and labels, test images and labels; three quarters and one."""
    loaded = importlib.import_module("sklearn.datasets").load_digits()
    order = np.random.default_rng(_SEED).permutation(len(loaded.target))
    images, labels = loaded.data[order] / 16, loaded.target[order]
    cut = len(order) * 3 // 4
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


@contextmanager
def _reproducible(torch: Any) -> Iterator[None]:
    """Seeded, and on one thread: the matrices are small. Both are as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            yield
    finally:
        torch.set_num_threads(threads)


def _train(torch: Any, images: Any, labels: Any, dtype: Any) -> Any:
    """A network with one hidden layer, trained with its parameters in `dtype`."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    loss_of = torch.nn.CrossEntropyLoss()
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(images)).split(_BATCH):
            optimizer.zero_grad()
            loss_of(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model


def show(page: Page, times: bool) -> None:
    """Train, predict in torch, judge in NumPy."""
    torch = importlib.import_module("torch")
    train_images, train_labels, test_images, test_labels = _split()
    page.text(
        f"""{len(train_images)} digits to learn from and {len(test_images)} to be judged by, as
        float64 images and int64 labels in NumPy. The labels are shared; the images are cast once,
        in one pass, to the dtype that the model computes in:"""
    )
    names: dict[str, Any] = {
        "halfway": halfway,
        "train_images": train_images,
        "train_labels": train_labels,
    }
    page.run(
        """
        print(halfway.explain(train_labels))
        print(halfway.explain(train_images, "bfloat16"))
        """,
        names,
    )
    page.line()
    labels = halfway.to_torch(train_labels)
    for dtype in (torch.float32, torch.bfloat16):
        with _reproducible(torch):
            model = _train(torch, halfway.to_torch(train_images, dtype), labels, dtype)
        with torch.no_grad():
            scores = model(halfway.to_torch(test_images, dtype))
        predictions = halfway.to_numpy(scores).argmax(axis=1)  # the scores' memory, bfloat16 too
        accuracy = float((predictions == test_labels).mean())
        name = str(dtype).removeprefix("torch.")
        page.line(f"  {name:9}  test accuracy {accuracy:.4f}")
    page.line()
    page.text(
        """The scores came back to NumPy as an array over torch's memory, of dtype float32 and of
        ml_dtypes' bfloat16; NumPy took their argmax."""
    )
