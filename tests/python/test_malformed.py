"""DLPack structs that are wrong: a named reason, one release of the producer, nothing else touched."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.python import probe
from tests.python.probe import FUNCTIONS

import halfway
from halfway import ExchangeError

WRONG = probe.rows(accepted=False)
ODD = probe.rows(accepted=True)

REASONS = {
    "version": "version",
    "negative_ndim": "malformed",
    "too_many_dims": "malformed",
    "null_shape": "malformed",
    "negative_dim": "malformed",
    "too_many_elements": "malformed",
    "too_many_bytes": "malformed",
    "address_overflow": "malformed",
    "null_data": "malformed",
    "zero_bits": "malformed",
    "zero_lanes": "malformed",
    "impossible_bits": "unsupported_dtype",
    "partial_bytes": "unsupported_dtype",
    "sub_byte_strides": "unsupported_dtype",
}


def table_class(kind: str, attribute: str = "__dlpack_c_exchange_api__") -> type:
    """A class whose instances are exported by one of the probe's exchange tables."""
    return type("TableProducer", (), {attribute: probe.exchange_table(kind)})


def test_the_table_of_wrong_structs_has_every_defect(defects: tuple[str, ...]) -> None:
    assert {defects[defect] for _, _, defect, _ in WRONG} == set(defects) - {"none"}
    assert set(REASONS) == set(defects) - {"none"}
    assert {defects[defect] for _, _, defect, _ in ODD} == {"none"}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])
def test_wrong_structs_in_capsules(function: str, versioned: bool, defects: tuple[str, ...]) -> None:
    for name, index, defect, has_legacy in WRONG:
        if not versioned and not has_legacy:
            continue
        export = probe.row(index, accepted=False, versioned=versioned)
        capsule = export.capsule()
        with pytest.raises(ExchangeError) as caught:
            FUNCTIONS[function](capsule)
        assert caught.value.reasons == (REASONS[defects[defect]],), name
        assert export.releases == 1, name
        assert (probe.capsule_name(capsule) or b"").startswith(b"used_"), name
        with pytest.raises(ExchangeError) as caught:
            FUNCTIONS[function](capsule)
        assert caught.value.reason == "consumed"
        del capsule
        gc.collect(0)
        assert export.releases == 1, name


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])
def test_wrong_structs_of_producers(versioned: bool, defects: tuple[str, ...]) -> None:
    for name, index, defect, has_legacy in WRONG:
        if not versioned and not has_legacy:
            continue
        export = probe.row(index, accepted=False, versioned=versioned)
        with pytest.raises(ExchangeError) as caught:
            halfway.from_dlpack(probe.Producer(export))
        assert caught.value.reasons == (REASONS[defects[defect]],), name
        assert export.releases == 1, name


def test_wrong_structs_by_exchange_table(defects: tuple[str, ...]) -> None:
    """The fast path of producers: by their table, and towards halfway's own."""
    producer = table_class("good")()
    own = probe.table_of(halfway.Tensor)
    for name, index, defect, _ in WRONG:
        export = probe.row(index, accepted=False, versioned=True)
        probe.with_gil.next(export.managed)
        with pytest.raises(ExchangeError) as caught:
            halfway.from_dlpack(producer)
        assert caught.value.reasons == (REASONS[defects[defect]],), name
        assert export.releases == 1, name
        # a failed import by the table has not consumed its argument
        export = probe.row(index, accepted=False, versioned=True)
        with pytest.raises(ExchangeError) as caught:
            probe.import_by_table(own, export.managed)
        assert caught.value.reasons == (REASONS[defects[defect]],), name
        assert export.releases == 0, name


