"""The surface: arguments, errors, dtype spellings, identity, Cast and Report as objects."""

# Wrong arguments are the subject here:
# mypy: disable-error-code="arg-type,assignment,call-arg,call-overload,misc,operator"

from __future__ import annotations

import copy
import inspect
import pickle
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import halfway
from halfway import Cast, CastError, ExchangeError, Report

X = np.arange(6.0).reshape(2, 3)
FUNCTIONS = [
    halfway.to_torch,
    halfway.to_numpy,
    halfway.cast,
    halfway.collate,
    halfway.from_dlpack,
    halfway.explain,
    halfway.fields,
    halfway.dtypes,
    halfway.register_numpy_dtypes,
    halfway.memory.stats,
    halfway.memory.trim,
    halfway.memory.limit,
    halfway.num_threads,
    halfway.set_num_threads,
]


# --- wrong arguments


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: halfway.to_torch(), ["to_torch()", "at least 1", "0 given"]),
        (lambda: halfway.to_torch(X, "f4", None), ["to_torch()", "at most 2", "3 given"]),
        (lambda: halfway.to_torch(x=X), ["to_torch()", "at least 1"]),
        (lambda: halfway.to_numpy(X, color=1), ["to_numpy()", "unexpected keyword", "'color'"]),
        (lambda: halfway.to_numpy(X, device="cpu"), ["to_numpy()", "'device'"]),
        (lambda: halfway.to_numpy(X, allow_readonly=True), ["to_numpy()", "'allow_readonly'"]),
        (lambda: halfway.to_torch(X, lock_storage=True), ["to_torch()", "'lock_storage'"]),
        (lambda: halfway.to_torch(X, to="numpy"), ["to_torch()", "'to'"]),
        (lambda: halfway.from_dlpack(X, dtype="f4"), ["from_dlpack()", "'dtype'"]),
        (lambda: halfway.from_dlpack(X, "f4"), ["from_dlpack()", "exactly 1", "2 given"]),
        (lambda: halfway.cast(X), ["cast()", "exactly 2", "1 given"]),
        (lambda: halfway.cast(X, dtype="f4"), ["cast()", "exactly 2"]),
        (lambda: halfway.cast(X, None), ["cast()", "dtype"]),
        (lambda: halfway.to_torch(X, "f4", dtype="f4"), ["multiple values", "'dtype'"]),
        (lambda: halfway.to_torch([1.0, 2.0]), ["list", "numpy.asarray"]),
        (lambda: halfway.to_torch(None), ["NoneType"]),
        (lambda: halfway.to_torch(1.5), ["float"]),
        (lambda: halfway.to_torch(np.ndarray), ["type"]),
        (lambda: halfway.to_torch(torch.Tensor), ["not"]),
        (lambda: halfway.to_torch(X, 7), ["dtype", "int"]),
        (lambda: halfway.to_torch(X, ["f4"]), ["dtype", "list"]),
        (lambda: halfway.to_torch(X, copy=1), ["copy", "int"]),
        (lambda: halfway.to_torch(X, copy="if_needed"), ["copy", "str"]),
        (lambda: halfway.to_torch(X, non_blocking=1), ["non_blocking", "int"]),
        (lambda: halfway.to_torch(X, allow_readonly=None), ["allow_readonly", "NoneType"]),
        (lambda: halfway.to_numpy(X, lock_storage="yes"), ["lock_storage", "str"]),
        (lambda: halfway.to_torch(X, report={}), ["report", "halfway.Report", "dict"]),
        (lambda: halfway.to_torch(X, report=Report), ["report"]),
        (lambda: halfway.to_torch(X, "f4", casting=3), ["casting", "int"]),
        (lambda: halfway.to_torch(X, "f4", casting=None), ["casting", "NoneType"]),
        (lambda: halfway.to_torch(X, "f4", overflow=b"raise"), ["overflow", "bytes"]),
        (lambda: halfway.to_torch(X, device=0), ["device"]),
        (lambda: halfway.to_torch(X, device=(1,)), ["device"]),
        (lambda: halfway.explain(X, to=None), ["to", "NoneType"]),
        (lambda: halfway.to_torch(X, out=np.zeros((2, 3))), ["out", "torch", "numpy.ndarray"]),
        (lambda: halfway.to_numpy(X, out=torch.zeros(2, 3)), ["out", "numpy", "Tensor"]),
        (lambda: halfway.to_torch(X, out=torch.zeros(2, 3), copy=True), ["out=", "copy="]),
        (lambda: halfway.to_torch(X, out=torch.zeros(2, 3), copy=False), ["out=", "copy="]),
        (lambda: halfway.to_torch(X, Cast("f4"), casting="safe"), ["Cast", "casting"]),
        (lambda: halfway.cast(X, Cast("f4"), overflow="raise"), ["Cast", "overflow"]),
        (lambda: halfway.explain(X, Cast("f4"), casting="safe"), ["Cast"]),
        (lambda: halfway.fields([1]), ["fields()", "list"]),
        (lambda: Cast(), []),
        (lambda: Cast("f4", "safe"), []),
        (lambda: Cast("f4", factor=2), []),
        (lambda: Cast(None), ["dtype", "NoneType"]),
        (lambda: Cast(Cast("f4")), ["dtype"]),
        (lambda: Cast("f4", casting=1), ["casting", "int"]),
        (lambda: Cast("f4", overflow=None), ["overflow"]),
        (lambda: Report(3), []),
        (lambda: halfway.Tensor(), ["halfway.Tensor"]),
    ],
)
def test_wrong_types(call, words):
    with pytest.raises(TypeError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: halfway.to_torch(X, "floaty"), ["'floaty'", "halfway.dtypes()"]),
        (lambda: halfway.to_torch(X, ""), ["''"]),
        (lambda: Cast("float32 "), ["'float32 '"]),
        (lambda: Cast("bf16\0"), []),
        (lambda: Cast("\udc80"), []),
        (
            lambda: halfway.to_torch(X, "f4", casting="loose"),
            ["'loose'", "'no'", "'equiv'", "'safe'", "'same_kind'", "'unsafe'", "'same_value'"],
        ),
        (
            lambda: halfway.cast(X, "f4", overflow="wrap"),
            ["'wrap'", "'default'", "'saturate'", "'raise'"],
        ),
        (lambda: Cast("f4", casting="Safe"), ["'Safe'", "'same_value'"]),
        (lambda: halfway.explain(X, to="jax"), ["'jax'", "'numpy'", "'torch'", "'halfway'"]),
    ],
)
def test_bad_values(call, words):
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert not isinstance(caught.value, ExchangeError | CastError)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("call", "reason", "words"),
    [
        (lambda: halfway.to_torch(X, ">f4"), "byte_order", [">f4"]),
        (lambda: halfway.to_torch(X, np.dtype(">i8")), "byte_order", [">i8"]),
        (lambda: Cast(">c8"), "byte_order", [">c8"]),
        (lambda: halfway.to_torch(X, "longdouble"), "unsupported_dtype", ["float64"]),
        (lambda: halfway.to_torch(X, np.longdouble), "unsupported_dtype", ["float64"]),
        (lambda: halfway.to_torch(X, "M8[s]"), "unsupported_dtype", ["int64"]),
        (lambda: halfway.to_torch(X, np.timedelta64), "unsupported_dtype", ["int64"]),
        (lambda: halfway.to_torch(X, object), "unsupported_dtype", []),
        (lambda: halfway.to_torch(X, str), "unsupported_dtype", []),
        (lambda: halfway.to_torch(X, "S5"), "unsupported_dtype", []),
        (lambda: halfway.to_torch(X, "f4,f4"), "unsupported_dtype", ["fields"]),
        (lambda: halfway.to_torch(X, torch.quint8), "unsupported_dtype", ["quint8"]),
        (lambda: halfway.to_torch(X, "float8_e4m3"), "unsupported_dtype", ["torch", "float8_e4m3"]),
        (lambda: halfway.to_numpy(X, "int3"), "unsupported_dtype", ["NumPy", "int3"]),
        (lambda: halfway.to_torch(X, "float4_e2m1fn"), "unsupported_dtype", []),
        (lambda: halfway.cast(X, "float6_e2m3fn"), "unsupported_dtype", []),
        (lambda: halfway.cast(halfway.from_dlpack(X), "int4"), "unsupported_dtype", []),
        (lambda: halfway.to_torch(X, device="cuda"), "unavailable", ["cuda"]),
        (lambda: halfway.to_torch(X, device="cuda:1"), "unavailable", ["cuda:1"]),
        (lambda: halfway.to_torch(X, device=torch.device("cuda", 0)), "unavailable", ["cuda:0"]),
        (lambda: halfway.to_torch(X, device=torch.device("meta")), "unavailable", ["meta"]),
        (lambda: halfway.to_torch(X, device=(2, 0)), "unavailable", ["2"]),
        (lambda: halfway.from_dlpack(X, device="cuda"), "unavailable", ["cuda"]),
        (
            lambda: halfway.to_torch(X, "f8", out=torch.zeros(2, 3)),
            "out_mismatch",
            ["float64", "float32"],
        ),
        (lambda: halfway.to_torch(X, out=torch.zeros(3, 2)), "out_mismatch", ["shape"]),
        (lambda: halfway.to_torch(X, out=torch.zeros(6)), "out_mismatch", ["shape"]),
    ],
)
def test_refusals_are_named(call, reason, words):
    with pytest.raises(ExchangeError) as caught:
        call()
    error = caught.value
    assert error.reason == reason
    assert error.reasons[0] == reason
    assert isinstance(error, BufferError)
    assert isinstance(error, ValueError)
    for word in words:
        assert word in str(error)
    assert not error.hint or str(error).endswith(f"; {error.hint}")


