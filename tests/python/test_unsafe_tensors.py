"""torch tensors whose memory is not their value: the right bytes or an error, never wrong bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.python.unsafe import READERS, FunctionOnly, attempt, check, complexes, reals, refused, values
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import halfway
from halfway import CastError, ExchangeError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of most of these tensors


COPY_ONLY = {
    "requires_grad": "requires_grad",
    "result of autograd": "requires_grad",
    "parameter": "requires_grad",
    "conj": "conj",
    "conj view": "conj",
    "conj transposed": "conj",
    "conj 0-d": "conj",
    "neg": "neg",
    "neg view": "neg",
    "neg of ints": "neg",
    "imaginary part of conj": "neg",
    "neg of conj": "conj neg",
    "conj that requires grad": "requires_grad conj",
    "neg that requires grad": "requires_grad neg",
    "conj of complex128": "conj",
    "conj without elements": "conj",
}


def copy_only(name: str) -> torch.Tensor:
    base, z = reals(), complexes()
    made: dict[str, Callable[[], torch.Tensor]] = {
        "requires_grad": lambda: base.requires_grad_(),
        "result of autograd": lambda: base.requires_grad_() * 2,
        "parameter": lambda: torch.nn.Parameter(base),
        "conj": lambda: z.conj(),
        "conj view": lambda: z.conj()[1:, ::2],
        "conj transposed": lambda: z.mH,
        "conj 0-d": lambda: z.conj()[0, 1],
        "neg": lambda: torch._neg_view(base),
        "neg view": lambda: torch._neg_view(base)[:, 1],
        "neg of ints": lambda: torch._neg_view(torch.arange(6)),
        "imaginary part of conj": lambda: z.conj().imag,
        "neg of conj": lambda: torch._neg_view(z.conj()),
        "conj that requires grad": lambda: z.requires_grad_().conj(),
        "neg that requires grad": lambda: torch._neg_view(base.requires_grad_()),
        "conj of complex128": lambda: z.to(torch.complex128).conj(),
        "conj without elements": lambda: z.conj()[:0],
    }
    return made[name]()


@pytest.mark.parametrize("name", COPY_ONLY)
def test_what_must_be_copied_is_copied_right(name: str, exchange_path: str) -> None:
    tensor = copy_only(name)
    expected = tensor.detach().resolve_conj().resolve_neg().clone().numpy()
    reasons = check(tensor, expected)
    assert set(COPY_ONLY[name].split()) <= reasons  # of copy=False
    for function in (halfway.to_numpy, halfway.from_dlpack):
        with pytest.raises(ExchangeError) as caught:
            function(tensor, copy=False)
        assert caught.value.reasons == tuple(COPY_ONLY[name].split())
        assert caught.value.hint
    # the copies are apart from the source
    copied = halfway.to_numpy(tensor)
    if copied.size:
        copied[...] = 99
        assert (tensor.detach().resolve_conj().resolve_neg().numpy() == expected).all()
    assert halfway.to_torch(tensor) is tensor
    plan = halfway.explain(tensor, to="numpy")
    assert plan.reasons == tuple(COPY_ONLY[name].split())
    assert not plan.zero_copy


def test_two_wrongs_make_a_right(exchange_path: str) -> None:
    """Bits that cancel are no bits."""
    z = complexes()
    for tensor in (z.conj().conj(), torch._neg_view(torch._neg_view(z)), z.conj().real):
        expected = tensor.resolve_conj().resolve_neg().numpy()
        check(tensor, expected)
        assert halfway.to_numpy(tensor).ctypes.data == z.data_ptr()


def test_grad_that_is_turned_off(exchange_path: str) -> None:
    tensor = reals().requires_grad_()
    with torch.no_grad():
        assert "requires_grad" in check(tensor, reals().numpy())
        result = tensor * 2
        assert halfway.to_numpy(result).ctypes.data == result.data_ptr()
    detached = tensor.detach()
    assert halfway.to_numpy(detached).ctypes.data == tensor.data_ptr()
    buffer = torch.nn.Buffer(reals())
    assert halfway.to_numpy(buffer).ctypes.data == buffer.data_ptr()


def mkldnn_or_sparse() -> torch.Tensor:
    dense = torch.eye(3)
    return dense.to_mkldnn() if torch.backends.mkldnn.is_available() else dense.to_sparse()


def quantized_per_channel() -> torch.Tensor:
    scales, zeros = torch.ones(2), torch.zeros(2)
    return torch.quantize_per_channel(torch.ones(2, 2), scales, zeros, 0, torch.qint32)


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("sparse", lambda: torch.eye(3).to_sparse().coalesce()),
        ("sparse", lambda: torch.eye(3).to_sparse_csr()),
        ("sparse", lambda: torch.eye(3).to_sparse_csc()),
        ("sparse", lambda: torch.eye(4).to_sparse_bsr((2, 2))),
        ("sparse", lambda: torch.zeros(3, 3).to_sparse()),
        ("sparse", mkldnn_or_sparse),
        ("nested", lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        ("nested", lambda: torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(2, 2)])),
        ("subclass", lambda: torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)),
        ("quantized", lambda: torch.quantize_per_tensor(torch.ones(3), 0.5, 1, torch.qint8)),
        ("quantized", lambda: torch.quantize_per_tensor(torch.ones(3), 0.5, 1, torch.quint8)),
        ("quantized", lambda: torch.quantize_per_channel(torch.eye(2), torch.ones(2), torch.ones(2), 0, torch.qint8)),
        ("no_storage", lambda: torch.ones(3, device="meta")),
        ("no_storage", lambda: torch.ones(8, device="meta")[4:]),
        ("no_storage", lambda: torch.nn.Parameter(torch.ones(3, device="meta"))),
        ("no_storage", lambda: torch._efficientzerotensor(3)),
        ("no_storage", lambda: torch._efficientzerotensor(8)[4:]),
        ("no_storage", lambda: torch._efficientzerotensor(8, dtype=torch.complex64).conj()[2:]),
        ("no_storage", lambda: torch._to_functional_tensor(torch.ones(3))),
        ("no_storage", lambda: torch._to_functional_tensor(torch.arange(8.0)[4:])),
        ("no_storage", lambda: torch._to_functional_tensor(torch.arange(8.0))[4:]),
        ("no_storage", lambda: torch._to_functional_tensor(torch.arange(8))[4:]),
        ("subclass", lambda: torch.nn.UninitializedParameter()),
        ("subclass", lambda: torch.nn.UninitializedBuffer()),
        ("unsupported_dtype", lambda: torch.zeros(2, dtype=torch.uint8).view(torch.uint4)),
        ("unsupported_dtype", lambda: torch.zeros(2, dtype=torch.int8).view(torch.int4)),
        ("unsupported_dtype", lambda: torch.zeros(2, dtype=torch.uint8).view(torch.uint1)),
        ("unsupported_dtype", lambda: torch.zeros(2).view(torch.float4_e2m1fn_x2)),
        ("unsupported_dtype", lambda: torch.zeros(2, dtype=torch.uint8).view(torch.bits8)),
        ("unsupported_dtype", lambda: torch.zeros(2, dtype=torch.uint8).view(torch.bits1x8)),
    ],
)  # fmt: skip
def test_what_has_no_bytes_is_refused(reason: str, make: Callable[[], torch.Tensor], exchange_path: str) -> None:
    tensor = make()
    reasons = refused(tensor)
    assert reasons == {reason}
    assert halfway.to_torch(tensor) is tensor
    assert halfway.to_torch(tensor, copy=False) is tensor
    # nor written into
    for source in (np.zeros(3, np.float32), torch.zeros(3)):
        with pytest.raises(ExchangeError):
            halfway.to_torch(source, out=tensor)


def test_every_dtype_of_torch_arrives_or_is_refused(exchange_path: str) -> None:
    raw = torch.randint(0, 256, (32,), dtype=torch.uint8)
    raw[:] = raw % 2  # valid for bool too
    seen = 0
    carried = {r.name for r in halfway.dtypes() if r.kind != "refused" and r.torch is not None}
    for dtype in sorted({d for d in vars(torch).values() if isinstance(d, torch.dtype)}, key=str):
        try:
            tensor = raw.view(dtype)
        except RuntimeError:
            try:
                tensor = torch.empty(4, dtype=dtype)
            except RuntimeError:
                continue
        seen += 1
        name = str(dtype).removeprefix("torch.")
        for function in (halfway.to_numpy, halfway.from_dlpack):
            made, error = attempt(function, tensor)
            if error is not None:
                assert error.reason in ("unsupported_dtype", "quantized", "unavailable")
                assert name not in carried or (name, function) == ("complex32", halfway.to_numpy)
            else:
                assert name in carried
                assert made.shape == tuple(tensor.shape)
                assert made.nbytes == raw.nbytes
                pointer = made.ctypes.data if isinstance(made, np.ndarray) else made.data_ptr
                assert pointer == raw.data_ptr()
    assert seen > 30


def test_storages_resized_to_nothing(exchange_path: str) -> None:
    """FSDP does that: the data pointer is then NULL, plus the offset."""
    for view in (slice(None), slice(5, None), slice(None, None, 2), slice(3, 3)):
        tensor = torch.arange(10.0)[view]
        tensor.untyped_storage().resize_(0)
        if tensor.numel():
            refused(tensor)
        else:
            check(tensor, np.zeros(0))


# --- functorch


TRANSFORMS: dict[str, Callable[[Callable[[Any], Any], torch.Tensor], Any]] = {
    "vmap": lambda f, x: torch.func.vmap(f)(x),
    "grad": lambda f, x: torch.func.grad(f)(x),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](torch.tensor(1.0)),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),)),
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
    "hessian": lambda f, x: torch.func.hessian(f)(x),
    "functionalize": lambda f, x: torch.func.functionalize(f)(x),
    "vmap of grad": lambda f, x: torch.func.vmap(torch.func.grad(f))(x),
    "grad of vmap": lambda f, x: torch.func.grad(lambda y: torch.func.vmap(f)(y).sum())(x),
    "vmap of vmap": lambda f, x: torch.func.vmap(torch.func.vmap(f))(x[None]),
    "grad of grad": lambda f, x: torch.func.grad(lambda y: torch.func.grad(f)(y).sum())(x),
    "functionalize of grad": lambda f, x: torch.func.functionalize(torch.func.grad(f))(x),
}

INSIDE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "argument": lambda x: x,
    "view": lambda x: x[..., 1:],
    "result": lambda x: x * 2,
    "transposed": lambda x: x.unsqueeze(0).transpose(0, -1),
    "detached": lambda x: x.detach(),
    "detached view": lambda x: x.detach()[..., 1:],
    "neg": lambda x: torch._neg_view(x),
    "complex": lambda x: torch.complex(x, x).conj(),
}


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_inside_of_function_transforms(transform: str, inside: str, exchange_path: str) -> None:
    """What the function sees is a wrapper: it has no memory, or says what it has."""
    reached = []

    def function(x: torch.Tensor) -> torch.Tensor:
        try:
            tensor = INSIDE[inside](x)
        except RuntimeError:  # vmap has no rule for torch._neg_view
            tensor = x
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for read in READERS.values():
            with contextlib.suppress(ExchangeError, CastError):
                made = read(tensor)
                # only what is no wrapper has bytes, and those must be its values
                assert not wrapped
                assert not torch._is_functional_tensor(tensor)
                expected = tensor.detach().resolve_conj().resolve_neg()
                np.testing.assert_array_equal(values(made), values(expected))
        reached.append(wrapped)
        return (x * x).sum()

    TRANSFORMS[transform](function, reals())
    assert reached
    if inside in ("argument", "view", "result") and transform != "functionalize":
        assert all(reached)


def test_values_may_enter_a_transform(exchange_path: str) -> None:
    array = np.array([2.0, 3.0], np.float32)

    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * halfway.to_torch(array)).sum()

    assert torch.func.grad(function)(torch.ones(2)).tolist() == [2, 3]
    assert torch.func.vmap(function)(torch.ones(3, 2)).tolist() == [5, 5, 5]
    assert torch.func.functionalize(function)(torch.ones(2)).item() == 5


def test_dual_tensors_give_their_primal(exchange_path: str) -> None:
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        base = reals()
        dual = forward_ad.make_dual(base, torch.ones_like(base))
        check(dual, base.numpy())


# --- modes


class Recording(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Refusing(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("nothing is allowed here")


class Answering(TorchFunctionMode):
    """Answers every question with the same object."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.answer


