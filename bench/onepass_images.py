"""The rows of images: bytes of pixels, and all the ways to normalised planes of floats.

One set of data serves whole images, crops of them and a list of samples, in whatever dtype the planes are.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from bench import by_hand, onepass_idioms
from bench.floor import LINE
from bench.onepass_data import Case, Data, Names, names_of, names_with, near

import halfway

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def lines_of(images: np.ndarray) -> int:
    """Bytes of the cache lines that hold rows of `images`, each of which is contiguous."""
    rows = [(row.ctypes.data, row.nbytes) for image in images for row in image]
    lines = {line for start, size in rows for line in range(start // LINE, (start + size - 1) // LINE + 1)}
    return len(lines) * LINE


def make_images(quick: bool, dtype: str = "bfloat16", cropped: bool = False) -> Data:
    """`photos` and `t` are the batch, `samples` and `tensors` the same images in memory of their own.

    Constants come in float32 and, where that is another, in the result's dtype, whose names end in 16.
    """
    whole_shape = (2, 32, 48, 3) if quick else (64, 224, 224, 3)
    whole = np.random.default_rng(2026).integers(0, 256, whole_shape, np.uint8)
    margin = whole_shape[1] // 14 if cropped else 0
    photos = whole[:, margin : whole_shape[1] - margin, margin : whole_shape[2] - margin]
    shape = photos.shape
    mean, std = np.array(MEAN), np.array(STD)
    scale, shift = 1 / (255 * std), -mean / std
    t = torch.from_numpy(photos)
    samples = [photo.copy() for photo in photos]
    o = torch.zeros((shape[0], 3, *shape[1:3]), dtype=getattr(torch, dtype))
    wanted = (photos * scale + shift).transpose(0, 3, 1, 2).astype(np.float32)

    def tensor(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(values).to(dtype)

    by_channel = {"scale": scale, "shift": shift}
    constants: Names = {}
    for name, values in by_channel.items():
        for constant in {torch.float32, o.dtype}:
            suffix = 8 * constant.itemsize
            last = tensor(values, constant)
            constants[f"{name}{suffix}"] = last.view(1, 3, 1, 1)
            constants[f"{name}_last{suffix}"] = last
            constants[f"{name}_image{suffix}"] = last.expand(*shape[1:]).contiguous()
        constants[f"{name}_list"] = values.tolist()
    values = np.arange(256)[:, None] * scale + shift
    tables = [tensor(values[:, channel].copy(), o.dtype) for channel in range(3)]
    pattern = np.dtype(f"u{o.itemsize}")
    names = names_with(
        **names_of(o),
        **constants,
        **by_channel,
        photos=photos,
        t=t,
        samples=samples,
        tensors=[torch.from_numpy(sample) for sample in samples],
        mean=mean,
        std=std,
        mean_t=tensor(mean, torch.float32).view(3, 1, 1),
        std_t=tensor(std, torch.float32).view(3, 1, 1),
        wide=torch.zeros(shape),
        narrow=torch.zeros(shape, dtype=o.dtype),
        tables=[halfway.to_numpy(table).view(pattern) for table in tables],
        tables_t=tables,
        # Compiling takes half a minute and a C++ compiler, which is nothing for a quick run.
        compiled=onepass_idioms.normalised if quick else torch.compile(onepass_idioms.normalised),
    )
    names["bits"] = names["b"].view(pattern)
    hand = None
    if dtype == "bfloat16" and not cropped:
        hand = by_hand.Images(photos, names["bits"], scale.astype(np.float32), shift.astype(np.float32))
    read = lines_of(photos) if cropped else photos.nbytes
    # Arithmetic in the result's dtype rounds the byte's product, the sum and the constants, all of them below 4.5.
    ulp = torch.finfo(o.dtype).eps
    check = near(torch.from_numpy(np.ascontiguousarray(wanted)), ulp, 6 * ulp, o.dtype)
    return Data(names, read, check, whole.reshape(-1)[:read], hand)


INTO_BY_32 = (
    "in_place(t, o, scale32, shift32)",
    "torch.addcmul(shift32, planes_of(t), scale32, out=o)",
    "channel_by_channel(t, o, scale_list, shift_list)",
    "channels_last(t, o, scale_last32, shift_last32, wide)",
    "channels_last_images(t, o, scale_image32, shift_image32, wide)",
    "from_a_table(photos, bits, tables)",
    "from_a_torch_table(t, o, tables_t)",
)
INTO_BY_16 = (
    "in_place(t, o, scale16, shift16)",
    "in_place_addcmul(t, o, scale16, shift16)",
    "image_by_image(t, o, scale16[0], shift16[0])",
    "narrow_then_permute(t, o, scale_image16, shift_image16, narrow)",
)
INTO_FLOAT32 = (
    *INTO_BY_32,
    "torch.mul(planes_of(t), scale32, out=o).add_(shift32)",
    "in_place_addcmul(t, o, scale32, shift32)",
    "image_by_image(t, o, scale32[0], shift32[0])",
)
CROPPED_FIRST = (
    "in_place(t.contiguous(), o, scale16, shift16)",
    "narrow_then_permute(t.contiguous(), o, scale_image16, shift_image16, narrow)",
)
FRESH = (
    "t.permute(0, 3, 1, 2).to(torch.bfloat16).mul_(scale16).add_(shift16).contiguous()",
    "torch.addcmul(shift32, t.permute(0, 3, 1, 2).float(), scale32).to(torch.bfloat16).contiguous()",
    "torch.addcmul(shift16, t.permute(0, 3, 1, 2).to(torch.bfloat16), scale16).contiguous()",
    "in_place(t, torch.empty_like(o), scale16, shift16)",
    "channel_by_channel(t, torch.empty_like(o), scale_list, shift_list)",
    "narrow_then_permute(t, torch.empty_like(o), scale_image16, shift_image16, narrow)",
    "from_a_table(photos, np.empty_like(bits), tables).view(kind)",
    "compiled(t, scale32, shift32)",
)
USUAL = (
    "usual(photos, mean_t, std_t)",
    "usual_contiguous(photos, mean_t, std_t)",
    "to_tensor_and_normalize(photos, mean_t, std_t)",
)
SAMPLES_OURS = tuple(
    f"halfway.collate({samples}, dtype, scale=scale, shift=shift, axis=2, permute=(2, 0, 1))"
    for samples in ("samples", "tensors")
)
# Those who go image by image need no stack: they fill the batch from the samples as they are.
SAMPLES_FRESH = (
    "planes_stacked(tensors, dtype, scale16[0], shift16[0])",
    "planes_stacked(tensors, torch.float32, scale32[0], shift32[0]).to(dtype)",
    "in_place(torch.stack(tensors), torch.empty_like(o), scale16, shift16)",
    "channel_by_channel(torch.stack(tensors), torch.empty_like(o), scale_list, shift_list)",
    "compiled(torch.stack(tensors), scale32, shift32)",
    "in_place(default_collate(samples), torch.empty_like(o), scale16, shift16)",
    "narrow_then_permute(default_collate(samples), torch.empty_like(o), scale_image16, shift_image16, narrow)",
    "image_by_image(tensors, torch.empty_like(o), scale16[0], shift16[0])",
    "narrow_then_permute(tensors, torch.empty_like(o), scale_image16, shift_image16, narrow)",
    "from_a_table(samples, np.empty_like(bits), tables).view(kind)",
)
SAMPLES_USUAL = ("to_tensor_and_normalize(samples, mean_t, std_t)",)

INTO_OURS = ("halfway.to_torch(photos, scale=scale, shift=shift, axis=3, permute=(0, 3, 1, 2), out=o)",)


def cases() -> list[Case]:
    return [
        Case(
            "u8 NHWC -> bfloat16 NCHW, normalised, fresh",
            "fresh",
            make_images,
            ('halfway.images(photos, mean, std, "bfloat16", layout="NHWC->NCHW")',),
            FRESH,
            USUAL,
        ),
        Case("u8 NHWC -> bfloat16 NCHW, normalised, out", "out", make_images, INTO_OURS, (*INTO_BY_16, *INTO_BY_32)),
        Case(
            "u8 NHWC -> float16 NCHW, normalised, out",
            "out",
            partial(make_images, dtype="float16"),
            INTO_OURS,
            (*INTO_BY_16, *INTO_BY_32),
        ),
        Case(
            "u8 NHWC -> float32 NCHW, normalised, out",
            "out",
            partial(make_images, dtype="float32"),
            INTO_OURS,
            INTO_FLOAT32,
        ),
        Case(
            "crops of u8 NHWC -> bfloat16 NCHW, normalised, out",
            "out",
            partial(make_images, cropped=True),
            INTO_OURS,
            (*INTO_BY_16, *INTO_BY_32, *CROPPED_FIRST),
        ),
        Case(
            "collate 64 u8 HWC -> bfloat16 NCHW, normalised, fresh",
            "fresh",
            lambda quick: replace(make_images(quick), hand=None),  # that kernel reads one array
            SAMPLES_OURS,
            SAMPLES_FRESH,
            SAMPLES_USUAL,
        ),
    ]
