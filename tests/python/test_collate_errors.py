"""collate: what is refused, and in which words; that nothing is written then; reports."""

# Wrong arguments are among the subjects:
# mypy: disable-error-code="arg-type,call-overload,list-item"

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.python.collating import Pair

import halfway
from halfway import Cast, CastError, ExchangeError, Report


def moved(array: Any) -> Any:
    array.flags.writeable = False
    return array


X = np.ones(3)


@pytest.mark.parametrize(
    ("call", "reason", "words"),
    [
        (lambda: halfway.collate([X, X, np.ones(4)]), "nested", ["samples[2]", "(4,)", "(3,)", "pad="]),
        (lambda: halfway.collate([X, np.ones((3, 1))], pad=0), "nested", ["samples[1]", "(3, 1)", "last axis alone"]),
        (lambda: halfway.collate([X, torch.ones(3)]), "dtype", ["samples[1] is float32", "float64", "dtype="]),
        (lambda: halfway.collate([{"a": 1}, {"a": 2.5}]), "dtype", ["samples[1]['a']"]),
        (lambda: halfway.collate([X], out=torch.ones(2, 3)), "out_mismatch", ["out has", "(2, 3)", "(1, 3)"]),
        (lambda: halfway.collate([X], "f2", out=torch.ones(1, 3)), "out_mismatch", ["float16", "float32"]),
        (lambda: halfway.collate([X], out=moved(np.ones((1, 3)))), "readonly", ["out"]),
        (lambda: halfway.collate([X], out=torch.ones(1, 3, requires_grad=True)), "requires_grad", ["out"]),
        (lambda: halfway.collate([X], out=X[None]), None, []),
        (lambda: halfway.collate([X, X], out=np.broadcast_to(X, (2, 3))), "readonly", []),
        (lambda: halfway.collate([X[::-1]], out=X[None]), "overlap", ["samples[0]"]),
        (lambda: halfway.collate([X, np.ones(3, "M8[s]")]), "unsupported_dtype", ["samples[1]: ", "int64"]),
        (lambda: halfway.collate([X, X], "f2", permute=(1, 0)), "permute", ["samples[0]: ", "2 axes", "name each"]),
        (lambda: halfway.collate([X], "f2", permute=(1,)), "permute", ["samples[0]: ", "axis 1"]),
        (
            lambda: halfway.collate([X], "f2", scale=[1, 2], axis=0),
            "affine",
            ["samples[0]: ", "2 numbers", "3 indices"],
        ),
        (lambda: halfway.collate([X], "f2", scale=[1, 2, 3], axis=1), "affine", ["samples[0]: ", "axis=1"]),
        (lambda: halfway.collate([{"a": X, "b": 1}], permute=(0,)), "permute", ["samples[0]['b']: ", "has 0"]),
        (lambda: halfway.collate([X, X + 0j], "c8", scale=2), "unsupported_dtype", ["complex"]),
        (lambda: halfway.collate([np.ma.masked_array(X)]), "masked", ["samples[0]: "]),
        (lambda: halfway.collate([X, torch.ones(3, device="meta")]), "no_storage", ["samples[1]: "]),
        (lambda: halfway.collate([torch.ones(3).to_sparse()]), "sparse", ["samples[0]: "]),
        (lambda: halfway.collate([np.ones(3, ml_dtypes.int4)]), "unsupported_dtype", ["int4"]),
        (lambda: halfway.collate([X], "float8_e3m4"), "unsupported_dtype", ["torch has no dtype float8_e3m4"]),
        (lambda: halfway.collate([{"a": X, "b": 1}] * 2, out={"a": A, "b": A[0, :2]}), "out_mismatch", ["out['a']"]),
        (lambda: halfway.collate([{"a": X, "b": X}], out={"a": A, "b": A}), "overlap", ["out['a']", "out['b']"]),
        (lambda: halfway.collate([{"a": X, "b": A[0]}], out={"a": A, "b": None}), "overlap", ["samples[0]['b']"]),
    ],
)
def test_reasons(call: Any, reason: str | None, words: list[str]) -> None:
    if reason is None:
        call()  # a sample that is its own row
        return
    with pytest.raises(ExchangeError) as caught:
        call()
    assert caught.value.reason == reason
    for word in words:
        assert word in str(caught.value)


