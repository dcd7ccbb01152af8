"""What tools/gpu_tests.py asks of a machine: its GPU and driver, its CUDA compiler, its Pythons."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

NVCC = Path("/usr/local/cuda/bin/nvcc")  # where it is when it is not in PATH
# Asked of an interpreter: its extension modules' suffix, and its torch's GPU or why that torch does not do.
QUESTION = """
import json, sysconfig
answer = {"suffix": sysconfig.get_config_var("EXT_SUFFIX")}
try:
    import torch
    answer["torch"] = "torch " + torch.__version__
    tables = ("__dlpack_c_exchange_api__", "__c_dlpack_exchange_api__")
    if not torch.cuda.is_available():
        answer["torch"] += " sees no GPU"
    elif not any(hasattr(torch.Tensor, name) for name in tables):
        answer["torch"] += " has no DLPack exchange table, which memory of the GPU comes through: that takes torch 2.9"
    else:
        answer["device"] = torch.cuda.get_device_name(0)
except Exception as error:
    answer.setdefault("torch", f"no torch ({error})")
print(json.dumps(answer))
"""


def missing_device(library: str = "libcuda.so.1") -> str | None:
    """Why no GPU can be used; None where one can.

    Asks the driver, as every CUDA program does.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"looked for NVIDIA's driver ({library}), and there is none on this machine"
    status = driver.cuInit(0)
    if status != 0:
        return f"looked for a GPU, and the driver ({library}) answers error {status} to cuInit"
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible}"
        return f"looked for a GPU, and the driver ({library}) knows none{hint}"
    return None


def architecture(library: str = "libcuda.so.1") -> str:
    """Of the first GPU, as CMake spells it: "90-real"."""
    driver = ctypes.CDLL(library)
    value = ctypes.c_int(0)
    number = 0
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        number = 10 * number + value.value
    return f"{number}-real"


def cuda_of_driver(library: str = "libcuda.so.1") -> tuple[int, int] | None:
    """The newest CUDA that the driver is for, as (12, 8); None where there is no driver to ask."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    value = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(value))
    return value.value // 1000, value.value % 1000 // 10


def cuda_of_nvcc(compiler: str) -> tuple[int, int] | None:
    """The CUDA that a compiler is of; None where it does not say."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"release (\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else None


def nvcc() -> str | None:
    """CUDA's compiler, where this machine has it."""
    return shutil.which("nvcc") or (str(NVCC) if NVCC.exists() else None)