def test_explaining_a_wrong_struct_leaves_it_alone(defects: tuple[str, ...]) -> None:
    for name, index, defect, _ in WRONG:
        export = probe.row(index, accepted=False, versioned=True)
        capsule = export.capsule()
        with pytest.raises(ExchangeError) as caught:
            halfway.explain(capsule)
        assert caught.value.reasons == (REASONS[defects[defect]],), name
        assert export.releases == 0, name
        assert probe.capsule_name(capsule) == probe.VERSIONED, name


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "legacy"])
def test_odd_structs_are_taken(versioned: bool, drain: Callable[[], None]) -> None:
    """Taken or refused with a reason by what cannot express them; released once; their memory faults if touched."""
    for name, index, _, has_legacy in ODD:
        if not versioned and not has_legacy:
            continue
        export = probe.row(index, accepted=True, versioned=versioned)
        tensor: Any = None
        try:
            tensor = halfway.from_dlpack(export.capsule())
        except ExchangeError as error:
            assert error.reason in ("device", "unavailable"), name  # memory that is not the host's
            assert export.releases == 1, name
            continue
        assert export.releases == 0, name
        assert repr(tensor).startswith("halfway.Tensor("), name
        for _ in range(2):
            try:
                array = halfway.to_numpy(tensor)
            except ExchangeError as error:
                too_much = "more bytes than there are" in name
                assert error.reason == ("malformed" if too_much else "unsupported_dtype"), name
            else:
                assert array.shape == tensor.shape, name
                del array
            again = halfway.from_dlpack(tensor.__dlpack__(max_version=(1, 3)))
            assert (again.shape, again.dtype, again.readonly) == (
                tensor.shape,
                tensor.dtype,
                tensor.readonly,
            ), name
            del again
        try:
            alias = halfway.to_torch(tensor, copy=False, allow_readonly=True)
        except ExchangeError as error:
            assert error.reason in ("unsupported_dtype", "negative_strides", "misaligned"), name
        else:
            assert tuple(alias.shape) == tensor.shape, name
            del alias
        del tensor
        drain()
        assert export.releases == 1, name


@pytest.mark.parametrize("major", [0, 2, 3, 2**31])
def test_other_major_versions_are_released_unread(major: int) -> None:
    """All but version, manager_ctx and deleter lies in a page that faults."""
    export = probe.unreadable(major)
    with pytest.raises(ExchangeError) as caught:
        halfway.from_dlpack(export.capsule())
    assert caught.value.reasons == ("version",)
    assert export.releases == 1

    export = probe.unreadable(major)
    with pytest.raises(ExchangeError, match="version"):
        halfway.to_torch(probe.Producer(export))
    assert export.releases == 1

    export = probe.unreadable(major)
    probe.with_gil.next(export.managed)
    with pytest.raises(ExchangeError, match="version"):
        halfway.to_numpy(table_class("good")())
    assert export.releases == 1

    export = probe.unreadable(major)
    with pytest.raises(ExchangeError, match="version"):
        halfway.explain(export.capsule())
    assert export.releases == 0

    export = probe.unreadable(major)
    with pytest.raises(ExchangeError, match="version"):
        probe.import_by_table(probe.table_of(halfway.Tensor), export.managed)
    assert export.releases == 0


def test_wrong_structs_without_a_deleter() -> None:
    for _, index, _, has_legacy in WRONG:
        for versioned in (True, False):
            if versioned or has_legacy:
                export = probe.row(index, accepted=False, versioned=versioned).without_deleter()
                with pytest.raises(ExchangeError):
                    halfway.from_dlpack(export.capsule())


# --- the memory is where the struct says


