"""Results under way, page-locked memory, and who is kept alive by whom until when."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.python.sim import Rig, bits, check_nothing_is_left, rig, rig_in_use

import halfway

__all__ = ["rig"]

LARGE = np.arange(300_000, dtype=np.float32)  # more than a slot


class Weak(np.ndarray):  # weak references go to subclasses alone
    pass


class Memory:
    """An array that notices when it is let go of."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.released = 0
        self.array: Any = values.copy().view(Weak)
        weakref.finalize(self.array, self._let_go)

    def _let_go(self) -> None:
        self.released += 1

    def take(self) -> Any:
        array, self.array = self.array, None
        return array


# --- Pending


@pytest.mark.parametrize("keywords", [{}, {"dtype": "bfloat16"}, {"dtype": "float64"}, {"scale": 2.0}], ids=str)
def test_a_pending_result_is_the_result(rig: Rig, keywords: Any) -> None:
    there = rig.array(LARGE)
    pending = halfway.to_numpy(there, non_blocking=True, **keywords)
    assert type(pending) is halfway.Pending
    result = pending.result()
    assert bits(result) == bits(halfway.to_numpy(LARGE, **keywords))
    assert pending.ready()
    assert pending.result() is result


@pytest.mark.parametrize("keywords", [{"permute": (1, 0)}, {"permute": (1, 0), "scale": [1.0, 2.0, 3.0], "axis": 1}])
def test_of_no_elements(rig: Rig, keywords: Any) -> None:
    there = rig.array(np.zeros((0, 3), np.float32))
    result = halfway.to_numpy(there, "float16", non_blocking=True, **keywords).result()
    waited_for = halfway.to_numpy(there, "float16", **keywords)
    assert (result.shape, result.dtype) == (waited_for.shape, waited_for.dtype) == ((3, 0), np.dtype("f2"))


def test_it_is_not_ready_before_it_is(rig: Rig) -> None:
    pending = halfway.to_numpy(rig.array(LARGE), non_blocking=True)
    assert not pending.ready()  # seed 0: everything is held back
    del pending


@pytest.mark.parametrize(
    "keywords", [{"report": halfway.Report()}, {"overflow": "raise"}, {"casting": "same_value"}], ids=str
)
def test_what_has_to_see_all_values_waits(rig: Rig, keywords: Any) -> None:
    pending = halfway.to_numpy(rig.array(LARGE), "float64", non_blocking=True, **keywords)
    assert pending.ready()
    assert bits(pending.result()) == bits(LARGE.astype(float))


def test_out_waits_and_is_the_result(rig: Rig) -> None:
    out = np.zeros_like(LARGE)
    pending = halfway.to_numpy(rig.array(LARGE), out=out, non_blocking=True)
    assert pending.ready()
    assert pending.result() is out


def test_on_the_host_there_is_nothing_to_wait_for(rig: Rig) -> None:
    assert type(halfway.to_numpy(LARGE, "float16", non_blocking=True)) is np.ndarray


def test_dropping_it_neither_waits_nor_leaks(rig: Rig) -> None:
    """The device still writes the memory: it is kept, and let go of by a later call."""
    there = rig.array(LARGE)
    for _ in range(3):
        del_me = halfway.to_numpy(there, "bfloat16", non_blocking=True)
        del del_me
    rig.device.finish(0)
    halfway.to_numpy(there)


def test_dropped_last_of_all() -> None:
    """It is let go of without the GIL; the Python objects behind its device are not."""
    with rig_in_use() as rig:
        pending = halfway.to_numpy(rig.array(LARGE), non_blocking=True)
    del pending
    assert not rig.sim.let_go_without_gil()


def test_its_source_is_kept_until_it_has_been_read(rig: Rig) -> None:
    there = rig.array(LARGE)
    pending = halfway.to_numpy(there, non_blocking=True)
    del there
    assert rig.device.live()["arrays"] == 1
    assert bits(pending.result()) == bits(LARGE)
    assert rig.device.live()["arrays"] == 0


def test_many_threads_ask_for_one(rig: Rig) -> None:
    pending = halfway.to_numpy(rig.array(LARGE), "float16", non_blocking=True)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(pending.result())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(result is results[0] for result in results)


def test_a_failure_is_the_same_error_each_time() -> None:
    with rig_in_use() as rig:
        there = rig.array(LARGE)
        pending = halfway.to_numpy(there, non_blocking=True)
        calls = rig.device.calls
    for k in range(1, 8):
        with rig_in_use(fail_call=calls + k, fault="lost") as rig:
            there = rig.array(LARGE)
            pending = halfway.to_numpy(there, non_blocking=True)
            messages = []
            for _ in range(2):
                try:
                    pending.result()
                except halfway.ExchangeError as error:
                    messages.append(str(error))
            assert len(messages) in (0, 2)
            assert len(set(messages)) <= 1
            del pending, there


# --- sources that the device reads itself


