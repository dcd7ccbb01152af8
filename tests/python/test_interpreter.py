"""The end of the interpreter: whatever lives then, it ends cleanly and releases nothing twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

REPETITIONS = range(3)

# Modules are cleared in the order in which their names were made, names with one underscore first.
NAMES = {
    "array": "np.arange(4.0)",
    "own": "halfway.from_dlpack(export.capsule())",
    "view": "halfway.to_numpy(halfway.from_dlpack(second.capsule()))",
    "capsule": "halfway.from_dlpack(third.capsule()).__dlpack__(max_version=(1, 3))",
}
PRELUDE = """
import halfway as module, numpy as numbers
export, second, third = (probe.floats() for _ in range(3))
_values = dict(array={array}, own={own}, view={view}, capsule={capsule})
probe.with_gil.report_at_exit(1)
""".format(**NAMES)


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize("order", list(itertools.permutations(NAMES)), ids="-".join)
def test_every_order_of_module_globals(
    order: tuple[str, ...], repetition: int, fork_python_without_torch: Callable[[str], Any]
) -> None:
    lines = "\n".join(f"{name} = _values[{name!r}]" for name in order)
    fork_python_without_torch(f"{PRELUDE}\n{lines}\ndel _values, export, second, third").check("releases: 1 1 1\n")


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize("first", ["names", "modules"])
@pytest.mark.parametrize("underscore", ["", "_"])
def test_modules_before_and_after_the_arrays(
    underscore: str, first: str, repetition: int, fork_python_without_torch: Callable[[str], Any]
) -> None:
    names = "\n".join(f"{underscore}{name} = _values[{name!r}]" for name in NAMES)
    modules = "m1 = module; n1 = numbers; c1 = _core"
    code = "\n".join([names, modules] if first == "names" else [modules, names])
    left = "_values, module, numbers, halfway, np, _core, export, second, third"
    fork_python_without_torch(f"{PRELUDE}\n{code}\ndel {left}").check("releases: 1 1 1\n")


TORCH_NAMES = {
    "array": "np.arange(4.0)",
    "tensor": "halfway.to_torch(export.capsule())",
    "view": "halfway.to_numpy(halfway.to_torch(np.arange(3.0)))",
    "own": "halfway.from_dlpack(torch.ones(3))",
}


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize(
    "order",
    [
        ("array", "tensor", "view", "own"),
        ("own", "view", "tensor", "array"),
        ("tensor", "own", "array", "view"),
    ],
    ids="-".join,
)
def test_orders_with_torch(order: tuple[str, ...], repetition: int, fork_python: Callable[[str], Any]) -> None:
    lines = "\n".join(f"{name} = {TORCH_NAMES[name]}" for name in order)
    start = "export = probe.floats()\nprobe.with_gil.report_at_exit(1)"
    done = fork_python(f"{start}\n{lines}\ntensors = [halfway.to_torch(array)]")
    # torch lets go of the GIL when a tensor dies: once the interpreter finalizes, its owner leaks
    assert done.status == 0
    assert done.output in ("releases: 0\n", "releases: 1\n")


# Where a reference may outlast the module it came from. {make} is an exchange of a struct.
PLACES = {
    "builtins": "import builtins; builtins.kept = {make}",
    "sys": "sys.kept = {make}",
    "a class": "class C:\n    kept = {make}",
    "a cycle": "cycle = [{make}]; cycle.append(cycle)",
    "a cycle with a finalizer": (
        "class D:\n"
        "    def __del__(self): halfway.from_dlpack(np.zeros(2)); del self.kept\n"
        "d = D(); d.self = d; d.kept = {make}"
    ),
    "a thread local": "import threading; local = threading.local(); local.kept = {make}",
    "an atexit handler": "import atexit; atexit.register(print, end='', *[{make}][1:])",
    "an atexit handler that exchanges": (
        "import atexit; kept = {make}\n"
        "atexit.register(lambda: (halfway.to_numpy(kept, 'float64'), halfway.from_dlpack(kept)))"
    ),
    "a finalizer at exit": (
        "import weakref; kept = {make}\n"
        "class E: pass\n"
        "e = E(); weakref.finalize(e, lambda: halfway.to_numpy(kept, copy=True))"
    ),
    "a default": "def f(x={make}): pass",
    "a generator": "def g():\n    kept = {make}\n    yield kept\nit = g(); next(it)",
    "an exception": "try:\n    raise KeyError({make})\nexcept KeyError as error:\n    kept = error",
    "halfway itself": "halfway.kept = {make}",
    "an object array": "kept = np.array([{make}, None], object)",
    "a module of its own": ("import types; m = types.ModuleType('m'); sys.modules['m'] = m; m.kept = {make}"),
}


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize("make", ["from_dlpack", "to_numpy"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_kept_in_odd_places(
    place: str, make: str, repetition: int, fork_python_without_torch: Callable[[str], Any]
) -> None:
    code = PLACES[place].format(make=f"halfway.{make}(export.capsule())")
    fork_python_without_torch(f"export = probe.floats()\nprobe.with_gil.report_at_exit(1)\n{code}\ndel export").check(
        "releases: 1\n"
    )


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_tensors_of_torch_in_odd_places(repetition: int, fork_python: Callable[[str], Any]) -> None:
    code = "\n".join(
        text.format(make="halfway.to_torch(probe.floats().capsule())").replace("kept", f"kept{i}")
        for i, text in enumerate(PLACES.values())
    )
    done = fork_python(f"probe.with_gil.report_at_exit(1)\n{code}")
    assert done.status == 0
    assert set(done.output.removeprefix("releases: ").split()) <= {"0", "1"}
    assert len(done.output.split()) == 1 + len(PLACES)


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_nothing_but_imports(repetition: int, run_python: Callable[..., Any]) -> None:
    for imports in ("halfway", "halfway, torch", "torch, halfway", "ml_dtypes, halfway"):
        if repetition == 0 or "torch" not in imports:
            run_python(f"import {imports}").check()


def test_a_whole_interpreter(run_python: Callable[..., Any]) -> None:
    """Not forked: started, used and left, with every kind of view alive."""
    run_python(
        """
        import numpy as np, halfway, torch
        array = np.arange(4.0)
        kept = [halfway.to_torch(array), halfway.from_dlpack(array)]
        kept.append(halfway.to_numpy(torch.ones(3)))
        kept.append(halfway.from_dlpack(kept[0]))
        kept.append(np.asarray(kept[1]))
        kept.append(kept[1].__dlpack__())
        kept.append(halfway.to_torch(array, "bfloat16"))
        kept.append(halfway.explain(array, "float16"))
        kept.append(halfway.Report())
        kept.append(halfway.Cast("bf16"))
        """,
        "-X",
        "dev",
    ).check()


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_daemon_threads_that_hold_tensors(repetition: int, fork_python: Callable[[str], Any]) -> None:
    done = fork_python(
        """
        import threading, time
        exports = [probe.floats() for _ in range(3)]
        probe.with_gil.report_at_exit(1)
        started = threading.Barrier(4)
        def hold(make, export):
            kept = make(export.capsule())
            started.wait()
            time.sleep(3600)
        makes = [halfway.to_torch, halfway.from_dlpack, halfway.to_numpy]
        for make, export in zip(makes, exports):
            threading.Thread(target=hold, args=(make, export), daemon=True).start()
        started.wait()
        """
    )
    assert done.status == 0
    assert set(done.output.removeprefix("releases: ").split()) <= {"0", "1"}


# What a daemon thread may be doing when the interpreter ends. (Not: letting torch tensors die. torch itself aborts
# then, with torch.from_numpy as well.)
WORK = {
    "zero-copy": "halfway.to_numpy(halfway.from_dlpack(array))",
    "a cast without the GIL": "halfway.to_numpy(array, 'float16')",
    "a copy without the GIL": "halfway.from_dlpack(array).__dlpack__(copy=True)",
    "a producer in Python": "halfway.from_dlpack(Producer())",
    "a deleter in Python": "halfway.from_dlpack(with_deleter())",
    "a failure": "refuse()",
    "an explanation": "str(halfway.explain(array, 'float16', to='numpy'))",
}


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize("work", WORK)
def test_daemon_threads_that_work(work: str, repetition: int, fork_python_without_torch: Callable[[str], Any]) -> None:
    """CPython ends them inside of halfway's functions."""
    fork_python_without_torch(
        f"""
        import ctypes, threading, time
        array = np.zeros(1 << 17, np.float32)
        class Producer:
            def __dlpack__(self, **keywords):
                for i in range(100): pass
                return array.__dlpack__(**keywords)
            def __dlpack_device__(self):
                for i in range(100): pass
                return (1, 0)
        @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        def deleter(managed):
            for i in range(100): pass
        export = probe.floats()
        export.set_deleter(deleter)
        def with_deleter():
            return export.capsule()
        def refuse():
            try:
                halfway.to_numpy(array, "float16", copy=False)
            except halfway.ExchangeError:
                pass
        turns = [0, 0]
        def loop(i):
            while True:
                {WORK[work]}
                turns[i] += 1
        for i in range(2):
            threading.Thread(target=loop, args=(i,), daemon=True).start()
        while min(turns) < 3:
            time.sleep(0.001)
        """
    ).check()


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_released_after_the_interpreter_has_gone(
    repetition: int, fork_python_without_torch: Callable[[str], Any]
) -> None:
    """A C library lets go when the process exits: there is no Python left to release with."""
    fork_python_without_torch(
        """
        export = probe.floats()
        probe.with_gil.report_at_exit(1)
        table = probe.table_of(halfway.Tensor)
        for source in (export.capsule(), np.arange(3.0)):
            managed = probe.export_by_table(table, halfway.from_dlpack(source))
            probe.with_gil.release_at_exit(managed)
        """
    ).check("releases: 0\n")


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize("microseconds", [0, 1000, 20000, 100000])
def test_released_by_a_foreign_thread_while_the_interpreter_ends(
    microseconds: int, repetition: int, fork_python_without_torch: Callable[[str], Any]
) -> None:
    done = fork_python_without_torch(
        f"""
        exports = [probe.floats() for _ in range(8)]
        probe.with_gil.report_at_exit(1)
        table = probe.table_of(halfway.Tensor)
        for i, export in enumerate(exports):
            managed = probe.export_by_table(table, halfway.from_dlpack(export.capsule()))
            assert probe.with_gil.release_later(managed, {microseconds} * i // 4) == 0
        """
    )
    assert done.status == 0
    assert set(done.output.removeprefix("releases: ").split()) <= {"0", "1"}


