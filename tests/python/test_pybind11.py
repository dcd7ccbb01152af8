"""halfway/pybind11.h: every constraint and framework, refusals in words, and who is released when."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import sysconfig
import threading
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.python import probe
from tests.python.loading import load_module
from tests.python.probe import LIBRARY

import halfway

PATH = LIBRARY.parent / f"_halfway_casters{sysconfig.get_config_var('EXT_SUFFIX')}"
if not PATH.exists():
    pytest.skip("the module is not built here: it needs pybind11 and Python's headers", allow_module_level=True)


casters = load_module(PATH, "_halfway_casters")


def released(export: probe.Export) -> int:
    """How often, once all that could wait has not waited."""
    casters.any(np.zeros(1))
    return export.releases


# --- What comes in


@given(
    array=hnp.arrays(
        st.sampled_from(["bool", "i1", "u2", "i8", "f4", "f8", "c8", "c16", "f2"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=st.just(0),
    ),
    data=st.data(),
)
def test_arrays_of_numpy_and_torch_arrive_as_they_are(array, data):
    axes = data.draw(st.permutations(range(array.ndim)))
    array = array.transpose(axes)
    if array.ndim and data.draw(st.booleans()):
        array = array[:: data.draw(st.sampled_from([1, 2]))]
    for source in (array, torch.from_numpy(array), halfway.from_dlpack(array)):
        dtype, shape, strides, address, readonly = casters.any(source)
        assert (dtype, tuple(shape), readonly) == (array.dtype.name, array.shape, False)
        if array.size:
            assert address == array.ctypes.data
            for dim, stride, wanted in zip(shape, strides, array.strides, strict=True):
                assert dim == 1 or stride * array.itemsize == wanted


@pytest.mark.parametrize("name", [row.name for row in halfway.dtypes() if row.kind != "refused" and row.numpy])
def test_every_dtype_that_numpy_knows_or_learns(name):
    row = next(row for row in halfway.dtypes() if row.name == name)
    assert row.numpy is not None
    dtype = np.dtype(getattr(ml_dtypes, name) if row.numpy.startswith("ml_dtypes.") else row.numpy)
    array = np.arange(8, dtype="u1").repeat(dtype.itemsize).view(dtype)
    assert casters.any(array)[0] == name
    if row.castable:
        back = casters.as_numpy(array)
        assert back.dtype == dtype
        assert back.tobytes() == array.tobytes()
        assert back.ctypes.data == array.ctypes.data


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        ("of_bool", "bool"),
        ("int8", "int8"),
        ("uint16", "uint16"),
        ("int64", "int64"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("complex64", "complex64"),
        ("half", "float16"),
        ("half", ml_dtypes.bfloat16),
        ("float8", ml_dtypes.float8_e4m3fn),
    ],
)
def test_dtypes_are_exact(function, dtype):
    call = getattr(casters, function)
    dtype = np.dtype(dtype)
    assert call(np.zeros(2, dtype))[0] == dtype.name
    for other in ("bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64"):
        if other == dtype or (function == "half" and other == "float16"):
            continue
        with pytest.raises(TypeError, match=f"^numpy.ndarray: dtype .* is wanted, not {other}$"):
            call(np.zeros(2, other))


READ_ONLY = np.zeros(3, "f4")
READ_ONLY.flags.writeable = False
OFF = np.zeros(13, "u1")[1:].view("f4")  # three floats, one byte off
WRONG: list[tuple[str, Any, str]] = [
    ("matrix", np.zeros(3), "2 dimensions are wanted, not 1: (3,)"),
    ("scalar", np.zeros((1, 1)), "0 dimensions are wanted, not 2: (1, 1)"),
    ("points", np.zeros((3, 4)), "shape (*, 3) is wanted, not (3, 4)"),
    ("points", np.zeros(3), "2 dimensions are wanted, not 1: (3,)"),
    ("rows", np.zeros((3, 4)).T, "row-major (C-contiguous) memory is wanted, not strides (1, 4)"),
    ("columns", np.zeros((3, 4)), "column-major (Fortran) memory is wanted, not strides (4, 1)"),
    ("writable", READ_ONLY, "writable memory is wanted, not read-only"),
    ("float32_writable", READ_ONLY, "writable memory is wanted, not read-only"),
    ("float32_writable", halfway.from_dlpack(READ_ONLY), "writable memory is wanted, not read-only"),
    ("float32", OFF, "aligned elements are wanted; a copy has them"),
    ("float32", np.zeros(3, ">f4"), "the machine's byte order is wanted, not the other"),
    ("any", np.zeros(3, ">f4"), "the machine's byte order is wanted, not the other"),
    ("cuda", np.zeros(3), "memory of device cuda is wanted, not cpu"),
    ("any", np.zeros(3, "i1,f4")["f1"], "its strides are no whole elements; make it contiguous first"),
    ("any", np.ma.masked_array([1.0]), "a masked array has no plain memory; fill it first: x.filled(value)"),
    ("any", np.array([None]), "no tensor has elements of dtype object"),
    ("any", np.array(["x"]), "no tensor has elements of dtype <U1"),
    ("any", np.zeros(1, "M8[s]"), "no tensor has elements of dtype datetime64[s]"),
    ("any", np.zeros(1, np.longdouble), "no tensor has elements of dtype float128"),
    ("any", np.zeros(1, "f4,i4"), "no tensor has elements of dtype [('f0', '<f4'), ('f1', '<i4')]"),
    ("any", torch.zeros(1, requires_grad=True), "it does not export its memory: Can't export tensors that require"),
    ("any", torch.ones(2).to_sparse(), "it does not export its memory: "),
    ("any", torch.ones(2, dtype=torch.complex64).conj(), "it does not export its memory: "),
    ("any", torch._neg_view(torch.ones(2)), "its memory holds the negatives of its values; x.resolve_neg() first"),
    (
        "everything",
        np.zeros((3, 4, 2)).T,
        (
            "2 dimensions are wanted, not 3: (2, 4, 3); dtype float32 is wanted, not float64; "
            "row-major (C-contiguous) memory is wanted, not strides (1, 2, 8)"
        ),
    ),
    ("cast", np.zeros(3, "c8"), "casting='same_kind' forbids complex64 to float32"),
]


@pytest.mark.parametrize(("function", "array", "words"), WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_said_in_words(function, array, words):
    before = sys.getrefcount(array)
    with pytest.raises(TypeError) as raised:
        getattr(casters, function)(array)
    text = str(raised.value)
    assert words in text
    assert "\n" not in text
    assert text.startswith(f"{type(array).__module__}.{type(array).__qualname__}: ")
    del raised
    assert sys.getrefcount(array) == before


def test_what_fits():
    assert casters.matrix(np.zeros((2, 3)))[1] == [2, 3]
    assert casters.points(np.zeros((0, 3)))[1] == [0, 3]
    assert casters.scalar(np.zeros(()))[1] == []
    assert casters.rows(np.zeros((3, 1)).T)[1] == [1, 3]
    assert casters.columns(np.zeros((3, 4)).T)[1] == [4, 3]
    assert casters.columns(np.zeros(5))[1] == [5]
    assert casters.any(READ_ONLY)[4] is True
    assert casters.any(OFF)[3] == OFF.ctypes.data
    assert casters.everything(torch.zeros(2, 5))[1] == [2, 5]
    assert casters.any(np.memmap(np.__file__, "u1", "r"))[4] is True


def test_what_is_no_array_is_for_pybind11_to_report():
    for thing in (None, 1.5, [1.0], "text", object(), np.ndarray, torch.Tensor):
        with pytest.raises(TypeError, match="incompatible function arguments") as raised:
            casters.everything(thing)
        assert "Array[float32, writable, shape=(2, *), order='C']" in str(raised.value)


def test_casts_if_needed():
    source = np.arange(6, dtype=">f8").reshape(2, 3).T
    dtype, shape, strides, _, _ = casters.cast(source)
    assert (dtype, shape, strides) == ("float32", [3, 2], [2, 1])
    same = np.zeros(4, "f4")
    assert casters.cast(same)[3] == same.ctypes.data  # nothing to do
    assert casters.cast_rows(torch.zeros(4, 4).t())[0] == "bfloat16"
    with pytest.raises(TypeError, match="2 dimensions are wanted"):  # which no cast mends
        casters.cast_rows(np.zeros(3))
    with pytest.raises(TypeError, match="incompatible function arguments"):
        casters.exact(source)
    assert casters.exact(same)[3] == same.ctypes.data


def test_overloads_are_chosen_among_by_what_fits():
    assert casters.overloaded(np.zeros(2, "f4")) == "float32"
    assert casters.overloaded(torch.zeros(2, dtype=torch.float64)) == "float64"
    assert casters.overloaded(3) == "number"
    with pytest.raises(TypeError, match="dtype float32 is wanted, not int64"):
        casters.overloaded(np.zeros(2, "i8"))
    capsule = halfway.from_dlpack(np.zeros(2)).__dlpack__()  # good for one use, and tried by two overloads
    assert casters.overloaded(capsule) == "float64"


@pytest.mark.parametrize("dtype", ["f4", "f8", ">i2"])
def test_overloads_with_casts(dtype):
    for rank in (1, 2, 3):
        array = np.zeros((2,) * rank, dtype)
        for source in (array, halfway.from_dlpack(array.astype(array.dtype.newbyteorder("="))).__dlpack__()):
            assert casters.rank(source) == rank
    with pytest.raises(TypeError, match=r"^numpy.ndarray: 3 dimensions are wanted, not 4: "):  # the last one's words
        casters.rank(np.zeros((1, 1, 1, 1), dtype))
    assert casters.variant(np.zeros(2, dtype)) == 0
    assert casters.variant(np.zeros((2, 2), dtype)) == 1
    with pytest.raises(TypeError, match="2 dimensions are wanted, not 0"):
        casters.variant(np.zeros((), dtype))


def test_overloads_that_are_no_arrays():
    assert casters.either(np.zeros(2, "f4")) == "array"
    assert casters.either([1.0]) == "list"
    assert casters.either(np.zeros(2, "i4")) == "list"  # which converts what the array's overload leaves to it
    with pytest.raises(TypeError, match="incompatible function arguments"):
        casters.either(np.zeros((2, 2)))
    assert ": Array[float32]" in casters.either.__doc__
    assert "(arg0: Array) -> int" in casters.only_overloaded.__doc__


def test_optional_arguments():
    assert casters.optional() is False
    assert casters.optional(None) is False
    assert casters.optional(np.zeros(1)) is True


# --- What goes out


def test_frameworks_of_results():
    x = np.arange(6, dtype="f4").reshape(2, 3)
    for make, kind in (("as_numpy", np.ndarray), ("as_torch", torch.Tensor), ("as_halfway", halfway.Tensor)):
        result = getattr(casters, make)(x.T)
        assert type(result) is kind
        assert np.array_equal(halfway.to_numpy(result), x.T)
        assert casters.any(result)[3] == x.ctypes.data
    assert casters.empty() is None
    assert np.array_equal(np.from_dlpack(halfway.from_dlpack(casters.as_capsule(x))), x)
    bfloat16 = casters.as_numpy(torch.ones(3, dtype=torch.bfloat16))
    assert bfloat16.dtype == ml_dtypes.bfloat16


def test_results_that_a_framework_cannot_hold():
    with pytest.raises(BufferError, match="read-only"):
        casters.as_torch(READ_ONLY)
    assert casters.as_numpy(READ_ONLY).flags.writeable is False
    with pytest.raises(BufferError, match="negative strides"):
        casters.as_torch(np.zeros(3)[::-1])
    assert np.array_equal(casters.as_numpy(np.arange(3)[::-1]), [2, 1, 0])
    with pytest.raises(TypeError, match="NumPy has no dtype for float4_e2m1fn"):
        casters.made_for_numpy("float4_e2m1fn")


@pytest.mark.parametrize("row", halfway.dtypes(), ids=lambda row: row.name)
def test_dtypes_of_results_for_torch(row):
    if row.kind == "refused":
        return
    for padded in (False, True):
        if row.torch is None:
            with pytest.raises(TypeError, match=f"^torch has no dtype for {row.name}, or takes none"):
                casters.made_for_torch(row.name, padded=padded)
        else:
            result = casters.made_for_torch(row.name, padded=padded)
            assert (str(result.dtype), result.shape) == (row.torch, (4,))


def test_memory_that_torch_cannot_express():
    with pytest.raises(BufferError, match=r"^torch wants aligned elements"):
        casters.made_for_torch("float32", offset=1)
    assert casters.made_for_torch("float32", offset=1, size=0).shape == (0,)
    assert casters.made_for_torch("int8", offset=1).shape == (4,)
    with pytest.raises(BufferError, match=r"^torch has no other byte order"):
        casters.made_for_torch("float32", swapped=True)
    assert casters.made_for_numpy("float32", swapped=True).dtype == np.dtype("f4").newbyteorder()


@pytest.mark.parametrize("framework", ["halfway", "capsule"])
def test_memory_that_dlpack_cannot_express(framework):
    make = getattr(casters, f"made_for_{framework}")
    assert casters.any(make("float32", offset=1))[1] == [4]
    with pytest.raises(BufferError, match=r"^byte_order: "):
        make("float32", swapped=True)


def test_errors_of_the_runtime_are_translated():
    with pytest.raises(BufferError, match=r"^dtype: casting='same_kind' forbids float64 to int8"):
        casters.refuse(np.ones(2))


def test_elements_by_their_indices():
    x = np.arange(6.0).reshape(2, 3)
    assert casters.at(x.T, 2, 1, 50.0) == 5.0
    assert x[1, 2] == 50.0


# --- Who is released when


@pytest.mark.parametrize("versioned", [True, False])
def test_a_producer_is_released_once(versioned):
    export = probe.floats(versioned=versioned)
    casters.any(probe.Producer(export))
    assert released(export) == 1
    export = probe.floats(versioned=versioned)
    with pytest.raises(TypeError, match="dtype float64 is wanted"):
        casters.float64(probe.Producer(export))
    assert released(export) == 1
    export = probe.floats(versioned=versioned)
    result = casters.as_numpy(probe.Producer(export))
    view = result[2:]
    del result
    assert released(export) == 0
    assert view.tolist() == [2, 3, 4, 5]
    del view
    assert released(export) == 1


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("index", range(len(probe.rows(accepted=False))))
def test_every_wrong_struct_is_refused_and_released_once(index, versioned):
    name, row, _, has_legacy = probe.rows(accepted=False)[index]
    if not versioned and not has_legacy:
        return
    export = probe.row(row, accepted=False, versioned=versioned)
    with pytest.raises(TypeError, match=r"^tests.python.probe.Producer: \w+: "):
        casters.any_device(probe.Producer(export))
    assert released(export) == 1, name


class Old(probe.Producer):
    """A producer of before DLPack 1."""

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.export.capsule()


def test_what_is_older_than_dlpack_1_stays_read_only():
    for make in (lambda: Old(probe.floats(versioned=False)), lambda: probe.floats(versioned=False).capsule()):
        assert casters.any(make())[4] is True
        result = casters.as_numpy(make())
        assert result.flags.writeable is False
        with pytest.raises(ValueError, match="read-only"):
            result[0] = 1
        with pytest.raises(BufferError, match="read-only"):
            casters.as_torch(make())
        for again in (casters.as_halfway, casters.as_capsule):
            assert casters.any(again(make()))[4] is True


def test_what_is_older_than_dlpack_1_may_not_be_written_to():
    assert casters.float32(Old(probe.floats(versioned=False)))[0] == "float32"
    with pytest.raises(TypeError, match="writable memory is wanted"):
        casters.float32_writable(Old(probe.floats(versioned=False)))

    class OldTorch(torch.Tensor):
        def __dlpack__(self, stream: Any = None) -> Any:
            return torch.utils.dlpack.to_dlpack(self.as_subclass(torch.Tensor))

    assert casters.float32_writable(torch.zeros(3).as_subclass(OldTorch))[0] == "float32"


def test_producers_that_misbehave():
    class Raises:
        def __dlpack__(self, **_: Any) -> Any:
            raise RuntimeError("first line\nsecond line")

    with pytest.raises(TypeError, match=r"it does not export its memory: first line$") as raised:
        casters.any(Raises())
    assert isinstance(raised.value.__cause__, RuntimeError)

    class GivesText:
        def __dlpack__(self, **_: Any) -> Any:
            return "text"

    with pytest.raises(TypeError, match="__dlpack__ gave a str and no capsule"):
        casters.any(GivesText())
    with pytest.raises(TypeError, match="no DLPack capsule, but one called 'other'"):
        casters.any(probe.new_capsule(1, b"other"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_is_no_fault_of_the_producer_passes(error):
    class Raises:
        def __dlpack__(self, **_: Any) -> Any:
            raise error

    class RaisesBefore:
        @property
        def __dlpack__(self) -> Any:
            raise error

    for function in (casters.any, casters.overloaded, casters.either, casters.exact):
        for producer in (Raises, RaisesBefore):
            with pytest.raises(error):
                function(producer())


def test_subclasses_with_attributes_of_their_own():
    class Masked(np.ndarray):
        mask = 5

    assert casters.any(np.zeros(2).view(Masked))[1] == [2]


def good(capsule: Any, export: probe.Export) -> bool:
    """Whether nobody has taken what is in the capsule; it is taken."""
    before = released(export)
    ours = casters.as_numpy(capsule).tolist() == [0, 1, 2, 3, 4, 5]
    return before == 0 and ours and released(export) == 1


@pytest.mark.parametrize("versioned", [True, False])
def test_a_capsule_is_used_up_by_calls_alone(versioned):
    export = probe.floats(versioned=versioned)
    capsule = export.capsule()
    for wrong in ("text", None, 1.5):
        with pytest.raises(TypeError, match="incompatible"):
            casters.with_number(capsule, wrong)
    with pytest.raises(TypeError, match="incompatible"):
        casters.with_either(capsule, 1)
    with pytest.raises(TypeError, match="dtype object"):
        casters.with_array(capsule, np.array([None]))
    with pytest.raises(TypeError, match="was used before"):
        casters.with_array(capsule, capsule)
    with pytest.raises(MemoryError):
        casters.with_cast(capsule, np.broadcast_to(np.float64(1), 1 << 50))
    assert good(capsule, export)

    export = probe.floats(versioned=versioned)
    assert casters.with_either(export.capsule(), "four") == 10  # the second overload
    assert released(export) == 1
    export = probe.floats(versioned=versioned)
    assert casters.with_number(export.capsule(), 2) == 8
    assert released(export) == 1


@pytest.mark.parametrize("versioned", [True, False])
def test_a_capsule_whose_cast_fails_is_still_good(versioned):
    values = np.zeros(1)
    export = probe.make(values, [1 << 50], [0], (probe.FLOAT, 64, 1), versioned=versioned)
    capsule = export.capsule()
    with pytest.raises(MemoryError):
        casters.cast(capsule)
    assert released(export) == 0
    assert casters.any(capsule)[1] == [1 << 50]
    assert released(export) == 1
    export = probe.make(values, [1], None, (probe.FLOAT, 64, 1), versioned=versioned)
    assert casters.without_gil(export.capsule()) == 1  # the cast is the argument, and what it was made from goes
    assert released(export) == 1


def test_a_refused_capsule_is_still_good():
    export = probe.floats()
    capsule = export.capsule()
    with pytest.raises(TypeError, match="dtype float64 is wanted"):
        casters.float64(capsule)
    assert released(export) == 0
    result = casters.as_numpy(capsule)
    assert result.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(TypeError, match="the DLPack capsule was used before"):
        casters.any(capsule)
    del result
    assert released(export) == 1


def test_capsules_that_nobody_takes_let_go():
    export = probe.floats()
    capsule = casters.as_capsule(probe.Producer(export))
    assert released(export) == 0
    del capsule
    assert released(export) == 1


@pytest.mark.parametrize("drop", ["drop", "drop_without_gil", "drop_in_thread"])
def test_arrays_kept_beyond_the_call(drop):
    array = np.zeros(3)
    alive = weakref.ref(array)
    export = probe.floats()
    casters.keep(array)
    casters.keep(probe.Producer(export))
    del array
    gc.collect()
    assert alive() is not None
    assert export.releases == 0
    getattr(casters, drop)()
    assert released(export) == 1
    assert alive() is None


def test_letting_go_never_waits_for_the_gil():
    # NumPy's deleter asks for the GIL, which the thread that waits for the one that lets go holds.
    code = f"""
