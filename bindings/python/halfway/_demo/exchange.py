"""Sections (b) to (e): implicit and explicit dtypes, memory, records and complex numbers."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np

import halfway

from .page import Page


def digits() -> Any:
    """Handwritten digits, 8 by 8 pixels of 0 to 16, as float64 of shape (1797, 64)."""
    datasets = importlib.import_module("sklearn.datasets")
    return datasets.load_digits().data


def _names(**more: Any) -> dict[str, Any]:
    return {"np": np, "torch": importlib.import_module("torch"), "halfway": halfway, **more}


@contextmanager
def _every_warning(torch: Any) -> Iterator[None]:
    """Show every time the warnings that torch gives once a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)


def implicit(page: Page, times: bool) -> None:
    """Section (b)."""
    names = _names(digits=digits())
    page.text("""The data: scikit-learn's handwritten digits, as NumPy gives them.""")
    page.run("digits.shape, digits.dtype", names)

    page.heading("float64, as most NumPy data is. torch by itself keeps it, and the model raises:")
    page.run(
        """
        torch.tensor(digits).dtype, torch.from_numpy(digits).dtype
        model = torch.nn.Linear(64, 10)
        model(torch.from_numpy(digits))
        """,
        names,
        raises=(RuntimeError,),
    )
    page.text(
        """halfway does not change a dtype unless it is asked to, either. Asked, it reads the source
        once and writes the result once; explain() says so before anything is done:"""
    )
    page.run(
        """
        print(halfway.explain(digits))
        print(halfway.explain(digits, "float32"))
        model(halfway.to_torch(digits, "float32")).shape
        """,
        names,
    )

    page.heading("Read-only memory. torch by itself warns, and then lets you write to it:")
    with _every_warning(names["torch"]):
        page.run(
            """
            frozen = digits[0].copy()
            frozen.flags.writeable = False
            aliased = torch.from_numpy(frozen)
            aliased[0] = 99.0
            frozen[0]                                    # the array that must not change
            """,
            names,
        )
    page.text(
        """torch has no read-only tensors, so halfway copies, and says why. To share the memory
        knowingly, pass allow_readonly=True; with copy=False the copy is refused:"""
    )
    page.run(
        """
        print(halfway.explain(frozen))
        halfway.to_torch(frozen, copy=False)
        halfway.explain(frozen, allow_readonly=True).zero_copy
        """,
        names,
        raises=(halfway.ExchangeError,),
    )

    page.heading("bfloat16 on its way to NumPy, by torch itself:")
    page.run(
        """
        weights = torch.tensor([1.5, 2.5, 3.5], dtype=torch.bfloat16)
        weights.numpy()
        """,
        names,
        raises=(TypeError,),
    )
    page.text("""halfway gives an array of ml_dtypes' bfloat16 over the same memory:""")
    page.run(
        """
        array = halfway.to_numpy(weights)
        array.dtype, array.ctypes.data == weights.data_ptr()
        array[0] = 9
        weights
        """,
        names,
    )

    page.heading("Big-endian data, as many file formats hold it. torch by itself:")
    page.run(
        """
        big = digits.astype(">f8")
        torch.from_numpy(big)
        """,
        names,
        raises=(ValueError, TypeError),
    )
    page.text("""halfway swaps the bytes in the pass that copies, or in the pass that casts:""")
    page.run(
        """
        print(halfway.explain(big))
        print(halfway.explain(big, "float32"))
        bool((halfway.to_torch(big) == torch.from_numpy(digits)).all())
        """,
        names,
    )


