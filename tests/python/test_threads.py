"""num_threads and set_num_threads: in this process, in others by environment, in forks and in DataLoader workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.python.conftest import Finished
from torch.utils.data import DataLoader, Dataset

import halfway


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    halfway.set_num_threads(0)


def test_default() -> None:
    assert 1 <= halfway.num_threads() <= max(1, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("n", [1, 2, 7, 1024, np.int8(5), np.uint64(6)])
def test_what_is_set_is_what_is_given(n: int) -> None:
    assert halfway.set_num_threads(n) is None  # type: ignore[func-returns-value]
    assert halfway.num_threads() == n
    assert type(halfway.num_threads()) is int


@pytest.mark.parametrize("n", [1025, 2**31, 2**32 + 1, 2**63, 10**30])
def test_large_numbers_count_as_the_largest(n: int) -> None:
    halfway.set_num_threads(n)
    assert halfway.num_threads() == 1024


def test_zero_restores_the_default() -> None:
    default = halfway.num_threads()
    halfway.set_num_threads(default + 3)
    halfway.set_num_threads(0)
    assert halfway.num_threads() == default


@pytest.mark.parametrize("n", [-1, -(2**31), -(2**63), -(10**30)])
def test_negative_numbers(n: int) -> None:
    halfway.set_num_threads(3)
    with pytest.raises(ValueError, match=str(n)):
        halfway.set_num_threads(n)
    assert halfway.num_threads() == 3


@pytest.mark.parametrize("n", [None, "2", 2.0, True, np.float64(2), [2], np.zeros(2, int)])
def test_wrong_types(n: Any) -> None:
    halfway.set_num_threads(3)
    with pytest.raises(TypeError):
        halfway.set_num_threads(n)
    assert halfway.num_threads() == 3


def test_errors_of_index_pass() -> None:
    class Odd:
        def __index__(self) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        halfway.set_num_threads(Odd())


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError):
        halfway.num_threads(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        halfway.set_num_threads()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        halfway.set_num_threads(n=1)  # type: ignore[call-arg]


# --- beside torch

CAST_LARGE = """
    import os, time
    import numpy as np, torch, halfway
    source = torch.arange(1 << 20, dtype=torch.float64)
    expected = source.to(torch.float32)
    def cast():
        assert torch.equal(halfway.to_torch(source, torch.float32), expected)
    def workers():
        tasks = f"/proc/{os.getpid()}/task"
        count = 0
        for task in os.listdir(tasks):
            try:
                with open(f"{tasks}/{task}/comm") as name:
                    count += name.read().strip() == "halfway"
            except OSError:  # it has ended meanwhile
                pass
        return count
"""


def test_casts_run_on_torchs_threads(run_python: Callable[..., Any]) -> None:
    run_python(
        CAST_LARGE
        + """
    torch.set_num_threads(3)
    halfway.set_num_threads(3)
    for _ in range(20):
        cast()
        assert workers() == 0, workers()
    torch.set_num_threads(1)  # nothing to share: threads of our own, which take a moment to begin
    for _ in range(500):
        cast()
        if workers() > 0: break
        time.sleep(0.01)
    print(workers() > 0)
    """
    ).check("True\n")


def test_several_threads_cast_beside_torch(run_python: Callable[..., Any]) -> None:
    run_python(
        CAST_LARGE
        + """
    import threading
    torch.set_num_threads(3)
    halfway.set_num_threads(3)
    failed = []
    def work():
        try:
            for _ in range(30):
                cast()
                source.sum()
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failed, failed
    assert workers() == 0, workers()  # whoever finds torch's threads busy works alone
    print("done")
    """
    ).check("done\n")


def test_a_forked_child_has_threads_of_its_own(run_python: Callable[..., Any]) -> None:
    run_python(
        CAST_LARGE
        + """
    halfway.set_num_threads(3)
    torch.set_num_threads(3)
    cast()
    child = os.fork()
    if child == 0:  # torch's threads are not here
        data = source.numpy()
        wide = np.zeros(1 << 20, np.float32)
        for n in (0, 3):
            halfway.set_num_threads(n)
            wide[...] = 0
            halfway.cast(data, np.float32, out=wide)
            assert (wide == np.arange(1 << 20)).all()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    ).check("7\n")


# --- other processes

REPORT = "import halfway; print(halfway.num_threads())"


