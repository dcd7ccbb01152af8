"""The one-pass benchmark runs, checks its contenders and judges what it should; no time is asserted."""

from __future__ import annotations

import copy
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from bench import (
    by_hand,
    floor,
    onepass_batches,
    onepass_claims,
    onepass_data,
    onepass_idioms,
    onepass_images,
    onepass_rows,
)
from tests.python import bench_script
from tests.python.loading import load_tool

import halfway

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "bench" / "onepass.py"
run_script = partial(bench_script.run, SCRIPT)

IMAGES = "u8 NHWC -> bfloat16 NCHW, normalised"
SAMPLES = "collate 64 u8 HWC -> bfloat16 NCHW, normalised, fresh"
RAGGED = "collate 256 x 1 to 4096 f32 -> bfloat16, padded, fresh"
TREE = "collate 256 dicts, f64 -> bfloat16 in them, fresh"
UNTARGETED = {
    "u8 NHWC -> float16 NCHW, normalised, out",
    "u8 NHWC -> float32 NCHW, normalised, out",
    "crops of u8 NHWC -> bfloat16 NCHW, normalised, out",
    SAMPLES,
    RAGGED,
    TREE,
}
LARGE, SMALL = "collate 64 x 1 MiB f32 -> bfloat16", "collate 1024 x 128 f64 -> bfloat16"
ROWS = {
    f"{IMAGES}, fresh",
    f"{IMAGES}, out",
    "transposed f32 -> bfloat16, out",
    "every second column f32 -> bfloat16, out",
    "reversed rows f32 -> bfloat16, out",
    *(f"big-endian {source} -> {target}, out" for source in ("f4", "f8") for target in ("float32", "bfloat16")),
    "field f8 of 24-byte records -> bfloat16, out",
    "stochastic f32 -> bfloat16, out",
    *(f"{name}, {mode}" for name in (LARGE, SMALL) for mode in ("fresh", "out")),
    *UNTARGETED,
}
BEST, SHARE = "times faster than the best idiom", "share of the floor"
CLAIMS = {
    f"{IMAGES}, fresh: times faster than the usual chain": 15,
    f"{IMAGES}, fresh: {BEST}": 4,
    f"{IMAGES}, out: {BEST}": 4,
    f"{IMAGES}, out: share of the hand-written kernel's speed": 0.7,
    f"transposed f32 -> bfloat16, out: {BEST}": 4,
    f"transposed f32 -> bfloat16, out: {SHARE}": 0.5,
    f"every second column f32 -> bfloat16, out: {BEST}": 2,
    f"every second column f32 -> bfloat16, out: {SHARE}": 0.65,
    f"reversed rows f32 -> bfloat16, out: {BEST}": 2,
    f"reversed rows f32 -> bfloat16, out: {SHARE}": 0.65,
    **{
        f"big-endian {source} -> {target}, out: {what}": least
        for source in ("f4", "f8")
        for target in ("float32", "bfloat16")
        for what, least in ((BEST, 2), (SHARE, 0.8))
    },
    f"field f8 of 24-byte records -> bfloat16, out: {BEST}": 1.5,
    f"stochastic f32 -> bfloat16, out: {BEST}": 4,
    f"{LARGE}, fresh: {BEST}": 5,
    f"{LARGE}, out: times faster than torch._foreach_copy_": 1,
    f"{SMALL}, fresh: {BEST}": 1.5,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "onepass.json"
    plot = path.with_suffix(".svg")
    printed = run_script("--quick", "--json", path, "--plot", plot)
    drawn = plot.read_text(encoding="utf-8")
    assert drawn.rstrip().endswith("</svg>")
    run_script("--replot", path, "--plot", plot)
    assert plot.read_text(encoding="utf-8") == drawn
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for entry in (*loaded["claims"], *loaded["rows"]):
        assert entry["name"] in printed
    return loaded


def is_spread(entry: dict[str, float]) -> bool:
    values = [entry["q1"], entry["median"], entry["q3"]]
    return all(math.isfinite(value) and value >= 0 for value in values) and values == sorted(values)


def test_statements_that_a_target_names_are_never_screened_out():
    some = onepass_data.Data({}, 0, lambda found: None, np.zeros(1))
    for case in onepass_rows.cases():
        named = {contender.statement for contender in case.contenders(some) if contender.named}
        assert named == set(onepass_batches.FOREACH) & set(case.rivals)
        assert named or "foreach" not in onepass_claims.TARGETS.get(case.name, {})


# --- the result


def test_it_names_the_machine_the_versions_and_the_threads(result):
    for key in ("cpu", "cores", "system", "load_average", "python", "numpy", "torch", "ml_dtypes", "halfway"):
        assert result["machine"][key], key
    assert result["benchmark"] == "onepass"
    assert result["date"]
    assert result["quick"] is True
    assert result["settings"]["threads"] in (1, 2)
    assert 0 <= result["seconds"] < 3600


def test_every_row_is_there_and_compares_ours_with_several_idioms_and_the_floor(result):
    assert [row["name"] for row in result["rows"]] == [case.name for case in onepass_rows.cases()]
    assert {row["name"] for row in result["rows"]} == ROWS
    for row in result["rows"]:
        entries = {entry["statement"]: entry for entry in row["contenders"]}
        assert len(entries) == len(row["contenders"])
        for entry in entries.values():
            assert is_spread(entry["ns"])
            assert entry["rounds"] >= 2
        roles = [entry["role"] for entry in entries.values()]
        assert roles.count("rival") >= 4, row["name"]
        assert roles.count("floor") == 4
        chosen = {"ours": row["ours"], "rival": row["rival"], "floor": row["floor"]["statement"]}
        chosen |= {role: row[role]["statement"] for role in ("usual", "hand") if role in row}
        assert set(roles) == set(chosen)
        for role, statement in chosen.items():
            medians = [entry["ns"]["median"] for entry in entries.values() if entry["role"] == role]
            assert entries[statement]["role"] == role
            assert entries[statement]["ns"]["median"] == min(medians)
        for spread in (row["faster"], row["ratio"], row["floor"]["share"]):
            assert is_spread(spread)
        assert ("hand" in row) == row["name"].startswith(IMAGES)
        assert ("usual" in row) == (row["name"] in (f"{IMAGES}, fresh", SAMPLES))
        assert row["name"].endswith(row["mode"])


def test_every_target_is_judged(result):
    assert {claim["name"]: claim["target"] for claim in result["claims"]} == CLAIMS
    for claim in result["claims"]:
        assert claim["bound"] == ">="
        assert claim["verdict"] == ("ok" if claim["value"] >= claim["target"] else "short")
        assert claim["note"]
        assert ("floor" in claim) == ("faster" in claim["name"])


def test_rows_without_a_target_are_shown_and_claim_nothing(result):
    assert onepass_claims.TARGETS.keys() <= ROWS
    rows = [row for row in result["rows"] if row["name"] not in onepass_claims.TARGETS]
    assert {row["name"] for row in rows} - {f"{SMALL}, out"} == UNTARGETED
    assert onepass_claims.judge(rows) == []


def test_claims_follow_from_the_rows(result):
    rows = copy.deepcopy(result["rows"])
    for row in rows:
        for entry in (row, *(row[role] for role in ("usual", "hand", "foreach") if role in row)):
            entry["faster"]["median"] = 20.0
        row["floor"]["share"]["median"] = 0.9
    assert {claim["verdict"] for claim in onepass_claims.judge(rows)} == {"ok"}
    by_name = {row["name"]: row for row in rows}
    by_name[f"{IMAGES}, fresh"]["usual"]["faster"]["median"] = 14.9
    by_name[f"{IMAGES}, out"]["hand"]["faster"]["median"] = 0.69
    by_name["transposed f32 -> bfloat16, out"]["faster"]["median"] = 3.99
    by_name["big-endian f8 -> float32, out"]["floor"]["share"]["median"] = 0.79
    short = {claim["name"]: claim["value"] for claim in onepass_claims.judge(rows) if claim["verdict"] == "short"}
    assert short == {
        f"{IMAGES}, fresh: times faster than the usual chain": 14.9,
        f"{IMAGES}, out: share of the hand-written kernel's speed": 0.69,
        f"transposed f32 -> bfloat16, out: {BEST}": 3.99,
        f"big-endian f8 -> float32, out: {SHARE}": 0.79,
    }
    floors = {claim["name"]: claim["floor"] for claim in onepass_claims.judge(rows) if "floor" in claim}
    assert floors[f"transposed f32 -> bfloat16, out: {BEST}"] == pytest.approx(3.99 / 0.9, abs=1e-3)
    assert onepass_claims.judge([]) == []


def test_rows_are_chosen(tmp_path):
    path = tmp_path / "some.json"
    run_script("--quick", "--rows", "transposed|f4 -> float32", "--json", path)
    some = json.loads(path.read_text(encoding="utf-8"))
    assert [row["name"] for row in some["rows"]] == ["transposed f32 -> bfloat16, out", "big-endian f4 -> float32, out"]
    assert {claim["name"].split(":")[0] for claim in some["claims"]} == {row["name"] for row in some["rows"]}


# --- what is compared is the same thing


@pytest.mark.parametrize("case", onepass_rows.cases(), ids=lambda case: case.name)
def test_bytes_are_those_of_the_memory_that_is_moved(case):
    data = case.make(True)
    assert data.source.nbytes == data.read
    assert data.written == data.names["o"].nbytes
    assert data.source.flags.c_contiguous
    (read, written) = (sum(counts) for counts in zip(*floor.parts_of(data.read, data.written), strict=True))
    assert data.read - 4 * floor.LINE < read <= data.read
    assert data.written - 4 * floor.LINE < written <= data.written


@pytest.mark.parametrize("case", onepass_rows.cases(), ids=lambda case: case.name)
def test_a_wrong_result_is_noticed(case):
    data = case.make(True)
    found = eval(compile(case.ours[0], "ours", "eval"), data.names)
    tree = found if isinstance(found, dict) else {"": found}
    tree = {key: halfway.to_torch(leaf).clone() for key, leaf in tree.items()}

    def check(key: str, leaf: torch.Tensor) -> None:
        data.check({**tree, key: leaf} if isinstance(found, dict) else leaf)

    for key, right in tree.items():
        check(key, right)
        wrong = right.clone()
        wrong.view(-1)[-1] += 1
        with pytest.raises(AssertionError, match="off by"):
            check(key, wrong)
        if right.is_floating_point():
            wrong.view(-1)[-1] = float("nan")
            with pytest.raises(AssertionError, match="off by"):
                check(key, wrong)
        with pytest.raises(AssertionError, match="shape"):
            check(key, right[:-1])
        if case.mode == "fresh":
            with pytest.raises(AssertionError, match="dtype"):
                check(key, right.double())


def test_a_tree_lacks_no_leaf_and_has_no_other():
    case = next(case for case in onepass_rows.cases() if case.name == TREE)
    data = case.make(True)
    right = eval(case.ours[0], data.names)
    data.check(right)
    for wrong in ({**right, "more": right["label"]}, {"image": right["image"]}, right["image"], None):
        with pytest.raises(AssertionError, match="no dict of image, vector, label"):
            data.check(wrong)
    with pytest.raises(AssertionError, match="label: no tensor"):
        data.check({**right, "label": right["label"].tolist()})


def test_crops_are_read_by_whole_lines():
    data = onepass_images.make_images(True, cropped=True)
    photos = data.names["photos"]
    assert photos.shape == (2, 28, 44, 3)
    assert not photos.flags.c_contiguous
    at = np.zeros(photos.shape, np.int64) + photos.ctypes.data
    for axis, (length, stride) in enumerate(zip(photos.shape, photos.strides, strict=True)):
        at += (np.arange(length) * stride).reshape([-1 if i == axis else 1 for i in range(photos.ndim)])
    assert data.read == np.unique(at // floor.LINE).size * floor.LINE


def test_ragged_samples_have_many_lengths():
    names = onepass_batches.make_ragged(False).names
    lengths = [len(sample) for sample in names["samples"]]
    assert len(lengths) == 256
    assert min(lengths) >= 1
    assert max(lengths) == names["o"].shape[1] <= 4096
    assert len(set(lengths)) > 200


def test_biased_rounding_is_noticed():
    exact = torch.rand(1 << 16, generator=torch.Generator().manual_seed(5)) + 1
    check = onepass_data.neighbours(exact)
    check(halfway.cast(exact, "bfloat16", rounding="stochastic", seed=3))
    towards_zero = (exact.view(torch.int32) & -0x10000).view(torch.float32)
    with pytest.raises(AssertionError, match="mean error"):
        check(towards_zero)
    with pytest.raises(AssertionError, match="nothing was rounded"):
        check(exact)


def test_a_contender_that_computes_something_else_is_named():
    case = next(case for case in onepass_rows.cases() if case.name.startswith("transposed"))
    broken = onepass_data.Case(case.name, case.mode, case.make, case.ours, ("o.copy_(whole.T * 1.1)",))
    with pytest.raises(AssertionError, match=r"o\.copy_\(whole\.T \* 1\.1\)"):
        onepass_rows.measure(broken, quick=True)
    idle = onepass_data.Case(case.name, case.mode, case.make, case.ours, ("None",))
    with pytest.raises(AssertionError, match="None: off by"):
        onepass_rows.measure(idle, quick=True)


def test_idioms_reach_the_last_part_and_the_last_band():
    """Sizes that no part, band or tile divides."""
    whole = torch.randn(301, 1000)
    o = torch.zeros(1000, 301, dtype=torch.bfloat16)
    narrow = torch.zeros(301, 1000, dtype=torch.bfloat16)
    assert (onepass_idioms.transposed_bands(whole, o, narrow) == whole.bfloat16().T).all()
    assert (onepass_idioms.in_tiles(whole.T, o.zero_()) == whole.bfloat16().T).all()
    wide = torch.zeros(301, 1000)
    p = torch.zeros(301, 1000, dtype=torch.bfloat16)
    assert (onepass_idioms.in_bands(whole, p, wide) == whole.bfloat16()).all()
    assert (onepass_idioms.in_bands(whole, p.zero_(), wide, flip=True) == whole.bfloat16().flip(0)).all()
    assert (onepass_idioms.row_by_row(whole, p.zero_()) == whole.bfloat16().flip(0)).all()
    count = 2 * onepass_idioms.BAND + 3
    values = torch.randn(count)
    swapped = values.numpy().byteswap().view(">f4")
    w = np.zeros(count, np.float32)
    q = torch.zeros(count, dtype=torch.bfloat16)
    for idiom in (onepass_idioms.swap_in_parts, onepass_idioms.swap_in_place, onepass_idioms.swap_copy):
        assert (idiom(swapped, w, q.zero_(), torch.from_numpy(w)) == values.bfloat16()).all()
    bits = np.zeros(count, np.uint16)
    for idiom in (onepass_idioms.raw_in_parts, onepass_idioms.integers_in_parts, onepass_idioms.integers_added):
        bits[:] = 0
        idiom(values.numpy().view(np.uint32), bits, np.random.Generator(np.random.SFC64(1)), np.zeros(count, np.uint32))
        onepass_data.neighbours(values)(torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16))


# --- the kernel written by hand


@pytest.fixture(scope="module", autouse=True)
def _library_is_built():
    assert floor.LIBRARY.is_file(), "tools/cmake_build.sh bench halfway_floor builds it; `make python` does"


@pytest.mark.parametrize("variant", floor.VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 31), (3, 1, 32), (2, 5, 13), (5, 8, 8), (2, 7, 33), (4, 16, 20)])
def test_the_kernel_written_by_hand_gives_the_same_bits_and_writes_nothing_else(shape, variant):
    rng = np.random.default_rng(shape)
    photos = rng.integers(0, 256, (*shape, 3), np.uint8)
    scale, shift = rng.normal(size=(2, 3)).astype(np.float32)
    for offset in (0, 1, 16):  # elements of two bytes from a multiple of 64 bytes
        memory = np.full(photos.size + 128, 0x5A5A, np.uint16)
        start = -memory.ctypes.data % 64 // 2 + 16 + offset
        planes = memory[start : start + photos.size]
        by_hand.Images(photos, planes, scale, shift).normalise(variant, repetitions=2)
        wanted = halfway.to_numpy(photos, "bfloat16", scale=scale, shift=shift, axis=3, permute=(0, 3, 1, 2))
        assert (planes == wanted.view(np.uint16).reshape(-1)).all()
        assert (memory[:start] == 0x5A5A).all()
        assert (memory[start + photos.size :] == 0x5A5A).all()


def test_other_numbers_of_threads_are_refused():
    photos = np.zeros((1, 1, 1, 3), np.uint8)
    images = by_hand.Images(photos, np.zeros(3, np.uint16), np.ones(3, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="3 threads"):
        images.normalise(floor.Variant(non_temporal=False, threads=3))


# --- the tables of README.md


def test_tables_come_from_the_result(result, tmp_path):
    tables = load_tool("readme_tables")
    assert tables.onepass_times(None) == tables.onepass_claims(None) == tables.not_measured("onepass")
    (tmp_path / "onepass-x.json").write_text(json.dumps(result), encoding="utf-8")
    found = tables.newest("onepass", tmp_path)
    times = tables.onepass_times(found)
    for row in result["rows"]:
        line = next(line for line in times.splitlines() if line.startswith(f"| {row['name']} |"))
        assert f"{row['faster']['median']:.1f} (" in line
        assert line.rstrip(" |").endswith(f"{row['floor']['share']['median']:.2f}")
    claims = tables.onepass_claims(found)
    assert len(claims.splitlines()) == 2 + len(result["claims"])
    assert claims.count("**not met**") == sum(claim["verdict"] == "short" for claim in result["claims"])
