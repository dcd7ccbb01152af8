"""Every layout, dtype and target: NumPy's values, and what explain() says is what happens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.python.oracle import CASTABLE, IN_NUMPY, NUMPY_NATIVE, numpy_dtype
from tests.python.strategies import (
    EXCHANGE,
    IN_TORCH,
    Made,
    address_of,
    contents,
    name_of,
    numpy_arrays,
    random_bytes,
    steady,
    strided,
    torch_tensors,
)

import halfway
from halfway import Cast, CastError, ExchangeError, Plan, Report

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

HAS: dict[str, tuple[str, ...]] = {
    "torch": tuple(IN_TORCH),
    "numpy": tuple(IN_NUMPY),
    "halfway": CASTABLE,
}
libraries = st.sampled_from(["torch", "numpy", "halfway"])
sources = st.one_of(numpy_arrays(), torch_tensors())


def plan_of(x: Any, to: str, **wish: Any) -> Plan | ExchangeError:
    try:
        return halfway.explain(x, to=to, **wish)  # type: ignore[arg-type]
    except ExchangeError as error:
        return error


def refusal(x: Any, to: str, **wish: Any) -> ExchangeError | None:
    try:
        EXCHANGE[to](x, **wish)
    except ExchangeError as error:
        return error
    return None


def behind_halfway(made: Made) -> Made:
    """The same values in a halfway.Tensor, whose memory is the source's where that can be."""
    return Made(halfway.from_dlpack(made.array), made.values)


def plain(made: Made) -> Any:
    """The values alone: row-major, native, aligned."""
    if made.values.dtype.names:  # complex32
        halves = torch.from_numpy(made.values.ravel().view(np.float16).reshape(*made.values.shape, 2))
        return torch.view_as_complex(halves)
    return made.values


def is_writable(result: Any) -> bool:
    if isinstance(result, np.ndarray):
        return bool(result.flags.writeable)
    return True if isinstance(result, torch.Tensor) else not result.readonly


def check_values(result: Any, made: Made, dtype: str) -> None:
    assert name_of(result) == dtype
    assert tuple(result.shape) == made.values.shape
    if result is not made.array:  # which may be lazily conjugated or negated, and stays so
        assert contents(result) == made.values.tobytes()


# --- no options


@steady
@given(made=sources, to=libraries, through_halfway=st.booleans())
def test_without_options(made, to, through_halfway):
    if through_halfway:
        made = behind_halfway(made)
    x = made.array
    plan = plan_of(x, to)
    if isinstance(plan, ExchangeError):
        assert plan.reason == "unsupported_dtype"
        assert name_of(x) not in HAS[to]
        error = refusal(x, to)
        assert error is not None
        assert (str(error), error.reasons) == (str(plan), plan.reasons)
        return
    result = EXCHANGE[to](x)
    check_values(result, made, name_of(x))
    assert plan.zero_copy == (not plan.reasons)
    if made.values.size:
        assert (address_of(result) == address_of(x)) == plan.zero_copy
    error = refusal(x, to, copy=False)
    assert (error.reasons if error else ()) == plan.reasons
    if to == "halfway" and not through_halfway:
        assert result.reasons == plan.reasons
    if not plan.zero_copy:
        assert is_writable(result)


@steady
@given(made=numpy_arrays(), to=libraries)
def test_reasons_of_numpy_arrays(made, to):
    """The obstacles, found here by NumPy's own attributes."""
    x = made.array
    if name_of(x) not in HAS[to]:
        return
    item = x.dtype.itemsize
    real = [(n, s) for n, s in zip(x.shape, x.strides, strict=True) if n > 1 and x.size]
    expected = set()
    if to != "numpy":
        if not x.dtype.isnative:
            expected.add("byte_order")
        if any(stride % item for _, stride in real):
            expected.add("fractional_strides")
    if to == "torch":
        if any(stride < 0 for _, stride in real):
            expected.add("negative_strides")
        if x.size and not x.flags.aligned:
            expected.add("misaligned")
        if not x.flags.writeable:
            expected.add("readonly")
    plan = halfway.explain(x, to=to)
    assert set(plan.reasons) == expected
    assert plan.zero_copy == (not expected)