def test_errors_travel_between_processes():
    with pytest.raises(ExchangeError) as refused:
        halfway.to_torch(X[::-1], "f4", copy=False)
    with pytest.raises(CastError) as lost:
        halfway.cast(np.array([1.0, 0.1]), "f4", casting="same_value")
    with pytest.raises(CastError) as forbidden:
        halfway.cast(X, "i4")
    for error in (refused.value, lost.value, forbidden.value):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert vars(again) == vars(error)


def test_nothing_of_torchs_backtraces_reaches_the_user():
    for call in (
        lambda: halfway.to_torch(X, out=torch.zeros(3, 3)),
        lambda: halfway.to_torch(X[::-1], copy=False),
        lambda: halfway.to_numpy(torch.zeros(3, device="meta")),
    ):
        with pytest.raises(ExchangeError) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert "c10" not in str(caught.value)
        assert caught.value.__cause__ is None


# --- what is accepted


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("f4", "float32"),
        ("<f4", "float32"),
        ("=f8", "float64"),
        ("|u1", "uint8"),
        ("float32", "float32"),
        ("single", "float32"),
        ("f32", "float32"),
        ("half", "float16"),
        ("e", "float16"),
        ("bf16", "bfloat16"),
        ("bfloat16", "bfloat16"),
        ("f8_e4m3fn", "float8_e4m3fn"),
        ("i8", "int64"),
        ("i1", "int8"),
        ("?", "bool"),
        ("bool", "bool"),
        ("double", "float64"),
        ("intp", "int64"),
        ("longlong", "int64"),
        ("complex", "complex128"),
        ("chalf", "complex32"),
        ("c8", "complex64"),
        (float, "float64"),
        (int, "int64"),
        (bool, "bool"),
        (complex, "complex128"),
        (np.float32, "float32"),
        (np.bool_, "bool"),
        (np.intc, "int32"),
        (np.longlong, "int64"),
        (np.dtype("f2"), "float16"),
        (np.dtype("<u2"), "uint16"),
        (torch.float32, "float32"),
        (torch.bfloat16, "bfloat16"),
        (torch.half, "float16"),
        (torch.bool, "bool"),
        (torch.complex32, "complex32"),
        (torch.float8_e5m2fnuz, "float8_e5m2fnuz"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype(ml_dtypes.bfloat16), "bfloat16"),
        (ml_dtypes.float8_e8m0fnu, "float8_e8m0fnu"),
        (ml_dtypes.float8_e3m4, "float8_e3m4"),
        (Cast("f4"), "float32"),
    ],
)
def test_spellings(spelling, name):
    if not isinstance(spelling, Cast):
        assert Cast(spelling).dtype == name
    plan = halfway.explain(np.zeros(2, np.float32), spelling, to="halfway", **unsafe(spelling))
    assert plan.dtype == name
    assert halfway.cast(halfway.from_dlpack(np.ones(2, np.float32)), spelling, **unsafe(spelling)).dtype == name


