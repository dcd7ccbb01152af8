"""Memory lives as long as anyone needs it, and is released once, on whatever thread that is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.python import probe

import halfway
from halfway import _core


class Array(np.ndarray[Any, Any]):
    """An array whose end can be watched."""


def watched(count: int = 4, dtype: Any = np.float32) -> tuple[Any, weakref.finalize[Any, Any]]:
    array = np.arange(count).astype(dtype).view(Array)
    return array, weakref.finalize(array, lambda: None)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Lets this thread run bytecode and give the GIL away, so that pending calls run, until something has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0)


# What is made of an array and keeps it alive.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "torch": halfway.to_torch,
    "torch by capsule": lambda x: torch.from_dlpack(halfway.from_dlpack(x).__dlpack__(max_version=(1, 3))),
    "torch view": lambda x: halfway.to_torch(x)[1:].view(-1),
    "halfway": halfway.from_dlpack,
    "halfway of torch": lambda x: halfway.from_dlpack(halfway.to_torch(x)),
    "numpy of halfway": lambda x: halfway.to_numpy(halfway.from_dlpack(x)),
    "numpy of torch": lambda x: halfway.to_numpy(halfway.to_torch(x)),
    "asarray": lambda x: np.asarray(halfway.from_dlpack(x)),
    "numpy from_dlpack": lambda x: np.from_dlpack(halfway.from_dlpack(x)),
    "memoryview": lambda x: memoryview(halfway.from_dlpack(x)),
    "versioned capsule": lambda x: halfway.from_dlpack(x).__dlpack__(max_version=(1, 3)),
    "legacy capsule": lambda x: halfway.from_dlpack(x).__dlpack__(),
    "several": lambda x: [halfway.to_torch(x), halfway.from_dlpack(x), halfway.to_torch(x)],
    "field": lambda x: halfway.to_torch(x.reshape(2, 2)[:, 1]),
}


@pytest.mark.parametrize("view", VIEWS)
def test_the_view_keeps_the_source_alive(view: str, exchange_path: str, drain: Callable[[], None]) -> None:
    array, end = watched()
    made = VIEWS[view](array)
    del array
    gc.collect()
    drain()
    assert end.alive
    if isinstance(made, np.ndarray | torch.Tensor):
        assert made.tolist() in ([0, 1, 2, 3], [1, 2, 3], [1, 3])
    del made
    drain()
    assert not end.alive


@pytest.mark.parametrize("view", VIEWS)
def test_the_source_outlives_the_view(view: str, exchange_path: str, drain: Callable[[], None]) -> None:
    array, end = watched()
    references = sys.getrefcount(array)
    for _ in range(3):
        made = VIEWS[view](array)
        assert sys.getrefcount(array) > references
        del made
        drain()
    assert sys.getrefcount(array) == references
    assert end.alive
    assert array.tolist() == [0, 1, 2, 3]


def test_a_torch_source_dies_first(drain: Callable[[], None], exchange_path: str) -> None:
    for function in (
        halfway.to_numpy,
        halfway.from_dlpack,
        lambda t: np.asarray(halfway.from_dlpack(t)),
    ):
        tensor = torch.arange(4.0)
        end = weakref.finalize(tensor.untyped_storage(), lambda: None)
        pointer = tensor.data_ptr()
        made = function(tensor)
        del tensor
        gc.collect()
        array = np.asarray(made)
        assert array.ctypes.data == pointer
        assert array.tolist() == [0, 1, 2, 3]
        del made, array, end
        drain()


def test_a_failed_exchange_holds_nothing(exchange_path: str, drain: Callable[[], None]) -> None:
    array, _ = watched()
    references = sys.getrefcount(array)
    failures: list[Callable[[], Any]] = [
        lambda: halfway.to_torch(array, "float16", copy=False),
        lambda: halfway.to_torch(array, out=torch.zeros(7)),
        lambda: halfway.to_torch(array[::-1], copy=False),
        lambda: halfway.to_numpy(array, "float64", casting="no"),
        lambda: halfway.to_numpy(array, "int8", casting="same_value", overflow="raise", out=np.zeros(3)),
        lambda: halfway.to_torch(array, "int4"),
        lambda: halfway.from_dlpack(array, device="cuda"),
        lambda: halfway.from_dlpack(array).__dlpack__(stream=3),
        lambda: halfway.to_torch(array, nonsense=1),  # type: ignore[call-arg]
    ]
    for fail in failures * 3:
        with pytest.raises((halfway.ExchangeError, halfway.CastError, TypeError, ValueError)):
            fail()
    drain()
    gc.collect()
    assert sys.getrefcount(array) == references


def test_a_dtype_that_torch_lacks_holds_nothing(exchange_path: str) -> None:
    for dtype in (ml_dtypes.float8_e3m4, ml_dtypes.int4, np.longdouble, "M8[s]", object):
        array = np.zeros(4, dtype)
        references = sys.getrefcount(array)
        for _ in range(5):
            with pytest.raises(halfway.ExchangeError):
                halfway.to_torch(array)
        assert sys.getrefcount(array) == references


# --- the probe counts the calls of the deleter

CONSUMERS: dict[str, Callable[[Any], Any]] = {
    "from_dlpack": halfway.from_dlpack,
    "to_torch": halfway.to_torch,
    "to_torch readonly": lambda x: halfway.to_torch(x, allow_readonly=True),
    "to_numpy": halfway.to_numpy,
    "to_torch cast": lambda x: halfway.to_torch(x, "bfloat16"),
    "to_numpy cast": lambda x: halfway.to_numpy(x, "float64"),
    "to_numpy copy": lambda x: halfway.to_numpy(x, copy=True),
    "from_dlpack copy": lambda x: halfway.from_dlpack(x, copy=True),
    "out": lambda x: halfway.to_numpy(x, out=np.zeros(6)),
    "re-export": lambda x: halfway.from_dlpack(x).__dlpack__(max_version=(1, 3)),
    "chain": lambda x: halfway.from_dlpack(halfway.to_torch(halfway.from_dlpack(x), allow_readonly=True)),
}


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_the_producer_is_released_once(
    consumer: str, versioned: bool, exchange_path: str, drain: Callable[[], None]
) -> None:
    for source in ("capsule", "producer"):
        export = probe.floats(versioned=versioned)
        made = CONSUMERS[consumer](export.capsule() if source == "capsule" else probe.Producer(export))
        gc.collect()
        assert export.releases <= 1
        del made
        drain()
        assert export.releases == 1


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])
def test_a_release_without_torch_happens_at_once(versioned: bool) -> None:
    """This thread has a current thread state: nothing waits."""
    export = probe.floats(versioned=versioned)
    tensor = halfway.from_dlpack(export.capsule())
    views = [np.asarray(tensor), memoryview(tensor), tensor.__dlpack__(max_version=(1, 3))]
    del tensor
    while views:
        assert export.releases == 0
        views.pop()
    assert export.releases == 1
    assert _core._pending_releases() == 0


def test_a_null_deleter_is_legal(drain: Callable[[], None]) -> None:
    for versioned in (True, False):
        export = probe.floats(versioned=versioned).without_deleter()
        assert halfway.to_numpy(export.capsule()).tolist() == [0, 1, 2, 3, 4, 5]
        export = probe.floats(versioned=versioned).without_deleter()
        halfway.to_torch(export.capsule(), allow_readonly=True)
        drain()


def test_a_deleter_that_calls_halfway() -> None:
    seen = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def deleter(managed: int) -> None:
        seen.append(halfway.to_torch(np.arange(3)).tolist())
        halfway.from_dlpack(probe.floats().capsule())
        gc.collect()

    export = probe.floats()
    export.set_deleter(deleter)
    tensor = halfway.from_dlpack(export.capsule())
    del tensor
    assert seen == [[0, 1, 2]]


# --- threads


@pytest.mark.parametrize("view", VIEWS)
def test_the_last_reference_goes_on_another_python_thread(
    view: str, exchange_path: str, drain: Callable[[], None]
) -> None:
    array, end = watched()
    box = [VIEWS[view](array)]
    del array
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    drain()
    assert not end.alive


@pytest.mark.parametrize("keep_gil", [False, True], ids=["without GIL", "GIL held elsewhere"])
@pytest.mark.parametrize("threads", [1, 4])
def test_released_on_threads_that_python_does_not_know(threads: int, keep_gil: bool, drain: Callable[[], None]) -> None:
    """The owner is put aside: nothing waits for the GIL; the next halfway call lets go of it."""
    count = 200
    exports = [probe.floats() for _ in range(count)]
    table = probe.table_of(halfway.Tensor)
    managed = []
    for export in exports:
        tensor = halfway.from_dlpack(export.capsule())
        managed.append(probe.export_by_table(table, tensor))
    del tensor
    drain()
    assert [e.releases for e in exports] == [0] * count
    probe.release_on_threads(managed, threads=threads, keep_gil=keep_gil)  # would hang if one waited
    assert {e.releases for e in exports} <= {0, 1}
    drain()
    assert [e.releases for e in exports] == [1] * count


def test_arrays_are_released_on_threads_that_python_does_not_know(
    drain: Callable[[], None],
) -> None:
    arrays = [watched() for _ in range(50)]
    table = probe.table_of(halfway.Tensor)
    managed = [probe.export_by_table(table, halfway.from_dlpack(array)) for array, _ in arrays]
    ends = [end for _, end in arrays]
    del arrays
    gc.collect()
    drain()
    assert all(end.alive for end in ends)
    probe.release_on_threads(managed, threads=2)
    drain()
    assert not any(end.alive for end in ends)


def test_a_release_from_elsewhere_needs_no_further_halfway_call() -> None:
    """A pending call of the interpreter does it."""
    time.sleep(0.02)  # small arrays ask for a limited number of those a millisecond
    array, end = watched()
    managed = probe.export_by_table(probe.table_of(halfway.Tensor), halfway.from_dlpack(array))
    del array
    probe.release_on_threads([managed], keep_gil=True)
    wait_for(lambda: not end.alive)


def test_large_arrays_never_wait_for_a_halfway_call() -> None:
    """Up to 4 MiB may, all together, in a burst; memory that counts does not."""
    base = np.zeros(2 * 1024 * 1024, np.float32)
    arrays = [base.view(Array) for _ in range(300)]
    ends = [weakref.finalize(array, lambda: None) for array in arrays]
    tensors = [halfway.to_torch(array) for array in arrays]
    arrays.clear()
    while tensors:
        tensors.pop()  # with bytecode between them, and thus pending calls
    wait_for(lambda: not any(end.alive for end in ends))


def test_what_waits_is_bounded() -> None:
    for _ in range(3):
        tensors = [halfway.to_torch(np.zeros(4)) for _ in range(2000)]
        del tensors
        wait_for(lambda: _core._pending_releases() <= 64)


def test_torch_tensors_die_in_many_threads_at_once(drain: Callable[[], None]) -> None:
    exports = [probe.floats() for _ in range(400)]
    tensors = [halfway.to_torch(e.capsule()) for e in exports]
    shares = [tensors[i::4] for i in range(4)]
    tensors.clear()
    start = threading.Barrier(4)

    def work(share: list[Any]) -> None:
        start.wait()
        while share:
            share.pop()
            halfway.to_numpy(halfway.to_torch(np.zeros(3)))

    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    drain()
    assert [e.releases for e in exports] == [1] * len(exports)


def test_autograd_threads_release() -> None:
    """torch's own worker threads drop the last reference."""
    array, end = watched()
    weight = torch.ones(4, requires_grad=True)
    data = halfway.to_torch(array)
    loss = (weight * data).sum()
    del array, data
    loss.backward()
    del loss
    halfway.from_dlpack(np.zeros(1))
    wait_for(lambda: not end.alive)


