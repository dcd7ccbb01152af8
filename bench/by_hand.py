"""The hand-written rival of `halfway.images` (native/images.cpp), beside the floor in the same library."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from bench import floor
from bench.floor import Variant
from bench.harness import Loop


@cache
def _function() -> Any:
    function = floor.library().halfway_by_hand_images
    function.restype = ctypes.c_int
    function.argtypes = [
        ctypes.c_void_p,  # source
        ctypes.c_void_p,  # destination
        ctypes.c_size_t,  # images
        ctypes.c_size_t,  # pixels an image
        ctypes.c_void_p,  # scale, three floats
        ctypes.c_void_p,  # shift, three floats
        ctypes.c_int,  # non-temporal stores
        ctypes.c_int,  # threads
        ctypes.c_size_t,  # repetitions
    ]
    return function


@dataclass(frozen=True)
class Images:
    """`photos` is uint8 NHWC of three channels, `planes` as many elements of two bytes; both contiguous."""

    photos: np.ndarray
    planes: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def normalise(self, variant: Variant, repetitions: int = 1) -> None:
        """bfloat16(photos * scale + shift), in NCHW, as bits."""
        images, height, width, _ = self.photos.shape
        status = _function()(
            self.photos.ctypes.data,
            self.planes.ctypes.data,
            images,
            height * width,
            self.scale.ctypes.data,
            self.shift.ctypes.data,
            variant.non_temporal,
            variant.threads,
            repetitions,
        )
        if status != 0:
            raise ValueError(f"nothing is written for {variant.threads} threads")

    def loop_of(self, variant: Variant) -> Loop:
        """A contender's loop; repetitions are made in C."""

        def loop(count: int) -> int:
            start = time.perf_counter_ns()
            self.normalise(variant, count)
            return time.perf_counter_ns() - start

        return loop


def name_of(variant: Variant) -> str:
    return variant.name.replace("move", "by hand")
