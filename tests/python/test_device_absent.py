"""Without a GPU: one error that says what was looked for, plans all the same, and the demo's section."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import halfway
from halfway.__main__ import main

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")

X = np.ones((64, 3))

CALLS: dict[str, Callable[[], Any]] = {
    "to_torch": lambda: halfway.to_torch(X, "bfloat16", device="cuda"),
    "to_torch by index": lambda: halfway.to_torch(X, device="cuda:1"),
    "from_dlpack": lambda: halfway.from_dlpack(X, device=(2, 0)),
    "cast": lambda: halfway.cast(torch.ones(3), "float16", device=torch.device("cuda")),
    "collate": lambda: halfway.collate([X, X], device="cuda"),
    "pin": lambda: halfway.pin(X).__enter__(),
    "pin nothing": lambda: halfway.pin(X[:0]).__enter__(),
    "calibrate": lambda: halfway.calibrate(),
}


@pytest.mark.parametrize("name", CALLS)
def test_one_error_says_what_was_looked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(halfway.ExchangeError) as caught:
        CALLS[name]()
    assert caught.value.reasons == ("unavailable",)
    assert "explain()" in caught.value.hint
    text = str(caught.value)
    # what it is built for, or that it is not
    assert re.search(r"built for CUDA \d+\.\d+, and .*driver|has no CUDA part", text)
    assert "CUDA_VISIBLE_DEVICES is" in text
    assert f"torch {torch.__version__} was built" in text
    assert "\n" not in text


def test_the_source_is_released_and_out_untouched() -> None:
    from tests.python import probe

    export = probe.floats()
    with pytest.raises(halfway.ExchangeError):
        halfway.to_torch(export.capsule(), device="cuda")
    assert export.releases == 1


def test_what_the_environment_says(run_python: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    done = run_python(
        """
        import sys, numpy as np, halfway
        try:
            halfway.from_dlpack(np.ones(3), device="cuda")
        except halfway.ExchangeError as error:
            print('CUDA_VISIBLE_DEVICES is "3,4"' in str(error), "torch is not loaded" in str(error))
        print("torch" in sys.modules)
        """
    )
    done.check("True True\nFalse\n")


@pytest.mark.parametrize("to", ["torch", "halfway"])
def test_plans_are_made_all_the_same(to: str) -> None:
    plan = halfway.explain(np.ones((300, 900)), "bfloat16", to=to, device="cuda")
    assert plan.device == "cuda:0"
    assert plan.bytes_wire == 300 * 900 * 2
    assert plan.reasons == ("dtype", "device")
    assert [step.kind for step in plan.steps] == ["cast", "ship"]
    assert plan.machine.startswith("assumed")
    assert plan.unavailable.startswith("no CUDA device can be used: ")
    assert plan.unavailable in str(plan)
    assert json.loads(json.dumps(plan.to_dict()))["unavailable"] == plan.unavailable


def test_a_plan_refuses_as_the_exchange_would() -> None:
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.explain(X, device="cuda", copy=False)
    assert caught.value.reason == "device"
    with pytest.raises(halfway.CastError):
        halfway.explain(X, "int8", device="cuda")
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.explain(X, to="numpy", device="cuda")
    assert caught.value.reason == "device"


@pytest.mark.parametrize(
    "device", ["meta", "cuda:", "cuda:-1", "cuda:x", "cuda:99999999999", "CUDA", "cuda:0 ", (8, 0), (2, -1)]
)
def test_devices_that_are_none(device: Any) -> None:
    with pytest.raises(halfway.ExchangeError) as caught:
        halfway.explain(X, device=device)
    assert caught.value.reason == "unavailable"
    assert '"cuda:N"' in str(caught.value)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "float64[64,3]", "--dtype", "bf16", "--device", "cuda"]) == 0
    assert capsys.readouterr().out == f"{halfway.explain(X, 'bf16', device='cuda')}\n"
    assert main(["explain", "float64[64,3]", "--device", "tpu"]) == 1
    assert "tpu" in capsys.readouterr().err


def test_the_demo_shows_the_plan_and_why_it_did_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--section", "g"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 100
    flowing = " ".join(out.split())
    assert "Nothing was transferred: no CUDA device can be used: " in flowing
    plan = halfway.explain(np.zeros((256, 3, 224, 224), np.float32), "bfloat16", device="cuda")
    assert plan.because in flowing
    assert f"wire {plan.bytes_wire:,} B" in flowing
