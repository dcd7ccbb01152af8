"""Builds examples/train_digits.cpp against the installed package and torch's libtorch, and runs it on NumPy's files.

usage: train_digits.py [FOLDER]    what is built goes to FOLDER/build (default: build/train_digits)

NumPy saves scikit-learn's digits, the program trains on them in float32 and in bfloat16, and NumPy reads what it
predicted: the accuracy that it said must be the one that is found here.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
TRAINED = 1400


def run(command: list[str | Path]) -> str:
    """The output of a command; all of it is shown where it fails."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\ntrain_digits: failed: {' '.join(map(str, command))}")
    return done.stdout


def build(folder: Path) -> Path:
    """The program, against the installed package as anybody's would be."""
    torch = importlib.util.find_spec("torch")  # not imported: only its place is needed
    if torch is None or torch.origin is None:
        sys.exit("train_digits: torch is not installed: pip install torch")
    package = run([sys.executable, "-m", "halfway", "config", "--cmakedir"]).strip()
    options = {
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_CXX_FLAGS_DEBUG": "-O0",  # libtorch's headers take a minute otherwise
        "CMAKE_CXX_FLAGS": f"{os.environ.get('CXXFLAGS', '')} -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror",
        "halfway_DIR": package,
        "Libtorch_ROOT": str(Path(torch.origin).parent),
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    run(["cmake", "-G", "Ninja", "-S", ROOT / "examples", "-B", folder, *definitions])
    run(["cmake", "--build", folder, "--target", "train_digits"])
    return folder / "train_digits"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "train_digits"
    program = build(folder / "build")
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    np.save(folder / "images.npy", images[order].astype(np.float32))
    np.save(folder / "labels.npy", labels[order])
    for dtype in ("float32", "bfloat16"):
        said = run([program, folder, dtype]).strip()
        print(said, flush=True)
        predicted = np.load(folder / f"predictions_{dtype}.npy")
        accuracy = (predicted == labels[order][TRAINED:]).mean()
        found = re.search(r"test accuracy ([0-9.]+)", said)
        if found is None or found[1] != f"{accuracy:.4f}":
            sys.exit(f"train_digits: in NumPy the accuracy is {accuracy:.4f}")


if __name__ == "__main__":
    main()