class Dispatching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class DispatchRefusing(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("nothing is allowed here")


MODES: dict[str, Callable[[], Any]] = {
    "recording": Recording,
    "refusing": Refusing,
    "answering None": lambda: Answering(None),
    "answering a number": lambda: Answering(7),
    "answering an object": lambda: Answering(object()),
    "dispatching": Dispatching,
    "refusing dispatch": DispatchRefusing,
    "fake": FakeTensorMode,
    "fake, real ones allowed": lambda: FakeTensorMode(allow_non_fake_inputs=True),
    "device meta": lambda: torch.device("meta"),
    "device cpu": lambda: torch.device("cpu"),
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "torch functions disabled": torch._C.DisableTorchFunction,
    "subclass functions disabled": torch._C.DisableTorchFunctionSubclass,
}

PLAIN: dict[str, Callable[[], torch.Tensor]] = {
    "plain": reals,
    "view": lambda: reals()[:, 1:],
    "grad": lambda: reals().requires_grad_(),
    "parameter": lambda: torch.nn.Parameter(reals()),
    "conj": lambda: complexes().conj(),
    "neg": lambda: torch._neg_view(reals()),
    "imaginary part of conj": lambda: complexes().conj().imag,
    "bfloat16": lambda: reals().to(torch.bfloat16),
    "int64": lambda: torch.arange(6),
}
DISPATCHES = {"refusing dispatch", "fake", "fake, real ones allowed"}


@pytest.mark.parametrize("plain", PLAIN)
@pytest.mark.parametrize("mode", MODES)
def test_under_a_mode(mode: str, plain: str, exchange_path: str) -> None:
    tensor = PLAIN[plain]()
    expected = values(tensor.detach().resolve_conj().resolve_neg().clone())
    made: list[Any] = []
    with MODES[mode]():
        for read in (
            halfway.to_numpy,
            lambda x: halfway.to_numpy(x, copy=True),
            lambda x: halfway.to_numpy(x, "complex128", casting="unsafe"),
            halfway.from_dlpack,
            lambda x: halfway.to_torch(x, copy=True),
        ):
            try:
                made.append(read(tensor))
            except ExchangeError as error:
                # only what torch itself must compute, where torch may not
                assert mode in DISPATCHES
                assert exchange_path == "capsule" or tensor.is_conj() or tensor.is_neg()
                assert error.hint
        assert halfway.to_torch(tensor) is tensor
    assert made or mode in DISPATCHES
    for result in made:
        np.testing.assert_array_equal(values(result), expected)


@pytest.mark.parametrize("mode", MODES)
def test_numpy_to_torch_under_a_mode(mode: str, exchange_path: str) -> None:
    array = np.arange(6.0).reshape(2, 3)
    results = []
    with MODES[mode]():
        for make in (
            halfway.to_torch,
            lambda a: halfway.to_torch(a, "bfloat16"),
            lambda a: halfway.to_torch(a[::-1]),
        ):
            results.append(make(array))
    assert results[0].data_ptr() == array.ctypes.data
    for result, expected in zip(results, (array, array, array[::-1]), strict=True):
        assert type(result) is torch.Tensor
        assert result.device.type == "cpu"
        np.testing.assert_array_equal(values(result), expected)


def test_a_default_device_changes_nothing(exchange_path: str) -> None:
    torch.set_default_device("meta")
    try:
        array = np.arange(3.0)
        assert halfway.to_torch(array).data_ptr() == array.ctypes.data
        converted = halfway.to_torch(array, "float32")
    finally:
        torch.set_default_device(None)
    assert converted.tolist() == [0, 1, 2]
    assert converted.device.type == "cpu"


def test_a_default_dtype_changes_nothing(exchange_path: str) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert halfway.to_torch(np.zeros(2, np.float32)).dtype is torch.float32
        assert halfway.to_numpy(np.zeros(2), "float32").dtype == np.float32
    finally:
        torch.set_default_dtype(torch.float32)


# --- writing


def test_out_that_cannot_be_written(exchange_path: str) -> None:
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    for reason, out in (
        ("requires_grad", reals().requires_grad_()),
        ("neg", torch._neg_view(reals())),
        ("subclass", reals().as_subclass(FunctionOnly)),
        ("no_storage", torch.ones(2, 3, device="meta")),
        ("overlap", torch.ones(1, 3).expand(2, 3)),
        ("sparse", torch.ones(2, 3).to_sparse()),
    ):
        with pytest.raises(ExchangeError) as caught:
            halfway.to_torch(source, out=out)
        assert caught.value.reason == reason


def test_out_of_a_copy_on_write_tensor_leaves_its_twin(exchange_path: str) -> None:
    original = torch.ones(3)
    twin = torch._lazy_clone(original)
    halfway.to_torch(np.array([5, 6, 7], np.float32), out=twin)
    assert original.tolist() == [1, 1, 1]
    assert twin.tolist() == [5, 6, 7]


def test_lazily_conjugated_source_and_out_of_one_memory(exchange_path: str) -> None:
    """The conjugates of an array into the array itself: right, or refused untouched."""
    base = complexes()
    expected = base.conj().resolve_conj().clone()
    before = base.clone()
    _, error = attempt(lambda: halfway.to_torch(base.conj(), out=base))
    if error is not None:
        assert "overlap" in error.reasons
        assert torch.equal(base, before)
    else:
        assert torch.equal(base, expected)
    real = reals()
    expected = (-real).clone()
    before = real.clone()
    _, error = attempt(lambda: halfway.to_torch(torch._neg_view(real), out=real))
    if error is not None:
        assert "overlap" in error.reasons
        assert torch.equal(real, before)
    else:
        assert torch.equal(real, expected)
