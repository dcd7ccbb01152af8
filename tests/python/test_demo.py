"""The demo, the command line, the examples and the tables of the documentation."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import halfway
from halfway.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("torch")
pytest.importorskip("sklearn")


def section(capsys, key, *options):
    assert main(["demo", "--section", key, *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 100
    return out


def transcript(out):
    """What was typed and what came of it; what was typed twice is numbered."""
    results: dict[str, str] = {}
    current = None
    for line in out.splitlines():
        if line.startswith(("  >>> ", "  ... ")):
            typed = line[6:].split("  #")[0].rstrip()
            current = typed
            while current in results:
                current += "'"
            results[current] = ""
        elif line.startswith("  ") and current is not None:
            results[current] = " ".join([*results[current].split(), *line.split()])
        else:
            current = None
    return results


# --- the demo


def test_a_every_shared_dtype_is_shared(capsys):
    out = section(capsys, "a")
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    for row in halfway.dtypes():
        if row.castable and row.numpy and row.torch:
            assert rows[row.name].count("same memory") >= 2, rows[row.name]
        if row.kind == "refused":
            assert row.note in re.sub(r"\s+", " ", out)
    # what halfway answers where a library has no such dtype
    assert re.search(r"float8_e3m4 +TypeError +needs a cast +no such dtype +no such dtype", out)
    for line in rows.values():  # halfway's columns never hold an unexplained error
        assert not re.search(r"Error\s*$", line)


def test_b_implicit(capsys):
    out = transcript(section(capsys, "b"))
    assert out["torch.tensor(digits).dtype, torch.from_numpy(digits).dtype"] == ("(torch.float64, torch.float64)")
    assert out["model(torch.from_numpy(digits))"].startswith("RuntimeError: ")
    assert out['model(halfway.to_torch(digits, "float32")).shape'] == "torch.Size([1797, 10])"
    assert "zero-copy" in out["print(halfway.explain(digits))"]
    assert "one pass because dtype" in out['print(halfway.explain(digits, "float32"))']
    assert out["aliased = torch.from_numpy(frozen)"].startswith("UserWarning: ")
    assert "99.0" in out["frozen[0]"]
    assert "because readonly" in out["print(halfway.explain(frozen))"]
    assert out["halfway.to_torch(frozen, copy=False)"].startswith("ExchangeError: ")
    assert "readonly" in out["halfway.to_torch(frozen, copy=False)"]
    assert out["halfway.explain(frozen, allow_readonly=True).zero_copy"] == "True"
    shared = out["array.dtype, array.ctypes.data == weights.data_ptr()"]
    assert "bfloat16" in shared
    assert shared.endswith(", True)")
    assert out["weights"].startswith("tensor([9.0000, 2.5000, 3.5000]")
    assert "because byte_order" in out["print(halfway.explain(big))"]
    assert "because dtype, byte_order" in out['print(halfway.explain(big, "float32"))']
    assert out["bool((halfway.to_torch(big) == torch.from_numpy(digits)).all())"] == "True"


def test_c_counts_are_numpys(capsys):
    from sklearn.datasets import load_digits

    out = section(capsys, "c")
    digits = load_digits().data
    moments = digits.T @ digits
    with np.errstate(over="ignore"):
        narrow = moments.astype(np.float16)
    overflow = int(np.isinf(narrow).sum())
    inexact = int((narrow != moments).sum()) - overflow
    assert overflow > 0
    assert inexact > 0
    counts = f"count=4096, nan=0, overflow={overflow}, underflow=0, inexact={inexact}"
    results = transcript(out)
    assert results["report"] == f"Report({counts})"
    table = [line.split() for line in out.splitlines()]
    assert ["second", "moments", "float16", "4096", "0", str(overflow), "0", str(inexact)] in table
    for dtype in ("float32", "bfloat16", "float16"):
        row = ["pixels,", "0", "to", "16", dtype, str(digits.size), "0", "0", "0", "0"]
        assert row in table
    (similar,) = (row for row in table if row[:2] == ["similarities", "float16"])
    assert 0 < int(similar[5]) < int(similar[6])  # underflow is part of inexact

    assert results['halfway.to_torch(digits, "uint8", casting="same_value").dtype'] == "torch.uint8"
    refused = results['halfway.to_torch(standardised, "bfloat16", casting="same_value")']
    assert refused.startswith("CastError: ")
    assert "(0, 1)" in refused
    assert results['halfway.to_torch(digits, "uint8")'].startswith("CastError: ")
    assert "inf" in results['halfway.to_torch(moments, "float16").max()']
    assert "65504" in results['halfway.to_torch(moments, "float16", overflow="saturate").max()']
    assert results['halfway.to_torch(moments, "float16", overflow="raise")'].startswith("CastError")
    assert "1.0078" in results['halfway.to_torch(x, "bfloat16")']


def test_d_memory_is_shared_and_released(capsys):
    out = section(capsys, "d", "--no-times")
    results = transcript(out)
    assert results["copied.data_ptr() == array.ctypes.data"] == "False"
    assert "0.0" in results["array[0, 0]"]
    assert results["shared.data_ptr() == array.ctypes.data"] == "True"
    assert "42.0" in results["array[0, 0]'"]
    assert results["shared[0, 1].item()"] == "43.0"
    assert results["turned.ctypes.data == shared.data_ptr(), turned.shape, turned.strides"] == (
        "(True, (64, 1797), (8, 512))"
    )
    assert results["shared[0, 0].item()"] == "44.0"
    assert results["source() is not None, shared[0, 1].item()"] == "(True, 43.0)"
    assert results["source() is None"] == "True"
    refused = results['halfway.to_torch(flipped, "float32", copy=False)']
    assert "dtype" in refused
    assert "negative_strides" in refused
    assert "Timed" not in out


def test_e_records_and_complex(capsys):
    results = transcript(section(capsys, "e"))
    assert results["torch.from_numpy(records)"].startswith("TypeError: ")
    shared = 'image.data_ptr() == records["image"].ctypes.data, image.stride()'
    assert results[shared] == "(True, (66, 8, 1))"
    assert "0.0" in results['records["image"][0].sum()']
    assert results["{name: part.reasons for name, part in halfway.fields(packed).items()}"] == (
        "{'label': (), 'ink': ('fractional_strides',)}"
    )
    assert results["waves.dtype, waves.data_ptr() == spectrum.ctypes.data"] == ("(torch.complex128, True)")
    assert "because conj" in results['print(halfway.explain(waves.conj(), to="numpy"))']
    assert results["bool((halfway.to_numpy(waves.conj()) == spectrum.conj()).all())"] == "True"
    assert results['halfway.to_torch(spectrum, "float32")'].startswith("CastError: ")


def test_f_both_classifiers_learn(capsys):
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    out = section(capsys, "f")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    accuracy = dict(re.findall(r"^  (\w+) +test accuracy (\d\.\d+)$", out, re.MULTILINE))
    assert set(accuracy) == {"float32", "bfloat16"}
    assert float(accuracy["float32"]) >= 0.95
    assert abs(float(accuracy["float32"]) - float(accuracy["bfloat16"])) <= 0.03


def test_times_compare_with_each_library(capsys):
    out = section(capsys, "times")
    for rival in (
        "torch.from_numpy(a)",
        "torch.tensor(a)",
        "torch.from_dlpack(a)",
        "t.numpy()",
        "np.from_dlpack(t)",
    ):
        assert rival in out
    rows = re.findall(r"^    (halfway\.\S.*?\))  +([\d,]+) +1\.00$", out, re.MULTILINE)
    assert len(rows) == 6
    assert all(int(nanoseconds.replace(",", "")) > 0 for _, nanoseconds in rows)


def test_sections_are_chosen_and_times_left_out(capsys):
    out = section(capsys, "e,a,times", "--no-times")
    assert re.findall(r"^== \((\w+)\)", out, re.MULTILINE) == ["a", "e"]


def test_unknown_section(capsys):
    assert main(["demo", "--section", "a,z"]) == 2
    assert "no section 'z'" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "package"), [("torch", "torch"), ("sklearn", "scikit-learn")])
def test_without_a_library_what_can_run_runs(capsys, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["demo", "--section", "a,f", "--no-times"]) == 1
    out, err = capsys.readouterr()
    assert "== (a)" in out
    assert "bfloat16" in out
    assert "== (f)" not in out
    assert err == f"halfway demo: left out f; it needs: pip install {package}\n"


# --- the command line


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "halfway", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"halfway {halfway.__version__}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["dtypes", "--json"], ["explain", "f4[2]"]])
def test_output_may_be_cut_off(arguments):
    """As by `| head`: no traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "halfway", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_help_and_no_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("demo", "explain", "dtypes"))
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [None, "bf16", "float16"])
@pytest.mark.parametrize("to", ["torch", "numpy", "halfway"])
def test_explain_file_and_spec_say_what_explain_says(capsys, tmp_path, dtype, to):
    array = np.zeros((64, 3))
    np.save(tmp_path / "data.npy", array)
    options = ["--to", to] + (["--dtype", dtype] if dtype else [])
    plan = halfway.explain(array, dtype, to=to)
    for source in (str(tmp_path / "data.npy"), "float64[64,3]"):
        assert main(["explain", source, *options]) == 0
        assert capsys.readouterr().out == f"{plan}\n"
        assert main(["explain", source, *options, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == plan.to_dict()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("bfloat16[2]", "bfloat16 (2,) -> torch bfloat16: zero-copy"),
        ("bf16[ 2 , 3 ]", "bfloat16 (2, 3) -> torch bfloat16: zero-copy"),
        ("f4[]", "float32 () -> torch float32: zero-copy"),
        (">f8[3]", "because   byte_order"),
        ("float64[0]", "float64 (0,) -> torch float64: zero-copy"),
    ],
)
def test_explain_specs(capsys, spec, expected):
    assert main(["explain", spec]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["float64[2]", "--dtype", "int8"], 1, "same_kind"),
        (["float64[2]", "--dtype", "f2", "--copy", "never"], 1, "dtype"),
        (["M8[s][2]"], 1, "view"),
        (["float8_e3m4[2]"], 1, "float8_e3m4"),
        (["float64[2]", "--dtype", "float65"], 2, "float65"),
        (["float65[2]"], 2, "float65"),
        (["float64[2]", "--casting", "often"], 2, "often"),
        (["float64[2]", "--overflow", "often"], 2, "often"),
        (["float64[9999999999,9999999999]"], 2, "float64[9999999999,9999999999]"),
        (["there is no such file.npy"], 2, "no such file"),
    ],
)
def test_explain_errors_are_one_line(capsys, arguments, code, message):
    assert main(["explain", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("halfway explain: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_explain_refuses_other_files(capsys, tmp_path):
    np.savez(tmp_path / "many.npz", a=np.zeros(2))
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for name in ("many.npz", "text.npy", "objects.npy"):
        assert main(["explain", str(tmp_path / name)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert name in err
        assert err.count("\n") == 1


def test_dtypes_table_has_every_row(capsys):
    assert main(["dtypes"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    flowing = re.sub(r"\s+", " ", out)
    for row in halfway.dtypes():
        assert re.search(rf"^{re.escape(row.name)}  ", out, re.MULTILINE)
        assert ", ".join(row.aliases) in flowing
    assert re.search(r"^bfloat16 +16 +ml_dtypes +yes +yes +bf16$", out, re.MULTILINE)
    assert re.search(r"^complex32 +32 +ml_dtypes +yes +yes +chalf$", out, re.MULTILINE)
    assert re.search(r"^float8_e3m4 +8 +ml_dtypes +- +yes", out, re.MULTILINE)


def test_dtypes_json_is_the_table(capsys):
    assert main(["dtypes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [halfway.DTypeRow(**{**row, "aliases": tuple(row["aliases"])}) for row in rows] == list(halfway.dtypes())


# --- examples and documentation


@pytest.fixture
def torch_threads():
    """torch's number of threads, as before whatever a script makes of it."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("bfloat16_roundtrip", [], "back in torch, the same memory: True"),
        ("collate_batches", [], "one buffer for all batches: True"),
        ("collate_batches", ["2"], "every clip came: True"),
        ("records", [], "centred by torch, seen by NumPy: True"),
        ("train_digits", [], "NumPy float32, test accuracy 0.9"),
        ("train_digits", ["bfloat16"], "NumPy bfloat16, test accuracy 0.9"),
    ],
)
def test_examples_run(capsys, monkeypatch, script, arguments, expected):
    path = ROOT / "examples" / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")
    out = capsys.readouterr().out
    assert expected in out
    assert "False" not in out
    assert "copied" not in out


def test_every_example_is_tested():
    tested = {"bfloat16_roundtrip", "collate_batches", "records", "train_digits"}
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == tested


def test_tables_of_the_documentation_are_current():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "readme_tables.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reasons = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    documented = (ROOT / "docs" / "errors.md").read_text()
    assert "fractional_strides" in reasons
    for reason in reasons:
        assert f"`{reason}`" in documented or reason in {row.name for row in halfway.dtypes()}
