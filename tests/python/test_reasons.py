"""Every reason of the vocabulary, provoked through the public API."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.python import probe

import halfway
from halfway import ExchangeError

# What the host cannot provoke: a CUDA graph needs a device.
NOT_ON_THE_HOST = {"capturing"}


def readonly(array: Any) -> Any:
    array.flags.writeable = False
    return array


def misaligned(dtype: str, count: int = 3) -> Any:
    item = np.dtype(dtype).itemsize
    return np.zeros(item * (count + 1), np.uint8)[1 : 1 + item * count].view(dtype)


def packed(name: str) -> Any:
    """A field whose stride is no whole number of elements."""
    return np.zeros(3, np.dtype([("a", "u1"), (name, "f4"), ("b", "u2")]))[name]


class OnDevice:
    def __init__(self, device: tuple[int, int]) -> None:
        self.device = device

    def __dlpack__(self, **keywords: Any) -> Any:
        raise AssertionError("not to be asked: the memory is elsewhere")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class OwnDispatch(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


def consumed() -> Any:
    capsule = np.zeros(3).__dlpack__()
    torch.from_dlpack(capsule)
    return capsule


def never(make: Callable[[], Any], *, to: str = "torch", **keywords: Any) -> Callable[[], Any]:
    """An exchange of a fresh source with copy=False."""
    function = {
        "torch": halfway.to_torch,
        "numpy": halfway.to_numpy,
        "halfway": halfway.from_dlpack,
    }
    return lambda: function[to](make(), copy=False, **keywords)


def call(function: Callable[..., Any], make: Callable[[], Any], *args: Any, **kw: Any) -> Any:
    return lambda: function(make(), *args, **kw)


def conj() -> Any:
    return torch.tensor([1 + 2j]).conj()


def neg() -> Any:
    return torch._neg_view(torch.ones(2))


def overlapping_out() -> Any:
    array = np.arange(6.0)
    return halfway.to_numpy(array[:4], out=array[2:])


def described(array: Any, **keywords: Any) -> Any:
    return lambda: halfway.from_dlpack(array).__dlpack__(**keywords)


to_torch, to_numpy, from_dlpack, cast = (
    halfway.to_torch,
    halfway.to_numpy,
    halfway.from_dlpack,
    halfway.cast,
)

# (all the reasons, first one first; what provokes them). Every row gets everything anew.
REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("dtype", never(lambda: np.zeros(3), dtype="float32")),
    ("dtype", never(lambda: np.zeros(3), to="numpy", dtype="bfloat16")),
    ("dtype", never(lambda: torch.zeros(3), dtype=torch.float16)),
    ("dtype", call(cast, lambda: np.zeros(3), "float32", copy=False)),
    ("dtype", lambda: halfway.from_dlpack(np.zeros(3)).__array__(np.float32, copy=False)),
    ("byte_order", never(lambda: np.zeros(3, ">f4"))),
    ("byte_order", never(lambda: np.zeros(3, ">f4"), to="halfway")),
    ("byte_order", never(lambda: np.zeros(3, ">f4"), to="numpy", dtype="float32")),
    ("byte_order", call(to_numpy, lambda: np.zeros(3), ">f8")),
    ("negative_strides", never(lambda: np.zeros(3)[::-1])),
    ("negative_strides", never(lambda: from_dlpack(np.zeros((2, 3))[:, ::-1]))),
    ("fractional_strides misaligned", never(lambda: packed("x"))),
    ("fractional_strides", never(lambda: packed("x"), to="halfway")),
    ("misaligned", never(lambda: misaligned("f4"))),
    ("misaligned", never(lambda: from_dlpack(misaligned("c16")))),
    ("readonly", never(lambda: readonly(np.zeros(3)))),
    ("readonly", never(lambda: np.broadcast_to(np.zeros(3), (2, 3)))),
    ("readonly", never(lambda: np.frombuffer(b"12345678", np.int32))),
    ("readonly", never(lambda: np.zeros(3).__dlpack__())),  # a legacy capsule cannot say
    ("readonly", call(to_numpy, lambda: np.zeros(3), out=readonly(np.zeros(3)))),
    ("readonly", described(readonly(np.zeros(3)))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(3, "M8[s]"))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(3, "m8[ms]"))),
    ("unsupported_dtype", call(from_dlpack, lambda: np.array(["a", "b"]))),
    ("unsupported_dtype", call(from_dlpack, lambda: np.array([b"a"]))),
    ("unsupported_dtype", call(from_dlpack, lambda: np.array(["a"], np.dtypes.StringDType()))),
    ("unsupported_dtype", call(to_torch, lambda: np.array([None, 1], object))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(2, np.longdouble))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(2, np.clongdouble))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(2, "V3"))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(2, [("a", "f4"), ("b", "f4")]))),
    ("unsupported_dtype", call(to_torch, lambda: np.datetime64("2020-01-01"))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(2, ml_dtypes.int4))),
    ("unsupported_dtype", call(to_torch, lambda: np.zeros(2, ml_dtypes.float8_e3m4))),
    ("unsupported_dtype", call(to_numpy, lambda: torch.zeros(2).view(torch.bits8))),
    (
        "unsupported_dtype",
        call(to_numpy, lambda: torch.zeros(2, dtype=torch.uint8).view(torch.uint4)),
    ),
    ("unsupported_dtype", call(to_numpy, lambda: np.zeros(2), torch.qint8)),
    ("unsupported_dtype", call(to_numpy, lambda: np.zeros(2), "M8[s]")),
    (
        "unsupported_dtype",
        call(from_dlpack, lambda: probe.make(0, (0,), None, (6, 1, 1)).capsule()),
    ),
    ("unsupported_dtype", lambda: halfway.fields(np.zeros(2))),
    ("unsupported_dtype", lambda: halfway.Cast("longdouble")),
    ("requires_grad", never(lambda: torch.ones(2, requires_grad=True), to="numpy")),
    ("requires_grad", never(lambda: torch.nn.Parameter(torch.ones(2)), to="halfway")),
    (
        "requires_grad",
        call(to_torch, lambda: np.ones(2, "f4"), out=torch.ones(2, requires_grad=True)),
    ),
    (
        "dtype requires_grad",
        never(lambda: torch.ones(2, requires_grad=True), to="numpy", dtype="f8"),
    ),
    ("conj", never(conj, to="numpy")),
    ("conj", never(conj, to="halfway")),
    ("conj", call(to_torch, lambda: np.ones(1, "c8"), out=conj())),
    ("neg", never(neg, to="numpy")),
    ("neg", never(lambda: conj().imag, to="halfway")),
    ("conj neg", never(lambda: torch._neg_view(conj()), to="numpy")),
    ("requires_grad conj", never(lambda: conj().requires_grad_(), to="numpy")),
    ("sparse", call(to_numpy, lambda: torch.eye(2).to_sparse())),
    ("sparse", call(from_dlpack, lambda: torch.eye(2).to_sparse_csr())),
    ("nested", call(to_numpy, lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]))),
    ("nested", lambda: halfway.fields(np.zeros(2, [("a", [("b", "f4")])]))),
    (
        "quantized",
        call(to_numpy, lambda: torch.quantize_per_tensor(torch.ones(3), 0.5, 1, torch.qint8)),
    ),
    ("subclass", call(to_numpy, lambda: torch.ones(2).as_subclass(OwnDispatch))),
    ("no_storage", call(to_numpy, lambda: torch.ones(2, device="meta"))),
    ("no_storage", call(from_dlpack, lambda: torch._efficientzerotensor(3))),
    ("no_storage", call(to_torch, lambda: torch.ones(2, device="meta"), device="cpu")),
    ("masked", call(to_torch, lambda: np.ma.masked_array([1.0, 2.0], mask=[0, 1]))),
    ("masked", call(to_numpy, lambda: np.ma.masked_array([1.0, 2.0], mask=False))),
    ("overlap", overlapping_out),
    ("overlap", call(to_torch, lambda: np.zeros(3, "f4"), out=torch.zeros(1).expand(3))),
    ("out_mismatch", call(to_numpy, lambda: np.zeros(3), out=np.zeros(4))),
    (
        "out_mismatch",
        call(to_torch, lambda: np.zeros(3), "float32", out=torch.zeros(3, dtype=torch.float64)),
    ),
    ("stream", described(np.zeros(3), stream=1)),
    ("stream", described(np.zeros(3), stream=0)),
    ("device", described(np.zeros(3), dl_device=(probe.CUDA, 0))),
    ("device", call(to_torch, lambda: OnDevice((8, 0)))),
    ("device", call(to_numpy, lambda: OnDevice((8, 0)))),
    ("device", call(to_numpy, lambda: probe.make(4096, (2,), device=8).capsule())),
    ("unavailable", call(to_torch, lambda: OnDevice((probe.CUDA, 0)))),
    ("unavailable", call(to_numpy, lambda: probe.make(4096, (2,), device=probe.CUDA).capsule())),
    ("version", call(from_dlpack, lambda: probe.unreadable(2).capsule())),
    ("malformed", call(from_dlpack, lambda: probe.make(0, (3,)).capsule())),
    ("malformed", call(to_numpy, lambda: torch.zeros([1] * 65))),
    ("consumed", call(from_dlpack, consumed)),
    ("consumed", call(halfway.explain, consumed)),
    ("unavailable", call(to_torch, lambda: np.zeros(3), device="cuda")),
    ("unavailable", call(to_torch, lambda: np.zeros(3), device=torch.device("cuda", 1))),
    ("unavailable", call(from_dlpack, lambda: np.zeros(3), device=(probe.CUDA, 0))),
    ("unavailable", call(halfway.explain, lambda: np.zeros(3), device="meta")),
]
# What an exchange may do about it: explain() names the reason, nothing is refused.
EXPLAINED: list[tuple[str, Callable[[], Any], dict[str, Any]]] = [
    ("copy_requested", lambda: np.zeros(3), {"copy": True}),
    ("copy_requested", lambda: torch.zeros(3), {"copy": True}),
    ("permute", lambda: np.zeros((2, 3)), {"permute": (1, 0)}),
    ("affine", lambda: torch.zeros(3), {"scale": 2.0}),
    ("copy_requested", lambda: np.zeros(3), {"out": torch.zeros(3, dtype=torch.float64)}),
    ("dtype", lambda: np.zeros(3), {"dtype": "float32"}),
    ("dtype copy_requested", lambda: np.zeros(3), {"dtype": "float32", "copy": True}),
    ("byte_order", lambda: np.zeros(3, ">f8"), {}),
    ("negative_strides", lambda: np.zeros(3)[::-1], {}),
    ("misaligned", lambda: misaligned("f4"), {}),
    ("fractional_strides misaligned", lambda: packed("x"), {}),
    ("fractional_strides", lambda: packed("x"), {"to": "halfway"}),
    ("readonly", lambda: readonly(np.zeros(3)), {}),
    ("requires_grad", lambda: torch.ones(2, requires_grad=True), {"to": "numpy"}),
    ("conj neg", lambda: torch._neg_view(conj()), {"to": "numpy"}),
    (
        "dtype byte_order negative_strides misaligned readonly copy_requested",
        lambda: readonly(misaligned(">f4")[::-1]),
        {"dtype": "float16", "copy": True},
    ),
]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(quantiz|[Ss]parse CSR|nested tensors|ComplexHalf)"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


@pytest.mark.parametrize(("reasons", "provoke"), REFUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)])
def test_refused_with_its_reason(reasons: str, provoke: Callable[[], Any]) -> None:
    with pytest.raises(ExchangeError) as caught:
        provoke()
    error = caught.value
    assert error.reasons == tuple(reasons.split())
    assert error.reason == reasons.split()[0]
    assert isinstance(error, BufferError)
    assert isinstance(error, ValueError)
    assert isinstance(error.hint, str)
    assert error.__cause__ is None
    assert error.__context__ is None
    text = str(error)
    assert error.hint in text
    assert len(text) > len(error.hint) + 10
    assert "Exception raised from" not in text  # torch's backtraces
    assert "\n" not in text
    if len(error.reasons) > 1:
        for reason in error.reasons:
            assert reason in text


def test_every_refusal_that_can_be_avoided_says_how() -> None:
    """What is wrong with a struct, or too much for NumPy, nobody can mend here; else there is a way."""
    without = set()
    for _, provoke in REFUSED:
        with pytest.raises(ExchangeError) as caught:
            provoke()
        if not caught.value.hint:
            without.add(caught.value.args[0])
    assert without == {
        "data is NULL, but shape (3,) has elements",
        "ndim is 65, and NumPy has at most 64",
        "dtype code 6 with 1 bits and 1 lane does not exist",
    }


@pytest.mark.parametrize(
    ("reasons", "make", "keywords"),
    EXPLAINED,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(EXPLAINED)],
)
def test_explained_with_its_reason(reasons: str, make: Callable[[], Any], keywords: dict[str, Any]) -> None:
    plan = halfway.explain(make(), **keywords)
    assert plan.reasons == tuple(reasons.split())
    assert not plan.zero_copy
    for reason in plan.reasons:
        assert reason in str(plan)
    assert plan.to_dict()["reasons"] == list(plan.reasons)


def test_no_reason_is_forgotten(vocabulary: tuple[str, ...]) -> None:
    provoked = {r for row in REFUSED for r in row[0].split()}
    provoked |= {r for row in EXPLAINED for r in row[0].split()}
    assert provoked.isdisjoint(NOT_ON_THE_HOST)
    assert provoked | NOT_ON_THE_HOST == set(vocabulary)
    assert len(vocabulary) == len(set(vocabulary)) == 28


def test_copies_are_made_for_every_reason_that_allows_one() -> None:
    """copy=None never fails for what copy=False refuses, unless nothing could help."""
    helped = {
        "dtype",
        "byte_order",
        "negative_strides",
        "fractional_strides",
        "misaligned",
        "readonly",
    }
    helped |= {"requires_grad", "conj", "neg"}
    for reasons, make, keywords in EXPLAINED:
        if set(reasons.split()) <= helped:
            arguments = {k: v for k, v in keywords.items() if k != "to"}
            function = {"torch": to_torch, "numpy": to_numpy, "halfway": from_dlpack}
            function[keywords.get("to", "torch")](make(), **arguments)


def test_what_is_aliased_knowingly() -> None:
    array = readonly(np.arange(3.0))
    tensor = to_torch(array, allow_readonly=True, copy=False)
    assert tensor.data_ptr() == array.ctypes.data
    plan = halfway.explain(array, allow_readonly=True)
    assert plan.zero_copy
    # the array still says what it is
    assert not array.flags.writeable
    assert from_dlpack(array).readonly


def test_the_error_survives_pickling() -> None:
    import pickle

    with pytest.raises(ExchangeError) as caught:
        to_torch(readonly(np.zeros(3, ">f4"))[::-1], "float64", copy=False)
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert (again.reasons, again.hint, str(again)) == (error.reasons, error.hint, str(error))
    assert error.reasons == ("dtype", "byte_order", "negative_strides", "readonly")


@pytest.mark.parametrize("bad", [1, 1.5, "text", [1.0], None, object(), np.float32, range(3), {}])
def test_what_is_no_array_is_a_type_error(bad: Any) -> None:
    for function in (to_torch, to_numpy, from_dlpack, halfway.explain):
        with pytest.raises(TypeError):
            function(bad)


def test_without_torch(run_python: Callable[..., Any]) -> None:
    run_python(
        """
        import sys
        sys.modules["torch"] = None  # as if it were not installed
        import numpy as np, halfway
        array = np.arange(3.0)
        try:
            halfway.to_torch(array)
        except halfway.ExchangeError as error:
            assert error.reasons == ("unavailable",), error.reasons
            assert "torch" in str(error) and error.hint
            assert error.__context__ is None and error.__cause__ is None
        else:
            raise SystemExit("no error")
        # everything else works
        tensor = halfway.from_dlpack(array)
        assert halfway.to_numpy(tensor).ctypes.data == array.ctypes.data
        assert halfway.to_numpy(array, "float16").tolist() == [0, 1, 2]
        assert halfway.explain(array, to="numpy").zero_copy
        assert np.from_dlpack(tensor).tolist() == [0, 1, 2]
        assert halfway.fields(np.zeros(2, [("a", "f4")]))["a"].shape == (2,)
        """
    ).check()


def test_a_torch_that_cannot_be_imported(run_python: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch is broken')")
    run_python(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np, halfway
        for _ in range(2):
            try:
                halfway.to_torch(np.zeros(3))
            except halfway.ExchangeError as error:
                assert error.reason == "unavailable" and "libtorch is broken" not in str(error)
            else:
                raise SystemExit("no error")
        """
    ).check()


