"""Looks at the machine code of the CUDA kernels: vector accesses, packed conversions, spills, stack and registers.

The kernels are compiled for every architecture that is shipped, without a GPU. Where a disassembler
(cuobjdump) is found its output is searched, else the PTX. Registers, and the numbers of vector
accesses and packed conversions in the machine code, are compared with those in
tests/cuda/kernels.json, which --update writes anew; they are a matter of the compiler's version, so
that with another one only the bounds below count.

What was compiled is kept in a folder and used again while no source has changed. The exit status is
77 where there is no nvcc.

usage: kernel_gate.py [--folder FOLDER] [--update]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "tests" / "cuda" / "kernels.json"
SOURCES = ("fused", "channels", "transpose", "general")
ARCHITECTURES = (80, 90, 100)
SKIPPED = 77
# As cuda/CMakeLists.txt compiles them for a release.
OPTIONS = ["-O3", "-std=c++20", "-fmad=false", *(f"-I{ROOT / name}" for name in ("cuda/src", "runtime/include"))]
OPTIONS += [f"-I{ROOT / 'runtime' / 'src'}"]

# Blocks have 256 threads, a multiprocessor 65536 registers: 64 leave room for 4 blocks, 80 for 3, 128
# for 2.
MOST_REGISTERS = {"fused": 80, "channels": 80, "transpose": 64, "general": 128}
FIRST_WITH_FP8 = 89
WORDS = {
    "registers": "registers",
    "loads": "loads of vectors",
    "stores": "stores of vectors",
    "packed": "packed conversions",
}

# What has to be in the code of a kernel of pairs, as (in machine code, in PTX). The general one's addresses are of
# shared memory as well. Loads by their bytes: of a source that is narrower than the destination a thread reads less
# at a time than it writes.
LOADS = {
    16: (
        r"\bLDG?\.E\.(ENL2\.)?(128|256)",
        r"\bld(\.global)?\.v4\.(b32|u32|f32)|\bld(\.global)?\.v2\.(b64|u64|f64)",
    ),
    8: (r"\bLDG?\.E\.64\b", r"\bld(\.global)?\.v2\.(b32|u32|f32)|\bld(\.global)?\.(b64|u64|f64)"),
    4: (r"\bLDG?\.E ", r"\bld(\.global)?\.(b32|u32|f32)"),
}
STORES = {
    16: (
        r"\bSTG?\.E\.(ENL2\.)?(128|256)",
        r"\bst(\.global)?\.v4\.(b32|u32|f32)|\bst(\.global)?\.v2\.(b64|u64|f64)",
    ),
    8: (r"\bSTG?\.E\.64\b", r"\bst(\.global)?\.v2\.(b32|u32|f32)|\bst(\.global)?\.(b64|u64|f64)"),
}
PACKED_TARGETS = {
    "float16": (r"\bF2FP\.(F16\.(F32\.)?)?PACK_AB", r"\bcvt\.rn\.f16x2\.f32"),
    "bfloat16": (r"\bF2FP\.BF16\.(F32\.)?PACK_AB", r"\bcvt\.rn\.bf16x2\.f32"),
    "float8_e4m3fn": (r"\bF2FP\.SATFINITE\.E4M3\.F32\.PACK_AB", r"\bcvt\.rn\.satfinite\.e4m3x2\.f32"),
    "float8_e5m2": (r"\bF2FP\.SATFINITE\.E5M2\.F32\.PACK_AB", r"\bcvt\.rn\.satfinite\.e5m2x2\.f32"),
}
PACKED_SOURCES = {
    "float8_e4m3fn": (r"\bF2FP\.F16\.E4M3\.UNPACK_B", r"\bcvt\.rn\.f16x2\.e4m3x2"),
    "float8_e5m2": (r"\bF2FP\.F16\.E5M2\.UNPACK_B", r"\bcvt\.rn\.f16x2\.e5m2x2"),
}


@dataclass
class Kernel:
    """One kernel for one architecture."""

    source: str
    architecture: int
    name: str
    load_bytes: int = 16
    store_bytes: int = 16
    registers: int = 0
    stack: int = 0
    spills: int = 0
    code: str = ""
    vectors: tuple[int, int] = (0, 0)
    packed: int = 0
    findings: list[str] = field(default_factory=list)


def find_tool(name: str) -> Path | None:
    """A program of the CUDA toolkit: on the path, beside the toolkit's others, or as Triton brings it."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [Path(home) / "bin" / name for home in homes if home]
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        places.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / name)
    on_path = shutil.which(name)
    candidates = [Path(on_path)] if on_path else places
    return next((place for place in candidates if place.is_file()), None)


def run(command: list[str | Path]) -> tuple[str, str]:
    """Standard output and error of a program that has to succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr


def key_of(nvcc: Path, dump: Path | None) -> str:
    """A hash of all that the code's text depends on, which is not comments and line ends."""
    form = "PTX" if dump is None else run([dump, "--version"])[0]
    digest = hashlib.sha256((run([nvcc, "--version"])[0] + form + " ".join(OPTIONS)).encode())
    folders = [ROOT / "cuda" / "kernels", ROOT / "runtime" / "include" / "halfway"]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]
    for path in [*files, ROOT / "runtime" / "src" / "places.h"]:
        words = re.sub(r"//[^\n]*", "", path.read_text()).split()
        digest.update(f"{path.name}\0{' '.join(words)}\0".encode())
    return digest.hexdigest()


