"""How people do in several passes what halfway does in one: the rivals of onepass.py that are more than a statement.

All write into memory that is there and allocate as little as they can. What is called a band or a part is small enough
to stay in the second-level cache between the passes over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

Tensor = torch.Tensor
Array = np.ndarray
Images = Iterable[Tensor]  # uint8 HWC: a batch of them, or a list
Tree = Sequence[dict[str, Any]]  # of NumPy arrays and numbers

BAND = 1 << 16  # elements that stay in the cache, temporaries included
TILE = 256  # rows and columns
LANES = 4  # of 16 bits in a draw of 64

# --- images: t is uint8 NHWC, o floats NCHW; scale and shift have three values, as Python floats or tensors. Those who
# work in o's dtype are given scale and shift in it.


def planes_of(t: Tensor) -> Tensor:
    return t.permute(0, 3, 1, 2)


def usual(photos: Array, mean: Tensor, std: Tensor) -> Tensor:
    """One thing after the other. The result of each step keeps the source's order until the last one changes it."""
    planes = planes_of(torch.from_numpy(photos)).float().div(255)
    return planes.sub(mean).div(std).to(torch.bfloat16).contiguous()


def usual_contiguous(photos: Array, mean: Tensor, std: Tensor) -> Tensor:
    """The same with the order changed first, while elements are bytes, and less allocated."""
    planes = planes_of(torch.from_numpy(photos)).contiguous().float().div_(255)
    return planes.sub_(mean).div_(std).to(torch.bfloat16)