def _standardised(pixels: Any) -> Any:
    spread = pixels.std(axis=0)
    return (pixels - pixels.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _similarities(pixels: Any) -> Any:
    """exp(-squared distance / 64) of the first 500 images to each other, shape (500, 500)."""
    some = pixels[:500]
    squares = (some**2).sum(axis=1)
    return np.exp((2 * some @ some.T - squares[:, None] - squares[None, :]) / 64)


def explicit(page: Page, times: bool) -> None:
    """Section (c)."""
    pixels = digits()
    data = {
        "pixels, 0 to 16": pixels,
        "standardised": _standardised(pixels),
        "second moments": pixels.T @ pixels,
        "similarities": _similarities(pixels),
    }
    names = _names(digits=pixels, standardised=data["standardised"], moments=data["second moments"])
    page.text(
        """Asked: float64 data in a narrower dtype. NumPy and torch round and say nothing. A
        halfway.Report counts, in the same pass, what the cast did to the values:"""
    )
    page.run(
        """
        report = halfway.Report()
        halfway.to_torch(moments, "float16", report=report).shape
        report
        """,
        names,
    )
    page.line()
    page.text(
        """overflow: finite, but beyond the target's range. underflow: not zero, became zero.
        inexact: rounded (underflow included). Four sets of float64 numbers made from the
        digits:"""
    )
    page.line()
    rows = []
    for name, values in data.items():
        for dtype in ("float32", "bfloat16", "float16"):
            report = halfway.Report()
            halfway.to_torch(values, dtype, report=report)
            counts = (report.count, report.nan, report.overflow, report.underflow, report.inexact)
            rows.append((name, dtype, *map(str, counts)))
    page.table(("data", "to", "count", "nan", "overflow", "underflow", "inexact"), rows)
    page.line()
    page.text(
        """The pixels are whole numbers up to 16, so nothing is lost anywhere. float16 is precise
        but short of range, bfloat16 the other way round."""
    )

    page.heading("same_value: every value survives, or nothing is delivered")
    page.run(
        """
        halfway.to_torch(digits, "uint8", casting="same_value").dtype   # an eighth of the size
        halfway.to_torch(standardised, "bfloat16", casting="same_value")
        """,
        names,
        raises=(halfway.CastError,),
    )
    page.text("""Without it, levels as in NumPy apply: float to integer is not same_kind.""")
    page.run(
        """
        halfway.to_torch(digits, "uint8")
        """,
        names,
        raises=(halfway.CastError,),
    )

    page.heading("What values out of range become is a choice: the format's own answer, or")
    page.run(
        """
        halfway.to_torch(moments, "float16").max()
        halfway.to_torch(moments, "float16", overflow="saturate").max()
        halfway.to_torch(moments, "float16", overflow="raise")
        """,
        names,
        raises=(halfway.CastError,),
    )

    page.heading("One rounding. A float64 just above the middle of two neighbours in bfloat16:")
    page.run(
        """
        x = np.array([1 + 2**-8 + 2**-40])
        torch.from_numpy(x).to(torch.bfloat16)       # torch alone
        halfway.to_torch(x, "bfloat16")
        """,
        names,
    )
    page.text(
        """The value lies nearer to 1.0078125. A conversion that goes through float32 rounds to the
        middle first, and then to the even neighbour, 1.0."""
    )


def _seconds(function: Callable[[], object], rounds: int = 7) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return median(taken)


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.2f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def zero_copy(page: Page, times: bool) -> None:
    """Section (d)."""
    names = _names(digits=digits())
    torch = names["torch"]
    page.text(
        """Asked: the same data in the other library. A copy is safe, and costs time and memory. An
        alias costs nothing, and is safe if the memory lives as long as anybody looks at it."""
    )
    page.heading("torch.tensor copies: writing to one side is not seen by the other")
    page.run(
        """
        array = digits.copy()
        copied = torch.tensor(array)
        copied.data_ptr() == array.ctypes.data
        copied[0, 0] = 42.0
        array[0, 0]
        """,
        names,
    )
    page.heading("halfway.to_torch shares: one memory, both sides may write")
    page.run(
        """
        shared = halfway.to_torch(array)
        shared.data_ptr() == array.ctypes.data
        shared[0, 0] = 42.0
        array[0, 0]
        array[0, 1] = 43.0
        shared[0, 1].item()
        """,
        names,
    )
    page.heading("And back: NumPy sees torch's memory, strides and all")
    page.run(
        """
        turned = halfway.to_numpy(shared.T)
        turned.ctypes.data == shared.data_ptr(), turned.shape, turned.strides
        turned[0, 0] = 44.0
        shared[0, 0].item()
        """,
        names,
    )
    page.heading("Whoever dies first: the memory lives as long as one side does, and no longer")
    page.run(
        """
        import weakref
        source = weakref.ref(array)
        del array, turned
        source() is not None, shared[0, 1].item()    # the tensor keeps the array alive
        del shared
        source() is None                             # and lets go of it
        """,
        names,
    )
    page.heading("What cannot be shared is copied, unless copy=False asks for an error with every reason")
    page.run(
        """
        flipped = digits[:, ::-1]
        print(halfway.explain(flipped, "float32"))
        halfway.to_torch(flipped, "float32", copy=False)
        """,
        names,
        raises=(halfway.ExchangeError,),
    )
    if not times:
        return
    images = np.tile(digits(), (40, 1))
    page.heading(f"Timed with {images.nbytes / 1e6:.0f} MB (medians, on this machine, now)")
    page.items(
        (
            ("torch.tensor, a copy", _duration(_seconds(lambda: torch.tensor(images)))),
            ("halfway.to_torch", _duration(_seconds(lambda: halfway.to_torch(images)))),
        )
    )


def _records(datasets: Any) -> Any:
    """The digits as records: a label, the share of ink, and the image."""
    loaded = datasets.load_digits()
    layout = np.dtype([("label", "i8"), ("ink", "f4"), ("image", "f8", (8, 8))], align=True)
    records = np.zeros(len(loaded.target), layout)
    records["label"] = loaded.target
    records["ink"] = loaded.data.mean(axis=1) / 16
    records["image"] = loaded.images
    return records


def records_and_complex(page: Page, times: bool) -> None:
    """Section (e)."""
    datasets = importlib.import_module("sklearn.datasets")
    names = _names(records=_records(datasets), digits=digits())
    page.text("""Asked: each digit as a record, in torch. torch by itself:""")
    page.run(
        """
        records.shape, records.dtype.itemsize, records.dtype.names
        torch.from_numpy(records)
        """,
        names,
        raises=(TypeError,),
    )
    page.text("""halfway.fields() gives each field as a strided view of the records:""")
    page.run(
        """
        parts = halfway.fields(records)
        parts
        image = halfway.to_torch(parts["image"])
        image.data_ptr() == records["image"].ctypes.data, image.stride()
        image[0] = 0.0
        records["image"][0].sum()
        """,
        names,
    )
    page.text(
        """DLPack counts strides in elements. In packed records the stride of a field may be no
        whole number of elements; then torch refuses, and halfway copies and says so:"""
    )
    page.run(
        """
        packed = np.zeros(3, dtype=[("label", "u1"), ("ink", "f8")])
        torch.from_numpy(packed["ink"])
        print(halfway.explain(packed["ink"]))
        {name: part.reasons for name, part in halfway.fields(packed).items()}
        """,
        names,
        raises=(ValueError,),
    )

    page.heading("Complex numbers: the spectrum of each image, by NumPy, in torch")
    page.run(
        """
        spectrum = np.fft.fft2(digits.reshape(-1, 8, 8))
        waves = halfway.to_torch(spectrum)
        waves.dtype, waves.data_ptr() == spectrum.ctypes.data
        halfway.to_torch(spectrum, "complex64").dtype
        """,
        names,
    )
    page.text(
        """torch conjugates lazily: it sets a bit and leaves the memory alone. What .numpy() makes
        of it, and halfway:"""
    )
    page.run(
        """
        waves.conj().numpy()
        print(halfway.explain(waves.conj(), to="numpy"))
        bool((halfway.to_numpy(waves.conj()) == spectrum.conj()).all())
        """,
        names,
        raises=(RuntimeError,),
    )
    page.text("""Dropping the imaginary part is never silent:""")
    page.run(
        """
        halfway.to_torch(spectrum, "float32")
        """,
        names,
        raises=(halfway.CastError,),
    )