def unsafe(spelling: Any) -> dict[str, Any]:
    return {} if isinstance(spelling, Cast) else {"casting": "unsafe"}


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu"), (1, 0), "cpu:0"])
def test_the_host_by_any_name(device):
    assert halfway.to_torch(X, device=device).data_ptr() == X.ctypes.data
    assert halfway.from_dlpack(X, device=device).data_ptr == X.ctypes.data
    assert halfway.explain(X, device=device).zero_copy
    assert halfway.cast(X, "f4", device=device).dtype == np.float32


def test_keywords_that_change_nothing_on_the_host():
    for flag in (True, False):
        assert halfway.to_torch(X, non_blocking=flag).data_ptr() == X.ctypes.data
        assert halfway.to_numpy(torch.ones(2), non_blocking=flag).tolist() == [1, 1]
    assert halfway.to_torch(X, dtype=None, copy=None, out=None, report=None).data_ptr() == X.ctypes.data
    assert halfway.to_torch(X, dtype="f4").dtype == torch.float32
    assert halfway.to_torch(X, **{"over" + "flow": "saturate", "dtype": "f4"}).dtype == torch.float32
    assert halfway.to_torch(X, out=torch.zeros(2, 3), copy=None).dtype == torch.float32


# --- identity


def test_nothing_to_do_gives_the_object_itself():
    tensor = torch.arange(6.0)
    array = np.arange(6.0)
    own = halfway.from_dlpack(array)
    for x in (
        tensor,
        tensor[::2],
        torch.nn.Parameter(tensor.clone()),
        tensor.to(torch.complex64).conj(),
    ):
        assert halfway.to_torch(x) is x
        assert halfway.to_torch(x, x.dtype) is x
        assert halfway.to_torch(x, copy=False) is x
        assert halfway.cast(x, x.dtype) is x
        assert halfway.cast(x, Cast(x.dtype, casting="no")) is x
    frozen = array.copy()
    frozen.flags.writeable = False
    for y in (
        array,
        array[::-1],
        frozen,
        array.astype(">f8"),
        array.view(type("Sub", (np.ndarray,), {})),
    ):
        assert halfway.to_numpy(y) is y
        assert halfway.to_numpy(y, copy=False) is y
        if y.dtype.isnative:
            assert halfway.to_numpy(y, "f8") is y
            assert halfway.cast(y, y.dtype) is y
    assert halfway.from_dlpack(own) is own
    assert halfway.cast(own, "f8") is own
    assert halfway.cast(own, np.float64, copy=False) is own
    for function, x in (
        (halfway.to_torch, tensor),
        (halfway.to_numpy, array),
        (halfway.from_dlpack, own),
    ):
        assert function(x, copy=True) is not x


