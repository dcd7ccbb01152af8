"""What importing brings in, and how the package does without what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

NUMPY_REGISTERS = hasattr(np.dtypes, "register_dlpack_dtype")  # NumPy >= 2.5

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(code: str, without: tuple[str, ...] = (), **environment: str) -> str:
    """What a fresh interpreter prints."""
    prelude = WITHOUT.format(names=without) if without else ""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_import_brings_neither_torch_nor_ml_dtypes():
    heavy = """
        import sys
        import numpy
        before = set(sys.modules)
        import halfway
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - set(sys.stdlib_module_names)))
        print(sorted({"torch", "ml_dtypes"} & set(sys.modules)))
        print(sorted(new & {"argparse", "asyncio", "dataclasses", "inspect", "json", "unittest"}))
    """
    assert run(heavy).splitlines() == ["['halfway']", "[]", "[]"]


def test_numpy_alone_stays_alone():
    code = """
        import sys
        import numpy as np, halfway
        x = np.arange(6.0)
        halfway.to_numpy(halfway.from_dlpack(x), "float32")
        halfway.cast(x, "int8", casting="unsafe")
        halfway.fields(np.zeros(2, "i4,f8"))
        halfway.explain(x, to="numpy"), halfway.Cast("bfloat16"), halfway.dtypes()
        print(sorted({"torch", "ml_dtypes"} & set(sys.modules)))
        halfway.cast(x, "bfloat16")
        print(sorted({"torch", "ml_dtypes"} & set(sys.modules)))
        halfway.to_torch(x)
        print(sorted({"torch", "ml_dtypes"} & set(sys.modules)))
    """
    assert run(code).splitlines() == ["[]", "['ml_dtypes']", "['ml_dtypes', 'torch']"]


def test_without_torch():
    code = """
        import numpy as np, halfway
        x = np.arange(6.0)
        assert np.asarray(halfway.from_dlpack(x)) is not None
        assert halfway.cast(x, "bfloat16").dtype.name == "bfloat16"
        assert halfway.explain(x, "float32", to="numpy").reasons == ("dtype",)
        assert len(halfway.dtypes()) > 30
        for call in (
            lambda: halfway.to_torch(x),
            lambda: halfway.to_torch(x, "bfloat16"),
            lambda: halfway.to_torch(halfway.from_dlpack(x)),
        ):
            try:
                call()
            except halfway.ExchangeError as error:
                assert error.reason == "unavailable"
                assert error.__cause__ is None
                print(error)
    """
    lines = run(code, without=("torch",)).splitlines()
    expected = "unavailable: torch is not installed; pip install torch; NumPy and DLPack exchange work without it"
    assert lines == [expected] * 3


def test_torch_that_breaks_while_it_is_imported(tmp_path):
    (tmp_path / "torch.py").write_text("import a_library_that_is_not_there\n")
    code = """
        import numpy as np, halfway
        try:
            halfway.to_torch(np.zeros(3))
        except halfway.ExchangeError as error:
            print(error.reason)
        print(halfway.to_numpy(halfway.from_dlpack(np.zeros(3))).shape)
    """
    assert run(code, PYTHONPATH=str(tmp_path)).splitlines() == ["unavailable", "(3,)"]


def test_a_module_named_torch_that_is_not_torch(tmp_path):
    (tmp_path / "torch.py").write_text("Tensor = 3\n")
    code = """
        import numpy as np, torch, halfway
        try:
            halfway.to_torch(np.zeros(3))
        except halfway.ExchangeError as error:
            print(error.reason)
        print(halfway.to_numpy(halfway.from_dlpack(np.zeros(3))).shape)
    """
    assert run(code, PYTHONPATH=str(tmp_path)).splitlines() == ["unavailable", "(3,)"]


def test_without_ml_dtypes():
    code = """
        import numpy as np, halfway
        x = np.arange(6.0)
        own = halfway.cast(halfway.from_dlpack(x), "bfloat16")
        print(own)
        print(np.asarray(halfway.cast(own, "float32")))
        print(halfway.register_numpy_dtypes())
        try:
            halfway.to_numpy(own)
        except halfway.ExchangeError as error:
            print(error)
    """
    lines = run(code, without=("ml_dtypes",)).splitlines()
    assert lines[0] == "halfway.Tensor(shape=(6,), dtype=bfloat16)"
    assert lines[1] == "[0. 1. 2. 3. 4. 5.]"
    assert lines[2] == "0"
    assert "ml_dtypes" in lines[3]
    assert "pip install" in lines[3]


READS_BFLOAT16 = """
        class Producer:
            def __init__(self, tensor):
                self.tensor = tensor
            def __dlpack__(self, **options):
                return self.tensor.__dlpack__(**options)
            def __dlpack_device__(self):
                return (1, 0)

        def reads():
            try:
                return np.from_dlpack(Producer(own)).dtype.name == "bfloat16"
            except (RuntimeError, BufferError, TypeError):
                return False
"""


@pytest.mark.parametrize("setting", [None, "0", "1"])
@pytest.mark.parametrize("order", ["before", "after", "first use"])
def test_registration(setting, order):
    code = {
        "before": "import ml_dtypes, halfway",
        "after": "import halfway, ml_dtypes",
        "first use": "import halfway",
    }[order]
    text = f"""
        import numpy as np
        {code}
        own = halfway.cast(halfway.from_dlpack(np.ones(2, np.float32)), "bfloat16")
        {READS_BFLOAT16}
        print(reads())
        halfway.to_numpy(own)
        print(reads())
        print(halfway.register_numpy_dtypes() > 0)
        print(reads())
    """
    environment = {} if setting is None else {"HALFWAY_REGISTER": setting}
    at_import, at_use, count, asked = run(text, **environment).splitlines()
    automatic = NUMPY_REGISTERS and setting != "0"
    assert at_import == str(automatic and order == "before")
    assert at_use == str(automatic)
    assert count == str(NUMPY_REGISTERS)
    assert asked == str(NUMPY_REGISTERS)


def test_torch_loaded_before_after_and_in_another_thread():
    code = """
        import threading
        import numpy as np, halfway
        x = np.arange(3.0)
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(halfway.to_torch(x).data_ptr()))
            for _ in range(8)
        ]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(set(results) == {x.ctypes.data}, len(results))
    """
    assert run(code) == "True 8"


def test_version():
    code = """
        import importlib.metadata, halfway
        print(halfway.__version__ == importlib.metadata.version("halfway"))
    """
    assert run(code) == "True"
