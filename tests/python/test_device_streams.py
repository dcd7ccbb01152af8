"""The order of streams: what a device works on is ready before it is read, and read before it is made anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.python.sim import Rig, bits, rig

import halfway
from halfway import _core

__all__ = ["rig"]

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def streams_asked(rig: Rig) -> list[str]:
    return [line.removeprefix("__dlpack__ stream=") for line in rig.device.log if "__dlpack__" in line]


class Method:
    """A producer as CuPy and JAX are: __dlpack__ alone, no table."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, **others: Any) -> Any:
        return self.array.__dlpack__(stream=stream, max_version=max_version)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class BeforeVersions(Method):
    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__(stream=stream)


class BeforeStreams(Method):
    def __dlpack__(self) -> Any:  # type: ignore[override]
        return self.array.__dlpack__()


PRODUCERS = [Method, BeforeVersions, BeforeStreams]


# --- halfway consumes


@pytest.mark.parametrize("producer", PRODUCERS)
def test_values_that_arrive_late_are_waited_for(rig: Rig, producer: Any) -> None:
    """Without the handshake the device would read what was in the memory before: seed 0 holds all work back."""
    stream = rig.device.stream()
    np.testing.assert_array_equal(halfway.to_numpy(producer(rig.array(X, stream=stream))), X)
    rig.device.set_stream(rig.device.stream())
    # a capsule from before DLPack 1.0 cannot say that it is writable
    shared = halfway.to_torch(producer(rig.array(X, stream=stream)), allow_readonly=True)
    assert bits(rig.values(shared, stream=shared.stream)) == bits(X)
    tensor = halfway.from_dlpack(producer(rig.array(X, stream=stream)))
    assert bits(halfway.to_numpy(tensor)) == bits(X)


def test_a_producer_with_a_table_is_ordered_by_its_stream(rig: Rig) -> None:
    _core._set_torch_stand_in(None)  # an array library like any other
    stream = rig.device.stream()
    rig.device.set_stream(stream)
    np.testing.assert_array_equal(halfway.to_numpy(rig.array(X, stream=stream)), X)
    tensor = halfway.from_dlpack(rig.array(X, stream=stream))
    np.testing.assert_array_equal(halfway.to_numpy(tensor), X)
    assert streams_asked(rig) == []


def test_a_producer_is_told_the_consumers_stream(rig: Rig) -> None:
    there = Method(rig.array(X))
    halfway.to_numpy(there)
    halfway.from_dlpack(there)
    assert streams_asked(rig) == ["1", "1"]  # halfway's own: the legacy default stream
    rig.device.log = []
    halfway.to_torch(there)
    assert streams_asked(rig) == ["1"]  # torch's, which is the same one now
    rig.device.log = []
    mine = rig.device.stream()
    rig.device.set_stream(mine)
    halfway.to_torch(there)
    assert streams_asked(rig) == [str(mine)]
    rig.device.log = []
    halfway.explain(there)
    halfway.explain(there, to="numpy")
    assert streams_asked(rig) == ["-1", "-1"]  # nothing is done


def test_an_error_of_a_producer_is_its_own(rig: Rig) -> None:
    class Broken(Method):
        def __dlpack__(self, **keywords: Any) -> Any:
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        halfway.to_numpy(Broken(rig.array(X)))
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.to_numpy(type("Elsewhere", (Method,), {"__dlpack_device__": lambda self: (2, 7)})(rig.array(X)))
    assert caught.value.reason == "device"


def test_memory_is_taken_from_torchs_allocator_on_its_stream(rig: Rig) -> None:
    mine = rig.device.stream()
    rig.device.set_stream(mine)
    made = halfway.to_torch(X, "bfloat16", device="cuda")
    assert made.stream == mine
    assert rig.device.log.count("allocate") == 1
    assert bits(rig.values(made, stream=mine)) == bits(halfway.to_numpy(X, "bfloat16"))


def test_transfers_begin_behind_the_callers_stream_and_end_before_it_goes_on(rig: Rig) -> None:
    """Memory that is in use in the order of a stream: what was there is read first, what comes overwrites it last."""
    mine = rig.device.stream()
    rig.device.set_stream(mine)
    there = rig.array(X, stream=mine)
    there.write(bits(X + 1), mine)
    pending = halfway.to_numpy(there, non_blocking=True)
    there.write(bits(X + 2), mine)
    np.testing.assert_array_equal(pending.result(), X + 1)
    out = rig.array(X, stream=mine)
    halfway.to_torch(X + 3, out=out, non_blocking=True)
    assert bits(rig.values(out, stream=mine)) == bits(X + 3)


# --- halfway produces


def made_on_the_device(rig: Rig) -> halfway.Tensor:
    return halfway.from_dlpack(X, device="cuda")


@pytest.mark.parametrize("stream", [None, 1, "handle"])
def test_a_consumers_stream_waits(rig: Rig, stream: Any) -> None:
    """The tensor's values come on the legacy default stream; they are held back until somebody waits."""
    handle = rig.device.stream()
    late = rig.array(np.zeros_like(X))
    tensor = halfway.from_dlpack(late)
    late.write(bits(X), 0)
    asked = handle if stream == "handle" else stream
    capsule = tensor.__dlpack__(stream=asked, max_version=(1, 3))
    assert bits(rig.values(late, stream=handle if stream == "handle" else 0)) == bits(X)
    del capsule