def test_a_named_dtype_is_native():
    swapped = np.arange(3, dtype=">f8")
    native = halfway.to_numpy(swapped, "f8")
    assert native.dtype.isnative
    assert native.tolist() == [0, 1, 2]
    assert halfway.explain(swapped, "f8", to="numpy").reasons == ("byte_order",)
    assert halfway.cast(swapped, np.float64).dtype.isnative


class Producer:
    """Somebody else's array."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_cast_stays_in_its_library():
    for x, kind in (
        (X, np.ndarray),
        (np.float32(1.5), np.ndarray),
        (torch.ones(3), torch.Tensor),
        (torch.nn.Parameter(torch.ones(3)), torch.Tensor),
        (halfway.from_dlpack(X), halfway.Tensor),
        (Producer(X), halfway.Tensor),
        (X.__dlpack__(max_version=(1, 0)), halfway.Tensor),
    ):
        got = halfway.cast(x, "float16")
        assert type(got) is kind
        assert str(got.dtype).removeprefix("torch.") == "float16"
    assert type(halfway.cast(np.float32(1.5), "float32")) is np.ndarray
    assert type(halfway.cast(Producer(X), "float64")) is halfway.Tensor


def test_scalars_are_arrays():
    for scalar in (np.float32(1.5), np.int8(-3), np.True_, np.complex64(1j), ml_dtypes.bfloat16(2)):
        tensor = halfway.to_torch(scalar)
        assert tensor.shape == ()
        assert tensor.item() == complex(scalar) if np.iscomplexobj(scalar) else float(scalar)
        array = halfway.to_numpy(scalar)
        assert array.shape == ()
        assert array.dtype == scalar.dtype
        assert halfway.from_dlpack(scalar).ndim == 0
        tensor.fill_(0)
        assert scalar == scalar.dtype.type(array[()])  # a scalar is immutable: it was not written to


# --- locking


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool])
def test_lock_storage_forbids_resizing(dtype):
    for shape in ((4,), (), (2, 3)):
        tensor = torch.ones(shape, dtype=dtype)
        array = halfway.to_numpy(tensor, lock_storage=True)
        assert array.ctypes.data == tensor.data_ptr()
        assert array.dtype == halfway.to_numpy(tensor).dtype
        assert array.astype(float).tolist() == tensor.double().tolist()
        assert array.flags.writeable
        with pytest.raises(RuntimeError):
            tensor.resize_(1000)
    free = torch.ones(4, dtype=dtype)
    array = halfway.to_numpy(free, lock_storage=False)
    free.resize_(1000)


def test_lock_storage_where_there_is_nothing_to_lock():
    assert halfway.to_numpy(X, lock_storage=True) is X
    strided = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4).T[1:]
    array = halfway.to_numpy(strided, lock_storage=True)
    assert array.strides == tuple(2 * s for s in strided.stride())
    assert array.astype(float).tolist() == strided.double().tolist()
    copied = halfway.to_numpy(torch.ones(3), "float64", lock_storage=True)
    assert copied.tolist() == [1, 1, 1]
    leaf = torch.ones(3, requires_grad=True)
    assert halfway.to_numpy(leaf, lock_storage=True).tolist() == [1, 1, 1]


# --- Cast


def test_cast_is_a_value():
    recipes = [
        Cast(dtype, casting=casting, overflow=overflow)
        for dtype in ("float32", "bf16", "int8")
        for casting in ("safe", "same_kind", "same_value")
        for overflow in ("default", "saturate", "raise")
    ]
    again = [pickle.loads(pickle.dumps(recipe)) for recipe in recipes]
    assert again == recipes
    assert len(set(recipes)) == len(recipes)
    assert set(again) == set(recipes)
    assert [hash(r) for r in again] == [hash(r) for r in recipes]
    for recipe in recipes:
        assert eval(repr(recipe)) == recipe
        assert copy.copy(recipe) == copy.deepcopy(recipe) == recipe
        assert (recipe.dtype, recipe.casting, recipe.overflow) == (
            pickle.loads(pickle.dumps(recipe, protocol=2)).dtype,
            recipe.casting,
            recipe.overflow,
        )
    assert Cast(np.float32) == Cast(torch.float32) == Cast("f4")
    assert Cast("f4") != "f4"
    assert Cast("f4") != Cast("f8")
    assert (Cast("f4") == 3) is False
    with pytest.raises(TypeError):
        recipes[0] < recipes[1]  # noqa: B015


def test_cast_is_immutable():
    recipe = Cast("f4")
    for name in ("dtype", "casting", "overflow", "anything"):
        with pytest.raises(AttributeError):
            setattr(recipe, name, "f8")
        with pytest.raises(AttributeError):
            delattr(recipe, name)
    with pytest.raises(TypeError):  # a subclass could be mutable

        class Loose(Cast):
            pass


def test_cast_repr_says_what_is_not_default():
    assert repr(Cast("f4")) == "Cast('float32')"
    text = "Cast('int8', casting='unsafe', overflow='saturate')"
    assert repr(Cast(np.int8, overflow="saturate", casting="unsafe")) == text


def test_cast_goes_wherever_a_dtype_goes():
    recipe = Cast("int8", casting="unsafe", overflow="saturate")
    x = np.array([300.0, -1.5])
    assert halfway.cast(x, recipe).tolist() == [127, -1]
    assert halfway.to_torch(x, recipe).tolist() == [127, -1]
    assert halfway.to_numpy(x, dtype=recipe).tolist() == [127, -1]
    assert halfway.explain(x, recipe).dtype == "int8"
    assert halfway.to_torch(x, recipe, out=torch.zeros(2, dtype=torch.int8)).tolist() == [127, -1]


# --- Report


def test_a_report_starts_from_zero_each_time():
    report = Report()
    zero = {"count": 0, "nan": 0, "overflow": 0, "underflow": 0, "inexact": 0}
    assert report.to_dict() == zero
    dirty = np.array([1e300, np.nan, 1e-300, 0.1, 1.0])
    lossy = {"count": 5, "nan": 1, "overflow": 1, "underflow": 1, "inexact": 2}
    for _ in range(2):
        halfway.to_torch(dirty, "float32", report=report)
        assert report.to_dict() == lossy
    calls = {
        "alias": lambda: halfway.to_torch(X, report=report),
        "identity": lambda: halfway.to_numpy(X, report=report),
        "identity by name": lambda: halfway.cast(X, "f8", report=report),
        "empty": lambda: halfway.cast(X[:0], "f4", report=report),
    }
    for name, call in calls.items():
        halfway.to_torch(dirty, "float32", report=report)
        call()
        assert report.to_dict() == zero, name
    halfway.to_torch(dirty, "float32", report=report)
    halfway.cast(X, "f4", report=report)
    assert report.to_dict() == {**zero, "count": 6}
    with pytest.raises(CastError) as caught:
        halfway.cast(dirty, "float32", overflow="raise", report=report)
    assert report.to_dict() == lossy
    assert caught.value.report == report
    assert caught.value.report is not report


def test_reports_compare_and_copy():
    report, other = Report(), Report()
    halfway.cast(np.array([0.1]), "f4", report=report)
    assert report != other
    halfway.cast(np.array([0.3]), "f4", report=other)
    assert report == other
    assert (report == 3) is False
    assert repr(report) == "Report(count=1, nan=0, overflow=0, underflow=0, inexact=1)"
    for again in (copy.copy(report), copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert again == report
        assert again is not report
    with pytest.raises(AttributeError):
        report.nan = 3


# --- documentation at run time


def test_signatures():
    for function in FUNCTIONS:
        signature = inspect.signature(function)
        for parameter in signature.parameters.values():
            assert not parameter.name.startswith("arg")
    parameters = inspect.signature(halfway.to_torch).parameters
    assert list(parameters)[:2] == ["x", "dtype"]
    assert parameters["x"].kind is inspect.Parameter.POSITIONAL_ONLY
    assert parameters["copy"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["dtype"].default is None
    assert inspect.signature(halfway.explain).parameters["to"].default == "torch"


def test_every_public_name_is_documented():
    assert sorted(halfway.__all__) == halfway.__all__
    assert halfway.__doc__
    for name in halfway.__all__:
        member = getattr(halfway, name)
        assert not isinstance(member, ModuleType) or name == "memory"
        assert (inspect.getdoc(member) or "").strip(), name
        if isinstance(member, type):
            assert member.__module__.startswith("halfway")
            for attribute, value in vars(member).items():
                if not attribute.startswith("_") and attribute not in ("args",):
                    assert (inspect.getdoc(value) or "").strip(), f"{name}.{attribute}"
    public = {n for n, v in vars(halfway).items() if not n.startswith("_") and not isinstance(v, ModuleType)}
    assert public - {"annotations"} == set(halfway.__all__) - {"memory"}


def test_names_in_errors_are_public_ones():
    values: list[Any] = [Cast("f4"), Report(), halfway.explain(X), halfway.explain(X).steps[0]]
    for value in values:
        assert type(value).__module__ == "halfway"
        with pytest.raises(AttributeError) as caught:
            value.nonsense  # noqa: B018
        assert "_core" not in str(caught.value)
