"""collate: what it holds and lets go of; other threads, a DataLoader, no torch."""

from __future__ import annotations

import contextlib
import functools
import gc
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from tests.python.collating import Producer
from torch.utils.data import DataLoader, Dataset

import halfway
from halfway import ExchangeError


def test_samples_are_released() -> None:
    class Array(np.ndarray[Any, Any]):
        pass

    arrays: list[Any] = [np.ones(5).view(Array) for _ in range(3)]
    watched = [weakref.ref(a) for a in arrays]
    tensors = [torch.ones(5, dtype=torch.float64) for _ in range(3)]
    watched += [weakref.ref(t) for t in tensors]
    result = halfway.collate([*arrays, *tensors, Producer(np.ones(5))], "f4")
    del arrays, tensors
    gc.collect()
    assert [w() for w in watched] == [None] * 6
    assert result.tolist() == [[1.0] * 5] * 7


def test_samples_are_released_when_refused() -> None:
    tensors = [torch.ones(5), torch.ones(6)]
    watched = [weakref.ref(t) for t in tensors]
    with pytest.raises(ExchangeError):
        halfway.collate([*tensors, Producer(np.ones(5, "f4"))])
    del tensors
    gc.collect()
    assert [w() for w in watched] == [None, None]


def test_a_result_outlives_everything() -> None:
    result = halfway.collate([np.arange(3)], to="numpy")
    view = result[0]
    del result
    gc.collect()
    assert view.tolist() == [0, 1, 2]


def test_a_capsule_is_consumed() -> None:
    capsule = np.ones(2).__dlpack__()
    assert halfway.collate([capsule]).tolist() == [[1, 1]]
    with pytest.raises(ExchangeError) as caught:
        halfway.collate([np.ones(2), capsule])
    assert caught.value.reason == "consumed"
    assert "samples[1]: " in str(caught.value)


def test_out_of_torch_counts_as_written() -> None:
    out = torch.zeros(1, 2)
    weight = torch.ones(1, 2, requires_grad=True)
    loss = (out * weight).sum()
    halfway.collate([np.ones(2, "f4")], out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_list_may_change_meanwhile() -> None:
    """Other threads may empty the list, and reshape the arrays, while the GIL is released."""
    arrays = [np.ones((512, 512)) for _ in range(8)]
    samples = list(arrays)
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            for array in arrays:
                array.shape = (256, 1024)
                array.shape = (512, 512)
            samples.clear()
            samples.extend(arrays)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(30):
            # It may be empty, or one of them has its other shape.
            with contextlib.suppress(ExchangeError, ValueError):
                assert (halfway.collate(samples, "f4") == 1).all()
    finally:
        stop.set()
        thread.join()


def test_producers_exceptions_pass() -> None:
    class Bad:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

        def __dlpack__(self, **keywords: Any) -> Any:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        halfway.collate([np.ones(1), Bad()])


# --- in a DataLoader


class Data(Dataset[Any]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": np.full((8, 1000), index, np.float64), "label": index, "tokens": np.arange(index % 3 + 1)}


@pytest.mark.parametrize("workers", [0, 2])
def test_as_collate_fn(workers: int) -> None:
    collate = functools.partial(halfway.collate, dtype={float: "bfloat16"}, pad={"tokens": -1})
    assert pickle.loads(pickle.dumps(collate)).keywords == collate.keywords
    loader = DataLoader(
        Data(),
        batch_size=4,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context="fork" if workers else None,
        timeout=60 if workers else 0,
    )
    seen = []
    for batch in loader:
        assert batch["x"].dtype == torch.bfloat16
        assert batch["x"].shape == (4, 8, 1000)
        assert (batch["x"][:, 3, 7].long() == batch["label"]).all()
        seen += batch["label"].tolist()
        assert batch["tokens"].shape == (4, 3)
    assert seen == list(range(12))


def test_without_torch(fork_python_without_torch: Any) -> None:
    done = fork_python_without_torch(
        """
        import sys
        sys.modules["torch"] = None
        result = halfway.collate([np.arange(2), np.arange(2)], "f4", to="numpy")
        assert result.dtype == np.float32 and result.shape == (2, 2)
        assert halfway.collate([[1, 2.5], [3, 4.5]], to="halfway")[1].dtype == "float64"
        out = np.zeros((1, 2))
        assert halfway.collate([np.arange(2)], out=out) is out and out.tolist() == [[0, 1]]
        try:
            halfway.collate([np.arange(2)])
        except halfway.ExchangeError as error:
            assert error.reason == "unavailable" and 'to="numpy"' in str(error), error
        else:
            raise AssertionError
        print("fine")
        """
    )
    assert (done.status, done.output) == (0, "fine\n")
