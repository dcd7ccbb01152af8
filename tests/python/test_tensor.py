"""halfway.Tensor: DLPack, NumPy, the buffer protocol, the exchange table; other producers."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import tvm_ffi
from tests.python import dlpack
from tests.python.dlpack import IS_COPIED, READ_ONLY, Exchange
from tests.python.oracle import IN_NUMPY, NUMPY_NATIVE, numpy_dtype
from tests.python.strategies import contents, layouts, random_bytes, readonly

import halfway
from halfway import ExchangeError, Tensor

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


# --- attributes


@pytest.mark.parametrize("name", IN_NUMPY)
def test_attributes(name):
    for x in layouts(numpy_dtype(name)).values():
        tensor = halfway.from_dlpack(x)
        assert tensor.shape == x.shape
        assert tensor.ndim == x.ndim
        assert tensor.size == x.size
        assert tensor.nbytes == x.nbytes
        assert tensor.dtype == name
        assert tensor.device == "cpu"
        assert tensor.readonly is not x.flags.writeable
        assert tensor.reasons == ()
        if x.size:
            assert tensor.data_ptr == x.ctypes.data
            steps = [s for n, s in zip(x.shape, tensor.strides, strict=True) if n > 1]
            assert steps == [s // x.itemsize for n, s in zip(x.shape, x.strides, strict=True) if n > 1]
        if x.ndim:
            assert len(tensor) == len(x)


def test_len_of_a_scalar():
    with pytest.raises(TypeError):
        len(halfway.from_dlpack(np.float32(1)))


def test_attributes_are_read_only():
    tensor = halfway.from_dlpack(np.zeros(3))
    for name in ("shape", "strides", "dtype", "readonly", "data_ptr", "anything"):
        with pytest.raises(AttributeError):
            setattr(tensor, name, 0)


def test_repr():
    x = np.zeros((2, 3), np.int16)
    assert repr(halfway.from_dlpack(x)) == "halfway.Tensor(shape=(2, 3), dtype=int16)"
    assert repr(halfway.from_dlpack(x[0])) == "halfway.Tensor(shape=(3,), dtype=int16)"
    assert repr(halfway.from_dlpack(x[0, 0])) == "halfway.Tensor(shape=(), dtype=int16)"
    frozen = readonly(np.zeros(2, ml_dtypes.bfloat16))
    assert repr(halfway.from_dlpack(frozen)) == "halfway.Tensor(shape=(2,), dtype=bfloat16, readonly)"


def test_reasons_say_why_memory_was_copied():
    z = torch.ones(3, dtype=torch.complex64)
    for x, reasons in (
        (np.zeros(3, ">f4"), ("byte_order",)),
        (np.zeros(3, "i1,f4")["f1"], ("fractional_strides",)),
        (np.zeros(3, "i1,>f4")["f1"], ("byte_order", "fractional_strides")),
        (z.conj(), ("conj",)),
        (z.conj().imag, ("neg",)),
        (np.zeros(3), ()),
    ):
        tensor = halfway.from_dlpack(x)
        assert tensor.reasons == reasons
        assert (tensor.data_ptr == (x.data_ptr() if isinstance(x, torch.Tensor) else x.ctypes.data)) == (not reasons)
    assert halfway.from_dlpack(np.zeros(3), copy=True).reasons == ("copy_requested",)
    assert halfway.cast(halfway.from_dlpack(np.zeros(3)), "f4").reasons == ("dtype",)


def test_weak_references_and_lifetime():
    source = np.zeros(3)
    gone = weakref.ref(source)
    tensor = halfway.from_dlpack(source)
    reference = weakref.ref(tensor)
    del source
    gc.collect()
    assert gone() is not None  # the tensor owns a share
    view = np.asarray(tensor)
    del tensor
    gc.collect()
    assert reference() is not None  # the array keeps the tensor
    view[:] = 1
    del view
    gc.collect()
    assert reference() is None
    assert gone() is None


# --- __dlpack__


def test_versions():
    x = np.arange(6.0).reshape(2, 3)[:, ::-1]
    tensor = halfway.from_dlpack(x)
    for version in (None, (0, 8), (0, 0)):
        capsule = tensor.__dlpack__(max_version=version)
        assert dlpack.name_of(capsule) == "dltensor"
        inner = dlpack.legacy(capsule).tensor
        assert inner.dims() == ((2, 3), (3, -1))
        assert inner.data + inner.byte_offset == x.ctypes.data
    assert dlpack.name_of(tensor.__dlpack__()) == "dltensor"
    for version in ((1, 0), (1, 1), (1, 3), (2, 0)):
        capsule = tensor.__dlpack__(max_version=version)
        assert dlpack.name_of(capsule) == "dltensor_versioned"
        managed = dlpack.versioned(capsule)
        assert managed.version.major == 1
        assert managed.flags == 0
        inner = managed.tensor
        assert inner.dims() == ((2, 3), (3, -1))
        assert inner.data + inner.byte_offset == x.ctypes.data
        assert (inner.device.type, inner.device.id) == (1, 0)
        assert (inner.dtype.code, inner.dtype.bits, inner.dtype.lanes) == (2, 64, 1)


def test_strides_are_always_filled():
    for x in layouts().values():
        for version in ((1, 0), None):
            tensor = halfway.from_dlpack(x if version else x.copy())
            capsule = tensor.__dlpack__(max_version=version)
            inner = dlpack.versioned(capsule).tensor if version else dlpack.legacy(capsule).tensor
            assert inner.ndim == x.ndim
            if x.ndim:
                assert bool(inner.shape)
                assert bool(inner.strides)
                assert inner.dims()[0] == x.shape


def test_readonly_flag():
    tensor = halfway.from_dlpack(readonly(np.zeros(3)))
    assert dlpack.versioned(tensor.__dlpack__(max_version=(1, 0))).flags == READ_ONLY
    for version in (None, (0, 8)):
        for copy in (None, False):
            with pytest.raises(ExchangeError) as caught:
                tensor.__dlpack__(max_version=version, copy=copy)
            assert caught.value.reason == "readonly"
            assert caught.value.hint
    assert dlpack.name_of(tensor.__dlpack__(copy=True)) == "dltensor"  # fresh memory may be written to


@pytest.mark.parametrize("layout", layouts())
def test_copy_true_is_marked_and_owns_its_memory(layout):
    x = layouts()[layout]
    tensor = halfway.from_dlpack(x)
    capsule = tensor.__dlpack__(max_version=(1, 3), copy=True)
    managed = dlpack.versioned(capsule)
    assert managed.flags == IS_COPIED
    assert managed.tensor.dims()[0] == x.shape
    if x.size:
        assert managed.tensor.data != tensor.data_ptr
        before = x.copy()
        array = np.from_dlpack(Box(capsule))
        np.testing.assert_array_equal(array, before)
        assert array.flags.c_contiguous
        array[...] = -1
        np.testing.assert_array_equal(x, before)
    for copy in (False, None):
        managed = dlpack.versioned(tensor.__dlpack__(max_version=(1, 3), copy=copy))
        assert not managed.flags & IS_COPIED


class Box:
    """A producer of one capsule."""

    def __init__(self, capsule: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.capsule = capsule
        self.device = device
        self.asked: list[dict[str, Any]] = []

    def __dlpack__(self, **options: Any) -> Any:
        self.asked.append(options)
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def test_streams_and_devices():
    tensor = halfway.from_dlpack(np.zeros(3))
    assert tensor.__dlpack_device__() == (1, 0)
    for options in ({"stream": None}, {"stream": -1}, {"dl_device": (1, 0)}, {"dl_device": None}):
        assert dlpack.name_of(tensor.__dlpack__(**options)) == "dltensor"
    for options, reason in (
        ({"stream": 0}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": 2**40}, "stream"),
        ({"dl_device": (2, 0)}, "device"),
        ({"dl_device": (8, 3)}, "device"),
    ):
        with pytest.raises(ExchangeError) as caught:
            tensor.__dlpack__(**options)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    "options",
    [
        {"stream": "1"},
        {"stream": 1.0},
        {"stream": 10**30},
        {"max_version": 1},
        {"max_version": (1,)},
        {"max_version": (1, 0, 0)},
        {"max_version": [1, 0]},
        {"max_version": (1.0, 0)},
        {"max_version": ("1", "0")},
        {"dl_device": 1},
        {"dl_device": (1,)},
        {"dl_device": (1.0, 0)},
        {"copy": 1},
        {"copy": "no"},
        {"speed": 1},
    ],
)
def test_wrong_arguments_of_dlpack(options):
    tensor = halfway.from_dlpack(np.zeros(3))
    with pytest.raises(TypeError):
        tensor.__dlpack__(**options)


def test_arguments_of_dlpack_are_keywords():
    tensor: Any = halfway.from_dlpack(np.zeros(3))
    with pytest.raises(TypeError):
        tensor.__dlpack__(None)


@pytest.mark.parametrize("name", NUMPY_NATIVE)
def test_other_libraries_read_it(name):
    for layout, x in layouts(name).items():
        tensor = halfway.from_dlpack(x)
        array = np.from_dlpack(tensor)
        assert array.dtype == x.dtype
        np.testing.assert_array_equal(array, x)
        assert array.flags.writeable is x.flags.writeable
        if x.size:
            assert array.ctypes.data == x.ctypes.data
        if layout not in ("negative", "broadcast", "readonly"):
            assert np.from_dlpack(tensor, copy=True).ctypes.data != x.ctypes.data or not x.size
            there = torch.utils.dlpack.from_dlpack(tensor)
            assert contents(there) == np.array(x, order="C").tobytes()
            if x.size:
                assert there.data_ptr() == x.ctypes.data


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex32, torch.float16])
def test_torch_reads_its_own_dtypes_back(dtype):
    x = torch.ones(2, 3, dtype=dtype).T
    back = torch.utils.dlpack.from_dlpack(halfway.from_dlpack(x))
    assert back.dtype == dtype
    assert back.data_ptr() == x.data_ptr()
    assert back.stride() == x.stride()


# --- __array__


@pytest.mark.parametrize("layout", layouts())
def test_asarray_is_a_view(layout):
    x = layouts()[layout]
    tensor = halfway.from_dlpack(x)
    array = np.asarray(tensor)
    np.testing.assert_array_equal(array, x)
    assert array.flags.writeable is x.flags.writeable
    if x.size:
        assert array.ctypes.data == x.ctypes.data
    copied = np.array(tensor)
    np.testing.assert_array_equal(copied, x)
    assert copied.flags.writeable
    if x.size:
        assert not np.shares_memory(copied, x)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_asarray_of_every_dtype(name):
    memory = random_bytes(64, 1, numpy_dtype(name)).view(numpy_dtype(name))
    array = np.asarray(halfway.from_dlpack(memory))
    assert array.dtype == memory.dtype
    assert array.tobytes() == memory.tobytes()
    assert array.ctypes.data == memory.ctypes.data


def test_array_arguments():
    x = np.arange(3.0)
    tensor: Any = halfway.from_dlpack(x)
    assert tensor.__array__().ctypes.data == x.ctypes.data
    assert tensor.__array__(None, copy=None).ctypes.data == x.ctypes.data
    assert tensor.__array__(copy=False).ctypes.data == x.ctypes.data
    assert tensor.__array__("f8", copy=False).ctypes.data == x.ctypes.data
    assert tensor.__array__(copy=True).ctypes.data != x.ctypes.data
    assert tensor.__array__(dtype=np.float32).dtype == np.float32
    assert tensor.__array__(">f8").tolist() == [0, 1, 2]
    assert tensor.__array__(">f8").dtype == np.dtype(">f8")
    assert np.asarray(tensor, dtype="int8").tolist() == [0, 1, 2]
    assert tensor.__array__(np.float32, copy=True).flags.writeable
    with pytest.raises(ExchangeError) as caught:
        tensor.__array__("f4", copy=False)
    assert caught.value.reason == "dtype"
    with pytest.raises(ValueError, match=r"."):
        np.asarray(tensor, dtype="f4", copy=False)
    for call in (
        lambda: tensor.__array__("nonsense"),
        lambda: tensor.__array__(copy=1),
        lambda: tensor.__array__("f8", True),
        lambda: tensor.__array__(speed=3),
    ):
        with pytest.raises(TypeError):
            call()


def test_what_numpy_cannot_hold():
    capsule = halfway.from_dlpack(np.zeros(2, np.float64)).__dlpack__(max_version=(1, 3))
    described = dlpack.versioned(capsule).tensor.dtype
    described.bits, described.lanes = 16, 4
    tensor = halfway.from_dlpack(capsule)
    assert tensor.dtype == "float16x4"
    with pytest.raises(ExchangeError) as caught:
        np.asarray(tensor)
    assert caught.value.reason == "unsupported_dtype"


# --- the exchange table


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(Tensor)


def test_table(exchange):
    assert exchange.table.version.major == 1
    assert not exchange.table.previous
    for name in ("allocator", "from_object", "to_object", "describe", "current_stream"):
        assert getattr(exchange.table, name)
    assert exchange.current_stream(1, 0) is None


def test_table_there_and_back(exchange):
    x = np.arange(6.0).reshape(2, 3)[:, ::-1]
    gone = weakref.ref(x.base)
    tensor = halfway.from_dlpack(x)
    pointer = exchange.from_object(tensor)
    assert pointer.contents.tensor.data == x.ctypes.data
    assert pointer.contents.flags == 0
    assert pointer.contents.tensor.dims() == ((2, 3), (3, -1))
    again = exchange.to_object(pointer)
    assert type(again) is Tensor
    assert again is not tensor
    assert contents(again) == x.tobytes()
    del tensor, x
    gc.collect()
    assert gone() is not None
    del again
    gc.collect()
    assert gone() is None
    frozen = exchange.from_object(halfway.from_dlpack(readonly(np.zeros(3))))
    assert frozen.contents.flags == READ_ONLY
    assert exchange.to_object(frozen).readonly


def test_table_describes_without_owning(exchange):
    x = np.arange(6.0).reshape(2, 3).T
    tensor = halfway.from_dlpack(x)
    described = exchange.describe(tensor)
    assert described.data + described.byte_offset == x.ctypes.data
    assert described.dims() == ((3, 2), (1, 3))
    with pytest.raises(ExchangeError) as caught:
        exchange.describe(halfway.from_dlpack(readonly(np.zeros(3))))
    assert caught.value.reason == "readonly"


def test_table_takes_tensors_alone(exchange):
    for other in (np.zeros(3), torch.zeros(3), None, Tensor):
        for function in (exchange.from_object, exchange.describe):
            with pytest.raises(TypeError):
                function(other)


def test_table_refuses_malformed_structs_without_consuming_them(exchange):
    for field, value in (("ndim", 65), ("ndim", -1), ("data", None)):
        pointer = exchange.from_object(halfway.from_dlpack(np.arange(3.0)))
        kept = getattr(pointer.contents.tensor, field)
        setattr(pointer.contents.tensor, field, value)
        with pytest.raises(ExchangeError) as caught:
            exchange.to_object(pointer)
        assert caught.value.reason in ("malformed", "no_storage")
        setattr(pointer.contents.tensor, field, kept)
        assert contents(exchange.to_object(pointer)) == np.arange(3.0).tobytes()


def test_allocator(exchange):
    status, pointer, errors = exchange.allocate(dlpack.prototype((2, 3), (4, 16, 1)))
    assert (status, errors) == (0, [])
    inner = pointer.contents.tensor
    assert inner.dims() == ((2, 3), (3, 1))
    assert inner.data % 64 == 0
    assert (inner.dtype.code, inner.dtype.bits, inner.dtype.lanes) == (4, 16, 1)
    tensor = exchange.to_object(pointer)
    assert (tensor.shape, tensor.dtype, tensor.readonly) == ((2, 3), "bfloat16", False)
    np.asarray(tensor)[...] = 1
    for shape in ((), (0,), (3, 0, 2)):
        status, pointer, errors = exchange.allocate(dlpack.prototype(shape, (2, 32, 1)))
        assert (status, errors) == (0, [])
        assert exchange.to_object(pointer).shape == shape


@pytest.mark.parametrize(
    ("prototype", "kind"),
    [
        (dlpack.prototype((2, 3), (2, 32, 1), device=(2, 0)), "BufferError"),
        (dlpack.prototype((-1, 3), (2, 32, 1)), "BufferError"),
        (dlpack.prototype((2**62, 4), (2, 32, 1)), "BufferError"),
        (dlpack.prototype((2**45,), (2, 64, 1)), "MemoryError"),
        (dlpack.prototype((3,), (2, 0, 1)), "BufferError"),
    ],
)
def test_allocator_reports_errors(exchange, prototype, kind):
    status, pointer, errors = exchange.allocate(prototype)
    assert status != 0
    assert not pointer
    ((context, name, message),) = errors
    assert context == 4711
    assert name == kind
    assert message


def test_allocator_checks_ndim_before_it_reads_the_shape(exchange):
    for ndim in (-1, 65, 2**31 - 1):
        prototype = dlpack.prototype((2, 3), (2, 32, 1))
        prototype.ndim = ndim
        status, _, errors = exchange.allocate(prototype)
        assert status != 0
        assert len(errors) == 1
    prototype = dlpack.prototype((2, 3), (2, 32, 1))
    prototype.shape = None
    assert exchange.allocate(prototype)[0] != 0


# --- other people's arrays


class Old:
    """A producer from before DLPack 1.0."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, stream: None = None) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_a_legacy_producer_cannot_say_whether_it_is_writable():
    x = np.arange(3.0)
    own = halfway.from_dlpack(Old(x))
    assert own.readonly
    assert own.data_ptr == x.ctypes.data
    array = halfway.to_numpy(Old(x))
    assert not array.flags.writeable
    assert array.ctypes.data == x.ctypes.data
    assert halfway.explain(Old(x)).reasons == ("readonly",)
    assert halfway.to_torch(Old(x)).data_ptr() != x.ctypes.data
    assert halfway.to_torch(Old(x), allow_readonly=True).data_ptr() == x.ctypes.data
    with pytest.raises(ExchangeError) as caught:
        halfway.to_torch(Old(x), copy=False)
    assert caught.value.reasons == ("readonly",)


