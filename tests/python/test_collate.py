"""collate: the stack of single casts, from any libraries and layouts; padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.python.collating import DTYPES, add, batches, one_sample, stack, transforms, values
from tests.python.strategies import contents, steady
from torch.utils.data import default_collate

import halfway
from halfway import Cast, CastError, ExchangeError, Report


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    halfway.set_num_threads(0)


@steady
@given(batches(), st.sampled_from(["default", "saturate"]), st.sampled_from(["torch", "numpy", "halfway"]))
def test_a_batch_is_the_stack_of_single_casts(batch: Any, overflow: Any, to: Any) -> None:
    samples, plains, dtype = batch
    # A Python number has lost what its dtype was; the values are the same.
    plains = [
        np.asarray(sample) if isinstance(sample, bool | int | float | complex) else plain
        for sample, plain in zip(samples, plains, strict=True)
    ]
    report = Report()
    result = halfway.collate(samples, dtype, to=to, report=report, casting="unsafe", overflow=overflow)
    assert tuple(result.shape) == (len(samples), *plains[0].shape)
    assert contents(result) == stack(plains, dtype, overflow=overflow)
    expected = []
    for plain in plains:
        expected.append(Report())
        halfway.to_numpy(plain, dtype, casting="unsafe", overflow=overflow, copy=True, report=expected[-1])
    assert report.to_dict() == add(expected)

    out = np.empty(result.shape[::-1], halfway.to_numpy(np.zeros(1), dtype, casting="unsafe").dtype).T
    assert halfway.collate(tuple(samples), out=out, casting="unsafe", overflow=overflow) is out
    assert contents(out) == contents(result)


@steady
@given(st.data())
def test_samples_are_transformed_as_single_casts_transform(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
    real = [dtype for dtype in DTYPES if dtype != "complex64"]
    made = [data.draw(one_sample(shape, data.draw(st.sampled_from(real)))) for _ in range(data.draw(st.integers(1, 5)))]
    fields = data.draw(transforms(shape))
    samples = [sample for sample, _ in made]
    plains = [np.asarray(s) if isinstance(s, bool | int | float) else plain for s, plain in made]
    dtype = data.draw(st.sampled_from(["float32", "bfloat16", "float64", "int16", "uint8"]))
    result = halfway.collate(samples, dtype, casting="unsafe", **fields)
    assert contents(result) == stack(plains, dtype, **fields)
    permuted = [shape[axis] for axis in fields.get("permute", range(len(shape)))]
    assert tuple(result.shape) == (len(samples), *permuted)
    assert contents(halfway.collate(samples, Cast(dtype, casting="unsafe", **fields))) == contents(result)
    out = np.empty(result.shape[::-1], halfway.to_numpy(np.zeros(1), dtype, casting="unsafe").dtype).T
    assert halfway.collate(samples, out=out, casting="unsafe", **fields) is out
    assert contents(out) == contents(result)


@pytest.mark.parametrize("threads", [1, 2, 7])
@steady
@given(st.data())
def test_chance_goes_by_the_place_in_the_batch(threads: int, data: st.DataObject) -> None:
    halfway.set_num_threads(threads)
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    whole = values(data.draw, (data.draw(st.integers(1, 5)), *shape), "float64")
    fields = data.draw(transforms(shape))
    chance: dict[str, Any] = {
        "rounding": "stochastic",
        "seed": data.draw(st.integers(0, 2**64 - 1)),
        "casting": "unsafe",
    }
    above = dict(fields)
    if "permute" in fields:
        above["permute"] = (0, *(axis + 1 for axis in fields["permute"]))
    if "axis" in fields:
        above["axis"] = fields["axis"] % len(shape) + 1
    expected = halfway.to_numpy(whole, "bfloat16", **above, **chance)
    assert contents(halfway.collate(list(whole), "bfloat16", **fields, **chance)) == contents(expected)

    # Shorter samples leave the places of the others as they are. Zero is rounded to itself.
    ends = [shape[-1], *(data.draw(st.integers(0, shape[-1])) for _ in whole[1:])]
    ragged = [sample[..., :end] for sample, end in zip(whole, ends, strict=True)]
    for sample, end in zip(whole, ends, strict=True):
        sample[..., end:] = 0
    expected = halfway.to_numpy(whole, "bfloat16", **chance)
    assert contents(halfway.collate(ragged, "bfloat16", pad=0, **chance)) == contents(expected)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(("count", "shape"), [(3, (200, 333)), (900, (127,)), (20000, ())])
def test_large_batches_from_both_libraries(threads: int, count: int, shape: tuple[int, ...]) -> None:
    halfway.set_num_threads(threads)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for _ in range(count)]
    expected = torch.from_numpy(np.stack(arrays)).to(torch.float32)
    assert torch.equal(halfway.collate(arrays, "float32"), expected)
    assert torch.equal(halfway.collate([torch.as_tensor(a) for a in arrays], "float32"), expected)
    mixed = [a if i % 3 else torch.as_tensor(a) for i, a in enumerate(arrays)]
    out = torch.empty(count, *shape)
    assert halfway.collate(mixed, out=out) is out
    assert torch.equal(out, expected)


@pytest.mark.parametrize(
    ("samples", "dtype"),
    [
        ([1.5, 2.5], torch.float64),
        ([1, 2], torch.int64),
        ([True, False], torch.bool),
        ([1 + 2j, 3j], torch.complex128),
        ([np.float32(1), np.float32(2)], torch.float32),
        ([np.float64(1), 2.0], torch.float64),
        ([np.int8(-1), np.int8(2)], torch.int8),
        ([np.bool_(True), False], torch.bool),
        ([ml_dtypes.bfloat16(1.5), ml_dtypes.bfloat16(2)], torch.bfloat16),
        ([np.array(1, "i2"), torch.tensor(2, dtype=torch.int16)], torch.int16),
    ],
)
def test_scalars(samples: list[Any], dtype: torch.dtype) -> None:
    result = halfway.collate(samples)
    assert result.dtype == dtype
    assert result.tolist() == [np.asarray(sample).item() for sample in samples]


def test_as_torch_collates() -> None:
    """What torch's own default makes of NumPy arrays, tensors and numbers, where it makes tensors at all."""
    for samples in (
        [np.ones((2, 3), np.float32)] * 3,
        [torch.ones(2, dtype=torch.bfloat16)] * 2,
        [1, 2],
        [1.5, 2.5],
        [True, False],
        [np.float64(1), np.float64(2)],
        [{"x": np.ones(2), "y": 1}, {"x": np.zeros(2), "y": 2}],
    ):
        ours, theirs = halfway.collate(samples), default_collate(samples)
        pairs = [(ours[k], theirs[k]) for k in ours] if isinstance(ours, dict) else [(ours, theirs)]
        for mine, other in pairs:
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)