@steady
@given(made=numpy_arrays())
def test_allow_readonly_aliases(made):
    x = made.array
    if name_of(x) not in HAS["torch"]:
        return
    strict = halfway.explain(x)
    plan = halfway.explain(x, allow_readonly=True)
    assert set(plan.reasons) == set(strict.reasons) - {"readonly"}
    tensor = halfway.to_torch(x, allow_readonly=True)
    if x.size:
        assert (tensor.data_ptr() == x.ctypes.data) == plan.zero_copy
    check_values(tensor, made, name_of(x))


@steady
@given(made=sources, to=libraries)
def test_copy_true_never_shares(made, to):
    x = made.array
    if name_of(x) not in HAS[to]:
        return
    plan = halfway.explain(x, to=to, copy=True)
    assert "copy_requested" in plan.reasons
    result = EXCHANGE[to](x, copy=True)
    check_values(result, made, name_of(x))
    assert is_writable(result)
    if made.values.size:
        assert address_of(result) != address_of(x)
    if isinstance(result, np.ndarray) and "resolve" not in [step.kind for step in plan.steps]:
        assert result.flags.c_contiguous
        assert result.flags.aligned
        assert result.dtype.isnative


@steady
@given(made=sources)
def test_resolving_leaves_the_source_alone(made):
    x = made.array
    if not isinstance(x, torch.Tensor):
        return
    lazy = (x.is_conj(), x.is_neg(), x.requires_grad)
    before = contents(x)
    for to in ("halfway", "numpy"):
        if name_of(x) in HAS[to]:
            result = EXCHANGE[to](x)
            assert contents(result) == made.values.tobytes()
    assert (x.is_conj(), x.is_neg(), x.requires_grad) == lazy
    assert contents(x) == before


# --- another dtype


def recast(x: Any, recipe: Cast, to: str, **more: Any) -> Any:
    if to == "torch":
        return halfway.to_torch(x, recipe, **more)
    if to == "numpy":
        return halfway.to_numpy(x, recipe, **more)
    return halfway.cast(x if isinstance(x, halfway.Tensor) else halfway.from_dlpack(x), recipe, **more)


@steady
@given(made=sources, to=libraries, dtype=st.sampled_from(CASTABLE), saturate=st.booleans())
def test_with_dtype(made, to, dtype, saturate):
    x = made.array
    recipe = Cast(dtype, casting="unsafe", overflow="saturate" if saturate else "default")
    source = halfway.from_dlpack(x) if to == "halfway" else x
    plan = plan_of(source, to, dtype=recipe)
    if isinstance(plan, ExchangeError):
        assert plan.reasons == ("unsupported_dtype",)
        assert dtype not in HAS[to]
        with pytest.raises(ExchangeError):
            recast(x, recipe, to)
        return
    reference_report, report = Report(), Report()
    reference = halfway.cast(halfway.from_dlpack(plain(made)), recipe, report=reference_report)
    result = recast(source, recipe, to, report=report)
    assert name_of(result) == plan.dtype == dtype
    assert tuple(result.shape) == plan.shape == made.values.shape
    if result is not x:  # which may be lazily conjugated or negated, and stays so
        assert contents(result) == contents(reference)
    assert ("dtype" in plan.reasons) == (name_of(x) != dtype)
    if made.values.size:
        assert (address_of(result) == address_of(source)) == plan.zero_copy
    if name_of(x) != dtype:
        assert report == reference_report
    try:
        recast(source, recipe, to, copy=False)
    except ExchangeError as error:
        assert error.reasons == plan.reasons
    else:
        assert plan.zero_copy