import faulthandler, importlib.util, sys, numpy as np
faulthandler.dump_traceback_later(60, exit=True)
spec = importlib.util.spec_from_file_location("_halfway_casters", {str(PATH)!r})
casters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(casters)
class Producer:
    def __dlpack__(self, **keywords):
        return array.__dlpack__(**keywords)
array = np.zeros(3)
before = sys.getrefcount(array)
for make in (lambda: array, lambda: array.__dlpack__(max_version=(1, 3)), lambda: array.__dlpack__(), Producer):
    casters.keep(make())
    assert sys.getrefcount(array) == before + 1
    casters.drop_in_thread_beside_the_gil()
    casters.any(np.zeros(1))
    assert sys.getrefcount(array) == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_argument_may_die_without_the_gil():
    array = np.zeros(3)
    before = sys.getrefcount(array)
    for _ in range(1000):  # more than the interpreter's queue has room for
        casters.take(array)
    casters.any(np.zeros(1))
    assert sys.getrefcount(array) == before
    export = probe.floats()
    casters.take(export.capsule())
    assert released(export) == 1


def test_references_are_counted():
    array = np.zeros((2, 3), "f4")
    results = {"any": 0, "everything": 0, "as_numpy": 1, "as_torch": 1, "as_halfway": 1, "as_capsule": 1}
    for name in results:
        before = sys.getrefcount(array)
        kept = [getattr(casters, name)(array) for _ in range(10)]
        assert sys.getrefcount(array) == before + 10 * results[name]
        kept.clear()
        assert sys.getrefcount(array) == before