def test_halfway_results_say_why_they_are_copies() -> None:
    assert halfway.collate([np.ones(2)], to="halfway").reasons == ("copy_requested",)


def test_an_unusual_number_of_dimensions() -> None:
    deep = np.ones((1,) * 63)
    assert halfway.collate([deep, deep], to="numpy").shape == (2, *deep.shape)
    with pytest.raises(ExchangeError) as caught:
        halfway.collate([np.ones((1,) * 64)], to="halfway")
    assert caught.value.reason == "malformed"


# --- padding


def test_padding() -> None:
    tokens = [np.arange(n) for n in (3, 0, 5)]
    assert halfway.collate(tokens, pad=-100).tolist() == [
        [0, 1, 2, -100, -100],
        [-100] * 5,
        [0, 1, 2, 3, 4],
    ]
    out = np.zeros((3, 7), ">i4")
    assert halfway.collate(tokens, out=out, pad=np.int64(9), casting="unsafe") is out
    assert out.tolist() == [[0, 1, 2, 9, 9, 9, 9], [9] * 7, [0, 1, 2, 3, 4, 9, 9]]
    report = Report()
    result = halfway.collate([np.ones((2, n)) for n in (1, 2)], "bf16", pad=float("nan"), report=report)
    assert result.isnan().sum() == 2
    assert report.count == 6
    assert report.nan == 0
    # By kind and by key, as dtypes; where nothing is ragged it does not matter what it is.
    samples = [{"ids": np.arange(n), "w": np.ones(n), "label": np.uint8(1)} for n in (1, 2)]
    batch = halfway.collate(samples, pad={int: -1, float: 0.5})
    assert batch["ids"].tolist() == [[0, -1], [0, 1]]
    assert batch["w"].tolist() == [[1, 0.5], [1, 1]]
    assert halfway.collate(samples, pad={"ids": 7, float: torch.tensor(2)})["w"].tolist() == [[1, 2], [1, 1]]
    assert halfway.collate(samples, pad=-1)["label"].tolist() == [1, 1]
    with pytest.raises(ExchangeError, match=r"samples\[1\]\['w'\]"):
        halfway.collate(samples, pad={int: -1})


@pytest.mark.parametrize(("pad", "dtype"), [(0.5, "i4"), (-1, "u1"), (1e9, "f2"), (float("nan"), "i8"), (1j, "f4")])
def test_a_pad_that_the_dtype_lacks(pad: Any, dtype: str) -> None:
    with pytest.raises(CastError, match="pad"):
        halfway.collate([np.ones(1), np.ones(2)], dtype, pad=pad, casting="unsafe")