def test_what_waits_is_released_at_exit(fork_python_without_torch: Callable[[str], Any]) -> None:
    fork_python_without_torch(
        """
        exports = [probe.floats() for _ in range(8)]
        probe.with_gil.report_at_exit(1)
        table = probe.table_of(halfway.Tensor)
        managed = [probe.export_by_table(table, halfway.from_dlpack(e.capsule())) for e in exports]
        probe.release_on_threads(managed, keep_gil=True)
        """
    ).check("releases: " + " ".join("1" * 8) + "\n")


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_the_last_of_a_burst_is_released_at_exit(repetition: int, fork_python: Callable[[str], Any]) -> None:
    """In a loop of exchanges the next call releases the tensor before; the last one waits for the end."""
    fork_python(
        """
        exports = [probe.floats() for _ in range(1000)]
        probe.with_gil.report_at_exit(1)
        for export in exports:
            halfway.to_torch(export.capsule())
        """
    ).check("releases:" + " 1" * 1000 + "\n")


@pytest.mark.parametrize("how", ["sys.exit(0)", "raise SystemExit", "os._exit(0)"])
def test_ways_to_leave(how: str, fork_python: Callable[[str], Any]) -> None:
    fork_python(f"kept = [halfway.to_torch(np.zeros(3)), halfway.from_dlpack(np.zeros(3))]\n{how}").check()