def test_no_stream_is_made_to_wait_if_none_is_wanted(rig: Rig) -> None:
    tensor = made_on_the_device(rig)
    calls = rig.device.calls
    tensor.__dlpack__(stream=-1, max_version=(1, 0))
    assert rig.device.calls == calls
    tensor.__dlpack__(max_version=(1, 0))
    assert rig.device.calls == calls  # its own stream already


@pytest.mark.parametrize(("stream", "error"), [(0, ValueError), (-2, ValueError), (2**70, TypeError), ("1", TypeError)])
def test_streams_that_are_none(rig: Rig, stream: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="stream"):
        made_on_the_device(rig).__dlpack__(stream=stream)


def test_a_tensor_on_a_device_says_so(rig: Rig) -> None:
    tensor = made_on_the_device(rig)
    assert tensor.__dlpack_device__() == (2, 0)
    assert tensor.device == "cuda:0"
    assert "device=cuda:0" in repr(tensor)
    with pytest.raises(BufferError, match="cuda:0"):
        memoryview(tensor)
    with pytest.raises(halfway.ExchangeError, match="to_numpy"):
        np.asarray(tensor)


def test_a_copy_on_the_host_by_dl_device(rig: Rig) -> None:
    tensor = made_on_the_device(rig)
    np.testing.assert_array_equal(np.from_dlpack(tensor, device="cpu"), X)
    with pytest.raises(halfway.ExchangeError) as caught:
        tensor.__dlpack__(dl_device=(1, 0), copy=False)
    assert caught.value.reason == "device"
    with pytest.raises(halfway.ExchangeError) as caught:
        tensor.__dlpack__(dl_device=(2, 1))
    assert caught.value.reason == "device"


# --- what cannot be done


def test_managed_memory_is_waited_for(rig: Rig) -> None:
    asked = []

    class Managed:
        """Memory that both sides reach, as cupy.cuda.malloc_managed gives it."""

        def __dlpack__(self, *, stream: Any = None, **others: Any) -> Any:
            asked.append(stream)
            return X.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return (13, 0)

    np.testing.assert_array_equal(halfway.to_numpy(Managed()), X)
    assert asked == [1]


def test_an_error_inside_a_producer_is_its_own(rig: Rig) -> None:
    calls = []

    class Broken(Method):
        def __dlpack__(self, **keywords: Any) -> Any:
            calls.append(keywords)
            raise TypeError("unsupported operand type(s)")

    with pytest.raises(TypeError, match="unsupported operand"):
        halfway.from_dlpack(Broken(rig.array(X)))
    assert len(calls) == 1


def test_while_a_graph_is_captured(rig: Rig) -> None:
    mine = rig.device.stream()
    rig.device.set_stream(mine)
    there = rig.array(X, stream=mine)
    rig.device.finish(mine)
    rig.device.set_capturing(mine, True)
    for call in (
        lambda: halfway.to_torch(X, device="cuda"),
        lambda: halfway.to_numpy(there),
        lambda: halfway.to_numpy(there, non_blocking=True),
        lambda: halfway.to_torch(there, device="cpu"),
    ):
        with pytest.raises(halfway.ExchangeError) as caught:
            call()
        assert caught.value.reason == "capturing"
    rig.device.set_capturing(mine, False)
    np.testing.assert_array_equal(halfway.to_numpy(there), X)


def test_a_capture_is_left_alone_by_what_orders_streams(rig: Rig) -> None:
    elsewhere = halfway.from_dlpack(X, device="cuda")  # ready on the legacy default stream
    mine = rig.device.stream()
    there = rig.array(X, stream=mine)
    rig.device.finish(mine)
    rig.device.set_stream(mine)
    rig.device.set_capturing(mine, True)
    for call in (
        lambda: halfway.to_torch(elsewhere),
        lambda: halfway.from_dlpack(there),
        lambda: elsewhere.__dlpack__(stream=mine, max_version=(1, 3)),
    ):
        with pytest.raises(halfway.ExchangeError) as caught:
            call()
        assert caught.value.reason == "capturing"
    rig.device.set_capturing(mine, False)
    np.testing.assert_array_equal(rig.values(halfway.to_torch(elsewhere)), X)


@pytest.mark.parametrize("wrapped", [False, True], ids=["capsule", "only __dlpack__"])
def test_what_came_without_a_handshake_is_ready_on_the_default_stream(rig: Rig, wrapped: bool) -> None:
    class Producer:
        def __init__(self, capsule: Any) -> None:
            self.capsule = capsule

        def __dlpack__(self) -> Any:
            return self.capsule

    mine = rig.device.stream()
    for _ in range(20):
        # its values are on their way on the default stream when the capsule is made
        rig.device.set_stream(0)
        capsule = halfway.from_dlpack(rig.array(X)).__dlpack__(max_version=(1, 3))
        rig.device.set_stream(mine)
        tensor = halfway.to_torch(Producer(capsule) if wrapped else capsule)
        np.testing.assert_array_equal(rig.values(tensor), X)


def test_between_two_devices() -> None:
    from tests.python.sim import check_nothing_is_left, rig_in_use

    with rig_in_use(devices=2) as rig:
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.to_torch(rig.array(X, device=1), device="cuda:0")
        assert caught.value.reason == "device"
    check_nothing_is_left(rig)
