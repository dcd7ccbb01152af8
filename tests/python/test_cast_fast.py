"""The fast path of to_torch, to_numpy and cast: what it answers is what the general path would."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tests.python.strategies import address_of, contents, numpy_arrays, readonly, steady, torch_tensors

import halfway
from halfway import Cast, CastError, ExchangeError, _core

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "to_torch": halfway.to_torch,
    "to_numpy": halfway.to_numpy,
    "cast": halfway.cast,
}


@contextmanager
def general_path() -> Iterator[None]:
    _core._set_fast_path_enabled(False)
    try:
        yield
    finally:
        _core._set_fast_path_enabled(True)


def taken_fast(call: Callable[[], Any]) -> bool:
    call()  # a dtype object is known from its second use on
    before = _core._fast_exchanges()
    call()
    return _core._fast_exchanges() == before + 1


# --- both paths over random calls


def described(result: Any) -> tuple[Any, ...]:
    if isinstance(result, np.ndarray):
        flags = {name: result.flags[name] for name in ("C", "F", "OWNDATA", "WRITEABLE", "ALIGNED")}
        return type(result), result.dtype, result.shape, result.strides, flags, type(result.base)
    if isinstance(result, torch.Tensor):
        bits = result.requires_grad, result.is_conj(), result.is_neg(), result.is_leaf
        return type(result), result.dtype, tuple(result.shape), result.stride(), bits
    return type(result), result.dtype, result.shape, result.strides, result.readonly, result.reasons


def said(error: Exception) -> tuple[Any, ...]:
    extra = [getattr(error, name, None) for name in ("reasons", "hint", "report", "index", "value")]
    return type(error), str(error), extra


def outcome(call: Callable[[Any], Any], x: Any, out: Any) -> tuple[Any, ...]:
    """What came of a call, in words that can be compared."""
    version = out._version if isinstance(out, torch.Tensor) and not out.is_inference() else 0
    try:
        result = call(out)
    except (TypeError, ValueError, BufferError) as error:
        return (said(error),)
    shares = isinstance(x, np.ndarray | torch.Tensor) and address_of(result) == address_of(x)
    bumps = out._version - version if isinstance(out, torch.Tensor) and not out.is_inference() else 0
    values = b"" if result is x else contents(result)
    return described(result), values, result is x, result is out, shares, bumps


SPELLINGS: list[Any] = [
    *("float16", "bf16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "bool", "complex64", "complex32"),
    *("f4", ">f4", "float8_e4m3fn", "float8_e8m0fnu", "float8_e3m4", "int4", "float4_e2m1fn", "nonsense"),
    *(np.float16, np.float32, np.int64, np.longlong, np.complex64, float, int, bool, ml_dtypes.bfloat16),
    *(np.dtype("float16"), np.dtype(">f2"), np.dtype(ml_dtypes.float8_e5m2), np.dtype("datetime64[s]")),
    *(torch.float16, torch.bfloat16, torch.int32, torch.complex64, torch.float8_e5m2, torch.quint8),
    *(Cast("float16"), Cast("int8", casting="unsafe"), Cast("bfloat16", casting="same_value")),
    *(Cast("float16", casting="no"), Cast("float16", overflow="raise"), Cast("float8_e4m3fn", overflow="saturate")),
    *(None, 7, object),
]


class Sub(np.ndarray[Any, Any]):
    pass


def odd_sources() -> dict[str, Any]:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    return {
        "masked": np.ma.masked_array(x, x > 2),
        "subclass": x.view(Sub),
        "scalar": np.float32(1.5),
        "0-d": np.array(1.5),
        "list": [1.0, 2.0],
        "number": 1.5,
        "parameter": torch.nn.Parameter(t),
        "grad": t.clone().requires_grad_(),
        "history": t.clone().requires_grad_() * 2,
        "neg": torch._neg_view(t),
        "neg int": torch._neg_view(torch.arange(6).reshape(2, 3)),
        "conj": torch.complex(t, t).conj(),
        "meta": t.to("meta"),
        "sparse": t.to_sparse(),
        "nothing": torch.zeros(0, 3),
        "expanded": torch.ones(1, 3).expand(2, 3),
        "huge": np.broadcast_to(np.float32(1), (2, 1 << 40))[:, :0],
        "tensor": halfway.from_dlpack(x),
        "read-only tensor": halfway.from_dlpack(readonly(x.copy())),
        "int tensor": halfway.from_dlpack(np.arange(6).reshape(2, 3)),
        "datetime": np.zeros((2, 3), "datetime64[s]"),
        "int4": np.zeros((2, 3), ml_dtypes.int4),
        "inference": inference((2, 3)),
        "swapped": x.astype(">f4"),
        "large values": np.full((2, 3), 1e30),
    }


def inference(shape: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.zeros(shape)


def shape_of(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if hasattr(x, "shape") else (2, 3)


def outs(x: Any, dtype: str) -> dict[str, Callable[[], Any]]:
    shape = shape_of(x)
    twice = (*shape[:-1], shape[-1] * 2) if shape else shape
    numpy_dtype = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    torch_dtype = getattr(torch, dtype)

    def array() -> Any:
        return np.zeros(shape, numpy_dtype)

    def tensor() -> Any:
        return torch.zeros(shape, dtype=torch_dtype)

    return {
        "array": array,
        "tensor": tensor,
        "own": lambda: halfway.from_dlpack(array()),
        "read-only own": lambda: halfway.from_dlpack(readonly(array())),
        "strided array": lambda: np.zeros(twice, numpy_dtype)[..., ::2] if shape else array(),
        "reversed array": lambda: array()[..., ::-1] if shape else array(),
        "strided tensor": lambda: torch.zeros(twice, dtype=torch_dtype)[..., ::2] if shape else tensor(),
        "swapped array": lambda: np.zeros(shape, numpy_dtype.newbyteorder("S")) if numpy_dtype.kind != "V" else array(),
        "read-only array": lambda: readonly(array()),
        "subclass": lambda: array().view(Sub),
        "masked": lambda: np.ma.masked_array(array()),
        "other shape": lambda: np.zeros((*shape, 2), numpy_dtype),
        "other tensor shape": lambda: torch.zeros((*shape, 2), dtype=torch_dtype),
        "grad": lambda: torch.zeros(shape, requires_grad=True),
        "parameter": lambda: torch.nn.Parameter(torch.zeros(shape)),
        "neg": lambda: torch._neg_view(torch.zeros(shape)),
        "expanded": lambda: torch.zeros(1).expand(*shape) if shape else tensor(),
        "meta": lambda: tensor().to("meta"),
        "inference": lambda: inference(shape),
        "x itself": lambda: x,
        "list": lambda: [0.0],
    }


OUT_NAMES = list(outs(np.zeros(2), "float32"))
OUT_DTYPES = ["float16", "bfloat16", "float32", "float64", "int32", "uint8", "bool", "complex64", "float8_e5m2"]


def compare(name: str, x: Any, dtype: Any, out: str | None, out_dtype: str, form: int) -> None:
    function = FUNCTIONS[name]
    make_out = None if out is None else outs(x, out_dtype)[out]

    def call(out: Any) -> Any:
        keywords = {} if out is None else {"out": out}
        if dtype is NOT_GIVEN:
            return function(x, **keywords)
        if form == 0 or name == "cast":
            return function(x, dtype, **keywords)
        return function(x, dtype=dtype, **keywords) if form == 1 else function(x, **keywords, dtype=dtype)

    found = []
    for _ in range(2):  # a dtype object is known from its second use on
        destination = make_out() if make_out else None
        found.append(outcome(call, x, destination))
    with general_path():
        expected = outcome(call, x, make_out() if make_out else None)
    for one in found:
        assert one == expected


NOT_GIVEN = object()
any_dtype = st.one_of(st.sampled_from(SPELLINGS), st.just(NOT_GIVEN))
USUAL = ["array", "tensor", "own", "strided array", "strided tensor"]
any_out = st.one_of(st.none(), st.sampled_from(USUAL), st.sampled_from(OUT_NAMES))


@steady
@given(
    name=st.sampled_from(list(FUNCTIONS)),
    made=st.one_of(numpy_arrays(), torch_tensors()),
    own=st.integers(0, 3),
    dtype=any_dtype,
    out=any_out,
    out_dtype=st.sampled_from(OUT_DTYPES),
    form=st.integers(0, 2),
)
def test_random_arrays(name: str, made: Any, own: int, dtype: Any, out: str | None, out_dtype: str, form: int) -> None:
    x = made.array
    if own == 0 and not (isinstance(x, torch.Tensor) and (x.requires_grad or x.is_conj() or x.is_neg())):
        x = halfway.from_dlpack(x)
    compare(name, x, dtype, out, out_dtype, form)


@steady
@given(
    name=st.sampled_from(list(FUNCTIONS)),
    source=st.sampled_from(list(odd_sources())),
    dtype=any_dtype,
    out=any_out,
    out_dtype=st.sampled_from(OUT_DTYPES),
    form=st.integers(0, 2),
)
@example(name="to_numpy", source="neg", dtype="float16", out="array", out_dtype="float16", form=0)
@example(name="cast", source="tensor", dtype="float16", out="tensor", out_dtype="float16", form=0)
def test_odd_sources(name: str, source: str, dtype: Any, out: str | None, out_dtype: str, form: int) -> None:
    compare(name, odd_sources()[source], dtype, out, out_dtype, form)


@pytest.mark.parametrize("out", OUT_NAMES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_out(name: str, out: str) -> None:
    for x in (np.arange(6, dtype=np.float32).reshape(2, 3), torch.ones(2, 3), halfway.from_dlpack(np.ones((2, 3)))):
        for out_dtype in OUT_DTYPES:
            for dtype in (NOT_GIVEN, out_dtype, "float32"):
                compare(name, x, dtype, out, out_dtype, 0)


@pytest.mark.parametrize("out", [None, "array", "tensor", "own"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_spelling(name: str, out: str | None) -> None:
    values = np.array([[1.5, -0.0, 1e30], [np.nan, 300, -np.inf]], np.float32)
    for x in (values, values.astype(">f8")[:, ::-1], torch.from_numpy(values), halfway.from_dlpack(values)):
        for dtype in SPELLINGS:
            for out_dtype in ("float16", "int8", "bfloat16") if out is not None else ("",):
                compare(name, x, dtype, out, out_dtype, 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_calls(name: str) -> None:
    x, out = np.ones(3, np.float32), np.zeros(3, np.float16)
    function = FUNCTIONS[name]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((x, "float16", out), {}),
        ((x, "float16"), {"dtype": "float16"}),
        ((x, None), {"dtype": "float16"}),
        ((x, "float16"), {"out": out, "copy": True}),
        ((x, "float16"), {"x": x}),
        ((), {"x": x, "dtype": "float16"}),
        ((x,), {"dtype": None}),
        ((x, "float16"), {"".join(["o", "u", "t"]): out}),
        ((x, "float16"), {"report": 7}),
    ]
    for args, keywords in calls:

        def call(_: Any, args: Any = args, keywords: Any = keywords) -> Any:
            return function(*args, **keywords)

        found = outcome(call, x, None)
        with general_path():
            assert found == outcome(call, x, None)


# --- which calls it is for

A = np.arange(8, dtype=np.float32)
T = torch.arange(8, dtype=torch.float32)
H = halfway.from_dlpack(A)
FAST: dict[str, Callable[[], Any]] = {
    "array into array": lambda: halfway.cast(A, "float16", out=np.zeros(8, np.float16)),
    "array into array, dtype of out": lambda: halfway.to_numpy(A, out=np.zeros(8, np.float16)),
    "tensor into tensor": lambda: halfway.cast(T, torch.bfloat16, out=torch.zeros(8, dtype=torch.bfloat16)),
    "array into tensor": lambda: halfway.to_torch(
        A, out=torch.zeros(8, dtype=torch.uint8), dtype=Cast("uint8", casting="unsafe")
    ),
    "tensor into array": lambda: halfway.to_numpy(T, np.float16, out=np.zeros(8, np.float16)),
    "own into own": lambda: halfway.cast(H, "float16", out=halfway.from_dlpack(np.zeros(8, np.float16))),
    "array": lambda: halfway.cast(A, np.dtype("float16")),
    "tensor": lambda: halfway.cast(T, ml_dtypes.bfloat16),
    "own": lambda: halfway.cast(H, "float16"),
    "array to torch": lambda: halfway.to_torch(A, "bfloat16"),
    "tensor to NumPy": lambda: halfway.to_numpy(T, "float16"),
    "own to torch": lambda: halfway.to_torch(H, "float16"),
    "strided, swapped": lambda: halfway.cast(A.astype(">f4")[::-2], float),
    "requires grad": lambda: halfway.cast(torch.ones(3, requires_grad=True), "float16"),
    "complex tensor": lambda: halfway.cast(torch.ones(3, dtype=torch.complex64), "complex128"),
    "integer tensor": lambda: halfway.cast(torch.ones(3, dtype=torch.uint8), "float32"),
    "the same memory": lambda: halfway.to_torch(A),
    "the same memory, dtype named": lambda: halfway.to_numpy(T, "float32"),
}


@pytest.mark.parametrize("name", FAST)
def test_common_calls_take_it(name: str) -> None:
    assert taken_fast(FAST[name])
    with general_path():
        assert not taken_fast(FAST[name])


SLOW: dict[str, Callable[[], Any]] = {
    "keywords": lambda: halfway.cast(A, "float16", casting="same_kind"),
    "subclass": lambda: halfway.cast(A.view(Sub), "float16"),
    "parameter": lambda: halfway.cast(torch.nn.Parameter(torch.ones(3)), "float16"),
    "neg": lambda: halfway.cast(torch._neg_view(torch.ones(3)), "float16"),
    "conj": lambda: halfway.cast(torch.ones(3, dtype=torch.complex64).conj(), "complex128"),
    "scalar": lambda: halfway.cast(np.float32(1), "float16"),
}


@pytest.mark.parametrize("name", SLOW)
def test_other_calls_do_not(name: str) -> None:
    assert not taken_fast(SLOW[name])


def test_without_the_table_torch_takes_the_general_path() -> None:
    _core._set_torch_table_enabled(False)
    try:
        assert not taken_fast(FAST["tensor into tensor"])
        assert not taken_fast(FAST["array to torch"])
        assert taken_fast(FAST["array into array"])
    finally:
        _core._set_torch_table_enabled(True)


# --- dtypes are known by identity


def test_a_class_may_change_its_mind() -> None:
    class Mine:
        dtype = np.dtype("float16")

    class Half(np.float16):
        pass

    for _ in range(3):
        assert halfway.cast(A, Mine).dtype == np.float16
        assert halfway.cast(A, Half).dtype == np.float16
    Mine.dtype = np.dtype("float64")
    assert halfway.cast(A, Mine).dtype == np.float64


def test_names_that_die_are_not_taken_for_others() -> None:
    for i in range(2000):
        name = "".join(["float", "16" if i % 2 else "64"])
        assert halfway.cast(A, name).dtype == name
        with pytest.raises(ValueError, match="unknown dtype name"):
            halfway.cast(A, "".join(["float", "1", "7"]))


# --- ownership


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "out": lambda x, out: halfway.cast(x, out.dtype, out=out),
    "dtype of out": lambda x, out: (halfway.to_torch if isinstance(out, torch.Tensor) else halfway.to_numpy)(
        x, out=out
    ),
    "fresh": lambda x, out: halfway.cast(x, out.dtype),
    "wrong dtype": lambda x, out: halfway.cast(x, "int8", out=out),
    "forbidden": lambda x, out: halfway.cast(x, "int8"),
    "lost": lambda x, out: halfway.cast(x, Cast("float16", overflow="raise"), out=out),
    "wrong shape": lambda x, out: halfway.cast(x, out.dtype, out=out[:2]),
    "unknown": lambda x, out: halfway.cast(x, "nonsense", out=out),
}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", CALLS)
def test_references_stay_steady(name: str, library: str) -> None:
    x: Any = np.full(4, 1e9, np.float32)
    out: Any = np.zeros(4, np.float16)
    if library == "torch":
        x, out = torch.from_numpy(x), torch.from_numpy(out)
    dtype = out.dtype

    def run(times: int) -> None:
        for _ in range(times):
            try:
                result = CALLS[name](x, out)
                assert result is out or result.dtype == out.dtype
                del result
            except (CastError, ExchangeError, ValueError):
                pass

    run(100)
    gc.collect()
    before = [sys.getrefcount(x), sys.getrefcount(out), sys.getrefcount(dtype), sys.getrefcount(None)]
    blocks = sys.getallocatedblocks()
    run(10_000)
    gc.collect()
    after = [sys.getrefcount(x), sys.getrefcount(out), sys.getrefcount(dtype), sys.getrefcount(None)]
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True))
    assert sys.getallocatedblocks() - blocks < 500


def test_a_fresh_array_is_its_own() -> None:
    small: Any = halfway.cast(A, "float16")
    large: Any = halfway.cast(np.ones(1 << 18, np.float32), "float16")
    assert small.flags.owndata
    assert small.base is None
    assert isinstance(large.base, halfway.Tensor)
    assert large.ctypes.data % 64 == 0
    small.resize(100, refcheck=False)
    assert not small[8:].any()


# --- automatic differentiation


@pytest.mark.parametrize("source", [A, T], ids=["numpy", "torch"])
def test_writing_is_noticed(source: Any) -> None:
    saved = torch.ones(8)
    version = saved._version
    loss = (saved * torch.ones(8, requires_grad=True)).sum()
    for i in range(3):
        assert halfway.to_torch(source, out=saved) is saved
        assert saved._version == version + i + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    view = torch.zeros(2, 8)
    halfway.to_torch(source, out=view[1])
    assert view._version == 1
    assert view[1].tolist() == T.tolist()


def test_an_inference_tensor_is_written() -> None:
    out = inference((8,))
    assert halfway.cast(T.double(), "float32", out=out) is out
    assert out.tolist() == T.tolist()


# --- threads


def test_threads_change_dtypes_and_tensors_beside_each_other() -> None:
    failures: list[str] = []
    t = torch.arange(64, dtype=torch.float32)
    a = t.numpy().copy()

    def work(seed: int) -> None:
        own = torch.zeros(64, dtype=torch.float16)
        for i in range(3000):
            name = ("float16", "float64", "bfloat16", "float32")[(i + seed) % 4]
            result = halfway.cast(t, name)
            if str(result.dtype) != f"torch.{name}" or result[63] != 63:
                failures.append(name)
            if halfway.cast(a, np.dtype("float16" if i % 2 else "float64"))[63] != 63:
                failures.append("numpy")
            if halfway.to_torch(a, torch.float16, out=own) is not own or own[63] != 63:
                failures.append("out")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_a_mode_that_resizes_while_it_is_asked() -> None:
    """Questions about tensors run the user's code: nothing that was read before may be used after."""

    class Resizing(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            with torch._C.DisableTorchFunction():
                if "is_neg" in str(func):
                    x.resize_(1 << 10)
                return func(*args, **(kwargs or {}))

    for _ in range(20):
        x = torch.ones(4)
        out = torch.zeros(4, dtype=torch.float16)
        with Resizing(), pytest.raises(ExchangeError, match="shape"):
            halfway.cast(x, "float16", out=out)
        assert not out.any()