def pinned(rig: Rig, array: Any) -> None:
    rig.device.pin(array.ctypes.data, array.nbytes)


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float64"])
@pytest.mark.parametrize("seed", range(6))
def test_pinned_sources_are_kept_until_the_device_has_read_them(seed: int, dtype: str | None) -> None:
    with rig_in_use(seed=seed) as rig:
        memory = Memory(LARGE)
        array = memory.take()
        address = array.ctypes.data
        pinned(rig, array)
        sent = halfway.to_torch(array, dtype, device="cuda", non_blocking=True)
        del array
        if seed == 0 and dtype != "bfloat16":  # narrowing may be the host's part
            assert memory.released == 0
        assert bits(rig.values(sent)) == bits(halfway.to_numpy(LARGE, dtype))
        halfway.to_torch(np.ones(1), device="cuda")  # any call lets go of what has been read
        halfway.from_dlpack(np.zeros(1))
        assert memory.released == 1
        rig.device.unpin(address)
        del sent
    check_nothing_is_left(rig)


@pytest.mark.parametrize("seed", range(4))
def test_pageable_sources_are_free_when_the_call_returns(seed: int) -> None:
    with rig_in_use(seed=seed) as rig:
        x = LARGE.copy()
        sent = halfway.to_torch(x, "float16", device="cuda", non_blocking=True)
        x[:] = -1
        assert bits(rig.values(sent)) == bits(halfway.to_numpy(LARGE, "float16"))
        del sent
    check_nothing_is_left(rig)


def test_a_producers_memory_is_released_once_and_after_it_was_read(rig: Rig) -> None:
    tensor = halfway.from_dlpack(LARGE.copy())
    pinned_at = tensor.data_ptr
    rig.device.pin(pinned_at, LARGE.nbytes)
    sent = halfway.to_torch(tensor, device="cuda", non_blocking=True)
    del tensor
    assert bits(rig.values(sent)) == bits(LARGE)
    rig.device.unpin(pinned_at)


# --- pin


def test_pinned_memory_is_read_where_it_is(rig: Rig) -> None:
    x = LARGE.copy()
    with halfway.pin(x) as same:
        assert same is x
        before = rig.device.counters()
        sent = halfway.to_torch(x, device="cuda")
        assert rig.device.counters()["copies"] - before["copies"] == 1  # one copy, no slots
        assert bits(rig.values(sent)) == bits(LARGE)
        assert rig.device.live()["registrations"] == 1
    assert rig.device.live()["registrations"] == 0


def test_it_stays_pinned_until_it_has_been_read(rig: Rig) -> None:
    """Seed 0 holds the copy back until somebody waits: the end of the block does."""
    x = LARGE.copy()
    with halfway.pin(x):
        sent = halfway.to_torch(x, device="cuda", non_blocking=True)
    x[:] = -1
    assert bits(rig.values(sent)) == bits(LARGE)


@pytest.mark.parametrize("view", [lambda x: x[10:], lambda x: x[::-3], lambda x: x.reshape(3, -1).T])
def test_views_are_pinned_as_they_lie(rig: Rig, view: Callable[[Any], Any]) -> None:
    x = view(LARGE.copy())
    with halfway.pin(x):
        assert bits(rig.values(halfway.to_torch(x, device="cuda"))) == bits(x)


def test_memory_between_two_pins_is_not_pinned(rig: Rig) -> None:
    x = np.arange(400_000, dtype=np.float32)
    with halfway.pin(x[:1000]), halfway.pin(x[-1000:]):
        there = halfway.to_torch(x, device="cuda")
        np.testing.assert_array_equal(rig.values(there), x)
        assert "page-locked" not in halfway.explain(x, device="cuda").because


def test_a_producers_copy_is_kept_as_long_as_it_is_locked(rig: Rig) -> None:
    class Copying:
        """Exports another copy each time."""

        def __init__(self) -> None:
            self.made: list[Any] = []

        def __dlpack__(self, **keywords: Any) -> Any:
            copy = np.ones(100_000)
            self.made.append(weakref.ref(copy))
            return copy.__dlpack__(**keywords)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    producer = Copying()
    with halfway.pin(producer):
        assert producer.made[0]() is not None
    assert producer.made[0]() is None
    with pytest.raises(TypeError, match="scalar"), halfway.pin(np.float64(1)):
        pass


def test_an_exception_unpins(rig: Rig) -> None:
    x = LARGE.copy()

    def fail() -> None:
        with halfway.pin(x):
            halfway.to_torch(x, device="cuda", non_blocking=True)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert rig.device.live()["registrations"] == 0


def test_memory_is_pinned_once(rig: Rig) -> None:
    x = LARGE.copy()
    with halfway.pin(x):
        for again in (x, x[5:]):
            with pytest.raises(halfway.ExchangeError) as caught, halfway.pin(again):
                pass
            assert caught.value.reason == "overlap"
        assert rig.device.live()["registrations"] == 1
    with halfway.pin(x):  # and again, later
        pass
    twice = halfway.pin(x)
    with twice, pytest.raises(RuntimeError, match="entered"):
        twice.__enter__()


def test_what_cannot_be_pinned(rig: Rig) -> None:
    x = LARGE.copy()
    x.flags.writeable = False
    with pytest.raises(halfway.ExchangeError) as caught, halfway.pin(x):
        pass
    assert caught.value.reason == "readonly"
    with pytest.raises(halfway.ExchangeError) as caught, halfway.pin(rig.array(LARGE)):
        pass
    assert caught.value.reason == "device"
    no_array: Any = [1.0]
    with pytest.raises(TypeError), halfway.pin(no_array):
        pass
    with pytest.raises(TypeError, match="capsule"), halfway.pin(LARGE.__dlpack__()):
        pass
    with halfway.pin(LARGE[:0]):
        pass
