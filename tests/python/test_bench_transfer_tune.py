"""The experiments behind the transfer engine's constants, and the engine with other constants."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from bench import harness, transfer, transfer_rows, transfer_tune
from tests.python.bench_gpu import is_spread, standing_in
from tests.python.sim import rig_in_use

import halfway
from halfway import _core

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def device() -> Any:
    with standing_in() as made:
        yield made


EXPERIMENTS = transfer_tune.experiments()


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_runs_and_names_what_ships(experiment, device):
    row = transfer_tune.measure(experiment, transfer_rows.Buffers(device, transfer_rows.QUICK_LIMIT), device, 1.0, True)
    names = [entry["setting"] for entry in row["settings"]]
    assert len(set(names)) == len(names)
    assert {row["best"], row["recommended"], row["shipped"]} <= set(names)
    assert is_spread(row["shipped_over_best"])


def test_tuning_leaves_everything_as_it_was(device, monkeypatch, tmp_path, capsys):
    path = tmp_path / "tuning.json"
    threads = halfway.num_threads()
    monkeypatch.setattr(transfer_tune, "experiments", lambda: EXPERIMENTS[2:4] + EXPERIMENTS[-1:])
    assert transfer.main(["--quick", "--tune", "--json", str(path)], device) == 0
    found = json.loads(path.read_text())
    assert found["benchmark"] == "transfer-tuning"
    assert [entry["status"] for entry in found["steps"]] == ["ok"] * 3
    assert len(found["experiments"]) == 3
    assert halfway.num_threads() == threads
    assert capsys.readouterr().out.count("recommended") == 3


def test_what_ships_is_what_the_experiments_call_shipped():
    plan = (ROOT / "runtime/include/halfway/plan.h").read_text()
    staging = (ROOT / "cuda/src/staging.h").read_text()
    experiments = {experiment.name: experiment for experiment in transfer_tune.experiments()}
    ring = experiments["chunk and slots of the ring"].shipped
    assert f"chunk = std::uint64_t{{1}} << {int(ring['chunk']).bit_length() - 1}" in plan
    assert f"int slots = {ring['slots']};" in staging
    piece = experiments["bytes of a thread's piece"].shipped
    assert f"piece = std::size_t{{{int(piece['piece']) >> 10}}} << 10" in staging
    scratch = next(e for e in experiments.values() if "scratch" in e.where).shipped
    assert f"int scratch = {scratch['scratch']};" in staging
    first = next(e for e in experiments.values() if "first_chunk" in e.where).shipped
    assert f"first_chunk = std::uint64_t{{{int(first['first_chunk']) >> 10}}} << 10" in plan
    assert "small = std::uint64_t{32} << 10" in plan
    assert "small_pinned = std::uint64_t{16} << 20" in plan


def test_recommended_is_the_first_that_is_near_the_best():
    settings: tuple[transfer_tune.Setting, ...] = tuple({"slots": count} for count in (2, 3, 4))
    times = harness.Times({"slots=2": [110.0], "slots=3": [101.0], "slots=4": [100.0]})
    assert transfer_tune.recommended(settings, times) == {"slots": 3}


@pytest.mark.parametrize(
    "constants",
    [
        {"chunk": 100},
        {"slots": 0},
        {"slots": 65},
        {"scratch": 1.5},
        {"small": -1},
        {"small_pinned": 0.5},
        {"piece": 0},
        {"speed": 1},
        {"chunk": math.nan},
    ],
)
def test_constants_of_no_sense_are_refused(constants):
    with rig_in_use(), pytest.raises(ValueError, match="no constant of the engine"):
        _core._tune_engine(constants)


def test_a_tuned_engine_works_with_its_constants_until_told_otherwise():
    x = torch.arange(1 << 16, dtype=torch.float32)
    narrow = np.ones(1 << 16, np.uint8)

    def copies(source: Any = x, dtype: Any = None) -> Any:
        before = rig.device.counters()
        array = halfway.to_torch(source, dtype, device="cuda")
        assert rig.values(array).tolist() == source.tolist()
        after = rig.device.counters()
        return after["copies"] - before["copies"], after["launches"] - before["launches"]

    with rig_in_use() as rig:
        assert copies() == (1, 0)
        _core._tune_engine({"chunk": 1 << 15, "small": 0, "slots": 2})
        assert copies() == (8, 0)
        assert copies(narrow, "float32") == (0, 2)  # kernels read the slots
        _core._tune_engine({"chunk": 1 << 15, "small": 0, "small_pinned": 0})
        assert copies(narrow, "float32") == (2, 2)
        _core._tune_engine({"small": 1 << 40})
        assert copies(narrow, "float32") == (1, 0)
        with halfway.pin(narrow):
            _core._tune_engine({"small": 0, "small_pinned": 1 << 40})
            assert copies(narrow, "float32") == (0, 1)
        _core._tune_engine(None)
        assert copies() == (1, 0)
    with pytest.raises(TypeError):
        _core._tune_engine({"chunk": "large"})  # type: ignore[dict-item]