def test_a_module_named_torch_that_is_not(run_python: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "torch.py").write_text("Tensor = 1")
    run_python(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np, halfway, torch
        assert halfway.to_numpy(np.zeros(3)).shape == (3,)
        assert halfway.from_dlpack(np.zeros(3)).shape == (3,)
        try:
            halfway.to_torch(np.zeros(3))
        except halfway.ExchangeError as error:
            assert error.reason == "unavailable"
        else:
            raise SystemExit("no error")
        """
    ).check()


def test_a_torch_that_is_half_imported(run_python: Callable[..., Any]) -> None:
    """torch.Tensor is there before torch.float32: what is seen in between must not be remembered."""
    run_python(
        """
        import sys
        import numpy as np, halfway
        seen = []

        class Watch:  # calls halfway while torch is being imported, whenever it imports anything
            def find_spec(self, name, path=None, target=None):
                module = sys.modules.get("torch")
                if module is not None:
                    seen.append(hasattr(module, "Tensor") and not hasattr(module, "float32"))
                    halfway.to_numpy(np.zeros(3))
                    halfway.from_dlpack(np.zeros(3))
                return None

        sys.meta_path.insert(0, Watch())
        import torch
        sys.meta_path.pop(0)
        assert any(seen), "torch is no longer built in this order: the test shows nothing"
        array = np.arange(3, dtype=np.float32)
        tensor = halfway.to_torch(array)
        assert tensor.data_ptr() == array.ctypes.data
        assert halfway.to_numpy(tensor).ctypes.data == array.ctypes.data
        assert halfway.to_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype.name == "bfloat16"
        assert halfway.to_numpy(torch.ones(2, dtype=torch.int8)).tolist() == [1, 1]
        assert halfway.from_dlpack(torch.ones(2)).dtype == "float32"
        assert halfway.to_numpy(array, torch.float16).dtype == np.float16
        """
    ).check()


def test_the_functions_have_the_keywords_of_the_contract() -> None:
    keywords = {
        to_torch: "dtype device copy out non_blocking allow_readonly report",
        to_numpy: "dtype copy out non_blocking lock_storage report",
        from_dlpack: "device copy",
    }
    for function, names in keywords.items():
        assert function.__doc__
        parameters = inspect.signature(function).parameters
        assert set(names.split()) == {n for n in parameters if n not in ("x", "cast")}