def test_the_newest_version_is_asked_for_first():
    box = Box(halfway.from_dlpack(np.zeros(3)).__dlpack__(max_version=(1, 0)))
    halfway.from_dlpack(box)
    assert box.asked[0]["max_version"] >= (1, 0)
    assert len(box.asked) == 1


def test_a_producer_without_dlpack_device():
    class Bare:
        def __dlpack__(self, **options: Any) -> Any:
            return np.arange(3.0).__dlpack__(**options)

    assert np.asarray(halfway.from_dlpack(Bare())).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("producer", "reason"),
    [
        (lambda: Box(None), "malformed"),
        (lambda: Box(3), "malformed"),
        (lambda: Box("capsule"), "malformed"),
        (lambda: Box(np.zeros(3).__dlpack__(), device=(8, 0)), "device"),
        (lambda: Box(np.zeros(3).__dlpack__(), device="cpu"), "malformed"),  # type: ignore[arg-type]
    ],
)
def test_producers_that_break_the_protocol(producer, reason):
    for function in (halfway.to_torch, halfway.to_numpy, halfway.from_dlpack, halfway.explain):
        with pytest.raises(ExchangeError) as caught:
            function(producer())
        assert caught.value.reason == reason


def test_a_producers_own_error_is_the_callers():
    class Sour:
        def __dlpack__(self, **options: Any) -> Any:
            raise KeyError("mine")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    class Odd(Sour):
        def __dlpack__(self, **options: Any) -> Any:
            raise TypeError("not about arguments")

    for function in (halfway.to_torch, halfway.to_numpy, halfway.from_dlpack, halfway.explain):
        with pytest.raises(KeyError, match="mine"):
            function(Sour())
        with pytest.raises(TypeError, match="not about arguments"):
            function(Odd())