# --- pending exceptions


def test_an_exception_survives_a_release(drain: Callable[[], None]) -> None:
    export = probe.floats()

    class Holder:
        def __init__(self) -> None:
            self.tensor: Any = halfway.from_dlpack(export.capsule())
            self.views = [halfway.to_torch(self.tensor), np.asarray(self.tensor)]

    def fail() -> None:
        holder = Holder()
        held = [holder, halfway.from_dlpack(np.zeros(3))]
        del holder
        raise KeyError(len(held))

    with pytest.raises(KeyError, match="2") as caught:
        fail()
    assert caught.value.args == (2,)
    assert caught.value.__context__ is None
    caught.value.__traceback__ = None
    del caught
    gc.collect()
    drain()
    assert export.releases == 1


def test_a_release_in_finally_del_and_generators(drain: Callable[[], None]) -> None:
    exports = [probe.floats() for _ in range(4)]

    class Resource:
        def __init__(self, export: Any) -> None:
            self.tensor: Any = halfway.from_dlpack(export.capsule())

        def __del__(self) -> None:
            del self.tensor

    def generate() -> Any:
        held = halfway.from_dlpack(exports[0].capsule())
        try:
            yield 1
        finally:
            del held
            halfway.to_torch(np.zeros(2))

    def fail() -> None:
        generator = generate()
        next(generator)
        resource = Resource(exports[1])
        try:
            inner = halfway.from_dlpack(exports[2].capsule())
            assert resource is not None
            raise LookupError("kept")
        finally:
            del inner
            halfway.from_dlpack(exports[3].capsule())

    with pytest.raises(LookupError, match="kept") as caught:
        fail()
    assert caught.value.__context__ is None
    caught.value.__traceback__ = None
    del caught
    gc.collect()
    drain()
    assert [e.releases for e in exports] == [1] * 4