def compile_one(nvcc: Path, dump: Path | None, folder: Path, source: str, architecture: int) -> None:
    """The resources of a source's kernels, and their code as text, into files of the folder."""
    stem = folder / f"{source}-{architecture}"
    done = stem.with_suffix(".done")
    if done.exists():
        return
    path = ROOT / "cuda" / "kernels" / f"{source}.cu"
    cubin = stem.with_suffix(".cubin")
    arch = f"-arch=sm_{architecture}"
    _, usage = run([nvcc, *OPTIONS, arch, "--resource-usage", "-cubin", path, "-o", cubin])
    stem.with_suffix(".usage").write_text(usage)
    if dump is not None:
        code, _ = run([dump, "-sass", cubin])
    else:
        run([nvcc, *OPTIONS, f"-arch=compute_{architecture}", "-ptx", path, "-o", stem.with_suffix(".ptx")])
        code = stem.with_suffix(".ptx").read_text()
    stem.with_suffix(".code").write_text(code)
    done.touch()


def readable(mangled: str) -> str:
    """A kernel as the table calls it: "float32 -> bfloat16", "uint8 -> float16, 3 channels", "double, counting"."""
    filt = shutil.which("c++filt") or shutil.which("llvm-cxxfilt") or find_tool("cu++filt")
    if filt is None:
        raise SystemExit("no c++filt: names of kernels cannot be read")
    name, _ = run([filt, mangled])
    if "CopyVectors" in name:
        return "copy"
    general = re.search(r"General<(float|double|long|unsigned long)\b[^,]*, (true|false), \d+>", name)
    if general:
        wide = {"long": "int64", "unsigned long": "uint64"}.get(general[1], general[1])
        return wide + (", counting" if general[2] == "true" else "")
    integers = {"unsigned char": "uint8", "int": "int32", "long": "int64"}
    integers |= {"unsigned short": "uint16", "unsigned int": "uint32", "unsigned long": "uint64"}
    found = re.findall(r"Integer<([a-z ]+)>|formats::(\w+)|(Boolean)", name)
    pair = [integers[integer] if integer else real or "bool" for integer, real, _ in found]
    channels = re.search(r", (\d), halfway", name)  # before the cut
    what = ", scaled" if ", true, " in name else f", {channels[1]} channels" if channels else ""
    return " -> ".join(pair) + what