def normalised(t: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """What torch.compile makes one kernel of."""
    return torch.addcmul(shift, planes_of(t).float(), scale).to(torch.bfloat16).contiguous()


def to_tensor_and_normalize(images: Sequence[Array], mean: Tensor, std: Tensor) -> Tensor:
    """What a Dataset does with torchvision's ToTensor and Normalize, and the DataLoader after it."""
    samples = []
    for image in images:
        sample = torch.from_numpy(image).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        samples.append(sample.sub_(mean).div_(std))
    return torch.stack(samples).to(torch.bfloat16)


def in_place(t: Tensor, o: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Bytes to planes of floats, where all arithmetic is done."""
    return o.copy_(planes_of(t)).mul_(scale).add_(shift)


def in_place_addcmul(t: Tensor, o: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The same with one fused operation after the copy."""
    o.copy_(planes_of(t))
    return torch.addcmul(shift, o, scale, out=o)


def image_by_image(images: Images, o: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The same an image at a time, which stays in the cache."""
    for image, result in zip(images, o, strict=True):
        result.copy_(image.permute(2, 0, 1))
        torch.addcmul(shift, result, scale, out=result)
    return o


def channel_by_channel(t: Tensor, o: Tensor, scale: Sequence[float], shift: Sequence[float]) -> Tensor:
    """One number a channel, so nothing is broadcast."""
    for channel in range(len(scale)):
        plane = o[:, channel]
        torch.mul(t[..., channel], scale[channel], out=plane)
        plane.add_(shift[channel])
    return o


def channels_last(t: Tensor, o: Tensor, scale: Tensor, shift: Tensor, wide: Tensor) -> Tensor:
    """float32 arithmetic in the source's order, into memory that is there, and one permuted copy."""
    torch.mul(t, scale, out=wide)
    wide.add_(shift)
    return o.copy_(planes_of(wide))


def _through_one_image(images: Images, o: Tensor, scale: Tensor, shift: Tensor, small: Tensor) -> Tensor:
    for image, result in zip(images, o, strict=True):
        small.copy_(image)
        torch.addcmul(shift, small, scale, out=small)
        result.copy_(small.permute(2, 0, 1))
    return o


def channels_last_images(images: Images, o: Tensor, scale: Tensor, shift: Tensor, wide: Tensor) -> Tensor:
    """The same an image at a time, through one small buffer. `scale` and `shift` are as large as an image."""
    return _through_one_image(images, o, scale, shift, wide[0])


def narrow_then_permute(images: Images, o: Tensor, scale: Tensor, shift: Tensor, narrow: Tensor) -> Tensor:
    """Arithmetic in o's dtype in the source's order, an image at a time, and the permuted copy of bytes alone."""
    return _through_one_image(images, o, scale, shift, narrow[0])


def from_a_table(a: Iterable[Array], b: Array, tables: Sequence[Array]) -> Array:
    """A byte has 256 values: look the results up, as bits. `b` holds bits."""
    for image, result in zip(a, b, strict=True):
        for channel, table in enumerate(tables):
            np.take(table, image[..., channel], out=result[channel], mode="clip")
    return b


def from_a_torch_table(t: Tensor, o: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """The same in torch, whose index_select wants 32-bit indices."""
    for image, result in zip(t, o, strict=True):
        indices = image.to(torch.int32)
        for channel, table in enumerate(tables):
            torch.index_select(table, 0, indices[..., channel].reshape(-1), out=result[channel].view(-1))
    return o


def planes_stacked(images: Images, dtype: torch.dtype, scale: Tensor, shift: Tensor) -> Tensor:
    """What a Dataset may do with each sample, in the dtype of scale and shift, and a stack of them."""
    return torch.stack([image.permute(2, 0, 1).to(dtype).mul_(scale).add_(shift) for image in images])


# --- casts of strided memory: t and o have the same shape, which is the result's


def narrow_first(whole: Tensor, narrow: Tensor, o: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    """Cast everything in its own order, then rearrange elements of half the size."""
    narrow.copy_(whole)
    return o.copy_(view(narrow))


def wide_first(t: Tensor, wide: Tensor, o: Tensor) -> Tensor:
    """Rearrange first, then cast what is contiguous."""
    return o.copy_(wide.copy_(t))


def in_tiles(t: Tensor, o: Tensor) -> Tensor:
    """Square tiles, each of which stays in the cache."""
    rows, columns = t.shape
    for i in range(0, rows, TILE):
        for j in range(0, columns, TILE):
            o[i : i + TILE, j : j + TILE].copy_(t[i : i + TILE, j : j + TILE])
    return o


def transposed_bands(t: Tensor, o: Tensor, narrow: Tensor) -> Tensor:
    """Bands of the source's rows are cast into a small buffer, then transposed. `t` is the source as it lies."""
    rows = max(1, 4 * BAND // t.shape[1])
    for i in range(0, t.shape[0], rows):
        band = narrow[: min(rows, t.shape[0] - i)]
        band.copy_(t[i : i + rows])
        o[:, i : i + rows].copy_(band.T)
    return o


def in_bands(t: Tensor, o: Tensor, wide: Tensor, flip: bool = False) -> Tensor:
    """Bands of rows are gathered in a small buffer and cast from there; reversed, if so asked."""
    rows = max(1, BAND // t.shape[1])
    for i in range(0, t.shape[0], rows):
        if flip:
            end = t.shape[0] - i
            o[i : i + rows].copy_(t[max(0, end - rows) : end].flip(0))
        else:
            band = wide[: min(rows, t.shape[0] - i)]
            o[i : i + rows].copy_(band.copy_(t[i : i + rows]))
    return o


def low_words(pairs: Tensor, o: Tensor, words: Tensor) -> Tensor:
    """Every second float32, as the low word of an int64: a contiguous cast of integers drops the other."""
    rows = max(1, BAND // o.shape[1])
    for i in range(0, o.shape[0], rows):
        band = words[: min(rows, o.shape[0] - i)]
        band.copy_(pairs[i : i + rows])
        o[i : i + rows].copy_(band.view(torch.float32))
    return o


def row_by_row(t: Tensor, o: Tensor) -> Tensor:
    """Rows in the reverse order, one call each."""
    last = len(t) - 1
    for i in range(len(t)):
        o[i].copy_(t[last - i])
    return o


# --- the other byte order: a is NumPy's array, b and o the same memory of the result


def swap_copy(a: Array, w: Array, o: Tensor, wide: Tensor) -> Tensor:
    """NumPy swaps while it copies into a buffer; torch, with its threads, casts. `wide` is w's memory."""
    np.copyto(w, a)
    return o.copy_(wide)


def swap_in_parts(a: Array, w: Array, o: Tensor, wide: Tensor) -> Tensor:
    """The same part by part in the cache."""
    for i in range(0, len(a), BAND):
        part = a[i : i + BAND]
        np.copyto(w[: len(part)], part)
        o[i : i + BAND].copy_(wide[: len(part)])
    return o


def swap_in_place(a: Array, w: Array, o: Tensor, wide: Tensor) -> Tensor:
    """Copy bytes, swap them where they are, cast; part by part."""
    raw = w.view(a.dtype)
    for i in range(0, len(a), BAND):
        part = a[i : i + BAND]
        np.copyto(raw[: len(part)], part)
        w[: len(part)].byteswap(inplace=True)
        o[i : i + BAND].copy_(wide[: len(part)])
    return o


def swap_storage(t: Tensor, o: Tensor, wide: Tensor) -> Tensor:
    """torch's own swap, of a copy of the bytes. `t` has the wrong values, `wide` a storage of its own."""
    wide.copy_(t)
    wide.untyped_storage().byteswap(wide.dtype)  # type: ignore[no-untyped-call]
    return o if o is wide else o.copy_(wide)


# --- a field of a structured array


def field_in_parts(t: Tensor, o: Tensor, wide: Tensor) -> Tensor:
    """Gathered in the cache, cast from there."""
    for i in range(0, len(t), BAND):
        part = wide[: min(BAND, len(t) - i)]
        o[i : i + BAND].copy_(part.copy_(t[i : i + BAND]))
    return o


# --- batches


def foreach_into_fresh(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    batch = torch.empty((len(tensors), *tensors[0].shape), dtype=dtype)
    torch._foreach_copy_(list(batch.unbind()), list(tensors))
    return batch


def copies_into(rows: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for row, tensor in zip(rows, tensors, strict=True):
        row.copy_(tensor)


def copies_into_fresh(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    batch = torch.empty((len(tensors), *tensors[0].shape), dtype=dtype)
    copies_into(batch.unbind(), tensors)
    return batch


# --- batches of sequences of many lengths, zeros behind them


def _padded_shape(sequences: Sequence[Any]) -> tuple[int, int]:
    return len(sequences), max(map(len, sequences))


def cast_flat_then_pad(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """One cast of all elements, then elements of half the size are padded."""
    flat = torch.cat(list(tensors)).to(dtype)
    return torch.nn.utils.rnn.pad_sequence(
        list(torch.split(flat, [len(tensor) for tensor in tensors])), batch_first=True
    )


def nested_padded(tensors: Sequence[Tensor]) -> Tensor:
    """torch's own kind of ragged tensor, and what makes it a rectangle."""
    nested = torch.nested.nested_tensor(list(tensors), layout=torch.jagged)
    return nested.to_padded_tensor(0.0)


def padded_copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    batch = torch.zeros(_padded_shape(tensors), dtype=dtype)
    for row, tensor in zip(batch, tensors, strict=True):
        row[: len(tensor)].copy_(tensor)
    return batch


def padded_foreach(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    batch = torch.zeros(_padded_shape(tensors), dtype=dtype)
    starts = [row[: len(tensor)] for row, tensor in zip(batch, tensors, strict=True)]
    torch._foreach_copy_(starts, list(tensors))
    return batch


def padded_tails(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Nothing is written twice."""
    batch = torch.empty(_padded_shape(tensors), dtype=dtype)
    for row, tensor in zip(batch, tensors, strict=True):
        row[: len(tensor)].copy_(tensor)
        row[len(tensor) :].zero_()
    return batch


def padded_wide(tensors: Sequence[Tensor], wide: Tensor) -> Tensor:
    """Padded in the source's dtype, in memory that is there; the cast is one call for all."""
    wide.zero_()
    starts = [row[: len(tensor)] for row, tensor in zip(wide, tensors, strict=True)]
    torch._foreach_copy_(starts, list(tensors))
    return wide


def padded_slices(samples: Sequence[Array], kind: Any) -> Array:
    batch = np.zeros(_padded_shape(samples), kind)
    for row, sample in zip(batch, samples, strict=True):
        row[: len(sample)] = sample
    return batch


# --- batches of trees: dicts of arrays and numbers, of which floating-point arrays change their dtype


def collated_then_cast(tree: Tree, dtype: torch.dtype) -> dict[str, Tensor]:
    """A DataLoader's own way."""
    batch: dict[str, Tensor] = torch.utils.data.default_collate(list(tree))
    return {key: leaf.to(dtype) if leaf.is_floating_point() else leaf for key, leaf in batch.items()}


def key_by_key(
    tree: Tree,
    stack: Callable[[Sequence[Array]], Tensor],
    dtype: torch.dtype,
    stack_cast: Callable[[Sequence[Array], torch.dtype], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Written by hand: each key's samples are stacked, and floats cast, after that or in it."""
    batch = {}
    for key, first in tree[0].items():
        samples = [sample[key] for sample in tree]
        if not isinstance(first, Array):
            batch[key] = torch.tensor(samples)
        elif first.dtype.kind != "f":
            batch[key] = stack(samples)
        else:
            batch[key] = stack_cast(samples, dtype) if stack_cast else stack(samples).to(dtype)
    return batch


def np_stack(samples: Sequence[Array]) -> Tensor:
    return torch.from_numpy(np.stack(samples))


def np_array(samples: Sequence[Array]) -> Tensor:
    return torch.from_numpy(np.array(samples))


def np_concatenate(samples: Sequence[Array]) -> Tensor:
    """Spares np.stack's view of each sample."""
    return torch.from_numpy(np.concatenate(samples).reshape(len(samples), *samples[0].shape))


def np_concatenate_cast(samples: Sequence[Array], dtype: torch.dtype) -> Tensor:
    """float64 to float32 in the concatenation, which then is cast at half its size."""
    narrower = np.concatenate(samples, dtype=np.float32, casting="same_kind")
    return torch.from_numpy(narrower.reshape(len(samples), *samples[0].shape)).to(dtype)


def np_rows(samples: Sequence[Array]) -> Tensor:
    batch = np.empty((len(samples), *samples[0].shape), samples[0].dtype)
    for row, sample in zip(batch, samples, strict=True):
        row[...] = sample
    return torch.from_numpy(batch)


def torch_stack(samples: Sequence[Array]) -> Tensor:
    return torch.stack([torch.from_numpy(sample) for sample in samples])


def foreach_cast(samples: Sequence[Array], dtype: torch.dtype) -> Tensor:
    return foreach_into_fresh([torch.from_numpy(sample) for sample in samples], dtype)


# --- stochastic rounding: f is the float32 pattern as uint32, bits the uint16 pattern of the result


def integers_added(f: Array, bits: Array, generator: Any, words: Array) -> Array:
    """Random low halves, added; what is carried into the high half rounds away from zero."""
    np.add(f, generator.integers(0, 1 << 16, f.size, dtype=np.uint32), out=words)
    np.right_shift(words, 16, out=words)
    np.copyto(bits, words, casting="unsafe")
    return bits


def integers_in_parts(f: Array, bits: Array, generator: Any, words: Array) -> Array:
    """The same in the cache; 16-bit integers take fewer draws."""
    for i in range(0, f.size, BAND):
        part = f[i : i + BAND]
        sums = words[: part.size]
        np.add(part, generator.integers(0, 1 << 16, part.size, dtype=np.uint16), out=sums)
        bits[i : i + BAND] = sums.view(np.uint16)[1::2]
    return bits


def raw_in_parts(f: Array, bits: Array, generator: Any, words: Array) -> Array:
    """The fastest source of bits there: a draw of 64 is four times 16, without bounds to reject."""
    for i in range(0, f.size, BAND):
        part = f[i : i + BAND]
        sums = words[: part.size]
        draws = generator.bit_generator.random_raw(-(-part.size // LANES)).view(np.uint16)[: part.size]
        np.add(part, draws, out=sums)
        bits[i : i + BAND] = sums.view(np.uint16)[1::2]
    return bits


def random_in_torch(t: Tensor, bits: Tensor, generator: torch.Generator, words: Tensor) -> Tensor:
    """torch's integers and arithmetic. t is the float32 pattern as int32, bits int16."""
    for i in range(0, t.numel(), BAND):
        part = t[i : i + BAND]
        sums = words[: part.numel()]
        sums.random_(0, 1 << 16, generator=generator).add_(part)
        bits[i : i + BAND].copy_(sums.view(torch.int16)[1::2])
    return bits