def test_capsules_are_consumed_once():
    for version in (None, (1, 0)):
        x = np.arange(3.0)
        capsule = halfway.from_dlpack(x).__dlpack__(max_version=version)
        tensor = halfway.from_dlpack(capsule)
        assert tensor.data_ptr == x.ctypes.data
        assert tensor.readonly is (version is None)
        assert dlpack.name_of(capsule).startswith("used_")
        for function in (halfway.to_torch, halfway.to_numpy, halfway.from_dlpack, halfway.explain):
            with pytest.raises(ExchangeError) as caught:
                function(capsule)
            assert caught.value.reason == "consumed"


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8", "bool", "float8_e5m2"])
def test_tvm_ffi(name):
    x = np.ones((2, 3), numpy_dtype(name))
    theirs = tvm_ffi.from_dlpack(halfway.from_dlpack(x))
    assert isinstance(theirs, tvm_ffi.Tensor)
    own = halfway.from_dlpack(theirs)
    assert own.dtype == name
    assert own.data_ptr == x.ctypes.data
    assert halfway.to_numpy(theirs).tolist() == x.tolist()
    assert halfway.to_torch(theirs).data_ptr() == x.ctypes.data
    assert type(halfway.cast(theirs, "float16")) is Tensor


def test_types_inherit_no_table_that_does_not_fit():
    class Wrong:
        __dlpack_c_exchange_api__: Any = "not a capsule"

        def __dlpack__(self, **options: Any) -> Any:
            return np.arange(3.0).__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    assert np.asarray(halfway.from_dlpack(Wrong())).tolist() == [0, 1, 2]

    class Borrowed(Wrong):
        __dlpack_c_exchange_api__ = Tensor.__dlpack_c_exchange_api__

    with pytest.raises(TypeError):  # the table's own error: it does not know this type
        halfway.from_dlpack(Borrowed())
