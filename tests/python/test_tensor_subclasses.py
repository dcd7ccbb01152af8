"""Subclasses of torch.Tensor: the right bytes or an error, never wrong bytes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.python.unsafe import FunctionOnly, check, complexes, reals, refused
from torch._subclasses.fake_tensor import FakeTensorMode

import halfway
from halfway import ExchangeError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns of most of these tensors


# --- subclasses


def fakes() -> Iterator[torch.Tensor]:
    with FakeTensorMode() as mode:
        yield torch.ones(3)
        yield torch.ones(8)[4:]
        yield torch.ones(2, dtype=torch.complex64).conj()
    yield mode.from_tensor(reals())
    yield mode.from_tensor(torch.nn.Parameter(reals()))


def test_fake_tensors(exchange_path: str) -> None:
    for tensor in fakes():
        assert refused(tensor) == {"subclass"}
        assert halfway.to_torch(tensor) is tensor
        with pytest.raises(ExchangeError):
            halfway.to_torch(np.zeros(3, np.float32), out=tensor)


class Wrapper(torch.Tensor):
    """A wrapper subclass: its storage is not there."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, offset: int = 0) -> Wrapper:
        made: Wrapper = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, dtype=inner.dtype, strides=inner.stride(), storage_offset=offset
        )
        made.inner = inner
        return made

    def __init__(self, inner: torch.Tensor, offset: int = 0) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        plain = [a.inner if isinstance(a, Wrapper) else a for a in args]
        return func(*plain, **(kwargs or {}))


class DispatchOnly(torch.Tensor):
    """Real memory, another meaning."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C._DisableTorchDispatch():
            return func(*args, **(kwargs or {}))


class Inherited(FunctionOnly):
    pass


class Plain(torch.Tensor):
    pass


class Disabled(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl


class Lying(torch.Tensor):
    """Attributes of its own instead of torch's."""

    requires_grad = False  # type: ignore[assignment]

    def is_neg(self) -> bool:
        return False

    def is_conj(self) -> bool:
        return False


@pytest.mark.parametrize("offset", [0, 5])
def test_wrapper_subclasses(offset: int, exchange_path: str) -> None:
    assert refused(Wrapper(reals(), offset)) == {"subclass"}


@pytest.mark.parametrize("class_", [DispatchOnly, FunctionOnly, Inherited])
def test_subclasses_with_their_own_dispatch(class_: type[torch.Tensor], exchange_path: str) -> None:
    tensor = reals().as_subclass(class_)
    assert refused(tensor) == {"subclass"}
    assert halfway.to_torch(tensor) is tensor
    check(tensor.as_subclass(torch.Tensor), reals().numpy())


@pytest.mark.parametrize("class_", [Plain, Disabled, Lying])
def test_subclasses_without_their_own_dispatch(class_: type[torch.Tensor], exchange_path: str) -> None:
    for make in (reals, complexes, lambda: complexes().conj(), lambda: torch._neg_view(reals())):
        tensor = make().as_subclass(class_)
        check(tensor, make().resolve_conj().resolve_neg().numpy())
    with_grad = reals().requires_grad_()
    check((with_grad * 2).as_subclass(class_), (reals() * 2).numpy())


def test_attributes_that_a_tensor_carries_are_not_asked(exchange_path: str) -> None:
    tensor = torch._neg_view(reals())
    tensor.is_neg = lambda: False  # type: ignore[method-assign]
    check(tensor, -reals().numpy())


def test_async_collective_and_masked_tensors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masked = torch.masked.masked_tensor(torch.ones(2), torch.tensor([True, False]))
    assert refused(masked) == {"subclass"}