@steady
@given(made=sources, dtype=st.sampled_from(CASTABLE))
def test_plan_tells_the_bytes(made, dtype):
    plan = halfway.explain(made.array, Cast(dtype, casting="unsafe"), to="halfway")
    size = 4 if dtype == "complex32" else numpy_dtype(dtype).itemsize
    last = plan.steps[-1]
    if plan.zero_copy:
        assert [step.kind for step in plan.steps] == ["alias"]
        assert plan.bytes_read == plan.bytes_written == 0
    else:
        assert last.bytes_written == made.values.size * size
        assert last.bytes_read == made.values.nbytes
        assert last.kind in ("cast", "copy", "resolve")
        assert (last.kind == "cast") == (plan.source != plan.dtype)
    assert plan.bytes_read == sum(step.bytes_read for step in plan.steps)
    assert plan.bytes_written == sum(step.bytes_written for step in plan.steps)
    assert plan.bytes_wire == 0


# --- into out=


@st.composite
def destinations(draw: st.DrawFn, shape: tuple[int, ...], name: str, library: str) -> tuple[Any, Any, Any]:
    """A destination without overlaps, the bytes around it, and a mask of those that are its own."""
    dtype = np.dtype("V4") if name == "complex32" else numpy_dtype(name)
    item = dtype.itemsize
    free = library != "torch"
    order = draw(st.permutations(range(len(shape))))
    strides = [0] * len(shape)
    reach = item + (draw(st.sampled_from([0, 0, 1])) if library == "numpy" else 0)
    offset = draw(st.integers(0, 2)) * item
    for axis in reversed(order):
        step = reach * draw(st.sampled_from([1, 1, 2]))
        extent = max(shape[axis] - 1, 0) * step
        if free and draw(st.booleans()):
            offset += extent
            step = -step
        strides[axis] = step
        reach += extent
    misaligned = draw(st.sampled_from([0, 0, 1])) if free else 0
    size = -(-(offset + reach + misaligned + 8) // item) * item + item
    memory = random_bytes(size, 1, np.dtype(np.uint8))
    mask = np.zeros(size, np.bool_)
    own = np.ndarray(shape, f"V{item}", buffer=mask.data, offset=offset + misaligned, strides=strides)
    own[...] = np.frombuffer(b"\1" * item, f"V{item}")[0]
    if library == "torch":
        steps = [stride // item for stride in strides]
        whole = torch.from_numpy(memory).view(getattr(torch, name))
        return whole.as_strided(shape, steps, offset // item), memory, mask
    swapped = library == "numpy" and name in NUMPY_NATIVE and draw(st.booleans()) and item > 1
    if swapped:
        dtype = dtype.newbyteorder("S")
    array: np.ndarray[Any, Any] = np.ndarray(
        shape, dtype, buffer=memory.data, offset=offset + misaligned, strides=strides
    )
    return (array if library == "numpy" else halfway.from_dlpack(array)), memory, mask


@steady
@given(made=sources, to=libraries, dtype=st.sampled_from([*CASTABLE, None]), data=st.data())
def test_out(made, to, dtype, data):
    x = made.array
    own = dtype or name_of(x)
    if own not in HAS[to] or (own == "complex32" and to != "torch"):
        return
    out, memory, mask = data.draw(destinations(made.values.shape, own, to))
    before = memory.copy()
    options: dict[str, Any] = {"casting": "unsafe"}
    recipe = Cast(own, casting="unsafe")
    reference = halfway.cast(halfway.from_dlpack(plain(made)), recipe)
    version = out._version if to == "torch" else 0
    plan = halfway.explain(x, out=out, to=to, **options)
    assert "copy_requested" in plan.reasons
    assert not plan.zero_copy
    if to == "halfway":
        assert halfway.cast(halfway.from_dlpack(x), own, out=out, **options) is out
    else:
        assert EXCHANGE[to](x, out=out, **options) is out
    assert contents(out) == contents(reference)
    assert np.array_equal(memory[~mask], before[~mask])
    assert to != "torch" or out._version > version


@steady
@given(
    data=st.data(),
    source=st.sampled_from(["float32", "uint8", "float64", "int16"]),
    target=st.sampled_from(["float32", "uint8", "float16"]),
    length=st.integers(1, 6),
)
def test_out_that_overlaps_is_refused_or_right(data, source, target, length):
    memory = random_bytes(256, 3, np.dtype(np.uint8))
    views = []
    for name in (source, target):
        dtype = np.dtype(name)
        stride = data.draw(st.integers(-12, 12))
        reach = abs(stride) * (length - 1)
        start = data.draw(st.integers(0, 64)) + (reach if stride < 0 else 0)
        views.append(np.ndarray((length,), dtype, buffer=memory.data, offset=start, strides=(stride,)))
    x, out = views
    before, values = memory.copy(), x.copy()
    want = halfway.cast(values, Cast(target, casting="unsafe"))
    apart = not np.shares_memory(x, out)
    same_start = x.ctypes.data == out.ctypes.data and x.itemsize == out.itemsize
    same_places = same_start and (length == 1 or x.strides == out.strides)
    identical = source == target and same_places
    distinct = length == 1 or abs(out.strides[0]) >= out.itemsize
    try:
        halfway.to_numpy(x, out=out, casting="unsafe")
    except ExchangeError as error:
        assert error.reason == "overlap"
        assert not (apart and distinct) or ranges_meet(x, out)
        assert not (same_places and distinct)
        assert np.array_equal(memory, before)
    else:
        assert distinct or identical
        assert apart or same_places
        assert contents(out) == contents(want)


def ranges_meet(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    low_a, high_a = np.lib.array_utils.byte_bounds(a)
    low_b, high_b = np.lib.array_utils.byte_bounds(b)
    return low_a < high_b and low_b < high_a


@steady
@given(made=numpy_arrays(("float32", "int64", "uint8")), data=st.data())
def test_out_whose_elements_share_memory_is_refused(made, data):
    x = made.array
    shape, strides, offset, size = data.draw(strided(8, negative=True, fractional=False))
    broadcast = any(n > 1 and s == 0 for n, s in zip(shape, strides, strict=True)) and 0 not in shape
    memory = random_bytes(size, 4, np.dtype(np.uint8))
    out = np.ndarray(shape, np.float64, buffer=memory.data, offset=offset, strides=strides)
    if x.shape != shape:
        x = np.zeros(shape, x.dtype)
    before = memory.copy()
    if broadcast:
        with pytest.raises(ExchangeError) as caught:
            halfway.to_numpy(x, out=out)
        assert caught.value.reason == "overlap"
        assert np.array_equal(memory, before)
    else:
        halfway.to_numpy(x, out=out)
        assert np.array_equal(out, x, equal_nan=True)


@steady
@given(
    made=numpy_arrays(("float32", "int32", "float64", "int64", "float16", "bfloat16", "uint8", "complex64")),
    target=st.sampled_from(["float32", "int32", "float64", "int64", "float16", "bfloat16", "int8", "complex64"]),
    swapped=st.booleans(),
    level=st.sampled_from(["unsafe", "same_value"]),
    data=st.data(),
)
def test_out_in_place(made, target, swapped, level, data):
    """Each element becomes its image where it is, or nothing changes; also where permute= turns the axes back."""
    x = made.array
    permute = data.draw(st.none() | st.permutations(range(x.ndim)).map(tuple))
    source = x if permute is None else x.transpose(np.argsort(permute))
    dtype = numpy_dtype(target)
    distinct = not any(n > 1 and abs(s) < x.itemsize for n, s in zip(x.shape, x.strides, strict=True))
    if x.itemsize != dtype.itemsize or not x.flags.writeable or not x.size or not distinct:
        return
    out = x.view(dtype.newbyteorder("S") if swapped and target in NUMPY_NATIVE else dtype)
    before = x.tobytes()
    recipe = Cast(target, casting=level, permute=permute)
    try:
        want = halfway.cast(made.values.copy(), Cast(target, casting=level))
    except CastError as error:
        with pytest.raises(CastError) as caught:
            halfway.to_numpy(source, recipe, out=out)
        turned = error.index if permute is None else tuple(error.index[permute.index(i)] for i in range(x.ndim))
        assert caught.value.index == turned
        assert x.tobytes() == before
        return
    try:
        assert halfway.to_numpy(source, recipe, out=out) is out
    except ExchangeError as error:
        assert error.reason == "overlap"  # dimensions that fold onto each other
        assert np.unique(offsets(x)).size < x.size or x.ndim > 1
        assert x.tobytes() == before
    else:
        assert contents(out) == contents(want)


def offsets(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where each element begins."""
    places = np.zeros(x.shape, np.int64)
    for axis, stride in enumerate(x.strides):
        steps = np.arange(x.shape[axis]) * stride
        places += steps.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return places


def test_out_in_place_examples():
    x = np.array([1.5, -2.0, 1e10], np.float32)
    halfway.to_numpy(x, out=x.view(np.int32), casting="unsafe")
    assert x.view(np.int32).tolist() == [1, -2, 2**31 - 1]
    big_endian = np.arange(5000, dtype=">f8")
    halfway.to_numpy(big_endian, out=big_endian.view("<f8"))
    assert np.array_equal(big_endian.view("<f8"), np.arange(5000.0))
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    halfway.to_torch(tensor.T, out=tensor.view(torch.int32).T, casting="unsafe")
    assert tensor.view(torch.int32).tolist() == [[0, 1, 2], [3, 4, 5]]
    # the same memory in another order, or with other steps, is not the same places
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    for source, out in ((square, square.view(np.int32).T), (square[0], square.view(np.float16)[0, :3])):
        with pytest.raises(ExchangeError) as caught:
            halfway.to_numpy(source, out=out, casting="unsafe")
        assert caught.value.reason == "overlap"
        assert "in place" in caught.value.hint
    assert square.ravel().tolist() == list(range(9))


@pytest.mark.parametrize("shape", [(2, 2), (50, 50), (700, 700), (4, 4, 4), (90, 90, 90)])
@pytest.mark.parametrize("keywords", [{}, {"scale": 1.0}])
def test_permute_where_it_lies(shape, keywords):
    """Places are compared after permuting: a square is not transposed in place, what permute= turns back is."""
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    values = x.copy()
    order = tuple(reversed(range(x.ndim)))
    for out in (x, x.view(np.int32), x.view(">f4")):
        with pytest.raises(ExchangeError) as caught:
            halfway.to_numpy(x, out=out, permute=order, casting="unsafe", **keywords)
        assert caught.value.reason == "overlap"
    with pytest.raises(ExchangeError) as caught:
        halfway.to_torch(torch.from_numpy(x), out=torch.from_numpy(x), permute=order, **keywords)
    assert caught.value.reason == "overlap"
    assert (x == values).all()
    assert halfway.to_numpy(x.T, out=x, permute=order, **keywords) is x
    assert (x == values).all()
    halfway.to_numpy(x.T, out=x.view(np.int32), permute=order, casting="unsafe", **keywords)
    assert (x.view(np.int32) == values).all()


# --- larger than a tile, a block and what is written past the caches


def transposed(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.T


LAYOUTS: dict[str, Any] = {
    "transposed": transposed,
    "transposed columns": lambda x: x[:, ::2].T,
    "columns": lambda x: x[:, ::2],
    "upside down": lambda x: x[::-1],
    "reversed": lambda x: x[:, ::-1],
    "turned round": lambda x: x[::-1, ::-1].T,
    "pixels": lambda x: x[:, : x.shape[1] // 12 * 12].reshape(-1, 4, x.shape[1] // 12, 3).transpose(0, 3, 1, 2),
    "planes": lambda x: x[:, : x.shape[1] // 12 * 12].reshape(-1, 3, 4, x.shape[1] // 12).transpose(0, 2, 3, 1),
    "few columns": lambda x: x[:, 3:8],
}


@pytest.mark.parametrize("shape", [(33, 65), (257, 511), (1500, 3010)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("<f4", "float16"),
        (">f4", "float32"),
        (">f8", "float32"),
        ("u1", "float32"),
        ("<i2", "int64"),
        ("<c8", "complex64"),
    ],
)
def test_layouts_of_any_size(shape, layout, source, target):
    rng = np.random.default_rng(5)
    base = rng.integers(0, 200, shape).astype(source)
    if source == "<c8":
        base = base * np.complex64(1j)
    x = LAYOUTS[layout](base)
    expected = x.astype(target).tobytes()
    assert contents(halfway.to_numpy(x, target, copy=True)) == expected
    out = np.empty(x.shape, np.dtype(target).newbyteorder("S"))
    assert contents(halfway.to_numpy(x, out=out)) == expected


@pytest.mark.parametrize("itemsize", [3, 5, 8, 12, 24, 29])
def test_fields_of_any_structure(itemsize):
    record = np.dtype({"names": ["a"], "formats": [">f2"], "offsets": [itemsize - 2], "itemsize": itemsize})
    x = np.zeros(3000, record)
    x["a"] = np.arange(3000) % 1024
    for out in (halfway.to_numpy(x["a"], "float32"), halfway.to_numpy(x["a"][::-1], "float32")[::-1]):
        assert np.array_equal(out, np.arange(3000) % 1024)


def test_out_in_place_same_dtype_is_a_no_op():
    x = np.arange(6.0)
    assert halfway.to_numpy(x, out=x) is x
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ExchangeError) as caught:
        halfway.to_numpy(x, out=x[::-1])
    assert caught.value.reason == "overlap"
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


# --- dimensions and subclasses


@pytest.mark.parametrize("ndim", [0, 1, 8, 9, 25, 32, 33, 63, 64])
def test_many_dimensions(ndim):
    shape = [1] * ndim
    for axis in range(0, ndim, 13):
        shape[axis] = 2
    try:
        x = np.arange(2 ** shape.count(2), dtype=np.float32).reshape(shape)
    except ValueError:
        assert ndim > 32
        return
    for array in (x, x.T, x.transpose(np.random.default_rng(0).permutation(ndim))):
        values = array.tobytes()
        tensor = halfway.to_torch(array)
        assert contents(tensor) == values
        assert tensor.data_ptr() == array.ctypes.data
        assert contents(halfway.to_numpy(tensor)) == values
        own = halfway.from_dlpack(array)
        assert contents(own) == values
        assert contents(halfway.cast(own, "float64")) == array.astype("float64").tobytes()
        assert contents(halfway.cast(tensor, "bfloat16")) == contents(halfway.cast(array, "bfloat16"))


def test_strides_of_length_one_and_empty_dimensions_do_not_matter():
    odd = np.lib.stride_tricks.as_strided(np.arange(4.0), (1, 4, 1), (-3, 8, 12345))
    for array in (odd, odd[:, ::2], odd[:, :0], odd[:, :0][::-1]):
        plan = halfway.explain(array)
        assert plan.zero_copy, plan
        tensor = halfway.to_torch(array)
        assert contents(tensor) == array.tobytes()
        assert contents(halfway.from_dlpack(array)) == array.tobytes()


def test_empty_arrays_with_obstacles_that_do_not_matter():
    for array in (np.zeros((3, 0))[::-1], np.zeros((0, 3))[:, ::-1], np.zeros(0, "f4,f8")["f1"]):
        assert halfway.explain(array).zero_copy
        assert halfway.to_torch(array, copy=False).shape == array.shape
        assert halfway.to_torch(array, "bfloat16").shape == array.shape


def test_plain_subclasses(tmp_path):
    class Named(np.ndarray):
        pass

    mapped = np.memmap(tmp_path / "data", np.float32, "w+", shape=(4, 3))
    for x in (
        np.arange(12.0).view(Named),
        np.eye(3).view(np.matrix),
        mapped,
        np.arange(4.0).view(np.recarray),
    ):
        tensor = halfway.to_torch(x)
        assert tensor.data_ptr() == x.ctypes.data
        tensor.fill_(3)
        assert (np.asarray(x) == 3).all()
        assert halfway.to_numpy(x) is x
    reading = np.memmap(tmp_path / "data", np.float32, "r", shape=(4, 3))
    assert halfway.explain(reading).reasons == ("readonly",)
    assert halfway.from_dlpack(reading).readonly


def test_levels_do_not_depend_on_the_layout():
    for x in (np.zeros((2, 3)), np.zeros((2, 3))[::-1], np.zeros((2, 3), ">f8")):
        with pytest.raises(CastError):
            halfway.to_torch(x, "int32")
        with pytest.raises(CastError):
            halfway.to_torch(x, out=torch.zeros(2, 3, dtype=torch.int32))