def test_a_release_while_an_error_is_being_raised_in_c() -> None:
    """The deleter runs Python code while an exception is set, and that exception stands."""
    ran = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def deleter(managed: int) -> None:
        try:
            raise RuntimeError("inner")
        except RuntimeError:
            ran.append(True)

    export = probe.floats()
    export.set_deleter(deleter)

    # the tensor lies on the stack of the expression that fails, and goes while the error is set
    with pytest.raises(ZeroDivisionError):
        repr((halfway.from_dlpack(export.capsule()), 1 // int(export.releases)))
    assert ran == [True]


# --- fork


@pytest.mark.parametrize("repetition", range(3))
def test_released_in_parent_and_forked_child(repetition: int, fork_python: Callable[[str], Any]) -> None:
    fork_python(
        """
        import weakref
        class Array(np.ndarray): pass
        ended = []
        array = np.arange(4.0).view(Array)
        weakref.finalize(array, ended.append, True)
        exports = [probe.floats() for _ in range(4)]
        made = [halfway.to_torch(array), halfway.from_dlpack(array)]
        made.append(halfway.to_numpy(halfway.to_torch(array)))
        made.append(halfway.from_dlpack(array).__dlpack__(max_version=(1, 3)))
        made.append(halfway.to_torch(exports[0].capsule()))
        made.append(halfway.from_dlpack(exports[1].capsule()))
        made.append(halfway.to_numpy(exports[2].capsule()))
        made.append(halfway.from_dlpack(exports[3].capsule()).__dlpack__(max_version=(1, 3)))
        del array
        child = os.fork()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        del made
        halfway.from_dlpack(np.zeros(1))
        assert ended == [True], ended
        assert [export.releases for export in exports] == [1] * 4
        assert _core._pending_releases() == 0
        assert halfway.to_torch(np.arange(3.0), "bfloat16").tolist() == [0, 1, 2]
        """
    ).check()


def test_a_fork_while_releases_wait(fork_python: Callable[[str], Any]) -> None:
    """What other threads left before the fork is let go of in each process."""
    fork_python(
        """
        exports = [probe.floats() for _ in range(20)]
        table = probe.table_of(halfway.Tensor)
        managed = [probe.export_by_table(table, halfway.from_dlpack(e.capsule())) for e in exports]
        probe.release_on_threads(managed, keep_gil=True)
        child = os.fork()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        halfway.from_dlpack(np.zeros(1))
        assert [e.releases for e in exports] == [1] * 20
        """
    ).check()


def test_a_fork_while_another_thread_exchanges(fork_python: Callable[[str], Any]) -> None:
    fork_python(
        """
        import threading
        stop = threading.Event()
        big = np.zeros(1 << 20, np.float32)
        def work():
            while not stop.is_set():
                halfway.to_torch(big, "bfloat16")
                halfway.to_numpy(halfway.to_torch(big))
        threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        for thread in threads: thread.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                assert halfway.to_torch(np.arange(3.0), "float32").tolist() == [0, 1, 2]
                halfway.to_torch(big, "float16")
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        for thread in threads: thread.join()
        """
    ).check()


# --- memory

MILLION = 1_000_000


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _capsules() -> Callable[[], Any]:
    tensor = halfway.from_dlpack(np.zeros(8, np.float32))
    return lambda: halfway.from_dlpack(tensor.__dlpack__(max_version=(1, 3)))


def _to(function: Callable[..., Any], source: Any, *args: Any) -> Callable[[], Callable[[], Any]]:
    return lambda: lambda: function(source, *args)


def _failing() -> Callable[[], Any]:
    array = np.zeros(8)[::-1]

    def fail() -> None:
        with contextlib.suppress(halfway.ExchangeError):
            halfway.to_torch(array, copy=False)

    return fail


LOOPS: dict[str, tuple[Callable[[], Callable[[], Any]], int]] = {
    "NumPy to torch": (_to(halfway.to_torch, np.zeros(8, np.float32)), MILLION),
    "torch to NumPy": (_to(halfway.to_numpy, torch.zeros(8)), MILLION),
    "bfloat16 torch to NumPy": (
        _to(halfway.to_numpy, torch.zeros(8, dtype=torch.bfloat16)),
        MILLION // 4,
    ),
    "bfloat16 NumPy to torch": (
        _to(halfway.to_torch, np.zeros(8, ml_dtypes.bfloat16)),
        MILLION // 4,
    ),
    "from_dlpack of NumPy": (_to(halfway.from_dlpack, np.zeros(8, np.float32)), MILLION),
    "from_dlpack of torch": (_to(halfway.from_dlpack, torch.zeros(8)), MILLION // 10),
    "halfway to torch": (_to(halfway.to_torch, halfway.from_dlpack(np.zeros(8))), MILLION // 4),
    "halfway to NumPy": (_to(halfway.to_numpy, halfway.from_dlpack(np.zeros(8))), MILLION // 4),
    "capsules": (_capsules, MILLION),
    "strided": (_to(halfway.to_torch, np.zeros((4, 4))[:, ::2]), MILLION // 10),
    "casts": (_to(halfway.to_torch, np.zeros(8), "float32"), MILLION // 10),
    "explain": (_to(halfway.explain, np.zeros(8)), MILLION // 20),
    "failures": (_failing, MILLION // 50),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_exchanges_leave_memory_flat(loop: str, drain: Callable[[], None]) -> None:
    make, count = LOOPS[loop]
    exchange = make()
    for _ in range(5000):
        exchange()
    drain()
    gc.collect()
    objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
    growths = []
    for _ in range(3):  # the heap may settle once or twice; a leak grows it every time
        before = resident_bytes()
        for _ in range(count):
            exchange()
        drain()
        gc.collect()
        growths.append(resident_bytes() - before)
        # one leaked box of a hundred bytes or more an exchange is beyond this, even at 20 000 of them
        if growths[-1] < 2 << 20:
            break
    else:
        pytest.fail(f"every round grew the process: {growths} bytes")
    assert abs(len(gc.get_objects()) - objects) < 100
    assert abs(sys.getallocatedblocks() - blocks) < 1000


def test_big_arrays_are_given_back(drain: Callable[[], None]) -> None:
    """A hundred times 32 MiB does not accumulate, in a loop without any other halfway call."""
    size = 8 << 20
    halfway.to_torch(np.ones(size, np.float32))
    before = resident_bytes()
    for i in range(100):
        tensor = halfway.to_torch(np.full(size, i, np.float32) if i % 10 == 0 else np.empty(size, np.float32))
        del tensor
    drain()
    assert resident_bytes() - before < 100 << 20
