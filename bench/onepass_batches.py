"""The rows of batches: samples in memory of their own, of one length or many, and trees of them, stacked and cast."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from bench.cast_rows import KI
from bench.onepass_data import BF16_ULP, Case, Data, leaves, names_of, names_with, near, normal

import halfway


def _samples(tensors: list[torch.Tensor]) -> dict[str, Any]:
    return {"tensors": tensors, "samples": [halfway.to_numpy(tensor) for tensor in tensors]}


# --- samples of one length


def make_batch(quick: bool, dtype: str, count: int, elements: int) -> Data:
    if quick:
        count, elements = min(count, 8), min(elements, 128)
    whole = normal(dtype, count * elements).view(count, elements)
    o = torch.zeros(whole.shape, dtype=torch.bfloat16)
    names = names_with(
        **names_of(o),
        **_samples([sample.clone() for sample in whole]),
        rows=list(o.unbind()),
    )
    return Data(names, whole.nbytes, near(whole, BF16_ULP, dtype=o.dtype), halfway.to_numpy(whole))


COLLATE_FRESH = (
    "halfway.collate(samples, dtype)",
    "halfway.collate(tensors, dtype)",
)
COLLATE_OUT = (
    "halfway.collate(samples, out=o)",
    "halfway.collate(tensors, out=o)",
)
BATCH_FRESH = (
    "torch.stack(tensors).to(dtype)",
    "torch.stack([tensor.to(dtype) for tensor in tensors])",
    "default_collate(samples).to(dtype)",
    "np.stack(samples).astype(kind)",
    "np.stack(samples, dtype=kind, casting='unsafe')",
    "torch.from_numpy(np.stack(samples)).to(dtype)",
    "foreach_into_fresh(tensors, dtype)",
    "copies_into_fresh(tensors, dtype)",
)
FOREACH = ("torch._foreach_copy_(rows, tensors)", "torch._foreach_copy_(list(o.unbind()), tensors)")
BATCH_OUT = (
    *FOREACH,
    "copies_into(rows, tensors)",
    "o.copy_(torch.stack(tensors))",
    "np.stack(samples, out=b, casting='unsafe')",
)

# --- samples of many lengths


def make_ragged(quick: bool) -> Data:
    """`wide` is a float32 batch that is there, for whoever pads before the cast; the longest sample is as long."""
    count, longest = (16, 128) if quick else (256, 4 * KI)
    lengths = np.random.default_rng(2026).integers(1, longest + 1, count)
    whole = normal("float32", int(lengths.sum()))
    tensors = [sample.clone() for sample in torch.split(whole, lengths.tolist())]
    o = torch.zeros((count, int(lengths.max())), dtype=torch.bfloat16)
    wanted = torch.zeros(o.shape)
    for row, tensor in zip(wanted, tensors, strict=True):
        row[: len(tensor)] = tensor
    names = names_with(**names_of(o), **_samples(tensors), wide=torch.zeros(o.shape))
    return Data(names, whole.nbytes, near(wanted, BF16_ULP / 2, dtype=o.dtype), halfway.to_numpy(whole))


RAGGED_OURS = (
    "halfway.collate(samples, dtype, pad=0)",
    "halfway.collate(tensors, dtype, pad=0)",
)
RAGGED_FRESH = (
    "torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(dtype)",
    "torch.nn.utils.rnn.pad_sequence([tensor.to(dtype) for tensor in tensors], batch_first=True)",
    "cast_flat_then_pad(tensors, dtype)",
    "nested_padded(tensors).to(dtype)",
    "padded_copies(tensors, dtype)",
    "padded_foreach(tensors, dtype)",
    "padded_tails(tensors, dtype)",
    "padded_wide(tensors, wide).to(dtype)",
    "padded_slices(samples, kind)",
    "torch.from_numpy(padded_slices(samples, np.float32)).to(dtype)",
)

# --- trees


def make_tree(quick: bool) -> Data:
    """What a Dataset gives: dicts of an image, a vector and a label, which is an int and counts as its eight bytes."""
    count = 8 if quick else 256
    images = np.random.default_rng(2026).integers(0, 256, (count, 32, 32, 3), np.uint8)
    vectors = normal("float64", count * 128).view(count, 128)
    labels = torch.arange(count) * 7 % 10
    tree = [
        {"image": image.copy(), "vector": halfway.to_numpy(vector.clone()), "label": label}
        for image, vector, label in zip(images, vectors, labels.tolist(), strict=True)
    ]
    check = leaves(
        {
            "image": near(torch.from_numpy(images), 0.0, dtype=torch.uint8),
            "vector": near(vectors, BF16_ULP, dtype=torch.bfloat16),
            "label": near(labels, 0.0, dtype=torch.int64),
        }
    )
    read = images.nbytes + vectors.nbytes + labels.nbytes
    written = images.nbytes + vectors.nbytes // 4 + labels.nbytes
    names = names_with(tree=tree, dtype=torch.bfloat16, o=torch.zeros(written, dtype=torch.int8))
    return Data(names, read, check, np.zeros(read, np.int8))


TREE_OURS = (
    "halfway.collate(tree, {float: dtype})",
    'halfway.collate(tree, {"vector": dtype})',
)
TREE_FRESH = (
    "collated_then_cast(tree, dtype)",
    "key_by_key(tree, np_stack, dtype)",
    "key_by_key(tree, np_array, dtype)",
    "key_by_key(tree, np_concatenate, dtype)",
    "key_by_key(tree, np_concatenate, dtype, np_concatenate_cast)",
    "key_by_key(tree, np_concatenate, dtype, foreach_cast)",
    "key_by_key(tree, np_rows, dtype)",
    "key_by_key(tree, torch_stack, dtype)",
    "key_by_key(tree, torch_stack, dtype, foreach_cast)",
)

# --- all of them

LARGE_BATCH, SMALL_BATCH = "collate 64 x 1 MiB f32 -> bfloat16", "collate 1024 x 128 f64 -> bfloat16"


def _batches(name: str, dtype: str, count: int, elements: int) -> list[Case]:
    make = partial(make_batch, dtype=dtype, count=count, elements=elements)
    return [
        Case(f"{name}, fresh", "fresh", make, COLLATE_FRESH, BATCH_FRESH),
        Case(f"{name}, out", "out", make, COLLATE_OUT, BATCH_OUT, foreach=FOREACH),
    ]


def cases() -> list[Case]:
    return [
        *_batches(LARGE_BATCH, "float32", 64, 256 * KI),
        *_batches(SMALL_BATCH, "float64", 1024, 128),
        Case("collate 256 x 1 to 4096 f32 -> bfloat16, padded, fresh", "fresh", make_ragged, RAGGED_OURS, RAGGED_FRESH),
        Case("collate 256 dicts, f64 -> bfloat16 in them, fresh", "fresh", make_tree, TREE_OURS, TREE_FRESH),
    ]
