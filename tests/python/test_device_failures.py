"""What becomes of a transfer when something fails, ends early or is done by many threads at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.python import probe
from tests.python.sim import PATH, Rig, bits, check_nothing_is_left, rig, rig_in_use

import halfway

__all__ = ["rig"]

X = np.arange(70_000, dtype=np.float32)  # more than what a kernel moves at once, less than a slot
SMALL = X[:100]


def to_torch(rig: Rig, x: Any) -> None:
    sent = halfway.to_torch(x, "bfloat16", device="cuda")
    assert bits(rig.values(sent)) == bits(halfway.to_numpy(x, "bfloat16"))


def to_torch_out(rig: Rig, x: Any) -> None:
    out = rig.empty(x.shape, "float64")
    assert bits(rig.values(halfway.to_torch(x, out=out))) == bits(x.astype(float))


def to_halfway(rig: Rig, x: Any) -> None:
    tensor = halfway.from_dlpack(x, device="cuda")
    assert bits(halfway.to_numpy(tensor)) == bits(x)


def to_numpy(rig: Rig, x: Any) -> None:
    assert bits(halfway.to_numpy(rig.array(x), "float16")) == bits(halfway.to_numpy(x, "float16"))


def to_numpy_out(rig: Rig, x: Any) -> None:
    out = np.zeros(x.shape, ">f8")
    halfway.to_numpy(rig.array(x), out=out)
    np.testing.assert_array_equal(out, x)


def pending(rig: Rig, x: Any) -> None:
    later = halfway.to_numpy(rig.array(x), "bfloat16", non_blocking=True)
    later.ready()
    assert bits(later.result()) == bits(halfway.to_numpy(x, "bfloat16"))


def pin(rig: Rig, x: Any) -> None:
    with halfway.pin(x):
        sent = halfway.to_torch(x, "float64", device="cuda", non_blocking=True)
    assert bits(rig.values(sent)) == bits(x.astype(float))


def collate(rig: Rig, x: Any) -> None:
    batch = halfway.collate([x, x], "float16", device="cuda")
    assert bits(rig.values(batch)) == bits(halfway.to_numpy(np.stack([x, x]), "float16"))


def alias(rig: Rig, x: Any) -> None:
    tensor = halfway.from_dlpack(rig.array(x))
    tensor.__dlpack__(stream=rig.device.stream(), max_version=(1, 0))


WAYS = [to_torch, to_torch_out, to_halfway, to_numpy, to_numpy_out, pending, pin, collate, alias]


def attempt(rig: Rig, way: Callable[[Rig, Any], None], x: Any) -> str:
    """The error's text, or nothing; the error itself would keep what its frames hold."""
    try:
        way(rig, x)
    except halfway.ExchangeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("x", [SMALL, X], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_any_call_may_be_refused(way: Callable[[Rig, Any], None], x: Any) -> None:
    """One call after the other fails, once: an error or the right result, nothing is left, the next transfer works."""
    with rig_in_use() as rig:
        way(rig, x)
        calls = rig.device.calls
    errors = 0
    for k in range(1, calls + 1):
        given = x.copy()
        with rig_in_use(fail_call=k) as rig:
            error = attempt(rig, way, given)
            errors += bool(error)
            # threads that help make a device current, as often as they come to it: the k-th call may not have come
            reached = rig.device.calls >= k
            assert not error or (error.startswith("unavailable: ") and "simulated error" in error), (k, error)
            assert not rig.device.violation, k
            given.fill(-1)
            del given
            if reached:
                to_torch(rig, SMALL)
        check_nothing_is_left(rig)
    assert errors > 0


@pytest.mark.parametrize("fault", ["lost", "late"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_device_that_is_lost(way: Callable[[Rig, Any], None], fault: str) -> None:
    """Every later call fails, too, each with an error; the host goes on."""
    with rig_in_use() as rig:
        way(rig, X)
        calls = rig.device.calls
    for k in range(1, calls + 1):
        x = X.copy()
        producer = probe.make(x, x.shape)
        with rig_in_use(fail_call=k, fault=fault) as rig:
            try:
                way(rig, x)
            except (halfway.ExchangeError, AssertionError) as error:
                # what was enqueued does not run any more, so that a test's own reading may find what was there before
                assert rig.device.is_lost or fault == "late" or isinstance(error, halfway.ExchangeError)
            if rig.device.is_lost:
                with pytest.raises(halfway.ExchangeError):
                    halfway.to_torch(producer.capsule(), device="cuda")
                assert producer.releases == 1, k
            assert halfway.to_numpy(x, "float16").dtype == np.float16


def test_torch_has_no_memory(rig: Rig) -> None:
    rig.device.fail_allocation = True
    export = probe.floats()
    with pytest.raises(MemoryError):
        halfway.to_torch(export.capsule(), device="cuda")
    assert export.releases == 1
    rig.device.fail_allocation = False
    to_torch(rig, X)
    with pytest.raises(MemoryError):  # more than the device has
        halfway.from_dlpack(np.broadcast_to(np.float32(0), (1 << 26,)), device="cuda")
    to_torch(rig, X)


# --- threads


@pytest.mark.parametrize("seed", range(6))
def test_many_threads_transfer_at_once(seed: int) -> None:
    with rig_in_use(seed=seed, threads=True) as rig:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            draw = random.Random(seed * 100 + number)
            x = X + number
            try:
                for _ in range(8):
                    draw.choice([to_torch, to_torch_out, to_halfway, to_numpy, to_numpy_out, pending, collate])(rig, x)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
    check_nothing_is_left(rig)


def test_others_run_while_a_transfer_waits(rig: Rig) -> None:
    """The GIL is let go of: a thread that counts makes progress while others transfer."""
    stop = threading.Event()
    counted = 0

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(20):
            to_torch(rig, X)
            to_numpy(rig, X)
    finally:
        stop.set()
        thread.join()
    assert counted > 0


# --- the ends of processes

PRELUDE = f"""
import sys
sys.path.insert(0, {str(PATH.parent)!r})
import numpy as np
import _halfway_sim as sim
import halfway
from halfway import _core
device = sim.Device(seed=3)
device.use()
_core._set_device_backend(device.backend())
x = np.arange(300_000, dtype=np.float32)
"""


def needs_the_device() -> None:
    if not PATH.exists():
        pytest.skip("the simulated device is not built here: it needs Linux, pybind11 and Python's headers")


SCENARIOS = {
    "results": "sent = halfway.from_dlpack(x, device='cuda')",
    "pending": "pending = halfway.to_numpy(halfway.from_dlpack(x, device='cuda'), non_blocking=True)",
    "dropped": "halfway.to_numpy(halfway.from_dlpack(x, device='cuda'), 'float16', non_blocking=True)",
    "pinned": """
pinned = halfway.pin(x)
pinned.__enter__()
sent = halfway.cast(halfway.from_dlpack(x), 'float64', device='cuda', non_blocking=True)
""",
    "a thread": """
import threading
threading.Thread(target=lambda: [halfway.from_dlpack(x, device='cuda') for _ in range(5)]).start()
""",
    "a daemon": """
import threading
work = lambda: [halfway.from_dlpack(x, device='cuda') for _ in range(50)]
threading.Thread(target=work, daemon=True).start()
""",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_interpreter_ends(run_python: Callable[..., Any], scenario: str) -> None:
    needs_the_device()
    run_python(PRELUDE + SCENARIOS[scenario] + "\nprint('end')").check("end\n")


def test_a_forked_child_is_refused(run_python: Callable[..., Any]) -> None:
    needs_the_device()
    run_python(
        PRELUDE
        + """
import os
tensor = halfway.from_dlpack(x, device='cuda')
pending = halfway.to_numpy(tensor, non_blocking=True)
if os.fork() == 0:
    for call in (
        lambda: halfway.from_dlpack(x, device='cuda'),
        lambda: halfway.to_numpy(tensor),
        lambda: halfway.to_numpy(tensor, non_blocking=True),
        lambda: pending.result(),
        lambda: halfway.pin(x).__enter__(),
        lambda: tensor.__dlpack__(stream=5),
    ):
        try:
            call()
        except halfway.ExchangeError as error:
            assert error.reason == 'unavailable', error
            assert 'fork' in str(error), error
        else:
            raise AssertionError
    assert 'fork' in halfway.explain(x, device='cuda').unavailable
    assert halfway.to_numpy(x, 'float16').dtype == np.float16
    del tensor, pending
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert (pending.result() == x).all()
print('end')
"""
    ).check("end\n")