def test_threads():
    array = np.arange(1000, dtype="f4")
    before = sys.getrefcount(array)
    failures = []

    def work() -> None:
        for _ in range(300):
            result = casters.as_torch(array)
            casters.take(result.numpy())
            if casters.cast(array[::2])[1] != [500]:
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    casters.any(np.zeros(1))
    assert failures == []
    assert sys.getrefcount(array) == before


@pytest.mark.parametrize(
    "kept",
    [
        "casters.keep(np.ones(3))",
        "r = casters.as_numpy(np.ones(3))",
        "import torch; casters.keep(torch.ones(3)); r = casters.as_torch(np.ones(3))",
        "r = casters.as_capsule(np.ones(3))",
    ],
)
def test_the_interpreter_ends_with_arrays_kept(kept):
    code = f"""
import importlib.util, sys, numpy as np
spec = importlib.util.spec_from_file_location("_halfway_casters", {str(PATH)!r})
casters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(casters)
assert "halfway" not in sys.modules
{kept}
del casters, spec
sys.modules.pop("_halfway_casters", None)
import gc; gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_numpy_or_torch_nothing_is_imported():
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_halfway_casters", {str(PATH)!r})
casters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(casters)
try:
    casters.any(object())
except TypeError as error:
    assert "incompatible" in str(error)
assert not {{"numpy", "torch", "halfway"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("version", "accepted"), [("0x020B0100", False), ("0x020C0000", True)])
def test_an_older_pybind11_is_refused_by_name(version, accepted, tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "pybind11").mkdir()
    for name in ("pybind11.h", "numpy.h"):
        (tmp_path / "pybind11" / name).write_text(f"#define PYBIND11_VERSION_HEX {version}\n")
    headers = [probe.ROOT / "bindings" / "cpp" / "include", probe.ROOT / "runtime" / "include"]
    includes = [f"-I{folder}" for folder in (tmp_path, *headers)]
    command = [compiler, "-std=c++20", "-E", *includes, "-include", "halfway/pybind11.h", "-xc++", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) is accepted, done.stderr
    assert ("halfway/pybind11.h needs pybind11 2.12 or later" in done.stderr) is not accepted