def reported(**environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", REPORT], env=inherited | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_environment() -> None:
    assert reported(OMP_NUM_THREADS="1") == 1
    assert reported(OMP_NUM_THREADS="1,4") == 1
    assert reported(OMP_NUM_THREADS="2", HALFWAY_NUM_THREADS="11") == 11


def test_a_forked_child_has_one(fork_python_without_torch: Callable[[str], Any]) -> None:
    fork_python_without_torch("""
        print(halfway.num_threads(), flush=True)
        halfway.set_num_threads(5)
        child = os.fork()
        if child == 0:
            print(halfway.num_threads(), flush=True)
            halfway.set_num_threads(2)
            print(halfway.num_threads(), flush=True)
            halfway.set_num_threads(0)
            print(halfway.num_threads(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(halfway.num_threads())
    """).check("1\n1\n2\n1\n5\n")


class Counts(Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return halfway.num_threads()


def set_three(worker: int) -> None:
    halfway.set_num_threads(3)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_data_loader_workers_have_one(method: str) -> None:
    halfway.set_num_threads(4)
    loader = DataLoader(Counts(), num_workers=1, multiprocessing_context=method, timeout=60)
    assert torch.cat(list(loader)).tolist() == [1, 1, 1, 1]
    assert halfway.num_threads() == 4


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_a_worker_sets_wins(method: str) -> None:
    loader = DataLoader(Counts(), num_workers=1, multiprocessing_context=method, worker_init_fn=set_three, timeout=60)
    assert torch.cat(list(loader)).tolist() == [3, 3, 3, 3]


def test_the_main_process_is_no_worker() -> None:
    default = halfway.num_threads()
    assert torch.cat(list(DataLoader(Counts()))).tolist() == [default] * 4


# Whatever is found where torch's module should be: no error, and a pending one is not touched.
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("None", "default"),
        ("3", "default"),
        ("types.ModuleType('worker')", "default"),
        ("types.SimpleNamespace(_worker_info=1)", "default"),
        ("module(None)", "default"),
        ("module(object())", "1"),
    ],
)
def test_detection_never_raises(found: str, expected: str, run_python: Callable[..., Any]) -> None:
    run_python(f"""
        import os, sys, types
        os.environ["HALFWAY_NUM_THREADS"] = "6"
        import halfway

        def module(info):
            made = types.ModuleType("worker")
            made._worker_info = info
            return made

        assert halfway.num_threads() == 6
        sys.modules["torch.utils.data._utils.worker"] = {found}
        assert halfway.num_threads() == (6 if "{expected}" == "default" else 1)
        halfway.set_num_threads(2)
        assert halfway.num_threads() == 2
    """).check()


@pytest.mark.parametrize("size", [64, 128])
def test_small_stacks(fork_python: Callable[[str], Finished], size: int) -> None:
    """Whatever a thread asks for fits the least that musl and others give it."""
    fork_python(
        f"""
        import threading

        SIZE = {size} << 10
        square = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
        large = np.arange(700 * 500, dtype=np.float64).reshape(700, 500)
        pixels = np.arange(2 * 40 * 30 * 3).astype(np.uint8).reshape(2, 40, 30, 3)
        report = halfway.Report()
        calls = [
            lambda x: halfway.to_numpy(x, copy=True),
            lambda x: halfway.to_numpy(x.T, copy=True),
            lambda x: halfway.to_torch(x[:, ::2], "bfloat16"),
            lambda x: halfway.to_torch(x.T, "bfloat16", report=report),
            lambda x: halfway.to_torch(x.astype(">f8").T, "float16", overflow="saturate"),
            lambda x: halfway.cast(x.astype("c16").T, "c8"),
            lambda x: halfway.cast(x, "f4", scale=np.arange(x.shape[1]), axis=1, permute=(1, 0)),
            lambda x: halfway.cast(x, "f2", rounding="stochastic", seed=1, permute=(1, 0)),
            lambda x: halfway.to_numpy(x.T, out=np.empty(x.shape[::-1], "f8")[:, ::-1]),
            lambda x: halfway.collate([x.T, x.T[:, ::-1], x.T], "bfloat16"),
            lambda x: halfway.collate([x.T, x.T[:, 3:]], "f4", pad=0, to="numpy", scale=2.0),
            lambda x: halfway.collate([{{"x": x, "y": 1}}] * 3, {{float: "f2"}}, report=report),
            lambda x: halfway.images(pixels, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
            lambda x: str(halfway.explain(x.T, "f4")),
        ]

        def values(result):
            return str(result) if isinstance(result, (dict, str)) else halfway.to_numpy(result).tobytes()

        wanted = [values(call(x)) for x in (square, large) for call in calls]
        made = []
        threading.stack_size(SIZE)
        both = (square, large)
        thread = threading.Thread(target=lambda: made.extend(values(call(x)) for x in both for call in calls))
        thread.start()
        thread.join()
        print(made == wanted)
        """
    ).check("True\n")
