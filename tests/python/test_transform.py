"""Scale, shift, permuted axes, images and stochastic rounding, against exact and re-implemented arithmetic."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import halfway

BF16 = np.dtype(ml_dtypes.bfloat16)
HALVES = [np.dtype(np.float16), BF16]


def rounded(value: Fraction, dtype: np.dtype[Any]) -> float:
    """The nearest number of a float dtype, ties to even, by exact comparison of neighbours. Finite results alone."""
    digits, smallest = {"float32": (24, -149), "float64": (53, -1074), "float16": (11, -24), "bfloat16": (8, -133)}[
        dtype.name
    ]
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, smallest)
    steps = round(magnitude / unit)  # Fraction rounds half to even
    return float(steps * unit) * (1 if value > 0 else -1)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    st.floats(-100, 100, width=32),
    st.floats(-100, 100, width=32),
    st.sampled_from(HALVES),
)
def test_two_roundings_and_no_more(values: list[float], scale: float, shift: float, dtype: np.dtype[Any]) -> None:
    x = np.array(values, dtype=np.float32)
    made = halfway.cast(x, dtype, scale=scale, shift=shift, overflow="saturate").astype(np.float64)
    largest = float(ml_dtypes.finfo(dtype).max)
    for value, result in zip(x.tolist(), made.tolist(), strict=True):
        y = rounded(Fraction(value) * Fraction(scale) + Fraction(shift), np.dtype(np.float32))
        assert result == max(-largest, min(largest, rounded(Fraction(y), dtype)))


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    st.floats(-1e3, 1e3),
    st.floats(-1e3, 1e3),
)
def test_wide_sources_are_computed_in_double(values: list[int], scale: float, shift: float) -> None:
    x = np.array(values, dtype=np.int64)
    made = halfway.cast(x, np.float32, scale=scale, shift=shift)
    for value, result in zip(values, made.tolist(), strict=True):
        start = rounded(Fraction(value), np.dtype(np.float64))
        y = rounded(Fraction(start) * Fraction(scale) + Fraction(shift), np.dtype(np.float64))
        assert result == rounded(Fraction(y), np.dtype(np.float32))


@st.composite
def arrays_with_axes(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], int, tuple[int, ...] | None]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    dtype = draw(st.sampled_from(["u1", "<f4", ">f4", "<i2", "f2"]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.integers(0, 100, size=shape).astype(dtype)
    x = x.transpose(draw(st.permutations(range(len(shape)))))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, -1, 2]))) for _ in shape)]
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    permute = draw(st.none() | st.permutations(range(x.ndim)).map(tuple))
    return x, axis, permute


@given(arrays_with_axes())
def test_axes_as_numpy_reads_them(case: tuple[np.ndarray[Any, Any], int, tuple[int, ...] | None]) -> None:
    x, axis, permute = case
    scale = np.arange(1, x.shape[axis] + 1) / 4
    shift = np.arange(x.shape[axis]) * 3.0
    along = [1] * x.ndim
    along[axis] = -1
    expected = x.astype(np.float64) * scale.reshape(along) + shift.reshape(along)  # all exact
    if permute is not None:
        expected = expected.transpose(permute)
    recipe = halfway.Cast("float32", scale=scale, shift=shift, axis=axis, permute=permute)
    for made in (halfway.to_numpy(x, recipe), halfway.to_torch(x, recipe).numpy()):
        assert made.shape == expected.shape
        assert (made == expected).all()
        assert permute is None or made.flags.c_contiguous
    out = np.empty(expected.shape[::-1], np.float32).T
    assert halfway.to_numpy(x, recipe, out=out) is out
    assert (out == expected).all()


def test_permute_alone_moves_bits() -> None:
    x = np.arange(24, dtype=np.uint32).reshape(2, 3, 4) | 0x7FC00000
    moved = halfway.to_numpy(x.view(np.float32), permute=(2, 0, 1))
    assert (moved.view(np.uint32) == x.transpose(2, 0, 1)).all()
    assert halfway.to_torch(torch.zeros(2, 3), permute=(-1, 0)).shape == (3, 2)
    packed = halfway.to_numpy(x, permute=(0, 1, 2))  # nothing to move: the same memory
    assert np.shares_memory(packed, x)


def test_explain_says_what_happens() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    plan = halfway.explain(x, "bf16", permute=(2, 0, 1), scale=[1, 2, 3], axis=1)
    assert plan.reasons == ("dtype", "permute", "affine")
    assert plan.shape == (2, 3, 4)
    assert plan.result_shape == (4, 2, 3)
    assert [step.how for step in plan.steps] == ["permute (2, 0, 1), affine along axis 1"]
    assert "-> torch bfloat16 (4, 2, 3): one pass" in str(plan)
    same = halfway.explain(x, scale=2)
    assert (same.reasons, [step.kind for step in same.steps]) == (("affine",), ["cast"])
    assert halfway.explain(x, permute=(0, 1, 2)).zero_copy
    assert halfway.explain(x, "f2", rounding="stochastic", seed=1).steps[0].how == "stochastic"
    for keywords, reason in (({"scale": 2.0}, "affine"), ({"permute": (1, 0, 2)}, "permute")):
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.to_torch(x, copy=False, **keywords)
        assert caught.value.reasons == (reason,)


def test_losses_are_named_in_the_source_s_axes() -> None:
    x = np.ones((2, 3), np.float32)
    x[1, 2] = 50000
    with pytest.raises(halfway.CastError, match="scaled and shifted") as caught:
        halfway.cast(x, "float16", scale=2.0, overflow="raise", permute=(1, 0))
    assert (caught.value.index, caught.value.value) == ((1, 2), "50000")


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"scale": "2"}, TypeError, "scale must be a number"),
        ({"scale": True}, TypeError, "scale must be a number"),
        ({"shift": 1j}, TypeError, "shift must be a number"),
        ({"scale": [[1.0]]}, ValueError, "2 dimensions"),
        ({"scale": [1.0, 2.0]}, ValueError, "axis="),
        ({"scale": [1.0], "shift": [1.0, 2.0], "axis": 0}, ValueError, "1 numbers"),
        ({"scale": float("nan")}, ValueError, "not finite"),
        ({"shift": [0.0, float("inf")], "axis": 0}, ValueError, r"shift\[1\] is not finite"),
        ({"axis": 0}, ValueError, "axis="),
        ({"axis": 0.5, "scale": [1]}, TypeError, "axis must be an int"),
        ({"permute": 1}, TypeError, "sequence of axes"),
        ({"permute": "01"}, TypeError, "sequence of axes"),
        ({"permute": (0, 0)}, ValueError, "twice"),
        ({"permute": (0,)}, ValueError, "names 1 axes"),
        ({"permute": (0, 2)}, ValueError, "axis 2"),
        ({"permute": ()}, ValueError, "names 0 axes"),
        ({"scale": [1, 2, 3], "axis": 0}, ValueError, "3 numbers, but axis 0 of the source has 2"),
        ({"scale": [1, 2, 3], "axis": 2}, ValueError, "no axis"),
        ({"rounding": "up"}, ValueError, "'nearest', 'stochastic'"),
        ({"rounding": "stochastic"}, ValueError, "seed="),
        ({"seed": 1}, ValueError, "stochastic"),
        ({"rounding": "stochastic", "seed": -1}, ValueError, "2\\*\\*64"),
        ({"rounding": "stochastic", "seed": 2**64}, ValueError, "2\\*\\*64"),
        ({"rounding": "stochastic", "seed": 1.0}, TypeError, "seed must be an int"),
    ],
)
def test_misuse(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        halfway.to_torch(np.zeros((2, 3), np.float32), "float16", **keywords)


TINY = np.float32(2.0**-140)  # no normal number of float32


def numbers(*values: float) -> list[Any]:
    """The same numbers as whatever may stand for scale= or shift=."""
    single = np.array(values, np.float32)
    tensor = torch.from_numpy(single.copy())
    return [
        list(values),
        tuple(single),
        [values[0], *(torch.tensor(value) for value in values[1:])],
        single,
        single.astype(np.float64),
        single.astype(">f4"),
        np.repeat(single, 2)[::2],
        tensor,
        tensor.double().requires_grad_(),
        halfway.from_dlpack(single.copy()),
    ]


def test_where_numbers_come_from() -> None:
    for scale in numbers(0.5, -3.0, 1e-30):
        recipe = halfway.Cast("f4", scale=scale, axis=0)
        assert isinstance(recipe.scale, tuple)
        assert np.array_equal(np.float32(recipe.scale), np.float32([0.5, -3.0, 1e-30]))
    halves = torch.tensor([0.5, 2.0], dtype=torch.bfloat16)
    assert halfway.Cast("f4", scale=halves, axis=0).scale == (0.5, 2.0)
    assert halfway.Cast("f4", scale=halves[1]).scale == 2.0
    assert halfway.Cast("f4", scale=ml_dtypes.bfloat16(0.5)).scale == 0.5
    assert halfway.Cast("f4", scale=halfway.to_numpy(halves), axis=0).scale == (0.5, 2.0)
    assert halfway.Cast("f4", scale=range(3), axis=0).scale == (0.0, 1.0, 2.0)
    assert halfway.Cast("f4", scale=Fraction(1, 4), shift=np.int8(-3)).scale == 0.25
    assert halfway.Cast("f8", scale=2**64, shift=[2**63, 10**300], axis=0).scale == 2.0**64


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_any_floating_point_mode_gives_the_same_bits(dtype: str) -> None:
    """Frameworks flush what is subnormal: not what we are given."""
    x = np.array([[2.0**100, 2.0**120, -1.0]], np.float32)
    scales = [TINY, np.array(TINY), torch.tensor(TINY), float(TINY)]
    along = [np.full(3, TINY), torch.full((3,), float(TINY)), [TINY] * 3, np.full(3, TINY).astype(">f4")]
    expected = halfway.to_numpy(x.astype(np.float64) * 2.0**-140, dtype)
    assert torch.set_flush_denormal(True)
    try:
        for scale in scales:
            made = halfway.to_numpy(x, dtype, scale=scale)
            collated = halfway.collate([x], dtype, to="numpy", scale=scale)
            assert made.tobytes() == collated.tobytes() == expected.tobytes()
        for scale in along:
            made = halfway.to_numpy(x, dtype, scale=scale, axis=1)
            assert made.tobytes() == expected.tobytes()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("source", ["float32", "uint8", "bfloat16", "int16"])
def test_numbers_that_float32_cannot_hold(source: str) -> None:
    x = halfway.to_numpy(np.zeros((2, 3), np.float32), source, casting="unsafe")
    for keywords, words in (
        ({"scale": 1e39}, "scale=1e+39"),
        ({"shift": -1e300}, "shift=-1e+300"),
        ({"scale": [1.0, 2.0, 4e38], "axis": 1}, "scale[2]=4e+38"),
    ):
        for call in (halfway.cast, halfway.to_torch, halfway.explain, halfway.collate):
            with pytest.raises(ValueError, match="exceeds float32, in which " + source) as caught:
                call([x] if call is halfway.collate else x, "bf16", **keywords)
            assert words in str(caught.value)
        out = np.ones((2, 3), np.float32)
        with pytest.raises(ValueError, match="exceeds float32"):
            halfway.to_numpy(x, out=out, casting="unsafe", **keywords)
        assert (out == 1).all()
        halfway.Cast("bf16", **keywords)  # some sources are computed in float64
        assert halfway.cast(np.zeros((2, 3)), "f8", **keywords).dtype == np.float64
    largest = float.fromhex("0x1.fffffefffffffp127")
    assert not halfway.cast(x, "f4", scale=largest, casting="unsafe").any()


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        (("bf16",), {"permute": (0, 0)}, ValueError, "axis 0 twice"),
        (("bf16",), {"permute": (0, 5), "scale": 2}, ValueError, "axis 5"),
        (("bf16",), {"permute": (0, 1), "scale": [1, 2], "axis": 3}, ValueError, "axis=3 is none of the 2 axes"),
        (("bf16",), {"permute": (0, 1), "scale": [1, 2], "axis": -3}, ValueError, "axis=-3 is none of the 2 axes"),
        (("bf16",), {"permute": {1, 0}}, TypeError, "permute must be a sequence of axes, not set"),
        (("bf16",), {"permute": {1: 2, 0: 1}}, TypeError, "permute must be a sequence of axes, not dict"),
        (("c8",), {"scale": 2}, ValueError, "real dtypes, not complex64"),
        (("int4",), {"shift": 2}, ValueError, "int4"),
        (("bf16",), {"scale": 10**400}, ValueError, "scale is too large"),
        (("bf16",), {"scale": [1, -(10**400)], "axis": 0}, ValueError, "scale is too large"),
        (("bf16",), {"scale": np.ma.masked_array([1.0, 2.0], [0, 1]), "axis": 0}, ValueError, "scale: a masked array"),
        (("bf16",), {"scale": torch.tensor([True])}, TypeError, "scale must be a number"),
        (("bf16",), {"scale": torch.tensor(1j)}, TypeError, "scale must be a number"),
        (("bf16",), {"scale": [1, "2"], "axis": 0}, TypeError, "scale must be a number"),
        (("bf16",), {"scale": np.array(["2"])}, TypeError, "scale must be a number"),
        (("bf16",), {"scale": [[1, 2], [3, 4]], "axis": 0}, ValueError, "2 dimensions"),
        (("bf16",), {"scale": torch.ones(2, 2, 2), "axis": 0}, ValueError, "3 dimensions"),
        ((halfway.Cast("bf16"),), {}, TypeError, "dtype or a Python type, not halfway.Cast"),
        ((None,), {}, TypeError, "dtype or a Python type, not NoneType"),
    ],
)
def test_a_recipe_that_fits_no_source(
    arguments: tuple[Any], keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        halfway.Cast(*arguments, **keywords)


def test_where_a_recipe_may_stand_is_said() -> None:
    with pytest.raises(TypeError, match=r"a Python type or a halfway\.Cast, not list"):
        halfway.to_torch(np.zeros(2), [])
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    for dtype, name in ((halfway.Cast("bf16"), "halfway.Cast"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"or a Python type, not {name}"):
            halfway.images(pixels, 0.5, 0.5, dtype)


def test_zeros_of_either_sign_are_two() -> None:
    plus, minus = halfway.Cast("f4", shift=0.0), halfway.Cast("f4", shift=-0.0)
    assert plus != minus
    assert len({plus, minus, halfway.Cast("f4", shift=0)}) == 2
    x = np.array([-0.0], np.float32)
    assert not np.signbit(halfway.cast(x, plus))[0]
    assert np.signbit(halfway.cast(x, minus))[0]
    assert halfway.Cast("f4", scale=[0.0], axis=0) != halfway.Cast("f4", scale=[-0.0], axis=0)
    assert pickle.loads(pickle.dumps(minus)) == minus
    assert hash(pickle.loads(pickle.dumps(minus))) == hash(minus)


def test_nan_is_counted_in_the_result_of_scale_and_shift() -> None:
    report = halfway.Report()
    halfway.cast(np.array([np.inf, np.nan, 1.0], np.float32), "f4", scale=0.0, report=report)
    assert report.nan == 2


def test_what_permute_turns_back_is_not_copied() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    frozen = x.T.view()
    frozen.flags.writeable = False
    for source, permute in (
        (x.T, (1, 0)),
        (x, (0, 1)),
        (x[:1], (1, 0)),
        (np.zeros((0, 3)), (1, 0)),
        (x.reshape(2, 3, 1).transpose(2, 1, 0), (2, 1, 0)),
        (x.T.astype(">f4", order="K"), (1, 0)),
        (frozen, (1, 0)),
        (torch.from_numpy(x).T, (-1, 0)),
        (torch.zeros(1, 3, 1), (1, 2, 0)),
        (halfway.from_dlpack(x.T), (1, 0)),
        (torch.zeros(2, 3).bfloat16().T, (1, 0)),
    ):
        for function, to in ((halfway.to_numpy, "numpy"), (halfway.to_torch, "torch")):
            swapped = isinstance(source, np.ndarray) and not source.dtype.isnative
            if to == "torch" and (swapped or source is frozen):
                continue
            plan = halfway.explain(source, to=to, permute=permute)
            assert plan.zero_copy, (source, to)
            assert plan.reasons == ()
            made: Any = function(source, permute=permute, copy=False)
            assert tuple(made.shape) == plan.result_shape
            values = halfway.to_numpy(source)
            assert np.array_equal(halfway.to_numpy(made), values.transpose(permute))
            if to == "numpy":
                assert made.flags.c_contiguous
                assert made.flags.writeable == (source is not frozen)
                assert made.dtype == values.dtype
                assert not values.size or np.shares_memory(made, values)
            else:
                assert made.is_contiguous()
                assert not values.size or made.data_ptr() == values.ctypes.data
    locked = halfway.to_numpy(torch.from_numpy(x).T, permute=(1, 0), copy=False, lock_storage=True)
    assert np.shares_memory(locked, x)
    assert (locked == x).all()
    step = halfway.explain(x.T, to="numpy", permute=(1, 0)).steps[0]
    assert (step.kind, step.how) == ("alias", "permute (1, 0)")
    # what else keeps it from being the same memory
    moved = halfway.to_numpy(x.T, permute=(1, 0), copy=True)
    assert not np.shares_memory(moved, x)
    assert halfway.explain(x.T, "f2", permute=(1, 0)).reasons == ("dtype",)
    lazy = torch.complex(torch.ones(2, 3), torch.ones(2, 3)).T.conj()
    assert (halfway.to_numpy(lazy, permute=(1, 0)) == (1 - 1j)).all()
    assert halfway.to_numpy(lazy, permute=(1, 0)).flags.c_contiguous
    for source, permute in ((x, (1, 0)), (x[:, ::2], (0, 1)), (x.T, (0, 1))):
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.to_numpy(source, permute=permute, copy=False)
        assert caught.value.reasons == ("permute",)


def test_dtypes_that_are_refused() -> None:
    with pytest.raises(ValueError, match="targets of floats"):
        halfway.Cast("int8", rounding="stochastic", seed=1)
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.to_numpy(np.zeros(2), "int8", casting="unsafe", rounding="stochastic", seed=1)
    assert caught.value.reason == "unsupported_dtype"
    with pytest.raises(halfway.ExchangeError, match="real dtypes"):
        halfway.to_numpy(np.zeros(2, np.complex64), scale=2.0)
    with pytest.raises(halfway.ExchangeError, match="permuted x has"):
        halfway.to_numpy(np.zeros((2, 3)), out=np.zeros((2, 3)), permute=(1, 0))


def test_recipes() -> None:
    recipe = halfway.Cast("bf16", scale=np.float32([1, 2]), shift=1, axis=-1, permute=[1, 0])
    assert (recipe.scale, recipe.shift, recipe.axis, recipe.permute) == ((1.0, 2.0), 1.0, -1, (1, 0))
    assert (recipe.rounding, recipe.seed) == ("nearest", None)
    assert repr(recipe) == "Cast('bfloat16', scale=(1.0, 2.0), shift=1.0, axis=-1, permute=(1, 0))"
    again = pickle.loads(pickle.dumps(recipe))
    assert again == recipe
    assert hash(again) == hash(recipe)
    different = [
        halfway.Cast("bf16", rounding="stochastic", seed=seed, scale=scale) for seed in (0, 1) for scale in (None, 1.0)
    ]
    assert len({recipe, again, *different}) == 5
    assert halfway.Cast("bf16", rounding="nearest", scale=None) == halfway.Cast("bf16")
    with pytest.raises(TypeError, match="one or the other"):
        halfway.to_torch(np.zeros(2), recipe, scale=2.0)


# --- images


def test_images_are_what_they_are_said_to_be() -> None:
    rng = np.random.default_rng(3)
    batch = rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    made = halfway.images(batch, mean, std, "float32")
    scale = 1 / (255 * np.array(std))
    shift = -np.array(mean) / std
    y = batch.astype(np.float64) * np.float32(scale).astype(np.float64) + np.float32(shift).astype(np.float64)
    assert (made.numpy() == y.astype(np.float32).transpose(0, 3, 1, 2)).all()  # double holds the exact sum
    assert (halfway.images(batch, mean, std).float() == made.bfloat16().float()).all()
    assert (halfway.images(batch[1], mean, std, "float32") == made[1]).all()
    kept = halfway.images(batch, mean, std, "float32", layout="NHWC")
    assert (kept == made.permute(0, 2, 3, 1)).all()
    planes = halfway.images(torch.from_numpy(batch).permute(0, 3, 1, 2), mean, std, "float32", layout="NCHW")
    assert (planes == made).all()
    out = torch.empty(2, 3, 5, 4)
    assert halfway.images(halfway.from_dlpack(batch), mean, std, out=out, dtype="float32") is out
    assert (out == made).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch": np.zeros((1, 2, 2, 3), np.float32)}, TypeError, "uint8"),
        ({"layout": "NHWC->NCH"}, ValueError, "two orders"),
        ({"layout": "NHW->NWH"}, ValueError, "one of them C"),
        ({"batch": np.zeros((2, 3), np.uint8)}, ValueError, "does not fit"),
        ({"mean": (1, 2)}, ValueError, "mean has shape"),
        ({"std": (1, 0, 1)}, ValueError, "not zero"),
        ({"std": 1e-42}, ValueError, "std is too small"),
        ({"std": 1e-310}, ValueError, "std is too small"),
        ({"mean": 1e30, "std": 1e-30}, ValueError, "std is too small"),
        ({"std": np.ma.masked_array([1.0, 2.0, 3.0], [0, 0, 1])}, ValueError, "masked"),
        ({"layout": "nhwc->nchw"}, ValueError, "letters are upper-case"),
    ],
)
def test_images_misused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        halfway.images(**({"batch": np.zeros((1, 2, 2, 3), np.uint8), "mean": 0.5, "std": 0.5} | arguments))


def test_images_take_numbers_of_any_library() -> None:
    batch = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3)
    expected = halfway.images(batch, (0.5, 0.25, 0.75), (0.5, 0.25, 2.0))
    mean, std = torch.tensor([0.5, 0.25, 0.75]).bfloat16(), torch.tensor([0.5, 0.25, 2.0])
    for made in (
        halfway.images(batch, mean, std),
        halfway.images(batch, halfway.to_numpy(mean), std.half().requires_grad_()),
        halfway.images(batch, [0.5, 0.25, 0.75], halfway.from_dlpack(std)),
    ):
        assert torch.equal(made, expected)


def test_images_remember_what_they_prepared_and_nothing_else() -> None:
    # Whatever decides the result, one after the other and twice, against a recipe that is made anew.
    rng = np.random.default_rng(4)
    batch = rng.integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    mean, std = np.array([0.5, 0.25, 0.75]), np.array([0.5, 0.25, 2.0])

    def expected(mean: Any, std: Any, **keywords: Any) -> torch.Tensor:
        shift = -np.broadcast_to(np.asarray(mean, np.float64), 3) / std
        scale = 1 / (255 * np.broadcast_to(np.asarray(std, np.float64), 3))
        return halfway.to_torch(batch, scale=scale, shift=shift, axis=3, **keywords)

    for _ in range(2):
        for dtype in ("bfloat16", "float16", torch.float32, np.float32):
            for seed in (None, 1, 2):
                chance: Any = {} if seed is None else {"rounding": "stochastic", "seed": seed}
                made = halfway.images(batch, mean, std, dtype, layout="NHWC", **chance)
                assert torch.equal(made, expected(mean, std, dtype=dtype, **chance))
        mean[1] += 0.125  # arrays may change between calls
        std[2] *= 1.5
    black = np.zeros((1, 1, 1, 3), np.uint8)
    for zero in (0.0, -0.0):  # equal, and not the same: shift is -mean / std
        made = halfway.images(black, zero, -0.5, "float32")
        assert (np.signbit(made.numpy()) == (np.copysign(1, zero) < 0)).all()
    with pytest.raises(TypeError, match="list"):
        halfway.images(black, 0.5, 0.5, [])  # type: ignore[arg-type]


# --- stochastic rounding


def philox_lanes(seed: int, n: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The lanes of the first n elements: Philox4x32-10 over all counters at once."""
    blocks = np.arange((n + 7) // 8, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    x = [blocks & low, blocks >> np.uint64(32), np.zeros_like(blocks), np.zeros_like(blocks)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p2 = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [
            (p2 >> np.uint64(32)) ^ x[1] ^ np.uint64(key[0]),
            p2 & low,
            (p0 >> np.uint64(32)) ^ x[3] ^ np.uint64(key[1]),
            p0 & low,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    halves = [part for word in x for part in (word & np.uint64(0xFFFF), word >> np.uint64(16))]
    return np.stack(halves, axis=1).reshape(-1)[:n].astype(np.uint32)


def test_the_generator_s_known_answer() -> None:
    assert [hex(lane) for lane in philox_lanes(0, 4)] == ["0xe8d5", "0x6627", "0xc58d", "0xe169"]


@given(st.integers(0, 2**64 - 1), st.integers(1, 3000), st.integers(0, 100))
def test_bit_for_bit_as_numpy_does_it(seed: int, n: int, values: int) -> None:
    x = (np.random.default_rng(values).normal(size=n) * 10.0 ** (values % 7)).astype(np.float32)
    made = halfway.to_torch(x, "bfloat16", rounding="stochastic", seed=seed)
    expected = ((x.view(np.uint32) + philox_lanes(seed, n)) >> 16).astype(np.uint16)
    assert (made.view(torch.uint16).numpy() == expected).all()


def test_unbiased() -> None:
    n = 1 << 20
    x = np.full(n, 1 + 2**-9, np.float32)  # a quarter of the way
    made = halfway.to_numpy(x, "bfloat16", rounding="stochastic", seed=12).astype(np.float64)
    up = int((made > 1).sum())
    assert set(np.unique(made)) == {1.0, 1.0078125}
    # Five standard deviations of a binomial; the lanes of a seed never change, so that this holds for ever.
    assert abs(up - n / 4) < 5 * (n * 0.25 * 0.75) ** 0.5


def test_indices_are_those_of_the_result() -> None:
    x = np.random.default_rng(5).normal(size=(6, 7, 8)).astype(np.float32)
    recipe = halfway.Cast("float16", rounding="stochastic", seed=77)
    straight = halfway.to_numpy(x, recipe)
    assert (halfway.to_numpy(np.asfortranarray(x), recipe) == straight).all()
    out = np.empty((8, 7, 6), np.float16).T
    assert (halfway.to_numpy(x, recipe, out=out) == straight).all()
    backwards = np.empty((6, 7, 8), np.float16)[::-1, :, ::-1]
    assert (halfway.to_numpy(x, recipe, out=backwards) == straight).all()
    permuted = halfway.to_numpy(x, "float16", rounding="stochastic", seed=77, permute=(2, 0, 1))
    assert (permuted == halfway.to_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)), recipe)).all()
    assert (permuted != straight.transpose(2, 0, 1)).any()