def test_an_uncaught_error_is_the_only_thing_printed(
    fork_python_without_torch: Callable[[str], Any],
) -> None:
    done = fork_python_without_torch("kept = halfway.from_dlpack(np.zeros(3))\nraise LookupError('the end')")
    assert done.status == 1
    assert done.output.splitlines()[-1] == "LookupError: the end"
    assert done.output.count("Error") == 1


def test_interrupted_while_it_exchanges(fork_python: Callable[[str], Any]) -> None:
    fork_python(
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGVTALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        array = np.zeros(8)
        exports = probe.floats()
        for _ in range(20):
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.005)
            try:
                while True:
                    halfway.to_numpy(halfway.to_torch(array))
                    halfway.to_torch(array, "bfloat16")
            except KeyboardInterrupt:
                pass
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        references = sys.getrefcount(array)
        halfway.from_dlpack(np.zeros(1))
        assert sys.getrefcount(array) <= 3, sys.getrefcount(array)
        """
    ).check()


def test_importing_is_lazy(run_python: Callable[..., Any]) -> None:
    run_python(
        """
        import sys
        import numpy, halfway
        assert "torch" not in sys.modules and "ml_dtypes" not in sys.modules
        array = numpy.zeros(3)
        halfway.from_dlpack(array)
        halfway.to_numpy(array, "float32")
        halfway.explain(array, "float32", to="numpy")
        halfway.dtypes()
        assert "torch" not in sys.modules and "ml_dtypes" not in sys.modules
        assert halfway.to_numpy(array, "bfloat16").dtype.name == "bfloat16"
        assert "ml_dtypes" in sys.modules and "torch" not in sys.modules
        halfway.to_torch(array)
        assert "torch" in sys.modules
        """
    ).check()


@pytest.mark.parametrize("setting", ["0", "1"])
def test_registering_numpys_dtypes_can_be_turned_off(setting: str, run_python: Callable[..., Any]) -> None:
    run_python(
        f"""
        import os
        os.environ["HALFWAY_REGISTER"] = "{setting}"
        import numpy as np, ml_dtypes, halfway
        tensor = halfway.from_dlpack(np.zeros(2, ml_dtypes.bfloat16))
        can = hasattr(np.dtypes, "register_dlpack_dtype")
        try:
            known = np.from_dlpack(tensor).dtype == ml_dtypes.bfloat16
        except (BufferError, RuntimeError):
            known = False
        assert known == (can and "{setting}" != "0"), (known, can)
        """
    ).check()
