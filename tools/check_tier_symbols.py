"""Looks at the symbols of the tiers' object files: each may define its table and nothing else that a linker merges.

An inline function is kept once for the whole program, from whichever object comes first. If a tier's
object had one, the copy for AVX-512 could be the one that an old processor runs.

usage: check_tier_symbols.py NM [--sanitized] OBJECT...
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TABLE = re.compile(r"halfway::v0::detail::kernels_\w+")
# Data that compilers make: the same in every object, and no code.
COMPILER_DATA = re.compile(r"DW\.ref\.__gxx_personality_v0")
# Sanitizers add constructors and counters of their own, and the types of functions that are called by pointer.
SANITIZER = re.compile(
    r"(__)?(asan|ubsan|tsan|msan|lsan|sancov|odr_asan|sanitizer)[._].*|__.*_gen_.*|typeinfo (name )?for .*"
)


def externals(nm: str, path: Path) -> list[tuple[str, str]]:
    """(type, demangled name) of each symbol that the object defines and others can see."""
    done = subprocess.run(
        [nm, "--demangle", "--defined-only", "--extern-only", "--format=posix", path],
        check=True,
        capture_output=True,
        text=True,
    )
    found = []
    for line in done.stdout.splitlines():
        name, kind, *_ = re.split(r" (?=[A-Za-z?] )", line, maxsplit=1)
        found.append((kind[0], name))
    return found


def findings(nm: str, path: Path, sanitized: bool) -> list[str]:
    symbols = externals(nm, path)
    tables = [name for _, name in symbols if TABLE.fullmatch(name)]
    wrong = [] if len(tables) == 1 else [f"{len(tables)} tables instead of one"]
    for kind, name in symbols:
        allowed = TABLE.fullmatch(name) or COMPILER_DATA.fullmatch(name) or (sanitized and SANITIZER.fullmatch(name))
        if not allowed:
            wrong.append(f"shares `{name}` ({kind}) with other objects")
    return [f"{path.name}: {text}" for text in wrong]


def main() -> int:
    nm, *arguments = sys.argv[1:]
    sanitized = "--sanitized" in arguments
    objects = [Path(name) for name in arguments if name != "--sanitized"]
    if not objects:
        print("no object file given")
        return 2
    wrong = [line for path in objects for line in findings(nm, path, sanitized)]
    print("\n".join(wrong) or f"{len(objects)} objects, each with its table alone")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