A = np.ones((1, 3))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: halfway.collate(), TypeError, []),
        (lambda: halfway.collate(np.ones((2, 2))), TypeError, ["list or tuple", "ndarray"]),
        (lambda: halfway.collate({"a": 1}), TypeError, ["dict"]),
        (lambda: halfway.collate([]), ValueError, ["no samples"]),
        (lambda: halfway.collate([None]), TypeError, ["samples[0]", "NoneType"]),
        (lambda: halfway.collate([X, None]), TypeError, ["samples[1]", "NoneType"]),
        (lambda: halfway.collate([{"a": (1, object())}]), TypeError, ["samples[0]['a'][1]", "object"]),
        (lambda: halfway.collate([X, "text"]), TypeError, ["samples[1]", "str"]),
        (lambda: halfway.collate([X, [1.0]]), TypeError, ["samples[1]", "list"]),
        (lambda: halfway.collate(["text", X]), ValueError, ["samples[1] is of type ndarray", "str"]),
        (lambda: halfway.collate([[X], (X,)]), ValueError, ["samples[1] is of type tuple", "list"]),
        (lambda: halfway.collate([[X], X]), ValueError, ["samples[1] is of type ndarray", "list"]),
        (lambda: halfway.collate([[1, 2], [1]]), ValueError, ["samples[1] has 1 entries", "2"]),
        (lambda: halfway.collate([(1,), (2,), (3, 4)]), ValueError, ["samples[2] has 2 entries", "1"]),
        (lambda: halfway.collate([{"a": 1, "b": 2}, {"a": 1, "c": 2}]), ValueError, ["samples[1] has", "'c'", "'b'"]),
        (
            lambda: halfway.collate([{"a": {"b": 1}}, {"a": {"c": 1}}]),
            ValueError,
            ["samples[1]['a'] has", "'c'", "'b'"],
        ),
        (lambda: halfway.collate([Pair(1, X), Pair(1, None)]), TypeError, ["samples[1].label"]),
        (lambda: halfway.collate([1, 2**63]), ValueError, ["9223372036854775808", "int64"]),
        (lambda: halfway.collate([{"a": 1}], {"b": "f4"}), ValueError, ["dtype=", "'b'", "samples[0]"]),
        (lambda: halfway.collate([{"a": 1}], {"a": {"b": "f4"}}), ValueError, ["'b'", "samples[0]['a']"]),
        (lambda: halfway.collate([X], {"float": "f4"}), ValueError, ["'float'", "types bool, int"]),
        (lambda: halfway.collate([X], {np.float64: "f4"}), ValueError, ["key float64", "bool, int, float and complex"]),
        (lambda: halfway.collate([{"a": X}], {np.float32: "f4"}), ValueError, ["key float32", "bool, int"]),
        (lambda: halfway.collate([X], ("f4",)), ValueError, ["tuple", "no container"]),
        (lambda: halfway.collate([[1, 2]], ("f4",)), ValueError, ["tuple of 1", "2 entries"]),
        (lambda: halfway.collate([{"a": 1}], ("f4",)), ValueError, ["tuple of 1", "dict"]),
        (lambda: halfway.collate([{"a": 1}], pad={"b": 0}), ValueError, ["pad=", "'b'"]),
        (lambda: halfway.collate([X], pad=[0]), ValueError, ["pad="]),
        (lambda: halfway.collate([X], pad=np.zeros(2)), ValueError, ["one value"]),
        (lambda: halfway.collate([X], pad="x"), TypeError, ["str"]),
        (lambda: halfway.collate([{"a": 1}], out=A), ValueError, ["out is no tree", "ndarray", "dict"]),
        (lambda: halfway.collate([{"a": 1}], out={"b": A}), ValueError, ["'b'", "'a'"]),
        (lambda: halfway.collate([X], out=[A]), TypeError, ["out must be", "list"]),
        (lambda: halfway.collate([X], out=torch), TypeError, ["out must be", "module"]),
        (lambda: halfway.collate([X], to="jax"), ValueError, ["'jax'", "'torch'"]),
        (lambda: halfway.collate([X], to=None), TypeError, ["to", "NoneType"]),
        (lambda: halfway.collate([X], 7), TypeError, ["dtype", "int"]),
        (lambda: halfway.collate([X], "floaty"), ValueError, ["'floaty'"]),
        (lambda: halfway.collate([X], colour=1), TypeError, ["collate()", "'colour'"]),
        (lambda: halfway.collate(["a"], colour=1), TypeError, ["collate()", "'colour'"]),
        (lambda: halfway.collate([X], copy=True), TypeError, ["'copy'"]),
        (lambda: halfway.collate([X], report=3), TypeError, ["report"]),
        (lambda: halfway.collate([X], Cast("f4"), casting="safe"), TypeError, ["Cast"]),
        (lambda: halfway.collate([X], "f4", casting="loose"), ValueError, ["'loose'"]),
        (lambda: halfway.collate([X], Cast("f4"), permute=(0,)), TypeError, ["Cast"]),
        (lambda: halfway.collate([X], "f2", scale=[1, 2, 3]), ValueError, ["axis="]),
        (lambda: halfway.collate([X], "f2", rounding="stochastic"), ValueError, ["seed="]),
    ],
)
def test_wrong_arguments(call: Any, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert not isinstance(caught.value, ExchangeError)
    for word in words:
        assert word in str(caught.value)


def test_levels_and_losses_name_the_sample() -> None:
    with pytest.raises(CastError) as caught:
        halfway.collate([X, X.astype("c8")], "f4")
    assert caught.value.report is None
    assert "samples[1]: " in str(caught.value)
    x = np.ones((2, 3))
    x[1, 2] = 0.1
    report = Report()
    with pytest.raises(CastError) as caught:
        halfway.collate([{"x": np.ones((2, 3))}, {"x": x}], "f4", casting="same_value", report=report)
    error = caught.value
    assert error.index == (1, 1, 2)
    assert error.value == "0.1"
    assert "samples[1]['x']" in str(error)
    assert error.report == report
    assert report.to_dict() == {
        "count": 12,
        "nan": 0,
        "overflow": 0,
        "underflow": 0,
        "inexact": 1,
    }


def test_every_out_is_untouched_when_one_batch_is_refused() -> None:
    good, bad = np.ones(3), np.array([1, 1e300, 1])
    samples = [{"a": good, "b": good, "c": 1}, {"a": good, "b": bad, "c": 2}]

    def outs() -> dict[str, Any]:
        return {
            "a": torch.zeros(2, 3),
            "b": np.zeros((2, 3), "f4"),
            "c": halfway.from_dlpack(np.zeros(2, "i8")),
        }

    for keywords, change in (
        ({"overflow": "raise"}, {}),
        ({"casting": "same_value"}, {}),
        ({"overflow": "raise"}, {"b": None}),
        ({"casting": "safe"}, {}),
    ):
        out = {**outs(), **change}
        dtype = {"b": "f4"} if change else None
        with pytest.raises(CastError):
            halfway.collate(samples, dtype, out=out, **keywords)
        for tensor in out.values():
            assert tensor is None or not np.asarray(tensor).any()
    with pytest.raises(ExchangeError):
        halfway.collate([*samples, {"a": good, "b": np.ones(4), "c": 1}], out=outs())
    out = outs()
    result = halfway.collate(samples, out=out)
    assert result["c"] is out["c"]
    assert np.asarray(out["c"]).tolist() == [1, 2]
    assert np.isinf(out["b"][1, 1])


def test_a_report_starts_from_zero_and_sums_up() -> None:
    report = Report()
    for _ in range(2):
        halfway.collate([{"a": np.array([0.1]), "b": np.array([[1e300]])}] * 3, "f4", report=report)
        assert report.to_dict() == {"count": 6, "nan": 0, "overflow": 3, "underflow": 0, "inexact": 3}
    halfway.collate(["text"], report=report)
    assert report.count == 0
