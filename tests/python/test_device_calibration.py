"""Measured constants: the file they are kept in, and who reads it. What they are worth only a device can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.sim import Rig, rig, rig_in_use

import halfway
from halfway import _calibration

__all__ = ["rig"]

FIGURES = {"wire_to_device": 1e9, "wire_to_host": 2e9, "mapped_read": 0.5, "mapped_write": 0.25, "host_cast": 3e9}
FIGURES |= {"host_memory": 4e9}
NAME = "simulated device 0"
WIDE = np.ones((300, 900))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HALFWAY_CALIBRATION", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_calibration, "_BYTES", 1 << 16)
    return tmp_path


def plan() -> halfway.Plan:
    return halfway.explain(WIDE, "bfloat16", device="cuda")


def test_what_was_measured_is_kept_and_used_by_later_processes(rig: Rig, cache: Path) -> None:
    assert plan().machine.startswith("assumed")
    figures = halfway.calibrate()
    assert plan().machine == f"measured {figures['measured']}"
    (file,) = (cache / "halfway").iterdir()
    assert str(file) == figures["file"]
    assert json.loads(file.read_text()) == {name: figures[name] for name in figures if name != "file"}
    assert all(figures[name] > 0 for name in FIGURES)
    assert halfway.calibrate("cuda:0")["file"] == str(file)
    with rig_in_use():  # as a process that begins
        assert plan().machine == f"measured {figures['measured']}"


def test_the_figures_decide(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned and wide: by the assumed figures the device casts or the host does, by these it is the other one."""
    x = np.ones((4200, 1024), np.float32)  # more than `small_pinned`
    routes = {}
    for host_cast in (1e6, 1e15):
        file = tmp_path / f"{host_cast}.json"
        figures = FIGURES | {"host_cast": host_cast, "host_memory": host_cast, "measured": "2026-01-02", "device": NAME}
        file.write_text(json.dumps(figures))
        monkeypatch.setenv("HALFWAY_CALIBRATION", str(file))
        with rig_in_use(), halfway.pin(x):
            explained = halfway.explain(x, "bfloat16", device="cuda")
            assert explained.machine == "measured 2026-01-02"
            routes[host_cast] = (explained.because.split(":")[0], explained.bytes_wire)
    assert routes == {1e6: ("device_cast", x.nbytes), 1e15: ("host_cast", x.nbytes // 2)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        json.dumps(FIGURES | {"device": NAME}),
        json.dumps(FIGURES | {"device": "another one", "measured": "2026-01-02"}),
        json.dumps(FIGURES | {"device": NAME, "measured": "yesterday"}),
        json.dumps(FIGURES | {"device": NAME, "measured": "2026-01-02", "wire_to_host": -1}),
        json.dumps(FIGURES | {"device": NAME, "measured": "2026-01-02", "wire_to_host": "fast"}),
        json.dumps(FIGURES | {"device": NAME, "measured": "2026-01-02", "mapped_read": 1.5}),
        '{"wire_to_device": NaN}',
        "\x00\xff",
    ],
)
def test_a_file_without_sense_is_no_file(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"
    file.write_text(text)
    monkeypatch.setenv("HALFWAY_CALIBRATION", str(file))
    with rig_in_use():
        assert plan().machine.startswith("assumed")
    assert file.read_text() == text


def test_nothing_is_read_or_written_if_the_environment_says_so(rig: Rig, cache: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HALFWAY_CALIBRATION", "0")
    assert halfway.calibrate()["file"] is None
    assert plan().machine.startswith("measured")  # in this process
    assert not (cache / "halfway").exists()


def test_a_place_that_cannot_be_written(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HALFWAY_CALIBRATION", str(tmp_path / "file" / "below.json"))
    assert halfway.calibrate()["file"] is None


def test_explaining_never_measures(rig: Rig, cache: Path) -> None:
    before = rig.device.counters()
    plan()
    assert rig.device.counters() == before
    assert not (cache / "halfway").exists()


@pytest.mark.parametrize("fail_call", range(1, 60))
def test_a_failure_leaves_nothing_behind(fail_call: int, cache: Path) -> None:
    from tests.python.sim import check_nothing_is_left

    with rig_in_use(fail_call=fail_call) as rig:
        try:
            halfway.calibrate()
        except halfway.ExchangeError as error:
            assert error.reason == "unavailable"
            assert not (cache / "halfway").exists()
    check_nothing_is_left(rig)


def test_no_device_by_that_name(rig: Rig) -> None:
    for device in ("cuda:1", "cpu", None):
        with pytest.raises(halfway.ExchangeError) as caught:
            halfway.calibrate(device)
        assert caught.value.reason == "device"
    with pytest.raises(TypeError):
        halfway.calibrate(0)  # type: ignore[arg-type]