BYTES = {"bool": 1, "uint8": 1, "float8_e5m2": 1, "float8_e4m3fn": 1, "float16": 2, "bfloat16": 2}
BYTES |= {"uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8}


def store_bytes(name: str) -> int:
    """What a thread of a kernel writes at a time: `FusedCut` of fused.h."""
    pair = re.fullmatch(r"(\w+) -> (\w+)", name)
    return 8 if pair is not None and (BYTES[pair[1]], BYTES[pair[2]]) == (8, 2) else 16


def load_bytes(name: str) -> int:
    """What a thread of a kernel reads at a time for a vector that it writes: fused.h, channels.h."""
    pair = re.fullmatch(r"(\w+) -> (\w+)(?:, scaled|, (\d) channels)?", name)
    if pair is None:
        return 16
    taken = store_bytes(name) // BYTES[pair[2]] * BYTES[pair[1]] * int(pair[3] or 1)
    return min(16, taken & -taken)


def kernels_in(folder: Path, source: str, architecture: int, is_machine_code: bool) -> Iterator[Kernel]:
    """What the compiler said of each kernel, with its code."""
    stem = folder / f"{source}-{architecture}"
    opening = r"Function : (\S+)" if is_machine_code else r"\.entry (\S+?)\("
    pieces = re.split(opening, stem.with_suffix(".code").read_text())
    codes = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    usage = stem.with_suffix(".usage").read_text()
    for block in usage.split("Compiling entry function '")[1:]:
        mangled = block.split("'", 1)[0]
        numbers = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", block)
        registers = re.search(r"Used (\d+) registers", block)
        if numbers is None or registers is None:
            raise SystemExit(f"the compiler did not say what {mangled} uses:\n{block}")
        name = readable(mangled)
        yield Kernel(
            source,
            architecture,
            name,
            load_bytes=load_bytes(name),
            store_bytes=store_bytes(name),
            registers=int(registers[1]),
            stack=int(numbers[1]),
            spills=int(numbers[2]) + int(numbers[3]),
            code=codes[mangled],
        )


def examine(kernel: Kernel, which: int) -> None:
    """Fills in what is in the code, and what is wrong with it."""
    say = kernel.findings.append
    loads, stores = LOADS[kernel.load_bytes][which], STORES[kernel.store_bytes][which]
    kernel.vectors = (len(re.findall(loads, kernel.code)), len(re.findall(stores, kernel.code)))
    if kernel.stack:
        say(f"a stack of {kernel.stack} bytes")
    if kernel.spills:
        say(f"{kernel.spills} bytes spilled")
    if kernel.registers > MOST_REGISTERS[kernel.source]:
        say(f"{kernel.registers} registers, more than {MOST_REGISTERS[kernel.source]}")
    if kernel.source == "general":
        kernel.packed = sum(len(re.findall(packed[which], kernel.code)) for packed in PACKED_TARGETS.values())
        return
    for count, what, width in zip(
        kernel.vectors, ("loads", "stores"), (kernel.load_bytes, kernel.store_bytes), strict=True
    ):
        if count == 0 and kernel.source != "transpose":  # which takes elements one by one
            say(f"no {what} of {8 * width} bits")
    if kernel.name == "copy":
        return
    source, target = kernel.name.split(",")[0].split(" -> ")
    for table, dtype in ((PACKED_TARGETS, target), (PACKED_SOURCES, source)):
        if dtype not in table or (dtype.startswith("float8") and kernel.architecture < FIRST_WITH_FP8):
            continue
        found = len(re.findall(table[dtype][which], kernel.code))
        kernel.packed += found
        if found == 0:
            say(f"no packed conversion of {dtype}")


Figures = dict[str, int]


def figures_of(kernels: list[Kernel], architecture: int) -> dict[str, Figures]:
    """By kernel, what is kept in tests/cuda/kernels.json."""
    return {
        f"{k.source}: {k.name}": {
            "registers": k.registers,
            "loads": k.vectors[0],
            "stores": k.vectors[1],
            "packed": k.packed,
        }
        for k in kernels
        if k.architecture == architecture
    }


def compare(kernels: list[Kernel], version: str, is_machine_code: bool) -> list[str]:
    """What is worse than it was with the same compiler; what is missing."""
    reference = json.loads(REFERENCE.read_text())
    wrong = []
    for architecture in ARCHITECTURES:
        now = figures_of(kernels, architecture)
        then: dict[str, Figures] = reference[f"sm_{architecture}"]
        if now.keys() != then.keys():
            differ = sorted(now.keys() ^ then.keys())
            wrong.append(f"sm_{architecture}: other kernels than in {REFERENCE.name}: {', '.join(differ)}")
        if reference["nvcc"] != version:
            continue
        for name in sorted(now.keys() & then.keys()):
            for figure, value in now[name].items():
                before = then[name][figure]
                more, counted = figure == "registers", figure == "registers" or is_machine_code
                if counted and (value > before if more else value < before):
                    wrong.append(f"sm_{architecture}: {name} has {value} {WORDS[figure]}, before {before}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "kernel-gate")
    parser.add_argument("--update", action="store_true", help="write tests/cuda/kernels.json anew")
    arguments = parser.parse_args()
    nvcc = find_tool("nvcc")
    if nvcc is None:
        print("no nvcc on the path or in /usr/local/cuda: the kernels' machine code is not looked at")
        return SKIPPED
    dump = find_tool("cuobjdump")
    folder = arguments.folder / key_of(nvcc, dump)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(source, architecture) for source in reversed(SOURCES) for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        list(pool.map(lambda job: compile_one(nvcc, dump, folder, *job), jobs))
    version = re.search(r"release ([\d.]+)", run([nvcc, "--version"])[0])
    if version is None:
        raise SystemExit("nvcc does not say its version")
    kernels = [
        kernel for source, architecture in jobs for kernel in kernels_in(folder, source, architecture, dump is not None)
    ]
    for kernel in kernels:
        examine(kernel, 0 if dump is not None else 1)
    if arguments.update:
        if dump is None:
            raise SystemExit("--update needs cuobjdump")
        reference = {"nvcc": version[1], **{f"sm_{a}": figures_of(kernels, a) for a in ARCHITECTURES}}
        text = json.dumps(reference, indent=1)
        REFERENCE.write_text(
            re.sub(r"\{\s+(\"registers\"[^}]*?)\s+\}", lambda m: "{" + re.sub(r"\s+", " ", m[1]) + "}", text) + "\n"
        )
    print(f"nvcc {version[1]}, {'machine code' if dump is not None else 'PTX: there is no cuobjdump'}")
    print(f"{'kernel':<44}" + "".join(f"{f'sm_{a}':>24}" for a in ARCHITECTURES))
    print(f"{'':<44}" + f"{'registers ld st packed':>24}" * len(ARCHITECTURES))
    for name in dict.fromkeys((k.source, k.name) for k in kernels):
        cells = [k for k in kernels if (k.source, k.name) == name]
        cells.sort(key=lambda k: ARCHITECTURES.index(k.architecture))
        row = "".join(f"{k.registers:>12}{k.vectors[0]:>4}{k.vectors[1]:>3}{k.packed:>5}" for k in cells)
        print(f"{name[0] + ': ' + name[1]:<44}{row}")
    wrong = [f"sm_{k.architecture}: {k.source}: {k.name}: {text}" for k in kernels for text in k.findings]
    wrong += compare(kernels, version[1], dump is not None)
    print("\n".join(wrong) or f"{len(kernels)} kernels, as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
