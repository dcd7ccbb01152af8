"""DLPack producers that misbehave."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.python import probe

import halfway
from halfway import ExchangeError

# --- producers that misbehave


class Misbehaving:
    """A producer whose methods do what they are given."""

    def __init__(self, dlpack: Any, device: Any = (1, 0)) -> None:
        self.dlpack = dlpack
        self.device = device

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.dlpack(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.device() if callable(self.device) else self.device


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(**_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("r"),
        BufferError("b"),
        ValueError("v"),
        KeyboardInterrupt(),
        MemoryError(),
        AttributeError("a"),
        StopIteration(),
        ExchangeError("own", ("stream",)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_producer_that_raises(error: BaseException) -> None:
    for function in (halfway.from_dlpack, halfway.to_torch, halfway.to_numpy, halfway.explain):
        with pytest.raises(type(error)) as caught:
            function(Misbehaving(raising(error)))
        assert caught.value is error


def test_a_producer_whose_device_raises() -> None:
    for error in (RuntimeError("r"), KeyboardInterrupt(), TypeError("t")):
        with pytest.raises(type(error)) as caught:
            halfway.from_dlpack(Misbehaving(lambda **_: probe.floats().capsule(), raising(error)))
        assert caught.value is error


@pytest.mark.parametrize("device", [None, (), (1,), (1, 2, 3), "cpu", ("1", "0"), 1, [1, 0], (2**40, 0)])
def test_a_producer_whose_device_is_junk(device: Any) -> None:
    export = probe.floats()
    with pytest.raises(ExchangeError) as caught:
        halfway.from_dlpack(Misbehaving(lambda **_: export.capsule(), device))
    assert caught.value.reason == "malformed"
    assert export.releases == 0


def test_a_producer_without_a_device_method() -> None:
    export = probe.floats()

    class Half:
        def __dlpack__(self, **keywords: Any) -> Any:
            return export.capsule()

    assert halfway.to_numpy(Half()).tolist() == [0, 1, 2, 3, 4, 5]
    assert export.releases == 1


def junk() -> list[Any]:
    pointer = probe.floats().managed
    return [
        None,
        1,
        "capsule",
        (1, 0),
        np.zeros(3),
        object(),
        probe.new_capsule(pointer, None),
        probe.new_capsule(pointer, b""),
        probe.new_capsule(pointer, b"dltensor_version"),
        probe.new_capsule(pointer, b"dltensor_versioned "),
        probe.new_capsule(pointer, b"DLTENSOR"),
        probe.new_capsule(pointer, b"arrow_array"),
    ]


@pytest.mark.parametrize("index", range(len(junk())))
def test_a_producer_that_returns_junk(index: int) -> None:
    thing = junk()[index]
    with pytest.raises(ExchangeError) as caught:
        halfway.from_dlpack(Misbehaving(lambda **_: thing))
    assert caught.value.reason == "malformed"


def test_capsules_that_are_not_dlpack_are_type_errors() -> None:
    for name in (None, b"", b"arrow_array", b"dlpack_exchange_api"):
        with pytest.raises(TypeError):
            halfway.from_dlpack(probe.new_capsule(probe.floats().managed, name))


@pytest.mark.parametrize("name", [b"used_dltensor", b"used_dltensor_versioned"])
def test_consumed_capsules(name: bytes) -> None:
    export = probe.floats()
    for source in (export.capsule(name), Misbehaving(lambda **_: export.capsule(name))):
        for function in (halfway.from_dlpack, halfway.to_torch, halfway.to_numpy, halfway.explain):
            with pytest.raises(ExchangeError) as caught:
                function(source)
            assert caught.value.reasons == ("consumed",)
    assert export.releases == 0


def test_a_capsule_is_consumed_by_the_first() -> None:
    for first in (halfway.from_dlpack, halfway.to_torch, halfway.to_numpy, torch.from_dlpack):
        capsule = halfway.from_dlpack(np.arange(3.0)).__dlpack__(max_version=(1, 3))
        assert halfway.explain(capsule).zero_copy  # consumes nothing
        kept = first(capsule)
        with pytest.raises(ExchangeError) as caught:
            halfway.from_dlpack(capsule)
        assert caught.value.reason == "consumed"
        with pytest.raises((RuntimeError, ValueError)):
            torch.from_dlpack(capsule)
        assert np.asarray(kept).tolist() == [0, 1, 2]


def test_a_producer_that_knows_no_max_version() -> None:
    """From before DLPack 1.0: asked once more, without."""
    calls = []
    export = probe.floats(versioned=False)

    class Old:
        def __dlpack__(self, stream: Any = None) -> Any:
            calls.append(stream)
            return export.capsule()

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    array = halfway.to_numpy(Old())
    assert array.tolist() == [0, 1, 2, 3, 4, 5]
    assert not array.flags.writeable  # nobody said that it is
    assert calls == [None]
    del array
    assert export.releases == 1


def test_a_producer_that_ignores_max_version() -> None:
    seen: list[Any] = []
    legacy, versioned = probe.floats(versioned=False), probe.floats()

    def give(export: Any) -> Callable[..., Any]:
        def dlpack(**keywords: Any) -> Any:
            seen.append(keywords)
            return export.capsule()

        return dlpack

    assert halfway.from_dlpack(Misbehaving(give(legacy))).readonly
    assert not halfway.from_dlpack(Misbehaving(give(versioned))).readonly
    assert seen == [{"max_version": (1, 3)}] * 2
    assert (legacy.releases, versioned.releases) == (1, 1)


def test_a_type_error_of_the_producers_own_is_not_hidden() -> None:
    with pytest.raises(TypeError, match="my own"):
        halfway.from_dlpack(Misbehaving(raising(TypeError("my own"))))


def test_classes_and_modules_are_no_producers() -> None:
    for thing in (Misbehaving, torch.Tensor, np.ndarray, halfway.Tensor, halfway, np):
        with pytest.raises(TypeError):
            halfway.from_dlpack(thing)


def test_a_producer_that_consumes_its_own_capsule() -> None:
    kept = []
    export = probe.floats()

    def dlpack(**_: Any) -> Any:
        capsule = export.capsule()
        kept.append(halfway.from_dlpack(capsule))
        return capsule

    with pytest.raises(ExchangeError) as caught:
        halfway.from_dlpack(Misbehaving(dlpack))
    assert caught.value.reason == "consumed"
    assert export.releases == 0
    kept.clear()
    assert export.releases == 1


def test_a_producer_that_calls_halfway_again() -> None:
    depth = [0]

    def dlpack(**keywords: Any) -> Any:
        depth[0] += 1
        if depth[0] < 50:
            return halfway.from_dlpack(producer).__dlpack__(**keywords)
        return probe.floats().capsule()

    producer = Misbehaving(dlpack)
    assert halfway.to_numpy(producer).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_producer_that_recurses_forever() -> None:
    producer = Misbehaving(lambda **keywords: halfway.from_dlpack(producer))
    with pytest.raises(RecursionError):
        halfway.from_dlpack(producer)


def test_references_are_kept_in_order() -> None:
    """Failing exchanges neither leak nor drop references to their arguments."""
    producer = Misbehaving(lambda **_: 1)
    capsule = probe.floats().capsule(b"used_dltensor")
    unknown = Misbehaving(lambda **_: {}["missing"])
    things: list[Any] = [producer, capsule, object(), unknown]
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(100):
        for thing in things:
            for function in (halfway.from_dlpack, halfway.to_torch, halfway.to_numpy):
                with pytest.raises((ExchangeError, TypeError, KeyError)):
                    function(thing)
    del thing
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == before