def test_byte_offset_is_honoured(exchange_path: str) -> None:
    data = np.arange(12, dtype=np.float32)
    for versioned in (True, False):
        for offset in (0, 4, 8, 20):
            export = probe.make(data, (2, 3), (3, 1), byte_offset=offset, versioned=versioned)
            expected = data[offset // 4 :][:6].reshape(2, 3).tolist()
            tensor = halfway.from_dlpack(export.capsule())
            assert tensor.data_ptr == data.ctypes.data + offset
            assert halfway.to_numpy(tensor).tolist() == expected
            assert halfway.to_torch(tensor, allow_readonly=True).tolist() == expected
            assert torch.from_dlpack(np.asarray(tensor).copy()).tolist() == expected


def test_null_strides_are_row_major(exchange_path: str) -> None:
    data = np.arange(12, dtype=np.float32)
    for versioned in (True, False):
        for shape in ((12,), (3, 4), (1, 12), (2, 1, 6), (), (2, 0, 3)):
            export = probe.make(data, shape, None, versioned=versioned)
            tensor = halfway.from_dlpack(export.capsule())
            expected = data[: int(np.prod(shape))].reshape(shape).tolist()
            assert halfway.to_numpy(tensor).tolist() == expected
            assert halfway.to_torch(tensor, allow_readonly=True).tolist() == expected


def test_negative_strides_in_capsules() -> None:
    data = np.arange(6, dtype=np.float32)
    export = probe.make(data, (2, 3), (-3, -1), byte_offset=20)
    tensor = halfway.from_dlpack(export.capsule())
    assert halfway.to_numpy(tensor).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert halfway.to_torch(tensor).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert halfway.cast(tensor, "float64").strides == (3, 1)


def test_misaligned_capsules() -> None:
    data = np.arange(32, dtype=np.uint8)
    for offset in (1, 2, 3):
        export = probe.make(data, (4,), (1,), byte_offset=offset)
        expected = data[offset : offset + 16].tobytes()
        tensor = halfway.from_dlpack(export.capsule())
        assert halfway.to_numpy(tensor).tobytes() == expected
        assert not halfway.to_numpy(tensor).flags.aligned
        copied = halfway.to_torch(tensor)
        assert copied.data_ptr() != tensor.data_ptr
        assert copied.numpy().tobytes() == expected


def test_opaque_dtypes_travel_and_are_never_cast() -> None:
    data = np.arange(32, dtype=np.uint8)
    for dtype in ((200, 16, 1), (probe.FLOAT, 32, 4), (3, 64, 1), (probe.FLOAT, 128, 1)):
        export = probe.make(data, (2,), (1,), dtype)
        tensor = halfway.from_dlpack(export.capsule())
        pointer = probe.claim(tensor.__dlpack__(max_version=(1, 0)))
        assert probe.with_gil.data(pointer) == data.ctypes.data
        probe.release_on_threads([pointer], keep_gil=True)
        for fail in (
            lambda t=tensor: halfway.to_numpy(t),
            lambda t=tensor: halfway.to_torch(t),
            lambda t=tensor: halfway.cast(t, "float32"),
            lambda t=tensor: halfway.to_numpy(t, "float32", casting="unsafe"),
        ):
            with pytest.raises(ExchangeError) as caught:
                fail()
            assert caught.value.reason == "unsupported_dtype"
        with pytest.raises(BufferError):
            memoryview(tensor)
        del tensor, fail, caught
        assert export.releases == 1


@pytest.mark.parametrize(("padded", "flags"), [(False, 0), (True, probe.PADDED)])
def test_sub_byte_elements(padded: bool, flags: int) -> None:
    data = np.arange(8, dtype=np.uint8)
    export = probe.make(data, (8,), (1,), (probe.INT, 4, 1), flags=flags)
    tensor = halfway.from_dlpack(export.capsule())
    assert tensor.nbytes == (8 if padded else 4)
    pointer = probe.claim(tensor.__dlpack__(max_version=(1, 3)))
    assert probe.with_gil.flags(pointer) == flags
    probe.release_on_threads([pointer], keep_gil=True)
    if padded:
        array = halfway.to_numpy(tensor)
        assert array.ctypes.data == data.ctypes.data
        assert array.itemsize == 1
        with pytest.raises(ExchangeError):
            tensor.__dlpack__()  # a legacy struct cannot say
    else:
        for fail in (halfway.to_numpy, halfway.to_torch):
            with pytest.raises(ExchangeError) as caught:
                fail(tensor)
            assert caught.value.reason == "unsupported_dtype"


def test_flags_of_exports() -> None:
    def flags(capsule: Any) -> int:
        pointer = probe.claim(capsule)
        found = int(probe.with_gil.flags(pointer))
        probe.release_on_threads([pointer], keep_gil=True)
        return found

    data = np.zeros(6, np.float32)
    unknown = 0xFFFF_FFFF_FFFF_FF00
    for given, kept in (
        (0, 0),
        (probe.READ_ONLY, probe.READ_ONLY),
        (probe.IS_COPIED, 0),
        (probe.PADDED, 0),
        (unknown, 0),
        (unknown | probe.READ_ONLY | probe.IS_COPIED, probe.READ_ONLY),
    ):
        tensor = halfway.from_dlpack(probe.make(data, (6,), (1,), flags=given).capsule())
        assert flags(tensor.__dlpack__(max_version=(1, 3))) == kept
        copied = tensor.__dlpack__(max_version=(1, 3), copy=True)
        assert flags(copied) == probe.IS_COPIED
        assert flags(tensor.__dlpack__(max_version=(1, 3), copy=False)) == kept


# --- exchange tables of producers


@pytest.mark.parametrize("attribute", ["__dlpack_c_exchange_api__", "__c_dlpack_exchange_api__"])
@pytest.mark.parametrize("kind", ["good", "newer"])
def test_tables_under_both_spellings_and_behind_newer_ones(
    kind: str, attribute: str, drain: Callable[[], None]
) -> None:
    producer = table_class(kind, attribute)()
    for function in (halfway.from_dlpack, halfway.to_numpy, halfway.to_torch):
        export = probe.floats()
        probe.with_gil.next(export.managed)
        made = function(producer)
        assert np.asarray(made).tolist() == [0, 1, 2, 3, 4, 5]
        del made
        drain()
        assert export.releases == 1


@pytest.mark.parametrize("kind", ["empty", "silent"])
def test_tables_that_give_nothing(kind: str) -> None:
    with pytest.raises(ExchangeError) as caught:
        halfway.from_dlpack(table_class(kind)())
    assert caught.value.reason == "malformed"


def test_tables_that_are_too_new_or_none_at_all() -> None:
    export = probe.floats()
    for value in (
        probe.exchange_table("too_new"),
        probe.new_capsule(probe.with_gil.table(b"good"), b"another_name"),
        probe.new_capsule(probe.with_gil.table(b"good"), None),
        None,
        1,
        "table",
    ):
        class_ = type("Producer", (probe.Producer,), {"__dlpack_c_exchange_api__": value})
        export = probe.floats()
        assert halfway.to_numpy(class_(export)).tolist() == [0, 1, 2, 3, 4, 5]
        assert export.releases == 1
        alone = type("Alone", (), {"__dlpack_c_exchange_api__": value})
        with pytest.raises(TypeError):
            halfway.from_dlpack(alone())


def test_a_table_and_a_device_elsewhere() -> None:
    export = probe.floats()
    probe.with_gil.next(export.managed)
    class_ = type(
        "Elsewhere",
        (),
        {
            "__dlpack_c_exchange_api__": probe.exchange_table("good"),
            "__dlpack_device__": lambda self: (probe.CUDA, 0),
        },
    )
    with pytest.raises(ExchangeError) as caught:
        halfway.from_dlpack(class_())
    assert caught.value.reason == "unavailable"
    assert export.releases == 0
    probe.with_gil.next(None)


def test_host_memory_of_cuda_is_taken() -> None:
    data = np.arange(3, dtype=np.float32)
    export = probe.make(data, (3,), (1,), device=probe.CUDA_HOST)
    assert halfway.to_numpy(export.capsule()).tolist() == [0, 1, 2]
    assert export.releases == 1


# --- halfway's own table


def test_the_own_table_refuses_what_it_cannot_say() -> None:
    table = probe.table_of(halfway.Tensor)
    data, ndim = ctypes.c_void_p(), ctypes.c_int()
    array = np.zeros((2, 3))

    def describe(x: Any) -> None:
        status = probe.with_gil.table_describe(table, x, ctypes.byref(data), ctypes.byref(ndim))
        assert status == 0

    describe(halfway.from_dlpack(array))
    assert (data.value, ndim.value) == (array.ctypes.data, 2)
    array.flags.writeable = False
    with pytest.raises(ExchangeError) as caught:
        describe(halfway.from_dlpack(array))
    assert caught.value.reason == "readonly"
    for thing in (array, None, 3, torch.zeros(2)):
        with pytest.raises(TypeError):
            describe(thing)


def test_the_own_table_allocates() -> None:
    table = probe.table_of(halfway.Tensor)
    kind = ctypes.create_string_buffer(64)
    managed = probe.with_gil.table_allocate(table, probe.CPU, 2, kind, 64)
    tensor = probe.import_by_table(table, managed)
    assert (tensor.shape, tensor.dtype) == ((2, 3), "float32")
    assert tensor.data_ptr % 64 == 0
    del tensor
    for device, ndim in ((probe.CUDA, 2), (probe.CPU, -1)):
        assert probe.with_gil.table_allocate(table, device, ndim, kind, 64) is None
        assert kind.value == b"BufferError"
