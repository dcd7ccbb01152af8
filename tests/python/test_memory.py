"""The pool behind results: memory comes back when the last reference dies, wherever that is."""

# Wrong arguments are among the subjects here:
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import halfway
from halfway import memory

X = np.arange(1 << 20, dtype=np.float64)  # 4 MiB as float32
NBYTES = 4 << 20

MAKERS: dict[str, Callable[[], Any]] = {
    "torch tensor": lambda: halfway.to_torch(X, "float32"),
    "NumPy array": lambda: halfway.to_numpy(X, "float32"),
    "NumPy array by cast": lambda: halfway.cast(X, "float32"),
    "halfway.Tensor": lambda: halfway.cast(halfway.from_dlpack(X), "float32"),
    "torch copy": lambda: halfway.to_torch(X[: NBYTES // 8], copy=True),
    "ml_dtypes array": lambda: halfway.to_numpy(np.concatenate([X, X]), "bfloat16"),
}


def address(result: Any) -> int:
    if isinstance(result, np.ndarray):
        return result.ctypes.data
    pointer = result.data_ptr
    return int(pointer() if callable(pointer) else pointer)


@pytest.fixture(autouse=True)
def empty_pool() -> Iterator[None]:
    memory.trim()
    before = memory.limit()
    yield
    memory.limit(before)
    memory.trim()


@pytest.mark.parametrize("maker", MAKERS)
def test_memory_is_used_again(maker):
    make = MAKERS[maker]
    before = memory.stats()
    result = make()
    first = address(result)
    held = memory.stats()
    assert held.in_use - before.in_use == NBYTES
    assert held.misses - before.misses == 1
    other = make()
    assert address(other) != first
    del other
    memory.trim()
    del result
    freed = memory.stats()
    assert (freed.in_use, freed.cached) == (before.in_use, NBYTES)
    again = make()
    assert address(again) == first
    assert memory.stats().hits - before.hits == 1
    assert memory.stats().cached == 0


@pytest.mark.parametrize("maker", ["torch tensor", "NumPy array"])
def test_views_keep_it(maker):
    make = MAKERS[maker]
    result = make()
    first = address(result)
    view = result[5:10]
    del result
    assert address(make()) != first
    assert view.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]
    memory.trim()
    del view
    assert address(make()) == first


def test_other_libraries_views_keep_it():
    tensor = MAKERS["torch tensor"]()
    first = address(tensor)
    array = halfway.to_numpy(tensor)
    own = halfway.from_dlpack(array)
    exported = np.from_dlpack(own)
    del tensor, array, own
    assert address(MAKERS["torch tensor"]()) != first
    assert exported[-1] == X[-1]
    memory.trim()
    del exported
    halfway.from_dlpack(np.zeros(1))  # torch lets go of the array between them without the GIL
    assert address(MAKERS["torch tensor"]()) == first


@pytest.mark.parametrize("maker", ["torch tensor", "NumPy array", "halfway.Tensor"])
def test_other_threads_free_it(maker):
    make = MAKERS[maker]
    box = [make()]
    first = address(box[0])
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert memory.stats().cached == NBYTES
    assert address(make()) == first


def test_many_threads():
    wrong: list[int] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for i in range(50):
            size = int(random.integers(1 << 14, 1 << 17))
            source = np.full(size, float(seed * 100 + i))
            results = [halfway.to_torch(source, "float32"), halfway.to_numpy(source, "float32")]
            if not all(bool((result == source[0]).all()) for result in results):
                wrong.append(seed)

    before = memory.stats()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert memory.stats().in_use == before.in_use
    assert memory.stats().hits > before.hits


def test_small_and_shared_results_take_no_part():
    before = memory.stats()
    small = halfway.to_torch(X[:1000], "float32")
    shared = halfway.to_torch(X)
    assert memory.stats() == before
    del small, shared
    assert memory.stats() == before


def test_trim():
    result = MAKERS["torch tensor"]()
    assert memory.trim() == 0
    assert result[7] == 7
    del result
    assert memory.trim() == NBYTES
    assert memory.trim() == 0
    assert memory.stats().cached == 0


def test_limit():
    first = memory.limit()
    assert first == memory.stats().limit > 0
    for _ in range(2):
        MAKERS["torch tensor"]()
    assert memory.stats().cached == NBYTES
    assert memory.limit(NBYTES - 1) == first
    assert memory.stats().cached == 0
    MAKERS["torch tensor"]()
    assert memory.stats().cached == 0
    assert memory.limit(np.int64(123)) == NBYTES - 1
    assert memory.limit(0) == 123
    assert memory.limit() == 0
    assert memory.limit(sys.maxsize) == 0
    assert memory.limit(bytes=first) == sys.maxsize


@pytest.mark.parametrize("wrong", [1.5, "1", b"1", [], np.zeros(2)])
def test_limits_are_integers(wrong):
    before = memory.limit()
    with pytest.raises(TypeError, match="number of bytes"):
        memory.limit(wrong)
    assert memory.limit() == before


@pytest.mark.parametrize("wrong", [-1, sys.maxsize + 1, 1 << 70])
def test_limits_are_possible(wrong):
    before = memory.limit()
    with pytest.raises(ValueError, match=str(wrong)):
        memory.limit(wrong)
    assert memory.limit() == before


def test_stats_are_a_named_tuple():
    stats = memory.stats()
    assert isinstance(stats, tuple)
    assert all(type(value) is int for value in stats)
    assert stats._fields == ("in_use", "peak_in_use", "cached", "limit", "hits", "misses")
    assert stats.peak_in_use >= stats.in_use


def test_failed_casts_give_it_back():
    before = memory.stats()
    for _ in range(3):
        with pytest.raises(halfway.CastError):
            halfway.to_torch(X + 0.1, "float32", casting="same_value")
    assert memory.stats().in_use == before.in_use


# --- processes


@pytest.mark.parametrize(("setting", "expected"), [("12345678", 12345678), ("0", 0), ("1G", None), ("", None)])
def test_the_environment_sets_the_limit(setting, expected, run_python, monkeypatch):
    monkeypatch.delenv("HALFWAY_MEMORY_LIMIT", raising=False)
    code = "import halfway; print(halfway.memory.limit())"
    usual = run_python(code).output
    assert 0 < int(usual) <= 1 << 30
    monkeypatch.setenv("HALFWAY_MEMORY_LIMIT", setting)
    run_python(code).check(usual if expected is None else f"{expected}\n")


LIVE = """
x = np.arange(1 << 20, dtype=np.float64)
"""


@pytest.mark.parametrize(
    "code",
    [
        "kept = [halfway.cast(x, 'float32'), halfway.cast(halfway.from_dlpack(x), 'float32')]",
        "import builtins; builtins.kept = halfway.to_torch(x, 'float32')",
        "import sys; sys.kept = halfway.to_numpy(halfway.to_torch(x, 'float32')); halfway.to_torch(x, 'bfloat16')",
        "import atexit; kept = halfway.to_torch(x, 'float32'); atexit.register(kept.add_, 1)",
        """
import threading, time
kept = halfway.to_torch(x, 'float32')
def work(mine):
    while True:
        mine = halfway.to_numpy(x, 'float32')  # torch itself aborts when its tensors die then
threading.Thread(target=work, args=(kept,), daemon=True).start()
time.sleep(0.05)
""",
    ],
    ids=["module", "builtins", "sys", "atexit", "daemon"],
)
def test_interpreter_exit_with_live_results(code, fork_python):
    fork_python(LIVE + code).check("")


def test_a_forked_child(fork_python):
    code = """
import os
memory = halfway.memory
kept = halfway.to_torch(x, "float32")
halfway.to_torch(x, "float32")
assert memory.stats().cached == 4 << 20
child = os.fork()
if child == 0:
    address = kept.data_ptr()
    assert kept[-1] == x[-1]
    hits = memory.stats().hits
    other = halfway.to_torch(x, "float32")
    assert memory.stats().hits == hits and memory.stats().cached == 0  # what the parent kept is not handed out
    del kept
    kept = halfway.to_torch(x, "float32")
    assert kept.data_ptr() == address
    del kept, other
    assert memory.trim() == 8 << 20
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert kept[-1] == x[-1]
assert memory.stats().cached == 4 << 20
"""
    fork_python(LIVE + code).check("")


def test_loader_workers(fork_python):
    """As DataLoader's workers: forked while threads of the parent make results, each makes its own."""
    code = """
import os, threading
stop = False
def work():
    while not stop:
        halfway.to_torch(x, "float32")
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for worker in range(8):
    child = os.fork()
    if child == 0:
        for batch in range(5):
            result = halfway.to_torch(x[batch:], "bfloat16")
            assert result[0] == batch
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop = True
for thread in threads: thread.join()
"""
    fork_python(LIVE + code).check("")


def test_torch_loader():
    class Data(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> torch.Tensor:
            return halfway.to_torch(X[: 1 << 16] + index, "float32")

    loader = torch.utils.data.DataLoader(
        Data(), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    assert [batch[:, 0].tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
